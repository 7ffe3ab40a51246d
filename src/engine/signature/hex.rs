//! Lower-case hex: of SHA-256 values both ways, of other values inwards.

/// 64 lower-case hex digits, else `None`.
pub fn parse(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return None;
    }
    let (mut value, mut odd) = ([0; 32], 0);
    for (byte, pair) in value.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (VALUE[usize::from(pair[0])], VALUE[usize::from(pair[1])]);
        odd |= high | low;
        *byte = high << 4 | low & 15;
    }
    (odd < 16).then_some(value)
}

/// Lower-case hex digits, an even number of them, else `None`.
pub fn parse_any(text: &[u8]) -> Option<Vec<u8>> {
    let pairs = text.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
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

fn digit(byte: u8) -> Option<u8> {
    match VALUE[usize::from(byte)] {
        value @ 0..16 => Some(value),
        _ => None,
    }
}

/// Of a lower-case digit; 255 of anything else.
const VALUE: [u8; 256] = {
    let mut table = [255; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    table
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
        assert_eq!(parse_any(&text).as_deref(), Some(&value[..]));
        assert_eq!(parse_any(&text[..63]), None);
        assert_eq!(parse_any(b"0A"), None);
    }
}
