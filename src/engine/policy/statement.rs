//! One statement: what it is about, and whether it denies or allows an ask.

use std::time::Duration;

use super::action::ActionPattern;
use super::built_in::SignIn;
use super::condition::{Condition, Held, Named};
use super::http::HttpRule;
use super::pattern::{ArnPattern, Own};
use super::perimeter::Perimeter;
use super::tunnel::TunnelRule;
use super::{Ask, Placed, Request};
use crate::engine::atlas::HostKind;
use crate::engine::facts::{Auth, Resource, SignatureState, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

#[derive(Debug)]
pub enum Rule {
    Aws(AwsRule),
    Http(HttpRule),
    Tunnel(TunnelRule),
}

#[derive(Debug)]
pub struct AwsRule {
    pub actions: Vec<ActionPattern>,
    pub resources: Vec<ArnPattern>,
}

#[derive(Debug)]
pub struct Statement {
    pub placed: Placed,
    pub effect: Effect,
    pub rule: Rule,
    pub when: Vec<Condition>,
    pub report: bool,
    /// First second in which it no longer stands.
    pub expires: Option<i64>,
    pub min_tls13: bool,
    pub stream: StreamLimits,
    /// Its hosts' clients are offered HTTP/2 unseen.
    pub http2: bool,
    /// One of the set `sdk-sign-in`.
    pub sign_in: Option<SignIn>,
}

/// How long an answer, or a connection that went on in another protocol, may be silent, and last. `None`: nothing is
/// said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamLimits {
    pub idle: Option<Duration>,
    pub life: Option<Duration>,
}

impl StreamLimits {
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// What holds where both do.
    pub fn and(self, other: Self) -> Self {
        let least = |a: Option<Duration>, b| a.into_iter().chain(b).min();
        Self { idle: least(self.idle, other.idle), life: least(self.life, other.life) }
    }
}

/// How far a statement that might have allowed came; the furthest is named in the refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// It names other actions, hosts or methods.
    Elsewhere,
    Resource,
    Path,
    Expired,
    Condition,
    Signature,
    Perimeter,
    ResourcePerimeter,
    Whole,
}

impl Fit {
    /// Which field differed.
    pub fn said(self) -> &'static str {
        match self {
            Self::Elsewhere => "it names other actions, hosts or methods",
            Self::Expired => "it has expired",
            Self::Resource => "it names other resources",
            Self::Path => "it names other paths, or this one can be read in two ways",
            Self::Condition => "its `when` does not hold",
            Self::Signature => "it wants a verified signature",
            Self::Perimeter => "the signer is outside the perimeter",
            Self::ResourcePerimeter => "the resource's account is outside the perimeter, or not known",
            Self::Whole => "it allows it",
        }
    }
}

impl AwsRule {
    fn could_be_on(&self, resource: &Resource, own: Own<'_>) -> bool {
        self.resources.iter().any(|pattern| match resource {
            Resource::Arn { arn, .. } => pattern.could_match(arn, own),
            Resource::None => pattern.is_any(),
            Resource::Unknown => true,
        })
    }

    /// The patterns that surely name a resource.
    fn on<'a>(&'a self, resource: &'a Resource, own: Own<'a>) -> impl Iterator<Item = &'a ArnPattern> {
        self.resources.iter().filter(move |pattern| match resource {
            Resource::Arn { arn, .. } => pattern.matches(arn, own),
            Resource::None | Resource::Unknown => pattern.is_any(),
        })
    }
}

impl Statement {
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| now.0 >= end)
    }

    fn conditions_hold(&self, request: &Request<'_>, ask: Option<&Ask>) -> bool {
        let (mut all, mut untold) = (true, false);
        for condition in &self.when {
            match condition.holds(request, ask, self.effect == Effect::Deny) {
                Held::Known(true) => {}
                // Whatever is not known changes nothing.
                Held::Known(false) => return false,
                Held::Untold(held) => (all, untold) = (all && held, true),
            }
        }
        if untold && !self.report {
            request.want_signer(self.effect);
        }
        all
    }

    /// A deny means what it names and what it could name.
    pub fn denies(&self, request: &Request<'_>, ask: Option<&Ask>) -> bool {
        let named = match (&self.rule, ask) {
            (Rule::Aws(rule), Some(ask)) => {
                rule.actions.iter().any(|action| action.matches(&ask.action, false))
                    && rule.could_be_on(&ask.resource, request.own())
            }
            (Rule::Http(rule), None) => rule.could_match(request),
            _ => false,
        };
        let denies = named && self.conditions_hold(request, ask);
        if denies && !self.report && self.turns_on_account(request, ask) {
            request.want_signer(Effect::Deny);
        }
        denies
    }

    /// It names the resource only if the signer's account, which could be asked for, is the one that it names.
    fn turns_on_account(&self, request: &Request<'_>, ask: Option<&Ask>) -> bool {
        let (Rule::Aws(rule), Some(Ask { resource: resource @ Resource::Arn { arn, .. }, .. })) =
            (&self.rule, ask)
        else {
            return false;
        };
        request.account_is_untold()
            && rule.on(resource, request.own()).next().is_none()
            && rule.resources.iter().any(|pattern| pattern.could_be_of_signer(arn, request.own()))
    }

    /// An allow means only what it surely names; of AWS, signed by somebody inside the perimeter.
    pub fn allows(&self, request: &Request<'_>, ask: Option<&Ask>, perimeter: &Perimeter) -> Fit {
        match (&self.rule, ask) {
            (Rule::Aws(rule), Some(ask)) => self.allows_ask(rule, request, ask, perimeter),
            (Rule::Http(rule), None) => match rule.fit(request) {
                Fit::Whole if self.is_over(request.now) => Fit::Expired,
                Fit::Whole if !self.conditions_hold(request, None) => Fit::Condition,
                fit => fit,
            },
            _ => Fit::Elsewhere,
        }
    }

    fn allows_ask(&self, rule: &AwsRule, request: &Request<'_>, ask: &Ask, perimeter: &Perimeter) -> Fit {
        if !rule.actions.iter().any(|action| action.matches(&ask.action, true)) {
            return Fit::Elsewhere;
        }
        let own = request.own();
        let rented = matches!(request.arrival.kind, HostKind::Rented(_));
        if rented && !self.names_what_is_rented(rule) {
            return Fit::Resource;
        }
        if rule.on(&ask.resource, own).next().is_none() {
            let could =
                !self.report && !self.is_over(request.now) && self.turns_on_account(request, Some(ask));
            if could && self.conditions_hold(request, Some(ask)) {
                request.want_signer(Effect::Allow);
            }
            return Fit::Resource;
        }
        if self.is_over(request.now) {
            return Fit::Expired;
        }
        if !self.conditions_hold(request, Some(ask)) {
            return Fit::Condition;
        }
        let identity = request.identity;
        match identity.signature {
            SignatureState::Verified => {}
            SignatureState::UnknownKey
                if self.says(Named::Signature, SignatureState::UnknownKey.as_str()) => {}
            // Kinds without a signer lie outside the perimeter: the statement that names the kind is the consent.
            SignatureState::Unsigned
                if is_bare(identity.auth) && self.says(Named::Auth, identity.auth.as_str()) =>
            {
                return self.within(rule, request, ask, perimeter);
            }
            SignatureState::UnknownKey | SignatureState::Unsigned | SignatureState::Bad => {
                return Fit::Signature;
            }
        }
        if !perimeter.holds_signer(request) {
            return Fit::Perimeter;
        }
        self.within(rule, request, ask, perimeter)
    }

    /// What anybody can rent is opened by its own name alone, not by a star that covers it: an API's id in the resource,
    /// or the host in a condition.
    pub fn names_what_is_rented(&self, rule: &AwsRule) -> bool {
        rule.resources.iter().all(ArnPattern::names_literally) || self.when.iter().any(Condition::names_hosts)
    }

    fn within(&self, rule: &AwsRule, request: &Request<'_>, ask: &Ask, perimeter: &Perimeter) -> Fit {
        match self.sign_in {
            Some(SignIn::Inside) if !perimeter.holds_account(&ask.resource, request.own()) => {
                return Fit::ResourcePerimeter;
            }
            // These calls are about keys and have nothing of anybody's for a resource.
            Some(SignIn::Any) if ask.resource == Resource::Unknown => return Fit::Whole,
            _ => {}
        }
        if perimeter.resources.is_none() {
            return Fit::Whole;
        }
        let mut by = rule.on(&ask.resource, request.own());
        if by.any(|by| perimeter.holds_resource(request, ask, by)) {
            Fit::Whole
        } else {
            Fit::ResourcePerimeter
        }
    }

    /// Its `when` says this very word.
    pub fn says(&self, key: Named, word: &str) -> bool {
        self.when.iter().any(|condition| condition.says(key, word))
    }
}

/// A kind of call that carries no signature.
pub fn is_bare(auth: Auth) -> bool {
    matches!(auth, Auth::Bearer | Auth::Basic | Auth::Token | Auth::None)
}
