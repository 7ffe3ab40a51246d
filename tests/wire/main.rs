//! The data path over real sockets: a file for each promise.
#![allow(clippy::unwrap_used)]

mod codec;
mod connect;
mod life;
mod request;
mod support;
mod tunnel;
