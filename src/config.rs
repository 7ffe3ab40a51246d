//! What the program runs with: every field a domain type, nothing left to interpret.
//!
//! Flag > `EXEAT_*` > file > default. `cli/run.rs` brings the flags, `config/env.rs` the variables, `config/file.rs`
//! the YAML; [`load`] picks, parses and reports every problem at once. `app.rs` builds the program out of a [`Config`].

mod connect_to;
mod env;
mod file;
mod layer;
mod limits;
mod records;
pub mod schema;
mod show;
mod tls;
mod upstream_proxy;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::facts::{AccountId, Secret, words};
use crate::engine::policy::Mode;
use crate::engine::signature::MAX_SKEW;

pub use connect_to::{ConnectTo, Pattern};
pub(crate) use file::read_page;
pub use layer::{Given, Key, Layer, Origin};
pub use limits::Limits;
pub use records::{OnFailure, RecordSettings};
pub use tls::{LegOptions, OriginOptions, TlsSettings};
pub use upstream_proxy::UpstreamProxy;

/// Settings of `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub listen: SocketAddr,
    pub policy: PolicySource,
    pub audit: AuditSink,
    pub records: RecordSettings,
    pub ca: CaSource,
    /// Where the CA certificate is published before listening.
    pub ca_out: Option<PathBuf>,
    pub upstream_roots: UpstreamRoots,
    /// Extra roots for every host.
    pub upstream_ca: Vec<PathBuf>,
    pub connect_to: ConnectTo,
    /// The proxy that origins are reached through.
    pub upstream_proxy: Option<UpstreamProxy>,
    /// AWS shared-credentials file; every profile in it is a known key.
    pub credentials: Option<PathBuf>,
    /// Accounts that are ours although no key tells so: named by hand in `exec`.
    pub accounts: Vec<AccountId>,
    /// Seconds that a signature's date may be off, either way.
    pub max_skew: i64,
    pub repeats: Repeats,
    /// No admin door unless given.
    pub admin: Option<SocketAddr>,
    /// The operator's own way to the admin door, for our user alone: it also tells of refused flows.
    pub admin_socket: Option<PathBuf>,
    pub workers: NonZeroUsize,
    pub limits: Limits,
    pub tls: TlsSettings,
    /// Set where the program was started to serve one child.
    pub exec: Option<Exec>,
}

impl Config {
    pub fn mode(&self) -> Mode {
        if self.exec.is_some() { Mode::Exec } else { Mode::Run }
    }

    /// Records name the processes of this machine that connect.
    pub fn tells_process(&self) -> bool {
        self.records.process.unwrap_or(self.exec.is_some())
    }
}

/// What `exec` adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Clients must know it: the port is open to everybody on this machine.
    pub password: Secret,
    /// Certificates (DER) that the child believed before: of bundles that variables name, and of the system.
    pub trusted: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySource {
    /// Nothing was named: the built-in one.
    BuiltIn,
    File(PathBuf),
    /// `env:NAME`: the variable holds the policy's text.
    Env(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSink {
    /// `-`.
    Stdout,
    File(PathBuf),
    /// `unix:PATH`: a log collector's socket.
    Socket(PathBuf),
    /// No lines at all: `exec` without `--audit`, where a person watches.
    Nowhere,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaSource {
    /// Made at start; its key never leaves memory.
    InMemory,
    /// Kept in this folder over restarts.
    Kept(PathBuf),
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
}

words! {
    /// Which root certificates are believed upstream, before the extra ones.
    pub enum UpstreamRoots {
        /// Mozilla's, compiled in: a scratch image has no store.
        Webpki = "webpki",
        System = "system",
        /// Only the files of `upstream_ca`.
        None = "none",
    }
}

words! {
    /// What becomes of a signed request, reads aside, that came before, byte for byte.
    pub enum Repeats {
        /// It passes, and its record says so: retries of SDKs within one second look like that.
        Record = "record",
        Refuse = "refuse",
    }
}

/// 3128 is where people expect a proxy; loopback, because nobody else was asked for.
const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)), 3128);
/// A sidecar shares its machine: beyond four, contention costs more than it brings.
const MOST_DEFAULT_WORKERS: usize = 4;
const MOST_WORKERS: usize = 256;
/// More of anything that a limit counts is a slip of the pen.
const MOST_COUNTED: usize = 1_000_000;

/// Everything that was wrong with the settings, one line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Settings, and what to tell the operator about them.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<String>,
}

/// What flags, variables and the file say, before it is understood.
pub struct Sources {
    layers: [Layer; 3],
    /// Only the file has these.
    tls: TlsSettings,
    warnings: Vec<String>,
    /// What is wrong with the file's form.
    problems: Vec<String>,
}

impl Sources {
    /// `names` are the environment's variable names and `lookup` their values; the file is the one `flags` or
    /// `EXEAT_CONFIG` names.
    pub fn read(
        flags: Layer,
        names: impl IntoIterator<Item = String>,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let (variables, warnings) = env::read(names, lookup);
        let path = flags.last(Key::Config).or_else(|| variables.last(Key::Config));
        let (file, tls, problems) = path.map(|given| file::read(given.text.as_ref())).unwrap_or_default();
        Self { layers: [flags, variables, file], tls, warnings, problems }
    }

    /// The values that count: all that the strongest layer with this key has.
    pub fn given(&self, key: Key) -> Vec<Given> {
        self.layers.iter().map(|layer| layer.all(key)).find(|given| !given.is_empty()).unwrap_or_default()
    }

    /// Understands one setting that is a path, for verbs that need no more than that.
    pub fn path(&self, key: Key) -> Result<Option<PathBuf>, Problems> {
        self.alone(|resolver| resolver.path(key))
    }

    /// As [`Self::path`], for an address.
    pub fn address(&self, key: Key) -> Result<Option<SocketAddr>, Problems> {
        self.alone(|resolver| resolver.one(key, ADDRESS, |text| text.parse().ok()))
    }

    fn alone<T>(&self, read: impl FnOnce(&mut Resolver<'_>) -> T) -> Result<T, Problems> {
        let mut problems = self.problems.clone();
        let value = read(&mut Resolver { sources: self, problems: &mut problems });
        if problems.is_empty() { Ok(value) } else { Err(Problems(problems)) }
    }

    /// Understands them all.
    pub fn load(self) -> Result<Loaded, Problems> {
        let config = self.alone(|resolver: &mut Resolver<'_>| resolver.config())?;
        Ok(Loaded { config, warnings: self.warnings })
    }
}

/// Puts the settings together, see [`Sources`].
pub fn load(
    flags: Layer,
    names: impl IntoIterator<Item = String>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    Sources::read(flags, names, lookup).load()
}

const ADDRESS: &str = "ADDR:PORT";

/// Picks each setting from the first layer that has it. A bad value is noted and its default stands in, so that the
/// rest gets looked at too.
struct Resolver<'a> {
    sources: &'a Sources,
    problems: &'a mut Vec<String>,
}

impl Resolver<'_> {
    fn config(&mut self) -> Config {
        let defaults = Limits::default();
        let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = NonZeroUsize::new(cpus.min(MOST_DEFAULT_WORKERS)).unwrap_or(NonZeroUsize::MIN);
        Config {
            listen: self.one(Key::Listen, ADDRESS, |text| text.parse().ok()).unwrap_or(DEFAULT_LISTEN),
            policy: self.one(Key::Policy, "FILE or env:NAME", policy_source).unwrap_or(PolicySource::BuiltIn),
            audit: self.one(Key::Audit, "FILE, unix:SOCKET or -", audit_sink).unwrap_or(AuditSink::Stdout),
            records: self.records(),
            ca: self.ca(),
            ca_out: self.path(Key::CaOut),
            upstream_roots: self
                .one(Key::UpstreamRoots, "webpki, system or none", |text| text.parse().ok())
                .unwrap_or(UpstreamRoots::Webpki),
            upstream_ca: self.many(Key::UpstreamCa, |text| some_path(text).ok_or("a FILE".into())),
            connect_to: ConnectTo::new(self.many(Key::ConnectTo, connect_to::parse_rule)),
            upstream_proxy: self.upstream_proxy(),
            credentials: self.path(Key::Credentials),
            accounts: Vec::new(),
            max_skew: self.one(Key::MaxSkew, "a time from 1s to 15m", skew).unwrap_or(MAX_SKEW),
            repeats: self
                .one(Key::Repeats, "record or refuse", |text| text.parse().ok())
                .unwrap_or(Repeats::Record),
            admin: self.one(Key::Admin, ADDRESS, |text| text.parse().ok()),
            admin_socket: self.path(Key::AdminSocket),
            workers: self
                .one(Key::Workers, "a number from 1 to 256", |text| {
                    text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= MOST_WORKERS)
                })
                .unwrap_or(workers),
            limits: Limits {
                handshake: self.duration(Key::LimitsHandshake, defaults.handshake),
                head: self.duration(Key::LimitsHead, defaults.head),
                body_idle: self.duration(Key::LimitsBodyIdle, defaults.body_idle),
                held_body: self.duration(Key::LimitsHeldBody, defaults.held_body),
                response_head: self.duration(Key::LimitsResponseHead, defaults.response_head),
                turn: self.duration(Key::LimitsTurn, defaults.turn),
                drain: self.duration(Key::LimitsDrain, defaults.drain),
                connections: self.count(Key::LimitsConnections).unwrap_or(defaults.connections),
                connections_per_client: self.count(Key::LimitsConnectionsPerClient),
                connections_per_origin: self
                    .count(Key::LimitsConnectionsPerOrigin)
                    .unwrap_or(defaults.connections_per_origin),
                dials: self.count(Key::LimitsDials).unwrap_or(defaults.dials),
                tunnels: self.count(Key::LimitsTunnels).unwrap_or(defaults.tunnels),
                lookups: self.count(Key::LimitsLookups).unwrap_or(defaults.lookups),
                inspection: self.one(Key::LimitsInspection, "a size such as 64MiB", limits::size),
            },
            // The file's alone: lists for each host are no flag.
            tls: self.sources.tls.clone(),
            exec: None,
        }
    }

    fn ca(&mut self) -> CaSource {
        let dir = self.path(Key::CaDir);
        match (self.path(Key::CaCert), self.path(Key::CaKey)) {
            (Some(_), Some(_)) if dir.is_some() => {
                self.problems
                    .push("`ca_dir` is given beside `ca_cert`: a CA of your own is not kept here".into());
                CaSource::InMemory
            }
            (Some(cert), Some(key)) => CaSource::Files { cert, key },
            (None, None) => dir.map_or(CaSource::InMemory, CaSource::Kept),
            (Some(_), None) => self.lacks(Key::CaCert, Key::CaKey),
            (None, Some(_)) => self.lacks(Key::CaKey, Key::CaCert),
        }
    }

    fn upstream_proxy(&mut self) -> Option<UpstreamProxy> {
        let past = self.sources.given(Key::UpstreamNoProxy).pop().map_or(String::new(), |given| given.text);
        let given = self.sources.given(Key::UpstreamProxy).pop()?;
        match UpstreamProxy::parse(&given.text) {
            Ok(proxy) => Some(proxy.past(&past)),
            Err(want) => {
                self.problems.push(given.secret_problem(want));
                None
            }
        }
    }

    fn lacks(&mut self, has: Key, lacks: Key) -> CaSource {
        self.problems.push(format!("`{has}` is given without `{lacks}`: give both or none"));
        CaSource::InMemory
    }

    fn path(&mut self, key: Key) -> Option<PathBuf> {
        self.one(key, "a FILE", some_path)
    }

    fn duration(&mut self, key: Key, default: Duration) -> Duration {
        self.one(key, "a time above zero such as 500ms, 10s or 15m", limits::duration).unwrap_or(default)
    }

    fn count(&mut self, key: Key) -> Option<NonZeroUsize> {
        self.one(key, "a number from 1 to 1000000", |text| {
            text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= MOST_COUNTED)
        })
    }

    fn one<T>(&mut self, key: Key, want: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let given = self.sources.given(key).pop()?;
        let value = parse(&given.text);
        if value.is_none() {
            self.problems.push(given.problem(want));
        }
        value
    }

    fn many<T>(&mut self, key: Key, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut values = Vec::new();
        for given in self.sources.given(key) {
            match parse(&given.text) {
                Ok(value) => values.push(value),
                Err(want) => self.problems.push(given.problem(&want)),
            }
        }
        values
    }
}

fn some_path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

fn policy_source(text: &str) -> Option<PolicySource> {
    match text.strip_prefix("env:") {
        Some(name) => (!name.is_empty()).then(|| PolicySource::Env(name.into())),
        None => some_path(text).map(PolicySource::File),
    }
}

fn audit_sink(text: &str) -> Option<AuditSink> {
    match text.strip_prefix("unix:") {
        Some(path) => some_path(path).map(AuditSink::Socket),
        None if text == "-" => Some(AuditSink::Stdout),
        None => some_path(text).map(AuditSink::File),
    }
}

/// In seconds. AWS takes no more than a quarter of an hour itself.
fn skew(text: &str) -> Option<i64> {
    let given = limits::duration(text)?;
    let seconds = i64::try_from(given.as_secs()).ok().filter(|_| given.subsec_nanos() == 0)?;
    (1..=MAX_SKEW).contains(&seconds).then_some(seconds)
}

#[cfg(test)]
mod tests;
