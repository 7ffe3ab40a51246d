//! A connection to an origin that many requests share, one stream each; `http2/pool.rs` keeps them, `http2/client.rs`
//! sends on them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};

use super::patient::{Exhausted, Patient};
use crate::proxy::http1::io::Io;
use crate::proxy::http1::wire::Clock;
use crate::proxy::pool::Upstream;

/// A connection to an origin, shared by the requests of one key.
pub struct Connection {
    /// Never sends itself, see [`Self::handle`].
    send: Mutex<SendRequest<Bytes>>,
    pub upstream: Arc<Upstream>,
    /// Ended, or told to end: nothing new goes on it.
    gone: Arc<AtomicBool>,
    exhausted: Exhausted,
    /// Streams under way.
    active: AtomicUsize,
    used: Mutex<Used>,
}

struct Used {
    last: Instant,
    spare: Spare,
}

/// What a stream leaves to the next.
#[derive(Default)]
pub struct Spare {
    /// Of the answer; its timer is registered already.
    pub clock: Clock,
    /// The stream itself, which has ended. The library wakes its connection when it is let go of: in vain, unless that is
    /// done when there is something to send.
    pub ended: Option<(SendStream<Bytes>, RecvStream)>,
}

/// Shakes hands, and keeps the connection going for as long as it is held and the origin takes what is written within
/// `patience`. Waits for no word of the origin: what it settles comes with its first frames.
pub async fn shake<S: Io>(
    io: S,
    upstream: Arc<Upstream>,
    within: Duration,
    patience: Duration,
) -> Result<Arc<Connection>, h2::Error> {
    let (io, exhausted) = Patient::new(io, patience);
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(super::ANSWER_WINDOW)
        .initial_connection_window_size(super::ANSWERS_WINDOW)
        .max_frame_size(super::FRAME)
        .max_header_list_size(super::ANSWER_HEAD)
        .header_table_size(super::HEADER_TABLE)
        // Until the origin says otherwise, and none of its own.
        .initial_max_send_streams(super::STREAMS as usize)
        .max_concurrent_streams(0)
        .max_send_buffer_size(super::SEND_BUFFER)
        .data_frame_budget(super::SMALL_FRAMES)
        .max_pending_accept_reset_streams(super::PENDING_RESETS)
        .max_local_error_reset_streams(Some(super::ERROR_RESETS))
        .max_concurrent_reset_streams(super::REMEMBERED_RESETS)
        .reset_stream_duration(super::REMEMBERED_FOR);
    let late = || h2::Error::from(Reason::SETTINGS_TIMEOUT);
    let shaken = tokio::time::timeout(within, builder.handshake(io)).await;
    let (send, driver) = shaken.unwrap_or_else(|_| Err(late()))?;
    let gone = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&gone);
    // Ends by itself once nobody holds the connection and its streams are done.
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection to an origin ended");
        }
        ended.store(true, Ordering::Relaxed);
    });
    let used = Mutex::new(Used { last: Instant::now(), spare: Spare::default() });
    let (send, active) = (Mutex::new(send), AtomicUsize::new(0));
    Ok(Arc::new(Connection { send, upstream, gone, exhausted, active, used }))
}

impl Connection {
    /// It may take another stream. Asks the library, which knows of a GOAWAY before its driver has ended.
    pub fn is_open(&self) -> bool {
        let mut noop = Context::from_waker(std::task::Waker::noop());
        !self.gone.load(Ordering::Relaxed)
            && !matches!(self.send().poll_ready(&mut noop), Poll::Ready(Err(_)))
    }

    /// Streams that it has room for, as the origin settled it.
    pub fn room(&self) -> usize {
        let most = self.send().current_max_send_streams().min(super::STREAMS as usize);
        most.saturating_sub(self.active.load(Ordering::Relaxed))
    }

    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// How long no stream has been under way.
    pub fn idle(&self) -> Duration {
        match self.active() {
            0 => self.used().last.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// A handle of a stream's own: one that waits for it to open would hold up the others.
    pub fn handle(&self) -> SendRequest<Bytes> {
        self.send().clone()
    }

    /// It ended because the origin took nothing for too long.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.is_so()
    }

    /// Nothing new goes on it.
    pub fn retire(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    fn send(&self) -> MutexGuard<'_, SendRequest<Bytes>> {
        self.send.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one stream.
pub struct Lease {
    connection: Arc<Connection>,
    pub spare: Spare,
}

impl Lease {
    pub fn new(connection: Arc<Connection>) -> Self {
        connection.active.fetch_add(1, Ordering::Relaxed);
        let spare = std::mem::take(&mut connection.used().spare);
        Self { connection, spare }
    }

    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.spare.clock.stop();
        let mut used = self.connection.used();
        used.last = Instant::now();
        // Swapped: what was there is let go of after the lock.
        std::mem::swap(&mut used.spare, &mut self.spare);
        drop(used);
        self.connection.active.fetch_sub(1, Ordering::Relaxed);
    }
}
