//! What to write into a policy so that exactly one call is allowed.

use crate::engine::reason::Reason;

/// A call by the words of its record, or of a question.
#[derive(Debug, Default)]
pub(super) struct Call {
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
    /// What was asked, on what.
    pub(super) fn subject(&self) -> String {
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

/// A statement for the policy, where a statement is what was missing. `None` where something else was wrong, or not
/// all that was asked is known.
pub(super) fn to_allow(call: &Call, reason: Reason) -> Option<String> {
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
        return Some(format!(
            "  - id: {id}\n    effect: allow\n    http: {{host: {host}, method: {method}, path: {path}}}"
        ));
    };
    let resource = if call.resources.is_empty() { scalar("*") } else { one_or_list(&call.resources) };
    let mut statement = format!(
        "  - id: {}\n    effect: allow\n    action: {}\n    resource: {resource}",
        id(first),
        one_or_list(&call.actions)
    );
    if let Some(account) = unknown {
        statement.push_str(&format!("\n    when: {{signature: unknown_key, signer.account: \"{account}\"}}"));
    }
    if call.resources.iter().any(|arn| arn.contains(['*', '?'])) {
        statement.push_str("    # `*` and `?` stand for any characters here");
    }
    Some(statement)
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
            to_allow(&sqs, Reason::PolicyNoMatch).unwrap(),
            "  - id: allow-sqs-SendMessage\n    effect: allow\n    action: sqs:SendMessage\n    \
             resource: arn:aws:sqs:us-east-1:123456789012:orders"
        );
        let odd = call("s3:PutObject", "arn:aws:s3:::b/a \"b\": #*\n");
        let text = to_allow(&odd, Reason::PolicyNoMatch).unwrap();
        assert!(text.contains(r##"resource: "arn:aws:s3:::b/a \"b\": #*\n""##), "{text}");
        let http = Call { method: Some("POST".into()), host: "api.test".into(), ..Call::default() };
        let text = to_allow(&http, Reason::PolicyNoMatch).unwrap();
        assert!(text.ends_with(r#"http: {host: api.test, method: POST, path: "/*"}"#), "{text}");
        assert_eq!(to_allow(&sqs, Reason::SigV4UnknownKey), None, "no account");
        let partner =
            Call { account: Some("210987654321".into()), ..call("s3:PutObject", "arn:aws:s3:::b/k") };
        let text = to_allow(&partner, Reason::SigV4UnknownKey).unwrap();
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
