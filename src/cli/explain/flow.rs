//! `exeat explain FLOW`: one attempt as its event line tells it, out of audit files or of a running proxy's memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::door::Door;
use crate::cli::lines::{Shown, clean};
use crate::cli::{Error, Output};
use crate::engine::reason::Reason;
use crate::engine::suggest::{self, Call};

/// A flow id is `BOOT-LANE-NUMBER`; people paste its end.
pub(super) fn looks_like_one(text: &str) -> bool {
    let bare = ending(text);
    let parts: Vec<&str> = bare.split('-').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    bare.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && (2..=3).contains(&parts.len())
        && parts.iter().rev().take(2).all(digits)
}

/// As it stands in messages (`flow=…`, `flow …`) or was cut (`…0-17`).
fn ending(text: &str) -> &str {
    text.trim().trim_start_matches("flow=").trim_start_matches(['…', '.', '-'])
}

/// The event line of the only flow that ends so.
pub(super) fn in_files(files: &[PathBuf], asked: &str) -> Result<Value, Error> {
    let ending = ending(asked);
    let mut found: Option<(String, Value)> = None;
    for file in files {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        for line in BufReader::new(File::open(file).map_err(named)?).split(b'\n') {
            let line = line.map_err(named)?;
            // Cheap first: most lines are of other flows.
            if memchr::memmem::find(&line, ending.as_bytes()).is_none() {
                continue;
            }
            let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
            let Some(flow) = event["additionalEventData"]["exeat"]["flow"].as_str() else { continue };
            if !flow.ends_with(ending) {
                continue;
            }
            match &found {
                Some((other, _)) if other != flow => {
                    return Err(Error::Usage(format!("`{ending}` ends several flows: {other}, {flow}")));
                }
                _ => found = Some((flow.to_owned(), event)),
            }
        }
    }
    found.map(|(_, event)| event).ok_or_else(|| {
        Error::No(format!(
            "no event of a flow `{ending}` in {}; an intent alone is an interrupted call",
            list(files)
        ))
    })
}

fn list(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Asks the operator's socket: a running proxy keeps its newest refusals.
pub(super) fn of_running(socket: &Path, asked: &str) -> Result<Value, Error> {
    let (status, said) = Door::Socket(socket.into()).ask(&format!("/flows/{}", ending(asked)))?;
    match status {
        200 => serde_json::from_str(&said).map_err(|error| {
            Error::Unreachable(format!("{} answers in other words: {error}", socket.display()))
        }),
        404 => Err(Error::No(said.trim_end().to_owned())),
        409 => Err(Error::Usage(said.trim_end().to_owned())),
        _ => Err(Error::Unreachable(format!("{} answers with status {status}", socket.display()))),
    }
}

/// Prints it. `true` (exit 0) where it passed.
pub(super) fn show(event: &Value, output: Output, out: &mut dyn Write) -> Result<bool, Error> {
    let ours = &event["additionalEventData"]["exeat"];
    let reason = ours["reason"].as_str().and_then(|code| code.parse::<Reason>().ok());
    let passed = reason.is_none();
    let call = call(event);
    let add = reason.and_then(|reason| suggest::to_allow(&call, reason)).map(|add| add.block());
    if output == Output::Json {
        let page = reason.map(super::page);
        let shown = json!({
            "flow": ours["flow"], "allowed": passed, "reason": ours["reason"],
            "said": event["errorMessage"], "statement": ours["statement"], "place": ours["place"],
            "remedy": page.map(|page| page.remedy), "to_allow": add, "event": event,
        });
        crate::cli::json(out, &shown)?;
        return Ok(passed);
    }
    let verdict = match (ours["decision"].as_str(), reason) {
        (_, Some(_)) => "DENY",
        (Some("report"), None) => "PASS (observed only)",
        (_, None) => "ALLOW",
    };
    let code = reason.map(|reason| format!("  [{reason}]")).unwrap_or_default();
    writeln!(out, "{verdict}  {}{code}", clean(&call.subject()))?;
    let mut row = |name: &str, text: String| {
        if text.is_empty() { Ok(()) } else { writeln!(out, "  {name:<10}{}", clean(&text)) }
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    row("when", format!("{}, flow {}", text(&event["eventTime"]), text(&ours["flow"])))?;
    row("by", by(event))?;
    row("to", text(if ours["target"].is_string() { &ours["target"] } else { &ours["host"] }))?;
    row("why", text(&event["errorMessage"]))?;
    if let Some(id) = ours["statement"].as_str() {
        let name = match reason {
            None | Some(Reason::PolicyDenied) => "statement",
            Some(_) => "nearest",
        };
        row(name, format!("{id} ({})", text(&ours["place"])))?;
    }
    row("client", tls(&ours["clientTls"]))?;
    let upstream = &ours["upstream"];
    row(
        "upstream",
        match upstream["address"].as_str() {
            Some(address) => {
                let unshaken = tls(&upstream["shown"]);
                let comma = if unshaken.is_empty() { "" } else { ", not agreed: " };
                format!("{address}:{} {}{comma}{unshaken}", upstream["port"], tls(&upstream["tls"]))
            }
            None => "nothing was sent".to_owned(),
        },
    )?;
    let leg = if upstream["tls"].is_object() { "tls" } else { "shown" };
    row("shown", shown(&upstream[leg]))?;
    if let Some(reason) = reason {
        let page = super::page(reason);
        writeln!(out, "\n{}\n\nWhat to do: {}", page.happened, page.remedy)?;
    }
    if let Some(add) = add {
        writeln!(
            out,
            "\nTo allow exactly this call, add to the policy's statements:\n{}",
            clean_lines(&add)
        )?;
    }
    Ok(passed)
}

fn by(event: &Value) -> String {
    let ours = &event["additionalEventData"]["exeat"];
    let identity = &event["userIdentity"];
    let mut by = match identity["accessKeyId"].as_str() {
        Some(key) => format!("key {key}"),
        None => "nobody (unsigned)".to_owned(),
    };
    if let Some(account) = identity["accountId"].as_str() {
        by.push_str(&format!(" of account {account}"));
    }
    if let (Some(auth), Some(signature)) = (ours["auth"].as_str(), ours["signature"].as_str()) {
        by.push_str(&format!(", {auth}, signature {signature}"));
    } else {
        // It never came to a request.
        by.clear();
    }
    let address = event["sourceIPAddress"].as_str().unwrap_or_default();
    let agent = event["userAgent"].as_str().map(|agent| format!(" ({agent})")).unwrap_or_default();
    let comma = if by.is_empty() { "" } else { ", " };
    format!("{by}{comma}from {address}{agent}")
}

fn tls(leg: &Value) -> String {
    match (leg["version"].as_str(), leg["cipher"].as_str()) {
        (Some(version), Some(cipher)) => format!("{version} {cipher}"),
        (version, _) => version.unwrap_or_default().to_owned(),
    }
}

/// Who the origin showed itself to be.
fn shown(leg: &Value) -> String {
    let leaf = leg["chain"].get(0).and_then(|leaf| serde_json::from_value::<Shown>(leaf.clone()).ok());
    match (leaf, leg["leaf"].as_str()) {
        (Some(leaf), _) => leaf.to_string(),
        (None, Some(leaf)) => format!("sha256 {leaf}… (the connection's first event tells more)"),
        (None, None) => String::new(),
    }
}

fn call(event: &Value) -> Call {
    let ours = &event["additionalEventData"]["exeat"];
    let texts = |value: &Value, of: fn(&Value) -> &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| of(item).as_str())
            .map(str::to_owned)
            .collect()
    };
    Call {
        actions: texts(&ours["actions"], |item| item),
        resources: texts(&event["resources"], |item| &item["ARN"]),
        more: ours["askCount"].is_number(),
        method: ours["method"].as_str().map(str::to_owned),
        host: ours["host"].as_str().or(ours["target"].as_str()).unwrap_or("?").to_owned(),
        path: ours["path"].as_str().map(str::to_owned),
        account: event["userIdentity"]["accountId"].as_str().map(str::to_owned),
    }
}

fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_told_from_codes_and_actions() {
        for flow in ["0123456789ab-0-17", "b-0-17", "0-17", "…b-0-17", "flow=0123456789ab-0-17"] {
            assert!(looks_like_one(flow), "{flow}");
        }
        for other in
            ["policy.no_match", "sqs:SendMessage", "17", "target", "0123456789AB-0-17", "a-b", "0-x", ""]
        {
            assert!(!looks_like_one(other), "{other}");
        }
    }

    #[test]
    fn nothing_a_stranger_wrote_reaches_the_terminal_raw() {
        let event = json!({
            "eventTime": "t", "sourceIPAddress": "::1", "userAgent": "\u{1b}[2J", "errorMessage": "a\nb\u{9b}1m",
            "resources": [{"ARN": "arn:aws:s3:::b/\u{1b}]0;x\u{7}"}],
            "additionalEventData": {"exeat": {
                "flow": "0123456789ab-0-1", "decision": "deny", "reason": "policy.no_match", "auth": "sigv4",
                "signature": "verified", "actions": ["s3:PutObject"], "host": "h", "method": "PUT",
            }},
        });
        let mut out = Vec::new();
        assert!(!show(&event, Output::Text, &mut out).unwrap());
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("s3:PutObject") && text.contains("a?b?1m"), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}
