//! exeat: a permit to leave.
pub mod config;
pub mod engine;
pub mod tls;
