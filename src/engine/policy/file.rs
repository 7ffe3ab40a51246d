//! The policy's YAML: a tree in, statements out, or every problem at once with its place.
//!
//! `file/shape.rs` says which keys there are; `file/statement.rs` reads a statement.

pub mod shape;
mod statement;
mod tunnel;

use ipnet::IpNet;

use self::shape::{Fields, Shape};
use super::node::{At, Code, Node, Problem, Severity, Value};
use super::pattern::HostPattern;
use super::perimeter::{Accounts, Perimeter};
use super::statement::Statement;
use crate::engine::atlas::Atlas;
use crate::engine::facts::AccountId;
use crate::engine::target::wholly_shut;
use crate::engine::words::nearest;

/// What a file says, before it is indexed.
#[derive(Debug)]
pub struct Read {
    pub report: bool,
    pub perimeter: Perimeter,
    pub addresses: Vec<(HostPattern, Vec<IpNet>)>,
    pub statements: Vec<Statement>,
    pub warnings: Vec<Problem>,
}

/// Understands a whole tree. What is wrong comes with what is odd, so that one run tells all.
pub fn read(file: &str, root: &Node, atlas: &'static Atlas) -> Result<Read, Vec<Problem>> {
    let mut reader = Reader { file, atlas, problems: Vec::new(), warnings: Vec::new(), orgs: Vec::new() };
    let read = reader.policy(root);
    if reader.problems.is_empty() {
        reader.warnings.sort_by_key(|problem| problem.at);
        return Ok(Read { warnings: reader.warnings, ..read });
    }
    reader.problems.append(&mut reader.warnings);
    reader.problems.sort_by_key(|problem| problem.at);
    Err(reader.problems)
}

struct Reader<'f> {
    file: &'f str,
    atlas: &'static Atlas,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    orgs: Vec<(String, Vec<AccountId>)>,
}

impl Reader<'_> {
    fn problem(&mut self, at: At, code: Code, message: impl Into<String>) {
        self.problem_with(at, code, message, None);
    }

    fn problem_with(&mut self, at: At, code: Code, message: impl Into<String>, help: Option<String>) {
        self.problems.push(self.found(Severity::Error, at, code, message.into(), help));
    }

    fn warn(&mut self, at: At, code: Code, message: impl Into<String>, help: Option<String>) {
        self.warnings.push(self.found(Severity::Warning, at, code, message.into(), help));
    }

    fn found(
        &self,
        severity: Severity,
        at: At,
        code: Code,
        message: String,
        help: Option<String>,
    ) -> Problem {
        Problem { file: self.file.to_owned(), at, severity, code, message, help }
    }

    /// The values of a mapping by name, in the table's order; unknown, repeated and missing keys are problems.
    fn fields<'n, const N: usize>(
        &mut self,
        node: &'n Node,
        what: &str,
        table: &'static Fields<N>,
    ) -> [Option<&'n Node>; N] {
        let mut found = [None; N];
        let Value::Map(pairs) = &node.value else {
            let known = table.iter().filter(|field| field.shape != Shape::Later).map(|field| field.name);
            let known = known.collect::<Vec<_>>().join(", ");
            self.problem(node.at, Code::Value, format!("want a mapping with {known}"));
            return found;
        };
        for (key, value) in pairs {
            let Value::Scalar(name) = &key.value else {
                self.problem(key.at, Code::UnknownKey, "want a name as key");
                continue;
            };
            match table.iter().position(|field| field.name == name) {
                Some(at) if table[at].shape == Shape::Later => {
                    let message = format!("`{name}` is not supported by this version");
                    self.problem(key.at, Code::Unsupported, message);
                    found[at] = Some(value);
                }
                Some(at) => found[at] = Some(value),
                None => {
                    let known = table.iter().filter(|field| field.shape != Shape::Later);
                    let help = did_you_mean(nearest(name, known.map(|field| field.name)));
                    self.problem_with(key.at, Code::UnknownKey, format!("unknown key `{name}`"), help);
                }
            }
        }
        for (field, _) in table.iter().zip(&found).filter(|(field, value)| field.required && value.is_none())
        {
            self.problem(
                node.at,
                Code::Missing,
                format!("{what} has no `{}`, want {}", field.name, field.shape.want()),
            );
        }
        found
    }

    fn text<'n>(&mut self, node: &'n Node, shape: Shape) -> Option<&'n str> {
        match &node.value {
            Value::Scalar(text) if !text.is_empty() => Some(text),
            _ => {
                self.problem(node.at, Code::Value, format!("want {}", shape.want()));
                None
            }
        }
    }

    /// One of some words; the first stands in for what is no such word.
    fn word<T: Copy>(&mut self, name: &str, node: &Node, shape: Shape, words: &[(&'static str, T)]) -> T {
        let fallback = words[0].1;
        let Some(text) = self.text(node, shape) else { return fallback };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => *value,
            None => {
                let help = did_you_mean(nearest(text, words.iter().map(|(word, _)| *word)));
                let message = format!("{name}: got {text:?}, want {}", shape.want());
                self.problem_with(node.at, Code::Value, message, help);
                fallback
            }
        }
    }

    /// One value or a list of them; an empty list says nothing, and is a problem.
    fn many<'n>(&mut self, node: &'n Node, shape: Shape) -> Vec<(&'n Node, &'n str)> {
        match &node.value {
            Value::List(items) if !items.is_empty() => {
                items.iter().filter_map(|item| self.text(item, shape).map(|text| (item, text))).collect()
            }
            _ => self.text(node, shape).map(|text| (node, text)).into_iter().collect(),
        }
    }

    /// Each value parsed, with its place; those that can't be are problems.
    fn each<T>(
        &mut self,
        node: &Node,
        shape: Shape,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<(At, T)> {
        let mut parsed = Vec::new();
        for (node, text) in self.many(node, shape) {
            match parse(text) {
                Ok(value) => parsed.push((node.at, value)),
                Err(message) => self.problem(node.at, Code::Value, message),
            }
        }
        parsed
    }

    fn policy(&mut self, root: &Node) -> Read {
        let [version, default, perimeter, orgs, addresses, statements] =
            self.fields(root, "the policy", &shape::POLICY);
        if let Some(node) = version {
            self.word("version", node, Shape::Version, &[("1", ())]);
        }
        let words = [("deny", false), ("report", true)];
        let report = default.is_some_and(|node| self.word("default", node, Shape::Default, &words));
        if let Some(node) = orgs {
            self.orgs = self.org_map(node);
        }
        let perimeter = perimeter.map_or_else(Perimeter::default, |node| self.perimeter(node));
        let addresses = addresses.map_or(Vec::new(), |node| self.address_map(node));
        let statements = match statements.map(|node| (node.at, &node.value)) {
            Some((_, Value::List(items))) => self.statements(items),
            Some((at, _)) => {
                self.problem(
                    at,
                    Code::Value,
                    "statements: want a list (an empty one, [], denies everything)",
                );
                Vec::new()
            }
            None => Vec::new(),
        };
        Read { report, perimeter, addresses, statements, warnings: Vec::new() }
    }

    fn org_map(&mut self, node: &Node) -> Vec<(String, Vec<AccountId>)> {
        let Value::Map(pairs) = &node.value else {
            self.problem(node.at, Code::Value, format!("orgs: want {}", Shape::Orgs.want()));
            return Vec::new();
        };
        let mut orgs = Vec::new();
        for (key, value) in pairs {
            let name = self.text(key, Shape::Orgs).unwrap_or_default().to_owned();
            if !name.is_empty() && !name.starts_with("o-") {
                self.problem(
                    key.at,
                    Code::Value,
                    format!("`{name}` is no organisation id: those begin with `o-`"),
                );
            }
            let mut accounts = Vec::new();
            for (node, text) in self.many(value, Shape::Accounts) {
                accounts.extend(self.account(node, text));
            }
            orgs.push((name, accounts));
        }
        orgs
    }

    fn perimeter(&mut self, node: &Node) -> Perimeter {
        let [signers, resources] = self.fields(node, "perimeter", &shape::PERIMETER);
        Perimeter {
            signers: signers.map_or(Accounts::OURS, |node| self.accounts(node)),
            resources: resources.map(|node| self.accounts(node)),
        }
    }

    /// An empty list is nobody.
    fn accounts(&mut self, node: &Node) -> Accounts {
        let mut accounts = Accounts { ours: false, named: Vec::new() };
        if matches!(&node.value, Value::List(items) if items.is_empty()) {
            return accounts;
        }
        for (node, text) in self.many(node, Shape::Accounts) {
            if text == "self" {
                accounts.ours = true;
            } else if let Some((_, members)) = self.orgs.iter().find(|(name, _)| name == text) {
                accounts.named.extend_from_slice(members);
            } else if text.starts_with("o-") {
                let message = format!("organisation `{text}` is not in `orgs`");
                let help = did_you_mean(nearest(text, self.orgs.iter().map(|(name, _)| name.as_str())));
                self.problem_with(node.at, Code::Value, message, help);
            } else {
                accounts.named.extend(self.account(node, text));
            }
        }
        accounts
    }

    /// An account id. YAML tools read unquoted ones as numbers, some as octal ones: what they would make of it is told.
    fn account(&mut self, node: &Node, text: &str) -> Option<AccountId> {
        let quoted = |id: &str| Some(format!("write \"{id}\", in quotes"));
        match AccountId::parse(text) {
            Some(account) if node.number => {
                let read =
                    octal(text).map_or("a number".to_owned(), |value| format!("the octal number {value}"));
                let message = format!("account id without quotes: other YAML tools read {text} as {read}");
                self.warn(node.at, Code::AccountId, message, quoted(text));
                Some(account)
            }
            Some(account) => Some(account),
            None => {
                let (message, help) = no_account(text, node.number);
                self.problem_with(node.at, Code::AccountId, message, help);
                None
            }
        }
    }

    fn address_map(&mut self, node: &Node) -> Vec<(HostPattern, Vec<IpNet>)> {
        let Value::Map(pairs) = &node.value else {
            self.problem(node.at, Code::Value, format!("addresses: want {}", Shape::Addresses.want()));
            return Vec::new();
        };
        let mut map = Vec::new();
        for (key, value) in pairs {
            let Some(name) = self.text(key, Shape::Addresses) else { continue };
            match HostPattern::parse(name) {
                // A range is of a name, whatever its ports.
                Ok(pattern) if !name.contains(':') => {
                    let ranges = self.each(value, Shape::Addresses, range);
                    map.push((pattern, ranges.into_iter().map(|(_, range)| range).collect()));
                }
                _ => self.problem(key.at, Code::Value, format!("`{name}` is no host name")),
            }
        }
        map
    }
}

/// What a text is that should be an account id, and what to write for it.
fn no_account(text: &str, number: bool) -> (String, Option<String>) {
    let message = format!("got {text:?}, want {}", Shape::Accounts.want());
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let only = |more: &str| text.chars().all(|c| c.is_ascii_digit() || more.contains(c));
    let named = |id: &str| Some(format!("did you mean \"{id}\"?"));
    if only("_- ") && digits.len() == 12 {
        return (message, named(&digits));
    }
    if number && only("") && digits.len() < 12 {
        let id = format!("{digits:0>12}");
        return (
            format!("{message}: this has {} digits", digits.len()),
            Some(format!("if zeros in front were lost, write \"{id}\"")),
        );
    }
    if let Some(value) = octal(text) {
        return (format!("{message}: this is the octal number {value}"), named(&format!("{value:012}")));
    }
    (message, nearest(text, ["self"].into_iter()).and_then(named))
}

/// What YAML 1.1 makes of `0…` and `0o…`.
fn octal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'))?;
    u64::from_str_radix(digits, 8).ok()
}

/// A range that a host may resolve into. What no policy may open stays shut.
fn range(text: &str) -> Result<IpNet, String> {
    let range: IpNet = text.parse().map_err(|_| format!("got {text:?}, want a range like 10.20.0.0/16"))?;
    match wholly_shut(&range) {
        Some(kind) => Err(format!("{text}: {kind} addresses can't be opened")),
        None => Ok(range),
    }
}

fn did_you_mean(meant: Option<&str>) -> Option<String> {
    meant.map(|meant| format!("did you mean `{meant}`?"))
}
