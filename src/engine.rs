//! Pure: bytes, keys, policy and `now` in; judgement out. Nothing here opens a socket or reads a clock.

pub mod atlas;
pub mod facts;
pub mod reason;
pub mod request;
pub mod target;
