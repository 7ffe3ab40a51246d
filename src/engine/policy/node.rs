//! YAML as a tree in which every key and value knows its place, so that all problems can be told together.
//!
//! No duplicate keys; size, depth and aliases are bounded.

use std::fmt;

use serde_yaml::Spanned;

use crate::engine::facts::words;
use crate::engine::yaml::Tree;

/// A policy is some pages; what is larger is something else.
const MOST_BYTES: usize = 1 << 20;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub line: u64,
    pub column: u64,
}

words! {
    /// What kind of thing is wrong or odd: the rule that a finding of `check` is told under.
    pub enum Code {
        Syntax = "syntax",
        UnknownKey = "unknown_key",
        Missing = "missing",
        Value = "value",
        Conflict = "conflict",
        Unsupported = "unsupported",
        UnknownAction = "unknown_action",
        AccountId = "account_id",
        MatchesNothing = "matches_nothing",
        NeverMatches = "never_matches",
        NoResource = "no_resource",
        Shadowed = "shadowed",
        Expired = "expired",
        Wide = "wide",
        Setting = "setting",
    }
}

impl Code {
    /// What a finding of this kind means.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Syntax => "The file is no YAML, or more than a policy may be",
            Self::UnknownKey => "A key that nothing reads",
            Self::Missing => "Something that must be there is not",
            Self::Value => "A value of another kind than its key takes",
            Self::Conflict => "Two things that exclude each other",
            Self::Unsupported => "Part of a later version",
            Self::UnknownAction => "An action, service or set that IAM does not have",
            Self::AccountId => "An account id that YAML tools read as another number, or that is none",
            Self::MatchesNothing => "A pattern of actions that no action matches",
            Self::NeverMatches => "A statement that can never match",
            Self::NoResource => "An action that takes no resource, on a resource",
            Self::Shadowed => "A statement that another one makes idle",
            Self::Expired => "An allow whose last day is past",
            Self::Wide => "A pattern that also names what belongs to strangers",
            Self::Setting => "A setting that cannot be used",
        }
    }
}

words! {
    pub enum Severity {
        /// The policy can't be used.
        Error = "error",
        /// Surely not what was meant.
        Warning = "warning",
        /// Good to know.
        Note = "note",
    }
}

/// Something wrong or odd, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub at: At,
    pub severity: Severity,
    pub code: Code,
    pub message: String,
    /// What to write instead, where that can be guessed.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.at.line, self.at.column, self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
pub struct Node {
    pub at: At,
    pub value: Value,
    /// Written plain, and a number to YAML: other tools may read another one.
    pub number: bool,
}

#[derive(Debug)]
pub enum Value {
    /// Text as written, of numbers and booleans too.
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Null,
}

/// Reads one document.
pub fn parse(file: &str, text: &str) -> Result<Node, Problem> {
    let problem = |at, message| Problem {
        file: file.to_owned(),
        at,
        severity: Severity::Error,
        code: Code::Syntax,
        message,
        help: None,
    };
    if text.len() > MOST_BYTES {
        return Err(problem(At { line: 1, column: 1 }, "larger than 1 MiB".to_owned()));
    }
    let options = serde_yaml::options! { strict_booleans: true, with_snippet: false };
    match serde_yaml::from_str_with_options::<Spanned<Tree>>(text, options) {
        Ok(root) => Ok(Node::of(root, text)),
        Err(error) => {
            let message = error.without_snippet().to_string();
            let at = error
                .location()
                .map_or(At { line: 1, column: 1 }, |at| At { line: at.line(), column: at.column() });
            // The message ends in the place that we put first.
            let place = format!(" at line {}, column {}", at.line, at.column);
            Err(problem(at, message.strip_suffix(&place).unwrap_or(&message).to_owned()))
        }
    }
}

impl Node {
    fn of(spanned: Spanned<Tree>, text: &str) -> Self {
        let at = At { line: spanned.referenced.line(), column: spanned.referenced.column() };
        let number = matches!(spanned.value, Tree::Number(_));
        let value = match spanned.value {
            Tree::Text(text) => Value::Scalar(text),
            // Where it was written, that is, not where an alias repeats it.
            Tree::Number(_) => {
                let at = At { line: spanned.defined.line(), column: spanned.defined.column() };
                Value::Scalar(as_written(text, at))
            }
            Tree::List(items) => Value::List(items.into_iter().map(|item| Self::of(item, text)).collect()),
            Tree::Map(pairs) => {
                Value::Map(pairs.into_iter().map(|(k, v)| (Self::of(k, text), Self::of(v, text))).collect())
            }
            Tree::Null => Value::Null,
        };
        Self { at, value, number }
    }
}

/// The plain scalar at a place. Numbers and booleans have no spaces in them.
fn as_written(text: &str, at: At) -> String {
    let line = text.split('\n').nth(at.line.saturating_sub(1) as usize).unwrap_or_default();
    let ends = |c: char| c.is_whitespace() || ",]}".contains(c);
    let rest: String =
        line.chars().skip(at.column.saturating_sub(1) as usize).take_while(|c| !ends(*c)).collect();
    // A key's colon belongs to it only where more follows.
    rest.strip_suffix(':').map_or(rest.clone(), str::to_owned)
}
