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

/// Where `byte` first is. For words of ten or twenty bytes a call of `memchr` costs more than what it saves.
pub fn find(byte: u8, text: &[u8]) -> Option<usize> {
    if text.len() > 64 {
        return memchr::memchr(byte, text);
    }
    const LOW: u64 = 0x0101_0101_0101_0101;
    let wanted = LOW * u64::from(byte);
    let (chunks, rest) = text.as_chunks::<8>();
    for (at, chunk) in chunks.iter().enumerate() {
        let other = u64::from_le_bytes(*chunk) ^ wanted;
        // The lowest bit that is set is of the first byte that is 0; those above may be borrows.
        let zero = other.wrapping_sub(LOW) & !other & (LOW << 7);
        if zero != 0 {
            return Some(at * 8 + zero.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|&b| b == byte).map(|at| text.len() - rest.len() + at)
}

/// Up to the first delimiter, and what follows it.
pub fn cut(text: &str, delimiter: u8) -> (&str, Option<&str>) {
    debug_assert!(delimiter.is_ascii());
    match find(delimiter, text.as_bytes()) {
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

    #[test]
    fn finds_the_first_of_a_byte_wherever_it_stands() {
        for length in 0..70 {
            let mut text = vec![b';' + 1; length];
            assert_eq!(find(b';', &text), None);
            for at in (0..length).rev() {
                text[at] = b';';
                assert_eq!(find(b';', &text), Some(at), "{at} of {length}");
                text[at..].fill(b';' - 1);
                assert_eq!(find(b';', &text), None);
            }
        }
    }
}
