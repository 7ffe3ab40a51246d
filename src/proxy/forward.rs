//! Carries an allowed request to its origin: a connection, the intent line, the same bytes.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::net::TcpStream;
use tokio::sync::SemaphorePermit;

use super::body::Inbound;
use super::chain::{self, Way};
use super::exchange::CONTINUE;
use super::http1::client::{self, ExchangeError, Unanswered};
use super::http1::wire::{Reader, Writer};
use super::origin_error::{OriginError, Stood};
use super::pool::{Key, Leased, Slip, Slot, Turn, Upstream};
use super::{OriginStream, Worker, http2, resolve};
use crate::engine::policy::{Permit, StreamLimits};
use crate::engine::request::{RequestHead, ResponseHead};
use crate::engine::target::Host;
use crate::record::metrics;
use crate::record::{Entry, LegText, Retried};
use crate::tls::origin::AtLeast;
use crate::tls::{self, Offer};

/// An answer on its way, and where it came from.
pub struct Forwarded<B: Inbound> {
    pub head: ResponseHead,
    pub body: Answer<B>,
    pub upstream: Arc<Upstream>,
    pub reused: bool,
    pub waited: Duration,
    /// What the permit says of how long it may go on.
    pub limits: StreamLimits,
}

/// The answer's body, which pulls the upload, in whichever protocol the origin speaks.
pub enum Answer<B: Inbound> {
    Http1(Box<client::Answer<OriginStream, B, Slip<OriginStream>>>),
    Http2(Box<http2::client::Answer<B>>),
}

impl<B: Inbound> Answer<B> {
    /// It came before the request was complete.
    pub fn is_early(&self) -> bool {
        match self {
            Self::Http1(answer) => answer.is_early(),
            Self::Http2(answer) => answer.is_early(),
        }
    }

    /// The body of a request that had none to send, so that it can be sent again.
    fn take_unsent(&mut self) -> Option<B> {
        match self {
            Self::Http1(answer) => answer.take_unsent(),
            Self::Http2(answer) => answer.take_unsent(),
        }
    }

    /// The fields of its head that travel on, as a connection of HTTP/2 had them.
    pub fn take_fields(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(answer) => answer.take_fields(),
        }
    }

    /// The origin's connection after a 101.
    pub fn switched(&mut self) -> Option<(Reader<OriginStream>, Writer<OriginStream>)> {
        match self {
            Self::Http1(answer) => answer.switched(),
            Self::Http2(_) => None,
        }
    }
}

impl<B: Inbound> Body for Answer<B> {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        match self.get_mut() {
            Self::Http1(answer) => Pin::new(&mut **answer).poll_frame(cx),
            Self::Http2(answer) => Pin::new(&mut **answer).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(answer) => answer.is_end_stream(),
            Self::Http2(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(answer) => answer.size_hint(),
            Self::Http2(answer) => answer.size_hint(),
        }
    }
}

/// How a request goes: what the client's connection tells of it, and when it was judged.
#[derive(Debug, Clone, Copy)]
pub struct Send {
    pub client: IpAddr,
    /// What the origin is offered to speak.
    pub offer: Offer,
    pub owes_continue: bool,
    pub judged: Instant,
}

/// For whom a connection is made, and what it must be.
#[derive(Debug, Clone, Copy)]
struct Wants {
    client: IpAddr,
    at_least: AtLeast,
}

/// Sends the request, judged a moment ago, and waits for its answer's head. The intent is on record before the
/// first byte goes.
pub async fn forward<B: Inbound>(
    worker: &Worker,
    permit: Permit,
    head: &RequestHead,
    mut body: B,
    how: Send,
    entry: &mut Entry,
) -> Result<Forwarded<B>, OriginError> {
    let shared = &worker.shared;
    let target = head.authority();
    let trust = shared.origin_tls.trust_id(&target.host, at_least(&permit));
    let dial_at = shared.config.connect_to.lookup(target);
    // What HTTP/1.1 alone has a way to ask for.
    let offer = if head.asks_websocket() { Offer::Http1 } else { how.offer };
    let key = Key { authority: target.clone(), dial: dial_at, policy: permit.policy(), trust, offer };
    let wants = Wants { client: how.client, at_least: at_least(&permit) };
    let (mut leg, mut reused) = acquire(worker, &key, wants, how.judged).await?;
    entry.intend().await?;
    if how.owes_continue {
        body.interim(CONTINUE).await?;
    }
    let started = Instant::now();
    entry.leaves(started);
    let limits = permit.stream_limits();
    let mut patience = super::origin_patience(&shared.config.limits);
    patience.body = limits.idle.unwrap_or(patience.body);
    let mut again = false;
    loop {
        let (upstream, sent) = match leg {
            Leg::Http1(mut leased) => {
                // INVARIANT: checked after the audit write, the last wait before our first byte.
                if !leased.conn.is_quiet() {
                    if !reused {
                        return Err(OriginError::SpokeFirst(Stood { upstream: leased.upstream, reused }));
                    }
                    // Its place stays ours: others wait in line for theirs.
                    let slot = leased.into_slot();
                    (leg, reused) = match worker.pool.checkout(&key, how.judged) {
                        Some(leased) => (Leg::Http1(leased), true),
                        None => Box::pin(dial(worker, &key, wants, slot)).await?,
                    };
                    continue;
                }
                let upstream = leased.upstream;
                let slip = Slip { pool: Arc::clone(&worker.pool), upstream: Arc::clone(&upstream) };
                let sent = client::send(leased.conn, head, body, patience, slip).await;
                (upstream, sent.map(|(response, answer)| (response, Answer::Http1(answer))))
            }
            Leg::Http2(lease) => {
                let upstream = Arc::clone(&lease.connection().upstream);
                let sent = Box::pin(http2::client::send(lease, head, body, patience)).await;
                (upstream, sent.map(|(response, answer)| (response, Answer::Http2(answer))))
            }
        };
        match sent {
            Ok((response, mut answer)) => {
                // Not the server for this authority; another connection may lead to it (RFC 9110 15.5.20).
                if response.status() == 421
                    && !again
                    && let Some(unsent) = answer.take_unsent()
                {
                    drop(answer);
                    (body, again) = (unsent, true);
                    (leg, reused) = Box::pin(dial(worker, &key, wants, upstream.into_slot())).await?;
                    entry.retries(Retried::Misdirected);
                    continue;
                }
                let waited = started.elapsed();
                return Ok(Forwarded { head: response, body: answer, upstream, reused, waited, limits });
            }
            // Never processed, so any method may; once. What was written to a connection that then closed is not sent
            // again: nobody can tell what the origin did with it.
            Err(Unanswered {
                error: error @ (ExchangeError::Untaken(_) | ExchangeError::Unwritten(_)),
                body: Some(unsent),
            }) if !again => {
                (body, again) = (unsent, true);
                // Its place may be the only one there is.
                drop(upstream);
                (leg, reused) = Box::pin(acquire(worker, &key, wants, Instant::now())).await?;
                entry.retries(match error {
                    ExchangeError::Unwritten(_) => Retried::Unwritten,
                    _ => Retried::Unprocessed,
                });
            }
            Err(failed) => {
                let stood = Stood { upstream, reused };
                return Err(OriginError::Unanswered { error: failed.error, stood });
            }
        }
    }
}

fn at_least(permit: &Permit) -> AtLeast {
    if permit.min_tls13() { AtLeast::Tls13 } else { AtLeast::Tls12 }
}

/// Where the request goes out.
enum Leg {
    Http1(Leased<OriginStream>),
    Http2(http2::shared::Lease),
}

async fn acquire(worker: &Worker, key: &Key, wants: Wants, now: Instant) -> Result<(Leg, bool), OriginError> {
    if key.offer == Offer::Both {
        if let Some(lease) = worker.streams.checkout(key) {
            return Ok((Leg::Http2(lease), true));
        }
        if let Some(shared) = Box::pin(acquire_shared(worker, key, wants)).await {
            return shared;
        }
    }
    match worker.pool.checkout(key, now) {
        Some(leased) => Ok((Leg::Http1(leased), true)),
        None => Box::pin(dial(worker, key, wants, None)).await,
    }
}

/// A stream on a connection that others use too, where none has room now; `None`: the origin speaks HTTP/1.1, as far
/// as we know. Requests that come together wait for one dial, but not for longer than a handshake may take.
async fn acquire_shared(
    worker: &Worker,
    key: &Key,
    wants: Wants,
) -> Option<Result<(Leg, bool), OriginError>> {
    let speaks_http1 = || worker.shared.spoken.of(&key.authority) == Some(Offer::Http1);
    if speaks_http1() {
        return None;
    }
    let turn = worker.streams.turn(key);
    let turn = tokio::time::timeout(worker.shared.config.limits.handshake, turn.lock()).await;
    if let Some(lease) = worker.streams.checkout(key) {
        return Some(Ok((Leg::Http2(lease), true)));
    }
    if speaks_http1() {
        return None;
    }
    let dialled = dial(worker, key, wants, None).await;
    drop(turn);
    Some(dialled)
}

/// A new connection, and the handshake with the origin; in `slot`, where there is one already. Where there are as many
/// connections as there may be, the next that comes free (`true`).
async fn dial(
    worker: &Worker,
    key: &Key,
    wants: Wants,
    slot: Option<Slot>,
) -> Result<(Leg, bool), OriginError> {
    let shared = &worker.shared;
    let target = &key.authority;
    let slot = match slot {
        Some(slot) => slot,
        None => {
            let after = shared.config.limits.turn;
            match worker.pool.turn(key, after).await {
                Some(Turn::Dial(slot)) => slot,
                Some(Turn::Idle(leased)) => return Ok((Leg::Http1(leased), true)),
                None => return Err(OriginError::NoConnection { target: target.clone(), after }),
            }
        }
    };
    let _turn = turn(worker).await?;
    let (way, address) = reach(worker, key, wants.client).await?;
    let within = shared.config.limits.handshake;
    let deadline = tokio::time::Instant::now() + within;
    let shaken = shared.origin_tls.connect(way, &target.host, wants.at_least, key.offer, deadline).await;
    let (stream, tls) =
        shaken.map_err(|error| OriginError::Tls { target: target.clone(), address, error })?;
    worker.recorder.metrics().handshake(metrics::Leg::Upstream, &tls);
    let upstream = Arc::new(Upstream { leg: LegText::dialled_at(address, Some(&tls)), slot });
    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::H2);
    if key.offer == Offer::Both {
        shared.spoken.note(target, if speaks_http2 { Offer::Both } else { Offer::Http1 });
    }
    if !speaks_http2 {
        return Ok((Leg::Http1(Leased { conn: Box::new(client::Connection::new(stream)), upstream }), false));
    }
    let stood = Stood { upstream: Arc::clone(&upstream), reused: false };
    let shaken = http2::shared::shake(stream, upstream, within, shared.config.limits.body_idle).await;
    let connection =
        shaken.map_err(|error| OriginError::Unanswered { error: ExchangeError::Http2(error), stood })?;
    Ok((Leg::Http2(worker.streams.add(key.clone(), connection)), false))
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
pub(super) async fn reach(
    worker: &Worker,
    key: &Key,
    client: IpAddr,
) -> Result<(Way, SocketAddr), OriginError> {
    let shared = &worker.shared;
    let target = &key.authority;
    if let (Host::Name(name), None) = (&target.host, key.dial) {
        // The upstream proxy would look it up in our place.
        shared.lookups.ask(client, name, Instant::now())?;
        worker.recorder.metrics().lookups.inc();
    }
    // `connect_to` says where to go itself; a destination that the proxy's bypass list names goes straight.
    let proxy = shared.config.upstream_proxy.as_ref().filter(|p| key.dial.is_none() && p.carries(target));
    match proxy {
        Some(proxy) => {
            let deadline = tokio::time::Instant::now() + shared.config.limits.handshake;
            let mut address = None;
            let opened =
                chain::through(proxy, target, &shared.origin_tls, &shared.own, deadline, &mut address).await;
            opened.map_err(|error| OriginError::Proxy { proxy: proxy.at.clone(), address, error })
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
            let ranges = shared.ranges(target, key.policy);
            resolve::addresses(target, &ranges, &shared.own).await?
        }
    };
    let after = shared.config.limits.handshake;
    let mut tried = None;
    let dialled = tokio::time::timeout(after, resolve::connect(&addresses, &mut tried)).await;
    let (socket, address) = match dialled {
        Ok(Ok(dialled)) => dialled,
        Ok(Err(error)) => {
            let address = tried.unwrap_or_else(|| ([0, 0, 0, 0], target.port).into());
            return Err(OriginError::Connect { target: target.clone(), address, error });
        }
        Err(_) => {
            return Err(OriginError::ConnectTimeout { target: target.clone(), address: tried, after });
        }
    };
    resolve::tune(&socket);
    Ok((socket, address))
}
