//! The bytes that names are made of (RFC 9110 5.6.2), and names compared.

/// A field's name, in any case, is `known`: letters, digits, `-` and `_`. Eight bytes at once, the last of them for the
/// second time where that fills eight: names are compared dozens of times a request. Two tokens that differ in bit 5
/// alone differ in a letter's case, but for `^` and `~`.
pub fn is_name(sent: &[u8], known: &[u8]) -> bool {
    const CASE: u64 = 0x2020_2020_2020_2020;
    if sent.len() != known.len() {
        return false;
    }
    let eight = |a: &[u8; 8], b: &[u8; 8]| u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b);
    if let (Some(a), Some(b)) = (sent.last_chunk(), known.last_chunk()) {
        let chunks = sent.as_chunks().0.iter().zip(known.as_chunks().0);
        return chunks.fold(eight(a, b), |all, (a, b)| all | eight(a, b)) & !CASE == 0;
    }
    let four = |a: &[u8; 4], b: &[u8; 4]| u32::from_ne_bytes(*a) ^ u32::from_ne_bytes(*b);
    if let (Some(a), Some(b), Some(c), Some(d)) =
        (sent.first_chunk(), known.first_chunk(), sent.last_chunk(), known.last_chunk())
    {
        return (four(a, b) | four(c, d)) & !(CASE as u32) == 0;
    }
    sent.iter().zip(known).fold(0, |all, (a, b)| all | (a ^ b)) & !0x20 == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_itself_in_any_case_and_no_other_of_its_length() {
        let all: Vec<u8> = (0..=255).filter(|&byte| is_token(byte)).collect();
        for length in 0..40 {
            let known: Vec<u8> =
                b"x-amz-content_sha256.9".iter().copied().cycle().skip(length % 7).take(length).collect();
            assert!(is_name(&known, &known) && is_name(&known.to_ascii_uppercase(), &known));
            assert!(!is_name(&[&known[..], b"a"].concat(), &known));
            for at in 0..length {
                for &byte in &all {
                    let mut sent = known.clone();
                    sent[at] = byte;
                    assert_eq!(is_name(&sent, &known), sent.eq_ignore_ascii_case(&known), "{byte} at {at}");
                }
            }
        }
    }
}
