//! Percent-encoding as SigV4 has it: bytes in, RFC 3986 unreserved bytes and upper-case escapes out.
//!
//! Works on bytes throughout: a lossy text form would give two requests one signature.

use std::borrow::Cow;

const UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'_' | b'.' | b'~');
        byte += 1;
    }
    table
};

/// How a literal `+` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plus {
    /// In a query, as AWS reads it.
    Space,
    Literal,
}

/// Appends every byte but the unreserved ones, and `/` where `slash` says so, as an escape.
pub fn encode(out: &mut Vec<u8>, raw: &[u8], slash: bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in raw {
        if UNRESERVED[usize::from(byte)] || (slash && byte == b'/') {
            out.push(byte);
        } else {
            out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

/// The bytes meant; `None` for a `%` without two hex digits.
pub fn decode(raw: &[u8], plus: Plus) -> Option<Cow<'_, [u8]>> {
    let special = |b: &u8| *b == b'%' || (*b == b'+' && plus == Plus::Space);
    if !raw.iter().any(special) {
        return Some(Cow::Borrowed(raw));
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        out.push(match byte {
            b'%' => {
                let [high, low, tail @ ..] = tail else { return None };
                rest = tail;
                (nibble(*high)? << 4) | nibble(*low)?
            }
            b'+' if plus == Plus::Space => b' ',
            other => *other,
        });
    }
    Some(Cow::Owned(out))
}

/// `encode(decode(raw))`, borrowed where that changes nothing; `None` for a malformed escape.
pub fn canonical(raw: &[u8], slash: bool, plus: Plus) -> Option<Cow<'_, [u8]>> {
    if is_canonical(raw, slash) {
        return Some(Cow::Borrowed(raw));
    }
    let decoded = decode(raw, plus)?;
    let mut out = Vec::with_capacity(decoded.len() + 16);
    encode(&mut out, &decoded, slash);
    Some(Cow::Owned(out))
}

/// Unreserved bytes stand for themselves, all others are whole upper-case escapes.
fn is_canonical(raw: &[u8], slash: bool) -> bool {
    let mut rest = raw;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if UNRESERVED[usize::from(*byte)] || (slash && *byte == b'/') {
            continue;
        }
        let [high, low, tail @ ..] = tail else { return false };
        let upper = |b: &u8| b.is_ascii_digit() || (b'A'..=b'F').contains(b);
        if *byte != b'%' || !upper(high) || !upper(low) {
            return false;
        }
        let value = nibble(*high).zip(nibble(*low)).map_or(0, |(high, low)| high << 4 | low);
        if UNRESERVED[usize::from(value)] || (slash && value == b'/') {
            return false;
        }
        rest = tail;
    }
    true
}

fn nibble(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form_is_what_encoding_the_decoded_bytes_gives() {
        for (raw, want) in [
            ("a-b_c.d~e", "a-b_c.d~e"),
            ("a b", "a%20b"),
            ("%41%2d", "A-"),
            ("%c3%A9", "%C3%A9"),
            ("a+b", "a%20b"),
            ("%2B", "%2B"),
            ("a/b", "a%2Fb"),
            ("%FF", "%FF"),
        ] {
            assert_eq!(
                canonical(raw.as_bytes(), false, Plus::Space).as_deref(),
                Some(want.as_bytes()),
                "{raw}"
            );
        }
        assert_eq!(canonical(b"/a%2Fb+", true, Plus::Literal).as_deref(), Some(&b"/a/b%2B"[..]));
    }

    #[test]
    fn refuses_escapes_that_are_not_whole() {
        for raw in ["%", "%4", "a%", "%zz", "%4g", "%%41"] {
            assert_eq!(decode(raw.as_bytes(), Plus::Space), None, "{raw}");
            assert_eq!(canonical(raw.as_bytes(), false, Plus::Literal), None, "{raw}");
        }
    }

    #[test]
    fn already_canonical_text_is_borrowed() {
        assert!(matches!(canonical(b"%2Fa%20b", false, Plus::Space), Some(Cow::Borrowed(_))));
        assert!(matches!(canonical(b"%2fa", false, Plus::Space), Some(Cow::Owned(_))));
    }
}
