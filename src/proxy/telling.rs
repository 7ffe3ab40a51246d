//! Keeps what passes of a call's bodies, where the settings want its parameters or results recorded.
//!
//! Only calls with a rule have one; nobody else's bytes are looked at.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Worker;
use crate::engine::data::{MOST_READ, Wish};
use crate::engine::facts::{Operation, Protocol};
use crate::engine::request::RequestHead;
use crate::record::{Entry, Recorder};

/// What is wanted of one call, and its bodies so far.
pub struct Telling {
    recorder: Recorder,
    wish: Arc<Wish>,
    protocol: Protocol,
    query: String,
    sent: Mutex<Vec<u8>>,
    answered: Mutex<Vec<u8>>,
}

impl Telling {
    /// `None` where nothing is wanted, as by default.
    pub fn of(worker: &Worker, head: &RequestHead, operation: Option<&Operation>) -> Option<Box<Self>> {
        let wish = worker.recorder.data_rules()?.wish(operation, head)?;
        Some(Box::new(Self {
            recorder: worker.recorder.clone(),
            wish,
            protocol: operation.map_or(Protocol::Http, |operation| operation.protocol),
            query: head.query().unwrap_or_default().to_owned(),
            sent: Mutex::default(),
            answered: Mutex::default(),
        }))
    }

    /// A piece of the request's body went by.
    pub fn sent(&self, data: &[u8]) {
        keep(&self.sent, data);
    }

    /// Gives the record what is wanted of what went by.
    pub fn tell(&self, entry: &mut Entry) {
        let Some(rules) = self.recorder.data_rules() else { return };
        let parameters = rules.parameters(&self.wish, self.protocol, &self.query, &lock(&self.sent));
        let results = rules.results(&self.wish, self.protocol, &lock(&self.answered));
        entry.tell(parameters.as_ref(), results.as_ref());
    }
}

/// One byte more than is read tells that there was more.
fn keep(bytes: &Mutex<Vec<u8>>, data: &[u8]) {
    let mut bytes = lock(bytes);
    let room = (MOST_READ + 1).saturating_sub(bytes.len());
    bytes.extend_from_slice(&data[..data.len().min(room)]);
}

fn lock(bytes: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer's body on its way to the client, overheard.
pub struct Overheard<'a, B> {
    body: &'a mut B,
    telling: Option<&'a Telling>,
}

impl<'a, B> Overheard<'a, B> {
    pub fn new(body: &'a mut B, telling: Option<&'a Telling>) -> Self {
        Self { body, telling }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Overheard<'_, B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut *self.body).poll_frame(cx);
        if let Some(telling) = self.telling
            && let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            keep(&telling.answered, data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
