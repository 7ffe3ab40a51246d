//! A signed body in another name: the same chunks, each with the signature that the new chain gives it.
//!
//! Comes behind the check of the client's own signatures, so what it is given is aws-chunked as `chunked.rs` reads it, or
//! events as `events.rs` does. A signature has the length of the one it replaces: the body keeps its own. Keeps one
//! chunk, since its signature stands before it: 16 MiB at most, as in the check.

use super::super::canonical::sha256;
use super::super::chain::Chain;
use super::super::chunked::MAX_SIGNED_CHUNK;
use super::super::keys::Maker;
use super::events::Events;

const MARK: &[u8] = b"chunk-signature=";
const TRAILER_MARK: &[u8] = b"x-amz-trailer-signature:";
/// Of a line; the check's own bounds are below it.
const MAX_LINE: usize = 512;

/// Signs chunks anew, or passes what has no signatures as it is.
#[derive(Debug)]
pub struct Rechain(Form);

#[derive(Debug)]
enum Form {
    Nothing,
    Chunks(Chunks),
    Events(Events),
}

/// What came was not what had been verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not as it was verified")]
pub struct NotAsVerified;

impl Rechain {
    /// Nothing in the body is signed.
    pub(super) fn nothing() -> Self {
        Self(Form::Nothing)
    }

    pub(super) fn chunks(chain: Chain<Maker>) -> Self {
        Self(Form::Chunks(Chunks {
            chain,
            state: State::Size,
            held: Vec::new(),
            size: Vec::new(),
            room: 0,
            trailers: Vec::new(),
        }))
    }

    pub(super) fn events(chain: Chain<Maker>) -> Self {
        Self(Form::Events(Events::new(chain)))
    }

    /// The next proven bytes, in any split; what may go on is appended to `out`.
    pub fn take(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), NotAsVerified> {
        match &mut self.0 {
            Form::Nothing => {
                out.extend_from_slice(data);
                Ok(())
            }
            Form::Chunks(chunks) => chunks.take(data, out),
            Form::Events(events) => events.take(data, out),
        }
    }

    /// Its end has come, as its form tells it; of what has no form any end will do.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Form::Nothing => true,
            Form::Chunks(chunks) => chunks.state == State::Done,
            Form::Events(events) => events.has_ended(),
        }
    }
}

#[derive(Debug)]
struct Chunks {
    chain: Chain<Maker>,
    state: State,
    /// The line or chunk that is being read.
    held: Vec<u8>,
    /// Digits of the present chunk's size, as they came.
    size: Vec<u8>,
    /// Digits of the signature that it came with.
    room: usize,
    /// `name:value\n` of the trailers, as they are signed.
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// Bytes that complete the chunk and its CR LF.
    Data(usize),
    Trailer,
    Done,
}

impl Chunks {
    fn take(&mut self, mut data: &[u8], out: &mut Vec<u8>) -> Result<(), NotAsVerified> {
        while !data.is_empty() {
            match self.state {
                State::Done => return Err(NotAsVerified),
                State::Data(left) => {
                    let (now, rest) = data.split_at(left.min(data.len()));
                    self.held.extend_from_slice(now);
                    data = rest;
                    self.state = State::Data(left - now.len());
                    if left == now.len() {
                        self.chunk(out)?;
                        self.held.clear();
                    }
                }
                State::Size | State::Trailer => {
                    let end = memchr::memchr(b'\n', data).map_or(data.len(), |at| at + 1);
                    self.held.extend_from_slice(&data[..end]);
                    data = &data[end..];
                    if self.held.len() > MAX_LINE {
                        return Err(NotAsVerified);
                    }
                    if self.held.ends_with(b"\r\n") {
                        self.line(out)?;
                        self.held.clear();
                    }
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, out: &mut Vec<u8>) -> Result<(), NotAsVerified> {
        let line = &*self.held;
        if self.state == State::Size {
            let at = memchr::memchr(b';', line).ok_or(NotAsVerified)?;
            let (digits, extension) = line.split_at(at);
            let signature = extension[1..].strip_prefix(MARK).ok_or(NotAsVerified)?;
            let text = std::str::from_utf8(digits).map_err(|_| NotAsVerified)?;
            let size = u64::from_str_radix(text, 16).map_err(|_| NotAsVerified)?;
            if size > MAX_SIGNED_CHUNK {
                return Err(NotAsVerified);
            }
            self.room = signature.trim_ascii_end().len();
            self.size.clear();
            self.size.extend_from_slice(digits);
            if size == 0 {
                self.open(&sha256(b""), out)?;
                self.state = State::Trailer;
            } else {
                self.state = State::Data(size as usize + 2);
            }
        } else if let Some(rest) = line.strip_prefix(TRAILER_MARK) {
            let signature = rest.trim_ascii();
            let room = signature.len();
            let signature = self.chain.trailer(&sha256(&self.trailers), room).ok_or(NotAsVerified)?;
            let blanks = rest.len() - rest.trim_ascii_start().len();
            out.extend_from_slice(&line[..TRAILER_MARK.len() + blanks]);
            out.extend_from_slice(signature.as_bytes());
            out.extend_from_slice(&rest[blanks + room..]);
        } else {
            if let Some(at) = memchr::memchr(b':', line) {
                self.trailers.extend(line[..at].to_ascii_lowercase());
                self.trailers.push(b':');
                self.trailers.extend_from_slice(line[at + 1..].trim_ascii());
                self.trailers.push(b'\n');
            } else if line == b"\r\n" {
                self.state = State::Done;
            }
            out.extend_from_slice(line);
        }
        Ok(())
    }

    /// The chunk is whole, its CR LF included.
    fn chunk(&mut self, out: &mut Vec<u8>) -> Result<(), NotAsVerified> {
        let digest = sha256(self.held.strip_suffix(b"\r\n").ok_or(NotAsVerified)?);
        self.open(&digest, out)?;
        out.extend_from_slice(&self.held);
        self.state = State::Size;
        Ok(())
    }

    /// The chunk's first line, with the signature of its data.
    fn open(&mut self, digest: &[u8; 32], out: &mut Vec<u8>) -> Result<(), NotAsVerified> {
        let signature = self.chain.chunk(digest, self.room).ok_or(NotAsVerified)?;
        for part in [&self.size, &b";"[..], MARK, signature.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::claim::{Algorithm, Scope};
    use super::super::super::keys::KnownKey;
    use super::*;
    use crate::engine::facts::Secret;

    fn chain(algorithm: Algorithm) -> Chain<Maker> {
        let key =
            KnownKey::new("AKIDEXAMPLE", Secret::new(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), None);
        let scope = Scope { date: "20260102", region: "us-east-1", service: "s3" };
        let maker = Maker::derive(algorithm, &key, &scope).unwrap();
        Chain::new(maker, algorithm, b"20260102T030405Z", &scope, "00").of_events(&key.secret, &scope)
    }

    fn held(body: &Rechain) -> usize {
        match &body.0 {
            Form::Nothing => 0,
            Form::Chunks(chunks) => {
                chunks.held.capacity() + chunks.size.capacity() + chunks.trailers.capacity()
            }
            Form::Events(events) => events.held(),
        }
    }

    /// An event as a signer writes it, its CRCs aside: those are computed anew.
    fn event(payload: &[u8]) -> Vec<u8> {
        let headers =
            [&b"\x10:chunk-signature\x06\x00\x20"[..], &[0; 32], b"\x05:date\x08", &[0; 8]].concat();
        let length = (16 + headers.len() + payload.len()) as u32;
        let prelude = [length.to_be_bytes(), (headers.len() as u32).to_be_bytes(), [0; 4]].concat();
        [&prelude, &headers, payload, &[0; 4]].concat()
    }

    #[test]
    fn a_body_of_any_length_is_held_a_piece_at_a_time() {
        let data = vec![7; 64 * 1024];
        let chunk = |digits: usize| {
            [format!("10000;chunk-signature={:0<digits$}\r\n", "").as_bytes(), &data, b"\r\n"].concat()
        };
        for (mut body, piece) in [
            (Rechain::chunks(chain(Algorithm::Hmac)), chunk(64)),
            (Rechain::chunks(chain(Algorithm::Ecdsa)), chunk(144)),
            (Rechain::events(chain(Algorithm::Hmac)), event(&data)),
        ] {
            let mut out = Vec::new();
            for _ in 0..1000 {
                for part in piece.chunks(5000) {
                    body.take(part, &mut out).unwrap();
                }
                assert_eq!(out.len(), piece.len());
                assert!(held(&body) <= 3 * data.len(), "{}", held(&body));
                out.clear();
            }
        }
    }
}
