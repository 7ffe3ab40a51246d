//! Cutting of short texts at one ASCII byte. `str::split` pays for any pattern there could be: for pieces of ten bytes
//! that is most of what a verification costs beside its hashes.

/// All pieces, empty ones too; at least one.
pub fn pieces(text: &str, delimiter: u8) -> impl Iterator<Item = &str> + Clone {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let (piece, next) = cut(rest?, delimiter);
        rest = next;
        Some(piece)
    })
}

/// Up to the first delimiter, and what follows it.
pub fn cut(text: &str, delimiter: u8) -> (&str, Option<&str>) {
    debug_assert!(delimiter.is_ascii());
    match memchr::memchr(delimiter, text.as_bytes()) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_as_split_does() {
        for text in ["", ";", "a", "a;b", ";a;;b;", "ä;ö"] {
            assert!(pieces(text, b';').eq(text.split(';')), "{text}");
        }
    }
}
