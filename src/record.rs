//! The record of every attempt: what was asked, in whose name, what we decided, and what came of it.
//!
//! Last in the flow and first to run: `Recorder::open` comes right after accept, `Entry::intend` before a request's
//! first byte goes upstream, `Entry::close` before the answer's last byte. A dropped [`Entry`] records `aborted`.
//! Each worker has a [`Recorder`] with a lane of its own, so workers share the sink and nothing else.

pub mod attempt;
pub mod data;
pub mod event;
pub mod intent;
mod json;
pub mod lane;
mod left;
pub mod leg;
pub mod live;
pub mod metrics;
pub mod refusals;
pub mod schema;
pub mod sink;
pub mod tally;
pub mod verify;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engine::data::{DataLevel, DataRules};
use crate::engine::facts::{Arrival, Door};
use crate::engine::reason::Reason;
use crate::engine::target::Authority;

use self::attempt::Source;
pub use self::attempt::{Decision, End, Outcome, Request, Retried, Spent, Upstream};
use self::data::Data;
use self::event::Facts;
pub use self::event::Prelude;
use self::json::Json;
pub use self::lane::{BootId, FlowId};
use self::lane::{Lane, LaneId, MAX_END, MAX_LINE, Stamp};
pub use self::leg::LegText;
use self::live::Live;
use self::metrics::Cells;
pub use self::metrics::Metrics;
use self::refusals::Refusals;
pub use self::sink::{AuditDown, Rotation, Sink, SinkError, Target};
use self::sink::{Handed, pipe::Acknowledgement};
pub use self::tally::Tally;

/// Buffers of ended attempts that a worker keeps for the next ones.
const SPARE_BUFFERS: usize = 64;
/// A buffer that grew past this (many resources) is given back to the allocator.
const SPARE_BYTES: usize = 4096;

#[derive(Debug)]
pub struct Settings {
    /// False where nobody reads them: `exec` without a file.
    pub lines: bool,
    /// What of parameters, results and third parties' paths is recorded; by default nothing.
    pub data: Option<DataRules>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lines: true, data: None }
    }
}

/// The process's records: one sink, the metrics, and the boot id that all lanes carry.
pub struct Records {
    sink: Sink,
    pub metrics: Metrics,
    settings: Settings,
    boot: BootId,
    lanes: AtomicU16,
    down: AtomicBool,
    refusals: OnceLock<Refusals>,
    tally: OnceLock<Tally>,
    /// For [`Records::end`].
    workers: Mutex<Vec<Weak<Worker>>>,
    /// Lanes whose workers are gone, with what counts their lines: for the same.
    resting: Mutex<Vec<(Lane, prometheus::IntCounter)>>,
    live: Live,
}

impl Records {
    pub fn new(sink: Sink, metrics: Metrics, settings: Settings, boot: BootId) -> Arc<Self> {
        Arc::new(Self {
            sink,
            metrics,
            settings,
            boot,
            lanes: AtomicU16::new(0),
            down: AtomicBool::new(false),
            refusals: OnceLock::new(),
            tally: OnceLock::new(),
            workers: Mutex::default(),
            resting: Mutex::default(),
            live: Live::default(),
        })
    }

    /// Keeps the newest refusals from now on; the same ones at every call.
    pub fn refusals(&self) -> &Refusals {
        self.refusals.get_or_init(Refusals::default)
    }

    /// Event lines as they come about, of whatever level.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Counts from now on what is asked for; the same tally at every call.
    pub fn tally(&self) -> &Tally {
        self.tally.get_or_init(Tally::default)
    }

    /// One for each worker; each call begins a new lane.
    pub fn recorder(self: &Arc<Self>) -> Recorder {
        let lane = self.lanes.fetch_add(1, Ordering::Relaxed);
        let id = LaneId { boot: self.boot, lane };
        let worker = Arc::new(Worker {
            records: Arc::clone(self),
            id,
            lines: self.metrics.audit_lines(lane),
            cells: self.metrics.cells(),
            state: Mutex::new(State {
                lane: Lane::new(id),
                flows: 0,
                spare: Vec::new(),
                gives_up: None,
                ended: false,
            }),
        });
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&worker));
        Recorder(worker)
    }

    /// Closes every lane that has begun, once its last attempt was recorded: a lane without this line was killed, or
    /// cut.
    pub fn end(&self) {
        for worker in
            self.workers.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade)
        {
            if worker.state().lane.has_begun() {
                let _ = worker.append(lane::write_end, "}");
            }
            worker.state().ended = true;
        }
        for (mut lane, lines) in self.resting.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let taken = lane.append(&self.sink, lane::write_end, "}").is_ok();
            self.note(taken);
            if taken {
                lines.inc();
            }
        }
    }

    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// The last line offered to the sink was not taken, and has not been written since.
    pub fn is_down(&self) -> bool {
        let down = self.down.load(Ordering::Relaxed);
        if down && self.sink.has_caught_up() {
            self.tell_down(false);
            return false;
        }
        down
    }

    /// SIGHUP.
    pub fn reopen(&self) -> Result<(), SinkError> {
        self.sink.reopen()
    }

    /// Before exit; see [`Sink::flush`].
    pub fn flush(&self, limit: Duration) -> bool {
        self.sink.flush(limit)
    }

    fn note(&self, taken: bool) {
        if !taken {
            self.metrics.audit_failures.inc();
        }
        // Read first: the flag hardly ever changes, and a write would pull its cache line from the other workers.
        if self.down.load(Ordering::Relaxed) == taken {
            self.tell_down(!taken);
        }
    }

    fn tell_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
        self.metrics.audit_is_up(!down);
    }
}

struct Worker {
    records: Arc<Records>,
    id: LaneId,
    lines: prometheus::IntCounter,
    cells: Arc<Cells>,
    /// Worker-local, so never contended: it is a `Mutex` only for entries to be `Send`.
    state: Mutex<State>,
}

struct State {
    lane: Lane,
    flows: u64,
    spare: Vec<Vec<u8>>,
    /// Why entries are dropped open in this moment, where it is known.
    gives_up: Option<Reason>,
    /// Its `end` line is written: a call of ours that is still under way leaves its intent alone.
    ended: bool,
}

impl Drop for Worker {
    /// Nobody writes to its lane any more; whether that was in order is for [`Records::end`] to say.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.lane.has_begun() && !state.ended {
            let lane = std::mem::replace(&mut state.lane, Lane::new(self.id));
            let mut resting = self.records.resting.lock().unwrap_or_else(PoisonError::into_inner);
            resting.push((lane, self.lines.clone()));
        }
    }
}

impl Worker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a line over; what a pipe still has to acknowledge comes back.
    fn append(
        &self,
        build: impl FnOnce(&mut Json<'_>, &Stamp<'_>),
        closers: &str,
    ) -> Result<Option<Acknowledgement>, AuditDown> {
        let mut state = self.state();
        if state.ended {
            return Err(AuditDown);
        }
        let handed = state.lane.append(&self.records.sink, build, closers);
        drop(state);
        match handed {
            Ok(Handed::Done) => {
                self.lines.inc();
                self.records.note(true);
                Ok(None)
            }
            Ok(Handed::Pending(acknowledgement)) => {
                self.lines.inc();
                Ok(Some(acknowledgement))
            }
            Err(down) => {
                self.records.note(false);
                Err(down)
            }
        }
    }

    /// [`Self::acknowledged`] on a thread that may block.
    fn acknowledged_blocking(&self, pending: Option<Acknowledgement>) -> Result<(), AuditDown> {
        let Some(pending) = pending else { return Ok(()) };
        let result = pending.wait_blocking();
        self.records.note(result.is_ok());
        result
    }

    async fn acknowledged(&self, pending: Option<Acknowledgement>) -> Result<(), AuditDown> {
        let Some(pending) = pending else { return Ok(()) };
        let result = pending.wait().await;
        self.records.note(result.is_ok());
        result
    }
}

/// A worker's way to the records; clones share its lane.
#[derive(Clone)]
pub struct Recorder(Arc<Worker>);

impl Recorder {
    /// A request on a connection that arrived.
    pub fn open(&self, prelude: &Prelude) -> Entry {
        self.entry(prelude, || None)
    }

    /// What the requests of a connection that arrived say alike.
    pub fn prelude(arrival: &Arrival) -> Prelude {
        Prelude::of(Source::Arrival(arrival))
    }

    /// A connection that never became an arrival: a refused hello or CONNECT. `asked` is the name it asked for, as
    /// received.
    pub fn open_connection(&self, door: Door, peer: SocketAddr, asked: Option<&[u8]>) -> Entry {
        let call = || asked.map(|asked| String::from_utf8_lossy(asked).into_owned());
        self.entry(&Prelude::of(Source::Peer { door, peer, asked }), call)
    }

    /// Says why the entry that `drop` drops open ends: not because its client went away.
    pub fn gives_up(&self, why: Reason, drop: impl FnOnce()) {
        self.0.state().gives_up = Some(why);
        drop();
        self.0.state().gives_up = None;
    }

    /// A call of our own (`origin: exeat`).
    pub fn open_own(&self) -> Entry {
        self.entry(&Prelude::of(Source::Own), || None)
    }

    /// A client shook hands and went away unasked: no attempt, but it tells something where nothing else does.
    pub fn note_left(&self, told: &str) {
        if let Some(tally) = self.0.records.tally.get() {
            tally.note_left(told);
        }
    }

    /// `None` where no data is recorded.
    pub fn data_rules(&self) -> Option<&DataRules> {
        self.0.records.settings.data.as_ref()
    }

    /// What would help a client that does not believe our CA, for the summary; true where that is new. `None`: there
    /// will be no summary.
    pub fn note_distrust(&self, told: &str, named: bool) -> Option<bool> {
        Some(self.0.records.tally.get()?.note_distrust(told, named))
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.records.metrics
    }

    fn entry(&self, prelude: &Prelude, call: impl FnOnce() -> Option<String>) -> Entry {
        let (number, buffer) = {
            let mut state = self.0.state();
            state.flows += 1;
            (state.flows, state.spare.pop())
        };
        let call = self.0.records.tally.get().and_then(|_| call());
        let buffer = buffer.unwrap_or_else(|| Vec::with_capacity(SPARE_BYTES / 2));
        Entry {
            worker: Arc::clone(&self.0),
            flow: FlowId { lane: self.0.id, number },
            facts: Facts::open(buffer, prelude),
            call,
            opened: Instant::now(),
            left: None,
            carried: 0,
            closed: false,
        }
    }
}

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
