//! Event streams whose messages are signed one by one (Smithy's `application/vnd.amazon.eventstream`; Amazon
//! Transcribe Developer Guide, "Event stream encoding").
//!
//! ```text
//! length  headers' length  CRC | :chunk-signature (32 bytes)  :date (time) | the message that is sent | CRC
//! ```
//! The two headers have one size, so a message's front does too. A message goes on once its signature holds; the last
//! one is empty, and nothing may follow it.

use aws_lc_rs::digest;

use super::Refusal;
use super::chain::Chain;
use super::check::mismatch;
use super::chunked::MAX_SIGNED_CHUNK;
use crate::engine::facts::{PayloadOutcome, Timestamp};
use crate::engine::reason::Reason;

pub(super) const PRELUDE: usize = 12;
const DATE: &[u8] = b"\x05:date\x08";
const SIGNATURE: &[u8] = b"\x10:chunk-signature\x06\x00\x20";
const HEADERS: usize = DATE.len() + 8 + SIGNATURE.len() + 32;
/// All of a message that stands before its payload, and after it.
pub(super) const FRONT: usize = PRELUDE + HEADERS;
pub(super) const CRC: usize = 4;

/// A stream may go on for so long after its request was signed, in seconds; and its clock go back so far.
const MAX_LATER: i64 = 24 * 3600;
const MAX_EARLIER: i64 = 15 * 60;

/// What a stream is to be. `chain`: none under a key that we don't know.
#[derive(Debug, Clone)]
pub struct EventStream {
    pub signed_at: Timestamp,
    pub chain: Option<Chain>,
}

pub struct Events {
    stream: EventStream,
    state: State,
    /// Prelude and headers of the present message, then its CRC.
    part: Vec<u8>,
    crc: crc_fast::Digest,
    payload: digest::Context,
    withheld: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Front,
    Payload {
        left: usize,
        empty: bool,
    },
    Crc {
        empty: bool,
    },
    /// The empty message has come.
    Done,
}

/// The two headers of a signed message.
pub(super) struct Headers<'m> {
    /// As encoded: what is signed.
    pub date: &'m [u8],
    pub at: Timestamp,
    pub signature: [u8; 32],
    /// Where that stands in them.
    pub place: usize,
}

impl Events {
    pub fn new(stream: EventStream) -> Self {
        Self {
            stream,
            state: State::Front,
            part: Vec::with_capacity(FRONT),
            crc: crc(),
            payload: digest::Context::new(&digest::SHA256),
            withheld: 0,
        }
    }

    /// Reads on; how many of the last bytes read must wait.
    pub fn update(&mut self, mut data: &[u8]) -> Result<usize, Refusal> {
        while !data.is_empty() {
            let wanted = match self.state {
                State::Front => FRONT - self.part.len(),
                State::Payload { left, .. } => left,
                State::Crc { .. } => FRONT + CRC - self.part.len(),
                State::Done => return Err(mismatch("bytes after the empty message that ends a stream")),
            };
            let (now, rest) = data.split_at(wanted.min(data.len()));
            data = rest;
            self.withheld += now.len();
            match self.state {
                State::Payload { left, empty } => {
                    self.crc.update(now);
                    self.payload.update(now);
                    let left = left - now.len();
                    self.state =
                        if left == 0 { State::Crc { empty } } else { State::Payload { left, empty } };
                }
                _ => self.part.extend_from_slice(now),
            }
            if now.len() == wanted {
                match self.state {
                    State::Front => self.front()?,
                    State::Crc { empty } if self.part.len() == FRONT + CRC => self.end(empty)?,
                    State::Crc { .. } | State::Payload { .. } | State::Done => {}
                }
            }
        }
        Ok(self.withheld)
    }

    /// The present message, as far as its prelude tells.
    pub fn room(&self) -> usize {
        match self.state {
            State::Payload { left, .. } => self.withheld + left + CRC,
            State::Front | State::Crc { .. } | State::Done => self.withheld,
        }
    }

    /// The body ended here.
    pub fn finish(&self) -> Result<PayloadOutcome, Refusal> {
        match (self.state, &self.stream.chain) {
            (State::Done, Some(_)) => Ok(PayloadOutcome::Matched),
            (State::Done, None) => Ok(PayloadOutcome::Unchecked),
            _ => Err(mismatch("event stream ended without its empty message")),
        }
    }

    /// Prelude and headers are here.
    fn front(&mut self) -> Result<(), Refusal> {
        let number = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|n| self.part[at + n])) as usize;
        let (total, headers) = (number(0), number(4));
        if crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &self.part[..8]) as u32
            != number(8) as u32
        {
            return Err(mismatch("prelude of an event does not match its CRC"));
        }
        let Some(payload) = total.checked_sub(FRONT + CRC).filter(|_| headers == HEADERS) else {
            return Err(mismatch("event is not a message with a date and a signature"));
        };
        if payload as u64 > MAX_SIGNED_CHUNK {
            let said = format!("signed event of {payload} bytes, where {MAX_SIGNED_CHUNK} are held at most");
            return Err(Refusal::new(Reason::SigV4Unsupported, said));
        }
        let at = Headers::read(&self.part[PRELUDE..])?.at;
        let later = at.0.saturating_sub(self.stream.signed_at.0);
        if !(-MAX_EARLIER..=MAX_LATER).contains(&later) {
            return Err(Refusal::new(
                Reason::SigV4Skew,
                format!("event is dated {later} s after its request"),
            ));
        }
        self.crc.update(&self.part);
        let empty = payload == 0;
        self.state = if empty { State::Crc { empty } } else { State::Payload { left: payload, empty } };
        Ok(())
    }

    /// The message is whole.
    fn end(&mut self, empty: bool) -> Result<(), Refusal> {
        let (front, claimed) = self.part.split_at(FRONT);
        let crc = std::mem::replace(&mut self.crc, crc()).finalize() as u32;
        if claimed != crc.to_be_bytes() {
            return Err(mismatch("event does not match its CRC"));
        }
        let payload = std::mem::replace(&mut self.payload, digest::Context::new(&digest::SHA256)).finish();
        let mut digest = [0; 32];
        digest.copy_from_slice(payload.as_ref());
        let headers = Headers::read(&front[PRELUDE..])?;
        if let Some(chain) = &mut self.stream.chain
            && !chain.event(headers.at, headers.date, &digest, &headers.signature)
        {
            return Err(mismatch("an event's signature does not match the event"));
        }
        self.part.clear();
        self.withheld = 0;
        self.state = if empty { State::Done } else { State::Front };
        Ok(())
    }
}

impl<'m> Headers<'m> {
    /// Exactly the two, in either order.
    pub fn read(bytes: &'m [u8]) -> Result<Self, Refusal> {
        let (date, signature, place) = if bytes.starts_with(DATE) {
            let (date, signature) = bytes.split_at(DATE.len() + 8);
            (date, signature, date.len() + SIGNATURE.len())
        } else {
            let (signature, date) = bytes.split_at(SIGNATURE.len() + 32);
            (date, signature, SIGNATURE.len())
        };
        let time = date.strip_prefix(DATE).and_then(|time| time.try_into().ok()).map(i64::from_be_bytes);
        let signature = signature.strip_prefix(SIGNATURE).and_then(|value| value.try_into().ok());
        match (time, signature) {
            (Some(milliseconds), Some(signature)) => {
                Ok(Self { date, at: Timestamp(milliseconds.div_euclid(1000)), signature, place })
            }
            _ => Err(mismatch("event has other headers than a date and a signature")),
        }
    }
}

pub(super) fn crc() -> crc_fast::Digest {
    crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc)
}
