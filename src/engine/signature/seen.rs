//! Where a claim may stand in a head: header fields and query parameters, each at most once.
//!
//! One pass over each. What is repeated or spelt another way is refused here, whichever the form.

use super::Refusal;
use super::canonical::halves;
use super::claim::malformed;
use super::payload::Told;
use super::percent::{self, Plus};
use crate::engine::form;
use crate::engine::pieces::pieces;
use crate::engine::reason::Reason;
use crate::engine::request::{Framing, RequestHead, is_name};

/// Fields that a claim rests on, from one pass over the head. A repeated one is refused, whichever the form.
#[derive(Debug, Default)]
pub struct Seen<'a> {
    pub authorization: Option<&'a [u8]>,
    pub amz_date: Option<&'a [u8]>,
    pub date: Option<&'a [u8]>,
    pub token: Option<&'a [u8]>,
    pub express_token: Option<&'a [u8]>,
    pub region_set: Option<&'a [u8]>,
    /// The SSO portal's own field.
    pub sso_token: Option<&'a [u8]>,
    pub told: Told<'a>,
    /// A form's media type.
    pub is_form: bool,
}

impl<'a> Seen<'a> {
    pub fn of(head: &'a RequestHead) -> Result<Self, Refusal> {
        let mut seen = Self::default();
        for (name, value) in head.fields() {
            let (slot, known) = match name.len() {
                4 => (&mut seen.date, "date"),
                10 => (&mut seen.amz_date, "x-amz-date"),
                12 => {
                    seen.is_form |= is_name(name, b"content-type") && form::is_form(value);
                    continue;
                }
                13 if name[0].eq_ignore_ascii_case(&b'x') => (&mut seen.told.trailer, "x-amz-trailer"),
                13 => (&mut seen.authorization, "authorization"),
                16 => (&mut seen.region_set, "x-amz-region-set"),
                20 if name[19].eq_ignore_ascii_case(&b'n') => (&mut seen.token, "x-amz-security-token"),
                20 => (&mut seen.told.content_sha256, "x-amz-content-sha256"),
                21 => (&mut seen.express_token, "x-amz-s3session-token"),
                22 => (&mut seen.sso_token, "x-amz-sso_bearer_token"),
                28 => (&mut seen.told.decoded_length, "x-amz-decoded-content-length"),
                _ => continue,
            };
            if is_name(name, known.as_bytes()) && slot.replace(value).is_some() {
                return Err(malformed(format!("`{known}` is sent more than once")));
            }
        }
        seen.told.is_empty = matches!(head.framing(), Framing::None | Framing::Length(0));
        Ok(seen)
    }
}

/// Authentication parameters of a query, raw, each at most once and in its exact spelling.
#[derive(Debug, Default)]
pub struct QueryAuth<'a> {
    slots: [Option<&'a str>; PARAMETERS.len()],
}

// Places in `PARAMETERS`.
pub const ALGORITHM: usize = 0;
pub const CREDENTIAL: usize = 1;
pub const DATE: usize = 2;
pub const EXPIRES: usize = 3;
pub const SIGNED_HEADERS: usize = 4;
pub const SIGNATURE: usize = 5;
pub const TOKEN: usize = 6;
pub const EXPRESS_TOKEN: usize = 7;
pub const CONTENT_SHA256: usize = 8;
pub const REGION_SET: usize = 9;

/// Parameters that are part of the query form. The third and second last stand for header fields of S3.
pub const PARAMETERS: [&str; 10] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-S3session-Token",
    "X-Amz-Content-Sha256",
    "X-Amz-Region-Set",
];

impl<'a> QueryAuth<'a> {
    /// `None` where no name of the query form occurs. SigV2's is refused, as are repeats and other spellings.
    pub fn of(query: &'a str) -> Result<Option<Self>, Refusal> {
        let mut auth = None;
        for piece in pieces(query, b'&') {
            let raw = halves(piece.as_bytes()).0;
            // A malformed escape names nothing; where the query is signed it is refused later.
            let Some(name) = percent::decode(raw, Plus::Space) else { continue };
            if name.eq_ignore_ascii_case(b"AWSAccessKeyId") {
                return Err(Refusal::new(Reason::SigV4Version2, "query is signed with version 2"));
            }
            if !name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"x-amz-")) {
                continue;
            }
            let Some(at) = PARAMETERS.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes()))
            else {
                continue;
            };
            let known = PARAMETERS[at];
            if raw != known.as_bytes() {
                return Err(malformed(format!("`{known}` is spelt another way in the query")));
            }
            let value = piece.get(known.len() + 1..).unwrap_or_default();
            let slots = &mut auth.get_or_insert_with(Self::default).slots;
            if slots[at].replace(value).is_some() {
                return Err(malformed(format!("`{known}` is in the query more than once")));
            }
        }
        Ok(auth)
    }

    pub fn get(&self, at: usize) -> Option<&'a str> {
        self.slots[at]
    }

    pub fn demand(&self, at: usize) -> Result<&'a str, Refusal> {
        self.slots[at].ok_or_else(|| malformed(format!("`{}` is missing from the query", PARAMETERS[at])))
    }
}
