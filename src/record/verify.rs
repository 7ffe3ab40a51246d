//! Reads audit lines back and says of each lane whether they are all there, in order, as they were written.
//!
//! The other half of `lane.rs`; docs/audit.md states the rules. Used by `audit verify` and by tests; reads bytes, and
//! knows nothing of what the lines mean but that an intent without an event is an interrupted call.

mod line;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::{self, BufRead, Read};

use serde::Serialize;

use super::lane::{Chain, GENESIS, MAX_LINE, link};
use super::sink::file::TORN_MARK;
use crate::engine::hex;
use line::{Kind, Line, STARTS, is_beginning, last_chain};
pub use line::{Last, lane_of};

/// A torn line and the line that was glued to it fit.
const MAX_READ: u64 = 4 * MAX_LINE as u64;

/// What is wrong with the first bad line of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Its bytes, or those of the line before, are not those that were written.
    Edited,
    /// Lines before it are missing.
    Gap { expected: u64, found: u64 },
    /// It stands before a line that it came after.
    Swapped { expected: u64, found: u64 },
    /// Its number was seen before.
    Repeated { expected: u64, found: u64 },
    /// The line that stood before it in its file, at its start, is not there: an earlier start's lines were cut off.
    Cut,
    /// A later start found it to have come farther than it does here.
    Shortened { last: u64 },
    /// The lane's first line here is not the `lane` line that it opens each file with.
    Headless,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edited => f.write_str("edited: its bytes do not match its chain"),
            Self::Gap { expected, found } => write!(f, "gap: seq {found} where {expected} was due"),
            Self::Swapped { expected, found } => write!(f, "swapped: seq {found} stands before {expected}"),
            Self::Repeated { expected, found } => {
                write!(f, "repeated: seq {found} again where {expected} was due")
            }
            Self::Cut => f.write_str("cut: lines of an earlier start, which stood before it, are missing"),
            Self::Shortened { last } => {
                write!(f, "cut: its last lines are missing, up to seq {last} that the next start found")
            }
            Self::Headless => f.write_str("gap: the lane begins without its first line"),
        }
    }
}

/// A line: which file, and its number from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    pub file: String,
    pub line: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Bad {
    #[serde(flatten)]
    pub place: Place,
    pub fault: Fault,
}

#[derive(Debug, Clone, Serialize)]
pub struct LaneReport {
    pub lane: String,
    /// All lines that name the lane, those after a bad one too.
    pub lines: u64,
    /// Above 0: earlier files are not among those given.
    pub first_seq: u64,
    /// Of the last line that checked.
    pub last_seq: Option<u64>,
    /// Chain value of that line. Kept elsewhere, it shows whether the file was cut short or written anew.
    pub head: String,
    /// Intents without an event.
    pub interrupted: u64,
    /// It was closed in order: its last line says so.
    pub ended: bool,
    pub bad: Option<Bad>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub lanes: Vec<LaneReport>,
    pub lines: u64,
    /// Lines cut short by a crash or a full disk. They count for nothing, and the chain goes on without them.
    pub torn: u64,
    /// Other programs' JSON lines.
    pub foreign: u64,
    /// Lines that are neither.
    pub unreadable: Vec<Place>,
}

impl Report {
    /// The answer of `audit verify`. Files that hold only other programs' lines are not an audit trail.
    pub fn is_whole(&self) -> bool {
        let found = self.lines > 0 || self.foreign == 0;
        found && self.unreadable.is_empty() && self.lanes.iter().all(|lane| lane.bad.is_none())
    }

    /// Lanes that lack their beginning or their end: killed, still written to, or cut.
    pub fn open(&self) -> impl Iterator<Item = &LaneReport> {
        self.lanes.iter().filter(|lane| !lane.ended || lane.first_seq > 0)
    }

    pub fn interrupted(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.interrupted).sum()
    }
}

struct Lane {
    lines: u64,
    first: u64,
    next: u64,
    chain: Chain,
    begun: HashSet<String>,
    ended: bool,
    bad: Option<Bad>,
}

impl Lane {
    fn new(seq: u64) -> Self {
        Self {
            lines: 0,
            first: seq,
            next: seq,
            chain: GENESIS,
            begun: HashSet::new(),
            ended: false,
            bad: None,
        }
    }

    fn check(&mut self, line: &Line<'_>) -> Result<(), Fault> {
        let (expected, found) = (self.next, line.seq);
        if self.lines == 0 {
            // What came before a lane's first line here is known from that line alone.
            match line.prev {
                Some(prev) if found > 0 => self.chain = prev,
                Some(_) => {}
                None => return Err(Fault::Headless),
            }
        }
        if found > expected {
            return Err(Fault::Gap { expected, found });
        }
        if found < expected {
            return Err(Fault::Repeated { expected, found });
        }
        if link(&self.chain, line.hashed) != line.chain || line.prev.is_some_and(|prev| prev != self.chain) {
            return Err(Fault::Edited);
        }
        self.next += 1;
        self.chain = line.chain;
        self.ended = line.kind == Kind::End;
        match (line.kind, line.flow) {
            (Kind::Intent, Some(flow)) => drop(self.begun.insert(flow.to_owned())),
            (Kind::Event, Some(flow)) => drop(self.begun.remove(flow)),
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, line: &Line<'_>, vouched: bool, place: &Place) {
        match &mut self.bad {
            None => {
                let checked = self.check(line).and(if vouched { Ok(()) } else { Err(Fault::Cut) });
                if let Err(fault) = checked {
                    self.bad = Some(Bad { place: place.clone(), fault });
                }
            }
            Some(Bad { fault, .. }) => {
                if let Fault::Gap { expected, found } = *fault
                    && expected == line.seq
                {
                    *fault = Fault::Swapped { expected, found };
                }
            }
        }
        self.lines += 1;
    }
}

/// Takes files oldest first; see [`in_order`].
#[derive(Default)]
pub struct Verifier {
    lanes: BTreeMap<String, Lane>,
    report: Report,
    /// Chain of the line of ours before this one in its file.
    before: Option<Chain>,
    /// What `lane` lines vouched for and was there.
    vouched: HashSet<Chain>,
}

impl Verifier {
    /// Reads all of `from`; `file` is its name in the report.
    pub fn read(&mut self, file: &str, from: &mut dyn BufRead) -> io::Result<()> {
        let mut place = Place { file: file.to_owned(), line: 0 };
        self.before = None;
        each_line(from, |bytes, ended| {
            place.line += 1;
            self.line(bytes, ended, &place);
        })
    }

    fn line(&mut self, bytes: &[u8], ended: bool, place: &Place) {
        if bytes.is_empty() {
            return;
        }
        if let Some(line) = Line::read(bytes) {
            return self.ours(&line, place);
        }
        let start = STARTS.iter().filter_map(|start| memchr::memmem::rfind(bytes, start)).max();
        if start.is_none() && last_chain(bytes).is_none() && is_json_object(bytes) {
            self.report.foreign += 1;
            return;
        }
        let mark = TORN_MARK.strip_suffix(b"\n").unwrap_or(TORN_MARK);
        if (ended && bytes.ends_with(mark)) || (!ended && is_beginning(bytes)) {
            self.report.torn += 1;
            return;
        }
        // Two workers at the edge of a full disk: one's line was cut, the other's followed at once.
        if let Some((before, line)) = start.and_then(|at| bytes.split_at_checked(at))
            && is_beginning(before)
            && let Some(line) = Line::read(line)
        {
            self.report.torn += 1;
            return self.ours(&line, place);
        }
        self.report.unreadable.push(place.clone());
    }

    fn ours(&mut self, line: &Line<'_>, place: &Place) {
        self.report.lines += 1;
        let vouched = line.after.is_none_or(|after| {
            if self.before == Some(after) {
                // Other lanes of that start vouch for it too, further on.
                self.vouched.insert(after);
            }
            self.vouched.contains(&after)
        });
        self.before = Some(line.chain);
        let vouched = line.heads.iter().fold(vouched, |vouched, head| self.ends_with(head, place) && vouched);
        match self.lanes.get_mut(line.lane) {
            Some(lane) => lane.take(line, vouched, place),
            None => {
                self.lanes
                    .entry(line.lane.to_owned())
                    .or_insert_with(|| Lane::new(line.seq))
                    .take(line, vouched, place);
            }
        }
    }

    /// The lane has come at least so far, as a later start found it; a lane that has not is bad. `false`: there is none.
    fn ends_with(&mut self, head: &Last, place: &Place) -> bool {
        let Some(lane) = self.lanes.get_mut(&head.lane) else { return false };
        let is_there = lane.next > head.seq + 1 || (lane.next == head.seq + 1 && lane.chain == head.chain);
        if !is_there && lane.bad.is_none() {
            lane.bad = Some(Bad { place: place.clone(), fault: Fault::Shortened { last: head.seq } });
        }
        true
    }

    pub fn finish(mut self) -> Report {
        self.report.lanes = self.lanes.into_iter().map(|(name, lane)| lane.report(name)).collect();
        self.report
    }
}

impl Lane {
    fn report(self, lane: String) -> LaneReport {
        LaneReport {
            lane,
            lines: self.lines,
            first_seq: self.first,
            last_seq: (self.next > self.first).then(|| self.next - 1),
            head: hex::text(&self.chain),
            interrupted: self.begun.len() as u64,
            ended: self.ended,
            bad: self.bad,
        }
    }
}

/// The first number of each lane in a file.
pub fn lane_starts(from: &mut dyn BufRead) -> io::Result<BTreeMap<String, u64>> {
    let mut starts = BTreeMap::new();
    each_line(from, |bytes, _| {
        if let Some(line) = Line::read(bytes)
            && !starts.contains_key(line.lane)
        {
            starts.insert(line.lane.to_owned(), line.seq);
        }
    })?;
    Ok(starts)
}

/// Puts files into the order they were written in, oldest first, by the lanes they share: a shell lists
/// `audit.jsonl` before `audit.jsonl.1`. Answers indices; files that contradict each other stay as given.
pub fn in_order(starts: &[BTreeMap<String, u64>]) -> Vec<usize> {
    let precedes = |a: usize, b: usize| {
        starts[a].iter().any(|(lane, seq)| starts[b].get(lane).is_some_and(|later| seq < later))
    };
    let mut left: Vec<usize> = (0..starts.len()).collect();
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let first = left.iter().position(|&file| !left.iter().any(|&other| precedes(other, file)));
        order.push(left.remove(first.unwrap_or(0)));
    }
    order
}

/// Calls with each line without its LF, and whether it had one. What is longer than any line of ours is cut.
pub fn each_line(from: &mut dyn BufRead, mut take: impl FnMut(&[u8], bool)) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut *from).take(MAX_READ).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let ended = line.pop_if(|byte| *byte == b'\n').is_some();
        if !ended && line.len() as u64 == MAX_READ {
            from.skip_until(b'\n')?;
            take(&line, true);
        } else {
            take(&line, ended);
        }
    }
}

fn is_json_object(bytes: &[u8]) -> bool {
    bytes.starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}
