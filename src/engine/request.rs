//! The strict reader: the head of an HTTP/1.1 request, as received; `request/response.rs` reads a response's by it.
//!
//! One parse gives what is judged and what is sent: the head stays one `Bytes`, fields are spans into it, duplicates
//! stay visible. Framing is typed here and written anew by `proxy/http1`; nobody else reads `Content-Length`.
//! Rules: RFC 9112 2.2, 3, 5, 6.3 where it says MUST, and refused where it leaves a choice.

mod http2;
mod response;

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem;

pub use http2::Pseudo;
pub use response::ResponseHead;

use super::target::Authority;

/// A head may be this long, blank line included. AWS's own limit is 8-16 KiB a field line.
pub const MAX_HEAD: usize = 64 * 1024;
const MAX_FIELDS: usize = 128;
const MAX_METHOD: usize = 32;
/// Blank lines before a request that are skipped (RFC 9112 2.2 asks for at least one).
const MAX_LEADING_BLANKS: usize = 2;

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

/// What the codec does with a field; told once, while parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    EndToEnd,
    /// For this connection only: not forwarded, not to be signed.
    HopByHop,
    /// Content-Length and Transfer-Encoding: written anew.
    Framing,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    name: Span,
    value: Span,
    kind: Kind,
}

/// Fields in arrival order.
#[derive(Debug, Clone, Default)]
struct Fields {
    list: Vec<Field>,
    /// The lengths that their names have, by [`length_bit`]: most names that are asked for are not there.
    lengths: u64,
    /// The same of those that stay on this connection.
    hop_by_hop: u64,
}

static BLANK_LINE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\r\n\r\n"));

/// Finds a head's end, each byte looked at once over however many reads it takes.
#[derive(Debug, Default)]
pub struct HeadScanner {
    at: usize,
    line: usize,
    blanks: usize,
}

impl HeadScanner {
    /// Length of the head in `buf`, leading blank lines included; `None` when more bytes are needed. A line end that
    /// is not CR LF is refused as soon as it is met, at the latest when the head is parsed.
    /// `buf` must begin with the bytes of the last call. [`HeadError::TooLarge`] past [`MAX_HEAD`].
    pub fn scan(&mut self, buf: &[u8]) -> Result<Option<usize>, HeadError> {
        if buf.is_empty() {
            return Ok(None);
        }
        // A head that came in one piece, as most do. Its line ends are judged when it is parsed.
        if self.at == 0
            && is_token(buf[0])
            && let Some(at) = BLANK_LINE.find(buf)
        {
            let end = at + 4;
            return if end > MAX_HEAD { Err(HeadError::TooLarge) } else { Ok(Some(end)) };
        }
        while let Some(found) = memchr::memchr2(b'\r', b'\n', &buf[self.at..]) {
            let at = self.at + found;
            // INVARIANT: the LF of a valid pair is skipped with its CR, so an LF met here stands alone.
            if buf[at] == b'\n' {
                return Err(HeadError::LineEnd);
            }
            match buf.get(at + 1) {
                None => {
                    self.at = at;
                    return self.more(buf);
                }
                Some(b'\n') => {}
                Some(_) => return Err(HeadError::LineEnd),
            }
            let end = at + 2;
            let empty = at == self.line;
            self.at = end;
            if empty && self.line == 2 * self.blanks {
                self.blanks += 1;
                if self.blanks > MAX_LEADING_BLANKS {
                    return Err(HeadError::RequestLine);
                }
            } else if empty {
                return if end > MAX_HEAD { Err(HeadError::TooLarge) } else { Ok(Some(end)) };
            }
            self.line = end;
        }
        self.at = buf.len();
        self.more(buf)
    }

    fn more(&self, buf: &[u8]) -> Result<Option<usize>, HeadError> {
        if buf.len() > MAX_HEAD {
            return Err(HeadError::TooLarge);
        }
        // A first byte that begins no token is refused at once, not at the time-out.
        match buf.get(2 * self.blanks) {
            Some(&first) if !is_token(first) && first != b'\r' => Err(HeadError::RequestLine),
            _ => Ok(None),
        }
    }
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

/// What the fields say of framing and connection, gathered in one pass.
#[derive(Default)]
struct Marks<'h> {
    host: Option<&'h [u8]>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    names_fields: bool,
    expects_continue: bool,
    upgrade: Option<&'h [u8]>,
    /// `Connection` names it, as it must.
    connection_upgrade: bool,
}

/// Spans of all fields, and what they say together.
fn read_fields<'h>(
    raw: &[u8],
    headers: &[httparse::Header<'h>],
    version: Version,
) -> Result<(Fields, Marks<'h>), HeadError> {
    if !raw.ends_with(b"\r\n\r\n") {
        return Err(HeadError::LineEnd);
    }
    let mut marks = Marks::default();
    let mut fields = Fields { list: Vec::with_capacity(headers.len()), ..Fields::default() };
    for header in headers {
        let kind = marks.see(header, version)?;
        let field = Field::of(raw, header, kind);
        // httparse takes a CR only before its LF, but an LF alone too: what ends before a field must end in both.
        if raw.get((field.name.start as usize).wrapping_sub(2)) != Some(&b'\r') {
            return Err(HeadError::LineEnd);
        }
        fields.lengths |= length_bit(field.name.len());
        if kind == Kind::HopByHop {
            fields.hop_by_hop |= length_bit(field.name.len());
        }
        fields.list.push(field);
    }
    Ok((fields, marks))
}

impl<'h> Marks<'h> {
    fn see(&mut self, header: &httparse::Header<'h>, version: Version) -> Result<Kind, HeadError> {
        let (name, value) = (header.name, header.value);
        let is = |known: &str| is_name(name.as_bytes(), known.as_bytes());
        match name.len() {
            2 if is("te") => return Ok(Kind::HopByHop),
            4 if is("host") => {
                if self.host.replace(value).is_some() {
                    return Err(HeadError::Host);
                }
            }
            6 if is("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") || self.expects_continue {
                    return Err(HeadError::Expectation);
                }
                self.expects_continue = true;
            }
            7 if is("upgrade") => {
                // Several are a list, of which we carry none.
                self.upgrade = Some(if self.upgrade.is_some() { b"" } else { value });
                return Ok(Kind::HopByHop);
            }
            7 if is("alt-svc") => return Ok(Kind::HopByHop),
            10 if is("connection") => {
                for option in options(value) {
                    if option.eq_ignore_ascii_case(b"close") {
                        self.close = true;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        self.keep_alive = true;
                    } else if option.eq_ignore_ascii_case(b"upgrade") {
                        self.connection_upgrade = true;
                    } else {
                        self.names_fields = true;
                    }
                }
                return Ok(Kind::HopByHop);
            }
            10 if is("keep-alive") => return Ok(Kind::HopByHop),
            14 if is("content-length") => {
                // Lists, repeats, signs and leading zeros are read differently by different servers: refused.
                let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
                if !digits || (value.len() > 1 && value[0] == b'0') || self.length.is_some() {
                    return Err(HeadError::Framing);
                }
                self.length = Some(value.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')));
                return Ok(Kind::Framing);
            }
            // Some gateways read `_` as `-`.
            14 if is("content_length") => return Err(HeadError::Framing),
            14 if is("http2-settings") => return Ok(Kind::HopByHop),
            16 if is("proxy-connection") => return Ok(Kind::HopByHop),
            17 if is("transfer-encoding") => {
                let plain = value.eq_ignore_ascii_case(b"chunked");
                if !plain || self.chunked || version == Version::Http10 {
                    return Err(HeadError::Framing);
                }
                self.chunked = true;
                return Ok(Kind::Framing);
            }
            17 if is("transfer_encoding") => return Err(HeadError::Framing),
            18 if is("proxy-authenticate") => return Ok(Kind::HopByHop),
            19 if is("proxy-authorization") => return Ok(Kind::HopByHop),
            _ => {}
        }
        Ok(Kind::EndToEnd)
    }
}

/// Comma-separated options of a `Connection` value, without blanks.
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

/// Marks the fields that `Connection` names as hop-by-hop. Fields that routing, framing or a signature rests on
/// can't be named away: the origin would judge another request than we did.
fn mark_connection_fields(raw: &Bytes, fields: &mut Fields) -> Result<(), HeadError> {
    let slice = |span: Span| span.of(raw);
    let named: Vec<&[u8]> = fields
        .list
        .iter()
        .filter(|f| slice(f.name).eq_ignore_ascii_case(b"connection"))
        .flat_map(|f| options(slice(f.value)))
        .collect();
    let kept = |name: &[u8]| {
        [&b"host"[..], b"authorization", b"content-length", b"transfer-encoding", b"content-type", b"expect"]
            .iter()
            .any(|k| name.eq_ignore_ascii_case(k))
            || name.get(..6).is_some_and(|p| p.eq_ignore_ascii_case(b"x-amz-"))
    };
    let refused = named.iter().any(|name| kept(name));
    for field in &mut fields.list {
        let name = slice(field.name);
        if field.kind == Kind::EndToEnd && !kept(name) && named.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            field.kind = Kind::HopByHop;
            fields.hop_by_hop |= length_bit(name.len());
        }
    }
    if refused { Err(HeadError::Connection) } else { Ok(()) }
}

fn travelling<'a>(raw: &'a Bytes, fields: &'a Fields) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let travel = fields.list.iter().filter(|field| field.kind == Kind::EndToEnd);
    travel.map(|field| (field.name.of(raw), field.value.of(raw)))
}

/// Whole lines of the fields that travel on, neighbours joined into one slice.
fn lines<'a>(raw: &'a Bytes, fields: &'a Fields) -> impl Iterator<Item = &'a [u8]> {
    let travels = |field: &Field| field.kind == Kind::EndToEnd;
    let runs = fields.list.chunk_by(move |a, b| travels(a) == travels(b));
    runs.filter(move |run| travels(&run[0])).map(|run| {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        // The line ends at the first LF after the value: trailing blanks of the value lie between.
        let tail = &raw[last.value.end as usize..];
        let end = last.value.end as usize + memchr::memchr(b'\n', tail).map_or(tail.len(), |at| at + 1);
        &raw[first.name.start as usize..end]
    })
}

impl Span {
    fn of(self, raw: &[u8]) -> &[u8] {
        &raw[self.start as usize..self.end as usize]
    }

    fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    fn locate(raw: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(raw.as_ptr() as usize);
        if part.is_empty() || start + part.len() > raw.len() {
            // httparse gives an empty value from nowhere in particular.
            return Self { start: 0, end: 0 };
        }
        // Heads are at most MAX_HEAD long.
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }
}

/// The bit that stands for names of that length; the longest share one.
fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

impl Fields {
    /// Those of that name, in any case.
    fn named<'a>(&'a self, raw: &'a Bytes, name: &'a str) -> impl Iterator<Item = &'a Field> {
        let some = if self.lengths & length_bit(name.len()) != 0 { &self.list[..] } else { &[] };
        some.iter().filter(move |field| field.is(raw, name))
    }
}

impl Field {
    fn of(raw: &[u8], header: &httparse::Header<'_>, kind: Kind) -> Self {
        let name = Span::locate(raw, header.name.as_bytes());
        let mut value = Span::locate(raw, header.value);
        if header.value.is_empty() {
            value = Span { start: name.end, end: name.end };
        }
        Self { name, value, kind }
    }

    /// It has that name, in any case. Compared as bytes: a name is looked up dozens of times a request.
    fn is(&self, raw: &Bytes, name: &str) -> bool {
        self.name.len() == name.len() && is_name(self.name.of(raw), name.as_bytes())
    }
}

/// A field's name, in any case, is `known`: letters, digits, `-` and `_`. Eight bytes at once: names are compared
/// dozens of times a request. Two tokens that differ in bit 5 alone differ in a letter's case, but for `^` and `~`.
pub fn is_name(sent: &[u8], known: &[u8]) -> bool {
    const CASE: u64 = 0x2020_2020_2020_2020;
    if sent.len() != known.len() {
        return false;
    }
    let ((sent, sent_rest), (known, known_rest)) = (sent.as_chunks::<8>(), known.as_chunks::<8>());
    let wide =
        sent.iter().zip(known).fold(0, |all, (a, b)| all | (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)));
    let rest = sent_rest.iter().zip(known_rest).fold(0, |all, (a, b)| all | (a ^ b));
    wide & !CASE == 0 && rest & !0x20 == 0
}

/// Every LF has its CR before it: for texts that httparse, which takes an LF alone, has read.
pub fn ends_lines_in_both(text: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', text).all(|at| at > 0 && text[at - 1] == b'\r')
}

/// RFC 9110 5.6.2.
pub fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// What [`is_name`] may be given as `known`: [`is_token`], but no capital, and neither `^` nor `~`.
pub fn is_plain_token(byte: u8) -> bool {
    PLAIN_TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = PLAIN_TOKEN;
    let mut byte = b'A';
    while byte <= b'Z' {
        table[byte as usize] = true;
        byte += 1;
    }
    table[b'^' as usize] = true;
    table[b'~' as usize] = true;
    table
};

const PLAIN_TOKEN: [bool; 256] = {
    let plain = b"abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-._`|";
    let mut table = [false; 256];
    let mut at = 0;
    while at < plain.len() {
        table[plain[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<RequestHead, HeadError> {
        let mut scanner = HeadScanner::default();
        let end = scanner.scan(text.as_bytes())?.expect("a whole head");
        RequestHead::parse(Bytes::copy_from_slice(&text.as_bytes()[..end]))
    }

    #[test]
    fn scanner_finds_the_same_end_however_the_bytes_arrive() {
        let text = b"\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\nrest";
        let whole = HeadScanner::default().scan(text).unwrap();
        assert_eq!(whole, Some(text.len() - 4));
        let mut scanner = HeadScanner::default();
        let ends: Vec<_> = (0..=text.len()).filter_map(|n| scanner.scan(&text[..n]).unwrap()).collect();
        assert_eq!(ends.first(), whole.as_ref());
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
