//! The composition root: settings in, a running program out.
//!
//! This build has the parts at the edges and no door yet: what a start checks is checked, and then it says so.

use crate::config::{CaSource, Config};
use crate::tls::mint::{Mint, MintError};
use crate::tls::origin::{Anchors, OriginTls, TrustError};

/// Why the program does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("this build has no door to listen on")]
    NoDoor,
}

/// Loads the CA and the upstream roots, then ends: there is nothing to serve.
pub fn run(config: Config) -> Result<(), Error> {
    let Config { ca, upstream_roots, upstream_ca, .. } = config;
    let mint = match &ca {
        CaSource::InMemory => Mint::in_memory(crate::tls::system_clock())?,
        CaSource::Files { cert, key } => Mint::from_files(cert, key, crate::tls::system_clock())?,
    };
    OriginTls::new(Anchors::load(upstream_roots, &upstream_ca)?.without(mint.ca_der())?)?;
    Err(Error::NoDoor)
}
