//! Patterns: `*` any run and `?` one character in paths, ARNs, actions and other strings; whole labels in hosts.

use crate::engine::facts::AccountId;
use crate::engine::target::{Authority, Host};

/// A pattern over a string; without wildcards it is a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: Box<str>,
    literal: bool,
}

impl Glob {
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), literal: !text.contains(['*', '?']) }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_literal(&self) -> bool {
        self.literal
    }

    /// Matches everything.
    pub fn is_any(&self) -> bool {
        &*self.text == "*"
    }

    pub fn matches(&self, text: &str) -> bool {
        if self.literal {
            *self.text == *text
        } else {
            glob(self.text.as_bytes(), text.as_bytes(), |a, b| a == b)
        }
    }

    /// IAM compares action names without case.
    pub fn matches_ignoring_case(&self, text: &str) -> bool {
        glob(self.text.as_bytes(), text.as_bytes(), |a, b| a.eq_ignore_ascii_case(&b))
    }
}

/// Linear in practice: on a mismatch only the last `*` is tried further on.
fn glob(pattern: &[u8], text: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            // A character of ours is a byte: names and ARNs that reach us are ASCII or percent-encoded.
            Some(&b) if b == b'?' || same(b, text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, at)) => {
                    retry = Some((star, at + 1));
                    p = star + 1;
                    t = at + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// A host pattern: `*` is exactly one label, a leading `**.` one or more; with a port, else 443.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    labels: Vec<Box<str>>,
    any_depth: bool,
    pub port: u16,
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

    /// The last two labels, where both are literal: what the index files it under.
    pub fn key(&self) -> Option<String> {
        let [.., a, b] = self.labels.as_slice() else { return None };
        (&**a != "*" && &**b != "*").then(|| format!("{a}.{b}"))
    }
}

/// Accounts that `self` stands for, and whether the signer's key is one we were given.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    pub accounts: &'a [AccountId],
    pub signer: bool,
}

/// A pattern over ARNs, in which the account may be `self`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArnPattern {
    whole: Glob,
    /// Around an account that is exactly `self`.
    around_self: Option<(Glob, Glob)>,
}

impl ArnPattern {
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.splitn(6, ':').collect();
        if !(text == "*"
            || (fields.len() == 6 && (fields[0] == "arn" || fields[0] == "*"))
            || text.starts_with("arn:*"))
        {
            return Err(format!(
                "`{text}` is neither `*` nor an ARN (arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE)"
            ));
        }
        let around_self = (fields.len() == 6 && fields[4] == "self")
            .then(|| (Glob::new(&fields[..4].join(":")), Glob::new(fields[5])));
        Ok(Self { whole: Glob::new(text), around_self })
    }

    pub fn is_any(&self) -> bool {
        self.whole.is_any()
    }

    pub fn as_str(&self) -> &str {
        self.whole.as_str()
    }

    /// The bucket, table or queue itself is named without wildcards (what follows its first `/` may have them).
    pub fn names_literally(&self) -> bool {
        let name = self.as_str().splitn(6, ':').nth(5).unwrap_or("*");
        !name.split('/').next().unwrap_or("*").contains(['*', '?'])
    }

    /// For an allow: only what is surely named.
    pub fn matches(&self, arn: &str, own: Own<'_>) -> bool {
        let Some((before, after)) = &self.around_self else { return self.whole.matches(arn) };
        let Some((front, account, rest)) = split(arn) else { return false };
        let ours = if account.is_empty() {
            own.signer
        } else {
            AccountId::parse(account).is_some_and(|account| own.accounts.contains(&account))
        };
        ours && before.matches(front) && after.matches(rest)
    }

    /// For a deny: also what could be named. An account that isn't known could be any.
    pub fn could_match(&self, arn: &str, own: Own<'_>) -> bool {
        if self.matches(arn, own) {
            return true;
        }
        let Some((front, "", rest)) = split(arn) else { return false };
        let Some((before, _, after)) = split(self.as_str()) else { return false };
        Glob::new(before).matches(front) && Glob::new(after).matches(rest)
    }
}

/// `arn:p:s:r`, account, resource.
fn split(arn: &str) -> Option<(&str, &str, &str)> {
    let mut colons = arn.match_indices(':').map(|(at, _)| at);
    let fourth = colons.nth(3)?;
    let fifth = colons.next()?;
    Some((&arn[..fourth], &arn[fourth + 1..fifth], &arn[fifth + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_run_over_everything_and_marks_over_one() {
        for (pattern, text, matches) in [
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("a*b*c", "a/b:b/xc", true),
            ("a**", "a", true),
            ("ab", "abc", false),
            ("*aab", "aaaaab", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), matches, "{pattern} {text}");
        }
        assert!(Glob::new("get*").matches_ignoring_case("GetObject"));
    }

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

    #[test]
    fn self_is_our_account_or_a_missing_one_of_our_own_key() {
        let ours = [AccountId::parse("123456789012").unwrap()];
        let own = |signer| Own { accounts: &ours, signer };
        let pattern = ArnPattern::parse("arn:aws:sqs:*:self:orders*").unwrap();
        assert!(pattern.matches("arn:aws:sqs:us-east-1:123456789012:orders", own(false)));
        assert!(!pattern.matches("arn:aws:sqs:us-east-1:210987654321:orders", own(true)));
        assert!(pattern.matches("arn:aws:sqs:us-east-1::orders", own(true)));
        assert!(!pattern.matches("arn:aws:sqs:us-east-1::orders", own(false)));
        let literal = ArnPattern::parse("arn:aws:sqs:us-east-1:210987654321:orders").unwrap();
        assert!(!literal.matches("arn:aws:sqs:us-east-1::orders", own(true)));
        assert!(literal.could_match("arn:aws:sqs:us-east-1::orders", own(true)));
        assert!(!literal.could_match("arn:aws:sqs:us-east-1:123456789012:orders", own(true)));
    }
}
