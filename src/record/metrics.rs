//! What is counted, by Prometheus' names. Labels come from closed sets only: never a host, path, key or statement.
//!
//! Filled by `Entry::close` for requests, and by the data path itself for what is no request (handshakes, pool,
//! reloads); read by `admin.rs`. Children are resolved once, so that counting is an atomic addition; what each request
//! counts stands in its worker's own cells. docs/metrics.md lists all names, and a test holds it to this file.

mod cells;
mod labels;
mod process;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use self::cells::{Bound, Counts, Timing, write_counts, write_timings};
use self::labels::Word;
pub use self::labels::{Connection, Group, Leg, PoolState, Reload, Resource};
use crate::engine::facts::{Auth, Door, PayloadOutcome, Protocol, SignatureState, TlsFacts, TlsVersion};
use crate::engine::reason::Reason;

use super::attempt::{Decision, Labels, Outcome, Spent};

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// A Lambda `Invoke` may take 15 minutes, a local cache answers in a fraction of a millisecond.
const REQUEST_SECONDS: &[Bound] = &[
    (micros(1_000), "0.001"),
    (micros(2_500), "0.0025"),
    (micros(5_000), "0.005"),
    (micros(10_000), "0.01"),
    (micros(25_000), "0.025"),
    (micros(50_000), "0.05"),
    (micros(100_000), "0.1"),
    (micros(250_000), "0.25"),
    (micros(500_000), "0.5"),
    (micros(1_000_000), "1"),
    (micros(2_500_000), "2.5"),
    (micros(5_000_000), "5"),
    (micros(10_000_000), "10"),
    (micros(60_000_000), "60"),
    (micros(900_000_000), "900"),
];
/// Verifying and deciding is a matter of microseconds; hashing a held body of some MiB of milliseconds.
const DECISION_SECONDS: &[Bound] = &[
    (micros(5), "0.000005"),
    (micros(10), "0.00001"),
    (micros(25), "0.000025"),
    (micros(50), "0.00005"),
    (micros(100), "0.0001"),
    (micros(250), "0.00025"),
    (micros(1_000), "0.001"),
    (micros(10_000), "0.01"),
    (micros(100_000), "0.1"),
];

/// What one worker counts for each request.
pub struct Cells {
    request_seconds: Timing,
    verify_seconds: Timing,
    decide_seconds: Timing,
    added_seconds: Timing,
    upstream_seconds: Timing,
    upstream_requests: Counts,
    signatures: Counts,
    auth: Counts,
    payloads: Counts,
}

impl Cells {
    fn new() -> Self {
        Self {
            request_seconds: Timing::new(REQUEST_SECONDS),
            verify_seconds: Timing::new(DECISION_SECONDS),
            decide_seconds: Timing::new(DECISION_SECONDS),
            added_seconds: Timing::new(DECISION_SECONDS),
            upstream_seconds: Timing::new(REQUEST_SECONDS),
            upstream_requests: Counts::new::<Connection>(),
            signatures: Counts::new::<SignatureState>(),
            auth: Counts::new::<Auth>(),
            payloads: Counts::new::<PayloadOutcome>(),
        }
    }
}

/// Counters of one label, all present from the start.
struct Row<W: Word>(Vec<IntCounter>, std::marker::PhantomData<W>);

impl<W: Word> Row<W> {
    fn new(registry: &Registry, name: &str, help: &str, label: &str) -> Self {
        let vec = register(registry, IntCounterVec::new(Opts::new(name, help), &[label]));
        Self(W::WORDS.iter().map(|word| vec.with_label_values(&[word])).collect(), std::marker::PhantomData)
    }

    /// The row of one leg.
    fn beside(vec: &IntCounterVec, leg: Leg) -> Self {
        let child = |word: &&str| vec.with_label_values(&[leg.as_str(), word]);
        Self(W::WORDS.iter().map(child).collect(), std::marker::PhantomData)
    }

    fn of(&self, word: W) -> &IntCounter {
        &self.0[word.place()]
    }
}

/// `exeat_requests_total`: four labels make some thousands of children, so a child appears with its first request.
struct Grid {
    vec: IntCounterVec,
    children: Vec<OnceLock<IntCounter>>,
}

const REASONS: usize = Reason::ALL.len() + 1;
const PROTOCOLS: usize = Protocol::ALL.len() + 1;
const DECISIONS: usize = Decision::ALL.len();

impl Grid {
    fn of(
        &self,
        door: Door,
        decision: Decision,
        reason: Option<Reason>,
        protocol: Option<Protocol>,
    ) -> &IntCounter {
        let place = door.place() * DECISIONS + decision.place();
        let place = place * REASONS + reason.map_or(0, |reason| 1 + reason.place());
        let place = place * PROTOCOLS + protocol.map_or(0, |protocol| 1 + protocol.place());
        self.children[place].get_or_init(|| {
            self.vec.with_label_values(&[
                door.as_str(),
                decision.as_str(),
                reason.map_or("", Reason::as_str),
                protocol.map_or("", Protocol::as_str),
            ])
        })
    }
}

/// Sets the gauges from what they tell of, when somebody asks: so nothing on a request's path keeps them.
type Gauged = Box<dyn Fn(&Metrics) + Send + Sync>;

pub struct Metrics {
    registry: Registry,
    requests: Grid,
    refusals: Row<Reason>,
    cells: Mutex<Vec<Arc<Cells>>>,
    handshakes: [Row<TlsVersion>; Leg::ALL.len()],
    groups: [Row<Group>; Leg::ALL.len()],
    /// Client hellos refused before a handshake.
    pub hellos_refused: IntCounter,
    /// Clients that rejected our leaf certificate.
    pub client_distrusts: IntCounter,
    /// Accepts that failed: descriptors ran out.
    pub accept_failures: IntCounter,
    /// Names that were asked of the resolver or the upstream proxy.
    pub lookups: IntCounter,
    /// Signed requests that came before, byte for byte.
    pub repeats: IntCounter,
    pool: Vec<IntGauge>,
    in_use: Vec<IntGauge>,
    gauged: OnceLock<Gauged>,
    lanes: IntCounterVec,
    /// Lines that the sink did not take.
    pub audit_failures: IntCounter,
    audit_up: IntGauge,
    reloads: Row<Reload>,
    reload_good: IntGauge,
}

impl Metrics {
    /// `version` is told as `exeat_build_info`.
    pub fn new(version: &str) -> Self {
        let registry = Registry::new();
        let r = &registry;
        let requests = register(
            r,
            IntCounterVec::new(
                Opts::new("exeat_requests_total", "Requests and connections that ended, by decision."),
                &["door", "decision", "reason", "protocol"],
            ),
        );
        let info = Opts::new("exeat_build_info", "Always 1.").const_label("version", version);
        register(r, IntGauge::with_opts(info)).set(1);
        let handshakes = register(
            r,
            IntCounterVec::new(
                Opts::new("exeat_handshakes_total", "TLS handshakes that were completed."),
                &["leg", "version"],
            ),
        );
        let groups = register(
            r,
            IntCounterVec::new(
                Opts::new("exeat_handshake_groups_total", "TLS handshakes by key exchange group."),
                &["leg", "group"],
            ),
        );
        let pool = register(
            r,
            IntGaugeVec::new(Opts::new("exeat_pool_connections", "Connections to origins."), &["state"]),
        );
        let in_use = register(
            r,
            IntGaugeVec::new(
                Opts::new("exeat_in_use", "What is in use of a resource that `limits` bounds."),
                &["resource"],
            ),
        );
        Self {
            requests: Grid {
                vec: requests,
                children: (0..Door::ALL.len() * DECISIONS * REASONS * PROTOCOLS)
                    .map(|_| OnceLock::new())
                    .collect(),
            },
            refusals: Row::new(r, "exeat_refusals_total", "Requests and connections refused.", "reason"),
            cells: Mutex::default(),
            handshakes: [Leg::Client, Leg::Upstream].map(|leg| Row::beside(&handshakes, leg)),
            groups: [Leg::Client, Leg::Upstream].map(|leg| Row::beside(&groups, leg)),
            hellos_refused: counter(r, "exeat_hellos_refused_total", "Client hellos refused."),
            client_distrusts: counter(r, "exeat_client_distrusts_total", "Clients that do not trust our CA."),
            accept_failures: counter(r, "exeat_accept_failures_total", "Accepts that the system refused."),
            lookups: counter(r, "exeat_lookups_total", "Names looked up, by us or by the upstream proxy."),
            repeats: counter(r, "exeat_repeats_total", "Signed requests, reads aside, that had come before."),
            pool: PoolState::WORDS.iter().map(|state| pool.with_label_values(&[state])).collect(),
            in_use: Resource::WORDS.iter().map(|resource| in_use.with_label_values(&[resource])).collect(),
            gauged: OnceLock::new(),
            lanes: register(
                r,
                IntCounterVec::new(
                    Opts::new("exeat_audit_lines_total", "Audit lines handed to the sink."),
                    &["lane"],
                ),
            ),
            audit_failures: counter(
                r,
                "exeat_audit_failures_total",
                "Audit lines that the sink did not take.",
            ),
            audit_up: up(r, "exeat_audit_up", "1 while the audit sink takes lines."),
            reloads: Row::new(r, "exeat_policy_reloads_total", "Policy reloads.", "result"),
            reload_good: up(
                r,
                "exeat_policy_last_reload_successful",
                "0 while a newer policy was refused and the old one stays.",
            ),
            registry,
        }
    }

    pub fn handshake(&self, leg: Leg, tls: &TlsFacts) {
        self.handshakes[leg.place()].of(tls.version).inc();
        self.groups[leg.place()].of(Group::of(tls.group)).inc();
    }

    pub fn pool(&self, state: PoolState) -> &IntGauge {
        &self.pool[state.place()]
    }

    pub fn in_use(&self, resource: Resource) -> &IntGauge {
        &self.in_use[resource.place()]
    }

    /// Who sets the gauges; the first call counts.
    pub fn gauged_by(&self, gauged: impl Fn(&Self) + Send + Sync + 'static) {
        let _ = self.gauged.set(Box::new(gauged));
    }

    pub fn reload(&self, result: Reload) {
        self.reloads.of(result).inc();
        self.reload_good.set(i64::from(result != Reload::Refused));
    }

    /// Told when it changes.
    pub(super) fn audit_is_up(&self, up: bool) {
        self.audit_up.set(i64::from(up));
    }

    /// For a worker of its own.
    pub(super) fn cells(&self) -> Arc<Cells> {
        let cells = Arc::new(Cells::new());
        self.all_cells().push(Arc::clone(&cells));
        cells
    }

    fn all_cells(&self) -> MutexGuard<'_, Vec<Arc<Cells>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lanes are workers: as many as the machine has cores.
    pub(super) fn audit_lines(&self, lane: u16) -> IntCounter {
        self.lanes.with_label_values(&[&lane.to_string()])
    }

    /// All that one ended attempt counts for; `left`: how long after its head a request's first byte went upstream.
    /// Our own calls count nothing here.
    pub(super) fn count(
        &self,
        cells: &Cells,
        labels: &Labels,
        outcome: &Outcome<'_>,
        took: Duration,
        left: Option<Duration>,
    ) {
        let Some(door) = labels.door else { return };
        let reason = outcome.reason();
        self.requests.of(door, labels.decision, reason, labels.protocol).inc();
        if let Some(reason) = reason {
            self.refusals.of(reason).inc();
            if reason == Reason::TlsClientDistrusts {
                self.client_distrusts.inc();
            }
        }
        if labels.decision == Decision::None {
            return;
        }
        cells.request_seconds.observe(took);
        let Spent { all, deciding } = labels.spent;
        cells.verify_seconds.observe(all.saturating_sub(deciding));
        if !deciding.is_zero() {
            cells.decide_seconds.observe(deciding);
        }
        if let Some(upstream) = &outcome.upstream
            && let Some(waited) = upstream.waited
        {
            cells.upstream_seconds.observe(waited);
            cells.upstream_requests.inc(if upstream.reused { Connection::Reused } else { Connection::New });
            // Else it holds the time of a dial, which is the network's.
            if let Some(left) = left.filter(|_| upstream.reused) {
                cells.added_seconds.observe(left);
            }
        }
        if let Some((auth, signature)) = labels.signed {
            cells.auth.inc(auth);
            cells.signatures.inc(signature);
            cells.payloads.inc(outcome.payload);
        }
    }

    /// Prometheus' text format, version 0.0.4.
    pub fn text(&self) -> Vec<u8> {
        if let Some(gauged) = self.gauged.get() {
            gauged(self);
        }
        let mut text = Vec::with_capacity(32 * 1024);
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("a Vec takes all that is written");
        text.extend_from_slice(self.cells_text().as_bytes());
        text
    }

    fn cells_text(&self) -> String {
        let mut text = String::new();
        let cells = self.all_cells();
        let all = || cells.iter();
        let help = "From request to answer.";
        let timings = all().map(|cells| &cells.request_seconds);
        write_timings(&mut text, "exeat_request_seconds", help, timings, REQUEST_SECONDS);
        let help = "From request to decision: reading, recognising and verifying, with the wait for a body that is needed.";
        let timings = all().map(|cells| &cells.verify_seconds);
        write_timings(&mut text, "exeat_verify_seconds", help, timings, DECISION_SECONDS);
        let help = "Deciding: the policy alone.";
        let timings = all().map(|cells| &cells.decide_seconds);
        write_timings(&mut text, "exeat_decide_seconds", help, timings, DECISION_SECONDS);
        let help = "From a request's head to its first byte upstream, on a connection that was open already.";
        let timings = all().map(|cells| &cells.added_seconds);
        write_timings(&mut text, "exeat_added_seconds", help, timings, DECISION_SECONDS);
        let help = "From the first byte sent upstream to the answer's head.";
        let timings = all().map(|cells| &cells.upstream_seconds);
        write_timings(&mut text, "exeat_upstream_seconds", help, timings, REQUEST_SECONDS);
        let (name, help) =
            ("exeat_upstream_requests_total", "Requests that went upstream, by their connection.");
        write_counts::<Connection>(
            &mut text,
            name,
            help,
            "connection",
            &all().map(|cells| &cells.upstream_requests),
        );
        let (name, help) = ("exeat_auth_total", "Requests by how they say who they are.");
        write_counts::<Auth>(&mut text, name, help, "auth", &all().map(|cells| &cells.auth));
        let (name, help) = ("exeat_signatures_total", "Signatures looked at.");
        write_counts::<SignatureState>(&mut text, name, help, "state", &all().map(|cells| &cells.signatures));
        let (name, help) = ("exeat_payload_total", "Bodies compared with what was signed.");
        write_counts::<PayloadOutcome>(&mut text, name, help, "outcome", &all().map(|cells| &cells.payloads));
        process::write(&mut text);
        text
    }
}

/// Names and labels are literals of this file.
fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("a metric's name and labels are well formed");
    registry.register(Box::new(collector.clone())).expect("each metric is registered once");
    collector
}

/// A gauge that is 1 until something is wrong.
fn up(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge = register(registry, IntGauge::new(name, help));
    gauge.set(1);
    gauge
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

#[cfg(test)]
mod tests;
