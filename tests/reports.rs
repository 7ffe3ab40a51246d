//! What is asked of audit files: `reconcile`, `report tls` and `tail`. The program itself, over lines as it writes them.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

#[path = "support/program.rs"]
#[allow(dead_code)] // each test takes of it what it needs
mod program;
#[path = "reports/reconcile.rs"]
mod reconcile;
#[path = "reports/tail.rs"]
mod tail;
#[path = "reports/tls.rs"]
mod tls;

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const OTHER_KEY: &str = "AKIAI44QH8DHBEXAMPLE";

/// A folder of one test, empty; under the target folder, so that what failed can be looked at.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("reports").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

fn exeat(args: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_exeat")).env_clear().args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn at(second: u32) -> String {
    format!("2026-11-25T12:{:02}:{:02}Z", second / 60, second % 60)
}

/// The first line of an audit file.
fn lane(second: u32) -> String {
    let time = at(second);
    format!(
        "{{\"exeat\":\"lane\",\"time\":\"{time}\",\"version\":\"0.1.0\",\"prev\":\"{0}\",\"lane\":\"3p0k9d7m2x4c-0\",\"seq\":0,\"chain\":\"{0}\"}}\n",
        "0".repeat(64)
    )
}

fn intent(flow: u32, second: u32, operation: &str) -> String {
    let time = at(second);
    format!(
        "{{\"exeat\":\"intent\",\"time\":\"{time}\",\"flow\":\"3p0k9d7m2x4c-0-{flow}\",\"operation\":\"{operation}\",\"key\":\"{KEY}\",\"verdict\":\"verified\",\"lane\":\"3p0k9d7m2x4c-0\",\"seq\":1,\"chain\":\"{}\"}}\n",
        "0".repeat(64)
    )
}

/// The event of an AWS call of our key that was answered; `change` makes another of it.
fn event(
    flow: u32,
    second: u32,
    call: &str,
    request_id: Option<&str>,
    change: impl FnOnce(&mut Value),
) -> String {
    let (service, name) = call.split_once(':').unwrap();
    let tls = json!({"version": "TLSv1.3", "cipher": "TLS13_AES_128_GCM_SHA256", "group": "X25519MLKEM768"});
    let mut event = json!({
        "eventVersion": "1.11", "eventTime": at(second), "eventSource": format!("{service}.amazonaws.com"),
        "eventName": name, "awsRegion": "us-east-1", "eventType": "AwsApiCall", "sourceIPAddress": "127.0.0.1",
        "userIdentity": {"type": "IAMUser", "accessKeyId": KEY, "accountId": "123456789012"},
        "requestParameters": null, "responseElements": null, "eventID": format!("3p0k9d7m2x4c-0-{flow}"),
        "additionalEventData": {"exeat": {
            "flow": format!("3p0k9d7m2x4c-0-{flow}"), "decision": "allow", "end": "answered", "door": "forward",
            "host": format!("{service}.us-east-1.amazonaws.com"), "clientTls": tls, "auth": "sigv4",
            "signature": "verified", "ownKey": true, "payload": "signed", "actions": [call], "statement": "all",
            "place": "policy.yaml:3:5", "status": 200, "durationUs": 2000, "decisionUs": 20,
            "upstream": {"address": "127.0.0.1", "port": 443, "reused": false, "waitedUs": 900, "tls": tls},
        }},
    });
    if let Some(id) = request_id {
        event["requestID"] = id.into();
    }
    change(&mut event);
    line(&event)
}

/// As the proxy writes it: `eventVersion` first.
fn line(event: &Value) -> String {
    let rest = serde_json::to_string(event).unwrap();
    let rest = rest.replacen("\"eventVersion\":\"1.11\",", "", 1);
    format!("{{\"eventVersion\":\"1.11\",{}\n", &rest[1..])
}

/// As exeat writes its own: no door, no statement, and of a platform's endpoint nothing of AWS.
fn own(event: &mut Value) {
    event["sourceIPAddress"] = "exeat".into();
    let ours = event["additionalEventData"]["exeat"].as_object_mut().unwrap();
    ours.insert("origin".into(), "exeat".into());
    ours.insert("decision".into(), "none".into());
    for left_out in ["door", "clientTls", "statement", "place"] {
        ours.remove(left_out);
    }
}

/// One of those to the platform, which speaks no TLS.
fn platform(event: &mut Value) {
    own(event);
    event["eventType"] = "HttpCall".into();
    event["eventSource"] = "169.254.170.2:80".into();
    event.as_object_mut().unwrap().remove("awsRegion");
    event["userIdentity"] = json!({"type": "Unknown"});
    let ours = event["additionalEventData"]["exeat"].as_object_mut().unwrap();
    ours.insert("signature".into(), "unsigned".into());
    ours.insert("host".into(), "169.254.170.2:80".into());
    ours["upstream"].as_object_mut().unwrap().remove("tls");
}

fn refused(event: &mut Value, reason: &str) {
    let ours = &mut event["additionalEventData"]["exeat"];
    ours["decision"] = "deny".into();
    ours["end"] = "refused".into();
    ours["reason"] = reason.into();
    ours["status"] = 403.into();
    ours.as_object_mut().unwrap().remove("upstream");
}
