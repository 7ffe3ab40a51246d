//! `tls:` of the settings file: what each leg may negotiate, and for each host whom we believe and who we are.
//!
//! The floor is no setting: every key here can only raise it. Names are understood here; the files they name are read
//! by `tls/`.

mod read;

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

pub(super) use self::read::Reader;
use super::connect_to::Pattern;
use crate::engine::hello::server::{group_name, suite_name};

/// What `tls:` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The client's leg.
    pub client: LegOptions,
    /// The first whose pattern matches counts.
    pub origins: Vec<(Pattern, OriginOptions)>,
}

/// What one leg may negotiate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegOptions {
    /// TLS 1.3 only.
    pub only_tls13: bool,
    /// IANA's numbers, best first; `None`: all that are believed.
    pub ciphers: Option<Vec<u16>>,
    pub groups: Option<Vec<u16>>,
    pub resumption: bool,
}

impl Default for LegOptions {
    fn default() -> Self {
        Self { only_tls13: false, ciphers: None, groups: None, resumption: true }
    }
}

/// What is asked of some origins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginOptions {
    pub leg: LegOptions,
    /// Roots believed there, in place of all others.
    pub ca: Vec<PathBuf>,
    /// Certificate chain and key to show where one is asked for.
    pub client: Option<(PathBuf, PathBuf)>,
    /// SHA-256 of the public keys (SPKI) that a leaf may have; empty: any.
    pub pins: Vec<[u8; 32]>,
    pub crls: Vec<PathBuf>,
}

/// Key exchange groups that can be chosen from.
const GROUPS: [u16; 5] = [0x11ec, 0x11eb, 0x001d, 0x0017, 0x0018];
/// Cipher suites that can be chosen from.
const SUITES: [u16; 9] = [0x1302, 0x1301, 0x1303, 0xc02c, 0xc02b, 0xcca9, 0xc030, 0xc02f, 0xcca8];
/// Of both lists what FIPS 140-3 does not approve: ChaCha20, and X25519 by itself.
const UNAPPROVED: [u16; 4] = [0x1303, 0xcca9, 0xcca8, 0x001d];
const LEG_KEYS: [&str; 4] = ["min", "ciphers", "groups", "resumption"];
const ORIGIN_KEYS: [&str; 9] =
    ["min", "ciphers", "groups", "resumption", "ca", "client_cert", "client_key", "pins", "crls"];

impl TlsSettings {
    /// With the words of the file, for `config show`. Origins are a list, since the first that matches counts. Files
    /// are named, not read.
    pub fn shown(&self) -> Value {
        let origin = |(pattern, asked): &(Pattern, OriginOptions)| {
            let mut shown = asked.shown();
            shown.insert("host".to_owned(), pattern.to_string().into());
            Value::from(shown)
        };
        let origins: Vec<Value> = self.origins.iter().map(origin).collect();
        json!({"client": self.client.shown(), "origins": origins})
    }
}

impl LegOptions {
    fn shown(&self) -> Map<String, Value> {
        let mut shown = Map::new();
        shown.insert("min".to_owned(), if self.only_tls13 { "1.3" } else { "1.2" }.into());
        for (key, numbers, name) in
            [("ciphers", &self.ciphers, suite as fn(u16) -> _), ("groups", &self.groups, group_name)]
        {
            if let Some(numbers) = numbers {
                let names: Vec<_> = numbers.iter().filter_map(|number| name(*number)).collect();
                shown.insert(key.to_owned(), names.into());
            }
        }
        shown.insert("resumption".to_owned(), self.resumption.into());
        shown
    }
}

impl OriginOptions {
    fn shown(&self) -> Map<String, Value> {
        let mut shown = self.leg.shown();
        let path = |path: &PathBuf| path.display().to_string();
        let pin = |pin: &[u8; 32]| format!("sha256/{}", STANDARD.encode(pin));
        let lists = [
            ("ca", self.ca.iter().map(path).collect::<Vec<_>>()),
            ("crls", self.crls.iter().map(path).collect()),
            ("pins", self.pins.iter().map(pin).collect()),
        ];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            shown.insert(key.to_owned(), list.into());
        }
        if let Some((cert, key)) = &self.client {
            shown.insert("client_cert".to_owned(), path(cert).into());
            shown.insert("client_key".to_owned(), path(key).into());
        }
        shown
    }
}

/// The keys above as a JSON Schema.
pub(super) fn schema() -> Value {
    let one_or_more = |item: Value| json!({"oneOf": [item, {"type": "array", "items": item, "minItems": 1}]});
    let files = || one_or_more(json!({"type": "string", "minLength": 1}));
    let words = |of: &[u16], name: &dyn Fn(u16) -> Option<&'static str>| {
        let names: Vec<_> = of.iter().filter_map(|number| name(*number)).collect();
        one_or_more(json!({"enum": names}))
    };
    let takes = |key: &str| match key {
        "min" => json!({"enum": ["1.2", "1.3", 1.2, 1.3], "description": "Nothing is below 1.2."}),
        "ciphers" => words(&SUITES, &suite),
        "groups" => words(&GROUPS, &group_name),
        "resumption" => json!({"type": "boolean", "default": true}),
        "pins" => one_or_more(json!({"type": "string", "pattern": "^sha256/[A-Za-z0-9+/]{43}=$"})),
        _ => files(),
    };
    let object = |keys: &[&str]| {
        let properties: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), takes(key))).collect();
        json!({"type": "object", "additionalProperties": false, "properties": properties})
    };
    json!({
        "type": "object",
        "additionalProperties": false,
        "description": "What each leg may negotiate, and for each host whom we believe and who we are.",
        "properties": {
            "client": object(&LEG_KEYS),
            "origins": {"type": "object", "additionalProperties": object(&ORIGIN_KEYS),
                "description": "By host pattern; the first that matches counts."},
        },
    })
}

/// By IANA's name: what rustls writes `TLS13_` begins with `TLS_` for everybody else.
fn suite(number: u16) -> Option<&'static str> {
    Some(match number {
        0x1301 => "TLS_AES_128_GCM_SHA256",
        0x1302 => "TLS_AES_256_GCM_SHA384",
        0x1303 => "TLS_CHACHA20_POLY1305_SHA256",
        other => return suite_name(other),
    })
}
