//! Whose a key is, where its source does not tell and a statement turns on it: one GetCallerIdentity, with that key.
//!
//! `exchange.rs` comes here when the judge needs it, and asks again afterwards. Requests under one key share one call,
//! and what it tells is kept with the key. A call that fails is not made again for five seconds; whoever needed it is
//! refused.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedMutexGuard;

use super::forward;
use super::origin_error::{OriginError, Reached};
use super::pool::Key;
use super::{Shared, Worker};
use crate::engine::facts::{Arrival, Name, PayloadOutcome};
use crate::engine::signature::caller::{Call, MOST_ANSWER, answered};
use crate::engine::signature::{KnownKey, Told};
use crate::engine::target::Authority;
use crate::engine::{self, Facts};
use crate::record::{End, Entry, LegText, Outcome, Request, Upstream, metrics};
use crate::tls::origin::AtLeast;
use crate::tls::{self, Offer};

/// From the name's resolution to the answer's last byte.
const PATIENCE: Duration = Duration::from_secs(5);
/// A failure stands for so long.
const BETWEEN: Duration = Duration::from_secs(5);
/// How the record names what gives such keys.
const EXPRESS: &str = "s3express:CreateSession";
/// Keys whose failures are remembered. Only keys that we know get here.
const MOST: usize = 1024;

/// Calls under way, and those that failed, by key id.
#[derive(Default)]
pub struct Callers(Mutex<HashMap<Name, Arc<tokio::sync::Mutex<Option<Failed>>>>>);

struct Failed {
    at: Instant,
    why: Arc<str>,
}

/// Why it can't be told whose the key is, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    #[error("no STS endpoint is known for `{0}`")]
    NoEndpoint(Authority),
    #[error("the key is not known any more")]
    Gone,
    #[error("the key can't sign")]
    Unsignable,
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("its answer broke off: {0}")]
    Http(#[from] hyper::Error),
    #[error("its answer broke off or is too long")]
    Body,
    #[error("STS answered {0}")]
    Status(u16),
    #[error("its answer tells no account")]
    Answer,
    #[error("STS says account {0}, and the key's id or source says another")]
    Contradicts(crate::engine::facts::AccountId),
    #[error("no answer in {0:?}")]
    Timeout(Duration),
    /// A call a moment ago.
    #[error("{0}")]
    Before(Arc<str>),
}

impl Callers {
    fn of(&self, id: &Name) -> Arc<tokio::sync::Mutex<Option<Failed>>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.retain(|_, tried| Arc::strong_count(tried) > 1);
        }
        Arc::clone(all.entry(Name::clone(id)).or_default())
    }

    fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// Has AWS tell whose the signer's key is; `Ok`: the key says it now. Cancel safe: the call goes on for others.
pub async fn ask(worker: &Worker, facts: &Facts, arrival: &Arrival) -> Result<(), CallerError> {
    let shared = &worker.shared;
    let signer = facts.identity.signer.as_ref().ok_or(CallerError::Gone)?;
    let untold = || shared.keys.load().get(&signer.key_id).is_none_or(KnownKey::is_untold);
    // Keys of S3 Express open nothing else: STS is asked with the one that took them.
    let of_express = |key: &KnownKey| {
        key.parents.as_deref().and_then(|all| all.first()).is_some_and(|parent| parent.by == EXPRESS)
    };
    let by = shared
        .keys
        .load()
        .principal(&signer.key_id)
        .find(|key| !of_express(key))
        .map(|key| Name::clone(&key.id));
    let by = by.ok_or(CallerError::Gone)?;
    let tried = shared.callers.of(&by).lock_owned();
    let tried = tokio::time::timeout(PATIENCE, tried).await.map_err(|_| CallerError::Timeout(PATIENCE))?;
    if !untold() {
        return Ok(());
    }
    // It took another session before, and that was asked for.
    let before = shared.keys.load().principal(&signer.key_id).find_map(KnownKey::told).cloned();
    if let Some(told) = before {
        return keep(shared, &signer.key_id, &told);
    }
    if let Some(failed) = tried.as_ref().filter(|failed| failed.at.elapsed() < BETWEEN) {
        return Err(CallerError::Before(Arc::clone(&failed.why)));
    }
    let region = facts.operation.as_ref().map_or("", |operation| &operation.region);
    let (sts, region) = shared
        .atlas
        .sts_of(&arrival.kind, region)
        .ok_or_else(|| CallerError::NoEndpoint(arrival.target.clone()))?;
    let (worker, id) = (worker.clone(), Name::clone(&signer.key_id));
    // A task of its own: a client that goes away does not take the answer from the others.
    let asked = tokio::spawn(async move { settle(&worker, &id, &by, sts, &region, tried).await });
    asked.await.unwrap_or(Err(CallerError::Body))
}

/// Makes the call, signed `by` a key of the same principal, and keeps what came of it.
async fn settle(
    worker: &Worker,
    id: &Name,
    by: &Name,
    sts: Authority,
    region: &str,
    mut tried: OwnedMutexGuard<Option<Failed>>,
) -> Result<(), CallerError> {
    let shared = &worker.shared;
    let told = match call(worker, by, sts, region).await {
        Ok(told) => keep(shared, id, &told),
        Err(error) => Err(error),
    };
    match &told {
        Ok(()) => shared.callers.forget(by),
        Err(error) => *tried = Some(Failed { at: Instant::now(), why: error.to_string().into() }),
    }
    told
}

fn keep(shared: &Shared, id: &Name, told: &Told) -> Result<(), CallerError> {
    let account = told.account;
    let mut agrees = true;
    shared.keys.rcu(|keys| {
        let with = keys.with_told(id, told);
        agrees = with.is_some();
        with.map_or_else(|| Arc::clone(keys), Arc::new)
    });
    if agrees { Ok(()) } else { Err(CallerError::Contradicts(account)) }
}

async fn call(worker: &Worker, id: &Name, sts: Authority, region: &str) -> Result<Told, CallerError> {
    let call = {
        let keys = worker.shared.keys.load();
        let key = keys.get(id).ok_or(CallerError::Gone)?;
        Call::sign(key, &sts, region, tls::now()).ok_or(CallerError::Unsignable)?
    };
    let mut entry = worker.recorder.open_own();
    entry.judged(&recorded(&call, worker.shared.policy.load().hash()));
    let mut seen = Seen { leg: None, status: 0, bytes: 0, waited: None, request_id: None };
    let exchange = send(worker, &call, sts, &mut entry, &mut seen);
    let result = tokio::time::timeout(PATIENCE, exchange).await;
    let result = result.unwrap_or(Err(CallerError::Timeout(PATIENCE)));
    let said = result.as_ref().err().map(ToString::to_string);
    let end = match (&result, &said) {
        // It answered, whatever.
        (Ok(_) | Err(CallerError::Status(_)), _) | (_, None) => End::Answered,
        (Err(error), Some(said)) => End::Refused { reason: error.reason(), message: said },
    };
    let reached = match &result {
        Err(CallerError::Origin(error)) => error.reached(),
        _ => None,
    };
    let upstream = match (&seen.leg, &reached) {
        (Some(leg), _) => Some(Upstream {
            request_id: seen.request_id.as_deref(),
            waited: seen.waited,
            ..Upstream::unanswered(leg, false)
        }),
        (None, reached) => reached.as_ref().map(Reached::recorded),
    };
    entry
        .close(Outcome {
            payload: PayloadOutcome::Matched,
            bytes_in: call.body.len() as u64,
            bytes_out: seen.bytes,
            upstream,
            ..Outcome::new(end, seen.status)
        })
        .await;
    result
}

/// What came of the exchange so far, for the record.
struct Seen {
    leg: Option<LegText>,
    status: u16,
    bytes: u64,
    waited: Option<Duration>,
    request_id: Option<Vec<u8>>,
}

/// To the origin as every request goes: the same floor, roots, `connect_to` and upstream proxy.
async fn send(
    worker: &Worker,
    call: &Call,
    sts: Authority,
    entry: &mut Entry,
    seen: &mut Seen,
) -> Result<Told, CallerError> {
    let shared = &worker.shared;
    let _turn = forward::turn(worker).await?;
    let key = Key {
        dial: shared.config.connect_to.lookup(&sts),
        policy: shared.policy.load().id(),
        trust: shared.origin_tls.trust_id(&sts.host, AtLeast::Tls12),
        offer: Offer::Http1,
        authority: sts.clone(),
    };
    let (way, address) = forward::reach(worker, &key, IpAddr::V4(Ipv4Addr::LOCALHOST)).await?;
    let deadline = tokio::time::Instant::now() + shared.config.limits.handshake;
    let shaken = shared.origin_tls.connect(way, &sts.host, AtLeast::Tls12, Offer::Http1, deadline).await;
    let (stream, facts) = shaken.map_err(|error| OriginError::Tls { target: sts, address, error })?;
    worker.recorder.metrics().handshake(metrics::Leg::Upstream, &facts);
    seen.leg = Some(LegText::dialled_at(address, Some(&facts)));
    entry.intend().await.map_err(OriginError::Audit)?;
    let started = Instant::now();
    entry.leaves(started);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let answer = sender.send_request(request(call)).await?;
        seen.waited = Some(started.elapsed());
        seen.status = answer.status().as_u16();
        seen.request_id = answer.headers().get("x-amzn-requestid").map(|id| id.as_bytes().to_vec());
        let body = Limited::new(answer.into_body(), MOST_ANSWER).collect().await;
        let body = body.map_err(|_| CallerError::Body)?.to_bytes();
        seen.bytes = body.len() as u64;
        if seen.status != 200 {
            return Err(CallerError::Status(seen.status));
        }
        std::str::from_utf8(&body).ok().and_then(answered).ok_or(CallerError::Answer)
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        told = &mut exchange => return told,
        // Whole or broken off: what came of it, the exchange knows.
        _ = connection => {}
    }
    exchange.await
}

/// The head as it was signed, in hyper's words.
fn request(call: &Call) -> hyper::Request<Full<bytes::Bytes>> {
    let mut request = hyper::Request::new(Full::new(call.body.clone()));
    *request.method_mut() = hyper::Method::POST;
    for (name, value) in call.head.fields() {
        let (name, value) = (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value));
        // INVARIANT: it was read by our own reader, which is no laxer.
        if let (Ok(name), Ok(value)) = (name, value) {
            request.headers_mut().append(name, value);
        }
    }
    request
}

fn recorded<'a>(call: &'a Call, policy: &'a str) -> Request<'a> {
    Request {
        policy,
        operation: Some(&call.operation),
        identity: &call.identity,
        ..Request::unjudged(call.head.method(), call.head.authority(), call.head.path_bytes())
    }
}

impl CallerError {
    fn reason(&self) -> engine::reason::Reason {
        match self {
            Self::Origin(error) => error.reason(),
            _ => engine::reason::Reason::UpstreamIdentity,
        }
    }
}
