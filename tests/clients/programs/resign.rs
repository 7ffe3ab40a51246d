//! Puts the requests of `tests/vectors/captured` in another name, for test_resign.py to send to a server that checks it:
//! `resign KEY_ID SECRET FILE`. A request a line: its name and its bytes, both in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use exeat::engine::facts::{Secret, Timestamp};
use exeat::engine::request::RequestHead;
use exeat::engine::signature::resign::{Name, resign};
use exeat::engine::signature::{KnownKey, KnownKeys, Reading, read};
use serde_json::Value;

fn main() {
    let [_, id, secret, file] = &std::env::args().collect::<Vec<_>>()[..] else {
        panic!("usage: resign KEY_ID SECRET FILE")
    };
    let key = KnownKey::new(id, Secret::new(secret.as_bytes()), None);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    for line in std::fs::read_to_string(file).expect("a file of requests").lines() {
        let request: Value = serde_json::from_str(line).expect("a request");
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let mut head = format!("{} {} HTTP/1.1\r\n", text("method"), text("target"));
        for field in request["headers"].as_array().expect("fields") {
            let part = |at: usize| field[at].as_str().expect("text");
            head.push_str(&format!("{}: {}\r\n", part(0), part(1)));
        }
        let head = RequestHead::parse(format!("{head}\r\n").into()).expect("a head");
        let body = STANDARD.decode(text("body_b64")).expect("a body");
        let Ok(Reading::Signed(claim)) = read(&head) else { panic!("{} is not signed", text("id")) };
        let token = Some(Secret::new(text("session_token").as_bytes()));
        let known =
            KnownKey::new(&text("access_key_id"), Secret::new(text("secret_access_key").as_bytes()), token);
        let at = Timestamp(request["at"].as_i64().expect("a date"));
        let whole = claim.needs_body().then_some(&body[..]);
        let verdict = claim.verify(whole, &KnownKeys::new([known]), at).expect("it verifies");
        let name = Name {
            key: &key,
            host: head.authority(),
            region: claim.scope().region,
            at: Timestamp(now as i64),
            owner: None,
        };
        let mut wire = resign(&head, &claim, &verdict, &name, whole).expect("it is signed anew").head;
        // HTTP's own framing was taken off when it was captured.
        let chunked = head.has("transfer-encoding");
        if chunked {
            wire.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        }
        wire.extend_from_slice(&body);
        if chunked {
            wire.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        println!("{} {}", STANDARD.encode(text("id")), STANDARD.encode(wire));
    }
}
