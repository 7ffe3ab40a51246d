//! Connections to origins: how many there may be, who is next for one, and those that wait idle for a request. Shared by
//! the connections of one worker, named by whole values.
//!
//! A connection comes here only after two clean messages, and leaves only if it has stayed quiet.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::http1::client;
use super::http1::io::Io;
use crate::engine::policy::PolicyId;
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
    /// Under which policy it was dialled: what one lets a name resolve into, another may not.
    pub policy: PolicyId,
    /// Which roots and versions the origin was checked against.
    pub trust: u32,
    /// What it was offered in ALPN.
    pub offer: Offer,
}

/// The origin's leg, as recorded; and the place that its connection takes for as long as anybody holds this.
#[derive(Debug)]
pub struct Upstream {
    pub leg: LegText,
    pub slot: Slot,
}

impl Upstream {
    /// The place of a connection that has ended, for another in its stead; `None` where somebody holds this too.
    pub fn into_slot(self: Arc<Self>) -> Option<Slot> {
        Arc::into_inner(self).map(|upstream| upstream.slot)
    }
}

/// The right to one connection of a key; given to whoever waits longest when it is dropped.
#[derive(Debug)]
pub struct Slot {
    pool: Weak<dyn Slots>,
    key: Key,
}

trait Slots: std::fmt::Debug + Send + Sync {
    fn free(&self, slot: &Slot);
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.free(self);
        }
    }
}

/// A connection and what is known of it.
pub struct Leased<S> {
    /// Boxed: it is handed on many times a request.
    pub conn: Box<client::Connection<S>>,
    pub upstream: Arc<Upstream>,
}

impl<S> Leased<S> {
    /// Ends the connection and keeps its place, unless a request's record still holds that.
    pub fn into_slot(self) -> Option<Slot> {
        drop(self.conn);
        self.upstream.into_slot()
    }
}

/// What somebody who asked for a connection may go on with.
pub enum Turn<S> {
    /// A connection that was just given back.
    Idle(Leased<S>),
    /// Make one.
    Dial(Slot),
}

/// Connections that wait for a request, those that carry one or are being made, and requests that wait for one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub idle: usize,
    pub active: usize,
    pub wanted: usize,
}

struct Idle<S> {
    leased: Leased<S>,
    since: Instant,
}

struct Origin<S> {
    /// The one used last stands last.
    idle: Vec<Idle<S>>,
    /// Slots that are out: of connections that are idle, carry a request, or are being made.
    open: usize,
    /// Longest first. INVARIANT: while somebody waits nothing is idle and no slot is free, so nobody passes by.
    waiting: VecDeque<oneshot::Sender<Turn<S>>>,
}

/// One worker's connections; the lock is held for a push or a pop and never contended for long.
pub struct Pool<S> {
    /// Of one key.
    most: usize,
    // Keys are destinations that the policy admits, so nobody can flood it with chosen ones: no SipHash.
    origins: Mutex<HashMap<Key, Origin<S>, foldhash::fast::RandomState>>,
}

impl<S: Io> Pool<S> {
    /// At most so many connections of one key.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, origins: Mutex::default() })
    }

    /// The connection used last. Whether it is still quiet is asked right before it is written to, by `forward.rs`:
    /// asked here too, it would be asked twice.
    pub fn checkout(&self, key: &Key, now: Instant) -> Option<Leased<S>> {
        let mut origins = self.origins();
        let origin = origins.get_mut(key)?;
        let last = origin.idle.pop()?;
        if now.saturating_duration_since(last.since) < IDLE_FOR {
            return Some(last.leased);
        }
        // Those below have been idle for longer still. Dropped without the lock: they give back their slots.
        let stale = (last, std::mem::take(&mut origin.idle));
        drop(origins);
        drop(stale);
        None
    }

    /// Where [`Self::checkout`] found none: the right to make one, or the next that comes free. Waits in line for at most
    /// `patience`; then `None`. Cancel safe: what comes too late goes to the next in line.
    pub async fn turn(self: &Arc<Self>, key: &Key, patience: Duration) -> Option<Turn<S>> {
        let next = match self.slot(key) {
            Ok(slot) => return Some(Turn::Dial(slot)),
            Err(next) => next,
        };
        tokio::time::timeout(patience, next).await.ok()?.ok()
    }

    fn slot(self: &Arc<Self>, key: &Key) -> Result<Slot, oneshot::Receiver<Turn<S>>> {
        let mut origins = self.origins();
        // The key is kept once, and looked up for each request.
        if !origins.contains_key(key) {
            origins.insert(key.clone(), Origin { idle: Vec::new(), open: 0, waiting: VecDeque::new() });
        }
        let origin = origins.get_mut(key).expect("it was just put there");
        if origin.open < self.most {
            origin.open += 1;
            drop(origins);
            return Ok(self.new_slot(key));
        }
        // Those who gave up stand at the front, since all wait for as long.
        while origin.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            origin.waiting.pop_front();
        }
        let (turn, next) = oneshot::channel();
        origin.waiting.push_back(turn);
        Err(next)
    }

    fn new_slot(self: &Arc<Self>, key: &Key) -> Slot {
        let pool: Weak<Self> = Arc::downgrade(self);
        Slot { pool, key: key.clone() }
    }

    pub fn give_back(&self, leased: Leased<S>) {
        let mut origins = self.origins();
        // A connection that is held has a slot, and a key with a slot stays.
        let Some(origin) = origins.get_mut(&leased.upstream.slot.key) else { return };
        if let Some(next) = next_in_line(origin) {
            drop(origins);
            // One that gives up in this moment drops it, and its slot goes on.
            drop(next.send(Turn::Idle(leased)));
            return;
        }
        let oldest = (origin.idle.len() == IDLE_PER_KEY).then(|| origin.idle.remove(0));
        origin.idle.push(Idle { leased, since: Instant::now() });
        drop(origins);
        drop(oldest);
    }

    /// Drops what has been idle for too long; called now and then.
    pub fn sweep(&self) {
        let mut stale = Vec::new();
        for origin in self.origins().values_mut() {
            stale.extend(origin.idle.extract_if(.., |one| one.since.elapsed() >= IDLE_FOR));
        }
        drop(stale);
    }

    pub fn count(&self) -> Count {
        let mut count = Count::default();
        for origin in self.origins().values() {
            count.idle += origin.idle.len();
            count.active += origin.open - origin.idle.len();
            count.wanted += origin.waiting.iter().filter(|next| !next.is_closed()).count();
        }
        count
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<Key, Origin<S>, foldhash::fast::RandomState>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one that has waited longest and still does.
fn next_in_line<S>(origin: &mut Origin<S>) -> Option<oneshot::Sender<Turn<S>>> {
    while let Some(next) = origin.waiting.pop_front() {
        if !next.is_closed() {
            return Some(next);
        }
    }
    None
}

impl<S: Io> Slots for Pool<S> {
    fn free(&self, slot: &Slot) {
        let mut origins = self.origins();
        let Some(origin) = origins.get_mut(&slot.key) else { return };
        match next_in_line(origin) {
            Some(next) => {
                drop(origins);
                let slot = Slot { pool: Weak::clone(&slot.pool), key: slot.key.clone() };
                drop(next.send(Turn::Dial(slot)));
            }
            None => {
                origin.open -= 1;
                if origin.open == 0 {
                    origins.remove(&slot.key);
                }
            }
        }
    }
}

impl<S> std::fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("most", &self.most).finish_non_exhaustive()
    }
}

/// The way back into a pool, for one leased connection.
pub struct Slip<S> {
    pub pool: Arc<Pool<S>>,
    pub upstream: Arc<Upstream>,
}

impl<S: Io> client::Home<S> for Slip<S> {
    fn take_back(self, conn: Box<client::Connection<S>>) {
        self.pool.give_back(Leased { conn, upstream: self.upstream });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::engine::atlas::Atlas;
    use crate::engine::facts::{TlsFacts, TlsVersion};
    use crate::engine::policy::Policy;

    fn key(host: &str, trust: u32) -> Key {
        Key {
            authority: Authority::parse(host, Some(443)).unwrap(),
            dial: None,
            policy: PolicyId::default(),
            trust,
            offer: Offer::Http1,
        }
    }

    fn policy(id: &str) -> PolicyId {
        let text = format!("version: 1\nstatements: [{{id: {id}, effect: allow, http: {{host: a.test}}}}]\n");
        Policy::read("p.yaml", &text, Atlas::built_in()).unwrap().0.id()
    }

    /// A connection of `pool`, with its slot.
    async fn leased(pool: &Arc<Pool<DuplexStream>>, key: &Key) -> (Leased<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        let tls = TlsFacts {
            version: TlsVersion::Tls13,
            cipher: "",
            group: None,
            alpn: None,
            sni: None,
            chain: Arc::default(),
        };
        let leg = LegText::dialled_at(([127, 0, 0, 1], 443).into(), Some(&tls));
        let Some(Turn::Dial(slot)) = pool.turn(key, SOON).await else { panic!("no slot is free") };
        (
            Leased {
                conn: Box::new(client::Connection::new(near)),
                upstream: Arc::new(Upstream { leg, slot }),
            },
            far,
        )
    }

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn never_reuses_a_connection_across_authorities_policies_or_trust() {
        let pool = Pool::new(8);
        let (one, _far) = leased(&pool, &key("a.test", 0)).await;
        pool.give_back(one);
        assert!(pool.checkout(&key("b.test", 0), Instant::now()).is_none());
        assert!(pool.checkout(&key("a.test:444", 0), Instant::now()).is_none());
        assert!(pool.checkout(&key("a.test", 1), Instant::now()).is_none());
        let newer = Key { policy: policy("newer"), ..key("a.test", 0) };
        assert!(pool.checkout(&newer, Instant::now()).is_none(), "dialled under another policy");
        let both = Key { offer: Offer::Both, ..key("a.test", 0) };
        assert!(pool.checkout(&both, Instant::now()).is_none());
        let out = pool.checkout(&key("a.test", 0), Instant::now());
        assert!(out.is_some());
        assert!(pool.checkout(&key("a.test", 0), Instant::now()).is_none());
    }

    #[tokio::test]
    async fn a_connection_that_spoke_or_ended_while_idle_is_not_quiet() {
        let pool = Pool::new(8);
        let key = key("a.test", 0);
        let (mut idle, _far) = leased(&pool, &key).await;
        assert!(idle.conn.is_quiet());
        let (spoke, mut far) = leased(&pool, &key).await;
        far.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        pool.give_back(spoke);
        let (ended, far) = leased(&pool, &key).await;
        drop(far);
        pool.give_back(ended);
        for _ in 0..2 {
            assert!(!pool.checkout(&key, Instant::now()).unwrap().conn.is_quiet());
        }
        assert!(pool.checkout(&key, Instant::now()).is_none());
        assert_eq!(pool.count(), Count { idle: 0, active: 1, wanted: 0 });
        drop(idle);
        assert!(pool.origins().is_empty(), "nothing is kept of an origin without connections");
    }

    #[tokio::test]
    async fn idle_for_too_long_is_dropped_at_checkout_with_all_that_is_older() {
        let pool = Pool::new(8);
        let key = key("a.test", 0);
        let (one, _far) = leased(&pool, &key).await;
        let (two, _far) = leased(&pool, &key).await;
        pool.give_back(one);
        pool.give_back(two);
        assert_eq!(pool.count(), Count { idle: 2, active: 0, wanted: 0 });
        assert!(pool.checkout(&key, Instant::now() + IDLE_FOR).is_none());
        assert_eq!(pool.count(), Count { idle: 0, active: 0, wanted: 0 });
    }

    /// Asks in a task of its own, and is in line when this returns.
    async fn in_line(
        pool: &Arc<Pool<DuplexStream>>,
        key: &Key,
        patience: Duration,
    ) -> tokio::task::JoinHandle<Option<Turn<DuplexStream>>> {
        let before = pool.origins().get(key).map_or(0, |origin| origin.waiting.len());
        let (asks, of) = (Arc::clone(pool), key.clone());
        let asked = tokio::spawn(async move { asks.turn(&of, patience).await });
        while pool.origins().get(key).map_or(0, |origin| origin.waiting.len()) == before {
            tokio::task::yield_now().await;
        }
        asked
    }

    #[tokio::test]
    async fn whoever_waits_longest_is_next_and_nobody_passes_by() {
        let pool = Pool::new(1);
        let key = key("a.test", 0);
        let (held, _far) = leased(&pool, &key).await;
        let first = in_line(&pool, &key, SOON).await;
        let second = in_line(&pool, &key, SOON).await;
        assert!(pool.turn(&key, Duration::ZERO).await.is_none(), "the last in line gives up first");
        let other = super::tests::key("b.test", 0);
        assert!(matches!(pool.turn(&other, SOON).await, Some(Turn::Dial(_))), "another origin has its own");
        pool.give_back(held);
        assert!(pool.checkout(&key, Instant::now()).is_none(), "it went to the first in line");
        let Some(Turn::Idle(held)) = first.await.unwrap() else { panic!("the first got no connection") };
        assert!(!second.is_finished());
        drop(held);
        let Some(Turn::Dial(slot)) = second.await.unwrap() else { panic!("the second got no slot") };
        assert_eq!(pool.count(), Count { idle: 0, active: 1, wanted: 0 });
        drop(slot);
        assert_eq!(pool.count(), Count { idle: 0, active: 0, wanted: 0 });
    }

    #[tokio::test]
    async fn a_slot_goes_past_those_who_gave_up_and_is_never_lost() {
        let pool = Pool::new(1);
        let key = key("a.test", 0);
        let (held, _far) = leased(&pool, &key).await;
        let gone = in_line(&pool, &key, SOON).await;
        let next = in_line(&pool, &key, SOON).await;
        gone.abort();
        assert!(gone.await.is_err());
        drop(held);
        assert!(matches!(next.await.unwrap(), Some(Turn::Dial(_))));
        // Given and never taken up: it comes back.
        assert!(matches!(pool.turn(&key, SOON).await, Some(Turn::Dial(_))));
    }
}
