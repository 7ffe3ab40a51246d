//! What stands in the lines, and what must not.

use super::*;

#[test]
fn events_have_cloudtrails_shape() {
    let path = folder("shape").join("audit.jsonl");
    let recorder = records(to_file(&path)).recorder();
    let flow = wait(pass(&recorder)).unwrap().to_string();
    wait(refuse(&recorder));
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["exeat"], "lane");
    assert_eq!(lines[1]["exeat"], "intent");
    for (at, want) in [
        ("/flow", &*flow),
        ("/operation", "dynamodb:PutItem"),
        ("/resource", "arn:aws:dynamodb:us-east-1:111122223333:table/orders"),
        ("/key", "ASIAIOSFODNN7EXAMPLE"),
        ("/verdict", "verified"),
    ] {
        assert_eq!(lines[1].pointer(at).unwrap(), want, "{at}");
    }
    for (at, want) in [
        ("/eventVersion", "1.11"),
        ("/eventSource", "dynamodb.amazonaws.com"),
        ("/eventName", "PutItem"),
        ("/eventType", "AwsApiCall"),
        ("/eventID", &*flow),
        ("/awsRegion", "us-east-1"),
        ("/recipientAccountId", "111122223333"),
        ("/sourceIPAddress", "10.0.0.7"),
        ("/requestID", "A1B2C3"),
        ("/userIdentity/type", "AssumedRole"),
        ("/userIdentity/accountId", "111122223333"),
        ("/userIdentity/sessionContext/sessionIssuer/userName", "orders-writer"),
        ("/resources/0/ARN", "arn:aws:dynamodb:us-east-1:111122223333:table/orders"),
        ("/tlsDetails/tlsVersion", "TLSv1.3"),
        ("/tlsDetails/cipherSuite", "TLS_AES_128_GCM_SHA256"),
        ("/tlsDetails/clientProvidedHostHeader", "dynamodb.us-east-1.amazonaws.com"),
        ("/additionalEventData/exeat/flow", &*flow),
        ("/additionalEventData/exeat/decision", "allow"),
        ("/additionalEventData/exeat/end", "answered"),
        ("/additionalEventData/exeat/door", "forward"),
        ("/additionalEventData/exeat/atlas", &Atlas::built_in().hash()[..12]),
        ("/additionalEventData/exeat/traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("/additionalEventData/exeat/statement", "orders-write"),
        ("/additionalEventData/exeat/payloadOutcome", "matched"),
        ("/additionalEventData/exeat/host", "dynamodb.us-east-1.amazonaws.com"),
        ("/additionalEventData/exeat/clientTls/group", "X25519MLKEM768"),
        ("/additionalEventData/exeat/upstream/address", "52.94.0.1"),
    ] {
        assert_eq!(lines[2].pointer(at).unwrap_or_else(|| panic!("{at}: {}", lines[2])), want, "{at}");
    }
    assert!(lines[2].get("errorCode").is_none());
    assert_eq!(lines[3]["errorCode"], "AccessDenied");
    assert_eq!(lines[3]["additionalEventData"]["exeat"]["reason"], "policy.denied");
    assert_eq!(lines.len(), 4, "a refusal writes its event alone");
}

#[test]
fn a_chain_is_told_once_a_connection_and_its_leaf_every_time() {
    let path = folder("chain").join("audit.jsonl");
    let recorder = records(to_file(&path)).recorder();
    let (operation, identity, arrival, leg) = (operation(), identity(), arrival(), leg());
    let prelude = Recorder::prelude(&arrival);
    for _ in 0..3 {
        let mut entry = recorder.open(&prelude);
        entry.judged(&request(Some(&operation), &identity, &arrival.target));
        wait(entry.close(answered(Some(upstream(&leg)))));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    for leg in ["/additionalEventData/exeat/clientTls", "/additionalEventData/exeat/upstream/tls"] {
        let all: Vec<&Value> = lines.iter().map(|line| line.pointer(leg).unwrap()).collect();
        assert_eq!(
            all[0]["chain"],
            serde_json::json!([
                {"sha256": "ab".repeat(32), "subject": "CN=dynamodb.us-east-1.amazonaws.com",
                 "issuer": "CN=Amazon Root CA 1,O=Amazon,C=US", "notAfter": "2026-11-23T05:00:00Z"},
                {"sha256": "ab".repeat(32), "subject": "CN=Amazon RSA 2048 M01",
                 "issuer": "CN=Amazon Root CA 1,O=Amazon,C=US", "notAfter": "2026-11-23T05:00:00Z"},
            ]),
            "{leg}"
        );
        assert!(all[1].get("chain").is_none() && all[2].get("chain").is_none(), "{leg}: {all:?}");
        for tls in &all {
            assert_eq!((&tls["leaf"], &tls["version"]), (&"ab".repeat(8).into(), &"TLSv1.3".into()), "{leg}");
        }
    }
    // A connection of its own tells its own; one that came to no handshake has nothing to tell.
    let mut entry = recorder.open(&Recorder::prelude(&arrival));
    entry.judged(&request(Some(&operation), &identity, &arrival.target));
    let dialled = LegText::dialled_at("52.94.0.1:443".parse().unwrap(), None);
    wait(entry.close(answered(Some(upstream(&dialled)))));
    let text = std::fs::read_to_string(&path).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let ours = &last["additionalEventData"]["exeat"];
    assert!(ours["clientTls"]["chain"].is_array() && ours["upstream"].get("tls").is_none(), "{ours}");
    assert!(ours["upstream"].get("shown").is_none(), "{ours}");
}

#[test]
fn what_was_shown_and_not_had_stands_apart_from_what_was_negotiated() {
    let path = folder("shown").join("audit.jsonl");
    let recorder = records(to_file(&path)).recorder();
    let (operation, identity, arrival) = (operation(), identity(), arrival());
    let told = |shown: Shown| -> Value {
        let leg = LegText::unshaken_at("52.94.0.1:443".parse().unwrap(), &shown);
        let mut entry = recorder.open(&Recorder::prelude(&arrival));
        entry.judged(&request(Some(&operation), &identity, &arrival.target));
        let refused = Outcome::refused(Reason::UpstreamCertificate, 403, "expired");
        wait(entry.close(Outcome { upstream: Some(Upstream::unanswered(&leg, false)), ..refused }));
        let text = std::fs::read_to_string(&path).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert!(last.get("tlsDetails").is_none(), "CloudTrail's readers take it for what was spoken: {last}");
        last["additionalEventData"]["exeat"]["upstream"].clone()
    };
    let chain: Arc<[Certificate]> = [certificate("CN=old.test")].into();
    let certificates = serde_json::json!([{"sha256": "ab".repeat(32), "subject": "CN=old.test",
        "issuer": "CN=Amazon Root CA 1,O=Amazon,C=US", "notAfter": "2026-11-23T05:00:00Z"}]);
    let whole =
        Shown { version: Some("TLSv1.3"), cipher: Some(0x1301), group: Some(0x11ec), chain: chain.clone() };
    assert_eq!(
        told(whole),
        serde_json::json!({"address": "52.94.0.1", "port": 443, "reused": false, "waitedUs": 0, "shown": {
            "version": "TLSv1.3", "cipher": "TLS13_AES_128_GCM_SHA256", "group": "X25519MLKEM768",
            "leaf": "ab".repeat(8), "chain": certificates}})
    );
    // As far as it is known, and what has no name here by its number.
    let old = Shown { version: Some("SSLv3"), cipher: Some(0x0004), ..Shown::default() };
    assert_eq!(told(old)["shown"], serde_json::json!({"version": "SSLv3", "cipher": "0x0004"}));
    let chain_alone = Shown { chain, ..Shown::default() };
    assert_eq!(
        told(chain_alone)["shown"],
        serde_json::json!({"leaf": "ab".repeat(8), "chain": certificates})
    );
    assert_eq!(told(Shown::default()).get("shown"), None);
}

#[test]
fn an_identity_that_was_not_verified_is_not_told_as_a_fact() {
    let path = folder("unverified").join("audit.jsonl");
    let recorder = records(to_file(&path)).recorder();
    let arrival = arrival();
    for signature in [SignatureState::Bad, SignatureState::UnknownKey, SignatureState::Verified] {
        let (operation, identity) = (operation(), Identity { signature, ..identity() });
        let mut entry = recorder.open(&Recorder::prelude(&arrival));
        entry.judged(&request(Some(&operation), &identity, &arrival.target));
        wait(entry.close(Outcome::refused(Reason::SigV4Signature, 403, "no")));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let types: Vec<_> = text.lines().skip(1).map(|l| serde_json::from_str::<Value>(l).unwrap()).collect();
    let types: Vec<_> = types.iter().map(|v| v["userIdentity"]["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["Unknown", "AWSAccount", "AssumedRole"]);
}

#[test]
fn lines_keep_their_length_and_stay_ascii_whatever_the_request_says() {
    let path = folder("hostile").join("audit.jsonl");
    let records = records_with(to_file(&path), data_at(DataLevel::All));
    let recorder = records.recorder();
    let bad = b"\x1b[31m\r\n{\"exeat\":\"intent\"}\n\xff\xfe\xe2\x80\xa8\"\\".repeat(40_000);
    let long: String = String::from_utf8_lossy(&bad).chars().take(2_000).collect();
    let name: Name = long.clone().into();
    let host = Authority::parse(&format!("{}example.com:8443", "abcdefg.".repeat(30)), None).unwrap();
    let ask = Ask {
        action: Action::Known(name.clone()),
        resource: Resource::Arn { arn: long.clone(), account: AccountId::parse("111122223333") },
    };
    let operation = Operation {
        service: name.clone(),
        name: Some(name.clone()),
        region: name.clone(),
        protocol: Protocol::Cbor,
        asks: vec![ask; 1_000],
    };
    let signer = Signer {
        key_id: name.clone(),
        account: AccountId::parse("111122223333"),
        role: Some(name.clone()),
        own: true,
        untold: false,
        parents: Some(
            vec![
                Parent {
                    by: "cognito-identity:GetCredentialsForIdentity",
                    key_id: Some(name.clone()),
                    account: AccountId::parse("111122223333"),
                    role: Some(name.clone()),
                };
                4
            ]
            .into(),
        ),
    };
    let identity = Identity {
        auth: Auth::PostForm,
        signature: SignatureState::UnknownKey,
        payload: PayloadState::Checksum,
        signer: Some(signer),
    };
    let chain = vec![certificate(&long); 4].into();
    let tls = TlsFacts { alpn: Some(name.clone()), sni: Some(name.clone()), chain, ..tls() };
    let arrival = Arrival {
        target: host.clone(),
        // Of our own chain no more is told.
        tls: Some(TlsFacts { chain: tls.chain[..2].into(), ..tls.clone() }),
        peer: "[2001:db8::1234:5678:9abc:def0]:1".parse().unwrap(),
        ..arrival()
    };
    let (would, leg) = (vec![name.clone(); 100], LegText::dialled_at(arrival.peer, Some(&tls)));
    let up = Upstream {
        request_id: Some(&bad),
        extended_request_id: Some(&bad),
        error_type: Some(&bad),
        ..upstream(&leg)
    };
    for operation in [Some(&operation), None] {
        let mut entry = recorder.open(&Recorder::prelude(&arrival));
        entry.judged(&Request {
            statement: Some(placed(&long)),
            would: &would,
            policy: &long,
            method: &long,
            path: long.as_bytes(),
            user_agent: Some(&bad),
            trace: Some(&bad),
            traceparent: Some(&bad),
            ..request(operation, &identity, &host)
        });
        wait(entry.intend()).unwrap();
        entry.is_of(u32::MAX, &"\u{1}".repeat(500));
        let data = serde_json::json!({ long.as_str(): vec![long.as_str(); 50] });
        entry.tell(Some(&data), Some(&data));
        let outcome = Outcome::refused(Reason::UpstreamBelowFloor, 403, &long);
        wait(entry.close(Outcome { bytes_in: u64::MAX, bytes_out: u64::MAX, upstream: Some(up), ..outcome }));
    }
    wait(recorder.open_connection(Door::Forward, arrival.peer, Some(&bad)).close(Outcome::refused(
        Reason::TlsNoSni,
        0,
        &long,
    )));

    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.iter().all(|b| *b == b'\n' || (0x20..0x7f).contains(b)));
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    assert_eq!(lines.len(), 6);
    // A line without room for the origin's chain leaves it to the next of its connection.
    let tells = |line: &[u8]| line.windows(10).filter(|found| found == b"\"chain\":[{").count();
    assert_eq!(lines.iter().map(|line| tells(line)).collect::<Vec<_>>(), [0, 0, 1, 0, 2, 0]);
    let lengths: Vec<usize> = lines.iter().map(|line| line.len()).collect();
    for (line, length) in lines.iter().zip(&lengths) {
        let value: Value = serde_json::from_slice(line).unwrap();
        let limit = if value["exeat"] == "intent" { 400 } else { 16 * 1024 };
        assert!(*length <= limit, "{length} > {limit}");
    }
    assert!(lengths[2] > 15_000, "the test isn't the longest it could be: {lengths:?}");
    assert!(verify(&bytes).is_whole());
}

#[test]
fn queries_and_third_party_paths_stay_out_of_the_record() {
    let path = folder("secrets").join("audit.jsonl");
    let identity = Identity::NONE;
    let (arrival, operation) = (arrival(), operation());
    for include_data in [false, true] {
        let settings = if include_data { data_at(DataLevel::All) } else { Settings::default() };
        let records = records_with(to_file(&path), settings);
        let recorder = records.recorder();
        for operation in [None, Some(&operation)] {
            let mut entry = recorder.open(&Recorder::prelude(&arrival));
            let path = "/hooks/PLANTED-PATH?X-Amz-Security-Token=PLANTED-TOKEN";
            entry
                .judged(&Request { path: path.as_bytes(), ..request(operation, &identity, &arrival.target) });
            wait(entry.intend()).unwrap();
            wait(entry.close(answered(None)));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("PLANTED-TOKEN"));
        assert_eq!(text.contains("PLANTED-PATH"), include_data, "only where data was asked for");
    }
}

#[test]
fn an_error_of_the_services_own_is_named_and_an_answer_without_one_is_none() {
    let path = folder("errors").join("audit.jsonl");
    let recorder = records(to_file(&path)).recorder();
    let (operation, identity, arrival, leg) = (operation(), identity(), arrival(), leg());
    for error_type in [
        Some(&b"ResourceNotFoundException:http://internal.amazon.com/coral/x/"[..]),
        Some(b"com.amazonaws.x#Throttled"),
        None,
    ] {
        let mut entry = recorder.open(&Recorder::prelude(&arrival));
        entry.judged(&request(Some(&operation), &identity, &arrival.target));
        let upstream = Some(Upstream { error_type, ..upstream(&leg) });
        wait(entry.close(Outcome { upstream, ..Outcome::new(End::Answered, 400) }));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let codes: Vec<Value> = text
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["errorCode"].clone())
        .collect();
    assert_eq!(codes, ["ResourceNotFoundException".into(), "Throttled".into(), Value::Null]);
}

#[test]
fn an_entry_that_is_dropped_records_that_it_was_aborted() {
    let path = folder("aborted").join("audit.jsonl");
    let records = records(to_file(&path));
    let recorder = records.recorder();
    drop(recorder.open(&Recorder::prelude(&arrival())));
    let (operation, identity, arrival) = (operation(), identity(), arrival());
    let mut entry = recorder.open(&Recorder::prelude(&arrival));
    entry.judged(&request(Some(&operation), &identity, &arrival.target));
    wait(entry.intend()).unwrap();
    drop(entry);
    let text = std::fs::read_to_string(&path).unwrap();
    let ends: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(ends[1]["additionalEventData"]["exeat"]["end"], "aborted");
    assert_eq!(ends[1]["eventType"], "Connection");
    assert_eq!(ends[3]["additionalEventData"]["exeat"]["end"], "aborted");
    assert_eq!(ends[3]["additionalEventData"]["exeat"]["reason"], "request.aborted");
    assert_eq!((ends.len(), verify(&text).interrupted()), (4, 0));
    let metrics = String::from_utf8(records.metrics.text()).unwrap();
    assert!(metrics.contains(r#"exeat_refusals_total{reason="request.aborted"} 2"#), "{metrics}");
}

#[test]
fn every_level_keeps_every_line_and_tells_data_where_it_says_so() {
    let data = serde_json::json!({"TableName": "orders"});
    for (level, told) in [
        (DataLevel::All, [true, true, true, true]),
        (DataLevel::Error, [false, true, true, true]),
        (DataLevel::Fatal, [false, false, false, true]),
        (DataLevel::Off, [false; 4]),
    ] {
        let path = folder(level.as_str()).join("audit.jsonl");
        let recorder = records_with(to_file(&path), data_at(level)).recorder();
        let (operation, identity, arrival) = (operation(), identity(), arrival());
        for outcome in [
            answered(None),
            Outcome::new(End::Answered, 400),
            Outcome::refused(Reason::PolicyDenied, 403, "no"),
            Outcome::refused(Reason::UpstreamConnect, 502, "gone"),
        ] {
            let mut entry = recorder.open(&Recorder::prelude(&arrival));
            entry.judged(&request(Some(&operation), &identity, &arrival.target));
            wait(entry.intend()).unwrap();
            entry.tell(Some(&data), None);
            wait(entry.close(outcome));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(verify(&text).is_whole());
        assert_eq!(text.lines().count(), 9, "{level}");
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let got: Vec<bool> = events
            .filter(|line| line["eventVersion"].is_string())
            .inspect(|event| assert!(event["responseElements"].is_null()))
            .map(|event| event["requestParameters"] == data)
            .collect();
        assert_eq!(got, told, "{level}");
    }
}

#[test]
fn entries_travel_with_the_task_that_owns_them() {
    fn is_send<T: Send>(_: T) {}
    let recorder = records(to_file(Path::new("/dev/null"))).recorder();
    is_send(recorder.open(&Recorder::prelude(&arrival())));
    is_send(async move { recorder.open(&Recorder::prelude(&arrival())).close(answered(None)).await });
}
