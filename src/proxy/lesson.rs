//! Reads a learned key off an answer while it passes.
//!
//! The answer is held until it is whole, so that nobody can use the key before it is known here; it is 2 KiB long, and
//! one that grows past 64 KiB goes on unread. The leg it came over is always one whose TLS was verified: there is no
//! other ([`super::OriginStream`]).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use zeroize::Zeroizing;

use crate::engine::request::ResponseHead;
use crate::engine::signature::KnownKeys;
use crate::engine::signature::lesson::{Lesson, MAX_ANSWER};

/// An answer's body that is looked at on its way.
pub struct Taught<'a, B> {
    body: &'a mut B,
    /// `None` where there is nothing to learn (any more).
    lesson: Option<Lesson>,
    keys: &'a ArcSwap<KnownKeys>,
    held: VecDeque<Bytes>,
    len: usize,
    trailers: Option<HeaderMap>,
}

/// Only the plain text of a success is read.
pub fn taught<'a, B>(
    lesson: Option<Lesson>,
    keys: &'a ArcSwap<KnownKeys>,
    head: &ResponseHead,
    body: &'a mut B,
) -> Taught<'a, B> {
    let plain = head.first("content-encoding").is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
    let lesson = lesson.filter(|_| head.status() == 200 && plain);
    Taught { body, lesson, keys, held: VecDeque::new(), len: 0, trailers: None }
}

impl<B> Taught<'_, B> {
    /// The answer is whole: the key is known before its last byte goes on.
    fn learn(&mut self) {
        let Some(lesson) = self.lesson.take() else { return };
        let mut whole = Zeroizing::new(Vec::with_capacity(self.len));
        self.held.iter().for_each(|piece| whole.extend_from_slice(piece));
        let now = crate::tls::now();
        if let Some(key) = lesson.read(&whole, now) {
            let key = Arc::new(key);
            self.keys.rcu(|keys| keys.with_learned(&key, now));
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Taught<'_, B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        while this.lesson.is_some() {
            if this.body.is_end_stream() {
                this.learn();
                break;
            }
            match ready!(Pin::new(&mut *this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.len += data.len();
                        this.held.push_back(data);
                        if this.len > MAX_ANSWER {
                            this.lesson = None;
                        }
                    }
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok();
                        this.learn();
                    }
                },
                // What came of a broken answer is shown as far as it came; nothing is learned of it.
                Some(Err(error)) => {
                    this.lesson = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => this.learn(),
            }
        }
        if let Some(data) = this.held.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = this.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut *this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.lesson.is_none() && self.held.is_empty() && self.trailers.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
