//! The newest refusals, kept in memory for `explain` of a running proxy: their event lines, as many as fit.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::FlowId;

const MOST: usize = 1000;
const MOST_BYTES: usize = 1 << 20;

/// Written at refusals only, so its lock is hardly ever met.
#[derive(Default)]
pub struct Refusals(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    lines: VecDeque<(String, Vec<u8>)>,
    bytes: usize,
}

/// What a flow's ending leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    None,
    Line(Vec<u8>),
    /// It ends several flows.
    Several(usize),
}

impl Refusals {
    pub(super) fn keep(&self, flow: FlowId, line: Vec<u8>) {
        let mut kept = self.kept();
        kept.bytes += line.len();
        kept.lines.push_back((flow.to_string(), line));
        while kept.lines.len() > MOST || kept.bytes > MOST_BYTES {
            let Some((_, line)) = kept.lines.pop_front() else { break };
            kept.bytes -= line.len();
        }
    }

    /// By the whole flow id, or by an ending that only one flow has.
    pub fn find(&self, ending: &str) -> Found {
        let kept = self.kept();
        let mut found = kept.lines.iter().filter(|(flow, _)| flow.ends_with(ending));
        match (found.next(), found.count()) {
            (None, _) => Found::None,
            (Some((_, line)), 0) => Found::Line(line.clone()),
            (Some(_), more) => Found::Several(more + 1),
        }
    }

    pub fn len(&self) -> usize {
        self.kept().lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::BootId;
    use crate::record::lane::LaneId;

    fn flow(number: u64) -> FlowId {
        FlowId { lane: LaneId { boot: BootId::new(1), lane: 0 }, number }
    }

    #[test]
    fn finds_by_an_ending_that_one_flow_has() {
        let refusals = Refusals::default();
        for number in [1, 21] {
            refusals.keep(flow(number), number.to_string().into_bytes());
        }
        assert_eq!(refusals.find("000000000001-0-21"), Found::Line(b"21".to_vec()));
        assert_eq!(refusals.find("-21"), Found::Line(b"21".to_vec()));
        assert_eq!(refusals.find("-1"), Found::Line(b"1".to_vec()));
        assert_eq!(refusals.find("1"), Found::Several(2));
        assert_eq!(refusals.find("-2"), Found::None);
    }

    #[test]
    fn keeps_the_newest_within_both_bounds() {
        let refusals = Refusals::default();
        for number in 0..MOST as u64 + 1 {
            refusals.keep(flow(number), vec![b'x'; 10]);
        }
        assert_eq!((refusals.len(), refusals.find("-0-0")), (MOST, Found::None));
        for number in 5000..5100 {
            refusals.keep(flow(number), vec![b'x'; 16 * 1024]);
        }
        assert_eq!(refusals.len(), MOST_BYTES / (16 * 1024));
        assert!(matches!(refusals.find("-0-5099"), Found::Line(_)));
    }
}
