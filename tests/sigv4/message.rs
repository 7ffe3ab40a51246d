//! A request in the hands of a test: read as leniently as vectors are written, changed, and put on the wire.

use std::path::PathBuf;

use bytes::Bytes;
use exeat::engine::facts::Secret;
use exeat::engine::request::{HeadError, RequestHead};
use exeat::engine::signature::{Claim, Clock, KnownKey, KnownKeys, Reading, Refusal, Verdict, read};

pub fn vectors(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sigv4").join(path)
}

/// A vector file's text, without the line ends at its end.
pub fn text(path: &str) -> String {
    let path = vectors(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim_end_matches(['\r', '\n']).to_owned()
}

#[derive(Debug, Clone, Default)]
pub struct Message {
    pub method: String,
    pub target: Vec<u8>,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Message {
    /// Request line up to its last ` HTTP/1.1`, if any; LF line ends; folded lines joined with what folds them.
    pub fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let line = lines.next().unwrap();
        let (method, target) = line.split_once(' ').unwrap();
        let target = target.strip_suffix(" HTTP/1.1").unwrap_or(target);
        let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
        for line in lines {
            if line.starts_with(' ') {
                fields.last_mut().unwrap().1.extend(line.as_bytes());
            } else {
                let (name, value) = line.split_once(':').unwrap();
                fields.push((name.to_owned(), value.trim().into()));
            }
        }
        let body = body.trim_end_matches('\n').into();
        Self { method: method.to_owned(), target: target.into(), fields, body }
    }

    pub fn path(&self) -> &[u8] {
        self.target.split(|&b| b == b'?').next().unwrap()
    }

    pub fn query(&self) -> &[u8] {
        let path = self.path().len();
        self.target.get(path + 1..).unwrap_or_default()
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| std::str::from_utf8(value).unwrap())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.fields.push((name.to_owned(), value.into()));
    }

    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    pub fn wire(&self) -> Vec<u8> {
        let mut wire = [self.method.as_bytes(), b" ", &self.target, b" HTTP/1.1\r\n"].concat();
        for (name, value) in &self.fields {
            wire.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        wire.extend(b"\r\n");
        wire
    }

    pub fn head(&self) -> Result<RequestHead, HeadError> {
        RequestHead::parse(Bytes::from(self.wire()))
    }

    /// Reads and verifies as the proxy does: the body is shown only to a claim that needs it.
    pub fn verify(&self, keys: &KnownKeys, now: impl Into<Clock>) -> Result<Verdict, Refusal> {
        let head = self.head().unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.wire())));
        let claim = signed(&head)?;
        claim.verify(claim.needs_body().then_some(&self.body), keys, now)
    }
}

/// The claim of a signed request.
pub fn signed(head: &RequestHead) -> Result<Claim<'_>, Refusal> {
    match read(head)? {
        Reading::Signed(claim) => Ok(claim),
        Reading::Unsigned(auth) => panic!("read as {auth}"),
        Reading::Form => panic!("read as a form"),
    }
}

pub fn keys(id: &str, secret: &str, token: Option<&str>) -> KnownKeys {
    KnownKeys::new([KnownKey::new(
        id,
        Secret::new(secret.as_bytes()),
        token.map(|t| Secret::new(t.as_bytes())),
    )])
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
