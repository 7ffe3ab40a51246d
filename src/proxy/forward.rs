//! Carries an allowed request to its origin: a connection, the intent line, the same bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::SemaphorePermit;

use super::body::{BodyError, Inbound};
use super::chain::{self, ChainError, Way};
use super::exchange::CONTINUE;
use super::http1::client::{self, ExchangeError, Unanswered};
use super::pool::{Key, Leased, Slip, Upstream};
use super::{OriginStream, Worker, resolve};
use crate::engine::policy::Permit;
use crate::engine::reason::Reason;
use crate::engine::request::{Framing, RequestHead, ResponseHead};
use crate::engine::target::Authority;
use crate::engine::target::destination::Refused;
use crate::record::metrics::Leg;
use crate::record::{AuditDown, Entry, LegText};
use crate::tls::origin::{AtLeast, OriginTlsError, wants_certificate};

/// An answer on its way, and where it came from.
pub struct Forwarded<B> {
    pub head: ResponseHead,
    pub body: Box<client::Answer<OriginStream, B, Slip<OriginStream>>>,
    pub upstream: Arc<Upstream>,
    pub reused: bool,
    pub waited: Duration,
}

/// Why a permitted request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    #[error("`{target}` did not resolve: {error}")]
    Resolve { target: Authority, error: io::Error },
    #[error("{}", .0.said)]
    Refused(Refused),
    #[error("no turn to dial for {0:?}")]
    NoTurn(Duration),
    #[error("connect to `{target}` at {address} failed: {error}")]
    Connect { target: Authority, address: SocketAddr, error: io::Error },
    #[error("connect to `{target}` timed out after {after:?}")]
    ConnectTimeout { target: Authority, after: Duration },
    #[error("`{target}`: {error}")]
    Tls { target: Authority, error: OriginTlsError },
    #[error("the upstream proxy `{proxy}` {error}")]
    Proxy { proxy: Authority, error: ChainError },
    #[error("the origin spoke before it was asked")]
    SpokeFirst,
    #[error("the intent could not be written")]
    Audit(#[from] AuditDown),
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl OriginError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Resolve { .. } => Reason::UpstreamResolve,
            Self::Refused(refused) => refused.reason,
            Self::NoTurn(_) => Reason::LimitDials,
            Self::Connect { .. } => Reason::UpstreamConnect,
            Self::ConnectTimeout { .. } => Reason::UpstreamTimeout,
            Self::Tls { error, .. } => error.reason(),
            Self::Proxy { error: ChainError::Timeout, .. } => Reason::UpstreamTimeout,
            Self::Proxy { .. } => Reason::UpstreamProxy,
            Self::SpokeFirst => Reason::UpstreamProtocol,
            Self::Audit(_) => Reason::LimitAudit,
            Self::Exchange(error) => match error {
                ExchangeError::Body(error) => Self::of_body(error),
                ExchangeError::Lost(error) if wants_certificate(error) => Reason::UpstreamClientCertificate,
                ExchangeError::Lost(_) | ExchangeError::Closed { .. } => Reason::UpstreamClosed,
                ExchangeError::Head(_) | ExchangeError::Framing(_) | ExchangeError::Interim => {
                    Reason::UpstreamProtocol
                }
                ExchangeError::TimedOut(_) => Reason::UpstreamTimeout,
            },
        }
    }

    /// The client's side of it.
    pub fn of_body(error: &BodyError) -> Reason {
        match error {
            BodyError::Framing(_) => Reason::RequestFraming,
            BodyError::Gone(_) => Reason::RequestAborted,
            BodyError::Idle(_) | BodyError::Slow(_) => Reason::RequestTimeout,
            BodyError::Refused { reason, .. } => *reason,
        }
    }
}

/// Sends the request, `judged` a moment ago, and waits for its answer's head. The intent is on record before the
/// first byte goes.
pub async fn forward<B: Inbound>(
    worker: &Worker,
    permit: Permit,
    head: &RequestHead,
    mut body: B,
    owes_continue: bool,
    judged: Instant,
    entry: &mut Entry,
) -> Result<Forwarded<B>, OriginError> {
    let shared = &worker.shared;
    let target = head.authority();
    let trust = shared.origin_tls.trust_id(&target.host, at_least(&permit));
    let key = Key { authority: target.clone(), dial: shared.config.connect_to.lookup(target), trust };
    let (mut leased, mut reused) = acquire(worker, &key, &permit, judged).await?;
    entry.intend().await?;
    if owes_continue {
        body.interim(CONTINUE).await.map_err(|error| ExchangeError::Body(BodyError::Gone(error)))?;
    }
    let started = Instant::now();
    loop {
        // INVARIANT: checked after the audit write, the last wait before our first byte.
        if !leased.conn.is_quiet() {
            if !reused {
                return Err(OriginError::SpokeFirst);
            }
            (leased, reused) = acquire(worker, &key, &permit, judged).await?;
            continue;
        }
        let upstream = Arc::clone(&leased.upstream);
        let slip = Slip { pool: Arc::clone(&worker.pool), key: key.clone(), upstream: Arc::clone(&upstream) };
        match client::send(leased.conn, head, body, super::origin_patience(&shared.config.limits), slip).await
        {
            Ok((response, answer)) => {
                let waited = started.elapsed();
                return Ok(Forwarded { head: response, body: answer, upstream, reused, waited });
            }
            // An idle connection that the origin was just closing: a request without a body may be sent once more.
            Err(Unanswered {
                error: ExchangeError::Closed { unanswered: true } | ExchangeError::Lost(_),
                body: Some(unsent),
            }) if reused && is_idempotent(head) => {
                body = unsent;
                (leased, reused) = (Box::pin(dial(worker, &key, &permit)).await?, false);
            }
            Err(failed) => return Err(failed.error.into()),
        }
    }
}

fn at_least(permit: &Permit) -> AtLeast {
    if permit.min_tls13() { AtLeast::Tls13 } else { AtLeast::Tls12 }
}

/// RFC 9110 9.2.2.
fn is_idempotent(head: &RequestHead) -> bool {
    head.framing() == Framing::None && matches!(head.method(), "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS")
}

async fn acquire(
    worker: &Worker,
    key: &Key,
    permit: &Permit,
    now: Instant,
) -> Result<(Leased<OriginStream>, bool), OriginError> {
    match worker.pool.checkout(key, now) {
        Some(leased) => Ok((leased, true)),
        None => Ok((Box::pin(dial(worker, key, permit)).await?, false)),
    }
}

/// A new connection, and the handshake with the origin.
async fn dial(worker: &Worker, key: &Key, permit: &Permit) -> Result<Leased<OriginStream>, OriginError> {
    let shared = &worker.shared;
    let target = &key.authority;
    let _turn = turn(worker).await?;
    let (way, address) = reach(worker, key).await?;
    let deadline = tokio::time::Instant::now() + shared.config.limits.handshake;
    let shaken = shared.origin_tls.connect(way, &target.host, at_least(permit), deadline).await;
    let (stream, tls) = shaken.map_err(|error| OriginError::Tls { target: target.clone(), error })?;
    worker.recorder.metrics().handshake(Leg::Upstream, tls.version);
    Ok(Leased {
        conn: Box::new(client::Connection::new(stream)),
        upstream: Arc::new(Upstream { leg: LegText::dialled_at(address, Some(&tls)) }),
    })
}

/// The right to make one more connection, until it is dropped. First come, first served.
pub(super) async fn turn(worker: &Worker) -> Result<SemaphorePermit<'_>, OriginError> {
    let after = worker.shared.config.limits.turn;
    match tokio::time::timeout(after, worker.shared.dials.acquire()).await {
        Ok(turn) => Ok(turn.expect("the semaphore is never closed")),
        Err(_) => Err(OriginError::NoTurn(after)),
    }
}

/// A way to the origin: straight or through the upstream proxy.
pub(super) async fn reach(worker: &Worker, key: &Key) -> Result<(Way, SocketAddr), OriginError> {
    let shared = &worker.shared;
    let target = &key.authority;
    // `connect_to` says where to go itself; a destination that the proxy's bypass list names goes straight.
    let proxy = shared.config.upstream_proxy.as_ref().filter(|p| key.dial.is_none() && p.carries(target));
    match proxy {
        Some(proxy) => {
            let deadline = tokio::time::Instant::now() + shared.config.limits.handshake;
            let opened = chain::through(proxy, target, &shared.origin_tls, &shared.own, deadline).await;
            opened.map_err(|error| OriginError::Proxy { proxy: proxy.at.clone(), error })
        }
        None => straight(worker, key).await.map(|(socket, address)| (Way::Straight(socket), address)),
    }
}

/// Resolve, keep what may be dialled, dial exactly that.
async fn straight(worker: &Worker, key: &Key) -> Result<(TcpStream, SocketAddr), OriginError> {
    let shared = &worker.shared;
    let target = &key.authority;
    let addresses = match key.dial {
        Some(address) => resolve::named(target, address, &shared.own)?,
        None => {
            let ranges = shared.policy.load().addresses_for(&target.host);
            resolve::addresses(target, &ranges, &shared.own).await?
        }
    };
    let after = shared.config.limits.handshake;
    let dialled = tokio::time::timeout(after, resolve::connect(&addresses));
    let timeout = || OriginError::ConnectTimeout { target: target.clone(), after };
    let dialled = dialled.await.map_err(|_| timeout())?;
    let (socket, address) = dialled.map_err(|(address, error)| {
        let address = address.unwrap_or_else(|| ([0, 0, 0, 0], target.port).into());
        OriginError::Connect { target: target.clone(), address, error }
    })?;
    resolve::tune(&socket);
    Ok((socket, address))
}
