//! The data path.

pub mod body;
pub mod http1;
pub mod pool;
pub mod reply;
