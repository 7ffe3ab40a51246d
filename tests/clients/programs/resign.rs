//! Puts the requests of `tests/vectors/captured` and `crt-v4a-chunks.json` in another name, for test_resign.py to give to
//! whoever checks it: `resign KEY_ID SECRET FILE`. A request a line: its name and its bytes, both in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use exeat::engine::facts::{Secret, Timestamp};
use exeat::engine::request::RequestHead;
use exeat::engine::signature::resign::{Name, resign};
use exeat::engine::signature::{KnownKey, KnownKeys, Reading, read};
use serde_json::Value;

/// Of `crt-v4a-chunks.json`: AWS's published example key, and when it signed.
const EXAMPLE: (&str, &str) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
const EXAMPLE_AT: Timestamp = Timestamp(1_767_323_045);

struct Given {
    name: String,
    head: RequestHead,
    body: Vec<u8>,
    key: KnownKey,
    at: Timestamp,
}

fn main() {
    let [_, id, secret, file] = &std::env::args().collect::<Vec<_>>()[..] else {
        panic!("usage: resign KEY_ID SECRET FILE")
    };
    let key = KnownKey::new(id, Secret::new(secret.as_bytes()), None);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let text = std::fs::read_to_string(file).expect("a file of requests");
    let given: Vec<Given> = if file.ends_with(".jsonl") {
        text.lines().map(|line| captured(&serde_json::from_str(line).expect("a request"))).collect()
    } else {
        serde_json::from_str::<Vec<Value>>(&text).expect("requests").iter().map(signed_by_crt).collect()
    };
    for Given { name, head, body, key: theirs, at } in given {
        let Ok(Reading::Signed(claim)) = read(&head) else { panic!("{name} is not signed") };
        let whole = claim.needs_body().then_some(&body[..]);
        let verdict = claim.verify(whole, &KnownKeys::new([theirs]), at).expect("it verifies");
        let anew = Name {
            key: &key,
            host: head.authority(),
            region: claim.scope().region,
            at: Timestamp(now as i64),
            owner: None,
        };
        let mut check = verdict.due.start();
        check.update(&body).expect("its body is as it was signed");
        check.finish().expect("its body is whole");
        let mut resigned = resign(&head, &claim, &verdict, &anew, whole).expect("it is signed anew");
        let mut chained = Vec::new();
        resigned.body.take(&body, &mut chained).expect("it was verified");
        let mut wire = resigned.head;
        // HTTP's own framing was taken off when it was captured.
        let chunked = head.has("transfer-encoding");
        if chunked {
            wire.extend_from_slice(format!("{:x}\r\n", chained.len()).as_bytes());
        }
        wire.extend_from_slice(&chained);
        if chunked {
            wire.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        println!("{} {}", STANDARD.encode(name), STANDARD.encode(wire));
    }
}

fn captured(request: &Value) -> Given {
    let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
    let mut head = format!("{} {} HTTP/1.1\r\n", text("method"), text("target"));
    for field in request["headers"].as_array().expect("fields") {
        let part = |at: usize| field[at].as_str().expect("text");
        head.push_str(&format!("{}: {}\r\n", part(0), part(1)));
    }
    let token = Some(Secret::new(text("session_token").as_bytes()));
    Given {
        name: text("id"),
        head: RequestHead::parse(format!("{head}\r\n").into()).expect("a head"),
        body: STANDARD.decode(text("body_b64")).expect("a body"),
        key: KnownKey::new(&text("access_key_id"), Secret::new(text("secret_access_key").as_bytes()), token),
        at: Timestamp(request["at"].as_i64().expect("a date")),
    }
}

fn signed_by_crt(upload: &Value) -> Given {
    let text = |name: &str| upload[name].as_str().expect("text").to_owned();
    Given {
        name: text("name"),
        head: RequestHead::parse(text("head").into()).expect("a head"),
        body: text("body").into_bytes(),
        key: KnownKey::new(EXAMPLE.0, Secret::new(EXAMPLE.1.as_bytes()), None),
        at: EXAMPLE_AT,
    }
}
