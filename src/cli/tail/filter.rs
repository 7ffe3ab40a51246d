//! `verdict:deny service:s3,sqs host:*.example.com`: which calls are shown.

use crate::cli::lines::Event;
use crate::engine::facts::words;
use crate::engine::reason::Reason;
use crate::engine::words::nearest;

words! {
    #[derive(PartialOrd, Ord)]
    pub(super) enum Field {
        Verdict = "verdict",
        Service = "service",
        Operation = "operation",
        Resource = "resource",
        Host = "host",
        Reason = "reason",
        Account = "account",
        Key = "key",
        Signature = "signature",
        Statement = "statement",
        Origin = "origin",
    }
}

const VERDICTS: &[&str] = &["allow", "deny", "report", "failed"];
const ORIGINS: &[&str] = &["client", "exeat"];
const SIGNATURES: &[&str] = &["verified", "bad", "unknown_key", "unsigned"];

/// All filters hold, each by any of its patterns. Without one, everything is shown.
#[derive(Debug, Default)]
pub(super) struct Filter(Vec<(Field, Vec<String>)>);

impl Filter {
    /// What is wrong with it says what would be right: a filter that matches nothing looks like silence.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a String>) -> Result<Self, String> {
        words.into_iter().map(|word| one(word)).collect::<Result<_, _>>().map(Self)
    }

    pub fn holds(&self, event: &Event) -> bool {
        self.0.iter().all(|(field, patterns)| {
            let is = |text: &str| patterns.iter().any(|pattern| matches(pattern, text));
            let ours = event.ours();
            let maybe = |text: Option<&str>| text.is_some_and(is);
            match field {
                Field::Verdict => is(event.verdict()),
                Field::Service => event.is_aws() && is(event.service()),
                // With its service or without.
                Field::Operation => is(&event.event_name) || is(&event.call()),
                Field::Resource => event.resources.iter().any(|named| is(&named.arn)),
                Field::Host => {
                    maybe(event.host().map(|host| host.split(':').next().unwrap_or(host)))
                        || maybe(event.host())
                }
                Field::Reason => maybe(ours.reason.as_deref()),
                Field::Account => maybe(event.account()),
                Field::Key => maybe(event.key()),
                Field::Signature => maybe(ours.signature.as_deref()),
                Field::Statement => maybe(ours.statement.as_deref()),
                Field::Origin => is(if event.is_own() { "exeat" } else { "client" }),
            }
        })
    }
}

fn one(word: &str) -> Result<(Field, Vec<String>), String> {
    let names = || Field::ALL.iter().map(|field| field.as_str());
    let Some((name, patterns)) = word.split_once(':') else {
        return Err(format!("`{word}`: want FIELD:VALUE, such as verdict:deny"));
    };
    let field: Field = name.parse().map_err(|()| match nearest(name, names()) {
        Some(near) => format!("`{word}`: no field is called `{name}`; did you mean `{near}`?"),
        None => format!(
            "`{word}`: no field is called `{name}`; there are {}",
            names().collect::<Vec<_>>().join(", ")
        ),
    })?;
    let patterns: Vec<String> = patterns.split(',').map(str::to_owned).collect();
    for pattern in &patterns {
        if pattern.is_empty() {
            return Err(format!("`{word}`: a value is missing"));
        }
        match field {
            Field::Verdict => known(word, pattern, VERDICTS.iter().copied())?,
            Field::Signature => known(word, pattern, SIGNATURES.iter().copied())?,
            Field::Origin => known(word, pattern, ORIGINS.iter().copied())?,
            Field::Reason => known(word, pattern, Reason::ALL.iter().map(|reason| reason.as_str()))?,
            _ => {}
        }
    }
    Ok((field, patterns))
}

/// Of a closed set: a pattern that nothing in it matches is a slip.
fn known<'a>(word: &str, pattern: &str, all: impl Iterator<Item = &'a str> + Clone) -> Result<(), String> {
    if all.clone().any(|one| matches(pattern, one)) {
        return Ok(());
    }
    Err(match nearest(pattern, all.clone()) {
        Some(near) => format!("`{word}`: nothing is called `{pattern}`; did you mean `{near}`?"),
        None if all.clone().count() < 8 => {
            format!(
                "`{word}`: nothing is called `{pattern}`; there are {}",
                all.collect::<Vec<_>>().join(", ")
            )
        }
        None => format!("`{word}`: no reason is called `{pattern}`; `exeat explain` lists them"),
    })
}

/// `*` is any run of characters. Case does not count: nobody should miss a call over it.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = strip_prefix(text, first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = find(rest, part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len()
        && rest.is_char_boundary(rest.len() - last.len())
        && rest[rest.len() - last.len()..].eq_ignore_ascii_case(last)
}

fn strip_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn find(text: &str, part: &str) -> Option<usize> {
    (0..=text.len().checked_sub(part.len())?)
        .find(|&at| text.get(at..at + part.len()).is_some_and(|here| here.eq_ignore_ascii_case(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run_and_everything_else_itself() {
        for (pattern, text, want) in [
            ("s3", "s3", true),
            ("S3", "s3", true),
            ("s3", "s3-control", false),
            ("*", "", true),
            ("tls.*", "tls.no_sni", true),
            ("tls.*", "target.tls", false),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("*\u{e4}*", "x\u{e4}y", true),
            ("*b", "\u{e4}", false),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn slips_are_told_with_what_was_meant() {
        for (word, said) in [
            ("verdikt:deny", "did you mean `verdict`?"),
            ("colour:red", "there are verdict, service"),
            ("deny", "want FIELD:VALUE"),
            ("verdict:", "a value is missing"),
            ("verdict:deny,", "a value is missing"),
            ("verdict:denny", "did you mean `deny`?"),
            ("verdict:refused", "there are allow, deny"),
            ("origin:us", "there are client, exeat"),
            ("reason:policy.nomatch", "did you mean `policy.no_match`?"),
            ("reason:xyz.*", "`exeat explain` lists them"),
        ] {
            let error = Filter::parse(&[word.to_owned()]).unwrap_err();
            assert!(error.contains(said) && error.contains(word), "{word}: {error}");
        }
        assert!(Filter::parse(&["verdict:deny,report".to_owned(), "reason:tls.*".to_owned()]).is_ok());
    }
}
