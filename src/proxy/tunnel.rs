//! A tunnel: both hellos are read and held to the floor, then bytes pass unread until one side ends or a limit is met.
//!
//! `connection.rs` has read and judged the client's hello and hands it on with its permit. Nothing goes to the client
//! before the origin's hello was judged, and nothing to the origin before the intent is on record.

mod carry;
#[cfg(target_os = "linux")]
mod pipe;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use carry::{Ended, Passed};

use super::Worker;
use super::chain::Way;
use super::forward::{reach, turn};
use super::origin_error::{OriginError, Reached};
use super::pool::Key;
use crate::engine::facts::{Door, Shown, TlsFacts, TlsVersion};
use crate::engine::hello::flight::{self, Flight};
use crate::engine::hello::server::{self, Answer, ServerHello};
use crate::engine::hello::{self, ClientHello, Hello, after_ccs};
use crate::engine::policy::TunnelPermit;
use crate::engine::reason::Reason;
use crate::engine::target::{Authority, destination};
use crate::record::metrics::Leg;
use crate::record::{Decision, End, Entry, LegText, Outcome, Request, Upstream};
use crate::tls::origin::AtLeast;
use crate::tls::{self, Offer};

/// A server's first flight fits, as a rule.
const FIRST_READ: usize = 4096;
/// While the program drains, a tunnel ends once nothing has passed for this long: what is inside can't be asked.
const QUIET: Duration = Duration::from_secs(1);
const PROTOCOL_VERSION: u8 = 70;
const INTERNAL_ERROR: u8 = 80;

/// Where a connection wants to be tunnelled.
pub struct Asked {
    pub socket: TcpStream,
    pub peer: SocketAddr,
    pub target: Authority,
    /// All that the client sent so far: its hello, and what came behind it.
    pub bytes: Vec<u8>,
    pub hello: ClientHello,
    /// Given back when the tunnel ends.
    pub place: OwnedSemaphorePermit,
}

/// Why a tunnel did not come about, or ended before one side ended it.
#[derive(Debug, thiserror::Error)]
enum TunnelError {
    #[error("{0}")]
    Origin(#[from] OriginError),
    #[error("the origin chose {0}, below what is demanded")]
    BelowFloor(&'static str),
    #[error("the origin chose suite {0:#06x}, which has no forward secrecy or no AEAD")]
    Suite(u16),
    #[error("the origin does not speak TLS")]
    NotTls,
    #[error("the origin's hello is malformed: {0}")]
    Malformed(&'static str),
    #[error("the origin answered no hello in time")]
    Timeout,
    #[error("the origin closed the connection before its hello")]
    Closed,
    #[error("the client's second hello {0}")]
    SecondHello(&'static str),
    #[error("the client went away")]
    Client(#[source] io::Error),
    #[error("{0}")]
    Limit(String),
}

impl TunnelError {
    fn reason(&self) -> Reason {
        match self {
            Self::Origin(error) => error.reason(),
            Self::BelowFloor(_) => Reason::UpstreamBelowFloor,
            Self::Suite(_) | Self::Malformed(_) => Reason::UpstreamTls,
            Self::NotTls => Reason::UpstreamNotTls,
            Self::Timeout => Reason::UpstreamTimeout,
            Self::Closed => Reason::UpstreamClosed,
            Self::SecondHello(_) => Reason::TargetMismatch,
            Self::Client(_) => Reason::RequestAborted,
            Self::Limit(_) => Reason::LimitTunnel,
        }
    }
}

/// Opens the tunnel and carries it to its end. Recorded in any case.
pub async fn tunnel(worker: &Worker, asked: Asked, permit: TunnelPermit) {
    let Asked { mut socket, peer, target, bytes, hello, place: _place } = asked;
    let mut entry = worker.recorder.open_connection(Door::Forward, peer, Some(target.to_string().as_bytes()));
    entry.judged(&request(&target, &permit));
    let mut seen = Seen::default();
    let deadline = Instant::now() + worker.shared.config.limits.handshake;
    let opened =
        open(worker, &mut entry, &mut socket, (peer, &target, bytes, &hello), &permit, deadline, &mut seen);
    let ended = match opened.await {
        Ok(mut origin) => {
            if let Some(facts) = &seen.tls {
                worker.recorder.metrics().handshake(Leg::Upstream, facts);
            }
            let mut draining = worker.draining.clone();
            let leave = async {
                super::drained(&mut draining).await;
                carry::idle(QUIET, &seen.passed).await;
            };
            ended(carry::carry(&mut socket, &mut origin, permit.limits(), &seen.passed, leave).await)
        }
        Err(error) => {
            let alert = match &error {
                TunnelError::BelowFloor(_) => PROTOCOL_VERSION,
                _ => INTERNAL_ERROR,
            };
            let _ = socket.write_all(&[0x15, 3, 3, 0, 2, 2, alert]).await;
            let _ = socket.shutdown().await;
            Err(error)
        }
    };
    let message = ended.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let end = match &ended {
        Ok(()) => End::Tunnelled,
        Err(error) => End::Refused { reason: error.reason(), message: &message },
    };
    let reached = match (&ended, seen.address) {
        (_, Some(address)) => Some(Reached::Dialled(match &seen.tls {
            Some(facts) => LegText::dialled_at(address, Some(facts)),
            None => LegText::unshaken_at(address, &seen.shown),
        })),
        (Err(TunnelError::Origin(error)), None) => error.reached(),
        _ => None,
    };
    // Only what came about counts as gone upstream.
    let waited = seen.tls.as_ref().map(|_| Duration::ZERO);
    let upstream = reached.as_ref().map(|reached| Upstream { waited, ..reached.recorded() });
    let outcome = Outcome {
        bytes_in: seen.passed.up(),
        bytes_out: seen.passed.down(),
        upstream,
        ..Outcome::new(end, 0)
    };
    entry.close(outcome).await;
}

/// What was met on the way, for the record: also of a tunnel that did not come about.
#[derive(Default)]
struct Seen {
    address: Option<SocketAddr>,
    /// What the origin showed, until it is judged.
    shown: Shown,
    tls: Option<TlsFacts>,
    /// The hellos count like all that follows.
    passed: Passed,
}

fn ended(how: Ended) -> Result<(), TunnelError> {
    match how {
        Ended::Itself => Ok(()),
        Ended::Cap(most) => Err(TunnelError::Limit(format!("the tunnel carried its {most} bytes"))),
        Ended::Idle(limit) => Err(TunnelError::Limit(format!("the tunnel was idle for {limit:?}"))),
        Ended::Life(limit) => Err(TunnelError::Limit(format!("the tunnel lived for {limit:?}"))),
    }
}

fn request<'a>(target: &'a Authority, permit: &'a TunnelPermit) -> Request<'a> {
    Request {
        decision: Decision::Allow,
        statement: Some(permit.statement()),
        policy: permit.policy(),
        ..Request::unjudged("CONNECT", target, b"")
    }
}

/// Dials, sends the client's hello, and judges the origin's before any byte of it goes back.
async fn open(
    worker: &Worker,
    entry: &mut Entry,
    client: &mut TcpStream,
    (peer, target, first, hello): (SocketAddr, &Authority, Vec<u8>, &ClientHello),
    permit: &TunnelPermit,
    deadline: Instant,
    seen: &mut Seen,
) -> Result<Way, TunnelError> {
    let shared = &worker.shared;
    let key = Key {
        authority: target.clone(),
        dial: shared.config.connect_to.lookup(target),
        policy: permit.policy_id(),
        trust: 0,
        offer: Offer::Http1,
    };
    let _turn = turn(worker).await?;
    let (mut origin, address) = reach(worker, &key, peer.ip()).await?;
    seen.address = Some(address);
    entry.intend().await.map_err(OriginError::Audit)?;
    let at_least = if permit.min_tls13() { AtLeast::Tls13 } else { AtLeast::Tls12 };
    let exchange = async {
        send(&mut origin, &first).await?;
        seen.passed.count_up(first.len());
        let (mut answer, mut chose) =
            receive(&mut origin, Vec::with_capacity(FIRST_READ), at_least, &mut seen.shown).await?;
        if chose.as_ref().is_some_and(|chose| chose.retry) {
            client.write_all(&answer).await.map_err(TunnelError::Client)?;
            seen.passed.count_down(answer.len());
            // RFC 8446 4.1.2: the second hello names the same; a decision and its routing go by the same name.
            let again = second_hello(client, hello).await?;
            send(&mut origin, &again).await?;
            seen.passed.count_up(again.len());
            // Of a record that was cut by the network, the beginning went to the client already.
            let begun = unfinished(&answer).to_vec();
            let gone = begun.len();
            (answer, chose) = receive(&mut origin, begun, at_least, &mut seen.shown).await?;
            answer.drain(..gone);
        }
        seen.tls = chose.and_then(|chose| facts(&chose, hello));
        if let Some(tls) = seen.tls.as_mut().filter(|tls| tls.version == TlsVersion::Tls12) {
            let flight = flight(&mut origin, &mut answer).await;
            tls.chain = tls::told(&flight.certificates);
            tls.group = flight.group.and_then(server::group_name);
        }
        client.write_all(&answer).await.map_err(TunnelError::Client)?;
        seen.passed.count_down(answer.len());
        Ok(())
    };
    tokio::time::timeout_at(deadline, exchange).await.unwrap_or(Err(TunnelError::Timeout))?;
    Ok(origin)
}

async fn send(origin: &mut Way, bytes: &[u8]) -> Result<(), TunnelError> {
    origin.write_all(bytes).await.map_err(|_| TunnelError::Closed)?;
    origin.flush().await.map_err(|_| TunnelError::Closed)
}

/// The origin's first bytes until they are judged. `None`: an alert that the client is to read for itself.
async fn receive(
    origin: &mut Way,
    mut bytes: Vec<u8>,
    at_least: AtLeast,
    shown: &mut Shown,
) -> Result<(Vec<u8>, Option<ServerHello>), TunnelError> {
    loop {
        match server::read(after_ccs(&bytes)) {
            Answer::Hello(hello) => {
                *shown = hello.shown();
                return judge(hello, at_least).map(|()| (bytes, Some(hello)));
            }
            // We know that the client offered 1.2 at least: who wants less says so by this alert.
            Answer::Alert { record, description: PROTOCOL_VERSION } => {
                shown.version = (record < hello::FLOOR).then(|| hello::version_name(record));
                let unsaid = "nothing that the client offers (its alert does not say what)";
                return Err(TunnelError::BelowFloor(shown.version.unwrap_or(unsaid)));
            }
            Answer::Alert { .. } => return Ok((bytes, None)),
            Answer::Sslv2 => {
                shown.version = Some(hello::version_name(2));
                return Err(TunnelError::BelowFloor(hello::version_name(2)));
            }
            Answer::NotTls => return Err(TunnelError::NotTls),
            Answer::Malformed(what) => return Err(TunnelError::Malformed(what)),
            Answer::NeedMore { .. } => {}
        }
        match origin.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Err(TunnelError::Closed),
            Ok(_) => {}
        }
    }
}

/// What a TLS 1.2 origin shows behind its hello. One that ends, or shows more than a hello may have, is told of without
/// it: the bytes go on either way.
async fn flight(origin: &mut Way, bytes: &mut Vec<u8>) -> Flight {
    loop {
        if let Some(flight) = flight::read(bytes) {
            return flight;
        }
        if bytes.len() >= hello::MAX_HELLO || !matches!(origin.read_buf(bytes).await, Ok(1..)) {
            return Flight::default();
        }
    }
}

/// What stands behind the last whole record.
fn unfinished(mut bytes: &[u8]) -> &[u8] {
    while let [_, _, _, high, low, rest @ ..] = bytes {
        match rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) {
            Some(next) => bytes = next,
            None => break,
        }
    }
    bytes
}

fn judge(hello: ServerHello, at_least: AtLeast) -> Result<(), TunnelError> {
    let low = match at_least {
        AtLeast::Tls12 => hello.below_floor(),
        AtLeast::Tls13 => hello.version < server::TLS_1_3,
    };
    if low {
        return Err(TunnelError::BelowFloor(hello.chose()));
    }
    if server::suite_name(hello.cipher).is_none() {
        return Err(TunnelError::Suite(hello.cipher));
    }
    Ok(())
}

/// Reads the hello that answers a HelloRetryRequest, and holds it to the first.
async fn second_hello(client: &mut TcpStream, first: &ClientHello) -> Result<Vec<u8>, TunnelError> {
    let mut bytes = Vec::new();
    loop {
        match hello::read(after_ccs(&bytes)) {
            Hello::Client(again) if again.sni != first.sni => {
                return Err(TunnelError::SecondHello("names another server"));
            }
            Hello::Client(again) if again.ech != first.ech || again.below_floor() => {
                return Err(TunnelError::SecondHello("offers something else"));
            }
            Hello::Client(_) => return Ok(bytes),
            Hello::NeedMore { .. } => {}
            _ => return Err(TunnelError::SecondHello("is none")),
        }
        match client.read_buf(&mut bytes).await {
            Ok(0) => return Err(TunnelError::Client(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(TunnelError::Client(error)),
        }
    }
}

fn facts(chose: &ServerHello, hello: &ClientHello) -> Option<TlsFacts> {
    Some(TlsFacts {
        version: if chose.version >= server::TLS_1_3 { TlsVersion::Tls13 } else { TlsVersion::Tls12 },
        cipher: server::suite_name(chose.cipher)?,
        group: chose.group.and_then(server::group_name),
        // TLS 1.3 tells the client alone.
        alpn: None,
        sni: hello.sni.as_ref().and_then(|sni| sni.as_name()).map(Into::into),
        // TLS 1.3 shows it to the client alone; of TLS 1.2 it is still to come.
        chain: Arc::default(),
    })
}

/// What a tunnel's hello must be, beyond what every hello must.
pub fn enter(
    target: &Authority,
    hello: &ClientHello,
    permit: &TunnelPermit,
) -> Result<(), destination::Refused> {
    destination::greet(target, hello.sni.as_ref())?;
    if hello.ech && !permit.ech() {
        let said = "the hello is encrypted in part (ECH), so its true name is not seen".to_owned();
        return Err(destination::Refused { reason: Reason::TlsEch, said });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_cut_is_told_from_those_that_are_whole() {
        let ccs = [20, 3, 3, 0, 1, 1];
        let two = [&[22, 3, 3, 0, 2, 9, 9][..], &ccs].concat();
        assert!(unfinished(&two).is_empty());
        for cut in 1..6 {
            assert_eq!(unfinished(&two[..7 + cut]), &ccs[..cut]);
        }
    }
}
