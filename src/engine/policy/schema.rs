//! The policy's shape for editors (JSON Schema) and for readers (`docs/policy.md`), written from the tables that the
//! reader goes by.

use serde_json::{Map, Value, json};

use super::condition::{ASKABLE_SIGNATURES, Named};
use super::file::shape::{self, Field, Shape};
use crate::engine::atlas::AccessLevel;
use crate::engine::facts::{Auth, PayloadState, SignatureState};

/// JSON Schema, draft 2020-12, of a policy file.
pub fn json_schema() -> Value {
    let mut schema = object(&shape::POLICY);
    if let Value::Object(map) = &mut schema {
        map.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        map.insert("title".to_owned(), json!("exeat policy"));
    }
    schema
}

fn object(fields: &[Field]) -> Value {
    let taken = || fields.iter().filter(|field| field.shape != Shape::Later);
    let properties: Map<_, _> = taken()
        .map(|field| {
            let mut schema = of_shape(field.shape);
            if let Value::Object(map) = &mut schema {
                map.insert("description".to_owned(), json!(field.about));
            }
            (field.name.to_owned(), schema)
        })
        .collect();
    let required: Vec<_> = taken().filter(|field| field.required).map(|field| field.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn of_shape(shape: Shape) -> Value {
    match shape {
        Shape::Version => json!({"const": 1}),
        Shape::Default => json!({"enum": ["deny", "report"]}),
        Shape::Perimeter => object(&shape::PERIMETER),
        Shape::Accounts => any_number(&like("^([0-9]{12}|self|o-.+)$")),
        Shape::Orgs => json!({
            "type": "object",
            "propertyNames": {"pattern": "^o-"},
            "additionalProperties": one_or_many(&like("^[0-9]{12}$")),
        }),
        Shape::Addresses => json!({
            "type": "object",
            "additionalProperties": one_or_many(&like("^[0-9A-Fa-f.:]+/[0-9]+$")),
        }),
        Shape::Statements => json!({"type": "array", "items": statement()}),
        Shape::Id => like("^[A-Za-z0-9._-]{1,64}$"),
        Shape::Effect => json!({"enum": ["allow", "deny"]}),
        Shape::Actions => {
            let levels = AccessLevel::ALL.iter().map(|level| level.as_str()).collect::<Vec<_>>().join("|");
            one_or_many(&like(&format!("^(\\*|[A-Za-z0-9-]+:(@({levels})|[A-Za-z0-9*?-]+))$")))
        }
        Shape::Resources => one_or_many(&like("^(\\*|arn:.+|\\*:.+)$")),
        Shape::Http => object(&shape::HTTP),
        Shape::When => when(),
        Shape::Mode => json!({"const": "report"}),
        Shape::Date => like("^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
        Shape::Tunnel => object(&shape::TUNNEL),
        Shape::Host => json!({"type": "string", "minLength": 1}),
        Shape::Port => json!({"type": "integer", "minimum": 1, "maximum": 65535}),
        Shape::Duration => like("^[0-9]+[smh]$"),
        Shape::Size => like("^[0-9]+[KMG]iB$"),
        Shape::Ech => json!({"enum": ["refuse", "pass"]}),
        Shape::Upstream => object(&shape::UPSTREAM),
        Shape::UpstreamTls => json!({"enum": [">=1.2", ">=1.3"]}),
        Shape::Alpn => json!({"const": "h2"}),
        Shape::Hosts => one_or_many(&json!({"type": "string", "minLength": 1})),
        Shape::Methods => one_or_many(&like("^[A-Z-]+$")),
        Shape::Paths => one_or_many(&like("^/")),
        Shape::Later => json!(false),
    }
}

fn statement() -> Value {
    let mut schema = object(&shape::STATEMENT);
    if let Value::Object(map) = &mut schema {
        map.insert(
            "oneOf".to_owned(),
            json!([
                {"required": ["action", "resource"], "not": {"anyOf": [{"required": ["http"]}, {"required": ["tunnel"]}]}},
                {"required": ["http"], "not": {"anyOf": [{"required": ["resource"]}, {"required": ["tunnel"]}]}},
                {
                    "required": ["tunnel"],
                    "properties": {"effect": {"const": "allow"}},
                    "not": {"anyOf": [{"required": ["action"]}, {"required": ["http"]}, {"required": ["resource"]}, {"required": ["when"]}]},
                },
            ]),
        );
    }
    schema
}

fn when() -> Value {
    let properties: Map<_, _> = Named::ALL
        .iter()
        .map(|key| {
            let mut schema = tested(&of_key(*key));
            if let Value::Object(map) = &mut schema {
                map.insert("description".to_owned(), json!(about(*key)));
            }
            (key.as_str().to_owned(), schema)
        })
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": {"^header\\..+$": tested(&json!({"type": "string", "minLength": 1}))},
        "additionalProperties": false,
    })
}

fn of_key(key: Named) -> Value {
    let words = |words: Vec<&str>| json!({"anyOf": [{"enum": words}, like("[*?]")]});
    match key {
        Named::Auth => words(Auth::ALL.iter().map(|word| word.as_str()).collect()),
        Named::Signature => words(ASKABLE_SIGNATURES.map(SignatureState::as_str).to_vec()),
        Named::Payload => words(PayloadState::ALL.iter().map(|word| word.as_str()).collect()),
        Named::SignerAccount | Named::ResourceAccount => like("^(self|[0-9*?]{1,12})$"),
        Named::TlsVersion => json!({"enum": ["1.2", "1.3", ">=1.2", ">=1.3", 1.2, 1.3]}),
        Named::Host
        | Named::Region
        | Named::SignerKey
        | Named::SignerRole
        | Named::TlsCipher
        | Named::TlsSni
        | Named::SourceAddress => json!({"type": "string", "minLength": 1}),
    }
}

/// A value, some, or `not` one of them.
fn tested(value: &Value) -> Value {
    let plain = one_or_many(value);
    json!({"anyOf": [
        plain,
        {"type": "object", "properties": {"not": plain}, "required": ["not"], "additionalProperties": false},
    ]})
}

fn like(pattern: &str) -> Value {
    json!({"type": "string", "pattern": pattern})
}

fn one_or_many(value: &Value) -> Value {
    json!({"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]})
}

fn any_number(value: &Value) -> Value {
    json!({"anyOf": [value, {"type": "array", "items": value}]})
}

/// What a key asks.
fn about(key: Named) -> &'static str {
    match key {
        Named::Host => "The request's host; `*` is one label, `**.` in front one or more.",
        Named::Region => {
            "Region of the endpoint, or of the signature where the host has none. AWS calls only."
        }
        Named::Auth => "How the call says who it is.",
        Named::Signature => "What could be checked of the signature.",
        Named::Payload => "What the signature says of the body.",
        Named::SignerKey => "The access key's id.",
        Named::SignerAccount => "Account of the signer's key: known with the key, or decoded from its id.",
        Named::SignerRole => "Role of a key that we know, as its source names it, or else AWS.",
        Named::TlsVersion => "TLS of the client's leg.",
        Named::TlsCipher => "Cipher suite of the client's leg.",
        Named::TlsSni => "Host that the client's hello names.",
        Named::ResourceAccount => "Account of the resource. A bucket's name has none. AWS calls only.",
        Named::SourceAddress => "Where the client connects from.",
    }
}

/// Values that a key takes, for the docs.
fn values(key: Named) -> String {
    let list = |words: Vec<&str>| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
    match key {
        Named::Auth => list(Auth::ALL.iter().map(|word| word.as_str()).collect()),
        Named::Signature => list(ASKABLE_SIGNATURES.map(SignatureState::as_str).to_vec()),
        Named::Payload => list(PayloadState::ALL.iter().map(|word| word.as_str()).collect()),
        Named::SignerAccount | Named::ResourceAccount => {
            "twelve digits in quotes, `self`, a pattern".to_owned()
        }
        Named::TlsVersion => list(vec!["\"1.2\"", "\"1.3\"", "\">=1.2\"", "\">=1.3\""]),
        Named::Host | Named::TlsSni => "host patterns, without a port".to_owned(),
        Named::SourceAddress => "addresses and ranges".to_owned(),
        Named::Region | Named::SignerKey | Named::SignerRole | Named::TlsCipher => "patterns".to_owned(),
    }
}

/// The tables of `docs/policy.md`, by the name that their place there has.
pub fn tables() -> Vec<(&'static str, String)> {
    let fields = |fields: &[Field]| {
        let mut text = "| key | | |\n| --- | --- | --- |\n".to_owned();
        for field in fields.iter().filter(|field| field.shape != Shape::Later) {
            let needed = if field.required { "required" } else { "" };
            text.push_str(&format!("| `{}` | {needed} | {} |\n", field.name, field.about));
        }
        text
    };
    let mut conditions = "| key | values | |\n| --- | --- | --- |\n".to_owned();
    for key in Named::ALL {
        conditions.push_str(&format!("| `{key}` | {} | {} |\n", values(*key), about(*key)));
    }
    conditions.push_str("| `header.NAME` | patterns | A header under the signature; of a presigned request, `x-amz-*` in its query too. AWS calls only. |\n");
    vec![
        ("policy", fields(&shape::POLICY)),
        ("perimeter", fields(&shape::PERIMETER)),
        ("statement", fields(&shape::STATEMENT)),
        ("http", fields(&shape::HTTP)),
        ("upstream", fields(&shape::UPSTREAM)),
        ("when", conditions),
    ]
}

#[cfg(test)]
mod tests;
