//! Names to connections: one lookup for each attempt, and exactly one of its answers that may be dialled.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::origin_error::OriginError;
use crate::engine::target::destination::{self, Refused};
use crate::engine::target::{Authority, Host, judge_named_address};

/// RFC 8305 5: the next address is tried when the one before it has not answered for this long.
const HEAD_START: Duration = Duration::from_millis(250);
/// Where names stand that need no resolver.
const HOSTS: &str = "/etc/hosts";
/// A hosts file is a page; what is larger is not read on a request's path.
const MOST_HOSTS: u64 = 1 << 20;

/// Resolves a target once; the addresses come back judged, in the resolver's order. Names are absolute: no search list.
pub async fn addresses(
    target: &Authority,
    ranges: &[IpNet],
    own: &[SocketAddr],
) -> Result<Vec<SocketAddr>, OriginError> {
    let answers = match &target.host {
        Host::Literal(ip) => vec![*ip],
        Host::Name(name) => {
            look_up(name).await.map_err(|error| OriginError::Resolve { target: target.clone(), error })?
        }
    };
    destination::dial(target, ranges, &answers, &|address| is_own(own, address)).map_err(OriginError::Refused)
}

/// `/etc/hosts` counts, as it does for everybody; glibc alone would not find a name that ends in a dot there.
async fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let name = name.to_owned();
    // One hop to a thread that may wait, for the file and the resolver together.
    let looking = tokio::task::spawn_blocking(move || {
        let listed = listed(&hosts(), &name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let answers = (format!("{name}."), 0).to_socket_addrs()?;
        let mut found: Vec<IpAddr> = answers.map(|address| address.ip()).collect();
        found.dedup();
        Ok(found)
    });
    looking.await.map_err(io::Error::other)?
}

/// A file that is missing, unreadable or no hosts file lists nothing.
fn hosts() -> String {
    let small = std::fs::metadata(HOSTS).is_ok_and(|meta| meta.len() <= MOST_HOSTS);
    if small { std::fs::read_to_string(HOSTS).unwrap_or_default() } else { String::new() }
}

/// The addresses that a hosts file has for a name in normal form.
fn listed(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

/// What `--connect-to` names: consent to a private address or this machine, never to metadata or to ourselves.
pub fn named(
    target: &Authority,
    address: SocketAddr,
    own: &[SocketAddr],
) -> Result<Vec<SocketAddr>, OriginError> {
    if judge_named_address(address.ip()).may_dial() && !is_own(own, address) {
        return Ok(vec![address]);
    }
    let said = format!("`connect_to` sends `{target}` to {}, which may not be dialled", address.ip());
    Err(OriginError::Refused(Refused { reason: crate::engine::reason::Reason::TargetAddress, said }))
}

/// A listener of ours stands there: by its very address, or because it listens on all of this machine's.
fn is_own(own: &[SocketAddr], address: SocketAddr) -> bool {
    own.iter().any(|listener| {
        listener.port() == address.port()
            && (listener.ip() == address.ip() || (listener.ip().is_unspecified() && is_here(address.ip())))
    })
}

/// An address of this machine: the kernel sends from it to itself. No packet leaves.
fn is_here(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let probe = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    ip.is_loopback() || probe.is_ok_and(|local| local.ip() == ip)
}

/// Connects to one of `addresses`, which were judged: families take turns, each with a head start (RFC 8305). The
/// first connection wins, the others are dropped. `tried` is the one that was dialled last, or whose error comes back.
/// Cancel safe.
pub async fn connect(
    addresses: &[SocketAddr],
    tried: &mut Option<SocketAddr>,
) -> io::Result<(TcpStream, SocketAddr)> {
    let mut waiting = in_turns(addresses).into_iter();
    let mut trying = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let mut next = waiting.next();
    loop {
        if let Some(address) = next.take() {
            *tried = Some(address);
            trying.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let head_start = tokio::time::sleep(HEAD_START);
        tokio::select! {
            ended = trying.join_next() => match ended {
                Some(Ok((address, Ok(socket)))) => return Ok((socket, address)),
                Some(Ok((address, Err(error)))) => {
                    (*tried, last) = (Some(address), error);
                    next = waiting.next();
                }
                Some(Err(_)) => next = waiting.next(),
                None => return Err(last),
            },
            () = head_start, if waiting.len() > 0 => next = waiting.next(),
        }
    }
}

/// The first address's family first, then alternating (RFC 8305 4).
fn in_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all = Vec::with_capacity(addresses.len());
    while all.len() < addresses.len() {
        all.extend(one.next());
        all.extend(other.next());
    }
    all
}

/// Small messages go at once; a peer that vanished is noticed while we wait for a slow answer.
pub fn tune(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(20));
    let _ = socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_hosts_file_names_addresses_for_whole_names() {
        let text = "127.0.0.1 localhost\n10.0.0.5\tdb.corp DB # db.old\n\n# 10.0.0.6 db.corp\nfd00::1 db.corp\nx db.corp\n";
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(listed(text, "db.corp"), ips(&["10.0.0.5", "fd00::1"]));
        assert_eq!(listed(text, "db"), ips(&["10.0.0.5"]));
        assert_eq!(listed(text, "db.old"), ips(&[]));
        assert_eq!(listed(text, "corp"), ips(&[]));
    }

    #[test]
    fn a_listener_of_ours_is_known_by_any_address_of_this_machine() {
        let own = [at("0.0.0.0:3128"), at("127.0.0.1:9901")];
        assert!(is_own(&own, at("127.0.0.1:3128")) && is_own(&own, at("127.0.0.2:3128")));
        assert!(is_own(&own, at("127.0.0.1:9901")));
        assert!(!is_own(&own, at("127.0.0.2:9901")) && !is_own(&own, at("127.0.0.1:3129")));
        assert!(!is_own(&own, at("198.51.100.1:3128")));
    }

    #[test]
    fn families_take_turns() {
        let all = ["[2600::1]:1", "[2600::2]:1", "8.8.8.8:1", "[2600::3]:1"].map(at);
        assert_eq!(in_turns(&all), ["[2600::1]:1", "8.8.8.8:1", "[2600::2]:1", "[2600::3]:1"].map(at));
        assert_eq!(in_turns(&all[2..]), ["8.8.8.8:1", "[2600::3]:1"].map(at));
    }

    #[tokio::test]
    async fn a_name_of_the_hosts_file_is_found_and_its_address_is_judged() {
        let target = |text: &str| Authority::parse(text, None).unwrap();
        let found = addresses(&target("localhost:443"), &[], &[]).await;
        let Err(OriginError::Refused(refused)) = found else { panic!("{found:?}") };
        assert!(refused.said.contains("127.0.0.1 (loopback)"), "{}", refused.said);
        let literal = addresses(&target("8.8.8.8:443"), &[], &[]).await.unwrap();
        assert_eq!(literal, [at("8.8.8.8:443")]);
    }

    #[tokio::test]
    async fn an_address_that_fails_makes_room_for_the_next_and_none_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // Nobody listens on a port that was just given back.
        let shut = TcpListener::bind("127.0.0.2:0").await.unwrap().local_addr().unwrap();
        let mut tried = None;
        let (_, address) = connect(&[shut, good], &mut tried).await.unwrap();
        assert_eq!((address, tried), (good, Some(good)));
        assert!(connect(&[shut], &mut tried).await.is_err());
        assert_eq!(tried, Some(shut));
        let mut tried = None;
        assert!(connect(&[], &mut tried).await.is_err());
        assert_eq!(tried, None);
    }
}
