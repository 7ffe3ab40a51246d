//! What a run saw, said on stderr when it ends.

use std::ffi::OsString;
use std::path::Path;

use crate::engine::reason::Reason;
use crate::record::tally::{Row, Tally, Verdict};

/// What there is to tell.
#[derive(Debug, Default)]
pub struct Seen {
    rows: Vec<(Verdict, Row, u64)>,
    left: u64,
    left_by: Vec<String>,
    distrusting: Vec<String>,
}

impl Seen {
    pub fn of(tally: &Tally) -> Self {
        Self {
            rows: tally.rows(),
            left: tally.left(),
            left_by: tally.left_by(),
            distrusting: tally.distrusting(),
        }
    }

    pub fn has_denied(&self) -> bool {
        self.rows.iter().any(|(verdict, row, _)| {
            *verdict == Verdict::Deny && row.reason != Some(Reason::RequestProxyPassword.as_str())
        })
    }
}

/// Lines for people. Challenges are no calls: clients that had to be asked for the password came back with it.
pub fn lines(seen: &Seen, command: &[OsString]) -> Vec<String> {
    let Seen { rows, left, left_by, distrusting } = seen;
    let challenge = Reason::RequestProxyPassword.as_str();
    let (asked, calls): (Vec<_>, Vec<_>) = rows.iter().partition(|(_, row, _)| row.reason == Some(challenge));
    let count =
        |verdict: Verdict| -> u64 { calls.iter().filter(|(v, ..)| *v == verdict).map(|(_, _, n)| n).sum() };
    let all: u64 = calls.iter().map(|(_, _, n)| n).sum();
    if all == 0 {
        let without: u64 = asked.iter().map(|(_, _, n)| n).sum();
        let cause = if *left > 0 {
            let connections = if *left == 1 { "connection was" } else { "connections were" };
            format!("{left} {connections} opened and left without a word: {}", left_by.join("; "))
        } else if without > 0 {
            format!(
                "{without} connections came without this run's password: the program drops it from the proxy's URL"
            )
        } else {
            cause(command)
        };
        return vec![format!("exeat: 0 calls seen: {cause}")];
    }
    let mut head = format!("exeat: {all} {}", if all == 1 { "call" } else { "calls" });
    for (verdict, word) in
        [(Verdict::Deny, "refused"), (Verdict::Report, "let through unnamed"), (Verdict::Failed, "failed")]
    {
        if count(verdict) > 0 {
            head.push_str(&format!(", {} {word}", count(verdict)));
        }
    }
    let mut lines = vec![head];
    for (verdict, row, n) in &calls {
        let reason = row.reason.map_or(String::new(), |reason| format!("  [{reason}]"));
        let word = verdict.as_str().to_uppercase();
        lines.push(format!("  {word:<6} {n:>5}  {}{reason}", row.call.escape_debug()));
    }
    lines.extend(distrusting.iter().map(|told| format!("  {told}")));
    let unlucky = calls
        .iter()
        .find(|(verdict, row, _)| matches!(verdict, Verdict::Deny | Verdict::Failed) && row.reason.is_some());
    if let Some((_, row, _)) = unlucky {
        lines.push(format!("  why: exeat explain {}", row.reason.unwrap_or_default()));
    }
    lines
}

/// Why nothing came, likeliest first.
fn cause(command: &[OsString]) -> String {
    let program = command.first().map(Path::new).and_then(Path::file_name);
    let program = program.unwrap_or_default().to_string_lossy();
    match &*program {
        "docker" | "podman" | "nerdctl" | "kubectl" | "finch" => {
            format!("`{program}` starts its program elsewhere, without this environment; start exec inside")
        }
        "sudo" | "doas" | "su" => format!(
            "`{program}` drops these variables; use `{program} exeat exec -- …`, or keep them (`sudo -E`)"
        ),
        "ssh" => "the program runs on another machine".to_owned(),
        _ => format!(
            "`{program}` made none, or its client reads no proxy variables (C++ SDK, aiohttp without trust_env, bare urllib3 and \
             others; docs/exec.md has the list)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(verdict: Verdict, call: &str, reason: Option<&'static str>, n: u64) -> (Verdict, Row, u64) {
        (verdict, Row { call: call.to_owned(), reason }, n)
    }

    #[test]
    fn counts_by_verdict_and_names_each_call() {
        let rows = [
            row(Verdict::Allow, "dynamodb:GetItem", None, 3),
            row(Verdict::Report, "GET api.example.com", None, 2),
            row(Verdict::Deny, "sqs:SendMessage", Some("policy.no_match"), 1),
            row(Verdict::Deny, "a connection", Some("request.proxy_password"), 9),
        ];
        let seen = |rows: &[_]| Seen { rows: rows.to_vec(), left: 5, ..Seen::default() };
        let said = lines(&seen(&rows), &[]).join("\n");
        assert!(said.starts_with("exeat: 6 calls, 1 refused, 2 let through unnamed\n"), "{said}");
        assert!(said.contains("DENY       1  sqs:SendMessage  [policy.no_match]"), "{said}");
        assert!(!said.contains("proxy_password"), "{said}");
        assert!(seen(&rows).has_denied());
        assert!(!seen(&rows[..2]).has_denied() && !seen(&rows[3..]).has_denied());
    }

    #[test]
    fn nothing_seen_says_why() {
        let said = |rows: &[_], program: &str| {
            lines(&Seen { rows: rows.to_vec(), ..Seen::default() }, &[program.into()]).join("\n")
        };
        let left = Seen { left: 1, left_by: vec!["`git/2` does not trust".to_owned()], ..Seen::default() };
        let told = lines(&left, &[]).join("\n");
        assert!(told.contains("1 connection was opened and left without a word: `git/2` does"), "{told}");
        assert!(said(&[], "/usr/bin/docker").contains("without this environment"));
        assert!(said(&[], "./app").contains("`app` made none"));
        let challenged = [row(Verdict::Deny, "a connection", Some("request.proxy_password"), 2)];
        assert!(said(&challenged, "app").contains("2 connections came without"));
    }
}
