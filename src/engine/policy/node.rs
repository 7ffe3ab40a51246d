//! YAML as a tree in which every key and value knows its place, so that all problems can be told together.
//!
//! The one place of the engine that meets the YAML crate. No aliases, no duplicate keys, bounded size and depth.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

/// A policy is some pages; what is larger is something else.
const MOST_BYTES: usize = 1 << 20;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub line: u64,
    pub column: u64,
}

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub at: At,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.at.line, self.at.column, self.message)
    }
}

#[derive(Debug)]
pub struct Node {
    pub at: At,
    pub value: Value,
}

#[derive(Debug)]
pub enum Value {
    /// Text as written; numbers and booleans as their text.
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Null,
}

/// Reads one document.
pub fn parse(file: &str, text: &str) -> Result<Node, Problem> {
    let problem = |at, message| Problem { file: file.to_owned(), at, message };
    if text.len() > MOST_BYTES {
        return Err(problem(At { line: 1, column: 1 }, "larger than 1 MiB".to_owned()));
    }
    let options = serde_yaml::options! { strict_booleans: true, with_snippet: false };
    match serde_yaml::from_str_with_options::<Spanned<Bare>>(text, options) {
        Ok(root) => Ok(root.into()),
        Err(error) => {
            let message = error.without_snippet().to_string();
            let at = error
                .location()
                .map_or(At { line: 1, column: 1 }, |at| At { line: at.line(), column: at.column() });
            // The message ends in the place that we put first.
            let place = format!(" at line {}, column {}", at.line, at.column);
            Err(problem(at, message.strip_suffix(&place).unwrap_or(&message).to_owned()))
        }
    }
}

/// A node before it is given its place.
enum Bare {
    Scalar(String),
    List(Vec<Spanned<Bare>>),
    Map(Vec<(Spanned<Bare>, Spanned<Bare>)>),
    Null,
}

impl From<Spanned<Bare>> for Node {
    fn from(spanned: Spanned<Bare>) -> Self {
        let at = At { line: spanned.referenced.line(), column: spanned.referenced.column() };
        let value = match spanned.value {
            Bare::Scalar(text) => Value::Scalar(text),
            Bare::List(items) => Value::List(items.into_iter().map(Self::from).collect()),
            Bare::Map(pairs) => Value::Map(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect()),
            Bare::Null => Value::Null,
        };
        Self { at, value }
    }
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BareVisitor)
    }
}

struct BareVisitor;

impl<'de> Visitor<'de> for BareVisitor {
    type Value = Bare;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Bare, E> {
        Ok(Bare::Scalar(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Bare, E> {
        Ok(Bare::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Bare, E> {
        Ok(Bare::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Bare, E> {
        Ok(Bare::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Bare, E> {
        Ok(Bare::Scalar(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Bare, E> {
        Ok(Bare::Null)
    }

    fn visit_none<E>(self) -> Result<Bare, E> {
        Ok(Bare::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Bare, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bare, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Bare::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bare, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Bare::Map(pairs))
    }
}
