//! Patterns: `*` any run and `?` one character in paths, ARNs, actions and other strings; whole labels in hosts.

mod arn;
mod host;

pub use arn::{ArnPattern, Own, is_bucket, split};
pub use host::HostPattern;

/// A pattern over a string; without wildcards it is a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: Box<str>,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Literal,
    /// Its only wildcard is the `*` at its end.
    Beginning,
    Other,
}

impl Glob {
    pub fn new(text: &str) -> Self {
        let form = match text.find(['*', '?']) {
            None => Form::Literal,
            Some(at) if at + 1 == text.len() && text.ends_with('*') => Form::Beginning,
            Some(_) => Form::Other,
        };
        Self { text: text.into(), form }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_literal(&self) -> bool {
        self.form == Form::Literal
    }

    /// Matches everything.
    pub fn is_any(&self) -> bool {
        &*self.text == "*"
    }

    pub fn matches(&self, text: &str) -> bool {
        match self.form {
            Form::Literal => *self.text == *text,
            Form::Beginning => text.as_bytes().starts_with(&self.text.as_bytes()[..self.text.len() - 1]),
            Form::Other => glob(self.text.as_bytes(), text.as_bytes(), |a, b| a == b, character),
        }
    }

    /// Whatever `other` matches, this matches too. Never wrong where it says yes.
    pub fn covers(&self, other: &Self) -> bool {
        let symbol = |text: &[u8]| if text[0] == b'*' { 0 } else { character(text) };
        glob(self.text.as_bytes(), other.text.as_bytes(), |a, b| a == b, symbol)
    }

    /// The same for names that are compared without case.
    pub fn covers_ignoring_case(&self, other: &Self) -> bool {
        let symbol = |text: &[u8]| usize::from(text[0] != b'*');
        glob(self.text.as_bytes(), other.text.as_bytes(), |a, b| a.eq_ignore_ascii_case(&b), symbol)
    }

    /// IAM compares action names without case.
    pub fn matches_ignoring_case(&self, text: &str) -> bool {
        if self.form == Form::Literal {
            return self.text.eq_ignore_ascii_case(text);
        }
        glob(self.text.as_bytes(), text.as_bytes(), |a, b| a.eq_ignore_ascii_case(&b), character)
    }
}

/// `one`: how many bytes a `?` takes here, 0 for none. Linear in practice: on a mismatch only the last `*` is tried
/// further on.
fn glob(pattern: &[u8], text: &[u8], same: impl Fn(u8, u8) -> bool, one: impl Fn(&[u8]) -> usize) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => one(&text[t..]),
            Some(&b) => usize::from(same(b, text[t])),
            None => 0,
        };
        if step > 0 {
            p += 1;
            t += step;
            continue;
        }
        let Some((star, at)) = retry else { return false };
        retry = Some((star, at + 1));
        p = star + 1;
        t = at + 1;
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// Bytes of the character that begins here; 0 inside of one. An object's key is any UTF-8.
fn character(text: &[u8]) -> usize {
    let length = match text[0] {
        0x80..=0xBF => 0,
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0.. => 4,
        _ => 1,
    };
    length.min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_run_over_everything_and_marks_over_one() {
        for (pattern, text, matches) in [
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("a*b*c", "a/b:b/xc", true),
            ("a**", "a", true),
            ("ab", "abc", false),
            ("*aab", "aaaaab", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), matches, "{pattern} {text}");
        }
        assert!(Glob::new("get*").matches_ignoring_case("GetObject"));
    }

    #[test]
    fn a_mark_is_one_character_of_any_length() {
        for (pattern, text, matches) in [
            ("day-?", "day-é", true),
            ("day-??", "day-é", false),
            ("day-?x", "day-€x", true),
            ("*?", "𝄞", true),
            ("?", "", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), matches, "{pattern} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_covered_is_matched(
            outer in "[ab*?]{0,5}",
            inner in "[ab*?]{0,5}",
            text in "[abé]{0,5}",
        ) {
            let (outer, inner) = (Glob::new(&outer), Glob::new(&inner));
            if outer.covers(&inner) && inner.matches(&text) {
                proptest::prop_assert!(outer.matches(&text));
            }
            if outer.covers_ignoring_case(&inner) && inner.matches_ignoring_case(&text) {
                proptest::prop_assert!(outer.matches_ignoring_case(&text));
            }
            proptest::prop_assert!(outer.covers(&outer));
        }
    }
}
