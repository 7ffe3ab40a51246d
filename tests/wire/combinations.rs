//! The one exchange in its four combinations of protocols: what holds for one holds for all.

use std::task::Poll;
use std::time::Duration;

use serde_json::Value;

use crate::support::aws::{BEDROCK, until};
use crate::support::legs::{self, Client, Leg, Log};
use crate::support::proxy::{Proxy, Setup};
use crate::support::sign::{self, Body, CREDENTIALS};
use crate::support::tls::Ca;

const ALL: [(Leg, Leg); 4] = [(Leg::H1, Leg::H1), (Leg::H1, Leg::H2), (Leg::H2, Leg::H1), (Leg::H2, Leg::H2)];

const POLICY: &str = "version: 1
statements:
  - {id: app, effect: allow, http: {host: app.test, path: /*}}
  - {id: model, effect: allow, action: 'bedrock:*', resource: '*'}
";

/// The program before an origin of that protocol.
async fn stage(origin: Leg) -> (Proxy, Log) {
    let ca = Ca::new();
    let (log, address) = legs::serve(&ca, origin, &["app.test", BEDROCK]).await;
    let proxy = Proxy::start(&Setup {
        policy: POLICY,
        connect_to: vec![("*:443".into(), address)],
        upstream_ca: ca.pem(),
        credentials: CREDENTIALS,
        config: "limits: {body_idle: 20s}\n",
        audit: None,
    });
    (proxy, log)
}

/// A test for all combinations, each with a proxy of its own, and a next request that must be fine.
async fn each(test: impl AsyncFn(Leg, Leg, &Proxy, &Log)) {
    for (client, origin) in ALL {
        let (proxy, log) = stage(origin).await;
        let run = async {
            test(client, origin, &proxy, &log).await;
            let mut next = Client::connect(&proxy, Leg::H2, "app.test").await;
            let mut next = next.get("app.test", "/next").await;
            assert_eq!(next.answer().await.map(|(status, _)| status), Ok(200));
            assert_eq!(next.rest().await.unwrap().0, b"ok");
        };
        tokio::time::timeout(Duration::from_secs(60), run)
            .await
            .unwrap_or_else(|_| panic!("{client:?} to {origin:?} stands still"));
    }
}

/// The only event so far.
async fn event(proxy: &Proxy) -> Value {
    let event = until("the event", || proxy.events().into_iter().next()).await;
    assert_eq!(proxy.events().len(), 1);
    event
}

fn ours(event: &Value) -> &Value {
    &event["additionalEventData"]["exeat"]
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once_and_trailers_pass() {
    each(async |leg, origin, proxy, log| {
        let mut client = Client::connect(proxy, leg, "app.test").await;
        let mut call = client.open("POST", "app.test", "/echo?x=%20", &[("te", "trailers")]).await;
        let (status, _) = call.answer().await.unwrap();
        assert_eq!(status, 200, "{leg:?} to {origin:?}");
        for word in [&b"ping"[..], b"pong", &[b'x'; 60_000]] {
            call.say(word)
                .await
                .unwrap_or_else(|error| panic!("{error}: {leg:?} to {origin:?} {:?}", proxy.events()));
            assert!(call.hear(word.len()).await.unwrap() == word, "{leg:?} to {origin:?}");
        }
        assert!(proxy.events().is_empty());
        call.end(&[]).await.unwrap();
        let (rest, trailers) = call.rest().await.unwrap();
        assert!(rest.is_empty());
        let mut want = vec![("grpc-status".to_owned(), "0".to_owned())];
        if (leg, origin) == (Leg::H2, Leg::H2) {
            want.push(("x-of-the-app".to_owned(), "kept".to_owned()));
        }
        assert_eq!(trailers, want, "{leg:?} to {origin:?}");
        let event = event(proxy).await;
        let ours = ours(&event);
        assert_eq!(
            (&ours["status"], &ours["bytesIn"], &ours["bytesOut"]),
            (&200.into(), &60_008.into(), &60_008.into())
        );
        assert!(ours["reason"].is_null(), "{event}");
        let seen = &log.all()[0];
        assert_eq!((seen.path.as_str(), seen.authority.as_str()), ("/echo?x=%20", "app.test"));
        assert_eq!((seen.body, seen.complete), (60_008, true));
        let te = seen.fields.get("te").is_some_and(|te| te == "trailers");
        assert_eq!(te, origin == Leg::H2);
    })
    .await;
}

#[tokio::test]
async fn an_answer_comes_whole_while_its_upload_is_still_under_way() {
    each(async |leg, origin, proxy, _| {
        let mut client = Client::connect(proxy, leg, "app.test").await;
        let mut call = client.open("POST", "app.test", "/early", &[]).await;
        call.say(&[b'x'; 100_000]).await.unwrap();
        let (status, _) = call.answer().await.unwrap();
        assert_eq!(status, 403, "{leg:?} to {origin:?}");
        assert_eq!(call.rest().await.unwrap().0, b"early", "{leg:?} to {origin:?}");
        let event = event(proxy).await;
        assert_eq!(ours(&event)["status"], 403);
        assert!(ours(&event)["reason"].is_null(), "{event}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_gives_up_takes_its_request_with_it() {
    each(async |leg, origin, proxy, log| {
        let mut client = Client::connect(proxy, leg, "app.test").await;
        let mut call = client.open("POST", "app.test", "/hold", &[]).await;
        // More than a window of HTTP/2, and than a record of TLS.
        const SOME: usize = 200_000;
        call.say(&[b'x'; SOME]).await.unwrap();
        until("the origin to see it", || log.all().iter().any(|seen| seen.body == SOME).then_some(())).await;
        call.reset();
        let event = event(proxy).await;
        let ours = ours(&event);
        assert_eq!(ours["reason"], "request.aborted", "{leg:?} to {origin:?}");
        assert_eq!(ours["bytesIn"], SOME, "{leg:?} to {origin:?}");
        // A stream that is given up can be told nothing; on a socket our 500 is tried.
        assert_eq!(ours["status"], if leg == Leg::H2 { 0 } else { 500 }, "{leg:?} to {origin:?}");
        assert!(log.all().iter().all(|seen| !seen.complete));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_shown_as_broken() {
    each(async |leg, origin, proxy, _| {
        let mut client = Client::connect(proxy, leg, "app.test").await;
        let mut call = client.get("app.test", "/break").await;
        // Over HTTP/2 a reset may overtake what it follows.
        let broken = match call.answer().await {
            Ok((502, _)) => true,
            Ok(_) => call.rest().await.is_err(),
            Err(_) => true,
        };
        assert!(broken, "{leg:?} to {origin:?}");
        let event = event(proxy).await;
        let want = if origin == Leg::H2 { "upstream.reset" } else { "upstream.closed" };
        assert!([want, "upstream.protocol"].contains(&ours(&event)["reason"].as_str().unwrap()), "{event}");
    })
    .await;
}

#[tokio::test]
async fn a_tampered_body_never_completes_at_the_origin() {
    const PATH: &str = "/model/m/invoke";
    let body = vec![b'a'; 200_000];
    let signer = (&sign::OURS, "bedrock");
    let (_, fields) = sign::signed(signer, "POST", BEDROCK, PATH, &[], &Body::Bytes(&body));
    let fields: Vec<(&str, &str)> =
        fields.iter().skip(1).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    // Of AWS's endpoints it is known what they speak, so a client with both gets HTTP/2 at once; HTTP/1.1 throughout is
    // shown in `request.rs`.
    let leg = Leg::H2;
    for origin in [Leg::H1, Leg::H2] {
        let (proxy, log) = stage(origin).await;
        for forged in [true, false] {
            let mut client = Client::connect(&proxy, leg, BEDROCK).await;
            let mut call = client.open("POST", BEDROCK, PATH, &fields).await;
            let mut sent = body.clone();
            if forged {
                *sent.last_mut().unwrap() = b'b';
            }
            call.say(&sent).await.unwrap();
            call.end(&[]).await.unwrap();
            let (status, head) = call.answer().await.unwrap();
            assert_eq!(status, if forged { 403 } else { 200 }, "{leg:?} to {origin:?}: {head:?}");
            if forged {
                let verdict = head["exeat-verdict"].to_str().unwrap();
                assert!(verdict.contains("reason=sigv4.payload;"), "{verdict}");
            }
            call.rest().await.unwrap();
            let complete = log.all().iter().filter(|seen| seen.complete).count();
            assert_eq!(complete, usize::from(!forged), "{leg:?} to {origin:?}");
        }
    }
}

#[tokio::test]
async fn what_an_origin_refuses_unprocessed_is_sent_once_more_where_it_has_no_body() {
    for leg in [Leg::H1, Leg::H2] {
        let (proxy, log) = stage(Leg::H2).await;
        let mut client = Client::connect(&proxy, leg, "app.test").await;
        let mut call = client.get("app.test", "/refuse").await;
        assert_eq!(call.answer().await.unwrap().0, 200, "{leg:?}");
        assert_eq!((log.all().len(), proxy.events().len()), (1, 1));
        let (proxy, log) = stage(Leg::H2).await;
        let mut client = Client::connect(&proxy, leg, "app.test").await;
        let mut call = client.open("POST", "app.test", "/refuse", &[]).await;
        call.say(b"some").await.unwrap();
        assert_eq!(call.answer().await.unwrap().0, 502, "{leg:?}");
        let event = event(&proxy).await;
        assert_eq!(ours(&event)["reason"], "upstream.reset", "{event}");
        assert!(log.all().is_empty());
    }
}

#[tokio::test]
async fn a_421_on_a_shared_connection_is_asked_again_on_one_of_its_own_where_it_has_no_body() {
    let (proxy, log) = stage(Leg::H2).await;
    let mut client = Client::connect(&proxy, Leg::H2, "app.test").await;
    for (path, bodiless, want) in
        [("/a", true, 200), ("/misdirected", true, 200), ("/misdirected", false, 421), ("/b", true, 200)]
    {
        let mut call = if bodiless {
            client.get("app.test", path).await
        } else {
            client.open("POST", "app.test", path, &[]).await
        };
        if !bodiless {
            call.say(b"some").await.unwrap();
        }
        assert_eq!(call.answer().await.unwrap().0, want, "{path} {bodiless}");
    }
    assert_eq!(log.all().len(), 3);
    drop(client);
    let events = until("all records", || Some(proxy.events()).filter(|events| events.len() == 4)).await;
    let retried: Vec<_> = events.iter().map(|event| ours(event)["retried"].as_str()).collect();
    assert_eq!(retried, [None, Some("misdirected"), None, None]);
}

#[tokio::test]
async fn a_connection_that_says_goaway_finishes_what_it_took_and_gets_no_more() {
    let (proxy, log) = stage(Leg::H2).await;
    let mut client = Client::connect(&proxy, Leg::H2, "app.test").await;
    for path in ["/goaway", "/a", "/goaway", "/b"] {
        let mut call = client.get("app.test", path).await;
        assert_eq!(call.answer().await.map(|(status, _)| status), Ok(200), "{path}");
        call.rest().await.unwrap();
    }
    assert_eq!(log.all().len(), 4);
    assert!(proxy.events().iter().all(|event| ours(event)["reason"].is_null()));
}

#[tokio::test]
async fn a_refused_stream_is_one_stream_and_a_drain_lets_the_others_finish() {
    let (proxy, log) = stage(Leg::H2).await;
    let mut client = Client::connect(&proxy, Leg::H2, "app.test").await;
    let mut open = client.open("POST", "app.test", "/echo", &[]).await;
    open.answer().await.unwrap();
    let mut other = client.get("other.test", "/a").await;
    let (status, fields) = other.answer().await.unwrap();
    assert_eq!(status, 421);
    assert!(fields["exeat-verdict"].to_str().unwrap().contains("reason=target.mismatch;"));
    let event = event(&proxy).await;
    assert_eq!(ours(&event)["host"], "other.test", "{event}");
    proxy.signal("-TERM");
    open.say(b"still").await.unwrap();
    assert_eq!(open.hear(5).await.unwrap(), b"still");
    let Client::H2(send) = &mut client else { unreachable!() };
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    until("GOAWAY", || matches!(send.poll_ready(&mut context), Poll::Ready(Err(_))).then_some(())).await;
    open.end(&[]).await.unwrap();
    assert_eq!(open.rest().await.unwrap().1.len(), 2);
    assert_eq!(log.all().len(), 1);
    let (code, said, _) = tokio::task::spawn_blocking(move || proxy.wait()).await.unwrap();
    assert_eq!(code, Some(0), "{said}");
}
