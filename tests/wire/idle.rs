//! Ten thousand clients that shook hands and say nothing: good ones are served, and all is given back.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::support::aws;

const CLIENTS: u64 = 10_000;
/// Connecting at once: as many as the system's queue for a listener takes.
const AT_ONCE: usize = 64;
/// An idle connection holds no buffer; this is a debug build, whose futures take half as much again as a release's.
const MOST_KIB: u64 = 48;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";

/// Half a minute of handshakes: CI runs it by name.
#[ignore = "opens 10,000 connections; .ci/run runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_stop_no_good_client() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    // The proxy gives two thirds of the same limit to its clients, and seven eighths of those to one address.
    let clients = most.map_or(CLIENTS, |most| CLIENTS.min(most / 2));
    let (proxy, _origin) = aws::start_configured("limits: {body_idle: 1h, drain: 1s}\n").await;
    let proxy = Arc::new(proxy);
    assert!(aws::ask(&mut proxy.intercepted("app.test").await, GET).await.starts_with("HTTP/1.1 200 "));
    proxy.until_metric("exeat_in_use{resource=\"connections\"}", 0).await;
    let before = proxy.resident_kib();
    let (mut idle, mut shaking) = (Vec::new(), JoinSet::new());
    for _ in 0..clients {
        if shaking.len() == AT_ONCE {
            idle.push(shaking.join_next().await.unwrap().unwrap());
        }
        let proxy = Arc::clone(&proxy);
        shaking.spawn(async move { proxy.intercepted("app.test").await });
    }
    idle.extend(shaking.join_all().await);
    assert_eq!(proxy.metric("exeat_in_use{resource=\"connections\"}").await, clients);
    let each = proxy.resident_kib().saturating_sub(before) / clients;
    assert!(each <= MOST_KIB, "{each} KiB each");
    for _ in 0..20 {
        assert!(aws::ask(&mut proxy.intercepted("app.test").await, GET).await.starts_with("HTTP/1.1 200 "));
    }
    // Any of them may become a good client.
    for client in idle.iter_mut().step_by(1000) {
        assert!(aws::ask(client, GET).await.starts_with("HTTP/1.1 200 "));
    }
    println!("{clients} idle connections, {each} KiB each");
    drop(idle);
    for _ in 0..60 {
        if proxy.metric("exeat_in_use{resource=\"connections\"}").await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("their places were not given back");
}
