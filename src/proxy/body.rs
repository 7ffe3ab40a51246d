//! Bodies as the data path passes them on: what a client sends, held to what was promised of it.
//!
//! [`Outbound`] hashes or decodes while it streams and withholds what is not proven yet: the completing bytes, and
//! of a body signed in chunks each chunk until its signature holds. What had to be read before the
//! judgement goes first, the same bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::http1::body::FramingError;
use super::telling::Telling;
use super::waiting::Waiting;
use crate::config::Limits;
use crate::engine::facts::PayloadOutcome;
use crate::engine::reason::Reason;
use crate::engine::signature::{BodyCheck, Refusal};

/// The longest body that is read before it is judged (design: one body).
pub const MAX_HELD: usize = 32 * 1024 * 1024;
pub(super) const BUDGET_UNIT: usize = 16 * 1024;

/// How the client's body failed.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("{0}")]
    Framing(#[from] FramingError),
    #[error("client went away: {0}")]
    Gone(#[source] io::Error),
    /// Its stream was reset, by the client or for what the client sent, or has gone with its connection: nothing can be
    /// said on it any more.
    #[error("{said}")]
    Reset { reason: Reason, said: String },
    #[error("no byte of the body for {0:?}")]
    Idle(Duration),
    #[error("the body, which must be read before it is judged, is not whole after {0:?}")]
    Slow(Duration),
    /// What was promised of the body doesn't hold, or there was no room to read it; its last byte was withheld.
    #[error("{said}")]
    Refused { reason: Reason, said: String },
}

/// A request's body on its way through.
pub trait Inbound: Body<Data = Bytes, Error = BodyError> + Unpin + Send {
    /// Sends the client an interim answer (100, 103): only before the final one has begun.
    fn interim(&mut self, head: &[u8]) -> impl Future<Output = Result<(), BodyError>> + Send;
}

impl<B: Inbound> Inbound for Box<B> {
    async fn interim(&mut self, head: &[u8]) -> Result<(), BodyError> {
        (**self).interim(head).await
    }
}

/// Memory for bodies that are read before they are judged, shared by all requests.
#[derive(Clone)]
pub struct Budget {
    room: Arc<Semaphore>,
    units: usize,
    /// For a share.
    turn: Duration,
    /// For a body that holds one to come in whole.
    whole: Duration,
}

impl Budget {
    pub fn new(bytes: usize, limits: &Limits) -> Self {
        let units = (bytes / BUDGET_UNIT).max(1);
        let room = Arc::new(Semaphore::new(units));
        Self { room, units, turn: limits.turn, whole: limits.held_body }
    }

    /// Bytes that are promised to bodies now.
    pub fn in_use(&self) -> usize {
        (self.units - self.room.available_permits()) * BUDGET_UNIT
    }

    pub(super) async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, BodyError> {
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX);
        let wait = Arc::clone(&self.room).acquire_many_owned(units);
        match tokio::time::timeout(self.turn, wait).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(BodyError::Refused {
                reason: Reason::LimitInspect,
                said: format!("no room to inspect {bytes} bytes of body for {:?}", self.turn),
            }),
        }
    }
}

/// The front of a body, read before the judgement.
#[derive(Default)]
pub struct Held {
    pub bytes: Bytes,
    /// The body ended within the limit: `bytes` is all of it.
    pub whole: bool,
    trailers: Option<HeaderMap>,
    share: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// All of a body that has no bytes.
    pub fn none() -> Self {
        Self { whole: true, ..Self::default() }
    }

    /// Reads `body` to its end, or to [`MAX_HELD`]: then the rest is still to come.
    pub async fn read<B: Inbound>(body: &mut B, budget: &Budget) -> Result<Self, BodyError> {
        let told = body.size_hint().exact().map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        if told.is_some_and(|told| told > MAX_HELD) {
            return Ok(Self::default());
        }
        let mut share = budget.take(told.unwrap_or(BUDGET_UNIT)).await?;
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        let mut trailers = None;
        let began = Instant::now();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            // Asked with each piece: the clock between two pieces sees to a body that stops.
            if began.elapsed() > budget.whole {
                return Err(BodyError::Slow(budget.whole));
            }
            match frame?.into_data() {
                // One frame is the common case, and is not copied.
                Ok(data) if first.is_empty() => first = data,
                Ok(data) => {
                    if rest.is_empty() {
                        rest.reserve(told.unwrap_or(first.len() + data.len()));
                        rest.extend_from_slice(&first);
                    }
                    rest.extend_from_slice(&data);
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
            let len = first.len().max(rest.len());
            if len > MAX_HELD {
                return Ok(Self { bytes: rest.freeze(), whole: false, trailers: None, share: Some(share) });
            }
            let missing = len.saturating_sub(share.num_permits() * BUDGET_UNIT);
            if missing > 0 {
                share.merge(budget.take(missing).await?);
            }
        }
        let bytes = if rest.is_empty() { first } else { rest.freeze() };
        Ok(Self { bytes, whole: true, trailers, share: Some(share) })
    }
}

/// What became of a request's body, for the record.
pub struct Passage {
    bytes: AtomicU64,
    outcome: AtomicU8,
    /// Where its parameters are wanted.
    telling: Option<Box<Telling>>,
}

impl Passage {
    pub fn new(telling: Option<Box<Telling>>) -> Self {
        let outcome = AtomicU8::new(PayloadOutcome::Unchecked as u8);
        Self { bytes: AtomicU64::new(0), outcome, telling }
    }

    pub fn telling(&self) -> Option<&Telling> {
        self.telling.as_deref()
    }

    /// Bytes of body that went on.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, data: &[u8]) {
        self.add_after(data.len() as u64);
        if let Some(telling) = &self.telling {
            telling.sent(data);
        }
    }

    /// Bytes that went on after a switch of protocols.
    pub fn add_after(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn outcome(&self) -> PayloadOutcome {
        let stored = self.outcome.load(Ordering::Relaxed);
        PayloadOutcome::ALL.iter().copied().find(|o| *o as u8 == stored).unwrap_or(PayloadOutcome::Unchecked)
    }

    pub fn set(&self, outcome: PayloadOutcome) {
        self.outcome.store(outcome as u8, Ordering::Relaxed);
    }
}

/// The body that goes to the origin.
pub struct Outbound<B> {
    held: Held,
    rest: B,
    check: BodyCheck,
    checked: bool,
    /// `None` where the check withholds nothing but the last piece, which needs no room.
    waiting: Option<Box<Waiting>>,
    passage: Arc<Passage>,
}

impl<B: Inbound> Outbound<B> {
    pub fn new(held: Held, rest: B, check: BodyCheck, budget: &Budget, passage: Arc<Passage>) -> Self {
        let waiting = check.withholds().then(|| Box::new(Waiting::new(budget)));
        Self { held, rest, check, checked: false, waiting, passage }
    }

    /// Takes what was read and gives what may go on now; what waits comes out of `waiting`.
    fn see(&mut self, mut data: Bytes, last: bool) -> Result<Bytes, BodyError> {
        let withheld = match self.check.update(&data) {
            Ok(withheld) => withheld,
            Err(refusal) => return Err(self.refuse(refusal)),
        };
        if last {
            self.finish()?;
        }
        if let Some(waiting) = &mut self.waiting {
            data = waiting.take(data, withheld);
        }
        Ok(data)
    }

    /// Called before the bytes that would complete the body are released.
    fn finish(&mut self) -> Result<(), BodyError> {
        if self.checked {
            return Ok(());
        }
        match self.check.finish() {
            Ok(outcome) => {
                // INVARIANT: only here; a check that failed fails again, so such a body never ends in order.
                self.checked = true;
                self.passage.set(outcome);
                Ok(())
            }
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    /// Nothing that waits goes on any more.
    fn refuse(&mut self, refusal: Refusal) -> BodyError {
        self.passage.set(PayloadOutcome::Mismatched);
        self.waiting = None;
        BodyError::Refused { reason: refusal.reason, said: refusal.said }
    }

    /// The held bytes have gone on, or wait for their proof: only for those a share is still needed. Who asks for the
    /// next piece has written the last one.
    fn settle(&mut self) {
        if self.held.bytes.is_empty()
            && let Some(share) = self.held.share.take()
            && let Some(waiting) = &mut self.waiting
        {
            waiting.adopt(share);
        }
    }

    /// The next piece to look at: what was held, then what comes.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.held.bytes.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.held.bytes)))));
        }
        match self.held.trailers.take() {
            Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    /// Nothing is left to read.
    fn is_read(&self) -> bool {
        let held = &self.held;
        held.bytes.is_empty() && held.trailers.is_none() && (held.whole || self.rest.is_end_stream())
    }

    fn waiting(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes.len())
    }
}

impl<B: Inbound> Inbound for Outbound<B> {
    async fn interim(&mut self, head: &[u8]) -> Result<(), BodyError> {
        self.rest.interim(head).await
    }
}

impl<B: Inbound> Body for Outbound<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            this.settle();
            if let Some(waiting) = &mut this.waiting {
                if let Some(proven) = waiting.next() {
                    this.passage.add(&proven);
                    return Poll::Ready(Some(Ok(Frame::data(proven))));
                }
                ready!(waiting.poll_room(this.check.room(), cx))?;
            }
            let frame = match ready!(this.poll_next(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(this.finish().err().map(Err)),
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(trailers) => return Poll::Ready(Some(this.finish().map(|()| trailers))),
            };
            let last = this.is_read();
            let data = this.see(data, last)?;
            if !data.is_empty() {
                this.passage.add(&data);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.checked && self.waiting() == 0 && self.is_read()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + (self.held.bytes.len() + self.waiting()) as u64),
            None => SizeHint::default(),
        }
    }
}
