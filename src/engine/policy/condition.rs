//! `when:` a flat map of closed keys to tests. A missing key makes a positive test false; its `not` is then true in a
//! deny (as in IAM) and false in an allow (unknown is denied).

use std::borrow::Cow;

use ipnet::IpNet;

use super::pattern::{Glob, HostPattern, is_bucket};
use super::{Ask, Request};
use crate::engine::facts::{AccountId, Auth, PayloadState, Resource, SignatureState, TlsVersion, words};
use crate::engine::signature::percent::{Plus, decode};
use crate::engine::target::Host;

words! {
    /// What can be asked by a plain name.
    pub enum Named {
        Host = "host",
        Region = "region",
        Auth = "auth",
        Signature = "signature",
        Payload = "payload",
        SignerKey = "signer.key",
        SignerAccount = "signer.account",
        SignerRole = "signer.role",
        TlsVersion = "tls.version",
        TlsCipher = "tls.cipher",
        TlsSni = "tls.sni",
        ResourceAccount = "resource.account",
        SourceAddress = "source.address",
    }
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Named(Named),
    /// `header.NAME`, in lower case; only a signed header can be asked.
    Header(Box<str>),
}

impl Key {
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(named) = text.parse() {
            return Some(Self::Named(named));
        }
        let name = text.strip_prefix("header.").filter(|name| !name.is_empty())?;
        Some(Self::Header(name.to_ascii_lowercase().into()))
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
        let Key::Named(named) = key else { return Ok(Self::Text(Glob::new(text))) };
        match named {
            Named::Auth => closed(Auth::ALL.iter().map(|word| word.as_str()).collect()),
            Named::Signature => closed(ASKABLE_SIGNATURES.map(SignatureState::as_str).to_vec()),
            Named::Payload => closed(PayloadState::ALL.iter().map(|word| word.as_str()).collect()),
            Named::Host | Named::TlsSni => {
                if text.contains(':') {
                    return Err(format!("`{text}`: want a host without a port"));
                }
                HostPattern::parse(text).map(Self::Host)
            }
            Named::TlsVersion => {
                let (compares, version) = match text.strip_prefix(">=") {
                    Some(version) => (true, version),
                    None => (false, text),
                };
                let version = match version {
                    "1.2" => TlsVersion::Tls12,
                    "1.3" => TlsVersion::Tls13,
                    _ => return Err(format!("got {text:?}, want \"1.2\", \"1.3\", \">=1.2\" or \">=1.3\"")),
                };
                Ok(if compares { Self::AtLeast(version) } else { Self::Text(Glob::new(version.as_str())) })
            }
            Named::SignerAccount | Named::ResourceAccount => match (text, AccountId::parse(text)) {
                ("self", _) => Ok(Self::OurAccount),
                (_, Some(account)) => Ok(Self::Account(account)),
                _ if text.contains(['*', '?']) => Ok(Self::Text(Glob::new(text))),
                _ => Err(format!("got {text:?}, want twelve digits (quoted) or self")),
            },
            Named::SourceAddress => text
                .parse()
                .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
                .map(Self::Range)
                .map_err(|_| format!("got {text:?}, want an address or a range like 10.0.0.0/8")),
            Named::Region | Named::SignerKey | Named::SignerRole | Named::TlsCipher => {
                Ok(Self::Text(Glob::new(text)))
            }
        }
    }
}

/// A `bad` signature never reaches a policy.
pub const ASKABLE_SIGNATURES: [SignatureState; 3] =
    [SignatureState::Verified, SignatureState::UnknownKey, SignatureState::Unsigned];

/// Any of `wants`, or with `not` none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub key: Key,
    pub wants: Vec<Want>,
    pub not: bool,
}

/// What a request says to a positive test.
enum Answer {
    Known(bool),
    /// It has no such key.
    Missing,
    /// It has one that could not be read: a deny means what it could be.
    Unread,
    /// It is about the signer's key, and AWS could be asked.
    Untold,
}

/// Whether a condition holds.
pub enum Held {
    Known(bool),
    /// What it does as long as nobody has asked whose key it is.
    Untold(bool),
}

impl Condition {
    /// `deny`: the statement's effect decides what a missing key means to `not`.
    pub fn holds(&self, request: &Request<'_>, ask: Option<&Ask>, deny: bool) -> Held {
        match self.answer(request, ask, deny) {
            Answer::Known(any) => Held::Known(any != self.not),
            Answer::Missing => Held::Known(self.not && deny),
            Answer::Unread => Held::Known(deny),
            Answer::Untold => Held::Untold(self.not && deny),
        }
    }

    /// What is known before any request, of a destination alone; `None` where only a request can tell.
    pub fn holds_for(&self, host: &Host, region: Option<&str>) -> Option<bool> {
        let any = match &self.key {
            Key::Named(Named::Host | Named::TlsSni) => self.any_host(host),
            Key::Named(Named::Region) => self.any_text(region?),
            _ => return None,
        };
        Some(any != self.not)
    }

    /// Says this very word, without wildcards: what counts as consent to it.
    pub fn says(&self, key: Named, word: &str) -> bool {
        let literal =
            |want: &Want| matches!(want, Want::Text(glob) if glob.is_literal() && glob.matches(word));
        self.key == Key::Named(key) && !self.not && self.wants.iter().any(literal)
    }

    /// Holds only for hosts that it writes out.
    pub fn names_hosts(&self) -> bool {
        let literal = |want: &Want| matches!(want, Want::Host(pattern) if pattern.literal().is_some());
        self.key == Key::Named(Named::Host) && !self.not && self.wants.iter().all(literal)
    }

    fn any_text(&self, text: &str) -> bool {
        self.wants.iter().any(|want| matches!(want, Want::Text(glob) if glob.matches(text)))
    }

    fn any_host(&self, host: &Host) -> bool {
        self.wants.iter().any(|want| matches!(want, Want::Host(pattern) if pattern.matches_host(host)))
    }

    /// `ours`: it counts as `self`, whether or not its number is known.
    fn account(&self, request: &Request<'_>, account: Option<AccountId>, ours: bool) -> Answer {
        let ours = ours || account.is_some_and(|account| request.own_accounts.contains(&account));
        let any = self.wants.iter().any(|want| match want {
            Want::Account(wanted) => account == Some(*wanted),
            Want::OurAccount => ours,
            Want::Text(glob) => account.is_some_and(|account| glob.matches(&account.to_string())),
            _ => false,
        });
        let could_be_ours =
            account.is_some() && request.own().signer && self.wants.contains(&Want::OurAccount);
        if !any && request.account_is_untold() && (account.is_none() || could_be_ours) {
            return Answer::Untold;
        }
        // Without the number, only `self` can be told.
        if any || account.is_some() { Answer::Known(any) } else { Answer::Missing }
    }

    fn answer(&self, request: &Request<'_>, ask: Option<&Ask>, deny: bool) -> Answer {
        let identity = request.identity;
        let known = |found: Option<bool>| found.map_or(Answer::Missing, Answer::Known);
        let tls = request.arrival.tls.as_ref();
        let named = match &self.key {
            Key::Named(named) => named,
            Key::Header(name) => return self.header(request, name, deny),
        };
        match named {
            Named::Host => Answer::Known(self.any_host(&request.host.host)),
            // INVARIANT: SNI and the request's host are the same name, or the request was refused before.
            Named::TlsSni => known(
                tls.and_then(|tls| tls.sni.as_ref()).map(|_| self.any_host(&request.arrival.target.host)),
            ),
            Named::Region => known(request.operation.map(|operation| self.any_text(&operation.region))),
            Named::Auth => Answer::Known(self.any_text(identity.auth.as_str())),
            Named::Signature => Answer::Known(self.any_text(identity.signature.as_str())),
            Named::Payload => Answer::Known(self.any_text(identity.payload.as_str())),
            Named::SignerKey => known(identity.signer.as_ref().map(|signer| self.any_text(&signer.key_id))),
            Named::SignerAccount => match &identity.signer {
                Some(signer) => self.account(request, signer.account, signer.own),
                None => Answer::Missing,
            },
            Named::SignerRole => match &identity.signer {
                Some(signer) if signer.role.is_none() && signer.untold => Answer::Untold,
                signer => {
                    let role = signer.as_ref().and_then(|signer| signer.role.as_ref());
                    known(role.map(|role| self.any_text(role)))
                }
            },
            Named::TlsVersion => known(tls.map(|tls| {
                self.any_text(tls.version.as_str())
                    || self.wants.iter().any(|want| match want {
                        Want::AtLeast(TlsVersion::Tls12) => true,
                        Want::AtLeast(TlsVersion::Tls13) => tls.version == TlsVersion::Tls13,
                        _ => false,
                    })
            })),
            Named::TlsCipher => known(tls.map(|tls| self.any_text(tls.cipher))),
            Named::ResourceAccount => match ask.map(|ask| &ask.resource) {
                // A bucket's is nobody's to tell.
                Some(Resource::Arn { account: None, arn }) if is_bucket(arn) => Answer::Missing,
                Some(Resource::Arn { account, arn }) => {
                    let ours = account.is_none() && request.own().signer && !is_bucket(arn);
                    self.account(request, *account, ours)
                }
                Some(Resource::Unknown) => Answer::Unread,
                Some(Resource::None) | None => Answer::Missing,
            },
            Named::SourceAddress => {
                let peer = request.arrival.peer.ip().to_canonical();
                let within = |want: &Want| matches!(want, Want::Range(range) if range.contains(&peer));
                Answer::Known(self.wants.iter().any(within))
            }
        }
    }

    /// A header that was signed; a presigned request may have it in its query, where all is signed. One that stands
    /// there twice is no answer for an allow, and each of its values for a deny.
    fn header(&self, request: &Request<'_>, name: &str, deny: bool) -> Answer {
        let mut values: Vec<Cow<'_, [u8]>> = Vec::new();
        if (request.signed_header)(name) {
            values.extend(request.head.all(name).map(Cow::Borrowed));
        }
        if request.identity.auth == Auth::Presigned && name.starts_with("x-amz-") {
            let query = request.head.query().unwrap_or_default();
            values.extend(parameters(query, name));
        }
        let test = |value: &[u8]| std::str::from_utf8(value).is_ok_and(|text| self.any_text(text));
        match values.as_slice() {
            [] => Answer::Missing,
            [one] => Answer::Known(test(one)),
            several if deny && !self.not => Answer::Known(several.iter().any(|value| test(value))),
            _ => Answer::Missing,
        }
    }
}

/// Values of a query's parameters of this name, in any case.
fn parameters<'q>(query: &'q str, name: &str) -> impl Iterator<Item = Cow<'q, [u8]>> {
    let pieces = query.split('&').map(|piece| piece.split_once('=').unwrap_or((piece, "")));
    pieces.filter_map(move |(key, value)| {
        let same = decode(key.as_bytes(), Plus::Space)?.eq_ignore_ascii_case(name.as_bytes());
        if same { decode(value.as_bytes(), Plus::Space) } else { None }
    })
}
