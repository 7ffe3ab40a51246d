//! What AWS is: which hosts are its services, which operation a request names, which IAM actions that asks for, on what.
//!
//! Comes after the head is read and before anything is verified or decided; its answers are an [`Endpoint`] for a host
//! and a [`Recognition`] for a request. All of it reads one generated file (`tools/atlas/README.md`): an index that is
//! inflated at first use, and chunks, each inflated when its service is first called or its actions are first asked for.
//! **What is unknown stays unknown here**: nothing is guessed into a name that a policy could allow.

mod actions;
mod data;
mod hosts;
mod levels;
mod members;
mod operation;
mod query;
mod rented;
mod resource;
mod rest;
mod s3;
pub(in crate::engine) mod xml;

pub use data::{Atlas, AtlasError};
pub use hosts::{Endpoint, HostKind};
pub use levels::{AccessLevel, ListedAction};
pub use operation::{BodySeen, Recognition};
pub(super) use query::Pairs;
pub use rented::Rented;
