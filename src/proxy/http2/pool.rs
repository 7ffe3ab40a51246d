//! Connections to origins that many requests share, by the same whole keys as `proxy/pool.rs`: never across
//! authorities, trust or what was offered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::client::{Connection, Lease};
use crate::proxy::pool::Key;

/// As idle connections of HTTP/1.1 are kept.
const IDLE_FOR: Duration = Duration::from_secs(50);

/// Connections of one key: 800 streams. Beyond, requests wait on the least busy one for a stream to open.
const MOST: usize = 8;

/// One worker's shared connections.
#[derive(Default)]
pub struct Pool {
    origins: Mutex<HashMap<Key, Origin, foldhash::fast::RandomState>>,
}

#[derive(Default)]
struct Origin {
    connections: Vec<Arc<Connection>>,
    /// Held while one is dialled, so that requests that come together share it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Pool {
    /// Room on a connection that stands; the fullest with room, so that the others can end. `None`: one more may be
    /// dialled.
    pub fn checkout(&self, key: &Key) -> Option<Lease> {
        let mut origins = self.lock();
        let origin = origins.get_mut(key)?;
        origin.connections.retain(|connection| connection.is_open());
        let free = origin.connections.iter().map(|connection| (connection.room(), connection));
        let fullest = free.filter(|(room, _)| *room > 0).min_by_key(|(room, _)| *room);
        let fullest = fullest.map(|(_, connection)| connection);
        let least_busy = || origin.connections.iter().min_by_key(|connection| connection.active());
        let taken = fullest.or_else(|| least_busy().filter(|_| origin.connections.len() >= MOST))?;
        Some(Lease::new(Arc::clone(taken)))
    }

    pub fn add(&self, key: Key, connection: Arc<Connection>) -> Lease {
        self.lock().entry(key).or_default().connections.push(Arc::clone(&connection));
        Lease::new(connection)
    }

    /// The right to dial for this key.
    pub fn turn(&self, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
        let mut origins = self.lock();
        match origins.get(key) {
            Some(origin) => Arc::clone(&origin.turn),
            None => Arc::clone(&origins.entry(key.clone()).or_default().turn),
        }
    }

    /// Lets go of what has been idle for too long, or has ended; called now and then.
    pub fn sweep(&self) {
        self.lock().retain(|_, origin| {
            origin.connections.retain(|connection| connection.is_open() && connection.idle() < IDLE_FOR);
            !origin.connections.is_empty() || Arc::strong_count(&origin.turn) > 1
        });
    }

    /// Connections without a stream. Those that their origin ended are let go of.
    pub fn idle(&self) -> usize {
        let mut idle = 0;
        for origin in self.lock().values_mut() {
            origin.connections.retain(|connection| connection.is_open());
            idle += origin.connections.iter().filter(|connection| connection.active() == 0).count();
        }
        idle
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Origin, foldhash::fast::RandomState>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
