//! exeat: a permit to leave.

pub mod admin;
pub mod cli;
pub mod engine;
pub mod proxy;
pub mod record;
