//! Certificates made in the test, and TLS on both of its ends.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A root of the test's own, and leaves under it.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "wire test root");
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server that answers as any of `names`.
    pub fn acceptor(&self, names: &[&str]) -> TlsAcceptor {
        self.acceptor_with(names, provider())
    }

    /// The same, with the suites and groups of `provider`.
    pub fn acceptor_with(
        &self,
        names: &[&str],
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> TlsAcceptor {
        TlsAcceptor::from(Arc::new(self.server(names, provider)))
    }

    /// The same, that offers `protocols` in ALPN.
    pub fn acceptor_offering(&self, names: &[&str], protocols: &[&str]) -> TlsAcceptor {
        let mut config = self.server(names, provider());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    fn server(&self, names: &[&str], provider: Arc<rustls::crypto::CryptoProvider>) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let chain = vec![leaf.der().clone(), self.issuer.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.send_half_rtt_data = true;
        config
    }
}

pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

pub type ClientTls = tokio_rustls::client::TlsStream<TcpStream>;

/// Shakes hands as a client that trusts `ca_pem` alone.
pub async fn connect(socket: TcpStream, name: &str, ca_pem: &str) -> std::io::Result<ClientTls> {
    connect_offering(socket, name, ca_pem, &[]).await
}

/// The same, with `protocols` in ALPN.
pub async fn connect_offering(
    socket: TcpStream,
    name: &str,
    ca_pem: &str,
    protocols: &[&str],
) -> std::io::Result<ClientTls> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(client(ca_pem, protocols))).connect(name, socket).await
}

/// A client of many connections, which resumes.
pub fn connector(ca_pem: &str) -> TlsConnector {
    TlsConnector::from(Arc::new(client(ca_pem, &[])))
}

fn client(ca_pem: &str, protocols: &[&str]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// SHA-256 of the leaf that a client was shown, in hex.
pub fn presented(client: &ClientTls) -> String {
    let leaf = &client.get_ref().1.peer_certificates().unwrap()[0];
    exeat::engine::hex::text(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf).as_ref())
}
