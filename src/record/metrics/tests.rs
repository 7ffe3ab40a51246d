use super::*;

#[test]
fn places_follow_the_words_of_each_set() {
    for (place, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!((reason.place(), Reason::WORDS[place]), (place, reason.as_str()));
    }
}

#[test]
fn counts_an_attempt_under_its_words_and_nothing_for_our_own_calls() {
    let metrics = Metrics::new("1.2.3");
    let mut labels = Labels {
        door: Some(Door::Forward),
        decision: Decision::Deny,
        protocol: Some(Protocol::S3),
        signed: Some((Auth::Presigned, SignatureState::Bad)),
        spent: Spent { all: Duration::from_micros(60), deciding: Duration::from_micros(20) },
    };
    let outcome = Outcome::refused(Reason::SigV4Signature, 403, "no");
    let cells = metrics.cells();
    metrics.count(&cells, &labels, &outcome, Duration::from_millis(2), None);
    labels.door = None;
    metrics.count(&cells, &labels, &outcome, Duration::from_millis(2), None);
    let tls = |group| TlsFacts {
        version: TlsVersion::Tls13,
        cipher: "TLS13_AES_128_GCM_SHA256",
        group,
        alpn: None,
        sni: None,
        chain: Arc::default(),
    };
    metrics.handshake(Leg::Client, &tls(Some("X25519MLKEM768")));
    metrics.handshake(Leg::Upstream, &tls(Some("X448")));
    metrics.gauged_by(|metrics| {
        metrics.pool(PoolState::Idle).set(7);
        metrics.in_use(Resource::Dials).set(3);
    });
    metrics.reload(Reload::Refused);
    let text = String::from_utf8(metrics.text()).unwrap();
    for line in [
        r#"exeat_requests_total{decision="deny",door="forward",protocol="s3",reason="sigv4.signature"} 1"#,
        r#"exeat_refusals_total{reason="sigv4.signature"} 1"#,
        r#"exeat_refusals_total{reason="policy.denied"} 0"#,
        r#"exeat_signatures_total{state="bad"} 1"#,
        r#"exeat_auth_total{auth="presigned"} 1"#,
        r#"exeat_payload_total{outcome="unchecked"} 1"#,
        r#"exeat_handshake_groups_total{group="X25519MLKEM768",leg="client"} 1"#,
        r#"exeat_handshake_groups_total{group="other",leg="upstream"} 1"#,
        "exeat_policy_last_reload_successful 0",
        "exeat_audit_up 1",
        r#"exeat_decide_seconds_bucket{le="0.00001"} 0"#,
        r#"exeat_decide_seconds_bucket{le="0.000025"} 1"#,
        r#"exeat_verify_seconds_bucket{le="0.000025"} 0"#,
        r#"exeat_verify_seconds_bucket{le="0.00005"} 1"#,
        "exeat_verify_seconds_count 1",
        "exeat_upstream_seconds_count 0",
        r#"exeat_handshakes_total{leg="client",version="TLSv1.3"} 1"#,
        r#"exeat_pool_connections{state="idle"} 7"#,
        r#"exeat_in_use{resource="dials"} 3"#,
        r#"exeat_policy_reloads_total{result="refused"} 1"#,
        r#"exeat_build_info{version="1.2.3"} 1"#,
    ] {
        assert!(text.lines().any(|got| got == line), "{line} is not in\n{text}");
    }
}
