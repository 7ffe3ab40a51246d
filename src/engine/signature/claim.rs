//! Parsing of a SigV4 claim, header form and query form: one struct gives the identity **and** the signature.
//!
//! Everything that needs neither key nor clock is judged here: scopes, dates, signed
//! headers, paths. `super::seen` found the fields; `super::Claim::verify` does the rest.

use std::borrow::Cow;

use super::canonical::{Parts, Query, judge_path};
use super::fields::SignedFields;
use super::payload::Payload;
use super::percent::{self, Plus};
use super::seen::{self, PARAMETERS, QueryAuth, Seen};
use super::{Claim, Form, Refusal, Signature, v4a};
use crate::engine::facts::Timestamp;
use crate::engine::hex;
use crate::engine::pieces::{cut, pieces};
use crate::engine::reason::Reason;
use crate::engine::request::RequestHead;

/// Seven days: S3's limit, which the other services' are below.
const MAX_EXPIRES: u32 = 604_800;

/// How a request is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Hmac,
    /// Version 4A.
    Ecdsa,
}

impl Algorithm {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hmac => "AWS4-HMAC-SHA256",
            Self::Ecdsa => "AWS4-ECDSA-P256-SHA256",
        }
    }

    pub(super) fn of(name: &[u8]) -> Option<Self> {
        [Self::Hmac, Self::Ecdsa].into_iter().find(|known| known.as_str().as_bytes() == name)
    }
}

/// What a signing key is good for. Scopes end in `aws4_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// `YYYYMMDD`.
    pub date: &'a str,
    /// Of version 4A the region set, which stands beside the scope: patterns with commas between them.
    pub region: &'a str,
    pub service: &'a str,
}

impl Scope<'_> {
    /// Services that sign S3's way: path as sent, digest always stated.
    pub fn is_s3(&self) -> bool {
        matches!(self.service, "s3" | "s3express" | "s3-outposts" | "s3-object-lambda")
    }

    /// As a string to sign has it.
    pub(super) fn write(&self, algorithm: Algorithm, out: &mut Vec<u8>) {
        let region = if algorithm == Algorithm::Hmac { [self.region, "/"] } else { [""; 2] };
        for part in [self.date, "/", region[0], region[1], self.service, "/aws4_request"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// Header form; `rest` is what follows the algorithm.
pub(super) fn from_header<'a>(
    head: &'a RequestHead,
    seen: &Seen<'a>,
    algorithm: Algorithm,
    rest: &'a str,
) -> Result<Claim<'a>, Refusal> {
    let (mut credential, mut names, mut signature) = (None, None, None);
    for pair in pieces(rest, b',') {
        let pair = pair.trim_ascii();
        let (slot, value, key) = if let Some(value) = pair.strip_prefix("Credential=") {
            (&mut credential, value, "Credential")
        } else if let Some(value) = pair.strip_prefix("SignedHeaders=") {
            (&mut names, value, "SignedHeaders")
        } else if let Some(value) = pair.strip_prefix("Signature=") {
            (&mut signature, value, "Signature")
        } else {
            let said = "`authorization` is no list of credential, signed headers and signature";
            return Err(malformed(said));
        };
        if slot.replace(value).is_some() {
            return Err(malformed(format!("`authorization` gives {key} twice")));
        }
    }
    let (Some(credential), Some(names), Some(signature)) = (credential, names, signature) else {
        return Err(malformed("`authorization` lacks credential, signed headers or signature"));
    };
    let (key_id, mut scope) = read_credential(credential, algorithm, false)?;
    if algorithm == Algorithm::Ecdsa {
        scope.region = region_set(seen.region_set.and_then(|set| std::str::from_utf8(set).ok()), false)?;
    }
    let fields = SignedFields::of(Cow::Borrowed(names), head)?;
    let date = match (seen.amz_date, seen.date) {
        (Some(date), _) => date,
        (None, Some(date)) if fields.contains("date") => date,
        (None, Some(_)) => return Err(Refusal::new(Reason::SigV4UnsignedHeader, "`date` is not signed")),
        (None, None) => return Err(malformed("neither `x-amz-date` nor `date` is sent")),
    };
    let (date, signed_at) = dated(date, &scope)?;
    let token = token(seen.token.map(Cow::Borrowed), seen.express_token.map(Cow::Borrowed), &scope)?;
    let payload = Payload::read(&seen.told, algorithm, scope.is_s3(), false)?;
    Ok(Claim {
        form: Form::Header,
        algorithm,
        key_id,
        scope,
        date,
        signed_at,
        signature: read_signature(signature, algorithm)?,
        token,
        payload,
        is_empty: seen.told.is_empty,
        opens: head.asks_websocket(),
        parts: parts(head, fields, &scope, &[])?,
    })
}

/// Query form.
pub(super) fn from_query<'a>(
    head: &'a RequestHead,
    mut seen: Seen<'a>,
    auth: &QueryAuth<'a>,
) -> Result<Claim<'a>, Refusal> {
    let Some(algorithm) = Algorithm::of(auth.demand(seen::ALGORITHM)?.as_bytes()) else {
        return Err(malformed("`X-Amz-Algorithm` is unknown"));
    };
    if seen.amz_date.is_some() || seen.token.is_some() || seen.express_token.is_some() {
        let said = "date or token is sent as a header beside the signed query";
        return Err(Refusal::new(Reason::SigV4TwoForms, said));
    }
    let (key_id, mut scope) = read_credential(auth.demand(seen::CREDENTIAL)?, algorithm, true)?;
    match (algorithm, auth.get(seen::REGION_SET)) {
        (Algorithm::Ecdsa, set) => scope.region = region_set(set, true)?,
        (Algorithm::Hmac, None) => {}
        (Algorithm::Hmac, Some(_)) => return Err(malformed("a region set, but not of version 4A")),
    }
    let expires = auth.demand(seen::EXPIRES)?;
    let plain = (1..=6).contains(&expires.len()) && expires.bytes().all(|b| b.is_ascii_digit());
    let expires = expires.parse().ok().filter(|seconds| plain && (1..=MAX_EXPIRES).contains(seconds));
    let Some(expires) = expires else {
        return Err(malformed("`X-Amz-Expires` is not within 1 and 604800 seconds"));
    };
    let names = match decoded(auth.demand(seen::SIGNED_HEADERS)?)? {
        Cow::Borrowed(names) => Cow::Borrowed(std::str::from_utf8(names).unwrap_or_default()),
        Cow::Owned(names) => Cow::Owned(String::from_utf8(names).unwrap_or_default()),
    };
    let fields = SignedFields::of(names, head)?;
    let token = token(
        auth.get(seen::TOKEN).map(decoded).transpose()?,
        auth.get(seen::EXPRESS_TOKEN).map(decoded).transpose()?,
        &scope,
    )?;
    match (auth.get(seen::CONTENT_SHA256), seen.told.content_sha256) {
        (Some(stated), None) if scope.is_s3() => seen.told.content_sha256 = Some(stated.as_bytes()),
        (Some(_), _) => {
            let said = "`X-Amz-Content-Sha256` is in the query, where a header has it or no service reads it";
            return Err(Refusal::new(Reason::SigV4TwoForms, said));
        }
        (None, _) => {}
    }
    let payload = Payload::read(&seen.told, algorithm, scope.is_s3(), true)?;
    let (date, signed_at) = dated(auth.demand(seen::DATE)?.as_bytes(), &scope)?;
    // IoT's clients put the token into the finished URL (AWS IoT Developer Guide, "MQTT over WSS").
    let unsigned = if scope.service == "iotdevicegateway" { 2 } else { 1 };
    let parts =
        parts(head, fields, &scope, &[PARAMETERS[seen::SIGNATURE], PARAMETERS[seen::TOKEN]][..unsigned])?;
    refuse_repeats(&parts.query)?;
    Ok(Claim {
        form: Form::Query { expires },
        algorithm,
        key_id,
        scope,
        date,
        signed_at,
        signature: read_signature(auth.demand(seen::SIGNATURE)?, algorithm)?,
        token,
        payload,
        is_empty: seen.told.is_empty,
        opens: head.asks_websocket(),
        parts,
    })
}

pub(super) fn malformed(said: impl Into<String>) -> Refusal {
    Refusal::new(Reason::SigV4Malformed, said)
}

/// The date, which must be the scope's.
pub(super) fn dated<'a>(date: &'a [u8], scope: &Scope<'_>) -> Result<(&'a [u8], Timestamp), Refusal> {
    let Some(at) = read_date(date) else {
        return Err(malformed("date is not of the form YYYYMMDDTHHMMSSZ"));
    };
    if date.get(..8) != Some(scope.date.as_bytes()) {
        return Err(Refusal::new(Reason::SigV4Scope, "date of the scope is not the date of the request"));
    }
    Ok((date, at))
}

pub(super) fn read_signature(text: &str, algorithm: Algorithm) -> Result<Signature<'_>, Refusal> {
    match algorithm {
        Algorithm::Hmac => hex::parse(text.as_bytes())
            .map(|value| Signature { text, value })
            .ok_or_else(|| malformed("signature is not 64 lower-case hex digits")),
        Algorithm::Ecdsa => hex::parse_any(text.as_bytes())
            .filter(|der| (8..=v4a::MAX_SIGNATURE / 2).contains(&der.len()))
            .map(|_| Signature { text, value: [0; 32] })
            .ok_or_else(|| malformed("signature is not 16 to 144 lower-case hex digits")),
    }
}

/// Region names and patterns (`us-west-2`, `us-*`, `*`), commas between them; in a query a comma may be an escape.
/// They are borrowed, so no other escape may stand in them: nothing in them needs one.
fn region_set(text: Option<&str>, escaped: bool) -> Result<&str, Refusal> {
    let Some(text) = text.filter(|text| text.len() <= 1024 && (escaped || !text.contains('%'))) else {
        return Err(Refusal::new(Reason::SigV4Scope, "version 4A without one region set of 1 KiB at most"));
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'*');
    if regions(text).all(|region| !region.is_empty() && region.bytes().all(plain)) {
        Ok(text)
    } else {
        Err(Refusal::new(Reason::SigV4Scope, "region set is no list of regions"))
    }
}

/// The members of a region set.
pub(super) fn regions(set: &str) -> impl Iterator<Item = &str> {
    pieces(set, b',')
        .flat_map(|part| part.split("%2C"))
        .flat_map(|part| part.split("%2c"))
        .map(|part| part.trim_matches(' '))
}

/// What is signed beside the payload. `leave_out`: parameters of the query that aren't.
fn parts<'a>(
    head: &'a RequestHead,
    fields: SignedFields<'a>,
    scope: &Scope<'_>,
    leave_out: &[&str],
) -> Result<Parts<'a>, Refusal> {
    let path = head.path_bytes();
    judge_path(path, scope.is_s3())?;
    let query = Query::parse(head.query().unwrap_or_default().as_bytes(), leave_out)?;
    Ok(Parts { method: head.method(), path, query, fields })
}

/// `key-id/date/region/service/aws4_request`, without region in version 4A; in a query `/` may be `%2F`. Parts are
/// borrowed, so they may hold no other escapes: nothing in them needs one.
pub(super) fn read_credential(
    text: &str,
    algorithm: Algorithm,
    escaped: bool,
) -> Result<(&str, Scope<'_>), Refusal> {
    let scope = |said: &str| Err(Refusal::new(Reason::SigV4Scope, said));
    // As it stands in a header: the length of a date is known, and what follows the region is one word.
    if !escaped && algorithm == Algorithm::Hmac {
        let form = "credential is not key/date/region/service/aws4_request";
        let Some(text) = text.strip_suffix("/aws4_request") else { return scope(form) };
        let (key_id, Some(rest)) = cut(text, b'/') else { return scope(form) };
        let Some((date, rest)) = rest.split_at_checked(8) else { return scope(form) };
        let Some((region, Some(service))) = rest.strip_prefix('/').map(|rest| cut(rest, b'/')) else {
            return scope(form);
        };
        return named(key_id, Scope { date, region, service });
    }
    let mut parts = [""; 5];
    let mut count = 0;
    let mut rest = Some(text);
    while let Some(text) = rest {
        let part;
        (part, rest) = match cut(text, b'/') {
            (part, None) if escaped => part
                .split_once("%2F")
                .or_else(|| part.split_once("%2f"))
                .map_or((part, None), |(part, rest)| (part, Some(rest))),
            cut => cut,
        };
        // Its regions stand in a set of their own.
        if count == 2 && algorithm == Algorithm::Ecdsa {
            parts[2] = "any";
            count += 1;
        }
        let Some(slot) = parts.get_mut(count) else { return scope("credential has too many parts") };
        *slot = part;
        count += 1;
    }
    let [key_id, date, region, service, terminator] = parts;
    if count != 5 || terminator != "aws4_request" {
        return scope(match algorithm {
            Algorithm::Hmac => "credential is not key/date/region/service/aws4_request",
            Algorithm::Ecdsa => "credential is not key/date/service/aws4_request",
        });
    }
    named(key_id, Scope { date, region, service })
}

/// Refuses parts that are no names. None of them can hold a `/`.
fn named<'a>(key_id: &'a str, scope: Scope<'a>) -> Result<(&'a str, Scope<'a>), Refusal> {
    let refuse = |said: &str| Err(Refusal::new(Reason::SigV4Scope, said));
    let Scope { date, region, service } = scope;
    let word = |text: &str, longest: usize| {
        // To the end of it whatever is found: that needs no branch for each byte.
        let plain = text.bytes().fold(true, |all, b| all & IN_NAMES[usize::from(b)]);
        plain && (1..=longest).contains(&text.len())
    };
    if !word(key_id, 128) || !word(region, 64) || !word(service, 64) {
        return refuse("credential has a part that is no name");
    }
    if date.len() != 8 || !date.bytes().all(|b| b.is_ascii_digit()) {
        return refuse("date of the scope is not of the form YYYYMMDD");
    }
    Ok((key_id, scope))
}

/// Letters, digits, `-`, `_` and `.`.
const IN_NAMES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
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
fn read_date(text: &[u8]) -> Option<Timestamp> {
    let &[y0, y1, y2, y3, month0, month1, day0, day1, b'T', h0, h1, m0, m1, s0, s1, b'Z'] = text else {
        return None;
    };
    let pair = |tens: u8, ones: u8| {
        let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then(|| tens * 10 + ones)
    };
    let year = i32::from(pair(y0, y1)?) * 100 + i32::from(pair(y2, y3)?);
    let month = time::Month::try_from(pair(month0, month1)?).ok()?;
    let date = time::Date::from_calendar_date(year, month, pair(day0, day1)?).ok()?;
    let time = time::Time::from_hms(pair(h0, h1)?, pair(m0, m1)?, pair(s0, s1)?).ok()?;
    Some(Timestamp(time::PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dates_of_one_form_only() {
        assert_eq!(read_date(b"20150830T123600Z"), Some(Timestamp(1_440_938_160)));
        assert_eq!(read_date(b"20240229T235959Z"), Some(Timestamp(1_709_251_199)));
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
            assert_eq!(read_date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_credential_has_five_parts_and_nothing_odd_in_them() {
        let good = "AKID/20150830/us-east-1/s3/aws4_request";
        let want = ("AKID", Scope { date: "20150830", region: "us-east-1", service: "s3" });
        assert_eq!(read_credential(good, Algorithm::Hmac, false).unwrap(), want);
        assert_eq!(read_credential(good, Algorithm::Hmac, true).unwrap(), want);
        assert_eq!(read_credential(&good.replace('/', "%2F"), Algorithm::Hmac, true).unwrap(), want);
        assert_eq!(read_credential(&good.replace('/', "%2f"), Algorithm::Hmac, true).unwrap(), want);
        assert!(read_credential(&good.replace('/', "%2F"), Algorithm::Hmac, false).is_err());
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
                let read = read_credential(text, Algorithm::Hmac, escaped);
                assert_eq!(read.unwrap_err().reason, Reason::SigV4Scope, "{text}");
            }
        }
        let without_region = "AKID/20150830/s3/aws4_request";
        let read = read_credential(without_region, Algorithm::Ecdsa, false).unwrap();
        assert_eq!((read.0, read.1.date, read.1.service), ("AKID", "20150830", "s3"));
        assert!(read_credential(good, Algorithm::Ecdsa, false).is_err());
        assert!(read_credential(without_region, Algorithm::Hmac, false).is_err());
    }
}
