//! Audit lines end to end: written by recorders, read back by `audit verify`, and then tampered with.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use exeat::cli::audit;
use exeat::engine::facts::*;
use exeat::engine::reason::Reason;
use exeat::engine::target::Authority;
use exeat::record::verify::{Fault, Report, Verifier};
use exeat::record::*;
use serde_json::Value;

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("audit").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn records_with(sink: Sink, settings: Settings) -> Arc<Records> {
    Records::new(sink, Metrics::new("test"), settings, BootId::random().unwrap())
}

fn records(sink: Sink) -> Arc<Records> {
    records_with(sink, Settings::default())
}

fn to_file(path: &Path) -> Sink {
    Sink::open(&Target::File { path: path.into(), rotation: None }).unwrap()
}

fn arrival() -> Arrival {
    Arrival {
        door: Door::Forward,
        target: Authority::parse("dynamodb.us-east-1.amazonaws.com:443", None).unwrap(),
        peer: "10.0.0.7:50000".parse().unwrap(),
        tls: Some(tls()),
    }
}

fn tls() -> TlsFacts {
    TlsFacts {
        version: TlsVersion::Tls13,
        cipher: "TLS13_AES_128_GCM_SHA256",
        group: Some("X25519MLKEM768"),
        alpn: Some("http/1.1".into()),
        sni: Some("dynamodb.us-east-1.amazonaws.com".into()),
    }
}

fn operation() -> Operation {
    Operation {
        service: "dynamodb".into(),
        name: Some("PutItem".into()),
        region: "us-east-1".into(),
        protocol: Protocol::Json10,
        asks: vec![Ask {
            action: Action::Known("dynamodb:PutItem".into()),
            resource: Resource::Arn {
                arn: "arn:aws:dynamodb:us-east-1:111122223333:table/orders".into(),
                account: AccountId::parse("111122223333"),
            },
        }],
    }
}

fn identity() -> Identity {
    Identity {
        auth: Auth::SigV4,
        signature: SignatureState::Verified,
        payload: PayloadState::Signed,
        signer: Some(Signer {
            key_id: "ASIAIOSFODNN7EXAMPLE".into(),
            account: AccountId::parse("111122223333"),
            role: Some("orders-writer".into()),
            own: true,
        }),
    }
}

fn request<'a>(operation: Option<&'a Operation>, identity: &'a Identity, host: &'a Authority) -> Request<'a> {
    Request {
        decision: Decision::Allow,
        statement: Some("orders-write"),
        would: &[],
        policy: "9f31c2a07be4",
        operation,
        identity,
        method: "POST",
        host,
        path: "/",
        user_agent: Some(b"Boto3/1.40.1 md/Botocore#1.40.1 lang/python#3.13"),
        trace: Some(b"Root=1-67891233-abcdef012345678912345678"),
        spent: Duration::from_micros(12),
    }
}

fn answered(upstream: Option<Upstream<'_>>) -> Outcome<'_> {
    Outcome {
        payload: PayloadOutcome::Matched,
        bytes_in: 512,
        bytes_out: 2,
        upstream,
        ..Outcome::new(End::Answered, 200)
    }
}

fn upstream(tls: &TlsFacts) -> Upstream<'_> {
    Upstream {
        address: "52.94.0.1:443".parse().unwrap(),
        tls: Some(tls),
        reused: true,
        request_id: Some(b"A1B2C3"),
        extended_request_id: None,
        waited: Duration::from_millis(3),
    }
}

/// One allowed request: two lines.
async fn pass(recorder: &Recorder) -> Result<FlowId, AuditDown> {
    let (operation, identity, arrival, tls) = (operation(), identity(), arrival(), tls());
    let mut entry = recorder.open(&arrival);
    let flow = entry.flow();
    entry.judged(&request(Some(&operation), &identity, &arrival.target));
    entry.intend().await?;
    entry.close(answered(Some(upstream(&tls)))).await;
    Ok(flow)
}

/// One denied request: one line.
async fn refuse(recorder: &Recorder) {
    let (operation, identity, arrival) = (operation(), identity(), arrival());
    let mut entry = recorder.open(&arrival);
    entry.judged(&Request {
        decision: Decision::Deny,
        ..request(Some(&operation), &identity, &arrival.target)
    });
    entry.close(Outcome::refused(Reason::PolicyDenied, 403, "denied by `no-orders`")).await;
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Text of a file to which three lanes wrote 1,000 lines each, in turns.
fn three_lanes(name: &str) -> String {
    let path = folder(name).join("audit.jsonl");
    let records = records(to_file(&path));
    let lanes = [records.recorder(), records.recorder(), records.recorder()];
    wait(async {
        for _ in 0..333 {
            for lane in &lanes {
                pass(lane).await.unwrap();
                refuse(lane).await;
            }
        }
    });
    std::fs::read_to_string(path).unwrap()
}

fn verify(text: impl AsRef<[u8]>) -> Report {
    let mut verifier = Verifier::default();
    verifier.read("audit.jsonl", &mut text.as_ref()).unwrap();
    verifier.finish()
}

fn first_fault(report: &Report) -> (u64, Fault) {
    let mut bad: Vec<_> = report.lanes.iter().filter_map(|lane| lane.bad.clone()).collect();
    bad.sort_by_key(|bad| bad.place.line);
    (bad[0].place.line, bad[0].fault)
}

/// The lines of one lane only, as `(line number from 1, text)`.
fn of_lane<'a>(lines: &[&'a str], lane: u16) -> Vec<(usize, &'a str)> {
    let name = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let ours = value.pointer("/additionalEventData/exeat").unwrap_or(&value);
        ours["lane"].as_str().unwrap().to_owned()
    };
    let wanted = format!("-{lane}");
    let numbered = lines.iter().enumerate().map(|(at, line)| (at + 1, *line));
    numbered.filter(|(_, line)| name(line).ends_with(&wanted)).collect()
}

#[test]
fn an_untouched_file_of_three_lanes_is_whole() {
    let text = three_lanes("whole");
    let report = verify(&text);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.lines, report.lanes.len(), report.torn, report.interrupted()), (3000, 3, 0, 0));
    for lane in &report.lanes {
        assert_eq!((lane.lines, lane.first_seq, lane.last_seq), (1000, 0, Some(999)));
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let text = three_lanes("flip");
    let bytes = text.as_bytes();
    let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at).collect();
    // The lanes' first lines, an intent, an event and a refusal amid the file, cut so that both have lines after them.
    let bytes = &bytes[..=ends[60]];
    let mut checked = 0;
    for at in (0..=ends[2]).chain(ends[30] + 1..=ends[38]) {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 7);
        assert!(!verify(&changed).is_whole(), "byte {at}");
        checked += 1;
    }
    assert!(checked > 3_000, "{checked}");
    let mut edited = text.clone();
    let at = text.find("\"status\":200").unwrap();
    let line = text[..at].matches('\n').count() as u64 + 1;
    edited.replace_range(at..at + 12, "\"status\":201");
    assert_eq!(first_fault(&verify(&edited)), (line, Fault::Edited));
}

#[test]
fn every_byte_of_a_last_line_is_guarded() {
    let text = three_lanes("flip-last");
    let lines: Vec<&str> = text.lines().collect();
    let kept = of_lane(&lines[..30], 1).iter().map(|(_, line)| format!("{line}\n")).collect::<String>();
    assert!(verify(&kept).is_whole());
    let start = kept[..kept.len() - 1].rfind('\n').unwrap() + 1;
    for at in start..kept.len() {
        for bit in 0..8 {
            let mut changed = kept.clone().into_bytes();
            changed[at] ^= 1 << bit;
            assert!(!verify(&changed).is_whole(), "byte {} bit {bit}: {:?}", at - start, changed[at] as char);
        }
    }
}

#[test]
fn a_removed_a_repeated_and_two_swapped_lines_are_found_and_named() {
    let text = three_lanes("moved");
    let lines: Vec<&str> = text.lines().collect();
    let lane = of_lane(&lines, 1);
    let (at, next) = (lane[500].0 - 1, lane[501].0 - 1);
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();

    let mut removed = lines.clone();
    removed.remove(at);
    let report = verify(joined(&removed));
    assert_eq!(first_fault(&report), (next as u64, Fault::Gap { expected: 500, found: 501 }));
    assert_eq!(report.lanes.iter().filter(|lane| lane.bad.is_some()).count(), 1, "the others stay whole");

    let mut repeated = lines.clone();
    repeated.insert(at + 1, lines[at]);
    assert_eq!(
        first_fault(&verify(joined(&repeated))),
        (at as u64 + 2, Fault::Repeated { expected: 501, found: 500 })
    );

    let mut swapped = lines.clone();
    swapped.swap(at, next);
    assert_eq!(
        first_fault(&verify(joined(&swapped))),
        (at as u64 + 1, Fault::Swapped { expected: 500, found: 501 })
    );

    let headless = joined(&lines[3..]);
    assert_eq!(verify(&headless).lanes[0].bad.as_ref().unwrap().fault, Fault::Headless);
}

#[test]
fn a_torn_last_line_is_counted_and_accepted_and_the_next_start_goes_on() {
    let path = folder("torn").join("audit.jsonl");
    let first = records(to_file(&path));
    let recorder = first.recorder();
    for _ in 0..3 {
        wait(pass(&recorder)).unwrap();
    }
    let text = std::fs::read(&path).unwrap();
    let last = text[..text.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    for cut in last + 1..text.len() - 1 {
        let report = verify(&text[..cut]);
        assert!(report.is_whole(), "cut at {cut}: {report:?}");
        assert_eq!((report.torn, report.interrupted()), (1, 1));
    }
    assert_eq!(verify(&text[..text.len() - 1]).torn, 0, "only its line end is missing");

    std::fs::write(&path, &text[..last + 100]).unwrap();
    wait(pass(&records(to_file(&path)).recorder())).unwrap();
    let report = verify(std::fs::read(&path).unwrap());
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.torn, report.lanes.len(), report.interrupted()), (1, 2, 1));

    // The nearest thing that must not pass: half a line with a line end, in the middle of a file.
    let mut cut = text.clone();
    cut.drain(last - 20..last - 1);
    assert!(!verify(&cut).is_whole());
}

#[test]
fn an_intent_without_event_is_an_interrupted_call_and_no_fault() {
    let path = folder("interrupted").join("audit.jsonl");
    let recorder = records(to_file(&path)).recorder();
    let (operation, identity, arrival) = (operation(), identity(), arrival());
    let mut entry = recorder.open(&arrival);
    entry.judged(&request(Some(&operation), &identity, &arrival.target));
    wait(entry.intend()).unwrap();
    let report = verify(std::fs::read(&path).unwrap());
    assert!(report.is_whole());
    assert_eq!((report.lines, report.interrupted()), (2, 1));
    wait(entry.close(answered(None)));
    assert_eq!(verify(std::fs::read(&path).unwrap()).interrupted(), 0);
}

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
fn an_identity_that_was_not_verified_is_not_told_as_a_fact() {
    let path = folder("unverified").join("audit.jsonl");
    let recorder = records(to_file(&path)).recorder();
    let arrival = arrival();
    for signature in [SignatureState::Bad, SignatureState::UnknownKey, SignatureState::Verified] {
        let (operation, identity) = (operation(), Identity { signature, ..identity() });
        let mut entry = recorder.open(&arrival);
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
    let records = records_with(to_file(&path), Settings { include_data: true, ..Settings::default() });
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
    };
    let identity = Identity {
        auth: Auth::PostForm,
        signature: SignatureState::UnknownKey,
        payload: PayloadState::Checksum,
        signer: Some(signer),
    };
    let tls = TlsFacts { alpn: Some(name.clone()), sni: Some(name.clone()), ..tls() };
    let arrival = Arrival {
        target: host.clone(),
        tls: Some(tls.clone()),
        peer: "[2001:db8::1234:5678:9abc:def0]:1".parse().unwrap(),
        ..arrival()
    };
    let would = vec![name.clone(); 100];
    let up = Upstream {
        request_id: Some(&bad),
        extended_request_id: Some(&bad),
        address: arrival.peer,
        ..upstream(&tls)
    };
    for operation in [Some(&operation), None] {
        let mut entry = recorder.open(&arrival);
        entry.judged(&Request {
            statement: Some(&long),
            would: &would,
            policy: &long,
            method: &long,
            path: &long,
            user_agent: Some(&bad),
            trace: Some(&bad),
            ..request(operation, &identity, &host)
        });
        wait(entry.intend()).unwrap();
        let outcome = Outcome::refused(Reason::UpstreamBelowFloor, 502, &long);
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
        let records = records_with(to_file(&path), Settings { include_data, ..Settings::default() });
        let recorder = records.recorder();
        for operation in [None, Some(&operation)] {
            let mut entry = recorder.open(&arrival);
            let path = "/hooks/PLANTED-PATH?X-Amz-Security-Token=PLANTED-TOKEN";
            entry.judged(&Request { path, ..request(operation, &identity, &arrival.target) });
            wait(entry.intend()).unwrap();
            wait(entry.close(answered(None)));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("PLANTED-TOKEN"));
        assert_eq!(text.contains("PLANTED-PATH"), include_data, "only where data was asked for");
    }
}

#[test]
fn an_entry_that_is_dropped_records_that_it_was_aborted() {
    let path = folder("aborted").join("audit.jsonl");
    let records = records(to_file(&path));
    let recorder = records.recorder();
    drop(recorder.open(&arrival()));
    let (operation, identity, arrival) = (operation(), identity(), arrival());
    let mut entry = recorder.open(&arrival);
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
fn levels_leave_out_what_they_say() {
    for (level, lines) in [(Level::All, 4), (Level::Error, 2), (Level::Off, 0)] {
        let path = folder(level.as_str()).join("audit.jsonl");
        let records = records_with(to_file(&path), Settings { level, ..Settings::default() });
        let recorder = records.recorder();
        wait(pass(&recorder)).unwrap();
        wait(refuse(&recorder));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), lines, "{level}");
    }
}

#[test]
fn a_full_disk_refuses_the_request_and_shows() {
    let records = records(to_file(Path::new("/dev/full")));
    let recorder = records.recorder();
    assert!(!records.is_down());
    assert_eq!(wait(pass(&recorder)), Err(AuditDown));
    assert!(records.is_down());
    wait(refuse(&recorder));
    let metrics = String::from_utf8(records.metrics.text()).unwrap();
    // The intent, the aborted event of the entry that was dropped, and the refusal.
    assert!(metrics.contains("exeat_audit_failures_total 3"), "{metrics}");
    let good = folder("recovers").join("audit.jsonl");
    wait(pass(&self::records(to_file(&good)).recorder())).unwrap();
    assert!(verify(std::fs::read(&good).unwrap()).is_whole());
}

#[test]
fn an_unwritable_file_is_one_sentence_at_start() {
    let folder = folder("unwritable");
    for (path, want) in [
        (folder.clone(), "is a directory; name a file"),
        (folder.join("none/audit.jsonl"), "cannot open audit file"),
    ] {
        let error = Sink::open(&Target::File { path, rotation: None }).err().unwrap().to_string();
        assert!(error.contains(want) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_new_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let path = folder("mode").join("audit.jsonl");
    drop(to_file(&path));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_pipe_gets_every_line_and_a_stalled_one_refuses_in_time() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let records = records(Sink::over(File::from(OwnedFd::from(writer)), None, None).unwrap());
    let recorder = records.recorder();
    wait(async {
        let mut passed = 0;
        let start = loop {
            let start = Instant::now();
            // Nobody reads: the pipe's 64 KiB fill up.
            match pass(&recorder).await {
                Ok(_) => passed += 1,
                Err(AuditDown) => break start,
            }
            assert!(passed < 1_000);
        };
        assert!(passed > 10 && records.is_down(), "{passed}");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(90) && took < Duration::from_secs(1), "{took:?}");
    });
    // The reader comes back: what was queued is written late, in its place, and new requests pass.
    let mut text = Vec::new();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| reader.read_to_end(&mut text));
        assert!(records.flush(Duration::from_secs(5)));
        wait(pass(&recorder)).unwrap();
        assert!(!records.is_down());
        drop((recorder, records));
        reading.join().unwrap().unwrap();
    });
    let report = verify(&text);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.torn, report.interrupted()), (0, 0));
}

#[test]
fn rotated_files_verify_together_in_any_order_and_a_missing_one_is_a_gap() {
    let folder = folder("rotation");
    let path = folder.join("audit.jsonl");
    let rotation = Some(Rotation { bytes: 8_192, keep: 9 });
    let records = records(Sink::open(&Target::File { path: path.clone(), rotation }).unwrap());
    let lanes = [records.recorder(), records.recorder()];
    for _ in 0..10 {
        for lane in &lanes {
            wait(pass(lane)).unwrap();
        }
    }
    if path.metadata().unwrap().len() == 0 {
        wait(pass(&lanes[0])).unwrap();
    }
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    let said = |files: &[PathBuf], json| {
        let mut out = Vec::new();
        let whole = audit::verify(files, &mut out, json).unwrap();
        (whole, String::from_utf8(out).unwrap())
    };
    let (whole, text) = said(&files, false);
    assert!(whole && text.ends_with(": whole\n"), "{text}");
    files.reverse();
    let (whole, text) = said(&files, true);
    assert!(whole, "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["whole"], true);
    // Numbers count from the newest: `.2` lies between others, and without the oldest the rest stands by itself.
    let (whole, text) = said(&[path.clone(), folder.join("audit.jsonl.2")], false);
    assert!(!whole && text.contains("gap") && text.ends_with("NOT whole\n"), "{text}");
    let (whole, text) = said(&[path.clone(), folder.join("audit.jsonl.1")], false);
    assert!(whole && text.contains("earlier files not given"), "{text}");
}

#[test]
fn a_file_moved_away_is_let_go_at_reopening() {
    let folder = folder("reopen");
    let (path, moved) = (folder.join("audit.jsonl"), folder.join("moved.jsonl"));
    let records = records(to_file(&path));
    let recorder = records.recorder();
    wait(pass(&recorder)).unwrap();
    std::fs::rename(&path, &moved).unwrap();
    wait(pass(&recorder)).unwrap();
    records.reopen().unwrap();
    wait(pass(&recorder)).unwrap();
    assert_eq!(std::fs::read_to_string(&moved).unwrap().lines().count(), 5);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
    let mut out = Vec::new();
    assert!(audit::verify(&[path, moved], &mut out, false).unwrap(), "{}", String::from_utf8_lossy(&out));
}

#[test]
fn other_programs_lines_are_counted_but_are_no_trail_by_themselves() {
    let path = folder("foreign").join("audit.jsonl");
    wait(pass(&records(to_file(&path)).recorder())).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let mixed = format!("{{\"level\":\"info\"}}\n{text}{{\"level\":\"info\"}}\n");
    assert!(verify(&mixed).is_whole());
    assert_eq!(verify(&mixed).foreign, 2);
    assert!(!verify("{\"level\":\"info\"}\n").is_whole());
    assert!(!verify(format!("{text}not json\n")).is_whole());
}

const CHILD: &str = "EXEAT_TEST_AUDIT_FILE";

/// Writes until it is killed, or until the sink fails; then reopens and writes one more.
#[test]
#[ignore = "run by other tests as a process of its own"]
fn child() {
    let path = PathBuf::from(std::env::var(CHILD).unwrap());
    let records = records(to_file(&path));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let recorder = records.recorder();
            scope.spawn(move || wait(async { while pass(&recorder).await.is_ok() {} }));
        }
    });
    let recorder = records.recorder();
    assert_eq!(wait(pass(&recorder)), Err(AuditDown));
    std::fs::rename(&path, path.with_extension("full")).unwrap();
    records.reopen().unwrap();
    wait(pass(&recorder)).unwrap();
}

fn child_command(before: &str, file: &Path) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("{before} exec \"$0\" \"$@\"")]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]).env(CHILD, file);
    command.stdout(std::process::Stdio::null());
    command
}

#[test]
fn a_line_cut_short_by_a_full_disk_is_torn_and_the_lanes_go_on() {
    let path = folder("partial").join("audit.jsonl");
    // The kernel cuts the write that crosses the limit, as a full disk does.
    let status = child_command("trap '' XFSZ; ulimit -f 99;", &path).status().unwrap();
    assert!(status.success());
    let full = path.with_extension("full");
    let report = verify(std::fs::read(&full).unwrap());
    assert_eq!(report.torn, 1, "{report:?}");
    let mut out = Vec::new();
    assert!(audit::verify(&[full, path], &mut out, false).unwrap(), "{}", String::from_utf8_lossy(&out));
}

#[test]
fn no_line_is_lost_or_broken_over_kill_9() {
    let folder = folder("kill");
    let path = folder.join("audit.jsonl");
    for round in 0..5 {
        let before = path.metadata().map_or(0, |meta| meta.len());
        let mut child = child_command("", &path).spawn().unwrap();
        let start = Instant::now();
        while path.metadata().map_or(0, |meta| meta.len()) < before + 100_000 + round * 777 {
            assert!(start.elapsed() < Duration::from_secs(30), "the child does not write");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let report = verify(std::fs::read(&path).unwrap());
    assert!(report.is_whole(), "{report:?}");
    // One of a start's two lanes may not have had its turn.
    assert!((5..=10).contains(&report.lanes.len()), "{report:?}");
    assert!(report.interrupted() <= 10 && report.torn <= 5, "{report:?}");
}

#[test]
fn entries_travel_with_the_task_that_owns_them() {
    fn is_send<T: Send>(_: T) {}
    let recorder = records(to_file(Path::new("/dev/null"))).recorder();
    is_send(recorder.open(&arrival()));
    is_send(async move { recorder.open(&arrival()).close(answered(None)).await });
}
