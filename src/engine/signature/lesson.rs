//! Keys that AWS hands out: which operations do, and what their answers say.
//!
//! `proxy/lesson.rs` holds the answer to an allowed call before a [`Lesson`] while it passes. An operation is only ever
//! the one that the atlas has for the host, so no other host's answer gets here. A learned key is nobody's but its
//! account's: the perimeter decides what it may do.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::keys::KnownKey;
use crate::engine::facts::{AccountId, Name, Operation, Parent, Secret, Signer, Timestamp};

/// Such an answer has about 2 KiB, most of it the session token; longer ones are not looked at.
pub const MAX_ANSWER: usize = 64 * 1024;
/// Steps of a descent that are kept, the nearest: role chains of programs have two or three.
const MAX_PARENTS: usize = 4;

/// What one answer may teach.
#[derive(Debug)]
pub struct Lesson {
    source: &'static Source,
    signer: Option<Signer>,
}

/// An operation whose answer holds keys.
#[derive(Debug)]
struct Source {
    service: &'static str,
    operation: &'static str,
    /// As the record names it.
    by: &'static str,
    shape: Shape,
    /// The key acts as the caller does, whose account and role it shares.
    same_principal: bool,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    /// `Credentials` below the answer's root, in so many elements (`AssumeRoleResponse/AssumeRoleResult`).
    Xml(usize),
    /// With the unit of `expiration`, in milliseconds.
    Json(i64),
}

const SOURCES: &[Source] = &[
    of_sts("AssumeRole", "sts:AssumeRole", false),
    of_sts("AssumeRoleWithSAML", "sts:AssumeRoleWithSAML", false),
    of_sts("AssumeRoleWithWebIdentity", "sts:AssumeRoleWithWebIdentity", false),
    of_sts("AssumeRoot", "sts:AssumeRoot", false),
    of_sts("GetFederationToken", "sts:GetFederationToken", false),
    of_sts("GetSessionToken", "sts:GetSessionToken", true),
    Source {
        service: "s3",
        operation: "CreateSession",
        by: "s3express:CreateSession",
        shape: Shape::Xml(1),
        same_principal: true,
    },
    Source {
        service: "awsssoportal",
        operation: "GetRoleCredentials",
        by: "sso:GetRoleCredentials",
        shape: Shape::Json(1),
        same_principal: false,
    },
    Source {
        service: "cognito-identity",
        operation: "GetCredentialsForIdentity",
        by: "cognito-identity:GetCredentialsForIdentity",
        shape: Shape::Json(1000),
        same_principal: false,
    },
    Source {
        service: "eks-auth",
        operation: "AssumeRoleForPodIdentity",
        by: "eks-auth:AssumeRoleForPodIdentity",
        shape: Shape::Json(1000),
        same_principal: false,
    },
    Source {
        service: "signin",
        operation: "CreateOAuth2Token",
        by: "signin:CreateOAuth2Token",
        shape: Shape::Json(1000),
        same_principal: false,
    },
];

const fn of_sts(operation: &'static str, by: &'static str, same_principal: bool) -> Source {
    Source { service: "sts", operation, by, shape: Shape::Xml(2), same_principal }
}

/// Keys that come of this, as the record names it, act as whoever asked for them.
pub(super) fn is_of_caller(by: &str) -> bool {
    SOURCES.iter().any(|source| source.by == by && source.same_principal)
}

impl Lesson {
    /// `None` for all operations but these.
    pub fn of(operation: Option<&Operation>, signer: Option<&Signer>) -> Option<Self> {
        let operation = operation?;
        // Nearly every request ends here.
        if !matches!(
            &*operation.service,
            "sts" | "s3" | "awsssoportal" | "cognito-identity" | "eks-auth" | "signin"
        ) {
            return None;
        }
        let name = operation.name.as_deref()?;
        let is = |source: &&Source| source.operation == name && source.service == &*operation.service;
        let source = SOURCES.iter().find(is)?;
        Some(Self { source, signer: signer.cloned() })
    }

    /// The key in a whole answer. `None` for anything else than what AWS writes, for a key without an end, and for one
    /// whose id tells another account than the answer does.
    pub fn read(&self, answer: &[u8], now: Timestamp) -> Option<KnownKey> {
        let text = std::str::from_utf8(answer).ok()?;
        let issued = match self.source.shape {
            Shape::Xml(above) => from_xml(text, above)?,
            Shape::Json(unit) => from_json(text, unit, now)?,
        };
        let mut key = KnownKey::new(&issued.id, Secret::new(issued.secret.as_bytes()), None);
        key.token = Some(Secret::new(issued.token.as_bytes()));
        key.own = false;
        key.expires = Some(issued.expires);
        let caller = self.signer.as_ref().filter(|_| self.source.same_principal);
        let (told, role) = match &issued.arn {
            Some(arn) => principal(arn)?,
            None => (None, None),
        };
        let told = told.or(caller.and_then(|caller| caller.account));
        if let (Some(of_id), Some(told)) = (key.account, told)
            && of_id != told
        {
            return None;
        }
        key.account = key.account.or(told);
        key.role = role.or_else(|| caller.and_then(|caller| caller.role.clone()));
        key.parents = Some(self.descent());
        Some(key)
    }

    /// The caller, then its own descent.
    fn descent(&self) -> Arc<[Parent]> {
        let by = self.source.by;
        let caller = match &self.signer {
            Some(signer) => Parent {
                by,
                key_id: Some(Name::clone(&signer.key_id)),
                account: signer.account,
                role: signer.role.clone(),
            },
            None => Parent { by, key_id: None, account: None, role: None },
        };
        let above = self.signer.iter().filter_map(|signer| signer.parents.as_deref()).flatten().cloned();
        std::iter::once(caller).chain(above).take(MAX_PARENTS).collect()
    }
}

/// What an answer hands out.
struct Issued {
    id: String,
    secret: Zeroizing<String>,
    token: Zeroizing<String>,
    expires: Timestamp,
    /// Of the principal, where the answer names it.
    arn: Option<String>,
}

/// Account and role of `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`; of other principals the account alone.
pub(super) fn principal(arn: &str) -> Option<(Option<AccountId>, Option<Name>)> {
    let mut parts = arn.splitn(6, ':');
    let (first, _, service, _) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let account = AccountId::parse(parts.next()?)?;
    let what = parts.next()?;
    if first != "arn" || !matches!(service, "sts" | "iam") {
        return None;
    }
    let role = what.strip_prefix("assumed-role/").and_then(|rest| rest.split('/').next());
    Some((Some(account), role.filter(|role| !role.is_empty()).map(Into::into)))
}

#[derive(Deserialize)]
struct Answer<'t> {
    #[serde(borrow, alias = "Credentials", alias = "roleCredentials", alias = "accessToken")]
    credentials: Credentials<'t>,
    #[serde(borrow, rename = "assumedRoleUser")]
    user: Option<User<'t>>,
    /// Seconds from now, in the place of `expiration`.
    #[serde(rename = "expiresIn")]
    expires_in: Option<i64>,
}

#[derive(Deserialize)]
struct Credentials<'t> {
    #[serde(borrow, rename = "accessKeyId", alias = "AccessKeyId")]
    id: Cow<'t, str>,
    #[serde(borrow, rename = "secretAccessKey", alias = "SecretKey")]
    secret: Cow<'t, str>,
    #[serde(borrow, rename = "sessionToken", alias = "SessionToken")]
    token: Cow<'t, str>,
    #[serde(alias = "Expiration")]
    expiration: Option<f64>,
}

#[derive(Deserialize)]
struct User<'t> {
    #[serde(borrow)]
    arn: Cow<'t, str>,
}

fn from_json(text: &str, unit: i64, now: Timestamp) -> Option<Issued> {
    let Answer { credentials, user, expires_in } = serde_json::from_str(text).ok()?;
    let expires = match (credentials.expiration, expires_in) {
        // Saturates, and NaN is 0.
        (Some(at), _) => at as i64 / (1000 / unit),
        (None, Some(seconds)) => now.0.checked_add(seconds)?,
        (None, None) => return None,
    };
    Some(Issued {
        id: credentials.id.into_owned(),
        secret: Zeroizing::new(credentials.secret.into_owned()),
        token: Zeroizing::new(credentials.token.into_owned()),
        expires: Timestamp(expires),
        arn: user.map(|user| user.arn.into_owned()),
    })
}

/// Elements and text as STS and S3 write them. Comments, CDATA and entities of its own are not read.
fn from_xml(text: &str, above: usize) -> Option<Issued> {
    let mut rest = text.trim_start_matches('\u{feff}').trim();
    if rest.starts_with("<?xml ") {
        rest = rest.split_once("?>")?.1.trim_start();
    }
    let mut open: Vec<&str> = Vec::new();
    let (mut id, mut secret, mut token, mut end, mut arn) = (None, None, None, None, None);
    loop {
        let (before, after) = rest.split_once('<')?;
        let (tag, after) = after.split_once('>')?;
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop()? != name.trim_end() {
                return None;
            }
            let value = match (open.len().checked_sub(above), open.get(above..), name) {
                (Some(1), Some(["Credentials"]), "AccessKeyId") => &mut id,
                (Some(1), Some(["Credentials"]), "SecretAccessKey") => &mut secret,
                (Some(1), Some(["Credentials"]), "SessionToken") => &mut token,
                (Some(1), Some(["Credentials"]), "Expiration") => &mut end,
                (Some(1), Some(["AssumedRoleUser" | "FederatedUser"]), "Arn") => &mut arn,
                _ => {
                    if open.is_empty() {
                        break;
                    }
                    continue;
                }
            };
            // Twice is no answer of AWS's.
            if value.replace(before.trim()).is_some() {
                return None;
            }
            continue;
        }
        let name = tag.split([' ', '\t', '\r', '\n', '/']).next()?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) || open.len() > 16 {
            return None;
        }
        if !tag.ends_with('/') {
            open.push(name);
        } else if open.is_empty() {
            return None;
        }
    }
    let plain = |value: Option<&str>| {
        value.filter(|value| !value.is_empty() && !value.contains('&')).map(str::to_owned)
    };
    let end = time::OffsetDateTime::parse(end?, &time::format_description::well_known::Rfc3339).ok()?;
    rest.trim().is_empty().then_some(())?;
    Some(Issued {
        id: plain(id)?,
        secret: Zeroizing::new(plain(secret)?),
        token: Zeroizing::new(plain(token)?),
        expires: Timestamp(end.unix_timestamp()),
        arn: match arn {
            None => None,
            // An ARN that is written with escapes is none that we know.
            some => Some(plain(some)?),
        },
    })
}

#[cfg(test)]
mod tests;
