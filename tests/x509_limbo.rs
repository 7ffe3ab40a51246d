//! Every server case of x509-limbo through our own upstream verifier: limbo's answer, or a difference that webpki
//! documents. A new difference fails.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

use std::collections::BTreeMap;
use std::time::Duration;

use exeat::tls::origin::Anchors;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

fn pem(value: &Value) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(value.as_str().unwrap().as_bytes()).unwrap()
}

/// `Err` says who refused.
fn judge(case: &Value) -> Result<(), String> {
    let mut anchors = Anchors::none();
    for root in case["trusted_certs"].as_array().into_iter().flatten() {
        anchors.add(&pem(root)).map_err(|what| format!("root: {what}"))?;
    }
    for crl in case["crls"].as_array().into_iter().flatten() {
        let der = CertificateRevocationListDer::from_pem_slice(crl.as_str().unwrap().as_bytes()).unwrap();
        anchors.add_crl(der)?;
    }
    let verifier = anchors.into_verifier().map_err(|error| error.to_string())?;
    let chain: Vec<_> = case["untrusted_intermediates"].as_array().into_iter().flatten().map(pem).collect();
    let name = case["expected_peer_name"]["value"].as_str().unwrap_or("example.com").to_owned();
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let now = match case["validation_time"].as_str() {
        Some(text) => OffsetDateTime::parse(text, &Rfc3339).unwrap(),
        None => OffsetDateTime::now_utc(),
    };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unix_timestamp().try_into().unwrap()));
    let leaf = pem(&case["peer_certificate"]);
    verifier.verify_server_cert(&leaf, &chain, &name, &[], now).map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn every_server_case_ends_as_limbo_says_or_as_webpki_documents() {
    let exceptions: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("vectors/x509-limbo/webpki-exceptions.json")).unwrap();
    let (mut judged, mut excused, mut wrong) = (0, 0, Vec::new());
    for line in include_str!("vectors/x509-limbo/limbo.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let id = case["id"].as_str().unwrap();
        // No client certificates, no depth limits of a case's own, no other purposes than serverAuth: as webpki's own run.
        let has = |field: &str| match &case[field] {
            Value::Null => false,
            Value::Array(list) => !list.is_empty(),
            _ => true,
        };
        let skipped = case["validation_kind"] != "SERVER"
            || ["max_chain_depth", "signature_algorithms", "key_usage"].iter().any(|field| has(field));
        if skipped {
            continue;
        }
        judged += 1;
        let found = judge(&case);
        let answer = if found.is_ok() { "SUCCESS" } else { "FAILURE" };
        if case["expected_result"] == answer {
            continue;
        }
        let documented = exceptions.get(id).is_some_and(|exception| exception["actual"] == answer);
        if documented {
            excused += 1;
        } else {
            wrong.push(format!("{id}: want {}, got {found:?}", case["expected_result"]));
        }
    }
    assert!(judged > 170, "{judged} cases were judged");
    assert!(wrong.is_empty(), "{judged} judged, {excused} excused, wrong:\n{}", wrong.join("\n"));
    assert!(excused <= 54, "{excused} of {judged} excused");
}
