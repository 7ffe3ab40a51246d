//! Event streams: the signatures of aws-c-auth's tests, frames in every split, and what ends a stream.

use aws_lc_rs::digest;
use exeat::engine::facts::{PayloadOutcome, PayloadState, Secret, Timestamp};
use exeat::engine::reason::Reason;
use exeat::engine::signature::{BodyCheck, KnownKeys, MAX_SIGNED_CHUNK, Refusal, Scope, SigningKey};
use serde_json::Value;

use super::message::{Message, hex, keys, text};

/// 1981-01-16T06:30:00Z, the vectors' clock.
pub(super) const START: i64 = 348_474_600;

pub(super) struct Stream {
    pub head: Message,
    seed: String,
    pub known: KnownKeys,
    /// Seconds after the start, payload, signature.
    events: Vec<(i64, Vec<u8>, Vec<u8>)>,
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
}

pub(super) fn recorded() -> Stream {
    let file: Value = serde_json::from_str(&text("event-stream.json")).unwrap();
    let part = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    let mut head = Message { method: "POST".into(), target: "/streaming".into(), ..Message::default() };
    let seed = part(&file, "seed_signature");
    let names = "content-encoding;host;x-amz-content-sha256;x-amz-date";
    let value = format!(
        "AWS4-HMAC-SHA256 Credential=access/{}, SignedHeaders={names}, Signature={seed}",
        part(&file, "scope")
    );
    for (name, value) in [
        ("content-encoding", "application/vnd.amazon.eventstream"),
        ("host", "demo.us-east-1.amazonaws.com"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-EVENTS"),
        ("x-amz-date", "19810116T063000Z"),
        ("transfer-encoding", "chunked"),
        ("authorization", &value),
    ] {
        head.set(name, value);
    }
    let events = file["events"].as_array().unwrap().iter().enumerate().map(|(n, event)| {
        let at = n as i64 + 1;
        assert_eq!(hex(&date_header((START + at) * 1000)), part(event, "date_header_hex"));
        (at, unhex(&part(event, "payload_hex")), unhex(&part(event, "signature")))
    });
    Stream { events: events.collect(), head, seed, known: keys("access", "secret", None) }
}

fn date_header(milliseconds: i64) -> Vec<u8> {
    [b"\x05:date\x08", &milliseconds.to_be_bytes()[..]].concat()
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    (crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes) as u32).to_be_bytes()
}

fn frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = (headers.len() + payload.len() + 16) as u32;
    let mut frame = [total.to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
    frame.extend(crc(&frame));
    frame.extend_from_slice(headers);
    frame.extend_from_slice(payload);
    frame.extend(crc(&frame));
    frame
}

fn signed_frame(at: i64, payload: &[u8], signature: &[u8]) -> Vec<u8> {
    let signature = [b"\x10:chunk-signature\x06\x00\x20", signature].concat();
    frame(&[signature, date_header((START + at) * 1000)].concat(), payload)
}

impl Stream {
    fn check(&self) -> BodyCheck {
        let verdict = self.head.verify(&self.known, Timestamp(START)).unwrap();
        assert_eq!(verdict.identity.payload, PayloadState::Signed);
        verdict.due.start()
    }

    pub(super) fn frames(&self) -> Vec<Vec<u8>> {
        self.events.iter().map(|(at, payload, signature)| signed_frame(*at, payload, signature)).collect()
    }
}

fn feed(mut check: BodyCheck, wire: &[u8], splits: &[usize]) -> (usize, Result<PayloadOutcome, Refusal>) {
    let (mut released, mut from) = (0, 0);
    for &to in splits.iter().chain([&wire.len()]) {
        match check.update(&wire[from..to]) {
            Ok(withheld) => released = to - withheld,
            Err(refusal) => return (released, Err(refusal)),
        }
        from = to;
    }
    (released, check.finish())
}

#[test]
fn verifies_recorded_events_in_every_split_and_lets_go_of_whole_ones_only() {
    let stream = recorded();
    let frames = stream.frames();
    let wire = frames.concat();
    let ends: Vec<usize> = frames
        .iter()
        .scan(0, |end, frame| {
            *end += frame.len();
            Some(*end)
        })
        .collect();
    for at in 0..=wire.len() {
        let (released, outcome) = feed(stream.check(), &wire, &[at]);
        assert_eq!((released, outcome.unwrap()), (wire.len(), PayloadOutcome::Matched), "{at}");
        let mut check = stream.check();
        let gone = at - check.update(&wire[..at]).unwrap();
        assert_eq!(gone, ends.iter().copied().filter(|end| *end <= at).max().unwrap_or(0), "{at}");
        assert!(check.room() <= frames[0].len());
    }
    let single: Vec<usize> = (0..wire.len()).collect();
    assert!(feed(stream.check(), &wire, &single).1.is_ok());
}

#[test]
fn every_flipped_bit_is_refused_and_no_byte_of_its_event_goes_on() {
    let stream = recorded();
    let frames = stream.frames();
    let wire = frames.concat();
    for at in 0..wire.len() {
        let mut forged = wire.clone();
        forged[at] ^= 1;
        let single: Vec<usize> = (0..wire.len()).collect();
        let (released, outcome) = feed(stream.check(), &forged, &single);
        assert!(outcome.is_err() && released <= at, "{at}");
        assert!(feed(stream.check(), &wire[..at], &[]).1.is_err(), "{at}");
    }
    // Whole frames with a right CRC, but not what was signed.
    let (at, payload, signature) = stream.events[1].clone();
    for (name, other) in [
        ("payload", signed_frame(at, b"X", &signature)),
        ("date", signed_frame(at + 1, &payload, &signature)),
        ("signature", signed_frame(at, &payload, &[0; 32])),
        ("order", frames[2].clone()),
        ("twice", frames[0].clone()),
        ("early end", frames[3].clone()),
    ] {
        let wire = [&frames[0], &other, &frames[2], &frames[3]].map(Clone::clone).concat();
        let (released, outcome) = feed(stream.check(), &wire, &[frames[0].len()]);
        assert_eq!(outcome.unwrap_err().reason, Reason::SigV4Payload, "{name}");
        assert_eq!(released, frames[0].len(), "{name}");
    }
}

#[test]
fn a_message_has_exactly_a_date_and_a_signature_and_a_stream_ends_with_an_empty_one() {
    let stream = recorded();
    let (at, payload, signature) = stream.events[0].clone();
    let date = date_header((START + at) * 1000);
    let signature = [b"\x10:chunk-signature\x06\x00\x20", &signature[..]].concat();
    let mut check = stream.check();
    let swapped = frame(&[&date[..], &signature].concat(), &payload);
    assert_eq!(check.update(&swapped).unwrap(), 0, "either order");
    for (name, wire) in [
        ("no headers", frame(b"", &payload)),
        ("no date", frame(&signature, &payload)),
        ("date twice", frame(&[&date[..], &date, &signature].concat(), &payload)),
        ("one more", frame(&[&date[..], &signature, b"\x01a\x00"].concat(), &payload)),
        ("another type", frame(&[b"\x05:date\x05", &date[7..], &signature].concat(), &payload)),
        ("another name", frame(&[b"\x05:dato\x08", &date[7..], &signature].concat(), &payload)),
        (
            "shorter than its headers",
            [0u32.to_be_bytes(), 67u32.to_be_bytes(), crc(&[0, 0, 0, 0, 0, 0, 0, 67])].concat(),
        ),
    ] {
        let wire = [wire, vec![0; 100]].concat();
        let refusal = stream.check().update(&wire).unwrap_err();
        assert_eq!(refusal.reason, Reason::SigV4Payload, "{name}");
    }
    let frames = stream.frames();
    assert!(feed(stream.check(), &frames[..3].concat(), &[]).1.is_err(), "no end");
    assert!(feed(stream.check(), b"", &[]).1.is_err(), "no event at all");
    assert!(
        feed(stream.check(), &[frames.concat(), frames[3].clone()].concat(), &[]).1.is_err(),
        "after the end"
    );
    let mut prelude = [(MAX_SIGNED_CHUNK as u32 + 84).to_be_bytes(), 67u32.to_be_bytes()].concat();
    prelude.extend(crc(&prelude));
    prelude.extend([date, signature].concat());
    assert_eq!(stream.check().update(&prelude).unwrap_err().reason, Reason::SigV4Unsupported);
    // Under a key we don't know, frames are read and nothing is called matched.
    let unknown = stream.head.verify(&KnownKeys::default(), Timestamp(START)).unwrap().due;
    assert_eq!(feed(unknown.start(), &frames.concat(), &[]).1.unwrap(), PayloadOutcome::Unchecked);
    assert!(
        unknown
            .start()
            .update(b"no frames at all, but as long as the front of one, or so I hope and believe it is")
            .is_err()
    );
}

/// Events of these payloads, so many seconds after the start; signed here, with the scope of the event's own day.
pub(super) fn signed_events(stream: &Stream, events: &[(i64, &[u8])]) -> Vec<u8> {
    let sha256 = |data: &[u8]| hex(digest::digest(&digest::SHA256, data).as_ref());
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let mut previous = stream.seed.clone();
    let mut wire = Vec::new();
    for &(later, payload) in events {
        let at = time::OffsetDateTime::from_unix_timestamp(START + later).unwrap();
        let date = at.format(format).unwrap();
        let scope = Scope { date: &date[..8], region: "us-east-1", service: "demo" };
        let header = sha256(&date_header((START + later) * 1000));
        let scoped = format!("{}/us-east-1/demo/aws4_request", scope.date);
        let text =
            format!("AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scoped}\n{previous}\n{header}\n{}", sha256(payload));
        let signature = SigningKey::derive(&Secret::new(b"secret"), &scope).sign(text.as_bytes());
        wire.extend(signed_frame(later, payload, &signature));
        previous = hex(&signature);
    }
    wire
}

#[test]
fn a_stream_goes_on_past_midnight_under_the_next_days_key_but_not_for_another_day() {
    let stream = recorded();
    let wire = signed_events(&stream, &[(64_000, b"A"), (64_001, b"")]);
    assert_eq!(feed(stream.check(), &wire, &[]).1.unwrap(), PayloadOutcome::Matched);
    for later in [-901, 86_401] {
        let late = signed_events(&stream, &[(later, b"A")]);
        assert_eq!(stream.check().update(&late).unwrap_err().reason, Reason::SigV4Skew, "{later}");
    }
}
