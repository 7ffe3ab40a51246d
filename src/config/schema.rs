//! The settings file as a JSON Schema, for editors: one row for each key that the reader knows.
//!
//! `exeat schema config` prints it; `config/exeat.schema.json` is the same text, held to it by a test.

use serde_json::{Map, Value, json};

use super::records::MOST_KEPT;
use super::{Key, MOST_COUNTED, MOST_WORKERS, OnFailure, Repeats, UpstreamRoots, tls};
use crate::engine::data::DataLevel;

/// What a key takes, and what it is for. A key without a row does not compile; `None` is the file's own name.
fn row(key: Key) -> Option<(Value, &'static str)> {
    let address = || json!({"type": "string", "pattern": "^.+:[0-9]+$"});
    let file = || json!({"type": "string", "minLength": 1});
    let time = |default: &str| json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$", "default": default});
    let count = |default: &str| {
        let mut count = json!({"type": "integer", "minimum": 1, "maximum": MOST_COUNTED});
        if let Ok(default) = default.parse::<u64>() {
            count["default"] = default.into();
        }
        count
    };
    Some(match key {
        Key::Config => return None,
        Key::Listen => (address(), "Where clients find the proxy. Default: 127.0.0.1:3128."),
        Key::Policy => {
            (file(), "Policy file, or env:NAME where the variable holds its text. Default: built in.")
        }
        Key::Audit => {
            (file(), "Audit records, JSON lines: a file, unix:SOCKET, or - for stdout (the default).")
        }
        Key::CaOut => (file(), "The CA's certificate is published here before the proxy listens."),
        Key::CaDir => (file(), "A folder that keeps the local CA over restarts; yours alone (0700)."),
        Key::CaCert => (file(), "A CA of your own instead of one made at start; with ca_key."),
        Key::CaKey => (file(), "Its key; must be readable by nobody else."),
        Key::UpstreamRoots => {
            let words = words(UpstreamRoots::ALL, UpstreamRoots::as_str);
            (json!({"enum": words, "default": "webpki"}), "Root certificates believed upstream.")
        }
        Key::UpstreamCa => (file(), "Extra roots for every host."),
        Key::ConnectTo => (
            json!({"type": "string", "pattern": "^.+:([0-9]+|\\*)=.+:[0-9]+$"}),
            "PATTERN:PORT=ADDR:PORT: dial another address; the first match wins.",
        ),
        Key::UpstreamProxy => (
            json!({"type": "string", "minLength": 1}),
            "Origins are reached through this proxy: http:// or https://, with user and password where it asks.",
        ),
        Key::UpstreamNoProxy => (
            json!({"type": "string", "minLength": 1}),
            "Names that are reached past it, with all below them: a list with commas.",
        ),
        Key::Credentials => (file(), "AWS shared-credentials file: every profile is a known key."),
        Key::MaxSkew => (time("15m"), "How far a signature's date may be off, either way: 15m at most."),
        Key::Repeats => {
            let words: Vec<&str> = Repeats::ALL.iter().map(|word| word.as_str()).collect();
            (json!({"enum": words, "default": "record"}), "A signed request, reads aside, that came before.")
        }
        Key::Admin => (address(), "Health and metrics over HTTP. Off unless given."),
        Key::AdminSocket => {
            (file(), "The operator's socket (mode 0600): the same, and `explain` of refused flows.")
        }
        Key::Workers => (
            json!({"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}),
            "Threads. Default: one a processor, four at most.",
        ),
        Key::RecordsRotateSize => (
            json!({"type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)$"}),
            "An audit file is set aside (FILE.1, FILE.2, ...) at this size. Off unless given.",
        ),
        Key::RecordsRotateAge => (
            json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}),
            "And with the first line after this time. Off unless given.",
        ),
        Key::RecordsKeep => (
            json!({"type": "integer", "minimum": 1, "maximum": MOST_KEPT, "default": 10}),
            "How many files that were set aside are kept.",
        ),
        Key::RecordsOnFailure => (
            json!({"enum": words(OnFailure::ALL, OnFailure::as_str), "default": "deny"}),
            "A request whose line is not taken is refused. There is no other way.",
        ),
        Key::RecordsProcess => (
            json!({"type": "boolean"}),
            "Name the process at the other end of a connection from this machine. Default: in `exec` yes, in `run` no.",
        ),
        Key::RecordsLevel => (
            json!({"enum": words(DataLevel::ALL, DataLevel::as_str), "default": "off"}),
            "Of which calls parameters and results are recorded. Every attempt is, at every level.",
        ),
        Key::RecordsIncludeData => {
            (json!({"type": "boolean", "default": false}), "Their values too, not their names alone.")
        }
        Key::RecordsData => (
            json!({"type": "string", "pattern": "^(requestParameters|responseElements)\\..+$"}),
            "For each call (SERVICE:OPERATION) the members that may be recorded.",
        ),
        Key::RecordsHidePaths => (
            json!({"type": "string", "minLength": 1}),
            "Members that are hidden all the same: a name at any depth, or a path from requestParameters or responseElements.",
        ),
        Key::RecordsHidePatterns => (
            json!({"type": "string", "minLength": 1}),
            "Values that are hidden: a pattern (`*`, `?`) of the whole value.",
        ),
        Key::LimitsHandshake => (time("10s"), "A TLS handshake, on either leg."),
        Key::LimitsHead => (time("15s"), "A request's head, from its first byte."),
        Key::LimitsBodyIdle => (time("1m"), "Between two reads of a body, and of an idle connection."),
        Key::LimitsHeldBody => (time("1m"), "A body that is read before it is judged, from first to last."),
        Key::LimitsResponseHead => (time("15m"), "Until the origin's answer begins."),
        Key::LimitsTurn => {
            (time("5s"), "How long a request waits for its turn to dial, a connection or room to inspect.")
        }
        Key::LimitsDrain => (time("25s"), "What is under way may still take this long after SIGTERM."),
        Key::LimitsConnections => {
            (count("16384"), "Of clients, together; fewer where the system gives fewer descriptors.")
        }
        Key::LimitsConnectionsPerClient => {
            (count(""), "Of one client address. Unless given, seven eighths of limits.connections.")
        }
        Key::LimitsConnectionsPerOrigin => {
            (count("1024"), "To one origin, shared out evenly among the workers.")
        }
        Key::LimitsDials => (count("256"), "Connections to origins in the making."),
        Key::LimitsTunnels => (count("4096"), "Tunnels that are open."),
        Key::LimitsLookups => {
            (count("256"), "Different names that are looked up for one client address in a minute.")
        }
        Key::LimitsInspection => (
            json!({"type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)$"}),
            "Bytes of bodies that are read before they are judged. Unless given, a quarter of our memory.",
        ),
    })
}

fn words<T: Copy>(all: &[T], spelled: impl Fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|&word| spelled(word)).collect()
}

/// The whole schema. A dot in a key is a mapping in the file.
pub fn schema() -> Value {
    let object = |properties: Map<String, Value>| json!({"type": "object", "additionalProperties": false, "properties": properties});
    let (mut top, mut limits, mut records) = (Map::new(), Map::new(), Map::new());
    for &key in Key::ALL {
        let Some((mut takes, about)) = row(key) else { continue };
        if key.takes_many() {
            takes = json!({"type": "array", "items": takes});
        }
        if key == Key::RecordsData {
            takes = json!({"type": "object", "additionalProperties": takes});
        }
        takes["description"] = about.into();
        match key.as_str().split_once('.') {
            Some(("limits", name)) => limits.insert(name.to_owned(), takes),
            Some((_, name)) => records.insert(name.to_owned(), takes),
            None => top.insert(key.as_str().to_owned(), takes),
        };
    }
    let mut limits = object(limits);
    limits["description"] =
        "How long each phase may take (a whole number and ms, s, m or h), and how much of each there may be."
            .into();
    top.insert("limits".to_owned(), limits);
    let mut records = object(records);
    records["description"] = "How audit lines are kept, and what of the calls' data stands in them.".into();
    top.insert("records".to_owned(), records);
    top.insert("tls".to_owned(), tls::schema());
    let mut whole = object(top);
    whole["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    whole["title"] = "exeat settings".into();
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Layer, load};

    #[test]
    fn the_defaults_it_names_are_those_of_the_program() {
        let config: Config = load(Layer::default(), [], |_| None).unwrap().config;
        for &key in Key::ALL {
            let Some((takes, about)) = row(key) else { continue };
            let shown = config.values(key).unwrap_or_default().join(" ");
            if let Some(default) = takes["default"].as_u64() {
                assert_eq!(shown, default.to_string(), "{key}");
            } else if let Some(default) = takes["default"].as_str() {
                assert_eq!(shown, default, "{key}");
            } else if let Some((_, default)) = about.split_once("Default: ").filter(|(_, d)| d.contains(':'))
            {
                assert_eq!(format!("{shown}."), default, "{key}");
            }
        }
    }
}
