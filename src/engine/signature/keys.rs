//! A key we know, and the signing keys derived from it. The table of them is `signature/known.rs`.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::Signature;
use super::account::account_of;
use super::claim::{Algorithm, Scope};
use super::v4a::{KeyPair, PublicKey};
use crate::engine::facts::{AccountId, Name, Parent, Secret, Timestamp};
use crate::engine::hex;

/// Signing keys remembered for one key: about (services x regions) in use, twice that around midnight UTC.
const REMEMBERED: usize = 32;
/// Programs use a key up to its end, by a clock that may be off.
const GRACE: i64 = 15 * 60;

/// One access key we hold.
#[derive(Debug)]
pub struct KnownKey {
    pub id: Name,
    pub secret: Secret,
    /// Session token; a request under this key must carry exactly it, or none where this is `None`.
    pub token: Option<Secret>,
    /// As its id or its source tells.
    pub account: Option<AccountId>,
    /// Role name or ARN, where the key's source names one.
    pub role: Option<Name>,
    /// We were given it: its account counts as `self`.
    pub own: bool,
    /// Of a key that was learned from an answer: see [`Parent`].
    pub parents: Option<Arc<[Parent]>>,
    /// Its end, where its source tells.
    pub expires: Option<Timestamp>,
    told: OnceLock<Told>,
    signing_keys: SigningKeys,
    /// Of version 4A; derived at its first use.
    public_key: OnceLock<Option<Arc<PublicKey>>>,
}

impl KnownKey {
    /// A key we were given; the account is the one its id tells, if it tells one.
    pub fn new(id: &str, secret: Secret, token: Option<Secret>) -> Self {
        Self {
            id: id.into(),
            account: account_of(id),
            secret,
            token,
            role: None,
            own: true,
            parents: None,
            expires: None,
            told: OnceLock::new(),
            signing_keys: SigningKeys::default(),
            public_key: OnceLock::new(),
        }
    }

    /// Whose it is, as far as its id, its source and AWS have told.
    pub fn account(&self) -> Option<AccountId> {
        self.account.or_else(|| self.told.get().map(|told| told.account))
    }

    /// `None` also where it is no role's, but a user's.
    pub fn role(&self) -> Option<&Name> {
        self.role.as_ref().or_else(|| self.told.get()?.role.as_ref())
    }

    /// AWS could tell more of it.
    pub fn is_untold(&self) -> bool {
        (self.account.is_none() || self.role.is_none()) && self.told.get().is_none()
    }

    /// What GetCallerIdentity has said of it.
    pub fn told(&self) -> Option<&Told> {
        self.told.get()
    }

    /// That is what its id, its source or AWS has said, if they said anything: else one of them is not about this key.
    pub(super) fn agrees_with(&self, told: &Told) -> bool {
        self.account().is_none_or(|account| account == told.account)
    }

    pub(super) fn tell(&self, told: &Told) {
        // Two may have asked; AWS says the same to both.
        let _ = self.told.set(told.clone());
    }

    pub(super) fn has_ended(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end.0 + GRACE < now.0)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
            && self.secret == other.secret
            && self.token == other.token
            && (self.account, &self.role, self.own) == (other.account, &other.role, other.own)
            && self.expires == other.expires
    }

    /// The same key, which ends then.
    pub(super) fn ending(&self, end: Timestamp) -> Self {
        Self { expires: Some(end), ..self.alone() }
    }

    /// The same key. What was derived from it is derived anew.
    pub(super) fn alone(&self) -> Self {
        Self {
            expires: self.expires,
            account: self.account,
            role: self.role.clone(),
            own: self.own,
            parents: self.parents.clone(),
            told: self.told.clone(),
            ..Self::new(&self.id, self.secret.clone(), self.token.clone())
        }
    }

    /// The key that checks version 4A, whatever the scope.
    fn public_key(&self) -> Option<&Arc<PublicKey>> {
        let derive = || PublicKey::derive(&self.id, &self.secret).map(Arc::new);
        self.public_key.get_or_init(derive).as_ref()
    }

    /// What checks signatures within a scope. `None` where there is no such key (see [`PublicKey::derive`]).
    pub(super) fn checker(&self, algorithm: Algorithm, scope: &Scope<'_>) -> Option<Lent> {
        if algorithm == Algorithm::Ecdsa {
            return self.public_key().map(|key| Lent::Derived(Checker::Ecdsa(Arc::clone(key))));
        }
        let all = self.signing_keys.0.load();
        Some(match all.iter().position(|checker| checker.is_for(scope)) {
            Some(at) => Lent::Remembered { all, at },
            None => Lent::Derived(Checker::derive(&self.secret, scope)),
        })
    }

    /// Keeps a signing key that has verified a signature, if it isn't kept. Only those: scopes that anybody may write
    /// can't push good ones out.
    pub(super) fn remember(&self, lent: &Lent) {
        let Lent::Derived(new @ Checker::Hmac(derived)) = lent else { return };
        self.signing_keys.0.rcu(|old| {
            let others = old.iter().filter(|other| !other.is_same(derived));
            std::iter::once(new).chain(others).take(REMEMBERED).cloned().collect::<Vec<_>>()
        });
    }
}

/// A checker, looked up. Not cloned where it is one that was remembered: all workers would count in one place.
pub(super) enum Lent {
    Remembered { all: arc_swap::Guard<Arc<Vec<Checker>>>, at: usize },
    Derived(Checker),
}

impl std::ops::Deref for Lent {
    type Target = Checker;

    fn deref(&self) -> &Checker {
        match self {
            Self::Remembered { all, at } => &all[*at],
            Self::Derived(checker) => checker,
        }
    }
}

/// What GetCallerIdentity says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub account: AccountId,
    /// `None` where it is a user's.
    pub role: Option<Name>,
}

/// The key that signs within one scope: HMAC chain over date, region, service and `aws4_request`.
pub struct SigningKey(hmac::Key);

impl SigningKey {
    pub fn derive(secret: &Secret, scope: &Scope<'_>) -> Self {
        let mut first = Zeroizing::new(Vec::with_capacity(4 + secret.expose().len()));
        first.extend_from_slice(b"AWS4");
        first.extend_from_slice(secret.expose());
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, &first);
        for step in [scope.date, scope.region, scope.service, "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, step.as_bytes()).as_ref());
        }
        Self(key)
    }

    /// The signature of a string to sign.
    pub fn sign(&self, text: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, text);
        let mut signature = [0; 32];
        signature.copy_from_slice(tag.as_ref());
        signature
    }

    /// Constant time in the signature.
    pub fn matches(&self, text: &[u8], signature: &[u8; 32]) -> bool {
        hmac::verify(&self.0, text, signature).is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Checks a request's signature, and those of its chunks and trailers.
#[derive(Debug, Clone)]
pub enum Checker {
    Hmac(Arc<Cached>),
    Ecdsa(Arc<PublicKey>),
}

impl Checker {
    /// For one scope, not remembered.
    pub fn derive(secret: &Secret, scope: &Scope<'_>) -> Self {
        Self::from(Cached::derive(secret, scope))
    }

    fn is_for(&self, scope: &Scope<'_>) -> bool {
        let Self::Hmac(cached) = self else { return false };
        let [date, region, service] = &cached.scope;
        **service == *scope.service && **region == *scope.region && **date == *scope.date
    }

    fn is_same(&self, other: &Cached) -> bool {
        matches!(self, Self::Hmac(cached) if cached.scope == other.scope)
    }

    /// A request's own signature.
    pub(super) fn confirms(&self, text: &[u8], signature: &Signature<'_>) -> bool {
        match self {
            Self::Hmac(cached) => cached.key.matches(text, &signature.value),
            Self::Ecdsa(key) => key.holds(text, signature.text),
        }
    }

    /// A later one: `signature` as text, without padding.
    pub fn holds(&self, text: &[u8], signature: &str) -> bool {
        match self {
            Self::Ecdsa(key) => key.holds(text, signature),
            Self::Hmac(cached) => {
                hex::parse(signature.as_bytes()).is_some_and(|signature| cached.key.matches(text, &signature))
            }
        }
    }
}

impl From<Cached> for Checker {
    fn from(key: Cached) -> Self {
        Self::Hmac(Arc::new(key))
    }
}

/// Makes what a [`Checker`] checks.
#[derive(Debug)]
pub enum Maker {
    Hmac(Box<Cached>),
    Ecdsa(KeyPair),
}

impl Maker {
    /// `None` where there is no such key, as [`KnownKey::checker`].
    pub fn derive(algorithm: Algorithm, key: &KnownKey, scope: &Scope<'_>) -> Option<Self> {
        match algorithm {
            Algorithm::Hmac => Some(Self::from(Cached::derive(&key.secret, scope))),
            Algorithm::Ecdsa => KeyPair::derive(&key.id, &key.secret).map(Self::Ecdsa),
        }
    }

    /// A signature as text, without padding. `None` where `most` digits have no room for one.
    pub fn sign(&self, text: &[u8], most: usize) -> Option<String> {
        match self {
            Self::Hmac(cached) => (most >= 64).then(|| hex::text(&cached.key.sign(text))),
            Self::Ecdsa(pair) => pair.sign(text, most),
        }
    }
}

impl From<Cached> for Maker {
    fn from(key: Cached) -> Self {
        Self::Hmac(Box::new(key))
    }
}

/// A signing key and what it is for.
#[derive(Debug)]
pub struct Cached {
    scope: [Box<str>; 3],
    key: SigningKey,
}

impl Cached {
    pub fn derive(secret: &Secret, scope: &Scope<'_>) -> Self {
        Self {
            scope: [scope.date.into(), scope.region.into(), scope.service.into()],
            key: SigningKey::derive(secret, scope),
        }
    }
}

/// Newest first; read without a lock, replaced whole.
#[derive(Debug, Default)]
struct SigningKeys(ArcSwap<Vec<Checker>>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::hex;

    fn key(id: &str) -> KnownKey {
        KnownKey::new(id, Secret::new(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), None)
    }

    #[test]
    fn derives_the_published_signing_key() {
        let scope = Scope { date: "20150830", region: "us-east-1", service: "iam" };
        // The last step but one of the published chain is what signs; it is compared through a signature.
        let published =
            hex::parse(b"c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9").unwrap();
        let reference = SigningKey(hmac::Key::new(hmac::HMAC_SHA256, &published));
        let derived = SigningKey::derive(&key("A").secret, &scope);
        assert_eq!(derived.sign(b"text"), reference.sign(b"text"));
        assert!(derived.matches(b"text", &reference.sign(b"text")));
        assert!(!derived.matches(b"texT", &reference.sign(b"text")));
    }

    #[test]
    fn remembers_only_what_verified_and_only_so_many() {
        let key = key("A");
        let dates: Vec<String> = (0..100).map(|n| format!("202601{n:02}")).collect();
        for date in &dates {
            let scope = Scope { date, region: "us-east-1", service: "s3" };
            let lend = || key.checker(Algorithm::Hmac, &scope).unwrap();
            let derived = lend();
            assert!(matches!((&derived, lend()), (Lent::Derived(_), Lent::Derived(_))), "not kept unasked");
            key.remember(&derived);
            key.remember(&derived);
            assert!(matches!(lend(), Lent::Remembered { .. }));
        }
        assert_eq!(key.signing_keys.0.load().len(), REMEMBERED);
        let other = Scope { date: &dates[99], region: "us-east-2", service: "s3" };
        assert!(matches!(key.checker(Algorithm::Hmac, &other), Some(Lent::Derived(_))));
    }

    #[test]
    fn nothing_prints_a_secret() {
        let mut key = key("A");
        key.token = Some(Secret::new(b"the-token"));
        let scope = Scope { date: "20150830", region: "us-east-1", service: "iam" };
        key.remember(&key.checker(Algorithm::Hmac, &scope).unwrap());
        key.checker(Algorithm::Ecdsa, &scope).unwrap();
        let text = format!("{key:?}");
        assert!(!text.contains("wJalr") && !text.contains("the-token"), "{text}");
    }
}
