//! The story of a client's HTTP/2 connection: each stream is a request with a task of its own, refused or answered by
//! itself, while the connection goes on.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream};
use http::Request;
use tokio::task::JoinSet;

use super::connection::of_head;
use super::distrust::Suspect;
use super::exchange::{Answer, exchange};
use super::http1::io::Io;
use super::http1::server::AnswerError;
use super::http1::wire::Clock;
use super::http2::server::{self, Connection, Last, Stream};
use super::http2::watch::{Fate, Refused, Seen, Taken, Watched};
use super::origin_error::OriginError;
use super::requests::{left, record, record_malformed, within};
use super::telling::Overheard;
use super::{Caller, Worker, lesson};
use crate::engine::reason::Reason;
use crate::engine::request::Framing;
use crate::record::Outcome;

/// Tasks of a connection, those of streams that are over included: while there are so many, no stream is taken up, and
/// resets of what waits are counted against the client.
const MOST_TASKS: usize = 2 * super::http2::STREAMS as usize;
/// What is left to do once a connection is gone: records.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Serves a connection to its end. What is not needed while it idles is boxed: a future keeps room for all that was ever
/// in it.
pub fn streams<S: Io>(worker: Worker, io: S, caller: Caller, suspect: Suspect) -> impl Future<Output = ()> {
    let (io, seen) = Watched::new(io);
    let shaken = Box::pin(server::shake(io, worker.shared.config.limits.head));
    let mut served = Box::pin(serve(worker, shaken, seen.clone(), caller, suspect));
    std::future::poll_fn(move |cx| {
        seen.begin_turn();
        served.as_mut().poll(cx)
    })
}

async fn serve<S: Io>(
    worker: Worker,
    shaken: Pin<Box<impl Future<Output = Result<Connection<S>, h2::Error>>>>,
    seen: Seen,
    caller: Caller,
    suspect: Suspect,
) {
    let limits = worker.shared.config.limits;
    let mut connection = match shaken.await.map(Box::new) {
        Ok(connection) => connection,
        Err(error) if !seen.has_begun() => {
            return Box::pin(left(&worker, &caller, suspect, error.get_io())).await;
        }
        Err(error) => {
            let slow = error.reason() == Some(Code::SETTINGS_TIMEOUT);
            let reason = if slow { Reason::RequestTimeout } else { Reason::RequestMalformed };
            let said = "it began with something else than HTTP/2";
            return Box::pin(unanswered(&worker, &caller, reason, said)).await;
        }
    };
    let caller = Arc::new(caller);
    let mut suspect = Some(suspect);
    let mut tasks = JoinSet::new();
    let mut draining = worker.draining.clone();
    let mut drained = pin!(super::drained(&mut draining));
    let mut idle = pin!(tokio::time::sleep(limits.body_idle));
    let mut head = HeadClock { within: limits.head, of: 0, clock: Clock::default() };
    let (mut ending, mut dry) = (false, false);
    // How long it may be open yet, once it was told to end because nobody used it.
    let mut last_wait = None;
    let ended = loop {
        reap(&mut tasks);
        tokio::select! {
            biased;
            next = next(&mut connection, &seen, &mut head, tasks.len() < MOST_TASKS, &mut dry) => match next {
                Next::Request(request, respond) => {
                    suspect = None;
                    let taken = seen.take(respond.stream_id().into());
                    dry = !seen.holds_any();
                    let answered = stream(worker.clone(), request, respond, Arc::clone(&caller), taken);
                    // Boxed: a task is handed on several times a request, with all that is in it.
                    tasks.spawn(Box::pin(answered));
                }
                Next::Refused(refused) => {
                    suspect = None;
                    let (worker, caller) = (worker.clone(), Arc::clone(&caller));
                    tasks.spawn(Box::pin(async move { never_was(&worker, &caller, refused).await }));
                }
                Next::SlowHead => {
                    suspect = None;
                    if seen.give_up_head().is_some() {
                        let said = "head took too long";
                        Box::pin(unanswered(&worker, &caller, Reason::RequestTimeout, said)).await;
                    }
                    // Nothing else can come while it is not whole.
                    connection.abrupt_shutdown(Code::NO_ERROR);
                }
                Next::End(ended) => break ended,
            },
            // While there are fewer, a task that ends need not wake this one: what has ended is looked for when it wakes.
            Some(ended) = tasks.join_next(), if tasks.len() >= MOST_TASKS => joined(ended),
            // GOAWAY: what is under way is finished, nothing new is taken (RFC 9113 6.8).
            () = drained.as_mut(), if !ending => {
                ending = true;
                connection.graceful_shutdown();
            }
            () = idle.as_mut() => {
                reap(&mut tasks);
                let now = Instant::now();
                let due = if !tasks.is_empty() {
                    now + limits.body_idle
                } else if seen.half_head().is_some() {
                    // One whose head is under way is slow, not idle.
                    now + limits.head
                } else {
                    last_wait.unwrap_or(now).max(seen.last_used() + limits.body_idle)
                };
                if due > now {
                    idle.as_mut().reset(due.into());
                    continue;
                }
                if ending {
                    break None;
                }
                ending = true;
                connection.graceful_shutdown();
                last_wait = Some(now + limits.handshake);
                idle.as_mut().reset((now + limits.handshake).into());
            }
        }
    };
    for refused in seen.left() {
        suspect = None;
        Box::pin(never_was(&worker, &caller, refused)).await;
    }
    if let Some(error) = ended.as_ref().filter(|error| error.is_library()) {
        let reason = match error.reason() {
            Some(Code::ENHANCE_YOUR_CALM) => Reason::LimitFlood,
            _ => Reason::RequestMalformed,
        };
        Box::pin(unanswered(&worker, &caller, reason, &error.to_string())).await;
    } else if let Some(suspect) = suspect {
        Box::pin(left(&worker, &caller, suspect, ended.as_ref().and_then(h2::Error::get_io))).await;
    }
    // Their streams are reset, which ends them; what is dropped open records that it was aborted.
    let ended = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_WORDS, ended).await;
}

#[allow(clippy::large_enum_variant)] // made once a request and taken apart at once
enum Next {
    Request(Request<RecvStream>, SendResponse<Bytes>),
    Refused(Refused),
    SlowHead,
    End(Option<h2::Error>),
}

/// How long the head that is under way may take; moved on from one to the next.
struct HeadClock {
    within: Duration,
    of: u64,
    clock: Clock,
}

impl HeadClock {
    fn poll_over(&mut self, half: Option<u64>, cx: &mut Context<'_>) -> Poll<()> {
        match half {
            Some(head) if self.of != head => {
                self.of = head;
                self.clock.set(self.within);
            }
            Some(_) => {}
            None => self.clock.stop(),
        }
        ready!(self.clock.poll_expired(cx));
        self.clock.stop();
        Poll::Ready(())
    }
}

/// What comes next. The connection makes its progress in here, also while no stream is taken up. `dry`: it was polled in
/// this turn until nothing was left to do, and is not to be polled again before something wakes it.
async fn next<S: Io>(
    connection: &mut Connection<S>,
    seen: &Seen,
    head: &mut HeadClock,
    take: bool,
    dry: &mut bool,
) -> Next {
    std::future::poll_fn(|cx| {
        let polled = if std::mem::take(dry) {
            Poll::Pending
        } else if take {
            connection.poll_accept(cx)
        } else {
            connection.poll_closed(cx).map(|ended| ended.err().map(Err))
        };
        match polled {
            Poll::Ready(Some(Ok((request, respond)))) => {
                return Poll::Ready(Next::Request(request, respond));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Next::End(Some(error))),
            Poll::Ready(None) => return Poll::Ready(Next::End(None)),
            Poll::Pending => {}
        }
        if take && let Some(refused) = seen.refused() {
            return Poll::Ready(Next::Refused(refused));
        }
        head.poll_over(seen.half_head(), cx).map(|()| Next::SlowHead)
    })
    .await
}

/// Takes those out that have ended.
fn reap(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.try_join_next() {
        joined(ended);
    }
}

fn joined(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a request's task panicked");
    }
}

/// Records a request that the library kept from us.
async fn never_was(worker: &Worker, caller: &Caller, refused: Refused) {
    let Refused { stream, fate } = refused;
    let (reason, said) = match fate {
        Fate::TooLarge => (Reason::RequestTooLarge, format!("stream {stream}: head too large")),
        Fate::Reset(Code::REFUSED_STREAM) => {
            let most = super::http2::STREAMS;
            (Reason::LimitStreams, format!("stream {stream}: {most} streams are open"))
        }
        Fate::Reset(code) => (Reason::RequestMalformed, format!("stream {stream} was reset: {code}")),
        Fate::Forgotten => {
            (Reason::RequestAborted, format!("the connection ended before stream {stream} was taken up"))
        }
    };
    let answered = if fate == Fate::TooLarge { reason.status() } else { 0 };
    record_unanswered(worker, caller, reason, answered, &said).await;
}

/// Records what no answer could be given to.
async fn unanswered(worker: &Worker, caller: &Caller, reason: Reason, said: &str) {
    record_unanswered(worker, caller, reason, 0, said).await;
}

async fn record_unanswered(worker: &Worker, caller: &Caller, reason: Reason, status: u16, said: &str) {
    let mut entry = worker.recorder.open(&caller.prelude);
    entry.was_for(&caller.arrival.target);
    entry.close(Outcome::refused(reason, status, said)).await;
}

/// Answers one request. A client that resets its stream takes the request with it: the dropped entry records that.
async fn stream(
    worker: Worker,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    caller: Arc<Caller>,
    taken: Taken,
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
    let mut exchange = Box::pin(exchange(&worker, &head, body, &caller));
    let answer = match client.unless_reset(exchange.as_mut()).await {
        Ok(answer) => answer,
        Err(code) => {
            // The library reset it, for what the client sent.
            let fault = code.filter(|_| !taken.is_given_up()).and_then(server::fault);
            if let Some(reason) = fault {
                worker.recorder.gives_up(reason, || drop(exchange));
            }
            return;
        }
    };
    match answer {
        Answer::Refused(answer) => {
            let _ = client.answer_whole(&answer).await;
        }
        Answer::Passed(mut forwarded, entry, passage, lesson) => {
            let fields = forwarded.body.take_fields();
            let passed = match (lesson, passage.telling(), forwarded.limits.life) {
                (None, None, None) => client.pass(&forwarded.head, fields, &mut forwarded.body).await,
                (lesson, telling, life) => {
                    let keys = &worker.shared.keys;
                    let mut taught = lesson::taught(lesson, keys, &forwarded.head, &mut forwarded.body);
                    let mut overheard = Overheard::new(&mut taught, telling);
                    Box::pin(within(life, client.pass(&forwarded.head, fields, &mut overheard))).await
                }
            };
            let (last, broke) = match passed {
                Ok(last) => (Some(last), None),
                Err(error) => (None, Some(error)),
            };
            let bytes = client.carried() + last.as_ref().map_or(0, Last::bytes);
            let code = match &broke {
                Some(AnswerError::Client(_)) => Code::CANCEL,
                _ => Code::INTERNAL_ERROR,
            };
            let told = broke.is_none() || client.has_begun();
            record(entry, &forwarded, &passage, bytes, told, broke).await;
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
    if client.is_reset() {
        return unanswered(worker, caller, reason, said).await;
    }
    let answer = record_malformed(worker, caller, reason, said).await;
    let _ = client.answer_whole(&answer).await;
}
