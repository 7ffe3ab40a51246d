//! On what a call to DynamoDB or its streams is: tables, indexes and whatever else its JSON names, or a PartiQL
//! statement's action.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::actions::Row;
use super::super::members;
use super::super::operation::Call;
use super::{given_arn, own_arn};
use crate::engine::facts::{Action, Ask, Resource};

/// `None` where the body can't be read or names nothing.
pub(super) fn asks(call: &Call<'_>, row: &Row, body: &[u8]) -> Option<Vec<Ask>> {
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

/// Tables, items or statements of one call; AWS takes 100. Each becomes an ask, of many times its size.
const MAX_ITEMS: usize = 256;

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
