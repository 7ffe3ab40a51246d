//! Heads as we write them: start line and fields as they came, framing and connection anew. Pure: a head in, bytes out.

use bytes::{BufMut, BytesMut};

use super::body::Encoder;
use crate::engine::request::{RequestHead, ResponseHead, Version};

/// An answer's head: an origin's, as it came.
pub struct Passed<'a> {
    pub head: &'a ResponseHead,
    /// The client speaks HTTP/1.0: no chunks.
    pub to: Version,
    /// Say that the connection ends with this answer.
    pub close: bool,
}

/// Request line and fields as they came; hop-by-hop fields gone, framing anew.
pub fn put_request(head: &RequestHead, encoder: Encoder, out: &mut BytesMut) {
    out.reserve(head.raw().len() + 64);
    out.put_slice(head.method().as_bytes());
    out.put_u8(b' ');
    out.put_slice(head.target_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    for lines in head.forwarded_lines() {
        out.put_slice(lines);
    }
    encoder.field(out);
    if head.asks_websocket() {
        out.put_slice(WEBSOCKET);
    }
    out.put_slice(b"\r\n");
}

/// The two fields of a connection by which WebSocket is asked for and agreed on (RFC 6455 4).
const WEBSOCKET: &[u8] = b"Connection: Upgrade\r\nUpgrade: websocket\r\n";

/// A 101, passed on.
pub fn put_switch(head: &ResponseHead, out: &mut BytesMut) {
    put_status_and_fields(head, out);
    out.put_slice(WEBSOCKET);
    out.put_slice(b"\r\n");
}

/// Status line and fields as they came, framing and connection anew.
pub fn put_answer(passed: &Passed<'_>, encoder: Encoder, out: &mut BytesMut) {
    let head = passed.head;
    put_status_and_fields(head, out);
    if let Some(length) = head.told_length() {
        out.put_slice(b"Content-Length: ");
        out.put_slice(length);
        out.put_slice(b"\r\n");
    }
    encoder.field(out);
    if passed.close || encoder == Encoder::UntilClose {
        out.put_slice(b"Connection: close\r\n");
    } else if passed.to == Version::Http10 {
        out.put_slice(b"Connection: keep-alive\r\n");
    }
    out.put_slice(b"\r\n");
}

/// An interim answer, without the fields that stay on the origin's connection.
pub fn interim(head: &ResponseHead) -> BytesMut {
    let mut out = BytesMut::with_capacity(head.raw().len());
    put_status_and_fields(head, &mut out);
    out.put_slice(b"\r\n");
    out
}

fn put_status_and_fields(head: &ResponseHead, out: &mut BytesMut) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(head.status_and_reason());
    out.put_slice(b"\r\n");
    for lines in head.forwarded_lines() {
        out.put_slice(lines);
    }
}
