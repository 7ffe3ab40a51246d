//! Which statements could name a request, found by look-ups: by service and the literal beginning of a resource, or by
//! the end of a host. Gives too many rather than too few; the statement itself decides.
//!
//! A pattern is filed under its text up to its first wildcard, cut back to the separator before it: what it matches has
//! that text up to one of its own separators. A request's ARN is walked once, and looked up at each separator. The
//! account is left out on both sides: it may be `self`, or not known.

use std::str::Bytes;

use super::http::HttpRule;
use super::pattern::{HostPattern, split};
use super::statement::{AwsRule, Rule, Statement};
use crate::engine::facts::{Action, Ask, Resource};
use crate::engine::target::Authority;

#[derive(Debug, Default)]
pub struct Index {
    places: Table,
    /// By service alone: where the resource could not be read, and to find the nearest.
    services: Table,
    /// Some statement names every service.
    any_service: bool,
}

/// Statements by key, those of one key together.
#[derive(Debug, Default)]
struct Table {
    entries: Vec<(u64, u32)>,
    /// A bit for the end of each key, of 16 or more times as many: most keys that are asked for are in no table.
    filter: Vec<u64>,
}

impl Table {
    fn push(&mut self, key: Key, at: u32) {
        self.entries.push((key.0, at));
    }

    fn finish(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup();
        self.filter = vec![0; (self.entries.len() / 4).next_power_of_two()];
        for (key, _) in &self.entries {
            let (word, bit) = Self::place(&self.filter, Key(*key));
            self.filter[word] |= bit;
        }
    }

    fn place(filter: &[u64], key: Key) -> (usize, u64) {
        // The filter's length is a power of two, and 2^32 words are more than there can be.
        ((key.0 >> 6) as usize & (filter.len() - 1), 1 << (key.0 & 63))
    }

    fn under(&self, key: Key) -> &[(u64, u32)] {
        let (word, bit) = Self::place(&self.filter, key);
        if self.filter[word] & bit == 0 {
            return &[];
        }
        let from = &self.entries[self.entries.partition_point(|(filed, _)| *filed < key.0)..];
        let length = from.partition_point(|(filed, _)| *filed == key.0);
        &from[..length]
    }
}

/// Deeper separators are not looked at: a key of an object may have hundreds.
const DEEPEST: usize = 12;
/// Statements of a service up to which they are not worth a look-up by resource.
const FEW: usize = 8;
/// Service of statements that name them all.
const ANY: &str = "*";
/// Host key of patterns without two literal last labels.
const ANYWHERE: &str = "*";

impl Index {
    pub fn of(statements: &[Statement]) -> Self {
        let mut index = Self::default();
        // A file of 1 MiB holds fewer than 2^32.
        for (at, statement) in (0..).zip(statements) {
            match &statement.rule {
                Rule::Aws(rule) => index.file_aws(at, rule),
                Rule::Http(rule) => index.file_http(at, rule),
                // Of connections, not of requests.
                Rule::Tunnel(_) => {}
            }
        }
        index.places.finish();
        index.services.finish();
        index
    }

    fn file_aws(&mut self, at: u32, rule: &AwsRule) {
        for service in rule.actions.iter().map(|action| action.service().unwrap_or(ANY)) {
            self.any_service |= service == ANY;
            let service = Key::of(service);
            self.services.push(service, at);
            for pattern in &rule.resources {
                self.places.push(filed_under(service, pattern.as_str()), at);
            }
        }
    }

    fn file_http(&mut self, at: u32, rule: &HttpRule) {
        for host in &rule.hosts {
            let key = HostPattern::key(host);
            self.places.push(host_key(key.as_deref().unwrap_or(ANYWHERE)), at);
        }
    }

    /// Visits the statements that could name what is asked; one more than once, where several of its patterns could.
    pub fn for_ask(&self, ask: &Ask, mut visit: impl FnMut(u32)) {
        let mut visit_all = |found: &[(u64, u32)]| found.iter().for_each(|(_, at)| visit(*at));
        let any = self.any_service.then_some(ANY);
        for service in std::iter::once(service(&ask.action)).chain(any).map(Key::of) {
            let all = self.services.under(service);
            match &ask.resource {
                Resource::Unknown => visit_all(all),
                // To look at so few is cheaper than to walk an ARN.
                _ if all.len() <= FEW => visit_all(all),
                Resource::Arn { arn, .. } => {
                    Keys::of(service, arn).for_each(|key| visit_all(self.places.under(key)));
                }
                Resource::None => visit_all(self.places.under(service)),
            }
        }
    }

    /// Visits the statements of the asked action's service, whatever the resource.
    pub fn of_service(&self, action: &Action, mut visit: impl FnMut(u32)) {
        for service in [service(action), ANY].map(Key::of) {
            self.services.under(service).iter().for_each(|(_, at)| visit(*at));
        }
    }

    /// Visits the statements that could name a host.
    pub fn for_host(&self, target: &Authority, mut visit: impl FnMut(u32)) {
        let last_two = target.host.as_name().and_then(|name| {
            let last = name.rfind('.')?;
            Some(name[..last].rfind('.').map_or(name, |at| &name[at + 1..]))
        });
        for key in last_two.into_iter().chain([ANYWHERE]).map(host_key) {
            self.places.under(key).iter().for_each(|(_, at)| visit(*at));
        }
    }
}

fn service(action: &Action) -> &str {
    match action {
        Action::Known(whole) => memchr::memchr(b':', whole.as_bytes()).map_or(whole, |colon| &whole[..colon]),
        Action::Unknown(service) => service,
    }
}

fn host_key(key: &str) -> Key {
    Key::of("http").and(key)
}

/// FNV-1a: two texts under one key only give a statement too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key(u64);

impl Key {
    fn of(text: &str) -> Self {
        Self(0xcbf2_9ce4_8422_2325).and(text).byte(0)
    }

    fn and(self, text: &str) -> Self {
        text.bytes().fold(self, Self::byte)
    }

    fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

fn is_separator(byte: u8) -> bool {
    byte == b':' || byte == b'/'
}

/// Key of a pattern: see above.
fn filed_under(service: Key, pattern: &str) -> Key {
    let literal = pattern.find(['*', '?']);
    let front = &pattern[..literal.unwrap_or(pattern.len())];
    // Without a wildcard in it, the account is left out.
    let without = split(front).map(|(before, _, after)| format!("{before}::{after}"));
    let text = without.as_deref().unwrap_or(front);
    let separators: Vec<usize> = (0..text.len()).filter(|&at| is_separator(text.as_bytes()[at])).collect();
    let end = match separators.get(DEEPEST) {
        Some(&deepest) => deepest,
        None if literal.is_none() => text.len(),
        None => separators.last().copied().unwrap_or(0),
    };
    service.and(&text[..end])
}

/// Keys that a pattern which matches an ARN could be filed under: at its beginning, before each separator, at its end.
struct Keys<'a> {
    /// Of what was walked so far.
    key: Key,
    rest: std::iter::Chain<std::iter::Chain<Bytes<'a>, Bytes<'a>>, Bytes<'a>>,
    separators: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Beginning,
    Within,
    Done,
}

impl<'a> Keys<'a> {
    fn of(service: Key, arn: &'a str) -> Self {
        let (before, between, after) = match split(arn) {
            Some((before, _, after)) => (before, "::", after),
            None => (arn, "", ""),
        };
        let rest = before.bytes().chain(between.bytes()).chain(after.bytes());
        Self { key: service, rest, separators: 0, state: State::Beginning }
    }
}

impl Iterator for Keys<'_> {
    type Item = Key;

    fn next(&mut self) -> Option<Key> {
        match self.state {
            State::Done => return None,
            State::Beginning => {
                self.state = State::Within;
                return Some(self.key);
            }
            State::Within => {}
        }
        for byte in self.rest.by_ref() {
            let walked = self.key;
            self.key = walked.byte(byte);
            if is_separator(byte) {
                self.separators += 1;
                if self.separators > DEEPEST {
                    self.state = State::Done;
                }
                return Some(walked);
            }
        }
        self.state = State::Done;
        Some(self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pattern_is_filed_under_is_among_the_keys_of_what_it_matches() {
        let service = Key::of("x");
        let deep = format!("arn:aws:s3:::b/{}", "d/".repeat(30));
        let rows = [
            ("*", "arn:aws:s3:::b/k"),
            ("arn:*", "arn:aws:s3:::b/k"),
            ("*:s3:::b", "arn:aws:s3:::b"),
            ("arn:aws:s3:::b", "arn:aws:s3:::b"),
            ("arn:aws:s3:::b/*", "arn:aws:s3:::b/k/l"),
            ("arn:aws:s3:::b/k*", "arn:aws:s3:::b/k"),
            ("arn:aws:s3:::b*", "arn:aws:s3:::b/k"),
            ("arn:aws:s3:::b/*", "arn:aws:s3:::b/"),
            ("arn:aws:s3:::b//*", "arn:aws:s3:::b//k"),
            ("arn:aws:sqs:*:self:q", "arn:aws:sqs:us-east-1:123456789012:q"),
            ("arn:aws:sqs:us-east-1:self:q", "arn:aws:sqs:us-east-1::q"),
            ("arn:aws:sqs:us-east-1:123456789012:q", "arn:aws:sqs:us-east-1:123456789012:q"),
            ("arn:aws:sqs:us-east-1:1234*:q", "arn:aws:sqs:us-east-1:123456789012:q"),
            (
                "arn:aws:lambda:us-east-1:self:function:f:*",
                "arn:aws:lambda:us-east-1:123456789012:function:f:1",
            ),
            (&deep, &deep),
            (&format!("{deep}*"), &format!("{deep}more/and/more")),
        ];
        for (pattern, arn) in rows {
            let filed = filed_under(service, pattern);
            assert!(Keys::of(service, arn).any(|key| key == filed), "{pattern} {arn}");
        }
        assert!(Keys::of(service, &deep).count() <= DEEPEST + 2);
        let filed = filed_under(service, "arn:aws:s3:::other/*");
        assert!(!Keys::of(service, "arn:aws:s3:::b/k").any(|key| key == filed));
        assert!(Keys::of(service, "").all(|key| key == service));
    }

    proptest::proptest! {
        #[test]
        fn whatever_could_match_is_found(
            pattern in "(\\*|arn:\\*|arn:aws:s[q*?]:[r*]{0,2}:(self|[1*]{0,2}):[a/:*?]{0,6})",
            account in "(111111111111)?",
            rest in "[a/:]{0,6}",
        ) {
            use crate::engine::facts::AccountId;
            use crate::engine::policy::pattern::{ArnPattern, Own};
            let Ok(parsed) = ArnPattern::parse(&pattern) else { return Ok(()) };
            let arn = format!("arn:aws:sq:r:{account}:{rest}");
            let ours = [AccountId::parse("111111111111").unwrap()];
            if parsed.could_match(&arn, Own { accounts: &ours, signer: true }) {
                let filed = filed_under(Key::of("x"), &pattern);
                proptest::prop_assert!(Keys::of(Key::of("x"), &arn).any(|key| key == filed), "{pattern} {arn}");
            }
        }
    }

    /// What is drawn for one statement: effect, mode, action, resource, host.
    const STATEMENT: &str = "[ad][er][s3q*][b*sdw][kK/*?]{0,3}";

    fn written(drawn: &[String]) -> String {
        let mut text = "version: 1\nstatements:\n".to_owned();
        for (at, drawn) in drawn.iter().enumerate() {
            let [effect, mode, action, about] = drawn.as_bytes()[..4] else { unreachable!() };
            let rest = &drawn[4..];
            let effect = if effect == b'a' { "allow" } else { "deny" };
            let mode = if mode == b'r' { ", mode: report" } else { "" };
            let action = match action {
                b's' => "s3:GetObject",
                b'3' => "s3:*",
                b'q' => "sqs:SendMessage",
                _ => "*",
            };
            let resource = match about {
                b'b' => format!("arn:aws:s3:::b/{rest}"),
                b'*' => "*".to_owned(),
                b's' => format!("arn:aws:sqs:*:self:{rest}k"),
                b'd' => format!("arn:aws:s3:::b/{}{rest}", "k/".repeat(DEEPEST)),
                _ => format!("arn:*{rest}"),
            };
            text += &format!(
                "  - {{id: s{at}, effect: {effect}, action: '{action}', resource: '{resource}'{mode}}}\n"
            );
            let host =
                ["a.test", "*.b.test", "**.test", "*.test", "b.test"][rest.len() + usize::from(about % 2)];
            text +=
                &format!("  - {{id: h{at}, effect: {effect}, http: {{host: '{host}', path: '/*'}}{mode}}}\n");
        }
        text
    }

    proptest::proptest! {
        /// The look-up gives what asking every statement gives: no deny is missed, and no allow.
        #[test]
        fn a_decision_is_what_asking_every_statement_gives(
            drawn in proptest::collection::vec(STATEMENT, 1..40),
            service in "(s3|sqs)",
            key in "[kK/]{0,4}",
            deep in proptest::bool::ANY,
            account in "(111111111111|222222222222)?",
            host in "(a|b|c\\.b|d\\.c\\.b)\\.test",
        ) {
            use crate::engine::atlas::Atlas;
            use crate::engine::facts::{
                AccountId, Arrival, Auth, Door, Identity, Operation, PayloadState, Protocol, SignatureState, Signer,
                Timestamp,
            };
            use crate::engine::policy::statement::{Effect, Fit};
            use crate::engine::policy::{Policy, Request};
            use crate::engine::request::RequestHead;

            let (policy, _) = Policy::read("p", &written(&drawn), Atlas::built_in()).unwrap();
            let ours = [AccountId::parse("111111111111").unwrap()];
            let signer = Signer { key_id: "AKID".into(), account: Some(ours[0]), role: None, own: true, untold: false, parents: None };
            let identity = Identity {
                auth: Auth::SigV4,
                signature: SignatureState::Verified,
                payload: PayloadState::Signed,
                signer: Some(signer),
            };
            let key = if deep { "k/".repeat(DEEPEST) + &key } else { key };
            let (actions, arn, account) = match &*service {
                "s3" => (["s3:GetObject", "s3:PutObject"], format!("arn:aws:s3:::b/{key}"), None),
                _ => {
                    let arn = format!("arn:aws:sqs:us-east-1:{account}:{key}k");
                    (["sqs:SendMessage", "sqs:ReceiveMessage"], arn, AccountId::parse(&account))
                }
            };
            let head = RequestHead::parse(format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n").into()).unwrap();
            let target = head.authority().clone();
            let arrival = Arrival::new(Door::Forward, target, ([127, 0, 0, 1], 1).into(), None, Atlas::built_in());
            let mut asks = Vec::new();
            for action in actions.map(|action| Action::Known(action.into())).into_iter().chain([Action::Unknown((*service).into())]) {
                for resource in [Resource::None, Resource::Unknown, Resource::Arn { arn: arn.clone(), account }] {
                    asks.push(Ask { action: action.clone(), resource });
                }
            }
            let operation = Operation {
                service: (*service).into(),
                name: None,
                region: "us-east-1".into(),
                protocol: Protocol::Json10,
                asks: asks.clone(),
            };
            for ask in asks.iter().map(Some).chain([None]) {
                let wants = crate::engine::policy::Wants::default();
                let request = Request {
                    wants: &wants,
                    head: &head,
                    arrival: &arrival,
                    host: head.authority(),
                    operation: ask.map(|_| &operation),
                    identity: &identity,
                    signed_header: &|_| false,
                    own_accounts: &ours,
                    now: Timestamp(0),
                };
                let act = |s: &Statement| match s.effect {
                    Effect::Deny => s.denies(&request, ask),
                    Effect::Allow => s.allows(&request, ask, &policy.perimeter) == Fit::Whole,
                };
                let acts = |effect: Effect, report: bool| {
                    let of = move |s: &Statement| s.effect == effect && s.report == report;
                    (0u32..).zip(&policy.statements).filter(move |(_, s)| of(s) && act(s))
                };
                let first = |effect| acts(effect, false).map(|(at, _)| at).min().unwrap_or(u32::MAX);
                let mut would: Vec<_> = acts(Effect::Deny, true).chain(acts(Effect::Allow, true)).map(|(_, s)| s.placed.id.clone()).collect();
                would.sort_unstable();
                let found = policy.find(&request, ask);
                let mut told: Vec<_> = found.would.iter().map(|id| (*id).clone()).collect();
                told.sort_unstable();
                told.dedup();
                proptest::prop_assert_eq!((found.denies, found.allows), (first(Effect::Deny), first(Effect::Allow)), "{:?}", ask);
                proptest::prop_assert_eq!(told, would, "{:?}", ask);
            }
        }
    }
}
