//! Bodies and queries as one kind of tree, whatever the wire protocol. `None` for what is not whole or not plain.

use serde_json::{Map, Value};

use super::MAX_DEPTH;
use crate::engine::atlas::Pairs;
use crate::engine::atlas::xml::character;
use crate::engine::facts::Protocol;

/// A body of [`super::MOST_READ`] bytes has room for no more.
const MAX_MEMBERS: usize = 8192;

/// Parameters of a query, and of a body over them.
pub(super) fn request(protocol: Protocol, query: &str, body: &[u8]) -> Option<Value> {
    let mut out = form(query)?;
    if !body.is_empty() {
        let body = match protocol {
            Protocol::Query | Protocol::Ec2 => Some(Value::Object(form(std::str::from_utf8(body).ok()?)?)),
            _ => answer(protocol, body),
        };
        match (body, protocol) {
            (Some(Value::Object(body)), _) => out.extend(body),
            // The body may be the workload's own bytes; the query is told all the same.
            (_, Protocol::S3 | Protocol::RestJson | Protocol::RestXml | Protocol::Http) => {}
            _ => return None,
        }
    }
    Some(Value::Object(out))
}

pub(super) fn answer(protocol: Protocol, body: &[u8]) -> Option<Value> {
    match protocol {
        // serde_json bounds its depth.
        Protocol::Json10 | Protocol::Json11 | Protocol::RestJson | Protocol::Http => {
            serde_json::from_slice(body).ok()
        }
        Protocol::Query | Protocol::Ec2 | Protocol::S3 | Protocol::RestXml => {
            xml(std::str::from_utf8(body).ok()?)
        }
        Protocol::Cbor => {
            let mut cbor = Cbor { rest: body, left: MAX_MEMBERS };
            cbor.item(0).filter(|_| cbor.rest.is_empty())
        }
        // Frames of a schema that is not known here.
        Protocol::Grpc => None,
    }
}

/// `A.1.B=x` is a tree: query protocols write lists and structures so. Of two members of one name the last counts.
fn form(text: &str) -> Option<Map<String, Value>> {
    let mut out = Map::new();
    for (name, value) in Pairs::parse(text)?.iter().take(MAX_MEMBERS) {
        let mut steps = name.split('.').take(MAX_DEPTH).peekable();
        let mut at = &mut out;
        while let Some(step) = steps.next() {
            if steps.peek().is_none() {
                at.insert(step.to_owned(), value.into());
                break;
            }
            let next = at.entry(step).or_insert_with(|| Value::Object(Map::new()));
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            let Value::Object(inner) = next else { return None };
            at = inner;
        }
    }
    Some(out)
}

/// The children of the root element. Comments, CDATA, entities of one's own and a DOCTYPE are not plain.
fn xml(text: &str) -> Option<Value> {
    let mut rest = text.trim();
    if let Some(declared) = rest.strip_prefix("<?xml") {
        rest = declared.split_once("?>")?.1.trim_start();
    }
    let mut reader = Xml { rest };
    let Tag::Open(root) = reader.tag()? else { return None };
    let value = reader.element(root, 0)?;
    reader.rest.trim().is_empty().then_some(value)
}

enum Tag<'a> {
    Open(&'a str),
    Empty(&'a str),
    Close(&'a str),
}

struct Xml<'a> {
    rest: &'a str,
}

impl<'a> Xml<'a> {
    /// The next tag; the text before it must be blank. Attributes are passed over.
    fn tag(&mut self) -> Option<Tag<'a>> {
        let (inner, rest) = self.rest.trim_start().strip_prefix('<')?.split_once('>')?;
        self.rest = rest;
        let name = |text: &'a str| {
            let name = text.split([' ', '\t', '\r', '\n']).next().unwrap_or_default();
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
            (!name.is_empty() && name.bytes().all(plain)).then_some(name)
        };
        Some(match (inner.strip_prefix('/'), inner.strip_suffix('/')) {
            (Some(closed), _) => Tag::Close(name(closed)?),
            (None, Some(empty)) => Tag::Empty(name(empty)?),
            (None, None) => Tag::Open(name(inner)?),
        })
    }

    fn element(&mut self, name: &str, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (text, _) = self.rest.split_once('<')?;
        if self.rest[text.len()..].starts_with("</") {
            self.rest = &self.rest[text.len()..];
            let Tag::Close(closed) = self.tag()? else { return None };
            return (closed == name).then(|| unescaped(text).map(Value::String))?;
        }
        let mut members = Map::new();
        loop {
            let (child, value) = match self.tag()? {
                Tag::Close(closed) => return (closed == name).then_some(Value::Object(members)),
                Tag::Empty(child) => (child, Value::String(String::new())),
                Tag::Open(child) => (child, self.element(child, depth + 1)?),
            };
            match members.get_mut(child) {
                None => drop(members.insert(child.to_owned(), value)),
                Some(Value::Array(all)) => all.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
    }
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut pieces = text.split('&');
    out.push_str(pieces.next()?);
    for piece in pieces {
        let (entity, after) = piece.split_once(';')?;
        out.push(character(entity)?);
        out.push_str(after);
    }
    Some(out)
}

/// RFC 8949. Byte strings and tags' contents are told, as their length and as they are.
struct Cbor<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Cbor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// Major type and argument; `None` for the argument of an indefinite length.
    fn head(&mut self) -> Option<(u8, u8, Option<u64>)> {
        let first = self.take(1)?[0];
        let (major, low) = (first >> 5, first & 31);
        let argument = match low {
            0..24 => Some(u64::from(low)),
            24..28 => {
                Some(self.take(1 << (low - 24))?.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
            }
            31 => None,
            _ => return None,
        };
        Some((major, low, argument))
    }

    fn ends(&mut self) -> bool {
        let at_break = self.rest.first() == Some(&0xff);
        if at_break {
            self.rest = &self.rest[1..];
        }
        at_break
    }

    fn item(&mut self, depth: usize) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        if depth > MAX_DEPTH {
            return None;
        }
        let (major, low, argument) = self.head()?;
        Some(match (major, argument) {
            (0, Some(number)) => number.into(),
            (1, Some(number)) => (-1 - i64::try_from(number).ok()?).into(),
            (2, Some(length)) => {
                self.take(usize::try_from(length).ok()?)?;
                format!("({length} bytes)").into()
            }
            (3, Some(length)) => std::str::from_utf8(self.take(usize::try_from(length).ok()?)?).ok()?.into(),
            (4, length) => {
                let mut items = Vec::new();
                while length.map_or_else(|| !self.ends(), |length| (items.len() as u64) < length) {
                    items.push(self.item(depth + 1)?);
                }
                items.into()
            }
            (5, length) => {
                let (mut members, mut count) = (Map::new(), 0);
                while length.map_or_else(|| !self.ends(), |length| count < length) {
                    let Value::String(name) = self.item(depth + 1)? else { return None };
                    members.insert(name, self.item(depth + 1)?);
                    count += 1;
                }
                members.into()
            }
            (6, Some(_)) => self.item(depth + 1)?,
            (7, Some(value)) => match low {
                20 | 21 => (low == 21).into(),
                22 | 23 => Value::Null,
                26 => f64::from(f32::from_bits(u32::try_from(value).ok()?)).into(),
                27 => f64::from_bits(value).into(),
                _ => return None,
            },
            _ => return None,
        })
    }
}
