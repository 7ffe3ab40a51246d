//! HTTP/2 as raw frames, written without any check: what no library would send.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::cases::latin1;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// The largest frame that a peer must take.
const MOST: usize = 16_384;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// An integer of HPACK (RFC 7541 5.1) behind `first`'s high bits.
fn number(first: u8, bits: u8, mut value: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let mut out = vec![first | most as u8];
    value -= most;
    while value >= 128 {
        out.push(value as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
    out
}

fn literal(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    for part in [name, value] {
        out.extend(number(0, 7, part.len()));
        out.extend_from_slice(part);
    }
    out
}

/// Fields as literals that are not indexed.
pub fn block(fields: &Value) -> Vec<u8> {
    let text = |value: &Value| match value {
        Value::String(text) => latin1(text),
        repeated => {
            latin1(repeated["repeat"].as_str().unwrap()).repeat(repeated["times"].as_u64().unwrap() as usize)
        }
    };
    let fields = fields.as_array().unwrap();
    fields.iter().flat_map(|field| literal(0, &text(&field[0]), &text(&field[1]))).collect()
}

/// The block of a request to app.test.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    block(&serde_json::json!([
        [":method", method],
        [":scheme", "https"],
        [":authority", "app.test"],
        [":path", path]
    ]))
}

/// A header block, in as many frames as it takes.
pub fn headers(stream: u32, block: &[u8], ended: bool, pad: Option<u8>) -> Vec<u8> {
    let end = if ended { END_STREAM } else { 0 };
    let mut pieces = block.chunks(MOST).peekable();
    let first = pieces.next().unwrap_or_default();
    let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
    let mut out = match pad {
        Some(pad) => padded(1, end | last, stream, first, pad),
        None => frame(1, end | last, stream, first),
    };
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        out.extend(frame(9, last, stream, piece));
    }
    out
}

fn padded(kind: u8, flags: u8, stream: u32, payload: &[u8], pad: u8) -> Vec<u8> {
    let payload = [&[pad], payload, &vec![0; usize::from(pad)]].concat();
    frame(kind, flags | PADDED, stream, &payload)
}

/// What a case sends, in pieces to be written one after the other; a pause is a piece without bytes.
pub fn script(send: &Value) -> Vec<Vec<u8>> {
    let mut settings = Vec::new();
    let mut out = Vec::new();
    for step in send.as_array().unwrap() {
        let stream = step["stream"].as_u64().unwrap_or(1) as u32;
        let ended = step["end_stream"] == true;
        let pad = step["pad"].as_u64().map(|pad| pad as u8);
        if let Some(all) = step["settings"].as_object() {
            for (name, value) in all {
                assert_eq!(name, "INITIAL_WINDOW_SIZE");
                settings.extend_from_slice(&[0, 4]);
                settings.extend_from_slice(&(value.as_u64().unwrap() as u32).to_be_bytes());
            }
        } else if !step["headers"].is_null() {
            out.push(headers(stream, &block(&step["headers"]), ended, pad));
        } else if let Some(data) = step["data"].as_str() {
            let flags = if ended { END_STREAM } else { 0 };
            out.push(match pad {
                Some(pad) => padded(0, flags, stream, &latin1(data), pad),
                None => frame(0, flags, stream, &latin1(data)),
            });
        } else if let Some(kind) = step["frame_type"].as_u64() {
            let hex = step["payload"].as_str().unwrap();
            let payload: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            out.push(frame(kind as u8, 0, stream, &payload));
        } else if !step["headers_open"].is_null() {
            out.push(frame(1, END_STREAM, 1, &block(&step["headers_open"])));
        } else if let Some(bomb) = step["hpack_bomb"].as_object() {
            let value = vec![b'a'; bomb["value_bytes"].as_u64().unwrap() as usize];
            let mut fields = request("GET", "/a");
            fields.extend(literal(0x40, b"x", &value));
            fields.extend(vec![0x80 | 62; bomb["references"].as_u64().unwrap() as usize]);
            out.push(headers(1, &fields, true, None));
        } else if let Some(size) = step["hpack_table_update"].as_u64() {
            let fields = [number(0x20, 5, size as usize), request("GET", "/a")].concat();
            out.push(headers(1, &fields, true, None));
        } else if let Some(times) = step["repeat"].as_u64() {
            let (mut stream, mut piece) = (u32::MAX, Vec::new());
            for _ in 0..times {
                for word in step["of"].as_array().unwrap() {
                    let word = word.as_str().unwrap();
                    if word.starts_with("headers:") {
                        stream = stream.wrapping_add(2);
                    }
                    let on = if stream == u32::MAX { 1 } else { stream };
                    piece.extend(match word {
                        "headers:GET" => headers(on, &request("GET", "/a"), true, None),
                        "headers:GET:1MiB-response" => headers(on, &request("GET", "/mebibyte"), true, None),
                        "headers:POST:open" => headers(on, &request("POST", "/hold"), false, None),
                        "rst_stream:CANCEL" => frame(3, 0, on, &8u32.to_be_bytes()),
                        "window_update:0" => frame(8, 0, on, &0u32.to_be_bytes()),
                        "window_update:2147483647" => frame(8, 0, on, &0x7fff_ffffu32.to_be_bytes()),
                        "continuation:10-bytes:no-end" => frame(9, 0, on, &literal(0, b"xxx", b"yyyy")),
                        "continuation:0-bytes:no-end" => frame(9, 0, on, b""),
                        "settings:empty" => frame(4, 0, 0, b""),
                        "ping" => frame(6, 0, 0, &[0; 8]),
                        "data:empty" => frame(0, 0, on, b""),
                        other => panic!("{other}"),
                    });
                }
                if piece.len() > 256 * 1024 {
                    out.push(std::mem::take(&mut piece));
                }
            }
            out.push(piece);
        } else {
            assert!(step["idle_s"].is_u64(), "{step}");
        }
    }
    out.insert(0, [PREFACE, &frame(4, 0, 0, &settings)].concat());
    out
}

/// What the peer did to a stream or to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    Answered(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
    Nothing,
}

/// Reads frames until one tells what became of `stream`; an answer is read to its end. SETTINGS and PING are not
/// answered.
pub async fn outcome<S: AsyncRead + Unpin>(io: &mut S, stream: u32, patience: Duration) -> Did {
    let deadline = tokio::time::Instant::now() + patience;
    let mut buf = Vec::new();
    let mut answered = None;
    loop {
        let one = match tokio::time::timeout_at(deadline, next(io, &mut buf)).await {
            Err(_) => return Did::Nothing,
            Ok(None) => return Did::Closed,
            Ok(Some(one)) => one,
        };
        if one.kind == 1 && one.stream == stream && answered.is_none() {
            answered = Some(status(&one.payload));
        }
        match one.kind {
            0 | 1 if one.stream == stream && one.flags & END_STREAM != 0 => {
                return Did::Answered(answered.expect("a head before a body"));
            }
            3 if one.stream == stream => return Did::Reset(one.word(0)),
            7 => return Did::GoAway(one.word(4)),
            _ => {}
        }
    }
}

/// A frame that came.
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// Nothing more comes on its stream.
    pub fn ends(&self) -> bool {
        self.kind < 2 && self.flags & END_STREAM != 0
    }
}

/// The next frame; `None` where the stream ends. `buf` keeps what came behind it.
pub async fn next<S: AsyncRead + Unpin>(io: &mut S, buf: &mut Vec<u8>) -> Option<Frame> {
    loop {
        if buf.len() >= 9 {
            let length = usize::from(buf[0]) << 16 | usize::from(buf[1]) << 8 | usize::from(buf[2]);
            if buf.len() >= 9 + length {
                let one: Vec<u8> = buf.drain(..9 + length).collect();
                let stream = u32::from_be_bytes(one[5..9].try_into().unwrap()) & 0x7fff_ffff;
                return Some(Frame { kind: one[3], flags: one[4], stream, payload: one[9..].to_vec() });
            }
        }
        let mut piece = [0; 16 * 1024];
        match io.read(&mut piece).await {
            Ok(n @ 1..) => buf.extend_from_slice(&piece[..n]),
            Ok(_) | Err(_) => return None,
        }
    }
}

/// `:status`, which comes first: an index, or a literal that may be compressed (RFC 7541 B: digits take 5 or 6 bits).
fn status(block: &[u8]) -> u16 {
    // The compressor may settle its table's size before it.
    let block = if block[0] & 0xe0 == 0x20 { &block[1..] } else { block };
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    if block[0] & 0x80 != 0 {
        return INDEXED[usize::from(block[0] & 0x7f) - 8];
    }
    let length = usize::from(block[1] & 0x7f);
    let value = &block[2..2 + length];
    if block[1] & 0x80 == 0 {
        return std::str::from_utf8(value).unwrap().parse().unwrap();
    }
    let bits: Vec<u8> = value.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let take =
        |at: usize, count: usize| bits[at..at + count].iter().fold(0, |all, bit| all << 1 | u16::from(*bit));
    let (mut at, mut out) = (0, 0);
    for _ in 0..3 {
        let short = take(at, 5);
        let digit = if short < 3 { short } else { take(at, 6) - 0b01_1001 + 3 };
        at += if short < 3 { 5 } else { 6 };
        out = out * 10 + digit;
    }
    out
}

/// Writes what is left of a script, as far as the peer takes it. `false`: it ended, or takes nothing for `patience`.
pub async fn write<S: AsyncWrite + Unpin>(io: &mut S, script: &[Vec<u8>], patience: Duration) -> bool {
    for piece in script {
        let written = async {
            io.write_all(piece).await?;
            io.flush().await
        };
        match tokio::time::timeout(patience, written).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return false,
        }
    }
    true
}
