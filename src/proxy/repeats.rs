//! Signatures that came before: a repeat of a signed request within the time that its date is good for.
//!
//! SigV4 has no nonce, so a captured request is good for as long as its date. The table is of fixed size and shared by
//! all workers without a lock: it knows the last 16,384 signatures or so, and forgets the oldest of four where it is
//! full. Its memory is touched as it fills.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::facts::Timestamp;

const SETS: usize = 4096;
/// Signatures that share a set.
const WAYS: usize = 4;
/// The low bits of a slot: when it was seen, in units of four seconds. They choose the set, and so need not be kept.
const AGE: u64 = SETS as u64 - 1;

/// The table. A slot holds 52 bits of a signature and when it came; 0 is empty.
pub struct Signatures {
    slots: Box<[AtomicU64]>,
    /// In units of four seconds.
    window: u64,
}

impl Signatures {
    /// A date may be off either way: a request may come again for twice that time.
    pub fn within(max_skew: i64) -> Self {
        let slots = std::iter::repeat_with(AtomicU64::default).take(SETS * WAYS).collect();
        Self { slots, window: (2 * max_skew.unsigned_abs()).div_ceil(4) }
    }

    /// Whether this signature came before; from now on it has. `mark`: see `Verdict::mark`.
    pub fn saw(&self, mark: u64, now: Timestamp) -> bool {
        let tick = (now.0.unsigned_abs() / 4) & AGE;
        let start = (mark & AGE) as usize * WAYS;
        let set = &self.slots[start..start + WAYS];
        let age = |slot: u64| tick.wrapping_sub(slot) & AGE;
        loop {
            let (mut oldest, mut at) = (0, 0);
            let mut there = 0;
            for (n, slot) in set.iter().enumerate() {
                let slot = slot.load(Ordering::Relaxed);
                if slot & !AGE == mark & !AGE && slot != 0 && age(slot) <= self.window {
                    return true;
                }
                let age = if slot == 0 { u64::MAX } else { age(slot) };
                if n == 0 || age > oldest {
                    (oldest, at, there) = (age, n, slot);
                }
            }
            // Two that are the same choose the same slot, and one of them finds the other there.
            let new = mark & !AGE | tick;
            if set[at].compare_exchange(there, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_767_323_045);

    fn later(seconds: i64) -> Timestamp {
        Timestamp(NOW.0 + seconds)
    }

    #[test]
    fn a_signature_is_known_for_as_long_as_its_date_may_be_good_and_no_longer() {
        let seen = Signatures::within(900);
        let mark = 0xb1f2_a003_5566_7788;
        assert!(!seen.saw(mark, NOW));
        assert!(seen.saw(mark, NOW) && seen.saw(mark, later(1800)));
        assert!(!seen.saw(mark ^ 1 << 63, NOW) && !seen.saw(mark ^ 1, NOW) && !seen.saw(mark ^ 1 << 12, NOW));
        assert!(!seen.saw(mark, later(1805)), "it could not pass any more");
        assert!(seen.saw(mark, later(1805)));
    }

    #[test]
    fn the_oldest_of_a_set_goes_first() {
        let seen = Signatures::within(900);
        let mark = |n: u64| n << 12 | 7;
        for n in 1..=4 {
            assert!(!seen.saw(mark(n), later(4 * n as i64)));
        }
        assert!(!seen.saw(mark(5), later(30)));
        assert!((2..=5).all(|n| seen.saw(mark(n), later(30))));
        assert!(!seen.saw(mark(1), later(30)));
    }

    #[test]
    fn of_two_at_once_one_is_the_repeat() {
        let seen = Signatures::within(900);
        let first = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 1..2000 {
                        if !seen.saw(n << 24 | n, NOW) {
                            first.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(first.into_inner(), 1999);
    }
}
