//! The record of every attempt: what was asked, in whose name, what we decided, and what came of it.
//!
//! Last in the flow and first to run: `Recorder::open` comes right after accept, `Entry::intend` before a request's
//! first byte goes upstream, `Entry::close` before the answer's last byte. A dropped [`Entry`] records `aborted`.
//! Each worker has a [`Recorder`] with a lane of its own, so workers share the sink and nothing else.

pub mod attempt;
pub mod data;
mod entry;
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
use std::time::Duration;

use crate::engine::data::DataRules;
use crate::engine::facts::{Arrival, Door};
use crate::engine::reason::Reason;

use self::attempt::Source;
pub use self::attempt::{Decision, End, Outcome, Request, Retried, Spent, Upstream};
pub use self::entry::Entry;
pub use self::event::Prelude;
use self::json::Json;
pub use self::lane::{BootId, FlowId};
use self::lane::{Lane, LaneId, Stamp};
pub use self::leg::LegText;
use self::live::Live;
use self::metrics::Cells;
pub use self::metrics::Metrics;
use self::refusals::Refusals;
pub use self::sink::{AuditDown, Rotation, Sink, SinkError, Target};
use self::sink::{Handed, pipe::Acknowledgement};
pub use self::tally::Tally;

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
        Entry::open(&self.0, prelude, || None)
    }

    /// What the requests of a connection that arrived say alike.
    pub fn prelude(arrival: &Arrival) -> Prelude {
        Prelude::of(Source::Arrival(arrival))
    }

    /// A connection that never became an arrival: a refused hello or CONNECT. `asked` is the name it asked for, as
    /// received.
    pub fn open_connection(&self, door: Door, peer: SocketAddr, asked: Option<&[u8]>) -> Entry {
        let call = || asked.map(|asked| String::from_utf8_lossy(asked).into_owned());
        Entry::open(&self.0, &Prelude::of(Source::Peer { door, peer, asked }), call)
    }

    /// Says why the entry that `drop` drops open ends: not because its client went away.
    pub fn gives_up(&self, why: Reason, drop: impl FnOnce()) {
        self.0.state().gives_up = Some(why);
        drop();
        self.0.state().gives_up = None;
    }

    /// A call of our own (`origin: exeat`).
    pub fn open_own(&self) -> Entry {
        Entry::open(&self.0, &Prelude::of(Source::Own), || None)
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
}
