//! What the wire tests share: a strict recorder of an origin, scripted peers, and the case files.

pub mod aws;
pub mod cases;
#[path = "../../sigv4/chunk_signer.rs"]
pub mod chunk_signer;
pub mod frames;
pub mod legs;
pub mod origin;
#[path = "../../support/program.rs"]
#[allow(dead_code)] // the rest of it serves tests/cli.rs
pub mod program;
pub mod proxy;
pub mod relay;
pub mod sign;
pub mod tls;
pub mod world;
