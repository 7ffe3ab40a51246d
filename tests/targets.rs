//! Destination vectors: what text becomes, and which answers may be dialled. Which *names* are allowed is the policy's
//! business and tested there; here a name outside the vectors' list must merely stay another name.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

use std::net::IpAddr;

use exeat::engine::target::{AddressVerdict, Authority, Host, dialable, judge_address};
use ipnet::IpNet;
use serde_json::Value;

const NAMES: &[&str] = &[
    "s3.us-east-1.amazonaws.com",
    "sts.us-east-1.amazonaws.com",
    "dynamodb.us-east-1.amazonaws.com",
    "kms.us-east-1.amazonaws.com",
    "sqs.us-east-1.amazonaws.com",
];

fn cases() -> Vec<Value> {
    let text = include_str!("vectors/targets/targets.json");
    let mut file: Value = serde_json::from_str(text).expect("the vectors are JSON");
    let cases = file["cases"].as_array_mut().expect("the vectors have cases").drain(..).collect::<Vec<_>>();
    assert_eq!(cases.len() as u64, file["count"].as_u64().unwrap());
    cases
}

/// The list's own stand-in for public addresses, and what the policy of the case opens for the host.
fn ranges(policy: &str) -> Vec<IpNet> {
    let extra: &[&str] = match policy {
        "vpc" => &["10.20.0.0/16"],
        "vpc-wide" => &["0.0.0.0/0", "::/0"],
        _ => &[],
    };
    ["198.18.0.0/15"].iter().chain(extra).map(|range| range.parse().unwrap()).collect()
}

fn listed(host: &Host) -> bool {
    let Some(name) = host.as_name() else { return false };
    let bucket = name.strip_suffix(".s3.us-east-1.amazonaws.com").is_some_and(|label| !label.contains('.'));
    NAMES.contains(&name) || bucket
}

#[test]
fn every_vector_ends_as_its_list_says() {
    for case in cases() {
        let (id, text) = (case["id"].as_str().unwrap(), case["target"].as_str().unwrap());
        let (expect, class) = (case["expect"].as_str().unwrap(), case["cls"].as_str().unwrap());
        let ranges = ranges(case["policy"].as_str().unwrap());
        let answers: Vec<IpAddr> = case["answers"]
            .as_array()
            .map(|list| list.iter().map(|ip| ip.as_str().unwrap().parse().unwrap()).collect())
            .unwrap_or_default();
        let parsed = Authority::parse(text, None);
        match (expect, class) {
            ("malformed", _) | ("deny", "ipv4-form") => assert!(parsed.is_err(), "{id}: {parsed:?}"),
            ("allow", "mode-parity") => {
                // Transparent: the original address is never dialled; the SNI is the name.
                let sni = Host::parse(case["sni"].as_str().unwrap()).unwrap();
                assert!(listed(&sni) && matches!(parsed.unwrap().host, Host::Literal(_)), "{id}");
                assert_eq!(dialable(&answers, &ranges).unwrap(), answers, "{id}");
            }
            ("allow", _) => {
                assert!(listed(&parsed.unwrap().host), "{id}");
                assert_eq!(dialable(&answers, &ranges).unwrap(), answers, "{id}");
            }
            ("allow_public_only", _) => {
                assert!(listed(&parsed.unwrap().host), "{id}");
                assert_eq!(dialable(&answers, &ranges).unwrap(), [answers[0]], "{id}");
            }
            ("deny", "ipv4-literal" | "ipv6-literal") => {
                // A literal has no name behind it; the special ones stay shut besides.
                let Ok(Authority { host: Host::Literal(ip), .. }) = parsed else {
                    assert!(parsed.is_err(), "{id}: {parsed:?}");
                    continue;
                };
                let public = case["why"].as_str().unwrap().starts_with("public");
                assert_eq!(judge_address(ip, &[]) == AddressVerdict::Public, public, "{id}");
            }
            ("deny", "dns-answer") => {
                assert!(listed(&parsed.unwrap().host), "{id}");
                assert!(dialable(&answers, &ranges).is_err(), "{id}");
            }
            ("deny", "mode-parity") => {
                // Absolute form is no authority; otherwise port, SNI or name differ from what is allowed.
                let Ok(authority) = parsed else { continue };
                let same_name = match case["sni"].as_str() {
                    Some(sni) => Host::parse(sni).as_ref() == Ok(&authority.host),
                    None => listed(&authority.host),
                };
                assert!(authority.port != 443 || !same_name, "{id}");
            }
            ("deny", _) => assert!(!listed(&parsed.unwrap().host), "{id}"),
            other => panic!("{id}: {other:?} is new"),
        }
    }
}

#[test]
fn a_range_as_wide_as_the_world_keeps_metadata_shut() {
    let wide = ranges("vpc-wide");
    for ip in ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "127.0.0.1", "::ffff:127.0.0.1"] {
        assert!(dialable(&[ip.parse().unwrap()], &wide).is_err(), "{ip}");
    }
    assert!(dialable(&["10.20.3.4".parse().unwrap()], &wide).is_ok());
}
