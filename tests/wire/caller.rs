//! Whose a key is that its source does not tell: AWS is asked once, with that key, where a statement turns on it.

use exeat::engine::facts::{Secret, SignatureState, Timestamp};
use exeat::engine::request::RequestHead;
use exeat::engine::signature::{KnownKey, KnownKeys, Reading, read};
use serde_json::Value;

use crate::support::aws::{self, EXPRESS, Origin, S3, STS};
use crate::support::origin::Message;
use crate::support::proxy::{Proxy, Setup};
use crate::support::sign::{As, Body, OURS, SECRET, express_head, s3_head_as};
use crate::support::tls::Ca;

/// Keys of the older kind, whose ids tell no account.
const APP: As<'static> = As { id: "AKIAIOSFODNN7EXAMPLE", ..OURS };
const ADMIN: As<'static> = As { id: "AKIAIOSFODNN7EXAMPL2", token: Some("tok/en+=="), ..OURS };
const REVOKED: As<'static> = As { id: "AKIAIOSFODNN7EXAMPL3", ..OURS };
const ODD: As<'static> = As { id: "AKIAIOSFODNN7EXAMPL4", ..OURS };
const OTHER: As<'static> = As { id: "AKIAIOSFODNN7EXAMPL5", ..OURS };
const USER: As<'static> = As { id: "AKIAIOSFODNN7EXAMPL6", ..OURS };
/// What S3 Express gives to whoever asks it for a session.
const SESSION: As<'static> =
    As { id: "ASIAIOSFODNN7SESSION", secret: "of the session", token: Some("session/token+=="), at: None };

const ROLES: &str = "version: 1
statements:
  - {id: app, effect: allow, action: s3:*, resource: 'arn:aws:s3:::ours/app/*', when: {signer.role: app}}
  - {id: all, effect: allow, action: s3:*, resource: 'arn:aws:s3:::ours/all/*'}
  - {id: guarded, effect: allow, action: s3:*, resource: 'arn:aws:s3:::ours/guarded/*'}
  - {id: no-admin, effect: deny, action: s3:*, resource: 'arn:aws:s3:::ours/guarded/*', when: {signer.role: admin}}
";

/// What STS says to each key, and S3 to all.
fn answer(asked: &Message) -> String {
    if asked.start.contains("?session ") {
        return aws::ok(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CreateSessionResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Credentials><SessionToken>session/token+==</SessionToken><SecretAccessKey>of the session</SecretAccessKey>\
             <AccessKeyId>ASIAIOSFODNN7SESSION</AccessKeyId><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>\
             </CreateSessionResult>",
        );
    }
    if asked.values("host") != [STS] {
        return aws::ok("ok");
    }
    let signed = asked.values("authorization")[0];
    let caller = |account: &str, arn: &str| {
        let said = aws::ok(&format!(
            "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:{arn}</Arn><UserId>A</UserId>\
             <Account>{account}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
        ));
        // Nothing more comes on that connection: the answer is whole all the same.
        said.replacen("\r\n", "\r\nConnection: close\r\n", 1)
    };
    if signed.contains(APP.id) {
        caller("210987654321", "sts::210987654321:assumed-role/app/session")
    } else if signed.contains(ADMIN.id) {
        caller("210987654321", "sts::210987654321:assumed-role/admin/session")
    } else if signed.contains(OTHER.id) {
        caller("210987654321", "sts::210987654321:assumed-role/other/session")
    } else if signed.contains(USER.id) {
        caller("210987654321", "iam::210987654321:user/ann")
    } else if signed.contains(OURS.id) {
        // Its id says 123456789012.
        caller("210987654321", "iam::210987654321:user/ann")
    } else if signed.contains(ODD.id) {
        aws::ok("<html>welcome to the hotel</html>")
    } else {
        aws::ok("no").replacen("200 OK", "403 Forbidden", 1)
    }
}

async fn start(policy: &str) -> (Proxy, Origin) {
    let ca = Ca::new();
    let (origin, address) = aws::origin_saying(&ca, answer).await;
    let mut credentials = String::new();
    for key in [&APP, &ADMIN, &REVOKED, &ODD, &OTHER, &USER, &OURS] {
        let (id, token) = (key.id, key.token.map(|token| format!("aws_session_token = {token}\n")));
        let token = token.unwrap_or_default();
        credentials +=
            &format!("[{id}]\naws_access_key_id = {id}\naws_secret_access_key = {SECRET}\n{token}");
    }
    let proxy = Proxy::start(&Setup {
        policy,
        connect_to: vec![("*:443".into(), address)],
        upstream_ca: ca.pem(),
        credentials: &credentials,
        config: "{}\n",
        audit: None,
    });
    (proxy, origin)
}

async fn get(proxy: &Proxy, signer: &As<'_>, path: &str) -> String {
    let mut client = proxy.intercepted(S3).await;
    let head = s3_head_as(signer, "GET", S3, path, &[], &Body::Bytes(b""), None);
    aws::ask(&mut client, head.as_bytes()).await
}

/// Calls that STS got.
fn calls(origin: &Origin) -> Vec<Message> {
    origin.requests().into_iter().filter(|asked| asked.values("host") == [STS]).collect()
}

/// The record of our own call.
fn own_records(proxy: &Proxy) -> Vec<Value> {
    let own = |event: &Value| event["additionalEventData"]["exeat"]["origin"] == "exeat";
    proxy.events().into_iter().filter(own).collect()
}

/// The call is what it says, by our own verifier.
fn verifies(call: &Message, signer: &As<'_>) -> bool {
    let fields = call.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>();
    let head = RequestHead::parse(format!("{}\r\n{fields}\r\n", call.start).into()).unwrap();
    let Ok(Reading::Signed(claim)) = read(&head) else { panic!("{}", call.start) };
    let token = signer.token.map(|token| Secret::new(token.as_bytes()));
    let known = KnownKeys::new([KnownKey::new(signer.id, Secret::new(SECRET.as_bytes()), token)]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let verdict = claim.verify(Some(&call.body), &known, Timestamp(now as i64));
    verdict.is_ok_and(|verdict| verdict.identity.signature == SignatureState::Verified)
}

#[tokio::test]
async fn aws_is_asked_once_for_a_keys_role_and_the_call_is_signed_and_recorded() {
    let (proxy, origin) = start(ROLES).await;
    assert!(get(&proxy, &APP, "/ours/all/a").await.starts_with("HTTP/1.1 200 "));
    assert!(calls(&origin).is_empty(), "no statement turns on it");
    let all = tokio::join!(
        get(&proxy, &APP, "/ours/app/a"),
        get(&proxy, &APP, "/ours/app/b"),
        get(&proxy, &APP, "/ours/app/c"),
    );
    for answer in [all.0, all.1, all.2, get(&proxy, &APP, "/ours/app/d").await] {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let asked = calls(&origin);
    assert_eq!(asked.len(), 1, "all of them wait for one call");
    assert_eq!(asked[0].body, b"Action=GetCallerIdentity&Version=2011-06-15");
    assert!(verifies(&asked[0], &APP) && !verifies(&asked[0], &As { secret: "other", ..ADMIN }));

    let records = own_records(&proxy);
    let [event] = &records[..] else { panic!("{records:?}") };
    assert_eq!(event["eventSource"], "sts.amazonaws.com", "{event}");
    assert_eq!(event["eventName"], "GetCallerIdentity");
    assert_eq!(event["sourceIPAddress"], "exeat");
    assert_eq!(event["tlsDetails"]["clientProvidedHostHeader"], STS, "{event}");
    let ours = &event["additionalEventData"]["exeat"];
    assert_eq!((&ours["signature"], &ours["status"]), (&"verified".into(), &200.into()), "{event}");
    let intents = proxy.audit().iter().filter(|line| line["flow"] == ours["flow"]).count();
    assert_eq!(intents, 1, "its intent was written before it went");
    let last = proxy.events().pop().unwrap();
    assert_eq!(last["userIdentity"]["accountId"], "210987654321", "{last}");
    assert_eq!(last["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"], "app", "{last}");
}

#[tokio::test]
async fn a_deny_by_role_holds_for_a_key_whose_source_names_none() {
    let (proxy, origin) = start(ROLES).await;
    let denied = get(&proxy, &ADMIN, "/ours/guarded/a").await;
    assert!(denied.contains("reason=policy.denied;"), "{denied}");
    let other = get(&proxy, &ADMIN, "/ours/app/a").await;
    assert!(other.contains("reason=policy.no_match;"), "{other}");
    assert!(get(&proxy, &APP, "/ours/guarded/a").await.starts_with("HTTP/1.1 200 "));
    let asked = calls(&origin);
    assert_eq!(asked.len(), 2, "once for each key");
    assert!(verifies(&asked[0], &ADMIN), "with its token");
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn another_account_than_the_perimeter_names_is_refused() {
    for (named, status) in [("210987654321", "HTTP/1.1 200 "), ("123456789012", "HTTP/1.1 403 ")] {
        let policy = format!(
            "version: 1\nperimeter: {{signers: [\"{named}\"]}}\nstatements:\n  \
             - {{id: ours, effect: allow, action: s3:*, resource: 'arn:aws:s3:::ours/*'}}\n"
        );
        let (proxy, origin) = start(&policy).await;
        let answer = get(&proxy, &APP, "/ours/a").await;
        assert!(answer.starts_with(status), "{answer}");
        if status.contains("403") {
            assert!(answer.contains("reason=sigv4.perimeter;"), "{answer}");
            assert_eq!(origin.requests().len(), 1, "only the call to STS");
        }
        assert_eq!(calls(&origin).len(), 1);
    }
}

#[tokio::test]
async fn a_call_that_tells_nothing_refuses_who_needed_it_and_is_not_repeated_at_once() {
    let (proxy, origin) = start(ROLES).await;
    for signer in [&REVOKED, &ODD, &OURS] {
        for _ in 0..3 {
            let answer = get(&proxy, signer, "/ours/guarded/a").await;
            assert!(answer.starts_with("HTTP/1.1 502 "), "{}: {answer}", signer.id);
            assert!(answer.contains("reason=upstream.identity;"), "{answer}");
            let event = proxy.events().pop().unwrap();
            assert_eq!(event["additionalEventData"]["exeat"]["signature"], "verified", "{event}");
        }
        // What turns on nothing of it still passes.
        assert!(get(&proxy, signer, "/ours/all/a").await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(calls(&origin).len(), 3, "once for each key");
    assert_eq!(own_records(&proxy).len(), 3);
    assert_eq!(origin.requests().len(), 6, "nothing of what was refused left");
}

#[tokio::test]
async fn nobody_is_asked_for_a_signature_that_does_not_verify() {
    let (proxy, origin) = start(ROLES).await;
    let answer = get(&proxy, &As { secret: "guessed", ..APP }, "/ours/app/a").await;
    assert!(answer.contains("reason=sigv4.signature;"), "{answer}");
    let answer = get(&proxy, &As { id: "AKIAI44QH8DHBEXAMPLE", ..OURS }, "/ours/app/a").await;
    assert!(answer.contains("reason=sigv4.unknown_key;"), "{answer}");
    assert!(origin.requests().is_empty());
}

/// Sessions for everybody who wants to read, and what is done in them for one role.
const SESSIONS: &str = "version: 1
statements:
  - {id: sessions, effect: allow, action: s3express:CreateSession, resource: 'arn:aws:s3express:us-east-1:*:bucket/ours--use1-az4--x-s3',
     when: {header.x-amz-create-session-mode: ReadOnly}}
  - {id: app, effect: allow, action: s3express:CreateSession, resource: 'arn:aws:s3express:us-east-1:*:bucket/ours--use1-az4--x-s3',
     when: {signer.role: app}}
";

async fn express(proxy: &Proxy, signer: &As<'_>, path: &str, fields: &[(&str, &str)]) -> String {
    let mut client = proxy.intercepted(EXPRESS).await;
    aws::ask(&mut client, express_head(signer, EXPRESS, path, fields).as_bytes()).await
}

/// Its keys act for whoever asked for them and open nothing else: STS does not know them.
#[tokio::test]
async fn whose_a_session_of_s3_express_is_sts_is_asked_with_the_key_that_took_it() {
    let read = [("x-amz-create-session-mode", "ReadOnly")];
    for (parent, role, reason) in [
        (&APP, "app", ""),
        (&OTHER, "other", "policy.no_match"),
        (&USER, "", "policy.no_match"),
        (&REVOKED, "", "upstream.identity"),
    ] {
        let status = match reason {
            "" => "HTTP/1.1 200 ",
            "upstream.identity" => "HTTP/1.1 502 ",
            _ => "HTTP/1.1 403 ",
        };
        let (proxy, origin) = start(SESSIONS).await;
        let taken = express(&proxy, parent, "/?session", &read).await;
        assert!(taken.starts_with("HTTP/1.1 200 ") && taken.contains(SESSION.id), "{taken}");
        assert!(calls(&origin).is_empty(), "no statement turned on its role");
        for path in ["/a", "/b"] {
            let answer = express(&proxy, &SESSION, path, &[]).await;
            assert!(answer.starts_with(status), "{}: {answer}", parent.id);
            assert_eq!(calls(&origin).len(), 1, "{} {path}", parent.id);
        }
        // Sessions end after minutes: the next one's principal is known by now.
        assert!(express(&proxy, parent, "/?session", &read).await.starts_with("HTTP/1.1 200 "));
        let answer = express(&proxy, &SESSION, "/c", &[]).await;
        assert!(answer.starts_with(status), "{}: {answer}", parent.id);
        let [call] = &calls(&origin)[..] else { panic!("one call") };
        assert!(verifies(call, parent) && !verifies(call, &SESSION), "{}", parent.id);
        let event = proxy.events().pop().unwrap();
        let ours = &event["additionalEventData"]["exeat"];
        assert_eq!(ours["signature"], "verified", "{event}");
        assert_eq!(ours["parents"][0]["key"], parent.id, "{event}");
        assert_eq!(ours["reason"].as_str().unwrap_or_default(), reason, "{event}");
        if reason != "upstream.identity" {
            assert_eq!(event["userIdentity"]["accountId"], "210987654321", "{event}");
            let issuer = &event["userIdentity"]["sessionContext"]["sessionIssuer"];
            assert_eq!(issuer["userName"].as_str().unwrap_or_default(), role, "{event}");
        }
        let passed = if reason.is_empty() { 3 } else { 0 };
        assert_eq!(origin.requests().len(), 3 + passed, "two sessions, STS, and what was allowed");
    }
}

#[tokio::test]
async fn nobody_is_asked_whose_a_session_is_that_does_not_verify() {
    let (proxy, origin) = start(SESSIONS).await;
    let read = [("x-amz-create-session-mode", "ReadOnly")];
    let before = express(&proxy, &SESSION, "/a", &[]).await;
    assert!(before.contains("reason=sigv4.unknown_key;"), "{before}");
    assert!(express(&proxy, &APP, "/?session", &read).await.starts_with("HTTP/1.1 200 "));
    for (signer, reason) in [
        (As { secret: "guessed", ..SESSION }, "sigv4.signature"),
        (As { token: Some("another"), ..SESSION }, "sigv4.token"),
        (As { token: None, ..SESSION }, "sigv4.token"),
    ] {
        let answer = express(&proxy, &signer, "/a", &[]).await;
        assert!(answer.contains(&format!("reason={reason};")), "{answer}");
    }
    // Its session counts for the bucket's service, not for the rest of S3, whoever took it.
    let mut client = proxy.intercepted(S3).await;
    let elsewhere = As { token: Some("session/token+=="), ..SESSION };
    let head = s3_head_as(&elsewhere, "GET", S3, "/ours/app/a", &[], &Body::Bytes(b""), None);
    let answer = aws::ask(&mut client, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(origin.requests().len(), 1, "the session alone");
}
