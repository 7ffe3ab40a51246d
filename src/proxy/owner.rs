//! Whose a loopback connection is, as the kernel tells: the caller of clients that can bring no password (the JVM's).

use std::net::SocketAddr;

/// The connection's other end belongs to the user we run as. What can't be told is `false`.
#[cfg(target_os = "linux")]
pub async fn is_ours(peer: SocketAddr, door: SocketAddr) -> bool {
    use super::sockets;
    if !peer.ip().to_canonical().is_loopback() {
        return false;
    }
    let user = move || {
        sockets::first(peer, u64::MAX, |socket| sockets::same(socket.remote, door).then_some(socket.user))
    };
    let user = tokio::task::spawn_blocking(user).await.ok().flatten();
    user == Some(rustix::process::geteuid().as_raw())
}

#[cfg(not(target_os = "linux"))]
pub async fn is_ours(_: SocketAddr, _: SocketAddr) -> bool {
    false
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
}
