//! The client's side: reads requests off a connection one after the other, and writes answers onto it.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::body::{Decoder, Encoder, FramingError, Step};
pub use super::head::Passed;
use super::head::{put_answer, put_switch};
use super::io::Io;
use super::wire::{Half, Reader, Writer};
use crate::engine::request::{Framing, HeadError, RequestHead, ResponseHead, Version};
use crate::engine::target::Authority;
use crate::proxy::body::{BodyError, Inbound};

/// How long each phase of a client's connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Whole head, from its first byte.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Between two pieces of a body, either way.
    pub body: Duration,
}

/// A client that was answered early is read for this long, so that it reads the answer before a reset (RFC 9112 9.6).
const DRAIN_TIME: Duration = Duration::from_secs(3);
/// Clients that write all before they read need more than a socket buffer's worth.
const DRAIN_BYTES: usize = 64 * 1024 * 1024;

/// Where an [`Incoming`] leaves the reader when it is done with it: `true` when the body was read to its end.
type Slot<S> = Arc<Mutex<Option<(Box<Reader<S>>, bool)>>>;

/// A client's connection.
pub struct Connection<S> {
    /// Boxed: it goes to each [`Incoming`] that has bytes, and comes back.
    reader: Option<Box<Reader<S>>>,
    slot: Slot<S>,
    writer: Writer<S>,
    /// Body bytes of the last answer.
    carried: u64,
    patience: Patience,
    /// Of the last request.
    authority: Option<Authority>,
}

/// Why no request came.
pub enum NoRequest {
    /// It went away between two requests, or was idle for too long; with the error if it went in disorder.
    Closed(Option<io::Error>),
    /// It sent something that is no request.
    Malformed(HeadError),
    /// Its head didn't come to an end in time.
    Slow,
}

/// Why an answer didn't reach its end.
#[derive(Debug)]
pub enum AnswerError<E> {
    Client(io::Error),
    Origin(E),
    /// The body didn't keep to its framing.
    Framing(FramingError),
}

impl<S: Io> Connection<S> {
    pub fn new(io: S, patience: Patience) -> Self {
        let (reader, writer) = super::wire::split(io);
        let (reader, slot) = (Some(Box::new(reader)), Slot::default());
        Self { reader, slot, writer, carried: 0, patience, authority: None }
    }

    /// Bytes that were read before the stream was ours.
    pub fn unread(mut self, bytes: &[u8]) -> Self {
        if let Some(reader) = &mut self.reader {
            reader.buf.extend_from_slice(bytes);
        }
        self
    }

    /// Waits for the next request's head, for [`Self::read`]. Cancel safe: what was read stays in the buffer.
    pub async fn next(&mut self) -> Result<Bytes, NoRequest> {
        let Some(reader) = &mut self.reader else { return Err(NoRequest::Closed(None)) };
        let started = !reader.buf.is_empty();
        reader.clock.set(if started { self.patience.head } else { self.patience.idle });
        let mut begun = started;
        let head = poll_fn(|cx| {
            loop {
                match reader.take_head() {
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(NoRequest::Malformed(error))),
                }
                match reader.poll_fill_head(cx) {
                    Poll::Ready(Ok(0)) if reader.buf.is_empty() => {
                        return Poll::Ready(Err(NoRequest::Closed(None)));
                    }
                    Poll::Ready(Err(error)) if reader.buf.is_empty() => {
                        return Poll::Ready(Err(NoRequest::Closed(Some(error))));
                    }
                    // In order or not, it broke off in a head: something was asked.
                    Poll::Ready(Ok(0) | Err(_)) => {
                        return Poll::Ready(Err(NoRequest::Malformed(HeadError::RequestLine)));
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        // A head that comes in one piece, as most do, needs no clock of its own.
                        if !begun && !reader.buf.is_empty() {
                            begun = true;
                            reader.clock.set(self.patience.head);
                        }
                        ready!(reader.clock.poll_expired(cx));
                        return Poll::Ready(Err(if begun {
                            NoRequest::Slow
                        } else {
                            NoRequest::Closed(None)
                        }));
                    }
                }
            }
        })
        .await;
        reader.clock.stop();
        head
    }

    /// Reads the head that came.
    pub fn read(&mut self, raw: Bytes) -> Result<RequestHead, NoRequest> {
        let head = RequestHead::parse_after(raw, self.authority.as_ref()).map_err(NoRequest::Malformed)?;
        if self.authority.as_ref() != Some(head.authority()) {
            self.authority = Some(head.authority().clone());
        }
        Ok(head)
    }

    /// The way to the body of the request that came.
    pub fn body(&mut self, framing: Framing) -> Incoming<S> {
        let decoder = Decoder::new(framing);
        let reader = if decoder.is_done() { None } else { self.reader.take() };
        let client = self.writer.half();
        Incoming { reader, slot: Arc::clone(&self.slot), client, decoder, idle: self.patience.body }
    }

    /// Takes the reader back from an [`Incoming`] that is done or gone.
    fn reclaim(&mut self) -> bool {
        if self.reader.is_none()
            && let Some((reader, clean)) = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            self.reader = Some(reader);
            return clean;
        }
        self.reader.is_some()
    }

    /// Runs `work`, unless the client goes away first: then `None`, and `work` is dropped.
    pub async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            self.reclaim();
            match &mut self.reader {
                // A client that pipelines far ahead is read again when its turn comes.
                Some(reader) if reader.buf.len() < 8 * 1024 && !reader.eof => match reader.poll_fill_head(cx)
                {
                    Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(None),
                    Poll::Ready(Ok(_)) => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    Poll::Pending => Poll::Pending,
                },
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Writes an answer that is whole already: head, framing and body.
    pub async fn answer_whole(&mut self, answer: &[u8]) -> io::Result<()> {
        self.writer.out.put_slice(answer);
        self.flush().await
    }

    /// Passes an origin's answer on, all but the bytes still in the write buffer when it ends: [`Self::flush`] sends
    /// those, after the record is written. After an error the connection must be dropped, not closed: the client is to
    /// see that the answer broke off. Cancel safe, as far as [`Self::carried`] goes.
    pub async fn pass<B>(&mut self, passed: Passed<'_>, body: &mut B) -> Result<(), AnswerError<B::Error>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut encoder = Encoder::keep(passed.head.framing());
        if passed.to == Version::Http10 && encoder == Encoder::Chunked {
            encoder = Encoder::UntilClose;
        }
        put_answer(&passed, encoder, &mut self.writer.out);
        let idle = self.patience.body;
        let (writer, carried) = (&mut self.writer, &mut self.carried);
        *carried = 0;
        let mut trailers = None;
        let passed = poll_fn(|cx| {
            while !body.is_end_stream() {
                if writer.is_full() {
                    ready!(writer.poll_flush_within(cx, idle)).map_err(AnswerError::Client)?;
                }
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            *carried += data.len() as u64;
                            encoder.data(&data, &mut writer.out).map_err(AnswerError::Framing)?;
                        }
                        Err(frame) => trailers = frame.into_trailers().ok(),
                    },
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(AnswerError::Origin(error))),
                    Poll::Ready(None) => break,
                    Poll::Pending => {
                        ready!(writer.poll_flush_within(cx, idle)).map_err(AnswerError::Client)?;
                        return Poll::Pending;
                    }
                }
            }
            encoder.end(trailers.as_ref(), &mut writer.out).map_err(AnswerError::Framing)?;
            Poll::Ready(Ok(()))
        })
        .await;
        if let Err(AnswerError::Client(_)) = passed {
            // What still stood in the buffer never went out.
            self.carried = self.carried.saturating_sub(self.writer.out.len() as u64);
        }
        passed
    }

    /// Body bytes of the last answer, as far as they went on.
    pub fn carried(&self) -> u64 {
        self.carried
    }

    /// Passes a 101 on, and gives the connection up to what was agreed on; with what came early.
    pub fn switch(mut self, head: &ResponseHead) -> Option<(Reader<S>, Writer<S>)> {
        put_switch(head, &mut self.writer.out);
        self.reclaim();
        self.reader.map(|reader| (*reader, self.writer))
    }

    /// Sends what is in the write buffer.
    pub async fn flush(&mut self) -> io::Result<()> {
        let idle = self.patience.body;
        poll_fn(|cx| self.writer.poll_flush_within(cx, idle)).await
    }

    /// Bytes of an answer that broke off are shown as far as they came, so that the client sees the break.
    pub async fn show_break(mut self) {
        let _ = self.flush().await;
    }

    /// Whether the last request was read to its end, so that another may follow.
    pub fn is_clean(&mut self) -> bool {
        self.reclaim()
    }

    /// Ends the connection in order. A client that still sends is read for a while, else a reset takes the answer
    /// from it.
    pub async fn close(mut self) {
        self.reclaim();
        if tokio::time::timeout(DRAIN_TIME, self.writer.shutdown()).await.is_err() {
            return;
        }
        let Some(mut reader) = self.reader else { return };
        let drain = poll_fn(|cx| {
            let mut drained = 0;
            while drained < DRAIN_BYTES && !reader.eof {
                reader.buf.clear();
                match ready!(reader.poll_fill_body(cx)) {
                    Ok(n) => drained += n,
                    Err(_) => break,
                }
            }
            Poll::Ready(())
        });
        let _ = tokio::time::timeout(DRAIN_TIME, drain).await;
    }
}

/// A request's body, read off the client's connection as it is asked for.
pub struct Incoming<S: Io> {
    reader: Option<Box<Reader<S>>>,
    slot: Slot<S>,
    client: Half<S>,
    decoder: Decoder,
    idle: Duration,
}

impl<S: Io> Incoming<S> {
    fn give_back(&mut self, clean: bool) {
        if let Some(mut reader) = self.reader.take() {
            reader.clock.stop();
            reader.release_if_empty();
            *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((reader, clean));
        }
    }
}

impl<S: Io> Drop for Incoming<S> {
    fn drop(&mut self) {
        self.give_back(false);
    }
}

impl<S: Io> Inbound for Incoming<S> {
    async fn interim(&mut self, head: &[u8]) -> Result<(), BodyError> {
        let told = tokio::time::timeout(self.idle, self.client.say(head)).await;
        told.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(BodyError::Gone)
    }
}

impl<S: Io> Body for Incoming<S> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(reader) = &mut this.reader else { return Poll::Ready(None) };
        loop {
            match this.decoder.step(&mut reader.buf, reader.eof) {
                Ok(Step::Data { len, last }) => {
                    let data = reader.buf.split_to(len).freeze();
                    reader.clock.stop();
                    if last {
                        this.give_back(true);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Step::End(trailers)) => {
                    this.give_back(true);
                    return Poll::Ready(trailers.map(|map| Ok(Frame::trailers(map))));
                }
                Ok(Step::More) => {}
                Err(error) => {
                    this.give_back(false);
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
            match reader.poll_fill_body(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    this.give_back(false);
                    return Poll::Ready(Some(Err(BodyError::Gone(error))));
                }
                Poll::Pending => {
                    if !reader.clock.is_set() {
                        reader.clock.set(this.idle);
                    }
                    ready!(reader.clock.poll_expired(cx));
                    this.give_back(false);
                    return Poll::Ready(Some(Err(BodyError::Idle(this.idle))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.reader.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.reader, self.decoder.remaining()) {
            (None, _) => SizeHint::with_exact(0),
            (_, Some(left)) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }
}

/// Whether a request's body, as framed, is empty.
pub fn is_bodiless(framing: Framing) -> bool {
    matches!(framing, Framing::None | Framing::Length(0))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_client_that_takes_no_interim_answer_is_not_waited_for_for_ever() {
        let (near, mut far) = tokio::io::duplex(128);
        let second = Duration::from_secs(1);
        let patience = Patience { head: second, idle: second, body: Duration::from_millis(20) };
        let mut client = Connection::new(near, patience);
        far.write_all(b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\n").await.unwrap();
        let Ok(raw) = client.next().await else { panic!("no request") };
        let Ok(head) = client.read(raw) else { panic!("no request") };
        let mut body = client.body(head.framing());
        body.interim(&[b'x'; 100]).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(10), body.interim(&[b'x'; 100])).await;
        let gone = waited.expect("it ends").unwrap_err();
        assert!(matches!(&gone, BodyError::Gone(error) if error.kind() == io::ErrorKind::TimedOut), "{gone}");
    }
}
