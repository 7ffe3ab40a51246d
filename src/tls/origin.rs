//! The upstream leg: speaks TLS to origins, checks who they are, and names what was wrong with them.
//!
//! `proxy/forward.rs` dials an address that was judged, then calls [`OriginTls::connect`]; nothing of a request is
//! written before it has answered. `tls/origin/trust.rs` holds the roots and the verifier.

mod client_auth;
mod failure;
mod trust;
mod witness;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Offer, options};
use crate::config::{OriginOptions, Pattern};
use crate::engine::facts::TlsFacts;
use crate::engine::hello::server::Versions;
use crate::engine::target::Host;

use client_auth::Noticed;
use failure::name_failure;
pub use failure::{CertificateFault, OriginTlsError, Unshaken, wants_certificate};
pub use trust::{Anchors, TrustError};
pub use witness::Witness;

/// Origins whose tickets are kept, for each of the two configs.
const SESSIONS: usize = 1024;

/// What origins are asked for, and whom we believe. Made at start and at reload; cheap to clone.
#[derive(Debug, Clone)]
pub struct OriginTls {
    everywhere: Profile,
    /// Of the settings, in their order.
    special: Arc<[(Pattern, Profile)]>,
}

/// What some origins are asked for.
#[derive(Debug, Clone)]
struct Profile {
    floor: Offered,
    /// `None`: the settings leave no suite of TLS 1.3.
    only_tls13: Option<Offered>,
    offers: Versions,
    trust_id: u32,
}

/// The same config for each [`Offer`]: tickets are theirs together.
#[derive(Debug, Clone)]
struct Offered {
    http1: Arc<ClientConfig>,
    both: Arc<ClientConfig>,
}

/// What an obligation of the permit demands beyond the constant floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AtLeast {
    #[default]
    Tls12,
    Tls13,
}

impl OriginTls {
    /// The same for every origin.
    pub fn new(anchors: Anchors) -> Result<Self, TrustError> {
        if anchors.is_empty() {
            return Err(TrustError::Empty);
        }
        Self::with_special(anchors, Arc::default())
    }

    /// With what the settings ask of some origins. `own_ca` is believed nowhere.
    pub fn with_options(
        anchors: Anchors,
        origins: &[(Pattern, OriginOptions)],
        own_ca: &CertificateDer<'_>,
    ) -> Result<Self, TrustError> {
        let mut special = Vec::new();
        for (pattern, options) in origins {
            let mut believed = if options.ca.is_empty() { anchors.clone() } else { Anchors::none() };
            for file in &options.ca {
                believed.add_file(file)?;
            }
            for file in &options.crls {
                believed.add_crl_file(file)?;
            }
            believed.pin(&options.pins);
            let believed = believed.without(own_ca)?;
            if believed.is_empty() {
                return Err(TrustError::Empty);
            }
            special.push((pattern.clone(), Profile::new(believed, options)?));
        }
        let anchors = anchors.without(own_ca)?;
        // Some hosts may be all that is believed: every other one is then of an unknown issuer.
        if anchors.is_empty() && special.is_empty() {
            return Err(TrustError::Empty);
        }
        Self::with_special(anchors, special.into())
    }

    fn with_special(anchors: Anchors, special: Arc<[(Pattern, Profile)]>) -> Result<Self, TrustError> {
        Ok(Self { everywhere: Profile::new(anchors, &OriginOptions::default())?, special })
    }

    /// Part of a pooled connection's key: differs between what is asked of origins, and between what was demanded.
    pub fn trust_id(&self, host: &Host, at_least: AtLeast) -> u32 {
        self.profile(host).trust_id + u32::from(at_least == AtLeast::Tls13)
    }

    fn profile(&self, host: &Host) -> &Profile {
        let found = self.special.iter().find(|(pattern, _)| pattern.matches(host));
        found.map_or(&self.everywhere, |(_, profile)| profile)
    }

    /// Shakes hands with an origin as `host` over a connection that stands. All checks of it are done on return.
    pub async fn connect<S>(
        &self,
        io: S,
        host: &Host,
        at_least: AtLeast,
        offer: Offer,
        deadline: Instant,
    ) -> Result<(TlsStream<Witness<S>>, TlsFacts), Unshaken>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (name, sni) = match host {
            Host::Name(name) => {
                let asked =
                    ServerName::try_from(name.to_string()).map_err(|_| OriginTlsError::Name(host.clone()))?;
                (asked, Some(name.clone()))
            }
            Host::Literal(ip) => (ServerName::from(*ip), None),
        };
        let profile = self.profile(host);
        let config = match at_least {
            AtLeast::Tls12 => &profile.floor,
            AtLeast::Tls13 => match &profile.only_tls13 {
                Some(config) => config,
                None => return Err(OriginTlsError::Other("the settings leave no suite of TLS 1.3").into()),
            },
        };
        let config = match offer {
            Offer::Http1 => &config.http1,
            Offer::Both => &config.both,
        };
        let connecting = TlsConnector::from(config.clone()).connect(name, Witness::new(io)).into_fallible();
        let offered = match at_least {
            AtLeast::Tls12 => profile.offers,
            AtLeast::Tls13 => Versions { tls12: false, ..profile.offers },
        };
        let mut noticed = Noticed::default();
        let shaken = tokio::time::timeout_at(deadline, client_auth::noticing(connecting, &mut noticed)).await;
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, io))) => {
                let error = name_failure(&error, io.first_bytes(), offered, noticed.asked);
                return Err(noticed.unshaken(error, io.first_bytes()));
            }
            Err(_) => return Err(noticed.unshaken(OriginTlsError::Timeout, &[])),
        };
        // INVARIANT: no config speaks anything below 1.2, and the handshake is done.
        let facts =
            super::facts(stream.get_ref().1, sni).ok_or(OriginTlsError::BelowFloor { offered: None })?;
        Ok((stream, facts))
    }
}

impl Profile {
    fn new(anchors: Anchors, asked: &OriginOptions) -> Result<Self, TrustError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let verifier = trust::Verifier::new(anchors)?;
        let client: Arc<dyn ResolvesClientCert> = match &asked.client {
            Some((cert, key)) => client_auth::certificate(cert, key)?,
            None => Arc::new(client_auth::Nothing),
        };
        let config = |versions| -> Result<Offered, TrustError> {
            let mut config = ClientConfig::builder_with_provider(options::provider(&asked.leg))
                .with_protocol_versions(versions)?
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone())
                .with_client_cert_resolver(client.clone());
            config.alpn_protocols = Offer::Http1.protocols();
            config.resumption = if asked.leg.resumption {
                Resumption::in_memory_sessions(SESSIONS)
            } else {
                Resumption::disabled()
            };
            config.enable_early_data = false;
            if super::leaves_fips(config.fips()) {
                return Err(TrustError::NotFips);
            }
            let mut both = config.clone();
            both.alpn_protocols = Offer::Both.protocols();
            Ok(Offered { http1: Arc::new(config), both: Arc::new(both) })
        };
        let versions = options::versions(&asked.leg);
        let has_13 = versions.iter().any(|version| version.version == ProtocolVersion::TLSv1_3);
        let has_12 = versions.iter().any(|version| version.version == ProtocolVersion::TLSv1_2);
        Ok(Self {
            offers: Versions { tls12: has_12, tls13: has_13 },
            floor: config(versions)?,
            only_tls13: has_13.then(|| config(super::ONLY_TLS13)).transpose()?,
            trust_id: NEXT.fetch_add(2, Ordering::Relaxed),
        })
    }
}

impl Anchors {
    /// From the settings: `roots` and every certificate in `files`.
    pub fn load(roots: crate::config::UpstreamRoots, files: &[PathBuf]) -> Result<Self, TrustError> {
        use crate::config::UpstreamRoots;
        let mut anchors = match roots {
            UpstreamRoots::Webpki => Self::baked(),
            UpstreamRoots::System => Self::system()?,
            UpstreamRoots::None => Self::none(),
        };
        for file in files {
            anchors.add_file(file)?;
        }
        Ok(anchors)
    }
}

#[cfg(test)]
mod tests;
