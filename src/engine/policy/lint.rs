//! What is odd about a policy that can be used: statements that can never match, or never matter.
//!
//! Only `check` asks. Says nothing where it isn't sure: each finding is a proof over patterns, not a guess.

use super::action::ActionPattern;
use super::condition::{ASKABLE_SIGNATURES, Condition, Key, Named, Want};
use super::node::{At, Code, Problem, Severity};
use super::statement::{AwsRule, Effect, Rule, Statement, is_bare};
use super::tunnel::TunnelRule;
use super::{Placed, Policy};
use crate::engine::atlas::{Atlas, HostKind};
use crate::engine::facts::{Auth, SignatureState, Timestamp};

impl Policy {
    /// Everything odd, in the file's order.
    pub fn findings(&self, atlas: &'static Atlas, now: Timestamp) -> Vec<Problem> {
        let mut found = Vec::new();
        for statement in &self.statements {
            match (self.idle(statement, now), &statement.rule) {
                (Some(problem), _) => found.push(problem),
                (None, Rule::Aws(rule)) => found.extend(resourceless(statement, rule, atlas)),
                (None, Rule::Http(_)) => {}
                (None, Rule::Tunnel(rule)) => found.extend(unjudged(statement, rule, atlas)),
            }
        }
        found.sort_by_key(|problem| problem.at);
        found
    }

    /// The first thing that makes a statement idle.
    fn idle(&self, statement: &Statement, now: Timestamp) -> Option<Problem> {
        let id = &statement.placed.id;
        Some(if statement.effect == Effect::Allow && statement.is_over(now) {
            warning(statement, Code::Expired, format!("`{id}` has expired: it allows nothing any more"))
        } else if let Some(why) = statement.contradiction() {
            warning(statement, Code::NeverMatches, format!("`{id}` can never match: {why}"))
        } else if let Some(deny) = self.shut_by(statement) {
            let message =
                format!("`{id}` can never allow anything: `{}` ({}) denies all of it", deny.id, place(deny));
            warning(statement, Code::NeverMatches, message)
        } else if let Some(other) = self.shadow_of(statement) {
            let verb = if statement.effect == Effect::Allow { "allows" } else { "denies" };
            let message = format!("`{id}` adds nothing: `{}` ({}) {verb} all of it", other.id, place(other));
            warning(statement, Code::Shadowed, message)
        } else {
            return None;
        })
    }

    /// An enforced deny of all that an allow names.
    fn shut_by(&self, statement: &Statement) -> Option<&Placed> {
        let allows = statement.effect == Effect::Allow && !statement.report;
        let deny =
            |other: &&Statement| other.effect == Effect::Deny && !other.report && other.covers(statement);
        self.statements.iter().filter(|_| allows).find(deny).map(|deny| &deny.placed)
    }

    /// Where `perimeter.resources` is set, how a pattern is written is part of what it allows.
    fn consents_alike(&self, other: &Statement, statement: &Statement) -> bool {
        match (&other.rule, &statement.rule) {
            (Rule::Aws(ours), Rule::Aws(theirs)) if self.perimeter.resources.is_some() => {
                statement.effect == Effect::Deny
                    || theirs.resources.iter().all(|pattern| ours.resources.contains(pattern))
            }
            _ => true,
        }
    }

    /// A statement of the same kind that does all that this one does; of two alike, the first in the file.
    fn shadow_of(&self, statement: &Statement) -> Option<&Placed> {
        let shadows = |other: &&Statement| {
            other.placed.id != statement.placed.id
                && other.effect == statement.effect
                && other.report == statement.report
                && other.lasts_as_long_as(statement)
                && (other.min_tls13 || !statement.min_tls13)
                && (statement.stream.is_none() || other.stream == statement.stream)
                && (other.http2 || !statement.http2)
                && other.covers(statement)
                && self.consents_alike(other, statement)
                && (at(&other.placed) < at(&statement.placed) || !statement.covers(other))
        };
        self.statements.iter().find(shadows).map(|other| &other.placed)
    }
}

fn warning(statement: &Statement, code: Code, message: String) -> Problem {
    finding(statement, Severity::Warning, code, message)
}

fn finding(statement: &Statement, severity: Severity, code: Code, message: String) -> Problem {
    let placed = &statement.placed;
    Problem { file: placed.file.to_string(), at: at(placed), severity, code, message, help: None }
}

fn at(placed: &Placed) -> At {
    At { line: placed.line, column: placed.column }
}

fn place(placed: &Placed) -> String {
    format!("line {}", placed.line)
}

impl Statement {
    fn lasts_as_long_as(&self, other: &Self) -> bool {
        match (self.expires, other.expires) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => ours >= theirs,
        }
    }

    /// Whatever request `other` matches, this matches too.
    fn covers(&self, other: &Self) -> bool {
        // A condition that both have holds for both or for none; a deny's is met by all that an allow's is.
        self.when.iter().all(|condition| other.when.contains(condition))
            && match (&self.rule, &other.rule) {
                (Rule::Aws(ours), Rule::Aws(theirs)) => ours.covers(theirs) && self.passes_signers_of(other),
                (Rule::Http(ours), Rule::Http(theirs)) => ours.covers(theirs),
                (Rule::Tunnel(ours), Rule::Tunnel(theirs)) => ours.target == theirs.target,
                _ => false,
            }
    }

    /// An allow passes only the kinds of signature that it says; a deny asks none.
    fn passes_signers_of(&self, other: &Self) -> bool {
        let says = |statement: &Self| statement.says(Named::Signature, SignatureState::UnknownKey.as_str());
        let bare = |auth: &Auth| is_bare(*auth) && other.says(Named::Auth, auth.as_str());
        self.effect == Effect::Deny
            || ((says(self) || !says(other))
                && Auth::ALL
                    .iter()
                    .filter(|auth| bare(auth))
                    .all(|auth| self.says(Named::Auth, auth.as_str())))
    }

    /// Why no request can meet its conditions, where that is plain.
    fn contradiction(&self) -> Option<&'static str> {
        if let Rule::Http(_) = self.rule {
            let askable = |condition: &Condition| match &condition.key {
                Key::Header(_) | Key::Named(Named::Region | Named::ResourceAccount) => {
                    condition.not && self.effect == Effect::Deny
                }
                Key::Named(_) => true,
            };
            return (!self.when.iter().all(askable)).then_some(
                "only signed headers of AWS calls can be asked, and only those have a region and a resource",
            );
        }
        if self.effect == Effect::Deny || matches!(self.rule, Rule::Tunnel(_)) {
            return None;
        }
        let signatures = |state: SignatureState| self.could_be(Named::Signature, state.as_str());
        let auths = |bare: bool| {
            Auth::ALL.iter().any(|auth| {
                is_bare(*auth) == bare
                    && self.could_be(Named::Auth, auth.as_str())
                    && (!bare || self.says(Named::Auth, auth.as_str()))
            })
        };
        let signed = auths(false)
            && (signatures(SignatureState::Verified)
                || self.says(Named::Signature, SignatureState::UnknownKey.as_str()));
        let bare = auths(true) && signatures(SignatureState::Unsigned);
        (!signed && !bare).then_some(
            "no call has that `auth` with that `signature`; what is not signed is allowed by naming its `auth` (none, bearer, …)",
        )
    }

    /// Its conditions on a closed word leave room for this one.
    fn could_be(&self, key: Named, word: &str) -> bool {
        debug_assert!(
            key != Named::Signature || ASKABLE_SIGNATURES.iter().any(|state| state.as_str() == word)
        );
        let holds = |condition: &Condition| {
            let any =
                condition.wants.iter().any(|want| matches!(want, Want::Text(glob) if glob.matches(word)));
            any != condition.not
        };
        self.when.iter().filter(|condition| condition.key == Key::Named(key)).all(holds)
    }
}

impl AwsRule {
    fn covers(&self, other: &Self) -> bool {
        let action = |theirs: &ActionPattern| self.actions.iter().any(|ours| ours.covers(theirs));
        other.actions.iter().all(action)
            && other.resources.iter().all(|theirs| self.resources.iter().any(|ours| ours.covers(theirs)))
    }
}

/// A tunnel to AWS: whose account signs inside, nobody sees.
fn unjudged(statement: &Statement, rule: &TunnelRule, atlas: &'static Atlas) -> Option<Problem> {
    if matches!(atlas.host(&rule.target.host), HostKind::Outside) {
        return None;
    }
    let message = format!(
        "`{}` tunnels to {}, a host of AWS: whose account signs inside, and what is called, is not seen",
        statement.placed.id, rule.target
    );
    Some(warning(statement, Code::Wide, message))
}

/// Of the actions that a set or pattern names, those that its resources can't be given to.
fn resourceless(statement: &Statement, rule: &AwsRule, atlas: &'static Atlas) -> Option<Problem> {
    if statement.effect == Effect::Deny || rule.resources.iter().any(super::pattern::ArnPattern::is_any) {
        return None;
    }
    let mut said = Vec::new();
    for action in &rule.actions {
        let known = action.known(atlas);
        let none: Vec<_> =
            known.iter().filter(|action| action.no_resource).map(|action| action.name).collect();
        if none.is_empty() || none.len() == known.len() {
            continue;
        }
        let more = if none.len() > 5 { format!(" and {} more", none.len() - 5) } else { String::new() };
        let named = none.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        said.push(format!("{named}{more} of `{action}`"));
    }
    (!said.is_empty()).then(|| {
        let message = format!(
            "`{}` does not allow {}: they take no resource, only `resource: \"*\"` names them",
            statement.placed.id,
            said.join("; ")
        );
        finding(statement, Severity::Note, Code::NoResource, message)
    })
}
