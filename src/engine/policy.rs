//! The policy: statements in, one decision out. Default deny, deny wins, order never matters, unknown is denied.
//!
//! Only this file makes a [`Permit`], so a path that skips the decision does not compile. Pure: what a request is was
//! found out before; nothing here can fail. Cost follows the statements that name a request's service or host, not
//! their number.

mod admit;
mod condition;
mod file;
mod node;
mod pattern;

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;

pub use self::admit::{Admission, Destination};
use self::condition::Condition;
use self::file::Read;
pub use self::node::{At, Problem};
use self::pattern::{ArnPattern, Glob, HostPattern, Own};
use super::facts::{
    AccountId, Action, Arrival, Ask, Auth, Identity, Name, Operation, Resource, SignatureState, Timestamp,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

/// Accounts: ours, and some by number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Accounts {
    ours: bool,
    named: Vec<AccountId>,
}

impl Accounts {
    const OURS: Self = Self { ours: true, named: Vec::new() };

    fn holds(&self, account: Option<AccountId>, own: Own<'_>) -> bool {
        account.is_some_and(|account| {
            self.named.contains(&account) || (self.ours && own.accounts.contains(&account))
        })
    }
}

#[derive(Debug)]
struct Perimeter {
    signers: Accounts,
    /// `None`: resources are not asked.
    resources: Option<Accounts>,
}

impl Default for Perimeter {
    fn default() -> Self {
        Self { signers: Accounts::OURS, resources: None }
    }
}

/// `service:Name`, with wildcards in the name; `*` alone is every action of AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ActionPattern {
    /// `None`: every service.
    service: Option<Box<str>>,
    name: Glob,
}

impl ActionPattern {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self { service: None, name: Glob::new("*") });
        }
        let want = || format!("`{text}` is no action; want `service:Name`, such as s3:GetObject, or `*`");
        let (service, name) = text.split_once(':').ok_or_else(want)?;
        if name.starts_with('@') {
            return Err(format!("`{text}`: access-level sets are not supported by this version"));
        }
        let plain = !service.is_empty() && service.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let named =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'*' || b == b'?');
        if !plain || !named {
            return Err(want());
        }
        Ok(Self { service: Some(service.to_ascii_lowercase().into()), name: Glob::new(name) })
    }

    fn is_any(&self) -> bool {
        self.service.is_none()
    }

    /// `allow`: an unknown action is named only by all of its service; a deny could mean it in any case.
    fn matches(&self, action: &Action, allow: bool) -> bool {
        match action {
            Action::Known(whole) => {
                let (service, name) = whole.split_once(':').unwrap_or((whole, ""));
                self.of(service) && (self.name.is_any() || self.name.matches_ignoring_case(name))
            }
            Action::Unknown(service) => self.of(service) && (!allow || self.name.is_any()),
        }
    }

    fn of(&self, service: &str) -> bool {
        self.service.as_ref().is_none_or(|own| **own == *service)
    }
}

#[derive(Debug)]
struct HttpRule {
    hosts: Vec<HostPattern>,
    /// Empty: any.
    methods: Vec<Box<str>>,
    paths: Vec<Glob>,
    any_path: bool,
}

#[derive(Debug)]
enum Rule {
    Aws { actions: Vec<ActionPattern>, resources: Vec<ArnPattern> },
    Http(HttpRule),
}

#[derive(Debug)]
struct Statement {
    placed: Placed,
    effect: Effect,
    rule: Rule,
    when: Vec<Condition>,
    /// `when` asks for the signature's state.
    signature: bool,
    /// `when` names a kind of call without a signature.
    bare: bool,
    report: bool,
    /// First second in which it no longer stands.
    expires: Option<i64>,
    min_tls13: bool,
}

/// How far a statement that might have allowed came; the furthest is named in the refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// It names other actions, hosts or methods.
    Elsewhere,
    Expired,
    Resource,
    Path,
    Condition,
    Signature,
    Perimeter,
    ResourcePerimeter,
    Whole,
}

/// What one policy file says, indexed.
#[derive(Debug)]
pub struct Policy {
    hash: String,
    report: bool,
    perimeter: Perimeter,
    addresses: HashMap<Host, Vec<IpNet>>,
    statements: Vec<Statement>,
    /// Statements by the service that they name.
    services: HashMap<Box<str>, Vec<u32>>,
    /// Those that name every service.
    any_service: Vec<u32>,
    /// `http` statements by their host's last two labels.
    hosts: HashMap<Box<str>, Vec<u32>>,
    any_host: Vec<u32>,
}

/// AWS when verified, or by a key of our accounts; nothing else.
const BUILT_IN: &str = r#"version: 1
statements:
  - {id: built-in-verified, effect: allow, action: "*", resource: "*"}
  - {id: built-in-account, effect: allow, action: "*", resource: "*", when: {signature: unknown_key, signer.account: self}}
"#;

impl Policy {
    /// Reads a policy; `name` is what problems are told under. Gives warnings beside it.
    pub fn read(name: &str, text: &str) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let tree = node::parse(name, text).map_err(|problem| vec![problem])?;
        let read = file::read(name, &tree)?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let hash = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self::index(read, hash))
    }

    /// What stands where no policy was named.
    pub fn built_in() -> Self {
        Self::read("built-in", BUILT_IN).expect("the built-in policy is read by a test").0
    }

    fn index(read: Read, hash: String) -> (Self, Vec<Problem>) {
        let mut policy = Self {
            hash,
            report: read.report,
            perimeter: read.perimeter,
            addresses: read.addresses.into_iter().collect(),
            statements: read.statements,
            services: HashMap::new(),
            any_service: Vec::new(),
            hosts: HashMap::new(),
            any_host: Vec::new(),
        };
        for (at, statement) in policy.statements.iter().enumerate() {
            let at = at as u32; // a file of 1 MiB holds fewer
            match &statement.rule {
                Rule::Aws { actions, .. } if actions.iter().any(ActionPattern::is_any) => {
                    policy.any_service.push(at);
                }
                Rule::Aws { actions, .. } => {
                    for service in actions.iter().filter_map(|action| action.service.as_ref()) {
                        file_under(policy.services.entry(service.clone()).or_default(), at);
                    }
                }
                Rule::Http(rule) if rule.hosts.iter().any(|host| host.key().is_none()) => {
                    policy.any_host.push(at);
                }
                Rule::Http(rule) => {
                    for key in rule.hosts.iter().filter_map(HostPattern::key) {
                        file_under(policy.hosts.entry(key.into()).or_default(), at);
                    }
                }
            }
        }
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
    pub fn addresses_for(&self, host: &Host) -> &[IpNet] {
        self.addresses.get(host).map_or(&[], Vec::as_slice)
    }

    /// Some allow names this destination's port for its host.
    pub fn names_port(&self, target: &Authority) -> bool {
        self.statements.iter().any(|statement| match &statement.rule {
            Rule::Http(rule) if statement.effect == Effect::Allow && !statement.report => {
                rule.hosts.iter().any(|host| host.matches(target))
            }
            _ => false,
        })
    }

    /// Decides. Total, and the same for every order of the statements.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        match request.operation {
            Some(operation) => self.decide_aws(request, operation),
            None => self.decide_http(request),
        }
    }

    fn decide_aws(&self, request: &Request<'_>, operation: &Operation) -> Decision {
        let mut would = Vec::new();
        if request.identity.signature == SignatureState::Bad {
            return deny(Reason::SigV4Signature, None, "the signature does not match".to_owned(), would);
        }
        for ask in &operation.asks {
            for statement in self.of_service(service(&ask.action)).filter(|s| s.effect == Effect::Deny) {
                if !statement.denies(request, ask) {
                } else if statement.report {
                    would.push(statement.placed.id.clone());
                } else {
                    let said = format!(
                        "`{}` denies {} on {}",
                        statement.placed.id,
                        ask.action,
                        shown(&ask.resource)
                    );
                    return deny(Reason::PolicyDenied, Some(statement), said, would);
                }
            }
        }
        // An operation that asks for nothing would be allowed by nothing: it is no operation.
        if operation.asks.is_empty() {
            return deny(Reason::PolicyNoMatch, None, "the operation names no action".to_owned(), would);
        }
        let (mut first, mut min_tls13) = (None, false);
        for ask in &operation.asks {
            let mut nearest = (Fit::Elsewhere, None);
            for statement in self.of_service(service(&ask.action)).filter(|s| s.effect == Effect::Allow) {
                let fit = statement.allows(request, ask, &self.perimeter);
                if fit == Fit::Whole && statement.report {
                    would.push(statement.placed.id.clone());
                } else if fit > nearest.0 {
                    nearest = (fit, Some(statement));
                    if fit == Fit::Whole {
                        break;
                    }
                }
            }
            match nearest {
                (Fit::Whole, Some(statement)) => {
                    min_tls13 |= statement.min_tls13;
                    first = first.or(Some(statement));
                }
                (fit, statement) => return self.unnamed(request, Some(ask), fit, statement, would),
            }
        }
        allow(first, min_tls13, would)
    }

    fn decide_http(&self, request: &Request<'_>) -> Decision {
        let mut would = Vec::new();
        for statement in self.of_host(request.host).filter(|s| s.effect == Effect::Deny) {
            let Rule::Http(rule) = &statement.rule else { continue };
            let hit = rule.could_match(request) && statement.conditions_hold(request, None);
            if hit && statement.report {
                would.push(statement.placed.id.clone());
            } else if hit {
                let said =
                    format!("`{}` denies {} on {}", statement.placed.id, request.head.method(), request.host);
                return deny(Reason::PolicyDenied, Some(statement), said, would);
            }
        }
        let mut nearest = (Fit::Elsewhere, None);
        for statement in self.of_host(request.host).filter(|s| s.effect == Effect::Allow) {
            let Rule::Http(rule) = &statement.rule else { continue };
            let fit = match rule.fit(request) {
                Fit::Whole if statement.is_over(request.now) => Fit::Expired,
                Fit::Whole if !statement.conditions_hold(request, None) => Fit::Condition,
                fit => fit,
            };
            if fit == Fit::Whole && statement.report {
                would.push(statement.placed.id.clone());
            } else if fit == Fit::Whole {
                return allow(Some(statement), statement.min_tls13, would);
            } else if fit > nearest.0 {
                nearest = (fit, Some(statement));
            }
        }
        self.unnamed(request, None, nearest.0, nearest.1, would)
    }

    /// What no statement allows: passed where the policy only observes, refused with its nearest statement otherwise.
    fn unnamed(
        &self,
        request: &Request<'_>,
        ask: Option<&Ask>,
        fit: Fit,
        statement: Option<&Statement>,
        would: Vec<Name>,
    ) -> Decision {
        let identity = request.identity;
        let outside = identity.signer.is_some()
            && request.operation.is_some()
            && !self.perimeter.holds_signer(identity, request.own());
        if self.report && !outside {
            return Decision::Allow(Permit { statement: None, min_tls13: false, observed: true, would });
        }
        let reason = match fit {
            Fit::ResourcePerimeter => Reason::PolicyPerimeter,
            Fit::Path if path_is_ambiguous(request.head.path()) => Reason::RequestPath,
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
                let place = format!("{}:{}:{}", placed.file, placed.line, placed.column);
                format!("no statement allows {what}; nearest is `{}` ({place}): {}", placed.id, fit.said())
            }
            None => format!("no statement allows {what}"),
        };
        deny(reason, statement, said, would)
    }

    fn of_service<'p>(&'p self, service: &str) -> impl Iterator<Item = &'p Statement> {
        let named = self.services.get(service).map_or(&[][..], Vec::as_slice);
        named.iter().chain(&self.any_service).map(|&at| &self.statements[at as usize])
    }

    fn of_host<'p>(&'p self, host: &Authority) -> impl Iterator<Item = &'p Statement> {
        let key = host.host.as_name().and_then(|name| {
            let last = name.rfind('.')?;
            Some(name[..last].rfind('.').map_or(name, |at| &name[at + 1..]))
        });
        let named = key.and_then(|key| self.hosts.get(key)).map_or(&[][..], Vec::as_slice);
        named.iter().chain(&self.any_host).map(|&at| &self.statements[at as usize])
    }
}

/// A statement that names a service or host twice is filed once.
fn file_under(filed: &mut Vec<u32>, at: u32) {
    if filed.last() != Some(&at) {
        filed.push(at);
    }
}

fn allow(statement: Option<&Statement>, min_tls13: bool, would: Vec<Name>) -> Decision {
    let statement = statement.map(|statement| statement.placed.clone());
    Decision::Allow(Permit { statement, min_tls13, observed: false, would })
}

fn deny(reason: Reason, statement: Option<&Statement>, said: String, would: Vec<Name>) -> Decision {
    let statement = statement.map(|statement| statement.placed.clone());
    Decision::Deny(Denied { reason, statement, said, would })
}

fn service(action: &Action) -> &str {
    match action {
        Action::Known(whole) => whole.split_once(':').map_or(whole, |(service, _)| service),
        Action::Unknown(service) => service,
    }
}

fn shown(resource: &Resource) -> &str {
    match resource {
        Resource::Arn { arn, .. } => arn,
        Resource::None => "no resource",
        Resource::Unknown => "a resource that could not be read",
    }
}

impl Perimeter {
    /// Whose keys may sign: the keys we were given where our accounts may, and the accounts that are named.
    fn holds_signer(&self, identity: &Identity, own: Own<'_>) -> bool {
        identity.signer.as_ref().is_some_and(|signer| {
            (self.signers.ours && signer.own) || self.signers.holds(signer.account, own)
        })
    }

    /// `by`: the pattern that named the resource. Where the resource has no account, its literal name is the consent,
    /// or a signed `x-amz-expected-bucket-owner` inside.
    fn holds_resource(&self, request: &Request<'_>, resource: &Resource, by: &ArnPattern) -> bool {
        let Some(inside) = &self.resources else { return true };
        match resource {
            Resource::None => true,
            Resource::Unknown => false,
            Resource::Arn { account: Some(account), .. } => inside.holds(Some(*account), request.own()),
            Resource::Arn { account: None, .. } if by.names_literally() => true,
            Resource::Arn { account: None, .. } => {
                const OWNER: &str = "x-amz-expected-bucket-owner";
                let owner = request.head.only_text(OWNER).filter(|_| (request.signed_header)(OWNER));
                inside.holds(owner.and_then(AccountId::parse), request.own())
            }
        }
    }
}

impl Statement {
    fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| now.0 >= end)
    }

    fn conditions_hold(&self, request: &Request<'_>, ask: Option<&Ask>) -> bool {
        self.when.iter().all(|condition| condition.holds(request, ask, self.effect == Effect::Deny))
    }

    /// A deny means what it names and what it could name.
    fn denies(&self, request: &Request<'_>, ask: &Ask) -> bool {
        let Rule::Aws { actions, resources } = &self.rule else { return false };
        let own = request.own();
        actions.iter().any(|action| action.matches(&ask.action, false))
            && resources.iter().any(|pattern| match &ask.resource {
                Resource::Arn { arn, .. } => pattern.could_match(arn, own),
                Resource::None => pattern.is_any(),
                Resource::Unknown => true,
            })
            && self.conditions_hold(request, Some(ask))
    }

    /// An allow means only what it surely names, signed by somebody inside the perimeter.
    fn allows(&self, request: &Request<'_>, ask: &Ask, perimeter: &Perimeter) -> Fit {
        let Rule::Aws { actions, resources } = &self.rule else { return Fit::Elsewhere };
        if !actions.iter().any(|action| action.matches(&ask.action, true)) {
            return Fit::Elsewhere;
        }
        if self.is_over(request.now) {
            return Fit::Expired;
        }
        let own = request.own();
        let mut named = resources.iter().filter(|pattern| match &ask.resource {
            Resource::Arn { arn, .. } => pattern.matches(arn, own),
            Resource::None | Resource::Unknown => pattern.is_any(),
        });
        let Some(first) = named.next() else { return Fit::Resource };
        if !self.conditions_hold(request, Some(ask)) {
            return Fit::Condition;
        }
        let identity = request.identity;
        let signed = identity.signature == SignatureState::Verified;
        // Kinds without a signer lie outside the perimeter: the statement that names the kind is the consent.
        let consented =
            self.bare && matches!(identity.auth, Auth::Bearer | Auth::Basic | Auth::Token | Auth::None);
        if !(signed || self.signature || consented) {
            return Fit::Signature;
        }
        if !consented && !perimeter.holds_signer(identity, own) {
            return Fit::Perimeter;
        }
        if !std::iter::once(first).chain(named).any(|by| perimeter.holds_resource(request, &ask.resource, by))
        {
            return Fit::ResourcePerimeter;
        }
        Fit::Whole
    }
}

impl HttpRule {
    fn names(&self, request: &Request<'_>) -> bool {
        let method = request.head.method();
        self.hosts.iter().any(|host| host.matches(request.host))
            && (self.methods.is_empty() || self.methods.iter().any(|named| **named == *method))
    }

    fn fit(&self, request: &Request<'_>) -> Fit {
        if !self.names(request) || (!self.methods.is_empty() && overrides_method(request.head)) {
            return Fit::Elsewhere;
        }
        let path = request.head.path();
        if self.any_path {
            return Fit::Whole;
        }
        // What two readers read in two ways is not surely named.
        let named = !path_is_ambiguous(path) && self.paths.iter().any(|glob| glob.matches(path));
        if named { Fit::Whole } else { Fit::Path }
    }

    fn could_match(&self, request: &Request<'_>) -> bool {
        let hosts = self.hosts.iter().any(|host| host.matches(request.host));
        let path = request.head.path();
        hosts
            && (self.names(request) || overrides_method(request.head))
            && (self.any_path || path_is_ambiguous(path) || self.paths.iter().any(|glob| glob.matches(path)))
    }
}

fn overrides_method(head: &RequestHead) -> bool {
    ["x-http-method-override", "x-http-method", "x-method-override"].iter().any(|name| head.has(name))
}

/// Dot segments, empty segments, `\`, `;`, and their escapes: servers disagree on what these mean.
fn path_is_ambiguous(path: &str) -> bool {
    let escaped = |code: &str| path.as_bytes().windows(3).any(|w| w.eq_ignore_ascii_case(code.as_bytes()));
    path.contains("//")
        || path.contains(['\\', ';'])
        || path.split('/').any(|segment| segment == "." || segment == "..")
        || ["%2f", "%5c", "%2e"].iter().any(|code| escaped(code))
}

impl Fit {
    fn said(self) -> &'static str {
        match self {
            Self::Elsewhere => "it names other actions, hosts or methods",
            Self::Expired => "it has expired",
            Self::Resource => "it names other resources",
            Self::Path => "it names other paths, or this one can be read in two ways",
            Self::Condition => "its `when` does not hold",
            Self::Signature => "it wants a verified signature",
            Self::Perimeter => "the signer is outside the perimeter",
            Self::ResourcePerimeter => "the resource's account is outside the perimeter",
            Self::Whole => "it allows it",
        }
    }
}

#[cfg(test)]
mod tests;
