//! The order of statements never matters: not for the decision, nor for which statement is named.

use exeat::engine::Judgement;
use exeat::engine::atlas::Atlas;
use exeat::engine::facts::TlsVersion;
use exeat::engine::policy::Policy;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::message::Message;
use super::world::{NOW, Who, arrival, judged, keys};

/// A statement's line, without its id. Small alphabets, so that statements and requests often meet.
fn statement() -> impl Strategy<Value = String> {
    let effect = || select(vec!["allow", "allow", "deny"]);
    let mode = || select(vec!["", "", "", ", mode: report"]);
    let actions = select(vec![
        "s3:GetObject",
        "s3:PutObject",
        "s3:Get*",
        "s3:@read",
        "s3:@write",
        "s3:*",
        "*",
        "sqs:*",
    ]);
    let resources = select(vec![
        "*",
        "arn:aws:s3:::aaa",
        "arn:aws:s3:::aaa/*",
        "arn:aws:s3:::aaa/x",
        "arn:aws:s3:::aaa/x*",
        "arn:aws:s3:::bbb/*",
        "arn:aws:s3:::bb?/x/y",
        "arn:*",
        "arn:aws:s3:::*/x",
    ]);
    let when = select(vec![
        "",
        "",
        "",
        ", when: {signature: unknown_key}",
        ", when: {signer.role: orders-api}",
        ", when: {signer.role: {not: orders-api}}",
        ", when: {auth: none}",
        ", when: {payload: signed}",
    ]);
    let aws = (effect(), mode(), actions, vec(resources, 1..3), when).prop_map(
        |(effect, mode, action, on, when)| {
            let on: Vec<_> = on.iter().map(|arn| format!("\"{arn}\"")).collect();
            format!("effect: {effect}{mode}, action: \"{action}\", resource: [{}]{when}", on.join(", "))
        },
    );
    let upstream = select(vec!["", ", upstream: {tls: \">=1.3\"}"]);
    let http = (
        effect(),
        mode(),
        select(vec!["a.test", "*.test", "**.test", "b.test"]),
        select(vec!["", ", method: GET", ", path: /x", ", path: [\"/x/*\", /y]"]),
        upstream,
    )
        .prop_map(|(effect, mode, host, more, upstream)| {
            let upstream = if effect == "allow" { upstream } else { "" };
            format!("effect: {effect}{mode}, http: {{host: \"{host}\"{more}}}{upstream}")
        });
    prop_oneof![3 => aws, 1 => http]
}

fn policy(statements: &[(usize, String)], default: &str) -> Policy {
    let mut text = format!("version: 1\ndefault: {default}\nstatements:\n");
    for (id, line) in statements {
        text.push_str(&format!("  - {{id: s{id}, {line}}}\n"));
    }
    match Policy::read("policy.yaml", &text, Atlas::built_in()) {
        Ok((policy, _)) => policy,
        Err(problems) => panic!("{problems:#?}\n{text}"),
    }
}

/// Decision, statement, reason, obligations and what would have acted.
fn outcome(policy: &Policy, message: &Message) -> (bool, Option<String>, String, Vec<String>) {
    let head = message.head().unwrap();
    let arrival = arrival(&head, None, TlsVersion::Tls13);
    match judged(policy, &head, Some(b""), &arrival, &keys(), NOW) {
        Judgement::Allow(allowed) => {
            let permit = &allowed.permit;
            let would = permit.would().iter().map(ToString::to_string).collect();
            let obliged = format!("observed {}, TLS 1.3 {}", permit.observed(), permit.min_tls13());
            (true, permit.statement().map(|placed| placed.id.to_string()), obliged, would)
        }
        Judgement::Deny(denial) => {
            let denied =
                denial.denied.unwrap_or_else(|| panic!("only the policy refuses these: {}", denial.said));
            let would = denied.would.iter().map(ToString::to_string).collect();
            let by = denied.statement.map(|placed| placed.id.to_string());
            (false, by, denied.reason.to_string(), would)
        }
        Judgement::NeedBody | Judgement::NeedSigner(_) => panic!("it can't be judged"),
    }
}

fn messages() -> Vec<Message> {
    let mut messages = Vec::new();
    for who in [Who::Own, Who::Role, Who::Away, Who::Colleague, Who::Nobody] {
        for line in [
            "GET /aaa/x",
            "PUT /aaa/x",
            "GET /bbb/x/y",
            "GET /aaa",
            "GET /aaa/x?versionId=1",
            "GET /aaa/x?novelty",
        ] {
            let mut message =
                Message::parse(&format!("{line} HTTP/1.1\nhost: s3.us-east-1.amazonaws.com\n\n"));
            if who != Who::Nobody {
                message = who.signer("s3".to_owned(), "us-east-1".to_owned(), None).sign(message);
            }
            messages.push(message);
        }
    }
    for line in ["GET /x", "POST /x/1", "GET /X"] {
        messages.push(Message::parse(&format!("{line} HTTP/1.1\nhost: a.test\n\n")));
        messages.push(Message::parse(&format!("{line} HTTP/1.1\nhost: c.b.test\n\n")));
    }
    messages
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_the_statements_decides_alike(
        (given, mixed) in vec(statement(), 1..9)
            .prop_map(|lines| lines.into_iter().enumerate().collect::<Vec<_>>())
            .prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle())),
        default in select(vec!["deny", "deny", "report"]),
    ) {
        let (one, other) = (policy(&given, default), policy(&mixed, default));
        for message in messages() {
            prop_assert_eq!(
                outcome(&one, &message),
                outcome(&other, &message),
                "{}", String::from_utf8_lossy(&message.wire())
            );
        }
    }

    #[test]
    fn a_further_deny_never_allows_and_a_further_allow_never_denies(
        given in vec(statement(), 1..8),
        more in statement(),
    ) {
        let lines: Vec<_> = given.into_iter().enumerate().collect();
        let longer: Vec<_> = lines.iter().cloned().chain([(99, more.clone())]).collect();
        let (shorter, longer) = (policy(&lines, "deny"), policy(&longer, "deny"));
        for message in messages() {
            let (before, after) = (outcome(&shorter, &message).0, outcome(&longer, &message).0);
            let forbidden = if more.contains("mode: report") {
                before != after
            } else if more.starts_with("effect: deny") {
                !before && after
            } else {
                before && !after
            };
            prop_assert!(!forbidden, "{more}: {}", String::from_utf8_lossy(&message.wire()));
        }
    }
}
