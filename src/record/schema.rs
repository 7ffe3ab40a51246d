//! Audit lines as a JSON Schema: every member that a line may have, closed words from the enums that write them.
//!
//! `exeat schema audit` prints it; `config/audit.schema.json` is the same text. `tests/audit` holds lines of every kind
//! to it, unknown members included, so a member that is written and not named here fails there.

use serde_json::{Value, json};

use super::intent::MAX_INTENT;
use super::{Decision, Retried};
use crate::engine::facts::{Auth, Door, PayloadOutcome, PayloadState, Protocol, SignatureState, TlsVersion};
use crate::engine::reason::Reason;

macro_rules! words_of {
    ($set:ty) => {
        json!({"enum": <$set>::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>()})
    };
}

/// One of four kinds of line.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "exeat audit line, version 1",
        "oneOf": [lane(), intent(), event(), end()],
    })
}

/// A closed object: `required` and `optional` are its members, and there are no others.
fn object(title: &str, required: Value, optional: Value) -> Value {
    let Value::Object(mut properties) = required else { unreachable!("written as an object below") };
    let names: Vec<String> = properties.keys().cloned().collect();
    if let Value::Object(more) = optional {
        properties.extend(more);
    }
    let mut object = json!({
        "type": "object",
        "additionalProperties": false,
        "required": names,
        "properties": properties,
    });
    if !title.is_empty() {
        object["title"] = title.into();
    }
    object
}

fn text() -> Value {
    json!({"type": "string"})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn list(items: &Value) -> Value {
    json!({"type": "array", "minItems": 1, "items": items})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// `BOOT-LANE`, and with a number a flow.
fn lane_name() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-z]{12}-[0-9]+$"})
}

fn flow() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-z]{12}-[0-9]+-[0-9]+$"})
}

fn chain() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
}

/// The first digits of a leaf's SHA-256.
fn leaf() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-f]{16}$"})
}

fn account() -> Value {
    json!({"type": "string", "pattern": "^[0-9]{12}$"})
}

fn lane() -> Value {
    let required = json!({
        "exeat": {"const": "lane"},
        "schema": {"const": 1},
        "time": time(),
        "version": text(),
        "prev": chain(),
        "lane": lane_name(),
        "seq": count(),
        "chain": chain(),
    });
    let head = object("", json!({"lane": lane_name(), "seq": count(), "head": chain()}), json!({}));
    object("lane: opens a lane in a file", required, json!({"after": chain(), "heads": list(&head)}))
}

fn end() -> Value {
    let required = json!({
        "exeat": {"const": "end"},
        "time": time(),
        "lane": lane_name(),
        "seq": count(),
        "chain": chain(),
    });
    object("end: the lane was closed in order", required, json!({}))
}

fn intent() -> Value {
    let required = json!({
        "exeat": {"const": "intent"},
        "time": time(),
        "flow": flow(),
        "operation": text(),
        "verdict": words_of!(SignatureState),
        "lane": lane_name(),
        "seq": count(),
        "chain": chain(),
    });
    let optional =
        json!({"asks": count(), "key": text(), "resource": {"type": "string", "maxLength": MAX_INTENT}});
    object("intent: a request is about to leave", required, optional)
}

fn event() -> Value {
    let identity = object(
        "",
        json!({"type": {"enum": ["AssumedRole", "IAMUser", "AWSAccount", "Unknown"]}}),
        json!({
            "accessKeyId": text(),
            "accountId": account(),
            "arn": text(),
            "sessionContext": {"type": "object"},
        }),
    );
    let resource = object("", json!({"ARN": text()}), json!({"accountId": account()}));
    let upstream_tls = object(
        "",
        json!({"tlsVersion": words_of!(TlsVersion), "cipherSuite": text()}),
        json!({"clientProvidedHostHeader": text()}),
    );
    let required = json!({
        "eventVersion": {"const": "1.11"},
        "eventTime": time(),
        "eventSource": text(),
        "eventName": text(),
        "eventType": {"enum": ["AwsApiCall", "HttpCall", "Connection"]},
        "sourceIPAddress": text(),
        "eventID": flow(),
        "additionalEventData": object("", json!({"exeat": ours()}), json!({})),
    });
    let optional = json!({
        "awsRegion": text(),
        "resources": list(&resource),
        "userAgent": text(),
        "userIdentity": identity,
        "requestParameters": {"type": ["object", "null"]},
        "responseElements": {"type": ["object", "null"]},
        "requestID": text(),
        "errorCode": text(),
        "errorMessage": text(),
        "tlsDetails": upstream_tls,
        "recipientAccountId": account(),
    });
    object("event: an attempt and how it ended, in CloudTrail's shape", required, optional)
}

/// `additionalEventData.exeat`.
fn ours() -> Value {
    let certificate = object(
        "",
        json!({"sha256": chain()}),
        json!({"subject": text(), "issuer": text(), "notAfter": time()}),
    );
    let tls = object(
        "",
        json!({"version": words_of!(TlsVersion), "cipher": text()}),
        json!({"group": text(), "alpn": text(), "sni": text(), "leaf": leaf(), "chain": list(&certificate)}),
    );
    // Of a handshake that came to nothing: any version, and as much as there was.
    let shown = object(
        "",
        json!({}),
        json!({"version": text(), "cipher": text(), "group": text(), "leaf": leaf(), "chain": list(&certificate)}),
    );
    let upstream = object(
        "",
        json!({"address": text(), "port": count(), "reused": {"type": "boolean"}, "waitedUs": count()}),
        json!({"tls": tls, "shown": shown, "extendedRequestId": text()}),
    );
    let required = json!({
        "flow": flow(),
        "decision": words_of!(Decision),
        "end": {"enum": ["answered", "tunnelled", "refused", "aborted"]},
        "payloadOutcome": words_of!(PayloadOutcome),
        "status": count(),
        "bytesIn": count(),
        "bytesOut": count(),
        "durationUs": count(),
        "decisionUs": count(),
        "lane": lane_name(),
        "seq": count(),
        "chain": chain(),
    });
    let optional = json!({
        "reason": words_of!(Reason),
        "door": words_of!(Door),
        "target": text(),
        "clientTls": tls,
        "origin": {"const": "exeat"},
        "atlas": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
        "pid": count(),
        "process": text(),
        "policy": text(),
        "statement": text(),
        "place": text(),
        "would": list(&text()),
        "auth": words_of!(Auth),
        "signature": words_of!(SignatureState),
        "payload": words_of!(PayloadState),
        "ownKey": {"const": true},
        "repeats": {"const": true},
        "retried": words_of!(Retried),
        "parents": list(&object("", json!({"by": text()}), json!({"key": text(), "account": account(), "role": text()}))),
        "method": text(),
        "host": text(),
        "protocol": words_of!(Protocol),
        "actions": list(&text()),
        "askCount": count(),
        "path": text(),
        "trace": text(),
        "traceparent": text(),
        "upstream": upstream,
    });
    object("", required, optional)
}
