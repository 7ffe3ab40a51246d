//! The chain of chunk signatures: each covers its chunk and the signature before it, the first the request's own.
//!
//! ```text
//! AWS4-HMAC-SHA256-PAYLOAD \n date \n scope \n previous \n sha256("") \n sha256(chunk)
//! AWS4-HMAC-SHA256-TRAILER \n date \n scope \n previous \n sha256("name:value\n")
//! ```
//! In version 4A the same, with its algorithm's name and its scope; of an event, its `:date` stands where a chunk has
//! nothing. A chain under a [`Checker`] is read, one under a [`Maker`] is written (`resign.rs`).

use super::canonical::sha256;
use super::claim::{Algorithm, Scope};
use super::keys::{Cached, Checker, Maker};
use crate::engine::facts::{Secret, Timestamp};
use crate::engine::hex;

/// SHA-256 of nothing: where a chunk would sign header fields, if chunks had any.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Where a chain stands. After a signature that doesn't hold it is of no use.
#[derive(Debug, Clone)]
pub struct Chain<K = Checker> {
    key: K,
    algorithm: Algorithm,
    date: Box<[u8]>,
    /// Without the key id: `date/region/service/aws4_request`.
    scope: Box<[u8]>,
    /// As text, lower-case hex.
    previous: String,
    /// For chains that may go on past midnight, where the scope changes: what the next day's key comes from.
    renewal: Option<Renewal>,
}

#[derive(Debug, Clone)]
struct Renewal {
    secret: Secret,
    region: Box<str>,
    service: Box<str>,
}

impl<K> Chain<K> {
    /// `seed`: the signature of the request itself, which `key` holds for.
    pub fn new(key: K, algorithm: Algorithm, date: &[u8], scope: &Scope<'_>, seed: &str) -> Self {
        let scope = written(scope, algorithm);
        Self { key, algorithm, date: date.into(), scope, previous: seed.into(), renewal: None }
    }

    /// A chain of events, each with a date of its own.
    pub fn of_events(self, secret: &Secret, scope: &Scope<'_>) -> Self {
        let renewal =
            Renewal { secret: secret.clone(), region: scope.region.into(), service: scope.service.into() };
        Self { renewal: Some(renewal), ..self }
    }

    /// On to an event's date, and to its day's key. `None` where there can be no such event.
    fn turn_to(&mut self, at: Timestamp) -> Option<()>
    where
        K: From<Cached>,
    {
        let text = date_text(at)?;
        if text.as_bytes()[..8] != self.date[..8] {
            let Renewal { secret, region, service } = self.renewal.as_ref()?;
            let scope = Scope { date: &text[..8], region, service };
            self.key = Cached::derive(secret, &scope).into();
            self.scope = written(&scope, Algorithm::Hmac);
        }
        self.date = text.into_bytes().into();
        Some(())
    }

    /// What the next signature is of.
    fn text(&self, kind: &str, digests: &[&[u8]]) -> Vec<u8> {
        let mut text = Vec::with_capacity(320);
        text.extend_from_slice(self.algorithm.as_str().as_bytes());
        text.extend_from_slice(kind.as_bytes());
        let lines = [&*self.date, &self.scope, self.previous.as_bytes()];
        for line in lines.iter().chain(digests) {
            text.push(b'\n');
            text.extend_from_slice(line);
        }
        text
    }
}

impl Chain {
    /// The next chunk's signature holds over data of this digest.
    pub fn chunk(&mut self, data: &[u8; 32], signature: &str) -> bool {
        self.link("-PAYLOAD", &[EMPTY.as_bytes(), &hex::write(data)], signature)
    }

    /// The signature after the trailers holds over their digest.
    pub fn trailer(&mut self, trailers: &[u8; 32], signature: &str) -> bool {
        self.link("-TRAILER", &[&hex::write(trailers)], signature)
    }

    /// The next event's signature holds over its `:date` header, as encoded, and a payload of this digest.
    pub fn event(&mut self, at: Timestamp, date: &[u8], payload: &[u8; 32], signature: &[u8; 32]) -> bool {
        let signature = hex::write(signature);
        // INVARIANT: hex digits are ASCII.
        let signature = std::str::from_utf8(&signature).unwrap_or_default();
        self.turn_to(at).is_some()
            && self.link("-PAYLOAD", &[&hex::write(&sha256(date)), &hex::write(payload)], signature)
    }

    fn link(&mut self, kind: &str, digests: &[&[u8]], signature: &str) -> bool {
        let signature = match self.algorithm {
            Algorithm::Hmac => signature,
            // Signatures of ECDSA differ in length; in a chunk they are padded to the longest.
            Algorithm::Ecdsa => signature.trim_end_matches(PADDING),
        };
        let holds = self.key.holds(&self.text(kind, digests), signature);
        if holds {
            self.previous.clear();
            self.previous.push_str(signature);
        }
        holds
    }
}

impl Chain<Maker> {
    /// The next chunk's signature, padded to `room` digits. `None` where there is no room for one.
    pub fn chunk(&mut self, data: &[u8; 32], room: usize) -> Option<String> {
        self.add("-PAYLOAD", &[EMPTY.as_bytes(), &hex::write(data)], room)
    }

    /// The signature after the trailers, likewise.
    pub fn trailer(&mut self, trailers: &[u8; 32], room: usize) -> Option<String> {
        self.add("-TRAILER", &[&hex::write(trailers)], room)
    }

    /// The next event's.
    pub fn event(&mut self, at: Timestamp, date: &[u8], payload: &[u8; 32]) -> Option<[u8; 32]> {
        self.turn_to(at)?;
        let digests = [hex::write(&sha256(date)), hex::write(payload)];
        hex::parse(self.add("-PAYLOAD", &[&digests[0], &digests[1]], 64)?.as_bytes())
    }

    fn add(&mut self, kind: &str, digests: &[&[u8]], room: usize) -> Option<String> {
        self.previous = self.key.sign(&self.text(kind, digests), room)?;
        let mut padded = self.previous.clone();
        padded.extend(std::iter::repeat_n(PADDING, room.checked_sub(padded.len())?));
        // Nobody pads a HMAC's.
        (self.algorithm == Algorithm::Ecdsa || padded == self.previous).then_some(padded)
    }
}

const PADDING: char = '*';

fn written(scope: &Scope<'_>, algorithm: Algorithm) -> Box<[u8]> {
    let mut text = Vec::with_capacity(64);
    scope.write(algorithm, &mut text);
    text.into()
}

/// `YYYYMMDDTHHMMSSZ`.
pub(super) fn date_text(at: Timestamp) -> Option<String> {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    time::OffsetDateTime::from_unix_timestamp(at.0).ok()?.format(format).ok().filter(|text| text.len() == 16)
}
