//! Every byte that a signature covers: changed, one at a time, in requests as clients put them on the wire.

use exeat::engine::facts::{PayloadState, SignatureState, Timestamp};
use exeat::engine::signature::{KnownKeys, Reading, read};

use super::message::Message;
use super::requests::{Recorded, captured, recorded, streams};

/// Verified, and its body met.
pub(super) fn passes(message: &Message, known: &KnownKeys, now: Timestamp) -> bool {
    let Ok(head) = message.head() else { return false };
    let Ok(Reading::Signed(claim)) = read(&head) else { return false };
    let body = claim.needs_body().then_some(&*message.body);
    let Ok(verdict) = claim.verify(body, known, now) else { return false };
    let mut check = verdict.due.start();
    verdict.identity.signature == SignatureState::Verified
        && check.update(&message.body).is_ok()
        && check.finish().is_ok()
}

/// What may change, because it says the same: nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Same {
    /// Names of fields have no case (RFC 9110 5.1).
    FieldName,
    /// Nor have the digits of an escape (RFC 3986 2.1): they are signed in upper case.
    Escape,
    /// Nor those of a chunk's size, nor a trailer's name, in aws-chunked framing that nobody signed.
    Framing,
}

/// The one of them that a change of this byte is.
fn same(text: &[u8], at: usize, changed: u8, inside: Same) -> Option<Same> {
    let (letter, other) = (text[at].is_ascii_alphabetic(), text[at] ^ changed == 0x20);
    let escape = |back: usize| at >= back && text[at - back] == b'%' && text[at].is_ascii_hexdigit();
    let fits = match inside {
        Same::FieldName => true,
        Same::Escape => escape(1) || escape(2),
        // `HEX CRLF` before the data, `name:` behind the last chunk.
        Same::Framing => {
            let line = text[..at].iter().rposition(|&b| b == b'\n').map_or(0, |before| before + 1);
            let rest = &text[line..];
            let end = rest.iter().position(|&b| b == b'\r' || b == b':').unwrap_or(rest.len());
            let word = &rest[..end];
            at < line + end && (word.iter().all(u8::is_ascii_hexdigit) || word.starts_with(b"x-amz-checksum"))
        }
    };
    (letter && other && fits).then_some(inside)
}

/// Changes these bits of every byte of a request's signed part, one at a time: how many changes were refused, and in
/// `exempt` why the others passed.
pub(super) fn refused(recorded: &Recorded, bits: &[u32], exempt: &mut Vec<Same>) -> usize {
    let Recorded { id, at: now, message: good, keys: known, .. } = recorded;
    let head = good.head().unwrap();
    let Ok(Reading::Signed(claim)) = read(&head) else { unreachable!("it passed") };
    let mut bytes = 0;
    let mut refuse = |changed: &Message, what: &str, at: usize, same: Option<Same>| {
        let passed = passes(changed, known, *now);
        if passed && let Some(same) = same {
            exempt.push(same);
            return;
        }
        assert!(!passed, "{id}: byte {at} of {what} counts for nothing");
        bytes += 1;
    };
    for flip in bits.iter().map(|&bit| 1u8 << bit) {
        for at in 0..good.method.len() {
            let mut method = good.method.clone().into_bytes();
            method[at] ^= flip;
            let Ok(method) = String::from_utf8(method) else { continue };
            refuse(&Message { method, ..good.clone() }, "the method", at, None);
        }
        for at in 0..good.target.len() {
            let mut changed = good.clone();
            changed.target[at] ^= flip;
            let same = same(&good.target, at, changed.target[at], Same::Escape);
            refuse(&changed, "the target", at, same);
        }
        for (n, (name, value)) in good.fields.iter().enumerate() {
            // Framing's digits; a body of another length is no message any more.
            let signed = claim.signs(name) && !name.eq_ignore_ascii_case("content-length");
            if !(signed || name.eq_ignore_ascii_case("authorization")) {
                continue;
            }
            for at in 0..name.len() {
                let mut text = name.clone().into_bytes();
                text[at] ^= flip;
                let same = same(name.as_bytes(), at, text[at], Same::FieldName);
                let Ok(text) = String::from_utf8(text) else { continue };
                let mut changed = good.clone();
                changed.fields[n].0 = text;
                refuse(&changed, &format!("the name `{name}`"), at, same);
            }
            for at in 0..value.len() {
                let mut changed = good.clone();
                changed.fields[n].1[at] ^= flip;
                refuse(&changed, name, at, None);
            }
        }
        // Of an unsigned stream, framing and checksum; of a signed body, all of it.
        if claim.payload() != PayloadState::Unsigned {
            for at in 0..good.body.len().min(4096) {
                let mut changed = good.clone();
                changed.body[at] ^= flip;
                let framed = claim.payload() == PayloadState::Checksum;
                let same = same(&good.body, at, changed.body[at], Same::Framing).filter(|_| framed);
                refuse(&changed, "the body", at, same);
            }
        }
    }
    bytes
}

#[test]
fn no_byte_that_is_signed_can_change() {
    let (mut requests, mut bytes, mut exempt) = (0, 0, Vec::new());
    for recorded in recorded() {
        if !passes(&recorded.message, &recorded.keys, recorded.at) {
            continue; // of those that nobody signed, or that must be refused
        }
        bytes += refused(&recorded, &[0, 4], &mut exempt);
        requests += 1;
    }
    assert!(exempt.is_empty(), "none of those bits is one of case");
    assert!(requests > 60 && bytes > 30_000, "{requests} requests, {bytes} bytes");
}

#[test]
fn no_byte_that_the_sdks_for_python_javascript_go_and_java_sign_can_change() {
    let (mut bytes, mut exempt) = (0, Vec::new());
    for recorded in captured().into_iter().chain(streams()) {
        assert!(passes(&recorded.message, &recorded.keys, recorded.at), "{}", recorded.id);
        bytes += refused(&recorded, &[0, 1, 2, 3, 4, 5, 6, 7], &mut exempt);
    }
    assert!(bytes > 200_000, "{bytes} bytes");
    // Each exemption is one that these requests need.
    exempt.sort_unstable();
    exempt.dedup();
    assert_eq!(exempt, [Same::FieldName, Same::Escape, Same::Framing]);
}

#[test]
fn a_field_that_is_not_signed_may_change_in_the_requests_of_all_four() {
    for recorded in captured() {
        let head = recorded.message.head().unwrap();
        let Ok(Reading::Signed(claim)) = read(&head) else { panic!("{}", recorded.id) };
        if claim.signs("user-agent") {
            continue;
        }
        let mut other = recorded.message.clone();
        other.set("user-agent", "another");
        assert!(passes(&other, &recorded.keys, recorded.at), "{}", recorded.id);
    }
}
