//! `when:` a flat map of closed keys to tests. A missing key makes a positive test false; its `not` is then true in a
//! deny (as in IAM) and false in an allow (unknown is denied).

use ipnet::IpNet;

use super::pattern::{Glob, HostPattern};
use super::{Ask, Request};
use crate::engine::facts::{AccountId, Auth, PayloadState, Resource, SignatureState, TlsVersion};
use crate::engine::target::Host;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Host,
    Region,
    Auth,
    Signature,
    Payload,
    SignerKeyId,
    SignerAccount,
    SignerRole,
    TlsVersion,
    TlsCipher,
    TlsSni,
    ResourceAccount,
    SourceAddress,
    /// Lower case; only a signed header can be asked.
    Header(Box<str>),
}

impl Key {
    pub const NAMES: [&str; 13] = [
        "host",
        "region",
        "auth",
        "signature",
        "payload",
        "signer.key",
        "signer.account",
        "signer.role",
        "tls.version",
        "tls.cipher",
        "tls.sni",
        "resource.account",
        "source.address",
    ];

    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "host" => Self::Host,
            "region" => Self::Region,
            "auth" => Self::Auth,
            "signature" => Self::Signature,
            "payload" => Self::Payload,
            "signer.key" => Self::SignerKeyId,
            "signer.account" => Self::SignerAccount,
            "signer.role" => Self::SignerRole,
            "tls.version" => Self::TlsVersion,
            "tls.cipher" => Self::TlsCipher,
            "tls.sni" => Self::TlsSni,
            "resource.account" => Self::ResourceAccount,
            "source.address" => Self::SourceAddress,
            _ => {
                let name = text.strip_prefix("header.").filter(|name| !name.is_empty())?;
                Self::Header(name.to_ascii_lowercase().into())
            }
        })
    }
}

/// One value that is tested for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    Text(Glob),
    Host(HostPattern),
    Account(AccountId),
    /// `self`, in `*.account`.
    OurAccount,
    AtLeast(TlsVersion),
    Range(IpNet),
}

impl Want {
    /// Reads one value of `key`; the error says what would do.
    pub fn parse(key: &Key, text: &str) -> Result<Self, String> {
        let closed = |known: Vec<&'static str>| {
            if known.iter().any(|word| Glob::new(text).matches(word)) {
                Ok(Self::Text(Glob::new(text)))
            } else {
                Err(format!("got {text:?}, want one of {}", known.join(", ")))
            }
        };
        match key {
            Key::Auth => closed(Auth::ALL.iter().map(|word| word.as_str()).collect()),
            Key::Signature => closed(
                [SignatureState::Verified, SignatureState::UnknownKey, SignatureState::Unsigned]
                    .map(SignatureState::as_str)
                    .to_vec(),
            ),
            Key::Payload => closed(PayloadState::ALL.iter().map(|word| word.as_str()).collect()),
            Key::Host | Key::TlsSni => HostPattern::parse(text).map(Self::Host),
            Key::TlsVersion => match text.trim_start_matches(">=").trim() {
                "1.2" if text.starts_with(">=") => Ok(Self::AtLeast(TlsVersion::Tls12)),
                "1.3" if text.starts_with(">=") => Ok(Self::AtLeast(TlsVersion::Tls13)),
                "1.2" => Ok(Self::Text(Glob::new(TlsVersion::Tls12.as_str()))),
                "1.3" => Ok(Self::Text(Glob::new(TlsVersion::Tls13.as_str()))),
                _ => Err(format!("got {text:?}, want 1.2, 1.3, \">=1.2\" or \">=1.3\"")),
            },
            Key::SignerAccount | Key::ResourceAccount => match (text, AccountId::parse(text)) {
                ("self", _) => Ok(Self::OurAccount),
                (_, Some(account)) => Ok(Self::Account(account)),
                _ if text.contains(['*', '?']) => Ok(Self::Text(Glob::new(text))),
                _ => Err(format!("got {text:?}, want twelve digits (quoted) or self")),
            },
            Key::SourceAddress => text
                .parse()
                .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
                .map(Self::Range)
                .map_err(|_| format!("got {text:?}, want an address or a range like 10.0.0.0/8")),
            Key::Region | Key::SignerKeyId | Key::SignerRole | Key::TlsCipher | Key::Header(_) => {
                Ok(Self::Text(Glob::new(text)))
            }
        }
    }
}

/// Any of `wants`, or with `not` none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub key: Key,
    pub wants: Vec<Want>,
    pub not: bool,
}

impl Condition {
    /// `deny`: the statement's effect decides what a missing key means to `not`.
    pub fn holds(&self, request: &Request<'_>, ask: Option<&Ask>, deny: bool) -> bool {
        match self.any(request, ask) {
            Some(any) => any != self.not,
            None => self.not && deny,
        }
    }

    /// Before any request, where host and region are known; `None`: only a request can tell.
    pub fn holds_for(&self, host: &Host, region: Option<&str>) -> Option<bool> {
        let any = match &self.key {
            Key::Host | Key::TlsSni => self
                .wants
                .iter()
                .any(|want| matches!(want, Want::Host(pattern) if pattern.matches_host(host))),
            Key::Region => {
                let region = region?;
                self.wants.iter().any(|want| matches!(want, Want::Text(glob) if glob.matches(region)))
            }
            _ => return None,
        };
        Some(any != self.not)
    }

    /// `None`: the request has no such key.
    fn any(&self, request: &Request<'_>, ask: Option<&Ask>) -> Option<bool> {
        let text =
            |text: &str| self.wants.iter().any(|want| matches!(want, Want::Text(glob) if glob.matches(text)));
        let identity = request.identity;
        let account = |account: Option<AccountId>, own: bool| {
            if account.is_none() && !own {
                return None;
            }
            Some(self.wants.iter().any(|want| match want {
                Want::Account(wanted) => account == Some(*wanted),
                Want::OurAccount => {
                    own || account.is_some_and(|account| request.own_accounts.contains(&account))
                }
                Want::Text(glob) => account.is_some_and(|account| glob.matches(&account.to_string())),
                _ => false,
            }))
        };
        match &self.key {
            Key::Host => Some(self.wants.iter().any(|want| match want {
                Want::Host(pattern) => pattern.matches_host(&request.host.host),
                _ => false,
            })),
            Key::TlsSni => {
                // INVARIANT: SNI and the request's host are the same name, or the request was refused before.
                request.arrival.tls.as_ref().and_then(|tls| tls.sni.as_ref())?;
                Some(self.wants.iter().any(|want| match want {
                    Want::Host(pattern) => pattern.matches_host(&request.arrival.target.host),
                    _ => false,
                }))
            }
            Key::Region => request.operation.map(|operation| text(&operation.region)),
            Key::Auth => Some(text(identity.auth.as_str())),
            Key::Signature => Some(text(identity.signature.as_str())),
            Key::Payload => Some(text(identity.payload.as_str())),
            Key::SignerKeyId => identity.signer.as_ref().map(|signer| text(&signer.key_id)),
            Key::SignerAccount => {
                let signer = identity.signer.as_ref()?;
                account(signer.account, signer.own)
            }
            Key::SignerRole => identity.signer.as_ref()?.role.as_ref().map(|role| text(role)),
            Key::TlsVersion => {
                let version = request.arrival.tls.as_ref()?.version;
                Some(
                    text(version.as_str())
                        || self.wants.iter().any(|want| match want {
                            Want::AtLeast(TlsVersion::Tls12) => true,
                            Want::AtLeast(TlsVersion::Tls13) => version == TlsVersion::Tls13,
                            _ => false,
                        }),
                )
            }
            Key::TlsCipher => request.arrival.tls.as_ref().map(|tls| text(tls.cipher)),
            Key::ResourceAccount => match &ask?.resource {
                Resource::Arn { account: named, .. } => account(*named, false),
                Resource::None | Resource::Unknown => None,
            },
            Key::SourceAddress => {
                let peer = request.arrival.peer.ip();
                Some(
                    self.wants.iter().any(|want| matches!(want, Want::Range(range) if range.contains(&peer))),
                )
            }
            Key::Header(name) => {
                if !(request.signed_header)(name) {
                    return None;
                }
                request.head.only_text(name).map(text)
            }
        }
    }
}
