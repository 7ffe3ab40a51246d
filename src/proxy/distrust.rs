//! A client that does not trust our CA: the commonest failure of every interceptor, so it is told which program it
//! was, and what to set for it.
//!
//! Who it was, the CONNECT head's user agent tells, and on Linux `process.rs`. Looking for a process reads much of
//! /proc, and a client that says no is often gone by then. So it is done once a second at most, on this path alone; and
//! for a while after a refusal at CONNECT already, where the client waits for us: most programs try again. Under `exec`
//! some don't live for a second try: whoever does not say there what it is, is looked for at CONNECT, and more often.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::process::{self, Process};
use super::{Shared, Worker, door};
use crate::config::{CaSource, Config};
use crate::record::Entry;
use crate::tls::mint::Mint;

/// Between two look-ups.
const PAUSE: Duration = Duration::from_secs(1);
/// Where the proxy is one program's.
const PAUSE_IN_EXEC: Duration = Duration::from_millis(100);
/// After a refusal, the next connections are looked at before they can go.
const WARY: Duration = Duration::from_secs(30);
/// A user agent in our sentence.
const MOST_AGENT: usize = 60;

/// One a proxy: when a look-up may be done. Times are milliseconds since the start, and 0 for never.
#[derive(Debug)]
pub struct Watch {
    start: Instant,
    looked: AtomicU64,
    refused: AtomicU64,
}

impl Default for Watch {
    fn default() -> Self {
        Self { start: Instant::now(), looked: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }
}

impl Watch {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn is_wary(&self) -> bool {
        let refused = self.refused.load(Ordering::Relaxed);
        refused != 0 && self.now().saturating_sub(refused) < WARY.as_millis() as u64
    }

    /// Takes this moment's turn.
    fn may_look(&self, pause: Duration) -> bool {
        let (now, before) = (self.now(), self.looked.load(Ordering::Relaxed));
        let due = before == 0 || now.saturating_sub(before) >= pause.as_millis() as u64;
        due && self.looked.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Who is at the other end, kept until its first request shows that it trusts us.
pub struct Suspect {
    peer: SocketAddr,
    connect: BytesMut,
    process: Option<Process>,
}

impl Suspect {
    /// Before CONNECT is answered. Costs a look at a number, unless somebody distrusted us lately, or records name the
    /// processes on this machine.
    pub async fn new(shared: &Shared, peer: SocketAddr, connect: BytesMut) -> Self {
        let unnamed = shared.config.exec.is_some() && door::user_agent(&connect).is_none();
        let told = shared.config.tells_process() && peer.ip().to_canonical().is_loopback();
        let look = told || ((unnamed || shared.watch.is_wary()) && shared.watch.may_look(pause(shared)));
        let process = if look { process::find(peer, &shared.own).await } else { None };
        Self { peer, connect, process }
    }

    /// For the records, where it was found.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// `said` is what it did. Names the program and what would help, for record, log and summary.
    pub async fn distrusts(mut self, worker: &Worker, said: &str, entry: &mut Entry) -> String {
        let shared = &worker.shared;
        shared.watch.refused.store(shared.watch.now(), Ordering::Relaxed);
        // A process that was found before took this moment's turn.
        let turn = self.process.is_some() || shared.watch.may_look(pause(shared));
        if turn && self.process.is_none() {
            self.process = process::find(self.peer, &shared.own).await;
        }
        if let Some(process) = &self.process {
            entry.is_of(process.id, &process.name);
        }
        let client = self.client();
        let told = format!("{said}{}; {}", client.named(), client.advice(&shared.config));
        let new = worker.recorder.note_distrust(&client.summary(&shared.config), client.is_named());
        if new.unwrap_or(turn) {
            tracing::warn!("{told}");
        }
        told
    }

    /// It shook hands and went away without a word, which may mean the same, and may not.
    pub fn left(self, worker: &Worker) {
        worker.recorder.note_left(&self.client().summary(&worker.shared.config));
    }

    fn client(self) -> Client {
        let agent = door::user_agent(&self.connect);
        Client { process: self.process, agent: agent.map(|agent| agent.chars().take(MOST_AGENT).collect()) }
    }
}

fn pause(shared: &Shared) -> Duration {
    if shared.config.exec.is_some() { PAUSE_IN_EXEC } else { PAUSE }
}

/// What is known of a client.
struct Client {
    process: Option<Process>,
    agent: Option<String>,
}

impl Client {
    fn is_named(&self) -> bool {
        self.process.is_some() || self.agent.is_some()
    }

    fn named(&self) -> String {
        match (&self.process, &self.agent) {
            (Some(process), _) => format!(": it is `{}` (process {})", process.name, process.id),
            (None, Some(agent)) => format!(": it calls itself `{}`", agent.escape_default()),
            (None, None) => String::new(),
        }
    }

    /// What would help it.
    fn advice(&self, config: &Config) -> String {
        let programs = [self.process.as_ref().map(|process| process.name.as_str()), self.agent.as_deref()];
        let setting = programs.into_iter().flatten().filter_map(setting).next().unwrap_or(ANY);
        if config.exec.is_some() {
            // Its environment names the file already.
            let set = match setting {
                Setting::Variable(names) => &*names.replace(" or ", " and "),
                Setting::TrustStore => "-Djavax.net.ssl.trustStore in JAVA_TOOL_OPTIONS",
            };
            return format!(
                "exec sets {set}: something took that away, or the client has a setting of its own, which must name the file in $SSL_CERT_FILE"
            );
        }
        let file = match (&config.ca_out, &config.ca) {
            (Some(path), _) | (None, CaSource::Files { cert: path, .. }) => format!("`{}`", path.display()),
            (None, CaSource::Kept(dir)) => format!("`{}`", Mint::kept_certificate(dir).display()),
            (None, CaSource::InMemory) => "the certificate that `--ca-out FILE` writes".to_owned(),
        };
        match setting {
            Setting::Variable(names) => format!("set {names} to {file}"),
            Setting::TrustStore => format!(
                "import {file} with keytool, and name the store in JAVA_TOOL_OPTIONS (-Djavax.net.ssl.trustStore)"
            ),
        }
    }

    /// Of its kind, not of its process.
    fn summary(&self, config: &Config) -> String {
        let who = match (&self.process, &self.agent) {
            (Some(process), _) => format!("`{}`", process.name),
            (None, Some(agent)) => format!("`{}`", agent.escape_default()),
            (None, None) => "a client".to_owned(),
        };
        format!("{who} does not trust this run's CA; {}", self.advice(config))
    }
}

#[derive(Debug, Clone, Copy)]
enum Setting {
    /// Variables that name a file of certificates.
    Variable(&'static str),
    /// A JVM reads its own kind of store.
    TrustStore,
}

/// Where the kind of program is not known: the variables of most.
const ANY: Setting = Setting::Variable(
    "AWS_CA_BUNDLE (AWS SDKs and CLI), SSL_CERT_FILE (OpenSSL, Go, Ruby), NODE_EXTRA_CA_CERTS (Node), \
     REQUESTS_CA_BUNDLE (Python), CURL_CA_BUNDLE (curl) or a JVM's trust store",
);

/// How a kind of program is told whom to trust, found by its executable's name or its user agent.
fn setting(program: &str) -> Option<Setting> {
    use Setting::{TrustStore, Variable};
    const PYTHON: Setting = Variable(
        "AWS_CA_BUNDLE (boto3, AWS CLI), REQUESTS_CA_BUNDLE (requests) or SSL_CERT_FILE (urllib, httpx)",
    );
    const NODE: Setting = Variable("NODE_EXTRA_CA_CERTS");
    const OPENSSL: Setting = Variable("SSL_CERT_FILE");
    const BY_PREFIX: [(&str, Setting); 22] = [
        ("aws-sdk-js", NODE),
        ("aws-sdk-java", TrustStore),
        ("aws", Variable("AWS_CA_BUNDLE")),
        ("boto", Variable("AWS_CA_BUNDLE")),
        ("python", PYTHON),
        ("uv", OPENSSL),
        ("node", NODE),
        ("npm", NODE),
        ("bun", NODE),
        ("deno", Variable("DENO_CERT")),
        ("java", TrustStore),
        ("apache-httpclient", TrustStore),
        ("curl", Variable("CURL_CA_BUNDLE")),
        ("libcurl", Variable("CURL_CA_BUNDLE")),
        ("git", Variable("GIT_SSL_CAINFO")),
        ("cargo", Variable("CARGO_HTTP_CAINFO")),
        ("go-http-client", OPENSSL),
        ("ruby", OPENSSL),
        ("php", OPENSSL),
        ("perl", OPENSSL),
        ("dotnet", OPENSSL),
        ("openssl", OPENSSL),
    ];
    let program = program.to_ascii_lowercase();
    BY_PREFIX.iter().find(|(prefix, _)| program.starts_with(prefix)).map(|(_, setting)| *setting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layer, load};

    #[test]
    fn names_the_setting_of_the_kind_of_program() {
        let config = load(Layer::default(), [], |_| None).unwrap().config;
        let told = |name: &str, agent: Option<&str>| {
            let process = Some(Process { id: 7, name: name.to_owned() }).filter(|p| !p.name.is_empty());
            let client = Client { process, agent: agent.map(str::to_owned) };
            format!("said{}; {}", client.named(), client.advice(&config))
        };
        for (program, agent, want) in [
            ("python3.12", None, "AWS_CA_BUNDLE (boto3"),
            ("node", None, "set NODE_EXTRA_CA_CERTS to"),
            ("java", Some("curl/8"), "javax.net.ssl.trustStore"),
            ("", Some("Go-http-client/1.1"), "set SSL_CERT_FILE to"),
            ("", Some("Boto3/1.40"), "set AWS_CA_BUNDLE to"),
            ("", Some("curl/8.5.0"), "set CURL_CA_BUNDLE to"),
            ("my-service", Some("Go-http-client/1.1"), "is `my-service` (process 7); set SSL_CERT_FILE to"),
            ("my-service", None, "set AWS_CA_BUNDLE (AWS SDKs and CLI), SSL_CERT_FILE"),
            ("", None, "set AWS_CA_BUNDLE (AWS SDKs and CLI), SSL_CERT_FILE"),
        ] {
            let told = told(program, agent);
            assert!(told.contains(want), "{program} {agent:?}: {told}");
            assert!(
                told.contains("the certificate that `--ca-out FILE` writes") && told.len() < 512,
                "{told}"
            );
        }
        let told = told("", Some("x\u{1b}[2J"));
        assert!(told.contains("calls itself `x\\u{1b}[2J`"), "{told}");
    }

    #[test]
    fn looks_once_a_second_at_most_and_ahead_only_after_a_refusal() {
        let watch = Watch::default();
        assert!(!watch.is_wary());
        assert!(watch.may_look(PAUSE) && !watch.may_look(PAUSE));
        watch.refused.store(watch.now(), Ordering::Relaxed);
        assert!(watch.is_wary());
    }
}
