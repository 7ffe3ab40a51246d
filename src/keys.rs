//! Who may sign: gathers the keys we are given into a [`KnownKeys`] for the verifier, and the accounts that are ours.
//!
//! Sources: one file that was named (then no other is asked), else the environment, the profile that the workload's
//! SDK would select, and the endpoints of the platform (container, instance). AWS is not asked here: where a source
//! makes its keys later (SSO, an assumed role, a web identity), what it says of the account is enough to know `self`;
//! whose a key is that says nothing of itself, `proxy/caller.rs` asks when a statement turns on it.
//! Variables and files are read through functions passed in.

mod cached;
mod container;
mod endpoint;
mod imds;
pub mod ledger;
mod profile;
mod refresh;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::engine::facts::{AccountId, Secret, Timestamp};
use crate::engine::signature::{KnownKey, KnownKeys};
use ledger::Ledger;
use profile::{Profile, Profiles, SectionNames};
pub use refresh::Refresher;

/// A profile chain longer than this is a mistake.
const MAX_CHAIN: usize = 5;

/// Looks a variable up; `None` where it isn't set.
pub type Variables<'f> = &'f dyn Fn(&str) -> Option<String>;
/// Reads a whole file.
pub type ReadFile<'f> = &'f dyn Fn(&Path) -> io::Result<String>;

/// Why the keys could not be gathered. Messages name places, never values.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("can't read credentials from `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {what}", path.display())]
    Malformed { path: PathBuf, line: usize, what: &'static str },
    #[error("`{set}` is set but `{missing}` is not")]
    HalfSet { set: &'static str, missing: &'static str },
    #[error("the platform's credentials endpoint: {0}")]
    Endpoint(String),
    #[error("the platform's credentials endpoint: {address}: {source}")]
    Network { address: SocketAddr, source: io::Error },
    #[error("the platform's credentials endpoint: {address}: answered {status}")]
    Status { address: SocketAddr, status: u16 },
    #[error("the platform's credentials endpoint: {0}: its answer is not HTTP")]
    NotHttp(SocketAddr),
    #[error("the platform's credentials endpoint was not asked: the call can't be recorded")]
    Unrecorded,
}

/// The sources as they were named, and what the platform's endpoint gave so far.
#[derive(Debug, Default)]
pub struct Keyring {
    explicit: Option<PathBuf>,
    /// What the platform's endpoint gave last.
    fetched: Option<container::Fetched>,
    /// Accounts named by hand.
    accounts: Vec<AccountId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    None,
    Container,
    Instance,
}

impl Keyring {
    pub fn new(explicit: Option<PathBuf>, accounts: Vec<AccountId>) -> Self {
        Self { explicit, fetched: None, accounts }
    }

    /// Every key of the named file; without it, the keys of the environment, of the selected profile with its
    /// `source_profile`s, and of the platform's endpoint. No source at all gives no key and no error.
    pub fn known(&self, env: Variables<'_>, read: ReadFile<'_>) -> Result<KnownKeys, KeysError> {
        let known = load(self.explicit.as_deref(), self.fetched.as_ref(), env, read)?;
        Ok(known.with_own_accounts(self.accounts.iter().copied()))
    }

    /// The platform's endpoint that an SDK would come to: the instance's only where nothing else is.
    fn endpoint(&self, env: Variables<'_>, read: ReadFile<'_>) -> Result<Endpoint, KeysError> {
        if self.explicit.is_some() {
            return Ok(Endpoint::None);
        }
        if container::is_named(env) {
            return Ok(Endpoint::Container);
        }
        let others = load(None, None, env, read)?;
        let alone = others.is_empty() && others.own_accounts().is_empty();
        Ok(if alone && imds::applies(env, read) { Endpoint::Instance } else { Endpoint::None })
    }

    /// Asks the platform's endpoint, where there is one to ask. Blocks for some seconds at most; a failure keeps what
    /// it gave before.
    pub fn fetch(
        &mut self,
        env: Variables<'_>,
        read: ReadFile<'_>,
        ledger: &dyn Ledger,
    ) -> Result<(), KeysError> {
        self.fetched = Some(match self.endpoint(env, read)? {
            Endpoint::None => return Ok(()),
            Endpoint::Container => container::fetch(env, read, ledger)?,
            Endpoint::Instance => imds::fetch(env, ledger)?,
        });
        Ok(())
    }
}

fn load(
    explicit: Option<&Path>,
    fetched: Option<&container::Fetched>,
    env: Variables<'_>,
    read: ReadFile<'_>,
) -> Result<KnownKeys, KeysError> {
    if let Some(path) = explicit {
        let text =
            Zeroizing::new(read(path).map_err(|source| KeysError::Read { path: path.into(), source })?);
        let profiles = Profiles::parse(&text, path, SectionNames::Any)?;
        let keys: Result<Vec<_>, _> = profiles.iter().map(|p| key_of(p, &[p])).collect();
        return Ok(KnownKeys::new(keys?.into_iter().flatten()));
    }
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let mut keys = Vec::new();
    keys.extend(from_environment(env)?);
    let mut accounts = from_profile(env, read, &mut keys)?;
    keys.extend(fetched.map(container::Fetched::key));
    // A web identity's role: STS makes its keys when the workload asks.
    if set("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() {
        accounts.extend(set("AWS_ROLE_ARN").as_deref().and_then(account_in));
    }
    Ok(KnownKeys::new(keys).with_own_accounts(accounts))
}

fn from_environment(env: Variables<'_>) -> Result<Option<KnownKey>, KeysError> {
    const ID: &str = "AWS_ACCESS_KEY_ID";
    const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(Zeroizing::new);
    let (id, secret) = match (set(ID), set(SECRET)) {
        (Some(id), Some(secret)) => (id, secret),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(KeysError::HalfSet { set: ID, missing: SECRET }),
        (None, Some(_)) => return Err(KeysError::HalfSet { set: SECRET, missing: ID }),
    };
    let token = set("AWS_SESSION_TOKEN").map(|token| Secret::new(token.as_bytes()));
    let mut key = KnownKey::new(&id, Secret::new(secret.as_bytes()), token);
    key.account = key.account.or_else(|| AccountId::parse(&set("AWS_ACCOUNT_ID")?));
    Ok(Some(key))
}

/// The profile that an SDK with this environment would select, and those that it gets its keys from: their static
/// keys, and the accounts of the keys that they will be given.
fn from_profile(
    env: Variables<'_>,
    read: ReadFile<'_>,
    keys: &mut Vec<KnownKey>,
) -> Result<Vec<AccountId>, KeysError> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let home = set("HOME");
    let open = |variable: &str, default: &str| -> Result<Option<(PathBuf, Zeroizing<String>)>, KeysError> {
        let named = set(variable);
        let place = named.as_deref().unwrap_or(default);
        let path = match (place.strip_prefix("~/"), &home) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            (Some(_), None) => return Ok(None),
            (None, _) => PathBuf::from(place),
        };
        match read(&path) {
            Ok(text) => Ok(Some((path, Zeroizing::new(text)))),
            // As SDKs have it. A home that we may not enter is one that nobody meant.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(source) => Err(KeysError::Read { path, source }),
        }
    };
    let credentials = open("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")?;
    let config = open("AWS_CONFIG_FILE", "~/.aws/config")?;
    let credentials = parse(credentials.as_ref(), SectionNames::Plain)?;
    let config = parse(config.as_ref(), SectionNames::Prefixed)?;

    let mut accounts = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let mut next = set("AWS_PROFILE").or_else(|| set("AWS_DEFAULT_PROFILE")).or(Some("default".into()));
    while let Some(name) = next.take().filter(|name| !seen.contains(name) && seen.len() < MAX_CHAIN) {
        // The credentials file comes first where both have a profile.
        let places: Vec<&Profile<'_>> =
            [&credentials, &config].into_iter().flatten().filter_map(|file| file.get(&name)).collect();
        for place in &places {
            if let Some(key) = key_of(place, &places)? {
                keys.push(key);
                break;
            }
        }
        let note = |name: &str| places.iter().find_map(|place| place.value(name));
        accounts.extend(["role_arn", "login_session"].into_iter().filter_map(note).filter_map(account_in));
        let numbers = ["sso_account_id", "aws_account_id"].into_iter().filter_map(note);
        accounts.extend(numbers.filter_map(AccountId::parse));
        if let Some(session) = note("login_session") {
            keys.extend(cached::login(session, env, read));
        }
        keys.extend(cached::sso(note, env, read));
        next = note("source_profile").map(Into::into);
        seen.push(name);
    }
    Ok(accounts)
}

/// The `ca_bundle` of the selected profile: AWS's own tools believe it where no variable names another.
pub fn ca_bundle(env: Variables<'_>, read: ReadFile<'_>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let in_home = |place: &str| match place.strip_prefix("~/") {
        Some(rest) => set("HOME").map(|home| Path::new(&home).join(rest)),
        None => Some(place.into()),
    };
    let path = in_home(&set("AWS_CONFIG_FILE").unwrap_or_else(|| "~/.aws/config".to_owned()))?;
    let text = Zeroizing::new(read(&path).ok()?);
    let profiles = Profiles::parse(&text, &path, SectionNames::Prefixed).ok()?;
    let selected = set("AWS_PROFILE").or_else(|| set("AWS_DEFAULT_PROFILE"));
    in_home(profiles.get(selected.as_deref().unwrap_or("default"))?.value("ca_bundle")?)
}

/// A time as AWS's own tools and endpoints write it.
fn instant(text: &str) -> Option<Timestamp> {
    let format = &time::format_description::well_known::Rfc3339;
    // Botocore writes `UTC` for the zone.
    let text = text.strip_suffix("UTC").map_or_else(|| text.to_owned(), |start| format!("{start}Z"));
    time::OffsetDateTime::parse(&text, format).ok().map(|at| Timestamp(at.unix_timestamp()))
}

/// The account of an ARN, whatever it names.
fn account_in(arn: &str) -> Option<AccountId> {
    let mut parts = arn.splitn(6, ':');
    let account = parts.by_ref().nth(4).filter(|_| arn.starts_with("arn:"))?;
    parts.next().and_then(|_| AccountId::parse(account))
}

fn parse(
    file: Option<&(PathBuf, Zeroizing<String>)>,
    names: SectionNames,
) -> Result<Option<Profiles<'_>>, KeysError> {
    file.map(|(path, text)| Profiles::parse(text, path, names)).transpose()
}

/// The static key of a profile; `notes` are all places that say something of the profile.
fn key_of(profile: &Profile<'_>, notes: &[&Profile<'_>]) -> Result<Option<KnownKey>, KeysError> {
    let (id, secret) = match (profile.value("aws_access_key_id"), profile.value("aws_secret_access_key")) {
        (Some(id), Some(secret)) => (id, secret),
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return Err(profile.malformed("profile has a key id but no `aws_secret_access_key`"));
        }
        (None, Some(_)) => {
            return Err(profile.malformed("profile has a secret key but no `aws_access_key_id`"));
        }
    };
    let token = profile.value("aws_session_token").or_else(|| profile.value("aws_security_token"));
    let mut key =
        KnownKey::new(id, Secret::new(secret.as_bytes()), token.map(|token| Secret::new(token.as_bytes())));
    let note = |name: &str| notes.iter().find_map(|place| place.value(name));
    // With one of these the profile's role is what its key may assume, not whose key it is.
    let assumes = ["source_profile", "credential_source", "web_identity_token_file"];
    let role = note("role_arn").filter(|_| assumes.iter().all(|name| note(name).is_none())).and_then(role_of);
    let account = || note("aws_account_id").or_else(|| note("sso_account_id")).and_then(AccountId::parse);
    key.account = key.account.or_else(account).or(role.map(|(account, _)| account));
    key.role = role.map(|(_, name)| name).or_else(|| note("sso_role_name")).map(Into::into);
    Ok(Some(key))
}

/// Account and name out of `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`.
fn role_of(arn: &str) -> Option<(AccountId, &str)> {
    let mut parts = arn.splitn(6, ':');
    if parts.next()? != "arn" {
        return None;
    }
    let (_, service, _) = (parts.next()?, parts.next()?, parts.next()?);
    let account = AccountId::parse(parts.next()?)?;
    let name = parts.next()?.strip_prefix("role/")?.rsplit('/').next()?;
    (service == "iam" && !name.is_empty()).then_some((account, name))
}

#[cfg(test)]
mod tests;
