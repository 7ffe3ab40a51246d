//! `tunnel:` one host and port whose bytes pass unread; the floor is held by reading both hellos.
//!
//! What is inside a tunnel is unknown, so every deny that could match there matches. Only this file makes a
//! [`TunnelPermit`], which `proxy/tunnel.rs` demands.

use std::time::Duration;

use super::admit::{Admission, Destination};
use super::statement::{Effect, Rule, Statement};
use super::{Placed, Policy, PolicyId};
use crate::engine::reason::Reason;
use crate::engine::target::Authority;

#[derive(Debug)]
pub struct TunnelRule {
    pub target: Authority,
    pub limits: TunnelLimits,
    /// An encrypted ClientHello may pass: GREASE looks like a real one from outside.
    pub ech: bool,
}

/// When a tunnel ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelLimits {
    /// Nothing went either way for this long.
    pub idle: Duration,
    pub life: Duration,
    /// Of both ways together; `None`: as many as come.
    pub bytes: Option<u64>,
}

impl Default for TunnelLimits {
    fn default() -> Self {
        Self {
            // Past the 350 s after which NAT gateways and load balancers of AWS forget a quiet connection.
            idle: Duration::from_secs(600),
            // What was allowed yesterday is asked again.
            life: Duration::from_secs(24 * 3600),
            bytes: None,
        }
    }
}

/// The right to pass bytes unread to one destination.
#[derive(Debug)]
pub struct TunnelPermit {
    id: PolicyId,
    policy: String,
    placed: Placed,
    min_tls13: bool,
    limits: TunnelLimits,
    ech: bool,
}

impl TunnelPermit {
    /// Hash of the policy that gives it: a reload may come before it is used.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    pub fn policy_id(&self) -> PolicyId {
        self.id
    }

    pub fn statement(&self) -> &Placed {
        &self.placed
    }

    /// The origin must choose TLS 1.3.
    pub fn min_tls13(&self) -> bool {
        self.min_tls13
    }

    pub fn limits(&self) -> TunnelLimits {
        self.limits
    }

    /// An encrypted ClientHello may pass.
    pub fn ech(&self) -> bool {
        self.ech
    }
}

impl Policy {
    /// The right to a tunnel, where a statement names this very destination and nothing could deny what is inside.
    /// `None`: it is intercepted, as everything else is.
    pub fn tunnel(&self, destination: &Destination<'_>) -> Option<Result<TunnelPermit, Admission>> {
        let (statement, rule) = self.tunnels().find(|(statement, rule)| {
            rule.target == *destination.target && !statement.is_over(destination.now)
        })?;
        let deny = self.statements.iter().find(|s| !s.report && s.could_deny_at(destination));
        Some(match deny {
            Some(deny) => Err(Admission::Deny {
                reason: Reason::PolicyDenied,
                said: format!(
                    "`{}` tunnels to {}, and `{}` could deny what is inside",
                    statement.placed.id, rule.target, deny.placed.id
                ),
                statement: Some(deny.placed.clone()),
            }),
            None => Ok(TunnelPermit {
                id: self.id,
                policy: self.hash.clone(),
                placed: statement.placed.clone(),
                min_tls13: statement.min_tls13,
                limits: rule.limits,
                ech: rule.ech,
            }),
        })
    }

    /// Ids and destinations that are not looked into: said at start.
    pub fn tunnelled(&self) -> impl Iterator<Item = (&Placed, &Authority)> {
        self.tunnels().map(|(statement, rule)| (&statement.placed, &rule.target))
    }

    fn tunnels(&self) -> impl Iterator<Item = (&Statement, &TunnelRule)> {
        self.statements.iter().filter(|statement| !statement.report).filter_map(|statement| match &statement
            .rule
        {
            Rule::Tunnel(rule) => Some((statement, rule)),
            _ => None,
        })
    }
}

impl Statement {
    /// Some request there could be denied by it.
    fn could_deny_at(&self, destination: &Destination<'_>) -> bool {
        let named = match (&self.rule, destination.services) {
            (Rule::Aws(rule), Some(services)) => rule
                .actions
                .iter()
                .any(|action| action.service().is_none_or(|service| services.contains(&service))),
            (Rule::Http(rule), _) if destination.third_party => {
                rule.hosts.iter().any(|host| host.matches(destination.target))
            }
            _ => false,
        };
        let could = |condition| super::admit::known(condition, destination) != Some(false);
        self.effect == Effect::Deny && named && self.when.iter().all(could)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::atlas::Atlas;
    use crate::engine::facts::Timestamp;
    use crate::engine::{self, Course};

    fn course(statements: &str, target: &str) -> Result<Option<TunnelPermit>, Reason> {
        let text = format!("version: 1\nstatements:\n{statements}");
        let policy = Policy::read("test", &text, Atlas::built_in()).unwrap().0;
        let target = Authority::parse(target, None).unwrap();
        match engine::course(&policy, Atlas::built_in(), &target, Timestamp(1_790_000_000)) {
            Course::Intercept => Ok(None),
            Course::Tunnel(permit) => Ok(Some(permit)),
            Course::Refuse { reason, .. } => Err(reason),
        }
    }

    #[test]
    fn one_host_and_port_is_tunnelled_and_its_neighbours_are_not() {
        let pinned = "  - {id: p, effect: allow, tunnel: {host: Pinned.test, port: 8443, idle: 5m, bytes: 2GiB}, upstream: {tls: '>=1.3'}}\n";
        let permit = course(pinned, "pinned.test:8443").unwrap().unwrap();
        let want =
            TunnelLimits { idle: Duration::from_secs(300), bytes: Some(2 << 30), ..TunnelLimits::default() };
        assert_eq!((permit.limits(), permit.min_tls13(), permit.ech()), (want, true, false));
        assert_eq!(&*permit.statement().id, "p");
        for other in ["pinned.test:443", "x.pinned.test:8443", "ned.test:8443"] {
            assert!(course(pinned, other).unwrap().is_none(), "{other}");
        }
        let plain = "  - {id: p, effect: allow, tunnel: {host: pinned.test, ech: pass}}\n";
        assert!(course(plain, "pinned.test:443").unwrap().unwrap().ech());
        let over = "  - {id: p, effect: allow, tunnel: {host: pinned.test}, expires: 2001-01-01}\n";
        assert!(course(over, "pinned.test:443").unwrap().is_none());
        let observed = "  - {id: p, effect: allow, tunnel: {host: pinned.test}, mode: report}\n";
        assert!(course(observed, "pinned.test:443").unwrap().is_none());
    }

    #[test]
    fn a_deny_that_could_match_inside_shuts_the_tunnel() {
        let tunnel = "  - {id: p, effect: allow, tunnel: {host: pinned.test}}\n";
        let aws = "  - {id: q, effect: allow, tunnel: {host: sqs.us-east-1.amazonaws.com}}\n";
        for (deny, target, shut) in [
            ("http: {host: pinned.test, method: DELETE}", "pinned.test:443", true),
            ("http: {host: other.test}", "pinned.test:443", false),
            ("http: {host: pinned.test}, mode: report", "pinned.test:443", false),
            ("action: 'sqs:DeleteQueue', resource: '*'", "sqs.us-east-1.amazonaws.com:443", true),
            ("action: 'iam:*', resource: '*'", "sqs.us-east-1.amazonaws.com:443", false),
            (
                "action: '*', resource: '*', when: {region: eu-west-1}",
                "sqs.us-east-1.amazonaws.com:443",
                false,
            ),
        ] {
            let found = course(&format!("{tunnel}{aws}  - {{id: d, effect: deny, {deny}}}\n"), target);
            assert_eq!(found.err(), shut.then_some(Reason::PolicyDenied), "{deny}");
        }
    }

    #[test]
    fn what_is_no_tunnel_is_told_with_its_place() {
        for (statement, want) in [
            ("effect: allow, tunnel: {host: '*.pinned.test'}", "3:43: tunnel: `*.pinned.test`"),
            ("effect: allow, tunnel: {host: 10.0.0.1}", "3:43: tunnel: `10.0.0.1`"),
            ("effect: allow, tunnel: {host: a.test, port: 0}", "3:57: port: got \"0\""),
            ("effect: allow, tunnel: {host: a.test, idle: soon}", "3:57: idle: got \"soon\""),
            ("effect: allow, tunnel: {host: a.test, bytes: 3}", "3:58: bytes: got \"3\""),
            ("effect: allow, tunnel: {port: 443}", ":3:36: "),
            ("effect: deny, tunnel: {host: a.test}", "3:35: `tunnel` stands on allows only"),
            ("effect: allow, tunnel: {host: a.test}, when: {auth: none}", "3:58: `when`"),
            ("effect: allow, tunnel: {host: a.test}, http: {host: a.test}", ":3:36: "),
        ] {
            let text = format!("version: 1\nstatements:\n  - {{id: p, {statement}}}\n");
            let problems = Policy::read("test", &text, Atlas::built_in()).unwrap_err();
            let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
            assert!(shown.iter().any(|line| line.contains(want)), "{statement}: {shown:?}");
        }
    }
}
