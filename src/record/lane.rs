//! A lane: the numbered, chained row of lines that one worker writes.
//!
//! Nothing of it is shared with other workers, so a line costs no lock that anybody else holds. The chain is
//! `SHA-256(chain of the line before, 32 bytes || the line up to its ",\"chain\":")`; docs/audit.md is its definition,
//! `verify.rs` reads it back.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;

use super::json::Json;
use super::left::Left;
use super::sink::{AuditDown, Handed, Sink};

pub type Chain = [u8; 32];
/// What the first line of a lane is chained to.
pub const GENESIS: Chain = [0; 32];
/// Longest line, LF included (design.md 9).
pub const MAX_LINE: usize = 16 * 1024;
/// What [`Lane::append`] adds to a line: `,"lane":"` 18 characters `","seq":` 20 digits `,"chain":"` 64 digits `"` LF.
pub const MAX_END: usize = 9 + 18 + 8 + 20 + 10 + 64 + 2;

/// One start of the program: 60 random bits, written in 12 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId(u64);

impl BootId {
    /// `None` when the system has no randomness to give.
    pub fn random() -> Option<Self> {
        let mut bytes = [0; 8];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        Some(Self::new(u64::from_le_bytes(bytes)))
    }

    /// The lower 60 bits count.
    pub const fn new(bits: u64) -> Self {
        Self(bits & ((1 << 60) - 1))
    }
}

impl fmt::Display for BootId {
    /// Crockford's base 32 in lower case: no `i l o u`, so it can be read out loud.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        for place in (0..12).rev() {
            fmt::Write::write_char(f, LETTERS[(self.0 >> (5 * place) & 31) as usize].into())?;
        }
        Ok(())
    }
}

/// `BOOT-LANE`: one worker of one start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneId {
    pub boot: BootId,
    pub lane: u16,
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boot, self.lane)
    }
}

/// Names one attempt, over all starts and workers: `BOOT-LANE-NUMBER`, in refusals and on every line of the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId {
    pub lane: LaneId,
    pub number: u64,
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.lane, self.number)
    }
}

/// One link of the chain.
pub fn link(previous: &Chain, hashed: &[u8]) -> Chain {
    let mut both = Vec::with_capacity(32 + hashed.len());
    both.extend_from_slice(previous);
    both.extend_from_slice(hashed);
    digest_of(&both)
}

fn digest_of(bytes: &[u8]) -> Chain {
    let mut chain = GENESIS;
    chain.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    chain
}

/// What a line's author is given besides the buffer.
pub struct Stamp<'a> {
    /// `BOOT-LANE`.
    pub lane: &'a str,
    /// `2026-11-23T05:00:00Z`.
    pub time: &'a str,
}

impl Stamp<'_> {
    /// A [`FlowId`] of this lane, without quotes.
    pub fn flow(&self, json: &mut Json<'_>, number: u64) {
        json.raw(self.lane);
        json.count("-", number);
    }
}

pub struct Lane {
    name: String,
    sequence: u64,
    chain: Chain,
    /// The line under construction, after 32 bytes for the chain it is linked to: one buffer, hashed in one call.
    buffer: Vec<u8>,
    /// The opened file, or connection, that this lane has begun in; 0 before the first.
    file: u64,
    second: u64,
    time: String,
}

impl Lane {
    pub fn new(id: LaneId) -> Self {
        Self {
            name: id.to_string(),
            sequence: 0,
            chain: GENESIS,
            buffer: Vec::with_capacity(4096),
            file: 0,
            second: u64::MAX,
            time: String::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands one line to the sink. `build` writes all but the end, which is `closers` after `"chain":"…"`.
    /// On `Err` neither number nor chain has moved, so the next line has no gap before it.
    pub fn append(
        &mut self,
        sink: &Sink,
        build: impl FnOnce(&mut Json<'_>, &Stamp<'_>),
        closers: &str,
    ) -> Result<Handed, AuditDown> {
        match sink {
            Sink::File(files) => {
                let opened = files.current();
                if self.file != opened.number {
                    let chain = self.build_head(opened.left());
                    files.write(&opened, &self.buffer[32..])?;
                    self.step(chain);
                    self.file = opened.number;
                }
                let chain = self.build(build, closers);
                files.write(&opened, &self.buffer[32..])?;
                self.step(chain);
                Ok(Handed::Done)
            }
            Sink::Pipe(pipe) => {
                let number = pipe.number();
                if self.file != number {
                    let chain = self.build_head(&Left::default());
                    drop(pipe.hand(&self.buffer[32..])?);
                    self.step(chain);
                    self.file = number;
                }
                let chain = self.build(build, closers);
                let acknowledgement = pipe.hand(&self.buffer[32..])?;
                self.step(chain);
                Ok(Handed::Pending(acknowledgement))
            }
        }
    }

    /// A line that is no part of the lane: without number and chain, and for nobody's file.
    pub fn unchained(&mut self, build: impl FnOnce(&mut Json<'_>, &Stamp<'_>), closers: &str) -> Vec<u8> {
        self.tell_time();
        let mut line = Vec::with_capacity(1024);
        build(&mut Json(&mut line), &Stamp { lane: &self.name, time: &self.time });
        line.extend_from_slice(closers.as_bytes());
        line
    }

    fn step(&mut self, chain: Chain) {
        self.sequence += 1;
        self.chain = chain;
    }

    /// The lane has begun, in this file or connection.
    pub fn has_begun(&self) -> bool {
        self.file > 0
    }

    /// The `lane` line: opens the lane in each file, and names the chain it goes on from; and in a file that an earlier
    /// start left, what that start ended with.
    fn build_head(&mut self, left: &Left) -> Chain {
        let previous = self.chain;
        self.build(
            |json, stamp| {
                json.raw("{\"exeat\":\"lane\",\"schema\":1,\"time\":\"");
                json.raw(stamp.time);
                json.field("\",\"version\":", env!("CARGO_PKG_VERSION"), 32);
                json.raw(",\"prev\":\"");
                json.hex(&previous);
                json.raw("\"");
                left.write(json);
            },
            "}",
        )
    }

    fn build(&mut self, build: impl FnOnce(&mut Json<'_>, &Stamp<'_>), closers: &str) -> Chain {
        self.tell_time();
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.chain);
        let mut json = Json(&mut self.buffer);
        build(&mut json, &Stamp { lane: &self.name, time: &self.time });
        json.raw(",\"lane\":\"");
        json.raw(&self.name);
        json.count("\",\"seq\":", self.sequence);
        let chain = digest_of(json.0);
        json.raw(",\"chain\":\"");
        json.hex(&chain);
        json.raw("\"");
        json.raw(closers);
        json.raw("\n");
        debug_assert!(self.buffer.len() - 32 <= MAX_LINE, "a line of {} bytes", self.buffer.len() - 32);
        chain
    }

    /// Formats a second once, however many lines fall into it.
    fn tell_time(&mut self) {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second {
            self.second = second;
            self.time = iso_second(second);
        }
    }
}

/// The `end` line, all but its end: the lane was closed in order, and nothing may be missing after it.
pub fn write_end(json: &mut Json<'_>, stamp: &Stamp<'_>) {
    json.raw("{\"exeat\":\"end\",\"time\":\"");
    json.raw(stamp.time);
    json.raw("\"");
}

/// `YYYY-MM-DDThh:mm:ssZ`.
pub(super) fn iso_second(second: u64) -> String {
    let at = i64::try_from(second).ok().and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
    let at = at.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_fixed_in_spelling() {
        let lane = LaneId { boot: BootId::new(u64::MAX), lane: 3 };
        assert_eq!(FlowId { lane, number: 42 }.to_string(), "zzzzzzzzzzzz-3-42");
        assert_eq!(BootId::new(1).to_string(), "000000000001");
        assert_ne!(BootId::random(), BootId::random());
    }

    #[test]
    fn tells_seconds_as_cloudtrail_does() {
        assert_eq!(iso_second(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso_second(1_795_410_000), "2026-11-23T05:00:00Z");
        assert_eq!(iso_second(u64::MAX), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_link_depends_on_what_came_before_and_on_every_byte() {
        assert_eq!(link(&GENESIS, b"a"), digest_of(&[&[0; 32][..], b"a"].concat()));
        assert_ne!(link(&GENESIS, b"a"), link(&GENESIS, b"b"));
        assert_ne!(link(&GENESIS, b"a"), link(&[1; 32], b"a"));
    }
}
