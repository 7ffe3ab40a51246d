//! The policy's YAML: a tree in, statements out, or every problem at once with its place.

use std::sync::Arc;

use ipnet::IpNet;

use super::condition::{Condition, Key, Want};
use super::node::{At, Node, Problem, Value};
use super::pattern::{ArnPattern, Glob, HostPattern};
use super::{ActionPattern, Effect, HttpRule, Perimeter, Placed, Rule, Statement};
use crate::engine::facts::{AccountId, Auth};
use crate::engine::target::{Host, wholly_shut};

/// What a file says, before it is indexed.
#[derive(Debug)]
pub struct Read {
    pub report: bool,
    pub perimeter: Perimeter,
    pub addresses: Vec<(Host, Vec<IpNet>)>,
    pub statements: Vec<Statement>,
    pub warnings: Vec<Problem>,
}

/// Understands a whole tree.
pub fn read(file: &str, root: &Node) -> Result<Read, Vec<Problem>> {
    let mut reader = Reader { file, problems: Vec::new(), warnings: Vec::new(), orgs: Vec::new() };
    let read = reader.policy(root);
    if reader.problems.is_empty() {
        return Ok(Read { warnings: reader.warnings, ..read });
    }
    reader.problems.sort_by_key(|problem| problem.at);
    Err(reader.problems)
}

struct Reader<'f> {
    file: &'f str,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    orgs: Vec<(String, Vec<AccountId>)>,
}

impl Reader<'_> {
    fn problem(&mut self, at: At, message: impl Into<String>) {
        self.problems.push(Problem { file: self.file.to_owned(), at, message: message.into() });
    }

    fn warn(&mut self, at: At, message: impl Into<String>) {
        self.warnings.push(Problem { file: self.file.to_owned(), at, message: message.into() });
    }

    /// The values of a mapping by name, in the order of `known`; unknown and repeated keys are problems.
    fn fields<'n, const N: usize>(&mut self, node: &'n Node, known: [&str; N]) -> [Option<&'n Node>; N] {
        let mut found = [None; N];
        let Value::Map(pairs) = &node.value else {
            self.problem(node.at, format!("want a mapping with {}", known.join(", ")));
            return found;
        };
        for (key, value) in pairs {
            let Value::Scalar(name) = &key.value else {
                self.problem(key.at, "want a name as key");
                continue;
            };
            match known.iter().position(|word| word == name) {
                Some(at) if found[at].is_some() => self.problem(key.at, format!("`{name}` stands twice")),
                Some(at) => found[at] = Some(value),
                None => {
                    let hint = nearest(name, known.iter().copied());
                    self.problem(key.at, format!("unknown key `{name}`{hint}"));
                }
            }
        }
        found
    }

    fn text<'n>(&mut self, node: &'n Node, want: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar(text) if !text.is_empty() => Some(text),
            _ => {
                self.problem(node.at, format!("want {want}"));
                None
            }
        }
    }

    /// One value or a list of them; an empty list says nothing, and is a problem.
    fn many<'n>(&mut self, node: &'n Node, want: &str) -> Vec<(At, &'n str)> {
        match &node.value {
            Value::List(items) if !items.is_empty() => {
                items.iter().filter_map(|item| self.text(item, want).map(|text| (item.at, text))).collect()
            }
            _ => self.text(node, want).map(|text| (node.at, text)).into_iter().collect(),
        }
    }

    /// Each value parsed; those that can't be are problems.
    fn each<T>(&mut self, node: &Node, want: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut parsed = Vec::new();
        for (at, text) in self.many(node, want) {
            match parse(text) {
                Ok(value) => parsed.push(value),
                Err(message) => self.problem(at, message),
            }
        }
        parsed
    }

    fn policy(&mut self, root: &Node) -> Read {
        let known = ["version", "default", "perimeter", "orgs", "addresses", "statements"];
        let [version, default, perimeter, orgs, addresses, statements] = self.fields(root, known);
        match version.map(|node| (node.at, self.text(node, "1"))) {
            Some((_, Some("1") | None)) => {}
            Some((at, Some(other))) => self.problem(at, format!("version: got {other}, want 1")),
            None => self.problem(root.at, "`version: 1` is missing"),
        }
        let report = match default.map(|node| (node.at, self.text(node, "deny or report"))) {
            None | Some((_, Some("deny") | None)) => false,
            Some((_, Some("report"))) => true,
            Some((at, Some(other))) => {
                self.problem(at, format!("default: got {other:?}, want deny or report"));
                false
            }
        };
        if let Some(node) = orgs {
            self.orgs = self.org_map(node);
        }
        let perimeter = match perimeter {
            Some(node) => self.perimeter(node),
            None => Perimeter::default(),
        };
        let addresses = addresses.map_or(Vec::new(), |node| self.address_map(node));
        let mut read = Vec::new();
        match statements.map(|node| (node.at, &node.value)) {
            Some((_, Value::List(items))) => {
                for item in items {
                    if let Some(statement) = self.statement(item) {
                        read.push(statement);
                    }
                }
            }
            Some((at, _)) => self.problem(at, "statements: want a list"),
            None => self.problem(root.at, "`statements` is missing (an empty list denies everything)"),
        }
        for (n, statement) in read.iter().enumerate() {
            if let Some(first) = read[..n].iter().find(|other| other.placed.id == statement.placed.id) {
                let message =
                    format!("id `{}` stands at line {} already", statement.placed.id, first.placed.line);
                self.problem(At { line: statement.placed.line, column: statement.placed.column }, message);
            }
        }
        Read { report, perimeter, addresses, statements: read, warnings: Vec::new() }
    }

    fn org_map(&mut self, node: &Node) -> Vec<(String, Vec<AccountId>)> {
        let Value::Map(pairs) = &node.value else {
            self.problem(node.at, "orgs: want a mapping of organisation ids to lists of account ids");
            return Vec::new();
        };
        let mut orgs = Vec::new();
        for (key, value) in pairs {
            let name = self.text(key, "an organisation id").unwrap_or_default().to_owned();
            let accounts = self.each(value, "account ids", account);
            orgs.push((name, accounts));
        }
        orgs
    }

    fn perimeter(&mut self, node: &Node) -> Perimeter {
        let [signers, resources] = self.fields(node, ["signers", "resources"]);
        Perimeter {
            signers: signers.map_or(super::Accounts::OURS, |node| self.accounts(node)),
            resources: resources.map(|node| self.accounts(node)),
        }
    }

    fn accounts(&mut self, node: &Node) -> super::Accounts {
        let mut accounts = super::Accounts { ours: false, named: Vec::new() };
        if matches!(&node.value, Value::List(items) if items.is_empty()) {
            return accounts;
        }
        for (at, text) in self.many(node, "account ids, `self` or organisation ids") {
            if text == "self" {
                accounts.ours = true;
            } else if let Some((_, members)) = self.orgs.iter().find(|(name, _)| name == text) {
                accounts.named.extend_from_slice(members);
            } else if let Some(account) = AccountId::parse(text) {
                accounts.named.push(account);
            } else if text.starts_with("o-") {
                self.problem(at, format!("organisation `{text}` is not in `orgs`"));
            } else {
                self.problem(
                    at,
                    format!("got {text:?}, want twelve digits (quoted), self or an organisation id"),
                );
            }
        }
        accounts
    }

    fn address_map(&mut self, node: &Node) -> Vec<(Host, Vec<IpNet>)> {
        let Value::Map(pairs) = &node.value else {
            self.problem(node.at, "addresses: want a mapping of hosts to address ranges");
            return Vec::new();
        };
        let mut map = Vec::new();
        for (key, value) in pairs {
            let Some(name) = self.text(key, "a host") else { continue };
            match Host::parse(name) {
                Ok(host @ Host::Name(_)) => {
                    let ranges = self.each(value, "address ranges", range);
                    map.push((host, ranges));
                }
                _ => self.problem(key.at, format!("`{name}` is no host name")),
            }
        }
        map
    }

    fn statement(&mut self, node: &Node) -> Option<Statement> {
        let before = self.problems.len();
        let known = [
            "id", "effect", "action", "resource", "http", "tunnel", "when", "mode", "expires", "upstream",
            "inject", "alpn",
        ];
        let [id, effect, action, resource, http, tunnel, when, mode, expires, upstream, inject, alpn] =
            self.fields(node, known);
        for (name, found) in [("tunnel", tunnel), ("inject", inject), ("alpn", alpn)] {
            if let Some(found) = found {
                self.problem(found.at, format!("`{name}` is not supported by this version"));
            }
        }
        let id_node = id;
        let id = match id {
            Some(node) => self.text(node, "a statement id").unwrap_or_default(),
            None => {
                self.problem(node.at, "statement without `id`");
                ""
            }
        };
        if id.len() > 64 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            self.problem(
                id_node.map_or(node.at, |n| n.at),
                "id: want at most 64 letters, digits, `-`, `_` and `.`",
            );
        }
        let effect = match effect.map(|node| (node.at, self.text(node, "allow or deny"))) {
            Some((_, Some("allow"))) => Effect::Allow,
            Some((_, Some("deny"))) => Effect::Deny,
            Some((at, Some(other))) => {
                let hint = nearest(other, ["allow", "deny"].into_iter());
                self.problem(at, format!("effect: got {other:?}, want allow or deny{hint}"));
                Effect::Deny
            }
            Some((_, None)) => Effect::Deny,
            None => {
                self.problem(node.at, format!("statement `{id}` has no `effect`"));
                Effect::Deny
            }
        };
        let rule = match (action, http) {
            (Some(action), None) => self.aws_rule(node, id, action, resource),
            (None, Some(http)) => {
                if let Some(resource) = resource {
                    self.problem(
                        resource.at,
                        "`resource` belongs to `action`; an `http` statement has `path`",
                    );
                }
                self.http_rule(http)
            }
            (Some(_), Some(http)) => {
                self.problem(
                    http.at,
                    "`action` and `http` in one statement: an AWS call is never matched by `http`",
                );
                None
            }
            (None, None) => {
                if tunnel.is_none() {
                    self.problem(node.at, format!("statement `{id}` has neither `action` nor `http`"));
                }
                None
            }
        };
        let when = when.map_or(Vec::new(), |node| self.conditions(node));
        let report = match mode.map(|node| (node.at, self.text(node, "report"))) {
            Some((_, Some("report"))) => true,
            Some((at, Some(other))) => {
                self.problem(at, format!("mode: got {other:?}, want report"));
                false
            }
            _ => false,
        };
        let expires = expires.and_then(|node| {
            if effect == Effect::Deny {
                self.problem(
                    node.at,
                    "`expires` stands on allows only: a deny that ends would open what it shut",
                );
            }
            let text = self.text(node, "a date like 2026-12-31")?;
            let end = end_of_day(text);
            if end.is_none() {
                self.problem(node.at, format!("expires: got {text:?}, want a date like 2026-12-31"));
            }
            end
        });
        let min_tls13 = upstream.is_some_and(|node| {
            let [tls] = self.fields(node, ["tls"]);
            let Some(tls) = tls else { return false };
            match self.text(tls, "\">=1.2\" or \">=1.3\"").map(|text| text.replace(' ', "")).as_deref() {
                Some(">=1.3") => true,
                Some(">=1.2") | None => false,
                Some(other) => {
                    self.problem(tls.at, format!("tls: got {other:?}, want \">=1.2\" or \">=1.3\""));
                    false
                }
            }
        });
        let rule = rule.filter(|_| self.problems.len() == before)?;
        let placed =
            Placed { id: id.into(), file: Arc::from(self.file), line: node.at.line, column: node.at.column };
        let signature = when.iter().any(|condition| condition.key == Key::Signature);
        let bare = when.iter().any(names_bare_auth);
        Some(Statement { placed, effect, rule, when, signature, bare, report, expires, min_tls13 })
    }

    fn aws_rule(&mut self, node: &Node, id: &str, action: &Node, resource: Option<&Node>) -> Option<Rule> {
        let actions = self.each(action, "an action like s3:GetObject", ActionPattern::parse);
        let Some(resource) = resource else {
            self.problem(
                node.at,
                format!("statement `{id}` has `action` and no `resource` (`\"*\"` is every resource)"),
            );
            return None;
        };
        let resources = self.each(resource, "an ARN or \"*\"", ArnPattern::parse);
        for pattern in &resources {
            if pattern.as_str().ends_with(":::*") && actions.iter().all(|action| !action.is_any()) {
                self.warn(
                    resource.at,
                    format!(
                        "`{}` is every resource of the service, those of strangers too",
                        pattern.as_str()
                    ),
                );
            }
        }
        Some(Rule::Aws { actions, resources })
    }

    fn http_rule(&mut self, node: &Node) -> Option<Rule> {
        let [host, method, path, originate] = self.fields(node, ["host", "method", "path", "originate_tls"]);
        if let Some(node) = originate {
            self.problem(node.at, "`originate_tls` is not supported by this version");
        }
        let Some(host) = host else {
            self.problem(node.at, "`http` without `host`");
            return None;
        };
        let hosts = self.each(host, "a host", HostPattern::parse);
        let methods = method.map_or(Vec::new(), |node| {
            self.each(node, "a method", |text| {
                let plain = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
                    && text != "TRACE"
                    && text != "CONNECT";
                if plain {
                    Ok(text.into())
                } else {
                    Err(format!("got {text:?}, want a method in capitals, not TRACE or CONNECT"))
                }
            })
        });
        let paths = path.map_or(Vec::new(), |node| {
            self.each(node, "a path", |text| {
                if text.starts_with('/') {
                    Ok(Glob::new(text))
                } else {
                    Err(format!("`{text}`: a path begins with `/`"))
                }
            })
        });
        let any_path = paths.is_empty() || paths.iter().any(|path| path.as_str() == "/*");
        Some(Rule::Http(HttpRule { hosts, methods, paths, any_path }))
    }

    fn conditions(&mut self, node: &Node) -> Vec<Condition> {
        let Value::Map(pairs) = &node.value else {
            self.problem(node.at, "when: want a mapping of keys to values");
            return Vec::new();
        };
        let mut conditions = Vec::new();
        for (name, value) in pairs {
            let Some(text) = self.text(name, "a key") else { continue };
            let Some(key) = Key::parse(text) else {
                let later = text.starts_with("tag.") || text.starts_with("time");
                let hint =
                    if later { " by this version".to_owned() } else { nearest(text, Key::NAMES.into_iter()) };
                self.problem(name.at, format!("when: `{text}` can't be asked{hint}"));
                continue;
            };
            let (value, not) = match &value.value {
                Value::Map(inner) => match inner.as_slice() {
                    [(Node { value: Value::Scalar(word), .. }, tested)] if word == "not" => (tested, true),
                    _ => {
                        self.problem(value.at, "want a value, a list of values, or {not: …}");
                        continue;
                    }
                },
                _ => (value, false),
            };
            let wants = self.each(value, "a value", |text| Want::parse(&key, text));
            if !wants.is_empty() {
                conditions.push(Condition { key, wants, not });
            }
        }
        conditions
    }
}

/// The condition names a kind of call that carries no signature: that is the consent to it.
fn names_bare_auth(condition: &Condition) -> bool {
    let bare = [Auth::Bearer, Auth::Basic, Auth::Token, Auth::None];
    condition.key == Key::Auth
        && !condition.not
        && condition.wants.iter().any(|want| match want {
            Want::Text(glob) => glob.is_literal() && bare.iter().any(|kind| glob.matches(kind.as_str())),
            _ => false,
        })
}

fn account(text: &str) -> Result<AccountId, String> {
    AccountId::parse(text).ok_or_else(|| format!("got {text:?}, want twelve digits (quoted)"))
}

/// A range that a host may resolve into. What no policy may open stays shut.
fn range(text: &str) -> Result<IpNet, String> {
    let range: IpNet = text.parse().map_err(|_| format!("got {text:?}, want a range like 10.20.0.0/16"))?;
    match wholly_shut(&range) {
        Some(kind) => Err(format!("{text}: {kind} addresses can't be opened")),
        None => Ok(range),
    }
}

/// The first second after that day, UTC.
fn end_of_day(text: &str) -> Option<i64> {
    const DATE: &[time::format_description::BorrowedFormatItem<'_>] =
        time::macros::format_description!("[year]-[month]-[day]");
    let day = time::Date::parse(text, DATE).ok()?.next_day()?;
    Some(day.midnight().assume_utc().unix_timestamp())
}

/// `; did you mean …?`, where a slip leads to a known word.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    crate::engine::words::nearest(word, known)
        .map_or(String::new(), |meant| format!("; did you mean `{meant}`?"))
}
