//! On what: the ARNs that a request names, for the services whose parameters are known here. S3, DynamoDB and Bedrock have
//! files of their own.
//!
//! A request names a table or a queue by name or by ARN, some name several: every one becomes an ask. A body that is
//! not plain JSON, or has a key twice, names nothing that can be trusted: the resource is unknown.

mod bedrock;
mod dynamodb;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;

use super::actions::Row;
use super::data::Service;
use super::members;
use super::operation::{BodySeen, Call};
use super::query::{Found, Pairs, decoded};
use super::rest::segments;
use crate::engine::facts::{AccountId, Ask, Protocol, Resource};

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
                let read = if &*service.name == "sqs" {
                    sqs(call, row, body)
                } else {
                    dynamodb::asks(call, row, body)
                };
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
        "bedrock-runtime" => Asks::Of(bedrock::asks(call, row).unwrap_or_else(|| row.on(&Resource::Unknown))),
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
