//! The chain of chunk signatures: each covers its chunk and the signature before it, the first the request's own.
//!
//! ```text
//! AWS4-HMAC-SHA256-PAYLOAD \n date \n scope \n previous \n sha256("") \n sha256(chunk)
//! AWS4-HMAC-SHA256-TRAILER \n date \n scope \n previous \n sha256("name:value\n")
//! ```
//! In version 4A the same, with its algorithm's name and its scope.

use super::claim::{Algorithm, Scope};
use super::hex;
use super::keys::Checker;

/// SHA-256 of nothing: where a chunk would sign header fields, if chunks had any.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Where a chain stands. A signature that doesn't hold leaves it there.
#[derive(Debug, Clone)]
pub struct Chain {
    checker: Checker,
    date: Box<str>,
    /// Without the key id: `date/region/service/aws4_request`.
    scope: Box<[u8]>,
    /// As text, lower-case hex.
    previous: String,
}

impl Chain {
    /// `seed`: the signature of the request itself, which has been verified with `checker`.
    pub fn new(checker: Checker, date: &str, scope: &Scope<'_>, seed: &str) -> Self {
        let mut text = Vec::with_capacity(64);
        scope.write(checker.algorithm(), &mut text);
        Self { checker, date: date.into(), scope: text.into(), previous: seed.into() }
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

    fn link(&mut self, kind: &str, digests: &[&[u8]], signature: &str) -> bool {
        let mut text = Vec::with_capacity(320);
        text.extend_from_slice(self.checker.algorithm().as_str().as_bytes());
        text.extend_from_slice(kind.as_bytes());
        let lines = [self.date.as_bytes(), &self.scope, self.previous.as_bytes()];
        for line in lines.iter().chain(digests) {
            text.push(b'\n');
            text.extend_from_slice(line);
        }
        let signature = match self.checker.algorithm() {
            Algorithm::Hmac => signature,
            // Signatures of ECDSA differ in length; in a chunk they are padded to the longest.
            Algorithm::Ecdsa => signature.trim_end_matches('*'),
        };
        let holds = self.checker.holds(&text, signature);
        if holds {
            self.previous.clear();
            self.previous.push_str(signature);
        }
        holds
    }
}
