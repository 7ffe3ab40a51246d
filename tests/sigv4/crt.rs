//! Uploads in chunks that AWS's own library signed in version 4A (`tools/sigv4a-chunks`): the form of its signatures, and
//! the chain between them, are not of our making.

use exeat::engine::facts::{PayloadOutcome, Timestamp};
use exeat::engine::reason::Reason;
use exeat::engine::request::RequestHead;
use exeat::engine::signature::{KnownKeys, PayloadClaim, Reading, Refusal, read};

use super::message::keys;

pub(super) const AT: Timestamp = Timestamp(1_767_323_045);

pub(super) struct Upload {
    pub name: String,
    pub head: String,
    pub body: Vec<u8>,
}

pub(super) fn uploads() -> Vec<Upload> {
    let text = include_str!("../vectors/sigv4/crt-v4a-chunks.json");
    let all: serde_json::Value = serde_json::from_str(text).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let all = all.as_array().unwrap().iter();
    all.map(|u| Upload {
        name: text(&u["name"]),
        head: text(&u["head"]),
        body: text(&u["body"]).into_bytes(),
    })
    .collect()
}

pub(super) fn known() -> KnownKeys {
    keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None)
}

fn due(head: &str) -> Result<PayloadClaim, Refusal> {
    let head = RequestHead::parse(head.to_owned().into()).unwrap();
    let Reading::Signed(claim) = read(&head)? else { panic!("it is signed") };
    claim.verify(None, &known(), AT).map(|verdict| verdict.due)
}

fn judge(due: &PayloadClaim, body: &[u8]) -> Result<PayloadOutcome, Refusal> {
    let mut check = due.start();
    for piece in body.chunks(7) {
        check.update(piece)?;
    }
    check.finish()
}

#[test]
fn chunks_and_trailers_that_awss_library_signed_in_version_4a_verify() {
    let uploads = uploads();
    assert_eq!(uploads.len(), 3);
    for Upload { name, head, body } in &uploads {
        let due = due(head).unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
        assert_eq!(judge(&due, body), Ok(PayloadOutcome::Matched), "{name}");
    }
}

#[test]
fn no_byte_of_them_can_change() {
    for Upload { name, head, body } in &uploads() {
        let due = due(head).unwrap();
        for at in 0..body.len() {
            let mut other = body.clone();
            // Another digit stays a digit: sizes and signatures are to fail by what they say.
            other[at] = if body[at] == b'1' { b'2' } else { b'1' };
            let refused = judge(&due, &other).expect_err(name);
            assert_eq!(refused.reason, Reason::SigV4Payload, "{name} at {at}");
        }
    }
}
