//! Who signs, when, and from where: the world in which every case is judged.

use std::net::SocketAddr;

use exeat::engine::atlas::{Atlas, BodySeen};
use exeat::engine::facts::{AccountId, Arrival, Door, Secret, Timestamp, TlsFacts, TlsVersion};
use exeat::engine::policy::Policy;
use exeat::engine::request::RequestHead;
use exeat::engine::signature::{KnownKey, KnownKeys};
use exeat::engine::{Judgement, Question, judge};

use super::signer::Signer;

pub const OURS: &str = "111122223333";
pub const PARTNER: &str = "210987654321";
/// 2026-01-02T03:04:05Z.
pub const NOW: Timestamp = Timestamp(1_767_323_045);
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// Somebody with an access key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Does not sign.
    #[default]
    Nobody,
    /// A key we were given, of our account.
    Own,
    /// Ours too, of the role `orders-api`.
    Role,
    /// A key we were given whose account nobody knows.
    Nameless,
    /// Learned from an answer of STS, our account.
    Learned,
    /// Learned, and of another account: a role there that we may assume.
    Away,
    /// Not known to us; the id says our account.
    Colleague,
    /// Not known to us; the id says the partner's account.
    Partner,
    /// Not known to us, and the id says nothing.
    Stranger,
}

impl Who {
    pub fn key_id(self) -> &'static str {
        match self {
            Self::Nobody => "",
            Self::Own => id_of(OURS, "A"),
            Self::Role => id_of(OURS, "B"),
            Self::Learned => id_of(OURS, "C"),
            Self::Colleague => id_of(OURS, "D"),
            Self::Away => id_of(PARTNER, "A"),
            Self::Partner => id_of(PARTNER, "B"),
            Self::Nameless => "AKIAIOSFODNN7EXAMPLE",
            Self::Stranger => "AKIAI44QH8DHBEXAMPLE",
        }
    }

    /// Signs for a region and service; `expires` makes it a presigned URL.
    pub fn signer(self, service: String, region: String, expires: Option<u64>) -> Signer {
        Signer {
            id: self.key_id(),
            secret: SECRET,
            service: service.leak(),
            region: region.leak(),
            at: NOW,
            presign: expires,
            ..Signer::default()
        }
    }
}

/// A key id of the newer kind, that says this account.
fn id_of(account: &str, last: &str) -> &'static str {
    let bits = 1u128 << 79 | u128::from(AccountId::parse(account).unwrap().number()) << 39;
    let digit = |at: usize| b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(bits >> (75 - 5 * at)) as usize & 31];
    let id: String = (0..15).map(|at| char::from(digit(at))).collect();
    format!("AKIA{id}{last}").leak()
}

/// The keys we know.
pub fn keys() -> KnownKeys {
    let known = [Who::Own, Who::Role, Who::Nameless, Who::Learned, Who::Away];
    KnownKeys::new(known.map(|who| {
        let mut key = KnownKey::new(who.key_id(), Secret::new(SECRET.as_bytes()), None);
        key.role = (who == Who::Role).then(|| "orders-api".into());
        key.own = !matches!(who, Who::Learned | Who::Away);
        key
    }))
}

/// A connection as the forward door describes it.
pub fn arrival(head: &RequestHead, peer: Option<&str>, tls: TlsVersion) -> Arrival {
    let peer: SocketAddr =
        peer.map_or_else(|| "127.0.0.1:40000".parse().unwrap(), |peer| peer.parse().unwrap());
    let target = head.authority().clone();
    let tls = TlsFacts {
        version: tls,
        cipher: "TLS13_AES_128_GCM_SHA256",
        group: None,
        alpn: None,
        sni: target.host.as_name().map(Into::into),
        chain: std::sync::Arc::default(),
    };
    Arrival::new(Door::Forward, target, peer, Some(tls), Atlas::built_in())
}

/// Judges as the proxy does: the body is shown when it is asked for. `None` for the body: it is too large to be read.
pub fn judged(
    policy: &Policy,
    head: &RequestHead,
    body: Option<&[u8]>,
    arrival: &Arrival,
    keys: &KnownKeys,
    now: Timestamp,
) -> Judgement {
    let ask = |body| {
        let question = Question {
            head,
            body,
            arrival,
            keys,
            atlas: Atlas::built_in(),
            now,
            max_skew: 900,
            asks: false,
            verified: &|| {},
        };
        judge(policy, &question)
    };
    match ask(BodySeen::Unread) {
        Judgement::NeedBody => ask(body.map_or(BodySeen::TooLarge, BodySeen::Whole)),
        judgement => judgement,
    }
}

#[test]
fn key_ids_say_the_account_that_they_are_made_for() {
    use exeat::engine::signature::account_of;
    for (who, account) in
        [(Who::Own, Some(OURS)), (Who::Away, Some(PARTNER)), (Who::Stranger, None), (Who::Nameless, None)]
    {
        assert_eq!(account_of(who.key_id()), account.and_then(AccountId::parse), "{who:?}");
    }
}
