//! Keys that AWS's own tools keep on disk: the session of `aws login`, and what the AWS CLI got from SSO.
//!
//! An unreadable cache is none: the workload then renews it, and its new key is known by its account.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{ReadFile, Variables};
use crate::engine::facts::{AccountId, Secret};
use crate::engine::hex;
use crate::engine::signature::KnownKey;

#[derive(Deserialize)]
struct Login<'t> {
    #[serde(rename = "accessToken", borrow)]
    token: LoginKey<'t>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoginKey<'t> {
    access_key_id: &'t str,
    secret_access_key: &'t str,
    session_token: &'t str,
    account_id: Option<&'t str>,
    expires_at: Option<&'t str>,
}

#[derive(Deserialize)]
struct Sso<'t> {
    #[serde(rename = "Credentials", borrow)]
    key: SsoKey<'t>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SsoKey<'t> {
    access_key_id: &'t str,
    secret_access_key: &'t str,
    session_token: &'t str,
    expiration: Option<&'t str>,
}

/// The key of a login session: its file is called after the SHA-256 of the session's name.
pub fn login(session: &str, env: Variables<'_>, read: ReadFile<'_>) -> Option<KnownKey> {
    let folder = match env("AWS_LOGIN_CACHE_DIRECTORY").filter(|named| !named.is_empty()) {
        Some(named) => match named.strip_prefix("~/") {
            Some(rest) => home(env)?.join(rest),
            None => named.into(),
        },
        None => home(env)?.join(".aws/login/cache"),
    };
    let text = read_named(&folder, &SHA256, session.trim(), read)?;
    let Login { token } = serde_json::from_str(&text).ok()?;
    let secret = Secret::new(token.secret_access_key.as_bytes());
    let mut key =
        KnownKey::new(token.access_key_id, secret, Some(Secret::new(token.session_token.as_bytes())));
    key.account = key.account.or_else(|| AccountId::parse(token.account_id?));
    key.expires = token.expires_at.and_then(super::instant);
    Some(key)
}

/// The key that the AWS CLI got for an SSO profile: its file is called after the SHA-1 of what was asked for.
pub fn sso<'p>(
    note: impl Fn(&str) -> Option<&'p str>,
    env: Variables<'_>,
    read: ReadFile<'_>,
) -> Option<KnownKey> {
    let (account, role) = (note("sso_account_id")?, note("sso_role_name")?);
    let session = match note("sso_session") {
        Some(session) => ("sessionName", session),
        None => ("startUrl", note("sso_start_url")?),
    };
    // As Python writes it: sorted, without blanks.
    let asked = BTreeMap::from([("accountId", account), ("roleName", role), session]);
    let asked = serde_json::to_string(&asked).ok()?;
    let text = read_named(&home(env)?.join(".aws/cli/cache"), &SHA1_FOR_LEGACY_USE_ONLY, &asked, read)?;
    let Sso { key } = serde_json::from_str(&text).ok()?;
    let secret = Secret::new(key.secret_access_key.as_bytes());
    let mut known = KnownKey::new(key.access_key_id, secret, Some(Secret::new(key.session_token.as_bytes())));
    known.account = known.account.or_else(|| AccountId::parse(account));
    known.role = Some(role.into());
    known.expires = key.expiration.and_then(super::instant);
    Some(known)
}

fn home(env: Variables<'_>) -> Option<PathBuf> {
    env("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

fn read_named(
    folder: &Path,
    algorithm: &'static Algorithm,
    what: &str,
    read: ReadFile<'_>,
) -> Option<Zeroizing<String>> {
    let name = hex::text(digest(algorithm, what.as_bytes()).as_ref());
    read(&folder.join(name + ".json")).ok().map(Zeroizing::new)
}
