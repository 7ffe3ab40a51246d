//! Verifies AWS Signature Version 4: who signed this request, and does the signature hold over what we forward?
//!
//! `read` (head alone) → [`Claim`] → `verify` (keys, clock, body where it is needed) → [`Verdict`]: the identity for
//! `engine/policy.rs`, and what the body must still prove for the forwarder. A form upload's claim stands in its body:
//! [`PostClaim`]. Rules: docs/signatures.md, always the strict side where AWS leaves a choice.

mod account;
pub mod caller;
mod canonical;
mod chain;
mod check;
mod checksum;
mod chunked;
mod claim;
mod events;
mod explain;
mod fields;
mod keys;
mod known;
pub mod lesson;
mod payload;
pub(super) mod percent;
mod post;
pub mod resign;
mod seen;
mod v4a;

use std::borrow::Cow;

pub use account::account_of;
pub use canonical::{Parts, PathForm, Query, string_to_sign};
pub use check::{BodyCheck, PayloadClaim};
pub use checksum::Checksum;
pub use chunked::MAX_SIGNED_CHUNK;
pub use claim::{Algorithm, Scope};
pub use explain::explain;
pub use fields::SignedFields;
pub use keys::{KnownKey, SigningKey, Told};
pub use known::KnownKeys;
pub use post::PostClaim;
pub use v4a::PublicKey;

use super::facts::{Auth, Identity, PayloadState, SignatureState, Signer, Timestamp};
use super::reason::Reason;
use super::request::RequestHead;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use chain::Chain;
use keys::Lent;
use payload::Payload;
use seen::{QueryAuth, Seen};

/// How far a request's date may be from ours, either way, in seconds. S3's and STS's window; others have 5 minutes
/// and enforce it themselves.
pub const MAX_SKEW: i64 = 15 * 60;

/// The time by which a signature is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    pub now: Timestamp,
    /// Seconds that a date may be off, either way; [`MAX_SKEW`] at most.
    pub max_skew: i64,
}

impl From<Timestamp> for Clock {
    fn from(now: Timestamp) -> Self {
        Self { now, max_skew: MAX_SKEW }
    }
}

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
    /// A form upload: a [`PostClaim`] may stand in the body.
    Form,
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
        (Some(_), None) | (None, Some(_)) if seen.is_form && is_post_form(head) => {
            let said = "a form upload, which is signed in its body, is signed in its head too";
            return Err(Refusal::new(Reason::SigV4TwoForms, said));
        }
        (None, Some(auth)) => return claim::from_query(head, seen, &auth).map(Reading::Signed),
        (None, None) if seen.sso_token.is_some() => return Ok(Reading::Unsigned(Auth::Token)),
        (None, None) if seen.is_form && is_post_form(head) => {
            return match head.fields().find(|(name, _)| fields::starts_with_amz(name)) {
                None => Ok(Reading::Form),
                Some((name, _)) => {
                    let said = format!("`{}` beside a form, which signs no header", fields::shown(name));
                    Err(Refusal::new(Reason::SigV4UnsignedHeader, said))
                }
            };
        }
        (None, None) => return Ok(Reading::Unsigned(Auth::None)),
        (Some(value), None) => value,
    };
    let end = memchr::memchr2(b' ', b'\t', authorization).unwrap_or(authorization.len());
    let (scheme, rest) = authorization.split_at(end);
    let is = |known: &str| scheme.eq_ignore_ascii_case(known.as_bytes());
    if let Some(algorithm) = Algorithm::of(scheme) {
        let Ok(rest) = std::str::from_utf8(rest) else {
            return Err(Refusal::new(Reason::SigV4Malformed, "`authorization` is no ASCII text"));
        };
        return claim::from_header(head, &seen, algorithm, rest).map(Reading::Signed);
    }
    match scheme {
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

/// A form that is sent here is an upload, which carries its signature in the body: only S3 reads those.
fn is_post_form(head: &RequestHead) -> bool {
    let s3 = |label: &str| label == "s3" || label.starts_with("s3-") || label.starts_with("s3express");
    head.method() == "POST" && head.authority().host.as_name().is_some_and(|name| name.split('.').any(s3))
}

/// A request that says it was signed: parsed, well-formed, not verified.
#[derive(Debug)]
pub struct Claim<'a> {
    form: Form,
    algorithm: Algorithm,
    key_id: &'a str,
    scope: Scope<'a>,
    /// As signed.
    date: &'a [u8],
    signed_at: Timestamp,
    signature: Signature<'a>,
    token: Option<Cow<'a, [u8]>>,
    payload: Payload<'a>,
    /// The framing leaves no room for a body.
    is_empty: bool,
    /// It asks for a WebSocket: what follows the answer is nothing that this signature covers.
    opens: bool,
    parts: Parts<'a>,
}

/// A signature as sent, lower-case hex; and its value, where it is a HMAC's.
#[derive(Debug, Clone, Copy)]
struct Signature<'a> {
    text: &'a str,
    value: [u8; 32],
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
    /// Tells this signature from others; 0 where it may be used again.
    pub mark: u64,
}

impl<'a> Claim<'a> {
    pub fn auth(&self) -> Auth {
        match self.form {
            Form::Header if self.algorithm == Algorithm::Ecdsa => Auth::SigV4a,
            Form::Header => Auth::SigV4,
            Form::Query { .. } => Auth::Presigned,
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Regions that the signature is good for: names, and of version 4A patterns too.
    pub fn regions(&self) -> impl Iterator<Item = &'a str> {
        claim::regions(self.scope.region)
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

    /// Of a WebSocket the frames are what travels: nobody signed for those.
    pub fn payload(&self) -> PayloadState {
        if self.opens { PayloadState::Unsigned } else { self.payload.state() }
    }

    /// Who it says it is, before anything is proven.
    pub fn unproven(&self) -> Identity {
        Identity {
            auth: self.auth(),
            signature: SignatureState::UnknownKey,
            payload: self.payload(),
            signer: Some(unknown_signer(self.key_id)),
        }
    }

    /// Judges the claim. `body` is the whole body where it was read; it may be `None` unless [`Self::needs_body`].
    ///
    /// A key that we don't know is no refusal: the identity says [`SignatureState::UnknownKey`], and the policy
    /// decides. Everything else about the request must be in order all the same.
    pub fn verify(
        &self,
        body: Option<&[u8]>,
        keys: &KnownKeys,
        clock: impl Into<Clock>,
    ) -> Result<Verdict, Refusal> {
        let body = body.or(if self.is_empty { Some(&[]) } else { None });
        let (signature, signer, chain) = match keys.get(self.key_id) {
            None => (SignatureState::UnknownKey, unknown_signer(self.key_id), None),
            Some(key) => {
                let checker = self.check(key, body)?;
                let chain = self.payload.is_chained().then(|| self.chain(checker.clone(), key));
                (SignatureState::Verified, signer_of(key), chain)
            }
        };
        // After the signature: only a clock that is really wrong is called so, since SDKs correct theirs by it.
        self.judge_time(clock.into())?;
        let identity =
            Identity { auth: self.auth(), signature, payload: self.payload(), signer: Some(signer) };
        let mut due = self.payload.due(body, self.signed_at, chain)?;
        if self.opens && self.is_empty {
            // The signature that was verified is over the digest of nothing: there is no more to compare.
            due = PayloadClaim::Nothing;
        }
        Ok(Verdict { identity, due, mark: self.mark() })
    }

    /// The signatures of what follows the head: `by` checks them, or makes them.
    fn chain<K>(&self, by: K, key: &KnownKey) -> Chain<K> {
        let chain = Chain::new(by, self.algorithm, self.date, &self.scope, self.signature.text);
        if self.payload == Payload::Events { chain.of_events(&key.secret, &self.scope) } else { chain }
    }

    /// What tells this signature from others. A presigned URL is made to be used again.
    fn mark(&self) -> u64 {
        match (self.form, self.algorithm) {
            (Form::Query { .. }, _) => 0,
            (Form::Header, Algorithm::Hmac) => {
                let [a, b, c, d, e, f, g, h, ..] = self.signature.value;
                u64::from_be_bytes([a, b, c, d, e, f, g, h])
            }
            // The end of a DER signature is as random as a HMAC; its beginning is not.
            (Form::Header, Algorithm::Ecdsa) => {
                let digits = self.signature.text;
                let end = digits.len().saturating_sub(16);
                u64::from_str_radix(digits.get(end..).unwrap_or_default(), 16).unwrap_or(0)
            }
        }
    }

    fn judge_time(&self, Clock { now, max_skew }: Clock) -> Result<(), Refusal> {
        let age = now.0.saturating_sub(self.signed_at.0);
        let skew = |said: String| Err(Refusal::new(Reason::SigV4Skew, said));
        match self.form {
            _ if age < -max_skew => skew(format!("request is dated {} s in the future", -age)),
            Form::Header if age > max_skew => skew(format!("request is dated {age} s in the past")),
            Form::Query { expires } if age > i64::from(expires) => {
                let said = format!("presigned request expired {} s ago", age - i64::from(expires));
                Err(Refusal::new(Reason::SigV4Expired, said))
            }
            Form::Header | Form::Query { .. } => Ok(()),
        }
    }

    /// The signature, then the token, under a key that we know. Gives what checked it.
    fn check(&self, key: &KnownKey, body: Option<&[u8]>) -> Result<Lent, Refusal> {
        let Some(checker) = key.checker(self.algorithm, &self.scope) else {
            return Err(Refusal::new(Reason::SigV4Signature, "the key has no pair for version 4A"));
        };
        let holds = |form| {
            // One buffer for both texts.
            let mut text = self.canonical_request(form, body)?;
            let digest = canonical::sha256(&text);
            text.clear();
            canonical::write_string_to_sign(&mut text, self.algorithm, self.date, &self.scope, &digest);
            Some(checker.confirms(&text, &self.signature))
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
            Some(true) => key.remember(&checker),
        }
        check_token(self.token.as_deref(), key)?;
        Ok(checker)
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
        string_to_sign(self.algorithm, self.date, &self.scope, canonical)
    }
}

/// A key that we don't know: all that is told is in its id.
fn unknown_signer(key_id: &str) -> Signer {
    Signer {
        key_id: key_id.into(),
        account: account_of(key_id),
        role: None,
        own: false,
        untold: false,
        parents: None,
    }
}

/// A key that we know, as its source describes it.
fn signer_of(key: &KnownKey) -> Signer {
    Signer {
        key_id: key.id.clone(),
        account: key.account(),
        role: key.role().cloned(),
        own: key.own,
        untold: key.is_untold(),
        parents: key.parents.clone(),
    }
}

/// The session token is the key's own: exactly it, or none where the key has none.
fn check_token(sent: Option<&[u8]>, key: &KnownKey) -> Result<(), Refusal> {
    let said = match (sent, key.token.as_ref().map(super::facts::Secret::expose)) {
        (None, None) => return Ok(()),
        // Tokens have a thousand bytes: `subtle` takes longer over one than all of the hashes.
        (Some(sent), Some(known)) if verify_slices_are_equal(sent, known).is_ok() => return Ok(()),
        (Some(_), Some(_)) => "session token is not the key's",
        (None, Some(_)) => "session token of the key is missing",
        (Some(_), None) => "session token with a key that has none",
    };
    Err(Refusal::new(Reason::SigV4Token, said))
}
