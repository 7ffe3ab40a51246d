//! Good clients have their turn while others flood the one worker that serves them all. `-- --nocapture` prints how long
//! their exchanges took with and without: figures, which nothing here depends on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::support::frames::{self, END_HEADERS, PREFACE, frame};
use crate::support::legs::{self, Client, Leg};
use crate::support::proxy::{Proxy, Setup};
use crate::support::tls::{self, Ca, ClientTls};

const POLICY: &str =
    "version: 1\nstatements:\n  - {id: app, effect: allow, http: {host: app.test, path: /*}}\n";
const EXCHANGES: u32 = 60;
/// One kind of flood: what it sends for ever, and how many frames that is.
#[derive(Clone)]
struct Flood {
    name: &'static str,
    settings: Vec<u8>,
    first: Vec<u8>,
    again: Vec<u8>,
    frames: u64,
    /// That a server answers each of its frames with.
    answers: Option<u8>,
}

fn floods() -> Vec<Flood> {
    const N: usize = 1000;
    let flood = |name, first: Vec<u8>, again: Vec<u8>, answers| {
        let frames = N as u64;
        Flood { name, settings: frame(4, 0, 0, b""), first, again, frames, answers }
    };
    let resets = (0..N as u32).flat_map(|n| {
        let get = frames::headers(2 * n + 1, &frames::request("GET", "/a"), true, None);
        [get, frame(3, 0, 2 * n + 1, &8u32.to_be_bytes())].concat()
    });
    let dribble = Flood {
        settings: frame(4, 0, 0, &[0, 4, 0, 0, 0, 1]),
        ..flood(
            "1-byte windows",
            frames::headers(1, &frames::request("GET", "/mebibyte"), true, None),
            frame(8, 0, 1, &1u32.to_be_bytes()).repeat(N),
            Some(0),
        )
    };
    let open = frame(1, 1, 1, &frames::request("GET", "/a"));
    let hold = frames::headers(1, &frames::request("POST", "/hold"), false, None);
    vec![
        flood("pings", Vec::new(), frame(6, 0, 0, &[0; 8]).repeat(N), Some(6)),
        flood("settings", Vec::new(), frame(4, 0, 0, b"").repeat(N), Some(4)),
        flood("resets", Vec::new(), resets.collect(), None),
        flood("continuations", open, frame(9, 0, 1, b"").repeat(N), None),
        flood("priorities", Vec::new(), frame(2, 0, 1, &[0, 0, 0, 0, 9]).repeat(N), None),
        flood("empty data", hold, frame(0, 0, 1, b"").repeat(N), None),
        dribble,
    ]
}

/// Floods until told to stop, over one connection after the other. Counts what it sent, and what it was answered.
async fn flood(
    proxy: Arc<Proxy>,
    flood: Flood,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    heard: Arc<AtomicU64>,
) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(socket) = proxy.connect("app.test:443").await else { continue };
        let Ok(client) = tls::connect_offering(socket, "app.test", &proxy.ca_pem(), &["h2"]).await else {
            continue;
        };
        let (mut read, mut write) = tokio::io::split(client);
        let answers = flood.answers;
        let count = Arc::clone(&heard);
        let reading = tokio::spawn(async move {
            let mut buf = Vec::new();
            while let Some(one) = frames::next(&mut read, &mut buf).await {
                count.fetch_add(u64::from(answers == Some(one.kind)), Ordering::Relaxed);
            }
        });
        let first = [PREFACE, &flood.settings, &flood.first].concat();
        let mut open = write.write_all(&first).await.is_ok();
        while open && !stop.load(Ordering::Relaxed) && !reading.is_finished() {
            let written =
                async { write.write_all(&flood.again).await.is_ok() && write.flush().await.is_ok() };
            // One that is not read any more still looks whether to stop.
            open = tokio::time::timeout(Duration::from_millis(200), written).await.unwrap_or(false);
            sent.fetch_add(flood.frames, Ordering::Relaxed);
        }
        reading.abort();
    }
}

/// Connections that begin and do not go on.
async fn half_open(proxy: &Proxy) -> (Vec<tokio::net::TcpStream>, Vec<ClientTls>) {
    let (mut hellos, mut heads) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let mut socket = proxy.connect("app.test:443").await.unwrap();
        socket.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
        hellos.push(socket);
    }
    for _ in 0..50 {
        let socket = proxy.connect("app.test:443").await.unwrap();
        let mut client = tls::connect_offering(socket, "app.test", &proxy.ca_pem(), &["h2"]).await.unwrap();
        let half = frame(1, END_HEADERS, 1, &frames::request("GET", "/a"));
        client.write_all(&[PREFACE, &frame(4, 0, 0, b""), &half[..20]].concat()).await.unwrap();
        client.flush().await.unwrap();
        heads.push(client);
    }
    (hellos, heads)
}

/// Good exchanges: half over a connection that stands, half over one of their own. Gives their times in order.
async fn exchanges(proxy: &Proxy) -> Vec<Duration> {
    let mut standing = Client::connect(proxy, Leg::H2, "app.test").await;
    let mut took = Vec::new();
    for n in 0..EXCHANGES {
        let began = Instant::now();
        let mut own = None;
        let client = match n % 2 {
            0 => &mut standing,
            _ => own.insert(Client::connect(proxy, Leg::H2, "app.test").await),
        };
        let mut call = client.get("app.test", "/a").await;
        assert_eq!(call.answer().await.map(|(status, _)| status), Ok(200), "exchange {n}");
        assert_eq!(call.rest().await.unwrap().0, b"ok");
        took.push(began.elapsed());
    }
    took.sort();
    took
}

fn figure(name: &str, took: &[Duration]) {
    let at = |share: f64| took[((took.len() - 1) as f64 * share).ceil() as usize];
    println!("{name:>16}: p50 {:?}, p99 {:?}", at(0.5), at(0.99));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_clients_have_their_turn_while_others_flood() {
    let ca = Ca::new();
    let (_log, address) = legs::serve(&ca, Leg::H1, &["app.test"]).await;
    let proxy = Arc::new(Proxy::start(&Setup {
        policy: POLICY,
        connect_to: vec![("app.test:443".into(), address)],
        upstream_ca: ca.pem(),
        credentials: "",
        config: "workers: 1\nlimits: {body_idle: 60s, head: 60s, handshake: 60s}\n",
        audit: None,
    }));
    figure("no flood", &exchanges(&proxy).await);
    let open = half_open(&proxy).await;
    figure("100 half open", &exchanges(&proxy).await);
    drop(open);
    for kind in floods() {
        let (stop, sent, heard) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let attack =
            flood(Arc::clone(&proxy), kind.clone(), Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&heard));
        let attack = tokio::spawn(attack);
        // It is under way.
        while sent.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let before = (sent.load(Ordering::Relaxed), heard.load(Ordering::Relaxed));
        let took = tokio::time::timeout(Duration::from_secs(120), exchanges(&proxy)).await;
        let frames = sent.load(Ordering::Relaxed) - before.0;
        let answers = heard.load(Ordering::Relaxed) - before.1;
        let took = took.unwrap_or_else(|_| panic!("{}: good clients wait", kind.name));
        figure(kind.name, &took);
        println!("{:>16}  {frames} frames written, {answers} answered", "");
        assert!(!attack.is_finished(), "{}: the flood was over before anybody was served", kind.name);
        assert!(answers > 0 || kind.answers.is_none(), "{}: nobody looked at it", kind.name);
        stop.store(true, Ordering::Relaxed);
        attack.await.unwrap();
    }
}
