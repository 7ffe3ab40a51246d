//! An append-only JSON writer over a byte buffer, for the lines of `record`.
//!
//! Serde is not used here: two lines are written for each request, and every text in them comes from a stranger, so
//! each is escaped to printable ASCII and cut at a stated length in one place.

use crate::engine::facts::AccountId;

/// Stands at the end of a text that was cut: an ellipsis, as JSON escapes it.
const CUT: &[u8] = b"\\u2026";

/// Appends to a buffer; the caller writes braces and commas, keys are literals.
pub struct Json<'a>(pub &'a mut Vec<u8>);

impl Json<'_> {
    /// Bytes that need no escape: punctuation, keys, closed words.
    pub fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// `text` between quotes, escaped to printable ASCII, at most `max` bytes long between the quotes.
    pub fn text(&mut self, text: impl AsRef<[u8]>, max: usize) {
        self.0.push(b'"');
        self.part(text, max);
        self.0.push(b'"');
    }

    /// As [`Self::text`] without the quotes, for a text of several parts.
    pub fn part(&mut self, text: impl AsRef<[u8]>, max: usize) {
        let text = text.as_ref();
        if text.len() <= max && all_plain(text) {
            self.0.extend_from_slice(text);
        } else {
            self.escaped(text, max);
        }
    }

    /// `"key":` where `prefix` is the whole of it with its comma and brace, then the text.
    pub fn field(&mut self, prefix: &str, text: impl AsRef<[u8]>, max: usize) {
        self.raw(prefix);
        self.text(text, max);
    }

    /// As [`Self::field`], when there is something to say.
    pub fn maybe(&mut self, prefix: &str, text: Option<impl AsRef<[u8]>>, max: usize) {
        if let Some(text) = text {
            self.field(prefix, text, max);
        }
    }

    /// `prefix` opens the text's quotes: for our own words, which need no escape.
    pub fn word(&mut self, prefix: &str, word: &str) {
        self.raw(prefix);
        self.raw(word);
        self.0.push(b'"');
    }

    pub fn number(&mut self, value: u64) {
        self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Twelve digits, without quotes.
    pub fn account(&mut self, account: AccountId) {
        // Above all accounts by one digit, which is left out again.
        let digits = 1_000_000_000_000 + account.number();
        self.0.extend_from_slice(&itoa::Buffer::new().format(digits).as_bytes()[1..]);
    }

    pub fn count(&mut self, prefix: &str, value: u64) {
        self.raw(prefix);
        self.number(value);
    }

    pub fn hex<const N: usize>(&mut self, bytes: &[u8; N]) {
        let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
        let pairs = bytes.map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        self.0.extend_from_slice(pairs.as_flattened());
    }

    /// The slow path: escapes unit by unit, and stops while the mark still fits.
    fn escaped(&mut self, text: &[u8], max: usize) {
        let start = self.0.len();
        // Where the text would be cut: the last end of a unit after which the mark still fits.
        let mut cut = start;
        // No unit is shorter than a third of its escape, so nothing past this can fit.
        let looked_at = &text[..text.len().min(max + 4)];
        for chunk in looked_at.utf8_chunks() {
            for unit in chunk.valid().chars().chain((!chunk.invalid().is_empty()).then_some('\u{fffd}')) {
                self.unit(unit);
                let used = self.0.len() - start;
                if used + CUT.len() <= max {
                    cut = self.0.len();
                } else if used > max {
                    return self.cut_at(cut, start, max);
                }
            }
        }
        if looked_at.len() < text.len() {
            self.cut_at(cut, start, max);
        }
    }

    fn cut_at(&mut self, cut: usize, start: usize, max: usize) {
        self.0.truncate(cut);
        if cut - start + CUT.len() <= max {
            self.0.extend_from_slice(CUT);
        }
    }

    fn unit(&mut self, unit: char) {
        match unit {
            '"' => self.raw("\\\""),
            '\\' => self.raw("\\\\"),
            ' '..='~' => self.0.push(unit as u8),
            _ => {
                for half in unit.encode_utf16(&mut [0; 2]) {
                    self.raw("\\u");
                    self.hex(&half.to_be_bytes());
                }
            }
        }
    }
}

/// Long texts sixteen bytes at a time, which the compiler does at once, short ones as words; the last block may overlap
/// the one before.
fn all_plain(text: &[u8]) -> bool {
    let plain = |block: &[u8; 16]| block.iter().fold(0, |odd, &byte| odd | u8::from(!is_plain(byte))) == 0;
    if let Some(last) = text.last_chunk() {
        return text.as_chunks().0.iter().all(plain) && plain(last);
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        return is_plain_word(*first) && is_plain_word(*last);
    }
    let mut padded = [b' '; 8];
    padded[..text.len()].copy_from_slice(text);
    is_plain_word(padded)
}

/// [`is_plain`] of eight bytes. A borrow can mark only the bytes above one that is marked already.
fn is_plain_word(bytes: [u8; 8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let word = u64::from_ne_bytes(bytes);
    let below = |bound: u8, word: u64| word.wrapping_sub(ONES * u64::from(bound)) & !word & TOPS;
    let is = |byte: u8| below(1, word ^ (ONES * u64::from(byte)));
    (word & TOPS) | below(0x20, word) | is(b'"') | is(b'\\') | is(0x7f) == 0
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: impl AsRef<[u8]>, max: usize) -> String {
        let mut line = Vec::new();
        Json(&mut line).text(text, max);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn escapes_everything_that_is_not_printable_ascii() {
        for (name, text, want) in [
            ("plain", &b"aws-cli/2.1 (x; y)"[..], r#""aws-cli/2.1 (x; y)""#),
            ("quote and backslash", br#"a"b\c"#, r#""a\"b\\c""#),
            ("ansi", b"\x1b[31mred", r#""\u001b[31mred""#),
            ("line ends", b"a\r\nb\x7f", r#""a\u000d\u000ab\u007f""#),
            ("line separator", "a\u{2028}b".as_bytes(), r#""a\u2028b""#),
            ("beyond the first plane", "\u{1f600}".as_bytes(), r#""\ud83d\ude00""#),
            ("invalid utf-8", b"a\xff\xc3b", r#""a\ufffd\ufffdb""#),
        ] {
            assert_eq!(written(text, 100), want, "{name}");
        }
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_text() {
        let text: String = (0..0x500).filter_map(char::from_u32).collect();
        assert_eq!(serde_json::from_str::<String>(&written(&text, 100_000)).unwrap(), text);
    }

    #[test]
    fn never_exceeds_its_length_and_marks_the_cut() {
        assert_eq!(written("abcdefgh", 8), "\"abcdefgh\"");
        assert_eq!(written("abcdefghi", 8), "\"ab\\u2026\"");
        assert_eq!(written("abc", 2), "\"\"");
        for text in ["a".repeat(1 << 20), "\u{e4}".repeat(50), "\u{1f600}".repeat(50), "\"".repeat(99)] {
            for max in 0..60 {
                let got = written(&text, max);
                assert!(got.len() <= max + 2, "{max}: {got}");
                assert!(max < 6 || got.ends_with("\\u2026\""), "{max}: {got}");
                serde_json::from_str::<String>(&got).unwrap();
            }
        }
    }

    #[test]
    fn an_odd_byte_is_seen_wherever_it_stands() {
        for byte in 0..=255 {
            for length in 1..40 {
                for at in 0..length {
                    let mut text = vec![b'-'; length];
                    text[at] = byte;
                    assert_eq!(all_plain(&text), is_plain(byte), "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn writes_numbers_and_hex() {
        let mut line = Vec::new();
        Json(&mut line).number(0);
        Json(&mut line).count(",", u64::MAX);
        Json(&mut line).hex(&[0x0f, 0xa0]);
        Json(&mut line).account(AccountId::parse("000000000120").unwrap());
        assert_eq!(line, b"0,184467440737095516150fa0000000000120");
    }
}
