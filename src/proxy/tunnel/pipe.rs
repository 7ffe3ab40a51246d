//! Kernel pipes: bytes go from socket to socket and are never copied to us (splice(2)).
//!
//! A thread keeps a few for all its tunnels; one is taken for a piece and given back empty, so that a tunnel at rest
//! holds none.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Four times what a pipe has by itself. Where the system gives no more, that is what a piece is.
pub const SIZE: usize = 256 * 1024;
/// Kept by a thread: as many tunnels as will have a slow receiver at a time, mostly.
const KEPT: usize = 8;
const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

thread_local! {
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// This kernel does not splice from sockets: sandboxes that stand in for one may not.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Dropped with something in it, it takes that along.
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    holds: usize,
}

/// An empty pipe. `None`: this system has none to give, or does not splice.
pub fn take() -> Option<Pipe> {
    if REFUSED.load(Ordering::Relaxed) {
        return None;
    }
    PIPES.with_borrow_mut(Vec::pop).or_else(|| {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let _ = fcntl_setpipe_size(&into, SIZE);
        Some(Pipe { out, into, holds: 0 })
    })
}

/// Keeps it for the next piece.
pub fn give_back(pipe: Pipe) {
    PIPES.with_borrow_mut(|kept| {
        if pipe.holds == 0 && kept.len() < KEPT {
            kept.push(pipe);
        }
    });
}

/// How many this thread keeps.
#[cfg(test)]
pub fn kept() -> usize {
    PIPES.with_borrow(Vec::len)
}

/// The kernel does not do this at all; told once, and not asked again.
pub fn is_refused(error: &io::Error) -> bool {
    let refused = matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported);
    if refused {
        REFUSED.store(true, Ordering::Relaxed);
    }
    refused
}

impl Pipe {
    /// Takes what the socket has, at most `most`; zero at its end.
    // INVARIANT: the pipe is empty, so `WouldBlock` is the socket's word and not the pipe's.
    pub fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let count = from.try_io(Interest::READABLE, || {
            Ok(rustix::pipe::splice(from, None, &self.into, None, most, FLAGS)?)
        })?;
        self.holds = count;
        Ok(count)
    }

    /// Gives all that it holds. Not cancel safe: what is left goes with the pipe.
    pub async fn empty_into(&mut self, to: &TcpStream) -> io::Result<()> {
        while self.holds > 0 {
            let sent = to.try_io(Interest::WRITABLE, || {
                Ok(rustix::pipe::splice(&self.out, None, to, None, self.holds, FLAGS)?)
            });
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => self.holds -= sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
