//! Parsing of a SigV4 claim, header form and query form: one struct gives the identity **and** the signature.
//!
//! Everything that needs neither key nor clock is judged here (facts/sigv4.md A1, A3, A5): two forms at once, names
//! given twice, scopes, dates, signed headers, paths. `super::Claim::verify` does the rest.

use std::borrow::Cow;

use super::canonical::{Parts, Query, halves, judge_path};
use super::fields::{SignedFields, pieces};
use super::payload::{Payload, Told};
use super::percent::{self, Plus};
use super::{Claim, Form, Refusal, hex};
use crate::engine::facts::Timestamp;
use crate::engine::reason::Reason;
use crate::engine::request::{Framing, RequestHead, is_name};

/// Seven days: S3's limit, which the other services' are below.
const MAX_EXPIRES: u32 = 604_800;

/// What a signing key is good for. Scopes end in `aws4_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// `YYYYMMDD`.
    pub date: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

impl Scope<'_> {
    /// Services that sign S3's way: path as sent, digest always stated.
    pub fn is_s3(&self) -> bool {
        matches!(self.service, "s3" | "s3express" | "s3-outposts" | "s3-object-lambda")
    }
}

/// Fields that a claim rests on, from one pass over the head. A repeated one is refused, whichever the form.
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    pub authorization: Option<&'a [u8]>,
    amz_date: Option<&'a [u8]>,
    date: Option<&'a [u8]>,
    token: Option<&'a [u8]>,
    express_token: Option<&'a [u8]>,
    /// The SSO portal's own field.
    pub sso_token: Option<&'a [u8]>,
    told: Told<'a>,
}

impl<'a> Seen<'a> {
    pub fn of(head: &'a RequestHead) -> Result<Self, Refusal> {
        let mut seen = Self::default();
        for (name, value) in head.fields() {
            let (slot, known) = match name.len() {
                4 => (&mut seen.date, "date"),
                10 => (&mut seen.amz_date, "x-amz-date"),
                13 if matches!(name[0], b'x' | b'X') => (&mut seen.told.trailer, "x-amz-trailer"),
                13 => (&mut seen.authorization, "authorization"),
                20 if matches!(name[19], b'n' | b'N') => (&mut seen.token, "x-amz-security-token"),
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
pub(super) struct QueryAuth<'a> {
    slots: [Option<&'a str>; PARAMETERS.len()],
}

/// Parameters that are part of the query form. The last two stand for header fields of S3.
const PARAMETERS: [&str; 9] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-S3session-Token",
    "X-Amz-Content-Sha256",
];

impl<'a> QueryAuth<'a> {
    /// `None` where no name of the query form occurs. SigV2's is refused, as are repeats and other spellings.
    pub fn of(query: &'a str) -> Result<Option<Self>, Refusal> {
        let mut auth = None;
        for piece in query.split('&') {
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

    fn demand(&self, at: usize) -> Result<&'a str, Refusal> {
        self.slots[at].ok_or_else(|| malformed(format!("`{}` is missing from the query", PARAMETERS[at])))
    }
}

/// Header form; `rest` is what follows the algorithm.
pub(super) fn from_header<'a>(
    head: &'a RequestHead,
    seen: &Seen<'a>,
    rest: &'a str,
) -> Result<Claim<'a>, Refusal> {
    let (mut credential, mut names, mut signature) = (None, None, None);
    for pair in pieces(rest, b',') {
        let pair = pair.trim_matches([' ', '\t']);
        let equals = memchr::memchr(b'=', pair.as_bytes());
        let (key, value) = equals.map_or(("", ""), |at| (&pair[..at], &pair[at + 1..]));
        let slot = match key {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut names,
            "Signature" => &mut signature,
            _ => {
                return Err(malformed(
                    "`authorization` is no list of credential, signed headers and signature",
                ));
            }
        };
        if slot.replace(value).is_some() {
            return Err(malformed(format!("`authorization` gives {key} twice")));
        }
    }
    let (Some(credential), Some(names), Some(signature)) = (credential, names, signature) else {
        return Err(malformed("`authorization` lacks credential, signed headers or signature"));
    };
    let (key_id, scope) = read_credential(credential, false)?;
    let fields = SignedFields::of(Cow::Borrowed(names), head)?;
    let date = match (seen.amz_date, seen.date) {
        (Some(date), _) => date,
        (None, Some(date)) if fields.contains("date") => date,
        (None, Some(_)) => return Err(Refusal::new(Reason::SigV4UnsignedHeader, "`date` is not signed")),
        (None, None) => return Err(malformed("neither `x-amz-date` nor `date` is sent")),
    };
    let (date, signed_at) = dated(date, &scope)?;
    let token = token(seen.token.map(Cow::Borrowed), seen.express_token.map(Cow::Borrowed), &scope)?;
    let payload = Payload::read(&seen.told, scope.is_s3(), false)?;
    Ok(Claim {
        form: Form::Header,
        key_id,
        scope,
        date,
        signed_at,
        signature: read_signature(signature)?,
        token,
        payload,
        is_empty: seen.told.is_empty,
        parts: parts(head, fields, &scope, None)?,
    })
}

/// Query form.
pub(super) fn from_query<'a>(
    head: &'a RequestHead,
    mut seen: Seen<'a>,
    auth: &QueryAuth<'a>,
) -> Result<Claim<'a>, Refusal> {
    match auth.demand(0)? {
        "AWS4-HMAC-SHA256" => {}
        "AWS4-ECDSA-P256-SHA256" => return Err(unsupported_v4a()),
        _ => return Err(malformed("`X-Amz-Algorithm` is unknown")),
    }
    if seen.amz_date.is_some() || seen.token.is_some() || seen.express_token.is_some() {
        let said = "date or token is sent as a header beside the signed query";
        return Err(Refusal::new(Reason::SigV4TwoForms, said));
    }
    let (key_id, scope) = read_credential(auth.demand(1)?, true)?;
    let expires = auth.demand(3)?;
    let plain = (1..=6).contains(&expires.len()) && expires.bytes().all(|b| b.is_ascii_digit());
    let expires = expires.parse().ok().filter(|seconds| plain && (1..=MAX_EXPIRES).contains(seconds));
    let Some(expires) = expires else {
        return Err(malformed("`X-Amz-Expires` is not within 1 and 604800 seconds"));
    };
    let names = match decoded(auth.demand(4)?)? {
        Cow::Borrowed(names) => Cow::Borrowed(std::str::from_utf8(names).unwrap_or_default()),
        Cow::Owned(names) => Cow::Owned(String::from_utf8(names).unwrap_or_default()),
    };
    let fields = SignedFields::of(names, head)?;
    let token =
        token(auth.slots[6].map(decoded).transpose()?, auth.slots[7].map(decoded).transpose()?, &scope)?;
    match (auth.slots[8], seen.told.content_sha256) {
        (Some(stated), None) if scope.is_s3() => seen.told.content_sha256 = Some(stated.as_bytes()),
        (Some(_), _) => {
            let said = "`X-Amz-Content-Sha256` is in the query, where a header has it or no service reads it";
            return Err(Refusal::new(Reason::SigV4TwoForms, said));
        }
        (None, _) => {}
    }
    let payload = Payload::read(&seen.told, scope.is_s3(), true)?;
    let (date, signed_at) = dated(auth.demand(2)?.as_bytes(), &scope)?;
    let parts = parts(head, fields, &scope, Some(PARAMETERS[5]))?;
    refuse_repeats(&parts.query)?;
    Ok(Claim {
        form: Form::Query { expires },
        key_id,
        scope,
        date,
        signed_at,
        signature: read_signature(auth.demand(5)?)?,
        token,
        payload,
        is_empty: seen.told.is_empty,
        parts,
    })
}

pub(super) fn unsupported_v4a() -> Refusal {
    Refusal::new(Reason::SigV4Unsupported, "signature version 4A is not supported yet")
}

fn malformed(said: impl Into<String>) -> Refusal {
    Refusal::new(Reason::SigV4Malformed, said)
}

/// The date, which must be the scope's.
fn dated<'a>(date: &'a [u8], scope: &Scope<'_>) -> Result<(&'a str, Timestamp), Refusal> {
    let date = std::str::from_utf8(date).unwrap_or_default();
    let Some(at) = read_date(date) else {
        return Err(malformed("date is not of the form YYYYMMDDTHHMMSSZ"));
    };
    if date.get(..8) != Some(scope.date) {
        return Err(Refusal::new(Reason::SigV4Scope, "date of the scope is not the date of the request"));
    }
    Ok((date, at))
}

fn read_signature(text: &str) -> Result<[u8; 32], Refusal> {
    hex::parse(text.as_bytes()).ok_or_else(|| malformed("signature is not 64 lower-case hex digits"))
}

/// What is signed beside the payload. `leave_out` is the query's own signature.
fn parts<'a>(
    head: &'a RequestHead,
    fields: SignedFields<'a>,
    scope: &Scope<'_>,
    leave_out: Option<&str>,
) -> Result<Parts<'a>, Refusal> {
    let path = head.path_bytes();
    judge_path(path, scope.is_s3())?;
    let query = Query::parse(head.query().unwrap_or_default().as_bytes(), leave_out)?;
    Ok(Parts { method: head.method(), path, query, fields })
}

/// `key-id/date/region/service/aws4_request`; in a query `/` may be `%2F`. Parts are borrowed, so they may hold no
/// other escapes: nothing in them needs one.
fn read_credential(text: &str, escaped: bool) -> Result<(&str, Scope<'_>), Refusal> {
    let scope = |said: &str| Err(Refusal::new(Reason::SigV4Scope, said));
    let mut parts = [""; 5];
    let mut count = 0;
    let mut rest = Some(text);
    while let Some(text) = rest {
        let slash = memchr::memchr(b'/', text.as_bytes()).map(|at| (at, 1));
        let escape = || text.find("%2F").or_else(|| text.find("%2f")).map(|at| (at, 3));
        let end = if escaped { slash.or_else(escape) } else { slash };
        let part = end.map_or(text, |(at, _)| &text[..at]);
        rest = end.map(|(at, length)| &text[at + length..]);
        let Some(slot) = parts.get_mut(count) else { return scope("credential has more than five parts") };
        *slot = part;
        count += 1;
    }
    let [key_id, date, region, service, terminator] = parts;
    if count != 5 || terminator != "aws4_request" {
        return scope("credential is not key/date/region/service/aws4_request");
    }
    let word = |text: &str, longest: usize| {
        (1..=longest).contains(&text.len()) && text.bytes().all(|b| IN_WORD[usize::from(b)])
    };
    if !word(key_id, 128) || !word(region, 64) || !word(service, 64) {
        return scope("credential has a part that is no name");
    }
    if date.len() != 8 || !date.bytes().all(|b| b.is_ascii_digit()) {
        return scope("date of the scope is not of the form YYYYMMDD");
    }
    Ok((key_id, Scope { date, region, service }))
}

/// Letters, digits, `-`, `_` and `.`.
const IN_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'_' | b'.');
        byte += 1;
    }
    table
};

/// S3 Express has a token of its own; elsewhere its field means nothing and is refused.
fn token<'a>(
    session: Option<Cow<'a, [u8]>>,
    express: Option<Cow<'a, [u8]>>,
    scope: &Scope<'_>,
) -> Result<Option<Cow<'a, [u8]>>, Refusal> {
    match (session, express) {
        (token, None) => Ok(token),
        (None, token) if scope.service == "s3express" => Ok(token),
        _ => Err(Refusal::new(Reason::SigV4Token, "an S3 Express token is sent beside another or elsewhere")),
    }
}

fn decoded(raw: &str) -> Result<Cow<'_, [u8]>, Refusal> {
    percent::decode(raw.as_bytes(), Plus::Space)
        .ok_or_else(|| malformed("query has a malformed percent escape"))
}

/// Two layers may pick different ones of `x-amz-acl=..&X-Amz-Acl=..`.
fn refuse_repeats(query: &Query<'_>) -> Result<(), Refusal> {
    let is_amz = |name: &[u8]| name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"x-amz-"));
    let mut names: Vec<_> = query.names().filter(|n| is_amz(n)).map(<[u8]>::to_ascii_lowercase).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(malformed("an `x-amz-` parameter is in the query more than once"));
    }
    Ok(())
}

/// `YYYYMMDDTHHMMSSZ`, UTC.
fn read_date(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        bytes[range].iter().try_fold(0u16, |n, b| b.is_ascii_digit().then(|| n * 10 + u16::from(b - b'0')))
    };
    let small = |range| number(range).and_then(|n| u8::try_from(n).ok());
    let month = time::Month::try_from(small(4..6)?).ok()?;
    let date = time::Date::from_calendar_date(i32::from(number(0..4)?), month, small(6..8)?).ok()?;
    let time = time::Time::from_hms(small(9..11)?, small(11..13)?, small(13..15)?).ok()?;
    Some(Timestamp(time::PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dates_of_one_form_only() {
        assert_eq!(read_date("20150830T123600Z"), Some(Timestamp(1_440_938_160)));
        assert_eq!(read_date("20240229T235959Z"), Some(Timestamp(1_709_251_199)));
        for text in [
            "20230229T000000Z",
            "20150830T123600",
            "20150830T123600z",
            "20150830 123600Z",
            "2015-08-30T12:36:00Z",
            "20151330T123600Z",
            "20150830T240000Z",
            "20150830T126000Z",
            "+2150830T123600Z",
            "",
        ] {
            assert_eq!(read_date(text), None, "{text}");
        }
    }

    #[test]
    fn a_credential_has_five_parts_and_nothing_odd_in_them() {
        let good = "AKID/20150830/us-east-1/s3/aws4_request";
        let want = ("AKID", Scope { date: "20150830", region: "us-east-1", service: "s3" });
        assert_eq!(read_credential(good, false).unwrap(), want);
        assert_eq!(read_credential(good, true).unwrap(), want);
        assert_eq!(read_credential(&good.replace('/', "%2F"), true).unwrap(), want);
        assert_eq!(read_credential(&good.replace('/', "%2f"), true).unwrap(), want);
        assert!(read_credential(&good.replace('/', "%2F"), false).is_err());
        for text in [
            "AKID/20150830/us-east-1/s3",
            "AKID/20150830/us-east-1/s3/aws4_request/x",
            "AKID/20150830/us-east-1/s3/aws4_requestx",
            "/20150830/us-east-1/s3/aws4_request",
            "AKID/2015083/us-east-1/s3/aws4_request",
            "AKID/20150830//s3/aws4_request",
            "AKID/20150830/us-east-1/s3%33/aws4_request",
            "AK ID/20150830/us-east-1/s3/aws4_request",
            "",
        ] {
            for escaped in [true, false] {
                assert_eq!(read_credential(text, escaped).unwrap_err().reason, Reason::SigV4Scope, "{text}");
            }
        }
    }
}
