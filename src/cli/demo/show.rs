//! How the demo is shown: a table that grows as calls end, at most 80 columns, plain text where nobody's terminal is.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;

use rustls::AlertDescription;

use super::row::Row;
use super::world::World;
use super::{Error, Report};
use crate::tls;

const WIDTH: usize = 80;
/// Columns: verdict, call, signature; the rest is the reason.
const VERDICT: usize = 9;
const CALL: usize = 34;
const SIGNATURE: usize = 13;

/// To whom it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Lines as they are.
    Plain,
    /// Colours, and the call under way.
    Terminal,
    /// The report alone, as JSON.
    Json,
}

impl Look {
    /// For a person: `Terminal` where standard output is one that takes colours.
    pub fn of_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let plain = set("NO_COLOR").is_some() || set("TERM").is_none_or(|term| term == "dumb");
        if io::stdout().is_terminal() && !plain { Self::Terminal } else { Self::Plain }
    }
}

#[derive(Clone, Copy)]
enum Ink {
    Green,
    Red,
    Alarm,
    Bold,
    Dim,
}

pub struct Page<'a> {
    look: Look,
    out: &'a mut dyn Write,
}

impl<'a> Page<'a> {
    pub fn new(look: Look, out: &'a mut dyn Write) -> Self {
        Self { look, out }
    }

    pub fn opening(&mut self, world: &World, calls: usize, policy: &str) -> Result<(), Error> {
        if self.look == Look::Json {
            return Ok(());
        }
        let address = world.app.forward();
        let head = self.ink(Ink::Bold, "exeat demo");
        writeln!(self.out, "{head}: {calls} calls through exeat on {address}.")?;
        writeln!(
            self.out,
            "Client and origins are real and in this process; nothing leaves this machine.\n"
        )?;
        let head = self.ink(Ink::Bold, "policy");
        writeln!(self.out, "{head}")?;
        for line in policy.lines() {
            writeln!(self.out, "  {line}")?;
        }
        let head = self.ink(Ink::Bold, &format!("{:CALL$}{:SIGNATURE$}why", "call", "signature"));
        writeln!(self.out, "\n{:VERDICT$}{head}", "")?;
        Ok(self.out.flush()?)
    }

    /// The call under way; its row takes the place.
    pub fn begin(&mut self, title: &str) -> Result<(), Error> {
        if self.look == Look::Terminal {
            write!(self.out, "{:VERDICT$}{title}", "...")?;
            self.out.flush()?;
        }
        Ok(())
    }

    pub fn row(&mut self, row: &Row) -> Result<(), Error> {
        match self.look {
            Look::Json => return Ok(()),
            Look::Terminal => write!(self.out, "\r\x1b[2K")?,
            Look::Plain => {}
        }
        let ink = match row.verdict {
            "allowed" => Ink::Green,
            _ => Ink::Red,
        };
        let verdict = self.ink(ink, &format!("{:VERDICT$}", row.verdict));
        let signature = row.signature.as_deref().unwrap_or("-");
        let why = match (&row.reason, &row.statement) {
            (Some(reason), _) => reason.clone(),
            (None, Some(statement)) => format!("by `{statement}`"),
            (None, None) => "-".to_owned(),
        };
        writeln!(self.out, "{verdict}{:CALL$}{signature:SIGNATURE$}{why}", row.call)?;
        for line in wrapped(&detail(row), WIDTH - VERDICT) {
            let line = self.ink(Ink::Dim, &line);
            writeln!(self.out, "{:VERDICT$}{line}", "")?;
        }
        for wrong in &row.unexpected {
            let word = self.ink(Ink::Alarm, "unexpected");
            for line in wrapped(wrong, WIDTH - VERDICT - "unexpected ".len()) {
                writeln!(self.out, "{:VERDICT$}{word} {line}", "")?;
            }
        }
        Ok(self.out.flush()?)
    }

    pub fn closing(&mut self, report: &Report, door: SocketAddr) -> Result<(), Error> {
        if self.look == Look::Json {
            serde_json::to_writer_pretty(&mut *self.out, report).map_err(io::Error::from)?;
            return Ok(writeln!(self.out)?);
        }
        let head = self.ink(Ink::Bold, "metrics");
        writeln!(self.out, "\n{head} that moved, of http://{door}/metrics")?;
        for (name, by) in report.metrics.iter().filter(|(name, _)| is_shown(name)) {
            writeln!(self.out, "  {by:+} {name}")?;
        }
        let audit = &report.audit;
        let head = self.ink(Ink::Bold, "audit");
        writeln!(
            self.out,
            "\n{head} {} events and {} intents in {} lines; `exeat audit verify`: {}",
            audit.events,
            audit.intents,
            audit.lines,
            if audit.whole { "whole" } else { "NOT whole" }
        )?;
        for wrong in &report.unexpected {
            let word = self.ink(Ink::Alarm, "unexpected");
            writeln!(self.out, "{word} {wrong}")?;
        }
        let good = report.calls.iter().filter(|row| row.as_expected).count();
        let refused: Vec<&Row> = report.calls.iter().filter(|row| row.verdict == "refused").collect();
        let bytes: u64 = refused.iter().map(|row| row.origins_saw.bytes).sum();
        let head = self.ink(Ink::Bold, "result");
        let (count, refused) = (report.calls.len(), refused.len());
        writeln!(self.out, "{head} {good} of {count} calls went as they should")?;
        writeln!(self.out, "       of the {refused} refused ones the origins saw {bytes} bytes\n")?;
        let head = self.ink(Ink::Bold, "next");
        writeln!(self.out, "{head}")?;
        for (command, what) in NEXT {
            writeln!(self.out, "  {command:<38}{what}")?;
        }
        Ok(self.out.flush()?)
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        if self.look != Look::Terminal {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Green => "32",
            Ink::Red => "31",
            Ink::Alarm => "1;7",
            Ink::Bold => "1",
            Ink::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

const NEXT: &[(&str, &str)] = &[
    ("exeat exec -- aws s3 ls", "a program of yours behind exeat"),
    ("exeat explain sigv4.unknown_key", "what a code means, and what to do"),
    ("exeat check --policy policy.yaml", "is a policy right? try the one above"),
    ("exeat run --policy policy.yaml", "the proxy itself"),
];

/// What the client was told, and the record's own words.
fn detail(row: &Row) -> String {
    let told = match (row.status, row.alert) {
        (Some(status), _) => status.to_string(),
        (None, Some(alert)) => format!("alert {alert} {}", tls::alert_name(AlertDescription::from(alert))),
        (None, None) => "no answer".to_owned(),
    };
    let operation = row.operation.as_deref().unwrap_or("-");
    let on = row.resource.as_deref().map(|arn| format!(" on {arn}")).unwrap_or_default();
    let said = row.said.as_deref().map(|said| format!(": {said}")).unwrap_or_default();
    // Where the sentence names it all, once is enough.
    if said.contains(operation) { format!("{told}{said}") } else { format!("{told} {operation}{on}{said}") }
}

/// Counts; the rest is for machines, and in the JSON.
fn is_shown(name: &str) -> bool {
    name.contains("_total{") && !name.starts_with("exeat_requests_total") || name.ends_with("_total")
}

/// Broken between words; a word that is too long stands alone.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line from the start");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
