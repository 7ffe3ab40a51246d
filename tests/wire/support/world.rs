//! The program before an origin that does what a test says with its next connections, and a look at all that must not
//! be left behind.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::aws::{S3, until};
use super::legs::{Client, Leg};
use super::proxy::{Proxy, Setup};
use super::sign::CREDENTIALS;
use super::tls::Ca;

/// Handshakes of an origin: as it should be, and with a certificate of nobody's.
#[derive(Clone)]
pub struct Acceptors {
    pub good: TlsAcceptor,
    pub foreign: TlsAcceptor,
}

pub struct World<O> {
    pub proxy: Proxy,
    /// Where the origin is.
    pub address: SocketAddr,
    /// A host that leads to it.
    pub host: String,
    leg: Leg,
    good: O,
    /// What the origin does with so many of its next connections; a good one follows.
    next: Arc<Mutex<(O, usize)>>,
    descriptors: usize,
    pub records: usize,
}

impl<O: Copy + Send + 'static> World<O> {
    /// Where clients and the origin speak `leg`; `serve` plays one connection.
    pub async fn new<F>(
        leg: Leg,
        host: &str,
        good: O,
        serve: fn(O, TcpStream, Acceptors) -> F,
        policy: &str,
        config: &str,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let ca = Ca::new();
        let names = ["app.test", "*.app.test", S3];
        let speaks: &[&str] = if leg == Leg::H2 { &["h2"] } else { &[] };
        let acceptors = Acceptors {
            good: ca.acceptor_offering(&names, speaks),
            foreign: Ca::new().acceptor_offering(&names, speaks),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let next = Arc::new(Mutex::new((good, usize::MAX)));
        let script = Arc::clone(&next);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let does = {
                    let (does, times) = &mut *script.lock().unwrap();
                    *times = times.saturating_sub(1);
                    std::mem::replace(does, if *times == 0 { good } else { *does })
                };
                tokio::spawn(serve(does, socket, acceptors.clone()));
            }
        });
        let proxy = Proxy::start(&Setup {
            policy,
            connect_to: vec![("*:443".into(), address)],
            upstream_ca: ca.pem(),
            credentials: CREDENTIALS,
            config,
            audit: None,
        });
        let host = host.to_owned();
        let mut world = Self { proxy, address, host, leg, good, next, descriptors: usize::MAX, records: 0 };
        // What is opened with the first exchange and kept is not left behind by those that follow.
        world.settled("the first exchange", &[]).await;
        let (mut last, mut same) = (0, 0);
        world.descriptors = until("a steady number of descriptors", || {
            let now = world.proxy.descriptors();
            same = if now == last { same + 1 } else { 0 };
            last = now;
            (same == 10).then_some(now)
        })
        .await;
        world
    }

    /// All its connections from now on, until the next exchange has settled.
    pub fn origin(&self, does: O) {
        self.origin_times(does, usize::MAX);
    }

    pub fn origin_times(&self, does: O, times: usize) {
        *self.next.lock().unwrap() = (does, times);
    }

    /// The exchange left these reasons on record ("" for an answer), and nothing else anywhere; the next one is good.
    /// Gives the records.
    pub async fn settled(&mut self, point: &str, reasons: &[&str]) -> Vec<Value> {
        let new = until(point, || {
            let events = self.proxy.events();
            (events.len() >= self.records + reasons.len()).then(|| events[self.records..].to_vec())
        })
        .await;
        let found: Vec<&str> =
            new.iter().map(|e| e["additionalEventData"]["exeat"]["reason"].as_str().unwrap_or("")).collect();
        assert_eq!(found, reasons, "{point}: {new:#?}");
        self.origin(self.good);
        let mut client = Client::connect(&self.proxy, self.leg, &self.host).await;
        let mut next = client.get(&self.host, "/next").await;
        let answer = next.answer().await.unwrap_or_else(|error| panic!("{point}: {error}"));
        assert_eq!((answer.0, next.rest().await.unwrap().0), (200, b"ok".to_vec()), "{point}: {answer:?}");
        drop((client, next));
        self.records += reasons.len() + 1;
        for line in [
            "exeat_in_use{resource=\"connections\"}",
            "exeat_in_use{resource=\"dials\"}",
            "exeat_in_use{resource=\"inspection\"}",
            "exeat_pool_connections{state=\"idle\"}",
            "exeat_pool_connections{state=\"active\"}",
        ] {
            self.proxy.until_metric(line, 0).await;
        }
        let left = || (self.proxy.descriptors() <= self.descriptors).then_some(());
        until(&format!("{point}: the last descriptor's end"), left).await;
        assert_eq!(self.proxy.events().len(), self.records, "{point}: one record, not two");
        new
    }
}
