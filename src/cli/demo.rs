//! `exeat demo`: exeat at work between a client and origins of its own, all on loopback.
//!
//! Nothing is played: `demo/world.rs` starts origins and exeat as `run` starts it, `demo/calls.rs` says which calls are
//! made over real sockets and what must come of them, `demo/row.rs` joins each answer with its audit line and with what
//! the origins saw, `demo/show.rs` prints. A call that goes otherwise than it should makes the answer no.

mod calls;
mod client;
mod keys;
mod old_tls;
mod origin;
mod row;
mod show;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::{app, config};
use calls::Call;
use origin::Count;
use row::{Found, Row};
pub use show::Look;
use world::{World, is_event, is_intent};

/// What the demo runs under unless a caller brings another.
pub const POLICY: &str = include_str!("demo/policy.yaml");

/// Where the demo's AWS is.
const REGION: &str = "us-east-1";
/// One call takes milliseconds; on a machine that is busy with other things, some more.
const CALL: Duration = Duration::from_secs(3);
/// All calls together, so that the demo ends whatever happens. Those that come too late fail.
const WHOLE: Duration = Duration::from_secs(8);

/// Why the demo could not be given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Problems),
    #[error(transparent)]
    App(#[from] app::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    #[error("TLS could not be set up")]
    Tls(#[from] rustls::Error),
    #[error("got something that is no HTTP")]
    Head(#[from] crate::engine::request::HeadError),
    #[error("a request could not be made")]
    Http(#[from] http::Error),
    #[error("a request could not be signed")]
    Signing(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("got {0}")]
    Message(&'static str),
    #[error("interrupted by signal {0}")]
    Interrupted(u8),
}

impl Error {
    fn signing(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Signing(Box::new(error))
    }
}

impl From<http::header::InvalidHeaderValue> for Error {
    fn from(error: http::header::InvalidHeaderValue) -> Self {
        Self::Http(error.into())
    }
}

/// All that was seen.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Every call went as it should, and the counts agree.
    pub as_expected: bool,
    pub calls: Vec<Row>,
    /// What doesn't add up between calls, records, metrics and origins.
    pub unexpected: Vec<String>,
    /// Samples of `/metrics` that moved, and by how much.
    pub metrics: BTreeMap<String, f64>,
    pub audit: Audit,
    pub policy: String,
}

/// The audit file, as `audit verify` reads it.
#[derive(Debug, Serialize)]
pub struct Audit {
    pub lines: u64,
    pub events: usize,
    pub intents: usize,
    pub whole: bool,
}

/// Runs the demo under `policy` and prints it. `false` (exit 1) where something went otherwise than it should.
pub fn demo(policy: &str, look: Look, out: &mut dyn Write) -> Result<bool, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        tokio::select! {
            biased; // signals are listened to before there is a folder
            interrupted = interrupted() => Err(interrupted),
            result = tell(policy, look, out) => result,
        }
    });
    // What an origin or the admin door still has under way is nobody's concern.
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(result?.as_expected)
}

/// The folder must go, whoever ends the demo.
async fn interrupted() -> Error {
    use tokio::signal::unix::{SignalKind, signal};
    let (interrupts, terminations) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupts), Ok(mut terminations)) = (interrupts, terminations) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupts.recv() => Error::Interrupted(2),
        _ = terminations.recv() => Error::Interrupted(15),
    }
}

async fn tell(policy: &str, look: Look, out: &mut dyn Write) -> Result<Report, Error> {
    let deadline = Instant::now() + WHOLE;
    let mut world = World::start(policy).await?;
    let door = world.app.admin().ok_or(Error::Message("no admin door"))?;
    let script = calls::script();
    let mut page = show::Page::new(look, out);
    page.opening(&world, script.len(), policy)?;
    let before = samples(door).await?;
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for call in &script {
        page.begin(call.title)?;
        let row = make(&mut world, call, deadline.min(Instant::now() + CALL), &mut lines).await?;
        page.row(&row)?;
        rows.push(row);
    }
    let metrics = moved(&before, &samples(door).await?);
    // The records are whole once the proxy has ended.
    world.app.drain().await;
    lines.append(&mut world.trail.news(Instant::now()).await?);
    let verified = super::audit::read(std::slice::from_ref(&world.trail.path))?;
    let audit = Audit {
        lines: verified.lines,
        events: lines.iter().filter(|line| is_event(line)).count(),
        intents: lines.iter().filter(|line| is_intent(line)).count(),
        whole: verified.is_whole(),
    };
    let unexpected = sums(&rows, &metrics, &audit, world.seen.now());
    let as_expected = unexpected.is_empty() && rows.iter().all(|row| row.as_expected);
    let report = Report { as_expected, calls: rows, unexpected, metrics, audit, policy: policy.to_owned() };
    page.closing(&report, door)?;
    Ok(report)
}

/// One call, and everything that is to be known of it.
async fn make(
    world: &mut World,
    call: &Call,
    deadline: Instant,
    all: &mut Vec<serde_json::Value>,
) -> Result<Row, Error> {
    let trace = calls::trace_id()?;
    let before = world.seen.now();
    let making = call.make(&world.client, &world.keys, &trace);
    let answer = match tokio::time::timeout_at(deadline, making).await {
        Ok(answer) => answer.map_err(|error| with_causes(&error)),
        Err(_) => Err("no answer in time".to_owned()),
    };
    let mut lines = world.trail.news(deadline).await?;
    let saw = world.seen.now() - before;
    let mut row = Row::of(call.title, &call.expected, &Found { answer, trace: &trace, lines: &lines, saw });
    row.said = row.said.map(|said| world.folder.without_its_name(&said));
    all.append(&mut lines);
    Ok(row)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What the calls add up to must be what each other witness has counted.
fn sums(rows: &[Row], metrics: &BTreeMap<String, f64>, audit: &Audit, seen: Count) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: &str, got: u64, due: u64| {
        if got != due {
            wrong.push(format!("{what}: got {got}, due {due}"));
        }
    };
    let allowed = rows.iter().filter(|row| row.verdict == "allowed").count() as u64;
    same("events on record", audit.events as u64, rows.len() as u64);
    same("intents on record", audit.intents as u64, allowed);
    same("whole audit files", audit.whole.into(), 1);
    // Bytes that came after their call had been looked at would show here.
    same("requests at the origins", seen.requests, allowed);
    same("bytes at the origins", seen.bytes, rows.iter().map(|row| row.origins_saw.bytes).sum());
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for reason in rows.iter().filter_map(|row| row.reason.as_deref()) {
        *reasons.entry(reason).or_default() += 1;
    }
    for (reason, count) in reasons {
        let sample = format!("exeat_refusals_total{{reason=\"{reason}\"}}");
        same(&sample, metrics.get(&sample).map_or(0, |moved| *moved as u64), count);
    }
    wrong
}

/// What `/metrics` tells, but for the histograms' buckets.
async fn samples(door: SocketAddr) -> Result<BTreeMap<String, f64>, Error> {
    let told = tokio::time::timeout(CALL, client::metrics(door)).await;
    let text = told.map_err(|_| Error::Message("no metrics in time"))??;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Ok(lines.filter_map(sample).collect())
}

fn moved(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let by = |(name, value): (&String, &f64)| (name.clone(), value - before.get(name).unwrap_or(&0.0));
    after.iter().map(by).filter(|(_, by)| *by != 0.0).collect()
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| Error::Message("no randomness from the system"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_without_an_answer_in_time_has_failed() {
        let mut world = World::start(POLICY).await.unwrap();
        let script = calls::script();
        let row = make(&mut world, &script[0], Instant::now(), &mut Vec::new()).await.unwrap();
        assert_eq!((row.verdict, row.as_expected), ("failed", false));
        assert!(row.unexpected.contains(&"no answer in time".to_owned()), "{:?}", row.unexpected);
    }

    #[test]
    fn sums_find_what_no_single_call_shows() {
        let row = |verdict, reason: Option<&str>| Row {
            verdict,
            reason: reason.map(str::to_owned),
            ..Row::default()
        };
        let rows = [row("allowed", None), row("refused", Some("policy.denied"))];
        let moved =
            |count| BTreeMap::from([("exeat_refusals_total{reason=\"policy.denied\"}".to_owned(), count)]);
        let audit = |intents, whole| Audit { lines: 4, events: 2, intents, whole };
        let seen = |requests, bytes| Count { connections: 1, requests, bytes };
        assert_eq!(sums(&rows, &moved(1.0), &audit(1, true), seen(1, 0)), Vec::<String>::new());
        for (what, wrong) in [
            ("a refusal not counted", sums(&rows, &moved(0.0), &audit(1, true), seen(1, 0))),
            ("an intent too many", sums(&rows, &moved(1.0), &audit(2, true), seen(1, 0))),
            ("a broken chain", sums(&rows, &moved(1.0), &audit(1, false), seen(1, 0))),
            ("a late request", sums(&rows, &moved(1.0), &audit(1, true), seen(2, 0))),
            ("late bytes", sums(&rows, &moved(1.0), &audit(1, true), seen(1, 9))),
        ] {
            assert_eq!(wrong.len(), 1, "{what}: {wrong:?}");
        }
    }
}
