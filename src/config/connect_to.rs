//! `connect_to`: which address is dialled for a destination, in place of what its name resolves to.
//!
//! Changes the dialled address and nothing else: SNI, certificate check, policy and record keep the name.

use std::fmt;
use std::net::SocketAddr;

use crate::engine::target::{Authority, Host};

/// Rules in their order: the first that matches counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectTo(Vec<Rule>);

/// `PATTERN:PORT=ADDR:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    host: Pattern,
    /// `None`: any (`*`).
    port: Option<u16>,
    to: SocketAddr,
}

/// Which hosts a setting is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// A bare `*`.
    Any,
    Exact(Host),
    /// Labels from the right; `None` is `*`, one label. `deep`: a leading `**`, one label or more beyond them.
    Labels {
        from_right: Vec<Option<Box<str>>>,
        deep: bool,
    },
}

impl ConnectTo {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// The address to dial for `target`, where a rule names it.
    pub fn lookup(&self, target: &Authority) -> Option<SocketAddr> {
        let matches = |rule: &&Rule| {
            rule.port.is_none_or(|port| port == target.port) && rule.host.matches(&target.host)
        };
        self.0.iter().find(matches).map(|rule| rule.to)
    }
}

impl ConnectTo {
    /// Each rule as it is written in settings.
    pub fn rules(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|Rule { host, port, to }| {
            let port = port.map_or("*".to_owned(), |port| port.to_string());
            format!("{host}:{port}={to}")
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => write!(f, "{host}"),
            Self::Labels { from_right, deep } => {
                let labels = from_right.iter().rev().map(|label| label.as_deref().unwrap_or("*"));
                f.write_str(&deep.then_some("**").into_iter().chain(labels).collect::<Vec<_>>().join("."))
            }
        }
    }
}

/// Says what is wanted where the text is no rule.
pub(super) fn parse_rule(text: &str) -> Result<Rule, String> {
    let want = "PATTERN:PORT=ADDR:PORT, such as *.example.com:443=127.0.0.1:8443";
    let rule = || {
        let (from, to) = text.split_once('=')?;
        let (pattern, port) = from.rsplit_once(':')?;
        let port = match port {
            "*" => None,
            // The same strictness as any other authority's port.
            digits => Some(Authority::parse(&format!("x:{digits}"), None).ok()?.port),
        };
        Some(Rule { host: Pattern::parse(pattern)?, port, to: to.parse().ok()? })
    };
    rule().ok_or_else(|| want.to_owned())
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        if !text.contains('*') {
            return Host::parse(text).ok().map(Self::Exact);
        }
        let (deep, rest) = text.strip_prefix("**.").map_or((false, text), |rest| (true, rest));
        // A wildcard stands for a label: the rest must be a host name with any label in its place.
        let Host::Name(name) = Host::parse(&rest.replace('*', "x")).ok()? else { return None };
        let given = rest.strip_suffix('.').unwrap_or(rest);
        let mut from_right = Vec::new();
        for (label, normal) in given.rsplit('.').zip(name.rsplit('.')) {
            match label {
                "*" => from_right.push(None),
                label if label.contains('*') => return None,
                _ => from_right.push(Some(normal.into())),
            }
        }
        Some(Self::Labels { from_right, deep })
    }

    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exact(exact), host) => exact == host,
            (Self::Labels { from_right, deep }, Host::Name(name)) => {
                let mut labels = name.rsplit('.');
                let fits = from_right.iter().all(|want| {
                    labels.next().is_some_and(|label| want.as_deref().is_none_or(|want| want == label))
                });
                fits && labels.next().is_some() == *deep
            }
            (Self::Labels { .. }, Host::Literal(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rules: &[&str]) -> ConnectTo {
        ConnectTo::new(rules.iter().map(|rule| parse_rule(rule).unwrap()).collect())
    }

    fn dialled(table: &ConnectTo, target: &str) -> Option<String> {
        table.lookup(&Authority::parse(target, None).unwrap()).map(|to| to.to_string())
    }

    #[test]
    fn the_first_rule_that_matches_names_the_address() {
        let table =
            table(&["API.example.com:443=127.0.0.1:1", "*.example.com:443=127.0.0.1:2", "*:443=[::1]:3"]);
        for (target, want) in [
            ("api.example.com:443", Some("127.0.0.1:1")),
            ("www.example.com:443", Some("127.0.0.1:2")),
            ("a.b.example.com:443", Some("[::1]:3")),
            ("example.com:443", Some("[::1]:3")),
            ("198.51.100.1:443", Some("[::1]:3")),
            ("api.example.com:8443", None),
        ] {
            assert_eq!(dialled(&table, target).as_deref(), want, "{target}");
        }
    }

    #[test]
    fn one_star_is_one_label_and_two_are_one_or_more() {
        let table = table(&["**.deep.test:*=127.0.0.1:1", "a.*.mid.test:443=127.0.0.1:2"]);
        for (target, want) in [
            ("x.deep.test:1", true),
            ("x.y.deep.test:2", true),
            ("deep.test:443", false),
            ("xdeep.test:443", false),
            ("a.x.mid.test:443", true),
            ("a.x.y.mid.test:443", false),
            ("b.x.mid.test:443", false),
        ] {
            assert_eq!(dialled(&table, target).is_some(), want, "{target}");
        }
    }

    #[test]
    fn refuses_what_is_no_rule() {
        for text in [
            "",
            "a.test=127.0.0.1:1",
            "a.test:443",
            "a.test:443=origin.test:1",
            "a.test:443=127.0.0.1",
            "a.test:0=127.0.0.1:1",
            "a*.test:443=127.0.0.1:1",
            "*.**.test:443=127.0.0.1:1",
            "a..test:443=127.0.0.1:1",
            "user@a.test:443=127.0.0.1:1",
        ] {
            assert!(parse_rule(text).is_err(), "{text}");
        }
    }
}
