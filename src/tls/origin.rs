//! The upstream leg: speaks TLS to origins, checks who they are, and names what was wrong with them.
//!
//! `proxy/forward.rs` dials an address that was judged, then calls [`OriginTls::connect`]; nothing of a request is
//! written before it has answered. `tls/origin/trust.rs` holds the roots and the verifier.

mod client_auth;
mod trust;
mod witness;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as Rustls, PeerIncompatible, PeerMisbehaved,
    ProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Offer, options};
use crate::config::{OriginOptions, Pattern};
use crate::engine::facts::{Certificate, Shown, TlsFacts};
use crate::engine::hello;
use crate::engine::hello::server::{self, ServerFirst, Versions};
use crate::engine::reason::Reason;
use crate::engine::target::Host;

use client_auth::Noticed;
pub use trust::{Anchors, TrustError};
pub use witness::Witness;

/// Origins whose tickets are kept, for each of the two configs.
const SESSIONS: usize = 1024;
/// Names told of a certificate that was for somebody else.
const NAMES_TOLD: usize = 8;
/// The alert (RFC 8446 6).
const PROTOCOL_VERSION: u8 = 70;

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

/// Why there is no TLS with an origin.
#[derive(Debug, thiserror::Error)]
pub enum OriginTlsError {
    /// `offered`: public name of the version it chose, `None` where it only sent an alert.
    #[error("origin speaks {}, below what is demanded", offered.unwrap_or("no TLS version that we do (alert `protocol_version`)"))]
    BelowFloor { offered: Option<&'static str> },
    #[error("origin's certificate was refused: {0}")]
    Certificate(CertificateFault),
    #[error("origin does not speak TLS")]
    NotTls,
    /// It asked for a client certificate, and ended the handshake for want of one.
    #[error("origin wants a client certificate")]
    WantsCertificate,
    #[error("origin ended the handshake with alert `{0}`")]
    Alert(&'static str),
    #[error("origin closed the connection during the handshake")]
    Closed,
    #[error("origin's handshake took longer than its time limit")]
    Timeout,
    #[error("`{0}` cannot be asked for in TLS")]
    Name(Host),
    #[error("origin's handshake failed: {0}")]
    Other(&'static str),
}

/// A handshake with an origin that came to nothing, and what the origin showed in it.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}", self.refused().map(named).unwrap_or_default())]
pub struct Unshaken {
    pub error: OriginTlsError,
    /// Boxed: it rides along in results that are good as a rule.
    pub shown: Box<Shown>,
}

/// What is wrong with a certificate or its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFault {
    Expired,
    NotYetValid,
    /// No chain to a root we trust.
    UnknownIssuer,
    /// One exists, through an issuer that may not sign certificates.
    UnfitIssuer,
    SelfSigned,
    /// One exists, to a root that has ended.
    ExpiredRoot,
    /// The names it is for, at most eight.
    NameMismatch {
        presented: Vec<String>,
    },
    Revoked,
    /// Signature or key of a kind that is no longer believed.
    Weak,
    /// Its key is not one of those that the settings pin.
    Pin,
    Other(&'static str),
}

impl CertificateFault {
    /// Closed label for records and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::UnfitIssuer => "unfit_issuer",
            Self::SelfSigned => "self_signed",
            Self::ExpiredRoot => "expired_root",
            Self::NameMismatch { .. } => "name_mismatch",
            Self::Revoked => "revoked",
            Self::Weak => "weak",
            Self::Pin => "pin",
            Self::Other(what) => what,
        }
    }
}

impl std::fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())?;
        if let Self::NameMismatch { presented } = self {
            write!(f, ", it is for `{}`", presented.join("`, `"))?;
        }
        Ok(())
    }
}

impl OriginTlsError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::BelowFloor { .. } => Reason::UpstreamBelowFloor,
            Self::Certificate(_) => Reason::UpstreamCertificate,
            Self::NotTls => Reason::UpstreamNotTls,
            Self::WantsCertificate => Reason::UpstreamClientCertificate,
            Self::Alert(_) | Self::Name(_) | Self::Other(_) => Reason::UpstreamTls,
            Self::Closed => Reason::UpstreamClosed,
            Self::Timeout => Reason::UpstreamTimeout,
        }
    }
}

impl Unshaken {
    pub fn reason(&self) -> Reason {
        self.error.reason()
    }

    /// The leaf that was not believed.
    fn refused(&self) -> Option<&Certificate> {
        self.shown.chain.first().filter(|_| matches!(self.error, OriginTlsError::Certificate(_)))
    }
}

impl From<OriginTlsError> for Unshaken {
    /// Before the origin showed anything.
    fn from(error: OriginTlsError) -> Self {
        Self { error, shown: Box::default() }
    }
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

impl Noticed {
    fn unshaken(self, error: OriginTlsError, first: &[u8]) -> Unshaken {
        let hello = self.hello.map(|hello| hello.shown()).unwrap_or_default();
        let version = hello.version.or_else(|| named_version(first));
        let chain = self.refused.unwrap_or_default();
        Unshaken { error, shown: Box::new(Shown { version, chain, ..hello }) }
    }
}

/// The version below the floor that an origin's first bytes name: a hello that is not whole, or an alert in a record
/// of its best.
fn named_version(first: &[u8]) -> Option<&'static str> {
    match server::first(first) {
        ServerFirst::Chose(version)
        | ServerFirst::Alert { record: version, description: PROTOCOL_VERSION }
            if version < hello::FLOOR =>
        {
            Some(hello::version_name(version))
        }
        _ => None,
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

/// An origin that asked for a certificate tells only after a TLS 1.3 handshake that it wanted one.
pub fn wants_certificate(error: &io::Error) -> bool {
    matches!(super::rustls_error(error), Some(Rustls::AlertReceived(AlertDescription::CertificateRequired)))
}

fn name_failure(error: &io::Error, first: &[u8], offered: Versions, asked: bool) -> OriginTlsError {
    let chose = match server::first(first) {
        // Whatever rustls stumbles over in it first.
        ServerFirst::Chose(version) if version < hello::FLOOR => {
            return OriginTlsError::BelowFloor { offered: Some(hello::version_name(version)) };
        }
        ServerFirst::Chose(version) => Some(hello::version_name(version)),
        ServerFirst::NotTls => return OriginTlsError::NotTls,
        ServerFirst::Alert { record, description: PROTOCOL_VERSION } => {
            Some(hello::server::unnamed(record, offered))
        }
        ServerFirst::Alert { .. } | ServerFirst::NeedMore => None,
    };
    let Some(error) = super::rustls_error(error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                OriginTlsError::Closed
            }
            _ => OriginTlsError::Other("connection lost"),
        };
    };
    match error {
        Rustls::AlertReceived(AlertDescription::ProtocolVersion) => {
            OriginTlsError::BelowFloor { offered: chose }
        }
        Rustls::AlertReceived(AlertDescription::CertificateRequired) => OriginTlsError::WantsCertificate,
        // TLS 1.2 has no alert of its own for it.
        Rustls::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::BadCertificate)
            if asked =>
        {
            OriginTlsError::WantsCertificate
        }
        Rustls::AlertReceived(alert) => OriginTlsError::Alert(super::alert_name(*alert)),
        Rustls::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        )
        | Rustls::PeerMisbehaved(PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported) => {
            OriginTlsError::BelowFloor { offered: chose }
        }
        Rustls::InvalidCertificate(fault) => OriginTlsError::Certificate(name_fault(fault)),
        Rustls::NoCertificatesPresented => {
            OriginTlsError::Certificate(CertificateFault::Other("no_certificate"))
        }
        Rustls::PeerIncompatible(_) => OriginTlsError::Other("nothing in common"),
        Rustls::PeerMisbehaved(_) => OriginTlsError::Other("misbehaved"),
        Rustls::InvalidMessage(_) | Rustls::PeerSentOversizedRecord => OriginTlsError::Other("bad message"),
        _ => OriginTlsError::Other("failed"),
    }
}

fn name_fault(fault: &CertificateError) -> CertificateFault {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateFault::NotYetValid
        }
        CertificateError::UnknownIssuer => CertificateFault::UnknownIssuer,
        CertificateError::Other(other) => match other.0.downcast_ref() {
            Some(trust::Unfit::Issuer) => CertificateFault::UnfitIssuer,
            Some(trust::Unfit::SelfSigned) => CertificateFault::SelfSigned,
            Some(trust::Unfit::ExpiredRoot) => CertificateFault::ExpiredRoot,
            Some(trust::Unfit::WeakKey) => CertificateFault::Weak,
            Some(trust::Unfit::Pin) => CertificateFault::Pin,
            None => CertificateFault::Other("invalid"),
        },
        CertificateError::NotValidForName => CertificateFault::NameMismatch { presented: Vec::new() },
        CertificateError::NotValidForNameContext { presented, .. } => CertificateFault::NameMismatch {
            presented: presented.iter().take(NAMES_TOLD).map(|name| plain_name(name)).collect(),
        },
        CertificateError::Revoked => CertificateFault::Revoked,
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => CertificateFault::Weak,
        CertificateError::BadEncoding => CertificateFault::Other("bad_encoding"),
        CertificateError::BadSignature => CertificateFault::Other("bad_signature"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            CertificateFault::Other("wrong_purpose")
        }
        CertificateError::UnhandledCriticalExtension => CertificateFault::Other("critical_extension"),
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => {
            CertificateFault::Other("revocation_unknown")
        }
        _ => CertificateFault::Other("invalid"),
    }
}

/// Whose it is and who signed it: foreign text, cut as records cut it.
fn named(leaf: &Certificate) -> String {
    let plain = |text: &str| -> String {
        text.chars().filter(|c| (' '..='~').contains(c) && *c != '`').take(96).collect()
    };
    let digest = crate::engine::hex::text(&leaf.sha256[..8]);
    match &leaf.named {
        Some(named) => {
            format!("; it is `{}` by `{}`, sha256 {digest}", plain(&named.subject), plain(&named.issuer))
        }
        None => format!("; sha256 {digest}"),
    }
}

/// `DnsName("a.test")` as webpki writes it, without its wrapping; foreign text, so cut to what a name may hold.
fn plain_name(presented: &str) -> String {
    let inner = presented.split('"').nth(1).unwrap_or(presented);
    inner.chars().filter(|c| c.is_ascii_graphic() && *c != '`').take(253).collect()
}

#[cfg(test)]
mod tests;
