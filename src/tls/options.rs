//! What a leg may negotiate, as rustls takes it: out of the provider's own suites and groups, never more.

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;

use crate::config::LegOptions;

/// The provider with the suites and groups of `options`, in their order.
pub(super) fn provider(options: &LegOptions) -> Arc<CryptoProvider> {
    let whole = super::provider();
    if options.ciphers.is_none() && options.groups.is_none() {
        return whole;
    }
    let mut provider = CryptoProvider::clone(&whole);
    if let Some(ciphers) = &options.ciphers {
        let named =
            |number: &u16| whole.cipher_suites.iter().find(|suite| u16::from(suite.suite()) == *number);
        provider.cipher_suites = ciphers.iter().filter_map(named).copied().collect();
    }
    if let Some(groups) = &options.groups {
        let all = rustls::crypto::aws_lc_rs::ALL_KX_GROUPS;
        let named = |number: &u16| all.iter().find(|group| u16::from(group.name()) == *number);
        provider.kx_groups = groups.iter().filter_map(named).copied().collect();
    }
    Arc::new(provider)
}

/// 1.2 and 1.3 where both have a suite to speak.
pub(super) fn versions(options: &LegOptions) -> &'static [&'static SupportedProtocolVersion] {
    const ONLY_TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
    let of_13 = |number: &u16| number >> 8 == 0x13;
    match &options.ciphers {
        _ if options.only_tls13 => super::ONLY_TLS13,
        Some(ciphers) if ciphers.iter().all(of_13) => super::ONLY_TLS13,
        Some(ciphers) if !ciphers.iter().any(of_13) => ONLY_TLS12,
        _ => super::VERSIONS,
    }
}
