//! Whose a loopback connection is, as the kernel tells: the caller of clients that can bring no password (the JVM's).

use std::net::{IpAddr, SocketAddr};

/// The connection's other end belongs to the user we run as. What can't be told is `false`.
#[cfg(target_os = "linux")]
pub async fn is_ours(peer: SocketAddr, door: SocketAddr) -> bool {
    if !peer.ip().to_canonical().is_loopback() {
        return false;
    }
    let me = rustix::process::geteuid().as_raw();
    // The client's end stands in the table of the socket's own family, which need not be the address's.
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let Ok(text) = tokio::fs::read_to_string(table).await else { continue };
        if let Some(owner) = owner(&text, peer, door) {
            return owner == me;
        }
    }
    false
}

#[cfg(not(target_os = "linux"))]
pub async fn is_ours(_: SocketAddr, _: SocketAddr) -> bool {
    false
}

/// UID of the socket from `local` to `remote` (proc(5): addresses are hex, in the machine's order by words).
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn owner(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let (from, to) = (address(words.nth(1)?)?, address(words.next()?)?);
        let same = |a: SocketAddr, b: SocketAddr| a.port() == b.port() && a.ip() == b.ip().to_canonical();
        // state, queues, timer, retransmits; then the UID.
        (same(from, local) && same(to, remote)).then(|| words.nth(4)?.parse().ok())?
    })
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn our_own_connection_is_ours_and_one_that_is_nowhere_is_nobodys() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(host).await else { continue };
            let door = listener.local_addr().unwrap();
            let socket = tokio::net::TcpStream::connect(door).await.unwrap();
            let peer = socket.local_addr().unwrap();
            assert!(is_ours(peer, door).await, "{host}");
            let other = SocketAddr::new(door.ip(), door.port() ^ 1);
            assert!(!is_ours(peer, other).await, "{host}");
        }
        assert!(!is_ours(([192, 0, 2, 1], 1).into(), ([127, 0, 0, 1], 2).into()).await);
    }

    #[test]
    fn reads_both_tables() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let v4 =
            "   0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 1 1";
        let v6 = "   0: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:C350 01 00000000:00000000 00:00000000 00000000  1001        0 1 1";
        let (local, remote) = (([127, 0, 0, 1], 8080).into(), ([127, 0, 0, 1], 50000).into());
        if cfg!(target_endian = "little") {
            assert_eq!(owner(&format!("{head}{v4}\n"), local, remote), Some(1000));
            assert_eq!(owner(&format!("{head}{v6}\n"), local, remote), Some(1001));
        }
        assert_eq!(owner(&format!("{head}{v4}\n"), remote, local), None);
        for damaged in ["", "x", "   0: 0100007F:1F90", "   0: zz:1F90 0100007F:C350 01 0 0 0 1000 0"] {
            assert_eq!(owner(&format!("{head}{damaged}\n"), local, remote), None, "{damaged}");
        }
    }
}
