//! What origins were seen to speak, so that their clients are offered the same.
//!
//! Learned from each handshake in which an origin could choose; a client that offers HTTP/2 alone is never held up by
//! what is not known yet, since its requests can be translated.

use quick_cache::sync::Cache;

use super::Shared;
use crate::engine::atlas::HostKind;
use crate::engine::hello::ClientHello;
use crate::engine::target::Authority;
use crate::tls::{self, Offer};

/// More than any workload talks to.
const KNOWN: usize = 1024;

#[derive(Debug)]
pub struct Spoken(Cache<Authority, Offer>);

impl Default for Spoken {
    fn default() -> Self {
        Self(Cache::new(KNOWN))
    }
}

impl Spoken {
    pub fn of(&self, origin: &Authority) -> Option<Offer> {
        self.0.get(origin)
    }

    pub fn note(&self, origin: &Authority, spoken: Offer) {
        if self.of(origin) != Some(spoken) {
            self.0.insert(origin.clone(), spoken);
        }
    }
}

/// What a client is offered, and what the origin is then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offers {
    pub client: Offer,
    pub origin: Offer,
}

/// A client without HTTP/2 gets, and causes, nothing but HTTP/1.1. One with both teaches us what the origin speaks.
pub fn offers(shared: &Shared, target: &Authority, kind: &HostKind, hello: &ClientHello) -> Offers {
    let names = |protocol: &[u8]| hello.alpn.iter().any(|offered| **offered == *protocol);
    if !names(tls::H2) {
        return Offers { client: Offer::Http1, origin: Offer::Http1 };
    }
    let origin = match kind {
        HostKind::Service(endpoint) if endpoint.speaks_http2() => Offer::Both,
        HostKind::Service(_) => Offer::Http1,
        _ => Offer::Both,
    };
    // One with HTTP/2 alone is told nothing else, and its requests are translated where they must be.
    let at_once = !names(tls::HTTP_1_1) || shared.policy.load().names_http2(target);
    let seen = match kind {
        HostKind::Service(_) => origin,
        _ => shared.spoken.of(target).unwrap_or_default(),
    };
    Offers { client: if at_once { Offer::Both } else { seen }, origin }
}
