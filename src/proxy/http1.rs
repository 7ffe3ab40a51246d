//! HTTP/1.1 on both legs, our own codec over httparse: one parser for what is judged and what is sent.

pub mod body;
pub mod head;
pub mod io;
pub mod client;
pub mod server;
pub mod switch;
pub(super) mod wire;
