//! The chain of chunk signatures: each covers its chunk and the signature before it, the first the request's own.
//!
//! ```text
//! AWS4-HMAC-SHA256-PAYLOAD \n date \n scope \n previous \n sha256("") \n sha256(chunk)
//! AWS4-HMAC-SHA256-TRAILER \n date \n scope \n previous \n sha256("name:value\n")
//! ```
//! In version 4A the same, with its algorithm's name and its scope.

use super::canonical::sha256;
use super::claim::{Algorithm, Scope};
use super::keys::Checker;
use crate::engine::facts::{Secret, Timestamp};
use crate::engine::hex;

/// SHA-256 of nothing: where a chunk would sign header fields, if chunks had any.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Where a chain stands. After a signature that doesn't hold it is of no use.
#[derive(Debug, Clone)]
pub struct Chain {
    checker: Checker,
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

impl Chain {
    /// `seed`: the signature of the request itself, which has been verified with `checker`.
    pub fn new(checker: Checker, date: &[u8], scope: &Scope<'_>, seed: &str) -> Self {
        let mut text = Vec::with_capacity(64);
        scope.write(checker.algorithm(), &mut text);
        Self { checker, date: date.into(), scope: text.into(), previous: seed.into(), renewal: None }
    }

    /// A chain of events, each with a date of its own.
    pub fn of_events(self, secret: &Secret, scope: &Scope<'_>) -> Self {
        let renewal =
            Renewal { secret: secret.clone(), region: scope.region.into(), service: scope.service.into() };
        Self { renewal: Some(renewal), ..self }
    }

    /// The next chunk's signature holds over data of this digest.
    pub fn chunk(&mut self, data: &[u8; 32], signature: &str) -> bool {
        let digest = hex::write(data);
        self.link("-PAYLOAD", &[EMPTY.as_bytes(), &digest], signature)
    }

    /// The signature after the trailers holds over their digest.
    pub fn trailer(&mut self, trailers: &[u8; 32], signature: &str) -> bool {
        let digest = hex::write(trailers);
        self.link("-TRAILER", &[&digest], signature)
    }

    /// The next event's signature holds over its `:date` header, as encoded, and a payload of this digest.
    pub fn event(&mut self, at: Timestamp, date: &[u8], payload: &[u8; 32], signature: &[u8; 32]) -> bool {
        let Some(text) = date_text(at) else { return false };
        if text.as_bytes()[..8] != self.date[..8] {
            let Some(Renewal { secret, region, service }) = &self.renewal else { return false };
            let scope = Scope { date: &text[..8], region, service };
            self.checker = Checker::derive(secret, &scope);
            let mut written = Vec::with_capacity(64);
            scope.write(self.checker.algorithm(), &mut written);
            self.scope = written.into();
        }
        self.date = text.into_bytes().into();
        let (date, payload) = (hex::write(&sha256(date)), hex::write(payload));
        let signature = hex::write(signature);
        // INVARIANT: hex digits are ASCII.
        let signature = std::str::from_utf8(&signature).unwrap_or_default();
        self.link("-PAYLOAD", &[&date, &payload], signature)
    }

    /// The next chunk's signature, of a chain that is being made.
    pub fn sign_chunk(&mut self, data: &[u8; 32]) -> Option<String> {
        let digest = hex::write(data);
        self.sign("-PAYLOAD", &[EMPTY.as_bytes(), &digest])
    }

    /// The signature after the trailers, likewise.
    pub fn sign_trailer(&mut self, trailers: &[u8; 32]) -> Option<String> {
        let digest = hex::write(trailers);
        self.sign("-TRAILER", &[&digest])
    }

    /// `None` in version 4A: its signatures differ in length, so a body would change its own.
    fn sign(&mut self, kind: &str, digests: &[&[u8]]) -> Option<String> {
        let signature = hex::text(&self.checker.sign(&self.text(kind, digests))?);
        self.previous.clone_from(&signature);
        Some(signature)
    }

    fn text(&self, kind: &str, digests: &[&[u8]]) -> Vec<u8> {
        let mut text = Vec::with_capacity(320);
        text.extend_from_slice(self.checker.algorithm().as_str().as_bytes());
        text.extend_from_slice(kind.as_bytes());
        let lines = [&*self.date, &self.scope, self.previous.as_bytes()];
        for line in lines.iter().chain(digests) {
            text.push(b'\n');
            text.extend_from_slice(line);
        }
        text
    }

    fn link(&mut self, kind: &str, digests: &[&[u8]], signature: &str) -> bool {
        let signature = match self.checker.algorithm() {
            Algorithm::Hmac => signature,
            // Signatures of ECDSA differ in length; in a chunk they are padded to the longest.
            Algorithm::Ecdsa => signature.trim_end_matches('*'),
        };
        let holds = self.checker.holds(&self.text(kind, digests), signature);
        if holds {
            self.previous.clear();
            self.previous.push_str(signature);
        }
        holds
    }
}

/// `YYYYMMDDTHHMMSSZ`.
fn date_text(at: Timestamp) -> Option<String> {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    time::OffsetDateTime::from_unix_timestamp(at.0).ok()?.format(format).ok().filter(|text| text.len() == 16)
}
