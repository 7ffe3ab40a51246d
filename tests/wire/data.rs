//! Recorded data over either protocol on either leg: the same allow-list, the same redaction, the same levels, and no
//! secret.

use serde_json::{Value, json};

use crate::support::aws::until;
use crate::support::legs::{self, Client, Leg};
use crate::support::proxy::{Proxy, Setup};
use crate::support::tls::Ca;

const ALL: [(Leg, Leg); 4] = [(Leg::H1, Leg::H1), (Leg::H1, Leg::H2), (Leg::H2, Leg::H1), (Leg::H2, Leg::H2)];

const POLICY: &str = "version: 1
statements:
  - {id: app, effect: allow, http: {host: app.test, path: /*}}
  - {id: shut, effect: deny, http: {host: app.test, path: /shut}}
";

fn settings(level: &str, include: bool) -> String {
    format!(
        "records:
  level: {level}
  include_data: {include}
  data:
    app.test:POST: [requestParameters.shown, requestParameters.password, requestParameters.note, requestParameters.mail, responseElements.shown, responseElements.password]
  hide_paths: [note]
  hide_patterns: ['*@example.com']
"
    )
}

/// Shown, hidden by its name, by a path, by a pattern, and left out; each secret planted in it.
const BODY: &str = r#"{"shown":"fine","password":"planted-password","note":"planted-note","mail":"planted-mail@example.com","other":"planted-other"}"#;

async fn stage(origin: Leg, config: &str) -> Proxy {
    let ca = Ca::new();
    let (_log, address) = legs::serve(&ca, origin, &["app.test"]).await;
    Proxy::start(&Setup {
        policy: POLICY,
        connect_to: vec![("*:443".into(), address)],
        upstream_ca: ca.pem(),
        credentials: "",
        config,
        audit: None,
    })
}

/// Posts the body; the event of it.
async fn post(proxy: &Proxy, leg: Leg, path: &str) -> (u16, Value) {
    let fields = [
        ("authorization", "Custom planted-authorization"),
        ("cookie", "a=planted-crumb"),
        ("x-api-key", "planted-key"),
        ("te", "trailers"),
    ];
    let before = proxy.events().len();
    let mut client = Client::connect(proxy, leg, "app.test").await;
    let mut call = client.open("POST", "app.test", &format!("{path}t=planted-query"), &fields).await;
    // What is refused by its head may be over before its body is out.
    let said = call.say(BODY.as_bytes()).await;
    let (status, _) = call.answer().await.unwrap();
    if status == 200 {
        said.unwrap();
        assert!(call.hear(BODY.len()).await.unwrap() == BODY.as_bytes());
        call.end(&[("x-last", "planted-trailer")]).await.unwrap();
        call.rest().await.unwrap();
    }
    let event = until("the event", || proxy.events().into_iter().nth(before)).await;
    (status, event)
}

#[tokio::test]
async fn the_same_of_a_call_is_recorded_over_either_protocol_and_no_secret() {
    const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";
    for (leg, origin) in ALL {
        let proxy = stage(origin, &settings("all", true)).await;
        let (status, event) = post(&proxy, leg, "/echo?").await;
        assert_eq!(status, 200, "{leg:?} to {origin:?}: {event}");
        assert_eq!(
            event["requestParameters"],
            json!({"shown": "fine", "password": HIDDEN, "note": HIDDEN, "mail": HIDDEN}),
            "{leg:?} to {origin:?}"
        );
        assert_eq!(
            event["responseElements"],
            json!({"shown": "fine", "password": HIDDEN}),
            "{leg:?} to {origin:?}"
        );
        assert_eq!(event["additionalEventData"]["exeat"]["path"], "/echo", "{event}");
        let text = std::fs::read_to_string(proxy.dir.join("audit.jsonl")).unwrap();
        assert!(!text.contains("planted"), "{leg:?} to {origin:?}: {text}");
    }
}

#[tokio::test]
async fn levels_and_names_alone_hold_over_either_protocol() {
    for leg in [Leg::H1, Leg::H2] {
        // `error` leaves out what was answered well.
        let proxy = stage(Leg::H2, &settings("error", true)).await;
        let (status, event) = post(&proxy, leg, "/echo?").await;
        assert_eq!((status, &event["requestParameters"]), (200, &Value::Null), "{leg:?}: {event}");
        assert_eq!(event["responseElements"], Value::Null, "{leg:?}: {event}");
        // And tells what was refused. A proxy of its own: what the origin speaks is known to the first one by now.
        let proxy = stage(Leg::H2, &settings("error", true)).await;
        let (status, event) = post(&proxy, leg, "/shut?shown=asked&").await;
        assert_eq!(
            (status, &event["additionalEventData"]["exeat"]["reason"]),
            (403, &"policy.denied".into())
        );
        // Names alone.
        let proxy = stage(Leg::H2, &settings("all", false)).await;
        let (status, event) = post(&proxy, leg, "/echo?").await;
        assert_eq!(status, 200);
        let names: Vec<&String> = event["requestParameters"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["mail", "note", "password", "shown"], "{leg:?}: {event}");
        assert!(!event.to_string().contains("fine"), "{leg:?}: {event}");
        let text = std::fs::read_to_string(proxy.dir.join("audit.jsonl")).unwrap();
        assert!(!text.contains("planted"), "{leg:?}: {text}");
    }
}
