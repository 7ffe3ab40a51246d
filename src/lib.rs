//! exeat: a permit to leave.
pub mod engine;
pub mod keys;
