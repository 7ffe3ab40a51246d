//! Patterns over ARNs, in which the account may be `self`, or not known.

use super::Glob;
use crate::engine::facts::AccountId;

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
        if account == "self"
            && fields[2] == "execute-api"
            && fields[5].split('/').next().is_none_or(|api| api.contains(['*', '?']))
        {
            return Err(format!(
                "`{text}`: whose an API is can't be told by a call to it; name the API before its first `/`"
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
        let words = if is_bucket(self.as_str()) || is_rented(self.as_str()) { 1 } else { 2 };
        let name = name.strip_prefix('/').unwrap_or(name);
        !name.split(['/', ':']).take(words).any(|word| word.contains(['*', '?']))
    }

    /// For an allow: only what is surely named.
    pub fn matches(&self, arn: &str, own: Own<'_>) -> bool {
        let Some((before, after)) = &self.around_self else { return self.whole.matches(arn) };
        let Some((front, account, rest)) = split(arn) else { return false };
        let ours = if account.is_empty() {
            // What the signer's account would be. A bucket has one that its name doesn't tell.
            // An API's owner isn't told either: a pattern that says `self` names the API itself.
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

    /// It names this thing if it is of the account of the signer's key, which is not known.
    pub fn could_be_of_signer(&self, arn: &str, own: Own<'_>) -> bool {
        match split(arn) {
            Some((_, "", _)) => !is_bucket(arn) && self.could_match(arn, own),
            Some((_, account, _)) => AccountId::parse(account)
                .is_some_and(|account| own.signer && self.matches(arn, Own { accounts: &[account], ..own })),
            None => false,
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
    split(arn).is_some_and(|(front, account, _)| account.is_empty() && front.ends_with(":s3:"))
}

/// `arn:PARTITION:execute-api:…`: an API, whose owner a call does not tell.
fn is_rented(arn: &str) -> bool {
    split(arn).is_some_and(|(front, _, _)| front.split(':').nth(2) == Some("execute-api"))
}

/// `arn:p:s:r`, account, resource.
pub fn split(arn: &str) -> Option<(&str, &str, &str)> {
    let mut colons = arn.bytes().enumerate().filter(|(_, byte)| *byte == b':').map(|(at, _)| at);
    let fourth = colons.nth(3)?;
    let fifth = colons.next()?;
    Some((&arn[..fourth], &arn[fourth + 1..fifth], &arn[fifth + 1..]))
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

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
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
            ("arn:aws:execute-api:us-east-1::abc123/*", true),
            ("arn:aws:execute-api:us-east-1::*/prod/*", false),
            ("arn:aws:apigateway:us-east-1::/restapis/*", false),
            ("arn:aws:apigateway:us-east-1::/restapis/a1/*", true),
            ("*", false),
            ("arn:*", false),
        ] {
            assert_eq!(ArnPattern::parse(pattern).unwrap().names_literally(), literal, "{pattern}");
        }
    }

    #[test]
    fn what_tells_no_owner_is_nobodys_but_by_its_name() {
        for (pattern, reads) in [
            ("arn:aws:execute-api:us-east-1:self:abc123/*", true),
            ("arn:aws:execute-api:us-east-1:*:*", true),
            ("arn:aws:execute-api:us-east-1:self:*", false),
            ("arn:aws:execute-api:us-east-1:self:abc*/prod/GET/x", false),
            ("arn:aws:s3:::self:x", true),
            ("arn:aws:s3::self:x", false),
        ] {
            assert_eq!(ArnPattern::parse(pattern).is_ok(), reads, "{pattern}");
        }
        let own = Own { accounts: &[], signer: true };
        let named = ArnPattern::parse("arn:aws:execute-api:us-east-1:self:abc123/*").unwrap();
        assert!(named.matches("arn:aws:execute-api:us-east-1::abc123/prod/GET/", own));
        assert!(!named.matches("arn:aws:execute-api:us-east-1::evil99/prod/GET/", own));
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
