//! What the data path tells of an attempt: the words and values that its lines and metrics are made of.
//!
//! Fields are listed one by one, and borrowed. There is none for a header map, a query, a body, a token or a
//! signature, so no secret can reach a line by way of them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::facts::{
    Arrival, Auth, Door, Identity, Name, Operation, PayloadOutcome, Protocol, SignatureState, words,
};
use crate::engine::policy::Placed;
use crate::engine::reason::Reason;
use crate::engine::target::Authority;

use super::leg::LegText;

words! {
    /// What the policy said of a request. `None` where it was never asked.
    pub enum Decision {
        Allow = "allow",
        Deny = "deny",
        /// Passed although no statement allows it, because the policy observes only.
        Report = "report",
        None = "none",
    }
}

words! {
    /// Why a request was sent once more. Never where anybody may have acted on the first.
    pub enum Retried {
        /// The connection, from the pool, was gone at the first write.
        Unwritten = "unwritten",
        /// The origin said that it did not process it: REFUSED_STREAM, or a GOAWAY that left it out.
        Unprocessed = "unprocessed",
        /// 421: not over that connection.
        Misdirected = "misdirected",
    }
}

/// A request as judged: everything its lines may tell of it, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub decision: Decision,
    /// The statement that decided; of a refusal that none decided, the nearest.
    pub statement: Option<&'a Placed>,
    /// Statements in report mode that would have decided otherwise.
    pub would: &'a [Name],
    /// Hash of the policy that judged.
    pub policy: &'a str,
    /// `None`: not an AWS call.
    pub operation: Option<&'a Operation>,
    pub identity: &'a Identity,
    pub method: &'a str,
    /// Host as asked, in normal form.
    pub host: &'a Authority,
    /// Written only for third-party calls and with `include_data`; cut at `?`.
    pub path: &'a [u8],
    pub user_agent: Option<&'a [u8]>,
    /// The request's `x-amzn-trace-id`.
    pub trace: Option<&'a [u8]>,
    /// The same signature came before.
    pub repeats: bool,
    /// The request's `traceparent` (W3C Trace Context).
    pub traceparent: Option<&'a [u8]>,
    pub spent: Spent,
}

impl<'a> Request<'a> {
    /// What is asked for, of which nothing else is known: neither judged nor signed, no AWS call.
    pub fn unjudged(method: &'a str, host: &'a Authority, path: &'a [u8]) -> Self {
        Self {
            decision: Decision::None,
            statement: None,
            would: &[],
            policy: "",
            operation: None,
            identity: &Identity::NONE,
            method,
            host,
            path,
            user_agent: None,
            trace: None,
            repeats: false,
            traceparent: None,
            spent: Spent::default(),
        }
    }
}

/// Time spent on verifying and deciding.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// On both, with the wait for a body that is part of the question.
    pub all: Duration,
    /// Of that, on the policy; zero where it was never asked.
    pub deciding: Duration,
}

/// What was dialled, and what it told.
#[derive(Debug, Clone, Copy)]
pub struct Upstream<'a> {
    /// Made with [`LegText::dialled_at`].
    pub leg: &'a LegText,
    /// The connection came out of the pool.
    pub reused: bool,
    /// The answer's `x-amzn-requestid` or `x-amz-request-id`.
    pub request_id: Option<&'a [u8]>,
    /// The answer's `x-amz-id-2`.
    pub extended_request_id: Option<&'a [u8]>,
    /// The answer's `x-amzn-errortype`: an error's name, in some services with more behind a colon.
    pub error_type: Option<&'a [u8]>,
    /// From the first byte sent to the answer's head; `None` where none came.
    pub waited: Option<Duration>,
}

impl<'a> Upstream<'a> {
    /// Nothing came of it.
    pub fn unanswered(leg: &'a LegText, reused: bool) -> Self {
        Self { leg, reused, request_id: None, extended_request_id: None, error_type: None, waited: None }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// The origin's answer was passed on.
    Answered,
    /// Bytes were passed on unread.
    Tunnelled,
    /// We answered in the origin's place, or broke off.
    Refused { reason: Reason, message: &'a str },
}

#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    pub end: End<'a>,
    /// Status that the client was told; 0 where it was told none.
    pub status: u16,
    pub payload: PayloadOutcome,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    pub upstream: Option<Upstream<'a>>,
}

impl<'a> Outcome<'a> {
    /// Nothing known but how it ended; the rest is filled in by struct update.
    pub const fn new(end: End<'a>, status: u16) -> Self {
        let payload = PayloadOutcome::Unchecked;
        Self { end, status, payload, bytes_in: 0, bytes_out: 0, upstream: None }
    }

    pub const fn refused(reason: Reason, status: u16, message: &'a str) -> Self {
        Self::new(End::Refused { reason, message }, status)
    }

    pub const fn reason(&self) -> Option<Reason> {
        match self.end {
            End::Refused { reason, .. } => Some(reason),
            End::Answered | End::Tunnelled => None,
        }
    }

    pub(super) const fn end_word(&self) -> &'static str {
        match self.end {
            End::Answered => "answered",
            End::Tunnelled => "tunnelled",
            End::Refused { reason: Reason::RequestAborted, .. } => "aborted",
            End::Refused { .. } => "refused",
        }
    }

    /// CloudTrail's `errorCode`: the family that its readers filter by. Our own reason stands beside it.
    pub(super) const fn error_code(&self) -> &'static str {
        match self.status {
            400 => "BadRequest",
            403 => "AccessDenied",
            502 => "BadGateway",
            503 => "ServiceUnavailable",
            504 => "GatewayTimeout",
            0 => "ConnectionClosed",
            _ => "Refused",
        }
    }
}

/// Small values of a request that metrics are counted by.
#[derive(Debug, Clone, Copy)]
pub struct Labels {
    /// `None` for our own calls, which no door saw.
    pub door: Option<Door>,
    pub decision: Decision,
    pub protocol: Option<Protocol>,
    /// `None` until judged, and of what says nothing of itself.
    pub signed: Option<(Auth, SignatureState)>,
    pub spent: Spent,
}

/// Who opened an attempt.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    Arrival(&'a Arrival),
    /// A connection that never became an arrival; `asked` is its CONNECT target or SNI as received.
    Peer {
        door: Door,
        peer: SocketAddr,
        asked: Option<&'a [u8]>,
    },
    /// A call of ours (STS, secrets).
    Own,
}
