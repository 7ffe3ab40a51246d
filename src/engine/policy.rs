//! The policy: statements in, one decision out. Default deny, deny wins, order never matters, unknown is denied.
//!
//! Only this file makes a [`Permit`], so a path that skips the decision does not compile. Pure: what a request is was
//! found out before; nothing here can fail. A decision is a look-up of the statements that could name it, whatever their
//! number; only a refusal looks further, for the nearest.

mod action;
mod admit;
mod built_in;
mod condition;
mod file;
mod http;
mod index;
mod lint;
mod node;
pub(super) mod pattern;
mod perimeter;
pub mod schema;
mod statement;
mod tunnel;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

pub use self::admit::{Admission, Destination};
pub use self::built_in::Mode;
use self::file::Read;
use self::index::Index;
pub use self::node::{At, Code, Problem, Severity};
use self::pattern::{HostPattern, Own};
use self::perimeter::Perimeter;
pub use self::statement::StreamLimits;
use self::statement::{Effect, Fit, Rule, Statement};
pub use self::tunnel::{TunnelLimits, TunnelPermit};
use super::atlas::Atlas;
use super::facts::{
    AccountId, Arrival, Ask, Auth, Identity, Name, Operation, Resource, SignatureState, Timestamp,
};
use super::reason::Reason;
use super::request::RequestHead;
use super::target::{Authority, Host};

/// A request as it is put to the policy: everything given, nothing fetched.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub head: &'a RequestHead,
    pub arrival: &'a Arrival,
    pub host: &'a Authority,
    /// `None`: not a call of an AWS service; `http` statements judge it.
    pub operation: Option<&'a Operation>,
    pub identity: &'a Identity,
    /// The header is under the signature; others can't be asked.
    pub signed_header: &'a dyn Fn(&str) -> bool,
    /// What `self` stands for.
    pub own_accounts: &'a [AccountId],
    pub now: Timestamp,
    /// Filled while it is decided.
    pub wants: &'a Wants,
}

/// Which statements turn on whose the signer's key is, where that is not known yet but could be asked.
#[derive(Debug, Default)]
pub struct Wants {
    allow: Cell<bool>,
    deny: Cell<bool>,
}

impl Wants {
    /// The answer could make another decision.
    pub fn could_change(&self, decision: &Decision) -> bool {
        let (allow, deny) = (self.allow.get(), self.deny.get());
        match decision {
            Decision::Allow(permit) => deny || (allow && permit.observed()),
            Decision::Deny(Denied { reason: Reason::PolicyDenied, .. }) => deny,
            Decision::Deny(_) => allow || deny,
        }
    }
}

impl Request<'_> {
    /// A statement of this effect turns on what is not known of the signer.
    fn want_signer(&self, effect: Effect) {
        match effect {
            Effect::Allow => self.wants.allow.set(true),
            Effect::Deny => self.wants.deny.set(true),
        }
    }

    /// The signer has an account that could be asked for.
    fn account_is_untold(&self) -> bool {
        self.identity.signer.as_ref().is_some_and(|signer| signer.untold && signer.account.is_none())
    }

    fn own(&self) -> Own<'_> {
        let signer = self.identity.signer.as_ref().is_some_and(|signer| signer.own);
        Own { accounts: self.own_accounts, signer }
    }
}

/// Where a statement stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub id: Name,
    pub file: Arc<str>,
    pub line: u64,
    pub column: u64,
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The right to go upstream, and what it obliges to.
#[derive(Debug)]
pub struct Permit {
    policy: PolicyId,
    statement: Option<Placed>,
    min_tls13: bool,
    stream: StreamLimits,
    observed: bool,
    would: Vec<Name>,
}

/// One policy's text, in short: for who keeps something under a policy that may be replaced meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PolicyId(u64);

impl Permit {
    /// The policy that gives it: a reload may come before it is used.
    pub fn policy(&self) -> PolicyId {
        self.policy
    }

    /// The statement that allows it; of several asks, the first's. `None` where it is only observed.
    pub fn statement(&self) -> Option<&Placed> {
        self.statement.as_ref()
    }

    /// The origin must speak TLS 1.3.
    pub fn min_tls13(&self) -> bool {
        self.min_tls13
    }

    /// How long what it opens may be silent, and last.
    pub fn stream_limits(&self) -> StreamLimits {
        self.stream
    }

    /// No statement allows it: `default: report` let it pass.
    pub fn observed(&self) -> bool {
        self.observed
    }

    /// Statements in report mode that would have acted.
    pub fn would(&self) -> &[Name] {
        &self.would
    }
}

/// A refusal by the policy.
#[derive(Debug)]
pub struct Denied {
    pub reason: Reason,
    /// The statement that denies, or the nearest that might have allowed.
    pub statement: Option<Placed>,
    /// One clause for the operator.
    pub said: String,
    pub would: Vec<Name>,
}

#[derive(Debug)]
pub enum Decision {
    Allow(Permit),
    Deny(Denied),
}

/// What one policy file says, indexed.
#[derive(Debug)]
pub struct Policy {
    hash: String,
    id: PolicyId,
    report: bool,
    /// Third parties that no statement names pass and are recorded; AWS is judged all the same.
    report_http: bool,
    perimeter: Perimeter,
    addresses: Vec<(HostPattern, Vec<IpNet>)>,
    /// By id, so that which statement is named depends on no order.
    statements: Vec<Statement>,
    index: Index,
}

impl Policy {
    /// Reads a policy; `name` is what problems are told under, `atlas` what its actions and sets are looked up in.
    /// Gives warnings beside it, or with the errors.
    pub fn read(name: &str, text: &str, atlas: &'static Atlas) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let tree = node::parse(name, text).map_err(|problem| vec![problem])?;
        let read = file::read(name, &tree, atlas)?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let hash = super::hex::text(digest.as_ref());
        Ok(Self::index(read, hash))
    }

    fn index(read: Read, hash: String) -> (Self, Vec<Problem>) {
        let head = hash.get(..16).and_then(|head| u64::from_str_radix(head, 16).ok());
        let mut policy = Self {
            id: PolicyId(head.unwrap_or_default()),
            hash,
            report: read.report,
            report_http: false,
            perimeter: read.perimeter,
            addresses: read.addresses,
            statements: read.statements,
            index: Index::default(),
        };
        policy.file();
        (policy, read.warnings)
    }

    /// Files every statement under what it names.
    fn file(&mut self) {
        self.statements.sort_by(|a, b| a.placed.id.cmp(&b.placed.id));
        self.index = Index::of(&self.statements);
    }

    /// SHA-256 of the text, hex.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub fn id(&self) -> PolicyId {
        self.id
    }

    /// What no statement names passes and is recorded.
    pub fn default_report(&self) -> bool {
        self.report
    }

    /// Private ranges that this host may resolve into.
    pub fn addresses_for(&self, host: &Host) -> Vec<IpNet> {
        let named = self.addresses.iter().filter(|(pattern, _)| pattern.matches_host(host));
        named.flat_map(|(_, ranges)| ranges).copied().collect()
    }

    /// Some allow names this destination's port for its host.
    pub fn names_port(&self, target: &Authority) -> bool {
        self.statements.iter().any(|statement| match &statement.rule {
            Rule::Http(rule) if statement.effect == Effect::Allow && !statement.report => {
                rule.hosts.iter().any(|host| host.matches(target))
            }
            Rule::Tunnel(rule) => !statement.report && rule.target == *target,
            _ => false,
        })
    }

    /// Some allow says that this destination's clients are offered HTTP/2 unseen.
    pub fn names_http2(&self, target: &Authority) -> bool {
        self.statements.iter().any(|statement| match &statement.rule {
            Rule::Http(rule) => statement.http2 && rule.hosts.iter().any(|host| host.matches(target)),
            _ => false,
        })
    }

    /// Decides. Total, and the same for every order of the statements.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let Some(operation) = request.operation else {
            let found = self.find(request, None);
            return self.conclude(request, &[(None, found)]);
        };
        if request.identity.signature == SignatureState::Bad {
            return deny(Reason::SigV4Signature, None, "the signature does not match".to_owned(), Vec::new());
        }
        // An operation that asks for nothing would be allowed by nothing: it is no operation.
        if operation.asks.is_empty() {
            return deny(Reason::PolicyNoMatch, None, "the operation names no action".to_owned(), Vec::new());
        }
        let found = operation.asks.iter().map(|ask| (Some(ask), self.find(request, Some(ask))));
        self.conclude(request, &found.collect::<Vec<_>>())
    }

    /// What the statements say of one ask, or of a request to a third party.
    fn find<'p>(&'p self, request: &Request<'_>, ask: Option<&Ask>) -> Found<'p> {
        let mut found = Found {
            denies: u32::MAX,
            allows: u32::MAX,
            min_tls13: false,
            stream: StreamLimits::default(),
            would: Vec::new(),
        };
        let visit = |at: u32| {
            let statement = &self.statements[at as usize];
            let first = match statement.effect {
                Effect::Deny => &mut found.denies,
                Effect::Allow => &mut found.allows,
            };
            // Another one is only of interest for what it obliges to, or would have done.
            if *first <= at && !statement.report && !statement.min_tls13 && statement.stream.is_none() {
                return;
            }
            let acts = match statement.effect {
                Effect::Deny => statement.denies(request, ask),
                Effect::Allow => statement.allows(request, ask, &self.perimeter) == Fit::Whole,
            };
            if acts && statement.report {
                found.would.push(&statement.placed.id);
            } else if acts {
                *first = at.min(*first);
                found.min_tls13 |= statement.min_tls13;
                found.stream = found.stream.and(statement.stream);
            }
        };
        match ask {
            Some(ask) => self.index.for_ask(ask, visit),
            None => self.index.for_host(request.host, visit),
        }
        found
    }

    /// Every deny before any allow: what is denied is said, not what is missing.
    fn conclude(&self, request: &Request<'_>, all: &[(Option<&Ask>, Found<'_>)]) -> Decision {
        let mut would: Vec<Name> =
            all.iter().flat_map(|(_, found)| &found.would).map(|id| Name::clone(id)).collect();
        would.sort_unstable();
        would.dedup();
        for (ask, found) in all {
            let Some(statement) = self.statements.get(found.denies as usize) else { continue };
            let id = &statement.placed.id;
            let said = match ask {
                Some(ask) => format!("`{id}` denies {} on {}", ask.action, shown(&ask.resource)),
                None => format!("`{id}` denies {} on {}", request.head.method(), request.host),
            };
            return deny(Reason::PolicyDenied, Some(statement), said, would);
        }
        let (mut statement, mut min_tls13, mut stream) = (None, false, StreamLimits::default());
        for (ask, found) in all {
            let Some(by) = self.statements.get(found.allows as usize) else {
                return self.unnamed(request, *ask, would);
            };
            statement.get_or_insert_with(|| by.placed.clone());
            min_tls13 |= found.min_tls13;
            stream = stream.and(found.stream);
        }
        Decision::Allow(Permit { policy: self.id, statement, min_tls13, stream, observed: false, would })
    }

    /// What no statement allows: passed where the policy only observes, refused with its nearest statement otherwise.
    fn unnamed(&self, request: &Request<'_>, ask: Option<&Ask>, would: Vec<Name>) -> Decision {
        let identity = request.identity;
        let inside = || {
            identity.signer.is_none() || request.operation.is_none() || self.perimeter.holds_signer(request)
        };
        let observed = self.report || (self.report_http && request.operation.is_none());
        if observed && inside() {
            let (min_tls13, stream) = Default::default();
            let policy = self.id;
            return Decision::Allow(Permit {
                policy,
                statement: None,
                min_tls13,
                stream,
                observed: true,
                would,
            });
        }
        let (fit, statement) = self.nearest(request, ask);
        let reason = match fit {
            // Nothing else of a verified call would have been refused.
            _ if self.report && identity.signature == SignatureState::Verified => Reason::SigV4Perimeter,
            Fit::ResourcePerimeter => Reason::PolicyPerimeter,
            Fit::Path if http::is_ambiguous(request.head.path()) => Reason::RequestPath,
            Fit::Perimeter => Reason::SigV4Perimeter,
            _ if request.operation.is_none() => Reason::PolicyNoMatch,
            _ if identity.signature == SignatureState::UnknownKey => Reason::SigV4UnknownKey,
            _ if identity.auth == Auth::None => Reason::SigV4Unsigned,
            _ => Reason::PolicyNoMatch,
        };
        let what = match ask {
            Some(ask) => format!("{} on {}", ask.action, shown(&ask.resource)),
            None => format!("{} {}{}", request.head.method(), request.host, request.head.path()),
        };
        let said = match statement {
            Some(statement) => {
                let placed = &statement.placed;
                format!("no statement allows {what}; nearest is `{}` ({placed}): {}", placed.id, fit.said())
            }
            None => format!("no statement allows {what}"),
        };
        deny(reason, statement, said, would)
    }

    /// The statement that came furthest: of those that name the action or host, in whatever field they differ.
    fn nearest(&self, request: &Request<'_>, ask: Option<&Ask>) -> (Fit, Option<&Statement>) {
        let mut nearest = (Fit::Elsewhere, None);
        let mut visit = |at: u32| {
            let statement = &self.statements[at as usize];
            if statement.effect == Effect::Deny {
                return;
            }
            let fit = statement.allows(request, ask, &self.perimeter);
            let before = nearest.1.is_none_or(|found| at < found);
            if !statement.report && fit > Fit::Elsewhere && (fit > nearest.0 || (fit == nearest.0 && before))
            {
                nearest = (fit, Some(at));
            }
        };
        match ask {
            Some(ask) => self.index.of_service(&ask.action, &mut visit),
            None => self.index.for_host(request.host, &mut visit),
        }
        (nearest.0, nearest.1.map(|at| &self.statements[at as usize]))
    }
}

/// What the statements say of one ask: the first by id that denies it, and that allows it, or none ([`u32::MAX`]).
struct Found<'p> {
    denies: u32,
    allows: u32,
    /// Some statement that allows it obliges to these.
    min_tls13: bool,
    stream: StreamLimits,
    would: Vec<&'p Name>,
}

fn deny(reason: Reason, statement: Option<&Statement>, said: String, would: Vec<Name>) -> Decision {
    let statement = statement.map(|statement| statement.placed.clone());
    Decision::Deny(Denied { reason, statement, said, would })
}

fn shown(resource: &Resource) -> &str {
    match resource {
        Resource::Arn { arn, .. } => arn,
        Resource::None => "no resource",
        Resource::Unknown => "a resource that could not be read",
    }
}

#[cfg(test)]
mod tests;
