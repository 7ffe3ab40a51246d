//! Verifies AWS Signature Version 4: who signed this request, and does the signature hold over what we forward?
//!
//! `read` (head alone) → [`Claim`] → `verify` (keys, clock, body where it is needed) → [`Verdict`]: the identity for
//! `engine/policy.rs`, and what the body must still prove for the forwarder. Rules: facts/sigv4.md A1-A9, always the
//! strict side where AWS leaves a choice. Header form, presigned queries; other forms are named and refused.

mod account;
mod canonical;
mod chunked;
mod claim;
mod fields;
mod hex;
mod keys;
mod payload;
pub(super) mod percent;

use std::borrow::Cow;

pub use account::account_of;
pub use canonical::{Parts, PathForm, Query, string_to_sign};
pub use claim::Scope;
pub use fields::SignedFields;
pub use keys::{KnownKey, KnownKeys, SigningKey};
pub use payload::{BodyCheck, Checksum, PayloadClaim};

use super::facts::{Auth, Identity, PayloadState, SignatureState, Signer, Timestamp};
use super::reason::Reason;
use super::request::RequestHead;
use claim::{QueryAuth, Seen};
use payload::Payload;
use subtle::ConstantTimeEq;

/// How far a request's date may be from ours, either way, in seconds. S3's and STS's window; others have 5 minutes
/// and enforce it themselves.
const MAX_SKEW: i64 = 15 * 60;

/// A request that must not pass, whatever the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// One lower-case clause for the operator. Never a secret, a token or a signature.
    pub said: String,
}

impl Refusal {
    fn new(reason: Reason, said: impl Into<String>) -> Self {
        Self { reason, said: said.into() }
    }
}

/// What a head says of its sender.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // moved once a request, which is cheaper than an allocation
pub enum Reading<'a> {
    /// No SigV4 signature: how else it says who it is, if at all.
    Unsigned(Auth),
    Signed(Claim<'a>),
}

/// Reads a head; no key, no clock. The query form and any `authorization` at once are refused.
pub fn read(head: &RequestHead) -> Result<Reading<'_>, Refusal> {
    let seen = Seen::of(head)?;
    let auth = head.query().map(QueryAuth::of).transpose()?.flatten();
    let authorization = match (seen.authorization, auth) {
        (Some(_), Some(_)) => {
            let said = "request is signed in `authorization` and in its query";
            return Err(Refusal::new(Reason::SigV4TwoForms, said));
        }
        (None, Some(auth)) => return claim::from_query(head, seen, &auth).map(Reading::Signed),
        (None, None) if seen.sso_token.is_some() => return Ok(Reading::Unsigned(Auth::Token)),
        (None, None) if is_post_form(head) => {
            return Err(Refusal::new(Reason::SigV4Unsupported, "S3 form uploads are not supported yet"));
        }
        (None, None) => return Ok(Reading::Unsigned(Auth::None)),
        (Some(value), None) => value,
    };
    let end = authorization.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(authorization.len());
    let (scheme, rest) = authorization.split_at(end);
    let is = |known: &str| scheme.eq_ignore_ascii_case(known.as_bytes());
    match scheme {
        b"AWS4-HMAC-SHA256" => {
            let Ok(rest) = std::str::from_utf8(rest) else {
                return Err(Refusal::new(Reason::SigV4Malformed, "`authorization` is no ASCII text"));
            };
            claim::from_header(head, &seen, rest).map(Reading::Signed)
        }
        b"AWS4-ECDSA-P256-SHA256" => Err(claim::unsupported_v4a()),
        b"" => Err(Refusal::new(Reason::SigV4Malformed, "`authorization` is empty")),
        _ if is("aws") => Err(Refusal::new(Reason::SigV4Version2, "request is signed with version 2")),
        _ if scheme.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"aws")) => {
            Err(Refusal::new(Reason::SigV4Malformed, "`authorization` names an unknown algorithm"))
        }
        _ if is("bearer") => Ok(Reading::Unsigned(Auth::Bearer)),
        _ if is("basic") => Ok(Reading::Unsigned(Auth::Basic)),
        _ => Ok(Reading::Unsigned(Auth::Token)),
    }
}

/// A browser's form upload carries its signature in the body; only S3 reads those.
fn is_post_form(head: &RequestHead) -> bool {
    let form = |value: &[u8]| value.get(..19).is_some_and(|v| v.eq_ignore_ascii_case(b"multipart/form-data"));
    let s3 = |label: &str| label == "s3" || label.starts_with("s3-") || label.starts_with("s3express");
    head.method() == "POST"
        && head.authority().host.as_name().is_some_and(|name| name.split('.').any(s3))
        && head.all("content-type").any(form)
}

/// A request that says it was signed: parsed, well-formed, not verified.
#[derive(Debug)]
pub struct Claim<'a> {
    form: Form,
    key_id: &'a str,
    scope: Scope<'a>,
    /// As signed.
    date: &'a str,
    signed_at: Timestamp,
    signature: [u8; 32],
    token: Option<Cow<'a, [u8]>>,
    payload: Payload<'a>,
    /// The framing leaves no room for a body.
    is_empty: bool,
    parts: Parts<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Header,
    /// Seconds after the date.
    Query {
        expires: u32,
    },
}

/// A request whose claim was looked at: verified, or under a key that we don't know.
#[derive(Debug)]
pub struct Verdict {
    pub identity: Identity,
    pub due: PayloadClaim,
}

impl<'a> Claim<'a> {
    pub fn auth(&self) -> Auth {
        match self.form {
            Form::Header => Auth::SigV4,
            Form::Query { .. } => Auth::Presigned,
        }
    }

    pub fn key_id(&self) -> &'a str {
        self.key_id
    }

    pub fn scope(&self) -> &Scope<'a> {
        &self.scope
    }

    /// The digest of the body is part of what was signed and no header states it: `verify` needs the whole body.
    pub fn needs_body(&self) -> bool {
        self.payload == Payload::Body && !self.is_empty
    }

    /// A header of that name, in any case, is part of what was signed.
    pub fn signs(&self, header: &str) -> bool {
        self.parts.fields.contains(header)
    }

    pub fn payload(&self) -> PayloadState {
        self.payload.state()
    }

    /// Judges the claim. `body` is the whole body where it was read; it may be `None` unless [`Self::needs_body`].
    ///
    /// A key that we don't know is no refusal: the identity says [`SignatureState::UnknownKey`], and the policy
    /// decides. Everything else about the request must be in order all the same.
    pub fn verify(&self, body: Option<&[u8]>, keys: &KnownKeys, now: Timestamp) -> Result<Verdict, Refusal> {
        self.judge_time(now)?;
        let body = body.or(if self.is_empty { Some(&[]) } else { None });
        let (signature, signer) = match keys.get(self.key_id) {
            None => {
                let account = account_of(self.key_id);
                let signer = Signer { key_id: self.key_id.into(), account, role: None, own: false };
                (SignatureState::UnknownKey, signer)
            }
            Some(key) => {
                self.check(key, body)?;
                let signer = Signer {
                    key_id: key.id.clone(),
                    account: key.account,
                    role: key.role.clone(),
                    own: key.own,
                };
                (SignatureState::Verified, signer)
            }
        };
        let identity =
            Identity { auth: self.auth(), signature, payload: self.payload.state(), signer: Some(signer) };
        Ok(Verdict { identity, due: self.payload.due(body)? })
    }

    fn judge_time(&self, now: Timestamp) -> Result<(), Refusal> {
        let age = now.0.saturating_sub(self.signed_at.0);
        let skew = |said: String| Err(Refusal::new(Reason::SigV4Skew, said));
        match self.form {
            _ if age < -MAX_SKEW => skew(format!("request is dated {} s in the future", -age)),
            Form::Header if age > MAX_SKEW => skew(format!("request is dated {age} s in the past")),
            Form::Query { expires } if age > i64::from(expires) => {
                let said = format!("presigned request expired {} s ago", age - i64::from(expires));
                Err(Refusal::new(Reason::SigV4Expired, said))
            }
            Form::Header | Form::Query { .. } => Ok(()),
        }
    }

    /// The signature, then the token, under a key that we know.
    fn check(&self, key: &KnownKey, body: Option<&[u8]>) -> Result<(), Refusal> {
        let signing = key.signing_key(&self.scope);
        let holds = |form| {
            let canonical = self.canonical_request(form, body)?;
            Some(signing.matches(&self.string_to_sign(&canonical), &self.signature))
        };
        let held = if self.scope.is_s3() {
            holds(PathForm::AsSent)
                .map(|held| held || (self.path_may_be_recoded() && holds(PathForm::Recoded) == Some(true)))
        } else {
            holds(PathForm::EncodedAgain)
        };
        match held {
            None => {
                return Err(Refusal::new(Reason::Internal, "body that the signature covers was not read"));
            }
            Some(false) => {
                return Err(Refusal::new(Reason::SigV4Signature, "signature does not match the request"));
            }
            Some(true) => key.remember(&signing),
        }
        let sent = self.token.as_deref();
        match (sent, key.token.as_ref().map(super::facts::Secret::expose)) {
            (None, None) => Ok(()),
            (Some(sent), Some(known)) if bool::from(sent.ct_eq(known)) => Ok(()),
            (Some(_), Some(_)) => Err(Refusal::new(Reason::SigV4Token, "session token is not the key's")),
            (None, Some(_)) => Err(Refusal::new(Reason::SigV4Token, "session token of the key is missing")),
            (Some(_), None) => {
                Err(Refusal::new(Reason::SigV4Token, "session token with a key that has none"))
            }
        }
    }

    fn path_may_be_recoded(&self) -> bool {
        *canonical::recoded(self.parts.path) != *self.parts.path
    }

    /// The canonical request, for `explain`. `None` where the body is needed for it and isn't given.
    pub fn canonical_request(&self, form: PathForm, body: Option<&[u8]>) -> Option<Vec<u8>> {
        let body = body.or(if self.is_empty { Some(&[]) } else { None });
        Some(self.parts.text(form, self.payload.line(body)?.as_bytes()))
    }

    /// The string to sign over a canonical request.
    pub fn string_to_sign(&self, canonical: &[u8]) -> Vec<u8> {
        string_to_sign(self.date, &self.scope, canonical)
    }
}
