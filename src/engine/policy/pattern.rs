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
            glob(self.text.as_bytes(), text.as_bytes(), |a, b| a == b, character)
        }
    }

    /// Whatever `other` matches, this matches too. Never wrong where it says yes.
    pub fn covers(&self, other: &Self) -> bool {
        let symbol = |text: &[u8]| if text[0] == b'*' { 0 } else { character(text) };
        glob(self.text.as_bytes(), other.text.as_bytes(), |a, b| a == b, symbol)
    }

    /// The same for names that are compared without case.
    pub fn covers_ignoring_case(&self, other: &Self) -> bool {
        let symbol = |text: &[u8]| usize::from(text[0] != b'*');
        glob(self.text.as_bytes(), other.text.as_bytes(), |a, b| a.eq_ignore_ascii_case(&b), symbol)
    }

    /// IAM compares action names without case.
    pub fn matches_ignoring_case(&self, text: &str) -> bool {
        glob(self.text.as_bytes(), text.as_bytes(), |a, b| a.eq_ignore_ascii_case(&b), character)
    }
}

/// `one`: how many bytes a `?` takes here, 0 for none. Linear in practice: on a mismatch only the last `*` is tried
/// further on.
fn glob(pattern: &[u8], text: &[u8], same: impl Fn(u8, u8) -> bool, one: impl Fn(&[u8]) -> usize) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => one(&text[t..]),
            Some(&b) => usize::from(same(b, text[t])),
            None => 0,
        };
        if step > 0 {
            p += 1;
            t += step;
            continue;
        }
        let Some((star, at)) = retry else { return false };
        retry = Some((star, at + 1));
        p = star + 1;
        t = at + 1;
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// Bytes of the character that begins here; 0 inside of one. An object's key is any UTF-8.
fn character(text: &[u8]) -> usize {
    let length = match text[0] {
        0x80..=0xBF => 0,
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0.. => 4,
        _ => 1,
    };
    length.min(text.len())
}

/// Some string that `pattern` matches begins with `before` and ends with `after`; between them stands an account.
fn could_stand_around(pattern: &[u8], before: &[u8], after: &[u8]) -> bool {
    // Places in the pattern that the text so far can have led to; a star is a place that stays.
    let mut places = vec![false; pattern.len() + 1];
    places[0] = true;
    let rest_over_stars = |places: &mut Vec<bool>| {
        for at in 0..pattern.len() {
            if places[at] && pattern[at] == b'*' {
                places[at + 1] = true;
            }
        }
    };
    let step = |places: &mut Vec<bool>, byte: u8| {
        rest_over_stars(places);
        let mut next = vec![false; pattern.len() + 1];
        for (at, &b) in pattern.iter().enumerate().filter(|(at, _)| places[*at]) {
            match b {
                b'*' => next[at] = true,
                b'?' => {
                    next[at + 1] = true;
                    // The first bytes of a longer character.
                    next[at] |= !byte.is_ascii();
                }
                b if b == byte => next[at + 1] = true,
                _ => {}
            }
        }
        *places = next;
    };
    before.iter().for_each(|&byte| step(&mut places, byte));
    rest_over_stars(&mut places);
    for at in 0..pattern.len() {
        if places[at] && (pattern[at].is_ascii_digit() || b"*?".contains(&pattern[at])) {
            places[at + 1] = true;
        }
    }
    after.iter().for_each(|&byte| step(&mut places, byte));
    rest_over_stars(&mut places);
    places[pattern.len()]
}

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
        let whole = fields.len() == 6 && (fields[0] == "arn" || fields[0] == "*");
        if !(text == "*" || whole || text.starts_with("arn:*")) {
            return Err(format!(
                "`{text}` is neither `*` nor an ARN (arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE)"
            ));
        }
        let account = fields.get(4).filter(|_| whole).copied().unwrap_or_default();
        if fields.iter().take(if whole { 4 } else { 6 }).any(|field| *field == "self") {
            return Err(format!(
                "`{text}`: `self` is the fifth field, where an ARN has its account; write all six fields"
            ));
        }
        if !account.is_empty()
            && account.bytes().all(|b| b.is_ascii_digit())
            && AccountId::parse(account).is_none()
        {
            let digits = account.len();
            return Err(format!("`{text}`: an account id has twelve digits, this has {digits}"));
        }
        if account == "self"
            && fields[2] == "s3"
            && fields[3].is_empty()
            && !fields[5].contains("accesspoint/")
        {
            return Err(format!(
                "`{text}`: a bucket's ARN has no account, so `self` can't be told by it; \
                 name the bucket (arn:aws:s3:::NAME/*), and set `perimeter.resources`"
            ));
        }
        let around_self =
            (account == "self").then(|| (Glob::new(&fields[..4].join(":")), Glob::new(fields[5])));
        Ok(Self { whole: Glob::new(text), around_self })
    }

    pub fn is_any(&self) -> bool {
        self.whole.is_any()
    }

    /// Its account is `self`.
    pub fn is_self(&self) -> bool {
        self.around_self.is_some()
    }

    pub fn as_str(&self) -> &str {
        self.whole.as_str()
    }

    /// The bucket, queue or table itself is named without wildcards; what belongs to it may have them.
    pub fn names_literally(&self) -> bool {
        let Some(name) = self.as_str().splitn(6, ':').nth(5) else { return false };
        // A bucket is one word, others are a kind and a name: `table/orders/index/*`, `function:pricing:*`.
        let words = if is_bucket(self.as_str()) { 1 } else { 2 };
        let name = name.strip_prefix('/').unwrap_or(name);
        !name.split(['/', ':']).take(words).any(|word| word.contains(['*', '?']))
    }

    /// For an allow: only what is surely named.
    pub fn matches(&self, arn: &str, own: Own<'_>) -> bool {
        let Some((before, after)) = &self.around_self else { return self.whole.matches(arn) };
        let Some((front, account, rest)) = split(arn) else { return false };
        let ours = if account.is_empty() {
            // What the signer's account would be. A bucket has one that its name doesn't tell.
            own.signer && !is_bucket(arn)
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
        match &self.around_self {
            Some((before, after)) => before.matches(front) && after.matches(rest),
            None => {
                let pattern = self.as_str().as_bytes();
                let literal = pattern.iter().take_while(|b| !b"*?".contains(b)).count();
                let same = pattern[..literal].iter().zip(front.as_bytes()).all(|(a, b)| a == b);
                let (front, rest) = (format!("{front}:"), format!(":{rest}"));
                same && could_stand_around(pattern, front.as_bytes(), rest.as_bytes())
            }
        }
    }

    /// Whatever `other` matches, this matches too, whoever signs.
    pub fn covers(&self, other: &Self) -> bool {
        match (&self.around_self, &other.around_self) {
            (None, None) => self.whole.covers(&other.whole),
            // `self` is some account, so it is like a star inside what covers it.
            (None, Some((before, after))) => {
                let (before, after) = (before.as_str(), after.as_str());
                self.whole.covers(&Glob::new(&format!("{before}:*:{after}")))
            }
            (Some(_), None) => false,
            (Some((before, after)), Some((front, rest))) => before.covers(front) && after.covers(rest),
        }
    }

    /// Service of the ARNs that it matches; `None` where they are of several.
    pub fn service(&self) -> Option<&str> {
        let service = self.as_str().split(':').nth(2)?;
        let front_is_plain = !self.as_str().starts_with(['*', '?']);
        (front_is_plain && !service.contains(['*', '?'])).then_some(service)
    }
}

/// `arn:PARTITION:s3:::…`: one namespace for all accounts, and no account in the name.
pub fn is_bucket(arn: &str) -> bool {
    let mut fields = arn.splitn(6, ':').skip(2);
    fields.next() == Some("s3") && fields.next() == Some("") && fields.next() == Some("")
}

/// `arn:p:s:r`, account, resource.
pub fn split(arn: &str) -> Option<(&str, &str, &str)> {
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
    fn a_mark_is_one_character_of_any_length() {
        for (pattern, text, matches) in [
            ("day-?", "day-é", true),
            ("day-??", "day-é", false),
            ("day-?x", "day-€x", true),
            ("*?", "𝄞", true),
            ("?", "", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), matches, "{pattern} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_covered_is_matched(
            outer in "[ab*?]{0,5}",
            inner in "[ab*?]{0,5}",
            text in "[abé]{0,5}",
        ) {
            let (outer, inner) = (Glob::new(&outer), Glob::new(&inner));
            if outer.covers(&inner) && inner.matches(&text) {
                proptest::prop_assert!(outer.matches(&text));
            }
            if outer.covers_ignoring_case(&inner) && inner.matches_ignoring_case(&text) {
                proptest::prop_assert!(outer.matches_ignoring_case(&text));
            }
            proptest::prop_assert!(outer.covers(&outer));
        }

        #[test]
        fn what_an_account_would_make_match_could_match(
            pattern in "arn:aws:[sq*?]{1,3}:[r*?]{0,2}:[1*?]{0,13}:[q1:*?/é]{0,4}",
            rest in "[q1:/é]{0,4}",
        ) {
            let none = Own { accounts: &[], signer: false };
            let Ok(pattern) = ArnPattern::parse(&pattern) else { return Ok(()) };
            let with = |account: &str| format!("arn:aws:sq:r:{account}:{rest}");
            if pattern.matches(&with("111111111111"), none) {
                proptest::prop_assert!(pattern.could_match(&with(""), none), "{pattern:?} {rest}");
            }
        }
    }

    #[test]
    fn an_account_that_is_not_known_could_be_any_wherever_the_stars_stand() {
        let none = Own { accounts: &[], signer: false };
        for (pattern, could) in [
            ("arn:*:210987654321:orders", true),
            ("arn:*:210987654321:*", true),
            ("arn:*:sqs:*", true),
            ("arn:aws:sqs:us-east-1:210987654321:orders", true),
            ("arn:aws:sqs:us-east-1:self:orders", true),
            ("arn:aws:sqs:us-east-1:2*:or?ers", true),
            ("arn:*:210987654321:other", false),
            ("arn:aws:sqs:eu-*:210987654321:orders", false),
            ("arn:*:orders-210987654321:orders", false),
        ] {
            let pattern = ArnPattern::parse(pattern).unwrap();
            assert_eq!(pattern.could_match("arn:aws:sqs:us-east-1::orders", none), could, "{pattern:?}");
        }
    }

    #[test]
    fn a_name_is_literal_where_the_thing_itself_is() {
        for (pattern, literal) in [
            ("arn:aws:s3:::acme", true),
            ("arn:aws:s3:::acme/*", true),
            ("arn:aws:s3:::acme*", false),
            ("arn:aws:s3:::*/x", false),
            ("arn:aws:dynamodb:us-east-1::table/orders/index/*", true),
            ("arn:aws:dynamodb:us-east-1::table/*", false),
            ("arn:aws:lambda:us-east-1::function:pricing:*", true),
            ("arn:aws:lambda:us-east-1::function:*", false),
            ("arn:aws:sqs:us-east-1::orders", true),
            ("arn:aws:apigateway:us-east-1::/restapis/*", false),
            ("arn:aws:apigateway:us-east-1::/restapis/a1/*", true),
            ("*", false),
            ("arn:*", false),
        ] {
            assert_eq!(ArnPattern::parse(pattern).unwrap().names_literally(), literal, "{pattern}");
        }
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
