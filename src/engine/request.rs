//! The strict reader: the head of an HTTP/1.1 request, as received; `request/response.rs` reads a response's by it.
//!
//! One parse gives what is judged and what is sent: the head stays one `Bytes`, fields are spans into it, duplicates
//! stay visible. Framing is typed here and written anew by `proxy/http1`; nobody else reads `Content-Length`.
//! Rules: RFC 9112 2.2, 3, 5, 6.3 where it says MUST, and refused where it leaves a choice.

mod fields;
mod http2;
mod response;
mod scanner;
mod token;

use std::mem::MaybeUninit;

use bytes::Bytes;

use fields::{
    Fields, Kind, Span, length_bit, lines, mark_connection_fields, options, read_fields, travelling,
};
pub use http2::Pseudo;
pub use response::ResponseHead;
pub use scanner::HeadScanner;
pub use token::{ends_lines_in_both, is_name, is_plain_token, is_token};

use super::target::Authority;

/// A head may be this long, blank line included. AWS's own limit is 8-16 KiB a field line.
pub const MAX_HEAD: usize = 64 * 1024;
const MAX_FIELDS: usize = 128;
const MAX_METHOD: usize = 32;

/// Why a head was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("line end that is not CR LF")]
    LineEnd,
    #[error("not an HTTP/1.1 request line")]
    RequestLine,
    #[error("not an HTTP/1.1 status line")]
    StatusLine,
    #[error("HTTP version that is not 1.0 or 1.1")]
    Version,
    #[error("request target that is no path")]
    Target,
    #[error("malformed header field")]
    Field,
    #[error("head longer than 64 KiB or more than 128 fields")]
    TooLarge,
    #[error("`host` missing, repeated or no host name")]
    Host,
    #[error("ambiguous or unknown body framing")]
    Framing,
    #[error("`connection` names a field that must travel end to end")]
    Connection,
    #[error("expectation other than `100-continue`")]
    Expectation,
    #[error("CONNECT inside an intercepted connection")]
    Connect,
    #[error("protocol upgrade")]
    Upgrade,
    #[error("TRACE is not forwarded")]
    Trace,
    #[error("`:scheme` that is not https")]
    Scheme,
}

/// How the body's end is told. The only source of what the writer puts on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// A response that ends with its connection.
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
    /// Read from the lines that `request/http2.rs` writes.
    Http2,
}

/// A method that most requests have is kept as a word: it is asked for many times.
#[derive(Debug, Clone, Copy)]
enum Method {
    Common(&'static str),
    Other(Span),
}

const COMMON_METHODS: [&str; 5] = ["GET", "PUT", "POST", "HEAD", "DELETE"];

/// Head of a request: one `Bytes` and spans into it.
#[derive(Debug, Clone)]
pub struct RequestHead {
    raw: Bytes,
    method: Method,
    target: Span,
    /// Of the target, without its query.
    path: Span,
    version: Version,
    fields: Fields,
    framing: Framing,
    authority: Authority,
    expects_continue: bool,
    close: bool,
    upgrade: bool,
}

impl RequestHead {
    /// Reads a whole head, as [`HeadScanner`] delimits it. Origin-form targets only; `Host` without a port means 443.
    pub fn parse(raw: Bytes) -> Result<Self, HeadError> {
        Self::parse_after(raw, None)
    }

    /// The same on a connection whose last request went to `before`: most often this one does too.
    pub fn parse_after(raw: Bytes, before: Option<&Authority>) -> Result<Self, HeadError> {
        Self::read(raw, before, None)
    }

    /// `http2`: the lines were written from a head of HTTP/2, whose stream has ended with it, or has not.
    fn read(raw: Bytes, before: Option<&Authority>, http2: Option<bool>) -> Result<Self, HeadError> {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(&raw, &mut slots) {
            Ok(httparse::Status::Complete(end)) if end == raw.len() => {}
            // It ended before we thought, at bare line feeds.
            Ok(httparse::Status::Complete(_)) => return Err(HeadError::LineEnd),
            Ok(httparse::Status::Partial) => return Err(HeadError::RequestLine),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
            Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => return Err(HeadError::Field),
            Err(httparse::Error::NewLine) => return Err(HeadError::LineEnd),
            // Also what httparse says of a space inside the target.
            Err(httparse::Error::Version) => return Err(HeadError::Version),
            Err(_) => return Err(HeadError::RequestLine),
        }
        let version = match parsed.version {
            Some(0) => Version::Http10,
            _ if http2.is_some() => Version::Http2,
            _ => Version::Http11,
        };
        let method = parsed.method.unwrap_or_default();
        let target = parsed.path.unwrap_or_default();
        if method.len() > MAX_METHOD {
            return Err(HeadError::RequestLine);
        }
        if method == "CONNECT" {
            return Err(HeadError::Connect);
        }
        if method == "TRACE" {
            return Err(HeadError::Trace);
        }
        let star = target == "*" && method == "OPTIONS";
        let plain = target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if !(star || target.starts_with('/')) || !plain {
            return Err(HeadError::Target);
        }
        let span = |part: &[u8]| Span::locate(&raw, part);
        let (fields, marks) = read_fields(&raw, parsed.headers, version)?;
        let host = marks.host.ok_or(HeadError::Host)?;
        let same = |before: &&Authority| {
            before.port == 443 && before.host.as_name().is_some_and(|name| name.as_bytes() == host)
        };
        let authority = match before.filter(same) {
            Some(before) => before.clone(),
            None => {
                let host = std::str::from_utf8(host).map_err(|_| HeadError::Host)?;
                Authority::parse(host, Some(443)).map_err(|_| HeadError::Host)?
            }
        };
        let framing = match (marks.chunked, marks.length) {
            (true, Some(_)) => return Err(HeadError::Framing),
            (true, None) => Framing::Chunked,
            (false, Some(1..)) if http2 == Some(true) => return Err(HeadError::Framing),
            (false, Some(length)) => Framing::Length(length),
            (false, None) if http2 == Some(false) => Framing::Chunked,
            (false, None) => Framing::None,
        };
        // WebSocket alone is carried, as RFC 6455 4.1 asks for it.
        let upgrade = match marks.upgrade {
            None => false,
            Some(protocol) => {
                let asked = protocol.eq_ignore_ascii_case(b"websocket") && marks.connection_upgrade;
                if !asked || version != Version::Http11 || method != "GET" || framing != Framing::None {
                    return Err(HeadError::Upgrade);
                }
                true
            }
        };
        let names_fields = marks.names_fields;
        let path = memchr::memchr(b'?', target.as_bytes()).map_or(target, |at| &target[..at]);
        let mut head = Self {
            method: match COMMON_METHODS.into_iter().find(|common| *common == method) {
                Some(common) => Method::Common(common),
                None => Method::Other(span(method.as_bytes())),
            },
            target: span(target.as_bytes()),
            path: span(path.as_bytes()),
            version,
            framing,
            authority,
            expects_continue: marks.expects_continue
                && version != Version::Http10
                && framing != Framing::None,
            close: marks.close || (version == Version::Http10 && !marks.keep_alive),
            upgrade,
            fields,
            raw,
        };
        if names_fields {
            mark_connection_fields(&head.raw, &mut head.fields)?;
        }
        Ok(head)
    }

    pub fn method(&self) -> &str {
        match self.method {
            Method::Common(word) => word,
            Method::Other(span) => self.text(span),
        }
    }

    /// Path and query as sent, ASCII, `/…` or `*`.
    pub fn target(&self) -> &str {
        self.text(self.target)
    }

    /// [`Self::target`] as bytes.
    pub fn target_bytes(&self) -> &[u8] {
        self.target.of(&self.raw)
    }

    /// The target up to its `?`.
    pub fn path(&self) -> &str {
        self.text(self.path)
    }

    /// [`Self::path`] as bytes.
    pub fn path_bytes(&self) -> &[u8] {
        self.path.of(&self.raw)
    }

    /// The target after its first `?`; `None` without one.
    pub fn query(&self) -> Option<&str> {
        let mark = self.path.end;
        (mark < self.target.end).then(|| self.text(Span { start: mark + 1, end: self.target.end }))
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// `Host`, in normal form.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The client waits for a 100 before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The client asks that the connection end after this exchange.
    pub fn close(&self) -> bool {
        self.close
    }

    /// The client asks to go on in WebSocket (RFC 9110 7.8).
    pub fn asks_websocket(&self) -> bool {
        self.upgrade
    }

    /// The whole head as received.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// All fields in arrival order: name as sent (a token), value without outer whitespace, bytes as received.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let raw = &self.raw[..];
        self.fields.list.iter().map(move |f| (f.name.of(raw), f.value.of(raw)))
    }

    /// Values of all fields of that name, in arrival order. `name` in any case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.fields.named(&self.raw, name).map(|f| f.value.of(&self.raw))
    }

    /// The value of the only field of that name; `None` where it is missing **or repeated**.
    pub fn only<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// [`Self::only`] as text; `None` also where it isn't UTF-8.
    pub fn only_text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.only(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    pub fn has(&self, name: &str) -> bool {
        self.fields.named(&self.raw, name).next().is_some()
    }

    /// A field of that name stays on this connection (RFC 9110 7.6.1), so that it can't be signed.
    #[inline]
    pub fn is_hop_by_hop(&self, name: &[u8]) -> bool {
        self.fields.hop_by_hop & length_bit(name.len()) != 0 && self.stays(name)
    }

    fn stays(&self, name: &[u8]) -> bool {
        let mut hop_by_hop = self.fields.list.iter().filter(|f| f.kind == Kind::HopByHop);
        hop_by_hop.any(|f| f.name.of(&self.raw).eq_ignore_ascii_case(name))
    }

    /// Fields that travel on, as their whole lines, CR LF included.
    pub fn forwarded_lines(&self) -> impl Iterator<Item = &[u8]> {
        lines(&self.raw, &self.fields)
    }

    /// The same fields, one by one: name as sent, and value.
    pub fn forwarded_fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        travelling(&self.raw, &self.fields)
    }

    /// The client takes trailers (`te`, RFC 9110 10.1.4).
    pub fn wants_trailers(&self) -> bool {
        self.all("te").any(|value| options(value).any(|option| option.eq_ignore_ascii_case(b"trailers")))
    }

    fn text(&self, span: Span) -> &str {
        // httparse admits only ASCII into methods, targets (checked above) and names.
        std::str::from_utf8(span.of(&self.raw)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<RequestHead, HeadError> {
        let mut scanner = HeadScanner::default();
        let end = scanner.scan(text.as_bytes())?.expect("a whole head");
        RequestHead::parse(Bytes::copy_from_slice(&text.as_bytes()[..end]))
    }

    #[test]
    fn a_line_end_without_cr_is_refused_wherever_it_hides() {
        for text in [
            "GET / HTTP/1.1\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\nA: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\n\nGET /b HTTP/1.1\r\n\r\n",
            // As many CRs as LFs.
            "GET / HTTP/1.1\r\nHost: a.test\n\nGET /b\r\r HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\rc\nD: e\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\r\r\nD: e\nF: g\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\r\r\n\r\n",
        ] {
            assert!(head(text).is_err(), "{text:?}");
            assert!(
                ResponseHead::parse(text.replace("GET / HTTP/1.1", "HTTP/1.1 200 OK").into(), "GET").is_err()
            );
        }
        assert!(head("GET / HTTP/1.1\r\nHost: a.test\r\nA: b\r\n\r\n").is_ok());
    }

    #[test]
    fn an_answer_begins_with_its_status_line() {
        let answer = |text: &'static str| ResponseHead::parse(Bytes::from_static(text.as_bytes()), "GET");
        let good = answer("HTTP/1.1 200 OK\r\nA: b\r\n\r\n").unwrap();
        assert_eq!(good.status_and_reason(), b"200 OK");
        for blanks in ["\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n", "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"] {
            assert_eq!(answer(blanks).unwrap_err(), HeadError::StatusLine, "{blanks:?}");
        }
    }

    #[test]
    fn forwards_the_lines_as_received_without_hop_by_hop_and_framing() {
        let head = head(
            "PUT /k HTTP/1.1\r\nHost: a.test\r\nX-Odd:  v \r\nConnection: x-gone\r\nX-Gone: 1\r\nContent-Length: 3\r\nx-empty:\r\nLast: z\r\n\r\n",
        )
        .unwrap();
        let lines: Vec<u8> = head.forwarded_lines().flatten().copied().collect();
        assert_eq!(
            std::str::from_utf8(&lines).unwrap(),
            "Host: a.test\r\nX-Odd:  v \r\nx-empty:\r\nLast: z\r\n"
        );
        assert_eq!(head.framing(), Framing::Length(3));
        assert!(head.is_hop_by_hop(b"x-gone") && !head.is_hop_by_hop(b"x-odd"));
    }

    #[test]
    fn only_gives_nothing_for_a_repeated_field() {
        let head = head("GET / HTTP/1.1\r\nHost: a.test\r\nA: 1\r\na: 2\r\nB: 3\r\n\r\n").unwrap();
        assert_eq!(head.only("a"), None);
        assert_eq!(head.only("b"), Some(&b"3"[..]));
        assert_eq!(head.all("A").count(), 2);
    }

    #[test]
    fn a_connection_field_cannot_name_a_signed_field_away() {
        for name in ["Host", "x-amz-date", "Authorization", "content-length"] {
            let text = format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close, {name}\r\n\r\n");
            assert_eq!(head(&text).unwrap_err(), HeadError::Connection, "{name}");
        }
    }
}
