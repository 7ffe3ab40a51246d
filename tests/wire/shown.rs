//! Who showed which certificate to whom, as the lines tell it.

use serde_json::Value;

use crate::support::aws::{self, ask, until};
use crate::support::tls::presented;

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n";

#[tokio::test]
async fn both_legs_chains_are_told_once_a_connection_and_their_leaves_every_time() {
    let (proxy, _origin) = aws::start().await;
    let mut client = proxy.intercepted("app.test").await;
    for _ in 0..2 {
        assert!(ask(&mut client, GET).await.starts_with("HTTP/1.1 200 "));
    }
    let mut again = proxy.intercepted("app.test").await;
    assert!(ask(&mut again, GET).await.starts_with("HTTP/1.1 200 "));
    let events = until("the third event", || Some(proxy.events()).filter(|all| all.len() == 3)).await;
    let ours: Vec<&Value> = events.iter().map(|event| &event["additionalEventData"]["exeat"]).collect();
    let told = |leg: &str| -> Vec<bool> {
        ours.iter().map(|ours| ours.pointer(leg).unwrap().get("chain").is_some()).collect()
    };
    assert_eq!(told("/clientTls"), [true, false, true], "two connections of clients");
    let reused: Vec<&Value> = ours.iter().map(|ours| &ours["upstream"]["reused"]).collect();
    let upstream = told("/upstream/tls");
    for (reused, told) in reused.iter().zip(&upstream) {
        assert_eq!(**reused, !told, "{reused:?} {upstream:?}");
    }
    // What the client was shown, byte for byte.
    let shown = &ours[0]["clientTls"]["chain"][0];
    assert_eq!(shown["sha256"], presented(&client));
    assert_eq!(shown["subject"], "CN=app.test");
    assert!(shown["issuer"].as_str().unwrap().starts_with("CN=exeat local CA "), "{shown}");
    // And what the origin showed us: its leaf, and the root that it sends along.
    let chain = ours[0]["upstream"]["tls"]["chain"].as_array().unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[0]["issuer"], "CN=wire test root");
    assert_eq!(chain[1]["subject"], "CN=wire test root");
    for ours in &ours {
        for (leg, first) in [("/clientTls/leaf", shown), ("/upstream/tls/leaf", &chain[0])] {
            assert_eq!(ours.pointer(leg).unwrap(), &first["sha256"].as_str().unwrap()[..16], "{leg}");
        }
    }
}
