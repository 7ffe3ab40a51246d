//! The head of an HTTP/2 request, written as the lines of an HTTP/1.1 one and read by the reader of
//! `engine/request.rs`: what is judged has one form, and the values stay byte for byte.
//!
//! What HTTP/2 forbids is refused here whatever the library beneath does about it (RFC 9113 8.2, 8.3): once written as
//! lines, a name with a colon or a value with a line end would be another field.

use bytes::{BufMut, Bytes, BytesMut};

use super::{HeadError, MAX_HEAD, RequestHead, is_name, is_plain_token, is_token};
use crate::engine::target::Authority;

/// The pseudo-header fields, as received.
#[derive(Debug, Clone, Copy)]
pub struct Pseudo<'a> {
    pub method: &'a str,
    pub scheme: Option<&'a str>,
    pub authority: Option<&'a str>,
    pub path: Option<&'a str>,
}

/// What belongs to one connection, and so has no place in HTTP/2 (RFC 9113 8.2.2).
const CONNECTION: [&str; 6] =
    ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "http2-settings"];

impl RequestHead {
    /// Reads a head whose fields stand in the order they came. `ended`: no body follows, not even an empty one.
    pub fn parse_http2(
        pseudo: Pseudo<'_>,
        fields: &[(&[u8], &[u8])],
        ended: bool,
        before: Option<&Authority>,
    ) -> Result<Self, HeadError> {
        let raw = lines(pseudo, fields)?;
        if raw.len() > MAX_HEAD {
            return Err(HeadError::TooLarge);
        }
        Self::read(raw, before, Some(ended))
    }
}

fn lines(pseudo: Pseudo<'_>, fields: &[(&[u8], &[u8])]) -> Result<Bytes, HeadError> {
    if pseudo.method == "CONNECT" {
        return Err(HeadError::Connect);
    }
    // Clear text is not asked for over TLS.
    if pseudo.scheme != Some("https") {
        return Err(HeadError::Scheme);
    }
    let authority = pseudo.authority.ok_or(HeadError::Host)?;
    let path = pseudo.path.ok_or(HeadError::Target)?;
    // INVARIANT: neither ends the request line before we do.
    if !pseudo.method.bytes().all(is_token) {
        return Err(HeadError::RequestLine);
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(HeadError::Target);
    }
    let mut out = BytesMut::with_capacity(512);
    out.put_slice(pseudo.method.as_bytes());
    out.put_u8(b' ');
    out.put_slice(path.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    line(&mut out, b"host", authority.as_bytes())?;
    let mut crumbs = false;
    for &(name, value) in fields {
        if name == b"host" {
            // INVARIANT: one of them goes on and is what a signature covers, so they must not differ in one byte.
            if value != authority.as_bytes() {
                return Err(HeadError::Host);
            }
        } else if CONNECTION.iter().any(|known| is_name(name, known.as_bytes()))
            || (is_name(name, b"te") && value != b"trailers")
        {
            return Err(HeadError::Field);
        } else if name == b"cookie" {
            // Crumbs are one field to everybody but the compressor (RFC 9113 8.2.3).
            if !std::mem::replace(&mut crumbs, true) {
                let all = fields.iter().filter(|(name, _)| *name == b"cookie");
                let all: Vec<&[u8]> = all.map(|(_, value)| *value).collect();
                line(&mut out, name, &all.join(&b"; "[..]))?;
            }
        } else {
            line(&mut out, name, value)?;
        }
    }
    out.put_slice(b"\r\n");
    Ok(out.freeze())
}

fn line(out: &mut BytesMut, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let plain =
        !name.is_empty() && name.iter().all(|&byte| is_plain_token(byte) || matches!(byte, b'^' | b'~'));
    let clean = memchr::memchr3(b'\r', b'\n', 0, value).is_none();
    if !plain || !clean || blank(value.first()) || blank(value.last()) {
        return Err(HeadError::Field);
    }
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::request::{Framing, Version};

    const GET: Pseudo<'_> =
        Pseudo { method: "GET", scheme: Some("https"), authority: Some("a.test"), path: Some("/p?q=%20") };

    fn read(pseudo: Pseudo<'_>, fields: &[(&str, &str)], ended: bool) -> Result<RequestHead, HeadError> {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        RequestHead::parse_http2(pseudo, &fields, ended, None)
    }

    fn get(fields: &[(&str, &str)]) -> Result<RequestHead, HeadError> {
        read(GET, fields, true)
    }

    #[test]
    fn one_form_for_the_judge_with_values_as_they_came() {
        let fields =
            [("x-amz-date", "2"), ("x", "a  b\t\u{e9}"), ("te", "trailers"), ("x", ""), ("host", "a.test")];
        let head = get(&fields).unwrap();
        assert_eq!((head.method(), head.target(), head.version()), ("GET", "/p?q=%20", Version::Http2));
        assert_eq!(head.authority().to_string(), "a.test:443");
        let lines: Vec<u8> = head.forwarded_lines().flatten().copied().collect();
        assert_eq!(
            String::from_utf8(lines).unwrap(),
            "host: a.test\r\nx-amz-date: 2\r\nx: a  b\t\u{e9}\r\nx: \r\n"
        );
        assert!(head.wants_trailers() && !get(&[]).unwrap().wants_trailers());
    }

    #[test]
    fn cookie_crumbs_are_one_field_where_the_first_stood() {
        let head = get(&[("cookie", "a=1"), ("b", "2"), ("cookie", "c=3")]).unwrap();
        assert_eq!(head.all("cookie").collect::<Vec<_>>(), [b"a=1; c=3"]);
        assert!(head.raw().ends_with(b"cookie: a=1; c=3\r\nb: 2\r\n\r\n"));
    }

    #[test]
    fn the_bodys_end_is_told_by_the_stream_or_its_length() {
        let post = Pseudo { method: "POST", path: Some("/"), ..GET };
        let framing = |fields: &[(&str, &str)], ended| read(post, fields, ended).map(|head| head.framing());
        assert_eq!(framing(&[], true), Ok(Framing::None));
        assert_eq!(framing(&[], false), Ok(Framing::Chunked));
        assert_eq!(framing(&[("content-length", "5")], false), Ok(Framing::Length(5)));
        assert_eq!(framing(&[("content-length", "0")], true), Ok(Framing::Length(0)));
        for (fields, ended) in [
            (&[("content-length", "5")][..], true),
            (&[("content-length", "05")], false),
            (&[("content-length", "5"), ("content-length", "5")], false),
        ] {
            assert_eq!(framing(fields, ended), Err(HeadError::Framing), "{fields:?}");
        }
    }

    #[test]
    fn what_would_be_something_else_as_lines_is_refused() {
        let fields = [
            ("x: y\r\nz", "a"),
            ("x:y", "a"),
            ("x y", "a"),
            ("X", "a"),
            ("HOST", "a.test"),
            ("", "a"),
            ("x", "a\r\nb: c"),
            ("x", "a\nb"),
            ("x", "a\0"),
            ("x", " a"),
            ("x", "a\t"),
            ("connection", "close"),
            ("proxy-connection", "close"),
            ("keep-alive", "1"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("http2-settings", ""),
            ("te", "gzip"),
            ("te", "trailers, gzip"),
        ];
        for field in fields {
            assert_eq!(get(&[field]).err(), Some(HeadError::Field), "{field:?}");
        }
        assert_eq!(get(&[("cookie", "a"), ("cookie", "b\r\nc: d")]).err(), Some(HeadError::Field));
        assert_eq!(get(&[("cookie", "a"), ("cookIe", "b")]).err(), Some(HeadError::Field));
        let other = [("host", "b.test"), ("host", "A.test"), ("host", "a.test:443")];
        for field in other {
            assert_eq!(get(&[field]).err(), Some(HeadError::Host), "{field:?}");
        }
    }

    #[test]
    fn pseudo_header_fields_are_held_to_their_form() {
        let with = |change: fn(&mut Pseudo<'static>)| {
            let mut pseudo = Pseudo { path: Some("/"), ..GET };
            change(&mut pseudo);
            read(pseudo, &[], true).err()
        };
        assert_eq!(with(|_| {}), None);
        assert_eq!(with(|p| (p.method, p.path) = ("OPTIONS", Some("*"))), None);
        assert_eq!(with(|p| p.method = "CONNECT"), Some(HeadError::Connect));
        assert_eq!(with(|p| p.method = "TRACE"), Some(HeadError::Trace));
        assert_eq!(with(|p| p.method = "GET /x HTTP/1.1\r\nX:"), Some(HeadError::RequestLine));
        for scheme in [None, Some("http"), Some("HTTPS"), Some("https://evil.test/?")] {
            let pseudo = Pseudo { scheme, path: Some("/"), ..GET };
            assert_eq!(read(pseudo, &[], true).err(), Some(HeadError::Scheme), "{scheme:?}");
        }
        for authority in [None, Some("a.test@evil.test"), Some("a.test/"), Some(""), Some("a.test\r\nx: y")] {
            let pseudo = Pseudo { authority, path: Some("/"), ..GET };
            let refused = read(pseudo, &[], true).err();
            assert!(
                matches!(refused, Some(HeadError::Host | HeadError::Field)),
                "{authority:?}: {refused:?}"
            );
        }
        for path in
            ["", "a", "*", "https://evil.test/a", "/a#b", "/a HTTP/1.1", "/a HTTP/1.1\r\nX: y", "/\u{e9}"]
        {
            assert!(read(Pseudo { path: Some(path), ..GET }, &[], true).is_err(), "{path:?}");
        }
    }
}
