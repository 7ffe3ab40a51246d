//! The story of a request: recognise, verify, decide, then forward or refuse. Recorded either way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::body::{BodyError, Held, Inbound, Outbound, Passage};
use super::caller as signer;
use super::forward::{self, Forwarded};
use super::http1::server::is_bodiless;
use super::origin_error::{OriginError, Reached};
use super::reply;
use super::telling::Telling;
use super::{Caller, Worker};
use crate::config::Repeats;
use crate::engine::atlas::BodySeen;
use crate::engine::facts::{Identity, Name, Protocol, Resource, SignatureState, Signer};
use crate::engine::reason::Reason;
use crate::engine::request::RequestHead;
use crate::engine::signature::lesson::Lesson;
use crate::engine::{self, Allowed, Denial, Facts, Judgement, Question};
use crate::record::{Decision, Entry, Outcome, Request, Spent};
use crate::tls;

/// What the connection does next.
#[allow(clippy::large_enum_variant)] // made once a request and taken apart at once
pub enum Answer<B: Inbound> {
    /// Pass the origin's answer on, then close the entry.
    /// A lesson is to be read off it on its way.
    Passed(Forwarded<Box<Outbound<B>>>, Entry, Arc<Passage>, Option<Lesson>),
    /// Write this, and end the connection.
    Refused(Vec<u8>),
}

/// A request that is refused; `said` goes to the operator, the reason's own words to the client.
struct Refusal {
    reason: Reason,
    said: String,
    /// More for the client, where a person reads it.
    detail: Option<String>,
    /// The client can be told nothing any more.
    untold: bool,
    /// How far it came towards its origin.
    reached: Option<Reached>,
}

impl Refusal {
    /// Before anything was dialled.
    fn new(reason: Reason, said: String, untold: bool) -> Self {
        Self { reason, said, detail: None, untold, reached: None }
    }
}

/// Answers one request.
pub async fn exchange<B: Inbound>(
    worker: &Worker,
    head: &RequestHead,
    mut body: B,
    caller: &Caller,
) -> Answer<B> {
    let mut entry = worker.recorder.open(&caller.prelude);
    // By this a test shows what a bug of ours costs. No release has it.
    #[cfg(debug_assertions)]
    assert!(!head.has("exeat-test-panic"), "a test asked for it");
    let shared = &worker.shared;
    let policy = shared.policy.load_full();
    let mut continued = !head.expects_continue();
    let mut held = if is_bodiless(head.framing()) { Some(Held::none()) } else { None };
    let mut asked = false;
    // Nanoseconds after the entry was opened; 0: not yet.
    let (opened, verified) = (entry.opened(), AtomicU64::new(0));
    let judgement = loop {
        let keys = shared.keys.load();
        verified.store(0, Ordering::Relaxed);
        let seen = match &held {
            None => BodySeen::Unread,
            Some(held) if held.whole => BodySeen::Whole(&held.bytes),
            Some(_) => BodySeen::TooLarge,
        };
        let now = tls::now();
        let question = Question {
            head,
            body: seen,
            arrival: &caller.arrival,
            keys: &keys,
            atlas: shared.atlas,
            now,
            max_skew: shared.config.max_skew,
            asks: true,
            verified: &|| verified.store(opened.elapsed().as_nanos() as u64, Ordering::Relaxed),
        };
        let judgement = engine::judge(&policy, &question);
        if let Some(unknown) = unknown_signer(&judgement)
            && shared.refresher.is_due()
            && !std::mem::replace(&mut asked, true)
        {
            let id = Name::clone(&unknown.key_id);
            drop(keys);
            Box::pin(shared.refresher.ask_for(&id)).await;
            continue;
        }
        match judgement {
            Judgement::Allow(allowed) => break Ok(allowed),
            Judgement::Deny(mut denial) => {
                // Once a second at most: whoever sends bad signatures chooses how many.
                if denial.reason == Reason::SigV4Signature
                    && shared.explained.swap(now.0, Ordering::Relaxed) != now.0
                    && let Some(why) = engine::explain_signature(&question)
                {
                    denial.said = format!("{}; {why}", denial.said);
                }
                break Err(denial);
            }
            // Nothing passes on a guess.
            Judgement::NeedSigner(facts) => {
                drop(keys);
                match Box::pin(signer::ask(worker, &facts, &caller.arrival)).await {
                    Ok(()) => continue,
                    Err(error) => {
                        let said = format!("whose the signer's key is can't be told: {error}");
                        break Err(Denial { reason: Reason::UpstreamIdentity, said, facts, denied: None });
                    }
                }
            }
            Judgement::NeedBody => {}
        }
        drop(keys);
        if !std::mem::replace(&mut continued, true)
            && let Err(gone) = body.interim(CONTINUE).await
        {
            return Box::pin(broken(entry, head, gone)).await;
        }
        match Box::pin(Held::read(&mut body, &shared.budget)).await {
            Ok(read) => held = Some(read),
            Err(error) => return Box::pin(broken(entry, head, error)).await,
        }
    };
    let judged = Instant::now();
    let all = judged - opened;
    let deciding = match verified.into_inner() {
        0 => Duration::ZERO,
        at => all.saturating_sub(Duration::from_nanos(at)),
    };
    let spent = Spent { all, deciding };
    let Allowed { permit, due, facts, mark } = match judgement {
        Ok(allowed) => allowed,
        Err(denial) => {
            entry.judged(&denied_request(&denial, head, policy.hash(), spent));
            let detail = worker
                .tells_why()
                .then(|| super::advice::of(&denial, head, shared.keys.load().own_accounts()));
            let Denial { reason, said, facts, .. } = denial;
            if let Some(telling) = Telling::of(worker, head, facts.operation.as_ref()) {
                telling.sent(held.as_ref().map_or(b"", |held| &held.bytes));
                telling.tell(&mut entry);
            }
            let refusal = Refusal { detail, ..Refusal::new(reason, said, body.is_reset()) };
            return Box::pin(refuse(entry, head, &facts, refusal)).await;
        }
    };
    // Reads may repeat: they do nothing twice.
    let repeats = mark != 0 && !is_safe(head.method()) && shared.repeats.saw(mark, tls::now());
    if repeats {
        worker.recorder.metrics().repeats.inc();
    }
    entry.judged(&Request {
        decision: if permit.observed() { Decision::Report } else { Decision::Allow },
        statement: permit.statement(),
        would: permit.would(),
        operation: facts.operation.as_ref(),
        identity: &facts.identity,
        repeats,
        ..request(head, policy.hash(), spent)
    });
    if repeats && shared.config.repeats == Repeats::Refuse {
        let said = "the same signed request came before".to_owned();
        let refusal = Refusal::new(Reason::SigV4Repeated, said, body.is_reset());
        return Box::pin(refuse(entry, head, &facts, refusal)).await;
    }
    let passage = Arc::new(Passage::new(Telling::of(worker, head, facts.operation.as_ref())));
    let mut check = due.start();
    if is_bodiless(head.framing()) {
        match check.finish() {
            Ok(outcome) => passage.set(outcome),
            Err(refusal) => {
                let refusal = Refusal::new(refusal.reason, refusal.said, body.is_reset());
                return Box::pin(refuse(entry, head, &facts, refusal)).await;
            }
        }
    }
    // Boxed: it is handed on four times, and is half a kilobyte.
    let outbound =
        Box::new(Outbound::new(held.unwrap_or_default(), body, check, &shared.budget, Arc::clone(&passage)));
    let how = forward::Send {
        client: caller.arrival.peer.ip(),
        offer: caller.offer,
        owes_continue: !continued,
        judged,
    };
    let forwarded = {
        let carried = Carried { entry: &mut entry, passage: &passage };
        forward::forward(worker, permit, head, outbound, how, carried.entry).await
    };
    match forwarded {
        Ok(forwarded) => {
            let lesson = Lesson::of(facts.operation.as_ref(), facts.identity.signer.as_ref());
            Answer::Passed(forwarded, entry, passage, lesson)
        }
        Err(error) => {
            if let Some(telling) = passage.telling() {
                telling.tell(&mut entry);
            }
            let said = error.to_string();
            let detail = worker.tells_why().then(|| said.clone());
            let refusal = Refusal {
                reason: error.reason(),
                said,
                detail,
                untold: error.is_untold(),
                reached: error.reached(),
            };
            Box::pin(refuse(entry, head, &facts, refusal)).await
        }
    }
}

/// Tells the entry what went upstream, also where the exchange is given up.
struct Carried<'a> {
    entry: &'a mut Entry,
    passage: &'a Passage,
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        self.entry.carried(self.passage.bytes());
    }
}

/// RFC 9110 9.2.1.
fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// Whose key is not known here: its source may have a newer one than we do.
fn unknown_signer(judgement: &Judgement) -> Option<&Signer> {
    let identity = match judgement {
        Judgement::Allow(allowed) => &allowed.facts.identity,
        Judgement::Deny(denial) => &denial.facts.identity,
        Judgement::NeedBody | Judgement::NeedSigner(_) => return None,
    };
    identity.signer.as_ref().filter(|_| identity.signature == SignatureState::UnknownKey)
}

/// Sent as soon as the head is judged, or when the body is needed to judge.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The parts of a record that the head alone tells.
fn request<'a>(head: &'a RequestHead, policy: &'a str, spent: Spent) -> Request<'a> {
    Request {
        policy,
        user_agent: head.only("user-agent"),
        trace: head.only("x-amzn-trace-id"),
        traceparent: head.only("traceparent"),
        spent,
        ..Request::unjudged(head.method(), head.authority(), head.path_bytes())
    }
}

fn denied_request<'a>(
    denial: &'a Denial,
    head: &'a RequestHead,
    policy: &'a str,
    spent: Spent,
) -> Request<'a> {
    let denied = denial.denied.as_ref();
    Request {
        decision: Decision::Deny,
        statement: denied.and_then(|denied| denied.statement.as_ref()),
        would: denied.map_or(&[], |denied| &denied.would),
        operation: denial.facts.operation.as_ref(),
        identity: &denial.facts.identity,
        ..request(head, policy, spent)
    }
}

/// The body broke off or could not be read before a judgement.
async fn broken<B: Inbound>(mut entry: Entry, head: &RequestHead, error: BodyError) -> Answer<B> {
    entry.judged(&request(head, "", Spent::default()));
    let facts = Facts { operation: None, identity: Identity::NONE };
    let untold = matches!(error, BodyError::Reset { .. });
    let refusal = Refusal::new(OriginError::of_body(&error), error.to_string(), untold);
    refuse(entry, head, &facts, refusal).await
}

/// Writes the record, and says no in the request's own protocol.
async fn refuse<B: Inbound>(entry: Entry, head: &RequestHead, facts: &Facts, refusal: Refusal) -> Answer<B> {
    let flow = entry.flow().to_string();
    let shown = reply::Refusal {
        reason: refusal.reason,
        subject: &subject(head, facts),
        protocol: protocol(head, facts),
        flow: &flow,
        detail: refusal.detail.as_deref(),
    };
    let (status, answer) = reply::to_request(&shown, head);
    let status = if refusal.untold { 0 } else { status };
    let bytes_in = entry.bytes_in();
    let upstream = refusal.reached.as_ref().map(Reached::recorded);
    let refused = Outcome::refused(refusal.reason, status, &refusal.said);
    entry.close(Outcome { bytes_in, upstream, ..refused }).await;
    Answer::Refused(answer)
}

/// What was asked, on what: for the sentence.
fn subject(head: &RequestHead, facts: &Facts) -> String {
    let host = &head.authority().host;
    let Some(operation) = &facts.operation else { return format!("{} on {host}", head.method()) };
    match operation.asks.first() {
        Some(ask) => match &ask.resource {
            Resource::Arn { arn, .. } => format!("{} on {arn}", ask.action),
            Resource::None | Resource::Unknown => format!("{} on {host}", ask.action),
        },
        None => format!("{} on {host}", head.method()),
    }
}

/// The refusal's shape: the operation's protocol, or what the head looks like.
fn protocol(head: &RequestHead, facts: &Facts) -> Protocol {
    if let Some(operation) = &facts.operation {
        return operation.protocol;
    }
    let media_type = head.only_text("content-type").unwrap_or_default();
    let name = head.authority().host.as_name().unwrap_or_default();
    if media_type.starts_with("application/grpc") {
        Protocol::Grpc
    } else if head.has("x-amz-target") {
        if media_type.contains("json-1.0") { Protocol::Json10 } else { Protocol::Json11 }
    } else if head.has("smithy-protocol") {
        Protocol::Cbor
    } else if media_type.starts_with("application/x-www-form-urlencoded") {
        if name.starts_with("ec2.") { Protocol::Ec2 } else { Protocol::Query }
    } else if name.split('.').any(|label| label == "s3" || label.starts_with("s3-")) {
        Protocol::S3
    } else if head.has("authorization") && head.has("x-amz-date") {
        Protocol::RestJson
    } else {
        Protocol::Http
    }
}
