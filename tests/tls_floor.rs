//! The floor over the bytes of real clients: what they offer is read, and who may go on.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

use std::time::Duration;

use exeat::engine::hello::server::{self, ServerFirst};
use exeat::engine::hello::{self, Hello};
use exeat::engine::reason::Reason;
use exeat::engine::target::Host;
use exeat::tls::handshake::{HelloError, protocol_version_alert, read_hello};
use serde_json::Value;
use tokio::time::Instant;

struct Case {
    id: String,
    bytes: Vec<u8>,
    offers: String,
    below_floor: bool,
    sni: Option<Host>,
    alpn: Vec<String>,
}

fn cases() -> Vec<Case> {
    let file: Value = serde_json::from_str(include_str!("vectors/tls/hellos.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    file["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| Case {
            id: text(&case["id"]),
            bytes: text(&case["hex"])
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect(),
            offers: text(&case["offers"]),
            below_floor: case["below_floor"].as_bool().unwrap(),
            sni: case["sni"].as_str().map(|name| Host::parse(name).unwrap()),
            alpn: case["alpn"].as_array().unwrap().iter().map(text).collect(),
        })
        .collect()
}

#[test]
fn what_real_clients_offer_is_read_off_their_bytes() {
    for case in cases() {
        let Hello::Client(hello) = hello::read(&case.bytes) else { panic!("{}", case.id) };
        assert_eq!(hello.offered(), case.offers, "{}", case.id);
        assert_eq!(hello.below_floor(), case.below_floor, "{}", case.id);
        assert_eq!(hello.sni, case.sni, "{}", case.id);
        let alpn: Vec<_> = hello.alpn.iter().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect();
        assert_eq!(alpn, case.alpn, "{}", case.id);
        for cut in 0..case.bytes.len() {
            assert!(
                matches!(hello::read(&case.bytes[..cut]), Hello::NeedMore { .. }),
                "{} cut at {cut}",
                case.id
            );
        }
    }
}

#[tokio::test]
async fn only_clients_at_the_floor_or_above_get_past_the_hello() {
    for case in cases() {
        let (_near, mut far) = tokio::io::duplex(64);
        let deadline = Instant::now() + Duration::from_secs(5);
        match read_hello(&mut far, case.bytes, deadline).await {
            Ok((_, hello)) => {
                assert!(!case.below_floor, "{}", case.id);
                assert_eq!(hello.offered(), case.offers, "{}", case.id);
            }
            Err(error) => {
                assert!(case.below_floor, "{}: {error}", case.id);
                assert_eq!(error.reason(), Some(Reason::TlsBelowFloor), "{}", case.id);
                assert!(
                    matches!(error, HelloError::BelowFloor { offered } if offered == case.offers),
                    "{}",
                    case.id
                );
            }
        }
    }
}

#[test]
fn the_alert_for_old_clients_says_protocol_version() {
    assert_eq!(
        server::first(&protocol_version_alert()),
        ServerFirst::Alert { record: 0x0301, description: 70 }
    );
}
