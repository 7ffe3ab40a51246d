//! The data path over real sockets: a file for each promise.
#![allow(clippy::unwrap_used)]

mod chunks;
mod codec;
mod connect;
mod distrust;
mod events;
mod forms;
mod life;
mod request;
mod secrets;
mod support;
mod trace;
mod tunnel;
