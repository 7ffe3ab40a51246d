//! The data path over real sockets: a file for each promise.
#![allow(clippy::unwrap_used)]

mod chunks;
mod codec;
mod connect;
mod distrust;
mod events;
mod forms;
mod lesson;
mod life;
mod request;
mod support;
mod tunnel;
