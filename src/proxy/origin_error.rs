//! Why a request got no answer of its origin, and how far it came: the reason, and the leg for its record.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::body::BodyError;
use super::chain::ChainError;
use super::http1::client::ExchangeError;
use super::lookups::TooMany;
use super::pool::Upstream;
use crate::engine::reason::Reason;
use crate::engine::target::Authority;
use crate::engine::target::destination::Refused;
use crate::record::{self, AuditDown, LegText};
use crate::tls::origin::{Unshaken, wants_certificate};

/// Why a permitted request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    #[error("`{target}` did not resolve: {error}")]
    Resolve { target: Authority, error: io::Error },
    #[error("{}", .0.said)]
    Refused(Refused),
    #[error("no turn to dial for {0:?}")]
    NoTurn(Duration),
    #[error("all connections to `{target}` were in use for {after:?}")]
    NoConnection { target: Authority, after: Duration },
    #[error("connect to `{target}` at {address} failed: {error}")]
    Connect { target: Authority, address: SocketAddr, error: io::Error },
    #[error("connect to `{target}` timed out after {after:?}")]
    ConnectTimeout { target: Authority, address: Option<SocketAddr>, after: Duration },
    #[error("`{target}`: {error}")]
    Tls { target: Authority, address: SocketAddr, error: Unshaken },
    #[error("the upstream proxy `{proxy}` {error}")]
    Proxy { proxy: Authority, address: Option<SocketAddr>, error: ChainError },
    #[error("the origin spoke before it was asked")]
    SpokeFirst(Stood),
    #[error("{0}")]
    Lookups(#[from] TooMany),
    #[error("the intent could not be written")]
    Audit(#[from] AuditDown),
    /// The client's body, before anything was dialled.
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("{error}")]
    Unanswered { error: ExchangeError, stood: Stood },
}

impl OriginError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Resolve { .. } => Reason::UpstreamResolve,
            Self::Refused(refused) => refused.reason,
            Self::NoTurn(_) => Reason::LimitDials,
            Self::NoConnection { .. } => Reason::LimitOrigin,
            Self::Connect { .. } => Reason::UpstreamConnect,
            Self::ConnectTimeout { .. } => Reason::UpstreamTimeout,
            Self::Tls { error, .. } => error.reason(),
            Self::Proxy { error: ChainError::Timeout, .. } => Reason::UpstreamTimeout,
            Self::Proxy { .. } => Reason::UpstreamProxy,
            Self::SpokeFirst(_) => Reason::UpstreamProtocol,
            Self::Lookups(_) => Reason::LimitLookups,
            Self::Audit(_) => Reason::LimitAudit,
            Self::Body(error) => Self::of_body(error),
            Self::Unanswered { error, .. } => Self::of_exchange(error),
        }
    }

    /// An exchange that had begun.
    pub fn of_exchange(error: &ExchangeError) -> Reason {
        match error {
            ExchangeError::Body(error) => Self::of_body(error),
            ExchangeError::Lost(error) | ExchangeError::Unwritten(error) if wants_certificate(error) => {
                Reason::UpstreamClientCertificate
            }
            ExchangeError::Lost(_) | ExchangeError::Unwritten(_) | ExchangeError::Closed { .. } => {
                Reason::UpstreamClosed
            }
            ExchangeError::Head(_)
            | ExchangeError::Framing(_)
            | ExchangeError::Interim
            | ExchangeError::Http2(_) => Reason::UpstreamProtocol,
            ExchangeError::Untaken(_) | ExchangeError::Reset(_) => Reason::UpstreamReset,
            ExchangeError::Untranslatable => Reason::RequestMalformed,
            ExchangeError::TimedOut(_) => Reason::UpstreamTimeout,
            ExchangeError::Limit(_) => Reason::LimitStream,
        }
    }

    /// The client can be told nothing of it.
    pub fn is_untold(&self) -> bool {
        matches!(
            self,
            Self::Body(BodyError::Reset { .. })
                | Self::Unanswered { error: ExchangeError::Body(BodyError::Reset { .. }), .. }
        )
    }

    /// The client's side of it.
    pub fn of_body(error: &BodyError) -> Reason {
        match error {
            BodyError::Framing(_) => Reason::RequestFraming,
            BodyError::Gone(_) => Reason::RequestAborted,
            BodyError::Idle(_) | BodyError::Slow(_) => Reason::RequestTimeout,
            BodyError::Refused { reason, .. } | BodyError::Reset { reason, .. } => *reason,
        }
    }
}

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
