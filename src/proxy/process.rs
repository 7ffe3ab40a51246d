//! Which process holds the other end of a connection, as /proc tells: its socket's inode in the kernel's table, then the
//! process with a descriptor of that inode. Only for processes that we may look at: our own user's, in our namespace.

use std::net::SocketAddr;

/// A program that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub id: u32,
    /// Its executable's file name.
    pub name: String,
}

/// The process at `peer`, connected to one of our `doors`. `None` where the kernel does not tell, or no longer: a socket
/// that was closed has no owner.
#[cfg(target_os = "linux")]
pub async fn find(peer: SocketAddr, doors: &[SocketAddr]) -> Option<Process> {
    let ports: Vec<u16> = doors.iter().map(SocketAddr::port).collect();
    tokio::task::spawn_blocking(move || linux::find(peer, &ports)).await.ok().flatten()
}

#[cfg(not(target_os = "linux"))]
pub async fn find(_: SocketAddr, _: &[SocketAddr]) -> Option<Process> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::net::SocketAddr;
    use std::path::Path;

    use super::Process;
    use crate::proxy::sockets;

    /// A table of 16,000 connections; on a machine with more we name nobody.
    const MOST_TABLE: u64 = 3 << 20;
    /// Descriptors that are looked at, of all processes together.
    const MOST_DESCRIPTORS: usize = 50_000;

    pub(super) fn find(peer: SocketAddr, ports: &[u16]) -> Option<Process> {
        let inode = sockets::first(peer, MOST_TABLE, |socket| {
            (ports.contains(&socket.remote.port()) && socket.inode != 0).then_some(socket.inode)
        })?;
        holder(inode)
    }

    fn holder(inode: u64) -> Option<Process> {
        let wanted = format!("socket:[{inode}]");
        let mut ids: Vec<u32> = fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        // The newest first: a client is seldom older than what the machine runs all the time.
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let mut left = MOST_DESCRIPTORS;
        for id in ids {
            let Ok(descriptors) = fs::read_dir(format!("/proc/{id}/fd")) else { continue };
            for descriptor in descriptors.filter_map(Result::ok) {
                left = left.checked_sub(1)?;
                if fs::read_link(descriptor.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()) {
                    return Some(Process { id, name: name(id)? });
                }
            }
        }
        None
    }

    /// The executable's file name: what a process calls itself (`comm`) is a thread's name for Node and JVMs.
    fn name(id: u32) -> Option<String> {
        let executable = fs::read_link(format!("/proc/{id}/exe")).ok();
        let name =
            executable.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let comm = || fs::read_to_string(format!("/proc/{id}/comm")).ok().map(|name| name.trim().to_owned());
        // A name may be anything: it goes into records and logs.
        name.or_else(comm).map(|name| name.chars().take(64).flat_map(char::escape_default).collect())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finds_the_process_that_holds_a_connection_and_none_where_nobody_does() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(host).await else { continue };
            let door = listener.local_addr().unwrap();
            let socket = tokio::net::TcpStream::connect(door).await.unwrap();
            let peer = socket.local_addr().unwrap();
            let found = find(peer, &[door]).await.unwrap();
            assert_eq!(found.id, std::process::id());
            let own = std::env::current_exe().unwrap();
            assert!(own.file_name().unwrap().to_string_lossy().starts_with(&found.name), "{found:?}");
            let other = SocketAddr::new(door.ip(), door.port() ^ 1);
            assert_eq!(find(peer, &[other]).await, None, "not a connection to us");
            drop(socket);
            assert_eq!(find(peer, &[door]).await, None, "closed");
        }
    }
}
