//! Reads `tls:`; every problem is told, with its place.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_yaml::Spanned;

use super::{
    GROUPS, LEG_KEYS, LegOptions, ORIGIN_KEYS, OriginOptions, SUITES, TlsSettings, UNAPPROVED, suite,
};
use crate::config::connect_to::Pattern;
use crate::engine::hello::server::group_name;
use crate::engine::words::nearest;
use crate::engine::yaml::Tree;

pub struct Reader<'p> {
    pub path: &'p Path,
    pub problems: Vec<String>,
}

impl Reader<'_> {
    pub fn read(&mut self, tree: &Spanned<Tree>) -> TlsSettings {
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
            let host = text(name);
            match Pattern::parse(host) {
                Some(pattern) => origins.push((pattern, self.origin(value))),
                None => {
                    let want = "want a host, with `*` for one label or `**.` in front for more, or `*` alone";
                    self.problem(name, format!("tls.origins: got {host:?}, {want}"));
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
            match text(name) {
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
                "min" => match text(value) {
                    "1.2" => {}
                    "1.3" => leg.only_tls13 = true,
                    _ => self.problem(value, "min: want \"1.2\" or \"1.3\" (nothing is below 1.2)"),
                },
                "ciphers" => leg.ciphers = self.numbers(value, "ciphers", &SUITES, suite),
                "groups" => leg.groups = self.numbers(value, "groups", &GROUPS, group_name),
                "resumption" => match text(value) {
                    "true" => {}
                    "false" => leg.resumption = false,
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
            match text(item) {
                "" => self.problem(item, format!("{what}: want a value or a list of them")),
                text => texts.push((item, text)),
            }
        }
        texts
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
            let text = text(name);
            match known.iter().find(|key| **key == text) {
                Some(key) if fields.iter().any(|(seen, _)| seen == key) => {
                    self.problem(name, format!("{place}: `{key}` stands twice"));
                }
                Some(key) => fields.push((key, value)),
                None => {
                    let hint = nearest(text, known.iter().copied())
                        .map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
                    self.problem(name, format!("unknown key `{place}.{text}`{hint}"));
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

/// Of a single value; empty where it is none.
fn text(tree: &Spanned<Tree>) -> &str {
    tree.value.text().unwrap_or_default()
}

/// `sha256/BASE64`, as curl and HPKP write it.
fn pin(text: &str) -> Option<[u8; 32]> {
    let code = text.strip_prefix("sha256/").or_else(|| text.strip_prefix("sha256//"))?;
    STANDARD.decode(code.trim_start_matches('/')).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
