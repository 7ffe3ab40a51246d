//! What the forward door is told on arrival: a CONNECT line, or a request that should have come through one.
//!
//! Pure: the head in, what it asks for out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::engine::facts::Secret;
use crate::engine::request::{HeadError, ends_lines_in_both, is_token};
use crate::engine::target::{Authority, TargetError};

/// The first head on the forward door.
#[derive(Debug, PartialEq)]
pub enum Asked {
    Connect(Authority),
    /// A request in plain: `http://` or `https://` in absolute form, or in origin form to ourselves.
    Plaintext {
        method: String,
        target: String,
    },
}

/// Why a first head is no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    #[error("{0}")]
    Head(#[from] HeadError),
    #[error("CONNECT target: {0}")]
    Target(#[from] TargetError),
    #[error("CONNECT and Host name different destinations")]
    Mismatch,
}

/// Reads a whole head, as `HeadScanner` delimits it (RFC 9112 3.2.3: CONNECT takes `host:port`, the port demanded).
pub fn read(head: &[u8]) -> Result<Asked, DoorError> {
    // The scanner leaves line ends to whoever parses.
    if !ends_lines_in_both(head) {
        return Err(HeadError::LineEnd.into());
    }
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut slots);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(end)) if end == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge.into()),
        _ => return Err(HeadError::RequestLine.into()),
    }
    let method = parsed.method.unwrap_or_default();
    let target = parsed.path.unwrap_or_default();
    if method != "CONNECT" {
        if !method.bytes().all(is_token) {
            return Err(HeadError::RequestLine.into());
        }
        return Ok(Asked::Plaintext { method: method.to_owned(), target: target.to_owned() });
    }
    let authority = Authority::parse(target, None)?;
    let mut hosts = parsed.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("host"));
    if let Some(host) = hosts.next() {
        let text = std::str::from_utf8(host.value).map_err(|_| HeadError::Host)?;
        // Clients disagree on whether the port stands here; the destination may not differ.
        if Authority::parse(text, Some(authority.port))? != authority || hosts.next().is_some() {
            return Err(DoorError::Mismatch);
        }
    }
    Ok(Asked::Connect(authority))
}

/// What a head that is no use asks for, byte for byte, for the record: its second word. Without what a URL has more than an
/// authority, and without what stands before an `@`.
pub fn told(head: &[u8]) -> &[u8] {
    let line = head.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
    let target = line.splitn(3, |&byte| byte == b' ').nth(1).unwrap_or_default();
    let rest = match target.windows(3).position(|found| found == b"://") {
        Some(at) => &target[at + 3..],
        None => target,
    };
    let authority = rest.split(|byte| matches!(byte, b'/' | b'?' | b'#')).next().unwrap_or_default();
    authority.rsplit(|&byte| byte == b'@').next().unwrap_or_default()
}

/// What a client calls itself in its CONNECT head, printable or not.
pub fn user_agent(head: &[u8]) -> Option<String> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut slots);
    parsed.parse(head).ok()?;
    let field = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case("user-agent"))?;
    let text = String::from_utf8_lossy(field.value).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

impl Asked {
    /// Host of an absolute-form target, for the record. What stands before an `@` may be a password.
    pub fn named(&self) -> &str {
        match self {
            Self::Connect(_) => "",
            Self::Plaintext { target, .. } => {
                let rest = target.split_once("://").map_or(target.as_str(), |(_, rest)| rest);
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                authority.rsplit('@').next().unwrap_or_default()
            }
        }
    }
}

/// The password that a head brings in `Proxy-Authorization: Basic`, whatever the user is called. `None` where there is
/// none, or more than one.
pub fn password(head: &[u8]) -> Option<Secret> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut slots);
    parsed.parse(head).ok()?;
    let mut given = parsed.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("proxy-authorization"));
    let (Some(field), None) = (given.next(), given.next()) else { return None };
    let value = field.value.trim_ascii();
    let (scheme, code) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let plain = Zeroizing::new(STANDARD.decode(code.trim_ascii()).ok()?);
    let colon = plain.iter().position(|&byte| byte == b':')?;
    Some(Secret::new(&plain[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_names_one_destination_with_its_port() {
        let head = b"CONNECT API.example.com.:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n";
        assert_eq!(read(head), Ok(Asked::Connect(Authority::parse("api.example.com:443", None).unwrap())));
        for bad in [
            "CONNECT api.example.com HTTP/1.1\r\n\r\n",
            "CONNECT api.example.com:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
            "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com\r\nHost: api.example.com\r\n\r\n",
            "CONNECT http://api.example.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT user@api.example.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT 0x7f.1:443 HTTP/1.1\r\n\r\n",
            "CONNECT api.example.com:443 HTTP/1.1\nHost: api.example.com:443\r\n\r\n",
            "CONNECT api.example.com:443 HTTP/1.1\n\nCONNECT evil.test:443 HTTP/1.1\r\n\r\n",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_refused_is_told_as_it_came_but_for_what_may_be_a_secret() {
        for (head, want) in [
            (&b"CONNECT evil.test\0.a.test:443 HTTP/1.1\r\n\r\n"[..], &b"evil.test\0.a.test:443"[..]),
            (b"CONNECT user:hush@a.test:443@b.test:443 HTTP/1.1\r\n\r\n", b"b.test:443"),
            (b"GET https://user:hush@a.test/x?token=hush HTTP/1.1\r\n\r\n", b"a.test"),
            (b"GET /x?token=hush HTTP/1.1\r\n\r\n", b""),
            (b"CONNECT a.test:443\r\nx: y\r\n\r\n", b"a.test:443"),
            (b"\r\n\r\n", b""),
        ] {
            assert_eq!(told(head), want, "{head:?}");
        }
    }

    #[test]
    fn one_basic_field_brings_a_password() {
        let head = |fields: &str| format!("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n{fields}\r\n");
        let field = "Proxy-Authorization: Basic ZXhlYXQ6aHVzaDpodXNo\r\n";
        for fields in [
            field.to_owned(),
            field.to_ascii_lowercase().replace("zxhlyxq6ahvzadpodxno", "ZXhlYXQ6aHVzaDpodXNo"),
        ] {
            assert_eq!(password(head(&fields).as_bytes()), Some(Secret::new(b"hush:hush")), "{fields}");
        }
        for fields in [
            String::new(),
            field.repeat(2),
            field.replace("Basic", "Bearer"),
            field.replace("ZX", "!!"),
            field.replace("Proxy-", ""),
            "Proxy-Authorization: Basic\r\n".to_owned(),
            "Proxy-Authorization: Basic ZXhlYXQ=\r\n".to_owned(),
        ] {
            assert_eq!(password(head(&fields).as_bytes()), None, "{fields}");
        }
    }

    #[test]
    fn absolute_form_is_plaintext_whatever_its_scheme() {
        for target in ["http://a.test/x", "https://a.test/x"] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let asked = read(head.as_bytes()).unwrap();
            assert!(matches!(asked, Asked::Plaintext { .. }));
            assert_eq!(asked.named(), "a.test");
        }
        let asked = read(b"GET http://user:hush@a.test:80/x HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        assert_eq!(asked.named(), "a.test:80");
    }
}
