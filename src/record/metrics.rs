//! What is counted, by Prometheus' names. Labels come from closed sets only: never a host, path, key or statement.
//!
//! Filled by `Entry::close` for requests, and by the data path itself for what is no request (handshakes, pool,
//! reloads); read by `admin.rs`. Children are resolved once, so that counting is an atomic addition.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::engine::facts::{Door, PayloadOutcome, Protocol, SignatureState, TlsVersion, words};
use crate::engine::reason::Reason;

use super::attempt::{Decision, Labels, Outcome};

words! {
    pub enum Leg {
        Client = "client",
        Upstream = "upstream",
    }
}

words! {
    pub enum PoolState {
        /// Waiting for a request.
        Idle = "idle",
        /// Carrying one.
        Active = "active",
        /// Not there yet: requests that wait for one.
        Wanted = "wanted",
    }
}

words! {
    /// What there is only so much of, for all workers together.
    pub enum Resource {
        /// Connections of clients.
        Connections = "connections",
        /// Connections to origins in the making.
        Dials = "dials",
        Tunnels = "tunnels",
        /// Bytes of bodies that are read before they are judged.
        Inspection = "inspection",
    }
}

words! {
    pub enum Reload {
        Applied = "applied",
        Unchanged = "unchanged",
        /// The old policy stays.
        Refused = "refused",
    }
}

/// A Lambda `Invoke` may take 15 minutes, a local cache answers in a fraction of a millisecond.
const REQUEST_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 900.0];
/// Verifying and deciding is a matter of microseconds; hashing a held body of some MiB of milliseconds.
const DECISION_SECONDS: &[f64] = &[5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 1e-2, 1e-1];

/// A value of a closed set, as the place it has in an array.
trait Word: Copy + 'static {
    const WORDS: &'static [&'static str];
    fn place(self) -> usize;
}

macro_rules! word {
    ($($name:ty),+) => { $(
        impl Word for $name {
            const WORDS: &'static [&'static str] = &{
                let mut words = [""; <$name>::ALL.len()];
                let mut at = 0;
                while at < words.len() {
                    words[at] = <$name>::ALL[at].as_str();
                    at += 1;
                }
                words
            };
            fn place(self) -> usize {
                self as usize
            }
        }
    )+ };
}
word!(
    Door,
    Decision,
    Reason,
    Protocol,
    SignatureState,
    PayloadOutcome,
    TlsVersion,
    Leg,
    PoolState,
    Resource,
    Reload
);

/// Counters of one label, all present from the start.
struct Row<W: Word>(Vec<IntCounter>, std::marker::PhantomData<W>);

impl<W: Word> Row<W> {
    fn new(registry: &Registry, name: &str, help: &str, label: &str) -> Self {
        let vec = register(registry, IntCounterVec::new(Opts::new(name, help), &[label]));
        Self(W::WORDS.iter().map(|word| vec.with_label_values(&[word])).collect(), std::marker::PhantomData)
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
    request_seconds: Histogram,
    decision_seconds: Histogram,
    upstream_seconds: Histogram,
    signatures: Row<SignatureState>,
    payloads: Row<PayloadOutcome>,
    handshakes: [Row<TlsVersion>; Leg::ALL.len()],
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
    reloads: Row<Reload>,
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
        let leg = |leg: &Leg| {
            let child = |version: &&str| handshakes.with_label_values(&[leg.as_str(), version]);
            Row(TlsVersion::WORDS.iter().map(child).collect(), std::marker::PhantomData)
        };
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
            request_seconds: histogram(
                r,
                "exeat_request_seconds",
                "From request to answer.",
                REQUEST_SECONDS,
            ),
            decision_seconds: histogram(
                r,
                "exeat_decision_seconds",
                "Verifying and deciding.",
                DECISION_SECONDS,
            ),
            upstream_seconds: histogram(
                r,
                "exeat_upstream_seconds",
                "From the first byte sent upstream to the answer's head.",
                REQUEST_SECONDS,
            ),
            signatures: Row::new(r, "exeat_signatures_total", "Signatures looked at.", "state"),
            payloads: Row::new(r, "exeat_payload_total", "Bodies compared with what was signed.", "outcome"),
            handshakes: [leg(&Leg::Client), leg(&Leg::Upstream)],
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
            reloads: Row::new(r, "exeat_policy_reloads_total", "Policy reloads.", "result"),
            registry,
        }
    }

    pub fn handshake(&self, leg: Leg, version: TlsVersion) {
        self.handshakes[leg.place()].of(version).inc();
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
    }

    /// Lanes are workers: as many as the machine has cores.
    pub(super) fn audit_lines(&self, lane: u16) -> IntCounter {
        self.lanes.with_label_values(&[&lane.to_string()])
    }

    /// All that one ended attempt counts for. Our own calls count nothing here.
    pub(super) fn count(&self, labels: &Labels, outcome: &Outcome<'_>, took: Duration) {
        let Some(door) = labels.door else { return };
        let reason = outcome.reason();
        self.requests.of(door, labels.decision, reason, labels.protocol).inc();
        if let Some(reason) = reason {
            self.refusals.of(reason).inc();
        }
        if labels.decision == Decision::None {
            return;
        }
        self.request_seconds.observe(took.as_secs_f64());
        self.decision_seconds.observe(labels.spent.as_secs_f64());
        if let Some(upstream) = &outcome.upstream {
            self.upstream_seconds.observe(upstream.waited.as_secs_f64());
        }
        if let Some(signature) = labels.signature {
            self.signatures.of(signature).inc();
            self.payloads.of(outcome.payload).inc();
        }
    }

    /// Prometheus' text format, version 0.0.4.
    pub fn text(&self) -> Vec<u8> {
        if let Some(gauged) = self.gauged.get() {
            gauged(self);
        }
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("a Vec takes all that is written");
        text
    }
}

/// Names and labels are literals of this file.
fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("a metric's name and labels are well formed");
    registry.register(Box::new(collector.clone())).expect("each metric is registered once");
    collector
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_words_of_each_set() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!((reason.place(), Reason::WORDS[place]), (place, reason.as_str()));
        }
    }

    #[test]
    fn counts_an_attempt_under_its_words_and_nothing_for_our_own_calls() {
        let metrics = Metrics::new("1.2.3");
        let mut labels = Labels {
            door: Some(Door::Forward),
            decision: Decision::Deny,
            protocol: Some(Protocol::S3),
            signature: Some(SignatureState::Bad),
            spent: Duration::from_micros(20),
        };
        let outcome = Outcome::refused(Reason::SigV4Signature, 403, "no");
        metrics.count(&labels, &outcome, Duration::from_millis(2));
        labels.door = None;
        metrics.count(&labels, &outcome, Duration::from_millis(2));
        metrics.handshake(Leg::Client, TlsVersion::Tls13);
        metrics.gauged_by(|metrics| {
            metrics.pool(PoolState::Idle).set(7);
            metrics.in_use(Resource::Dials).set(3);
        });
        metrics.reload(Reload::Refused);
        let text = String::from_utf8(metrics.text()).unwrap();
        for line in [
            r#"exeat_requests_total{decision="deny",door="forward",protocol="s3",reason="sigv4.signature"} 1"#,
            r#"exeat_refusals_total{reason="sigv4.signature"} 1"#,
            r#"exeat_refusals_total{reason="policy.denied"} 0"#,
            r#"exeat_signatures_total{state="bad"} 1"#,
            r#"exeat_payload_total{outcome="unchecked"} 1"#,
            r#"exeat_decision_seconds_bucket{le="0.000025"} 1"#,
            "exeat_upstream_seconds_count 0",
            r#"exeat_handshakes_total{leg="client",version="TLSv1.3"} 1"#,
            r#"exeat_pool_connections{state="idle"} 7"#,
            r#"exeat_in_use{resource="dials"} 3"#,
            r#"exeat_policy_reloads_total{result="refused"} 1"#,
            r#"exeat_build_info{version="1.2.3"} 1"#,
        ] {
            assert!(text.lines().any(|got| got == line), "{line} is not in\n{text}");
        }
    }
}
