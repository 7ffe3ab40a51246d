//! The kernel's tables of TCP sockets (proc(5)), which tell whose the other end of a loopback connection is: `owner.rs`
//! asks for its user, `process.rs` for its inode.

use std::net::{IpAddr, SocketAddr};

/// One line of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub user: u32,
    /// 0 once it is closed.
    pub inode: u64,
}

/// The first answer that a socket from `local` gives; at most `most` bytes of each table are read. Blocks: files of
/// /proc may keep the kernel busy for milliseconds.
#[cfg(target_os = "linux")]
pub(super) fn first<T>(local: SocketAddr, most: u64, pick: impl Fn(&Socket) -> Option<T>) -> Option<T> {
    use std::io::Read;
    // A client's end stands in the table of its socket's family, which need not be the address's.
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].iter().find_map(|table| {
        let mut text = String::new();
        std::fs::File::open(table).ok()?.take(most).read_to_string(&mut text).ok()?;
        sockets(&text).filter(|socket| same(socket.local, local)).find_map(|socket| pick(&socket))
    })
}

/// Equal, whether the socket is of IPv4 or of IPv6 that carries IPv4.
pub(super) fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
}

/// A damaged line is no socket.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn sockets(table: &str) -> impl Iterator<Item = Socket> {
    table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (local, remote) = (address(words.nth(1)?)?, address(words.next()?)?);
        // State, queues, timer, retransmits; the user; timeout; the inode.
        let (user, inode) = (words.nth(4)?.parse().ok()?, words.nth(1)?.parse().ok()?);
        Some(Socket { local, remote, user, inode })
    })
}

/// Hex, in the machine's order by words.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_tables_and_no_damaged_line() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let v4 = "   0: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1";
        let v6 = v4.replace("0100007F", "0000000000000000FFFF00000100007F").replace("4711", "4712");
        let read = |line: &str| sockets(&format!("{head}{line}\n")).collect::<Vec<_>>();
        if cfg!(target_endian = "little") {
            let local = ([127, 0, 0, 1], 50000).into();
            let remote = ([127, 0, 0, 1], 8080).into();
            assert_eq!(read(v4), [Socket { local, remote, user: 1000, inode: 4711 }]);
            assert_eq!(read(&v6), [Socket { local, remote, user: 1000, inode: 4712 }]);
        }
        for damaged in
            ["", "x", "0: 0100007F:C350", &v4.replace("0100007F:C350", "zz:C350"), &v4.replace("1000", "-")]
        {
            assert_eq!(read(damaged), [], "{damaged}");
        }
    }

    #[test]
    fn an_address_is_the_same_in_either_family_and_another_port_is_not() {
        let (plain, mapped) = ("127.0.0.1:80".parse().unwrap(), "[::ffff:127.0.0.1]:80".parse().unwrap());
        assert!(same(plain, mapped) && same(mapped, plain));
        assert!(
            !same(plain, "127.0.0.1:81".parse().unwrap()) && !same(plain, "127.0.0.2:80".parse().unwrap())
        );
    }
}
