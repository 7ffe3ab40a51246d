//! `exeat report tls FILE...`: what each destination negotiated, on both legs.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::Error;
use crate::cli::lines::{Counts, Event, Leg, Line, Shown, Tls, clean, read_file};

/// Calls of one destination.
#[derive(Default)]
struct Destination {
    calls: u64,
    tunnels: u64,
    /// Of our own calls: those to endpoints of the platform, which speak nothing else.
    plaintext: u64,
    upstream: BTreeMap<Tls, u64>,
    client: BTreeMap<Tls, u64>,
    /// What the origin showed, by the first digits of its leaf.
    certificates: BTreeMap<String, Certificate>,
    /// What it showed where the handshake came to nothing.
    not_had: BTreeMap<String, Certificate>,
    /// Versions that it chose or named, below what was demanded.
    too_low: BTreeMap<String, u64>,
    /// Statement with its place, of what passed.
    let_pass: BTreeMap<String, u64>,
    /// Reasons of the TLS and upstream families: what was not had.
    failed: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Certificate {
    calls: u64,
    /// Empty where the connection's first event is in none of the files.
    chain: Vec<Shown>,
}

impl Certificate {
    fn note(&mut self, chain: &[Shown]) {
        self.calls += 1;
        if self.chain.is_empty() {
            self.chain = chain.to_vec();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PostQuantum {
    All,
    Some,
    None,
}

impl PostQuantum {
    fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Some => "some",
            Self::None => "none",
        }
    }
}

/// The key exchange holds against a quantum computer: ML-KEM, alone or beside a curve. A leg without a known group
/// (TLS 1.2) has none.
fn is_post_quantum(leg: &Tls) -> bool {
    leg.group.as_deref().is_some_and(|group| group.to_ascii_uppercase().contains("MLKEM"))
}

fn post_quantum(legs: &BTreeMap<Tls, u64>) -> Option<PostQuantum> {
    let with = legs.keys().filter(|leg| is_post_quantum(leg)).count();
    match (with, legs.len()) {
        (_, 0) => None,
        (0, _) => Some(PostQuantum::None),
        (with, all) if with == all => Some(PostQuantum::All),
        _ => Some(PostQuantum::Some),
    }
}

#[derive(Default)]
struct Report {
    destinations: BTreeMap<String, Destination>,
    /// Of the calls that exeat makes of itself: no policy let them pass, and some have no TLS by design.
    own: BTreeMap<String, Destination>,
    counts: Counts,
}

impl Report {
    fn take(&mut self, event: &Event) {
        let ours = event.ours();
        let failed =
            ours.reason.as_deref().filter(|code| code.starts_with("tls.") || code.starts_with("upstream."));
        let upstream = ours.upstream.as_ref().and_then(|up| up.tls.as_ref());
        let passed = matches!(ours.end.as_str(), "answered" | "tunnelled");
        if !passed && failed.is_none() && upstream.is_none() {
            // Refused before there was anything to negotiate.
            return;
        }
        let all = if event.is_own() { &mut self.own } else { &mut self.destinations };
        let to = all.entry(event.host().unwrap_or("(no name)").to_owned()).or_default();
        to.calls += u64::from(passed);
        to.tunnels += u64::from(ours.end == "tunnelled");
        to.plaintext += u64::from(passed && event.is_own() && upstream.is_none());
        let mut count = |legs: fn(&mut Destination) -> &mut BTreeMap<Tls, u64>, leg: Option<&Leg>| {
            leg.into_iter().for_each(|leg| *legs(to).entry(leg.tls.clone()).or_default() += 1);
        };
        count(|to| &mut to.upstream, upstream);
        count(|to| &mut to.client, ours.client_tls.as_ref());
        if let Some((leg, leaf)) = upstream.and_then(|leg| Some((leg, leg.leaf.as_ref()?))) {
            to.certificates.entry(leaf.clone()).or_default().note(&leg.chain);
        }
        if let Some(shown) = ours.upstream.as_ref().and_then(|up| up.shown.as_ref()) {
            if let Some(leaf) = &shown.leaf {
                to.not_had.entry(leaf.clone()).or_default().note(&shown.chain);
            }
            if let (Some("upstream.below_floor"), Some(version)) = (failed, &shown.version) {
                *to.too_low.entry(version.clone()).or_default() += 1;
            }
        }
        if passed && !event.is_own() {
            *to.let_pass.entry(statement(event)).or_default() += 1;
        }
        if let Some(code) = failed {
            *to.failed.entry(code.to_owned()).or_default() += 1;
        }
    }
}

fn statement(event: &Event) -> String {
    let ours = event.ours();
    match (&ours.statement, &ours.place) {
        (Some(id), Some(place)) => format!("{id} ({place})"),
        (Some(id), None) => id.clone(),
        (None, _) if ours.decision == "report" => "no statement, observed only".to_owned(),
        (None, _) => "no statement".to_owned(),
    }
}

/// As IANA, and so CloudTrail, spells a suite.
fn suite(cipher: &str) -> String {
    cipher.strip_prefix("TLS13_").map_or_else(|| cipher.to_owned(), |rest| format!("TLS_{rest}"))
}

pub(super) fn tls(files: &[PathBuf], json: bool, out: &mut dyn Write) -> Result<(), Error> {
    let mut report = Report::default();
    for file in files {
        let counts = read_file(file, &mut |line| {
            if let Line::Event(event) = line {
                report.take(&event);
            }
        })?;
        report.counts += counts;
    }
    if json { crate::cli::json(out, &as_json(&report)) } else { print(&report, out) }
}

fn print(report: &Report, out: &mut dyn Write) -> Result<(), Error> {
    each(&report.destinations, out)?;
    let whose = |want| {
        let of = report.destinations.values().filter(|to| post_quantum(&to.upstream) == Some(want));
        of.count()
    };
    let old =
        report.destinations.values().filter(|to| to.upstream.keys().any(|leg| leg.version == "TLSv1.2"));
    writeln!(
        out,
        "{} destinations; upstream post-quantum: all calls to {}, some to {}, none to {}; TLS 1.2 with {}",
        report.destinations.len(),
        whose(PostQuantum::All),
        whose(PostQuantum::Some),
        whose(PostQuantum::None),
        old.count()
    )?;
    if !report.own.is_empty() {
        writeln!(out, "\nBy exeat itself, and not counted above:")?;
        each(&report.own, out)?;
    }
    if report.counts.unreadable > 0 {
        writeln!(out, "{} lines unreadable (`exeat audit verify` says why)", report.counts.unreadable)?;
    }
    Ok(())
}

fn each(destinations: &BTreeMap<String, Destination>, out: &mut dyn Write) -> Result<(), Error> {
    for (host, to) in destinations {
        let part =
            |count: u64, what| if count > 0 { format!(", {count} of them {what}") } else { String::new() };
        let parts = part(to.tunnels, "tunnels") + &part(to.plaintext, "without TLS");
        writeln!(out, "{}  {} passed{parts}", clean(host), to.calls)?;
        for (leg, seen) in [("upstream", &to.upstream), ("client", &to.client)] {
            for (tls, count) in seen {
                let group = tls.group.as_deref().unwrap_or("group not known");
                let mark = if is_post_quantum(tls) { "post-quantum" } else { "not post-quantum" };
                let line = format!("{}  {}  {group}  {mark}  {count}", tls.version, suite(&tls.cipher));
                writeln!(out, "  {leg:<9} {}", clean(&line))?;
            }
        }
        for (word, certificates) in [("shown", &to.certificates), ("not had", &to.not_had)] {
            for (leaf, Certificate { calls, chain }) in certificates {
                let line = match chain.first() {
                    Some(shown) => format!("{shown}  {calls}"),
                    None => format!("sha256 {leaf}  {calls}"),
                };
                writeln!(out, "  {word:<9} {}", clean(&line))?;
            }
        }
        for (version, count) in &to.too_low {
            writeln!(out, "  not had   {}  {count}", clean(version))?;
        }
        for (statement, count) in &to.let_pass {
            writeln!(out, "  let pass  {}  {count}", clean(statement))?;
        }
        for (code, count) in &to.failed {
            writeln!(out, "  refused   {}  {count}", clean(code))?;
        }
    }
    Ok(())
}

fn as_json(report: &Report) -> Value {
    let legs = |legs: &BTreeMap<Tls, u64>| -> Vec<Value> {
        let leg = |(tls, count): (&Tls, &u64)| {
            json!({
                "version": tls.version, "cipher": suite(&tls.cipher), "group": tls.group,
                "post_quantum": is_post_quantum(tls), "calls": count,
            })
        };
        legs.iter().map(leg).collect()
    };
    let certificates = |all: &BTreeMap<String, Certificate>| -> Vec<Value> {
        let one = |(leaf, shown): (&String, &Certificate)| json!({"leaf": leaf, "calls": shown.calls, "chain": shown.chain});
        all.iter().map(one).collect()
    };
    let destination = |(host, to): (&String, &Destination)| {
        json!({
            "host": host, "calls": to.calls, "tunnels": to.tunnels, "plaintext": to.plaintext, "upstream": legs(&to.upstream),
            "client": legs(&to.client), "certificates": certificates(&to.certificates),
            "certificates_not_had": certificates(&to.not_had), "versions_not_had": to.too_low,
            "post_quantum": post_quantum(&to.upstream).map(PostQuantum::as_str),
            "client_post_quantum": post_quantum(&to.client).map(PostQuantum::as_str),
            "let_pass": to.let_pass, "refused": to.failed,
        })
    };
    let destinations =
        |all: &BTreeMap<String, Destination>| -> Vec<Value> { all.iter().map(destination).collect() };
    json!({
        "destinations": destinations(&report.destinations), "own": destinations(&report.own), "lines": report.counts,
    })
}
