//! Puts a verified request in another name: for doors whose clients signed something else than what goes upstream.
//!
//! Of the request only what was signed is copied, so nothing that anybody added on the way is signed for (design: only
//! headers that were signed). The head is signed by the `aws-sigv4` crate and then read and verified by this module's
//! own reader: where the two disagree, nothing goes out. Version 4A stays version 4A and is signed in `v4a.rs`: the crate
//! does that over a second implementation of the curve. Signed chunks and events get a new chain, [`Rechain`].
//!
//! No door asks for this yet: it is for those that will sign in a name of their own (gateway, vended keys).

mod events;
mod rechain;
mod v4a;

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;

use super::keys::{KnownKey, Maker};
use super::{Algorithm, Claim, KnownKeys, Reading, Verdict, claim::Scope, payload::Payload, read};
use crate::engine::facts::{AccountId, SignatureState, Timestamp};
use crate::engine::request::{Framing, RequestHead};
use crate::engine::target::Authority;

pub use rechain::{NotAsVerified, Rechain};

/// In whose name, for where, and when.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a> {
    pub key: &'a KnownKey,
    /// The endpoint of the operation, which the client need not have known.
    pub host: &'a Authority,
    /// Of the new scope. Version 4A has none: it keeps the set of regions that the client signed for.
    pub region: &'a str,
    pub at: Timestamp,
    /// Of the bucket, where the policy asserts it: S3 then refuses another's.
    pub owner: Option<AccountId>,
}

/// A request in another name.
#[derive(Debug)]
pub struct Resigned {
    /// Request line to blank line.
    pub head: Vec<u8>,
    /// Fields that the client's request did not have, for the record.
    pub added: Vec<&'static str>,
    /// What the body's bytes go through, once they are proven.
    pub body: Rechain,
}

/// Why a request can't be put in another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResignError {
    #[error("its own signature was not verified")]
    Unverified,
    #[error("it names another owner of the bucket than the policy does")]
    Owner,
    #[error("a signed header is not text")]
    NotText,
    #[error("the signer does not take it")]
    Unsignable,
    #[error("the new signature does not verify")]
    Disagree,
}

const OWNER: &str = "x-amz-expected-bucket-owner";
/// Written anew, or by whoever frames the message.
const MADE_ANEW: &[&str] = &[
    "authorization",
    "content-length",
    "date",
    "expect",
    "host",
    "transfer-encoding",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-region-set",
    "x-amz-s3session-token",
    "x-amz-security-token",
];
/// Of the query form.
const PRESIGNED: &[&str] = &[
    "X-Amz-Algorithm",
    "X-Amz-Content-Sha256",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Region-Set",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// Signs anew. `verdict` is the claim's; `body` is needed where the claim needed it.
pub fn resign(
    head: &RequestHead,
    claim: &Claim<'_>,
    verdict: &Verdict,
    name: &Name<'_>,
    body: Option<&[u8]>,
) -> Result<Resigned, ResignError> {
    if verdict.identity.signature != SignatureState::Verified {
        return Err(ResignError::Unverified);
    }
    let host = if name.host.port == 443 { name.host.host.to_string() } else { name.host.to_string() };
    let mut fields = vec![("host", host.as_str())];
    for (field, value) in head.fields() {
        let field = std::str::from_utf8(field).map_err(|_| ResignError::NotText)?;
        if claim.signs(field) && !MADE_ANEW.iter().any(|other| field.eq_ignore_ascii_case(other)) {
            fields.push((field, std::str::from_utf8(value).map_err(|_| ResignError::NotText)?));
        }
    }
    let mut added = Vec::new();
    let owner = name.owner.filter(|_| claim.scope().is_s3()).map(|owner| owner.to_string());
    if let Some(owner) = &owner {
        let mut named = fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(OWNER)).peekable();
        if named.peek().is_none() {
            added.push(OWNER);
            fields.push((OWNER, owner));
        } else if named.any(|(_, value)| value != owner) {
            return Err(ResignError::Owner);
        }
    }
    let head = write(head, claim, name, &host, &fields, body)?;
    // What goes out is what the verifier says it is, to the last byte.
    let parsed = RequestHead::parse(head.clone().into()).map_err(|_| ResignError::Disagree)?;
    let Ok(Reading::Signed(anew)) = read(&parsed) else { return Err(ResignError::Disagree) };
    let known = KnownKeys::new([name.key.alone()]);
    let verified = anew.verify(body.filter(|_| anew.needs_body()), &known, name.at);
    if !verified.is_ok_and(|verdict| verdict.identity.signature == SignatureState::Verified) {
        return Err(ResignError::Disagree);
    }
    let body = if claim.payload.is_chained() {
        let maker = Maker::derive(anew.algorithm(), name.key, anew.scope()).ok_or(ResignError::Unsignable)?;
        let chain = anew.chain(maker, name.key);
        if anew.payload == Payload::Events { Rechain::events(chain) } else { Rechain::chunks(chain) }
    } else {
        Rechain::nothing()
    };
    Ok(Resigned { head, added, body })
}

fn write(
    head: &RequestHead,
    claim: &Claim<'_>,
    name: &Name<'_>,
    host: &str,
    fields: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Result<Vec<u8>, ResignError> {
    let line = claim.payload.line(body.or(if claim.is_empty { Some(&[]) } else { None }));
    let line = line.ok_or(ResignError::Unsignable)?;
    let word = std::str::from_utf8(line.as_bytes()).map_err(|_| ResignError::NotText)?;
    let target = target(head);
    let signed = match claim.algorithm() {
        Algorithm::Hmac => v4(head.method(), &format!("https://{host}{target}"), claim, name, fields, word)?,
        Algorithm::Ecdsa => v4a::sign(head.method(), &target, claim, name, fields, word)?,
    };
    let mut out = format!("{} {target} HTTP/1.1\r\n", head.method()).into_bytes();
    let signed = signed.iter().map(|(field, value)| (&**field, &**value));
    for (field, value) in fields.iter().copied().chain(signed) {
        for part in [field, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    match head.framing() {
        Framing::Length(length) => out.extend_from_slice(format!("content-length: {length}\r\n").as_bytes()),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None | Framing::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// Fields that a signature adds.
type Added = Vec<(String, String)>;

/// Version 4. `word`: the payload line.
fn v4(
    method: &str,
    uri: &str,
    claim: &Claim<'_>,
    name: &Name<'_>,
    fields: &[(&str, &str)],
    word: &str,
) -> Result<Added, ResignError> {
    let Scope { service, .. } = *claim.scope();
    let s3 = claim.scope().is_s3();
    let token = name.key.token.as_ref().map(|token| String::from_utf8_lossy(token.expose()).into_owned());
    let secret = std::str::from_utf8(name.key.secret.expose()).map_err(|_| ResignError::Unsignable)?;
    let identity = Credentials::new(&*name.key.id, secret, token, None, "exeat").into();
    let mut settings = SigningSettings::default();
    settings.excluded_headers = None;
    if s3 {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    if service == "s3express" {
        settings.session_token_name_override = Some("x-amz-s3session-token");
    }
    if claim.payload != Payload::Body {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(name.region)
        .name(service)
        .time(UNIX_EPOCH + Duration::from_secs(name.at.0.unsigned_abs()))
        .settings(settings)
        .build()
        .map_err(|_| ResignError::Unsignable)?
        .into();
    let body = SignableBody::Precomputed(word.to_owned());
    let request = SignableRequest::new(method, uri, fields.iter().copied(), body);
    let request = request.map_err(|_| ResignError::Unsignable)?;
    let (instructions, _) = sign(request, &parameters).map_err(|_| ResignError::Unsignable)?.into_parts();
    Ok(instructions.headers().map(|(field, value)| (field.to_owned(), value.to_owned())).collect())
}

/// As sent, without what the query form adds.
fn target(head: &RequestHead) -> String {
    let mut target = head.path().to_owned();
    let pieces = head.query().into_iter().flat_map(|query| query.split('&'));
    let pieces = pieces.filter(|piece| {
        let name = piece.split('=').next().unwrap_or_default();
        !PRESIGNED.contains(&name)
    });
    for (at, piece) in pieces.enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(piece);
    }
    target
}
