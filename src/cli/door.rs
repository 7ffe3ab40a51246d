//! Asks the admin door of a running proxy, as `healthcheck` and `explain` do: one request, plain HTTP, no curl needed.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::Error;

/// A probe that waits longer than this finds a program that is not well. Docker and ECS give up later.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer: one audit line, or the metrics.
const MOST: u64 = 1 << 20;

pub(super) enum Door {
    Tcp(SocketAddr),
    Socket(PathBuf),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Door {
    /// GETs `path`: status and body. `Unreachable` where nobody answers, or somebody who does not speak HTTP.
    pub(super) fn ask(&self, path: &str) -> Result<(u16, String), Error> {
        let answer = match self {
            Self::Tcp(address) => {
                let address = reachable(*address);
                TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    exchange(stream, &address.to_string(), path)
                })
            }
            Self::Socket(socket) => UnixStream::connect(socket).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                exchange(stream, "localhost", path)
            }),
        };
        let answer =
            answer.map_err(|error| Error::Unreachable(format!("no exeat answers at {self}: {error}")))?;
        read(&answer).ok_or_else(|| Error::Unreachable(format!("what answers at {self} does not speak HTTP")))
    }
}

/// A door that listens on every address is found on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn exchange(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<Vec<u8>> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Our door answers with a length and closes; a body cut short is no answer.
fn read(answer: &[u8]) -> Option<(u16, String)> {
    let mut slots = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut slots);
    let httparse::Status::Complete(end) = head.parse(answer).ok()? else { return None };
    let length = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(length.value).ok()?.parse().ok()?;
    let body = answer[end..].get(..length)?;
    Some((head.code?, String::from_utf8_lossy(body).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whole_answers_only() {
        let whole = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nno\n";
        assert_eq!(read(whole), Some((503, "no\n".to_owned())));
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(read(b"SSH-2.0-x\r\n"), None);
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\n"), None);
    }

    #[test]
    fn a_door_on_every_address_is_asked_on_loopback() {
        for (listens, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
