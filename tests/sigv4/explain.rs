//! A bad signature explained: what a hop rewrote is named; what nobody can tell is not guessed.

use exeat::engine::reason::Reason;
use exeat::engine::signature::{KnownKeys, explain};

use super::message::{Message, keys};
use super::rules::{keys_of, message};
use super::signer::Signer;

/// Signs `message`, lets `rewrite` change it, and asks why.
fn why(signer: &Signer, message: Message, rewrite: impl FnOnce(&mut Message)) -> Option<String> {
    let mut message = signer.sign(message);
    message.verify(&keys_of(signer), signer.at).unwrap();
    rewrite(&mut message);
    let refused = message.verify(&keys_of(signer), signer.at).unwrap_err();
    assert_eq!(refused.reason, Reason::SigV4Signature);
    explain(&message.head().unwrap(), Some(&message.body), &keys_of(signer))
}

fn target(to: &'static str) -> impl FnOnce(&mut Message) {
    move |message| message.target = to.into()
}

fn field(name: &'static str, value: &'static str) -> impl FnOnce(&mut Message) {
    move |message| message.set(name, value)
}

#[test]
fn names_the_header_that_was_rewritten_and_its_value_before() {
    for (name, before, after, want) in [
        ("accept-encoding", "identity", "gzip, br", "`accept-encoding` is `identity`"),
        (
            "accept-encoding",
            "gzip, deflate",
            "gzip, deflate, br, zstd",
            "`accept-encoding` is `gzip, deflate`",
        ),
        ("accept", "*/*", "text/plain", "`accept` is `*/*`"),
        (
            "content-type",
            "application/json",
            "application/json; charset=utf-8",
            "`content-type` is `application/json`",
        ),
        ("content-type", "text/csv", "text/csv; charset=utf-8", "`content-type` has no parameter"),
        ("content-type", "text/csv; charset=UTF-8", "text/csv", "`content-type` ends in `; charset=UTF-8`"),
        ("cache-control", "no-cache", "max-age=9", "`cache-control` is `no-cache`"),
        (
            "x-forwarded-for",
            "10.0.0.1",
            "10.0.0.1, 10.0.0.2",
            "`x-forwarded-for` ends before its first comma",
        ),
        ("x-list", "a,b", "a, b", "`x-list` has no blank after a comma"),
        ("x-mixed", "abc", "ABC", "`x-mixed` is in lower case"),
        ("host", "sts.us-east-1.amazonaws.com:443", "sts.us-east-1.amazonaws.com", "`host` has port 443"),
        ("host", "sts.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com:443", "`host` has no port"),
    ] {
        let mut message = message("GET", "/", &[]);
        message.set(name, before);
        let said = why(&Signer::default(), message, field(name, after));
        assert_eq!(said.as_deref(), Some(&*format!("it holds if {want}")), "{name} {before}");
    }
    let said = why(&Signer::default(), message("GET", "/", &[("x-list", "a"), ("x-list", "b")]), |message| {
        message.set("x-list", "b,a");
    });
    assert_eq!(said, None, "an order that is lost can't be told");
}

#[test]
fn names_what_was_done_to_the_path() {
    let other = Signer::default();
    for (signer, before, after, want) in [
        (&other, "/a/", "/a", "has a `/` at its end"),
        (&other, "/a", "/a/", "has no `/` at its end"),
        (&other, "/a%3Ab", "/a:b", "the path's escapes are encoded again"),
        (&other, "/a:b", "/a%3Ab", "the path has no escapes"),
        (&other, "/b", "/stage/b", "lacks its first segment"),
        (&Signer::s3(), "/b//k", "/b/k", ""),
        (&Signer::s3(), "/b/k", "/b//k", "each `//` of the path is `/`"),
        (&Signer::s3(), "/b/a%2Fk", "/b/a/k", ""),
        (&Signer::s3(), "/b/a%7Ek", "/b/a%257Ek", "the path has no escapes"),
    ] {
        let said = why(signer, message("GET", before, &[]), target(after));
        match want {
            "" => assert_eq!(said, None, "{before} {after}"),
            _ => {
                assert!(said.clone().is_some_and(|said| said.contains(want)), "{before} {after}: {said:?}");
            }
        }
    }
}

#[test]
fn names_what_was_done_to_the_query() {
    for (before, after, want) in [
        ("/?a=1", "/?a=1&utm=2", "`utm` is not in the query"),
        ("/?a=", "/?a=1", "`a` of the query is empty"),
        ("/", "/?x=1", "there is no query"),
        ("/?a=b%2Bc", "/?a=b+c", "each `+` of the query is a plus"),
    ] {
        let said = why(&Signer::default(), message("GET", before, &[]), target(after));
        assert_eq!(said.as_deref(), Some(&*format!("it holds if {want}")), "{before} {after}");
    }
    // In the query form too, where the signature is left out.
    let presigned = Signer { presign: Some(60), ..Signer::s3() };
    let said = why(&presigned, message("GET", "/k", &[]), |message| message.target.extend(b"&utm=2"));
    assert_eq!(said.as_deref(), Some("it holds if `utm` is not in the query"));
}

#[test]
fn names_method_bucket_and_body() {
    let said = why(&Signer::default(), message("HEAD", "/", &[]), |message| message.method = "GET".into());
    assert_eq!(said.as_deref(), Some("it holds if the method is HEAD"));
    let mut in_host = message("GET", "/k", &[]);
    in_host.set("host", "b.s3.us-east-1.amazonaws.com");
    let said = why(&Signer::s3(), in_host, |message| {
        message.set("host", "s3.us-east-1.amazonaws.com");
        message.target = "/b/k".into();
    });
    assert_eq!(said.as_deref(), Some("it holds if the bucket stands in the host instead of the path"));
    let mut in_path = message("GET", "/b/k", &[]);
    in_path.set("host", "s3.us-east-1.amazonaws.com");
    let said = why(&Signer::s3(), in_path, |message| {
        message.set("host", "b.s3.us-east-1.amazonaws.com");
        message.target = "/k".into();
    });
    assert_eq!(said.as_deref(), Some("it holds if the bucket stands in the path instead of the host"));

    let with_body = |body: &str| {
        let mut message = message("POST", "/", &[("content-length", "9")]);
        message.body = body.into();
        message
    };
    for (before, after, want) in [
        ("{\"a\":1}", "{ \"a\": 1 }", "the body's JSON is written without blanks, keys in order"),
        ("a\nb", "a\r\nb", "the body's line ends are LF"),
        ("a", "a\n", "the body has no blanks at its end"),
        ("", "a", "the body is empty"),
    ] {
        let said = why(&Signer::default(), with_body(before), |message| message.body = after.into());
        assert_eq!(said.as_deref(), Some(&*format!("it holds if {want}")), "{after:?}");
    }
}

#[test]
fn a_long_body_is_not_rewritten_for_an_explanation() {
    let signer = Signer::default();
    for (length, told) in [(64 * 1024, true), (64 * 1024 + 1, false)] {
        let mut message = message("POST", "/", &[("content-length", "9")]);
        message.body = vec![b'a'; length - 1];
        let said = why(&signer, message, |message| message.body.push(b'\n'));
        assert_eq!(said.is_some(), told, "{length}");
    }
}

#[test]
fn says_nothing_where_nothing_can_be_told() {
    let signer = Signer::default();
    let good = signer.sign(message("GET", "/", &[("accept", "*/*")]));
    let head = good.head().unwrap();
    assert_eq!(explain(&head, None, &KnownKeys::default()), None, "an unknown key");
    assert_eq!(explain(&head, None, &keys(signer.id, "another secret", None)), None);
    let mut twice = good.clone();
    twice.set("accept", "text/plain");
    twice.method = "PUT".into();
    assert_eq!(explain(&twice.head().unwrap(), Some(b""), &keys_of(&signer)), None, "two changes");
    let unsigned = message("GET", "/", &[]);
    assert_eq!(explain(&unsigned.head().unwrap(), None, &keys_of(&signer)), None);
}
