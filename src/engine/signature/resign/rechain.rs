//! A signed body in another name: the same chunks, each with the signature that the new chain gives it.
//!
//! Comes behind the check of the client's own signatures, so what it is given is aws-chunked as `chunked.rs` reads it.
//! A signature is as long as the one it replaces: the body keeps its length. Keeps one chunk, since its signature
//! stands before it.

use aws_lc_rs::digest;

use super::super::canonical::sha256;
use super::super::chain::Chain;

const MARK: &[u8] = b"chunk-signature=";
const TRAILER_MARK: &[u8] = b"x-amz-trailer-signature:";

/// Signs chunks anew, or passes what has no signatures as it is.
#[derive(Debug)]
pub struct Rechain {
    chain: Option<Chain>,
    state: State,
    /// The line or chunk that is being read.
    held: Vec<u8>,
    /// Digits of the present chunk's size, as they came.
    size: Vec<u8>,
    /// `name:value\n` of the trailers, as they are signed.
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// Bytes that complete the chunk and its CR LF.
    Data(usize),
    Trailer,
}

/// What came was not what had been verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not aws-chunked as it was verified")]
pub struct NotChunked;

impl Rechain {
    pub(super) fn new(chain: Option<Chain>) -> Self {
        Self { chain, state: State::Size, held: Vec::new(), size: Vec::new(), trailers: Vec::new() }
    }

    /// The next proven bytes, in any split; what may go on is appended to `out`.
    pub fn take(&mut self, mut data: &[u8], out: &mut Vec<u8>) -> Result<(), NotChunked> {
        if self.chain.is_none() {
            out.extend_from_slice(data);
            return Ok(());
        }
        while !data.is_empty() {
            if let State::Data(left) = self.state {
                let (now, rest) = data.split_at(left.min(data.len()));
                self.held.extend_from_slice(now);
                data = rest;
                self.state = State::Data(left - now.len());
                if left == now.len() {
                    self.chunk(out)?;
                }
                continue;
            }
            let end = data.iter().position(|&byte| byte == b'\n').map_or(data.len(), |at| at + 1);
            self.held.extend_from_slice(&data[..end]);
            data = &data[end..];
            if self.held.ends_with(b"\r\n") {
                self.line(out)?;
            }
        }
        Ok(())
    }

    /// Nothing is left over.
    pub fn is_done(&self) -> bool {
        self.held.is_empty()
    }

    fn line(&mut self, out: &mut Vec<u8>) -> Result<(), NotChunked> {
        let line = std::mem::take(&mut self.held);
        match self.state {
            State::Size => {
                let at = line.iter().position(|&byte| byte == b';').ok_or(NotChunked)?;
                if !line[at + 1..].starts_with(MARK) {
                    return Err(NotChunked);
                }
                let digits = std::str::from_utf8(&line[..at]).map_err(|_| NotChunked)?;
                let size = usize::from_str_radix(digits, 16).map_err(|_| NotChunked)?;
                self.size = line[..at].to_vec();
                if size == 0 {
                    let signature = self.sign(&sha256(b""))?;
                    self.open(&signature, out);
                    self.state = State::Trailer;
                } else {
                    self.state = State::Data(size.checked_add(2).ok_or(NotChunked)?);
                }
            }
            State::Trailer if line.starts_with(TRAILER_MARK) => {
                let digest = sha256(&self.trailers);
                let chain = self.chain.as_mut().ok_or(NotChunked)?;
                let signature = chain.sign_trailer(&digest).ok_or(NotChunked)?;
                let rest = &line[TRAILER_MARK.len()..];
                let blanks = rest.len() - rest.trim_ascii_start().len();
                out.extend_from_slice(&line[..TRAILER_MARK.len() + blanks]);
                out.extend_from_slice(signature.as_bytes());
                out.extend_from_slice(&rest[blanks + rest.trim_ascii().len()..]);
            }
            State::Trailer => {
                if let Some(at) = line.iter().position(|&byte| byte == b':') {
                    self.trailers.extend(line[..at].to_ascii_lowercase());
                    self.trailers.push(b':');
                    self.trailers.extend_from_slice(line[at + 1..].trim_ascii());
                    self.trailers.push(b'\n');
                }
                out.extend_from_slice(&line);
            }
            State::Data(_) => return Err(NotChunked),
        }
        Ok(())
    }

    /// The chunk is whole, its CR LF included.
    fn chunk(&mut self, out: &mut Vec<u8>) -> Result<(), NotChunked> {
        let chunk = std::mem::take(&mut self.held);
        let data = chunk.strip_suffix(b"\r\n").ok_or(NotChunked)?;
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
        let signature = self.sign(&digest)?;
        self.open(&signature, out);
        out.extend_from_slice(&chunk);
        self.state = State::Size;
        Ok(())
    }

    fn sign(&mut self, digest: &[u8; 32]) -> Result<String, NotChunked> {
        self.chain.as_mut().and_then(|chain| chain.sign_chunk(digest)).ok_or(NotChunked)
    }

    fn open(&self, signature: &str, out: &mut Vec<u8>) {
        for part in [&self.size, &b";"[..], MARK, signature.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}
