//! The story of a socket: read what it asks for, admit it, shake hands in the destination's name, serve its requests.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::body::{Inbound, Passage};
use super::distrust::Suspect;
use super::door::{self, Asked, DoorError};
use super::exchange::{Answer, exchange};
use super::forward::{Forwarded, OriginError};
use super::gate::Full;
use super::http1::client::ExchangeError;
use super::http1::io::Io;
use super::http1::server::{self, AnswerError, NoRequest, Passed};
use super::http1::switch;
use super::telling::Overheard;
use super::{Caller, Worker, lesson, owner, reply, spoken, streams, tunnel};
use crate::config::Exec;
use crate::engine::facts::{Arrival, Door};
use crate::engine::hello::Foreign;
use crate::engine::policy::{TunnelLimits, TunnelPermit};
use crate::engine::reason::Reason;
use crate::engine::request::{HeadError, HeadScanner, MAX_HEAD};
use crate::engine::target::Authority;
use crate::engine::target::destination::{self, Refused};
use crate::engine::{self, Course};
use crate::record::metrics::Leg;
use crate::record::{End, Entry, Outcome, Upstream};
use crate::tls::H2;
use crate::tls::handshake::{self, HandshakeError, HelloError, Rewind};

/// A fatal `unrecognized_name(112)` (RFC 6066 3): no name, or not the one that CONNECT asked for.
const UNRECOGNISED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70];

/// Serves one accepted socket to its end.
pub async fn serve(worker: Worker, mut socket: TcpStream, peer: SocketAddr) {
    super::resolve::tune(&socket);
    let limits = worker.shared.config.limits;
    let first = tokio::time::timeout(limits.head, first_head(&mut socket));
    let mut draining = worker.draining.clone();
    let first = tokio::select! {
        biased;
        first = first => first,
        () = super::drained(&mut draining) => return,
    };
    let (head, early) = match first {
        Ok(Ok(Some(read))) => read,
        // It came and went, as health checks do.
        Ok(Ok(None) | Err(FirstError::Lost(_))) => return,
        Ok(Err(FirstError::Head(error))) => {
            return refuse(&worker, socket, peer, b"", of_head(error), &error.to_string()).await;
        }
        Err(_) => {
            return refuse(&worker, socket, peer, b"", Reason::RequestTimeout, "no request in time").await;
        }
    };
    if let Some(exec) = &worker.shared.config.exec
        && !is_child(&worker, exec, &head, &socket, peer).await
    {
        return challenge(&worker, socket, peer).await;
    }
    let target = match door::read(&head) {
        Ok(Asked::Connect(target)) => target,
        Ok(asked @ Asked::Plaintext { .. }) => {
            let named = asked.named().as_bytes().to_vec();
            return refuse(&worker, socket, peer, &named, Reason::TlsPlaintext, "request in plaintext").await;
        }
        Err(error) => {
            let reason = match error {
                DoorError::Head(error) => of_head(error),
                DoorError::Target(_) => Reason::TargetMalformed,
                DoorError::Mismatch => Reason::TargetMismatch,
            };
            return refuse(&worker, socket, peer, door::told(&head), reason, &error.to_string()).await;
        }
    };
    // A denied name is refused inside, in words its SDK shows; what no request could make right, here.
    let course = {
        let policy = worker.shared.policy.load();
        destination::enter(&policy, &target)
            .map(|()| engine::course(&policy, worker.shared.atlas, &target, crate::tls::now()))
    };
    let permit = match course {
        Ok(Course::Intercept) => None,
        Ok(Course::Tunnel(permit)) => match Arc::clone(&worker.shared.tunnels).try_acquire_owned() {
            Ok(place) => Some((permit, place)),
            Err(_) => {
                let (named, most) = (target.to_string(), limits.tunnels);
                let said = format!("{most} tunnels are open");
                return refuse(&worker, socket, peer, named.as_bytes(), Reason::LimitTunnels, &said).await;
            }
        },
        Ok(Course::Refuse { reason, said }) | Err(Refused { reason, said }) => {
            return refuse(&worker, socket, peer, target.to_string().as_bytes(), reason, &said).await;
        }
    };
    let suspect = Suspect::new(&worker.shared, peer, head).await;
    // The large states of handshake and requests live on the heap only once they are needed.
    Box::pin(established(worker, socket, suspect, target, early, permit)).await;
}

enum FirstError {
    Head(HeadError),
    Lost(()),
}

/// The first head, and what came behind it. `None`: the peer ended before it said anything.
async fn first_head(socket: &mut TcpStream) -> Result<Option<(BytesMut, BytesMut)>, FirstError> {
    let mut buf = BytesMut::with_capacity(1024);
    let mut scanner = HeadScanner::default();
    loop {
        if let Some(end) = scanner.scan(&buf).map_err(FirstError::Head)? {
            let rest = buf.split_off(end);
            return Ok(Some((buf, rest)));
        }
        match socket.read_buf(&mut buf).await {
            Ok(0) if buf.is_empty() => return Ok(None),
            Ok(0) => return Err(FirstError::Head(HeadError::RequestLine)),
            Ok(_) if buf.len() > MAX_HEAD => return Err(FirstError::Head(HeadError::TooLarge)),
            Ok(_) => {}
            Err(_) => return Err(FirstError::Lost(())),
        }
    }
}

/// Has no place for a connection. `answered`: there is time to say so.
pub async fn turn_away(worker: &Worker, socket: TcpStream, peer: SocketAddr, full: Full, answered: bool) {
    let said = full.to_string();
    if answered {
        return refuse(worker, socket, peer, b"", Reason::LimitConnections, &said).await;
    }
    let reason = Reason::LimitConnections;
    worker
        .recorder
        .open_connection(Door::Forward, peer, None)
        .close(Outcome::refused(reason, 0, &said))
        .await;
}

/// Says no in plain HTTP, where no TLS has begun.
async fn refuse(
    worker: &Worker,
    mut socket: TcpStream,
    peer: SocketAddr,
    asked: &[u8],
    reason: Reason,
    said: &str,
) {
    let entry =
        worker.recorder.open_connection(Door::Forward, peer, Some(asked).filter(|asked| !asked.is_empty()));
    let subject = if asked.is_empty() { "this".into() } else { String::from_utf8_lossy(asked) };
    let answer = reply::to_nobody(reason, &subject, &entry.flow().to_string());
    entry.close(Outcome::refused(reason, reason.status(), said)).await;
    let _ = socket.write_all(&answer).await;
    let _ = socket.shutdown().await;
    linger(&mut socket).await;
}

/// It has the password of this `exec`; or came to the door for clients that can't, as our own user.
async fn is_child(worker: &Worker, exec: &Exec, head: &[u8], socket: &TcpStream, peer: SocketAddr) -> bool {
    if worker.by_owner {
        return match socket.local_addr() {
            Ok(door) => owner::is_ours(peer, door).await,
            Err(_) => false,
        };
    }
    door::password(head).as_ref() == Some(&exec.password)
}

/// Asks who it is (RFC 9110 15.5.8). Clients that have the password bring it at once, or with their next try.
async fn challenge(worker: &Worker, mut socket: TcpStream, peer: SocketAddr) {
    let reason = Reason::RequestProxyPassword;
    let entry = worker.recorder.open_connection(Door::Forward, peer, None);
    let answer = reply::challenge(reason, &entry.flow().to_string());
    entry.close(Outcome::refused(reason, reason.status(), reason.why())).await;
    let _ = socket.write_all(&answer).await;
    let _ = socket.shutdown().await;
    linger(&mut socket).await;
}

/// Reads for a moment what the peer still sends, so that it reads our answer before a reset.
async fn linger(socket: &mut TcpStream) {
    let drain = async {
        let mut scratch = [0; 4096];
        while let Ok(1..) = socket.read(&mut scratch).await {}
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
}

pub(super) fn of_head(error: HeadError) -> Reason {
    match error {
        HeadError::TooLarge => Reason::RequestTooLarge,
        HeadError::Framing => Reason::RequestFraming,
        HeadError::Expectation => Reason::RequestExpectation,
        HeadError::Upgrade => Reason::RequestUpgrade,
        HeadError::Trace | HeadError::Connect => Reason::RequestMethod,
        HeadError::LineEnd
        | HeadError::RequestLine
        | HeadError::StatusLine
        | HeadError::Version
        | HeadError::Target
        | HeadError::Field
        | HeadError::Host
        | HeadError::Scheme
        | HeadError::Connection => Reason::RequestMalformed,
    }
}

/// Answers CONNECT and reads the hello; then tunnels where there is a permit for it, and intercepts where there is none.
async fn established(
    worker: Worker,
    mut socket: TcpStream,
    suspect: Suspect,
    target: Authority,
    early: BytesMut,
    permit: Option<(TunnelPermit, OwnedSemaphorePermit)>,
) {
    let peer = suspect.peer();
    if socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_err() {
        return;
    }
    let named = target.to_string();
    let open = || worker.recorder.open_connection(Door::Forward, peer, Some(named.as_bytes()));
    let limits = worker.shared.config.limits;
    let deadline = tokio::time::Instant::now() + limits.handshake;
    let (bytes, hello) = match handshake::read_hello(&mut socket, early.to_vec(), deadline).await {
        Ok(read) => read,
        Err(HelloError::Closed | HelloError::Io(_)) => return,
        Err(error) => {
            let entry = open();
            let reason = match &error {
                HelloError::NotTls(_) => Reason::TlsNotTls,
                error => error.reason().unwrap_or(Reason::TlsHandshake),
            };
            let plain = matches!(error, HelloError::NotTls(Foreign::HttpLike));
            let answer = match &error {
                HelloError::BelowFloor { .. } => handshake::protocol_version_alert().to_vec(),
                _ if plain => reply::to_nobody(reason, &named, &entry.flow().to_string()),
                _ => Vec::new(),
            };
            worker.recorder.metrics().hellos_refused.inc();
            let status = if plain { reason.status() } else { 0 };
            entry.close(Outcome::refused(reason, status, &error.to_string())).await;
            let _ = socket.write_all(&answer).await;
            let _ = socket.shutdown().await;
            return linger(&mut socket).await;
        }
    };
    let greeted = match &permit {
        None => destination::greet(&target, hello.sni.as_ref()),
        Some((permit, _)) => tunnel::enter(&target, &hello, permit),
    };
    if let Err(Refused { reason, said }) = greeted {
        open().close(Outcome::refused(reason, 0, &said)).await;
        let _ = socket.write_all(&UNRECOGNISED_NAME).await;
        return linger(&mut socket).await;
    }
    if let Some((permit, place)) = permit {
        let asked = tunnel::Asked { socket, peer, target, bytes, hello, place };
        return tunnel::tunnel(&worker, asked, permit).await;
    }
    let kind = worker.shared.atlas.host(&target.host);
    let offers = spoken::offers(&worker.shared, &target, &kind, &hello);
    let mint = &worker.shared.mint;
    let accepted =
        handshake::accept(Rewind::new(socket, bytes), mint, &target.host, offers.client, deadline).await;
    let (stream, tls) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            let mut entry = open();
            let said = match &error {
                HandshakeError::ClientDistrusts(_) | HandshakeError::Silent => {
                    suspect.distrusts(&worker, &error.to_string(), &mut entry).await
                }
                error => error.to_string(),
            };
            return entry.close(Outcome::refused(error.reason(), 0, &said)).await;
        }
    };
    worker.recorder.metrics().handshake(Leg::Client, &tls);
    let arrival = Arrival { door: Door::Forward, target, kind, peer, tls: Some(tls) };
    let caller = Caller::new(arrival, offers.origin);
    if stream.get_ref().1.alpn_protocol() == Some(H2) {
        return streams::streams(worker, stream, caller, suspect).await;
    }
    let connection = server::Connection::new(stream, super::client_patience(&limits));
    requests(&worker, connection, &caller, Box::new(suspect)).await;
}

/// Serves requests until the client, the origin, a refusal or a drain ends the connection.
async fn requests<S: Io>(
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
                let (bytes, broke) = passed.map_or_else(|error| (0, Some(error)), |bytes| (bytes, None));
                let whole = record(entry, &forwarded, &passage, bytes, broke).await;
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
    record(entry, &forwarded, passage, bytes, broke).await;
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

/// Closes the entry of a request that was answered; false when the answer broke off.
pub(super) async fn record<B: Inbound>(
    mut entry: Entry,
    forwarded: &Forwarded<B>,
    passage: &Passage,
    bytes_out: u64,
    broke: Option<AnswerError<ExchangeError>>,
) -> bool {
    let answer = &forwarded.head;
    let broke = broke.map(|error| match error {
        AnswerError::Client(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            (Reason::RequestTimeout, "the client took no more of its answer".to_owned())
        }
        AnswerError::Client(error) => (Reason::RequestAborted, error.to_string()),
        AnswerError::Framing(error) => (Reason::Internal, error.to_string()),
        AnswerError::Origin(error) => {
            let error = OriginError::Exchange(match error {
                ExchangeError::TimedOut(after) if forwarded.limits.idle == Some(after) => {
                    ExchangeError::Limit(after)
                }
                error => error,
            });
            (error.reason(), error.to_string())
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
        waited: forwarded.waited,
    };
    let outcome = Outcome {
        payload: passage.outcome(),
        bytes_in: passage.bytes(),
        bytes_out,
        upstream: Some(upstream),
        ..Outcome::new(end, answer.status())
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
