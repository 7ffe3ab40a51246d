//! How far a request came that got no answer: the leg to its origin, for its record.

use std::sync::Arc;

use super::forward::OriginError;
use super::pool::Upstream;
use crate::record::{self, LegText};

/// A connection that stood, and failed in a request's hands.
#[derive(Debug, Clone)]
pub struct Stood {
    pub upstream: Arc<Upstream>,
    pub reused: bool,
}

pub enum Reached {
    /// An address, and what was shown there.
    Dialled(LegText),
    Stood(Stood),
}

impl Reached {
    pub fn recorded(&self) -> record::Upstream<'_> {
        match self {
            Self::Dialled(leg) => record::Upstream::unanswered(leg, false),
            Self::Stood(Stood { upstream, reused }) => record::Upstream::unanswered(&upstream.leg, *reused),
        }
    }
}

impl OriginError {
    /// `None` where nothing was dialled.
    pub fn reached(&self) -> Option<Reached> {
        match self {
            Self::Connect { address, .. } | Self::ConnectTimeout { address: Some(address), .. } => {
                Some(Reached::Dialled(LegText::dialled_at(*address, None)))
            }
            Self::Tls { address, error, .. } => {
                Some(Reached::Dialled(LegText::unshaken_at(*address, &error.shown)))
            }
            Self::Proxy { address: Some(address), error, .. } => {
                Some(Reached::Dialled(LegText::unshaken_at(*address, &error.shown())))
            }
            Self::SpokeFirst(stood) | Self::Unanswered { stood, .. } => Some(Reached::Stood(stood.clone())),
            Self::Resolve { .. }
            | Self::Refused(_)
            | Self::NoTurn(_)
            | Self::NoConnection { .. }
            | Self::ConnectTimeout { address: None, .. }
            | Self::Proxy { address: None, .. }
            | Self::Lookups(_)
            | Self::Audit(_)
            | Self::Body(_) => None,
        }
    }
}
