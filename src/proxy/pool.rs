//! Idle connections to origins: shared by the connections of one worker, named by whole values.
//!
//! A connection comes here only after two clean messages, and leaves only if it has stayed quiet (facts/http1.md 4).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::http1::client;
use super::http1::io::Io;
use crate::engine::target::Authority;
use crate::record::LegText;
use crate::tls::Offer;

/// Origins drop idle connections after 5 to 60 s; a dead one costs a failed check, a held one a socket.
const IDLE_FOR: Duration = Duration::from_secs(50);
const IDLE_PER_KEY: usize = 64;

/// What makes two connections the same to a request. Compared whole: nothing is shared across authorities or trust.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub authority: Authority,
    /// Fixed by `--connect-to`; else the name is resolved anew for each connection.
    pub dial: Option<SocketAddr>,
    /// Which roots and versions the origin was checked against.
    pub trust: u32,
    /// What it was offered in ALPN.
    pub offer: Offer,
}

/// The origin's leg, as recorded.
#[derive(Debug)]
pub struct Upstream {
    pub leg: LegText,
}

/// A connection and what is known of it.
pub struct Leased<S> {
    /// Boxed: it is handed on many times a request.
    pub conn: Box<client::Connection<S>>,
    pub upstream: Arc<Upstream>,
}

struct Idle<S> {
    leased: Leased<S>,
    since: Instant,
}

/// One worker's idle connections; the lock is held for a push or a pop and never contended for long.
pub struct Pool<S> {
    // Keys are destinations that the policy admits, so nobody can flood it with chosen ones: no SipHash.
    idle: Mutex<HashMap<Key, Vec<Idle<S>>, foldhash::fast::RandomState>>,
}

impl<S> Default for Pool<S> {
    fn default() -> Self {
        Self { idle: Mutex::default() }
    }
}

impl<S: Io> Pool<S> {
    /// The connection used last. Whether it is still quiet is asked right before it is written to, by `forward.rs`:
    /// asked here too, it would be asked twice.
    pub fn checkout(&self, key: &Key, now: Instant) -> Option<Leased<S>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let all = idle.get_mut(key)?;
        if let Some(last) = all.pop()
            && now.saturating_duration_since(last.since) < IDLE_FOR
        {
            return Some(last.leased);
        }
        // Those below have been idle for longer still.
        idle.remove(key);
        None
    }

    pub fn give_back(&self, key: Key, leased: Leased<S>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let all = idle.entry(key).or_default();
        if all.len() == IDLE_PER_KEY {
            all.remove(0);
        }
        all.push(Idle { leased, since: Instant::now() });
    }

    /// Drops what has been idle for too long; called now and then.
    pub fn sweep(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, all| {
            all.retain(|one| one.since.elapsed() < IDLE_FOR);
            !all.is_empty()
        });
    }

    /// Connections that wait for a request, and those that carry one.
    pub fn count(&self) -> (usize, usize) {
        (self.len(), 0)
    }

    pub fn len(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The way back into a pool, for one leased connection.
pub struct Slip<S> {
    pub pool: Arc<Pool<S>>,
    pub key: Key,
    pub upstream: Arc<Upstream>,
}

impl<S: Io> client::Home<S> for Slip<S> {
    fn take_back(self, conn: Box<client::Connection<S>>) {
        self.pool.give_back(self.key, Leased { conn, upstream: self.upstream });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::engine::facts::{TlsFacts, TlsVersion};

    fn key(host: &str, trust: u32) -> Key {
        Key { authority: Authority::parse(host, Some(443)).unwrap(), dial: None, trust, offer: Offer::Http1 }
    }

    fn leased() -> (Leased<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        let tls = TlsFacts { version: TlsVersion::Tls13, cipher: "", group: None, alpn: None, sni: None };
        let upstream =
            Arc::new(Upstream { leg: LegText::dialled_at(([127, 0, 0, 1], 443).into(), Some(&tls)) });
        (Leased { conn: Box::new(client::Connection::new(near)), upstream }, far)
    }

    #[tokio::test]
    async fn never_reuses_a_connection_across_authorities_or_trust() {
        let pool = Pool::default();
        let (one, _far) = leased();
        pool.give_back(key("a.test", 0), one);
        assert!(pool.checkout(&key("b.test", 0), Instant::now()).is_none());
        assert!(pool.checkout(&key("a.test:444", 0), Instant::now()).is_none());
        assert!(pool.checkout(&key("a.test", 1), Instant::now()).is_none());
        assert!(pool.checkout(&key("a.test", 0), Instant::now()).is_some());
        assert!(pool.checkout(&key("a.test", 0), Instant::now()).is_none());
    }

    #[tokio::test]
    async fn a_connection_that_spoke_or_ended_while_idle_is_not_quiet() {
        let pool = Pool::default();
        let (mut idle, _far) = leased();
        assert!(idle.conn.is_quiet());
        let (spoke, mut far) = leased();
        far.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        pool.give_back(key("a.test", 0), spoke);
        let (ended, far) = leased();
        drop(far);
        pool.give_back(key("a.test", 0), ended);
        for _ in 0..2 {
            assert!(!pool.checkout(&key("a.test", 0), Instant::now()).unwrap().conn.is_quiet());
        }
        assert!(pool.checkout(&key("a.test", 0), Instant::now()).is_none() && pool.is_empty());
    }
}
