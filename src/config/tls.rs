//! `tls:` of the settings file: what each leg may negotiate, and for each host whom we believe and who we are.
//!
//! The floor is no setting: every key here can only raise it. Names are understood here; the files they name are read
//! by `tls/`.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use serde_yaml::Spanned;

use super::connect_to::Pattern;
use crate::engine::hello::server::{group_name, suite_name};
use crate::engine::words::nearest;

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

/// YAML in which every value knows its place.
pub(super) enum Tree {
    Scalar(String),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
    Null,
}

pub(super) struct Reader<'p> {
    pub path: &'p Path,
    pub problems: Vec<String>,
}

impl Reader<'_> {
    pub(super) fn read(&mut self, tree: &Spanned<Tree>) -> TlsSettings {
        let mut settings = TlsSettings::default();
        for (key, value) in self.fields(tree, "tls", &["client", "origins"]) {
            match key {
                "client" => settings.client = self.leg(value, "tls.client", &LEG_KEYS),
                _ => settings.origins = self.origins(value),
            }
        }
        settings
    }

    fn origins(&mut self, tree: &Spanned<Tree>) -> Vec<(Pattern, OriginOptions)> {
        let Tree::Map(pairs) = &tree.value else {
            self.problem(tree, "tls.origins: want a mapping of host patterns, the first that matches counts");
            return Vec::new();
        };
        let mut origins = Vec::new();
        for (name, value) in pairs {
            match Pattern::parse(&name.value) {
                Some(pattern) => origins.push((pattern, self.origin(value))),
                None => {
                    let want = "want a host, with `*` for one label or `**.` in front for more, or `*` alone";
                    self.problem(name, format!("tls.origins: got {:?}, {want}", name.value));
                }
            }
        }
        origins
    }

    fn origin(&mut self, tree: &Spanned<Tree>) -> OriginOptions {
        let mut options =
            OriginOptions { leg: self.leg(tree, "tls.origins", &ORIGIN_KEYS), ..Default::default() };
        let (mut cert, mut key) = (None, None);
        let Tree::Map(pairs) = &tree.value else { return options };
        for (name, value) in pairs {
            match name.value.as_str() {
                "ca" => options.ca = self.files(value, "ca"),
                "crls" => options.crls = self.files(value, "crls"),
                "client_cert" => cert = self.files(value, "client_cert").pop(),
                "client_key" => key = self.files(value, "client_key").pop(),
                "pins" => {
                    for (place, text) in self.texts(value, "pins") {
                        match pin(text) {
                            Some(pin) => options.pins.push(pin),
                            None => self.problem(
                                place,
                                format!("pins: got {text:?}, want sha256/ and 44 characters of base64"),
                            ),
                        }
                    }
                }
                _ => {}
            }
        }
        match (cert, key) {
            (Some(cert), Some(key)) => options.client = Some((cert, key)),
            (None, None) => {}
            _ => self.problem(tree, "`client_cert` and `client_key` are given both or not at all"),
        }
        options
    }

    fn leg(&mut self, tree: &Spanned<Tree>, place: &str, known: &[&'static str]) -> LegOptions {
        let mut leg = LegOptions::default();
        for (key, value) in self.fields(tree, place, known) {
            match key {
                "min" => match self.text(value) {
                    Some("1.2") => {}
                    Some("1.3") => leg.only_tls13 = true,
                    _ => self.problem(value, "min: want \"1.2\" or \"1.3\" (nothing is below 1.2)"),
                },
                "ciphers" => leg.ciphers = self.numbers(value, "ciphers", &SUITES, suite),
                "groups" => leg.groups = self.numbers(value, "groups", &GROUPS, group_name),
                "resumption" => match self.text(value) {
                    Some("true") => {}
                    Some("false") => leg.resumption = false,
                    _ => self.problem(value, "resumption: want true or false"),
                },
                _ => {}
            }
        }
        if let Some(ciphers) = &leg.ciphers
            && leg.only_tls13
            && !ciphers.iter().any(|number| number >> 8 == 0x13)
        {
            self.problem(tree, "ciphers: none of them is of TLS 1.3, which `min` demands");
        }
        leg
    }

    /// Names of a closed list by their numbers.
    fn numbers(
        &mut self,
        tree: &Spanned<Tree>,
        what: &str,
        known: &[u16],
        name: impl Fn(u16) -> Option<&'static str>,
    ) -> Option<Vec<u16>> {
        let mut numbers = Vec::new();
        for (place, text) in self.texts(tree, what) {
            let spelled = |number: &&u16| name(**number).is_some_and(|name| name.eq_ignore_ascii_case(text));
            match known.iter().find(spelled) {
                Some(number) if cfg!(feature = "fips") && UNAPPROVED.contains(number) => {
                    let message =
                        format!("{what}: FIPS 140-3 does not approve of {text}, and this build keeps to it");
                    self.problem(place, message);
                }
                Some(number) => numbers.push(*number),
                None => {
                    let names: Vec<_> = known.iter().filter_map(|number| name(*number)).collect();
                    let message = match nearest(text, names.iter().copied()) {
                        Some(meant) => format!("{what}: got {text:?}; did you mean `{meant}`?"),
                        None => format!("{what}: got {text:?}, want some of {}", names.join(", ")),
                    };
                    self.problem(place, message);
                }
            }
        }
        (!numbers.is_empty()).then_some(numbers)
    }

    fn files(&mut self, tree: &Spanned<Tree>, what: &str) -> Vec<PathBuf> {
        self.texts(tree, what).into_iter().map(|(_, text)| PathBuf::from(text)).collect()
    }

    /// One text or a list of them.
    fn texts<'t>(&mut self, tree: &'t Spanned<Tree>, what: &str) -> Vec<(&'t Spanned<Tree>, &'t str)> {
        let items = match &tree.value {
            Tree::List(items) if !items.is_empty() => items.iter().collect(),
            _ => vec![tree],
        };
        let mut texts = Vec::new();
        for item in items {
            match &item.value {
                Tree::Scalar(text) if !text.is_empty() => texts.push((item, text.as_str())),
                _ => self.problem(item, format!("{what}: want a value or a list of them")),
            }
        }
        texts
    }

    fn text<'t>(&self, tree: &'t Spanned<Tree>) -> Option<&'t str> {
        match &tree.value {
            Tree::Scalar(text) => Some(text),
            _ => None,
        }
    }

    fn fields<'t, 'k>(
        &mut self,
        tree: &'t Spanned<Tree>,
        place: &str,
        known: &[&'k str],
    ) -> Vec<(&'k str, &'t Spanned<Tree>)> {
        let Tree::Map(pairs) = &tree.value else {
            self.problem(tree, format!("{place}: want a mapping with {}", known.join(", ")));
            return Vec::new();
        };
        let mut fields: Vec<(&'k str, &Spanned<Tree>)> = Vec::new();
        for (name, value) in pairs {
            match known.iter().find(|key| **key == name.value) {
                Some(key) if fields.iter().any(|(seen, _)| seen == key) => {
                    self.problem(name, format!("{place}: `{key}` stands twice"));
                }
                Some(key) => fields.push((key, value)),
                None => {
                    let hint = nearest(&name.value, known.iter().copied())
                        .map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
                    self.problem(name, format!("unknown key `{place}.{}`{hint}", name.value));
                }
            }
        }
        fields
    }

    fn problem<T>(&mut self, at: &Spanned<T>, message: impl fmt::Display) {
        let (line, column) = (at.referenced.line(), at.referenced.column());
        self.problems.push(format!("{}:{line}:{column}: {message}", self.path.display()));
    }
}

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

/// `sha256/BASE64`, as curl and HPKP write it.
fn pin(text: &str) -> Option<[u8; 32]> {
    let code = text.strip_prefix("sha256/").or_else(|| text.strip_prefix("sha256//"))?;
    STANDARD.decode(code.trim_start_matches('/')).ok()?.try_into().ok()
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Tree::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::target::Host;

    fn read(yaml: &str) -> (TlsSettings, Vec<String>) {
        let tree: Spanned<Tree> = serde_yaml::from_str(yaml).unwrap();
        let mut reader = Reader { path: Path::new("x.yaml"), problems: Vec::new() };
        (reader.read(&tree), reader.problems)
    }

    #[test]
    fn both_legs_are_read_and_the_first_pattern_counts() {
        let pin = STANDARD.encode([7; 32]);
        let (settings, problems) = read(&format!(
            "client: {{min: 1.3, ciphers: [TLS_AES_256_GCM_SHA384], resumption: false}}
origins:
  api.corp.test: {{ca: corp.pem, client_cert: c.pem, client_key: k.pem, pins: sha256/{pin}, crls: [a.crl, b.crl]}}
  '*': {{groups: [X25519MLKEM768, SECP256R1]}}
"
        ));
        assert_eq!(problems, Vec::<String>::new());
        let client =
            LegOptions { only_tls13: true, ciphers: Some(vec![0x1302]), groups: None, resumption: false };
        assert_eq!(settings.client, client);
        let [(corp, options), (any, rest)] = &settings.origins[..] else { panic!() };
        assert!(
            corp.matches(&Host::parse("api.corp.test").unwrap())
                && any.matches(&Host::parse("x.test").unwrap())
        );
        assert_eq!((options.pins.as_slice(), options.crls.len()), (&[[7; 32]][..], 2));
        assert_eq!(options.client, Some(("c.pem".into(), "k.pem".into())));
        assert_eq!(rest.leg.groups, Some(vec![0x11ec, 0x0017]));
        let shown = json!({
            "client": {"min": "1.3", "ciphers": ["TLS_AES_256_GCM_SHA384"], "resumption": false},
            "origins": [
                {"host": "api.corp.test", "min": "1.2", "resumption": true, "ca": ["corp.pem"], "client_cert": "c.pem",
                 "client_key": "k.pem", "pins": [format!("sha256/{pin}")], "crls": ["a.crl", "b.crl"]},
                {"host": "*", "min": "1.2", "resumption": true, "groups": ["X25519MLKEM768", "secp256r1"]},
            ],
        });
        assert_eq!(settings.shown(), shown);
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let (_, problems) = read(
            "client: {min: 1.1, cipher: x}
origins:
  'a*.test': {}
  a.test: {client_cert: c.pem, ciphers: [TLS_RSA_WITH_AES_128_CBC_SHA], groups: x2551, pins: abc, resumption: maybe}
  b.test: {min: '1.3', ciphers: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
",
        );
        let want = [
            "x.yaml:1:20: unknown key `tls.client.cipher`; did you mean `ciphers`?",
            "x.yaml:1:15: min: want \"1.2\" or \"1.3\" (nothing is below 1.2)",
            "x.yaml:3:3: tls.origins: got \"a*.test\"",
            "x.yaml:4:42: ciphers: got \"TLS_RSA_WITH_AES_128_CBC_SHA\"",
            "x.yaml:4:81: groups: got \"x2551\"; did you mean `X25519`?",
            "x.yaml:4:94: pins: got \"abc\"",
            "x.yaml:4:111: resumption: want true or false",
            "x.yaml:4:11: `client_cert` and `client_key` are given both or not at all",
            "x.yaml:5:11: ciphers: none of them is of TLS 1.3",
        ];
        for line in want {
            assert!(problems.iter().any(|problem| problem.starts_with(line)), "{line}: {problems:#?}");
        }
        assert_eq!(problems.len(), want.len(), "{problems:#?}");
    }

    #[test]
    fn a_build_that_keeps_to_fips_refuses_what_it_does_not_approve_and_no_other() {
        let (settings, problems) = read(
            "client: {ciphers: [TLS_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256], groups: [X25519, secp384r1]}",
        );
        let refused = if cfg!(feature = "fips") {
            vec![
                "x.yaml:1:20: ciphers: FIPS 140-3 does not approve of TLS_CHACHA20_POLY1305_SHA256, and this build keeps to it",
                "x.yaml:1:84: groups: FIPS 140-3 does not approve of X25519, and this build keeps to it",
            ]
        } else {
            Vec::new()
        };
        assert_eq!(problems, refused);
        assert!(settings.client.ciphers.unwrap().contains(&0x1301));
        assert!(settings.client.groups.unwrap().contains(&0x0018));
    }
}
