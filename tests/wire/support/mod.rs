//! What the wire tests share: a strict recorder of an origin, scripted peers, and the case files.

pub mod aws;
pub mod cases;
#[path = "../../sigv4/chunk_signer.rs"]
pub mod chunk_signer;
pub mod origin;
pub mod proxy;
pub mod relay;
pub mod sign;
pub mod tls;
