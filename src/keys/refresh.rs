//! Follows the sources while the program runs: ahead of their keys' ends, and when a request brings a key id that
//! nobody here knows. Neither holds up a request under a known key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use super::ledger::Ledger;
use super::{Keyring, KeysError};
use crate::engine::facts::Timestamp;
use crate::engine::signature::KnownKeys;

/// A source that gave nothing, or whose key is near its end, is asked so often.
const SOON: Duration = Duration::from_secs(15);
/// Else so often: what a workload reads before us makes us ask at once.
const LATER: Duration = Duration::from_secs(300);
/// Platforms have the next key this long before the last one ends, or longer.
const AHEAD: i64 = 20 * 60;
/// Unknown key ids make us ask once in this time: whoever sends them chooses how many.
const BETWEEN: Duration = Duration::from_secs(5);

const NEVER: u64 = u64::MAX;
const RUNNING: u64 = u64::MAX - 1;

/// Looks a variable up.
type Lookup = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;
/// Reads a whole file.
type Read = Box<dyn Fn(&std::path::Path) -> std::io::Result<String> + Send + Sync>;

/// The sources, and where what they say is kept.
pub struct Refresher {
    sources: Arc<Mutex<Sources>>,
    keys: Arc<ArcSwap<KnownKeys>>,
    /// A file that was named stands for itself: requests don't make us ask.
    asks: bool,
    /// When a request last made us ask, in milliseconds of the program's life; `RUNNING` meanwhile.
    asked: AtomicU64,
    started: Instant,
    now: fn() -> Timestamp,
}

struct Sources {
    keyring: Keyring,
    env: Lookup,
    read: Read,
    ledger: Arc<dyn Ledger>,
    /// Said once, not every time.
    trouble: String,
}

impl Refresher {
    pub fn new(
        keyring: Keyring,
        env: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
        read: impl Fn(&std::path::Path) -> std::io::Result<String> + Send + Sync + 'static,
        ledger: Arc<dyn Ledger>,
        keys: Arc<ArcSwap<KnownKeys>>,
        now: fn() -> Timestamp,
    ) -> Self {
        let asks = keyring.explicit.is_none();
        let (env, read) = (Box::new(env), Box::new(read));
        let sources = Sources { keyring, env, read, ledger, trouble: String::new() };
        Self {
            sources: Arc::new(Mutex::new(sources)),
            keys,
            asks,
            asked: AtomicU64::new(NEVER),
            started: Instant::now(),
            now,
        }
    }

    /// Asking for an unknown key id could tell something new; or somebody asks just now.
    pub fn is_due(&self) -> bool {
        self.asks
            && match self.asked.load(Ordering::Relaxed) {
                NEVER | RUNNING => true,
                asked => self.age().saturating_sub(asked) >= BETWEEN.as_millis() as u64,
            }
    }

    fn age(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// For a key id that is not known: asks the sources, once in five seconds at most. `true` where it is known now.
    pub async fn ask_for(&self, id: &str) -> bool {
        if self.knows(id) || !self.is_due() {
            return self.knows(id);
        }
        let sources = Arc::clone(&self.sources).lock_owned().await;
        // Somebody may have asked while we waited.
        if self.knows(id) {
            return true;
        }
        if !self.is_due() {
            return false;
        }
        self.asked.store(RUNNING, Ordering::Relaxed);
        let done = Done(self);
        self.refresh(sources).await;
        drop(done);
        self.knows(id)
    }

    /// Asks ahead of time, until the program ends. Learned keys that have ended go, too.
    pub async fn keep(&self) {
        loop {
            tokio::time::sleep(self.next()).await;
            let sources = Arc::clone(&self.sources).lock_owned().await;
            self.refresh(sources).await;
        }
    }

    fn knows(&self, id: &str) -> bool {
        self.keys.load().get(id).is_some()
    }

    fn next(&self) -> Duration {
        let now = (self.now)();
        let ends = |keys: &KnownKeys| keys.iter().filter_map(|key| key.expires).max();
        match ends(&self.keys.load()) {
            Some(end) if end.0 < now.0 + AHEAD => SOON,
            None if self.keys.load().is_empty() => SOON,
            _ => LATER,
        }
    }

    /// On a thread of its own: the sources block. It runs to its end even where nobody waits for it any more.
    async fn refresh(&self, mut sources: OwnedMutexGuard<Sources>) {
        let (keys, now) = (Arc::clone(&self.keys), self.now);
        let asked = tokio::task::spawn_blocking(move || {
            let (known, trouble) = sources.gather();
            if let Some(known) = known {
                let now = now();
                keys.rcu(|before| known.clone().following(before, now));
            }
            let trouble = trouble.map(|error| error.to_string()).unwrap_or_default();
            if !trouble.is_empty() && trouble != sources.trouble {
                tracing::warn!("{trouble}");
            }
            sources.trouble = trouble;
        });
        let _ = asked.await;
    }
}

/// Whoever asked has its answer, or has gone away.
struct Done<'r>(&'r Refresher);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.asked.store(self.0.age(), Ordering::Relaxed);
    }
}

impl Sources {
    /// The endpoint first. Where it fails, what it gave before stands, and the files are read all the same.
    fn gather(&mut self) -> (Option<KnownKeys>, Option<KeysError>) {
        let Self { keyring, env, read, ledger, .. } = self;
        let failed = keyring.fetch(env, read, &**ledger).err();
        match keyring.known(env, read) {
            Ok(known) => (Some(known), failed),
            Err(error) => (None, Some(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::endpoint::testing::serve;
    use crate::keys::ledger::Nowhere;

    const NOW: Timestamp = Timestamp(1_767_323_045);
    const ONE: &str = concat!(
        "HTTP/1.1 200 OK\r\n\r\n",
        r#"{"AccessKeyId":"ASIAONE","SecretAccessKey":"s","Token":"t","Expiration":"2026-01-02T09:04:05Z"}"#
    );
    const TWO: &str = concat!(
        "HTTP/1.1 200 OK\r\n\r\n",
        r#"{"AccessKeyId":"ASIATWO","SecretAccessKey":"s","Token":"t","Expiration":"2026-01-02T03:14:05Z"}"#
    );

    fn refresher(
        keyring: Keyring,
        env: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> (Refresher, Arc<ArcSwap<KnownKeys>>) {
        let keys = Arc::new(ArcSwap::from_pointee(KnownKeys::default()));
        let none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        (Refresher::new(keyring, env, none, Arc::new(Nowhere), Arc::clone(&keys), || NOW), keys)
    }

    /// The container's endpoint, which gives these answers in turn.
    fn container(
        answers: Vec<&'static str>,
    ) -> (impl Fn(&str) -> Option<String> + Clone, std::thread::JoinHandle<Vec<String>>) {
        let (address, asked) = serve(answers);
        let env = move |name: &str| {
            (name == "AWS_CONTAINER_CREDENTIALS_FULL_URI").then(|| format!("http://{address}/"))
        };
        (env, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_id_makes_us_ask_once_in_five_seconds() {
        let (env, asked) = container(vec![ONE, TWO]);
        let (refresher, keys) = refresher(Keyring::new(None, Vec::new()), env);
        assert!(!refresher.ask_for("ASIATWO").await, "asked, and not there yet");
        assert!(keys.load().get("ASIAONE").is_some());
        assert!(refresher.ask_for("ASIAONE").await, "known: nobody is asked");
        for _ in 0..100 {
            assert!(!refresher.ask_for("ASIATWO").await, "not asked again so soon");
        }
        tokio::time::advance(BETWEEN).await;
        let both = tokio::join!(refresher.ask_for("ASIATWO"), refresher.ask_for("ASIATWO"));
        assert_eq!(both, (true, true), "one asks, and both are answered");
        // The one before it stays to its end.
        assert!(keys.load().get("ASIAONE").is_some());
        assert_eq!(asked.join().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_named_file_is_all_there_is() {
        let (env, _asked) = container(vec![]);
        let keyring = Keyring::new(Some("/f".into()), Vec::new());
        let (refresher, keys) = refresher(keyring, env);
        assert!(!refresher.ask_for("ASIAONE").await);
        assert!(keys.load().is_empty());
        assert_eq!(refresher.asked.load(Ordering::Relaxed), NEVER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_keeps_what_was_known_and_the_next_key_is_had_ahead_of_the_end() {
        let (env, asked) = container(vec![TWO, "HTTP/1.1 500 Oops\r\n\r\n", ONE]);
        let (refresher, keys) = refresher(Keyring::new(None, Vec::new()), env);
        assert_eq!(refresher.next(), SOON, "there is none yet");
        assert!(refresher.ask_for("ASIATWO").await);
        assert_eq!(refresher.next(), SOON, "it ends in ten minutes");
        tokio::time::advance(BETWEEN).await;
        assert!(!refresher.ask_for("ASIAONE").await);
        assert!(keys.load().get("ASIATWO").is_some());
        tokio::time::advance(BETWEEN).await;
        assert!(refresher.ask_for("ASIAONE").await);
        assert_eq!(refresher.next(), LATER, "it lasts for hours");
        assert_eq!(asked.join().unwrap().len(), 3);
    }
}
