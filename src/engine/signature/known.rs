//! The keys we know, by their ids.
//!
//! A plain value: `crate::keys` fills it from its sources, `proxy/lesson.rs` adds what AWS hands out, and
//! `Claim::verify` looks a key id up in it.

use std::sync::Arc;

use super::keys::{KnownKey, Told};
use super::lesson::is_of_caller;
use crate::engine::facts::{AccountId, Timestamp};

/// An immutable map by key id: keys that we were given, and those that were learned from AWS's answers.
#[derive(Debug, Default, Clone)]
pub struct KnownKeys {
    /// Ordered by id: the sets are small, and comparing 20 bytes a few times is cheaper than hashing them.
    given: Vec<Arc<KnownKey>>,
    own_accounts: Vec<AccountId>,
    /// Ordered by id; asked only for an id that is none of the given ones.
    learned: Vec<Arc<KnownKey>>,
}

/// Learned keys that are kept. A workload that assumes a role for each of its customers has some hundred.
const MOST_LEARNED: usize = 1024;
/// A key that its source no longer names, and that has no end: programs have read it before, and keep it.
const OUTLIVES: i64 = 12 * 3600;

impl KnownKeys {
    /// Of several keys with one id the first stands.
    pub fn new(keys: impl IntoIterator<Item = KnownKey>) -> Self {
        let mut given: Vec<_> = keys.into_iter().map(Arc::new).collect();
        given.sort_by(|a, b| a.id.cmp(&b.id));
        given.dedup_by(|later, first| later.id == first.id);
        let mut own_accounts: Vec<_> = given.iter().filter(|k| k.own).filter_map(|k| k.account()).collect();
        own_accounts.sort_unstable();
        own_accounts.dedup();
        Self { given, own_accounts, learned: Vec::new() }
    }

    /// Further accounts that are ours: of keys whose secret we don't hold, as their sources tell.
    pub fn with_own_accounts(mut self, accounts: impl IntoIterator<Item = AccountId>) -> Self {
        self.own_accounts.extend(accounts);
        self.own_accounts.sort_unstable();
        self.own_accounts.dedup();
        self
    }

    pub fn get(&self, id: &str) -> Option<&KnownKey> {
        match find(&self.given, id) {
            Ok(at) => Some(&self.given[at]),
            // No cost where every key is a given one.
            Err(_) => find(&self.learned, id).ok().map(|at| &*self.learned[at]),
        }
    }

    /// With a key that AWS handed out. One that we were given stays what it is; the table keeps its size by
    /// letting go of what has ended, then of what ends first.
    #[must_use]
    pub fn with_learned(&self, key: &Arc<KnownKey>, now: Timestamp) -> Self {
        let mut keys = self.clone();
        if find(&keys.given, &key.id).is_ok() {
            return keys;
        }
        keys.drop_ended(now);
        match find(&keys.learned, &key.id) {
            Ok(at) => keys.learned[at] = Arc::clone(key),
            Err(_) => {
                if keys.learned.len() == MOST_LEARNED {
                    let first = keys.learned.iter().enumerate().min_by_key(|(_, other)| other.expires);
                    let first = first.map_or(0, |(at, _)| at);
                    keys.learned.remove(first);
                }
                let at = keys.learned.partition_point(|other| other.id < key.id);
                keys.learned.insert(at, Arc::clone(key));
            }
        }
        keys
    }

    /// A key, then the one that took it if both act as one principal, and so on.
    pub fn principal(&self, id: &str) -> impl Iterator<Item = &KnownKey> {
        let key = self.get(id);
        let parents = key.and_then(|key| key.parents.as_deref()).unwrap_or_default();
        let same = parents.iter().take_while(|parent| is_of_caller(parent.by));
        key.into_iter().chain(same.map_while(|parent| self.get(parent.key_id.as_deref()?)))
    }

    /// With what AWS said of a key, and so of all that are one principal with it. `None` where it contradicts what is
    /// known of one of them, or the key is gone.
    #[must_use]
    pub fn with_told(&self, id: &str, told: &Told) -> Option<Self> {
        let all: Vec<_> = self.principal(id).collect();
        if all.is_empty() || !all.iter().all(|key| key.agrees_with(told)) {
            return None;
        }
        all.iter().for_each(|key| key.tell(told));
        let ours = Some(told.account).filter(|_| all.iter().any(|key| key.own));
        Some(self.clone().with_own_accounts(ours))
    }

    /// What a source says now, in the place of `before`: keys that it no longer names stay to their end, and so do
    /// learned ones. What is the same keeps its signing keys.
    #[must_use]
    pub fn following(mut self, before: &Self, now: Timestamp) -> Self {
        for old in &before.given {
            match find(&self.given, &old.id) {
                Ok(at) if self.given[at].is_same(old) => self.given[at] = Arc::clone(old),
                Ok(_) => {}
                Err(_) if old.has_ended(now) => {}
                Err(at) => {
                    let mut kept = Arc::clone(old);
                    if kept.expires.is_none() {
                        kept = Arc::new(old.ending(Timestamp(now.0 + OUTLIVES)));
                    }
                    self.given.insert(at, kept);
                }
            }
        }
        let own = self.given.iter().filter(|key| key.own).filter_map(|key| key.account());
        let own: Vec<_> = own.collect();
        self.learned.clone_from(&before.learned);
        self.drop_ended(now);
        self.with_own_accounts(own)
    }

    fn drop_ended(&mut self, now: Timestamp) {
        self.learned.retain(|key| !key.has_ended(now));
    }

    /// Accounts of the keys we were given, ascending: what `self` means in a perimeter.
    pub fn own_accounts(&self) -> &[AccountId] {
        &self.own_accounts
    }

    /// Keys that we were given.
    pub fn iter(&self) -> impl Iterator<Item = &KnownKey> {
        self.given.iter().map(|key| &**key)
    }

    /// Number of keys that we were given.
    pub fn len(&self) -> usize {
        self.given.len()
    }

    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }
}

fn find(keys: &[Arc<KnownKey>], id: &str) -> Result<usize, usize> {
    keys.binary_search_by(|key| (*key.id).cmp(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::facts::{Parent, Secret};

    const NOW: Timestamp = Timestamp(1_767_323_045);

    fn key(id: &str) -> KnownKey {
        KnownKey::new(id, Secret::new(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), None)
    }

    fn learned(id: &str, secret: &[u8], life: i64) -> Arc<KnownKey> {
        let mut key = KnownKey::new(id, Secret::new(secret), Some(Secret::new(b"t")));
        (key.own, key.expires) = (false, Some(Timestamp(NOW.0 + life)));
        Arc::new(key)
    }

    #[test]
    fn finds_a_key_by_its_whole_id_and_knows_own_accounts() {
        let mut foreign = key("ASIAY34FZKBOKMUTVV7A");
        foreign.own = false;
        let keys = KnownKeys::new([key("AKIARZPUZDIKAAAAAAAA"), foreign, key("AKIAIOSFODNN7EXAMPLE")]);
        assert!(keys.get("AKIAIOSFODNN7EXAMPLE").is_some());
        assert!(keys.get("AKIAIOSFODNN7EXAMPL").is_none() && keys.get("").is_none());
        assert_eq!(keys.own_accounts(), [AccountId::parse("123456789012").unwrap()]);
    }

    #[test]
    fn a_learned_key_is_found_takes_nobodys_place_and_is_not_ours() {
        let given = KnownKeys::new([key("AKIARZPUZDIKAAAAAAAA")]);
        let keys = given.with_learned(&learned("ASIAY34FZKBOKMUTVV7A", b"one", 3600), NOW);
        assert_eq!(keys.get("ASIAY34FZKBOKMUTVV7A").unwrap().secret.expose(), b"one");
        assert_eq!(keys.own_accounts(), given.own_accounts());
        assert_eq!(keys.len(), 1, "given keys are counted");
        let keys = keys.with_learned(&learned("ASIAY34FZKBOKMUTVV7A", b"two", 3600), NOW);
        assert_eq!(keys.get("ASIAY34FZKBOKMUTVV7A").unwrap().secret.expose(), b"two");
        let keys = keys.with_learned(&learned("AKIARZPUZDIKAAAAAAAA", b"theirs", 3600), NOW);
        assert!(keys.get("AKIARZPUZDIKAAAAAAAA").unwrap().own);
        assert_eq!(keys.learned.len(), 1);
    }

    #[test]
    fn what_is_said_of_a_key_is_said_of_who_took_it_as_itself_and_of_nobody_else() {
        let account = AccountId::parse("210987654321").unwrap();
        let took = |by, id: &str| Parent { by, key_id: Some(id.into()), account: None, role: None };
        let session = |id: &str, parents: &[Parent]| {
            let mut key = key(id);
            (key.own, key.parents) = (false, Some(parents.into()));
            key.expires = Some(Timestamp(NOW.0 + 300));
            Arc::new(key)
        };
        let (taken, assumed) = (took("sts:GetSessionToken", "OWN"), took("sts:AssumeRole", "OWN"));
        let fresh = || {
            let express = took("s3express:CreateSession", "SESSION");
            KnownKeys::new([key("OWN"), key("OTHER")])
                .with_learned(&session("SESSION", std::slice::from_ref(&taken)), NOW)
                .with_learned(&session("EXPRESS", &[express.clone(), taken.clone()]), NOW)
                .with_learned(&session("ROLE", std::slice::from_ref(&assumed)), NOW)
                .with_learned(
                    &session("LOST", &[took("s3express:CreateSession", "GONE"), taken.clone()]),
                    NOW,
                )
        };
        let ids = |id: &str| fresh().principal(id).map(|key| key.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids("EXPRESS"), ["EXPRESS", "SESSION", "OWN"]);
        assert_eq!(ids("SESSION"), ["SESSION", "OWN"]);
        assert_eq!(
            (ids("ROLE"), ids("LOST"), ids("OWN")),
            (vec!["ROLE".into()], vec!["LOST".into()], vec!["OWN".into()])
        );
        assert!(ids("NOBODY").is_empty());

        let told = Told { account, role: None };
        for (id, own) in
            [("EXPRESS", true), ("SESSION", true), ("OWN", true), ("ROLE", false), ("LOST", false)]
        {
            let keys = fresh().with_told(id, &told).unwrap();
            assert_eq!(keys.get(id).unwrap().account(), Some(account), "{id}");
            assert_eq!(keys.get("OWN").unwrap().account(), Some(account).filter(|_| own), "{id}");
            assert_eq!(keys.own_accounts().contains(&account), own, "{id}");
            assert_eq!(keys.get("OTHER").unwrap().account(), None);
        }
        // One of them is known to be somebody else's: nothing of it is taken.
        let mut other = key("OWN");
        other.account = AccountId::parse("123456789012");
        let keys =
            KnownKeys::new([other]).with_learned(&session("SESSION", std::slice::from_ref(&taken)), NOW);
        assert!(keys.with_told("SESSION", &told).is_none());
        assert!(keys.get("SESSION").unwrap().is_untold());
        // Nor where AWS itself has said something else before.
        let keys = fresh().with_told("OWN", &told).unwrap();
        let other = Told { account: AccountId::parse("123456789012").unwrap(), role: None };
        assert!(keys.with_told("SESSION", &other).is_none() && keys.get("SESSION").unwrap().is_untold());
    }

    #[test]
    fn the_table_keeps_its_size_and_lets_go_of_the_ended_first() {
        let mut keys = KnownKeys::default();
        for n in 0..MOST_LEARNED {
            keys = keys.with_learned(&learned(&format!("ASIA{n:05}"), b"s", 3600 + n as i64), NOW);
        }
        assert_eq!(keys.learned.len(), MOST_LEARNED);
        keys = keys.with_learned(&learned("ASIAX", b"s", 7200), NOW);
        assert_eq!(keys.learned.len(), MOST_LEARNED);
        assert!(
            keys.get("ASIA00000").is_none() && keys.get("ASIA00001").is_some() && keys.get("ASIAX").is_some()
        );
        // All but the newest have ended, a quarter of an hour ago at least.
        let later = Timestamp(NOW.0 + 3600 + MOST_LEARNED as i64 + 901);
        let kept = KnownKeys::default().following(&keys, later);
        assert_eq!(kept.learned.len(), 1);
        let kept = keys.with_learned(&learned("ASIAY", b"s", 9000), later);
        assert_eq!(kept.learned.len(), 2);
    }

    #[test]
    fn a_key_that_its_source_replaced_stays_to_its_end() {
        let ending = |id: &str, life: i64| {
            let mut key = key(id);
            key.expires = Some(Timestamp(NOW.0 + life));
            key
        };
        let before =
            KnownKeys::new([ending("AKIARZPUZDIKAAAAAAAA", 60), key("STATIC"), ending("ENDED", -901)])
                .with_learned(&learned("ASIAY34FZKBOKMUTVV7A", b"s", 3600), NOW);
        let now = KnownKeys::new([key("NEW")]).following(&before, NOW);
        let ids = |keys: &KnownKeys| keys.iter().map(|key| key.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(&now), ["AKIARZPUZDIKAAAAAAAA", "NEW", "STATIC"]);
        assert!(now.get("ASIAY34FZKBOKMUTVV7A").is_some(), "what was learned stays");
        assert_eq!(now.own_accounts(), [AccountId::parse("123456789012").unwrap()]);
        // Past its end, with the grace of clocks.
        let later = KnownKeys::new([key("NEW")]).following(&now, Timestamp(NOW.0 + 60 + 901));
        assert_eq!(ids(&later), ["NEW", "STATIC"]);
        let later = KnownKeys::new([key("NEW")]).following(&later, Timestamp(NOW.0 + OUTLIVES + 901));
        assert_eq!(ids(&later), ["NEW"]);
    }

    #[test]
    fn what_stayed_the_same_keeps_what_was_derived_from_it() {
        let before = KnownKeys::new([key("A"), key("B")]);
        let mut other = key("B");
        other.secret = Secret::new(b"another");
        let now = KnownKeys::new([key("A"), other]).following(&before, NOW);
        assert!(Arc::ptr_eq(&now.given[0], &before.given[0]));
        assert_eq!(now.get("B").unwrap().secret.expose(), b"another");
    }
}
