//! The account inside an access key id.
//!
//! AWS doesn't document the format; it holds for ids issued since about March 2019.

use crate::engine::facts::AccountId;

/// Account of a key id of the newer kind: 20 characters, `AKIA` or `ASIA`, fifth character `Q`-`Z` or `2`-`7`.
/// `None` for every other id: older ones carry no account.
pub fn account_of(key_id: &str) -> Option<AccountId> {
    let id = key_id.as_bytes();
    if id.len() != 20 || !(id.starts_with(b"AKIA") || id.starts_with(b"ASIA")) {
        return None;
    }
    // Sixteen base32 digits are ten bytes; the first bit marks the newer kind, the next forty are the account.
    let mut bits: u128 = 0;
    for &byte in &id[4..] {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u128::from(value);
    }
    if bits >> 79 == 0 {
        return None;
    }
    AccountId::new((bits >> 39) as u64 & ((1 << 40) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_the_published_pairs() {
        for (id, account) in
            [("ASIAY34FZKBOKMUTVV7A", "609629065308"), ("ASIAQNZGKIQY56JQ7WML", "029608264753")]
        {
            assert_eq!(account_of(id), AccountId::parse(account), "{id}");
        }
        assert_eq!(account_of("AKIARZPUZDIKAAAAAAAA"), AccountId::parse("123456789012"));
    }

    #[test]
    fn an_id_that_carries_no_account_gives_none() {
        for id in [
            "AKIAIOSFODNN7EXAMPLE",
            "AKIAPZPUZDIKAAAAAAAA",
            "AROAY34FZKBOKMUTVV7A",
            "ASIAY34FZKBOKMUTVV7",
            "ASIAY34FZKBOKMUTVV7AA",
            "ASIAY34FZKBOKMUTVV70",
            "asiay34fzkbokmutvv7a",
            "AKIA7777777777777777",
            "",
        ] {
            assert_eq!(account_of(id), None, "{id}");
        }
    }
}
