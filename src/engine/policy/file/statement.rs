//! One statement of the file.

use std::sync::Arc;

use super::shape::{self, Shape};
use super::tunnel::duration;
use super::{Reader, did_you_mean, no_account};
use crate::engine::atlas::HostKind;
use crate::engine::facts::AccountId;
use crate::engine::policy::Placed;
use crate::engine::policy::action::{ActionError, ActionPattern};
use crate::engine::policy::condition::{Condition, Key, Named, Want};
use crate::engine::policy::http::HttpRule;
use crate::engine::policy::node::{At, Code, Node, Value};
use crate::engine::policy::pattern::{ArnPattern, Glob, HostPattern};
use crate::engine::policy::statement::{AwsRule, Effect, Rule, Statement, StreamLimits};
use crate::engine::words::nearest;

impl Reader<'_> {
    pub(super) fn statements(&mut self, items: &[Node]) -> Vec<Statement> {
        let mut read: Vec<Statement> = Vec::new();
        // Ids of statements that are wrong otherwise count too.
        let mut ids: Vec<(String, u64)> = Vec::new();
        for item in items {
            let (id, statement) = self.statement(item);
            match ids.iter().find(|(other, _)| *other == id) {
                Some((_, line)) => {
                    let message = format!("id `{id}` stands at line {line} already");
                    self.problem(item.at, Code::Conflict, message);
                }
                None if !id.is_empty() => ids.push((id, item.at.line)),
                None => {}
            }
            read.extend(statement);
        }
        read
    }

    fn statement(&mut self, node: &Node) -> (String, Option<Statement>) {
        let before = self.problems.len();
        let name = id_of(node);
        let what = name.as_ref().map_or("this statement".to_owned(), |id| format!("statement `{id}`"));
        let [id, effect, action, resource, http, tunnel, when, mode, expires, upstream, _inject, alpn] =
            self.fields(node, &what, &shape::STATEMENT);
        let id = id.and_then(|node| Some((node.at, self.text(node, Shape::Id)?)));
        if let Some((at, id)) = id
            && (id.len() > 64 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)))
        {
            self.problem(at, Code::Value, format!("id: want {}", Shape::Id.want()));
        }
        let id = id.map_or("", |(_, id)| id).to_owned();
        let effects = [("deny", Effect::Deny), ("allow", Effect::Allow)];
        let effect = effect.map_or(Effect::Deny, |node| self.word("effect", node, Shape::Effect, &effects));
        if let (Some(tunnel), Some(_), _) | (Some(tunnel), _, Some(_)) = (tunnel, action, http) {
            let message =
                "`tunnel` stands alone: nothing in it is read, so no action or path can be asked; write two";
            self.problem(tunnel.at, Code::Conflict, message);
        }
        let rule = match (action, http) {
            (Some(action), None) => self.aws_rule(node, &what, effect, action, resource),
            (None, Some(http)) => {
                if let Some(resource) = resource {
                    let message = "`resource` belongs to `action`; an `http` statement has `path`";
                    self.problem(resource.at, Code::Conflict, message);
                }
                self.http_rule(http)
            }
            (Some(action), Some(http)) => {
                let message =
                    "`action` and `http` in one statement: an AWS call is never matched by `http`; write two";
                self.problem(http.at, Code::Conflict, message);
                self.aws_rule(node, &what, effect, action, resource);
                self.http_rule(http)
            }
            (None, None) => match tunnel {
                Some(tunnel) => self.tunnel_rule(tunnel, effect, when),
                None => {
                    let message = format!("{what} has neither `action` nor `http` nor `tunnel`");
                    self.problem(node.at, Code::Missing, message);
                    None
                }
            },
        };
        let when = when.map_or(Vec::new(), |node| self.conditions(node));
        let report = mode.is_some_and(|node| self.word("mode", node, Shape::Mode, &[("report", true)]));
        let expires = expires.and_then(|node| self.expiry(node, effect));
        let (min_tls13, stream) = upstream.map_or_else(Default::default, |node| self.upstream(node, effect));
        let http2 = alpn.is_some_and(|node| {
            if http.is_none() || effect == Effect::Deny {
                let message = "`alpn` belongs to an allow with `http`: of AWS's endpoints it is known";
                self.problem(node.at, Code::Conflict, message);
            }
            self.word("alpn", node, Shape::Alpn, &[("h2", true)])
        });
        let whole = self.problems.len() == before;
        let placed = Placed {
            id: id.as_str().into(),
            file: Arc::from(self.file),
            line: node.at.line,
            column: node.at.column,
        };
        let statement = rule.filter(|_| whole).map(|rule| Statement {
            placed,
            effect,
            rule,
            when,
            report,
            expires,
            min_tls13,
            stream,
            http2,
            sign_in: None,
        });
        (id, statement)
    }

    fn expiry(&mut self, node: &Node, effect: Effect) -> Option<i64> {
        if effect == Effect::Deny {
            let message = "`expires` stands on allows only: a deny that ends would open what it shut";
            self.problem(node.at, Code::Conflict, message);
        }
        let text = self.text(node, Shape::Date)?;
        let end = end_of_day(text);
        if end.is_none() {
            self.problem(node.at, Code::Value, format!("expires: got {text:?}, want {}", Shape::Date.want()));
        }
        end
    }

    fn upstream(&mut self, node: &Node, effect: Effect) -> (bool, StreamLimits) {
        if effect == Effect::Deny {
            self.problem(
                node.at,
                Code::Conflict,
                "`upstream` stands on allows only: a deny connects to nothing",
            );
        }
        let [tls, idle, life] = self.fields(node, "upstream", &shape::UPSTREAM);
        let words = [(">=1.2", false), (">=1.3", true)];
        let min_tls13 = tls.is_some_and(|node| self.word("tls", node, Shape::UpstreamTls, &words));
        let idle = idle.and_then(|node| self.value("idle", node, Shape::Duration, duration));
        let life = life.and_then(|node| self.value("life", node, Shape::Duration, duration));
        (min_tls13, StreamLimits { idle, life })
    }

    fn aws_rule(
        &mut self,
        node: &Node,
        what: &str,
        effect: Effect,
        action: &Node,
        resource: Option<&Node>,
    ) -> Option<Rule> {
        let mut actions = Vec::new();
        for (node, text) in self.many(action, Shape::Actions) {
            match ActionPattern::parse(text, self.atlas) {
                Ok(pattern) => {
                    let open = text.contains(['*', '?', '@']) && !pattern.is_whole_service();
                    if open && pattern.known(self.atlas).is_empty() {
                        let message = format!("`{text}` matches no action that is known");
                        self.warn(node.at, Code::MatchesNothing, message, None);
                    }
                    actions.push((node.at, pattern));
                }
                Err(error) => {
                    let code = match error {
                        ActionError::Malformed(_) => Code::Value,
                        _ => Code::UnknownAction,
                    };
                    self.problem_with(node.at, code, error.message(), error.help());
                }
            }
        }
        let Some(resource) = resource else {
            let message = format!("{what} has `action` and no `resource` (`\"*\"` is every resource)");
            self.problem(node.at, Code::Missing, message);
            return None;
        };
        let mut resources = Vec::new();
        for (node, text) in self.many(resource, Shape::Resources) {
            match ArnPattern::parse(text) {
                Ok(pattern) => resources.push((node.at, pattern)),
                Err(message) => {
                    let help =
                        text.strip_prefix("s3://").map(|rest| format!("did you mean `arn:aws:s3:::{rest}`?"));
                    self.problem_with(node.at, Code::Value, message, help);
                }
            }
        }
        if effect == Effect::Allow && actions.iter().all(|(_, action)| !action.is_any()) {
            self.strangers(&resources);
        }
        self.odd_pairs(&actions, &resources);
        let actions = actions.into_iter().map(|(_, action)| action).collect();
        let resources = resources.into_iter().map(|(_, resource)| resource).collect();
        Some(Rule::Aws(AwsRule { actions, resources }))
    }

    /// Patterns that an allow hardly means: in one namespace for all accounts, `*` is everybody's.
    fn strangers(&mut self, resources: &[(At, ArnPattern)]) {
        for (at, pattern) in resources.iter().filter(|(_, pattern)| pattern.as_str().ends_with(":::*")) {
            let message =
                format!("`{}` is every resource of the service, those of strangers too", pattern.as_str());
            self.warn(*at, Code::Wide, message, None);
        }
    }

    /// Actions and resources that never meet.
    fn odd_pairs(&mut self, actions: &[(At, ActionPattern)], resources: &[(At, ArnPattern)]) {
        for (at, pattern) in resources {
            let service = pattern.service();
            let of = |action: &ActionPattern| {
                let (Some(named), Some(service)) = (action.service(), service) else { return true };
                named == service || arns_of(named).contains(&service) || self.atlas.actions(service).is_none()
            };
            if !actions.is_empty() && !actions.iter().any(|(_, action)| of(action)) {
                let message = format!("`{}` is of another service than every action here", pattern.as_str());
                self.warn(*at, Code::NeverMatches, message, None);
            }
        }
        if resources.is_empty() || resources.iter().any(|(_, pattern)| pattern.is_any()) {
            return;
        }
        for (at, action) in actions {
            let known = action.known(self.atlas);
            let Some(service) = action.service().filter(|_| !known.is_empty()) else { continue };
            if known.iter().all(|action| action.no_resource) {
                let names: Vec<_> = known.iter().map(|a| format!("`{service}:{}`", a.name)).take(3).collect();
                let message =
                    format!("{} takes no resource: only `resource: \"*\"` names it", names.join(", "));
                self.warn(*at, Code::NoResource, message, Some("give it a statement of its own".to_owned()));
            }
        }
    }

    fn http_rule(&mut self, node: &Node) -> Option<Rule> {
        let [host, method, path, _originate] = self.fields(node, "http", &shape::HTTP);
        let hosts = self.each(host?, Shape::Hosts, HostPattern::parse);
        for (at, host) in &hosts {
            let Some(name) = host.literal() else { continue };
            if matches!(self.atlas.host(&name), HostKind::Service(_) | HostKind::UnknownAws) {
                let message = format!(
                    "`http` never matches `{name}`, which is AWS's: its calls are judged by `action`"
                );
                self.warn(*at, Code::NeverMatches, message, None);
            }
        }
        let methods = method.map_or(Vec::new(), |node| {
            self.each(node, Shape::Methods, |text| {
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
            self.each(node, Shape::Paths, |text| match text {
                _ if !text.starts_with('/') => Err(format!("`{text}`: a path begins with `/`")),
                _ if text.contains(['?', '#']) && text.contains('=') => {
                    Err(format!("`{text}`: a path has no query; `?` is any one character"))
                }
                _ => Ok(Glob::new(text)),
            })
        });
        let bare = |list: Vec<(At, Box<str>)>| list.into_iter().map(|(_, value)| value).collect();
        Some(Rule::Http(HttpRule {
            hosts: hosts.into_iter().map(|(_, host)| host).collect(),
            methods: bare(methods),
            paths: paths.into_iter().map(|(_, path)| path).collect(),
        }))
    }

    fn conditions(&mut self, node: &Node) -> Vec<Condition> {
        let Value::Map(pairs) = &node.value else {
            self.problem(node.at, Code::Value, format!("when: want {}", Shape::When.want()));
            return Vec::new();
        };
        let mut conditions = Vec::new();
        for (name, value) in pairs {
            let Some(text) = self.text(name, Shape::When) else { continue };
            let Some(key) = Key::parse(text) else {
                let later = text.starts_with("tag.") || text.starts_with("time");
                let message =
                    format!("when: `{text}` can't be asked{}", if later { " by this version" } else { "" });
                let known = Named::ALL.iter().map(|key| key.as_str()).chain(["header.NAME"]);
                self.problem_with(name.at, Code::UnknownKey, message, did_you_mean(nearest(text, known)));
                continue;
            };
            let (value, not) = match &value.value {
                Value::Map(inner) => match inner.as_slice() {
                    [(Node { value: Value::Scalar(word), .. }, tested)] if word == "not" => (tested, true),
                    _ => {
                        let message = "want a value, a list of values, or {not: …}";
                        self.problem(value.at, Code::Value, message);
                        continue;
                    }
                },
                _ => (value, false),
            };
            let is_account = matches!(key, Key::Named(Named::SignerAccount | Named::ResourceAccount));
            let mut wants = Vec::new();
            for (node, text) in self.many(value, Shape::When) {
                match Want::parse(&key, text) {
                    // Told how YAML reads it, as everywhere.
                    Ok(_) if is_account && node.number => {
                        wants.extend(self.account(node, text).map(Want::Account));
                    }
                    Ok(want) => wants.push(want),
                    Err(_) if is_account && AccountId::parse(text).is_none() => {
                        let (message, help) = no_account(text, node.number);
                        self.problem_with(node.at, Code::AccountId, message, help);
                    }
                    Err(message) => self.problem(node.at, Code::Value, message),
                }
            }
            if !wants.is_empty() {
                conditions.push(Condition { key, wants, not });
            }
        }
        conditions
    }
}

/// ARNs of these services also stand for what another prefix's actions are on.
fn arns_of(prefix: &str) -> &'static [&'static str] {
    match prefix {
        "s3" => &["s3express", "s3-outposts", "s3-object-lambda"],
        "s3express" | "s3-outposts" | "s3-object-lambda" => {
            &["s3", "s3express", "s3-outposts", "s3-object-lambda"]
        }
        "sts" => &["iam"],
        _ => &[],
    }
}

fn id_of(node: &Node) -> Option<String> {
    let Value::Map(pairs) = &node.value else { return None };
    pairs.iter().find_map(|(key, value)| match (&key.value, &value.value) {
        (Value::Scalar(key), Value::Scalar(id)) if key == "id" && !id.is_empty() => Some(id.clone()),
        _ => None,
    })
}

/// The first second after that day, UTC.
fn end_of_day(text: &str) -> Option<i64> {
    const DATE: &[time::format_description::BorrowedFormatItem<'_>] =
        time::macros::format_description!("[year]-[month]-[day]");
    let day = time::Date::parse(text, DATE).ok()?.next_day()?;
    Some(day.midnight().assume_utc().unix_timestamp())
}
