//! Admission of a destination, before any request: could some request there be allowed?
//!
//! Yes where some allow could match one, what only a request can tell counting as maybe, and no deny surely matches
//! them all. It opens nothing: every request is judged all the same.

use super::condition::Condition;
use super::statement::{Effect, Rule, Statement};
use super::{Placed, Policy};
use crate::engine::facts::Timestamp;
use crate::engine::reason::Reason;
use crate::engine::target::Authority;

/// Where a connection wants to go.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    pub target: &'a Authority,
    /// IAM's prefixes of what the host answers to; `None`: AWS looks at no signature there.
    pub services: Option<&'a [&'a str]>,
    /// It is no endpoint of AWS's own: `http:` statements may name it.
    pub third_party: bool,
    /// The region in the host's name.
    pub region: Option<&'a str>,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// By this statement, among others; `None` where the policy only observes.
    Allow(Option<Placed>),
    Deny {
        reason: Reason,
        statement: Option<Placed>,
        said: String,
    },
}

impl Policy {
    /// Is there a point in connecting?
    pub fn admit(&self, destination: &Destination<'_>) -> Admission {
        match self.tunnel(destination) {
            Some(Ok(permit)) => return Admission::Allow(Some(permit.statement().clone())),
            Some(Err(denied)) => return denied,
            None => {}
        }
        let enforced = || self.statements.iter().filter(|statement| !statement.report);
        let deny = enforced().find(|s| s.effect == Effect::Deny && s.surely_denies_all(destination));
        if let Some(statement) = deny {
            return Admission::Deny {
                reason: Reason::PolicyDenied,
                statement: Some(statement.placed.clone()),
                said: format!("`{}` denies all of {}", statement.placed.id, destination.target),
            };
        }
        match enforced().find(|s| s.effect == Effect::Allow && s.could_allow(destination)) {
            Some(statement) => Admission::Allow(Some(statement.placed.clone())),
            None if self.report => Admission::Allow(None),
            None => Admission::Deny {
                reason: Reason::PolicyNoMatch,
                statement: None,
                said: format!("no statement could allow anything at {}", destination.target),
            },
        }
    }
}

impl Statement {
    fn could_allow(&self, destination: &Destination<'_>) -> bool {
        let named = match (&self.rule, destination.services) {
            (Rule::Aws(rule), Some(services)) => {
                let of = |service: Option<&str>| service.is_none_or(|service| services.contains(&service));
                rule.actions.iter().any(|action| of(action.service()))
                    && (!destination.third_party || self.names_what_is_rented(rule))
            }
            (Rule::Http(rule), _) if destination.third_party => {
                rule.hosts.iter().any(|host| host.matches(destination.target))
            }
            _ => false,
        };
        named
            && !self.is_over(destination.now)
            && self.when.iter().all(|c| known(c, destination) != Some(false))
    }

    fn surely_denies_all(&self, destination: &Destination<'_>) -> bool {
        let all = match (&self.rule, destination.services) {
            // What is signed there and what is not are judged by different statements.
            (_, Some(_)) if destination.third_party => false,
            (Rule::Aws(rule), Some(services)) => {
                let whole = |service: &&str| {
                    rule.actions.iter().any(|action| {
                        action.is_whole_service() && action.service().is_none_or(|named| named == *service)
                    })
                };
                services.iter().all(whole) && rule.resources.iter().any(super::pattern::ArnPattern::is_any)
            }
            (Rule::Http(rule), None) => {
                let hosts = rule.hosts.iter().any(|host| host.matches(destination.target));
                hosts && rule.methods.is_empty() && rule.any_path()
            }
            _ => false,
        };
        all && self.when.iter().all(|condition| known(condition, destination) == Some(true))
    }
}

pub(super) fn known(condition: &Condition, destination: &Destination<'_>) -> Option<bool> {
    condition.holds_for(&destination.target.host, destination.region)
}
