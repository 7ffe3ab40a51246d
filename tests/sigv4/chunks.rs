//! Bodies signed chunk by chunk: AWS's examples, AWS's signer, every split; and what must not pass.

use std::time::{Duration, UNIX_EPOCH};

use exeat::engine::facts::{PayloadOutcome, PayloadState};
use exeat::engine::reason::Reason;
use exeat::engine::signature::{BodyCheck, KnownKeys, MAX_SIGNED_CHUNK, Refusal};
use proptest::prelude::*;
use serde_json::Value;

use super::chunk_signer::{ChunkSigner, seed_of};
use super::message::{Message, keys, text};
use super::rules::{keys_of, message};
use super::signer::Signer;

const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const WITH_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const CRC32_OF_HELLO: &str = "NhCmhg==";

/// A signed upload: its check, before the body, and the body's chunks.
struct Upload {
    check: BodyCheck,
    chunks: Vec<Vec<u8>>,
}

impl Upload {
    fn new(data: &[&[u8]], trailer: Option<(&'static str, &str)>) -> Self {
        Self::sized(data, trailer, data.iter().map(|chunk| chunk.len()).sum())
    }

    fn sized(data: &[&[u8]], trailer: Option<(&'static str, &str)>, decoded_length: usize) -> Self {
        let (head, chunks) = sign(data, trailer, decoded_length);
        let signer = Signer::s3();
        let verdict = head.verify(&keys_of(&signer), signer.at).unwrap();
        assert_eq!(verdict.identity.payload, PayloadState::Signed);
        Self { check: verdict.due.start(), chunks }
    }

    fn wire(&self) -> Vec<u8> {
        self.chunks.concat()
    }
}

fn sign(
    data: &[&[u8]],
    trailer: Option<(&'static str, &str)>,
    decoded_length: usize,
) -> (Message, Vec<Vec<u8>>) {
    let word = if trailer.is_some() { WITH_TRAILER } else { SIGNED };
    let signer = Signer { payload: Some(word), ..Signer::s3() };
    let mut head = message("PUT", "/b/k", &[("content-length", "1000"), ("content-encoding", "aws-chunked")]);
    head.set("x-amz-decoded-content-length", &decoded_length.to_string());
    if let Some((name, _)) = trailer {
        head.set("x-amz-trailer", name);
    }
    let head = signer.sign(head);
    let at = UNIX_EPOCH + Duration::from_secs(signer.at.0.unsigned_abs());
    let chunks = ChunkSigner { id: signer.id, secret: signer.secret, region: signer.region, at }.sign(
        seed_of(head.value("authorization").unwrap()),
        data,
        trailer,
    );
    (head, chunks)
}

/// Feeds pieces; what the check lets go of, in order, and how it ended.
fn feed(check: &mut BodyCheck, wire: &[u8], splits: &[usize]) -> (Vec<u8>, Result<PayloadOutcome, Refusal>) {
    let (mut released, mut from) = (0, 0);
    for &to in splits.iter().chain([&wire.len()]) {
        match check.update(&wire[from..to]) {
            Ok(withheld) => {
                assert!(to - withheld >= released, "what went can't be called back");
                released = to - withheld;
            }
            Err(refusal) => return (wire[..released].into(), Err(refusal)),
        }
        from = to;
    }
    let outcome = check.finish();
    assert!(outcome.is_err() || released == wire.len(), "a finished body has gone");
    (wire[..released].into(), outcome)
}

#[test]
fn verifies_the_examples_of_the_s3_documentation_chunk_by_chunk() {
    let file: Value = serde_json::from_str(&text("s3-chunked.json")).unwrap();
    let known = keys("AKIAIOSFODNN7EXAMPLE", file["secret_access_key"].as_str().unwrap(), None);
    for case in file["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let part = |name: &str| case[name].as_str().unwrap();
        let mut head =
            Message { method: part("method").into(), target: part("target").into(), ..Message::default() };
        let mut names = Vec::new();
        for pair in case["headers"].as_array().unwrap() {
            let (name, value) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            head.set(name, value);
            names.push(name);
        }
        if head.value("content-length").is_none() {
            head.set("content-length", "66948");
        }
        let value = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/{},SignedHeaders={},Signature={}",
            part("credential_scope"),
            names.join(";"),
            part("seed_signature")
        );
        head.set("authorization", &value);
        let now = exeat::engine::facts::Timestamp(1_369_353_600);
        let due = head.verify(&known, now).unwrap_or_else(|e| panic!("{id}: {e:?}")).due;

        let mut wire = Vec::new();
        let mut ends = Vec::new();
        for chunk in case["chunks"].as_array().unwrap() {
            let size = usize::from_str_radix(chunk["size_hex"].as_str().unwrap(), 16).unwrap();
            wire.extend_from_slice(
                chunk["header_line"].as_str().unwrap().replace("\\r\\n", "\r\n").as_bytes(),
            );
            wire.extend(std::iter::repeat_n(b'a', size));
            if size > 0 {
                wire.extend_from_slice(b"\r\n");
                ends.push(wire.len());
            }
        }
        if let Some(line) = case["trailer"]["lines_on_wire"][0].as_str() {
            let signature = case["trailer"]["x_amz_trailer_signature"].as_str().unwrap();
            wire.extend_from_slice(format!("{line}\r\nx-amz-trailer-signature:{signature}\r\n").as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        let mut check = due.start();
        assert_eq!(feed(&mut check, &wire, &ends).1.unwrap(), PayloadOutcome::Matched, "{id}");
        // Each chunk is let go at its last byte, and not before; its size line and data wait together.
        let mut check = due.start();
        assert_eq!(check.update(&wire[..ends[0] - 3]).unwrap(), ends[0] - 3, "{id}");
        assert_eq!(check.room(), ends[0] - 2, "{id}");
        assert!(check.update(&wire[ends[0] - 3..ends[0] - 2]).unwrap() == 0, "{id}");
    }
}

#[test]
fn passes_however_the_bytes_are_split_and_lets_go_of_whole_chunks_only() {
    for trailer in [None, Some(("x-amz-checksum-crc32", CRC32_OF_HELLO))] {
        let upload = Upload::new(&[b"he", b"llo"], trailer);
        let wire = upload.wire();
        let ends = [upload.chunks[0].len(), upload.chunks[0].len() + upload.chunks[1].len(), wire.len()];
        for at in 0..=wire.len() {
            let mut check = Upload::new(&[b"he", b"llo"], trailer).check;
            let (released, outcome) = feed(&mut check, &wire, &[at]);
            assert_eq!(outcome.unwrap(), PayloadOutcome::Matched, "{at}");
            assert_eq!(released, wire);
            let mut check = Upload::new(&[b"he", b"llo"], trailer).check;
            let gone = at - check.update(&wire[..at]).unwrap();
            let whole = ends.iter().copied().filter(|end| at >= *end).max().unwrap_or(0);
            // A chunk's own line end may lag behind its proof.
            assert!(gone == whole || (gone > whole && ends.contains(&(gone + 2))), "{at}: {gone} {whole}");
        }
        let single: Vec<usize> = (0..wire.len()).collect();
        let mut check = upload.check;
        assert_eq!(feed(&mut check, &wire, &single).1.unwrap(), PayloadOutcome::Matched);
    }
}

#[test]
fn every_flipped_bit_and_every_truncation_is_refused_before_its_chunk_has_gone() {
    for trailer in [None, Some(("x-amz-checksum-crc32", CRC32_OF_HELLO))] {
        let upload = Upload::new(&[b"he", b"llo"], trailer);
        let wire = upload.wire();
        let starts = [0, upload.chunks[0].len(), upload.chunks[0].len() + upload.chunks[1].len()];
        let single: Vec<usize> = (0..wire.len()).collect();
        for at in 0..wire.len() {
            let mut forged = wire.clone();
            forged[at] ^= 1;
            for splits in [&single[..], &[]] {
                let mut check = Upload::new(&[b"he", b"llo"], trailer).check;
                let (released, outcome) = feed(&mut check, &forged, splits);
                assert!(outcome.is_err(), "{at}: {:?}", String::from_utf8_lossy(&forged));
                let start = starts.iter().copied().filter(|start| *start <= at).max().unwrap();
                // A changed line end after a chunk is found once the chunk itself has gone.
                let in_line_end = released.len() <= at && at - released.len() < 2;
                assert!(released.len() <= start || in_line_end, "{at}: {}", released.len());
            }
            let mut check = Upload::new(&[b"he", b"llo"], trailer).check;
            assert!(feed(&mut check, &wire[..at], &[]).1.is_err(), "{at}");
        }
    }
}

#[test]
fn chunks_can_neither_be_swapped_nor_left_out_nor_repeated_nor_taken_from_another_upload() {
    let upload = || Upload::new(&[b"aa", b"bb", b"cc"], None);
    let chunks = upload().chunks;
    let elsewhere = Upload::new(&[b"xx", b"bb", b"cc"], None).chunks;
    let [a, b, c, end] = [0, 1, 2, 3].map(|n| chunks[n].clone());
    for (name, wire) in [
        ("swapped", [&b, &a, &c, &end].map(Clone::clone).concat()),
        ("left out", [&a, &c, &end].map(Clone::clone).concat()),
        ("repeated", [&a, &a, &c, &end].map(Clone::clone).concat()),
        ("from another upload", [&a, &elsewhere[1], &c, &end].map(Clone::clone).concat()),
        ("early end", [&a, &end].map(Clone::clone).concat()),
        ("two ends", [&a, &b, &c, &end, &end].map(Clone::clone).concat()),
        ("unsigned chunk", [&a[..], b"2\r\nbb\r\n", &c, &end].concat()),
        ("unsigned end", [&a[..], &b, &c, b"0\r\n\r\n"].concat()),
    ] {
        let (released, outcome) = feed(&mut upload().check, &wire, &[a.len()]);
        assert_eq!(outcome.unwrap_err().reason, Reason::SigV4Payload, "{name}");
        assert!(released.len() <= a.len(), "{name}: nothing after the last good chunk goes on");
    }
    assert!(feed(&mut upload().check, &[a, b, c, end].concat(), &[]).1.is_ok());
}

#[test]
fn a_chunk_line_has_one_spelling() {
    let upload = || Upload::new(&[b"hello"], None);
    let good = String::from_utf8(upload().wire()).unwrap();
    for (name, wire) in [
        ("another extension", good.replacen(";chunk", ";a=b;chunk", 1)),
        ("an extension after it", good.replacen("\r\nhello", ";a=b\r\nhello", 1)),
        ("a blank", good.replacen(";chunk", "; chunk", 1)),
        ("upper-case name", good.replacen("chunk-signature", "Chunk-Signature", 1)),
        ("quotes", good.replacen("signature=", "signature=\"", 1)),
        ("no size", good.replacen("5;", ";", 1)),
        ("sign", good.replacen("5;", "+5;", 1)),
        ("0x", good.replacen("5;", "0x5;", 1)),
        ("too many digits", good.replacen("5;", "00000000000000005;", 1)),
        ("no extension", good.replacen(&good[1..good.find('\r').unwrap()], "", 1)),
        ("long line", good.replacen("signature=", &format!("signature={}", "0".repeat(200)), 1)),
        ("LF", good.replacen("\r\nhello", "\nhello", 1)),
        (
            "a trailer nobody announced",
            good.replacen("\r\n\r\n", "\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 1),
        ),
    ] {
        assert_ne!(wire, good, "{name}");
        let (released, outcome) = feed(&mut upload().check, wire.as_bytes(), &[]);
        assert_eq!(outcome.unwrap_err().reason, Reason::SigV4Payload, "{name}");
        assert!(released.is_empty(), "{name}");
    }
    // The signature's digits have one case too.
    let mut line = good.clone().into_bytes();
    let at = line.iter().skip(18).position(u8::is_ascii_lowercase).unwrap() + 18;
    line[at].make_ascii_uppercase();
    assert!(feed(&mut upload().check, &line, &[]).1.is_err());
}

#[test]
fn a_signed_trailer_must_be_there_announced_signed_and_true() {
    let trailer = Some(("x-amz-checksum-crc32", CRC32_OF_HELLO));
    let upload = || Upload::new(&[b"hello"], trailer);
    let good = String::from_utf8(upload().wire()).unwrap();
    assert!(feed(&mut upload().check, good.as_bytes(), &[]).1.is_ok());
    let at = good.find("x-amz-checksum").unwrap();
    let (start, trailers) = good.split_at(at);
    let (checksum, signature) = trailers.trim_end().split_once("\r\n").unwrap();
    for (name, end) in [
        ("missing", "\r\n".to_owned()),
        ("unsigned", format!("{checksum}\r\n\r\n")),
        ("signature alone", format!("{signature}\r\n\r\n")),
        ("signature first", format!("{signature}\r\n{checksum}\r\n\r\n")),
        ("signature twice", format!("{checksum}\r\n{signature}\r\n{signature}\r\n\r\n")),
        ("another algorithm", format!("{}\r\n{signature}\r\n\r\n", checksum.replace("crc32", "crc32c"))),
        ("a second trailer", format!("{checksum}\r\nx-amz-meta-a:1\r\n{signature}\r\n\r\n")),
        ("changed value", format!("{}\r\n{signature}\r\n\r\n", checksum.replace("NhC", "NhD"))),
        ("blank before the colon", format!("{}\r\n{signature}\r\n\r\n", checksum.replace(':', " :"))),
        ("no last line", format!("{checksum}\r\n{signature}\r\n")),
        ("more", format!("{checksum}\r\n{signature}\r\n\r\nx")),
    ] {
        let (_, outcome) = feed(&mut upload().check, format!("{start}{end}").as_bytes(), &[]);
        assert_eq!(outcome.unwrap_err().reason, Reason::SigV4Payload, "{name}");
    }
    // Signed, but not the body's.
    let mut wrong = Upload::new(&[b"hello"], Some(("x-amz-checksum-crc32", "AAAAAA==")));
    let wire = wrong.wire();
    let (released, outcome) = feed(&mut wrong.check, &wire, &[]);
    assert_eq!(outcome.unwrap_err().reason, Reason::SigV4Payload);
    assert!(released.is_empty());
    // The S3 reference prints, and minio-go sends, one more LF; nothing else is let through with it.
    let lf = format!("{start}{checksum}\n\r\n{signature}\r\n\r\n");
    assert!(feed(&mut upload().check, lf.as_bytes(), &[]).1.is_ok());
    for other in [
        format!("{start}{checksum}\n\n\r\n{signature}\r\n\r\n"),
        format!("{start}{checksum}\n{signature}\r\n\r\n"),
        format!("{start}\n{checksum}\r\n{signature}\r\n\r\n"),
        lf.replacen("hello\r\n", "hello\n\r\n", 1),
    ] {
        assert!(feed(&mut upload().check, other.as_bytes(), &[]).1.is_err(), "{other:?}");
    }
}

#[test]
fn the_decoded_length_is_the_sum_of_the_chunks() {
    for decoded_length in [0, 4, 6, 1 << 40] {
        let mut upload = Upload::sized(&[b"hello"], None, decoded_length);
        let wire = upload.wire();
        assert_eq!(feed(&mut upload.check, &wire, &[]).1.unwrap_err().reason, Reason::SigV4Payload);
    }
    let mut empty = Upload::new(&[], None);
    let wire = empty.wire();
    assert_eq!(feed(&mut empty.check, &wire, &[]).1.unwrap(), PayloadOutcome::Matched);
}

#[test]
fn a_chunk_may_be_sixteen_mebibytes_and_not_a_byte_more() {
    let most = MAX_SIGNED_CHUNK as usize;
    let line = |size: usize| format!("{size:x};chunk-signature={}\r\n", "0".repeat(64));
    let mut check = Upload::sized(&[], None, most + 1).check;
    let taken = check.update(line(most).as_bytes()).unwrap();
    assert_eq!((taken, check.room()), (line(most).len(), line(most).len() + most));
    let mut check = Upload::sized(&[], None, most + 1).check;
    let refusal = check.update(line(most + 1).as_bytes()).unwrap_err();
    assert_eq!(refusal.reason, Reason::SigV4Unsupported);
}

#[test]
fn under_an_unknown_key_the_form_is_checked_and_nothing_is_called_matched_but_a_checksum() {
    for (trailer, outcome) in [
        (None, PayloadOutcome::Unchecked),
        (Some(("x-amz-checksum-crc32", CRC32_OF_HELLO)), PayloadOutcome::Matched),
    ] {
        let (head, chunks) = sign(&[b"hello"], trailer, 5);
        let due = head.verify(&KnownKeys::default(), Signer::s3().at).unwrap().due;
        assert_eq!(feed(&mut due.start(), &chunks.concat(), &[]).1.unwrap(), outcome);
        let plain = b"5\r\nhello\r\n0\r\n\r\n";
        assert!(feed(&mut due.start(), plain, &[]).1.is_err());
        assert!(feed(&mut due.start(), &chunks[0], &[]).1.is_err());
    }
}

#[test]
fn chunks_are_checked_at_once_where_the_body_was_read_before() {
    let (head, chunks) = sign(&[b"hello"], None, 5);
    let signer = Signer::s3();
    let parsed = head.head().unwrap();
    let claim = super::message::signed(&parsed).unwrap();
    let judge = |body: &[u8]| claim.verify(Some(body), &keys_of(&signer), signer.at).map(|v| v.due);
    let due = judge(&chunks.concat()).unwrap();
    assert_eq!(due.start().finish().unwrap(), PayloadOutcome::Matched);
    assert_eq!(judge(&chunks[0]).unwrap_err().reason, Reason::SigV4Payload);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn strange_bytes_are_refused_and_never_a_panic(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"05af;=\r\n:-".to_vec())], 0..200),
        word in prop::sample::select(vec![SIGNED, "STREAMING-AWS4-HMAC-SHA256-EVENTS"]),
        split in any::<prop::sample::Index>(),
    ) {
        let service = if word == SIGNED { "s3" } else { "transcribe" };
        let signer = Signer { payload: Some(word), service, ..Signer::default() };
        let fields = [("content-length", "1000"), ("x-amz-decoded-content-length", "5")];
        let head = signer.sign(message("POST", "/", &fields));
        for known in [keys_of(&signer), KnownKeys::default()] {
            let mut check = head.verify(&known, signer.at).unwrap().due.start();
            prop_assert!(feed(&mut check, &bytes, &[split.index(bytes.len() + 1)]).1.is_err());
        }
        let _ = exeat::engine::form::Form::parse(b"multipart/form-data; boundary=0", &bytes);
    }

    #[test]
    fn whatever_aws_signs_in_chunks_passes_and_nothing_else_does(
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..2000), 0..6),
        has_trailer in any::<bool>(),
        splits in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        // Not the bit of letter case: digits of a size have two.
        flip in prop::option::of((any::<prop::sample::Index>(), prop::sample::select(vec![0, 1, 2, 3, 4, 6, 7]))),
    ) {
        let pieces: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &data.concat()) as u32;
        let value = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, crc.to_be_bytes());
        let trailer = has_trailer.then_some(("x-amz-checksum-crc32c", &*value));
        let mut upload = Upload::new(&pieces, trailer);
        let mut wire = upload.wire();
        let mut splits: Vec<usize> = splits.iter().map(|at| at.index(wire.len() + 1)).collect();
        splits.sort_unstable();
        if let Some((at, bit)) = flip {
            let at = at.index(wire.len());
            wire[at] ^= 1 << bit;
        }
        let (_, outcome) = feed(&mut upload.check, &wire, &splits);
        prop_assert_eq!(outcome.is_ok(), flip.is_none());
    }
}
