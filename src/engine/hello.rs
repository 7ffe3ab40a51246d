//! Reads the first bytes of a TLS peer: what a ClientHello offers, what a ServerHello chose, and where the floor is.
//!
//! Comes after somebody has bytes in hand (`tls/handshake.rs`, the tunnel); its answers are judged by admission and
//! recorded. Knows nothing of sockets: give it bytes from the start, get an answer or how many more it takes.
//! Own reader, because rustls names no offered version and answers an old client with the wrong alert
//! (facts/crates.md P3).

use std::ops::Range;

use super::target::Host;

/// Nothing of a hello is read beyond this many bytes, record headers included (facts/security.md I4).
pub const MAX_HELLO: usize = 64 * 1024;

/// The floor: a constant, never lowered.
pub const FLOOR: u16 = TLS_1_2;

const TLS_1_2: u16 = 0x0303;

/// A fatal `protocol_version(70)` in a TLS 1.0 record: what a client below the floor is told.
pub const PROTOCOL_VERSION_ALERT: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46];

const RECORD_HEADER: usize = 5;
const MAX_RECORD: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

const EXT_SERVER_NAME: u16 = 0;
const EXT_ALPN: u16 = 16;
const EXT_SUPPORTED_VERSIONS: u16 = 43;
const EXT_ECH: u16 = 0xfe0d;

/// What the first bytes of a client are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// Undecided; no prefix shorter than `at_least` bytes can change that.
    NeedMore {
        at_least: usize,
    },
    Client(ClientHello),
    /// An SSLv2-style hello: below the floor whatever version it names.
    Sslv2 {
        version: u16,
    },
    NotTls(Foreign),
    /// TLS by its first byte, and then not: says what was wrong.
    Malformed(&'static str),
}

/// What speaks where TLS is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// An upper-case token: a plain request (`GET /`, `PRI *`). May be answered in kind.
    HttpLike,
    Ssh,
    Other,
}

/// What a client offers, as far as a decision needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// Normal form. A name that is none makes the whole hello malformed.
    pub sni: Option<Host>,
    /// In the client's order, GREASE left out (RFC 8701).
    pub alpn: Vec<Box<[u8]>>,
    /// `legacy_version` on the wire.
    pub legacy_version: u16,
    /// Highest version offered: out of `supported_versions` where it stands (RFC 8446 §4.2.1: it alone counts then),
    /// else `legacy_version`.
    pub max_version: u16,
    /// `encrypted_client_hello` of the outer kind is there, real or GREASE: nobody outside can tell (RFC 9849 §6.2).
    pub ech: bool,
}

impl ClientHello {
    pub fn below_floor(&self) -> bool {
        self.max_version < FLOOR
    }

    /// Public name of the best version offered.
    pub fn offered(&self) -> &'static str {
        version_name(self.max_version)
    }
}

/// Public name of a protocol version on the wire: record field and message.
pub const fn version_name(version: u16) -> &'static str {
    match version {
        0x0002 => "SSLv2",
        0x0300 => "SSLv3",
        0x0301 => "TLSv1.0",
        0x0302 => "TLSv1.1",
        0x0303 => "TLSv1.2",
        0x0304 => "TLSv1.3",
        _ => "unknown",
    }
}

/// What the first bytes of a server are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerFirst {
    /// Fewer than the eleven bytes that tell.
    NeedMore,
    /// `legacy_version` of its ServerHello: 0x0303 means TLS 1.2 or 1.3.
    Chose(u16),
    /// Its alert: 70 is `protocol_version`.
    Alert(u8),
    NotTls,
}

/// Names what a server answered our hello with. Eleven bytes are enough.
pub fn server_hello_version(bytes: &[u8]) -> ServerFirst {
    match bytes {
        [ALERT, 3, _, 0, 2, _, description, ..] => ServerFirst::Alert(*description),
        [HANDSHAKE, 3, _, _, _, SERVER_HELLO, _, _, _, major, minor, ..] => {
            ServerFirst::Chose(u16::from_be_bytes([*major, *minor]))
        }
        [HANDSHAKE, 3, rest @ ..]
            if rest.len() < 9 && rest.get(3).is_none_or(|kind| *kind == SERVER_HELLO) =>
        {
            ServerFirst::NeedMore
        }
        [ALERT, 3, rest @ ..] if rest.len() < 5 => ServerFirst::NeedMore,
        [] | [HANDSHAKE | ALERT] => ServerFirst::NeedMore,
        _ => ServerFirst::NotTls,
    }
}

/// Reads a client's first bytes. `buf` starts at the connection's first byte; the answer for a prefix of a longer
/// buffer is `NeedMore` or the final one, so it doesn't matter how the bytes were cut.
pub fn read(buf: &[u8]) -> Hello {
    match buf {
        [] => Hello::NeedMore { at_least: 1 },
        [HANDSHAKE, ..] => read_records(buf).unwrap_or_else(|stop| match stop {
            Stop::NeedMore(at_least) => Hello::NeedMore { at_least },
            Stop::Malformed(what) => Hello::Malformed(what),
        }),
        [0x80..=0xff, ..] => read_sslv2(buf),
        [b'S', b'S', b'H', b'-', ..] => Hello::NotTls(Foreign::Ssh),
        [b'S'] | [b'S', b'S'] | [b'S', b'S', b'H'] => Hello::NeedMore { at_least: buf.len() + 1 },
        [b'A'..=b'Z', ..] => Hello::NotTls(Foreign::HttpLike),
        _ => Hello::NotTls(Foreign::Other),
    }
}

/// Two length bytes with the high bit set, then CLIENT-HELLO and a version (RFC 5246 appendix E.2).
fn read_sslv2(buf: &[u8]) -> Hello {
    match buf {
        [_, _, CLIENT_HELLO, major, minor, ..] => {
            let version = u16::from_be_bytes([*major, *minor]);
            if *major == 3 || version == 2 { Hello::Sslv2 { version } } else { Hello::NotTls(Foreign::Other) }
        }
        [_] | [_, _] | [_, _, CLIENT_HELLO] | [_, _, CLIENT_HELLO, _] => Hello::NeedMore { at_least: 5 },
        _ => Hello::NotTls(Foreign::Other),
    }
}

enum Stop {
    NeedMore(usize),
    Malformed(&'static str),
}

/// Joins the handshake message over its records, then reads it.
fn read_records(buf: &[u8]) -> Result<Hello, Stop> {
    let first = record(buf, 0)?;
    let Some(total) = message_length(buf, &first)? else {
        // The four bytes of the message's header are cut over records: rare enough to join first.
        return read_joined(buf, None);
    };
    if first.len() >= total {
        if buf.len() < first.start + total {
            return Err(Stop::NeedMore(first.start + total));
        }
        return parse(&buf[first.start..first.start + total]);
    }
    read_joined(buf, Some(total))
}

/// Message length with its header, once four bytes of it lie in `span`; refuses what isn't a ClientHello.
fn message_length(buf: &[u8], span: &Range<usize>) -> Result<Option<usize>, Stop> {
    let bytes = &buf[span.start..span.end.min(buf.len())];
    match bytes {
        [CLIENT_HELLO, a, b, c, ..] => {
            let total = 4 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if total + RECORD_HEADER > MAX_HELLO {
                return Err(Stop::Malformed("hello over 64 KiB"));
            }
            Ok(Some(total))
        }
        [] | [CLIENT_HELLO, ..] if span.len() < 4 => Ok(None),
        [] | [CLIENT_HELLO, ..] => Err(Stop::NeedMore(span.start + 4)),
        _ => Err(Stop::Malformed("not a ClientHello")),
    }
}

/// The payload of the record at `at`; its end may lie beyond `buf`.
fn record(buf: &[u8], at: usize) -> Result<Range<usize>, Stop> {
    let header = &buf[at.min(buf.len())..];
    // Each byte is judged as soon as it is there, so that how the bytes were cut never changes the answer.
    if header.first().is_some_and(|kind| *kind != HANDSHAKE) {
        return Err(Stop::Malformed("not a handshake record"));
    }
    if header.get(1).is_some_and(|major| *major != 3) {
        return Err(Stop::Malformed("record version"));
    }
    let [_, _, _, high, low, ..] = header else {
        return Err(Stop::NeedMore(at + RECORD_HEADER));
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length == 0 || length > MAX_RECORD {
        // RFC 8446 §5.1: no empty handshake fragments, none over 2^14.
        return Err(Stop::Malformed("record length"));
    }
    let start = at + RECORD_HEADER;
    if start + length > MAX_HELLO + RECORD_HEADER {
        return Err(Stop::Malformed("hello over 64 KiB"));
    }
    Ok(start..start + length)
}

fn read_joined(buf: &[u8], mut total: Option<usize>) -> Result<Hello, Stop> {
    let mut message = Vec::with_capacity(total.unwrap_or(512).min(buf.len()));
    let mut at = 0;
    loop {
        let span = record(buf, at).map_err(|stop| match stop {
            // Whatever the records' cut, the message's own missing bytes must still come: fewer looks at the same bytes.
            Stop::NeedMore(least) => {
                Stop::NeedMore(least.max(buf.len() + total.map_or(0, |total| total - message.len())))
            }
            malformed @ Stop::Malformed(_) => malformed,
        })?;
        let here = &buf[span.start.min(buf.len())..span.end.min(buf.len())];
        message.extend_from_slice(here);
        if total.is_none() {
            total = match message.as_slice() {
                [first, ..] if *first != CLIENT_HELLO => return Err(Stop::Malformed("not a ClientHello")),
                [_, a, b, c, ..] => Some(4 + u32::from_be_bytes([0, *a, *b, *c]) as usize),
                _ => None,
            };
            if total.is_some_and(|total| total + RECORD_HEADER > MAX_HELLO) {
                return Err(Stop::Malformed("hello over 64 KiB"));
            }
        }
        if let Some(total) = total
            && message.len() >= total
        {
            return parse(&message[..total]);
        }
        if here.len() < span.len() {
            let missing = total.map_or(1, |total| total - message.len());
            return Err(Stop::NeedMore(buf.len() + missing));
        }
        at = span.end;
    }
}

/// Reads a whole ClientHello message, header included (RFC 8446 §4.1.2).
fn parse(message: &[u8]) -> Result<Hello, Stop> {
    let mut body = Reader(&message[4..]);
    let legacy_version = body.u16()?;
    body.take(32)?;
    let session_id = body.vec8()?;
    let ciphers = body.vec16()?;
    let compression = body.vec8()?;
    if session_id.0.len() > 32 || ciphers.0.len() < 2 || ciphers.0.len() % 2 != 0 || compression.0.is_empty()
    {
        return Err(Stop::Malformed("hello fields"));
    }
    let mut hello =
        ClientHello { sni: None, alpn: Vec::new(), legacy_version, max_version: legacy_version, ech: false };
    if !body.0.is_empty() {
        let extensions = body.vec16()?;
        read_extensions(extensions, &mut hello)?;
    }
    if !body.0.is_empty() {
        return Err(Stop::Malformed("bytes after the extensions"));
    }
    Ok(Hello::Client(hello))
}

fn read_extensions(mut extensions: Reader<'_>, hello: &mut ClientHello) -> Result<(), Stop> {
    let mut seen = [false; 4];
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut data = extensions.vec16()?;
        let index = match kind {
            EXT_SERVER_NAME => 0,
            EXT_ALPN => 1,
            EXT_SUPPORTED_VERSIONS => 2,
            EXT_ECH => 3,
            _ => continue,
        };
        if std::mem::replace(&mut seen[index], true) {
            return Err(Stop::Malformed("extension stands twice"));
        }
        match kind {
            EXT_SERVER_NAME => hello.sni = Some(server_name(data)?),
            EXT_ALPN => {
                let mut list = data.vec16()?;
                while !list.0.is_empty() {
                    let name = list.vec8()?;
                    if !matches!(name.0, [a, b] if a == b && a & 0x0f == 0x0a) {
                        hello.alpn.push(name.0.into());
                    }
                }
            }
            EXT_SUPPORTED_VERSIONS => {
                let mut list = data.vec8()?;
                hello.max_version = 0;
                while !list.0.is_empty() {
                    let version = list.u16()?;
                    if !is_grease(version) {
                        hello.max_version = hello.max_version.max(version);
                    }
                }
            }
            // 0 is the outer hello; an inner one (1) has no business on the wire.
            _ => hello.ech = data.0.first() == Some(&0),
        }
    }
    Ok(())
}

/// Exactly one entry, a host name (RFC 6066 §3 forbids a second of the same type, and no other type exists).
fn server_name(mut data: Reader<'_>) -> Result<Host, Stop> {
    let mut list = data.vec16()?;
    let kind = list.take(1)?;
    let name = list.vec16()?;
    if kind != [0] || !list.0.is_empty() || !data.0.is_empty() {
        return Err(Stop::Malformed("server_name"));
    }
    let text = std::str::from_utf8(name.0).map_err(|_| Stop::Malformed("server_name"))?;
    Host::parse(text).map_err(|_| Stop::Malformed("server_name"))
}

/// RFC 8701: 0x0a0a, 0x1a1a, ... 0xfafa.
const fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && high & 0x0f == 0x0a
}

/// Bytes still to be read of a message that is whole: running short is malformed.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Stop::Malformed("hello ends early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn u16(&mut self) -> Result<u16, Stop> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vec8(&mut self) -> Result<Self, Stop> {
        let length = self.take(1)?[0];
        self.take(length.into()).map(Reader)
    }

    fn vec16(&mut self) -> Result<Self, Stop> {
        let length = self.u16()?;
        self.take(length.into()).map(Reader)
    }
}

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
