//! Lower-case hex, both ways.

/// 64 lower-case hex digits, else `None`.
pub fn parse(text: &[u8]) -> Option<[u8; 32]> {
    let mut digits: [u8; 64] = text.try_into().ok()?;
    // One simple loop for each step: these the compiler does for many bytes at once.
    for byte in &mut digits {
        *byte = digit(*byte);
    }
    let odd = digits.iter().fold(0, |all, digit| all | digit);
    let mut value = [0; 32];
    for (byte, [high, low]) in value.iter_mut().zip(digits.as_chunks().0) {
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
    let known = |byte| Some(digit(byte)).filter(|&value| value < 16);
    pairs.map(|pair| Some(known(pair[0])? << 4 | known(pair[1])?)).collect()
}

/// Any bytes, where speed is nothing.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn write(value: &[u8; 32]) -> [u8; 64] {
    let mut text = [0; 64];
    for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(value) {
        *pair = [byte >> 4, byte & 15].map(|value| value + if value < 10 { b'0' } else { b'a' - 10 });
    }
    text
}

/// Of a lower-case digit; 255 of anything else. Without a table or a branch, so that the compiler does many at once.
fn digit(byte: u8) -> u8 {
    let (decimal, letter) = (byte.wrapping_sub(b'0'), byte.wrapping_sub(b'a'));
    if decimal < 10 {
        decimal
    } else if letter < 6 {
        letter + 10
    } else {
        255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote_and_refuses_upper_case_and_other_lengths() {
        let value: [u8; 32] = std::array::from_fn(|n| (n as u8).wrapping_mul(77));
        let text = write(&value);
        assert_eq!(parse(&text), Some(value));
        assert_eq!(super::text(&value).as_bytes(), text);
        assert_eq!(parse(&text[..63]), None);
        assert_eq!(parse(&text.to_ascii_uppercase()), None);
        assert_eq!(parse_any(&text).as_deref(), Some(&value[..]));
        assert_eq!(parse_any(&text[..63]), None);
        assert_eq!(parse_any(b"0A"), None);
    }
}
