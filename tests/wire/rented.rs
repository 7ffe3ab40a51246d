//! A signed call to a name that anybody can rent: verified and judged by its action; the nearest ones that must not pass.

use crate::support::aws;
use crate::support::sign::{As, Body, OURS, signed};

const API: &str = "abc123.execute-api.us-east-1.amazonaws.com";
const POLICY: &str = "version: 1
statements:
  - {id: pets, effect: allow, action: execute-api:Invoke, resource: 'arn:aws:execute-api:us-east-1:self:abc123/prod/POST/pets'}
  - {id: open, effect: allow, http: {host: abc123.execute-api.us-east-1.amazonaws.com, path: /prod/open}}
";

fn post(signer: &As<'_>, service: &str, path: &str, body: &str) -> String {
    let (mut head, fields) =
        signed((signer, service), "POST", API, path, &[], &Body::Bytes(b"{\"name\":\"rex\"}"));
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_signed_call_of_an_api_is_verified_and_judged_by_its_action() {
    let (proxy, origin) = aws::start_with(POLICY, None).await;
    let body = r#"{"name":"rex"}"#;
    let mut client = proxy.intercepted(API).await;
    let answer = aws::ask(&mut client, post(&OURS, "execute-api", "/prod/pets", body).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let event = proxy.events().pop().unwrap();
    assert_eq!(event["eventSource"], "execute-api.amazonaws.com", "{event}");
    assert_eq!(event["resources"][0]["ARN"], "arn:aws:execute-api:us-east-1::abc123/prod/POST/pets");
    let ours = &event["additionalEventData"]["exeat"];
    assert_eq!((&ours["signature"], &ours["payloadOutcome"]), (&"verified".into(), &"matched".into()));

    for (request, reason) in [
        (post(&OURS, "execute-api", "/prod/others", body), "policy.no_match"),
        (post(&OURS, "execute-api", "/prod/open", body), "policy.no_match"),
        (post(&OURS, "execute-api", "/prod/pets", r#"{"name":"max"}"#), "sigv4.payload"),
        (post(&OURS, "lambda", "/prod/pets", body), "sigv4.scope_host"),
        (post(&As { secret: "guessed", ..OURS }, "execute-api", "/prod/pets", body), "sigv4.signature"),
        (
            post(&As { id: "AKIAI44QH8DHBEXAMPLE", ..OURS }, "execute-api", "/prod/pets", body),
            "sigv4.unknown_key",
        ),
    ] {
        let mut client = proxy.intercepted(API).await;
        let answer = aws::ask(&mut client, request.as_bytes()).await;
        assert!(answer.contains(&format!("reason={reason};")), "{reason}: {answer}");
    }
    assert_eq!(origin.requests().len(), 1);
}
