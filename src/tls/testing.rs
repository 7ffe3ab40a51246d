//! Certificates, clients and origins made in the test, for the handshakes of both legs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::Clock;
use crate::engine::facts::Timestamp;

pub(crate) type Params = CertificateParams;

/// A certificate with its key, able to sign others whether or not it may.
pub(crate) struct Signed {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
    params: Params,
}

pub(crate) fn name(text: &str) -> Params {
    let mut params = Params::new(vec![text.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, text);
    params
}

pub(crate) fn ca(text: &str) -> Params {
    let mut params = Params::default();
    params.distinguished_name.push(DnType::CommonName, text);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// Days from now.
pub(crate) fn valid(mut params: Params, from: i64, to: i64) -> Params {
    params.not_before = OffsetDateTime::now_utc() + time::Duration::days(from);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::days(to);
    params
}

pub(crate) fn self_signed(params: Params) -> Signed {
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    Signed { der: cert.der().clone(), pem: cert.pem(), key, params }
}

impl Signed {
    pub(crate) fn sign(&self, params: Params) -> Signed {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        Signed { der: cert.der().clone(), pem: cert.pem(), key, params }
    }

    pub(crate) fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }
}

pub(crate) const BOTH: &[&SupportedProtocolVersion] = super::VERSIONS;
pub(crate) const ONLY_12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(crate) const ONLY_13: &[&SupportedProtocolVersion] = super::ONLY_TLS13;

/// An ordinary client that trusts what `pem` holds.
pub(crate) fn client(pem: &str, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(cert.unwrap()).unwrap();
    }
    ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// An origin that presents `chain`, leaf first.
pub(crate) fn server(chain: &[&Signed], versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let certs = chain.iter().map(|cert| cert.der.clone()).collect();
    let config = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certs, chain[0].private_key())
        .unwrap();
    Arc::new(config)
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// For what must end at its deadline.
pub(crate) fn shortly() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

/// A clock that the test turns.
pub(crate) fn settable(start: u64) -> (Arc<AtomicU64>, Clock) {
    let now = Arc::new(AtomicU64::new(start));
    let read = now.clone();
    (now, Arc::new(move || Timestamp(i64::try_from(read.load(Ordering::Relaxed)).unwrap())))
}

/// A folder of its own, gone when dropped.
pub(crate) struct Folder(pub(crate) std::path::PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("exeat-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
