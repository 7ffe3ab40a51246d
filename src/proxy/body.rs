//! Bodies as the data path passes them on: one trait for what a client sends, one error for how it can fail.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;

use super::http1::body::FramingError;
use crate::engine::reason::Reason;

/// How the client's body failed.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("{0}")]
    Framing(#[from] FramingError),
    #[error("client went away: {0}")]
    Gone(#[source] io::Error),
    #[error("no byte of the body for {0:?}")]
    Idle(Duration),
    /// What was promised of the body doesn't hold; its last byte was withheld.
    #[error("{said}")]
    Refused { reason: Reason, said: String },
}

/// A request's body on its way through.
pub trait Inbound: Body<Data = Bytes, Error = BodyError> + Unpin + Send {
    /// Sends the client an interim answer (100, 103): only before the final one has begun.
    fn interim(&mut self, head: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
}
