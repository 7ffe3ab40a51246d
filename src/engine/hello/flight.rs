//! What a TLS 1.2 server shows in clear behind its hello: certificates, and the curve of its key exchange (RFC 5246 7.3).
//!
//! For the records of tunnels, which have no TLS of their own. Nothing is judged by it: who is inside a tunnel believes
//! its origin or doesn't. With TLS 1.3 only the client sees them.

use super::HANDSHAKE;
use super::records::Reader;

const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
/// Stands between the two where OCSP is stapled (RFC 6066 8).
const CERTIFICATE_STATUS: u8 = 22;
/// RFC 8422 5.4.
const NAMED_CURVE: u8 = 3;

/// As much as was there; a resumption shows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flight {
    /// DER, leaf first.
    pub certificates: Vec<Vec<u8>>,
    pub group: Option<u16>,
}

/// Reads on from the hello, with which `buf` begins; `None` while more of the flight has to come. Nothing of it waits for
/// the client, so whoever holds it back until then holds up nobody.
pub fn read(buf: &[u8]) -> Option<Flight> {
    let (bytes, has_ended) = payloads(buf);
    let mut flight = Flight::default();
    let mut rest = &bytes[..];
    loop {
        let [kind, a, b, c, tail @ ..] = rest else { return has_ended.then_some(flight) };
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        match (*kind, tail.split_at_checked(length)) {
            (SERVER_KEY_EXCHANGE, _) => {
                match tail {
                    [NAMED_CURVE, high, low, ..] => flight.group = Some(u16::from_be_bytes([*high, *low])),
                    [] | [NAMED_CURVE] | [NAMED_CURVE, _] if !has_ended => return None,
                    _ => {}
                }
                return Some(flight);
            }
            (SERVER_HELLO | CERTIFICATE | CERTIFICATE_STATUS, Some((body, next))) => {
                if *kind == CERTIFICATE {
                    flight.certificates = certificates(body);
                }
                rest = next;
            }
            (SERVER_HELLO | CERTIFICATE | CERTIFICATE_STATUS, None) => return has_ended.then_some(flight),
            _ => return Some(flight),
        }
    }
}

/// What the handshake records hold, up to the first record of another kind; whether there is one.
fn payloads(mut buf: &[u8]) -> (Vec<u8>, bool) {
    let mut bytes = Vec::with_capacity(buf.len());
    loop {
        match buf {
            [HANDSHAKE, _, _, high, low, tail @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                bytes.extend_from_slice(&tail[..length.min(tail.len())]);
                buf = &tail[length.min(tail.len())..];
            }
            [] | [HANDSHAKE, ..] => return (bytes, false),
            _ => return (bytes, true),
        }
    }
}

/// Those that are whole.
fn certificates(body: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut list = Reader(body);
    // The list's own length says no more than the message's.
    if list.take(3).is_ok() {
        while let Ok(certificate) = list.vec24() {
            found.push(certificate.0.to_vec());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 0, 0, body.len() as u8][..], body].concat()
    }

    fn records(messages: &[Vec<u8>], size: usize) -> Vec<u8> {
        let cut = |piece: &[u8]| [&[HANDSHAKE, 3, 3, 0, piece.len() as u8][..], piece].concat();
        messages.concat().chunks(size).flat_map(cut).collect()
    }

    /// Two certificates.
    const LIST: &[u8] = &[0, 0, 9, 0, 0, 2, 7, 7, 0, 0, 1, 8];
    const CCS: &[u8] = &[20, 3, 3, 0, 1, 1];

    #[test]
    fn certificates_and_curve_are_read_whatever_way_they_were_cut() {
        let hello = message(SERVER_HELLO, &[9; 40]);
        let exchange = message(SERVER_KEY_EXCHANGE, &[NAMED_CURVE, 0, 0x17, 1, 4]);
        let plain = [hello.clone(), message(CERTIFICATE, LIST), exchange.clone()];
        let stapled =
            [hello, message(CERTIFICATE, LIST), message(CERTIFICATE_STATUS, &[1, 0, 0, 0]), exchange];
        let want = Flight { certificates: vec![vec![7, 7], vec![8]], group: Some(0x17) };
        for messages in [&plain[..], &stapled[..]] {
            for size in [1, 3, 200] {
                let wire = records(messages, size);
                let least = (0..wire.len()).find(|&cut| read(&wire[..cut]).is_some()).unwrap();
                assert!(least > wire.len() - 20, "the curve comes late");
                for cut in least..=wire.len() {
                    assert_eq!(read(&wire[..cut]).as_ref(), Some(&want), "{cut} in records of {size}");
                }
            }
        }
    }

    #[test]
    fn a_resumption_shows_nothing_and_is_not_waited_for() {
        let hello = records(&[message(SERVER_HELLO, &[9; 40])], 200);
        assert_eq!(read(&hello), None);
        let nothing = Some(Flight::default());
        assert_eq!(read(&[&hello[..], CCS].concat()), nothing);
        let ticket = records(&[message(SERVER_HELLO, &[9; 40]), message(4, &[1; 9])], 200);
        assert_eq!(read(&ticket), nothing);
        // What breaks off in the middle of a message never has an end.
        let broken = records(&[message(CERTIFICATE, LIST)[..9].to_vec()], 200);
        assert_eq!((read(&broken), read(&[&broken[..], CCS].concat())), (None, nothing));
        // Finite-field Diffie-Hellman names no curve.
        let finite = [message(CERTIFICATE, LIST), message(SERVER_KEY_EXCHANGE, &[0, 2, 5, 5])];
        assert_eq!(read(&records(&finite, 200)).unwrap().group, None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let wire = records(&[bytes], 50);
            if let Some(flight) = read(&wire[..cut.min(wire.len())]) {
                prop_assert_eq!(read(&wire), Some(flight));
            }
        }
    }
}
