//! One line of ours, read back: that it has our shape. Whether it is true is checked against its lane.

use serde::Deserialize;

use super::super::event::CLOSERS;
use super::super::lane::{Chain, GENESIS};

const CHAIN_KEY: &[u8] = b",\"chain\":\"";
const LANE_KEY: &[u8] = b",\"lane\":\"";
/// How our lines begin. Quotes in texts are escaped, so these never stand inside a line.
pub(super) const STARTS: [&[u8]; 2] = [b"{\"exeat\":\"", b"{\"eventVersion\":\""];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Lane,
    Intent,
    Event,
    End,
}

/// A line that has our shape; whether it is true is checked against its lane.
pub(super) struct Line<'a> {
    pub(super) kind: Kind,
    pub(super) lane: &'a str,
    pub(super) seq: u64,
    pub(super) flow: Option<&'a str>,
    pub(super) prev: Option<Chain>,
    pub(super) after: Option<Chain>,
    pub(super) heads: Vec<Last>,
    pub(super) chain: Chain,
    pub(super) hashed: &'a [u8],
}

/// Where a lane ended.
#[derive(Debug)]
pub struct Last {
    pub lane: String,
    pub seq: u64,
    pub chain: Chain,
}

impl Last {
    /// Of a whole line of ours.
    pub fn of(line: &[u8]) -> Option<Self> {
        let Line { lane, seq, chain, .. } = Line::read(line)?;
        Some(Self { lane: lane.to_owned(), seq, chain })
    }

    /// `line` is of the same lane, if it is one of ours.
    pub fn wrote(&self, line: &[u8]) -> bool {
        names_lane(line, &format!("{}\"", self.lane))
    }

    /// The start that the lane was of.
    pub fn boot(&self) -> &str {
        self.lane.split_once('-').map_or(&self.lane, |(boot, _)| boot)
    }
}

/// Its lane's name begins so, if it is a line of ours.
pub fn names_lane(line: &[u8], name: &str) -> bool {
    let at = memchr::memmem::rfind(line, LANE_KEY);
    at.is_some_and(|at| line[at + LANE_KEY.len()..].starts_with(name.as_bytes()))
}

#[derive(Deserialize)]
struct Short<'a> {
    exeat: &'a str,
    lane: &'a str,
    seq: u64,
    flow: Option<&'a str>,
    prev: Option<&'a str>,
    after: Option<&'a str>,
    #[serde(borrow, default)]
    heads: Vec<Head<'a>>,
}

#[derive(Deserialize)]
struct Head<'a> {
    lane: &'a str,
    seq: u64,
    head: &'a str,
}

impl Head<'_> {
    fn read(&self) -> Option<Last> {
        let chain = unhex(self.head.as_bytes())?;
        Some(Last { lane: self.lane.to_owned(), seq: self.seq, chain })
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "additionalEventData")]
    additional: Additional<'a>,
}

#[derive(Deserialize)]
struct Additional<'a> {
    #[serde(borrow)]
    exeat: Ours<'a>,
}

#[derive(Deserialize)]
struct Ours<'a> {
    lane: &'a str,
    seq: u64,
    flow: &'a str,
}

impl<'a> Line<'a> {
    /// `None`: not one of ours, or not whole.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let event = bytes.starts_with(STARTS[1]);
        let closers = if event { CLOSERS } else { "}" };
        let (hashed, rest) = bytes.split_at_checked(last_chain(bytes)?)?;
        let chain = rest[CHAIN_KEY.len()..].strip_suffix(closers.as_bytes())?.strip_suffix(b"\"")?;
        let chain = unhex(chain)?;
        let text = std::str::from_utf8(bytes).ok()?;
        if event {
            let Ours { lane, seq, flow } = serde_json::from_str::<Event<'_>>(text).ok()?.additional.exeat;
            let (flow, prev, after, heads) = (Some(flow), None, None, Vec::new());
            return Some(Self { kind: Kind::Event, lane, seq, flow, prev, after, heads, chain, hashed });
        }
        let short: Short<'_> = serde_json::from_str(text).ok()?;
        let (kind, prev) = match short.exeat {
            "lane" => (Kind::Lane, Some(unhex(short.prev?.as_bytes())?)),
            "intent" => (Kind::Intent, None),
            "end" => (Kind::End, None),
            _ => return None,
        };
        let after = match short.after {
            Some(after) => Some(unhex(after.as_bytes())?),
            None => None,
        };
        let heads = short.heads.iter().map(Head::read).collect::<Option<_>>()?;
        let Short { lane, seq, flow, .. } = short;
        Some(Self { kind, lane, seq, flow, prev, after, heads, chain, hashed })
    }
}

pub(super) fn last_chain(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::rfind(bytes, CHAIN_KEY)
}

/// 64 lower-case digits; one spelling, so that an edit of the chain itself shows.
fn unhex(text: &[u8]) -> Option<Chain> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut chain = GENESIS;
    if text.len() != 2 * chain.len() {
        return None;
    }
    for (byte, pair) in chain.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(chain)
}

/// Could be the beginning of a line of ours: it ends before its chain does, or within what must follow it.
pub(super) fn is_beginning(bytes: &[u8]) -> bool {
    let Some(at) = last_chain(bytes) else { return bytes.first().is_none_or(|&byte| byte == b'{') };
    match bytes[at + CHAIN_KEY.len()..].split_at_checked(64) {
        Some((_, after)) => b"\"}}}".starts_with(after),
        None => true,
    }
}
