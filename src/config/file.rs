//! The YAML shape of the settings: keys are the flags' names with `_`; `limits:` holds the times, `records:` what is
//! recorded.
//!
//! Keys nobody knows are problems with their place, all of them together. Values stay text here and are understood in
//! `config.rs`, like those of the other layers. The tree of a value that has parts is `engine/yaml.rs`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_yaml::{Location, Spanned};

use super::layer::{Key, Layer, Origin};
use super::tls::TlsSettings;
use crate::engine::words::nearest;
use crate::engine::yaml::Tree;

/// Settings and policies are some pages; what is larger is something else.
const MOST_BYTES: u64 = 1 << 20;

/// The text of a file that people write. Nobody's memory is filled by what is none, such as a device.
pub(crate) fn read_page(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}

/// Reads the file: what can be understood of it, and all that is wrong with its form.
pub(super) fn read(path: &Path) -> (Layer, TlsSettings, Vec<String>) {
    match read_page(path) {
        Ok(text) => parse(path, &text),
        Err(error) => {
            let problem = format!("{}: cannot read: {error}", path.display());
            (Layer::default(), TlsSettings::default(), vec![problem])
        }
    }
}

pub(super) fn parse(path: &Path, text: &str) -> (Layer, TlsSettings, Vec<String>) {
    if text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#')) {
        return Default::default();
    }
    let found = RefCell::new(Found {
        path,
        layer: Layer::default(),
        tls: TlsSettings::default(),
        problems: Vec::new(),
    });
    let options = serde_yaml::options! { strict_booleans: true, with_snippet: false };
    let outcome = serde_yaml::with_deserializer_from_str_with_options(text, options, |yaml| {
        Section { found: &found, prefix: "" }.deserialize(yaml)
    });
    let mut found = found.into_inner();
    if let Err(error) = outcome {
        let message = error.without_snippet().to_string();
        found.problems.push(match error.location() {
            Some(at) => {
                // The message ends in the place that we put first.
                let place = format!(" at line {}, column {}", at.line(), at.column());
                let message = message.strip_suffix(&place).unwrap_or(&message);
                format!("{}:{}:{}: {message}", path.display(), at.line(), at.column())
            }
            None => format!("{}: {message}", path.display()),
        });
    }
    (found.layer, found.tls, found.problems)
}

struct Found<'a> {
    path: &'a Path,
    layer: Layer,
    tls: TlsSettings,
    problems: Vec<String>,
}

impl Found<'_> {
    fn note(&mut self, key: Key, value: Spanned<String>) {
        let origin = self.origin(value.referenced);
        self.layer.push(key, value.value, origin);
    }

    fn origin(&self, at: Location) -> Origin {
        Origin::File { path: self.path.into(), line: at.line(), column: at.column() }
    }
}

/// A mapping whose keys are settings: the whole file, or `limits:`.
struct Section<'a, 'p> {
    found: &'a RefCell<Found<'p>>,
    prefix: &'static str,
}

impl<'de> DeserializeSeed<'de> for Section<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Section<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Spanned<String>>()? {
            let whole = format!("{}{}", self.prefix, name.value);
            let key = whole.parse::<Key>().ok().filter(|key| *key != Key::Config);
            match key {
                None if whole == "limits" => {
                    map.next_value_seed(Section { found: self.found, prefix: "limits." })?;
                }
                None if whole == "records" => {
                    map.next_value_seed(Section { found: self.found, prefix: "records." })?;
                }
                None if whole == "tls" => {
                    let tree = map.next_value::<Spanned<Tree>>()?;
                    let mut found = self.found.borrow_mut();
                    let mut reader = super::tls::Reader { path: found.path, problems: Vec::new() };
                    found.tls = reader.read(&tree);
                    found.problems.append(&mut reader.problems);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                    let mut found = self.found.borrow_mut();
                    let at = found.origin(name.referenced);
                    let meant = nearest(
                        &whole,
                        Key::ALL.iter().map(|key| key.as_str()).chain(["limits", "records", "tls"]),
                    );
                    let hint = meant.map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
                    found.problems.push(format!("{at}: unknown key `{whole}`{hint}"));
                }
                Some(Key::RecordsData) => {
                    // Calls, each with the members that are allowed of it.
                    for (call, members) in map.next_value::<BTreeMap<String, Vec<Spanned<String>>>>()? {
                        for member in members {
                            let value = format!("{call} {}", member.value);
                            let origin = self.found.borrow().origin(member.referenced);
                            self.found.borrow_mut().layer.push(Key::RecordsData, value, origin);
                        }
                    }
                }
                Some(key) if key.takes_many() => {
                    for value in map.next_value::<Vec<Spanned<String>>>()? {
                        self.found.borrow_mut().note(key, value);
                    }
                }
                Some(key) => {
                    let value = map.next_value::<Spanned<String>>()?;
                    if value.value.is_empty() {
                        return Err(A::Error::custom(format_args!("{key} is empty")));
                    }
                    self.found.borrow_mut().note(key, value);
                }
            }
        }
        Ok(())
    }
}
