//! Keys that AWS hands out are known from then on, with who took them, and the perimeter holds for them too.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::aws::{self, S3, STS};
use crate::support::proxy::{Proxy, Setup};
use crate::support::sign::{self, As, Body};
use crate::support::tls::Ca;

const POLICY: &str = "version: 1
statements:
  - {id: ours, effect: allow, action: s3:*, resource: ['arn:aws:s3:::ours', 'arn:aws:s3:::ours/*']}
  - {id: roles, effect: allow, action: [sts:AssumeRole, sts:GetCallerIdentity], resource: '*'}
  - {id: app, effect: allow, http: {host: app.test, path: /*}}
";
/// Of account 123456789012, which is ours, and of 609629065308, which is not.
const OURS: As<'static> =
    As { id: "ASIARZPUZDIKEXAMPLE2", secret: "learned", token: Some("their+token=="), at: None };
const THEIRS: As<'static> = As { id: "ASIAY34FZKBOKMUTVV7A", ..OURS };

fn credentials(id: &str) -> String {
    let account = if id == OURS.id { "123456789012" } else { "609629065308" };
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>learned</SecretAccessKey><SessionToken>their+token==</SessionToken>\
         <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser>\
         <Arn>arn:aws:sts::{account}:assumed-role/deploy/me</Arn></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"
    )
}

/// What STS says to each role's name; any other host would say the same.
fn answer(asked: &crate::support::origin::Message) -> String {
    let body = String::from_utf8_lossy(&asked.body);
    let whole = |id: &str| aws::ok(&credentials(id));
    match body.split("role%2F").nth(1).map(|rest| rest.split('&').next().unwrap_or_default()) {
        Some("ours") => whole(OURS.id),
        Some("theirs") => whole(THEIRS.id),
        Some("zipped") => whole(OURS.id).replacen("\r\n", "\r\nContent-Encoding: gzip\r\n", 1),
        Some("failing") => whole(OURS.id).replacen("200 OK", "400 Bad Request", 1),
        Some("pieces") => {
            let text = credentials(OURS.id);
            let (one, two) = text.split_at(100);
            let piece = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n",
                piece(one),
                piece(two)
            )
        }
        Some("long") => aws::ok(&(credentials(OURS.id) + &" ".repeat(100_000))),
        _ => aws::ok("ok"),
    }
}

fn assume(name: &str) -> String {
    let form = format!(
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2F{name}&RoleSessionName=me"
    );
    sign::sts_call(&sign::OURS, &form)
}

fn get(signer: &As<'_>) -> String {
    sign::s3_head_as(signer, "GET", S3, "/ours/a", &[], &Body::Bytes(b""), None)
}

#[tokio::test]
async fn an_assumed_role_is_verified_with_its_descent_and_only_with_its_own_token() {
    for name in ["ours", "pieces"] {
        let (proxy, origin) = aws::start_saying(POLICY, None, answer).await;
        let mut client = proxy.intercepted(S3).await;
        let before = aws::ask(&mut client, get(&OURS).as_bytes()).await;
        assert!(before.contains("reason=sigv4.unknown_key;"), "{before}");

        let mut sts = proxy.intercepted(STS).await;
        let taken = aws::ask(&mut sts, assume(name).as_bytes()).await;
        assert!(taken.starts_with("HTTP/1.1 200 ") && taken.contains("their+token=="), "{taken}");
        let mut client = proxy.intercepted(S3).await;
        let answer = aws::ask(&mut client, get(&OURS).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}");
        let event = proxy.events().pop().unwrap();
        let ours = &event["additionalEventData"]["exeat"];
        assert_eq!(ours["signature"], "verified", "{event}");
        let parents = json!([{"by": "sts:AssumeRole", "key": sign::KEY_ID, "account": "123456789012"}]);
        assert_eq!(ours["parents"], parents, "{event}");
        assert!(ours.get("ownKey").is_none(), "{event}");
        let issuer = &event["userIdentity"]["sessionContext"]["sessionIssuer"];
        assert_eq!(issuer["userName"], "deploy", "{event}");

        for (signer, reason) in [
            (As { token: None, ..OURS }, "sigv4.token"),
            (As { token: Some("other+token=="), ..OURS }, "sigv4.token"),
            (As { secret: "guessed", ..OURS }, "sigv4.signature"),
        ] {
            let mut client = proxy.intercepted(S3).await;
            let answer = aws::ask(&mut client, get(&signer).as_bytes()).await;
            assert!(answer.contains(&format!("reason={reason};")), "{answer}");
        }
        assert_eq!(origin.requests().len(), 2);
    }
}

#[tokio::test]
async fn an_attackers_role_verifies_and_is_refused_by_the_perimeter() {
    let (proxy, origin) = aws::start_saying(POLICY, None, answer).await;
    let mut sts = proxy.intercepted(STS).await;
    assert!(aws::ask(&mut sts, assume("theirs").as_bytes()).await.starts_with("HTTP/1.1 200 "));
    let mut client = proxy.intercepted(S3).await;
    let answer = aws::ask(&mut client, get(&THEIRS).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("reason=sigv4.perimeter;"), "{answer}");
    let event = proxy.events().pop().unwrap();
    let ours = &event["additionalEventData"]["exeat"];
    let facts = json!([ours["auth"], ours["signature"], ours["payload"], event["userIdentity"]["accountId"]]);
    assert_eq!(facts, json!(["sigv4", "verified", "signed", "609629065308"]), "{event}");
    let parents = json!([{"by": "sts:AssumeRole", "key": sign::KEY_ID, "account": "123456789012"}]);
    assert_eq!(ours["parents"], parents, "our own key took it: {event}");
    assert!(ours.get("ownKey").is_none() && ours["statement"] == "ours", "{event}");
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn nothing_is_learned_from_a_failure_another_host_or_what_is_not_plain() {
    let (proxy, _origin) = aws::start_saying(POLICY, None, answer).await;
    for name in ["failing", "zipped", "long", "nobody"] {
        let mut sts = proxy.intercepted(STS).await;
        let passed = aws::ask(&mut sts, assume(name).as_bytes()).await;
        assert!(passed.starts_with("HTTP/1.1 "), "{name}: {passed}");
        assert!(!passed.contains("exeat-verdict"), "{name}: {passed}");
    }
    // The same words to somebody whom the atlas does not call STS, and the same answer.
    let mut app = proxy.intercepted("app.test").await;
    let body = "Action=AssumeRole&RoleArn=role%2Fours";
    let request = format!(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let passed = aws::ask(&mut app, request.as_bytes()).await;
    assert!(passed.contains(OURS.id), "{passed}");
    let mut client = proxy.intercepted(S3).await;
    let answer = aws::ask(&mut client, get(&OURS).as_bytes()).await;
    assert!(answer.contains("reason=sigv4.unknown_key;"), "{answer}");
}

/// A container's endpoint: its first answer, then another to whoever asks later.
async fn container() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut ids = std::iter::once(sign::KEY_ID).chain(std::iter::repeat(OURS.id));
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(socket.read_u8().await.unwrap());
            }
            let id = ids.next().unwrap();
            let (secret, token) =
                if id == OURS.id { ("learned", "their+token==") } else { (sign::SECRET, "t") };
            let keys = json!({
                "AccessKeyId": id, "SecretAccessKey": secret, "Token": token, "Expiration": "2999-01-01T00:00:00Z",
            });
            socket.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{keys}").as_bytes()).await.unwrap();
        }
    });
    address
}

// The program asks the endpoint before it listens, which this test waits for: somebody else must answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_container_was_given_just_now_is_known_at_its_first_use_and_the_last_one_stays() {
    let ca = Ca::new();
    let (_origin, address) = aws::origin_saying(&ca, |_| aws::ok("ok")).await;
    let setup = Setup {
        policy: POLICY,
        connect_to: vec![("*:443".into(), address)],
        upstream_ca: ca.pem(),
        credentials: "",
        config: "{}\n",
        audit: None,
    };
    let endpoint = container().await;
    let proxy =
        Proxy::start_in(&setup, &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{endpoint}/"))]);
    let before = As { token: Some("t"), ..sign::OURS };
    // Another's stays unknown, and so does one that nobody gave: asked for at most once in five seconds.
    for (signer, good) in [(&before, true), (&OURS, true), (&before, true), (&THEIRS, false)] {
        let mut client = proxy.intercepted(S3).await;
        let answer = aws::ask(&mut client, get(signer).as_bytes()).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200 "), good, "{}: {answer}", signer.id);
        let event = proxy.events().pop().unwrap();
        let ours = &event["additionalEventData"]["exeat"];
        assert_eq!(ours["signature"], if good { "verified" } else { "unknown_key" }, "{event}");
        assert_eq!(ours.get("ownKey").is_some(), good, "{event}");
    }
}
