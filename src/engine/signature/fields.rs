//! Header fields under a signature: which are in it, and which must be.

use std::borrow::Cow;

use super::Refusal;
use crate::engine::pieces::{find, pieces};
use crate::engine::reason::Reason;
use crate::engine::request::{RequestHead, is_name, is_plain_token};

/// The fields that `SignedHeaders` names, in its order.
#[derive(Debug)]
pub struct SignedFields<'f> {
    /// `a;b;c`: lower case, ascending, each once.
    names: Cow<'f, str>,
    lines: Vec<Line<'f>>,
    /// Further values of repeated fields, in arrival order, by the place of their line.
    more: Vec<(usize, &'f [u8])>,
}

#[derive(Debug)]
struct Line<'f> {
    /// Within the names.
    start: usize,
    end: usize,
    /// `None` only until the field is found.
    value: Option<&'f [u8]>,
}

impl<'f> SignedFields<'f> {
    /// Reads the fields of a request that `names` lists, and refuses what the list must not leave out.
    pub fn of(names: Cow<'f, str>, head: &'f RequestHead) -> Result<Self, Refusal> {
        let signed = Self::gather(names, head.fields(), |name, is_signed| {
            if !is_signed && starts_with_amz(name) {
                return Err(Refusal::new(
                    Reason::SigV4UnsignedHeader,
                    format!("`{}` is not signed", shown(name)),
                ));
            }
            // Framing is written anew: the length in the same digits, the coding not necessarily.
            if is_signed && (is_name(name, b"transfer-encoding") || head.is_hop_by_hop(name)) {
                let said = format!("`{}` is signed but stays on this connection", shown(name));
                return Err(Refusal::new(Reason::SigV4Malformed, said));
            }
            Ok(())
        })?;
        // Listed names are in lower case.
        if !signed.listed().any(|name| name == b"host") {
            return Err(Refusal::new(Reason::SigV4UnsignedHeader, "`host` is not signed"));
        }
        Ok(signed)
    }

    /// The fields that `names` lists, out of `fields`. `judge` is told of each of these whether it is listed.
    pub fn gather<'n>(
        names: Cow<'f, str>,
        fields: impl Iterator<Item = (&'n [u8], &'f [u8])>,
        mut judge: impl FnMut(&'n [u8], bool) -> Result<(), Refusal>,
    ) -> Result<Self, Refusal> {
        let malformed = |said: &str| Err(Refusal::new(Reason::SigV4Malformed, said));
        let listed = names.as_bytes();
        let mut lines: Vec<Line<'f>> = Vec::with_capacity(8);
        let mut more = Vec::new();
        let (mut start, mut last): (usize, &[u8]) = (0, b"");
        // For each length, by its low bits, the place of the last name that has it, counted from 1: most fields that
        // aren't signed are told by it alone, and most that are by one comparison.
        let mut by_length = [0u8; 64];
        // A list that ends in `;` ends in an empty name.
        while start <= listed.len() {
            let rest = &listed[start..];
            let length = find(b';', rest).unwrap_or(rest.len());
            // To the end of it whatever is found: that needs no branch for each byte. No field that is signed has one of
            // the two tokens that only a slower comparison tells apart.
            let plain = rest[..length].iter().fold(true, |all, &b| all & is_plain_token(b));
            if length == 0 || !plain {
                return malformed("signed headers are not a list of lower-case names");
            }
            let name = &rest[..length];
            // Most are told by their first bytes.
            if name.first() <= last.first() && name <= last {
                return malformed("signed headers are not in order, each once");
            }
            last = name;
            lines.push(Line { start, end: start + length, value: None });
            by_length[length & 63] = u8::try_from(lines.len()).unwrap_or(u8::MAX);
            start += length + 1;
        }
        for (field, value) in fields {
            let is = |line: &Line<'_>| is_name(field, &listed[line.start..line.end]);
            let at = match usize::from(by_length[field.len() & 63]) {
                0 => None,
                last if lines.get(last - 1).is_some_and(is) => Some(last - 1),
                _ => lines.iter().position(is),
            };
            judge(field, at.is_some())?;
            let Some(at) = at else { continue };
            match &mut lines[at].value {
                Some(_) => more.push((at, value)),
                first => *first = Some(value),
            }
        }
        if let Some(line) = lines.iter().find(|line| line.value.is_none()) {
            let name = shown(&listed[line.start..line.end]);
            return malformed(&format!("signed header `{name}` is not in the request"));
        }
        Ok(Self { names, lines, more })
    }

    /// As the client listed them.
    pub fn names(&self) -> &str {
        &self.names
    }

    /// `name` in any case.
    pub fn contains(&self, name: &str) -> bool {
        self.listed().any(|signed| signed.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// In bytes.
    fn listed(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(|line| &self.names.as_bytes()[line.start..line.end])
    }

    /// Names and canonical values.
    pub(super) fn canonical(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        pieces(&self.names, b';').enumerate().map(|(at, name)| {
            let mut value = Vec::new();
            self.write_values(at, &mut value);
            (name, value)
        })
    }

    /// Bytes of all values, about.
    pub(super) fn len(&self) -> usize {
        self.lines.iter().filter_map(|line| line.value).map(<[u8]>::len).sum()
    }

    /// A `name:value` line each.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (at, line) in self.lines.iter().enumerate() {
            out.extend_from_slice(&self.names.as_bytes()[line.start..line.end]);
            out.push(b':');
            self.write_values(at, out);
            out.push(b'\n');
        }
    }

    /// Joined by commas.
    fn write_values(&self, at: usize, out: &mut Vec<u8>) {
        write_value(out, self.lines[at].value.unwrap_or_default());
        for (_, value) in self.more.iter().filter(|(line, _)| *line == at) {
            out.push(b',');
            write_value(out, value);
        }
    }
}

/// Without outer blanks, inner runs of spaces folded into one; tabs inside stay.
fn write_value(out: &mut Vec<u8>, value: &[u8]) {
    let mut rest = value;
    while let [b' ' | b'\t', inner @ ..] | [inner @ .., b' ' | b'\t'] = rest {
        rest = inner;
    }
    while let Some(at) = find(b' ', rest) {
        out.extend_from_slice(&rest[..=at]);
        let next = rest[at..].iter().position(|&b| b != b' ').unwrap_or(rest.len() - at);
        rest = &rest[at + next..];
    }
    out.extend_from_slice(rest);
}

pub(super) fn starts_with_amz(name: &[u8]) -> bool {
    matches!(name, [b'x' | b'X', b'-', ..]) && name.get(..6).is_some_and(|start| is_name(start, b"x-amz-"))
}

/// A field's name for a sentence.
pub(super) fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(names: &str, fields: &[(&str, &[u8])]) -> Result<String, Refusal> {
        let mut out = Vec::new();
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), *value));
        SignedFields::gather(names.into(), fields, |_, _| Ok(()))?.write(&mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_are_trimmed_folded_and_joined_in_arrival_order() {
        let fields: &[(&str, &[u8])] =
            &[("B", b"2"), ("A", b" x   y \tz  "), ("b", b""), ("B", b"\"q   q\""), ("C", b"  ")];
        assert_eq!(write("a;b;c", fields).unwrap(), "a:x y \tz\nb:2,,\"q q\"\nc:\n");
    }

    #[test]
    fn refuses_lists_that_are_unsorted_repeated_upper_case_empty_or_about_missing_fields() {
        let fields: &[(&str, &[u8])] = &[("a", b"1"), ("b", b"2")];
        assert!(write("a;b", fields).is_ok());
        for names in ["b;a", "a;a", "A", "", "a;", ";a", "a;;b", "a,b", "a; b", "a;c", "a;b~", "a;^"] {
            assert_eq!(write(names, fields).unwrap_err().reason, Reason::SigV4Malformed, "{names}");
        }
    }
}
