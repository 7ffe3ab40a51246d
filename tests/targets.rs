//! Destination vectors through the function that every door uses, as `exeat explain target` asks it.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

use std::net::IpAddr;
use std::process::Command;

use exeat::cli::explain::target::{as_json, ask};
use exeat::engine::atlas::Atlas;
use exeat::engine::policy::Policy;
use exeat::engine::target::destination::{Asked, Mode};
use serde_json::Value;

const HOSTS: &str = "[s3.us-east-1.amazonaws.com, '*.s3.us-east-1.amazonaws.com', sts.us-east-1.amazonaws.com, \
                     dynamodb.us-east-1.amazonaws.com, kms.us-east-1.amazonaws.com, sqs.us-east-1.amazonaws.com]";

fn cases() -> Vec<Value> {
    let text = include_str!("vectors/targets/targets.json");
    let mut file: Value = serde_json::from_str(text).expect("the vectors are JSON");
    let cases = file["cases"].as_array_mut().expect("the vectors have cases").drain(..).collect::<Vec<_>>();
    assert_eq!(cases.len() as u64, file["count"].as_u64().unwrap());
    cases
}

/// The policies of the vectors' README. 198.18.0.0/15 stands in for public addresses.
fn policy(name: &str) -> String {
    let sqs = match name {
        "vpc" => ", 10.20.0.0/16",
        "vpc-wide" => ", 0.0.0.0/0, '::/0'",
        _ => "",
    };
    let when = if name == "aws-services" { String::new() } else { format!("when: {{host: {HOSTS}}}") };
    format!(
        "version: 1
addresses:
  s3.us-east-1.amazonaws.com: [198.18.0.0/15]
  '*.s3.us-east-1.amazonaws.com': [198.18.0.0/15]
  kms.us-east-1.amazonaws.com: [198.18.0.0/15]
  sqs.us-east-1.amazonaws.com: [198.18.0.0/15{sqs}]
statements:
  - {{id: aws, effect: allow, action: '*', resource: '*', {when}}}
"
    )
}

fn ips(value: &Value) -> Option<Vec<IpAddr>> {
    let list = value.as_array()?;
    Some(list.iter().map(|ip| ip.as_str().unwrap().parse().unwrap()).collect())
}

#[test]
fn every_vector_ends_as_its_list_says() {
    for case in cases() {
        let id = case["id"].as_str().unwrap();
        let (policy, warnings) =
            Policy::read("vectors", &policy(case["policy"].as_str().unwrap()), Atlas::built_in()).unwrap();
        assert!(warnings.is_empty(), "{id}");
        let mode: Mode = case["mode"].as_str().unwrap().parse().unwrap();
        let asked = Asked { mode, text: case["target"].as_str().unwrap(), sni: case["sni"].as_str() };
        let answers =
            [ips(&case["answers"]).or_else(|| Some(Vec::new())), ips(&case["answers_second_lookup"])];
        let decided = ask(&policy, &asked, answers);
        let shown = as_json(&decided);
        assert!(decided.lookups <= 1, "{id}: {shown}");
        let (decision, reason) = (shown["decision"].as_str().unwrap(), shown["reason"].as_str());
        match case["expect"].as_str().unwrap() {
            "allow" => assert_eq!((decision, &shown["dial"]), ("allow", &case["answers"]), "{id}: {shown}"),
            "allow_public_only" => assert_eq!(
                (decision, &shown["dial"]),
                ("allow", &serde_json::json!([case["answers"][0]])),
                "{id}: {shown}"
            ),
            "malformed" => {
                assert_eq!((decision, reason), ("deny", Some("target.malformed")), "{id}: {shown}");
            }
            "deny" => {
                let want: &[&str] = match case["cls"].as_str().unwrap() {
                    "ipv4-form" => &["target.malformed"],
                    "ipv4-literal" => &["target.literal"],
                    "ipv6-literal" => &["target.literal", "target.malformed"],
                    "dns-answer" => &["target.address"],
                    "mode-parity" => {
                        &["tls.plaintext", "target.mismatch", "tls.no_sni", "policy.no_match", "target.port"]
                    }
                    _ => &["policy.no_match", "target.unknown_aws"],
                };
                assert_eq!(decision, "deny", "{id}: {shown}");
                assert!(want.contains(&reason.unwrap()), "{id}: {shown}");
            }
            other => panic!("{id}: {other} is new"),
        }
        if case["may_resolve"] == false {
            assert_eq!(shown["lookups"], false, "{id}: {shown}");
        }
    }
}

#[test]
fn a_range_as_wide_as_the_world_keeps_metadata_shut() {
    let policy = Policy::read("vectors", &policy("vpc-wide"), Atlas::built_in()).unwrap().0;
    let asked = Asked { mode: Mode::Connect, text: "sqs.us-east-1.amazonaws.com:443", sni: None };
    let reason = |ip: &str| {
        let decided = ask(&policy, &asked, [Some(vec![ip.parse().unwrap()]), None]);
        as_json(&decided)["reason"].as_str().map(str::to_owned)
    };
    for ip in ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "127.0.0.1", "::ffff:127.0.0.1"] {
        assert_eq!(reason(ip).as_deref(), Some("target.address"), "{ip}");
    }
    assert_eq!(reason("10.20.3.4"), None);
}

/// Every door that is told a name gives the same reason for it; absolute form is refused for what it is.
#[test]
fn doors_agree() {
    for case in cases().iter().filter(|case| case["mode"] == "connect" && case["sni"].is_null()) {
        let policy =
            Policy::read("vectors", &policy(case["policy"].as_str().unwrap()), Atlas::built_in()).unwrap().0;
        let text = case["target"].as_str().unwrap();
        let reason = |mode, text: &str, sni| {
            let answers = ips(&case["answers"]).unwrap_or_default();
            as_json(&ask(&policy, &Asked { mode, text, sni }, [Some(answers), None]))
        };
        let connect = reason(Mode::Connect, text, None);
        assert_eq!(reason(Mode::Absolute, &format!("http://{text}/"), None)["reason"], "tls.plaintext");
        let Some((name, port)) = text.rsplit_once(':') else { continue };
        assert_eq!(reason(Mode::Gateway, text, None), connect, "{text}");
        // An original address tells a port that is one.
        if port.parse::<u16>().is_ok_and(|port| port > 0) {
            let transparent = reason(Mode::Transparent, &format!("198.18.0.77:{port}"), Some(name));
            let no_name = name.is_empty() && transparent["reason"] == "tls.no_sni";
            assert!(transparent == connect || no_name, "{text}: {transparent} {connect}");
        }
    }
}

fn run(args: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_exeat")).args(["explain", "target"]).args(args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_verb_answers_with_its_exit_code_and_four_keys() {
    let file = std::env::temp_dir().join(format!("exeat-targets-{}.yaml", std::process::id()));
    std::fs::write(&file, policy("default")).unwrap();
    let file_name = file.to_str().unwrap();
    let s3 = "s3.us-east-1.amazonaws.com:443";
    let rows: &[(&[&str], i32, &str)] = &[
        (
            &[s3, "--answers", "198.18.0.10,10.0.0.5", "--second-answers", "169.254.169.254"],
            0,
            r#"{"decision":"allow","dial":["198.18.0.10"],"lookups":true,"reason":null}"#,
        ),
        (&[s3], 0, r#"{"decision":"allow","dial":[],"lookups":false,"reason":null}"#),
        (
            &[s3, "--answers", ""],
            1,
            r#"{"decision":"deny","dial":[],"lookups":true,"reason":"upstream.resolve"}"#,
        ),
        (
            &["evil.test:443", "--answers", "198.18.0.10"],
            1,
            r#"{"decision":"deny","dial":[],"lookups":false,"reason":"policy.no_match"}"#,
        ),
        (
            &[
                "198.18.0.10:443",
                "--mode",
                "transparent",
                "--sni",
                "s3.us-east-1.amazonaws.com",
                "--answers",
                "198.18.0.11",
            ],
            0,
            r#"{"decision":"allow","dial":["198.18.0.11"],"lookups":true,"reason":null}"#,
        ),
    ];
    for (args, code, want) in rows {
        let (found, out) = run(&[args, &["--policy", file_name, "-o", "json"][..]].concat());
        assert_eq!((found, out.trim()), (Some(*code), *want), "{args:?}");
    }
    let (code, out) = run(&[s3, "--answers", "10.0.0.5", "--policy", file_name]);
    assert_eq!(code, Some(1));
    assert!(out.contains("10.0.0.5 (private)") && out.contains("[target.address]"), "{out}");
    for (args, code) in [
        (&[s3, "--answers", "x"][..], 2),
        (&[s3, "--mode", "sideways"], 2),
        (&[s3, "--policy", "/nonexistent"], 78),
    ] {
        assert_eq!(run(args).0, Some(code), "{args:?}");
    }
    std::fs::remove_file(file).unwrap();
}
