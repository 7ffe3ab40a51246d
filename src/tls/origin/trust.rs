//! Whom we believe upstream: the anchors, and the verifier that refuses what webpki alone lets pass.
//!
//! webpki never looks at an anchor's dates and takes an issuer whose keyUsage forbids signing certificates
//! (facts/security.md T, vectors/tls README). Anchors are therefore dropped when they end, intermediates that may not
//! sign are taken out of the chain before webpki sees it, and a leaf that claims to sign certificates is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why the anchors cannot be used. All of them are start-up errors.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{}` holds no certificate in PEM form", path.display())]
    NotPem { path: PathBuf },
    #[error("`{}`: {what}", path.display())]
    Unfit { path: PathBuf, what: &'static str },
    #[error("the system's certificate store is empty or unreadable; use the baked roots, or name a file")]
    NoSystemRoots,
    #[error("no root certificate is left to believe upstream")]
    Empty,
    #[error("the local CA is never believed upstream: take it out of the upstream CA files")]
    OwnCa,
    #[error("TLS cannot be set up")]
    Tls(#[from] Error),
}

/// Root certificates, each with its end where it came as a certificate (the baked ones come without dates).
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    list: Vec<Anchor>,
}

#[derive(Debug, Clone)]
struct Anchor {
    trusted: TrustAnchor<'static>,
    /// Seconds since the epoch; the anchor stands up to and including it.
    until: Option<u64>,
    /// Somebody named its file: it must not vanish silently.
    asked_for: bool,
}

impl Anchors {
    pub fn none() -> Self {
        Self::default()
    }

    /// Mozilla's roots, as compiled in.
    pub fn baked() -> Self {
        let list = webpki_roots::TLS_SERVER_ROOTS
            .iter()
            .map(|root| Anchor { trusted: root.clone(), until: None, asked_for: false })
            .collect();
        Self { list }
    }

    /// The machine's store. What of it doesn't parse is left out, as everybody does; nothing at all is an error.
    pub fn system() -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "part of the system's certificate store cannot be read");
        }
        let list: Vec<Anchor> = found.certs.iter().filter_map(|der| anchor(der, false).ok()).collect();
        if list.is_empty() { Err(TrustError::NoSystemRoots) } else { Ok(Self { list }) }
    }

    /// Every certificate of a PEM file, as an extra root for every host.
    pub fn add_file(&mut self, path: &Path) -> Result<(), TrustError> {
        let pem = std::fs::read(path).map_err(|source| TrustError::Read { path: path.into(), source })?;
        let before = self.list.len();
        for der in CertificateDer::pem_slice_iter(&pem) {
            let der = der.map_err(|_| TrustError::NotPem { path: path.into() })?;
            self.add(&der).map_err(|what| TrustError::Unfit { path: path.into(), what })?;
        }
        if self.list.len() == before { Err(TrustError::NotPem { path: path.into() }) } else { Ok(()) }
    }

    /// One certificate as a root. `Err` says why it cannot be one.
    pub fn add(&mut self, der: &CertificateDer<'_>) -> Result<(), &'static str> {
        self.list.push(anchor(der, true)?);
        Ok(())
    }

    /// The verifier over these anchors: what every upstream handshake asks.
    pub fn into_verifier(self) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
        Ok(Verifier::new(self)?)
    }

    /// Takes our own CA out, by its key. An error where a file asked for it; silent where a system store holds it.
    pub fn without(mut self, own_ca: &CertificateDer<'_>) -> Result<Self, TrustError> {
        let own = anchor(own_ca, true).map_err(|_| TrustError::OwnCa)?.trusted;
        let is_own = |anchor: &Anchor| anchor.trusted.subject_public_key_info == own.subject_public_key_info;
        if self.list.iter().any(|anchor| anchor.asked_for && is_own(anchor)) {
            return Err(TrustError::OwnCa);
        }
        self.list.retain(|anchor| !is_own(anchor));
        Ok(self)
    }
}

fn anchor(der: &CertificateDer<'_>, asked_for: bool) -> Result<Anchor, &'static str> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|_| "not an X.509 certificate")?;
    if !may_sign(&cert) {
        return Err("keyUsage lacks keyCertSign: it cannot be a root");
    }
    let until = u64::try_from(cert.validity().not_after.timestamp()).unwrap_or(0);
    let mut store = RootCertStore::empty();
    store.add(der.clone().into_owned()).map_err(|_| "not usable as a root")?;
    let trusted = store.roots.pop().ok_or("not usable as a root")?;
    Ok(Anchor { trusted, until: Some(until), asked_for })
}

/// RFC 5280 §4.2.1.3: where keyUsage stands, only keyCertSign lets a key verify certificates.
fn may_sign(cert: &X509Certificate<'_>) -> bool {
    match cert.key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Err(_) => false,
    }
}

/// A chain exists, but only through an issuer that may not sign certificates.
#[derive(Debug, thiserror::Error)]
#[error("an issuer in the chain may not sign certificates")]
pub(super) struct UnfitIssuer;

/// webpki's verifier over the anchors that are still valid, behind the checks it lacks.
#[derive(Debug)]
pub(super) struct Verifier {
    anchors: Vec<Anchor>,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    /// `None`: every anchor has ended.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    /// The next anchor's end.
    until: u64,
}

impl Verifier {
    pub(super) fn new(anchors: Anchors) -> Result<Arc<Self>, TrustError> {
        if anchors.list.is_empty() {
            return Err(TrustError::Empty);
        }
        let anchors = anchors.list;
        let current = ArcSwap::from_pointee(Current::at(&anchors, 0)?);
        Ok(Arc::new(Self { anchors, current }))
    }

    fn webpki(&self, now: u64) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let mut current = self.current.load_full();
        if now > current.until {
            current =
                Arc::new(Current::at(&self.anchors, now).map_err(|error| Error::General(error.to_string()))?);
            self.current.store(current.clone());
        }
        current.webpki.clone().ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }
}

impl Current {
    fn at(anchors: &[Anchor], now: u64) -> Result<Self, TrustError> {
        let ends = |anchor: &Anchor| anchor.until.unwrap_or(u64::MAX);
        let valid = || anchors.iter().filter(|anchor| ends(anchor) >= now);
        let until = valid().map(ends).min().unwrap_or(u64::MAX);
        let store = RootCertStore { roots: valid().map(|anchor| anchor.trusted.clone()).collect() };
        if store.is_empty() {
            return Ok(Self { webpki: None, until });
        }
        let webpki = WebPkiServerVerifier::builder_with_provider(store.into(), super::super::provider())
            .build()
            .map_err(|_| TrustError::Empty)?;
        Ok(Self { webpki: Some(webpki), until })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let webpki = self.webpki(now.as_secs())?;
        let is_fit =
            |der: &CertificateDer<'_>| X509Certificate::from_der(der).is_ok_and(|(_, cert)| may_sign(&cert));
        if intermediates.iter().all(is_fit) {
            webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        } else {
            let fit: Vec<_> = intermediates.iter().filter(|der| is_fit(der)).cloned().collect();
            webpki.verify_server_cert(end_entity, &fit, server_name, ocsp_response, now).map_err(
                |error| match error {
                    Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(UnfitIssuer))))
                    }
                    other => other,
                },
            )?;
        }
        let (_, leaf) = X509Certificate::from_der(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        // RFC 5280 §4.2.1.9: who isn't a CA must not claim to sign certificates (x509-limbo, leaf-ku-keycertsign).
        let claims = match leaf.key_usage() {
            Ok(usage) => usage.is_some_and(|usage| usage.value.key_cert_sign()),
            Err(_) => return Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        };
        if claims && !leaf.is_ca() {
            return Err(Error::InvalidCertificate(CertificateError::InvalidPurpose));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = super::super::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = super::super::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        super::super::provider().signature_verification_algorithms.supported_schemes()
    }
}
