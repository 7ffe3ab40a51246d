//! The fields of a head: spans into it, what each is to the codec, and what they say together of framing and connection.

use bytes::Bytes;

use super::token::is_name;
use super::{HeadError, Version};

/// What the codec does with a field; told once, while parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    EndToEnd,
    /// For this connection only: not forwarded, not to be signed.
    HopByHop,
    /// Content-Length and Transfer-Encoding: written anew.
    Framing,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: Span,
    pub(super) value: Span,
    pub(super) kind: Kind,
}

/// Fields in arrival order.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    pub(super) list: Vec<Field>,
    /// The lengths that their names have, by [`length_bit`]: most names that are asked for are not there.
    lengths: u64,
    /// The same of those that stay on this connection.
    pub(super) hop_by_hop: u64,
}

/// What the fields say of framing and connection, gathered in one pass.
#[derive(Default)]
pub(super) struct Marks<'h> {
    pub(super) host: Option<&'h [u8]>,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) names_fields: bool,
    pub(super) expects_continue: bool,
    pub(super) upgrade: Option<&'h [u8]>,
    /// `Connection` names it, as it must.
    pub(super) connection_upgrade: bool,
}

/// Spans of all fields, and what they say together.
pub(super) fn read_fields<'h>(
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
pub(super) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

/// Marks the fields that `Connection` names as hop-by-hop. Fields that routing, framing or a signature rests on
/// can't be named away: the origin would judge another request than we did.
pub(super) fn mark_connection_fields(raw: &Bytes, fields: &mut Fields) -> Result<(), HeadError> {
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

pub(super) fn travelling<'a>(
    raw: &'a Bytes,
    fields: &'a Fields,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let travel = fields.list.iter().filter(|field| field.kind == Kind::EndToEnd);
    travel.map(|field| (field.name.of(raw), field.value.of(raw)))
}

/// Whole lines of the fields that travel on, neighbours joined into one slice.
pub(super) fn lines<'a>(raw: &'a Bytes, fields: &'a Fields) -> impl Iterator<Item = &'a [u8]> {
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
    pub(super) fn of(self, raw: &[u8]) -> &[u8] {
        &raw[self.start as usize..self.end as usize]
    }

    fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub(super) fn locate(raw: &[u8], part: &[u8]) -> Self {
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
pub(super) fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

impl Fields {
    /// Those of that name, in any case.
    pub(super) fn named<'a>(&'a self, raw: &'a Bytes, name: &'a str) -> impl Iterator<Item = &'a Field> {
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
