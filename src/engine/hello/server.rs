//! A server's first bytes: the version, suite and group that it chose, or the alert in their place.
//!
//! `tls/origin/failure.rs` names an origin below the floor from the eleven bytes that [`first`] needs; the tunnel,
//! which has no TLS of its own, holds the floor with [`read`].

use super::records::{Reader, Stop, message};
use super::{FLOOR, HANDSHAKE, version_name};
use crate::engine::facts::Shown;

pub const TLS_1_3: u16 = 0x0304;

const ALERT: u8 = 21;
const SERVER_HELLO: u8 = 2;
const EXT_SUPPORTED_VERSIONS: u16 = 43;
const EXT_KEY_SHARE: u16 = 51;
/// `random` of a ServerHello that is a HelloRetryRequest (RFC 8446 4.1.3): its first four bytes tell it apart.
const RETRY: [u8; 4] = [0xcf, 0x21, 0xad, 0x74];

/// What the first eleven bytes of a server are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerFirst {
    NeedMore,
    /// `legacy_version` of its ServerHello: 0x0303 means TLS 1.2 or 1.3; 2 that it answered as SSLv2.
    Chose(u16),
    /// Its alert (70 is `protocol_version`), and the version of the record that it came in.
    Alert {
        record: u16,
        description: u8,
    },
    NotTls,
}

/// What a server was offered, at or above the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub tls12: bool,
    pub tls13: bool,
}

/// What can be known of a server that wants none of `offered` and says so by the alert `protocol_version`: older ones
/// name their best in the alert's own record, others say 1.2 there whatever they speak.
pub fn unnamed(record: u16, offered: Versions) -> &'static str {
    match offered {
        Versions { tls12: true, .. } if record < FLOOR => version_name(record),
        Versions { tls12: true, tls13: true } => "less than TLS 1.2 (its alert does not say what)",
        Versions { tls12: false, tls13: true } => "less than TLS 1.3 (its alert does not say what)",
        _ => "no version that it was offered",
    }
}

/// What a server chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerHello {
    /// Out of `supported_versions` where it stands, else `legacy_version`.
    pub version: u16,
    pub cipher: u16,
    /// Group of its key share: TLS 1.3 only, and no resumption without one.
    pub group: Option<u16>,
    /// Another ClientHello follows.
    pub retry: bool,
}

/// What a server's first bytes are, once they are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Undecided; no prefix shorter than `at_least` bytes can change that.
    NeedMore {
        at_least: usize,
    },
    Hello(ServerHello),
    Alert {
        record: u16,
        description: u8,
    },
    /// It answered in SSLv2's form.
    Sslv2,
    NotTls,
    Malformed(&'static str),
}

impl ServerHello {
    pub fn below_floor(&self) -> bool {
        self.version < FLOOR
    }

    /// Public name of the version it chose.
    pub fn chose(&self) -> &'static str {
        version_name(self.version)
    }

    /// For the record of a handshake that went no further.
    pub fn shown(&self) -> Shown {
        let (version, cipher) = (Some(self.chose()), Some(self.cipher));
        Shown { version, cipher, group: self.group, ..Shown::default() }
    }
}

/// Names what a server answered our hello with.
pub fn first(bytes: &[u8]) -> ServerFirst {
    match bytes {
        [ALERT, 3, minor, 0, 2, _, description, ..] => {
            ServerFirst::Alert { record: 0x0300 | u16::from(*minor), description: *description }
        }
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
        // SERVER-HELLO of SSLv2: two length bytes, type 4, session id hit, certificate type, version 2.
        [0x80..=0xff, _, 4, 0 | 1, _, 0, 2, ..] => ServerFirst::Chose(2),
        [0x80..=0xff] | [0x80..=0xff, _] => ServerFirst::NeedMore,
        [0x80..=0xff, _, 4, rest @ ..] if rest.len() < 4 => ServerFirst::NeedMore,
        _ => ServerFirst::NotTls,
    }
}

/// Reads a server's first bytes. `buf` starts at the connection's first one; it doesn't matter how they were cut.
pub fn read(buf: &[u8]) -> Answer {
    if buf.first() != Some(&HANDSHAKE) {
        return match first(buf) {
            ServerFirst::NotTls => Answer::NotTls,
            ServerFirst::Chose(_) => Answer::Sslv2,
            ServerFirst::Alert { record, description } => Answer::Alert { record, description },
            ServerFirst::NeedMore => Answer::NeedMore { at_least: buf.len() + 1 },
        };
    }
    match message(buf, SERVER_HELLO).and_then(|message| parse(&message)) {
        Ok(hello) => Answer::Hello(hello),
        Err(Stop::NeedMore(at_least)) => Answer::NeedMore { at_least },
        Err(Stop::Malformed(what)) => Answer::Malformed(what),
    }
}

/// A whole ServerHello, header included (RFC 8446 4.1.3).
fn parse(message: &[u8]) -> Result<ServerHello, Stop> {
    let mut body = Reader(&message[4..]);
    let legacy_version = body.u16()?;
    let random = body.take(32)?;
    let session_id = body.vec8()?;
    let cipher = body.u16()?;
    body.take(1)?;
    if session_id.0.len() > 32 {
        return Err(Stop::Malformed("hello fields"));
    }
    let mut hello =
        ServerHello { version: legacy_version, cipher, group: None, retry: random.starts_with(&RETRY) };
    if body.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = body.vec16()?;
    let mut seen = [false; 2];
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut data = extensions.vec16()?;
        let index = match kind {
            EXT_SUPPORTED_VERSIONS => 0,
            EXT_KEY_SHARE => 1,
            _ => continue,
        };
        if std::mem::replace(&mut seen[index], true) {
            return Err(Stop::Malformed("extension stands twice"));
        }
        if index == 0 {
            hello.version = data.u16()?;
        } else {
            hello.group = Some(data.u16()?);
        }
    }
    if !body.0.is_empty() {
        return Err(Stop::Malformed("bytes after the extensions"));
    }
    Ok(hello)
}

/// Name of a cipher suite with forward secrecy and AEAD, as rustls spells it; the others are not believed.
pub fn suite_name(suite: u16) -> Option<&'static str> {
    Some(match suite {
        0x1301 => "TLS13_AES_128_GCM_SHA256",
        0x1302 => "TLS13_AES_256_GCM_SHA384",
        0x1303 => "TLS13_CHACHA20_POLY1305_SHA256",
        0x1304 => "TLS13_AES_128_CCM_SHA256",
        0x1305 => "TLS13_AES_128_CCM_8_SHA256",
        0x009e => "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
        0x009f => "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
        0xc02b => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        0xc02c => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        0xc02f => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        0xc030 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        0xc0ac => "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
        0xc0ad => "TLS_ECDHE_ECDSA_WITH_AES_256_CCM",
        0xcca8 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        0xcca9 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        0xccaa => "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        _ => return None,
    })
}

/// IANA's name of a key exchange group.
pub fn group_name(group: u16) -> Option<&'static str> {
    Some(match group {
        0x0017 => "secp256r1",
        0x0018 => "secp384r1",
        0x0019 => "secp521r1",
        0x001d => "X25519",
        0x001e => "X448",
        0x11eb => "secp256r1MLKEM768",
        0x11ec => "X25519MLKEM768",
        0x11ed => "secp384r1MLKEM1024",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello(legacy: u16, extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = [&legacy.to_be_bytes()[..], &[7; 32], &[0, 0x13, 0x01, 0]].concat();
        if !extensions.is_empty() {
            let mut all = Vec::new();
            for (kind, data) in extensions {
                all.extend_from_slice(&kind.to_be_bytes());
                all.extend_from_slice(&(data.len() as u16).to_be_bytes());
                all.extend_from_slice(data);
            }
            body.extend_from_slice(&(all.len() as u16).to_be_bytes());
            body.extend_from_slice(&all);
        }
        [&[SERVER_HELLO, 0, 0, body.len() as u8][..], &body].concat()
    }

    fn wire(message: &[u8], size: usize) -> Vec<u8> {
        let cut = |piece: &[u8]| [&[HANDSHAKE, 3, 3, 0, piece.len() as u8][..], piece].concat();
        message.chunks(size).flat_map(cut).collect()
    }

    #[test]
    fn a_server_is_named_by_what_it_chose() {
        let modern = hello(0x0303, &[(43, &[3, 4]), (51, &[0x11, 0xec, 0, 1, 9])]);
        let want = ServerHello { version: 0x0304, cipher: 0x1301, group: Some(0x11ec), retry: false };
        for size in [1, 2, 5, 200] {
            assert_eq!(read(&wire(&modern, size)), Answer::Hello(want), "records of {size}");
        }
        assert_eq!((want.chose(), want.below_floor()), ("TLSv1.3", false));
        for (legacy, name, below) in
            [(0x0303, "TLSv1.2", false), (0x0302, "TLSv1.1", true), (0x0300, "SSLv3", true)]
        {
            let Answer::Hello(found) = read(&wire(&hello(legacy, &[]), 200)) else { panic!("{name}") };
            assert_eq!((found.chose(), found.below_floor()), (name, below));
        }
        // A lie in either field lifts nobody: the one that counts is held to the floor.
        let Answer::Hello(low) = read(&wire(&hello(0x0303, &[(43, &[3, 2])]), 200)) else { panic!() };
        assert!(low.below_floor());
        let mut retry = hello(0x0303, &[(43, &[3, 4]), (51, &[0, 0x1d])]);
        retry[6..10].copy_from_slice(&RETRY);
        assert!(matches!(read(&wire(&retry, 200)), Answer::Hello(ServerHello { retry: true, .. })));
    }

    #[test]
    fn each_prefix_asks_for_more_and_never_for_too_many() {
        let message = hello(0x0303, &[(43, &[3, 4])]);
        for size in [1, 7, 200] {
            let wire = wire(&message, size);
            for cut in 0..wire.len() {
                match read(&wire[..cut]) {
                    Answer::NeedMore { at_least } => assert!(at_least > cut && at_least <= wire.len()),
                    other => panic!("cut {cut} of records of {size}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn alerts_old_forms_and_strangers_are_told_apart() {
        let alert = [21, 3, 1, 0, 2, 2, 70];
        assert_eq!(read(&alert), Answer::Alert { record: 0x0301, description: 70 });
        assert_eq!(read(&alert[..6]), Answer::NeedMore { at_least: 7 });
        assert_eq!(read(&[0x80, 20, 4, 0, 1, 0, 2, 0, 0]), Answer::Sslv2);
        assert_eq!(read(b"HTTP/1.1 400 Bad Request"), Answer::NotTls);
        assert_eq!(read(b"SSH-2.0-x"), Answer::NotTls);
        // Found by fuzzing: a record that is too long is malformed before what is in it is looked at.
        let long = [22, 3, 43, 128, 20, 42];
        assert_eq!(read(&long), Answer::Malformed("record length"));
        assert_eq!(read(&long[..5]), Answer::Malformed("record length"));
        let twice = hello(0x0303, &[(43, &[3, 4]), (43, &[3, 4])]);
        assert_eq!(read(&wire(&twice, 200)), Answer::Malformed("extension stands twice"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let whole = read(&bytes);
            if let Answer::NeedMore { at_least } = whole {
                prop_assert!(at_least > bytes.len());
            }
            let part = read(&bytes[..cut.min(bytes.len())]);
            let undecided = matches!(part, Answer::NeedMore { .. });
            prop_assert!(undecided || part == whole, "{:?} of {:?}", part, whole);
        }
    }
}
