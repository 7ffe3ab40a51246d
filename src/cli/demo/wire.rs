//! One HTTP/1.1 message at a time off a stream, for both ends of the demo.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Error;
use crate::engine::request::{Framing, HeadScanner};

/// The next head; `None` where the peer ended first. `seen` is told of bytes as they come.
pub async fn head<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    mut seen: impl FnMut(usize),
) -> Result<Option<Bytes>, Error> {
    let mut scanner = HeadScanner::default();
    loop {
        if let Some(end) = scanner.scan(buffer)? {
            return Ok(Some(buffer.split_to(end).freeze()));
        }
        match stream.read_buf(buffer).await? {
            0 => return Ok(None),
            count => seen(count),
        }
    }
}

/// The body behind a head. Ours all tell their length.
pub async fn body<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    framing: Framing,
    mut seen: impl FnMut(usize),
) -> Result<Bytes, Error> {
    let length = match framing {
        Framing::None => 0,
        Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Framing::Chunked | Framing::UntilClose => return Err(Error::Message("a body without its length")),
    };
    while buffer.len() < length {
        match stream.read_buf(buffer).await? {
            0 => return Err(Error::Message("a body that broke off")),
            count => seen(count),
        }
    }
    Ok(buffer.split_to(length).freeze())
}
