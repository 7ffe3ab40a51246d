//! `exeat check`: everything that is wrong with a policy or with settings, and what is only odd.
//!
//! One list of findings, told in the form that its reader wants: a person, a program, GitHub's log, a SARIF viewer.

mod sarif;
mod text;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum};
use serde_json::{Value, json};

use crate::config::{self, Key, Layer, Origin};
use crate::engine::atlas::Atlas;
use crate::engine::policy::{At, Code, Policy, Problem, Severity};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["policy", "config"]))]
pub struct CheckArgs {
    /// Policy file
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Settings file of `run`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Exit 1 for warnings too; notes never fail
    #[arg(long)]
    deny_warnings: bool,
    /// How to print the findings
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
    /// Workflow commands, which GitHub shows beside the lines
    Github,
    /// SARIF 2.1.0
    Sarif,
}

/// A file that was looked at.
struct Source {
    name: String,
    text: String,
}

/// Prints the findings; `false` (exit 1) where there are errors, or warnings that were asked to count.
pub fn check(args: &CheckArgs, out: &mut dyn Write) -> io::Result<bool> {
    let (mut sources, mut findings) = (Vec::new(), Vec::new());
    if let Some(path) = &args.config {
        let source = read(path, "settings")?;
        findings.extend(of_settings(&source));
        sources.push(source);
    }
    if let Some(path) = &args.policy {
        let source = read(path, "policy")?;
        findings.extend(of_policy(&source));
        sources.push(source);
    }
    let count = |severity| findings.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match args.output {
        Output::Text => text::print(out, &sources, &findings)?,
        Output::Json => print_json(
            out,
            &json!({
                "schema": "exeat.check/1",
                "usable": errors == 0,
                "findings": findings.iter().map(finding).collect::<Vec<_>>(),
            }),
        )?,
        Output::Github => {
            for found in &findings {
                writeln!(out, "{}", workflow_command(found))?;
            }
        }
        Output::Sarif => print_json(out, &sarif::log(&findings))?,
    }
    Ok(errors == 0 && (warnings == 0 || !args.deny_warnings))
}

fn read(path: &Path, what: &str) -> io::Result<Source> {
    let name = path.display().to_string();
    let text = config::read_page(path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {what} `{name}`: {error}")))?;
    Ok(Source { name, text })
}

fn of_policy(source: &Source) -> Vec<Problem> {
    let atlas = Atlas::built_in();
    match Policy::read(&source.name, &source.text, atlas) {
        Ok((policy, mut findings)) => {
            findings.extend(policy.findings(atlas, crate::tls::now()));
            findings.sort_by_key(|found| found.at);
            findings
        }
        Err(problems) => problems,
    }
}

/// Settings of the file alone: neither flags nor variables.
fn of_settings(source: &Source) -> Vec<Problem> {
    let mut layer = Layer::default();
    layer.push(Key::Config, source.name.clone(), Origin::Flag("--config"));
    let problems = match config::load(layer, [], |_| None) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0,
    };
    problems.iter().map(|line| placed(source, line)).collect()
}

/// `FILE:LINE:COLUMN: message`; what has no place is of the whole file.
fn placed(source: &Source, line: &str) -> Problem {
    let found = line.strip_prefix(source.name.as_str()).and_then(|rest| {
        let mut parts = rest.strip_prefix(':')?.splitn(3, ':');
        let at = At { line: parts.next()?.parse().ok()?, column: parts.next()?.parse().ok()? };
        Some((at, parts.next()?.trim_start()))
    });
    let (at, message) = found.unwrap_or((At { line: 1, column: 1 }, line));
    Problem {
        file: source.name.clone(),
        at,
        severity: Severity::Error,
        code: Code::Setting,
        message: message.to_owned(),
        help: None,
    }
}

fn print_json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn finding(found: &Problem) -> Value {
    json!({
        "severity": found.severity.as_str(),
        "code": found.code.as_str(),
        "file": found.file,
        "line": found.at.line,
        "column": found.at.column,
        "message": found.message,
        "help": found.help,
    })
}

/// `::error file=…,line=…,col=…,title=…::message`, escaped as GitHub asks.
fn workflow_command(found: &Problem) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let kind = match found.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let help = found.help.as_ref().map_or(String::new(), |help| format!("; {help}"));
    format!(
        "::{kind} file={},line={},col={},title={}::{}{}",
        property(&found.file),
        found.at.line,
        found.at.column,
        property(found.code.as_str()),
        data(&found.message),
        data(&help)
    )
}

#[cfg(test)]
mod tests;
