//! The peer of `benches/figures`: hudsucker as a bare intercepting proxy. No policy, no signature check, no record.
//!
//! `peer LISTEN CA_CERT CA_KEY UPSTREAM_CA DIAL [h2]`: intercepts every CONNECT with leaves of the CA, trusts only
//! UPSTREAM_CA, and dials DIAL whatever name is asked for, as exeat's `--connect-to '*:443=DIAL'` does: both
//! programs are sent the same bytes. Says `listening on ADDR` on stderr, as exeat does. One thread.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hudsucker::certificate_authority::RcgenAuthority;
use hudsucker::rcgen::{Issuer, KeyPair};
use hudsucker::rustls::pki_types::{CertificateDer, pem::PemObject};
use hudsucker::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use hudsucker::{HttpHandler, Proxy, hyper::Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Intercepts everything and changes nothing.
#[derive(Clone)]
struct Bare;
impl HttpHandler for Bare {}

/// Dials one address whatever is asked for.
#[derive(Clone)]
struct Always(SocketAddr);

impl tower_service::Service<Uri> for Always {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

async fn serve(listen: &str, ca: &str, key: &str, upstream: &str, dial: &str, http2: bool) -> Outcome<()> {
    let key = KeyPair::from_pem(&std::fs::read_to_string(key)?)?;
    let issuer = Issuer::from_ca_cert_pem(&std::fs::read_to_string(ca)?, key)?;
    let mint = RcgenAuthority::new(issuer, 1000, aws_lc_rs::default_provider());

    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(upstream)? {
        roots.add(root?)?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1();
    let dial = Always(dial.parse()?);
    let https = if http2 { https.enable_http2().wrap_connector(dial) } else { https.wrap_connector(dial) };

    let listener = tokio::net::TcpListener::bind(listen).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    Proxy::builder()
        .with_listener(listener)
        .with_ca(mint)
        .with_http_connector(https)
        .with_http_handler(Bare)
        .build()?
        .start()
        .await?;
    Ok(())
}

fn main() -> Outcome<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [listen, ca, key, upstream, dial, version @ ..] = given.as_slice() else {
        return Err("usage: peer LISTEN CA_CERT CA_KEY UPSTREAM_CA DIAL [h2]".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(listen, ca, key, upstream, dial, !version.is_empty()))
}
