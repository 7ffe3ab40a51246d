//! Client certificates: the one that a host is shown; and where there is none, noticing that one was asked for, since
//! TLS 1.2 origins then fail with an alert that says nothing.

use std::cell::Cell;
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use zeroize::Zeroizing;

use super::{TrustError, trust, witness};
use crate::engine::facts::Certificate;
use crate::engine::hello::server::ServerHello;

thread_local! {
    /// Set while a handshake is polled: rustls asks from inside, and one config serves all connections.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Has no certificate, and notes that one was asked for.
#[derive(Debug)]
pub(super) struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        ASKED.set(true);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// The certificate and key of the settings, shown to any origin of its pattern that asks.
pub(super) fn certificate(cert: &Path, key: &Path) -> Result<Arc<dyn ResolvesClientCert>, TrustError> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|source| TrustError::Read { path: path.into(), source });
    let unfit = |path: &Path, what| TrustError::Unfit { path: path.into(), what };
    let pem = read(cert)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    if chain.is_empty() {
        return Err(TrustError::NotPem { path: cert.into() });
    }
    let pem = Zeroizing::new(read(key)?);
    let der =
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| unfit(key, "holds no private key in PEM form"))?;
    let certified = CertifiedKey::from_der(chain, der, &super::super::provider());
    let certified = certified.map_err(|_| unfit(key, "the key does not belong to the client certificate"))?;
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

/// What rustls tells only from inside a handshake.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    /// The origin asked for a certificate.
    pub asked: bool,
    /// Its hello.
    pub hello: Option<ServerHello>,
    /// The chain that was refused.
    pub refused: Option<Arc<[Certificate]>>,
}

/// Runs a handshake, and notices what goes on in it: also where it is given up.
pub(super) async fn noticing<F: Future>(handshake: F, noticed: &mut Noticed) -> F::Output {
    let mut handshake = pin!(handshake);
    poll_fn(|cx| {
        ASKED.set(false);
        witness::HELLO.take();
        trust::REFUSED.take();
        let polled = handshake.as_mut().poll(cx);
        noticed.asked |= ASKED.replace(false);
        noticed.hello = witness::HELLO.take().or(noticed.hello);
        noticed.refused = trust::REFUSED.take().or(noticed.refused.take());
        polled
    })
    .await
}
