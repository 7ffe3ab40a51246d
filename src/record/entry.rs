//! One attempt: told of as it goes, an intent line before its first byte leaves, an event line at its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::attempt::{Outcome, Request, Retried};
use super::data::Data;
use super::event::{self, Facts, Prelude};
use super::lane::{FlowId, MAX_END, MAX_LINE};
use super::sink::{AuditDown, pipe::Acknowledgement};
use super::{Worker, intent, tally};
use crate::engine::data::DataLevel;
use crate::engine::reason::Reason;
use crate::engine::target::Authority;

/// Buffers of ended attempts that a worker keeps for the next ones.
const SPARE_BUFFERS: usize = 64;
/// A buffer that grew past this (many resources) is given back to the allocator.
const SPARE_BYTES: usize = 4096;

/// One attempt under way. Close it; an entry that is dropped open records that it was aborted.
#[must_use = "an attempt that is dropped is recorded as aborted"]
pub struct Entry {
    worker: Arc<Worker>,
    flow: FlowId,
    facts: Facts,
    /// Where a tally is kept: what it is counted under.
    call: Option<String>,
    opened: Instant,
    /// How long after that its first byte went upstream.
    left: Option<Duration>,
    /// Body bytes that went upstream; known where there was no answer.
    carried: u64,
    closed: bool,
}

impl Entry {
    /// `call`: what a tally counts it under, where one is kept.
    pub(super) fn open(
        worker: &Arc<Worker>,
        prelude: &Prelude,
        call: impl FnOnce() -> Option<String>,
    ) -> Self {
        let (number, buffer) = {
            let mut state = worker.state();
            state.flows += 1;
            (state.flows, state.spare.pop())
        };
        let buffer = buffer.unwrap_or_else(|| Vec::with_capacity(SPARE_BYTES / 2));
        Self {
            flow: FlowId { lane: worker.id, number },
            facts: Facts::open(buffer, prelude),
            call: worker.records.tally.get().and_then(|_| call()),
            worker: Arc::clone(worker),
            opened: Instant::now(),
            left: None,
            carried: 0,
            closed: false,
        }
    }

    pub fn flow(&self) -> FlowId {
        self.flow
    }

    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Says where it was to go, where it never becomes a request that can be judged.
    pub fn was_for(&mut self, target: &Authority) {
        if self.worker.records.tally.get().is_some() {
            self.call = Some(target.to_string());
        }
    }

    /// Says which process the client is, where that was looked for.
    pub fn is_of(&mut self, pid: u32, name: &str) {
        self.facts.process = Some(Box::new((pid, name.to_owned())));
    }

    /// Says what the request is, as soon as it is judged, whatever the decision. The last call counts.
    pub fn judged(&mut self, request: &Request<'_>) {
        let rules = self.worker.records.settings.data.as_ref();
        self.facts.judge(
            request,
            rules.is_some_and(|rules| !request.path.is_empty() && rules.tells_path(request.path)),
        );
        if self.worker.records.tally.get().is_some() {
            self.call = Some(tally::call(request));
        }
    }

    /// Its first byte goes upstream, `now`.
    pub fn leaves(&mut self, now: Instant) {
        self.left = Some(now - self.opened);
    }

    /// It goes upstream once more.
    pub fn retries(&mut self, why: Retried) {
        self.facts.retried = Some(why);
    }

    /// So many bytes of its body went upstream, should it have no answer.
    pub fn carried(&mut self, bytes: u64) {
        self.carried = bytes;
    }

    /// Body bytes that went upstream, as far as was told.
    pub fn bytes_in(&self) -> u64 {
        self.carried
    }

    /// Parameters and results, as the rules leave them. They are written where the level wants them of such an end.
    pub fn tell(&mut self, parameters: Option<&Value>, results: Option<&Value>) {
        self.facts.data = Some(Box::new(Data::of(parameters, results)));
    }

    /// Writes the intent line; afterwards the request may go upstream. On `Err` it must not: 503 `limit.audit`.
    ///
    /// Cancel safe: a line once handed over stays, and the entry's event follows it. Without a pipe this never waits.
    pub async fn intend(&mut self) -> Result<(), AuditDown> {
        let pending = self.write_intent()?;
        self.worker.acknowledged(pending).await
    }

    /// [`Self::intend`] on a thread that may block.
    pub fn intend_blocking(&mut self) -> Result<(), AuditDown> {
        let pending = self.write_intent()?;
        self.worker.acknowledged_blocking(pending)
    }

    fn write_intent(&mut self) -> Result<Option<Acknowledgement>, AuditDown> {
        debug_assert!(self.facts.is_judged(), "intent before judgement");
        let records = &self.worker.records;
        if !records.settings.lines {
            return Ok(None);
        }
        if records.sink.is_stuck() {
            records.note(false);
            return Err(AuditDown);
        }
        self.worker
            .append(|json, stamp| intent::write(json, stamp, self.flow.number, self.facts.intent()), "}")
    }

    /// Writes the event line and counts the metrics. A sink that fails here shows in metrics and in `/ready`: the
    /// request has its intent line, and its answer is not taken back.
    ///
    /// Cancel safe: the line is handed over before the first wait.
    pub async fn close(mut self, outcome: Outcome<'_>) {
        let was_down = self.worker.records.is_down();
        let pending = self.end(&outcome);
        if !was_down {
            let _ = self.worker.acknowledged(pending).await;
        }
    }

    /// [`Self::close`] on a thread that may block.
    pub fn close_blocking(mut self, outcome: &Outcome<'_>) {
        let was_down = self.worker.records.is_down();
        let pending = self.end(outcome);
        if !was_down {
            let _ = self.worker.acknowledged_blocking(pending);
        }
    }

    fn end(&mut self, outcome: &Outcome<'_>) -> Option<Acknowledgement> {
        self.closed = true;
        let took = self.opened.elapsed();
        self.facts.tells_chain = outcome.upstream.is_some_and(|up| up.leg.chain().is_due());
        if self.facts.data.is_some() {
            self.fit_data(outcome, took);
        }
        if self.facts.tells_chain && !self.fits(outcome, took) {
            self.facts.tells_chain = false;
            outcome.upstream.inspect(|up| up.leg.chain().put_back());
        }
        let records = &self.worker.records;
        records.metrics.count(&self.worker.cells, &self.facts.labels, outcome, took, self.left);
        let refusals = records.refusals.get().filter(|_| outcome.reason().is_some());
        let watched = records.live.is_watched();
        if watched || refusals.is_some() {
            let line = self.worker.state().lane.unchained(
                |json, stamp| event::write(json, stamp, self.flow.number, &self.facts, outcome, took),
                event::CLOSERS,
            );
            if watched {
                records.live.tell(&line);
            }
            if let Some(refusals) = refusals {
                refusals.keep(self.flow, line);
            }
        }
        // A summary is of what the client did; our own calls came through no door.
        if let Some(tally) = records.tally.get().filter(|_| self.facts.labels.door.is_some()) {
            tally.count(self.call.take(), self.facts.labels.decision, outcome);
        }
        if !records.settings.lines {
            return None;
        }
        let written = self.worker.append(
            |json, stamp| event::write(json, stamp, self.flow.number, &self.facts, outcome, took),
            event::CLOSERS,
        );
        written.unwrap_or(None)
    }

    /// Leaves data out where the level does not want it of such an end, and cuts it where the line has no room.
    fn fit_data(&mut self, outcome: &Outcome<'_>, took: Duration) {
        let level = self.worker.records.settings.data.as_ref().map_or(DataLevel::Off, |rules| rules.level);
        let refused = outcome.reason().is_some();
        let wanted = match level {
            DataLevel::All => true,
            DataLevel::Error => refused || outcome.status >= 400,
            DataLevel::Fatal => outcome.status >= 500 || (refused && outcome.status == 0),
            DataLevel::Off => false,
        };
        self.facts.data.take_if(|_| !wanted);
        let Some(data) = &self.facts.data else { return };
        let cut = data.cut();
        if !self.fits(outcome, took) {
            self.facts.data = Some(Box::new(cut));
        }
    }

    fn fits(&self, outcome: &Outcome<'_>, took: Duration) -> bool {
        let line = self.worker.state().lane.unchained(
            |json, stamp| event::write(json, stamp, self.flow.number, &self.facts, outcome, took),
            event::CLOSERS,
        );
        line.len() + MAX_END <= MAX_LINE
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.closed {
            let told = self.worker.state().gives_up;
            let (reason, said) = match told {
                _ if std::thread::panicking() => (Reason::Internal, "a bug ended it: its task panicked"),
                Some(reason) => (reason, reason.why()),
                None => (Reason::RequestAborted, "given up before it was answered"),
            };
            let bytes_in = self.carried;
            drop(self.end(&Outcome { bytes_in, ..Outcome::refused(reason, 0, said) }));
        }
        let buffer = self.facts.take_buffer();
        if buffer.capacity() <= SPARE_BYTES {
            let mut state = self.worker.state();
            if state.spare.len() < SPARE_BUFFERS {
                state.spare.push(buffer);
            }
        }
    }
}
