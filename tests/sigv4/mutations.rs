//! Every byte that a signature covers: changed, one at a time, in requests as clients put them on the wire.

use exeat::engine::facts::SignatureState;
use exeat::engine::signature::{KnownKeys, Reading, read};

use super::message::Message;
use super::requests::{RECORDED, recorded};

/// Verified, and its body met.
fn passes(message: &Message, known: &KnownKeys) -> bool {
    let Ok(head) = message.head() else { return false };
    let Ok(Reading::Signed(claim)) = read(&head) else { return false };
    let body = claim.needs_body().then_some(&*message.body);
    let Ok(verdict) = claim.verify(body, known, RECORDED) else { return false };
    let mut check = verdict.due.start();
    verdict.identity.signature == SignatureState::Verified
        && check.update(&message.body).is_ok()
        && check.finish().is_ok()
}

#[test]
fn no_byte_that_is_signed_can_change() {
    let (mut requests, mut bytes) = (0, 0);
    for recorded in recorded() {
        let (id, good, known) = (&recorded.id, &recorded.message, &recorded.keys);
        if !passes(good, known) {
            continue; // of those that nobody signed, or that must be refused
        }
        let head = good.head().unwrap();
        let Ok(Reading::Signed(claim)) = read(&head) else { unreachable!("it passed") };
        let mut refuse = |changed: &Message, what: &str, at: usize| {
            bytes += 1;
            assert!(!passes(changed, known), "{id}: byte {at} of {what} counts for nothing");
        };
        let flips = [0x01, 0x10];
        for flip in flips {
            for at in 0..good.method.len() {
                let mut method = good.method.clone().into_bytes();
                method[at] ^= flip;
                let Ok(method) = String::from_utf8(method) else { continue };
                refuse(&Message { method, ..good.clone() }, "the method", at);
            }
            for at in 0..good.target.len() {
                let mut changed = good.clone();
                changed.target[at] ^= flip;
                refuse(&changed, "the target", at);
            }
            for (n, (name, value)) in good.fields.iter().enumerate() {
                // Framing's digits; a body of another length is no message any more.
                let signed = claim.signs(name) && !name.eq_ignore_ascii_case("content-length");
                if !(signed || name.eq_ignore_ascii_case("authorization")) {
                    continue;
                }
                for at in 0..value.len() {
                    let mut changed = good.clone();
                    changed.fields[n].1[at] ^= flip;
                    refuse(&changed, name, at);
                }
            }
            // Of an unsigned stream, framing and checksum; of a signed body, all of it.
            if claim.payload() != exeat::engine::facts::PayloadState::Unsigned {
                for at in 0..good.body.len().min(4096) {
                    let mut changed = good.clone();
                    changed.body[at] ^= flip;
                    refuse(&changed, "the body", at);
                }
            }
        }
        requests += 1;
    }
    assert!(requests > 60 && bytes > 30_000, "{requests} requests, {bytes} bytes");
}
