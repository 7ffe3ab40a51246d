//! An origin's head: httparse reads the same words, and what goes on to the client is one answer with one framing.
#![no_main]

use bytes::{Bytes, BytesMut};
use exeat_fuzz::engine::request::{Framing, HeadScanner, ResponseHead, Version};
use exeat_fuzz::proxy::http1::body::Encoder;
use exeat_fuzz::proxy::http1::head::{Passed, interim, put_answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(end)) = HeadScanner::default().scan(bytes) else { return };
    let raw = Bytes::copy_from_slice(&bytes[..end]);
    for method in ["GET", "HEAD"] {
        let Ok(head) = ResponseHead::parse(raw.clone(), method) else { continue };
        let mut slots = [httparse::EMPTY_HEADER; 256];
        let mut parsed = httparse::Response::new(&mut slots);
        assert_eq!(parsed.parse(&raw), Ok(httparse::Status::Complete(raw.len())));
        assert_eq!(parsed.code, Some(head.status()));
        // We add two fields at most: its framing, and that the connection ends.
        if parsed.headers.len() > 126 {
            continue;
        }
        for to in [Version::Http11, Version::Http10] {
            let mut encoder = Encoder::keep(head.framing());
            if to == Version::Http10 && encoder == Encoder::Chunked {
                encoder = Encoder::UntilClose;
            }
            let mut sent = BytesMut::new();
            put_answer(&Passed { head: &head, to, close: false }, encoder, &mut sent);
            let again = ResponseHead::parse(sent.freeze(), method).expect("what we write, we read");
            assert_eq!(again.status(), head.status());
            let wanted = match (head.framing(), encoder) {
                (Framing::UntilClose | Framing::Chunked, Encoder::Chunked) => Framing::Chunked,
                (Framing::UntilClose | Framing::Chunked, _) => Framing::UntilClose,
                (framing, _) => framing,
            };
            assert_eq!(again.framing(), wanted);
            for name in ["alt-svc", "keep-alive", "proxy-authenticate", "upgrade"] {
                assert!(again.first(name).is_none(), "{name} went on");
            }
        }
        let told = interim(&head).freeze();
        assert!(ResponseHead::parse(told, "HEAD").is_ok());
    }
});
