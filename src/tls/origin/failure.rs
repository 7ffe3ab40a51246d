//! Why there is no TLS with an origin, told precisely: from what rustls says, and from what the origin showed.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as Rustls, PeerIncompatible, PeerMisbehaved};

use super::client_auth::Noticed;
use super::trust;
use crate::engine::facts::{Certificate, Shown};
use crate::engine::hello;
use crate::engine::hello::server::{self, ServerFirst, Versions};
use crate::engine::reason::Reason;
use crate::engine::target::Host;
use crate::tls::{alert_name, rustls_error};

/// Names told of a certificate that was for somebody else.
const NAMES_TOLD: usize = 8;
/// The alert (RFC 8446 6).
const PROTOCOL_VERSION: u8 = 70;

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

impl Noticed {
    pub(super) fn unshaken(self, error: OriginTlsError, first: &[u8]) -> Unshaken {
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

/// An origin that asked for a certificate tells only after a TLS 1.3 handshake that it wanted one.
pub fn wants_certificate(error: &io::Error) -> bool {
    matches!(rustls_error(error), Some(Rustls::AlertReceived(AlertDescription::CertificateRequired)))
}

pub(super) fn name_failure(
    error: &io::Error,
    first: &[u8],
    offered: Versions,
    asked: bool,
) -> OriginTlsError {
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
    let Some(error) = rustls_error(error) else {
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
        Rustls::AlertReceived(alert) => OriginTlsError::Alert(alert_name(*alert)),
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

pub(super) fn name_fault(fault: &CertificateError) -> CertificateFault {
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
pub(super) fn plain_name(presented: &str) -> String {
    let inner = presented.split('"').nth(1).unwrap_or(presented);
    inner.chars().filter(|c| c.is_ascii_graphic() && *c != '`').take(253).collect()
}
