//! `exeat reconcile`: which of our keys' calls did CloudTrail see that never came through us?

mod absent;
mod join;
mod trail;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::lines::{clean, read_file, seconds};
use super::{Error, Output, OutputArgs};
use crate::keys::Keyring;
use absent::Why;
use join::{Asked, Audit, Bypass, Joined, LeftOut, join};
use trail::Trail;

/// Calls that only we saw are named up to here in text; JSON has them all.
const SHOWN: usize = 20;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit: 0 nothing went round, 1 something did, or a file could not be read.\nExamples:\n  \
                        exeat reconcile --audit audit.jsonl* --cloudtrail AWSLogs/\n  \
                        exeat reconcile --audit audit.jsonl --cloudtrail events.json.gz -o json | jq '.bypasses[]'"
)]
pub(super) struct ReconcileArgs {
    /// Audit files of every proxy that these keys were given to; gzipped ones too
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    audit: Vec<PathBuf>,
    /// CloudTrail's log files, folders of them, or answers of `lookup-events`
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    cloudtrail: Vec<PathBuf>,
    /// File of keys that were ours beside those that signed here
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// A key id that was ours; may be given again
    #[arg(long, value_name = "ID")]
    key: Vec<String>,
    /// ARN or name of a user or role whose every call must be here; may be given again
    #[arg(long, value_name = "NAME")]
    principal: Vec<String>,
    /// Seconds by which clocks may differ, where no request id joins
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(i64).range(0..=3600))]
    window: i64,
    /// Leave out calls before this time
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    since: Option<i64>,
    /// Leave out calls from this time on
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    until: Option<i64>,
    #[command(flatten)]
    output: OutputArgs,
}

fn time_of(text: &str) -> Result<i64, String> {
    seconds(text).ok_or_else(|| "want a time such as 2026-11-25T12:00:00Z".to_owned())
}

/// `false` (exit 1): calls went round us.
pub(super) fn reconcile(args: &ReconcileArgs, out: &mut dyn Write) -> Result<bool, Error> {
    let mut audit = Audit::default();
    for file in &args.audit {
        let counts = read_file(file, &mut |line| audit.take(line))?;
        audit.counts += counts;
    }
    audit.held.extend(args.key.iter().cloned());
    if let Some(file) = &args.credentials {
        let ring = Keyring::new(Some(file.clone()), Vec::new());
        let known =
            ring.known(&|_| None, &|path| std::fs::read_to_string(path)).map_err(crate::app::Error::from)?;
        audit.held.extend(known.iter().map(|key| key.id.to_string()));
    }
    if audit.held.is_empty() && args.principal.is_empty() {
        return Err(Error::No(
            "no key of ours is known, so every call could have gone round: no call in these audit files was signed by \
             a key that was held; name keys with --key, --credentials or --principal"
                .to_owned(),
        ));
    }
    let trail = Trail::read(&args.cloudtrail)?;
    let asked =
        Asked { window: args.window, since: args.since, until: args.until, principals: &args.principal };
    let joined = join(&mut audit, &trail.records, &asked);
    match args.output.output {
        Output::Json => super::json(out, &as_json(&joined, &audit, &trail))?,
        Output::Text => print(&joined, &audit, &trail, out)?,
    }
    Ok(joined.bypasses.is_empty())
}

fn print(joined: &Joined<'_>, audit: &Audit, trail: &Trail, out: &mut dyn Write) -> io::Result<()> {
    for bypass in &joined.bypasses {
        let record = bypass.record;
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        let (key, account) = (or_unknown(&record.key), or_unknown(&record.account));
        let first = format!(
            "BYPASS  {}  {}:{}  key {key} of account {account}, {}",
            record.time_text, record.service, record.name, record.region
        );
        writeln!(out, "{}", clean(&first))?;
        let agent = record.user_agent.as_deref().map(|agent| format!(" ({agent})")).unwrap_or_default();
        let error = record.error_code.as_deref().map(|code| format!(", AWS said {code}")).unwrap_or_default();
        let line = format!("from {}{agent}{error}", or_unknown(&record.source_ip));
        writeln!(out, "        {}", clean(&line))?;
        let request = or_unknown(&record.request_id);
        let line = format!("request {request}, in {}", trail.files[record.file].display());
        writeln!(out, "        {}", clean(&line))?;
        for note in &bypass.notes {
            writeln!(out, "        {}", clean(note))?;
        }
    }
    let by_why = by_why(joined);
    for (why, count) in &by_why {
        writeln!(out, "only here: {count} ({})", why.said())?;
    }
    let unexplained = joined.audit_only.iter().filter(|only| only.why == Why::Unexplained);
    for only in unexplained.clone().take(SHOWN) {
        writeln!(out, "        {}, flow {}", clean(&only.call), clean(&only.flow))?;
    }
    if unexplained.clone().count() > SHOWN {
        writeln!(out, "        and {} more: -o json has them", unexplained.count() - SHOWN)?;
    }
    write!(
        out,
        "audit: {} AWS calls went out, {} of them in CloudTrail; {} refused, {} not for AWS",
        joined.calls, joined.matched_calls, audit.refusals, audit.not_aws
    )?;
    if audit.counts.unreadable > 0 {
        write!(out, "; {} lines unreadable (`exeat audit verify` says why)", audit.counts.unreadable)?;
    }
    write!(
        out,
        "\nCloudTrail: {} records, {} joined by request id, {} by key, operation and time",
        trail.records.len(),
        joined.by_request_id,
        joined.by_time
    )?;
    let left: Vec<String> = LeftOut::ALL
        .iter()
        .filter(|&&why| joined.left_out(why) > 0)
        .map(|&why| format!("{} {}", joined.left_out(why), said(why)))
        .collect();
    if !left.is_empty() {
        write!(out, "; left out: {}", left.join(", "))?;
    }
    if joined.of_roles_seen > 0 {
        write!(
            out,
            "\n{} of these are of a role that signs here too, with a key that never did: other tasks of it, or one that \
             went round from its start. --principal ROLE counts them",
            joined.of_roles_seen
        )?;
    }
    match joined.bypasses.len() {
        0 => writeln!(out, "\nnothing went round exeat"),
        1 => writeln!(out, "\n1 call WENT ROUND exeat"),
        many => writeln!(out, "\n{many} calls WENT ROUND exeat"),
    }
}

fn by_why(joined: &Joined<'_>) -> Vec<(Why, usize)> {
    let count = |why: Why| joined.audit_only.iter().filter(|only| only.why == why).count();
    Why::ALL.iter().map(|&why| (why, count(why))).filter(|(_, count)| *count > 0).collect()
}

fn said(why: LeftOut) -> &'static str {
    match why {
        LeftOut::NotACall => "not API calls",
        LeftOut::AwsService => "made by AWS services",
        LeftOut::NoKey => "without a key",
        LeftOut::NeverHeld => "of keys never held",
        LeftOut::OutsideTime => "outside the time asked for",
    }
}

fn as_json(joined: &Joined<'_>, audit: &Audit, trail: &Trail) -> Value {
    let bypasses: Vec<Value> = joined.bypasses.iter().map(|bypass| bypass_json(bypass, trail)).collect();
    let only: Vec<Value> = joined
        .audit_only
        .iter()
        .map(|only| json!({"flow": only.flow, "call": only.call, "why": only.why.as_str()}))
        .collect();
    let left: BTreeMap<&str, u64> =
        LeftOut::ALL.iter().map(|&why| (why.as_str(), joined.left_out(why))).collect();
    json!({
        "whole": joined.bypasses.is_empty(),
        "bypasses": bypasses,
        "audit_only": only,
        "matched": {"request_id": joined.by_request_id, "time": joined.by_time},
        "left_out": left,
        "audit": {
            "calls": joined.calls, "matched": joined.matched_calls, "refused": audit.refusals,
            "not_aws": audit.not_aws, "keys_held": audit.held.len(), "lines": audit.counts,
        },
        "cloudtrail": {
            "records": trail.records.len(), "duplicates": trail.duplicates, "files": trail.files.len(),
            "of_roles_seen": joined.of_roles_seen,
        },
    })
}

fn bypass_json(bypass: &Bypass<'_>, trail: &Trail) -> Value {
    let record = bypass.record;
    json!({
        "time": record.time_text, "call": format!("{}:{}", record.service, record.name), "region": record.region,
        "account": record.account, "key": record.key, "principals": record.principals,
        "source_ip": record.source_ip, "user_agent": record.user_agent, "error_code": record.error_code,
        "request_id": record.request_id, "event_id": record.event_id, "records": bypass.records,
        "file": trail.files[record.file].display().to_string(), "notes": bypass.notes,
        "refused_flow": bypass.refused_flow,
    })
}
