//! The data path: what a worker holds to serve connections.
//!
//! `listener` accepts, `connection` tells the story of a socket, `exchange` that of a request.

mod advice;
pub mod body;
pub mod caller;
mod chain;
mod connection;
pub mod distrust;
mod door;
mod exchange;
mod forward;
pub mod gate;
pub mod http1;
pub mod http2;
mod lesson;
pub mod listener;
pub mod lookups;
mod origin_error;
mod owner;
pub mod pool;
mod process;
pub mod repeats;
mod reply;
mod requests;
mod resolve;
mod sockets;
pub mod spoken;
mod streams;
pub mod telling;
mod tunnel;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use arc_swap::{ArcSwap, ArcSwapOption};
use ipnet::IpNet;
use tokio::sync::{Semaphore, watch};

use self::process::Process;
use crate::config::{Config, Limits};
use crate::engine::atlas::Atlas;
use crate::engine::facts::Arrival;
use crate::engine::policy::{Policy, PolicyId};
use crate::engine::signature::KnownKeys;
use crate::engine::target::{Authority, Host};
use crate::keys::Refresher;
use crate::record::{Prelude, Recorder};
use crate::tls::Offer;
use crate::tls::mint::Mint;
use crate::tls::origin::{OriginTls, Witness};

/// The origin's leg.
pub type OriginStream = tokio_rustls::client::TlsStream<Witness<chain::Way>>;

/// What all workers read and none writes on a request's path.
pub struct Shared {
    pub config: Config,
    pub policy: ArcSwap<Policy>,
    /// The one before, for what was judged under it and waits for its turn to dial.
    pub retired: ArcSwapOption<Policy>,
    pub keys: Arc<ArcSwap<KnownKeys>>,
    pub refresher: Refresher,
    pub atlas: &'static Atlas,
    pub mint: Mint,
    pub origin_tls: OriginTls,
    pub gate: Arc<gate::Gate>,
    pub budget: body::Budget,
    /// Turns to dial, given in the order in which they were asked for.
    pub dials: Semaphore,
    /// Places of tunnels.
    pub tunnels: Arc<Semaphore>,
    pub lookups: lookups::Lookups,
    /// The second in which a bad signature was last explained.
    pub explained: AtomicI64,
    /// Addresses of our own listeners: never dialled.
    pub own: Vec<std::net::SocketAddr>,
    pub watch: distrust::Watch,
    pub spoken: spoken::Spoken,
    pub repeats: repeats::Signatures,
    pub callers: caller::Callers,
}

impl Shared {
    /// Private ranges that a name may resolve into, under the policy that judged. Of one that was replaced twice since
    /// nothing is kept, and nothing is opened.
    pub fn ranges(&self, target: &Authority, judged: PolicyId) -> Vec<IpNet> {
        // The one before is read last: a reload puts it there first.
        let now = self.policy.load();
        ranges(&now, self.retired.load().as_deref(), judged, &target.host)
    }
}

/// One thread's share of the data path: its own lane of records, its own idle connections.
#[derive(Clone)]
pub struct Worker {
    pub shared: Arc<Shared>,
    pub recorder: Recorder,
    pub pool: Arc<pool::Pool<OriginStream>>,
    /// And those that many requests share.
    pub streams: Arc<http2::pool::Pool>,
    /// Becomes true once: finish what is under way, take nothing new.
    pub draining: watch::Receiver<bool>,
    /// The door it serves tells callers by their user, not by the password of `exec`.
    pub by_owner: bool,
}

impl Worker {
    /// A person reads our refusals, not a workload.
    pub fn tells_why(&self) -> bool {
        self.shared.config.exec.is_some()
    }

    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}

/// A client whose connection arrived: what its requests share.
pub struct Caller {
    pub arrival: Arrival,
    /// What its origin is offered to speak.
    pub offer: Offer,
    prelude: Prelude,
}

impl Caller {
    pub fn new(arrival: Arrival, offer: Offer, process: Option<&Process>) -> Self {
        let mut prelude = Recorder::prelude(&arrival);
        if let Some(Process { id, name }) = process {
            prelude = prelude.of_process(*id, name);
        }
        Self { arrival, offer, prelude }
    }
}

/// Resolves once the program drains.
async fn drained(draining: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: the program is ending too.
    let _ = draining.wait_for(|draining| *draining).await;
}

fn client_patience(limits: &Limits) -> http1::server::Patience {
    http1::server::Patience { head: limits.head, idle: limits.body_idle, body: limits.body_idle }
}

/// An answer may pause for as long as its head may take: Lambda streams and event streams do.
fn origin_patience(limits: &Limits) -> http1::client::Patience {
    let answer = limits.response_head;
    http1::client::Patience { head: answer, body: answer, write: limits.body_idle }
}

fn ranges(now: &Policy, before: Option<&Policy>, judged: PolicyId, host: &Host) -> Vec<IpNet> {
    let policy = [Some(now), before].into_iter().flatten().find(|policy| policy.id() == judged);
    policy.map_or(Vec::new(), |policy| policy.addresses_for(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dial_opens_the_ranges_of_the_policy_that_judged_and_no_newer_ones() {
        let policy = |range: &str| {
            let text = format!(
                "version: 1\naddresses: {{db.test: [{range}]}}\nstatements:\n  - {{id: db, effect: allow, http: {{host: db.test}}}}\n"
            );
            Policy::read("p.yaml", &text, Atlas::built_in()).unwrap().0
        };
        let (first, second, third) = (policy("10.1.0.0/16"), policy("10.2.0.0/16"), policy("10.3.0.0/16"));
        let host = Host::parse("db.test").unwrap();
        let of = |judged: &Policy, before| ranges(&second, before, judged.id(), &host);
        let range = |text: &str| vec![text.parse::<IpNet>().unwrap()];
        assert_eq!(of(&second, Some(&first)), range("10.2.0.0/16"));
        assert_eq!(of(&first, Some(&first)), range("10.1.0.0/16"), "judged before the reload");
        assert_eq!(of(&third, Some(&first)), [], "replaced twice: nothing is opened");
        assert_eq!(of(&first, None), []);
        let other = Host::parse("other.test").unwrap();
        assert_eq!(ranges(&second, Some(&first), first.id(), &other), []);
    }
}
