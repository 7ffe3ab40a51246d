//! A chain as records tell of it: digests and names, read once a connection.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use crate::engine::facts::{Certificate, Name, Named, Timestamp};

/// A leaf, two above it, and a root that need not be sent; what comes behind them is seldom part of the chain.
const TOLD: usize = 4;
/// Characters kept of a name: a record cuts it shorter still.
const NAME: usize = 256;

/// The first four of a chain, leaf first.
pub(super) fn told<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Arc<[Certificate]> {
    chain.into_iter().take(TOLD).map(certificate).collect()
}

fn certificate(der: &CertificateDer<'_>) -> Certificate {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest(&SHA256, der).as_ref());
    let named = X509Certificate::from_der(der).ok().map(|(_, certificate)| Named {
        subject: name(certificate.subject()),
        issuer: name(certificate.issuer()),
        not_after: Timestamp(certificate.validity().not_after.timestamp()),
    });
    Certificate { sha256, named }
}

/// As RFC 4514 writes a name: its most telling part comes first, so that a cut takes the country.
fn name(name: &X509Name<'_>) -> Name {
    let mut text = String::new();
    let sets: Vec<_> = name.iter_rdn().collect();
    for set in sets.into_iter().rev() {
        for (at, attribute) in set.iter().enumerate() {
            if !text.is_empty() {
                text.push(if at == 0 { ',' } else { '+' });
            }
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(short) => text.push_str(short),
                Err(_) => text.push_str(&attribute.attr_type().to_id_string()),
            }
            text.push('=');
            for c in String::from_utf8_lossy(attribute.attr_value().data).chars() {
                if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
                    text.push('\\');
                }
                text.push(c);
            }
            if text.len() > NAME {
                return text.chars().take(NAME).collect::<String>().into();
            }
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::engine::hex;

    #[test]
    fn four_of_a_chain_are_told_and_what_is_no_certificate_by_its_digest_alone() {
        let pem = include_bytes!("origin/rsa1024.pem");
        let known: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
        let mut chain = vec![known[0].clone(), CertificateDer::from(b"abc".to_vec())];
        chain.extend(vec![known[0].clone(); 9]);
        let told = told(&chain);
        assert_eq!(told.len(), TOLD);
        let named = told[0].named.as_ref().expect("it is a certificate");
        assert!(named.subject.starts_with("CN="), "{}", named.subject);
        assert!(named.not_after.0 > 0);
        assert_eq!(told[1].named, None);
        // FIPS 180-4's own example.
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::text(&told[1].sha256), want);
    }

    #[test]
    fn a_name_begins_with_its_most_telling_part_and_keeps_no_comma_of_its_own() {
        let mut asked = rcgen::DistinguishedName::new();
        asked.push(rcgen::DnType::CountryName, "US");
        asked.push(rcgen::DnType::OrganizationName, "Trust, \"Inc\"");
        asked.push(rcgen::DnType::CommonName, format!("Root {}", "x".repeat(300)));
        let told = |asked: rcgen::DistinguishedName| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = asked;
            let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            certificate(made.der()).named.unwrap().subject
        };
        assert_eq!(told(asked.clone()).len(), NAME);
        asked.push(rcgen::DnType::CommonName, "Root 1");
        assert_eq!(&*told(asked), "CN=Root 1,O=Trust\\, \\\"Inc\\\",C=US");
        assert_eq!(&*told(rcgen::DistinguishedName::new()), "");
    }
}
