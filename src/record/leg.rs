//! One leg's TLS, written down once a connection: every request on it says the same.

use std::net::SocketAddr;

use crate::engine::facts::TlsFacts;

use super::event::ip;
use super::json::Json;

const MAX_ALPN: usize = 128;
const MAX_SNI: usize = 270;

/// Members of lines that tell of one leg.
#[derive(Debug)]
pub struct LegText {
    /// `tlsDetails`, still open; the whole object of our own; where it leads, for the leg to an origin.
    text: Vec<u8>,
    split: usize,
    end: usize,
}

impl LegText {
    pub(super) fn of(facts: &TlsFacts) -> Self {
        let mut text = Vec::with_capacity(256);
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
        json.raw("}");
        let end = json.0.len();
        Self { text, split, end }
    }

    /// The leg to an origin, with the address that was dialled; `None` where it came to no handshake.
    pub fn dialled_at(address: SocketAddr, facts: Option<&TlsFacts>) -> Self {
        let nothing = || Self { text: Vec::new(), split: 0, end: 0 };
        let mut leg = facts.map_or_else(nothing, Self::of);
        let mut json = Json(&mut leg.text);
        json.raw("\"address\":\"");
        ip(&mut json, address.ip());
        json.count("\",\"port\":", address.port().into());
        json.raw(",");
        leg
    }

    /// CloudTrail's `tlsDetails`, its brace not closed; empty without a handshake.
    pub(super) fn details(&self) -> &[u8] {
        &self.text[..self.split]
    }

    /// All that is known of the leg's TLS; empty without a handshake.
    pub(super) fn json(&self) -> &[u8] {
        &self.text[self.split..self.end]
    }

    /// Address and port, each with the comma that follows it.
    pub(super) fn dialled(&self) -> &[u8] {
        &self.text[self.end..]
    }
}
