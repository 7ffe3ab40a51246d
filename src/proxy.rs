//! The data path.

pub mod body;
pub mod http1;
