//! Query strings and form bodies, decoded once: the one reading of them that recognition uses.
//!
//! `+` is a space and `%XX` a byte, in names and values alike. Names are kept with their
//! duplicates: whoever asks for one says what a repeat means.

use std::borrow::Cow;

use crate::engine::pieces::pieces;

/// A head has room for half as many. Each takes more memory than it has bytes.
const MAX_PAIRS: usize = 1 << 16;

/// Pairs in order, decoded; a bare key has an empty value.
#[derive(Debug, Default)]
pub(in crate::engine) struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// How often a name stands there, in whatever case.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'p> {
    No,
    /// Once, spelled exactly so.
    Once(&'p str),
    /// More than once, or in another case: two readers may differ on it.
    Unclear,
}

impl<'a> Pairs<'a> {
    /// `None` where an escape is malformed, the text isn't UTF-8 once decoded, or there are too many.
    pub(in crate::engine) fn parse(text: &'a str) -> Option<Self> {
        let pieces = pieces(text, b'&').filter(|piece| !piece.is_empty());
        if pieces.clone().nth(MAX_PAIRS).is_some() {
            return None;
        }
        let pair = |piece: &'a str| {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            Some((form_decoded(name)?, form_decoded(value)?))
        };
        pieces.map(pair).collect::<Option<_>>().map(Self)
    }

    pub(super) fn find(&self, name: &str) -> Found<'_> {
        let mut hits = self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let Some((spelled, value)) = hits.next() else { return Found::No };
        if spelled == name && hits.next().is_none() { Found::Once(value) } else { Found::Unclear }
    }

    /// The value of a name that stands there once, in any case.
    pub(super) fn only_any_case(&self, name: &str) -> Option<&str> {
        let mut hits = self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = hits.next()?;
        hits.next().is_none().then_some(&*first.1)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }
}

fn form_decoded(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') {
        return decoded(&text.replace('+', " ")).map(|t| Cow::Owned(t.into_owned()));
    }
    decoded(text)
}

/// Percent-decoded once; `None` where an escape is malformed or the bytes are not UTF-8.
pub(super) fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' { hex(bytes.next()?)? << 4 | hex(bytes.next()?)? } else { byte });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// Every `%` begins an escape.
pub(super) fn well_escaped(text: &str) -> bool {
    let mut escapes = pieces(text, b'%').skip(1).map(str::as_bytes);
    escapes.all(|p| matches!(p, [a, b, ..] if hex(*a).is_some() && hex(*b).is_some()))
}

/// An escape of a byte that needs none (RFC 3986 2.3), `~` aside: old clients do escape that one. No SDK writes these,
/// and a literal of a path could hide behind one.
pub(super) fn hides_plain_bytes(text: &str) -> bool {
    text.split('%').skip(1).map(str::as_bytes).any(|p| match p {
        [a, b, ..] => match (hex(*a), hex(*b)) {
            (Some(a), Some(b)) => (a << 4 | b).is_ascii_alphanumeric() || b"-._".contains(&(a << 4 | b)),
            _ => true,
        },
        _ => true,
    })
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_names_and_values_once() {
        let pairs = Pairs::parse("Action=Get%43aller&a+b=c%2Bd&&flag&x=%2525").unwrap();
        assert_eq!(pairs.find("Action"), Found::Once("GetCaller"));
        assert_eq!(pairs.find("a b"), Found::Once("c+d"));
        assert_eq!(pairs.find("flag"), Found::Once(""));
        assert_eq!(pairs.find("x"), Found::Once("%25"));
        assert_eq!(pairs.find("y"), Found::No);
    }

    #[test]
    fn a_repeated_or_oddly_cased_name_is_unclear() {
        for text in ["Action=A&Action=B", "Action=A&Action=A", "action=A", "Action=A&%61ction=B"] {
            assert_eq!(Pairs::parse(text).unwrap().find("Action"), Found::Unclear, "{text}");
        }
    }

    #[test]
    fn malformed_escapes_are_not_read() {
        for text in ["a=%", "a=%4", "%zz=1", "a=%ff", "a=%-1"] {
            assert!(Pairs::parse(text).is_none(), "{text}");
        }
        assert!(well_escaped("/a%2Fb") && !well_escaped("/a%2") && !well_escaped("/%%41"));
    }

    #[test]
    fn more_pairs_than_anybody_sends_are_not_read() {
        assert!(Pairs::parse(&"a&".repeat(MAX_PAIRS)).is_some());
        assert!(Pairs::parse(&"a&".repeat(MAX_PAIRS + 1)).is_none());
    }

    #[test]
    fn finds_escapes_that_nobody_needs() {
        assert!(hides_plain_bytes("/%66oo") && hides_plain_bytes("/%2E%2e"));
        assert!(!hides_plain_bytes("/a%2Fb%20c%3A%7E"));
    }
}
