//! The operator's socket: a file that only our own user can open.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the operator's socket `{path}`: {source}", path = path.display())]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
}

/// Bound, and not yet open: nobody can connect.
#[derive(Debug)]
pub struct OperatorSocket {
    socket: socket2::Socket,
    file: SocketFile,
}

/// The file of a socket, removed when dropped, unless another process has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl OperatorSocket {
    /// Takes the name. What a killed process left there is taken over; a socket that answers, or a file that is none,
    /// is not.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let bound = || {
            clear(path)?;
            let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.bind(&socket2::SockAddr::unix(path)?)?;
            let inode = fs::symlink_metadata(path)?.ino();
            let file = SocketFile { path: path.into(), inode };
            // Before it listens: at no time is there a socket that others can reach.
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            Ok(Self { socket, file })
        };
        bound().map_err(|source| SocketError { path: path.into(), source })
    }

    /// Lets the operator in. Within a tokio runtime.
    pub fn open(self) -> Result<(UnixListener, SocketFile), SocketError> {
        let Self { socket, file } = self;
        let opened = socket.listen(16).and_then(|()| {
            let listener = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
            UnixListener::from_std(listener)
        });
        match opened {
            Ok(listener) => Ok((listener, file)),
            Err(source) => Err(SocketError { path: file.path.clone(), source }),
        }
    }
}

fn clear(path: &Path) -> io::Result<()> {
    let Ok(there) = fs::symlink_metadata(path) else { return Ok(()) };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket stands there"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        // A socket's name may be 107 bytes long, so not below the target folder.
        let mut bytes = [0; 8];
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        let folder = std::env::temp_dir().join(format!("exeat-socket-{:x}", u64::from_le_bytes(bytes)));
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[tokio::test]
    async fn is_for_our_user_alone_and_goes_with_the_program() {
        let path = folder().join("admin.sock");
        let bound = OperatorSocket::bind(&path).unwrap();
        assert!(UnixStream::connect(&path).is_err(), "not open yet");
        let (listener, file) = bound.open().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let _client = UnixStream::connect(&path).unwrap();
        let error = OperatorSocket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("another process listens there"), "{error}");
        drop((listener, file));
        assert!(!path.exists());
        fs::remove_dir(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn takes_over_what_a_killed_process_left_and_nothing_else() {
        let path = folder().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (listener, file) = OperatorSocket::bind(&path).unwrap().open().unwrap();
        // Another process's socket of the same name stays.
        fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop((listener, file));
        assert!(path.exists());
        drop(other);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(OperatorSocket::bind(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
