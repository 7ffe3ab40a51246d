//! SigV4 vectors: AWS's own suite, the documentation's examples, real botocore requests, and what must be refused.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

#[path = "sigv4/chunk_signer.rs"]
mod chunk_signer;
#[path = "sigv4/chunks.rs"]
mod chunks;
#[path = "sigv4/crt.rs"]
mod crt;
#[path = "sigv4/cves.rs"]
mod cves;
#[path = "sigv4/events.rs"]
mod events;
#[path = "sigv4/explain.rs"]
mod explain;
#[path = "sigv4/message.rs"]
mod message;
#[path = "sigv4/mutations.rs"]
mod mutations;
#[path = "sigv4/negative.rs"]
mod negative;
#[path = "sigv4/post.rs"]
mod post;
#[path = "sigv4/presigned.rs"]
mod presigned;
#[path = "sigv4/rechain.rs"]
mod rechain;
#[path = "sigv4/requests.rs"]
mod requests;
#[path = "sigv4/resign.rs"]
mod resign;
#[path = "sigv4/rules.rs"]
mod rules;
#[path = "sigv4/signer.rs"]
mod signer;
#[path = "sigv4/suite.rs"]
mod suite;
#[path = "sigv4/v4a.rs"]
mod v4a;
