//! `report tls`: each destination, what was negotiated with it, and what let it pass.

use serde_json::json;

use crate::{Folder, event, exeat, gzipped, lane, own, platform, refused};

fn files() -> (Folder, String, String) {
    let folder = Folder::new("tls");
    let first = [
        lane(0),
        event(1, 1, "sqs:SendMessage", Some("A"), |event| {
            let tls = &mut event["additionalEventData"]["exeat"]["upstream"]["tls"];
            tls["leaf"] = "0011223344556677".into();
            tls["chain"] = json!([{"sha256": "00112233445566778899", "subject": "CN=sqs\u{9b}1m",
                                   "issuer": "CN=Amazon RSA 2048 M01", "notAfter": "2027-01-31T23:59:59Z"}]);
        }),
        event(6, 3, "sqs:SendMessage", Some("C"), |event| {
            event["additionalEventData"]["exeat"]["upstream"]["tls"]["leaf"] = "0011223344556677".into();
        }),
        event(2, 2, "sqs:SendMessage", Some("B"), |event| {
            let ours = &mut event["additionalEventData"]["exeat"];
            ours["upstream"]["tls"] = json!({"version": "TLSv1.2", "cipher": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "group": "secp256r1"});
            ours["statement"] = "jobs".into();
        }),
        event(3, 3, "s3:GetObject", None, |event| refused(event, "policy.no_match")),
    ];
    let second = [
        lane(9),
        event(4, 10, "http:x", None, |event| {
            event["eventType"] = "HttpCall".into();
            event["eventSource"] = "old.example.com".into();
            event["eventName"] = "GET".into();
            refused(event, "upstream.below_floor");
            let ours = &mut event["additionalEventData"]["exeat"];
            ours["host"] = "old.example.com".into();
            ours["upstream"] = json!({"address": "127.0.0.1", "port": 443, "reused": false, "waitedUs": 0,
                "shown": {"version": "TLSv1.1", "cipher": "0xc013"}});
        }),
        event(7, 12, "sqs:SendMessage", None, |event| {
            refused(event, "upstream.certificate");
            event["additionalEventData"]["exeat"]["upstream"] = json!({"address": "127.0.0.1", "port": 443,
                "reused": false, "waitedUs": 0, "shown": {"version": "TLSv1.2", "leaf": "8899aabbccddeeff",
                "chain": [{"sha256": "8899aabbccddeeff00", "subject": "CN=old\u{9b}1m"}]}});
        }),
        event(5, 11, "http:x", None, |event| {
            event["eventType"] = "Connection".into();
            event["userIdentity"] = serde_json::Value::Null;
            let ours = &mut event["additionalEventData"]["exeat"];
            ours["end"] = "tunnelled".into();
            ours["target"] = "pinned.example.com\u{1b}[2J".into();
            let ours = ours.as_object_mut().unwrap();
            ours.remove("host");
            ours.remove("clientTls");
            ours["upstream"].as_object_mut().unwrap()["tls"] =
                json!({"version": "TLSv1.3", "cipher": "TLS13_AES_256_GCM_SHA384", "group": "X25519"});
        }),
    ];
    let first = folder.file("audit.jsonl", first.concat());
    let second = folder.file("audit.jsonl.1.gz", gzipped(&second.concat()));
    (folder, first, second)
}

#[test]
fn names_what_each_destination_negotiated_and_what_let_it_pass() {
    let (_folder, first, second) = files();
    let report = exeat(&["report", "tls", &first, &second, "-o", "json"]);
    assert_eq!(report.code, 0, "{}", report.err);
    let report = report.json();
    let hosts: Vec<_> = report["destinations"].as_array().unwrap().iter().map(|to| &to["host"]).collect();
    // A call that was refused for other reasons negotiated nothing.
    assert_eq!(hosts, ["old.example.com", "pinned.example.com\u{1b}[2J", "sqs.us-east-1.amazonaws.com"]);
    let sqs = &report["destinations"][2];
    assert_eq!((&sqs["calls"], &sqs["post_quantum"]), (&json!(3), &json!("some")));
    assert_eq!(sqs["client_post_quantum"], "all");
    assert_eq!(sqs["let_pass"], json!({"all (policy.yaml:3:5)": 2, "jobs (policy.yaml:3:5)": 1}));
    assert_eq!(sqs["upstream"][1]["cipher"], "TLS_AES_128_GCM_SHA256");
    let shown = &sqs["certificates"][0];
    assert_eq!((&shown["leaf"], &shown["calls"]), (&json!("0011223344556677"), &json!(2)));
    assert_eq!(shown["chain"][0]["notAfter"], "2027-01-31T23:59:59Z");
    // What was refused stands apart, and its version is none that was negotiated.
    assert_eq!(
        (sqs["certificates"].as_array().unwrap().len(), sqs["upstream"].as_array().unwrap().len()),
        (1, 2)
    );
    let not_had = &sqs["certificates_not_had"][0];
    assert_eq!((&not_had["leaf"], &not_had["calls"]), (&json!("8899aabbccddeeff"), &json!(1)));
    assert_eq!(
        (&sqs["versions_not_had"], &sqs["refused"]),
        (&json!({}), &json!({"upstream.certificate": 1}))
    );
    let pinned = &report["destinations"][1];
    assert_eq!((&pinned["tunnels"], &pinned["post_quantum"]), (&json!(1), &json!("none")));
    let old = &report["destinations"][0];
    assert_eq!(old["refused"], json!({"upstream.below_floor": 1}));
    assert_eq!(old["versions_not_had"], json!({"TLSv1.1": 1}));
    assert_eq!((&old["calls"], &old["post_quantum"]), (&json!(0), &json!(null)));
}

#[test]
fn says_the_same_in_text_and_nothing_a_stranger_wrote_reaches_the_terminal_raw() {
    let (_folder, first, second) = files();
    let report = exeat(&["report", "tls", &first, &second]).out;
    for words in [
        "sqs.us-east-1.amazonaws.com  3 passed",
        "upstream  TLSv1.3  TLS_AES_128_GCM_SHA256  X25519MLKEM768  post-quantum  2",
        "shown     CN=sqs?1m, by CN=Amazon RSA 2048 M01, until 2027-01-31T23:59:59Z, sha256 00112233445566778899  2",
        "upstream  TLSv1.2  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256  secp256r1  not post-quantum  1",
        "let pass  jobs (policy.yaml:3:5)  1",
        "refused   upstream.below_floor  1",
        "not had   TLSv1.1  1",
        "not had   CN=old?1m, sha256 8899aabbccddeeff00  1",
        "pinned.example.com?[2J  1 passed, 1 of them tunnels",
        "3 destinations; upstream post-quantum: all calls to 0, some to 1, none to 1; TLS 1.2 with 1",
    ] {
        assert!(report.contains(words), "{words} is not in\n{report}");
    }
    assert!(report.chars().all(|c| c == '\n' || !c.is_control()), "{report:?}");
}

#[test]
fn what_is_no_audit_file_is_no_answer() {
    let folder = Folder::new("tls-bad");
    for (name, text, words) in [
        ("empty.jsonl", "", "holds no audit line"),
        ("other.jsonl", "{\"a\":1}\n", "holds no audit line"),
        ("binary", "\u{0}\u{1}", "holds no audit line"),
    ] {
        let said = exeat(&["report", "tls", &folder.file(name, text)]);
        assert!(
            said.code == 1 && said.err.contains(words) && said.err.contains(name),
            "{name}: {}",
            said.err
        );
    }
    let cut = &gzipped(&lane(0))[..20];
    let said = exeat(&["report", "tls", &folder.file("cut.gz", cut)]);
    assert!(said.code == 1 && said.err.contains("cannot read"), "{}", said.err);
    let said = exeat(&["report", "tls", &folder.path("gone.jsonl")]);
    assert!(said.code == 1 && said.err.contains("gone.jsonl"), "{}", said.err);
    // Lines that a crash cut short are counted, and the others told.
    let end = lane(9).replace("{\"exeat\":\"lane\"", "{\"exeat\":\"end\"");
    let torn = [
        lane(0),
        end,
        event(1, 1, "sqs:SendMessage", None, |_| {}),
        "{\"eventVersion\":\"1.11\",\"ev".into(),
    ];
    let said = exeat(&["report", "tls", &folder.file("torn.jsonl", torn.concat())]);
    assert!(said.code == 0 && said.out.contains("1 lines unreadable"), "{}{}", said.out, said.err);
    let lines = exeat(&["report", "tls", &folder.path("torn.jsonl"), "-o", "json"]).json()["lines"].clone();
    assert_eq!(lines, json!({"lines": 3, "events": 1, "unreadable": 1, "foreign": 0}));
}

/// Of ourselves we speak plaintext to the platform's endpoints: no destination of a client's was downgraded by it.
#[test]
fn our_own_calls_stand_under_their_own_heading_and_in_no_total() {
    let folder = Folder::new("tls-own");
    let lines = [
        lane(0),
        event(1, 1, "sqs:SendMessage", Some("A"), |_| {}),
        event(2, 2, "http:GET", None, platform),
        event(3, 3, "http:GET", None, platform),
        event(4, 4, "sts:GetCallerIdentity", Some("B"), |event| {
            own(event);
            event["additionalEventData"]["exeat"]["upstream"]["tls"]["version"] = "TLSv1.2".into();
        }),
    ];
    let file = folder.file("audit.jsonl", lines.concat());
    let text = exeat(&["report", "tls", &file]).out;
    let (clients, ours) = text.split_once("\nBy exeat itself, and not counted above:\n").expect(&text);
    assert!(!clients.contains("169.254") && !clients.contains("sts."), "{text}");
    assert!(
        clients.contains("1 destinations; upstream post-quantum: all calls to 1")
            && clients.ends_with("TLS 1.2 with 0\n"),
        "{text}"
    );
    assert!(ours.contains("169.254.170.2:80  2 passed, 2 of them without TLS\n"), "{text}");
    assert!(ours.contains("sts.us-east-1.amazonaws.com  1 passed\n  upstream  TLSv1.2"), "{text}");
    assert!(!ours.contains("let pass"), "no statement was asked: {text}");
    let report = exeat(&["report", "tls", &file, "-o", "json"]).json();
    let hosts = |of: &str| -> Vec<String> {
        report[of].as_array().unwrap().iter().map(|to| to["host"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(hosts("destinations"), ["sqs.us-east-1.amazonaws.com"]);
    assert_eq!(hosts("own"), ["169.254.170.2:80", "sts.us-east-1.amazonaws.com"]);
    assert_eq!(report["own"][0]["plaintext"], 2);
    // Where there are none there is no heading.
    let file = folder.file("none.jsonl", [lane(0), event(1, 1, "sqs:SendMessage", None, |_| {})].concat());
    assert!(!exeat(&["report", "tls", &file]).out.contains("By exeat itself"));
}
