//! `reconcile`: what CloudTrail saw beside what came through us.

use serde_json::{Value, json};

use crate::{Folder, KEY, OTHER_KEY, Said, at, event, exeat, gzipped, intent, lane, own, platform, refused};

/// A record as CloudTrail writes it.
fn record(id: u32, second: u32, call: &str, request_id: Option<&str>) -> Value {
    let (service, name) = call.split_once(':').unwrap();
    json!({
        "eventVersion": "1.11", "eventTime": at(second), "eventSource": format!("{service}.amazonaws.com"),
        "eventName": name, "awsRegion": "us-east-1", "eventType": "AwsApiCall", "eventCategory": "Management",
        "sourceIPAddress": "10.0.0.7", "userAgent": "Boto3/1.44", "requestID": request_id, "eventID": format!("e{id}"),
        "userIdentity": {"type": "IAMUser", "accessKeyId": KEY, "accountId": "123456789012",
                         "arn": "arn:aws:iam::123456789012:user/orders"},
        "readOnly": false, "recipientAccountId": "123456789012",
    })
}

fn changed(mut record: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut record);
    record
}

fn export(records: &[Value]) -> String {
    json!({"Records": records}).to_string()
}

/// Three calls that were answered and one that was refused.
fn audit() -> String {
    [
        lane(0),
        event(1, 10, "sqs:CreateQueue", Some("R1"), |_| {}),
        event(2, 11, "lambda:CreateFunction", None, |_| {}),
        event(3, 12, "s3:GetObject", Some("R3"), |event| {
            event["resources"] = json!([{"ARN": "arn:aws:s3:::b/k"}]);
        }),
        event(4, 13, "iam:CreateUser", None, |event| refused(event, "policy.no_match")),
        event(9, 600, "sqs:CreateQueue", Some("R9"), |_| {}),
    ]
    .concat()
}

fn ask(folder: &Folder, audit: &str, records: &[Value], more: &[&str]) -> Said {
    let (audit, export) = (folder.file("audit.jsonl", audit), folder.file("trail.json", export(records)));
    exeat(&[&["reconcile", "--audit", &audit, "--cloudtrail", &export, "-o", "json"], more].concat())
}

fn bypassed(said: &Said) -> Vec<String> {
    let text = |bypass: &Value| format!("{} {}", bypass["call"], bypass["request_id"]).replace('"', "");
    said.json()["bypasses"].as_array().unwrap().iter().map(text).collect()
}

/// What went through: by id, by time under Lambda's dated name, and one request of many events.
fn through() -> Vec<Value> {
    vec![
        record(1, 10, "sqs:CreateQueue", Some("R1")),
        record(2, 40, "lambda:CreateFunction20150331", Some("R2")),
        record(3, 12, "s3:GetObject", Some("R3")),
        record(4, 12, "s3:GetObject", Some("R3")),
        record(9, 600, "sqs:CreateQueue", Some("R9")),
    ]
}

#[test]
fn what_came_through_is_matched_by_id_or_by_key_operation_and_time() {
    let folder = Folder::new("reconcile-through");
    let said = ask(&folder, &audit(), &through(), &[]);
    assert_eq!((said.code, bypassed(&said).len()), (0, 0), "{}", said.out);
    assert_eq!(said.json()["matched"], json!({"request_id": 4, "time": 1}));
    assert_eq!(said.json()["audit"]["matched"], 4);
    assert_eq!(said.json()["audit"]["refused"], 1);
}

#[test]
fn a_handshake_that_was_refused_is_no_call_that_went_out() {
    let folder = Folder::new("reconcile-unshaken");
    let unshaken = event(5, 20, "iam:CreateRole", None, |event| {
        refused(event, "upstream.certificate");
        event["additionalEventData"]["exeat"]["upstream"] = json!({"address": "10.0.0.9", "port": 443, "reused": false,
            "waitedUs": 0, "shown": {"version": "TLSv1.3", "leaf": "0011223344556677"}});
    });
    let said = ask(&folder, &(audit() + &unshaken), &through(), &[]);
    let audit_of = |said: &Said| said.json()["audit"].clone();
    assert_eq!(
        (&audit_of(&said)["calls"], &audit_of(&said)["refused"]),
        (&json!(4), &json!(2)),
        "{}",
        said.out
    );
    // So the same call elsewhere went round. One that was cut off after its handshake may have arrived.
    let elsewhere = [through(), vec![record(5, 25, "iam:CreateRole", Some("X1"))]].concat();
    let said = ask(&folder, &(audit() + &unshaken), &elsewhere, &[]);
    assert_eq!((said.code, bypassed(&said)), (1, vec!["iam:CreateRole X1".to_owned()]), "{}", said.out);
    let cut_off = event(5, 20, "iam:CreateRole", None, |event| {
        let upstream = event["additionalEventData"]["exeat"]["upstream"].clone();
        refused(event, "upstream.closed");
        event["additionalEventData"]["exeat"]["upstream"] = upstream;
    });
    assert_eq!(ask(&folder, &(audit() + &cut_off), &elsewhere, &[]).code, 0);
}

#[test]
fn our_own_calls_are_matched_as_all_others() {
    let folder = Folder::new("reconcile-own");
    let audit = [
        lane(0),
        event(1, 10, "sts:GetCallerIdentity", Some("R1"), own),
        event(2, 11, "http:GET", None, platform),
    ]
    .concat();
    let identity = record(1, 10, "sts:GetCallerIdentity", Some("R1"));
    let said = ask(&folder, &audit, std::slice::from_ref(&identity), &[]);
    assert_eq!((said.code, bypassed(&said).len()), (0, 0), "{}", said.out);
    assert_eq!(said.json()["audit"]["matched"], 1, "{}", said.out);
    // The same call, made round us with the same key.
    let round = changed(identity, |record| record["requestID"] = "X1".into());
    assert_eq!(ask(&folder, &audit, &[round], &[]).code, 1);
}

#[test]
fn each_call_of_a_held_key_that_did_not_is_a_bypass_and_exit_1() {
    let folder = Folder::new("reconcile-bypass");
    for (name, extra, call) in [
        ("its own id", record(5, 10, "sqs:CreateQueue", Some("X1")), "sqs:CreateQueue X1"),
        (
            "refused here, then made elsewhere",
            record(5, 20, "iam:CreateUser", Some("X2")),
            "iam:CreateUser X2",
        ),
        (
            "one more than the one call without an id",
            record(5, 50, "lambda:CreateFunction20150331", Some("X3")),
            "lambda:CreateFunction20150331 X3",
        ),
        ("before our first line", record(5, 0, "iam:CreateRole", Some("X4")), "iam:CreateRole X4"),
        (
            "refused by an endpoint of the network",
            changed(record(5, 20, "s3:PutObject", Some("X5")), |record| {
                record["eventType"] = "AwsVpceEvent".into();
            }),
            "s3:PutObject X5",
        ),
        ("an id of another service", record(5, 10, "iam:CreateRole", Some("R1")), "iam:CreateRole R1"),
        ("no id at all", record(5, 20, "iam:CreateRole", None), "iam:CreateRole null"),
    ] {
        let mut records = through();
        records.insert(0, extra);
        let said = ask(&folder, &audit(), &records, &[]);
        assert_eq!((said.code, bypassed(&said)), (1, vec![call.to_owned()]), "{name}\n{}", said.out);
    }
}

#[test]
fn a_bypass_is_told_with_what_is_known_of_it() {
    let folder = Folder::new("reconcile-told");
    let (audit, export) = (
        folder.file("audit.jsonl", audit()),
        folder.file("t.json", export(&[record(5, 33, "iam:CreateUser", Some("X2\u{1b}[2J"))])),
    );
    let said = exeat(&["reconcile", "--audit", &audit, "--cloudtrail", &export]);
    for words in [
        "BYPASS  2026-11-25T12:00:33Z  iam:CreateUser  key AKIAIOSFODNN7EXAMPLE of account 123456789012, us-east-1",
        "from 10.0.0.7 (Boto3/1.44)",
        "refused here 20 s before [policy.no_match], flow 3p0k9d7m2x4c-0-4",
        "t.json",
        "1 call WENT ROUND exeat",
    ] {
        assert!(said.out.contains(words), "{words} is not in\n{}", said.out);
    }
    assert!(said.code == 1 && said.out.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", said.out);
}

#[test]
fn what_aws_did_itself_and_keys_never_held_are_left_out() {
    let folder = Folder::new("reconcile-left");
    let mut records = through();
    let foreign = |id| {
        changed(record(id, 20, "s3:PutObject", Some("F")), |r| {
            r["userIdentity"]["accessKeyId"] = OTHER_KEY.into();
        })
    };
    records.extend([
        changed(record(20, 20, "kms:Decrypt", Some("A")), |r| {
            r["userIdentity"]["invokedBy"] = "s3.amazonaws.com".into();
        }),
        changed(record(21, 20, "sts:AssumeRole", Some("B")), |r| {
            r["userIdentity"] = json!({"type": "AWSService"});
        }),
        changed(record(22, 20, "signin:ConsoleLogin", None), |r| r["eventType"] = "AwsConsoleSignIn".into()),
        changed(record(23, 20, "sts:AssumeRoleWithSAML", Some("C")), |r| {
            r["userIdentity"] = json!({"type": "SAMLUser"});
        }),
        foreign(24),
    ]);
    let said = ask(&folder, &audit(), &records, &[]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert_eq!(
        said.json()["left_out"],
        json!({"aws_service": 2, "not_an_api_call": 1, "no_key": 1, "key_never_held": 1, "outside_time": 0})
    );
    // A key that is said to have been ours counts, and so does a principal's every call.
    let credentials = folder.file(
        "credentials",
        format!(
            "[other]\naws_access_key_id = {OTHER_KEY}\naws_secret_access_key = not-a-secret-not-a-secret\n"
        ),
    );
    for more in [
        ["--key", OTHER_KEY],
        ["--credentials", &credentials],
        ["--principal", "arn:aws:iam::123456789012:user/orders"],
    ] {
        let said = ask(&folder, &audit(), &records, &more);
        assert!(
            said.code == 1 && bypassed(&said).contains(&"s3:PutObject F".to_owned()),
            "{more:?}\n{}{}",
            said.out,
            said.err
        );
    }
    // And what lies outside the time that was asked for does not.
    let said = ask(&folder, &audit(), &records, &["--key", OTHER_KEY, "--until", "2026-11-25T12:00:20Z"]);
    assert!(said.code == 0 && said.json()["left_out"]["outside_time"] == 2, "{}", said.out);
}

#[test]
fn a_role_with_another_key_is_pointed_at() {
    let folder = Folder::new("reconcile-role");
    let role = "arn:aws:iam::123456789012:role/orders";
    let ours =
        event(1, 10, "sqs:CreateQueue", Some("R1"), |event| event["userIdentity"]["arn"] = role.into());
    let other = changed(record(5, 20, "sqs:CreateQueue", Some("X")), |record| {
        record["userIdentity"]["accessKeyId"] = OTHER_KEY.into();
        record["userIdentity"]["sessionContext"] =
            json!({"sessionIssuer": {"arn": role, "userName": "orders"}});
    });
    let records = [record(1, 10, "sqs:CreateQueue", Some("R1")), other];
    let said = ask(&folder, &[lane(0), ours].concat(), &records, &[]);
    assert!(said.code == 0 && said.json()["cloudtrail"]["of_roles_seen"] == 1, "{}", said.out);
    let said = ask(&folder, &audit(), &records, &["--principal", role]);
    assert_eq!((said.code, bypassed(&said)), (1, vec!["sqs:CreateQueue X".to_owned()]));
}

#[test]
fn what_only_we_saw_is_told_with_the_likely_cause_and_is_no_bypass() {
    let folder = Folder::new("reconcile-only");
    let audit = [
        lane(0),
        event(1, 10, "sqs:CreateQueue", Some("R1"), |_| {}),
        event(2, 11, "sqs:SendMessage", Some("R2"), |_| {}),
        event(3, 12, "sqs:ListMessageMoveTasks", Some("R3"), |_| {}),
        event(4, 13, "sqs:SetQueueAttributes", Some("R4"), |_| {}),
        event(5, 14, "sqs:CreateQueue", Some("R5"), |event| event["awsRegion"] = "eu-west-1".into()),
        event(6, 15, "sqs:?", Some("R6"), |_| {}),
        intent(7, 16, "sqs:DeleteQueue"),
        event(8, 3000, "sqs:DeleteQueue", Some("R8"), |_| {}),
    ]
    .concat();
    let records =
        [record(1, 10, "sqs:CreateQueue", Some("R1")), record(9, 3100, "sqs:CreateQueue", Some("Y"))];
    let said = ask(&folder, &audit, &records, &["--until", "2026-11-25T12:50:00Z"]);
    let said_json = said.json();
    let why: Vec<_> = said_json["audit_only"]
        .as_array()
        .unwrap()
        .iter()
        .map(|only| only["why"].as_str().unwrap())
        .collect();
    assert_eq!(
        why,
        [
            "data_event",
            "read_event",
            "unexplained",
            "region_not_in_export",
            "unknown_operation",
            "interrupted",
            "not_yet_delivered"
        ]
    );
    assert_eq!(said.code, 0);
}

#[test]
fn an_interrupted_call_matches_its_record_once() {
    let folder = Folder::new("reconcile-interrupted");
    let audit =
        [lane(0), event(1, 5, "sqs:CreateQueue", Some("R1"), |_| {}), intent(2, 10, "sqs:DeleteQueue")]
            .concat();
    let records = |seconds: &[u32]| -> Vec<Value> {
        let of = |(at, second): (usize, &u32)| {
            record(at as u32, *second, "sqs:DeleteQueue", Some(&format!("X{at}")))
        };
        seconds.iter().enumerate().map(of).collect()
    };
    for (seconds, window, bypasses) in [
        (&[10][..], "60", 0),
        (&[70], "60", 0),
        (&[71], "60", 1),
        (&[10, 11], "60", 1),
        (&[12], "0", 1),
        (&[10], "0", 0),
    ] {
        let said = ask(&folder, &audit, &records(seconds), &["--window", window]);
        assert_eq!(bypassed(&said).len(), bypasses, "{seconds:?} within {window}\n{}", said.out);
    }
}

#[test]
fn reads_folders_gzip_lookups_and_lines_and_an_event_once() {
    let folder = Folder::new("reconcile-shapes");
    let audit = folder.file("audit.jsonl.gz", gzipped(&audit()));
    let bypass = record(5, 20, "iam:CreateRole", Some("X"));
    folder.file("AWSLogs/1/CloudTrail/us-east-1/a.json.gz", gzipped(&export(&through())));
    folder.file("AWSLogs/1/CloudTrail/eu-west-1/b.json", export(std::slice::from_ref(&bypass)));
    folder.file("AWSLogs/1/CloudTrail-Digest/d.json.gz", gzipped(r#"{"digestS3Bucket":"b"}"#));
    folder.file("AWSLogs/readme.txt", "not looked at");
    let lookup =
        folder.file("lookup.json", json!({"Events": [{"CloudTrailEvent": bypass.to_string()}]}).to_string());
    let lines = folder.file("lines.jsonl", format!("{bypass}\n{bypass}\n"));
    let logs = folder.path("AWSLogs");
    let said = exeat(&["reconcile", "--audit", &audit, "--cloudtrail", &logs, &lookup, &lines, "-o", "json"]);
    assert_eq!((said.code, bypassed(&said)), (1, vec!["iam:CreateRole X".to_owned()]), "{}", said.err);
    assert_eq!(said.json()["cloudtrail"]["duplicates"], 3);
}

#[test]
fn bad_input_is_named_and_is_no_clean_bill() {
    let folder = Folder::new("reconcile-bad");
    let good = folder.file("good.jsonl", audit());
    let trail = folder.file("good.json", export(&through()));
    let whole = export(&through());
    let torn = folder.file("torn.json", &whole[..whole.len() / 2]);
    let cut = folder.file("cut.json.gz", &gzipped(&whole)[..60]);
    let empty = folder.file("empty.json", "");
    let none = folder.file("none.json", "{\"Records\":[]}");
    let text = folder.file("text.json", "no JSON");
    let other = folder.file("other.json", "{\"Items\":[]}");
    let odd = folder.file("odd.json", "{\"Records\":[{\"eventID\":\"e7\",\"eventTime\":\"yesterday\"}]}");
    let stranger = folder.file("stranger.jsonl", "{\"msg\":\"hello\"}\n");
    std::fs::create_dir_all(folder.0.join("nothing")).unwrap();
    let nothing = folder.path("nothing");
    for (audit, trail, words) in [
        (&good, &torn, "torn.json` is not whole JSON: EOF"),
        (&good, &cut, "cut.json.gz"),
        (&good, &empty, "empty.json` is empty"),
        (&good, &none, "none.json` holds no CloudTrail record"),
        (&good, &text, "text.json` is not whole JSON"),
        (&good, &other, "other.json` is JSON, and no CloudTrail export"),
        (&good, &odd, "(e7) without `eventTime`"),
        (&good, &good, "give it with --audit"),
        (&good, &nothing, "nothing` holds no CloudTrail record"),
        (&stranger, &trail, "stranger.jsonl` holds no audit line"),
        (&folder.path("gone"), &trail, "cannot read"),
    ] {
        let said = exeat(&["reconcile", "--audit", audit, "--cloudtrail", trail]);
        assert!(
            said.code == 1 && said.err.contains(words),
            "{words}: {} {}{}",
            said.code,
            said.out,
            said.err
        );
        assert!(said.out.is_empty(), "{}", said.out);
    }
    // Nothing that could be ours: not the same as nothing that went round.
    let unsigned = folder.file(
        "unsigned.jsonl",
        [
            lane(0),
            event(1, 1, "s3:GetObject", None, |event| {
                event["userIdentity"] = json!({"type": "Unknown"});
                let ours = event["additionalEventData"]["exeat"].as_object_mut().unwrap();
                ours.remove("ownKey");
                ours["signature"] = "unsigned".into();
            }),
        ]
        .concat(),
    );
    let said = exeat(&["reconcile", "--audit", &unsigned, "--cloudtrail", &trail]);
    assert!(said.code == 1 && said.err.contains("no key of ours is known"), "{}", said.err);
    for args in [
        &["reconcile", "--audit", &good][..],
        &["reconcile", "--audit", &good, "--cloudtrail", &trail, "--since", "yesterday"],
        &["reconcile", "--audit", &good, "--cloudtrail", &trail, "--window", "-1"],
    ] {
        assert_eq!(exeat(args).code, 2, "{args:?}");
    }
}
