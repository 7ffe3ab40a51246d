//! The story of an intercepted HTTP/1.1 connection: one request after the other, and what becomes of each answer.

use std::pin::pin;
use std::time::Duration;

use super::body::{Inbound, Passage};
use super::connection::of_head;
use super::distrust::Suspect;
use super::exchange::{Answer, exchange};
use super::forward::Forwarded;
use super::http1::client::ExchangeError;
use super::http1::io::Io;
use super::http1::server::{self, AnswerError, NoRequest, Passed};
use super::http1::switch;
use super::origin_error::OriginError;
use super::telling::Overheard;
use super::{Caller, Worker, lesson, reply};
use crate::engine::policy::TunnelLimits;
use crate::engine::reason::Reason;
use crate::record::{End, Entry, Outcome, Upstream};
use crate::tls::handshake::{self, HandshakeError};

/// Serves requests until the client, the origin, a refusal or a drain ends the connection.
pub async fn requests<S: Io>(
    worker: &Worker,
    mut client: server::Connection<S>,
    caller: &Caller,
    suspect: Box<Suspect>,
) {
    let mut draining = worker.draining.clone();
    let mut drained = pin!(super::drained(&mut draining));
    let mut suspect = Some(suspect);
    loop {
        let next = tokio::select! {
            biased;
            next = client.next() => next,
            () = drained.as_mut() => return client.close().await,
        };
        let head = match next.and_then(|head| client.read(head)) {
            Ok(head) => head,
            Err(NoRequest::Closed(error)) => {
                let Some(suspect) = suspect else { return };
                return left(worker, caller, *suspect, error.as_ref()).await;
            }
            Err(NoRequest::Malformed(error)) => {
                return malformed(worker, client, caller, of_head(error), &error.to_string()).await;
            }
            Err(NoRequest::Slow) => {
                return malformed(worker, client, caller, Reason::RequestTimeout, "head took too long").await;
            }
        };
        let body = client.body(head.framing());
        suspect = None;
        // A client that goes away takes its request with it: the dropped entry records that.
        // Boxed: an idle connection need not hold the room for a request.
        let exchange = Box::pin(exchange(worker, &head, body, caller));
        let Some(answer) = client.unless_gone(exchange).await else { return };
        let go_on = match answer {
            Answer::Refused(answer) => {
                let _ = client.answer_whole(&answer).await;
                false
            }
            Answer::Passed(forwarded, entry, passage, _) if forwarded.head.switches_to_websocket() => {
                return Box::pin(switched(client, forwarded, entry, &passage)).await;
            }
            Answer::Passed(mut forwarded, entry, passage, lesson) => {
                let close = head.close() || forwarded.body.is_early() || worker.is_draining();
                let passed = Passed { head: &forwarded.head, to: head.version(), close };
                let passed = match (lesson, passage.telling(), forwarded.limits.life) {
                    (None, None, None) => client.pass(passed, &mut forwarded.body).await,
                    (lesson, telling, life) => {
                        let keys = &worker.shared.keys;
                        let mut taught = lesson::taught(lesson, keys, &forwarded.head, &mut forwarded.body);
                        let mut overheard = Overheard::new(&mut taught, telling);
                        Box::pin(within(life, client.pass(passed, &mut overheard))).await
                    }
                };
                let whole = record(entry, &forwarded, &passage, client.carried(), true, passed.err()).await;
                // The origin's connection must not wait for this client.
                drop(forwarded);
                if !whole {
                    return client.show_break().await;
                }
                client.flush().await.is_ok() && !close && client.is_clean()
            }
        };
        if !go_on {
            return client.close().await;
        }
    }
}

/// Both sides agreed to go on in WebSocket: bytes pass unread, and the request's record closes with them.
async fn switched<S: Io, B: Inbound>(
    client: server::Connection<S>,
    mut forwarded: Forwarded<B>,
    entry: Entry,
    passage: &Passage,
) {
    let (said, usual) = (forwarded.limits, TunnelLimits::default());
    let limits =
        switch::Limits { idle: said.idle.unwrap_or(usual.idle), life: said.life.unwrap_or(usual.life) };
    let (mut bytes, mut broke) = (0, None);
    // INVARIANT: only an HTTP/1.1 origin switches, and a GET has no body that could hold the client's side.
    if let (Some(mut client), Some(mut origin)) = (client.switch(&forwarded.head), forwarded.body.switched())
    {
        let passed = switch::pass(&mut client, &mut origin, limits).await;
        passage.add_after(passed.up);
        bytes = passed.down;
        broke = match passed.end {
            switch::End::Closed => None,
            switch::End::Client(error) => Some(AnswerError::Client(error)),
            switch::End::Origin(error) => Some(AnswerError::Origin(ExchangeError::Lost(error))),
            switch::End::Idle(after) | switch::End::Life(after) => {
                Some(AnswerError::Origin(ExchangeError::Limit(after)))
            }
        };
    }
    record(entry, &forwarded, passage, bytes, true, broke).await;
}

/// A client went away before its first request.
pub(super) async fn left(worker: &Worker, caller: &Caller, suspect: Suspect, error: Option<&std::io::Error>) {
    let Some(alert) = error.and_then(handshake::distrust) else { return suspect.left(worker) };
    // TLS 1.3 clients tell what they think of our leaf only after the handshake.
    let mut entry = worker.recorder.open(&caller.prelude);
    entry.was_for(&caller.arrival.target);
    let said = HandshakeError::ClientDistrusts(alert).to_string();
    let said = suspect.distrusts(worker, &said, &mut entry).await;
    entry.close(Outcome::refused(Reason::TlsClientDistrusts, 0, &said)).await;
}

/// Passes an answer on, no longer than its statement says.
pub(super) async fn within<T>(
    life: Option<Duration>,
    pass: impl Future<Output = Result<T, AnswerError<ExchangeError>>>,
) -> Result<T, AnswerError<ExchangeError>> {
    let Some(life) = life else { return pass.await };
    let over = || AnswerError::Origin(ExchangeError::Limit(life));
    tokio::time::timeout(life, pass).await.unwrap_or_else(|_| Err(over()))
}

/// Closes the entry of a request that was answered; false when the answer broke off. `told`: the client had its status.
pub(super) async fn record<B: Inbound>(
    mut entry: Entry,
    forwarded: &Forwarded<B>,
    passage: &Passage,
    bytes_out: u64,
    told: bool,
    broke: Option<AnswerError<ExchangeError>>,
) -> bool {
    let answer = &forwarded.head;
    let status = if told { answer.status() } else { 0 };
    let broke = broke.map(|error| match error {
        AnswerError::Client(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            (Reason::RequestTimeout, "the client took no more of its answer".to_owned())
        }
        AnswerError::Client(error) => (Reason::RequestAborted, error.to_string()),
        AnswerError::Framing(error) => (Reason::Internal, error.to_string()),
        AnswerError::Origin(error) => {
            let error = match error {
                ExchangeError::TimedOut(after) if forwarded.limits.idle == Some(after) => {
                    ExchangeError::Limit(after)
                }
                error => error,
            };
            (OriginError::of_exchange(&error), error.to_string())
        }
    });
    if let Some(telling) = passage.telling() {
        telling.tell(&mut entry);
    }
    let end = match &broke {
        None => End::Answered,
        Some((reason, message)) => End::Refused { reason: *reason, message },
    };
    let upstream = Upstream {
        leg: &forwarded.upstream.leg,
        reused: forwarded.reused,
        request_id: answer.first("x-amzn-requestid").or_else(|| answer.first("x-amz-request-id")),
        extended_request_id: answer.first("x-amz-id-2"),
        error_type: if answer.status() >= 400 { answer.first("x-amzn-errortype") } else { None },
        waited: Some(forwarded.waited),
    };
    let outcome = Outcome {
        payload: passage.outcome(),
        bytes_in: passage.bytes(),
        bytes_out,
        upstream: Some(upstream),
        ..Outcome::new(end, status)
    };
    entry.close(outcome).await;
    broke.is_none()
}

/// Something that is no request, on a connection that is ours.
async fn malformed<S: Io>(
    worker: &Worker,
    mut client: server::Connection<S>,
    caller: &Caller,
    reason: Reason,
    said: &str,
) {
    let answer = record_malformed(worker, caller, reason, said).await;
    let _ = client.answer_whole(&answer).await;
    client.close().await;
}

/// Writes the record of it; gives the answer.
pub(super) async fn record_malformed(
    worker: &Worker,
    caller: &Caller,
    reason: Reason,
    said: &str,
) -> Vec<u8> {
    let mut entry = worker.recorder.open(&caller.prelude);
    entry.was_for(&caller.arrival.target);
    let answer = reply::to_nobody(reason, &caller.arrival.target.to_string(), &entry.flow().to_string());
    entry.close(Outcome::refused(reason, reason.status(), said)).await;
    answer
}
