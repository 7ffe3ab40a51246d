//! Calls that we make of ourselves to the platform's credentials endpoints, as records: `origin: exeat`.
//!
//! `keys/endpoint.rs` makes them and imports no records; it is handed this. They have a lane of their own, which begins
//! with the first.

use std::io;
use std::sync::{Arc, OnceLock};

use crate::engine::facts::PayloadOutcome;
use crate::engine::reason::Reason;
use crate::engine::target::{Authority, Host};
use crate::keys::KeysError;
use crate::keys::ledger::{Call, Ledger, Make, Seen};
use crate::record::{AuditDown, End, LegText, Outcome, Recorder, Records, Request, Upstream};

pub(super) struct OwnCalls {
    records: Arc<Records>,
    lane: OnceLock<Recorder>,
}

impl OwnCalls {
    pub(super) fn new(records: Arc<Records>) -> Self {
        Self { records, lane: OnceLock::new() }
    }
}

impl Ledger for OwnCalls {
    fn record(&self, call: Call<'_>, make: Make<'_>) -> Result<(), KeysError> {
        let mut entry = self.lane.get_or_init(|| self.records.recorder()).open_own();
        let host = Authority { host: Host::Literal(call.address.ip()), port: call.address.port() };
        // No path: a container's names its keys.
        entry.judged(&Request::unjudged(call.method, &host, b""));
        let mut seen = Seen::default();
        let intended = entry.intend_blocking().map_err(|AuditDown| KeysError::Unrecorded);
        let result = intended.and_then(|()| make(&mut seen));
        let said = result.as_ref().err().map(ToString::to_string);
        let end = match (&result, &said) {
            // It answered, whatever.
            (Ok(()) | Err(KeysError::Status { .. }), _) | (_, None) => End::Answered,
            (Err(error), Some(said)) => End::Refused { reason: reason(error, &seen), message: said },
        };
        let leg = LegText::dialled_at(call.address, None);
        let upstream = seen
            .connected
            .then(|| Upstream { waited: Some(seen.waited), ..Upstream::unanswered(&leg, false) });
        entry.close_blocking(&Outcome {
            payload: PayloadOutcome::Unchecked,
            bytes_out: seen.bytes,
            upstream,
            ..Outcome::new(end, seen.status)
        });
        result
    }
}

fn reason(error: &KeysError, seen: &Seen) -> Reason {
    match error {
        KeysError::Unrecorded => Reason::LimitAudit,
        KeysError::NotHttp(_) => Reason::UpstreamProtocol,
        KeysError::Network { source, .. } => match source.kind() {
            // A socket's own time limit is told as either.
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Reason::UpstreamTimeout,
            _ if seen.connected => Reason::UpstreamClosed,
            _ => Reason::UpstreamConnect,
        },
        _ => Reason::Internal,
    }
}
