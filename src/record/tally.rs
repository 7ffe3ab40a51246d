//! Attempts counted by what they asked for and what came of it: the summary that `exec` ends with.
//!
//! Kept only where it was asked for. Its keys hold names of operations and hosts, so it grows with their number, which
//! is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::attempt::{Decision, Outcome, Request};
use crate::engine::facts::words;
use crate::engine::reason::Reason;

/// A program that asks for more different things than this has its further ones counted together.
const MOST_ROWS: usize = 500;
/// Kinds of clients that are told of by name.
const MOST_CLIENTS: usize = 8;

words! {
    /// What came of an attempt.
    pub enum Verdict {
        Allow = "allow",
        /// Passed although no statement allows it.
        Report = "report",
        Deny = "deny",
        /// Allowed, and the network or the client failed it.
        Failed = "failed",
    }
}

/// One row of the summary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// `s3:PutObject`, `GET api.example.com`, or the destination alone.
    pub call: String,
    pub reason: Option<&'static str>,
}

/// Rows with their counts.
#[derive(Debug, Default)]
pub struct Tally {
    rows: Mutex<BTreeMap<(u8, Row), u64>>,
    left: AtomicU64,
    left_by: Clients,
    distrusting: Clients,
}

/// What is told of clients, each sentence once.
#[derive(Debug, Default)]
struct Clients(Mutex<BTreeSet<String>>);

impl Clients {
    /// True where it is new.
    fn add(&self, told: &str) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.len() < MOST_CLIENTS && all.insert(told.to_owned())
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Tally {
    pub(super) fn count(&self, call: Option<String>, decision: Decision, outcome: &Outcome<'_>) {
        let verdict = match (outcome.reason(), decision) {
            (Some(reason), _) if reason.status() < 500 && reason != Reason::RequestAborted => Verdict::Deny,
            (Some(_), _) => Verdict::Failed,
            (None, Decision::Report) => Verdict::Report,
            (None, _) => Verdict::Allow,
        };
        let row = Row {
            call: call.unwrap_or_else(|| "a connection".to_owned()),
            reason: outcome.reason().map(Reason::as_str),
        };
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (verdict as u8, row);
        if rows.len() < MOST_ROWS || rows.contains_key(&key) {
            *rows.entry(key).or_default() += 1;
        } else {
            let others = Row { call: "others".to_owned(), reason: None };
            *rows.entry((verdict as u8, others)).or_default() += 1;
        }
    }

    /// Connections that shook hands and went away without a request or a word.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Who those were.
    pub fn left_by(&self) -> Vec<String> {
        self.left_by.all()
    }

    pub(super) fn note_left(&self, told: &str) {
        self.left.fetch_add(1, Ordering::Relaxed);
        self.left_by.add(told);
    }

    /// Clients that do not believe our CA, and what would help each.
    pub fn distrusting(&self) -> Vec<String> {
        self.distrusting.all()
    }

    /// One that can't be named is told of only where none was: it is most likely the same again.
    pub(super) fn note_distrust(&self, told: &str, named: bool) -> bool {
        (named || self.distrusting.all().is_empty()) && self.distrusting.add(told)
    }

    /// All rows, by verdict and then by call.
    pub fn rows(&self) -> Vec<(Verdict, Row, u64)> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter()
            .map(|((verdict, row), n)| (Verdict::ALL[usize::from(*verdict)], row.clone(), *n))
            .collect()
    }
}

/// What a request is called in the summary.
pub(super) fn call(request: &Request<'_>) -> String {
    match request.operation.and_then(|operation| operation.asks.first()) {
        Some(ask) => ask.action.to_string(),
        None => format!("{} {}", request.method, request.host.host),
    }
}
