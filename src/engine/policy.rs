//! The policy: statements in, one decision out. Default deny, deny wins, order never matters, unknown is denied.
//!
//! Only this file makes a [`Permit`], so a path that skips the decision does not compile. Pure: what a request is was
//! found out before; nothing here can fail. Cost follows the statements that name a request's service or host, not
//! their number.

mod action;
mod admit;
mod condition;
mod file;
mod http;
mod index;
mod lint;
mod node;
mod pattern;
mod perimeter;
pub mod schema;
mod statement;
mod tunnel;

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

pub use self::admit::{Admission, Destination};
use self::file::Read;
use self::index::Index;
pub use self::node::{At, Code, Problem, Severity};
use self::pattern::{HostPattern, Own};
use self::perimeter::Perimeter;
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
}

impl Request<'_> {
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
    statement: Option<Placed>,
    min_tls13: bool,
    observed: bool,
    would: Vec<Name>,
}

impl Permit {
    /// The statement that allows it; of several asks, the first's. `None` where it is only observed.
    pub fn statement(&self) -> Option<&Placed> {
        self.statement.as_ref()
    }

    /// The origin must speak TLS 1.3.
    pub fn min_tls13(&self) -> bool {
        self.min_tls13
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
    report: bool,
    perimeter: Perimeter,
    addresses: Vec<(HostPattern, Vec<IpNet>)>,
    /// By id, so that which statement is named depends on no order.
    statements: Vec<Statement>,
    denies: Index,
    allows: Index,
}

/// AWS when verified, or by a key of our accounts; nothing else.
const BUILT_IN: &str = r#"version: 1
statements:
  - {id: built-in-verified, effect: allow, action: "*", resource: "*"}
  - {id: built-in-account, effect: allow, action: "*", resource: "*", when: {signature: unknown_key, signer.account: self}}
"#;

impl Policy {
    /// Reads a policy; `name` is what problems are told under, `atlas` what its actions and sets are looked up in.
    /// Gives warnings beside it, or with the errors.
    pub fn read(name: &str, text: &str, atlas: &'static Atlas) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let tree = node::parse(name, text).map_err(|problem| vec![problem])?;
        let read = file::read(name, &tree, atlas)?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let hash = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self::index(read, hash))
    }

    /// What stands where no policy was named.
    pub fn built_in() -> Self {
        Self::read("built-in", BUILT_IN, Atlas::built_in()).expect("the built-in policy is read by a test").0
    }

    fn index(read: Read, hash: String) -> (Self, Vec<Problem>) {
        let mut statements = read.statements;
        statements.sort_by(|a, b| a.placed.id.cmp(&b.placed.id));
        let of = |effect| {
            // A file of 1 MiB holds fewer than 2^32.
            Index::of((0..).zip(&statements).filter(|(_, statement)| statement.effect == effect))
        };
        let policy = Self {
            hash,
            report: read.report,
            perimeter: read.perimeter,
            addresses: read.addresses,
            denies: of(Effect::Deny),
            allows: of(Effect::Allow),
            statements,
        };
        (policy, read.warnings)
    }

    /// SHA-256 of the text, hex.
    pub fn hash(&self) -> &str {
        &self.hash
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

    /// Decides. Total, and the same for every order of the statements.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let mut would = Vec::new();
        let Some(operation) = request.operation else {
            if let Some(denied) = self.denied(request, None, &mut would) {
                return denied;
            }
            return match self.allowed(request, None, &mut would) {
                Some(found) => found.into_decision(would),
                None => self.unnamed(request, None, would),
            };
        };
        if request.identity.signature == SignatureState::Bad {
            return deny(Reason::SigV4Signature, None, "the signature does not match".to_owned(), would);
        }
        // An operation that asks for nothing would be allowed by nothing: it is no operation.
        let Some(first) = operation.asks.first() else {
            return deny(Reason::PolicyNoMatch, None, "the operation names no action".to_owned(), would);
        };
        // Every deny before any allow: what is denied is said, not what is missing.
        for ask in &operation.asks {
            if let Some(denied) = self.denied(request, Some(ask), &mut would) {
                return denied;
            }
        }
        let mut all: Option<Found<'_>> = None;
        for ask in &operation.asks {
            match (self.allowed(request, Some(ask), &mut would), &mut all) {
                (Some(found), None) => all = Some(found),
                (Some(found), Some(all)) => all.min_tls13 |= found.min_tls13,
                (None, _) => return self.unnamed(request, Some(ask), would),
            }
        }
        match all {
            Some(found) => found.into_decision(would),
            None => self.unnamed(request, Some(first), would),
        }
    }

    /// The refusal, where an enforced deny matches.
    fn denied(&self, request: &Request<'_>, ask: Option<&Ask>, would: &mut Vec<Name>) -> Option<Decision> {
        let mut first: Option<u32> = None;
        self.each(&self.denies, request, ask, |at| {
            let statement = &self.statements[at as usize];
            if first.is_some_and(|first| first <= at) || !statement.denies(request, ask) {
            } else if statement.report {
                note(would, &statement.placed.id);
            } else {
                first = Some(at);
            }
        });
        let statement = &self.statements[first? as usize];
        let id = &statement.placed.id;
        let said = match ask {
            Some(ask) => format!("`{id}` denies {} on {}", ask.action, shown(&ask.resource)),
            None => format!("`{id}` denies {} on {}", request.head.method(), request.host),
        };
        Some(deny(Reason::PolicyDenied, Some(statement), said, std::mem::take(would)))
    }

    /// The statement that allows it; what others that allow it oblige to, holds too.
    fn allowed(&self, request: &Request<'_>, ask: Option<&Ask>, would: &mut Vec<Name>) -> Option<Found<'_>> {
        let (mut first, mut min_tls13) = (u32::MAX, false);
        self.each(&self.allows, request, ask, |at| {
            let statement = &self.statements[at as usize];
            // Another one is only of interest for what it obliges to, or would have done.
            if first < at && !statement.report && !statement.min_tls13 {
                return;
            }
            if statement.allows(request, ask, &self.perimeter) != Fit::Whole {
            } else if statement.report {
                note(would, &statement.placed.id);
            } else {
                first = first.min(at);
                min_tls13 |= statement.min_tls13;
            }
        });
        Some(Found { statement: self.statements.get(first as usize)?, min_tls13 })
    }

    fn each(&self, index: &Index, request: &Request<'_>, ask: Option<&Ask>, visit: impl FnMut(u32)) {
        match ask {
            Some(ask) => index.for_ask(ask).for_each(visit),
            None => index.for_host(request.host).for_each(visit),
        }
    }

    /// What no statement allows: passed where the policy only observes, refused with its nearest statement otherwise.
    fn unnamed(&self, request: &Request<'_>, ask: Option<&Ask>, would: Vec<Name>) -> Decision {
        let identity = request.identity;
        let outside = identity.signer.is_some()
            && request.operation.is_some()
            && !self.perimeter.holds_signer(identity, request.own());
        if self.report && !outside {
            return Decision::Allow(Permit { statement: None, min_tls13: false, observed: true, would });
        }
        let (fit, statement) = self.nearest(request, ask);
        let reason = match fit {
            // Everything else would have passed.
            _ if self.report => Reason::SigV4Perimeter,
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
            let fit = statement.allows(request, ask, &self.perimeter);
            let before = nearest.1.is_none_or(|found| at < found);
            if !statement.report && fit > Fit::Elsewhere && (fit > nearest.0 || (fit == nearest.0 && before))
            {
                nearest = (fit, Some(at));
            }
        };
        match ask {
            Some(ask) => self.allows.of_service(&ask.action).for_each(&mut visit),
            None => self.allows.for_host(request.host).for_each(&mut visit),
        }
        (nearest.0, nearest.1.map(|at| &self.statements[at as usize]))
    }
}

/// What allows an ask.
struct Found<'p> {
    statement: &'p Statement,
    min_tls13: bool,
}

impl Found<'_> {
    fn into_decision(self, mut would: Vec<Name>) -> Decision {
        would.sort_unstable();
        let statement = Some(self.statement.placed.clone());
        Decision::Allow(Permit { statement, min_tls13: self.min_tls13, observed: false, would })
    }
}

/// A statement that would have acted is told once.
fn note(would: &mut Vec<Name>, id: &Name) {
    if !would.contains(id) {
        would.push(Name::clone(id));
    }
}

fn deny(reason: Reason, statement: Option<&Statement>, said: String, mut would: Vec<Name>) -> Decision {
    let statement = statement.map(|statement| statement.placed.clone());
    would.sort_unstable();
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
