//! The origin's side: sends a request on a connection, and reads its answer while the request is still on its way.
//!
//! One task drives both directions: polling the answer also pulls the upload. An answer that comes before the
//! upload is complete is passed on at once; the connection is then not used again.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::body::{Decoder, Encoder, FramingError, Step};
use super::head::{interim, put_request};
use super::io::Io;
use super::wire::{Reader, Writer};
use crate::engine::request::{Framing, HeadError, RequestHead, ResponseHead, Version};
use crate::proxy::body::{BodyError, Inbound};

/// Interim answers of one request.
pub const MAX_INTERIM: usize = 16;

/// How long an origin may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the request's last byte to the answer's head.
    pub head: Duration,
    /// Between two pieces of the answer's body.
    pub body: Duration,
    /// For the socket to take more of the upload.
    pub write: Duration,
}

/// A connection to an origin, between two requests.
pub struct Connection<S> {
    reader: Reader<S>,
    writer: Writer<S>,
}

impl<S: Io> Connection<S> {
    pub fn new(io: S) -> Self {
        let (reader, writer) = super::wire::split(io);
        Self { reader, writer }
    }

    /// Nothing has come that nobody asked for, and the origin has not ended it.
    pub fn is_quiet(&mut self) -> bool {
        self.reader.is_quiet(&mut Context::from_waker(std::task::Waker::noop()))
    }
}

/// Where a connection goes once both messages have ended cleanly.
pub trait Home<S>: Unpin {
    fn take_back(self, conn: Box<Connection<S>>);
}

impl<S, F: FnOnce(Box<Connection<S>>) + Unpin> Home<S> for F {
    fn take_back(self, conn: Box<Connection<S>>) {
        self(conn);
    }
}

/// How an exchange with an origin failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The client's body; the origin never saw the request complete.
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    /// The first write failed: the origin has no more than a piece of a head, which is no request.
    #[error("connection lost before the request was written: {0}")]
    Unwritten(#[source] io::Error),
    /// Ended by the origin. `unanswered`: before any byte of an answer.
    #[error("origin closed the connection")]
    Closed { unanswered: bool },
    #[error("malformed answer: {0}")]
    Head(#[from] HeadError),
    #[error("answer breaks off: {0}")]
    Framing(#[from] FramingError),
    #[error("more than {MAX_INTERIM} interim answers, or a switch of protocols that nobody asked for")]
    Interim,
    #[error("nothing from the origin for {0:?}")]
    TimedOut(Duration),
    /// Over HTTP/2: refused or given up before it was processed in any way (RFC 9113 8.7).
    #[error("the origin did not take the request: {0}")]
    Untaken(#[source] h2::Error),
    /// It reset the stream.
    #[error("the origin broke off: {0}")]
    Reset(#[source] h2::Error),
    #[error("malformed HTTP/2: {0}")]
    Http2(#[source] h2::Error),
    /// A statement's limit, or that of a WebSocket.
    #[error("its limit of {0:?} is reached")]
    Limit(Duration),
    #[error("the request's target has a byte that HTTP/2 can't carry")]
    Untranslatable,
}

enum Upload<B> {
    Running(B, Encoder, Option<Box<HeaderMap>>),
    /// All of it is in the write buffer. `whole`: so many bytes, and nothing has gone yet.
    Flushing {
        whole: Option<usize>,
    },
    Done,
    /// The origin takes no more; it may still answer.
    Broken,
    Unwritten(io::Error),
}

/// An exchange under way, and then the answer's body.
pub struct Answer<S: Io, B, G> {
    conn: Option<Box<Connection<S>>>,
    upload: Upload<B>,
    decoder: Decoder,
    reusable: bool,
    early: bool,
    give_back: Option<G>,
    /// The body, where the request had none to send.
    unsent: Option<B>,
    patience: Patience,
}

/// A request that got no answer.
#[derive(Debug)]
pub struct Unanswered<B> {
    pub error: ExchangeError,
    /// The body, where the request had none to send: such a request may be sent again.
    pub body: Option<B>,
}

/// Sends a request: `head` goes on with its body. Resolves when the answer's head is in; `give_back` gets the
/// connection once both messages have ended cleanly.
pub async fn send<S, B, G>(
    mut conn: Box<Connection<S>>,
    head: &RequestHead,
    body: B,
    patience: Patience,
    give_back: G,
) -> Result<(ResponseHead, Box<Answer<S, B, G>>), Unanswered<B>>
where
    S: Io,
    B: Inbound,
    G: Home<S>,
{
    let encoder = Encoder::keep(head.framing());
    put_request(head, encoder, &mut conn.writer.out);
    let (upload, unsent) = match head.framing() {
        Framing::None => (Upload::Flushing { whole: Some(conn.writer.out.len()) }, Some(body)),
        _ => (Upload::Running(body, encoder, None), None),
    };
    // Boxed: it is handed on four times.
    let mut answer = Box::new(Answer {
        conn: Some(conn),
        upload,
        decoder: Decoder::new(Framing::None),
        reusable: false,
        early: false,
        give_back: Some(give_back),
        unsent,
        patience,
    });
    match answer.final_head(head).await {
        Ok(response) => {
            answer.begin(&response);
            Ok((response, answer))
        }
        Err(error) => Err(Unanswered { error, body: answer.unsent }),
    }
}

impl<S, B, G> Answer<S, B, G>
where
    S: Io,
    B: Inbound,
    G: Home<S>,
{
    /// The answer came before the request was complete: neither connection is used again.
    pub fn is_early(&self) -> bool {
        self.early
    }

    /// The connection, after a 101.
    pub fn switched(&mut self) -> Option<(Reader<S>, Writer<S>)> {
        self.conn.take().map(|conn| (conn.reader, conn.writer))
    }

    /// The body of a request that had none to send: it may be sent again.
    pub fn take_unsent(&mut self) -> Option<B> {
        self.unsent.take()
    }

    /// The answer's head, after its interim ones.
    async fn final_head(&mut self, head: &RequestHead) -> Result<ResponseHead, ExchangeError> {
        for _ in 0..=MAX_INTERIM {
            let raw = poll_fn(|cx| self.poll_head(cx)).await?;
            let response = ResponseHead::parse(raw, head.method())?;
            match response.status() {
                101 if head.asks_websocket() && response.switches_to_websocket() => return Ok(response),
                101 => break,
                // The client had its 100 from us, when the request was allowed.
                100 => {}
                102..200 => {
                    // HTTP/1.0 has none (RFC 9110 15.2).
                    if let Upload::Running(body, ..) = &mut self.upload
                        && head.version() != Version::Http10
                    {
                        body.interim(&interim(&response)).await?;
                    }
                }
                _ => return Ok(response),
            }
        }
        Err(ExchangeError::Interim)
    }

    fn begin(&mut self, head: &ResponseHead) {
        self.decoder = Decoder::new(head.framing());
        self.early = !matches!(self.upload, Upload::Done);
        if head.switches_to_websocket() {
            // The connection speaks something else from here on: see `switched`.
            return;
        }
        // 421: the origin won't answer for this authority here, so nor for the next request (RFC 9110 15.5.20).
        self.reusable = !head.close() && head.framing() != Framing::UntilClose && head.status() != 421;
        if self.decoder.is_done() {
            self.finish();
        }
    }

    /// Both messages have ended, or will never: the connection goes back, or away.
    fn finish(&mut self) {
        let clean = self.reusable && matches!(self.upload, Upload::Done);
        if let (Some(mut conn), Some(give_back)) = (self.conn.take(), self.give_back.take())
            && clean
            && conn.reader.buf.is_empty()
            && !conn.reader.eof
        {
            conn.reader.clock.stop();
            conn.writer.clock.stop();
            conn.reader.release_if_empty();
            give_back.take_back(conn);
        }
    }

    /// Moves the upload on. `Err` only for the client's body: an origin that takes no more may still answer.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(conn) = &mut self.conn else { return Poll::Ready(Ok(())) };
        loop {
            match &mut self.upload {
                Upload::Done | Upload::Broken | Upload::Unwritten(_) => return Poll::Ready(Ok(())),
                Upload::Flushing { whole } => {
                    match ready!(conn.writer.poll_flush_within(cx, self.patience.write)) {
                        Ok(()) => self.upload = Upload::Done,
                        Err(error) => self.upload = broken(error, *whole == Some(conn.writer.out.len())),
                    }
                }
                Upload::Running(body, encoder, trailers) => {
                    if conn.writer.is_full()
                        && ready!(conn.writer.poll_flush_within(cx, self.patience.write)).is_err()
                    {
                        self.upload = Upload::Broken;
                        continue;
                    }
                    match Pin::new(body).poll_frame(cx) {
                        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                            Ok(data) => encoder.data(&data, &mut conn.writer.out)?,
                            Err(frame) => *trailers = frame.into_trailers().ok().map(Box::new),
                        },
                        Poll::Ready(None) => {
                            encoder.end(trailers.as_deref(), &mut conn.writer.out)?;
                            self.upload = Upload::Flushing { whole: None };
                        }
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                        Poll::Pending => {
                            if ready!(conn.writer.poll_flush_within(cx, self.patience.write)).is_err() {
                                self.upload = Upload::Broken;
                                continue;
                            }
                            return Poll::Pending;
                        }
                    }
                }
            }
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ExchangeError>> {
        let sent = self.poll_upload(cx)?.is_ready();
        if let Upload::Unwritten(error) = &mut self.upload {
            let error = std::mem::replace(error, io::ErrorKind::BrokenPipe.into());
            return Poll::Ready(Err(ExchangeError::Unwritten(error)));
        }
        let Some(conn) = &mut self.conn else {
            return Poll::Ready(Err(ExchangeError::Closed { unanswered: true }));
        };
        let reader = &mut conn.reader;
        loop {
            if let Some(head) = reader.take_head()? {
                reader.clock.stop();
                return Poll::Ready(Ok(head));
            }
            match reader.poll_fill_head(cx) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(ExchangeError::Closed { unanswered: reader.buf.is_empty() }));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(ExchangeError::Lost(error))),
                Poll::Pending => {
                    if !reader.buf.is_empty() && !begins_as_answer(&reader.buf) {
                        return Poll::Ready(Err(HeadError::StatusLine.into()));
                    }
                    // While the upload runs, its own clocks watch. An origin that took no more of it gets no more time
                    // to say why than it got to take it.
                    let patience = match self.upload {
                        Upload::Broken => self.patience.write,
                        _ => self.patience.head,
                    };
                    if sent && !reader.clock.is_set() {
                        reader.clock.set(patience);
                    }
                    ready!(reader.clock.poll_expired(cx));
                    return Poll::Ready(Err(ExchangeError::TimedOut(patience)));
                }
            }
        }
    }
}

/// A socket that is gone at the first write took nothing; one that took nothing for too long may yet.
fn broken<B>(error: io::Error, untouched: bool) -> Upload<B> {
    if untouched && error.kind() != io::ErrorKind::TimedOut {
        Upload::Unwritten(error)
    } else {
        Upload::Broken
    }
}

/// What an origin of another protocol says (`SSH-2.0-…`, `220 …`) never becomes a head: nobody need wait for its end.
fn begins_as_answer(bytes: &[u8]) -> bool {
    const START: &[u8] = b"HTTP/1.";
    bytes.iter().zip(START).all(|(byte, wanted)| byte == wanted)
}

impl<S, B, G> Body for Answer<S, B, G>
where
    S: Io,
    B: Inbound,
    G: Home<S>,
{
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let this = self.get_mut();
        if this.conn.is_none() {
            return Poll::Ready(None);
        }
        // The origin may need the rest of the upload before it goes on.
        if let Poll::Ready(Err(error)) = this.poll_upload(cx) {
            this.conn = None;
            return Poll::Ready(Some(Err(error.into())));
        }
        let Some(conn) = &mut this.conn else { return Poll::Ready(None) };
        let reader = &mut conn.reader;
        loop {
            match this.decoder.step(&mut reader.buf, reader.eof) {
                Ok(Step::Data { len, last }) => {
                    let data = reader.buf.split_to(len).freeze();
                    reader.clock.stop();
                    if last {
                        this.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Step::End(trailers)) => {
                    this.finish();
                    return Poll::Ready(trailers.map(|map| Ok(Frame::trailers(map))));
                }
                Ok(Step::More) => {}
                Err(error) => {
                    this.conn = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
            match reader.poll_fill_body(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    this.conn = None;
                    return Poll::Ready(Some(Err(ExchangeError::Lost(error))));
                }
                Poll::Pending => {
                    if !reader.clock.is_set() {
                        reader.clock.set(this.patience.body);
                    }
                    ready!(reader.clock.poll_expired(cx));
                    this.conn = None;
                    return Poll::Ready(Some(Err(ExchangeError::TimedOut(this.patience.body))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.conn.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.decoder.remaining() {
            _ if self.conn.is_none() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// An upload that never goes on, and what its client was told meanwhile.
    #[derive(Default)]
    struct Stalled(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Body for Stalled {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Pending
        }
    }

    impl Inbound for Stalled {
        async fn interim(&mut self, head: &[u8]) -> Result<(), BodyError> {
            self.0.lock().unwrap().extend_from_slice(head);
            Ok(())
        }
    }

    #[tokio::test]
    async fn an_interim_answer_goes_on_without_what_stays_and_to_1_1_alone() {
        for (version, told) in [("1.1", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), ("1.0", "")] {
            let (near, mut far) = tokio::io::duplex(4096);
            let hints = "HTTP/1.1 103 Early Hints\r\nAlt-Svc: h3=\":443\"\r\nLink: </a>\r\nConnection: x-a\r\nX-A: b\r\n\r\n";
            let answer = format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            far.write_all(answer.as_bytes()).await.unwrap();
            let head = format!("PUT / HTTP/{version}\r\nHost: a.test\r\nContent-Length: 1\r\n\r\n");
            let head = RequestHead::parse(head.into()).unwrap();
            let [head_in, body_in, write_in] = [Duration::from_secs(60); 3];
            let patience = Patience { head: head_in, body: body_in, write: write_in };
            let body = Stalled::default();
            let heard = std::sync::Arc::clone(&body.0);
            let sent = send(Box::new(Connection::new(near)), &head, body, patience, |_| ()).await;
            assert_eq!(sent.map_err(|unanswered| unanswered.error).unwrap().0.status(), 200);
            assert_eq!(String::from_utf8_lossy(&heard.lock().unwrap()), told, "{version}");
        }
    }

    /// Breaks after so many bytes.
    struct Breaks(usize);

    impl Io for Breaks {}

    impl tokio::io::AsyncRead for Breaks {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    impl tokio::io::AsyncWrite for Breaks {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let taken = self.0.min(buf.len());
            self.0 -= taken;
            if taken > 0 {
                Poll::Ready(Ok(taken))
            } else {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_request_is_unwritten_only_where_no_byte_of_it_went_and_no_body_either() {
        let patience = Patience {
            head: Duration::from_secs(60),
            body: Duration::from_secs(60),
            write: Duration::from_secs(60),
        };
        for (head, after, unwritten) in [
            ("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 0, true),
            ("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 5, false),
            ("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\n", 0, false),
        ] {
            let head = RequestHead::parse(head.into()).unwrap();
            let conn = Box::new(Connection::new(Breaks(after)));
            let Err(failed) = send(conn, &head, Stalled::default(), patience, |_| ()).await else {
                panic!("it was answered")
            };
            let told = matches!(failed.error, ExchangeError::Unwritten(_));
            assert_eq!((told, told && failed.body.is_some()), (unwritten, unwritten), "{:?}", failed.error);
        }
    }
}
