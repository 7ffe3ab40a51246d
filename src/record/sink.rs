//! Where audit lines go, and the promise that a line is handed over before its request goes on.
//!
//! A regular file is written by the worker itself, one `write(2)` a line, so that the line survives `kill -9`; see
//! [`mod@file`]. What may block (pipe, terminal, socket) has a thread in front of it that acknowledges; see [`pipe`].
//! There is no other buffer: a sink that does not take a line makes the request fail.

pub mod file;
pub mod pipe;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::file::FileSink;
use self::pipe::{Acknowledgement, PipeSink};

/// The sink did not take the line: the request must not go on (`limit.audit`, 503).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit sink did not take a line")]
pub struct AuditDown;

/// Why a sink could not be opened at start, or again after a rotation from outside.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("cannot open audit file `{path}` for appending: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("audit path `{path}` is a directory; name a file, or `-` for standard output")]
    Directory { path: PathBuf },
    #[error("cannot connect to audit socket `{path}`: {source}; is the log collector listening?")]
    Connect { path: PathBuf, source: io::Error },
    #[error("cannot use standard output for audit lines: {source}")]
    Stdout { source: io::Error },
    #[error("cannot start the audit writer thread: {source}")]
    Thread { source: io::Error },
}

/// What `--audit` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `-`.
    Stdout,
    File {
        path: PathBuf,
        rotation: Option<Rotation>,
    },
    /// A log collector that listens on a unix socket (stream).
    Socket(PathBuf),
}

/// When a file is set aside: at `bytes`, or with the first line after `age`, `PATH` becomes `PATH.1`, `PATH.1` becomes
/// `PATH.2`, and past `keep` they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    pub bytes: Option<u64>,
    pub age: Option<Duration>,
    pub keep: u32,
}

/// What a handed-over line still waits for.
pub enum Handed {
    /// Written.
    Done,
    /// Queued; written when this resolves to `Ok`.
    Pending(Acknowledgement),
}

/// One per process, shared by all lanes.
pub enum Sink {
    File(FileSink),
    Pipe(PipeSink),
}

impl Sink {
    /// Creates a missing file with mode 0600. A FIFO waits for its reader, as a shell's `>` does.
    pub fn open(target: &Target) -> Result<Self, SinkError> {
        match target {
            Target::Stdout => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                Self::over(stdout.map_err(|source| SinkError::Stdout { source })?.into(), None, None)
            }
            Target::File { path, rotation } => {
                let file = open_append(path)?;
                Self::over(file, Some(path), *rotation)
            }
            Target::Socket(path) => {
                let told = |source| SinkError::Connect { path: path.clone(), source };
                let pipe = PipeSink::start(connect(path).map_err(told)?, Some(path.clone()));
                pipe.map(Self::Pipe).map_err(|source| SinkError::Thread { source })
            }
        }
    }

    /// Over an open file, pipe or socket, told apart by what the kernel says of it.
    pub fn over(file: File, path: Option<&Path>, rotation: Option<Rotation>) -> Result<Self, SinkError> {
        let named = || path.map_or_else(|| "-".into(), Path::to_path_buf);
        let meta = file.metadata().map_err(|source| SinkError::Open { path: named(), source })?;
        if meta.is_dir() {
            return Err(SinkError::Directory { path: named() });
        }
        if meta.is_file() {
            return Ok(Self::File(FileSink::new(file, &meta, path, rotation)));
        }
        // The kernel's memory devices (major 1: null, full) never block: no thread stands between.
        if meta.file_type().is_char_device() && meta.rdev() >> 8 == 1 {
            return Ok(Self::File(FileSink::new(file, &meta, None, None)));
        }
        PipeSink::start(file, None).map(Self::Pipe).map_err(|source| SinkError::Thread { source })
    }

    /// It holds a line that it can't get rid of: to wait for another would be in vain.
    pub fn is_stuck(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Pipe(pipe) => pipe.is_stuck(),
        }
    }

    /// SIGHUP: opens the path anew, so that a file moved away from outside is let go. Others are left alone.
    pub fn reopen(&self) -> Result<(), SinkError> {
        match self {
            Self::File(file) => file.reopen(),
            Self::Pipe(_) => Ok(()),
        }
    }

    /// It has written all that it was handed. A file can't tell: what it did not take is nowhere.
    pub fn has_caught_up(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Pipe(pipe) => pipe.flush(Duration::ZERO),
        }
    }

    /// Before exit: waits until nothing is queued, at most `limit`. `false` where lines are left.
    pub fn flush(&self, limit: Duration) -> bool {
        match self {
            Self::File(_) => true,
            Self::Pipe(pipe) => pipe.flush(limit),
        }
    }
}

fn connect(path: &Path) -> io::Result<File> {
    UnixStream::connect(path).map(|stream| OwnedFd::from(stream).into())
}

/// Read as well, because a torn last line is looked for; that is given up where reading isn't allowed.
fn open_append(path: &Path) -> Result<File, SinkError> {
    let special = path.metadata().is_ok_and(|meta| !meta.is_file());
    let open = |read| File::options().read(read).append(true).create(true).mode(0o600).open(path);
    let opened = if special { open(false) } else { open(true).or_else(|_| open(false)) };
    opened.map_err(|source| match source.kind() {
        io::ErrorKind::IsADirectory => SinkError::Directory { path: path.into() },
        _ => SinkError::Open { path: path.into(), source },
    })
}
