//! The story of a socket: read what it asks for, admit it, shake hands in the destination's name; then it is a tunnel
//! (tunnel.rs), or brings requests by HTTP/1.1 (requests.rs) or HTTP/2 (streams.rs).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;

use super::distrust::Suspect;
use super::door::{self, Asked, DoorError};
use super::gate::Full;
use super::http1::server;
use super::requests::requests;
use super::{Caller, Worker, owner, reply, spoken, streams, tunnel};
use crate::config::Exec;
use crate::engine::facts::{Arrival, Door};
use crate::engine::hello::Foreign;
use crate::engine::policy::TunnelPermit;
use crate::engine::reason::Reason;
use crate::engine::request::{HeadError, HeadScanner, MAX_HEAD};
use crate::engine::target::Authority;
use crate::engine::target::destination::{self, Refused};
use crate::engine::{self, Course};
use crate::record::Outcome;
use crate::record::metrics::Leg;
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
    // Each on the heap, and only while it lasts: a connection spends its life waiting for the next request.
    match Box::pin(establish(&worker, socket, suspect, target, early, permit)).await {
        None => {}
        Some(Established::Tunnel(asked, permit)) => Box::pin(tunnel::tunnel(&worker, asked, permit)).await,
        Some(Established::Streams(stream, caller, suspect)) => {
            streams::streams(worker, stream, caller, suspect).await;
        }
        Some(Established::Requests(client, caller, suspect)) => {
            Box::pin(requests(&worker, client, &caller, suspect)).await;
        }
    }
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
        let mut scratch = vec![0; 4096];
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

type Stream = TlsStream<Rewind<TcpStream>>;

/// What a connection has become, for the rest of its life.
#[allow(clippy::large_enum_variant)] // made once a connection and taken apart at once
enum Established {
    Tunnel(tunnel::Asked, TunnelPermit),
    Requests(server::Connection<Stream>, Caller, Box<Suspect>),
    Streams(Stream, Caller, Suspect),
}

/// Answers CONNECT and reads the hello; then there is a tunnel where there is a permit for it, and a handshake in the
/// destination's name where there is none. `None`: it is over, and on record.
async fn establish(
    worker: &Worker,
    mut socket: TcpStream,
    suspect: Suspect,
    target: Authority,
    early: BytesMut,
    permit: Option<(TunnelPermit, OwnedSemaphorePermit)>,
) -> Option<Established> {
    let peer = suspect.peer();
    if socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_err() {
        return None;
    }
    let named = target.to_string();
    let open = || worker.recorder.open_connection(Door::Forward, peer, Some(named.as_bytes()));
    let limits = worker.shared.config.limits;
    let deadline = tokio::time::Instant::now() + limits.handshake;
    let (bytes, hello) = match handshake::read_hello(&mut socket, early.to_vec(), deadline).await {
        Ok(read) => read,
        Err(HelloError::Closed | HelloError::Io(_)) => return None,
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
            linger(&mut socket).await;
            return None;
        }
    };
    let greeted = match &permit {
        None => destination::greet(&target, hello.sni.as_ref()),
        Some((permit, _)) => tunnel::enter(&target, &hello, permit),
    };
    if let Err(Refused { reason, said }) = greeted {
        open().close(Outcome::refused(reason, 0, &said)).await;
        let _ = socket.write_all(&UNRECOGNISED_NAME).await;
        linger(&mut socket).await;
        return None;
    }
    if let Some((permit, place)) = permit {
        let asked = tunnel::Asked { socket, peer, target, bytes, hello, place };
        return Some(Established::Tunnel(asked, permit));
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
                    suspect.distrusts(worker, &error.to_string(), &mut entry).await
                }
                error => error.to_string(),
            };
            entry.close(Outcome::refused(error.reason(), 0, &said)).await;
            return None;
        }
    };
    worker.recorder.metrics().handshake(Leg::Client, &tls);
    let arrival = Arrival { door: Door::Forward, target, kind, peer, tls: Some(tls) };
    let caller = Caller::new(arrival, offers.origin, suspect.process());
    if stream.get_ref().1.alpn_protocol() == Some(H2) {
        return Some(Established::Streams(stream, caller, suspect));
    }
    let client = server::Connection::new(stream, super::client_patience(&limits));
    Some(Established::Requests(client, caller, Box::new(suspect)))
}
