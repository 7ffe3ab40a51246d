//! Names to addresses: one lookup for each connection attempt, and only its answers that may be dialled.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;

use super::forward::OriginError;
use crate::engine::target::{Authority, Host, judge_address, judge_named_address};

/// Resolves a target; the addresses come back judged, in the resolver's order. Names are absolute: no search list.
pub async fn addresses(
    target: &Authority,
    ranges: &[IpNet],
    own: &[SocketAddr],
) -> Result<Vec<SocketAddr>, OriginError> {
    let found: Vec<SocketAddr> = match &target.host {
        Host::Literal(ip) => vec![(*ip, target.port).into()],
        Host::Name(name) => {
            let absolute = format!("{name}.");
            let looked_up = tokio::net::lookup_host((absolute.as_str(), target.port)).await;
            looked_up.map_err(|error| OriginError::Resolve { target: target.clone(), error })?.collect()
        }
    };
    let may = |address: &SocketAddr| judge_address(address.ip(), ranges).may_dial() && !own.contains(address);
    let (dial, refused): (Vec<_>, Vec<_>) = found.into_iter().partition(may);
    if dial.is_empty() {
        let refused = refused.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
        return Err(OriginError::Address { target: target.clone(), refused });
    }
    Ok(dial)
}

/// What `--connect-to` names: consent to a private address or this machine, never to metadata or to ourselves.
pub fn named(
    target: &Authority,
    address: SocketAddr,
    own: &[SocketAddr],
) -> Result<Vec<SocketAddr>, OriginError> {
    if judge_named_address(address.ip()).may_dial() && !own.contains(&address) {
        return Ok(vec![address]);
    }
    Err(OriginError::Address { target: target.clone(), refused: address.ip().to_string() })
}

/// Small messages go at once; a peer that vanished is noticed while we wait for a slow answer.
pub fn tune(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(20));
    let _ = socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive);
}
