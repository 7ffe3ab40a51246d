//! Event lines as they come about, for whoever watches (`exeat tail`). Most of the time nobody does, and then it costs
//! one look at a flag that never changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Each costs every call its line once more; and the admin door has room for a probe and a scraper beside them.
const MOST_WATCHERS: usize = 4;
/// Lines that wait for a watcher who reads slowly. What comes then is missed, and counted; nobody waits for it.
const QUEUE: usize = 1024;

#[derive(Default)]
pub struct Live {
    watched: AtomicBool,
    watchers: Mutex<Vec<Watcher>>,
}

struct Watcher {
    lines: mpsc::Sender<Bytes>,
    missed: u64,
}

impl Live {
    /// Lines from now on, each with its LF. `None`: there are enough watchers.
    pub fn watch(&self) -> Option<mpsc::Receiver<Bytes>> {
        let mut watchers = self.watchers();
        watchers.retain(|watcher| !watcher.lines.is_closed());
        if watchers.len() == MOST_WATCHERS {
            return None;
        }
        let (lines, told) = mpsc::channel(QUEUE);
        watchers.push(Watcher { lines, missed: 0 });
        self.watched.store(true, Ordering::Relaxed);
        Some(told)
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// `line` is without LF.
    pub(super) fn tell(&self, line: &[u8]) {
        let line = Bytes::from([line, b"\n"].concat());
        let mut watchers = self.watchers();
        watchers.retain_mut(|watcher| watcher.tell(&line));
        self.watched.store(!watchers.is_empty(), Ordering::Relaxed);
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// `false`: it has gone away.
    fn tell(&mut self, line: &Bytes) -> bool {
        if self.missed > 0 {
            let said = format!("{{\"exeat\":\"missed\",\"lines\":{}}}\n", self.missed);
            if self.lines.try_send(said.into()).is_ok() {
                self.missed = 0;
            }
        }
        match self.lines.try_send(line.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.missed += 1;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_watcher_has_each_line_until_it_goes_away() {
        let live = Live::default();
        assert!(!live.is_watched());
        live.tell(b"nobody");
        let mut all: Vec<_> = (0..MOST_WATCHERS).map(|_| live.watch().unwrap()).collect();
        assert!(live.is_watched() && live.watch().is_none());
        live.tell(b"one");
        for watcher in &mut all {
            assert_eq!(watcher.try_recv().unwrap(), "one\n");
            assert!(watcher.try_recv().is_err());
        }
        all.pop();
        assert!(live.watch().is_some(), "a place was left");
        all.clear();
        live.tell(b"two");
        assert!(!live.is_watched());
    }

    #[test]
    fn a_slow_watcher_holds_nobody_up_and_is_told_what_it_missed() {
        let live = Live::default();
        let mut slow = live.watch().unwrap();
        (0..QUEUE + 3).for_each(|_| live.tell(b"line"));
        for _ in 0..QUEUE {
            assert_eq!(slow.try_recv().unwrap(), "line\n");
        }
        assert!(slow.try_recv().is_err());
        live.tell(b"last");
        assert_eq!(slow.try_recv().unwrap(), "{\"exeat\":\"missed\",\"lines\":3}\n");
        assert_eq!(slow.try_recv().unwrap(), "last\n");
    }
}
