//! The cache of `aws login`: a session's keys, under the SHA-256 of its name.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{ReadFile, Variables};
use crate::engine::facts::{AccountId, Secret};
use crate::engine::signature::KnownKey;

#[derive(Deserialize)]
struct Cached<'t> {
    #[serde(rename = "accessToken", borrow)]
    token: Token<'t>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token<'t> {
    access_key_id: &'t str,
    secret_access_key: &'t str,
    session_token: &'t str,
    account_id: Option<&'t str>,
}

/// The session's key, where somebody is logged in. An unreadable cache is none: the workload then refreshes it, and
/// its new key is known by its account.
pub fn cached(session: &str, env: Variables<'_>, read: ReadFile<'_>) -> Option<KnownKey> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let home = || set("HOME").map(PathBuf::from);
    let folder = match set("AWS_LOGIN_CACHE_DIRECTORY") {
        Some(named) => match named.strip_prefix("~/") {
            Some(rest) => home()?.join(rest),
            None => named.into(),
        },
        None => home()?.join(".aws/login/cache"),
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, session.trim().as_bytes());
    let mut name = String::new();
    for byte in digest.as_ref() {
        let _ = write!(name, "{byte:02x}");
    }
    let text = Zeroizing::new(read(&folder.join(name + ".json")).ok()?);
    let Cached { token } = serde_json::from_str(&text).ok()?;
    let secret = Secret::new(token.secret_access_key.as_bytes());
    let mut key =
        KnownKey::new(token.access_key_id, secret, Some(Secret::new(token.session_token.as_bytes())));
    key.account = key.account.or_else(|| AccountId::parse(token.account_id?));
    Some(key)
}
