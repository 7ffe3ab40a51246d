//! Notices that an origin asked for a client certificate: TLS 1.2 origins then fail with an alert that says nothing.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

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

/// Runs a handshake, and tells beside its outcome whether the origin asked for a certificate in it.
pub(super) async fn noticing<F: Future>(handshake: F) -> (F::Output, bool) {
    let mut handshake = pin!(handshake);
    let mut asked = false;
    poll_fn(|cx| {
        ASKED.set(false);
        let polled = handshake.as_mut().poll(cx);
        asked |= ASKED.replace(false);
        polled.map(|output| (output, asked))
    })
    .await
}
