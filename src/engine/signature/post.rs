//! S3's form uploads: the signature covers a policy, and the policy says which form may be sent (S3 API reference,
//! "Browser-based uploads using POST").
//!
//! `PostClaim::read` (form) → `verify` (keys, clock, bucket) → [`Verdict`]. The file itself is not signed. Conditions
//! are AWS's to enforce; they are checked here too, so that what leaves as `verified` is what the key's owner allowed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::claim::{self, Algorithm, Scope};
use super::{Clock, KnownKeys, PayloadClaim, Refusal, Signature, Verdict};
use crate::engine::facts::{Auth, Identity, PayloadState, SignatureState, Signer, Timestamp};
use crate::engine::form::Form;
use crate::engine::reason::Reason;

/// The life of a signing key, and so of every form signed with it.
const MAX_AGE: i64 = 7 * 24 * 3600;
/// Base64 of it; S3 takes forms of 20 kB.
const MAX_POLICY: usize = 20 * 1024;

/// A form that says it was signed: parsed, not verified.
#[derive(Debug)]
pub struct PostClaim<'a> {
    key_id: &'a str,
    scope: Scope<'a>,
    signed_at: Timestamp,
    signature: Signature<'a>,
    token: Option<&'a [u8]>,
    /// As sent: what is signed.
    policy: &'a str,
    form: &'a Form<'a>,
}

impl<'a> PostClaim<'a> {
    /// `None` for a form that has nothing of a signature: an upload without a name.
    pub fn read(form: &'a Form<'a>) -> Result<Option<Self>, Refusal> {
        if form.field("awsaccesskeyid").is_some() || form.field("signature").is_some() {
            return Err(Refusal::new(Reason::SigV4Version2, "form is signed with version 2"));
        }
        const NAMES: [&str; 5] =
            ["policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"];
        if NAMES.iter().all(|name| form.field(name).is_none()) {
            return Ok(None);
        }
        let mut values = [""; 5];
        for (value, name) in values.iter_mut().zip(NAMES) {
            *value = form.text(name).ok_or_else(|| claim::malformed(format!("form has no `{name}`")))?;
        }
        let [policy, algorithm, credential, date, signature] = values;
        if algorithm != Algorithm::Hmac.as_str() {
            return Err(Refusal::new(Reason::SigV4Unsupported, "form is signed with another algorithm"));
        }
        if policy.len() > MAX_POLICY {
            return Err(claim::malformed("policy of the form is longer than 20 KiB"));
        }
        let (key_id, scope) = claim::read_credential(credential, Algorithm::Hmac, false)?;
        let (_, signed_at) = claim::dated(date.as_bytes(), &scope)?;
        Ok(Some(Self {
            key_id,
            scope,
            signed_at,
            signature: claim::read_signature(signature, Algorithm::Hmac)?,
            token: form.field("x-amz-security-token"),
            policy,
            form,
        }))
    }

    pub fn scope(&self) -> &Scope<'a> {
        &self.scope
    }

    /// Who it says it is, before anything is proven.
    pub fn unproven(&self) -> Identity {
        self.identity(SignatureState::UnknownKey, super::unknown_signer(self.key_id))
    }

    fn identity(&self, signature: SignatureState, signer: Signer) -> Identity {
        // The policy is signed, the file is not.
        let payload = PayloadState::Unsigned;
        Identity { auth: Auth::PostForm, signature, payload, signer: Some(signer) }
    }

    /// Judges the claim; `bucket` is the one that the request addresses.
    pub fn verify(
        &self,
        bucket: &str,
        keys: &KnownKeys,
        clock: impl Into<Clock>,
    ) -> Result<Verdict, Refusal> {
        let Clock { now, max_skew } = clock.into();
        let (signature, signer) = match keys.get(self.key_id) {
            None => (SignatureState::UnknownKey, super::unknown_signer(self.key_id)),
            Some(key) => {
                let checker = key.checker(Algorithm::Hmac, &self.scope);
                let held =
                    checker.filter(|checker| checker.confirms(self.policy.as_bytes(), &self.signature));
                let Some(checker) = held else {
                    return Err(Refusal::new(Reason::SigV4Signature, "signature does not match the policy"));
                };
                key.remember(&checker);
                super::check_token(self.token, key)?;
                (SignatureState::Verified, super::signer_of(key))
            }
        };
        let age = now.0.saturating_sub(self.signed_at.0);
        if age < -max_skew {
            let said = format!("form is dated {} s in the future", -age);
            return Err(Refusal::new(Reason::SigV4Skew, said));
        }
        if age > MAX_AGE {
            let said = format!("form was signed {age} s ago, where {MAX_AGE} are the most");
            return Err(Refusal::new(Reason::SigV4Expired, said));
        }
        self.judge_policy(bucket, now)?;
        Ok(Verdict { identity: self.identity(signature, signer), due: PayloadClaim::Nothing, mark: 0 })
    }

    fn judge_policy(&self, bucket: &str, now: Timestamp) -> Result<(), Refusal> {
        let malformed = |said: &str| claim::malformed(format!("policy of the form {said}"));
        let text = STANDARD.decode(self.policy).map_err(|_| malformed("is no base64"))?;
        let policy: Value = serde_json::from_slice(&text).map_err(|_| malformed("is no JSON"))?;
        let expiration = policy["expiration"].as_str().and_then(|text| {
            let format = &time::format_description::well_known::Rfc3339;
            time::OffsetDateTime::parse(text, format).ok()
        });
        let expiration = expiration.ok_or_else(|| malformed("has no expiration"))?.unix_timestamp();
        if now.0 > expiration {
            let said = format!("policy of the form expired {} s ago", now.0 - expiration);
            return Err(Refusal::new(Reason::SigV4Expired, said));
        }
        let conditions = policy["conditions"].as_array().ok_or_else(|| malformed("has no conditions"))?;
        let mut covered = Vec::with_capacity(conditions.len());
        for condition in conditions {
            let condition =
                Condition::read(condition).ok_or_else(|| malformed("has an unknown condition"))?;
            if !self.meets(&condition, bucket) {
                let said = format!("form does not meet its policy's condition on `{}`", condition.name());
                return Err(Refusal::new(Reason::SigV4Payload, said));
            }
            covered.push(condition.name().to_ascii_lowercase());
        }
        if !covered.iter().any(|name| name == "bucket") {
            return Err(malformed("names no bucket"));
        }
        let free = |name: &str| {
            matches!(name, "policy" | "x-amz-signature" | "file") || name.starts_with("x-ignore-")
        };
        for (name, _) in self.form.fields() {
            let name = name.to_ascii_lowercase();
            if !free(&name) && !covered.contains(&name) {
                let said = format!("field `{name}` of the form is in no condition of its policy");
                return Err(Refusal::new(Reason::SigV4UnsignedHeader, said));
            }
        }
        Ok(())
    }

    fn meets(&self, condition: &Condition<'_>, bucket: &str) -> bool {
        // Variables are expanded before conditions are looked at.
        let key = self.form.key();
        let value = |name: &str| match name {
            _ if name.eq_ignore_ascii_case("bucket") => Some(bucket.as_bytes()),
            _ if name.eq_ignore_ascii_case("key") => key.as_deref().map(str::as_bytes),
            _ => self.form.field(name),
        };
        match *condition {
            Condition::Equal(name, wanted) => value(name) == Some(wanted.as_bytes()),
            // Any value, none included.
            Condition::Starts(_, "") => true,
            Condition::Starts(name, start) => value(name).is_some_and(|v| v.starts_with(start.as_bytes())),
            Condition::Length(least, most) => (least..=most).contains(&(self.form.file().len() as u64)),
        }
    }
}

enum Condition<'p> {
    Equal(&'p str, &'p str),
    Starts(&'p str, &'p str),
    Length(u64, u64),
}

impl<'p> Condition<'p> {
    fn read(value: &'p Value) -> Option<Self> {
        if let Some(map) = value.as_object() {
            let (name, value) = map.iter().next().filter(|_| map.len() == 1)?;
            return Some(Self::Equal(name, value.as_str()?));
        }
        let [operator, first, second] = value.as_array()?.as_slice() else { return None };
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let name = || first.as_str()?.strip_prefix('$');
        match operator.as_str()? {
            "eq" => Some(Self::Equal(name()?, second.as_str()?)),
            "starts-with" => Some(Self::Starts(name()?, second.as_str()?)),
            "content-length-range" => Some(Self::Length(number(first)?, number(second)?)),
            _ => None,
        }
    }

    fn name(&self) -> &'p str {
        match self {
            Self::Equal(name, _) | Self::Starts(name, _) => name,
            Self::Length(..) => "content-length-range",
        }
    }
}
