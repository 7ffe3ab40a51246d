//! The trust store that a JVM reads: certificates alone, in PKCS #12 without password (RFC 7292), made without keytool.
//!
//! Java takes a certificate as trusted only with an attribute of its own on it.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTETS: u8 = 0x04;
/// `[0] EXPLICIT`.
const CONTENT: u8 = 0xa0;
const BMP_STRING: u8 = 0x1e;
const OID: u8 = 0x06;

/// 1.2.840.113549.1.7.1
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.12.10.1.3
const CERT_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];
/// 1.2.840.113549.1.9.22.1
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// 1.2.840.113549.1.9.20
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
/// 2.16.840.1.113894.746875.1.1
const TRUSTED_KEY_USAGE: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01];
/// 2.5.29.37.0
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// The store as one DER value.
pub fn pkcs12<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let bags: Vec<Vec<u8>> = certificates.into_iter().enumerate().map(|(n, der)| bag(n, der)).collect();
    let safe = content(&sequence(&bags));
    let authenticated = content(&sequence(&[safe]));
    sequence(&[vec![0x02, 0x01, 0x03], authenticated])
}

fn bag(n: usize, certificate: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = format!("exeat-{n}").encode_utf16().flat_map(u16::to_be_bytes).collect();
    let attribute = |oid: &[u8], value: Vec<u8>| sequence(&[tlv(OID, oid), tlv(SET, &value)]);
    let attributes =
        [attribute(FRIENDLY_NAME, tlv(BMP_STRING, &name)), attribute(TRUSTED_KEY_USAGE, tlv(OID, ANY_USAGE))];
    let certificate = sequence(&[tlv(OID, X509), tlv(CONTENT, &tlv(OCTETS, certificate))]);
    sequence(&[tlv(OID, CERT_BAG), tlv(CONTENT, &certificate), tlv(SET, &attributes.concat())])
}

/// `ContentInfo` of kind data.
fn content(inner: &[u8]) -> Vec<u8> {
    sequence(&[tlv(OID, DATA), tlv(CONTENT, &tlv(OCTETS, inner))])
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = value.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|&&byte| byte == 0).count()..];
    match value.len() {
        short @ 0..0x80 => out.push(short as u8),
        _ => {
            out.push(0x80 | significant.len() as u8);
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_short_as_they_can_be() {
        assert_eq!(tlv(4, &[0; 0x7f])[..2], [4, 0x7f]);
        assert_eq!(tlv(4, &[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(tlv(4, &[0; 0x1234])[..4], [4, 0x82, 0x12, 0x34]);
    }
}
