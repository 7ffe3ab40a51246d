//! The canonical request and the string to sign (IAM User Guide, "Create a signed request").
//!
//! Written into one buffer and hashed in one go: for texts of this size that costs less than feeding a hash
//! context piece by piece, and `explain` shows the very bytes that were hashed.

use std::borrow::Cow;

use aws_lc_rs::digest;

use super::Refusal;
use super::claim::{Algorithm, Scope};
use super::fields::SignedFields;
use super::percent::{self, Plus};
use crate::engine::hex;
use crate::engine::reason::Reason;

/// What signing rests on, apart from the path's form and the payload.
#[derive(Debug)]
pub struct Parts<'p> {
    pub method: &'p str,
    /// As sent, `/...`.
    pub path: &'p [u8],
    pub query: Query<'p>,
    pub fields: SignedFields<'p>,
}

/// What a service makes of the path before it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathForm {
    /// The S3 family.
    AsSent,
    /// The S3 family, where the client sent bytes raw that it signed as escapes: decoded, then encoded. Names the
    /// same key as the path sent.
    Recoded,
    /// Everybody else: escapes are escaped again.
    EncodedAgain,
}

impl PathForm {
    pub(super) fn write(self, path: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::AsSent => out.extend_from_slice(path),
            Self::Recoded => out.extend_from_slice(&recoded(path)),
            Self::EncodedAgain => percent::encode(out, path, true),
        }
    }
}

impl Parts<'_> {
    /// The canonical request; `payload` is the digest's text or the word that stands for it.
    pub fn text(&self, form: PathForm, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + self.path.len() + self.fields.len());
        out.extend_from_slice(self.method.as_bytes());
        out.push(b'\n');
        form.write(self.path, &mut out);
        out.push(b'\n');
        self.query.write(&mut out);
        out.push(b'\n');
        self.fields.write(&mut out);
        out.push(b'\n');
        out.extend_from_slice(self.fields.names().as_bytes());
        out.push(b'\n');
        out.extend_from_slice(payload);
        out
    }
}

/// Algorithm, date, scope and the canonical request's digest, a line each.
pub fn string_to_sign(
    algorithm: Algorithm,
    date: impl AsRef<[u8]>,
    scope: &Scope<'_>,
    canonical: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(192);
    write_string_to_sign(&mut out, algorithm, date.as_ref(), scope, &sha256(canonical));
    out
}

/// The same, for a digest that is known.
pub(super) fn write_string_to_sign(
    out: &mut Vec<u8>,
    algorithm: Algorithm,
    date: &[u8],
    scope: &Scope<'_>,
    canonical: &[u8; 32],
) {
    for part in [algorithm.as_str().as_bytes(), b"\n", date, b"\n"] {
        out.extend_from_slice(part);
    }
    scope.write(algorithm, out);
    out.push(b'\n');
    out.extend_from_slice(&hex::write(canonical));
}

pub fn sha256(data: &[u8]) -> [u8; 32] {
    if data.is_empty() {
        return EMPTY; // what most requests carry
    }
    let mut value = [0; 32];
    value.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    value
}

/// SHA-256 of nothing.
const EMPTY: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// `encode(decode(path))`, the path itself where an escape is malformed.
pub fn recoded(path: &[u8]) -> Cow<'_, [u8]> {
    percent::canonical(path, true, Plus::Literal).unwrap_or(Cow::Borrowed(path))
}

/// Refuses paths that this proxy, the signer and the service could read differently.
pub fn judge_path(path: &[u8], s3: bool) -> Result<(), Refusal> {
    let refuse = |said: &str| Err(Refusal::new(Reason::SigV4Path, said));
    if path.first() != Some(&b'/') {
        return refuse("a signed request needs a path");
    }
    if s3 {
        if path.contains(&b'+') {
            return refuse("raw `+` in an S3 path may mean a space or a plus");
        }
        if percent::decode(path, Plus::Literal).is_none() {
            return refuse("path has a malformed percent escape");
        }
        return Ok(());
    }
    // `/a/../b` and `/b` have one signature here, so only paths that have nothing to normalise are read.
    let mut segments = path[1..].split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return refuse("path has an empty segment");
        }
        match percent::decode(segment, Plus::Literal) {
            None => return refuse("path has a malformed percent escape"),
            Some(decoded) if *decoded == *b"." || *decoded == *b".." => {
                return refuse("path has a dot segment");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// A query in canonical form: names and values encoded, ordered by name, then value.
#[derive(Debug, Default)]
pub struct Query<'q>(Vec<Parameter<'q>>);

/// Name and value, encoded.
type Parameter<'q> = (Cow<'q, [u8]>, Cow<'q, [u8]>);

impl<'q> Query<'q> {
    /// Everything after the `?`. `leave_out`: parameters that aren't signed (`X-Amz-Signature`).
    pub fn parse(raw: &'q [u8], leave_out: &[&str]) -> Result<Self, Refusal> {
        let mut parameters = Vec::new();
        for piece in raw.split(|&b| b == b'&').filter(|piece| !piece.is_empty()) {
            let (name, value) = halves(piece);
            let canonical = |part| {
                percent::canonical(part, false, Plus::Space).ok_or_else(|| {
                    Refusal::new(Reason::SigV4Malformed, "query has a malformed percent escape")
                })
            };
            let (name, value) = (canonical(name)?, canonical(value)?);
            if !leave_out.iter().any(|left_out| *name == *left_out.as_bytes()) {
                parameters.push((name, value));
            }
        }
        parameters.sort_unstable();
        Ok(Self(parameters))
    }

    /// Encoded names, in order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(name, _)| &**name)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (at, (name, value)) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(b'&');
            }
            out.extend_from_slice(name);
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
}

/// Name and value of one query piece; a bare name has an empty value.
pub fn halves(piece: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'=', piece) {
        Some(at) => (&piece[..at], &piece[at + 1..]),
        None => (piece, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Result<String, Refusal> {
        let mut out = Vec::new();
        Query::parse(raw.as_bytes(), &["X-Amz-Signature"])?.write(&mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_query_is_ordered_by_encoded_name_then_encoded_value() {
        for (raw, want) in [
            ("", ""),
            ("acl", "acl="),
            ("b=1&a=2&&a=1", "a=1&a=2&b=1"),
            ("t=b&t=a&t=B", "t=B&t=a&t=b"),
            ("a%2Fb=&a-b=", "a%2Fb=&a-b="),
            ("a-b=&a=", "a=&a-b="),
            ("k=a+b&k=a%2bb", "k=a%20b&k=a%2Bb"),
            ("k=a=b", "k=a%3Db"),
            ("k=%ff", "k=%FF"),
            ("X-Amz-Signature=00&x-amz-signature=1", "x-amz-signature=1"),
        ] {
            assert_eq!(query(raw).unwrap(), want, "{raw}");
        }
        assert_eq!(query("a=%4").unwrap_err().reason, Reason::SigV4Malformed);
    }

    #[test]
    fn invalid_utf8_and_the_replacement_character_sign_differently() {
        assert_ne!(query("a=%FF").unwrap(), query("a=%EF%BF%BD").unwrap());
    }

    #[test]
    fn other_services_refuse_paths_that_need_normalising_and_s3_does_not() {
        for path in ["/", "/a", "/a/", "/a/b%2Fc", "/...", "/a/.b", "/%252e"] {
            assert!(judge_path(path.as_bytes(), false).is_ok(), "{path}");
        }
        for path in ["//", "/a//b", "//a", "/.", "/a/..", "/a/../b", "/%2e", "/a/.%2E/b", "/%2e%2e", "/a//"] {
            assert_eq!(judge_path(path.as_bytes(), false).unwrap_err().reason, Reason::SigV4Path, "{path}");
            assert!(judge_path(path.as_bytes(), true).is_ok(), "{path}");
        }
        for path in ["*", "", "/a%", "/a%2", "/%zz"] {
            assert!(judge_path(path.as_bytes(), false).is_err(), "{path}");
            assert!(judge_path(path.as_bytes(), true).is_err(), "{path}");
        }
        assert!(judge_path(b"/a+b", true).is_err() && judge_path(b"/a%2Bb", true).is_ok());
    }
}
