//! Names of destinations: text becomes an [`Authority`] once, at the edge, or is refused.
//!
//! The normal form is what is matched, resolved, sent as SNI, verified and logged.
//! `target/address.rs` judges what a name resolved to, `target/destination.rs` has the steps from text to dialled address.

mod address;
// The fuzz crate compiles this file without the policy.
#[cfg(not(fuzzing))]
pub mod destination;
mod punycode;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use address::{AddressVerdict, Special, judge_address, judge_named_address, wholly_shut};

/// A destination's host in normal form: lower case, no trailing dot, ASCII A-labels; or a canonical IP literal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    Name(Arc<str>),
    Literal(IpAddr),
}

/// Host and port, in normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    pub host: Host,
    pub port: u16,
}

/// Text that names no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("empty host")]
    Empty,
    #[error("not a host name")]
    Malformed,
    #[error("not a port")]
    Port,
    #[error("ends in a number but is no canonical IPv4 address")]
    NumberLike,
}

impl Host {
    /// One trailing dot is dropped and letters are lowered; anything else that isn't already normal is refused.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.is_empty() {
            return Err(TargetError::Empty);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(TargetError::Malformed)?;
            return inner.parse().map(|ip| Self::Literal(IpAddr::V6(ip))).map_err(|_| TargetError::Malformed);
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 {
            return Err(TargetError::Malformed);
        }
        // One pass: this is read with every request.
        let (mut label, mut upper, mut encoded) = (0, false, false);
        for (at, byte) in name.bytes().chain([b'.']).enumerate() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
                b'A'..=b'Z' => upper = true,
                b'.' if is_label(&name.as_bytes()[label..at]) => {
                    encoded |= starts_encoded(&name.as_bytes()[label..at]);
                    label = at + 1;
                }
                _ => return Err(TargetError::Malformed),
            }
        }
        let last = &name[memchr::memrchr(b'.', name.as_bytes()).map_or(0, |dot| dot + 1)..];
        let number = last.bytes().all(|b| b.is_ascii_digit())
            || (last.len() >= 2
                && last[..2].eq_ignore_ascii_case("0x")
                && last[2..].bytes().all(|b| b.is_ascii_hexdigit()));
        if number {
            // WHATWG "ends in a number": getaddrinfo would read these as addresses.
            let ip: std::net::Ipv4Addr = name.parse().map_err(|_| TargetError::NumberLike)?;
            return if ip.to_string() == text {
                Ok(Self::Literal(IpAddr::V4(ip)))
            } else {
                Err(TargetError::NumberLike)
            };
        }
        let name: Arc<str> = if upper { name.to_ascii_lowercase().into() } else { name.into() };
        // The one place where an encoded label is looked into: it must not be some other name in disguise.
        if encoded
            && name.split('.').any(|label| starts_encoded(label.as_bytes()) && !punycode::is_plain(label))
        {
            return Err(TargetError::Malformed);
        }
        Ok(Self::Name(name))
    }

    pub fn as_name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Literal(_) => None,
        }
    }
}

/// RFC 1123 2.1, and `_` as DNS has it.
fn is_label(label: &[u8]) -> bool {
    (1..=63).contains(&label.len()) && label[0] != b'-' && label[label.len() - 1] != b'-'
}

fn starts_encoded(label: &[u8]) -> bool {
    label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"xn--"))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Literal(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Literal(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl Authority {
    /// `host[:port]`; without a port, `default_port` stands (`None`: a port is demanded, as CONNECT does).
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, TargetError> {
        let after_bracket = memchr::memrchr(b']', text.as_bytes()).map_or(0, |at| at + 1);
        let (host, port) = match memchr::memchr(b':', &text.as_bytes()[after_bracket..]) {
            Some(colon) => {
                let colon = after_bracket + colon;
                (&text[..colon], parse_port(&text[colon + 1..])?)
            }
            None => (text, default_port.ok_or(TargetError::Port)?),
        };
        Ok(Self { host: Host::parse(host)?, port })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// One to five digits, no leading zero, 1 to 65535.
fn parse_port(text: &str) -> Result<u16, TargetError> {
    let plain =
        (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten().ok_or(TargetError::Port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(text: &str) -> Result<String, TargetError> {
        Host::parse(text).map(|host| host.to_string())
    }

    #[test]
    fn one_name_has_one_form() {
        for (text, want) in [
            ("S3.US-East-1.amazonaws.COM", "s3.us-east-1.amazonaws.com"),
            ("s3.us-east-1.amazonaws.com.", "s3.us-east-1.amazonaws.com"),
            ("_dmarc.example.com", "_dmarc.example.com"),
            ("XN--MNCHEN-3YA.de", "xn--mnchen-3ya.de"),
            ("198.51.100.7", "198.51.100.7"),
            ("[2001:DB8:0::1]", "[2001:db8::1]"),
            ("1password.com", "1password.com"),
            ("0xabc.test", "0xabc.test"),
        ] {
            assert_eq!(normal(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn refuses_what_another_program_would_read_as_another_host() {
        let (long_label, long_name) = (format!("{}.test", "a".repeat(64)), vec!["a".repeat(50); 5].join("."));
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.test..",
            "-a.test",
            "a-.test",
            "a b",
            "a\tb",
            "a\0.test",
            "a\r\n",
            "ä.test",
            "a%2e.test",
            "*.test",
            "user@a.test",
            "a/b",
            "a\\b",
            "a#b",
            "a?b",
            "http://a.test",
            "[a.test]",
            "[[::1]]",
            "[::1",
            "::1",
            "[fe80::1%eth0]",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "[127.0.0.1]",
            "127.1",
            "0177.0.0.1",
            "0x7f000001",
            "2130706433",
            "127.0.0.1.",
            "127.000.000.001",
            "1.2.3.4.5",
            "a.0x7f",
            "a.1",
            "256.1.1.1",
            "１２７.0.0.1",
            "xn--.test",
            "xn--example-.test",
            &long_label,
            &long_name,
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_port_is_plain_digits() {
        let port = |text: &str| Authority::parse(text, None).map(|authority| authority.port);
        assert_eq!((port("a.test:1"), port("[::1]:65535")), (Ok(1), Ok(65535)));
        assert_eq!(Authority::parse("a.test", Some(443)).map(|a| a.to_string()).as_deref(), Ok("a.test:443"));
        for text in [
            "a.test",
            "a.test:",
            "a.test:0",
            "a.test:65536",
            "a.test:+443",
            "a.test:0443",
            "a.test:443:443",
            "a.test: 443",
            "a.test:0x1bb",
            "a.test:443 ",
            "[::1]",
            "[::1]443",
            "a.test:443@evil.test:443",
            "::1:443",
        ] {
            assert!(port(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own_normal_form(text in "[a-zA-Z0-9._:\\[\\]-]{0,40}|\\PC{0,20}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
            }
            if let Ok(authority) = Authority::parse(&text, Some(443)) {
                prop_assert_eq!(Authority::parse(&authority.to_string(), None), Ok(authority));
            }
        }
    }
}
