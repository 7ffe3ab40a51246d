//! A socket whose other end must take what it is sent: else it would hold one of the few places for good.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Fails a write once an answer was not taken whole for `limit`.
pub struct Patient<S> {
    io: S,
    limit: Duration,
    /// Set while an answer waits, until all of it has been taken.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    pub fn new(io: S, limit: Duration) -> Self {
        Self { io, limit, until: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let limit = self.limit;
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        // Taking a little now and then is not enough: the clock runs on until the flush.
        if written.is_pending() || self.until.is_some() {
            let until =
                self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
            if until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.until = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn an_answer_that_is_not_taken_is_given_up_also_when_some_of_it_is() {
        for takes in [false, true] {
            let (near, mut far) = tokio::io::duplex(16);
            let taking = tokio::spawn(async move {
                let mut byte = [0];
                while takes && far.read(&mut byte).await.is_ok_and(|n| n == 1) {
                    tokio::time::sleep(LIMIT / 5).await;
                }
                std::future::pending::<()>().await;
            });
            let error = Patient::new(near, LIMIT).write_all(&[b'x'; 4096]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{takes}");
            taking.abort();
        }
    }

    #[tokio::test]
    async fn answers_that_are_taken_go_on_past_the_limit() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = Patient::new(near, LIMIT);
        let began = Instant::now();
        let taking = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.map(|_| all.len())
        });
        let mut sent = 0;
        while began.elapsed() < 2 * LIMIT {
            near.write_all(&[b'x'; 64]).await.unwrap();
            near.flush().await.unwrap();
            sent += 64;
            tokio::time::sleep(LIMIT / 10).await;
        }
        drop(near);
        assert_eq!(taking.await.unwrap().unwrap(), sent);
    }
}
