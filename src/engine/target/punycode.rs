//! `xn--` labels: opened only to see that they are what they claim (RFC 3492).
//!
//! Names stay A-labels from the socket to the record; nothing is ever matched on the decoded form. What is refused is
//! a label that another program would read as some other name: ASCII in disguise (RUSTSEC-2024-0421), capitals,
//! invisible characters, or a second spelling of the same text. Not here: IDNA's full mapping tables.

const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const INITIAL_BIAS: u32 = 72;
const INITIAL_N: u32 = 128;

/// `label` is lower case and begins with `xn--`.
pub(super) fn is_plain(label: &str) -> bool {
    let Some(encoded) = label.strip_prefix("xn--") else { return false };
    let Some(decoded) = decode(encoded) else { return false };
    decoded.iter().any(|c| !c.is_ascii())
        && decoded.iter().all(|c| visible(*c))
        && !decoded.starts_with(&['-'])
        && !decoded.ends_with(&['-'])
        && encode(&decoded).as_deref() == Some(encoded)
}

/// Not a capital, not a control or format character, no dot or letter that folds to ASCII.
fn visible(c: char) -> bool {
    if c.is_control() || c.is_whitespace() || c.to_lowercase().ne([c]) {
        return false;
    }
    !matches!(u32::from(c),
        // Soft hyphen, Arabic letter mark, Mongolian selectors, joiners and directions, word joiner, byte order mark.
        0xad | 0x34f | 0x61c | 0x180b..=0x180f | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff
        // Long s and the letter-like and compatibility forms that fold to ASCII, and the other dots.
        | 0x17f | 0x2024 | 0x2100..=0x214f | 0x3002 | 0xfe00..=0xfe6f | 0xff00..=0xffef | 0x1d400..=0x1d7ff
        // Tags, variation selectors, private use, what is no character.
        | 0xe000..=0xf8ff | 0xfff0..=0xffff | 0xe0000..=0x10_ffff)
}

fn decode(encoded: &str) -> Option<Vec<char>> {
    let (basic, tail) = encoded.rsplit_once('-').unwrap_or(("", encoded));
    let mut out: Vec<char> = basic.chars().collect();
    let (mut n, mut i, mut bias) = (INITIAL_N, 0u32, INITIAL_BIAS);
    let mut digits = tail.bytes();
    while digits.len() > 0 {
        let (start, mut weight) = (i, 1u32);
        for k in (1..).map(|step| step * BASE) {
            let digit = match digits.next()? {
                byte @ b'a'..=b'z' => u32::from(byte - b'a'),
                byte @ b'0'..=b'9' => u32::from(byte - b'0') + 26,
                _ => return None,
            };
            i = i.checked_add(digit.checked_mul(weight)?)?;
            let threshold = threshold(k, bias);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(BASE - threshold)?;
        }
        let count = u32::try_from(out.len()).ok()? + 1;
        bias = adapt(i - start, count, start == 0);
        n = n.checked_add(i / count)?;
        i %= count;
        out.insert(i as usize, char::from_u32(n)?);
        i += 1;
    }
    Some(out)
}

fn encode(text: &[char]) -> Option<String> {
    let mut out: String = text.iter().filter(|c| c.is_ascii()).collect();
    let basic = u32::try_from(out.len()).ok()?;
    let mut done = basic;
    if basic > 0 {
        out.push('-');
    }
    let (mut n, mut delta, mut bias) = (INITIAL_N, 0u32, INITIAL_BIAS);
    while (done as usize) < text.len() {
        let next = text.iter().map(|c| u32::from(*c)).filter(|c| *c >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(done + 1)?)?;
        n = next;
        for c in text.iter().map(|c| u32::from(*c)) {
            if c < n {
                delta = delta.checked_add(1)?;
            }
            if c != n {
                continue;
            }
            let mut rest = delta;
            for k in (1..).map(|step| step * BASE) {
                let threshold = threshold(k, bias);
                if rest < threshold {
                    break;
                }
                out.push(digit(threshold + (rest - threshold) % (BASE - threshold)));
                rest = (rest - threshold) / (BASE - threshold);
            }
            out.push(digit(rest));
            bias = adapt(delta, done + 1, done == basic);
            delta = 0;
            done += 1;
        }
        delta = delta.checked_add(1)?;
        n += 1;
    }
    Some(out)
}

/// `value` is below 36.
fn digit(value: u32) -> char {
    char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[value as usize])
}

fn threshold(k: u32, bias: u32) -> u32 {
    k.saturating_sub(bias).clamp(T_MIN, T_MAX)
}

fn adapt(delta: u32, count: u32, first: bool) -> u32 {
    let mut delta = if first { delta / DAMP } else { delta / 2 };
    delta += delta / count;
    let mut k = 0;
    while delta > (BASE - T_MIN) * T_MAX / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn real_names_pass() {
        // RFC 3492 §7.1 and names that exist.
        for (label, text) in [
            ("xn--mnchen-3ya", "münchen"),
            ("xn--bcher-kva", "bücher"),
            ("xn--p1ai", "рф"),
            ("xn--fiqs8s", "中国"),
            ("xn--ihqwcrb4cv8a8dqg056pqjye", "他们为什么不说中文"),
        ] {
            assert!(is_plain(label), "{label}");
            assert_eq!(decode(&label[4..]).unwrap().iter().collect::<String>(), text);
        }
    }

    #[test]
    fn refuses_labels_that_others_read_as_another_name() {
        for (what, label) in [
            ("ASCII in disguise", "xn--example-"),
            ("ASCII in disguise, no delimiter", "xn--"),
            ("nothing but a delimiter", "xn---"),
            ("no digits of punycode", "xn--ab-3_a"),
            ("ends inside a number", "xn--mnchen-3"),
            ("overflow", "xn--99999999999"),
        ] {
            assert!(!is_plain(label), "{what}");
        }
        for hidden in ["ama\u{ad}zon", "a\u{200b}mazon", "\u{212a}ms", "\u{17f}3", "a\u{ff0e}b", "MÜNCHEN"] {
            let label = format!("xn--{}", encode(&hidden.chars().collect::<Vec<_>>()).unwrap());
            assert!(!is_plain(&label), "{hidden:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in proptest::collection::vec(any::<char>(), 1..20)) {
            let text: Vec<char> = text;
            prop_assume!(!text.iter().all(char::is_ascii));
            if let Some(encoded) = encode(&text) {
                prop_assert_eq!(decode(&encoded), Some(text));
            }
        }

        #[test]
        fn any_label_is_judged_without_panic(tail in "[a-z0-9-]{0,59}") {
            let _ = is_plain(&format!("xn--{tail}"));
        }
    }
}
