//! The closed sets that labels come from, each word with the place it has in an array.

use crate::engine::facts::{Auth, Door, PayloadOutcome, Protocol, SignatureState, TlsVersion, words};
use crate::engine::reason::Reason;
use crate::record::attempt::Decision;

words! {
    pub enum Leg {
        Client = "client",
        Upstream = "upstream",
    }
}

words! {
    pub enum PoolState {
        /// Waiting for a request.
        Idle = "idle",
        /// Carrying one.
        Active = "active",
        /// Not there yet: requests that wait for one.
        Wanted = "wanted",
    }
}

words! {
    /// What there is only so much of, for all workers together.
    pub enum Resource {
        /// Connections of clients.
        Connections = "connections",
        /// Connections to origins in the making.
        Dials = "dials",
        Tunnels = "tunnels",
        /// Bytes of bodies that are read before they are judged.
        Inspection = "inspection",
    }
}

words! {
    pub enum Reload {
        Applied = "applied",
        Unchanged = "unchanged",
        /// The old policy stays.
        Refused = "refused",
    }
}

words! {
    /// Key exchange of a handshake. ML-KEM is post-quantum.
    pub enum Group {
        X25519MlKem768 = "X25519MLKEM768",
        P256MlKem768 = "secp256r1MLKEM768",
        P384MlKem1024 = "secp384r1MLKEM1024",
        X25519 = "X25519",
        P256 = "secp256r1",
        P384 = "secp384r1",
        Other = "other",
        /// Resumed without one, or not told.
        None = "none",
    }
}

impl Group {
    pub(super) fn of(name: Option<&str>) -> Self {
        name.map_or(Self::None, |name| name.parse().unwrap_or(Self::Other))
    }
}

words! {
    /// What a request went upstream on.
    pub enum Connection {
        New = "new",
        Reused = "reused",
    }
}

/// A value of a closed set, as the place it has in an array.
pub(super) trait Word: Copy + 'static {
    const WORDS: &'static [&'static str];
    fn place(self) -> usize;
}

macro_rules! word {
    ($($name:ty),+) => { $(
        impl Word for $name {
            const WORDS: &'static [&'static str] = &{
                let mut words = [""; <$name>::ALL.len()];
                let mut at = 0;
                while at < words.len() {
                    words[at] = <$name>::ALL[at].as_str();
                    at += 1;
                }
                words
            };
            fn place(self) -> usize {
                self as usize
            }
        }
    )+ };
}
word!(
    Door,
    Decision,
    Reason,
    Protocol,
    SignatureState,
    Auth,
    PayloadOutcome,
    TlsVersion,
    Group,
    Connection,
    Leg,
    PoolState,
    Resource,
    Reload
);
