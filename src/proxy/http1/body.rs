//! Message bodies on the wire: reads their framing off a buffer, and writes it anew. Pure: bytes in, bytes out.
//!
//! [`Decoder`] is strict where smugglers live: one spelling of a chunk size, CR LF only,
//! extensions bounded and dropped. [`Encoder`] is the only place that writes framing.

use bytes::{Buf, BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::engine::request::{Framing, ends_lines_in_both, is_token};

/// Chunk-size line with its extension; SDKs send up to 88 (`;chunk-signature=`).
const MAX_CHUNK_LINE: usize = 1024;
/// Extensions of one body together: they are dropped, so nobody may send a body of them.
const MAX_EXTENSIONS: usize = 16 * 1024;
const MAX_TRAILERS: usize = 8 * 1024;
const MAX_TRAILER_FIELDS: usize = 32;

/// A body that breaks its framing, or ends before it said it would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("body ended early")]
    Truncated,
    #[error("malformed chunk")]
    Chunk,
    #[error("malformed or oversized trailer section")]
    Trailer,
}

/// What the front of the buffer holds.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// So many bytes of data stand at the front; `last` when they complete a body of known length.
    Data { len: usize, last: bool },
    /// More bytes are needed.
    More,
    /// The body is over; with the trailers that may travel on.
    End(Option<HeaderMap>),
}

#[derive(Debug)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    /// The CR LF after a chunk's data.
    ChunkEnd,
    Trailers,
    Done,
}

/// Reads one body off a buffer.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extensions: usize,
}

impl Decoder {
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, extensions: 0 }
    }

    /// Nothing more belongs to this body.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Exact number of data bytes to come, where the framing tells.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Consumes framing from the front of `buf` and says what stands there now. `eof`: no more bytes will come.
    /// The caller takes all of a `Data` before the next step.
    pub fn step(&mut self, buf: &mut BytesMut, eof: bool) -> Result<Step, FramingError> {
        loop {
            match &mut self.state {
                State::Done => return Ok(Step::End(None)),
                State::Length(left) if !buf.is_empty() => {
                    let len = (buf.len() as u64).min(*left);
                    *left -= len;
                    let last = *left == 0;
                    if last {
                        self.state = State::Done;
                    }
                    return Ok(Step::Data { len: len as usize, last });
                }
                State::UntilClose if !buf.is_empty() => {
                    return Ok(Step::Data { len: buf.len(), last: false });
                }
                State::UntilClose if eof => self.state = State::Done,
                State::ChunkData(left) if !buf.is_empty() => {
                    let len = (buf.len() as u64).min(*left);
                    *left -= len;
                    if *left == 0 {
                        self.state = State::ChunkEnd;
                    }
                    return Ok(Step::Data { len: len as usize, last: false });
                }
                State::Length(_) | State::UntilClose | State::ChunkData(_) => return need(eof),
                State::ChunkEnd => match buf.get(..2) {
                    Some(b"\r\n") => {
                        buf.advance(2);
                        self.state = State::ChunkSize;
                    }
                    Some(_) => return Err(FramingError::Chunk),
                    None if buf.first().is_some_and(|&b| b != b'\r') => return Err(FramingError::Chunk),
                    None => return need(eof),
                },
                State::ChunkSize => {
                    let Some(line) = line(buf, MAX_CHUNK_LINE).map_err(|()| FramingError::Chunk)? else {
                        return need(eof);
                    };
                    let (size, extension) = chunk_size(&buf[..line]).ok_or(FramingError::Chunk)?;
                    self.extensions += extension;
                    if self.extensions > MAX_EXTENSIONS {
                        return Err(FramingError::Chunk);
                    }
                    buf.advance(line + 2);
                    self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
                }
                State::Trailers => {
                    if buf.starts_with(b"\r\n") {
                        buf.advance(2);
                        self.state = State::Done;
                        return Ok(Step::End(None));
                    }
                    let Some(end) = memchr::memmem::find(buf, b"\r\n\r\n") else {
                        if buf.len() > MAX_TRAILERS {
                            return Err(FramingError::Trailer);
                        }
                        // A line that can't be a field is refused now: the blank line may never come.
                        if let Some(at) = memchr::memchr(b'\n', buf)
                            && !buf[..at].contains(&b':')
                        {
                            return Err(FramingError::Trailer);
                        }
                        return need(eof);
                    };
                    let trailers = trailers(&buf[..end + 4])?;
                    buf.advance(end + 4);
                    self.state = State::Done;
                    return Ok(Step::End(trailers));
                }
            }
        }
    }
}

fn need(eof: bool) -> Result<Step, FramingError> {
    if eof { Err(FramingError::Truncated) } else { Ok(Step::More) }
}

/// Length of the first line without its CR LF; `Err` on a bare CR or LF, or a line over `max`.
fn line(buf: &[u8], max: usize) -> Result<Option<usize>, ()> {
    let window = &buf[..buf.len().min(max + 2)];
    match memchr::memchr2(b'\r', b'\n', window) {
        Some(at) if window[at] == b'\n' => Err(()),
        Some(at) => match window.get(at + 1) {
            Some(b'\n') => Ok(Some(at)),
            Some(_) => Err(()),
            None if window.len() == max + 2 => Err(()),
            None => Ok(None),
        },
        None if window.len() == max + 2 => Err(()),
        None => Ok(None),
    }
}

/// `1*HEXDIG [";" extension]` (RFC 9112 7.1): the size, and how long the extension is.
fn chunk_size(line: &[u8]) -> Option<(u64, usize)> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if !(1..=16).contains(&digits) {
        return None;
    }
    let extension = &line[digits..];
    // Visible bytes, blanks and what quoting allows; no control bytes.
    let clean = extension.iter().all(|&b| b == b'\t' || (0x20..0x7f).contains(&b));
    if !extension.is_empty() && (extension[0] != b';' || !clean || extension.contains(&b'"')) {
        return None;
    }
    let size =
        line[..digits].iter().fold(0u64, |n, &b| n << 4 | u64::from((b as char).to_digit(16).unwrap_or(0)));
    Some((size, extension.len()))
}

/// The fields of a trailer section that may travel on: never framing, routing or authentication (RFC 9110 6.5.1).
fn trailers(section: &[u8]) -> Result<Option<HeaderMap>, FramingError> {
    if !ends_lines_in_both(section) {
        return Err(FramingError::Trailer);
    }
    let mut slots = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(section, &mut slots) else {
        return Err(FramingError::Trailer);
    };
    let mut map = HeaderMap::new();
    for field in parsed {
        if !field.name.bytes().all(is_token) || field.value.iter().any(|&b| b == b'\r' || b == b'\n') {
            return Err(FramingError::Trailer);
        }
        if is_harmless_trailer(field.name)
            && let Ok(name) = HeaderName::from_bytes(field.name.as_bytes())
            && let Ok(value) = HeaderValue::from_bytes(field.value)
        {
            map.append(name, value);
        }
    }
    Ok((!map.is_empty()).then_some(map))
}

/// Nothing that a message is framed, routed or authenticated by, whoever merges it into the head.
pub fn is_harmless_trailer(name: &str) -> bool {
    ["x-amz-checksum-", "grpc-", "server-timing"]
        .iter()
        .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
}

/// Writes one body's framing. The head's framing field is written by [`Encoder::field`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoder {
    None,
    /// Bytes still owed.
    Length(u64),
    Chunked,
    /// Ends with the connection: HTTP/1.0 clients.
    UntilClose,
}

impl Encoder {
    /// Keeps a message's framing; an answer that ended with its connection becomes chunked, so that truncation shows.
    pub fn keep(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::None,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked | Framing::UntilClose => Self::Chunked,
        }
    }

    /// The framing field of the head, CR LF included; nothing where the head needs none.
    pub fn field(self, out: &mut BytesMut) {
        match self {
            Self::None | Self::UntilClose => {}
            Self::Length(length) => {
                out.put_slice(b"Content-Length: ");
                put_decimal(out, length);
                out.put_slice(b"\r\n");
            }
            Self::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        }
    }

    /// Appends data. More than a body of known length owes is a bug of ours, and is not written.
    pub fn data(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), FramingError> {
        match self {
            Self::None if data.is_empty() => {}
            Self::None => return Err(FramingError::Truncated),
            Self::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(FramingError::Truncated)?;
                out.put_slice(data);
            }
            // An empty chunk would end the body.
            Self::Chunked if data.is_empty() => {}
            Self::Chunked => {
                put_hex(out, data.len() as u64);
                out.put_slice(b"\r\n");
                out.put_slice(data);
                out.put_slice(b"\r\n");
            }
            Self::UntilClose => out.put_slice(data),
        }
        Ok(())
    }

    /// Ends the body. `Err` when a body of known length is short: the connection must not look complete.
    pub fn end(self, trailers: Option<&HeaderMap>, out: &mut BytesMut) -> Result<(), FramingError> {
        match self {
            Self::None | Self::UntilClose | Self::Length(0) => Ok(()),
            Self::Length(_) => Err(FramingError::Truncated),
            Self::Chunked => {
                out.put_slice(b"0\r\n");
                // An HTTP/2 origin's may be others too, which only HTTP/2 keeps apart from the head.
                let harmless = |(name, _): &(&HeaderName, _)| is_harmless_trailer(name.as_str());
                for (name, value) in trailers.into_iter().flatten().filter(harmless) {
                    out.put_slice(name.as_str().as_bytes());
                    out.put_slice(b": ");
                    out.put_slice(value.as_bytes());
                    out.put_slice(b"\r\n");
                }
                out.put_slice(b"\r\n");
                Ok(())
            }
        }
    }
}

fn put_decimal(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.put_slice(&digits[at..]);
        }
    }
}

fn put_hex(out: &mut BytesMut, number: u64) {
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    for shift in (0..digits).rev() {
        out.put_u8(b"0123456789abcdef"[(number >> (4 * shift) & 15) as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `wire` given in pieces of `size` bytes.
    fn decode(framing: Framing, wire: &[u8], size: usize) -> Result<(Vec<u8>, usize), FramingError> {
        let mut decoder = Decoder::new(framing);
        let (mut buf, mut data, mut fed) = (BytesMut::new(), Vec::new(), 0);
        loop {
            match decoder.step(&mut buf, fed == wire.len())? {
                Step::Data { len, .. } => data.extend_from_slice(&buf.split_to(len)),
                Step::More => {
                    let next = (fed + size).min(wire.len());
                    buf.extend_from_slice(&wire[fed..next]);
                    fed = next;
                }
                Step::End(_) => return Ok((data, buf.len() + wire.len() - fed)),
            }
        }
    }

    #[test]
    fn reads_the_same_body_however_it_is_split() {
        let wire = b"5;x=1\r\nhello\r\n006\r\n world\r\n0\r\nx-amz-checksum-crc32: AAAA\r\n\r\nGET";
        for size in 1..=wire.len() {
            assert_eq!(decode(Framing::Chunked, wire, size), Ok((b"hello world".to_vec(), 3)), "{size}");
            assert_eq!(decode(Framing::Length(5), b"helloGET", size), Ok((b"hello".to_vec(), 3)), "{size}");
            assert_eq!(decode(Framing::UntilClose, b"hello", size), Ok((b"hello".to_vec(), 0)), "{size}");
        }
    }

    #[test]
    fn refuses_every_other_spelling_of_a_chunk() {
        let bad: [&[u8]; 16] = [
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b"5z\r\nhello\r\n0\r\n\r\n",
            b"10000000000000005\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\nhello\r\n0\r\n\r\n",
            b"5;a\rb\r\nhello\r\n0\r\n\r\n",
            b"5;a=\"\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"5\r\nhello\r\n0\r\nx y: z\r\n\r\n",
            b"5\r\nhello\r\n0\r\nx: y\nz: a\r\n\r\n",
            b"5\r\nhello\r\n0\r\nx: y\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ];
        for wire in bad {
            for size in [1, 7, wire.len()] {
                let read = decode(Framing::Chunked, wire, size);
                assert!(read.is_err(), "{:?} gave {read:?}", String::from_utf8_lossy(wire));
            }
        }
    }

    #[test]
    fn a_body_that_ends_early_is_an_error() {
        assert_eq!(decode(Framing::Length(6), b"hello", 5), Err(FramingError::Truncated));
        assert_eq!(decode(Framing::Chunked, b"5\r\nhello\r\n", 3), Err(FramingError::Truncated));
        assert_eq!(decode(Framing::Chunked, b"5\r\nhel", 3), Err(FramingError::Truncated));
    }

    #[test]
    fn trailers_that_route_or_frame_are_dropped() {
        let mut buf = BytesMut::from(
            &b"0\r\nHost: evil.test\r\nContent-Length: 5\r\nx-amz-checksum-crc32: AA==\r\n\r\n"[..],
        );
        let Ok(Step::End(Some(trailers))) = Decoder::new(Framing::Chunked).step(&mut buf, false) else {
            panic!("trailers expected")
        };
        assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-amz-checksum-crc32"]);
    }

    #[test]
    fn the_encoder_never_ends_a_short_body() {
        let mut out = BytesMut::new();
        let mut encoder = Encoder::Length(5);
        encoder.data(b"hell", &mut out).unwrap();
        assert_eq!(encoder.end(None, &mut out), Err(FramingError::Truncated));
        encoder.data(b"o", &mut out).unwrap();
        assert_eq!(encoder.end(None, &mut out), Ok(()));
        assert!(encoder.data(b"!", &mut out).is_err());
        assert_eq!(&out[..], b"hello");
    }

    #[test]
    fn chunks_are_written_as_they_are_read() {
        let mut out = BytesMut::new();
        let mut encoder = Encoder::Chunked;
        encoder.data(&[b'a'; 300], &mut out).unwrap();
        encoder.data(b"", &mut out).unwrap();
        encoder.end(None, &mut out).unwrap();
        assert_eq!(decode(Framing::Chunked, &out, 9), Ok((vec![b'a'; 300], 0)));
        assert!(out.starts_with(b"12c\r\n"));
    }
}
