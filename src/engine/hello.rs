//! Reads the first bytes of a TLS client: what its hello offers, and where the floor is. `hello/server.rs` reads a server's.
//!
//! Comes after somebody has bytes in hand (`tls/handshake.rs`, the tunnel); its answers are judged by admission and
//! recorded. Knows nothing of sockets: give it bytes from the start, get an answer or how many more it takes.
//! Own reader, because rustls names no offered version and answers an old client with the wrong alert.

pub mod flight;
mod records;
pub mod server;

use self::records::{Reader, Stop};
use super::target::Host;

/// Nothing of a hello is read beyond this many bytes, record headers included.
pub const MAX_HELLO: usize = 64 * 1024;

/// The floor: a constant, never lowered.
pub const FLOOR: u16 = TLS_1_2;

const TLS_1_2: u16 = 0x0303;

/// A fatal `protocol_version(70)` in a TLS 1.0 record: what a client below the floor is told.
pub const PROTOCOL_VERSION_ALERT: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46];

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

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
    /// A hello in SSLv2's form: below the floor whatever version it names.
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

/// What a hello in SSLv2's form offers: old clients used it to ask for SSLv3 and TLS 1.0 too.
pub const fn sslv2_name(version: u16) -> &'static str {
    match version {
        0x0002 => "SSLv2",
        0x0300 => "SSLv3, in an SSLv2 hello",
        0x0301 => "TLSv1.0, in an SSLv2 hello",
        0x0302 => "TLSv1.1, in an SSLv2 hello",
        0x0303 => "TLSv1.2, in an SSLv2 hello",
        _ => "unknown, in an SSLv2 hello",
    }
}

/// Without the `change_cipher_spec` that both sides send around a HelloRetryRequest to please middleboxes (RFC 8446 D.4).
pub fn after_ccs(buf: &[u8]) -> &[u8] {
    const CCS: [u8; 6] = [20, 3, 3, 0, 1, 1];
    match buf.strip_prefix(&CCS) {
        Some(rest) => rest,
        // Part of one: nothing to be read yet.
        None if CCS.starts_with(buf) => &[],
        None => buf,
    }
}

/// Reads a client's first bytes. `buf` starts at the connection's first byte; the answer for a prefix of a longer
/// buffer is `NeedMore` or the final one, so it doesn't matter how the bytes were cut.
pub fn read(buf: &[u8]) -> Hello {
    match buf {
        [] => Hello::NeedMore { at_least: 1 },
        [HANDSHAKE, ..] => {
            let read = records::message(buf, CLIENT_HELLO).and_then(|message| parse(&message));
            read.unwrap_or_else(|stop| match stop {
                Stop::NeedMore(at_least) => Hello::NeedMore { at_least },
                Stop::Malformed(what) => Hello::Malformed(what),
            })
        }
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

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
