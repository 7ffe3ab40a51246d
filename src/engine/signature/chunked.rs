//! aws-chunked: sizes, data, the signatures of chunks, one checksum trailer.
//!
//! ```text
//! c\r\n  hello stream  \r\n  0\r\n  x-amz-checksum-crc32:gtnkmQ==\r\n  \r\n
//! c;chunk-signature=64 hex\r\n  hello stream  \r\n  0;chunk-signature=64 hex\r\n  \r\n
//! ```
//! Reads along in any splits and says how much may travel on: a signed chunk once its signature holds, an unsigned
//! one at once, the last chunk and its trailers once everything that was promised holds. Stricter than S3 where S3
//! leaves a choice: one extension or none, exactly the announced trailer, nothing after the end.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Refusal;
use super::canonical::sha256;
use super::chain::Chain;
use super::check::mismatch;
use super::checksum::{Checksum, Running};
use super::v4a::MAX_SIGNATURE;
use crate::engine::facts::PayloadOutcome;
use crate::engine::reason::Reason;

/// The longest chunk whose signature is waited for. SDKs sign 64 to 128 KiB, some uploaders a part of some MiB.
pub const MAX_SIGNED_CHUNK: u64 = 16 * 1024 * 1024;
/// Hex digits of a chunk size: all that a `u64` holds.
const MAX_SIZE: usize = 16;
const EXTENSION: &[u8] = b";chunk-signature=";
/// More than any checksum takes, with room for blanks.
const MAX_TRAILER: usize = TRAILER_SIGNATURE.len() + MAX_SIGNATURE;
const TRAILER_SIGNATURE: &[u8] = b"x-amz-trailer-signature:";

/// What a chunked body is to be.
#[derive(Debug, Clone)]
pub struct Shape {
    /// What the sizes of all chunks must add up to.
    pub decoded_length: u64,
    pub trailer: Option<Checksum>,
    pub signed: Signed,
}

/// What chunks say of their signature.
#[derive(Debug, Clone)]
pub enum Signed {
    No,
    /// Under a key that we don't know: the form is checked, the signatures can't be.
    Unknown,
    By(Chain),
}

pub struct Chunked {
    shape: Shape,
    state: State,
    /// The line being read, without its CR LF.
    line: Vec<u8>,
    carriage_return: bool,
    /// Data bytes that are still to come.
    left: u64,
    /// Bytes read that may not travel on yet.
    withheld: usize,
    /// The present chunk's claimed signature, and its digest in the making.
    signature: String,
    digest: digest::Context,
    checksum: Option<Running>,
    claimed: Option<Claimed>,
}

/// The trailer that came.
struct Claimed {
    value: Vec<u8>,
    /// `name:value\n`, as it is signed.
    line: Vec<u8>,
    signature: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data { left: u64 },
    DataEnd,
    Trailer,
    Done,
}

impl Chunked {
    pub fn new(shape: Shape) -> Self {
        Self {
            state: State::Size,
            line: Vec::with_capacity(MAX_TRAILER),
            carriage_return: false,
            left: shape.decoded_length,
            withheld: 0,
            signature: String::new(),
            digest: digest::Context::new(&digest::SHA256),
            checksum: shape.trailer.map(Running::new),
            claimed: None,
            shape,
        }
    }

    /// Reads on; how many of the last bytes read must wait.
    pub fn update(&mut self, mut data: &[u8]) -> Result<usize, Refusal> {
        while !data.is_empty() {
            match self.state {
                State::Data { left } => {
                    let (now, rest) =
                        data.split_at(usize::try_from(left).map_or(data.len(), |n| n.min(data.len())));
                    data = rest;
                    self.data(now, left - now.len() as u64)?;
                }
                State::Size => {
                    if self.take_line(&mut data, MAX_SIZE + EXTENSION.len() + MAX_SIGNATURE)? {
                        self.size()?;
                    }
                }
                State::DataEnd => {
                    if self.take_line(&mut data, 0)? {
                        self.withheld = 0;
                        self.state = State::Size;
                    }
                }
                State::Trailer => {
                    if self.take_line(&mut data, MAX_TRAILER)? {
                        self.trailer()?;
                    }
                }
                State::Done => return Err(mismatch("bytes after the last chunk")),
            }
        }
        Ok(self.withheld)
    }

    /// The most that `update` will ask to withhold before it lets go of some: the present chunk.
    pub fn room(&self) -> usize {
        match self.state {
            State::Data { left } if matches!(self.shape.signed, Signed::By(_)) => {
                self.withheld + usize::try_from(left).unwrap_or(usize::MAX)
            }
            _ => self.withheld,
        }
    }

    /// The body ended here.
    pub fn finish(&self) -> Result<PayloadOutcome, Refusal> {
        if self.state != State::Done {
            return Err(mismatch("chunked body ended early"));
        }
        // Under a key we don't know, only a checksum tells anything.
        let told = self.shape.trailer.is_some() || matches!(self.shape.signed, Signed::By(_));
        Ok(if told { PayloadOutcome::Matched } else { PayloadOutcome::Unchecked })
    }

    /// Moves bytes into `line`; `true` when it is whole, `data` then begins after it.
    fn take_line(&mut self, data: &mut &[u8], limit: usize) -> Result<bool, Refusal> {
        while let [byte, rest @ ..] = *data {
            *data = rest;
            self.withheld += 1;
            match (self.carriage_return, byte) {
                (true, b'\n') => {
                    self.carriage_return = false;
                    return Ok(true);
                }
                (false, b'\r') => self.carriage_return = true,
                // minio-go ends a trailer in LF CR LF, as the S3 reference prints it, and S3 takes that.
                (false, b'\n')
                    if self.state == State::Trailer && self.line.last().is_some_and(|&b| b != b'\n') =>
                {
                    self.line.push(b'\n');
                }
                (true, _) | (false, b'\n') => {
                    return Err(mismatch("line end that is not CR LF in a chunked body"));
                }
                (false, _) if self.line.last() == Some(&b'\n') => {
                    return Err(mismatch("line end that is not CR LF in a chunked body"));
                }
                (false, _) if self.line.len() == limit => {
                    return Err(mismatch("chunk framing is longer than it may be"));
                }
                (false, byte) => self.line.push(*byte),
            }
        }
        Ok(false)
    }

    fn size(&mut self) -> Result<(), Refusal> {
        let at = self.line.iter().position(|&b| b == b';').unwrap_or(self.line.len());
        let (digits, extension) = self.line.split_at(at);
        let digit = |b: &u8| char::from(*b).to_digit(16).map(u64::from);
        let size = digits.iter().try_fold(0, |n: u64, b| Some(n << 4 | digit(b)?));
        let Some(size) = size.filter(|_| (1..=MAX_SIZE).contains(&digits.len())) else {
            return Err(mismatch("chunk size is no hexadecimal number"));
        };
        self.signature.clear();
        match (&self.shape.signed, extension) {
            (Signed::No, b"") => {}
            (Signed::No, _) => return Err(mismatch("chunk of an unsigned body has an extension")),
            (_, extension) => {
                let signature = extension.strip_prefix(EXTENSION).map(std::str::from_utf8);
                let Some(Ok(signature)) = signature else {
                    return Err(mismatch("chunk has no signature, or something beside it"));
                };
                self.signature.push_str(signature);
            }
        }
        self.line.clear();
        let Some(left) = self.left.checked_sub(size) else {
            return Err(mismatch("chunks are longer than `x-amz-decoded-content-length`"));
        };
        self.left = left;
        match (size, left) {
            (0, 0) => {
                self.judge_chunk()?;
                self.state = State::Trailer;
            }
            (0, _) => return Err(mismatch("chunks are shorter than `x-amz-decoded-content-length`")),
            _ if !matches!(self.shape.signed, Signed::By(_)) => {
                self.withheld = 0;
                self.state = State::Data { left: size };
            }
            _ if size > MAX_SIGNED_CHUNK => {
                let said = format!("signed chunk of {size} bytes, where {MAX_SIGNED_CHUNK} are held at most");
                return Err(Refusal::new(Reason::SigV4Unsupported, said));
            }
            _ => self.state = State::Data { left: size },
        }
        Ok(())
    }

    fn data(&mut self, now: &[u8], left: u64) -> Result<(), Refusal> {
        if let Some(running) = &mut self.checksum {
            running.update(now);
        }
        if matches!(self.shape.signed, Signed::By(_)) {
            self.digest.update(now);
            self.withheld += now.len();
        }
        self.state = State::Data { left };
        if left == 0 {
            self.judge_chunk()?;
            self.withheld = 0;
            self.state = State::DataEnd;
        }
        Ok(())
    }

    /// The chunk is whole: its signature holds, or the body ends here.
    fn judge_chunk(&mut self) -> Result<(), Refusal> {
        let Signed::By(chain) = &mut self.shape.signed else { return Ok(()) };
        let fresh = digest::Context::new(&digest::SHA256);
        let mut value = [0; 32];
        value.copy_from_slice(std::mem::replace(&mut self.digest, fresh).finish().as_ref());
        if chain.chunk(&value, &self.signature) {
            Ok(())
        } else {
            Err(mismatch("a chunk's signature does not match the chunk"))
        }
    }

    /// A line after the last chunk.
    fn trailer(&mut self) -> Result<(), Refusal> {
        if self.line.is_empty() {
            self.judge_end()?;
            self.withheld = 0;
            self.state = State::Done;
            return Ok(());
        }
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let unannounced = || Err(mismatch("trailer that `x-amz-trailer` doesn't announce"));
        match &mut self.claimed {
            None => {
                let Some(at) = memchr::memchr(b':', line) else { return unannounced() };
                let (name, value) = (&line[..at], line[at + 1..].trim_ascii());
                let known = self.shape.trailer.filter(|_| name.trim_ascii() == name);
                if known.is_none() || Checksum::of_trailer(name) != known {
                    return unannounced();
                }
                let Ok(bytes) = STANDARD.decode(value) else {
                    return Err(mismatch("trailing checksum is no base64"));
                };
                let line = [&name.to_ascii_lowercase(), &b":"[..], value, b"\n"].concat();
                self.claimed = Some(Claimed { value: bytes, line, signature: None });
            }
            Some(claimed) if claimed.signature.is_none() && !matches!(self.shape.signed, Signed::No) => {
                let signature =
                    line.strip_prefix(TRAILER_SIGNATURE).map(|s| std::str::from_utf8(s.trim_ascii()));
                let Some(Ok(signature)) = signature else { return unannounced() };
                claimed.signature = Some(signature.to_owned());
            }
            Some(_) => return unannounced(),
        }
        Ok(())
    }

    /// The last line was read: checksum and trailer signature are there and hold.
    fn judge_end(&mut self) -> Result<(), Refusal> {
        let Some(running) = self.checksum.take() else { return Ok(()) };
        let Some(claimed) = self.claimed.take() else { return Err(mismatch("announced trailer is missing")) };
        let holds = match (&mut self.shape.signed, claimed.signature) {
            (Signed::No, _) | (Signed::Unknown, Some(_)) => true,
            (Signed::By(chain), Some(signature)) => chain.trailer(&sha256(&claimed.line), &signature),
            (_, None) => return Err(mismatch("trailer is not signed")),
        };
        if !holds {
            return Err(mismatch("the trailer's signature does not match the trailer"));
        }
        if claimed.value != running.finish() {
            return Err(mismatch("body does not match its trailing checksum"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
