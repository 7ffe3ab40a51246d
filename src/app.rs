//! The composition root: settings in, a running program out. Start, reload, drain.
//!
//! Everything that can fail at start does so before the first door opens, and says so in a sentence.

mod own_calls;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

use self::own_calls::OwnCalls;
use crate::admin::socket::{OperatorSocket, SocketError, SocketFile};
use crate::admin::{self, AdminState};
use crate::config::{self, AuditSink, CaSource, Config, PolicySource, RecordSettings};
use crate::engine::atlas::Atlas;
use crate::engine::policy::{Mode, Policy, Problem, Severity};
use crate::keys::{self, Keyring, Refresher};
use crate::proxy::body::Budget;
use crate::proxy::caller::Callers;
use crate::proxy::distrust::Watch;
use crate::proxy::gate::Gate;
use crate::proxy::http2::pool::Pool as Streams;
use crate::proxy::lookups::Lookups;
use crate::proxy::pool::{Count, Pool};
use crate::proxy::repeats::Signatures;
use crate::proxy::spoken::Spoken;
use crate::proxy::{OriginStream, Shared, Worker, listener};
use crate::record::metrics::{PoolState, Reload, Resource};
use crate::record::{BootId, Metrics, Records, Rotation, Settings, Sink, SinkError, Target};
use crate::tls;
use crate::tls::mint::{Mint, MintError};
use crate::tls::origin::{Anchors, OriginTls, TrustError};

/// Lines still in a pipe's queue get this long to leave before exit.
const FLUSH: Duration = Duration::from_secs(1);
/// And this long where the program is told to end now.
const FLUSH_NOW: Duration = Duration::from_millis(100);

/// Why the program did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read policy `{name}`: {error}")]
    PolicyFile { name: String, error: io::Error },
    #[error("{}", lines(.0))]
    Policy(Vec<Problem>),
    #[error(transparent)]
    Keys(#[from] keys::KeysError),
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Audit(#[from] SinkError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

fn lines(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Runs until a signal ends it: SIGTERM or SIGINT drain, a second one exits at once, SIGHUP reloads the policy.
pub fn run(config: Config) -> Result<(), Error> {
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut hangups = signal(SignalKind::hangup())?;
        let mut terminations = signal(SignalKind::terminate())?;
        let mut interrupts = signal(SignalKind::interrupt())?;
        let app = App::start(config)?;
        app.announce();
        loop {
            tokio::select! {
                _ = hangups.recv() => app.reload(),
                _ = terminations.recv() => break,
                _ = interrupts.recv() => break,
            }
        }
        let records = Arc::clone(&app.records);
        tokio::select! {
            () = app.drain() => return Ok(()),
            _ = terminations.recv() => {}
            _ = interrupts.recv() => {}
        }
        tracing::warn!("a second signal: ending now, what is under way is cut");
        records.flush(FLUSH_NOW);
        Ok(())
    });
    // Not dropped: that would wait for workers that still drain. They end with the process.
    runtime.shutdown_background();
    ended
}

/// The program while it runs: what `run` keeps until a signal ends it, and what other verbs run in their own process.
pub struct App {
    shared: Arc<Shared>,
    forward: SocketAddr,
    admin: Option<SocketAddr>,
    jvm: Option<SocketAddr>,
    records: Arc<Records>,
    /// Goes with the program.
    _operator: Option<SocketFile>,
    drain: watch::Sender<bool>,
    not_ready: Arc<AtomicBool>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl App {
    /// Everything is had before the first door opens; the CA certificate is there before a client can come.
    /// Within a tokio runtime, which ends only once the workers have: drain it, or drop it.
    pub fn start(mut config: Config) -> Result<Self, Error> {
        let asked = config.limits.connections;
        config.limits = config.limits.within(descriptors());
        if config.limits.connections < asked {
            let most = config.limits.connections;
            tracing::debug!(
                "`limits.connections` is {most} instead of {asked}: too few descriptors may be opened"
            );
        }
        // First of all: who can't have the door must not touch the certificate of the proxy that has it.
        let bind = |address| listener::bind(address).map_err(|error| Error::Listen { address, error });
        let forward = bind(config.listen)?;
        if let Some(path) = &config.ca_out {
            Mint::retract_ca(path)?;
        }
        let policy = read_policy(&config.policy, config.mode())?;
        let mint = match &config.ca {
            CaSource::InMemory if config.exec.is_some() => Mint::for_a_day(tls::system_clock())?,
            CaSource::InMemory => Mint::in_memory(tls::system_clock())?,
            CaSource::Kept(dir) => Mint::from_dir(dir, &tls::system_clock())?,
            CaSource::Files { cert, key } => Mint::from_files(cert, key, tls::system_clock())?,
        };
        let mint = mint.with_options(&config.tls.client)?;
        let mut anchors = Anchors::load(config.upstream_roots, &config.upstream_ca)?;
        for der in config.exec.iter().flat_map(|exec| &exec.trusted) {
            // A bundle of somebody else's: what can't be a root in it is not ours to complain about.
            if let Err(what) = anchors.add(&der.as_slice().into()) {
                tracing::debug!(what, "a certificate of the environment's bundles is left out");
            }
        }
        let origin_tls = OriginTls::with_options(anchors, &config.tls.origins, mint.ca_der())?;
        let target = match &config.audit {
            AuditSink::Stdout => Target::Stdout,
            AuditSink::File(path) => Target::File { path: path.clone(), rotation: rotation(&config) },
            AuditSink::Socket(path) => Target::Socket(path.clone()),
            AuditSink::Nowhere => Target::File { path: "/dev/null".into(), rotation: None },
        };
        let settings = Settings { lines: config.audit != AuditSink::Nowhere, data: config.records.rules() };
        let boot = BootId::random().ok_or_else(|| io::Error::other("the system gives no randomness"))?;
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
        let records = Records::new(Sink::open(&target)?, metrics, settings, boot);
        let own_calls = Arc::new(OwnCalls::new(Arc::clone(&records)));
        let mut keyring = Keyring::new(config.credentials.clone(), config.accounts.clone());
        if let Err(error) = keyring.fetch(&variable, &read_file, &*own_calls) {
            tracing::warn!("{error}");
        }
        let known = keyring.known(&variable, &read_file)?;
        let admin = config.admin.map(bind).transpose()?;
        let operator = config.admin_socket.as_deref().map(OperatorSocket::bind).transpose()?;
        let jvm = match config.exec {
            Some(_) if cfg!(target_os = "linux") => Some(bind(config.listen)?),
            _ => None,
        };
        let mut own = Vec::new();
        for socket in admin.iter().chain(&jvm).chain([&forward]) {
            own.extend(socket.local_addr()?.as_socket());
        }
        if let Some(path) = &config.ca_out {
            mint.publish_ca(path)?;
        }
        let keys = Arc::new(ArcSwap::from_pointee(known));
        let refresher = Refresher::new(keyring, variable, read_file, own_calls, Arc::clone(&keys), tls::now);
        let (drain, draining) = watch::channel(false);
        let not_ready = Arc::new(AtomicBool::new(false));
        let inspection = config.limits.inspection.map_or_else(inspection_budget, NonZeroUsize::get);
        let budget = Budget::new(inspection, &config.limits);
        let shared = Arc::new(Shared {
            policy: ArcSwap::from_pointee(policy),
            retired: ArcSwapOption::empty(),
            keys,
            refresher,
            atlas: Atlas::built_in(),
            mint,
            origin_tls,
            budget,
            gate: Gate::new(&config.limits),
            dials: Semaphore::new(config.limits.dials.get()),
            tunnels: Arc::new(Semaphore::new(config.limits.tunnels.get())),
            lookups: Lookups::new(config.limits.lookups),
            explained: AtomicI64::new(0),
            own,
            watch: Watch::default(),
            spoken: Spoken::default(),
            repeats: Signatures::within(config.max_skew),
            callers: Callers::default(),
            config,
        });
        let keeping = Arc::clone(&shared);
        tokio::spawn(async move { keeping.refresher.keep().await });
        let mut admin_address = None;
        let state = AdminState { records: Arc::clone(&records), draining: Arc::clone(&not_ready) };
        if let Some(socket) = admin {
            let listener = TcpListener::from_std(listener::open(socket)?)?;
            admin_address = Some(listener.local_addr()?);
            tokio::spawn(admin::serve(listener, state.clone(), std::future::pending()));
        }
        let mut operator_file = None;
        if let Some(socket) = operator {
            // From now on they are kept.
            records.refusals();
            let (listener, file) = socket.open()?;
            operator_file = Some(file);
            tokio::spawn(admin::serve_socket(listener, state, std::future::pending()));
        }
        if matches!(shared.config.ca, CaSource::Kept(_)) {
            tokio::spawn(keep_ca(Arc::clone(&shared)));
        }
        let forward = listener::open(forward)?;
        let address = forward.local_addr()?;
        let jvm = jvm.map(listener::open).transpose()?;
        let jvm_address = jvm.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
        let mut workers = Vec::new();
        let limits = &shared.config.limits;
        let of_origin = limits.connections_per_origin.get().div_ceil(shared.config.workers.get());
        let worker = |by_owner| Worker {
            shared: Arc::clone(&shared),
            recorder: records.recorder(),
            pool: Pool::new(of_origin),
            streams: Arc::default(),
            draining: draining.clone(),
            by_owner,
        };
        let mut pools = Vec::new();
        let mut start = |by_owner, door| {
            let worker = worker(by_owner);
            pools.push((Arc::clone(&worker.pool), Arc::clone(&worker.streams)));
            workers.push(spawn(worker, door, shared.config.limits.drain));
        };
        for _ in 0..shared.config.workers.get() {
            start(false, forward.try_clone()?);
        }
        if let Some(jvm) = jvm {
            start(true, jvm);
        }
        let of = Arc::clone(&shared);
        records.metrics.gauged_by(move |metrics| gauge(metrics, &of, &pools));
        Ok(Self {
            shared,
            forward: address,
            admin: admin_address,
            jvm: jvm_address,
            records,
            _operator: operator_file,
            drain,
            not_ready,
            workers,
        })
    }

    /// Where clients find the proxy: the port is the real one where the settings said 0.
    pub fn forward(&self) -> SocketAddr {
        self.forward
    }

    /// Where `/metrics` is, where the settings name an admin door.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The door of `exec` for clients that can't bring a password, where the kernel tells whose they are.
    pub(crate) fn jvm(&self) -> Option<SocketAddr> {
        self.jvm
    }

    /// The CA certificate that clients must trust.
    pub fn ca_pem(&self) -> &str {
        self.shared.mint.ca_pem()
    }

    pub(crate) fn records(&self) -> &Arc<Records> {
        &self.records
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Takes the policy anew; a bad one keeps the old. The audit file is opened again, for those who rotate it.
    fn reload(&self) {
        match read_policy(&self.shared.config.policy, self.shared.config.mode()) {
            Ok(policy) => {
                tracing::info!(policy = policy.hash(), "policy reloaded");
                let before = self.shared.policy.load_full();
                if before.id() != policy.id() {
                    self.shared.retired.store(Some(before));
                }
                self.shared.policy.store(Arc::new(policy));
                self.records.metrics.reload(Reload::Applied);
            }
            Err(error) => {
                tracing::error!(%error, "policy not reloaded, the old one stays");
                self.records.metrics.reload(Reload::Refused);
            }
        }
        if let Err(error) = self.records.reopen() {
            tracing::error!(%error, "audit sink not reopened");
        }
    }

    /// What is enforced, said once, before anything is.
    fn announce(&self) {
        let shared = &self.shared;
        let named = match &shared.config.policy {
            PolicySource::BuiltIn => {
                "the built-in policy (AWS calls signed by our keys or accounts, nothing else)".to_owned()
            }
            PolicySource::File(path) => format!("policy {}", path.display()),
            PolicySource::Env(name) => format!("policy env:{name}"),
        };
        eprintln!(
            "exeat {}: listening on {} under {named} with {} known keys",
            env!("CARGO_PKG_VERSION"),
            self.forward,
            shared.keys.load().len()
        );
        if let Some(admin) = self.admin {
            eprintln!("exeat: admin door on {admin}");
        }
        if let Some(proxy) = &shared.config.upstream_proxy {
            eprintln!("exeat: origins are reached through {proxy}");
        }
        for (placed, target) in shared.policy.load().tunnelled() {
            eprintln!(
                "exeat: `{}` tunnels to {target}: what is inside is not judged, only the floor is held",
                placed.id
            );
        }
        if shared.policy.load().default_report() {
            eprintln!("exeat: `default: report`: who signs and where it goes is observed, not enforced");
        }
    }

    /// Takes nothing new, finishes what is under way, and leaves the records whole.
    pub async fn drain(self) {
        self.not_ready.store(true, Ordering::Relaxed);
        let _ = self.drain.send(true);
        for worker in self.workers {
            let _ = worker.await;
        }
        self.records.end();
        self.records.flush(FLUSH);
    }
}

/// What is in use now, for whoever asks `/metrics`.
fn gauge(metrics: &Metrics, shared: &Shared, pools: &[(Arc<Pool<OriginStream>>, Arc<Streams>)]) {
    let set =
        |gauge: &prometheus::IntGauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    let mut all = Count::default();
    for (pool, streams) in pools {
        // A shared connection has its slot in the one and is kept by the other, which lets go of what has ended.
        let unused = streams.idle();
        let count = pool.count();
        all.idle += count.idle + unused;
        all.active += count.active.saturating_sub(unused);
        all.wanted += count.wanted;
    }
    set(metrics.pool(PoolState::Idle), all.idle);
    set(metrics.pool(PoolState::Active), all.active);
    set(metrics.pool(PoolState::Wanted), all.wanted);
    set(metrics.in_use(Resource::Connections), shared.gate.open());
    let dials = shared.config.limits.dials.get() - shared.dials.available_permits();
    set(metrics.in_use(Resource::Dials), dials);
    let tunnels = shared.config.limits.tunnels.get() - shared.tunnels.available_permits();
    set(metrics.in_use(Resource::Tunnels), tunnels);
    set(metrics.in_use(Resource::Inspection), shared.budget.in_use());
}

/// Renews a kept CA while we run, long before its leaves would end with it.
async fn keep_ca(shared: Arc<Shared>) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    loop {
        tokio::time::sleep(DAY).await;
        let renewed =
            shared.mint.renew().and_then(|renewed| match (&shared.config.ca, &shared.config.ca_out) {
                (CaSource::Kept(dir), Some(path)) if renewed => {
                    Mint::from_dir(dir, &tls::system_clock())?.publish_ca(path)
                }
                _ => Ok(()),
            });
        if let Err(error) = renewed {
            tracing::error!(%error, "the kept CA was not renewed");
        }
    }
}

fn rotation(config: &Config) -> Option<Rotation> {
    let RecordSettings { rotate_size: bytes, rotate_age: age, keep, .. } = config.records;
    (bytes.is_some() || age.is_some()).then_some(Rotation { bytes, age, keep })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn read_file(path: &std::path::Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

/// A worker's thread: its own runtime, so that nothing on a request's path is shared between threads.
fn spawn(worker: Worker, listener: std::net::TcpListener, grace: Duration) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime.and_then(|runtime| runtime.block_on(listener::run(worker, listener, grace)));
        if let Err(error) = result {
            tracing::error!(%error, "a worker ended");
        }
    })
}

/// A policy as it is enforced, warnings logged.
pub(crate) fn read_policy(source: &PolicySource, mode: Mode) -> Result<Policy, Error> {
    let (name, text) = match source {
        PolicySource::BuiltIn => return Ok(Policy::built_in(mode)),
        PolicySource::File(path) => (path.display().to_string(), config::read_page(path)),
        PolicySource::Env(name) => {
            let missing = || io::Error::new(io::ErrorKind::NotFound, "the variable is not set");
            (format!("env:{name}"), std::env::var(name).map_err(|_| missing()))
        }
    };
    let text = text.map_err(|error| Error::PolicyFile { name: name.clone(), error })?;
    let (policy, warnings) = Policy::read(&name, &text, Atlas::built_in()).map_err(Error::Policy)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(policy.with_sign_in(mode))
}

/// As many descriptors as may be had: the usual 1,024 are for programs that hand them to `select`. `exec` doesn't ask,
/// since its child would inherit them.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }) {
        tracing::debug!(%error, "the limit on descriptors stays");
    }
}

fn descriptors() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A quarter of the memory we may use (cgroup v2's limit, where there is one).
fn inspection_budget() -> usize {
    const WITHOUT_LIMIT: usize = 256 * 1024 * 1024;
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    limit
        .and_then(|text| text.trim().parse::<usize>().ok())
        .map_or(WITHOUT_LIMIT, |limit| (limit / 4).min(WITHOUT_LIMIT))
}
