//! What to write into a policy so that exactly one call is allowed.
//!
//! `exec` says it in the refusal itself, `explain` of a record and of a question.

use super::facts::{AccountId, Operation, Resource};
use super::reason::Reason;
use super::request::RequestHead;

/// A record lists as many; of more, no statement is suggested.
const MOST_ASKS: usize = 7;

/// A call in words: of its record, or as it was judged.
#[derive(Debug, Default)]
pub struct Call {
    /// `service:Name` each; none for a third party.
    pub actions: Vec<String>,
    pub resources: Vec<String>,
    /// It asks for more than is listed.
    pub more: bool,
    pub method: Option<String>,
    pub host: String,
    pub path: Option<String>,
    pub account: Option<String>,
}

impl Call {
    pub fn new(head: &RequestHead, operation: Option<&Operation>, account: Option<AccountId>) -> Self {
        let authority = head.authority();
        let host = if authority.port == 443 { authority.host.to_string() } else { authority.to_string() };
        let mut call = Self { host, account: account.map(|id| id.to_string()), ..Self::default() };
        let Some(operation) = operation else {
            call.method = Some(head.method().to_owned());
            call.path = Some(head.path().to_owned());
            return call;
        };
        call.more = operation.asks.len() > MOST_ASKS;
        for ask in operation.asks.iter().take(MOST_ASKS) {
            call.actions.push(ask.action.to_string());
            if let Resource::Arn { arn, .. } = &ask.resource {
                call.resources.push(arn.clone());
            }
        }
        call
    }

    /// What was asked, on what.
    pub fn subject(&self) -> String {
        let Some(first) = self.actions.first() else {
            let path = self.path.as_deref().unwrap_or_default();
            return match &self.method {
                Some(method) => format!("{method} {}{path}", self.host),
                None => format!("connection to {}", self.host),
            };
        };
        let on = match self.resources.first() {
            Some(arn) => format!(" on {arn}"),
            None => String::new(),
        };
        let count = self.actions.len().max(self.resources.len());
        let more = if self.more {
            " and more".to_owned()
        } else if count > 1 {
            format!(" and {} more", count - 1)
        } else {
            String::new()
        };
        format!("{first}{on}{more}")
    }
}

/// A statement that allows one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// Keys and values of the YAML mapping, in order.
    members: Vec<(&'static str, String)>,
    /// It names what a policy takes for a pattern.
    wild: bool,
}

impl Suggestion {
    /// As a statement stands in a policy.
    pub fn block(&self) -> String {
        let lines: Vec<String> = self.members.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let note = if self.wild { "    # `*` and `?` stand for any characters here" } else { "" };
        format!("  - {}{note}", lines.join("\n    "))
    }

    /// On one line, for a sentence.
    pub fn line(&self) -> String {
        let members: Vec<String> =
            self.members.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        format!("{{{}}}", members.join(", "))
    }
}

/// A statement for the policy, where a statement is what was missing. `None` where something else was wrong, or not
/// all that was asked is known.
pub fn to_allow(call: &Call, reason: Reason) -> Option<Suggestion> {
    let unknown = match reason {
        Reason::PolicyNoMatch => None,
        // AWS itself refuses a key id that it never issued, so the account may be believed.
        Reason::SigV4UnknownKey => Some(call.account.as_deref()?),
        _ => return None,
    };
    if call.more || call.actions.iter().any(|action| action.ends_with(":?")) {
        return None;
    }
    let Some(first) = call.actions.first() else {
        let method = call.method.as_deref()?;
        let path = call.path.as_deref().unwrap_or("/*");
        let (host, path) = (scalar(&call.host), scalar(path));
        let id = id(call.host.split(':').next().unwrap_or_default());
        let http = format!("{{host: {host}, method: {method}, path: {path}}}");
        let members = vec![("id", id), ("effect", "allow".to_owned()), ("http", http)];
        return Some(Suggestion { members, wild: false });
    };
    let resource = if call.resources.is_empty() { scalar("*") } else { one_or_list(&call.resources) };
    let mut members = vec![
        ("id", id(first)),
        ("effect", "allow".to_owned()),
        ("action", one_or_list(&call.actions)),
        ("resource", resource),
    ];
    if let Some(account) = unknown {
        members.push(("when", format!("{{signature: unknown_key, signer.account: \"{account}\"}}")));
    }
    let wild = call.resources.iter().any(|arn| arn.contains(['*', '?']));
    Some(Suggestion { members, wild })
}

/// `allow-sqs-SendMessage`: something to be renamed.
fn id(from: &str) -> String {
    let word: String = from.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("allow-{}", word.trim_matches('-'))
}

fn one_or_list(items: &[String]) -> String {
    let mut unique: Vec<&String> = Vec::new();
    for item in items {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    match unique.as_slice() {
        [one] => scalar(one),
        many => format!("[{}]", many.iter().map(|item| scalar(item)).collect::<Vec<_>>().join(", ")),
    }
}

/// YAML reads JSON's strings; plain words need no quotes.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:".contains(&b))
        && !text.ends_with(':');
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(action: &str, arn: &str) -> Call {
        Call { actions: vec![action.into()], resources: vec![arn.into()], ..Call::default() }
    }

    #[test]
    fn says_what_is_missing_and_nothing_where_it_cannot_know() {
        let sqs = call("sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:orders");
        assert_eq!(
            to_allow(&sqs, Reason::PolicyNoMatch).unwrap().block(),
            "  - id: allow-sqs-SendMessage\n    effect: allow\n    action: sqs:SendMessage\n    \
             resource: arn:aws:sqs:us-east-1:123456789012:orders"
        );
        assert_eq!(
            to_allow(&sqs, Reason::PolicyNoMatch).unwrap().line(),
            "{id: allow-sqs-SendMessage, effect: allow, action: sqs:SendMessage, \
             resource: arn:aws:sqs:us-east-1:123456789012:orders}"
        );
        let odd = call("s3:PutObject", "arn:aws:s3:::b/a \"b\": #*\n");
        let text = to_allow(&odd, Reason::PolicyNoMatch).unwrap().block();
        assert!(text.contains(r##"resource: "arn:aws:s3:::b/a \"b\": #*\n""##), "{text}");
        let http = Call { method: Some("POST".into()), host: "api.test".into(), ..Call::default() };
        let text = to_allow(&http, Reason::PolicyNoMatch).unwrap().block();
        assert!(text.ends_with(r#"http: {host: api.test, method: POST, path: "/*"}"#), "{text}");
        assert_eq!(to_allow(&sqs, Reason::SigV4UnknownKey), None, "no account");
        let partner =
            Call { account: Some("210987654321".into()), ..call("s3:PutObject", "arn:aws:s3:::b/k") };
        let text = to_allow(&partner, Reason::SigV4UnknownKey).unwrap().block();
        assert!(
            text.ends_with(r#"when: {signature: unknown_key, signer.account: "210987654321"}"#),
            "{text}"
        );
        for reason in [Reason::PolicyDenied, Reason::TlsBelowFloor, Reason::SigV4Signature] {
            assert_eq!(to_allow(&partner, reason), None, "{reason}");
        }
        assert_eq!(to_allow(&Call { more: true, ..call("a:B", "*") }, Reason::PolicyNoMatch), None);
        assert_eq!(to_allow(&call("s3:?", "*"), Reason::PolicyNoMatch), None);
    }
}
