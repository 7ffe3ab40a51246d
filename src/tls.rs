//! TLS on both legs: one provider, the two versions above the floor, and the words both handshakes report in.
//!
//! `tls/mint.rs` is the local CA, `tls/handshake.rs` the client's leg, `tls/origin.rs` the upstream one with its
//! verifier. Nothing here decides: facts and typed errors go to `proxy`, which refuses and records.

mod chain;
pub mod handshake;
pub mod mint;
mod options;
pub mod origin;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CommonState, ProtocolVersion, SupportedProtocolVersion};

use crate::engine::facts::{Certificate, Name, Timestamp, TlsFacts, TlsVersion};

/// `now`, handed in so that tests decide what time it is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The floor, as rustls spells it. There is no longer list.
const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const ONLY_TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What a leg offers to speak above TLS (ALPN, RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Offer {
    #[default]
    Http1,
    /// HTTP/2 first, as servers have it.
    Both,
}

pub const H2: &[u8] = b"h2";
pub const HTTP_1_1: &[u8] = b"http/1.1";

impl Offer {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![HTTP_1_1.to_vec()],
            Self::Both => vec![H2.to_vec(), HTTP_1_1.to_vec()],
        }
    }
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// aws-lc, named: never rustls' process default, which panics when a second provider gets linked (P2).
pub fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// A config that leaves FIPS, in a build that is to keep to it.
fn leaves_fips(config_is_fips: bool) -> bool {
    cfg!(feature = "fips") && !config_is_fips
}

/// The machine's clock.
pub fn system_clock() -> Clock {
    Arc::new(now)
}

/// What the machine's clock says.
pub fn now() -> Timestamp {
    // Before 1970 nothing is valid: a clock that broken must not pass a check by accident.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// A chain in DER, leaf first, as records tell of it.
pub fn told(chain: &[Vec<u8>]) -> Arc<[Certificate]> {
    let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(&der[..])).collect();
    chain::told(&chain)
}

/// What was negotiated, and the chain that the peer showed. `None` before the handshake is done, or for a version that no config of ours offers.
fn facts(state: &CommonState, sni: Option<Name>) -> Option<TlsFacts> {
    Some(TlsFacts {
        version: match state.protocol_version()? {
            ProtocolVersion::TLSv1_3 => TlsVersion::Tls13,
            ProtocolVersion::TLSv1_2 => TlsVersion::Tls12,
            _ => return None,
        },
        cipher: state.negotiated_cipher_suite()?.suite().as_str().unwrap_or("unknown"),
        group: state.negotiated_key_exchange_group().and_then(|group| group.name().as_str()),
        alpn: state.alpn_protocol().and_then(|alpn| std::str::from_utf8(alpn).ok()).map(Name::from),
        sni,
        chain: chain::told(state.peer_certificates().unwrap_or_default()),
    })
}

/// The rustls error inside a handshake's I/O error, where it is one.
fn rustls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// IANA's name of an alert: label and record value.
pub fn alert_name(alert: AlertDescription) -> &'static str {
    match u8::from(alert) {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        121 => "ech_required",
        _ => "other_alert",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In one build all of it is true, in the other nothing is.
    #[test]
    fn the_build_for_fips_is_in_fips_mode_on_both_legs_and_offers_nothing_else() {
        let fips = cfg!(feature = "fips");
        assert_eq!(aws_lc_rs::try_fips_mode().is_ok(), fips);
        let provider = provider();
        assert_eq!(provider.fips(), fips);
        let name =
            |number: u16| provider.cipher_suites.iter().any(|suite| u16::from(suite.suite()) == number);
        assert!(name(0x1301) && name(0xc02b));
        assert_eq!([name(0x1303), name(0xcca8), name(0xcca9)], [!fips; 3]);
        let groups: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups[0], rustls::NamedGroup::X25519MLKEM768);
        assert_eq!(groups.contains(&rustls::NamedGroup::X25519), !fips);
    }

    #[test]
    fn a_config_outside_fips_is_refused_by_the_build_that_keeps_to_it() {
        let outside = crate::config::LegOptions { groups: Some(vec![0x001d]), ..Default::default() };
        let made = mint::Mint::in_memory(system_clock()).unwrap().with_options(&outside);
        assert_eq!(matches!(made, Err(mint::MintError::NotFips)), cfg!(feature = "fips"));
        let inside = crate::config::LegOptions { groups: Some(vec![0x0017]), ..Default::default() };
        assert!(mint::Mint::in_memory(system_clock()).unwrap().with_options(&inside).is_ok());
    }
}
