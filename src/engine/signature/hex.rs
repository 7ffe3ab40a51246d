//! Lower-case hex of SHA-256 values, both ways.

/// 64 lower-case hex digits, else `None`.
pub fn parse(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return None;
    }
    let (mut value, mut bad) = ([0; 32], 0);
    for (byte, pair) in value.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        bad |= high | low;
        *byte = high << 4 | low & 15;
    }
    (bad & NONE == 0).then_some(value)
}

pub fn write(value: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(value) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// In the table: not a lower-case hex digit.
const NONE: u8 = 0x80;

/// Value of each byte as a digit.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote_and_refuses_upper_case_and_other_lengths() {
        let value: [u8; 32] = std::array::from_fn(|n| (n as u8).wrapping_mul(77));
        let text = write(&value);
        assert_eq!(parse(&text), Some(value));
        assert_eq!(parse(&text[..63]), None);
        assert_eq!(parse(&text.to_ascii_uppercase()), None);
    }
}
