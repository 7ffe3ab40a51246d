//! Signed bodies in another name: chunks of version 4 and of 4A, and events. What the verifier let go of goes in, and what
//! comes out is verified under our key.

use std::time::{Duration, UNIX_EPOCH};

use exeat::engine::facts::{PayloadOutcome, Timestamp};
use exeat::engine::signature::resign::{NotAsVerified, Resigned};
use exeat::engine::signature::{KnownKeys, PayloadClaim, Refusal};

use super::chunk_signer::{ChunkSigner, seed_of};
use super::message::{Message, keys};
use super::mutations::{passes, refused};
use super::requests::{Recorded, streams};
use super::resign::{LATER, anew_at, claim, ours, parse};
use super::rules::message;
use super::signer::Signer;
use super::{crt, events};

/// A body that is signed piece by piece, as a client sends it.
struct Given {
    name: String,
    head: Message,
    known: KnownKeys,
    at: Timestamp,
    wire: Vec<u8>,
    /// When we sign.
    later: Timestamp,
}

impl Given {
    fn anew(&self) -> Resigned {
        let Self { name, head, known, at, later, .. } = self;
        anew_at(head, known, (*at, *later), "s3.test", None).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What `resigned` must still prove, under our key.
    fn due(&self, resigned: &Resigned) -> PayloadClaim {
        claim(&parse(resigned)).verify(None, &KnownKeys::new([ours()]), self.later).unwrap().due
    }

    /// The way of a body in pieces: checked as the client's, and what is let go of goes on under our key.
    fn pass(&self, wire: &[u8], split: usize) -> (Resigned, Vec<u8>, Result<PayloadOutcome, Refusal>) {
        let mut check = self.head.verify(&self.known, self.at).unwrap().due.start();
        let (mut resigned, mut out, mut gone, mut read) = (self.anew(), Vec::new(), 0, 0);
        for piece in wire.chunks(split) {
            read += piece.len();
            match check.update(piece) {
                Err(refusal) => return (resigned, out, Err(refusal)),
                Ok(withheld) => {
                    let now = gone..read - withheld;
                    gone = now.end;
                    resigned.body.take(&wire[now], &mut out).unwrap();
                }
            }
        }
        (resigned, out, check.finish())
    }
}

/// Version 4, signed by `aws-sigv4`.
fn upload(trailer: Option<(&'static str, &str)>, end: &str) -> Given {
    let word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let word = if trailer.is_some() { "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" } else { word };
    let signer = Signer { payload: Some(word), ..Signer::s3() };
    let mut head = message("PUT", "/b/k", &[("content-encoding", "aws-chunked")]);
    head.set("x-amz-decoded-content-length", "11");
    if let Some((name, _)) = trailer {
        head.set("x-amz-trailer", name);
    }
    let mut head = signer.sign(head);
    let at = UNIX_EPOCH + Duration::from_secs(signer.at.0.unsigned_abs());
    let chunks = ChunkSigner { id: signer.id, secret: signer.secret, region: signer.region, at };
    let seed = seed_of(head.value("authorization").unwrap()).to_owned();
    let wire = chunks.sign(&seed, &[b"hello ", b"world"], trailer).concat();
    let text = String::from_utf8(wire).unwrap();
    let wire = if end.is_empty() { text } else { text.replacen("==\r\n", &format!("==\n{end}"), 1) };
    head.set("content-length", &wire.len().to_string());
    let known = keys(signer.id, signer.secret, None);
    let name = format!("{word} {end:?}");
    Given { name, head, known, at: signer.at, wire: wire.into_bytes(), later: LATER }
}

/// Version 4A, signed by AWS's own library.
fn uploads_4a() -> Vec<Given> {
    let given = crt::uploads().into_iter().map(|upload| Given {
        name: upload.name,
        head: Message::parse(&upload.head.replace("\r\n", "\n")),
        known: crt::known(),
        at: crt::AT,
        wire: upload.body,
        later: LATER,
    });
    given.collect()
}

/// Events whose signatures are those of aws-c-auth's tests. They keep their dates: so does what is in our name.
fn stream(wire: impl FnOnce(&events::Stream) -> Vec<u8>) -> Given {
    let stream = events::recorded();
    let (at, later) = (Timestamp(events::START), Timestamp(events::START + 60));
    let wire = wire(&stream);
    Given { name: "events".into(), head: stream.head, known: stream.known, at, wire, later }
}

fn all() -> Vec<Given> {
    let crc = ("x-amz-checksum-crc32", "DUoRhQ==");
    let mut all = vec![upload(None, ""), upload(Some(crc), ""), upload(Some(crc), "\r\n")];
    all.extend(uploads_4a());
    all.push(stream(|stream| stream.frames().concat()));
    all.extend(streams().into_iter().map(|Recorded { id: name, at, message, keys: known, .. }| {
        let (wire, later) = (message.body.clone(), Timestamp(at.0 + 60));
        Given { name, head: message, known, at, wire, later }
    }));
    all
}

#[test]
fn signed_bodies_get_a_chain_of_ours_in_any_split_and_keep_their_length() {
    for given in all() {
        let Given { name, wire, .. } = &given;
        for split in 1..=wire.len() {
            let (resigned, out, outcome) = given.pass(wire, split);
            assert_eq!(outcome, Ok(PayloadOutcome::Matched), "{name} {split}");
            assert!(resigned.body.is_done(), "{name} {split}");
            assert_eq!(out.len(), wire.len(), "{name}: the length is what the head says");
            assert_ne!(&out, wire, "{name}");
            let due = given.due(&resigned);
            let mut check = due.start();
            assert_eq!(check.update(&out), Ok(0), "{name} {split}");
            assert_eq!(check.finish(), Ok(PayloadOutcome::Matched), "{name} {split}");
            // What the client signed holds no more.
            assert!(due.start().update(wire).is_err(), "{name}");
        }
    }
}

#[test]
fn every_bit_of_what_is_in_our_name_counts() {
    for given in all() {
        let Given { name, wire, .. } = &given;
        let (resigned, body, _) = given.pass(wire, wire.len());
        let head = String::from_utf8(resigned.head).unwrap();
        let good = Message { body, ..Message::parse(&head.replace("\r\n", "\n")) };
        let keys = KnownKeys::new([ours()]);
        assert!(passes(&good, &keys, given.later), "{name}");
        let mut exempt = Vec::new();
        let recorded = Recorded {
            id: name.clone(),
            at: given.later,
            message: good,
            keys,
            is_signed: true,
            facts: serde_json::Value::Null,
        };
        // Not the bit of letter case, which digits of a size and names of fields don't have.
        let bits = [0, 1, 2, 3, 4, 6, 7];
        assert!(refused(&recorded, &bits, &mut exempt) > 3_000, "{name}");
        assert!(exempt.is_empty(), "{name}");
    }
}

#[test]
fn no_byte_of_a_piece_that_its_client_did_not_sign_so_goes_on_in_our_name() {
    for given in all() {
        let Given { name, wire, .. } = &given;
        for at in 0..wire.len() {
            let mut forged = wire.clone();
            forged[at] ^= 1;
            let (resigned, out, outcome) = given.pass(&forged, 7);
            assert!(outcome.is_err() && !resigned.body.is_done(), "{name} {at}");
            assert!(out.len() <= at, "{name} {at}: {}", out.len());
        }
        for end in 0..wire.len() {
            let (resigned, _, outcome) = given.pass(&wire[..end], wire.len());
            assert!(outcome.is_err() && !resigned.body.is_done(), "{name} {end}");
        }
    }
}

#[test]
fn events_past_midnight_are_signed_with_the_next_days_key() {
    let given =
        stream(|stream| events::signed_events(stream, &[(62_000, b"A"), (64_000, b"B"), (64_001, b"")]));
    let (resigned, out, outcome) = given.pass(&given.wire, 1);
    assert_eq!(outcome, Ok(PayloadOutcome::Matched));
    let mut check = given.due(&resigned).start();
    assert_eq!((check.update(&out), check.finish()), (Ok(0), Ok(PayloadOutcome::Matched)));
}

#[test]
fn a_signature_is_as_long_as_the_one_it_replaces() {
    // Its signers pad to 144 digits; where one does not, ours have no more room either.
    let mut given = uploads_4a().remove(0);
    let bare = String::from_utf8(given.wire).unwrap().replace('*', "");
    given.wire = bare.into_bytes();
    let (resigned, out, outcome) = given.pass(&given.wire, given.wire.len());
    assert_eq!((outcome, out.len()), (Ok(PayloadOutcome::Matched), given.wire.len()));
    let mut check = given.due(&resigned).start();
    assert_eq!((check.update(&out), check.finish()), (Ok(0), Ok(PayloadOutcome::Matched)));
}

#[test]
fn what_is_not_as_it_was_verified_is_no_body_in_our_name() {
    let refuse = |given: &Given, name: &str, changed: &[u8]| {
        assert_eq!(given.anew().body.take(changed, &mut Vec::new()), Err(NotAsVerified), "{name}");
    };
    for given in [upload(None, ""), uploads_4a().remove(0)] {
        let text = String::from_utf8(given.wire.clone()).unwrap();
        let size = text.split_once(';').unwrap().0;
        let end = text.match_indices("\r\n").nth(1).unwrap().0;
        for (name, changed) in [
            ("no signature", text.replacen(";chunk-signature=", ";chunk-signatur=", 1)),
            ("no room for one", text.replacen("signature=", "signature=\r\n", 1)),
            ("no size", text.replacen(size, "z", 1)),
            ("a huge size", text.replacen(size, "ffffffffffffffff", 1)),
            ("a size over what is held", text.replacen(size, "1000001", 1)),
            ("data without its end", format!("{}ab{}", &text[..end], &text[end + 2..])),
            ("an endless line", "0".repeat(10_000)),
            ("more", text.clone() + "\r\n"),
        ] {
            refuse(&given, name, changed.as_bytes());
        }
    }
    let given = stream(|stream| stream.frames().concat());
    let frame = &given.wire[..u32::from_be_bytes(*given.wire.first_chunk().unwrap()) as usize];
    let changed = |at: usize, to: u8| {
        let mut frame = frame.to_vec();
        frame[at] = to;
        frame
    };
    for (name, wire) in [
        ("shorter than its headers", changed(3, 10)),
        ("longer than what is held", changed(0, 10)),
        ("other headers", changed(14, b'x')),
        ("more", [&given.wire[..], &given.wire[..1]].concat()),
    ] {
        refuse(&given, name, &wire);
    }
    // A whole piece is not yet a whole body.
    for given in all() {
        let mut body = given.anew().body;
        for at in 1..given.wire.len() {
            body.take(&given.wire[at - 1..at], &mut Vec::new()).unwrap();
            assert!(!body.is_done(), "{} {at}", given.name);
        }
    }
}
