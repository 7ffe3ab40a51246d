//! The origin's side: sends a request on a stream of a shared connection, and reads its answer while the request is
//! still on its way. As in `http1/client.rs`, one task drives both directions: polling the answer also pulls the upload.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::shared::{Connection, Lease};
use super::{io_error, message, pinned, poll_room};
use crate::engine::request::{RequestHead, ResponseHead, Version};
use crate::proxy::body::{BodyError, Inbound};
use crate::proxy::http1::client::{ExchangeError, MAX_INTERIM, Patience, Unanswered};
use crate::proxy::http1::head::interim;
use crate::proxy::http1::server::is_bodiless;
use crate::proxy::http1::wire::Clock;

enum Upload<B> {
    /// `data` waits for the origin to make room; `last`: with it the body ends.
    Running {
        body: B,
        data: Bytes,
        last: bool,
    },
    Done,
    /// The origin takes no more; it may still answer.
    Broken,
}

/// An exchange under way, and then the answer's body.
pub struct Answer<B> {
    /// `None` once both messages have ended, or never will.
    lease: Option<Lease>,
    connection: Arc<Connection>,
    /// `None` once it is left to the next.
    send: Option<SendStream<Bytes>>,
    upload: Upload<B>,
    /// Of a request that has none to send.
    unsent: Option<B>,
    recv: Option<RecvStream>,
    /// Of the answer's head, those that travel on.
    fields: Option<HeaderMap>,
    early: bool,
    /// Of the upload.
    clock: Clock,
    patience: Patience,
}

/// Sends a request: `head` goes on with its body. Resolves when the answer's head is in.
pub async fn send<B: Inbound>(
    mut lease: Lease,
    head: &RequestHead,
    body: B,
    patience: Patience,
) -> Result<(ResponseHead, Box<Answer<B>>), Unanswered<B>> {
    let Some(request) = message::request(head) else {
        return Err(Unanswered { error: ExchangeError::Untranslatable, body: None });
    };
    let bodiless = is_bodiless(head.framing());
    let sent = lease.connection().handle().send_request(request, bodiless);
    let (mut response, send) = match sent {
        Ok(sent) => sent,
        // INVARIANT: nothing of it was written.
        Err(error) => return Err(Unanswered { error: ExchangeError::Untaken(error), body: Some(body) }),
    };
    lease.spare.ended = None;
    let (upload, unsent) = if bodiless {
        (Upload::Done, Some(body))
    } else {
        (Upload::Running { body, data: Bytes::new(), last: false }, None)
    };
    let connection = Arc::clone(lease.connection());
    let mut answer = Box::new(Answer {
        connection,
        lease: Some(lease),
        send: Some(send),
        upload,
        unsent,
        recv: None,
        fields: None,
        early: false,
        clock: Clock::default(),
        patience,
    });
    match answer.final_head(head, &mut response).await {
        Ok(response) => Ok((response, answer)),
        Err(error) => {
            answer.weigh(&error);
            Err(Unanswered { error, body: answer.unsent })
        }
    }
}

impl<B: Inbound> Answer<B> {
    /// The answer came before the request was complete.
    pub fn is_early(&self) -> bool {
        self.early
    }

    /// The fields of its head that travel on, for a client that takes them as they are.
    pub fn take_fields(&mut self) -> Option<HeaderMap> {
        self.fields.take()
    }

    /// The body of a request that had none to send: it may be sent again, and not on this connection.
    pub fn take_unsent(&mut self) -> Option<B> {
        self.connection.retire();
        self.unsent.take()
    }

    /// The answer's head, after its interim ones.
    async fn final_head(
        &mut self,
        head: &RequestHead,
        response: &mut ResponseFuture,
    ) -> Result<ResponseHead, ExchangeError> {
        for _ in 0..=MAX_INTERIM {
            match poll_fn(|cx| self.poll_head(response, cx)).await? {
                Came::Interim(told) => {
                    let told = message::response_head(&told, true, head.method())?;
                    if told.status() > 100
                        && let Upload::Running { body, .. } = &mut self.upload
                        && head.version() != Version::Http10
                    {
                        body.interim(&interim(&told)).await?;
                    }
                }
                Came::Final(response) => {
                    let ended = response.body().is_end_stream();
                    let told = message::response_head(&response, ended, head.method())?;
                    self.early = matches!(self.upload, Upload::Running { .. } | Upload::Broken);
                    let (parts, recv) = response.into_parts();
                    self.fields = message::travelling(parts.headers, &told);
                    self.recv = Some(recv);
                    if ended {
                        self.end();
                    }
                    return Ok(told);
                }
            }
        }
        Err(ExchangeError::Interim)
    }

    fn poll_head(
        &mut self,
        response: &mut ResponseFuture,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Came, ExchangeError>> {
        let sent = self.poll_upload(cx)?.is_ready();
        if let Poll::Ready(Some(told)) = response.poll_informational(cx) {
            return Poll::Ready(told.map(Came::Interim).map_err(|error| self.lost(error)));
        }
        let clock = &mut self.lease.as_mut().expect("it is held until a final head is in").spare.clock;
        match Pin::new(response).poll(cx) {
            Poll::Ready(Ok(response)) => {
                clock.stop();
                Poll::Ready(Ok(Came::Final(response)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.lost(error))),
            Poll::Pending => {
                // While the upload runs, its own clock watches. An origin that took no more of it gets no more time to say
                // why than it got to take it.
                let patience = match self.upload {
                    Upload::Broken => self.patience.write,
                    _ => self.patience.head,
                };
                if sent && !clock.is_set() {
                    clock.set(patience);
                }
                ready!(clock.poll_expired(cx));
                Poll::Ready(Err(ExchangeError::TimedOut(patience)))
            }
        }
    }

    /// Moves the upload on. `Err` only for the client's body, whose stream is then reset: the origin must not take it
    /// for complete. An origin that takes no more may still answer.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let clock = &mut self.clock;
        loop {
            let (Upload::Running { body, data, last }, Some(send)) = (&mut self.upload, &mut self.send)
            else {
                return Poll::Ready(Ok(()));
            };
            let moved = if !data.is_empty() {
                match poll_room(send, data.len(), cx) {
                    Poll::Ready(Ok(room)) => {
                        clock.stop();
                        let piece = data.split_to(room);
                        let ended = *last && data.is_empty();
                        send.send_data(piece, ended).map(|()| ended)
                    }
                    Poll::Ready(Err(error)) => Err(error),
                    Poll::Pending => {
                        if !clock.is_set() {
                            clock.set(self.patience.write);
                        }
                        ready!(clock.poll_expired(cx));
                        Err(Reason::CANCEL.into())
                    }
                }
            } else {
                match ready!(pinned(body).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(piece) => {
                            *data = piece;
                            *last = body.is_end_stream();
                            Ok(false)
                        }
                        Err(frame) => {
                            let trailers = frame.into_trailers().unwrap_or_default();
                            send.send_trailers(trailers).map(|()| true)
                        }
                    },
                    None => send.send_data(Bytes::new(), true).map(|()| true),
                    Some(Err(error)) => {
                        send.send_reset(Reason::CANCEL);
                        self.upload = Upload::Broken;
                        return Poll::Ready(Err(error));
                    }
                }
            };
            match moved {
                Ok(false) => {}
                Ok(true) => self.upload = Upload::Done,
                Err(_) => self.upload = Upload::Broken,
            }
        }
    }

    /// A connection that went silent under one request is not offered to the next: nobody can tell whether it is dead.
    fn weigh(&self, error: &ExchangeError) {
        if matches!(error, ExchangeError::TimedOut(_)) {
            self.connection.retire();
        }
    }

    /// What the origin did to the stream.
    fn lost(&self, error: h2::Error) -> ExchangeError {
        if self.connection.is_exhausted() {
            return ExchangeError::TimedOut(self.patience.write);
        }
        // A GOAWAY of the origin reaches the streams above its last one, and no other.
        let untaken =
            error.reason() == Some(Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote());
        match error.reason() {
            // RFC 9113 8.7: not processed in any way.
            _ if untaken => ExchangeError::Untaken(error),
            Some(
                Reason::PROTOCOL_ERROR
                | Reason::FLOW_CONTROL_ERROR
                | Reason::COMPRESSION_ERROR
                | Reason::FRAME_SIZE_ERROR,
            ) if error.is_library() => ExchangeError::Http2(error),
            _ if error.is_reset() => ExchangeError::Reset(error),
            _ => ExchangeError::Lost(io_error(error)),
        }
    }

    fn fail(&mut self, error: ExchangeError) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        self.weigh(&error);
        self.lease = None;
        if let Some(send) = &mut self.send {
            send.send_reset(Reason::CANCEL);
        }
        Poll::Ready(Some(Err(error)))
    }

    /// Both messages have ended, or the answer has and the upload never will.
    fn end(&mut self) {
        if let Some(mut lease) = self.lease.take()
            && matches!(self.upload, Upload::Done)
        {
            lease.spare.ended = self.send.take().zip(self.recv.take());
        }
    }
}

enum Came {
    Interim(http::Response<()>),
    Final(http::Response<RecvStream>),
}

impl<B: Inbound> Body for Answer<B> {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let this = self.get_mut();
        if this.lease.is_none() {
            return Poll::Ready(None);
        }
        // The origin may need the rest of the upload before it goes on.
        if let Poll::Ready(Err(error)) = this.poll_upload(cx) {
            return this.fail(error.into());
        }
        let (Some(recv), Some(lease)) = (&mut this.recv, &mut this.lease) else {
            return Poll::Ready(None);
        };
        let clock = &mut lease.spare.clock;
        match recv.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                clock.stop();
                // Whoever polls has room for it.
                let _ = recv.flow_control().release_capacity(data.len());
                if recv.is_end_stream() {
                    this.end();
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            Poll::Ready(Some(Err(error))) => return this.fail(this.lost(error)),
            Poll::Ready(None) => {}
            Poll::Pending => {
                if !clock.is_set() {
                    clock.set(this.patience.body);
                }
                ready!(clock.poll_expired(cx));
                let after = this.patience.body;
                return this.fail(ExchangeError::TimedOut(after));
            }
        }
        match ready!(recv.poll_trailers(cx)) {
            Ok(trailers) => {
                this.end();
                let trailers = trailers.map(message::answer_trailers).filter(|map| !map.is_empty());
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Err(error) => this.fail(this.lost(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.lease {
            None => SizeHint::with_exact(0),
            Some(_) => SizeHint::default(),
        }
    }
}
