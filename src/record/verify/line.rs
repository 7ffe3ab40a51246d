//! One line of ours, read back: that it has our shape. Whether it is true is checked against its lane.

use serde::Deserialize;

use super::super::event::CLOSERS;
use super::super::lane::Chain;
use crate::engine::hex;

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

    /// The start that the lane was of.
    pub fn boot(&self) -> &str {
        self.lane.split_once('-').map_or(&self.lane, |(boot, _)| boot)
    }
}

/// The name of its lane, if it is a line of ours: found without reading the line.
pub fn lane_of(line: &[u8]) -> Option<&[u8]> {
    let at = memchr::memmem::rfind(line, LANE_KEY)?;
    line[at + LANE_KEY.len()..].split(|&byte| byte == b'"').next()
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
        let chain = hex::parse(self.head.as_bytes())?;
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
        let chain = hex::parse(chain)?;
        let text = std::str::from_utf8(bytes).ok()?;
        if event {
            let Ours { lane, seq, flow } = serde_json::from_str::<Event<'_>>(text).ok()?.additional.exeat;
            let (flow, prev, after, heads) = (Some(flow), None, None, Vec::new());
            return Some(Self { kind: Kind::Event, lane, seq, flow, prev, after, heads, chain, hashed });
        }
        let short: Short<'_> = serde_json::from_str(text).ok()?;
        let (kind, prev) = match short.exeat {
            "lane" => (Kind::Lane, Some(hex::parse(short.prev?.as_bytes())?)),
            "intent" => (Kind::Intent, None),
            "end" => (Kind::End, None),
            _ => return None,
        };
        let after = match short.after {
            Some(after) => Some(hex::parse(after.as_bytes())?),
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

/// Could be the beginning of a line of ours: it ends before its chain does, or within what must follow it.
pub(super) fn is_beginning(bytes: &[u8]) -> bool {
    let Some(at) = last_chain(bytes) else { return bytes.first().is_none_or(|&byte| byte == b'{') };
    match bytes[at + CHAIN_KEY.len()..].split_at_checked(64) {
        Some((_, after)) => b"\"}}}".starts_with(after),
        None => true,
    }
}
