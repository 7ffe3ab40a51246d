//! The data path over real sockets: a file for each promise.
#![allow(clippy::unwrap_used)]

mod chunks;
mod codec;
mod combinations;
mod connect;
mod distrust;
mod events;
mod forms;
mod http2;
mod life;
mod request;
mod support;
mod tunnel;
mod websocket;
