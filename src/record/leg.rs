//! One leg's TLS, written down once a connection: every request on it says the same. The chain alone is told once, in the
//! connection's first event that has room for it; the others name its leaf.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::facts::{Certificate, Shown, TlsFacts};
use crate::engine::hello::server::{group_name, suite_name};
use crate::engine::hex;

use super::event::ip;
use super::json::Json;
use super::lane::iso_second;

const MAX_ALPN: usize = 128;
const MAX_SNI: usize = 270;
/// Of a subject or an issuer.
const MAX_NAME: usize = 96;

/// Members of lines that tell of one leg.
#[derive(Debug)]
pub struct LegText {
    /// `tlsDetails` and the object of our own, both still open; where it leads, for the leg to an origin.
    text: Vec<u8>,
    split: usize,
    end: usize,
    chain: Chain,
    /// What the object of our own is called.
    member: &'static str,
}

/// Negotiated, and believed.
const TLS: &str = "\"tls\":";
/// Neither: what there was of a handshake that came to nothing.
const SHOWN: &str = "\"shown\":";

/// What a leg's server showed, until it is told.
#[derive(Debug)]
pub(super) struct Chain {
    certificates: Arc<[Certificate]>,
    told: AtomicBool,
}

impl Chain {
    fn of(certificates: Arc<[Certificate]>) -> Self {
        Self { told: AtomicBool::new(certificates.is_empty()), certificates }
    }

    /// True once, where there is something to tell.
    pub(super) fn is_due(&self) -> bool {
        // Read first: hardly ever is it due.
        !self.told.load(Ordering::Relaxed) && !self.told.swap(true, Ordering::Relaxed)
    }

    /// It was due and had no room.
    pub(super) fn put_back(&self) {
        self.told.store(false, Ordering::Relaxed);
    }

    /// `,"chain":[…]`.
    pub(super) fn write(&self, json: &mut Json<'_>) {
        for (at, Certificate { sha256, named }) in self.certificates.iter().enumerate() {
            json.raw(if at == 0 { ",\"chain\":[{\"sha256\":\"" } else { ",{\"sha256\":\"" });
            json.hex(sha256);
            json.raw("\"");
            if let Some(named) = named {
                json.field(",\"subject\":", named.subject.as_bytes(), MAX_NAME);
                json.field(",\"issuer\":", named.issuer.as_bytes(), MAX_NAME);
                if let Ok(until) = u64::try_from(named.not_after.0) {
                    json.word(",\"notAfter\":\"", &iso_second(until));
                }
            }
            json.raw("}");
        }
        json.raw("]");
    }
}

impl LegText {
    pub(super) fn of(facts: &TlsFacts) -> Self {
        let mut text = Vec::with_capacity(320);
        let mut json = Json(&mut text);
        json.word("{\"tlsVersion\":\"", facts.version.as_str());
        // rustls tells TLS 1.3 suites apart by a prefix of its own; IANA, and CloudTrail, say `TLS_`.
        json.raw(",\"cipherSuite\":\"TLS");
        let cipher = facts.cipher;
        json.raw(cipher.strip_prefix("TLS13").or(cipher.strip_prefix("TLS")).unwrap_or(cipher));
        json.raw("\"");
        let split = json.0.len();
        json.word("{\"version\":\"", facts.version.as_str());
        json.word(",\"cipher\":\"", facts.cipher);
        if let Some(group) = facts.group {
            json.word(",\"group\":\"", group);
        }
        json.maybe(",\"alpn\":", facts.alpn.as_deref(), MAX_ALPN);
        json.maybe(",\"sni\":", facts.sni.as_deref(), MAX_SNI);
        if let Some(leaf) = facts.chain.first().and_then(|leaf| leaf.sha256.first_chunk::<8>()) {
            json.raw(",\"leaf\":\"");
            json.hex(leaf);
            json.raw("\"");
        }
        let end = json.0.len();
        Self { text, split, end, chain: Chain::of(Arc::clone(&facts.chain)), member: TLS }
    }

    /// The leg to an origin, with the address that was dialled; `None` where it came to no handshake.
    pub fn dialled_at(address: SocketAddr, facts: Option<&TlsFacts>) -> Self {
        facts.map_or_else(|| Self::nothing(&Shown::default()), Self::of).at(address)
    }

    /// The same, where the handshake came to nothing.
    pub fn unshaken_at(address: SocketAddr, shown: &Shown) -> Self {
        let mut leg = Self::nothing(shown);
        let mut json = Json(&mut leg.text);
        let mut before = "{";
        let mut member = |json: &mut Json<'_>, name: &str, value: &str| {
            json.raw(std::mem::replace(&mut before, ","));
            json.word(name, value);
        };
        if let Some(version) = shown.version {
            member(&mut json, "\"version\":\"", version);
        }
        // What has no name here is nothing that we would have.
        let number = |number: u16| format!("{number:#06x}");
        if let Some(cipher) = shown.cipher {
            member(&mut json, "\"cipher\":\"", suite_name(cipher).unwrap_or(&number(cipher)));
        }
        if let Some(group) = shown.group {
            member(&mut json, "\"group\":\"", group_name(group).unwrap_or(&number(group)));
        }
        if let Some(leaf) = shown.chain.first() {
            member(&mut json, "\"leaf\":\"", &hex::text(&leaf.sha256[..8]));
        }
        leg.end = leg.text.len();
        leg.at(address)
    }

    /// Without TLS, but for what was shown of it.
    fn nothing(shown: &Shown) -> Self {
        let chain = Chain::of(Arc::clone(&shown.chain));
        Self { text: Vec::new(), split: 0, end: 0, chain, member: SHOWN }
    }

    fn at(mut self, address: SocketAddr) -> Self {
        let mut json = Json(&mut self.text);
        json.raw("\"address\":\"");
        ip(&mut json, address.ip());
        json.count("\",\"port\":", address.port().into());
        json.raw(",");
        self
    }

    /// CloudTrail's `tlsDetails`, its brace not closed; empty without a handshake.
    pub(super) fn details(&self) -> &[u8] {
        &self.text[..self.split]
    }

    /// All that is known of the leg's TLS but its chain, its brace not closed; empty where nothing is.
    pub(super) fn json(&self) -> &[u8] {
        &self.text[self.split..self.end]
    }

    /// Name of the member that it stands in.
    pub(super) fn member(&self) -> &'static str {
        self.member
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(super) fn into_chain(self) -> Chain {
        self.chain
    }

    /// Address and port, each with the comma that follows it.
    pub(super) fn dialled(&self) -> &[u8] {
        &self.text[self.end..]
    }
}
