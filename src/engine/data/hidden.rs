//! What is hidden in the data that may be shown: by rule, and what is a secret by custom whatever the rules say.

use super::Path;
use crate::engine::policy::pattern::Glob;

/// Parts of names that hold secrets, in lower case and without `-`, `_` and blanks.
const SECRET_NAMES: [&str; 17] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "credential",
    "authorization",
    "apikey",
    "privatekey",
    "accesskey",
    "sharedkey",
    "signingkey",
    "plaintext",
    "signature",
    "cookie",
    "authdata",
];
/// How values begin that are secrets wherever they stand.
const SECRET_BEGINNINGS: [&str; 9] = [
    "bearer ",
    "basic ",
    "aws4-hmac-sha256",
    "sk_live_",
    "rk_live_",
    "ghp_",
    "github_pat_",
    "xoxb-",
    "xoxp-",
];
const SECRET_PARTS: [&str; 5] =
    ["-----begin", "x-amz-signature=", "x-amz-security-token=", "x-amz-credential=", "signature="];
/// Characters of an AWS secret access key.
const SECRET_KEY: usize = 40;

/// Rules of the settings.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Hidden {
    paths: Vec<Path>,
    patterns: Vec<Glob>,
}

impl Hidden {
    /// One step hides every member of that name, at any depth; several lead from `requestParameters` or
    /// `responseElements`. What stands below is hidden too. `false`: no path.
    pub fn add_path(&mut self, text: &str) -> bool {
        Path::parse(text).map(|path| self.paths.push(path)).is_some()
    }

    /// Hides values that match as a whole. `false`: empty.
    pub fn add_pattern(&mut self, text: &str) -> bool {
        if !text.is_empty() {
            self.patterns.push(Glob::new(text));
        }
        !text.is_empty()
    }

    /// `names` lead to the member, from its root.
    pub(super) fn member(&self, names: &[String]) -> bool {
        let same = |step: &Glob, name: &String| step.matches_ignoring_case(name);
        names[1..].iter().any(|name| is_secret_name(name))
            || self.paths.iter().any(|Path(steps)| match &steps[..] {
                [step] => names[1..].iter().any(|name| same(step, name)),
                steps => {
                    steps.len() <= names.len() && steps.iter().zip(names).all(|(step, name)| same(step, name))
                }
            })
    }

    pub(super) fn value(&self, text: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(text)) || is_secret(text)
    }
}

fn is_secret_name(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_NAMES.iter().any(|part| plain.contains(part))
}

fn is_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let words = || text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '&' | '='));
    SECRET_BEGINNINGS.iter().any(|start| lower.trim_start().starts_with(start))
        || SECRET_PARTS.iter().any(|part| lower.contains(part))
        || names_a_password(text)
        || words().any(|word| is_web_token(word) || is_secret_key(word))
}

/// `scheme://user:password@host`.
fn names_a_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.split_once('@').is_some_and(|(user, _)| user.contains(':'))
    })
}

/// RFC 7519: three parts of base64url, of which the first is a JSON object.
fn is_web_token(word: &str) -> bool {
    word.starts_with("eyJ") && word.split('.').filter(|part| part.len() > 4).count() >= 3
}

fn is_secret_key(word: &str) -> bool {
    let has = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    word.len() == SECRET_KEY
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'+'))
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
        for name in [
            "Password",
            "db_password",
            "SecretString",
            "X-Api-Key",
            "NextToken",
            "api key",
            "PRIVATE-KEY",
            "Plaintext",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["TableName", "Key", "QueueUrl", "id", "Passenger"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn forms_of_secrets_are_known_wherever_they_stand() {
        for text in [
            "Bearer abc",
            "basic dTpw",
            "AWS4-HMAC-SHA256 Credential=x",
            "x -----BEGIN PRIVATE KEY-----",
            "https://b.s3.amazonaws.com/k?X-Amz-Signature=00",
            "postgres://u:p@db/x",
            "id eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "key=wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "ghp_x",
        ] {
            assert!(is_secret(text), "{text}");
        }
        for text in [
            "orders",
            "https://a.test/x@y",
            "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
            "basics",
            "mail@a.test",
            "eyJ.a.b",
        ] {
            assert!(!is_secret(text), "{text}");
        }
    }
}
