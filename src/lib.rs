//! exeat, Latin "let him go out": a permit to leave. An egress proxy that asks of every request whose account signed
//! it, and lets out what a policy names.
//!
//! ```text
//!            accept        hello, leaf      head             claim      operation    permit       same bytes
//! client ── listener ──▶ connection/tls ──▶ request ──▶ signature ──▶ atlas ──▶ policy ──▶ forward ──▶ origin
//!                                              │                                   │            │
//!                                              └──────────── record: intent, event, metrics ────┘
//! ```
//!
//! Modules in the order in which a request meets them; who may import whom is kept by `tests/layering.rs`.

pub mod cli;
pub mod app;
pub mod config;
pub mod proxy;
pub mod tls;
pub mod keys;
pub mod engine;
pub mod record;
pub mod admin;
