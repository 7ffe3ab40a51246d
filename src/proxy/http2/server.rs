//! The client's side: a connection gives streams, each of which is one request and its answer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};

use super::watch::Watched;
use super::{io_error, message, pinned, poll_room};
use crate::engine::reason::Reason as Refusal;
use crate::engine::request::{Framing, HeadError, RequestHead, ResponseHead};
use crate::engine::target::Authority;
use crate::proxy::body::{BodyError, Inbound};
use crate::proxy::http1::body::{FramingError, is_harmless_trailer};
use crate::proxy::http1::io::Io;
use crate::proxy::http1::server::AnswerError;
use crate::proxy::http1::wire::Clock;

/// A client's connection.
pub type Connection<S> = h2::server::Connection<Watched<S>, Bytes>;

/// Waits for the client's preface, no longer than `within`.
pub async fn shake<S: Io>(io: Watched<S>, within: Duration) -> Result<Connection<S>, h2::Error> {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(super::UPLOAD_WINDOW)
        .initial_connection_window_size(super::UPLOADS_WINDOW)
        .max_frame_size(super::FRAME)
        .max_header_list_size(super::REQUEST_HEAD)
        .header_table_size(super::HEADER_TABLE)
        .max_concurrent_streams(super::STREAMS)
        .max_send_buffer_size(super::SEND_BUFFER)
        .data_frame_budget(super::SMALL_FRAMES)
        .max_pending_accept_reset_streams(super::PENDING_RESETS)
        .max_local_error_reset_streams(Some(super::ERROR_RESETS))
        .max_concurrent_reset_streams(super::REMEMBERED_RESETS)
        .reset_stream_duration(super::REMEMBERED_FOR);
    let late = || h2::Error::from(Reason::SETTINGS_TIMEOUT);
    tokio::time::timeout(within, builder.handshake(io)).await.unwrap_or_else(|_| Err(late()))
}

/// Shared with the body, which may have to send interim answers. One task uses both.
type Respond = Arc<Mutex<SendResponse<Bytes>>>;

/// The way back to the client, on one stream.
pub struct Stream {
    respond: Respond,
    send: Option<SendStream<Bytes>>,
    /// Body bytes of the answer that went on.
    carried: u64,
    clock: Clock,
    /// Without any progress.
    patience: Duration,
}

/// What of an answer is kept back until the record is written: its end.
pub struct Last {
    head: Option<Response<()>>,
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl Last {
    /// Its body bytes.
    pub fn bytes(&self) -> u64 {
        self.data.len() as u64
    }
}

/// Reads a request's head; body and answer have their own ways from here.
pub fn read(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    before: Option<&Authority>,
    patience: Duration,
) -> (Result<RequestHead, HeadError>, Incoming, Stream) {
    let head = message::request_head(&request, before);
    let left = match &head {
        Ok(head) => match head.framing() {
            Framing::Length(length) => Some(length),
            _ => None,
        },
        Err(_) => None,
    };
    let respond = Arc::new(Mutex::new(respond));
    let incoming = Incoming {
        recv: request.into_body(),
        respond: Arc::clone(&respond),
        left,
        last: None,
        trailers: None,
        ended: false,
        clock: Clock::default(),
        patience,
    };
    (head, incoming, Stream { respond, send: None, carried: 0, clock: Clock::default(), patience })
}

impl Stream {
    /// Runs `work`, unless the stream is reset or the client goes away first: then `Err`, with the code of a reset.
    pub async fn unless_reset<T>(
        &mut self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Option<Reason>> {
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.lock().poll_reset(cx).map(|reset| Err(reset.ok())),
        })
        .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SendResponse<Bytes>> {
        self.respond.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an answer that is whole already, as `reply.rs` writes it.
    pub async fn answer_whole(&mut self, answer: &[u8]) -> io::Result<()> {
        // INVARIANT: our own answers are well-formed.
        let (head, data) = message::whole_answer(answer).ok_or(io::ErrorKind::InvalidData)?;
        if data.is_empty() {
            return self.begin(head, true).map_err(io_error);
        }
        self.begin(head, false).map_err(io_error)?;
        self.finish(Last { head: None, data, trailers: None }).await
    }

    fn begin(&mut self, head: Response<()>, ended: bool) -> Result<(), h2::Error> {
        let send = self.lock().send_response(head, ended)?;
        self.send = Some(send);
        Ok(())
    }

    /// Passes an origin's answer on, all but its end: [`Self::finish`] sends that, after the record is written. `fields`
    /// of the head, where they are at hand. After an error the stream must be reset. Cancel safe, as far as [`Self::carried`] goes.
    pub async fn pass<B>(
        &mut self,
        head: &ResponseHead,
        fields: Option<HeaderMap>,
        body: &mut B,
    ) -> Result<Last, AnswerError<B::Error>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let malformed = || AnswerError::Framing(FramingError::Truncated);
        let head = message::response(head, fields).ok_or_else(malformed)?;
        let mut last = Last { head: None, data: Bytes::new(), trailers: None };
        if body.is_end_stream() {
            return Ok(Last { head: Some(head), ..last });
        }
        self.begin(head, false).map_err(|error| AnswerError::Client(io_error(error)))?;
        let mut data = Bytes::new();
        poll_fn(|cx| {
            loop {
                ready!(self.poll_send(&mut data, false, cx)).map_err(AnswerError::Client)?;
                if body.is_end_stream() {
                    return Poll::Ready(Ok(()));
                }
                match pinned(body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(piece) if body.is_end_stream() => last.data = piece,
                        Ok(piece) => data = piece,
                        Err(frame) => last.trailers = frame.into_trailers().ok(),
                    },
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(AnswerError::Origin(error))),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => {
                        let reset = ready!(self.lock_reset(cx));
                        return Poll::Ready(Err(AnswerError::Client(reset)));
                    }
                }
            }
        })
        .await?;
        Ok(last)
    }

    /// The head of an answer went on.
    pub fn has_begun(&self) -> bool {
        self.send.is_some()
    }

    /// Body bytes of the answer, as far as they went on.
    pub fn carried(&self) -> u64 {
        self.carried
    }

    /// Ready once the client has given the stream up.
    fn lock_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(send) = &mut self.send else { return Poll::Pending };
        send.poll_reset(cx).map(|reset| io_error(reset.map_or_else(|error| error, h2::Error::from)))
    }

    /// Sends all of `data`, as the client makes room for it; `ends`: and with its last byte the stream's end.
    fn poll_send(&mut self, data: &mut Bytes, ends: bool, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Ok(())) };
        while !data.is_empty() {
            match poll_room(send, data.len(), cx) {
                Poll::Ready(Ok(room)) => {
                    self.clock.stop();
                    let piece = data.split_to(room);
                    send.send_data(piece, ends && data.is_empty()).map_err(io_error)?;
                    self.carried += room as u64;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(io_error(error))),
                Poll::Pending => {
                    if !self.clock.is_set() {
                        self.clock.set(self.patience);
                    }
                    ready!(self.clock.poll_expired(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the end of the answer.
    pub async fn finish(&mut self, last: Last) -> io::Result<()> {
        let Last { head, mut data, trailers } = last;
        if let Some(head) = head {
            return self.begin(head, true).map_err(io_error);
        }
        let with_data = trailers.is_none() && !data.is_empty();
        poll_fn(|cx| self.poll_send(&mut data, with_data, cx)).await?;
        match (&mut self.send, trailers) {
            (Some(send), Some(trailers)) => send.send_trailers(trailers),
            (Some(send), None) if !with_data => send.send_data(Bytes::new(), true),
            _ => Ok(()),
        }
        .map_err(io_error)
    }

    /// An answer that broke off must not look complete.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.send {
            Some(send) => send.send_reset(reason),
            None => self.lock().send_reset(reason),
        }
    }
}

/// Why the library reset a client's stream, for what the client sent on it.
pub fn fault(code: Reason) -> Option<Refusal> {
    match code {
        // A body that is not as long as was told, or trailers that are none.
        Reason::PROTOCOL_ERROR => Some(Refusal::RequestFraming),
        Reason::FLOW_CONTROL_ERROR | Reason::FRAME_SIZE_ERROR | Reason::STREAM_CLOSED => {
            Some(Refusal::RequestMalformed)
        }
        _ => None,
    }
}

/// How a stream ended on which nothing can be said any more.
fn reset(error: h2::Error) -> BodyError {
    match error.reason().filter(|_| error.is_library()).and_then(fault) {
        Some(reason) => BodyError::Reset { reason, said: error.to_string() },
        None => {
            let gone = BodyError::Gone(io_error(error));
            BodyError::Reset { reason: Refusal::RequestAborted, said: gone.to_string() }
        }
    }
}

/// A request's body.
pub struct Incoming {
    recv: RecvStream,
    respond: Respond,
    /// Of the length that was told.
    left: Option<u64>,
    /// Bytes that complete the told length, before the stream has ended: the request is complete only then.
    last: Option<Bytes>,
    trailers: Option<HeaderMap>,
    ended: bool,
    clock: Clock,
    patience: Duration,
}

impl Incoming {
    /// A request that tells of no body has ended only with its stream: nothing may follow, or the length was a lie.
    pub async fn is_empty(&mut self) -> Result<(), BodyError> {
        match poll_fn(|cx| pinned(self).poll_frame(cx)).await {
            None => Ok(()),
            Some(Ok(frame)) if frame.is_trailers() => Ok(()),
            Some(Ok(_)) => Err(FramingError::Truncated.into()),
            Some(Err(error)) => Err(error),
        }
    }

    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        if let Some(data) = self.last.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn broken(&mut self, error: h2::Error) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        self.last = None;
        Poll::Ready(Some(Err(reset(error))))
    }

    fn refused(&mut self, error: FramingError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        self.last = None;
        Poll::Ready(Some(Err(error.into())))
    }
}

impl Inbound for Incoming {
    async fn interim(&mut self, head: &[u8]) -> Result<(), BodyError> {
        let head = ResponseHead::parse(Bytes::copy_from_slice(head), "GET").ok();
        let Some(response) = head.as_ref().and_then(|head| message::response(head, None)) else {
            return Ok(());
        };
        let mut respond = self.respond.lock().unwrap_or_else(PoisonError::into_inner);
        respond.send_informational(response).map_err(reset)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return this.end();
        }
        loop {
            match this.recv.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    this.clock.stop();
                    // Whoever polls has room for it.
                    let _ = this.recv.flow_control().release_capacity(data.len());
                    if data.is_empty() {
                        continue;
                    }
                    if let Some(left) = &mut this.left {
                        let Some(rest) = left.checked_sub(data.len() as u64) else {
                            return this.refused(FramingError::Truncated);
                        };
                        *left = rest;
                        if rest == 0 && !this.recv.is_end_stream() {
                            this.last = Some(data);
                            continue;
                        }
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return this.broken(error),
                Poll::Ready(None) => {}
                Poll::Pending => {
                    if !this.clock.is_set() {
                        this.clock.set(this.patience);
                    }
                    ready!(this.clock.poll_expired(cx));
                    this.ended = true;
                    return Poll::Ready(Some(Err(BodyError::Idle(this.patience))));
                }
            }
            if this.left.is_some_and(|left| left > 0) {
                return this.refused(FramingError::Truncated);
            }
            match ready!(this.recv.poll_trailers(cx)) {
                // Only pseudo-header fields were in it, which end with the head (RFC 9113 8.1).
                Ok(Some(trailers)) if trailers.is_empty() => return this.refused(FramingError::Trailer),
                Ok(Some(trailers)) => {
                    let harmless = trailers.iter().filter(|(name, _)| is_harmless_trailer(name.as_str()));
                    let harmless: HeaderMap =
                        harmless.map(|(name, value)| (name.clone(), value.clone())).collect();
                    this.trailers = Some(harmless).filter(|harmless| !harmless.is_empty());
                }
                Ok(None) => {}
                Err(error) => return this.broken(error),
            }
            return this.end();
        }
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.last.is_some() || self.trailers.is_some();
        !kept && (self.ended || (self.recv.is_end_stream() && self.left.is_none_or(|left| left == 0)))
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left + self.last.as_ref().map_or(0, Bytes::len) as u64),
            None => SizeHint::default(),
        }
    }
}
