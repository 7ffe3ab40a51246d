//! A body on the wire: how it is cut never changes what is read, what we take hyper reads the same, and what we write
//! reads back.
#![no_main]

use bytes::BytesMut;
use exeat_fuzz::engine::request::Framing;
use exeat_fuzz::law::decode;
use exeat_fuzz::oracle;
use exeat_fuzz::proxy::http1::body::Encoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, wire)) = bytes.split_first() else { return };
    let (framing, field) = match kind {
        0..=31 => (Framing::Length(u64::from(kind)), format!("Content-Length: {kind}")),
        _ => (Framing::Chunked, "Transfer-Encoding: chunked".to_owned()),
    };
    let whole = decode(framing, wire, wire.len().max(1));
    for piece in [1, 2, 13] {
        assert_eq!(decode(framing, wire, piece), whole, "in pieces of {piece}");
    }
    let Ok(Some((data, used))) = whole else { return };
    let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\n{field}\r\n\r\n");
    let heard = oracle::requests(&[head.as_bytes(), &wire[..used]].concat());
    let first = heard.first().expect("the head is a good one");
    // hyper refuses a few trailers and extensions that we take and drop.
    assert!(first.body.as_ref().is_none_or(|body| *body == data), "{:?} and {data:?}", first.body);
    let mut encoder = Encoder::keep(framing);
    let mut sent = BytesMut::new();
    for part in data.chunks(5) {
        encoder.data(part, &mut sent).expect("as long as it said");
    }
    encoder.end(None, &mut sent).expect("whole");
    assert_eq!(decode(framing, &sent, 3), Ok(Some((data, sent.len()))));
});
