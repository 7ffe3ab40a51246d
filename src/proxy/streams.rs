//! The story of a client's HTTP/2 connection: each stream is a request with a task of its own, refused or answered by
//! itself, while the connection goes on.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream};
use http::Request;
use tokio::task::JoinSet;

use super::connection::of_head;
use super::distrust::Suspect;
use super::exchange::{Answer, exchange};
use super::forward::OriginError;
use super::http1::io::Io;
use super::http1::server::AnswerError;
use super::http2::server::{self, Connection, Stream};
use super::requests::{left, record, record_malformed, within};
use super::telling::Overheard;
use super::{Caller, Worker, lesson};
use crate::engine::reason::Reason;
use crate::engine::request::Framing;

/// Tasks of a connection, those of streams that are over included: while there are so many, no stream is taken up, and
/// resets of what waits are counted against the client.
const MOST_TASKS: usize = 2 * super::http2::STREAMS as usize;
/// What is left to do once a connection is gone: records.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Serves a connection to its end.
pub async fn streams<S: Io>(worker: Worker, io: S, caller: Caller, suspect: Suspect) {
    let limits = worker.shared.config.limits;
    let mut connection = match server::shake(io, limits.head).await {
        Ok(connection) => connection,
        Err(error) => return left(&worker, &caller, suspect, error.get_io()).await,
    };
    let caller = Arc::new(caller);
    let mut suspect = Some(suspect);
    let mut tasks = JoinSet::new();
    let mut draining = worker.draining.clone();
    let mut drained = pin!(super::drained(&mut draining));
    let mut idle = pin!(tokio::time::sleep(limits.body_idle));
    let mut ending = false;
    let ended = loop {
        tokio::select! {
            biased;
            next = next(&mut connection, tasks.len() < MOST_TASKS) => match next {
                Some(Ok((request, respond))) => {
                    suspect = None;
                    tasks.spawn(stream(worker.clone(), request, respond, Arc::clone(&caller)));
                }
                Some(Err(error)) => break Some(error),
                None => break None,
            },
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a request's task panicked");
                }
                idle.as_mut().reset(tokio::time::Instant::now() + limits.body_idle);
            }
            // GOAWAY: what is under way is finished, nothing new is taken (RFC 9113 6.8).
            () = drained.as_mut(), if !ending => {
                ending = true;
                connection.graceful_shutdown();
            }
            () = idle.as_mut(), if tasks.is_empty() => {
                if ending {
                    break None;
                }
                ending = true;
                connection.graceful_shutdown();
                idle.as_mut().reset(tokio::time::Instant::now() + limits.handshake);
            }
        }
    };
    if let Some(error) = ended.as_ref().filter(|error| error.is_library()) {
        let reason = match error.reason() {
            Some(Code::ENHANCE_YOUR_CALM) => Reason::LimitFlood,
            _ => Reason::RequestMalformed,
        };
        record_malformed(&worker, &caller, reason, &error.to_string()).await;
    } else if let Some(suspect) = suspect {
        left(&worker, &caller, suspect, ended.as_ref().and_then(h2::Error::get_io)).await;
    }
    // Their streams are reset, which ends them; what is dropped open records that it was aborted.
    let ended = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_WORDS, ended).await;
}

type Next = Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// The next stream. The connection makes its progress in here, also while no stream is taken up.
async fn next<S: Io>(connection: &mut Connection<S>, take: bool) -> Next {
    std::future::poll_fn(|cx| {
        if take {
            return connection.poll_accept(cx);
        }
        match connection.poll_closed(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(None),
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Answers one request. A client that resets its stream takes the request with it: the dropped entry records that.
async fn stream(
    worker: Worker,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    caller: Arc<Caller>,
) {
    let patience = worker.shared.config.limits.body_idle;
    let (head, mut body, mut client) = server::read(request, respond, Some(&caller.arrival.target), patience);
    let head = match head {
        Ok(head) => head,
        Err(error) => {
            return malformed(&worker, client, &caller, of_head(error), &error.to_string()).await;
        }
    };
    if head.framing() == Framing::Length(0)
        && let Err(error) = body.is_empty().await
    {
        let reason = OriginError::of_body(&error);
        return malformed(&worker, client, &caller, reason, &error.to_string()).await;
    }
    let exchange = Box::pin(exchange(&worker, &head, body, &caller));
    let Some(answer) = client.unless_reset(exchange).await else { return };
    match answer {
        Answer::Refused(answer) => {
            let _ = client.answer_whole(&answer).await;
        }
        Answer::Passed(mut forwarded, entry, passage, lesson) => {
            let passed = match (lesson, passage.telling(), forwarded.limits.life) {
                (None, None, None) => client.pass(&forwarded.head, &mut forwarded.body).await,
                (lesson, telling, life) => {
                    let keys = &worker.shared.keys;
                    let mut taught = lesson::taught(lesson, keys, &forwarded.head, &mut forwarded.body);
                    let mut overheard = Overheard::new(&mut taught, telling);
                    Box::pin(within(life, client.pass(&forwarded.head, &mut overheard))).await
                }
            };
            let (bytes, last, broke) = match passed {
                Ok((bytes, last)) => (bytes, Some(last), None),
                Err(error) => (0, None, Some(error)),
            };
            let code = match &broke {
                Some(AnswerError::Client(_)) => Code::CANCEL,
                _ => Code::INTERNAL_ERROR,
            };
            record(entry, &forwarded, &passage, bytes, broke).await;
            // The origin's connection must not wait for this client.
            drop(forwarded);
            match last {
                Some(last) => {
                    let _ = client.finish(last).await;
                }
                None => client.reset(code),
            }
        }
    }
}

/// Something that is no request, on a stream that is ours.
async fn malformed(worker: &Worker, mut client: Stream, caller: &Caller, reason: Reason, said: &str) {
    let answer = record_malformed(worker, caller, reason, said).await;
    let _ = client.answer_whole(&answer).await;
}
