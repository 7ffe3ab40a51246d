//! The policy as a request meets it: through `engine::judge`, signed where a signature matters.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

#[path = "policy/cases.rs"]
mod cases;
#[path = "sigv4/message.rs"]
#[allow(dead_code)] // the rest of it serves tests/sigv4.rs
mod message;
#[path = "policy/order.rs"]
mod order;
#[path = "policy/program.rs"]
mod program;
#[path = "sigv4/signer.rs"]
#[allow(dead_code)]
mod signer;
#[path = "policy/wants.rs"]
mod wants;
#[path = "policy/world.rs"]
mod world;
