//! What one worker counts for each request, in cells that no other worker writes to: an addition that never waits for
//! another core's cache line. A scrape adds the workers up.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Word;

/// An upper bound as it is compared, and as Prometheus writes it.
pub(super) type Bound = (Duration, &'static str);

/// Durations in buckets.
pub(super) struct Timing {
    bounds: &'static [Bound],
    /// One more than bounds: the last has no end.
    buckets: Box<[AtomicU64]>,
    nanos: AtomicU64,
}

impl Timing {
    pub fn new(bounds: &'static [Bound]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, nanos: AtomicU64::new(0) }
    }

    pub fn observe(&self, took: Duration) {
        let at = self.bounds.iter().position(|(most, _)| took <= *most).unwrap_or(self.bounds.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        let nanos =
            took.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(took.subsec_nanos()));
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// Counters of one closed set.
pub(super) struct Counts(Box<[AtomicU64]>);

impl Counts {
    pub fn new<W: Word>() -> Self {
        Self(W::WORDS.iter().map(|_| AtomicU64::new(0)).collect())
    }

    pub fn inc(&self, word: impl Word) {
        self.0[word.place()].fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes a histogram of several workers in Prometheus' text format.
pub(super) fn write_timings<'a>(
    text: &mut String,
    name: &str,
    help: &str,
    workers: impl Iterator<Item = &'a Timing> + Clone,
    bounds: &[Bound],
) {
    head(text, name, help, "histogram");
    let mut count = 0;
    let ends = bounds.iter().map(|(_, word)| *word).chain(["+Inf"]);
    for (at, end) in ends.enumerate() {
        count += workers.clone().map(|timing| timing.buckets[at].load(Ordering::Relaxed)).sum::<u64>();
        let _ = writeln!(text, "{name}_bucket{{le=\"{end}\"}} {count}");
    }
    let nanos: u64 = workers.map(|timing| timing.nanos.load(Ordering::Relaxed)).fold(0, u64::wrapping_add);
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let _ = writeln!(text, "{name}_sum {seconds}.{rest:09}\n{name}_count {count}");
}

/// Writes counters of several workers, one sample a word.
pub(super) fn write_counts<'a, W: Word>(
    text: &mut String,
    name: &str,
    help: &str,
    label: &str,
    workers: &(impl Iterator<Item = &'a Counts> + Clone),
) {
    head(text, name, help, "counter");
    for (at, word) in W::WORDS.iter().enumerate() {
        let count: u64 = workers.clone().map(|counts| counts.0[at].load(Ordering::Relaxed)).sum();
        let _ = writeln!(text, "{name}{{{label}=\"{word}\"}} {count}");
    }
}

pub(super) fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_bounds_are_inclusive_and_workers_add_up() {
        const BOUNDS: &[Bound] = &[(Duration::from_millis(1), "0.001"), (Duration::from_secs(1), "1")];
        let all = [Timing::new(BOUNDS), Timing::new(BOUNDS)];
        for (worker, micros) in [(0, 1), (0, 1_000), (1, 1_001), (1, 1_000_000), (1, 2_500_000)] {
            all[worker].observe(Duration::from_micros(micros));
        }
        let mut text = String::new();
        write_timings(&mut text, "t", "Help.", all.iter(), BOUNDS);
        assert_eq!(
            text,
            "# HELP t Help.\n# TYPE t histogram\nt_bucket{le=\"0.001\"} 2\nt_bucket{le=\"1\"} 4\n\
             t_bucket{le=\"+Inf\"} 5\nt_sum 3.502002000\nt_count 5\n"
        );
    }
}
