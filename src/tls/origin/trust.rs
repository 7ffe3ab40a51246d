//! Whom we believe upstream: the anchors, and the verifier that refuses what webpki alone lets pass.
//!
//! webpki never looks at an anchor's dates and takes an issuer whose keyUsage forbids signing certificates
//! (tests/vectors/tls/README.md). Anchors are therefore dropped when they end, intermediates that may not
//! sign are taken out of the chain before webpki sees it, and a leaf that claims to sign certificates is refused.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, TrustAnchor, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::oid_registry::OID_X509_EXT_CRL_NUMBER;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::engine::facts::Certificate;

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
    #[error("`{}` holds no certificate revocation list that can be used", path.display())]
    Crl { path: PathBuf },
    #[error("the local CA is never believed upstream: take it out of the upstream CA files")]
    OwnCa,
    #[error("this build keeps to FIPS 140-3, and the origins' leg would not")]
    NotFips,
    #[error("TLS cannot be set up")]
    Tls(#[from] Error),
}

/// Root certificates, each with its end where it came as a certificate (the baked ones come without dates); and what
/// was revoked under them.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    list: Vec<Anchor>,
    crls: Vec<CertificateRevocationListDer<'static>>,
    /// SHA-256 of the public keys that a leaf may have; empty: any.
    pins: Vec<[u8; 32]>,
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
        Self { list, ..Self::default() }
    }

    /// The machine's store. What of it doesn't parse is left out, as everybody does; nothing at all is an error.
    pub fn system() -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "part of the system's certificate store cannot be read");
        }
        let list: Vec<Anchor> = found.certs.iter().filter_map(|der| anchor(der, false).ok()).collect();
        if list.is_empty() { Err(TrustError::NoSystemRoots) } else { Ok(Self { list, ..Self::default() }) }
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

    /// A revocation list, PEM or DER. It speaks for its issuer's certificates: they are refused where it names them, and
    /// where it is out of date.
    pub fn add_crl_file(&mut self, path: &Path) -> Result<(), TrustError> {
        let bytes = std::fs::read(path).map_err(|source| TrustError::Read { path: path.into(), source })?;
        let pem: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        let found = match pem {
            Ok(found) if !found.is_empty() => found,
            _ => vec![CertificateRevocationListDer::from(bytes)],
        };
        for der in found {
            self.add_crl(der).map_err(|_| TrustError::Crl { path: path.into() })?;
        }
        Ok(())
    }

    /// One revocation list; `Err` where it can't be read.
    pub fn add_crl(&mut self, der: CertificateRevocationListDer<'static>) -> Result<(), &'static str> {
        // RFC 5280 5.2.3: it carries its number, and not critically. webpki asks for neither (x509-limbo).
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_| "not a revocation list")?;
        let number = list.extensions().iter().find(|extension| extension.oid == OID_X509_EXT_CRL_NUMBER);
        if number.is_none_or(|number| number.critical) {
            return Err("a revocation list without its number");
        }
        // The other check that can be made of a list by itself: a verifier with it can be built.
        let baked = Self::baked().list;
        Current::at(&baked, std::slice::from_ref(&der), 0).map_err(|_| "not a revocation list")?;
        self.crls.push(der);
        Ok(())
    }

    /// Only leaves with one of these keys (SHA-256 of their SPKI) are believed from here on. The leaf alone is asked:
    /// what else is sent along need not belong to its chain.
    pub fn pin(&mut self, pins: &[[u8; 32]]) {
        self.pins.extend_from_slice(pins);
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

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
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

/// What webpki would call an unknown issuer or a bad signature, or let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// A chain exists, but only through an issuer that may not sign certificates.
    #[error("an issuer in the chain may not sign certificates")]
    Issuer,
    #[error("the certificate is signed by itself")]
    SelfSigned,
    /// A chain exists to a root that has ended.
    #[error("the root of the chain has expired")]
    ExpiredRoot,
    #[error("a key in the chain is too short")]
    WeakKey,
    #[error("the certificate's key is not one of those that are pinned")]
    Pin,
}

impl From<Unfit> for Error {
    fn from(unfit: Unfit) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(unfit))))
    }
}

/// webpki's verifier over the anchors that are still valid, behind the checks it lacks.
#[derive(Debug)]
pub(super) struct Verifier {
    anchors: Anchors,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    /// `None`: every anchor has ended.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    /// The next anchor's end.
    until: u64,
}

/// What is asked of a verifier.
#[derive(Clone, Copy)]
struct Presented<'a> {
    leaf: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    name: &'a ServerName<'a>,
    ocsp: &'a [u8],
    now: UnixTime,
}

impl Verifier {
    pub(super) fn new(anchors: Anchors) -> Result<Arc<Self>, TrustError> {
        let current = ArcSwap::from_pointee(Current::at(&anchors.list, &anchors.crls, 0)?);
        Ok(Arc::new(Self { anchors, current }))
    }

    fn webpki(&self, now: u64) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let mut current = self.current.load_full();
        if now > current.until {
            current = Arc::new(self.at(now)?);
            self.current.store(current.clone());
        }
        current.webpki.clone().ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn at(&self, now: u64) -> Result<Current, Error> {
        Current::at(&self.anchors.list, &self.anchors.crls, now)
            .map_err(|error| Error::General(error.to_string()))
    }

    /// The chain, without intermediates that may not sign; then the leaf.
    fn judge(&self, presented: Presented<'_>) -> Result<(), Error> {
        let webpki = self.webpki(presented.now.as_secs())?;
        let is_fit =
            |der: &CertificateDer<'_>| X509Certificate::from_der(der).is_ok_and(|(_, cert)| may_sign(&cert));
        if presented.intermediates.iter().all(is_fit) {
            presented.to(&webpki)?;
        } else {
            let fit: Vec<_> = presented.intermediates.iter().filter(|der| is_fit(der)).cloned().collect();
            Presented { intermediates: &fit, ..presented }.to(&webpki).map_err(|error| match error {
                Error::InvalidCertificate(CertificateError::UnknownIssuer) => Unfit::Issuer.into(),
                other => other,
            })?;
        }
        let (_, leaf) = X509Certificate::from_der(presented.leaf)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        // RFC 5280 §4.2.1.9: who isn't a CA must not claim to sign certificates (x509-limbo, leaf-ku-keycertsign).
        let claims = match leaf.key_usage() {
            Ok(usage) => usage.is_some_and(|usage| usage.value.key_cert_sign()),
            Err(_) => return Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        };
        if claims && !leaf.is_ca() {
            return Err(Error::InvalidCertificate(CertificateError::InvalidPurpose));
        }
        if is_weak(&leaf) {
            return Err(Unfit::WeakKey.into());
        }
        let pins = &self.anchors.pins;
        let key = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf.public_key().raw);
        if pins.is_empty() || pins.iter().any(|pin| pin == key.as_ref()) {
            Ok(())
        } else {
            Err(Unfit::Pin.into())
        }
    }

    /// The more telling name of a fault. It was refused already: nothing here can make it pass.
    fn say_more(&self, presented: Presented<'_>, error: Error) -> Error {
        let chain = || std::iter::once(presented.leaf).chain(presented.intermediates);
        let certificates = || chain().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1));
        match &error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                let with_ended = Current::at(&self.anchors.list, &[], 0).ok().and_then(|all| all.webpki);
                if with_ended.is_some_and(|webpki| presented.to(&webpki).is_ok()) {
                    return Unfit::ExpiredRoot.into();
                }
                match X509Certificate::from_der(presented.leaf) {
                    Ok((_, leaf)) if leaf.issuer().as_raw() == leaf.subject().as_raw() => {
                        Unfit::SelfSigned.into()
                    }
                    _ => error,
                }
            }
            Error::InvalidCertificate(CertificateError::BadSignature)
                if certificates().any(|c| is_weak(&c)) =>
            {
                Unfit::WeakKey.into()
            }
            _ => error,
        }
    }
}

impl Presented<'_> {
    fn to(&self, webpki: &WebPkiServerVerifier) -> Result<(), Error> {
        let Self { leaf, intermediates, name, ocsp, now } = *self;
        webpki.verify_server_cert(leaf, intermediates, name, ocsp, now).map(|_| ())
    }
}

/// RSA below 2,048 bits: nobody issues it, and nothing of ours would verify it.
fn is_weak(cert: &X509Certificate<'_>) -> bool {
    matches!(cert.public_key().parsed(), Ok(PublicKey::RSA(key)) if key.key_size() < 2048)
}

impl Current {
    fn at(
        anchors: &[Anchor],
        crls: &[CertificateRevocationListDer<'static>],
        now: u64,
    ) -> Result<Self, TrustError> {
        let ends = |anchor: &Anchor| anchor.until.unwrap_or(u64::MAX);
        let valid = || anchors.iter().filter(|anchor| ends(anchor) >= now);
        let until = valid().map(ends).min().unwrap_or(u64::MAX);
        let store = RootCertStore { roots: valid().map(|anchor| anchor.trusted.clone()).collect() };
        if store.is_empty() {
            return Ok(Self { webpki: None, until });
        }
        let mut builder = WebPkiServerVerifier::builder_with_provider(store.into(), super::super::provider());
        if !crls.is_empty() {
            // A list speaks for its issuer: an issuer without one is not asked, a list past its end refuses.
            builder = builder
                .with_crls(crls.iter().cloned())
                .allow_unknown_revocation_status()
                .enforce_revocation_expiration();
        }
        let webpki = builder.build().map_err(|_| TrustError::Empty)?;
        Ok(Self { webpki: Some(webpki), until })
    }
}

thread_local! {
    /// The chain that was refused last, for who polls the handshake: rustls keeps it to itself.
    pub(super) static REFUSED: Cell<Option<Arc<[Certificate]>>> = const { Cell::new(None) };
}

fn note_refused<'a>(chain: impl Iterator<Item = &'a CertificateDer<'a>>) {
    REFUSED.set(Some(super::super::chain::told(chain)));
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = Presented { leaf, intermediates, name, ocsp, now };
        self.judge(presented).map_err(|error| {
            note_refused(std::iter::once(leaf).chain(intermediates));
            self.say_more(presented, error)
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = super::super::provider().signature_verification_algorithms;
        // Whoever shows a certificate without having its key.
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
            .inspect_err(|_| note_refused(std::iter::once(cert)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = super::super::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
            .inspect_err(|_| note_refused(std::iter::once(cert)))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        super::super::provider().signature_verification_algorithms.supported_schemes()
    }
}
