//! On what: the ARNs that a request names, for the services whose parameters are known here. S3 has its own file.
//!
//! A request names a table or a queue by name or by ARN, some name several: every one becomes an ask. A body that is
//! not plain JSON, or has a key twice, names nothing that can be trusted: the resource is unknown.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::actions::Row;
use super::data::Service;
use super::members;
use super::operation::{BodySeen, Call};
use super::query::{Found, Pairs, decoded};
use super::rest::segments;
use crate::engine::facts::{AccountId, Action, Ask, Protocol, Resource};

/// Tables, items or statements of one call; AWS takes 100. Each becomes an ask, of many times its size.
const MAX_ITEMS: usize = 256;

/// What a call asks for, or that its body must be read to tell.
pub(super) enum Asks {
    Of(Vec<Ask>),
    NeedBody,
}

/// Asks of a call whose operation the head named.
pub(super) fn of_call(call: &Call<'_>, service: &Service, protocol: Protocol, row: &Row) -> Asks {
    if row.no_resource {
        return Asks::Of(row.on(&Resource::None));
    }
    let json = matches!(protocol, Protocol::Json10 | Protocol::Json11);
    match &*service.name {
        "dynamodb" | "dynamodbstreams" | "sqs" if json => match call.body {
            BodySeen::Unread => Asks::NeedBody,
            BodySeen::Whole(body) if !call.is_encoded() => {
                let read =
                    if &*service.name == "sqs" { sqs(call, row, body) } else { dynamodb(call, row, body) };
                Asks::Of(read.unwrap_or_else(|| row.on(&Resource::Unknown)))
            }
            BodySeen::Whole(_) | BodySeen::TooLarge => Asks::Of(row.on(&Resource::Unknown)),
        },
        "apigateway" | "apigatewayv2" => {
            let arn =
                format!("arn:{}:apigateway:{}::{}", call.endpoint.partition(), call.region, call.head.path());
            Asks::Of(row.on(&Resource::Arn { arn, account: None }))
        }
        "lambda" => Asks::Of(row.on(&lambda(call, row))),
        _ => Asks::Of(row.on(&Resource::Unknown)),
    }
}

/// Asks of a query call, with the form it came in.
pub(super) fn of_form(call: &Call<'_>, service: &Service, row: &Row, form: &Pairs<'_>) -> Asks {
    if row.no_resource {
        return Asks::Of(row.on(&Resource::None));
    }
    let parameter = |name: &str| match (call.query.find(name), form.find(name)) {
        (Found::Once(value), Found::No) | (Found::No, Found::Once(value)) => Given::Once(value),
        (Found::No, Found::No) => Given::No,
        _ => Given::Unclear,
    };
    let takes = |operations: &[&str]| operations.contains(&&*row.name);
    let resource = match &*service.name {
        "sqs" if takes(members::QUEUE_URL) => queue_of_form(call, parameter("QueueUrl")),
        "sts" if takes(members::ROLE) => parameter("RoleArn").arn_of("iam"),
        "sns" if &*row.name == "CreateTopic" => match parameter("Name") {
            Given::Once(name) => topic(call, name),
            Given::No | Given::Unclear => Resource::Unknown,
        },
        // A message goes to one place: which of two counts is AWS's secret.
        "sns" if &*row.name == "Publish" && has_other_target(&parameter) => Resource::Unknown,
        "sns" if takes(members::TOPIC) => parameter("TopicArn").arn_of("sns"),
        _ => Resource::Unknown,
    };
    Asks::Of(row.on(&resource))
}

/// Where a message could go but to a topic.
fn has_other_target<'p>(parameter: &impl Fn(&str) -> Given<'p>) -> bool {
    ["TargetArn", "PhoneNumber"].iter().any(|name| !matches!(parameter(name), Given::No))
}

/// A parameter of a query call, wherever it may stand.
enum Given<'p> {
    No,
    Once(&'p str),
    /// More than once, or in two spellings.
    Unclear,
}

impl Given<'_> {
    fn arn_of(&self, service: &str) -> Resource {
        let Self::Once(text) = self else { return Resource::Unknown };
        let of = text.split(':').nth(2) == Some(service);
        given_arn(text).filter(|_| of).unwrap_or(Resource::Unknown)
    }
}

fn queue_of_form(call: &Call<'_>, url: Given<'_>) -> Resource {
    let path = call.head.path();
    match (queue_of_path(call, path), url) {
        (_, Given::Unclear) => Resource::Unknown,
        (Some(queue), Given::No) => queue,
        // The path decides at AWS, but a call that names two queues is not to be trusted with either.
        (Some(queue), Given::Once(url)) if queue_of_url(call, url) == Some(queue.clone()) => queue,
        (None, Given::Once(url)) if path == "/" => queue_of_url(call, url).unwrap_or(Resource::Unknown),
        _ => Resource::Unknown,
    }
}

/// A topic that is made by its name, in the caller's account.
fn topic(call: &Call<'_>, name: &str) -> Resource {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return Resource::Unknown;
    }
    own_arn(call, "sns", call.account(), format_args!("{name}"))
}

/// An ARN as a request spells it: six parts, of a partition and service.
pub(super) fn given_arn(text: &str) -> Option<Resource> {
    let mut parts = text.splitn(6, ':');
    let plain = parts.next() == Some("arn");
    let (partition, service) = (parts.next()?, parts.next()?);
    let (_region, account, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let account = if account.is_empty() { None } else { Some(AccountId::parse(account)?) };
    (plain && partition.starts_with("aws") && !service.is_empty() && !rest.is_empty())
        .then(|| Resource::Arn { arn: text.to_owned(), account })
}

/// `arn:PARTITION:service:REGION:ACCOUNT:rest`, the account empty where nobody tells.
fn own_arn(call: &Call<'_>, service: &str, account: Option<AccountId>, rest: fmt::Arguments<'_>) -> Resource {
    let (partition, region) = (call.endpoint.partition(), &*call.region);
    let arn = match account {
        Some(account) => format!("arn:{partition}:{service}:{region}:{account}:{rest}"),
        None => format!("arn:{partition}:{service}:{region}::{rest}"),
    };
    Resource::Arn { arn, account }
}

/// Members of DynamoDB's inputs that name something, whichever operation has them.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct DynamoInput<'b> {
    #[serde(borrow)]
    table_name: Option<Cow<'b, str>>,
    #[serde(borrow)]
    index_name: Option<Cow<'b, str>>,
    table_arn: Option<String>,
    stream_arn: Option<String>,
    resource_arn: Option<String>,
    backup_arn: Option<String>,
    export_arn: Option<String>,
    import_arn: Option<String>,
    source_table_arn: Option<String>,
    source_table_name: Option<String>,
    target_table_name: Option<String>,
    global_table_name: Option<String>,
    shard_iterator: Option<String>,
    table_creation_parameters: Option<Target>,
    request_items: Option<Keys>,
    transact_items: Option<Few<TransactItem>>,
    statement: Option<String>,
    statements: Option<Few<Statement>>,
    transact_statements: Option<Few<Statement>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Target {
    table_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct TransactItem {
    get: Option<Target>,
    put: Option<Target>,
    update: Option<Target>,
    delete: Option<Target>,
    condition_check: Option<Target>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    statement: String,
}

/// A list of at most [`MAX_ITEMS`].
struct Few<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Collect<T> {
            type Value = Few<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == MAX_ITEMS {
                        return Err(de::Error::custom("too many items"));
                    }
                    items.push(item);
                }
                Ok(Few(items))
            }
        }
        deserializer.deserialize_seq(Collect(std::marker::PhantomData))
    }
}

/// Keys of an object, at most [`MAX_ITEMS`] and none of them twice.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Keys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let (mut keys, mut seen) = (Vec::new(), HashSet::new());
                while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    if keys.len() == MAX_ITEMS || !seen.insert(key.clone()) {
                        return Err(de::Error::custom("repeated key, or too many"));
                    }
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// `None` where the body can't be read or names nothing.
fn dynamodb(call: &Call<'_>, row: &Row, body: &[u8]) -> Option<Vec<Ask>> {
    let input: DynamoInput<'_> = serde_json::from_slice(body).ok()?;
    let ask =
        |action: &str, resource| Ask { action: Action::Known(format!("dynamodb:{action}").into()), resource };
    match &*row.name {
        "ExecuteStatement" => return Some(vec![ask_of_statement(&input.statement?)]),
        "BatchExecuteStatement" => return of_statements(&input.statements?.0),
        "ExecuteTransaction" => return of_statements(&input.transact_statements?.0),
        "TransactWriteItems" | "TransactGetItems" => {
            let mut asks = Vec::new();
            for item in input.transact_items?.0 {
                let members = [
                    ("GetItem", item.get),
                    ("PutItem", item.put),
                    ("UpdateItem", item.update),
                    ("DeleteItem", item.delete),
                    ("ConditionCheckItem", item.condition_check),
                ];
                let before = asks.len();
                for (action, target) in members {
                    if let Some(target) = target {
                        asks.push(ask(action, table(call, &target.table_name, None)));
                    }
                }
                if asks.len() != before + 1 {
                    return None;
                }
            }
            asks.dedup();
            return Some(asks).filter(|asks| !asks.is_empty());
        }
        _ => {}
    }
    let mut found: Vec<Resource> = Vec::with_capacity(1);
    if let Some(name) = &input.table_name {
        let index = input.index_name.as_deref().filter(|_| members::INDEX.contains(&&*row.name));
        found.push(table(call, name, index));
    }
    let created = input.table_creation_parameters.map(|t| t.table_name);
    for name in [input.source_table_name, input.target_table_name, created].into_iter().flatten() {
        found.push(table(call, &name, None));
    }
    for name in input.request_items.map(|keys| keys.0).unwrap_or_default() {
        found.push(table(call, &name, None));
    }
    if let Some(name) = &input.global_table_name {
        let arn = own_arn(call, "dynamodb", call.account(), format_args!("global-table/{name}"));
        found.push(if is_table(name) { without_region(call, arn) } else { Resource::Unknown });
    }
    // The iterator begins with the stream's ARN; one that doesn't names what nobody can tell.
    let iterator =
        input.shard_iterator.map(|i| i.split_once('|').map_or_else(String::new, |(arn, _)| arn.to_owned()));
    let arns = [
        input.table_arn,
        input.stream_arn,
        input.resource_arn,
        input.backup_arn,
        input.export_arn,
        input.import_arn,
        input.source_table_arn,
        iterator,
    ];
    for arn in arns.into_iter().flatten() {
        found.push(given_arn(&arn).unwrap_or(Resource::Unknown));
    }
    if found.is_empty() {
        return None;
    }
    Some(found.iter().flat_map(|resource| row.on(resource)).collect())
}

/// Global tables' ARNs have no region.
fn without_region(call: &Call<'_>, resource: Resource) -> Resource {
    match resource {
        Resource::Arn { arn, account } => {
            Resource::Arn { arn: arn.replacen(&format!(":{}:", call.region), "::", 1), account }
        }
        other => other,
    }
}

/// A table by name or ARN, or one of its indexes.
fn table(call: &Call<'_>, name: &str, index: Option<&str>) -> Resource {
    let table = match name.starts_with("arn:") {
        true => given_arn(name),
        false => {
            is_table(name).then(|| own_arn(call, "dynamodb", call.account(), format_args!("table/{name}")))
        }
    };
    match (table, index) {
        (Some(Resource::Arn { arn, account }), Some(index)) if is_table(index) => {
            Resource::Arn { arn: format!("{arn}/index/{index}"), account }
        }
        (Some(table), None) => table,
        _ => Resource::Unknown,
    }
}

/// DynamoDB's rule for names of tables and indexes.
fn is_table(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn of_statements(statements: &[Statement]) -> Option<Vec<Ask>> {
    let mut asks: Vec<Ask> = statements.iter().map(|s| ask_of_statement(&s.statement)).collect();
    asks.dedup();
    Some(asks).filter(|asks| !asks.is_empty())
}

/// PartiQL: its first word is its action; its tables are not looked for.
fn ask_of_statement(statement: &str) -> Ask {
    let word = statement.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let verbs = ["Select", "Insert", "Update", "Delete"];
    let action = match verbs.iter().find(|verb| verb.eq_ignore_ascii_case(word)) {
        Some(verb) => Action::Known(format!("dynamodb:PartiQL{verb}").into()),
        None => Action::Unknown("dynamodb".into()),
    };
    Ask { action, resource: Resource::Unknown }
}

/// Members of SQS's inputs that name a queue.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct SqsInput<'b> {
    #[serde(borrow)]
    queue_url: Option<Cow<'b, str>>,
    queue_name: Option<String>,
    #[serde(rename = "QueueOwnerAWSAccountId")]
    queue_owner: Option<String>,
    source_arn: Option<String>,
    destination_arn: Option<String>,
}

fn sqs(call: &Call<'_>, row: &Row, body: &[u8]) -> Option<Vec<Ask>> {
    let input: SqsInput<'_> = serde_json::from_slice(body).ok()?;
    let takes = |operations: &[&str]| operations.contains(&&*row.name);
    let mut found = Vec::with_capacity(1);
    if let Some(url) = input.queue_url.filter(|_| takes(members::QUEUE_URL)) {
        found.push(queue_of_url(call, &url).unwrap_or(Resource::Unknown));
    }
    if let Some(name) = input.queue_name.filter(|_| takes(members::QUEUE_NAME)) {
        let account = match input.queue_owner {
            Some(owner) => Some(AccountId::parse(&owner)?),
            None => call.signer_account,
        };
        found.push(queue(call, account, &name).unwrap_or(Resource::Unknown));
    }
    let arns = [input.source_arn, input.destination_arn].into_iter().flatten();
    for arn in arns.filter(|_| takes(members::QUEUE_ARN)) {
        found.push(given_arn(&arn).unwrap_or(Resource::Unknown));
    }
    Some(found.iter().flat_map(|resource| row.on(resource)).collect())
        .filter(|asks: &Vec<Ask>| !asks.is_empty())
}

/// `https://sqs.REGION.amazonaws.com/ACCOUNT/NAME`: SQS goes by the path (API reference, "QueueUrl").
fn queue_of_url(call: &Call<'_>, url: &str) -> Option<Resource> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let slash = rest.find('/')?;
    queue_of_path(call, &rest[slash..])
}

/// `/123456789012/name`.
fn queue_of_path(call: &Call<'_>, path: &str) -> Option<Resource> {
    let (account, name) = path.strip_prefix('/')?.split_once('/')?;
    queue(call, Some(AccountId::parse(account)?), name)
}

fn queue(call: &Call<'_>, account: Option<AccountId>, name: &str) -> Option<Resource> {
    let inner = name.strip_suffix(".fifo").unwrap_or(name);
    let plain = inner.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    (plain && !inner.is_empty() && name.len() <= 80)
        .then(|| own_arn(call, "sqs", account, format_args!("{name}")))
}

/// `FunctionName` of the path: a name, `name:alias`, `account:function:name` or an ARN; `Qualifier` beside it.
fn lambda(call: &Call<'_>, row: &Row) -> Resource {
    let label = segments(row.uri).position(|s| s == "{FunctionName}");
    let given = label.and_then(|at| segments(call.head.path()).nth(at)).and_then(decoded);
    let Some(given) = given else { return Resource::Unknown };
    let qualifier = match call.query.find("Qualifier") {
        Found::No => None,
        Found::Once(qualifier) => Some(qualifier),
        Found::Unclear => return Resource::Unknown,
    };
    let parts: Vec<&str> = given.split(':').collect();
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_$.".contains(&b))
    };
    let (account, name, inner) = match parts[..] {
        [name] => (call.account(), name, None),
        [name, alias] => (call.account(), name, Some(alias)),
        [account, "function", name] if AccountId::parse(account).is_some() => {
            (AccountId::parse(account), name, None)
        }
        ["arn", partition, "lambda", region, account, "function", ref rest @ ..]
            if partition == call.endpoint.partition()
                && region == &*call.region
                && AccountId::parse(account).is_some() =>
        {
            match rest {
                [name] => (AccountId::parse(account), *name, None),
                [name, alias] => (AccountId::parse(account), *name, Some(*alias)),
                _ => return Resource::Unknown,
            }
        }
        _ => return Resource::Unknown,
    };
    match (inner.or(qualifier), word(name)) {
        // AWS looks past it: the function itself is meant.
        (Some(_), _) if !members::QUALIFIER.contains(&&*row.name) => Resource::Unknown,
        // Two qualifiers that differ: which one counts is AWS's secret.
        _ if inner.is_some() && qualifier.is_some() && inner != qualifier => Resource::Unknown,
        (None, true) => own_arn(call, "lambda", account, format_args!("function:{name}")),
        (Some(q), true) if word(q) => own_arn(call, "lambda", account, format_args!("function:{name}:{q}")),
        _ => Resource::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_items_than_aws_takes_are_not_read() {
        let read = |text: String| serde_json::from_str::<DynamoInput<'_>>(&text).is_ok();
        let list = |name: &str, item: &str, times: usize| {
            format!("{{\"{name}\": [{}]}}", vec![item; times].join(","))
        };
        let tables = |times: usize| {
            let keys: Vec<_> = (0..times).map(|n| format!("\"t{n}\": {{}}")).collect();
            format!("{{\"RequestItems\": {{{}}}}}", keys.join(","))
        };
        let statement = "{\"Statement\": \"SELECT\"}";
        for (times, fits) in [(MAX_ITEMS, true), (MAX_ITEMS + 1, false)] {
            assert_eq!(read(list("TransactItems", "{}", times)), fits);
            assert_eq!(read(list("Statements", statement, times)), fits);
            assert_eq!(read(list("TransactStatements", statement, times)), fits);
            assert_eq!(read(tables(times)), fits);
        }
        assert!(read("{\"TransactItems\": null}".to_owned()) && !read("{\"TransactItems\": {}}".to_owned()));
    }
}
