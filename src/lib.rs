//! exeat: a permit to leave.
pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod engine;
pub mod record;
pub mod tls;
