//! S3: bucket and key from host or path, the operation from what else is there, and the actions a request adds.
//!
//! S3 reads neither paths nor query strings as others do: a key may hold `..`, `//` and a leading `/`, and one query
//! key makes another operation. A query key that no operation has makes the operation unknown. `x-amz-*` headers may
//! stand in the query of a presigned request (S3 API reference, "Actions").

use std::borrow::Cow;

use super::actions::{Condition, Row};
use super::data::Service;
use super::hosts::{Style, is_bucket};
use super::operation::{BodySeen, Call, Recognition, refused};
use super::query::{decoded, well_escaped};
use super::resource::{Asks, given_arn};
use super::rest::{Asked, Pick, S3Level};
use super::xml;
use crate::engine::facts::{Action, Ask, Name, Operation, Protocol, Resource};
use crate::engine::form::{self, Form};
use crate::engine::pieces::cut;
use crate::engine::reason::Reason;

/// What host and path address.
struct Address<'a> {
    level: S3Level,
    /// Bucket, access point or MRAP as the request says it.
    container: Option<Cow<'a, str>>,
    /// Decoded; `None` also where it is not UTF-8.
    key: Option<Cow<'a, str>>,
    style: Style,
}

/// Actions that have another name where `versionId` is there.
const OF_VERSION: &[(&str, &str)] = &[
    ("s3:GetObject", "s3:GetObjectVersion"),
    ("s3:GetObjectAcl", "s3:GetObjectVersionAcl"),
    ("s3:GetObjectAnnotation", "s3:GetObjectVersionAnnotation"),
    ("s3:GetObjectAttributes", "s3:GetObjectVersionAttributes"),
    ("s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
    ("s3:GetObjectTorrent", "s3:GetObjectVersionTorrent"),
    ("s3:ListObjectAnnotations", "s3:ListObjectVersionAnnotations"),
    ("s3:PutObjectAcl", "s3:PutObjectVersionAcl"),
    ("s3:PutObjectAnnotation", "s3:PutObjectVersionAnnotation"),
    ("s3:PutObjectTagging", "s3:PutObjectVersionTagging"),
    ("s3:DeleteObject", "s3:DeleteObjectVersion"),
    ("s3:DeleteObjectAnnotation", "s3:DeleteObjectVersionAnnotation"),
    ("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"),
];

/// A header (a trailing `*`: any that begins so) and the action that it adds.
type Added = (&'static str, &'static str);

/// Actions that headers add, by operations; none stands in two rows.
const OF_HEADER: &[(&[&str], &[Added])] = &[
    (
        &["PutObject", "CopyObject", "CreateMultipartUpload"],
        &[
            ("x-amz-acl", "s3:PutObjectAcl"),
            ("x-amz-grant-*", "s3:PutObjectAcl"),
            ("x-amz-tagging", "s3:PutObjectTagging"),
            ("x-amz-object-lock-mode", "s3:PutObjectRetention"),
            ("x-amz-object-lock-retain-until-date", "s3:PutObjectRetention"),
            ("x-amz-object-lock-legal-hold", "s3:PutObjectLegalHold"),
        ],
    ),
    (
        &["DeleteObject", "DeleteObjects", "PutObjectRetention"],
        &[("x-amz-bypass-governance-retention", "s3:BypassGovernanceRetention")],
    ),
    (
        &["CreateBucket"],
        &[
            ("x-amz-acl", "s3:PutBucketAcl"),
            ("x-amz-grant-*", "s3:PutBucketAcl"),
            ("x-amz-bucket-object-lock-enabled", "s3:PutBucketObjectLockConfiguration"),
            ("x-amz-bucket-object-lock-enabled", "s3:PutBucketVersioning"),
            ("x-amz-object-ownership", "s3:PutBucketOwnershipControls"),
        ],
    ),
];

/// Headers that add an action to an operation, and the action.
fn of_header(operation: &str) -> &'static [Added] {
    OF_HEADER.iter().find(|(of, _)| of.contains(&operation)).map_or(&[], |(_, added)| added)
}

pub(super) fn recognise(call: &Call<'_>) -> Recognition {
    let Some(service) = call.candidate("s3") else { return call.unknown(None) };
    let path = call.head.path();
    if path.contains('+') || !well_escaped(path) || !path.starts_with('/') {
        return refused(Reason::RequestPath, "`+` or a malformed escape in an S3 path");
    }
    let operations = call.atlas.operations(service);
    let asked = Asked { head: call.head, query: &call.query, headers_in_query: true };
    if call.endpoint.style == Style::ObjectLambda && path == "/WriteGetObjectResponse" {
        return match operations.named("WriteGetObjectResponse").filter(|row| row.method == call.head.method())
        {
            Some(row) => call.with_asks(service, Protocol::S3, row, Asks::Of(row.on(&Resource::Unknown))),
            None => call.unknown(None),
        };
    }
    let address = match address(call, path) {
        Ok(address) => address,
        Err(said) => return refused(Reason::RequestPath, said),
    };
    if let Some(form) = post_form(call, service, &address) {
        return form;
    }
    let row = if address.level == S3Level::Service {
        let list =
            if address.style == Style::ExpressControl { "ListDirectoryBuckets" } else { "ListBuckets" };
        operations.named(list).filter(|row| row.method == call.head.method())
    } else {
        match asked.pick(&operations.rows, operations.tree.s3_rows(address.level)) {
            Pick::Row(at) => Some(&operations.rows[usize::from(at)]),
            Pick::Nothing => None,
            Pick::Ambiguous => {
                return refused(Reason::RequestAmbiguous, "query keys or headers name two operations");
            }
        }
    };
    let known = |key: &str, row: &Row| {
        row.conditions.iter().filter_map(Condition::query_key).any(|k| k == key)
            || row.optional.contains(&key)
            || key.get(..6).is_some_and(|k| k.eq_ignore_ascii_case("x-amz-"))
            // Logged by S3 and otherwise ignored; SDKs write `x-id`.
            || key.starts_with("x-")
    };
    match row.filter(|row| call.query.names().all(|key| known(key, row))) {
        Some(row) => match asks(call, &asked, &address, row) {
            Some(asks) => call.with_asks(service, Protocol::S3, row, asks),
            None => refused(Reason::RequestAmbiguous, "an `x-amz-` header that decides stands there twice"),
        },
        None => call.unknown(Some((service, Protocol::S3))),
    }
}

/// A browser's form: its key stands in the body, and fields there do what headers do elsewhere.
fn post_form(call: &Call<'_>, service: &Service, address: &Address<'_>) -> Option<Recognition> {
    let kind = call.head.all("content-type").next()?;
    let plain = form::is_form(kind)
        && call.head.method() == "POST"
        && address.level == S3Level::Bucket
        && call.head.query().is_none();
    if !plain {
        return None;
    }
    let form = match call.body {
        BodySeen::Unread => return Some(Recognition::NeedBody),
        BodySeen::Whole(body) if !call.is_encoded() => Form::parse(kind, body).ok(),
        BodySeen::Whole(_) | BodySeen::TooLarge => None,
    };
    let key = form.as_ref().and_then(Form::key);
    let resource = resource(call, address, key.as_deref());
    let mut actions = vec!["s3:PutObject"];
    for (header, action) in of_header("PutObject") {
        // Two of the fields lack the prefix.
        let bare = header.strip_prefix("x-amz-").filter(|name| matches!(*name, "acl" | "tagging"));
        let begins =
            |name: &str, start: &str| name.get(..start.len()).is_some_and(|n| n.eq_ignore_ascii_case(start));
        let is = |name: &str| match header.strip_suffix('*') {
            Some(start) => begins(name, start),
            None => {
                name.eq_ignore_ascii_case(header) || bare.is_some_and(|bare| name.eq_ignore_ascii_case(bare))
            }
        };
        // Of a form that is not readable, any field may be there.
        let there = form.as_ref().is_none_or(|form| form.fields().any(|(name, _)| is(name)));
        if there && !actions.contains(action) {
            actions.push(action);
        }
    }
    Some(Recognition::Operation(Operation {
        service: Name::clone(&service.name),
        name: Some("PostObject".into()),
        region: Name::clone(&call.region),
        protocol: Protocol::S3,
        asks: actions.into_iter().map(|action| ask(address, &action.into(), resource.clone())).collect(),
    }))
}

fn address<'a>(call: &Call<'a>, path: &'a str) -> Result<Address<'a>, &'static str> {
    let style = call.endpoint.style;
    let path = &path[1..];
    let (container, key) = match style {
        Style::Plain | Style::ExpressControl => match cut(path, b'/') {
            _ if path.is_empty() => (None, ""),
            (bucket, key) => (Some(bucket_of_path(bucket)?), key.unwrap_or_default()),
        },
        _ => (Some(Cow::Borrowed(call.endpoint.left())), path),
    };
    let level = match (&container, key.is_empty()) {
        (None, _) => S3Level::Service,
        (Some(_), true) => S3Level::Bucket,
        (Some(_), false) => S3Level::Object,
    };
    Ok(Address { level, container, key: decoded(key), style })
}

/// Also the buckets that us-east-1 took before 2018: capitals and underscores.
fn bucket_of_path(segment: &str) -> Result<Cow<'_, str>, &'static str> {
    let name = decoded(segment).ok_or("bucket that is no text")?;
    let plain = (3..=255).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if plain { Ok(name) } else { Err("path that names no bucket") }
}

/// All a request asks for; `None` where a header that decides is there twice.
fn asks(call: &Call<'_>, asked: &Asked<'_>, address: &Address<'_>, row: &Row) -> Option<Asks> {
    let resource = resource(call, address, address.key.as_deref());
    if address.level == S3Level::Service {
        return Some(Asks::Of(row.on(&Resource::None)));
    }
    let mut actions = Cow::Borrowed(&row.actions[..]);
    if call.query.has("versionId") {
        actions = actions.iter().map(of_version).collect();
    }
    for (header, action) in of_header(&row.name) {
        if has_header(asked, header) && !actions.iter().any(|a| &**a == *action) {
            actions.to_mut().push((*action).into());
        }
    }
    if &*row.name == "DeleteObjects" {
        return Some(deletes(call, address, &actions));
    }
    let same = std::iter::repeat_n(resource, actions.len());
    let mut asks: Vec<Ask> = actions.iter().zip(same).map(|(action, on)| ask(address, action, on)).collect();
    if let Some(source) = asked.header("x-amz-copy-source")?
        && row.conditions.contains(&Condition::Header("x-amz-copy-source"))
    {
        asks.push(source_ask(call, source));
    }
    asks.dedup();
    Some(Asks::Of(asks))
}

fn of_version(action: &Name) -> Name {
    let found = OF_VERSION.iter().find(|(plain, _)| *plain == &**action);
    found.map_or_else(|| Name::clone(action), |(_, versioned)| (*versioned).into())
}

fn has_header(asked: &Asked<'_>, header: &str) -> bool {
    let begins = |name: &[u8], start: &str| {
        name.get(..start.len()).is_some_and(|n| n.eq_ignore_ascii_case(start.as_bytes()))
    };
    match header.strip_suffix('*') {
        None => asked.head.has(header) || asked.query.has(header),
        Some(start) => {
            asked.head.fields().any(|(name, _)| begins(name, start))
                || asked.query.names().any(|name| begins(name.as_bytes(), start))
        }
    }
}

/// An action under the prefix that the host's kind has: at a directory bucket's zone all is one session's right.
fn ask(address: &Address<'_>, action: &Name, resource: Resource) -> Ask {
    let name = match (address.style, action.strip_prefix("s3:")) {
        (Style::Express, _) => "s3express:CreateSession".into(),
        (Style::ExpressControl, Some(name)) => format!("s3express:{name}").into(),
        (Style::ObjectLambda, Some(name)) => format!("s3-object-lambda:{name}").into(),
        (Style::Outpost, Some(name)) => format!("s3-outposts:{name}").into(),
        _ => Name::clone(action),
    };
    Ask { action: Action::Known(name), resource }
}

/// One ask an object, from the body.
fn deletes(call: &Call<'_>, address: &Address<'_>, actions: &[Name]) -> Asks {
    let objects = match call.body {
        BodySeen::Unread => return Asks::NeedBody,
        BodySeen::Whole(body) if !call.is_encoded() => xml::deleted_objects(body),
        BodySeen::Whole(_) | BodySeen::TooLarge => None,
    };
    let Some(objects) = objects else {
        // With a version or without: both could be in there.
        let both = actions.iter().flat_map(|a| [Name::clone(a), of_version(a)]);
        let mut asks: Vec<Ask> = both.map(|action| ask(address, &action, Resource::Unknown)).collect();
        asks.dedup();
        return Asks::Of(asks);
    };
    let mut asks = Vec::with_capacity(objects.len() * actions.len());
    for object in &objects {
        let resource = resource(call, address, Some(&object.key));
        for action in actions {
            let action = if object.version { of_version(action) } else { Name::clone(action) };
            asks.push(ask(address, &action, resource.clone()));
        }
    }
    asks.dedup();
    Asks::Of(asks)
}

/// The ARN of what is addressed, with `key` where the address is of objects or the body named one.
fn resource(call: &Call<'_>, address: &Address<'_>, key: Option<&str>) -> Resource {
    let (Some(container), Some(key)) = (&address.container, key) else { return Resource::Unknown };
    let (partition, region) = (call.endpoint.partition(), &*call.region);
    let host_account = call.endpoint.account();
    let account = host_account.or(call.signer_account);
    let digits = || account.map(|a| a.to_string()).unwrap_or_default();
    let point = |label: &str| label.rsplit_once('-').map(|(name, _)| name.to_owned());
    let arn = match address.style {
        Style::Plain | Style::Bucket => {
            let arn = bucket_arn(partition, container, key);
            return arn.map_or(Resource::Unknown, |arn| Resource::Arn { arn, account: None });
        }
        Style::Express | Style::ExpressControl => {
            let arn = format!("arn:{partition}:s3express:{region}:{}:bucket/{container}", digits());
            return Resource::Arn { arn, account };
        }
        Style::AccessPoint => point(container)
            .map(|name| format!("arn:{partition}:s3:{region}:{}:accesspoint/{name}", digits())),
        Style::MultiRegion => Some(format!("arn:{partition}:s3::{}:accesspoint/{container}", digits())),
        Style::ObjectLambda => {
            let arn = host_account.and(point(container));
            let arn = arn.map(|name| {
                format!("arn:{partition}:s3-object-lambda:{region}:{}:accesspoint/{name}", digits())
            });
            return arn.map_or(Resource::Unknown, |arn| Resource::Arn { arn, account });
        }
        Style::Outpost => {
            container.split_once('.').filter(|_| host_account.is_some()).and_then(|(label, outpost)| {
                let name = point(label)?;
                Some(format!(
                    "arn:{partition}:s3-outposts:{region}:{}:outpost/{outpost}/accesspoint/{name}",
                    digits()
                ))
            })
        }
    };
    let Some(mut arn) = arn else { return Resource::Unknown };
    if !key.is_empty() {
        arn.push_str("/object/");
        arn.push_str(key);
    }
    Resource::Arn { arn, account }
}

/// A bucket, or an object where there is a key. `None` for the aliases of access points: which bucket they stand for
/// is not in their name.
fn bucket_arn(partition: &str, bucket: &str, key: &str) -> Option<String> {
    let alias =
        ["-s3alias", "--ol-s3", "--op-s3", "--xa-s3", ".mrap"].iter().any(|end| bucket.ends_with(end));
    if alias {
        return None;
    }
    let mut arn = String::with_capacity(16 + partition.len() + bucket.len() + key.len());
    for part in ["arn:", partition, ":s3:::", bucket, if key.is_empty() { "" } else { "/" }, key] {
        arn.push_str(part);
    }
    Some(arn)
}

/// What is read by a copy: `[/]bucket/key[?versionId=…]`, or an access point's ARN.
fn source_ask(call: &Call<'_>, source: &str) -> Ask {
    let (path, version) = match source.split_once("?versionId=") {
        Some((path, _)) => (path, true),
        None => (source, false),
    };
    // A key with a raw `?` or `+` is one that two readers decode differently.
    let text = decoded(path).filter(|_| !path.contains(['?', '+']));
    let resource = text.as_deref().and_then(|text| {
        let text = text.strip_prefix('/').unwrap_or(text);
        if text.starts_with("arn:") {
            return given_arn(text);
        }
        let (bucket, key) = text.split_once('/')?;
        let plain = bucket_of_path(bucket).is_ok() && !key.is_empty();
        let directory = bucket.ends_with("--x-s3");
        let arn = bucket_arn(call.endpoint.partition(), bucket, key)
            .filter(|_| plain && (!directory || is_bucket(bucket)))?;
        Some(Resource::Arn { arn, account: None })
    });
    let directory = text
        .as_deref()
        .is_some_and(|t| t.trim_start_matches('/').split('/').next().unwrap_or_default().ends_with("--x-s3"));
    if directory {
        return Ask { action: Action::Known("s3express:CreateSession".into()), resource: Resource::Unknown };
    }
    let action = if version { "s3:GetObjectVersion" } else { "s3:GetObject" };
    Ask { action: Action::Known(action.into()), resource: resource.unwrap_or(Resource::Unknown) }
}
