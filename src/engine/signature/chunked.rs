//! aws-chunked without chunk signatures: sizes, data, one checksum trailer (facts/sigv4.md A6).
//!
//! ```text
//! c\r\n  hello stream  \r\n  0\r\n  x-amz-checksum-crc32:gtnkmQ==\r\n  \r\n
//! ```
//! Reads along while the bytes travel on, keeps no data, and is told in any splits. Stricter than S3 where S3 leaves
//! a choice: CR LF only, no chunk extensions, exactly the announced trailer, nothing after the end.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Refusal;
use super::payload::{Checksum, mismatch};

/// Hex digits of a chunk size: all that a `u64` holds.
const MAX_SIZE: usize = 16;
/// `x-amz-checksum-crc64nvme:` and 44 characters of base64, with room for blanks.
const MAX_TRAILER: usize = 128;

pub struct Chunked {
    state: State,
    /// The line being read, without its CR LF.
    line: Vec<u8>,
    carriage_return: bool,
    /// Data bytes that are still to come.
    left: u64,
    algorithm: Checksum,
    running: Running,
    claimed: Option<Vec<u8>>,
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
    /// `decoded_length`: what the sizes of all chunks must add up to.
    pub fn new(algorithm: Checksum, decoded_length: u64) -> Self {
        Self {
            state: State::Size,
            line: Vec::with_capacity(MAX_TRAILER),
            carriage_return: false,
            left: decoded_length,
            algorithm,
            running: Running::new(algorithm),
            claimed: None,
        }
    }

    pub fn update(&mut self, mut data: &[u8]) -> Result<(), Refusal> {
        while !data.is_empty() {
            match self.state {
                State::Data { left } => {
                    let (now, rest) =
                        data.split_at(usize::try_from(left).map_or(data.len(), |n| n.min(data.len())));
                    self.running.update(now);
                    data = rest;
                    let left = left - now.len() as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
                }
                State::Size => {
                    if self.take_line(&mut data, MAX_SIZE)? {
                        self.size()?;
                    }
                }
                State::DataEnd => {
                    if self.take_line(&mut data, 0)? {
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
        Ok(())
    }

    /// The body ended here.
    pub fn finish(self) -> Result<(), Refusal> {
        if self.state != State::Done {
            return Err(mismatch("chunked body ended early"));
        }
        if self.claimed.is_none_or(|claimed| claimed != self.running.finish()) {
            return Err(mismatch("body does not match its trailing checksum"));
        }
        Ok(())
    }

    /// Moves bytes into `line`; `true` when it is whole, `data` then begins after it.
    fn take_line(&mut self, data: &mut &[u8], limit: usize) -> Result<bool, Refusal> {
        while let [byte, rest @ ..] = *data {
            *data = rest;
            match (self.carriage_return, byte) {
                (true, b'\n') => {
                    self.carriage_return = false;
                    return Ok(true);
                }
                (false, b'\r') => self.carriage_return = true,
                (true, _) | (false, b'\n') => {
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
        let digit = |b: &u8| char::from(*b).to_digit(16).map(u64::from);
        let size = self.line.iter().try_fold(0, |n: u64, b| Some(n << 4 | digit(b)?));
        let Some(size) = size.filter(|_| !self.line.is_empty()) else {
            return Err(mismatch("chunk size is no hexadecimal number"));
        };
        self.line.clear();
        let Some(left) = self.left.checked_sub(size) else {
            return Err(mismatch("chunks are longer than `x-amz-decoded-content-length`"));
        };
        self.left = left;
        self.state = match (size, left) {
            (0, 0) => State::Trailer,
            (0, _) => return Err(mismatch("chunks are shorter than `x-amz-decoded-content-length`")),
            _ => State::Data { left: size },
        };
        Ok(())
    }

    fn trailer(&mut self) -> Result<(), Refusal> {
        if self.line.is_empty() {
            self.state = State::Done;
            return Ok(());
        }
        let split =
            memchr::memchr(b':', &self.line).map(|at| (&self.line[..at], self.line[at + 1..].trim_ascii()));
        let announced = |name: &[u8]| {
            let (start, end) = name.split_at(name.len().min(15));
            start.eq_ignore_ascii_case(b"x-amz-checksum-")
                && end.eq_ignore_ascii_case(self.algorithm.as_str().as_bytes())
        };
        let Some((_, value)) = split.filter(|(name, _)| announced(name) && self.claimed.is_none()) else {
            return Err(mismatch("trailer that `x-amz-trailer` doesn't announce"));
        };
        let Ok(value) = STANDARD.decode(value) else {
            return Err(mismatch("trailing checksum is no base64"));
        };
        self.claimed = Some(value);
        self.line.clear();
        Ok(())
    }
}

/// A checksum in the making.
enum Running {
    Crc32(crc_fast::Digest),
    Crc64(crc_fast::Digest),
    Sha(digest::Context),
}

impl Running {
    fn new(algorithm: Checksum) -> Self {
        use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc32IsoHdlc, Crc64Nvme};
        match algorithm {
            Checksum::Crc32 => Self::Crc32(crc_fast::Digest::new(Crc32IsoHdlc)),
            Checksum::Crc32c => Self::Crc32(crc_fast::Digest::new(Crc32Iscsi)),
            Checksum::Crc64Nvme => Self::Crc64(crc_fast::Digest::new(Crc64Nvme)),
            Checksum::Sha1 => Self::Sha(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            Checksum::Sha256 => Self::Sha(digest::Context::new(&digest::SHA256)),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Crc32(crc) | Self::Crc64(crc) => crc.update(data),
            Self::Sha(context) => context.update(data),
        }
    }

    /// Big-endian bytes, as the trailer's base64 holds them.
    fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc32(crc) => (crc.finalize() as u32).to_be_bytes().to_vec(),
            Self::Crc64(crc) => crc.finalize().to_be_bytes().to_vec(),
            Self::Sha(context) => context.finish().as_ref().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n";

    fn check(algorithm: Checksum, length: u64, wire: &[u8], splits: &[usize]) -> Result<(), Refusal> {
        let mut chunked = Chunked::new(algorithm, length);
        let mut from = 0;
        for &to in splits.iter().chain([&wire.len()]) {
            chunked.update(&wire[from..to])?;
            from = to;
        }
        chunked.finish()
    }

    #[test]
    fn matches_however_the_bytes_are_split() {
        for a in 0..=GOOD.len() {
            for b in a..=GOOD.len() {
                check(Checksum::Crc32, 12, GOOD.as_bytes(), &[a, b])
                    .unwrap_or_else(|e| panic!("{a} {b}: {e:?}"));
            }
        }
        let single: Vec<usize> = (0..GOOD.len()).collect();
        check(Checksum::Crc32, 12, GOOD.as_bytes(), &single).unwrap();
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_of_data_is_refused() {
        for end in 0..GOOD.len() {
            assert!(check(Checksum::Crc32, 12, &GOOD.as_bytes()[..end], &[]).is_err(), "{end}");
        }
        for at in 3..15 {
            let mut wire = GOOD.as_bytes().to_vec();
            wire[at] ^= 1;
            assert!(check(Checksum::Crc32, 12, &wire, &[]).is_err(), "{at}");
        }
    }

    /// Check values of the catalogues: CRC RevEng, FIPS 180-4 example "abc" (here of "123456789", computed with
    /// coreutils for the hashes).
    #[test]
    fn knows_the_five_algorithms() {
        for (algorithm, value) in [
            (Checksum::Crc32, "cbf43926"),
            (Checksum::Crc32c, "e3069283"),
            (Checksum::Crc64Nvme, "ae8b14860a799888"),
            (Checksum::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (Checksum::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ] {
            let bytes: Vec<u8> = (0..value.len())
                .step_by(2)
                .map(|n| u8::from_str_radix(&value[n..n + 2], 16).unwrap())
                .collect();
            let text = STANDARD.encode(bytes);
            let wire = format!("4\r\n1234\r\n5\r\n56789\r\n0\r\nX-Amz-Checksum-{algorithm}: {text}\r\n\r\n");
            check(algorithm, 9, wire.as_bytes(), &[]).unwrap_or_else(|e| panic!("{algorithm}: {e:?}"));
            let wrong = wire.replace("1234", "1235");
            assert!(check(algorithm, 9, wrong.as_bytes(), &[]).is_err(), "{algorithm}");
        }
    }

    #[test]
    fn an_empty_object_has_only_the_last_chunk() {
        let wire = b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        check(Checksum::Crc32, 0, wire, &[]).unwrap();
        assert!(check(Checksum::Crc32, 1, wire, &[]).is_err());
    }

    #[test]
    fn refuses_every_other_framing() {
        for (name, wire) in [
            ("sum too small", "b\r\nhello strea\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
            ("sum too large", "d\r\nhello streamX\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
            ("size past u64", "10000000000000000\r\nhello stream\r\n0\r\n\r\n"),
            ("size that overflows the sum", "ffffffffffffffff\r\nhello stream\r\n"),
            ("no size", "\r\nhello stream\r\n"),
            ("size with a sign", "+c\r\nhello stream\r\n0\r\n"),
            ("size with a blank", "c \r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
            ("extension", "c;a=b\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
            ("bare LF", "c\nhello stream\n0\nx-amz-checksum-crc32:gtnkmQ==\n\n"),
            ("bare CR", "c\rhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
            ("data without its end", "c\r\nhello stream0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n"),
            ("no trailer", "c\r\nhello stream\r\n0\r\n\r\n"),
            ("other trailer", "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32c:gtnkmQ==\r\n\r\n"),
            (
                "foreign trailer",
                "c\r\nhello stream\r\n0\r\nx-amz-meta-a:1\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n",
            ),
            (
                "trailer twice",
                "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\n",
            ),
            ("wrong checksum", "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmA==\r\n\r\n"),
            ("no base64", "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:!\r\n\r\n"),
            ("bytes after the end", "c\r\nhello stream\r\n0\r\nx-amz-checksum-crc32:gtnkmQ==\r\n\r\nX"),
        ] {
            assert!(check(Checksum::Crc32, 12, wire.as_bytes(), &[]).is_err(), "{name}");
        }
        let endless = "0".repeat(10_000);
        assert!(check(Checksum::Crc32, 12, endless.as_bytes(), &[]).is_err());
    }
}
