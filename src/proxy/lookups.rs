//! How many different names are looked up for one client: a name carries what its sender likes to whoever answers for it.
//!
//! Asked before each lookup. A denied name never comes here; a policy that admits `*.example.com` admits as many names as
//! a client can think of, and this bounds them. A name that was looked up a moment ago tells nobody anything new.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::gate;

const WINDOW: Duration = Duration::from_secs(60);

/// Counts the names of all workers' clients.
#[derive(Debug)]
pub struct Lookups {
    most: usize,
    // Names are a stranger's choice: hashed with a key.
    hasher: RandomState,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    asked: HashMap<IpAddr, HashSet<u64>>,
}

/// The client has asked for as many names as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} different names were looked up for this client within a minute")]
pub struct TooMany(usize);

impl Lookups {
    pub fn new(most: NonZeroUsize) -> Self {
        let window = Mutex::new(Window { since: Instant::now(), asked: HashMap::new() });
        Self { most: most.get(), hasher: RandomState::new(), window }
    }

    /// May `name` be looked up for this client? Counted, if so.
    pub fn ask(&self, client: IpAddr, name: &str, now: Instant) -> Result<(), TooMany> {
        let name = self.hasher.hash_one(name);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(window.since) >= WINDOW {
            *window = Window { since: now, asked: HashMap::new() };
        }
        let asked = window.asked.entry(gate::client(client)).or_default();
        if asked.len() >= self.most && !asked.contains(&name) {
            return Err(TooMany(self.most));
        }
        asked.insert(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_are_bounded_for_each_client_and_known_ones_are_not() {
        let lookups = Lookups::new(NonZeroUsize::new(2).unwrap());
        let (one, other): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let now = Instant::now();
        for name in ["a.test", "b.test", "a.test", "b.test"] {
            assert_eq!(lookups.ask(one, name, now), Ok(()), "{name}");
        }
        assert_eq!(lookups.ask(one, "c.test", now), Err(TooMany(2)));
        // The same client in its other form; another one; and the same once the minute is over.
        assert_eq!(lookups.ask("::ffff:10.0.0.1".parse().unwrap(), "c.test", now), Err(TooMany(2)));
        assert_eq!(lookups.ask(one, "a.test", now), Ok(()));
        assert_eq!(lookups.ask(other, "c.test", now), Ok(()));
        assert_eq!(lookups.ask(one, "c.test", now + WINDOW), Ok(()));
    }
}
