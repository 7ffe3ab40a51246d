//! The data path over real sockets: a file for each promise.
#![allow(clippy::unwrap_used)]

mod banners;
mod caller;
mod chaos;
mod chaos_http2;
mod chunks;
mod codec;
mod combinations;
mod connect;
mod data;
mod distrust;
mod events;
mod flood;
mod forms;
mod http2;
mod idle;
mod lesson;
mod life;
mod limits;
mod metrics;
mod own_calls;
mod pool;
mod process;
mod rented;
mod request;
mod secrets;
mod shown;
mod support;
mod trace;
mod tunnel;
mod websocket;
