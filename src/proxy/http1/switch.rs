//! After a 101: the two connections as pipes. Bytes pass both ways, unread, until both have ended or a limit is met.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BufMut;

use super::io::Io;
use super::wire::{Clock, Reader, Writer};

/// When it ends by itself.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Nothing went either way for this long.
    pub idle: Duration,
    pub life: Duration,
}

/// How it ended.
#[derive(Debug)]
pub enum End {
    /// Both sides said so.
    Closed,
    Client(io::Error),
    Origin(io::Error),
    Idle(Duration),
    Life(Duration),
}

/// Bytes that went on, and how it ended.
#[derive(Debug)]
pub struct Passed {
    pub up: u64,
    pub down: u64,
    pub end: End,
}

type Ends<S> = (Reader<S>, Writer<S>);

/// One way.
struct Way {
    bytes: u64,
    done: bool,
}

/// What ended a way that broke.
enum Broke {
    Read(io::Error),
    Write(io::Error),
}

impl Way {
    /// Moves on as far as it goes; `true`: something moved.
    fn poll<A: Io, B: Io>(
        &mut self,
        reader: &mut Reader<A>,
        writer: &mut Writer<B>,
        cx: &mut Context<'_>,
    ) -> Result<bool, Broke> {
        let mut moved = false;
        while !self.done {
            if !writer.is_full() && !reader.buf.is_empty() {
                self.bytes += reader.buf.len() as u64;
                writer.out.put_slice(&reader.buf);
                reader.buf.clear();
                moved = true;
            }
            let waiting = writer.out.len();
            let flushed = writer.poll_flush(cx).map_err(Broke::Write)?;
            moved |= writer.out.len() < waiting;
            if writer.is_full() {
                return Ok(moved);
            }
            if reader.eof && reader.buf.is_empty() {
                if flushed.is_ready() && writer.poll_shutdown(cx).map_err(Broke::Write)?.is_ready() {
                    self.done = true;
                }
                return Ok(true);
            }
            match reader.poll_fill_body(cx) {
                Poll::Ready(Ok(_)) => {}
                // Without close_notify, as WebSocket peers end by habit: it has a close of its own (RFC 6455 7.1.1).
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => reader.eof = true,
                Poll::Ready(Err(error)) => return Err(Broke::Read(error)),
                Poll::Pending => {
                    reader.release_if_empty();
                    return Ok(moved);
                }
            }
        }
        Ok(moved)
    }
}

/// Passes bytes until the end. The 101 is still in the client's write buffer, and goes first.
pub async fn pass<A: Io, B: Io>(client: &mut Ends<A>, origin: &mut Ends<B>, limits: Limits) -> Passed {
    let (mut up, mut down) = (Way { bytes: 0, done: false }, Way { bytes: 0, done: false });
    let mut idle = Clock::default();
    idle.set(limits.idle);
    let mut life = pin!(tokio::time::sleep(limits.life));
    let end = poll_fn(|cx| {
        let sent = up.poll(&mut client.0, &mut origin.1, cx);
        let heard = down.poll(&mut origin.0, &mut client.1, cx);
        match (sent, heard) {
            (Err(Broke::Read(error)), _) | (_, Err(Broke::Write(error))) => {
                return Poll::Ready(End::Client(error));
            }
            (Err(Broke::Write(error)), _) | (_, Err(Broke::Read(error))) => {
                return Poll::Ready(End::Origin(error));
            }
            (Ok(sent), Ok(heard)) if sent || heard => idle.set(limits.idle),
            _ => {}
        }
        if up.done && down.done {
            return Poll::Ready(End::Closed);
        }
        if life.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Life(limits.life));
        }
        ready!(idle.poll_expired(cx));
        Poll::Ready(End::Idle(limits.idle))
    })
    .await;
    Passed { up: up.bytes, down: down.bytes, end }
}
