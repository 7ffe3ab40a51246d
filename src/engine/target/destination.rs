//! One decision about a destination, for every door: named, admitted, resolved once, and only what may be dialled.
//!
//! The steps stand here in their order. A door takes them one by one as its bytes come (`proxy/connection.rs`,
//! `proxy/resolve.rs`); [`decide`] takes them all over answers that were given, which is what `explain target` shows.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{AddressVerdict, Authority, Host, TargetError, judge_address};
use crate::engine::atlas::Atlas;
use crate::engine::facts::{Timestamp, words};
use crate::engine::policy::{Admission, Policy};
use crate::engine::reason::Reason;

words! {
    /// How a door is told where to go.
    pub enum Mode {
        /// A CONNECT line; the hello's server name must agree.
        Connect = "connect",
        /// A request in absolute form: plaintext on our leg.
        Absolute = "absolute",
        /// Redirected TCP: the server name is the destination, the original address only tells the port.
        Transparent = "transparent",
        /// The endpoint of a recognised operation.
        Gateway = "gateway",
    }
}

/// A destination that is refused; `said` is for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub reason: Reason,
    pub said: String,
}

impl Refused {
    fn new(reason: Reason, said: impl Into<String>) -> Self {
        Self { reason, said: said.into() }
    }
}

impl From<TargetError> for Refused {
    fn from(error: TargetError) -> Self {
        Self::new(Reason::TargetMalformed, format!("target: {error}"))
    }
}

/// What a door was told, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub mode: Mode,
    pub text: &'a str,
    /// Server name of the hello: `None` stands for the target's own, empty for none at all.
    pub sni: Option<&'a str>,
}

/// What a destination is judged by.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    pub policy: &'a Policy,
    pub atlas: &'static Atlas,
    pub now: Timestamp,
    /// A listener of our own stands there.
    pub is_own: &'a dyn Fn(SocketAddr) -> bool,
}

/// What became of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The addresses that may be dialled, in their order.
    pub outcome: Result<Vec<SocketAddr>, Refused>,
    /// How often its name was looked up.
    pub lookups: u32,
}

/// All steps at once. `lookup` gives a name's addresses, or `None` where nobody may be asked.
pub fn decide(
    asked: &Asked<'_>,
    rules: &Rules<'_>,
    mut lookup: impl FnMut(&str) -> Option<Vec<IpAddr>>,
) -> Decided {
    let mut lookups = 0;
    let outcome = name(asked, rules).and_then(|target| {
        admit(rules.policy, rules.atlas, &target, rules.now)?;
        let Host::Name(name) = &target.host else { return Ok(Vec::new()) };
        let Some(answers) = lookup(name) else { return Ok(Vec::new()) };
        lookups += 1;
        dial(&target, &rules.policy.addresses_for(&target.host), &answers, rules.is_own)
    });
    Decided { outcome, lookups }
}

/// From what was said to one authority, with what no request could make right refused at once.
fn name(asked: &Asked<'_>, rules: &Rules<'_>) -> Result<Authority, Refused> {
    let sni = match asked.sni {
        None => None,
        Some("") => Some(None),
        Some(text) => Some(Some(Host::parse(text)?)),
    };
    match asked.mode {
        Mode::Connect => {
            let target = Authority::parse(asked.text, None)?;
            enter(rules.policy, &target)?;
            if let Some(sni) = &sni {
                greet(&target, sni.as_ref())?;
            }
            Ok(target)
        }
        Mode::Absolute => Err(Refused::new(Reason::TlsPlaintext, "request in plaintext")),
        Mode::Transparent => {
            let original = Authority::parse(asked.text, None)?;
            if let Host::Literal(ip) = original.host
                && (rules.is_own)(SocketAddr::new(ip, original.port))
            {
                return Err(Refused::new(Reason::TargetAddress, format!("{original} is this proxy itself")));
            }
            let host = sni.unwrap_or(Some(original.host)).ok_or_else(no_sni)?;
            let target = Authority { host, port: original.port };
            enter(rules.policy, &target)?;
            Ok(target)
        }
        Mode::Gateway => {
            let target = Authority::parse(asked.text, Some(443))?;
            enter(rules.policy, &target)?;
            Ok(target)
        }
    }
}

/// What no request could make right: an address in a name's place, a port that nobody named.
pub fn enter(policy: &Policy, target: &Authority) -> Result<(), Refused> {
    if let Host::Literal(ip) = &target.host {
        return Err(Refused::new(Reason::TargetLiteral, format!("`{ip}` is an address, not a name")));
    }
    if target.port != 443 && !policy.names_port(target) {
        return Err(Refused::new(Reason::TargetPort, format!("no statement names port {}", target.port)));
    }
    Ok(())
}

/// The hello's server name must be the destination's.
pub fn greet(target: &Authority, sni: Option<&Host>) -> Result<(), Refused> {
    match sni {
        None => Err(no_sni()),
        Some(sni) if *sni != target.host => {
            let said = format!("CONNECT names `{}`, SNI names `{sni}`", target.host);
            Err(Refused::new(Reason::TargetMismatch, said))
        }
        Some(_) => Ok(()),
    }
}

fn no_sni() -> Refused {
    Refused::new(Reason::TlsNoSni, "no server name in the hello")
}

/// Could any request there be allowed? A name that is denied is never looked up.
pub fn admit(
    policy: &Policy,
    atlas: &'static Atlas,
    target: &Authority,
    now: Timestamp,
) -> Result<(), Refused> {
    match crate::engine::admit(policy, atlas, target, now) {
        Admission::Allow(_) => Ok(()),
        Admission::Deny { reason, said, .. } => Err(Refused { reason, said }),
    }
}

/// Of a name's answers those that may be dialled, in their order; `ranges` are the policy's for that name.
pub fn dial(
    target: &Authority,
    ranges: &[IpNet],
    answers: &[IpAddr],
    is_own: &dyn Fn(SocketAddr) -> bool,
) -> Result<Vec<SocketAddr>, Refused> {
    if answers.is_empty() {
        return Err(Refused::new(Reason::UpstreamResolve, format!("`{target}` resolves to no address")));
    }
    let (mut fit, mut unfit) = (Vec::with_capacity(answers.len()), Vec::new());
    for ip in answers {
        let address = SocketAddr::new(*ip, target.port);
        match judge_address(*ip, ranges) {
            AddressVerdict::Special(kind) => unfit.push(format!("{ip} ({kind})")),
            _ if is_own(address) => unfit.push(format!("{ip} (this proxy itself)")),
            AddressVerdict::Public | AddressVerdict::Allowed => fit.push(address),
        }
    }
    if fit.is_empty() {
        let said = format!("`{target}` resolves to no address that may be dialled: {}", unfit.join(", "));
        return Err(Refused::new(Reason::TargetAddress, said));
    }
    Ok(fit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "version: 1
addresses: {'*.test': [10.20.0.0/16]}
statements:
  - {id: app, effect: allow, http: {host: app.test, path: /*}}
  - {id: alt, effect: allow, http: {host: 'app.test:8443', path: /*}}
";

    fn decided(mode: Mode, text: &str, sni: Option<&str>, answers: &[&str]) -> (Result<String, Reason>, u32) {
        let policy = Policy::read("test", POLICY, Atlas::built_in()).unwrap().0;
        let own: SocketAddr = "10.20.0.9:8443".parse().unwrap();
        let rules = Rules {
            policy: &policy,
            atlas: Atlas::built_in(),
            now: Timestamp(1_790_000_000),
            is_own: &|address| address == own,
        };
        let asked = Asked { mode, text, sni };
        let decided =
            decide(&asked, &rules, |_| Some(answers.iter().map(|ip| ip.parse().unwrap()).collect()));
        let show = |all: Vec<SocketAddr>| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        (decided.outcome.map(show).map_err(|refused| refused.reason), decided.lookups)
    }

    #[test]
    fn only_what_is_admitted_is_looked_up_and_only_fit_answers_are_dialled() {
        use Mode::*;
        let ok = |text: &str| Ok(text.to_owned());
        let answers: &[&str] = &["8.8.8.8", "10.20.0.9", "10.21.0.1"];
        let rows = [
            (Connect, "app.test:443", None, answers, (ok("8.8.8.8:443 10.20.0.9:443"), 1)),
            (Connect, "APP.test.:8443", Some("app.TEST"), answers, (ok("8.8.8.8:8443"), 1)),
            (Connect, "app.test:8443", None, &["10.20.0.9"], (Err(Reason::TargetAddress), 1)),
            (Connect, "app.test:443", None, &["127.0.0.1", "10.21.0.1"], (Err(Reason::TargetAddress), 1)),
            (Connect, "app.test:443", None, &[], (Err(Reason::UpstreamResolve), 1)),
            (Connect, "app.test:22", None, answers, (Err(Reason::TargetPort), 0)),
            (Connect, "app.test", None, answers, (Err(Reason::TargetMalformed), 0)),
            (Connect, "8.8.8.8:443", None, answers, (Err(Reason::TargetLiteral), 0)),
            (Connect, "app.test:443", Some("evil.test"), answers, (Err(Reason::TargetMismatch), 0)),
            (Connect, "app.test:443", Some(""), answers, (Err(Reason::TlsNoSni), 0)),
            (Connect, "evil.test:443", None, answers, (Err(Reason::PolicyNoMatch), 0)),
            (Connect, "x.amazonaws.com:443", None, answers, (Err(Reason::TargetUnknownAws), 0)),
            (Absolute, "http://app.test/", None, answers, (Err(Reason::TlsPlaintext), 0)),
            (Transparent, "198.18.0.1:443", Some("app.test"), &["8.8.8.8"], (ok("8.8.8.8:443"), 1)),
            (Transparent, "198.18.0.1:443", Some(""), answers, (Err(Reason::TlsNoSni), 0)),
            (Transparent, "198.18.0.1:443", None, answers, (Err(Reason::TargetLiteral), 0)),
            (Transparent, "10.20.0.9:8443", Some("app.test"), answers, (Err(Reason::TargetAddress), 0)),
            (Gateway, "app.test", None, &["8.8.8.8"], (ok("8.8.8.8:443"), 1)),
            (Gateway, "evil.test", None, answers, (Err(Reason::PolicyNoMatch), 0)),
        ];
        for (mode, text, sni, answers, want) in rows {
            assert_eq!(decided(mode, text, sni, answers), want, "{mode} {text} {sni:?}");
        }
    }

    #[test]
    fn a_refusal_names_each_forbidden_address() {
        let target = Authority::parse("app.test:443", None).unwrap();
        let answers = ["10.0.0.5", "169.254.169.254"].map(|ip| ip.parse().unwrap());
        let refused = dial(&target, &[], &answers, &|_| false).unwrap_err();
        assert_eq!(
            refused.said,
            "`app.test:443` resolves to no address that may be dialled: 10.0.0.5 (private), 169.254.169.254 (metadata)"
        );
    }
}
