//! Patterns over hosts, label by label.

use crate::engine::target::{Authority, Host};

/// A host pattern: `*` is exactly one label, a leading `**.` one or more; with a port, else 443.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    labels: Vec<Box<str>>,
    any_depth: bool,
    port: u16,
}

impl HostPattern {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => {
                let number = port.parse().ok().filter(|&n: &u16| n > 0 && n.to_string() == port);
                (name, number.ok_or_else(|| format!("`{port}` is no port"))?)
            }
            None => (text, 443),
        };
        let (any_depth, rest) = name.strip_prefix("**.").map_or((false, name), |rest| (true, rest));
        let labels: Vec<Box<str>> = rest.split('.').map(|label| label.to_ascii_lowercase().into()).collect();
        // Judged as a host with its wildcards filled in, so that a pattern can't name what no host can be.
        let filled = labels
            .iter()
            .map(|label| if &**label == "*" { "x" } else { label })
            .collect::<Vec<_>>()
            .join(".");
        if labels.iter().any(|label| label.contains('*') && &**label != "*") {
            return Err(format!(
                "`{text}`: `*` stands for one whole label, `**.` at the front for one or more"
            ));
        }
        match Host::parse(&filled) {
            Ok(Host::Name(_)) => Ok(Self { labels, any_depth, port }),
            Ok(Host::Literal(_)) => Err(format!("`{text}` is an address, not a name")),
            Err(error) => Err(format!("`{text}`: {error}")),
        }
    }

    pub fn matches(&self, target: &Authority) -> bool {
        self.port == target.port && self.matches_host(&target.host)
    }

    pub fn matches_host(&self, host: &Host) -> bool {
        let Host::Name(name) = host else { return false };
        let mut theirs = name.rsplit('.');
        for label in self.labels.iter().rev() {
            match theirs.next() {
                Some(their) if &**label == "*" || *their == **label => {}
                _ => return false,
            }
        }
        // `**.` wants at least one label more; without it there may be none.
        theirs.next().is_some() == self.any_depth
    }

    /// Whatever `other` matches, this matches too.
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.labels.iter().rev();
        let fits = self.port == other.port
            && self
                .labels
                .iter()
                .rev()
                .all(|ours| theirs.next().is_some_and(|their| &**ours == "*" || ours == their));
        fits && match (self.any_depth, other.any_depth) {
            (true, deep) => deep || theirs.next().is_some(),
            (false, deep) => !deep && theirs.next().is_none(),
        }
    }

    /// The one host that it names, if it is one.
    pub fn literal(&self) -> Option<Host> {
        let plain = !self.any_depth && self.labels.iter().all(|label| &**label != "*");
        plain.then(|| Host::parse(&self.labels.join(".")).ok())?
    }

    /// The last two labels, where both are literal: what the index files it under.
    pub fn key(&self) -> Option<String> {
        let [.., a, b] = self.labels.as_slice() else { return None };
        (&**a != "*" && &**b != "*").then(|| format!("{a}.{b}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_label_and_two_are_one_or_more() {
        let matches = |pattern: &str, host: &str| {
            HostPattern::parse(pattern).unwrap().matches(&Authority::parse(host, Some(443)).unwrap())
        };
        assert!(matches("*.example.com", "a.example.com"));
        assert!(!matches("*.example.com", "a.b.example.com"));
        assert!(!matches("*.example.com", "example.com"));
        assert!(matches("**.example.com", "a.b.example.com"));
        assert!(!matches("**.example.com", "example.com"));
        assert!(!matches("**.example.com", "evilexample.com"));
        assert!(matches("Api.Example.com", "api.example.com."));
        assert!(matches("a.test:8443", "a.test:8443") && !matches("a.test", "a.test:8443"));
        for bad in ["a*.test", "", "*.*x", "a..b", "10.0.0.1", "a.test:0", "http://a.test"] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
