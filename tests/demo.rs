//! `exeat demo`: what a newcomer sees first must be true each time, end by itself, and leave nothing behind.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

use std::path::PathBuf;
use std::process::{Command, Output};

use exeat::cli::demo::{Look, POLICY, demo};
use serde_json::Value;

/// What must come of each call: verdict, the four words' `signature`, and the reason or the statement.
const ROWS: &[(&str, &str, &str, &str)] = &[
    ("own key reads a report", "allowed", "verified", "reports"),
    ("own key writes a report", "allowed", "verified", "reports"),
    ("own key reads an order", "allowed", "verified", "orders"),
    ("partner API that is named", "allowed", "unsigned", "partner"),
    ("stranger's key, our bucket", "refused", "unknown_key", "sigv4.unknown_key"),
    ("stranger's presigned upload link", "refused", "unknown_key", "sigv4.unknown_key"),
    ("own key, stranger's bucket", "refused", "verified", "policy.no_match"),
    ("own key, denied by a statement", "refused", "verified", "policy.denied"),
    ("body changed once signed", "refused", "bad", "sigv4.signature"),
    ("AWS call without a signature", "refused", "unsigned", "sigv4.unsigned"),
    ("third party that is not named", "refused", "unsigned", "policy.no_match"),
    ("http:// in the clear", "refused", "-", "tls.plaintext"),
    ("client speaks TLS 1.1 at best", "refused", "-", "tls.below_floor"),
    ("origin speaks TLS 1.1 at best", "refused", "unsigned", "upstream.below_floor"),
    ("origin's certificate has expired", "refused", "unsigned", "upstream.certificate"),
    ("origin's certificate, wrong name", "refused", "unsigned", "upstream.certificate"),
];

/// Runs the program with a temporary folder of its own, which must be empty again afterwards.
fn exeat(name: &str, args: &[&str]) -> (Output, String) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
    // What a user has set must neither be used nor shown.
    command.env_clear().env("TMPDIR", &folder).env("TERM", "xterm").args(args);
    command.env("EXEAT_POLICY", "/nonexistent").env("HTTPS_PROXY", "http://127.0.0.1:9");
    command.env("AWS_ACCESS_KEY_ID", "AKIARZPUZDIKAEXAMPLE").env("AWS_SECRET_ACCESS_KEY", CANARY);
    let output = command.output().unwrap();
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    std::fs::remove_dir(&folder).unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

/// As long as AWS's secrets are, and the demo's.
const CANARY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// Runs of base64 as long as a secret key; digests in hex are none. And the marks of keys and signatures.
fn key_material(text: &str) -> Vec<&str> {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let secrets = text.split(|c| !is_base64(c)).filter(|run| run.len() >= 40 && !run.chars().all(is_hex));
    let marks = ["PRIVATE KEY", "Signature=", "AWS4-HMAC-SHA256", "aws_secret_access_key"];
    secrets.chain(marks.into_iter().filter(|mark| text.contains(mark))).collect()
}

#[test]
fn shows_every_call_as_it_went_and_exits_0() {
    let (output, text) = exeat("demo-text", &["demo"]);
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    for (call, verdict, signature, why) in ROWS {
        let row = lines.iter().find(|line| line.contains(call) && !line.starts_with(' ')).unwrap_or(&"");
        let words = row.replacen(call, "", 1);
        let words: Vec<&str> = words.split_whitespace().collect();
        let why = if *verdict == "allowed" { format!("by `{why}`") } else { (*why).to_owned() };
        assert_eq!(words.join(" "), format!("{verdict} {signature} {why}"), "{call}\n{text}");
    }
    for said in [
        "alert 70 protocol_version",
        "client offers TLSv1.1",
        "origin speaks TLSv1.1",
        "for `somebody-else.example`",
    ] {
        assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(said), "{said}\n{text}");
    }
    for line in POLICY.lines() {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(
        text.contains("16 of 16 calls") && text.contains("saw 0 bytes") && text.contains(": whole"),
        "{text}"
    );
    assert!(text.contains("+2 exeat_refusals_total{reason=\"sigv4.unknown_key\"}"), "{text}");
    assert!(!text.contains("unexpected") && !text.contains('\u{1b}'), "plain where no terminal is\n{text}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(key_material(CANARY), [CANARY]);
    assert_eq!(key_material(&text), Vec::<&str>::new());
}

#[test]
fn the_json_has_the_same_rows_with_what_the_origins_saw() {
    let (output, text) = exeat("demo-json", &["demo", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(key_material(&text), Vec::<&str>::new());
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["as_expected"], &report["unexpected"]), (&true.into(), &Value::Array(Vec::new())));
    let calls = report["calls"].as_array().unwrap();
    assert_eq!(calls.len(), ROWS.len());
    let mut flows: Vec<&str> = Vec::new();
    for (row, (call, verdict, signature, why)) in calls.iter().zip(ROWS) {
        assert_eq!((&row["call"], &row["verdict"]), (&(*call).into(), &(*verdict).into()), "{row}");
        assert_eq!(row["signature"].as_str().unwrap_or("-"), *signature, "{row}");
        let (named, requests) = if *verdict == "allowed" { ("statement", 1) } else { ("reason", 0) };
        assert_eq!(
            (&row[named], &row["origins_saw"]["requests"]),
            (&(*why).into(), &requests.into()),
            "{row}"
        );
        assert!(*verdict == "allowed" || row["origins_saw"]["bytes"] == 0, "{row}");
        assert_eq!(row["as_expected"], true, "{row}");
        flows.push(row["flow"].as_str().unwrap());
    }
    flows.sort_unstable();
    flows.dedup();
    assert_eq!(flows.len(), ROWS.len(), "one flow a call");
    let account = |at: usize| calls[at]["account"].as_str().unwrap();
    assert_eq!((account(0), account(4)), ("111122223333", "999988887777"));
    assert_eq!((&report["audit"]["whole"], &report["audit"]["events"]), (&true.into(), &ROWS.len().into()));
    assert_eq!(report["metrics"]["exeat_refusals_total{reason=\"upstream.certificate\"}"], 2.0);
}

#[test]
fn a_call_that_goes_otherwise_than_it_should_makes_the_answer_no() {
    let run = |policy: &str| {
        let mut out = Vec::new();
        let good = demo(policy, Look::Json, &mut out).unwrap();
        let report: Value = serde_json::from_slice(&out).unwrap();
        let calls = report["calls"].as_array().unwrap();
        let wrong = calls.iter().filter(|row| row["as_expected"] == false);
        (good, wrong.map(|row| row["call"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), report)
    };
    let (good, wrong, _) = run(POLICY);
    assert!(good && wrong.is_empty(), "{wrong:?}");
    // Too wide: what should be refused reaches an origin, which says so.
    let (good, wrong, report) = run(&POLICY.replace("*.partner.example", "**.example"));
    assert!(!good);
    assert_eq!(wrong, ["third party that is not named"]);
    let row = &report["calls"][10];
    assert_eq!((&row["verdict"], &row["origins_saw"]["requests"]), (&"allowed".into(), &1.into()), "{row}");
    assert!(row["unexpected"].to_string().contains("origins saw"), "{row}");
    // Too narrow: what should pass is refused.
    let (good, wrong, _) = run(&POLICY.replace("table/orders", "table/others"));
    assert!(!good);
    assert_eq!(wrong, ["own key reads an order"]);
    // Observed only: stranger's keys stay out all the same, and everything else shows as what it is.
    let (good, wrong, _) = run(&POLICY.replace("default: deny", "default: report"));
    assert!(!good && wrong.contains(&"third party that is not named".to_owned()), "{wrong:?}");
    assert!(!wrong.contains(&"stranger's key, our bucket".to_owned()), "{wrong:?}");
}

#[test]
fn a_terminal_gets_colours_the_call_under_way_and_every_alarm() {
    let mut out = Vec::new();
    assert!(!demo(&POLICY.replace("effect: deny", "effect: allow"), Look::Terminal, &mut out).unwrap());
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("...      own key reads a report\r\u{1b}[2K\u{1b}[32mallowed"), "{text:?}");
    assert!(text.contains("\u{1b}[31mrefused"), "{text:?}");
    assert!(text.contains("\u{1b}[1;7munexpected\u{1b}[0m verdict: got allowed, due refused"), "{text:?}");
    assert!(text.contains("15 of 16 calls"), "{text:?}");
}

/// util-linux's `script` makes the terminal: what a person starts is never a pipe, and logs must not mind either.
#[cfg(target_os = "linux")]
#[test]
fn a_person_at_a_terminal_gets_colours_unless_they_want_none() {
    let run = |environment: &[(&str, &str)]| {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{} demo", env!("CARGO_BIN_EXE_exeat")), "/dev/null"]);
        command.env("TERM", "xterm").env_remove("NO_COLOR").envs(environment.iter().copied());
        let output =
            command.stdin(std::process::Stdio::null()).output().expect("util-linux's script is here");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("16 of 16 calls"), "{text}");
        text
    };
    assert!(run(&[]).contains("\u{1b}[32mallowed"));
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!run(&[plain]).contains('\u{1b}'), "{plain:?}");
    }
}

#[test]
fn a_policy_that_cannot_be_read_is_an_error_and_no_demo() {
    let mut out = Vec::new();
    let error =
        demo("version: 1\nstatements: [{id: x, effect: permit}]\n", Look::Plain, &mut out).unwrap_err();
    assert!(error.to_string().contains("policy.yaml:2:"), "{error}");
    assert!(out.is_empty());
}

#[test]
fn the_help_leads_here() {
    let (_, text) = exeat("demo-help", &["--help"]);
    assert!(text.contains("  demo ") && text.contains("First look: exeat demo"), "{text}");
    let (_, text) = exeat("demo-help-of", &["demo", "--help"]);
    assert!(text.contains("\n  exeat demo -o json"), "{text}");
}
