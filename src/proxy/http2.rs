//! HTTP/2 on both legs, over the `h2` crate: the same faces as `proxy/http1`, so that one exchange serves all four
//! combinations.
//!
//! `h2` frames, compresses and counts; it is used without hyper above it, because one task then drives both directions
//! of an exchange, as in HTTP/1.1, and sees each reset with its code. Every bound of it is set here, with its reason.
//! One thing it hides: a fragment in `:path` is cut before anybody sees it. What is judged is then what is sent.

pub mod client;
mod frames;
mod message;
mod patient;
pub mod pool;
pub mod server;
pub mod watch;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;

use crate::engine::request::MAX_HEAD;

/// Streams of one connection under way at once, either leg: what servers commonly allow (RFC 9113 6.5.2 asks for no
/// less than 100).
pub const STREAMS: u32 = 100;
/// Unread bytes of one upload: as much as HTTP/1.1 reads at once, twice, so that reading and writing overlap.
const UPLOAD_WINDOW: u32 = 128 * 1024;
/// And of all uploads of a client's connection: a client that stalls its own uploads stalls itself.
const UPLOADS_WINDOW: u32 = 512 * 1024;
/// Unread bytes of one answer.
const ANSWER_WINDOW: u32 = 64 * 1024;
/// Room for every answer of a shared connection: clients that don't read theirs must not hold up the others.
const ANSWERS_WINDOW: u32 = STREAMS * ANSWER_WINDOW;
/// What unread frames of fewer than 256 bytes may cost beside their bytes, a connection: 8,192 of them, more than a
/// stalled stream of small messages has in its window.
const SMALL_FRAMES: usize = 2 * 1024 * 1024;
/// What may wait to be written for one stream; beyond it, its source is not read.
const SEND_BUFFER: usize = 64 * 1024;
/// The least there is: a larger frame holds up the other streams for longer.
const FRAME: u32 = 16 * 1024;
/// Decoded, so that a compressed bomb counts in full; also what bounds CONTINUATION. Servers commonly take 8 to 16 KiB.
const REQUEST_HEAD: u32 = 16 * 1024;
/// As of an HTTP/1.1 answer.
const ANSWER_HEAD: u32 = MAX_HEAD as u32;
/// The compressor's default: what the peer can make us keep.
const HEADER_TABLE: u32 = 4096;
/// Streams that the peer reset before we took them up (CVE-2023-44487); past it the connection is told to calm down.
const PENDING_RESETS: usize = 20;
/// Streams that we reset for an error of the peer (CVE-2025-8671), over the connection's life.
const ERROR_RESETS: usize = 1024;
/// Streams that we reset are remembered, so that late frames for them are no error: so many, so long.
const REMEMBERED_RESETS: usize = 50;
const REMEMBERED_FOR: Duration = Duration::from_secs(1);

/// Room to send some of `wanted` bytes; at least one. `Err`: the stream was reset, or its connection is gone.
fn poll_room(
    send: &mut SendStream<Bytes>,
    wanted: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, h2::Error>> {
    send.reserve_capacity(wanted);
    loop {
        let room = send.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room.min(wanted)));
        }
        match ready!(send.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Err(h2::Reason::STREAM_CLOSED.into())),
        }
    }
}

/// The I/O error beneath, or one that says what the peer did.
fn io_error(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::Other.into());
    }
    io::Error::other(error)
}

/// The future that is polled here is not kept over polls.
fn pinned<T: Unpin>(body: &mut T) -> Pin<&mut T> {
    Pin::new(body)
}
