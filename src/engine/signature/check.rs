//! What a body must still prove, and the check of it while it streams.
//!
//! `Claim::verify` hands out a [`PayloadClaim`]; the forwarder starts a [`BodyCheck`] from it, feeds it every byte of
//! the body (HTTP framing removed), lets on what `update` lets on, and the completing bytes when `finish` says so.

use aws_lc_rs::digest;

use super::Refusal;
use super::chunked::{Chunked, Shape};
use super::events::{EventStream, Events};
use crate::engine::facts::PayloadOutcome;
use crate::engine::reason::Reason;

pub(super) const OTHER_DIGEST: &str = "body does not match `x-amz-content-sha256`";

/// What the body must still prove.
#[derive(Debug, Clone)]
pub enum PayloadClaim {
    /// Nobody said anything of it.
    Nothing,
    /// The verifier had the whole body, and it is the one that was signed.
    Met,
    Sha256([u8; 32]),
    /// aws-chunked.
    Chunks(Box<Shape>),
    Events(Box<EventStream>),
}

impl PayloadClaim {
    pub fn start(&self) -> BodyCheck {
        BodyCheck(match self {
            Self::Nothing => State::Settled(PayloadOutcome::Unchecked),
            Self::Met => State::Settled(PayloadOutcome::Matched),
            Self::Sha256(expected) => {
                State::Sha256 { context: digest::Context::new(&digest::SHA256), expected: *expected }
            }
            Self::Chunks(shape) => State::Chunks(Box::new(Chunked::new(Shape::clone(shape)))),
            Self::Events(stream) => State::Events(Box::new(Events::new(EventStream::clone(stream)))),
        })
    }
}

/// Compares a body with its [`PayloadClaim`] while it streams. It keeps no data: it says what its caller must keep.
#[derive(Debug)]
pub struct BodyCheck(State);

enum State {
    Settled(PayloadOutcome),
    Sha256 { context: digest::Context, expected: [u8; 32] },
    Chunks(Box<Chunked>),
    Events(Box<Events>),
    Failed,
}

impl BodyCheck {
    /// There is nothing to compare: bytes need not be fed.
    pub fn is_idle(&self) -> bool {
        matches!(self.0, State::Settled(_))
    }

    /// The next bytes of the body, in any split. Answers how many of the last bytes fed, over all calls, must not
    /// travel on yet; the others may. [`Reason::SigV4Payload`] as soon as it can't match any more, and again ever
    /// after: then nothing more may travel on.
    pub fn update(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        let result = match &mut self.0 {
            State::Settled(_) => return Ok(0),
            State::Sha256 { context, .. } => {
                context.update(data);
                return Ok(0);
            }
            State::Chunks(chunked) => chunked.update(data),
            State::Events(events) => events.update(data),
            State::Failed => return Err(mismatch("body did not match before")),
        };
        result.inspect_err(|_| self.0 = State::Failed)
    }

    /// It may ask to withhold more than the body's last bytes.
    pub fn withholds(&self) -> bool {
        matches!(self.0, State::Chunks(_) | State::Events(_))
    }

    /// How many bytes may have to be withheld before the next are let go: what the caller should have room for.
    pub fn room(&self) -> usize {
        match &self.0 {
            State::Chunks(chunked) => chunked.room(),
            State::Events(events) => events.room(),
            State::Settled(_) | State::Sha256 { .. } | State::Failed => 0,
        }
    }

    /// The body is whole, and everything withheld may go: `Matched`, or `Unchecked` where nothing was said of it;
    /// else [`Reason::SigV4Payload`].
    pub fn finish(&mut self) -> Result<PayloadOutcome, Refusal> {
        let outcome = match std::mem::replace(&mut self.0, State::Failed) {
            State::Settled(outcome) => outcome,
            State::Sha256 { context, expected } => {
                if context.finish().as_ref() != expected {
                    return Err(mismatch(OTHER_DIGEST));
                }
                PayloadOutcome::Matched
            }
            State::Chunks(chunked) => chunked.finish()?,
            State::Events(events) => events.finish()?,
            State::Failed => return Err(mismatch("body did not match before")),
        };
        self.0 = State::Settled(outcome);
        Ok(outcome)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Settled(outcome) => outcome.as_str(),
            Self::Sha256 { .. } => "sha256",
            Self::Chunks(_) => "chunks",
            Self::Events(_) => "events",
            Self::Failed => "failed",
        })
    }
}

pub(super) fn mismatch(said: &str) -> Refusal {
    Refusal::new(Reason::SigV4Payload, said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::signature::canonical;

    #[test]
    fn a_digest_is_checked_over_any_split_and_a_failed_check_stays_failed() {
        let body = b"Welcome to Amazon S3.";
        for at in 0..=body.len() {
            let mut check = PayloadClaim::Sha256(canonical::sha256(body)).start();
            assert!(!check.is_idle());
            check.update(&body[..at]).unwrap();
            check.update(&body[at..]).unwrap();
            assert_eq!(check.finish().unwrap(), PayloadOutcome::Matched);
            assert_eq!(check.finish().unwrap(), PayloadOutcome::Matched);
        }
        let mut check = PayloadClaim::Sha256(canonical::sha256(body)).start();
        check.update(&body[1..]).unwrap();
        assert_eq!(check.finish().unwrap_err().reason, Reason::SigV4Payload);
        assert!(check.finish().is_err() && check.update(b"").is_err());
    }

    #[test]
    fn nothing_to_check_is_unchecked_and_a_body_checked_before_is_matched() {
        let mut check = PayloadClaim::Nothing.start();
        assert!(check.is_idle());
        assert_eq!(check.finish().unwrap(), PayloadOutcome::Unchecked);
        assert_eq!(PayloadClaim::Met.start().finish().unwrap(), PayloadOutcome::Matched);
    }
}
