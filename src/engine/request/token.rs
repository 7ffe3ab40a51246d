//! The bytes that names are made of (RFC 9110 5.6.2), and names compared.

/// A field's name, in any case, is `known`: letters, digits, `-` and `_`. Eight bytes at once: names are compared
/// dozens of times a request. Two tokens that differ in bit 5 alone differ in a letter's case, but for `^` and `~`.
pub fn is_name(sent: &[u8], known: &[u8]) -> bool {
    const CASE: u64 = 0x2020_2020_2020_2020;
    if sent.len() != known.len() {
        return false;
    }
    let ((sent, sent_rest), (known, known_rest)) = (sent.as_chunks::<8>(), known.as_chunks::<8>());
    let wide =
        sent.iter().zip(known).fold(0, |all, (a, b)| all | (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)));
    let rest = sent_rest.iter().zip(known_rest).fold(0, |all, (a, b)| all | (a ^ b));
    wide & !CASE == 0 && rest & !0x20 == 0
}

/// Every LF has its CR before it: for texts that httparse, which takes an LF alone, has read.
pub fn ends_lines_in_both(text: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', text).all(|at| at > 0 && text[at - 1] == b'\r')
}

/// RFC 9110 5.6.2.
pub fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// What [`is_name`] may be given as `known`: [`is_token`], but no capital, and neither `^` nor `~`.
pub fn is_plain_token(byte: u8) -> bool {
    PLAIN_TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = PLAIN_TOKEN;
    let mut byte = b'A';
    while byte <= b'Z' {
        table[byte as usize] = true;
        byte += 1;
    }
    table[b'^' as usize] = true;
    table[b'~' as usize] = true;
    table
};

const PLAIN_TOKEN: [bool; 256] = {
    let plain = b"abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-._`|";
    let mut table = [false; 256];
    let mut at = 0;
    while at < plain.len() {
        table[plain[at] as usize] = true;
        at += 1;
    }
    table
};
