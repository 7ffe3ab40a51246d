//! As `chaos.rs`, over HTTP/2: what an origin does to clients of either protocol, and what a client does before origins
//! of either. Peers write raw frames, so that they can do what no library does.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::support::aws::until;
use crate::support::frames::{self, Did, END_HEADERS, END_STREAM, PREFACE, frame};
use crate::support::legs::{Client, Leg, Side};
use crate::support::origin;
use crate::support::tls::{self, ClientTls};
use crate::support::world::{Acceptors, World};

const POLICY: &str = "version: 1
statements:
  - {id: app, effect: allow, http: {host: '*.app.test', path: /*}}
";
/// As in `chaos.rs`; a head may take longer than a connection may be idle, and is not counted as idle.
const LIMITS: &str = "workers: 1
limits: {handshake: 3s, head: 4s, body_idle: 3s, response_head: 3s}
";
const PATIENCE: Duration = Duration::from_secs(60);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// When an origin does what it does, on the first stream of a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    /// Instead of the TLS handshake.
    Connected,
    /// Instead of a preface.
    Shaken,
    /// With the head of the request.
    Head,
    /// With the first of its body.
    Body,
    /// With its end.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Die,
    Stall,
    /// Answers what is asked next.
    Serve,
    /// Stays, and reads nothing any more.
    Deaf,
}

/// What an origin does with a connection.
#[derive(Clone, Copy)]
struct Does {
    when: When,
    say: fn() -> Vec<u8>,
    then: Then,
}

const GOOD: Does = Does { when: When::End, say: good, then: Then::Stall };

fn head(fields: &Value, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, 1, &frames::block(fields))
}

fn ok(length: &str) -> Vec<u8> {
    head(&json!([[":status", "200"], ["content-length", length]]), 0)
}

fn data(bytes: &[u8], flags: u8) -> Vec<u8> {
    frame(DATA, flags, 1, bytes)
}

fn reset(code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, 1, &code.to_be_bytes())
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

fn good() -> Vec<u8> {
    good_on(1)
}

/// The last answer of its connection, so that none stays.
fn good_on(stream: u32) -> Vec<u8> {
    let block = frames::block(&json!([[":status", "200"], ["content-length", "2"]]));
    let head = frame(HEADERS, END_HEADERS, stream, &block);
    [head, frame(DATA, END_STREAM, stream, b"ok"), goaway(stream, 0)].concat()
}

/// Plays one connection of an origin.
async fn serve(does: Does, mut socket: TcpStream, acceptors: Acceptors) {
    if does.when == When::Connected {
        return stall(does.then, &mut socket).await;
    }
    let Ok(mut socket) = acceptors.good.accept(socket).await else { return };
    if does.when == When::Shaken {
        say(&mut socket, &(does.say)()).await;
        return stall(does.then, &mut socket).await;
    }
    say(&mut socket, &frame(SETTINGS, 0, 0, b"")).await;
    let mut preface = [0; PREFACE.len()];
    if socket.read_exact(&mut preface).await.is_err() {
        return;
    }
    assert_eq!(preface, PREFACE);
    let (mut buf, mut done) = (Vec::new(), false);
    while let Some(one) = frames::next(&mut socket, &mut buf).await {
        if done {
            if one.stream > 1 && one.ends() {
                say(&mut socket, &good_on(one.stream)).await;
            }
            continue;
        }
        let now = match does.when {
            When::Head => one.kind == HEADERS,
            When::Body => one.kind == DATA,
            _ => one.ends(),
        };
        if now {
            say(&mut socket, &(does.say)()).await;
            if does.then != Then::Serve {
                return stall(does.then, &mut socket).await;
            }
            done = true;
        }
    }
}

async fn say(socket: &mut TlsStream<TcpStream>, bytes: &[u8]) {
    socket.write_all(bytes).await.ok();
    socket.flush().await.ok();
}

async fn stall(then: Then, socket: &mut (impl AsyncRead + Unpin)) {
    if then == Then::Deaf {
        std::future::pending::<()>().await;
    }
    if then == Then::Stall {
        let mut piece = [0; 16 * 1024];
        while let Ok(1..) = socket.read(&mut piece).await {}
    }
}

/// What the client sends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ask {
    Get,
    /// A body that ends.
    Post,
    /// One that is too large for what is on the way.
    Large,
}

/// A request to the world's host, and what the client is told: the status, or "breaks".
async fn ask(world: &World<Does>, leg: Leg, ask: Ask) -> String {
    let mut client = Client::connect(&world.proxy, leg, &world.host).await;
    let mut call = match ask {
        Ask::Get => client.get(&world.host, "/a").await,
        Ask::Post | Ask::Large => client.open("POST", &world.host, "/a", &[]).await,
    };
    match ask {
        Ask::Get => {}
        Ask::Post => {
            call.say(b"some").await.unwrap();
            call.end(&[]).await.unwrap();
        }
        // As far as it goes.
        Ask::Large => {
            let piece = vec![b'x'; 64 << 10];
            let sends = async { while call.say(&piece).await.is_ok() {} };
            tokio::time::timeout(Duration::from_secs(1), sends).await.ok();
        }
    }
    tokio::time::timeout(PATIENCE, told(&mut call)).await.expect("the client was told nothing")
}

async fn told(call: &mut Side) -> String {
    match call.answer().await {
        Ok((status, fields)) => match call.rest().await {
            Ok(_) => {
                let verdict = fields.get("exeat-verdict").map(|verdict| verdict.to_str().unwrap());
                let reason = verdict.and_then(|verdict| verdict.split("reason=").nth(1)?.split(';').next());
                format!("{status} {}", reason.unwrap_or_default()).trim_end().to_owned()
            }
            Err(_) => "breaks".to_owned(),
        },
        // A reset may overtake what it follows.
        Err(_) => "breaks".to_owned(),
    }
}

const OK_LOST: &str = "502 upstream.closed";
const OK_RESET: &str = "502 upstream.reset";
const OK_LIE: &str = "502 upstream.protocol";
const OK_LATE: &str = "504 upstream.timeout";

/// By its length it is whole, which is enough over HTTP/1.1.
const NEVER_ENDS: &str = "200 or breaks";

type Point = (&'static str, Ask, When, fn() -> Vec<u8>, Then, &'static str, &'static str, u64);

/// What it is, the request, when the origin does what, what the client is told, and what the record says: its reason
/// where that is not told, and the bytes of the answer.
fn points() -> Vec<Point> {
    use Ask::{Get, Large, Post};
    use Then::{Die, Serve, Stall};
    vec![
        ("dies connected", Get, When::Connected, Vec::new, Die, OK_LOST, "", 0),
        ("stalls connected", Get, When::Connected, Vec::new, Stall, OK_LATE, "", 0),
        ("dies before its preface", Get, When::Shaken, Vec::new, Die, OK_LOST, "", 0),
        ("stalls before its preface", Get, When::Shaken, Vec::new, Stall, OK_LATE, "", 0),
        ("speaks HTTP/1.1", Get, When::Shaken, || b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), Stall, OK_LIE, "", 0),
        ("dies at a head", Get, When::Head, Vec::new, Die, OK_LOST, "", 0),
        ("stalls at a head", Get, When::Head, Vec::new, Stall, OK_LATE, "", 0),
        ("dies in an upload", Large, When::Body, Vec::new, Die, OK_LOST, "", 0),
        ("stalls in an upload", Large, When::Body, Vec::new, Stall, OK_LATE, "", 0),
        ("answers in an upload", Large, When::Body, || [good(), reset(0)].concat(), Stall, "200", "", 2),
        ("resets an upload", Large, When::Body, || reset(8), Serve, OK_RESET, "", 0),
        ("dies in its head", Get, When::End, || ok("20")[..12].to_vec(), Die, OK_LOST, "", 0),
        ("stalls in its head", Get, When::End, || ok("20")[..12].to_vec(), Stall, OK_LATE, "", 0),
        (
            "lies in its head",
            Get,
            When::End,
            || head(&json!([[":status", "200"], ["connection", "close"]]), END_STREAM),
            Serve,
            OK_LIE,
            "",
            0,
        ),
        (
            "has no status",
            Get,
            When::End,
            || head(&json!([["content-length", "0"]]), END_STREAM),
            Serve,
            OK_LIE,
            "",
            0,
        ),
        (
            "ends a head and tells of a body",
            Get,
            When::End,
            || head(&json!([[":status", "200"], ["content-length", "2"]]), END_STREAM),
            Serve,
            OK_LIE,
            "",
            0,
        ),
        ("dies after its head", Get, When::End, || ok("20"), Die, "breaks", "upstream.closed", 0),
        (
            "dies in its body",
            Get,
            When::End,
            || [ok("20"), data(b"ten bytes.", 0)].concat(),
            Die,
            "breaks",
            "upstream.closed",
            10,
        ),
        (
            "stalls in its body",
            Get,
            When::End,
            || [ok("20"), data(b"ten bytes.", 0)].concat(),
            Stall,
            "breaks",
            "upstream.timeout",
            10,
        ),
        (
            "ends its body too early",
            Get,
            When::End,
            || [ok("20"), data(b"ten bytes.", END_STREAM)].concat(),
            Serve,
            "breaks",
            "upstream.protocol",
            0,
        ),
        (
            "sends more than it told of",
            Get,
            When::End,
            || [ok("4"), data(b"ten bytes.", END_STREAM)].concat(),
            Serve,
            "breaks",
            "upstream.protocol",
            0,
        ),
        (
            "never ends its stream",
            Get,
            When::End,
            || [ok("10"), data(b"ten bytes.", 0)].concat(),
            Stall,
            NEVER_ENDS,
            "upstream.timeout",
            10,
        ),
        (
            "dies before its trailers",
            Post,
            When::End,
            || {
                [head(&json!([[":status", "200"], ["trailer", "grpc-status"]]), 0), data(b"ten bytes.", 0)]
                    .concat()
            },
            Die,
            "breaks",
            "upstream.closed",
            10,
        ),
        (
            "lies in its trailers",
            Post,
            When::End,
            || {
                let trailers = head(&json!([[":status", "200"]]), 0);
                [head(&json!([[":status", "200"]]), 0), data(b"ten bytes.", 0), trailers].concat()
            },
            Serve,
            "breaks",
            "upstream.protocol",
            10,
        ),
        (
            "pushes",
            Get,
            When::End,
            || frame(5, END_HEADERS, 1, &[&2u32.to_be_bytes()[..], &frames::request("GET", "/b")].concat()),
            Stall,
            OK_LIE,
            "",
            0,
        ),
        ("says goodbye and dies", Post, When::End, || goaway(1, 0), Die, OK_LOST, "", 0),
        (
            "says goodbye and finishes",
            Get,
            When::Head,
            || [goaway(1, 0), good()].concat(),
            Stall,
            "200",
            "",
            2,
        ),
        (
            "says goodbye in its body and dies",
            Get,
            When::End,
            || [ok("20"), data(b"ten bytes.", 0), goaway(1, 0)].concat(),
            Die,
            "breaks",
            "upstream.closed",
            10,
        ),
        // It may still answer what it took.
        ("goes away with an error", Get, When::End, || goaway(1, 2), Stall, OK_LATE, "", 0),
        ("goes away with an error and dies", Get, When::End, || goaway(1, 2), Die, OK_LOST, "", 0),
        ("does not take a body", Post, When::Head, || goaway(0, 0), Stall, OK_RESET, "", 0),
        ("resets: CANCEL", Get, When::End, || reset(8), Serve, OK_RESET, "", 0),
        ("resets: INTERNAL_ERROR", Get, When::End, || reset(2), Serve, OK_RESET, "", 0),
        ("resets: PROTOCOL_ERROR", Get, When::End, || reset(1), Serve, OK_RESET, "", 0),
        ("resets: ENHANCE_YOUR_CALM", Get, When::End, || reset(11), Serve, OK_RESET, "", 0),
        ("resets: HTTP_1_1_REQUIRED", Get, When::End, || reset(13), Serve, OK_RESET, "", 0),
        ("resets: NO_ERROR", Get, When::End, || reset(0), Serve, OK_RESET, "", 0),
        ("resets an unknown way", Get, When::End, || reset(0xdead), Serve, OK_RESET, "", 0),
        (
            "resets in its body",
            Get,
            When::End,
            || [ok("20"), data(b"ten bytes.", 0), reset(2)].concat(),
            Serve,
            "breaks",
            "upstream.reset",
            10,
        ),
    ]
}

/// All points, against clients of one protocol.
async fn origins_do(leg: Leg) {
    let mut world = World::new(Leg::H2, "first.app.test", GOOD, serve, POLICY, LIMITS).await;
    for (n, (point, request, when, say, then, told, reason, out)) in points().into_iter().enumerate() {
        // An origin of which nothing is known: else its clients are offered what it speaks.
        world.host = format!("n{n}.app.test");
        world.origin(Does { when, say, then });
        let point = format!("an origin {point}, before {leg:?}");
        let heard = ask(&world, leg, request).await;
        let told = match told {
            NEVER_ENDS if leg == Leg::H1 => "200",
            NEVER_ENDS => "breaks",
            told => told,
        };
        assert_eq!(heard, told, "{point}: {:?}", world.proxy.events().last());
        let reason = told.split(' ').nth(1).unwrap_or(reason);
        let record = &world.settled(&point, &[reason]).await[0]["additionalEventData"]["exeat"];
        assert_eq!(record["bytesOut"], out, "{point}: {record}");
        let went = record["bytesIn"].as_u64().unwrap();
        let as_it_was = match request {
            Ask::Get => went == 0,
            Ask::Post if when == When::End => went == 4,
            Ask::Post => went <= 4,
            Ask::Large => went > 0,
        };
        assert!(as_it_was, "{point}: {record}");
    }
}

#[tokio::test]
async fn whatever_an_http_2_origin_does_to_an_http_2_client_is_one_typed_outcome() {
    origins_do(Leg::H2).await;
}

#[tokio::test]
async fn whatever_an_http_2_origin_does_to_an_http_1_client_is_one_typed_outcome() {
    origins_do(Leg::H1).await;
}

#[tokio::test]
async fn what_an_origin_did_not_take_is_asked_once_more_where_it_has_no_body() {
    let refused: fn() -> Vec<u8> = || reset(7);
    for leg in [Leg::H2, Leg::H1] {
        let mut world = World::new(Leg::H2, "first.app.test", GOOD, serve, POLICY, LIMITS).await;
        for (n, (request, say, then, times, told, retried)) in [
            (Ask::Get, refused, Then::Serve, 1, "200", true),
            (Ask::Post, refused, Then::Serve, 1, OK_RESET, false),
            (Ask::Get, || goaway(0, 0), Then::Stall, 1, "200", true),
            (Ask::Get, || goaway(0, 0), Then::Die, 1, "200", true),
            // Whatever its reason.
            (Ask::Get, || goaway(0, 11), Then::Stall, 1, "200", true),
            // What it took before it went, it may have done.
            (Ask::Get, || goaway(1, 0), Then::Die, 1, OK_LOST, false),
            (Ask::Get, Vec::new, Then::Die, 1, OK_LOST, false),
            // It is not asked for ever.
            (Ask::Get, || goaway(0, 0), Then::Stall, 2, OK_RESET, true),
            (Ask::Post, || goaway(0, 0), Then::Stall, 1, OK_RESET, false),
            (Ask::Get, good, Then::Stall, 1, "200", false),
        ]
        .into_iter()
        .enumerate()
        {
            world.host = format!("n{n}.app.test");
            world.origin_times(Does { when: When::End, say, then }, times);
            let point = format!("{request:?} {leg:?} {n}");
            assert_eq!(ask(&world, leg, request).await, told, "{point}");
            // One record, which tells of the second try.
            let record = &world.settled(&point, &[told.split(' ').nth(1).unwrap_or_default()]).await[0];
            let said = record["additionalEventData"]["exeat"]["retried"].as_str();
            assert_eq!(said, retried.then_some("unprocessed"), "{point}: {record}");
        }
    }
}

/// Windows as wide as they get: nothing but the socket holds up what is sent.
fn wide() -> Vec<u8> {
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let settings = frame(SETTINGS, 0, 0, &[&[0, 4], &most[..]].concat());
    [settings, frame(WINDOW_UPDATE, 0, 0, &(0x7fff_ffff - 65_535_u32).to_be_bytes())].concat()
}

#[tokio::test]
async fn an_origin_that_takes_nothing_more_ends_all_that_waits_on_its_connection_within_body_idle() {
    // No limit but this one ends it while the test waits.
    const LIMITS: &str = "workers: 1\nlimits: {body_idle: 3s}\n";
    for leg in [Leg::H2, Leg::H1] {
        let mut world = World::new(Leg::H2, "first.app.test", GOOD, serve, POLICY, LIMITS).await;
        world.host = format!("{leg:?}.app.test").to_lowercase();
        world.origin(Does { when: When::Shaken, say: wide, then: Then::Deaf });
        let mut client = Client::connect(&world.proxy, leg, &world.host).await;
        let mut upload = client.open("POST", &world.host, "/a", &[]).await;
        // Until neither it nor we take more: the socket is full.
        let piece = vec![b'x'; 64 << 10];
        let stuck = Duration::from_secs(1);
        while let Ok(Ok(())) = tokio::time::timeout(stuck, upload.say(&piece)).await {}
        // One that comes meanwhile shares the connection, and its fate.
        let mut second = Client::connect(&world.proxy, Leg::H2, &world.host).await;
        let mut get = second.get(&world.host, "/b").await;
        let told = async { (told(&mut upload).await, told(&mut get).await) };
        let both = tokio::time::timeout(PATIENCE, told).await.expect("the clients were told nothing");
        assert_eq!(both, (OK_LATE.to_owned(), OK_LATE.to_owned()), "{leg:?}");
        drop((upload, get, client, second));
        let point = format!("a deaf origin, before {leg:?}");
        let records = world.settled(&point, &["upstream.timeout"; 2]).await;
        let ours = |n: usize| &records[n]["additionalEventData"]["exeat"];
        let went = [ours(0), ours(1)].map(|ours| ours["bytesIn"].as_u64().unwrap());
        assert!(went.iter().any(|went| *went > 64 << 10) && went.contains(&0), "{records:#?}");
    }
}

/// An origin of HTTP/1.1, which waits for whole requests.
async fn serve_http1(does: Does, socket: TcpStream, acceptors: Acceptors) {
    let Ok(mut socket) = acceptors.good.accept(socket).await else { return };
    let (mut bytes, mut piece) = (Vec::new(), [0; 16 * 1024]);
    while let Ok(n @ 1..) = socket.read(&mut piece).await {
        bytes.extend_from_slice(&piece[..n]);
        if origin::messages(&bytes, false, |_, _| false).is_ok_and(|(all, _)| !all.is_empty()) {
            say(&mut socket, &(does.say)()).await;
            return stall(does.then, &mut socket).await;
        }
    }
}

fn good_http1() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_vec()
}

/// An answer that begins and does not end.
fn half(origin: Leg) -> Does {
    let (say, then): (fn() -> Vec<u8>, _) = match origin {
        Leg::H1 => (|| b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nten bytes.".to_vec(), Then::Stall),
        Leg::H2 => (|| [ok("20"), data(b"ten bytes.", 0)].concat(), Then::Serve),
    };
    Does { when: When::End, say, then }
}

/// What a client sends behind its preface and settings, and then.
type Step = (&'static str, fn(&str) -> Vec<u8>, Then, &'static [Did], &'static [&'static str]);

fn request(host: &str, method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = vec![
        json!([":method", method]),
        json!([":scheme", "https"]),
        json!([":authority", host]),
        json!([":path", "/a"]),
    ];
    fields.extend(more.iter().map(|(name, value)| json!([name, value])));
    frames::block(&Value::Array(fields))
}

fn get(host: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &request(host, "GET", &[]))
}

fn post(host: &str, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &request(host, "POST", more))
}

/// `Die`: what it is told is not looked at.
fn steps() -> Vec<Step> {
    use Then::{Die, Stall};
    const MALFORMED: &[&str] = &["request.malformed"];
    const FRAMING: &[&str] = &["request.framing"];
    const ABORTED: &[&str] = &["request.aborted"];
    const LATE: &[&str] = &["request.timeout"];
    const RESET: Did = Did::Reset(1);
    vec![
        // Asked for nothing.
        ("dies in its settings", |_| frame(SETTINGS, 0, 0, &[0; 6])[..12].to_vec(), Die, &[], &[]),
        ("lies in its settings", |_| frame(SETTINGS, 0, 0, b"12345"), Stall, &[Did::GoAway(1)], MALFORMED),
        ("dies in its head", |host| get(host)[..20].to_vec(), Die, &[], ABORTED),
        ("stalls in its head", |host| get(host)[..20].to_vec(), Stall, &[Did::GoAway(0), Did::Closed], LATE),
        ("lies in its head", |host| post(host, &[("X-Upper", "a")]), Stall, &[Did::GoAway(1)], MALFORMED),
        ("lies in its fields", |host| post(host, &[("te", "gzip")]), Stall, &[RESET], MALFORMED),
        (
            "dies between the parts of its head",
            |host| frame(HEADERS, END_STREAM, 1, &request(host, "GET", &[])),
            Die,
            &[],
            ABORTED,
        ),
        (
            "stalls between the parts of its head",
            |host| {
                let part = frame(HEADERS, END_STREAM, 1, &request(host, "GET", &[]));
                [part, frame(CONTINUATION, 0, 1, b"")].concat()
            },
            Stall,
            &[Did::GoAway(0), Did::Closed],
            LATE,
        ),
        (
            "lies between the parts of its head",
            |host| [frame(HEADERS, END_STREAM, 1, &request(host, "GET", &[])), data(b"x", 0)].concat(),
            Stall,
            &[Did::GoAway(1)],
            MALFORMED,
        ),
        ("dies after its head", |host| post(host, &[]), Die, &[], ABORTED),
        ("stalls after its head", |host| post(host, &[]), Stall, &[Did::Answered(408)], LATE),
        ("dies in its body", |host| [post(host, &[]), data(b"ten bytes.", 0)].concat(), Die, &[], ABORTED),
        (
            "dies in a frame of its body",
            |host| [post(host, &[]), data(b"ten bytes.", 0)[..14].to_vec()].concat(),
            Die,
            &[],
            ABORTED,
        ),
        (
            "stalls in its body",
            |host| [post(host, &[]), data(b"ten bytes.", 0)].concat(),
            Stall,
            &[Did::Answered(408)],
            LATE,
        ),
        (
            "never ends its stream",
            |host| [post(host, &[("content-length", "10")]), data(b"ten bytes.", 0)].concat(),
            Stall,
            &[Did::Answered(408)],
            LATE,
        ),
        (
            "ends its body too early",
            |host| [post(host, &[("content-length", "20")]), data(b"ten bytes.", END_STREAM)].concat(),
            Stall,
            &[RESET, Did::Answered(400)],
            FRAMING,
        ),
        (
            "sends more than it told of",
            |host| [post(host, &[("content-length", "4")]), data(b"ten bytes.", END_STREAM)].concat(),
            Stall,
            &[RESET, Did::Answered(400)],
            FRAMING,
        ),
        (
            "lies in its trailers",
            |host| {
                let trailers = head(&json!([[":path", "/b"]]), END_STREAM);
                [post(host, &[]), data(b"ten bytes.", 0), trailers].concat()
            },
            Stall,
            &[RESET, Did::Answered(400)],
            FRAMING,
        ),
        (
            "has trailers that don't end its stream",
            |host| [post(host, &[]), data(b"ten bytes.", 0), head(&json!([["x-a", "b"]]), 0)].concat(),
            Stall,
            &[RESET, Did::Answered(400)],
            FRAMING,
        ),
        (
            "gives up its body",
            |host| [post(host, &[]), data(b"ten", 0), reset(8)].concat(),
            Stall,
            &[Did::Nothing],
            ABORTED,
        ),
        (
            "breaks the connection in its body",
            |host| [post(host, &[]), data(b"ten", 0), frame(SETTINGS, 0, 1, b"")].concat(),
            Stall,
            &[Did::GoAway(1)],
            &["request.aborted", "request.malformed"],
        ),
        (
            "says goodbye and waits",
            |host| [get(host), goaway(0, 0)].concat(),
            Stall,
            &[Did::Answered(200)],
            &[""],
        ),
        (
            "sends more on a stream that has ended",
            |host| [get(host), data(b"more", END_STREAM)].concat(),
            Stall,
            &[Did::GoAway(1)],
            &["request.aborted", "request.malformed"],
        ),
    ]
}

async fn connect(world: &World<Does>) -> ClientTls {
    let socket = world.proxy.connect(&format!("{}:443", world.host)).await.unwrap();
    tls::connect_offering(socket, &world.host, &world.proxy.ca_pem(), &["h2"]).await.unwrap()
}

/// Ends without a word of TLS. Not by a reset: that would take from the program what it has not read yet.
async fn die(mut client: ClientTls) {
    client.get_mut().0.shutdown().await.unwrap();
    stall(Then::Stall, &mut client).await;
}

async fn clients_do(origin: Leg) {
    let mut world = match origin {
        Leg::H2 => World::new(origin, "first.app.test", GOOD, serve, POLICY, LIMITS).await,
        Leg::H1 => {
            let good = Does { say: good_http1, ..GOOD };
            World::new(origin, "first.app.test", good, serve_http1, POLICY, LIMITS).await
        }
    };
    let settings = frame(SETTINGS, 0, 0, b"");
    for (step, bytes, then, told, reasons) in [
        ("dies in its preface", &PREFACE[..9], Then::Die, Did::Closed, &["request.malformed"][..]),
        ("stalls in its preface", &PREFACE[..9], Then::Stall, Did::Closed, &["request.timeout"]),
        ("speaks HTTP/1.1", b"GET / HTTP/1.1\r\n\r\n", Then::Stall, Did::Closed, &["request.malformed"]),
        ("says nothing", b"", Then::Die, Did::Closed, &[]),
    ] {
        let mut client = connect(&world).await;
        client.write_all(bytes).await.unwrap();
        client.flush().await.unwrap();
        if then == Then::Stall {
            assert_eq!(frames::outcome(&mut client, 1, PATIENCE).await, told, "{step}");
        }
        die(client).await;
        world.settled(&format!("a client {step}, before {origin:?}"), reasons).await;
    }
    for (step, bytes, then, told, reasons) in steps() {
        let mut client = connect(&world).await;
        let bytes = [PREFACE.to_vec(), settings.clone(), bytes(&world.host)].concat();
        assert!(frames::write(&mut client, &[bytes], PATIENCE).await);
        let point = format!("a client {step}, before {origin:?}");
        let mut status = 0;
        if then == Then::Stall {
            let patience = if told == [Did::Nothing] { Duration::from_secs(1) } else { PATIENCE };
            let did = frames::outcome(&mut client, 1, patience).await;
            assert!(told.contains(&did), "{point}: {did:?} {:?}", world.proxy.events().last());
            if let Did::Answered(told) = did {
                status = told;
            }
        }
        die(client).await;
        // What the client was told, and nothing where that is all: a reset is no answer.
        for record in world.settled(&point, reasons).await {
            assert_eq!(record["additionalEventData"]["exeat"]["status"], status, "{point}: {record}");
        }
    }
    // An answer is under way.
    for (step, then, told, reason) in [
        ("dies in its answer", None, None, "request.aborted"),
        ("gives up its answer", Some(reset(8)), None, "request.aborted"),
        (
            "breaks its window",
            Some(frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])),
            Some(Did::Reset(3)),
            "request.aborted",
        ),
    ] {
        world.origin(half(origin));
        let mut client = connect(&world).await;
        let bytes = [PREFACE.to_vec(), settings.clone(), get(&world.host)].concat();
        assert!(frames::write(&mut client, &[bytes], PATIENCE).await);
        let mut buf = Vec::new();
        while frames::next(&mut client, &mut buf).await.expect("an answer").kind != DATA {}
        let point = format!("a client {step}, before {origin:?}");
        if let Some(then) = then {
            assert!(frames::write(&mut client, &[then], PATIENCE).await);
            let record = || (world.proxy.events().len() > world.records).then_some(());
            until(&point, record).await;
        }
        if let Some(told) = told {
            assert_eq!(frames::outcome(&mut client, 1, PATIENCE).await, told, "{point}");
        }
        die(client).await;
        let record = &world.settled(&point, &[reason]).await[0]["additionalEventData"]["exeat"];
        assert_eq!(record["bytesOut"], 10, "{point}: {record}");
    }
    world.origin(half(origin));
    let mut client = connect(&world).await;
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let bytes = [PREFACE.to_vec(), no_window, get(&world.host)].concat();
    assert!(frames::write(&mut client, &[bytes], PATIENCE).await);
    let did = frames::outcome(&mut client, 1, PATIENCE).await;
    assert_eq!(did, Did::Reset(8), "{:?}", world.proxy.events().last());
    drop(client);
    let record = &world.settled("a client takes nothing", &["request.timeout"]).await[0];
    assert_eq!(record["additionalEventData"]["exeat"]["bytesOut"], 0, "{record}");
}

#[tokio::test]
async fn whatever_an_http_2_client_does_to_an_http_2_origin_is_one_typed_outcome() {
    clients_do(Leg::H2).await;
}

#[tokio::test]
async fn whatever_an_http_2_client_does_to_an_http_1_origin_is_one_typed_outcome() {
    clients_do(Leg::H1).await;
}
