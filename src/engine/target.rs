//! Names of destinations: text becomes an [`Authority`] once, at the edge, or is refused.
//!
//! The normal form is what is matched, resolved, sent as SNI, verified and logged (facts/security.md D3-D6).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

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
        for label in name.split('.') {
            let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if label.is_empty()
                || label.len() > 63
                || !plain
                || label.starts_with('-')
                || label.ends_with('-')
            {
                return Err(TargetError::Malformed);
            }
        }
        let last = name.rsplit('.').next().unwrap_or(name);
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
        Ok(Self::Name(if name.bytes().any(|b| b.is_ascii_uppercase()) {
            name.to_ascii_lowercase().into()
        } else {
            name.into()
        }))
    }

    pub fn as_name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Literal(_) => None,
        }
    }
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
        let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match text[after_bracket..].find(':') {
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
