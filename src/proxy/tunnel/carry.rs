//! Bytes both ways, unread, until both sides have ended, one fails, or a limit is met.
//!
//! Small messages go through one buffer of the thread's; what comes in bulk goes from socket to socket inside the kernel
//! (`pipe.rs`, Linux). Either way each byte is counted once, as it is taken from its sender, and none beyond the cap is
//! passed on.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::Instant;

#[cfg(target_os = "linux")]
use super::pipe;
use crate::engine::policy::TunnelLimits;
use crate::proxy::chain::Way;

/// One for each thread: an idle tunnel holds no buffer.
const PIECE: usize = 64 * 1024;
/// A sender that had this much ready sends in bulk: from here on the kernel's way is the cheaper one.
const BULK: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// Bytes that went through a tunnel; read by its limits and its record.
#[derive(Default)]
pub struct Passed {
    up: AtomicU64,
    down: AtomicU64,
}

impl Passed {
    pub fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    pub fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    pub fn count_up(&self, count: usize) {
        self.up.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub fn count_down(&self, count: usize) {
        self.down.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.up() + self.down()
    }
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By its peers, or by the program's drain.
    Itself,
    Cap(u64),
    Idle(Duration),
    Life(Duration),
}

/// Carries until an end, or until `leave` says so.
pub async fn carry(
    client: &mut TcpStream,
    origin: &mut Way,
    limits: TunnelLimits,
    passed: &Passed,
    leave: impl Future<Output = ()>,
) -> Ended {
    let most = limits.bytes.unwrap_or(u64::MAX);
    let (up, down) = (Meter { mine: &passed.up, passed, most }, Meter { mine: &passed.down, passed, most });
    let both = async {
        // A side that fails ends the other: half a connection is no use to anybody.
        match origin {
            Way::Straight(origin) => {
                let (from_client, to_client) = client.split();
                let (from_origin, to_origin) = origin.split();
                let up = pump(from_client, to_origin, up, BULK);
                let down = pump(from_origin, to_client, down, BULK);
                tokio::try_join!(up, down).map(|_| ())
            }
            Way::Sealed(origin) => {
                let (from_client, to_client) = client.split();
                let (from_origin, to_origin) = tokio::io::split(origin);
                let (up, down) = (copy(from_client, to_origin, up), copy(from_origin, to_client, down));
                tokio::try_join!(up, down).map(|_| ())
            }
        }
    };
    tokio::select! {
        ended = both => match ended {
            Err(Cut::Cap) => Ended::Cap(most),
            // How a TLS peer leaves is its own affair: a reset after close_notify is common.
            Ok(()) | Err(Cut::Lost) => Ended::Itself,
        },
        () = leave => Ended::Itself,
        () = idle(limits.idle, passed) => Ended::Idle(limits.idle),
        () = tokio::time::sleep(limits.life) => Ended::Life(limits.life),
    }
}

/// Why one way ended before its sender ended it.
#[derive(Debug)]
enum Cut {
    Lost,
    Cap,
}

/// Counts one way's bytes against what both together may carry.
#[derive(Clone, Copy)]
struct Meter<'a> {
    mine: &'a AtomicU64,
    passed: &'a Passed,
    most: u64,
}

impl Meter<'_> {
    /// How many of `want` bytes may still pass. At none, one byte more shows that the sender has not ended.
    fn room(self, want: usize) -> usize {
        usize::try_from(self.most.saturating_sub(self.passed.total()))
            .map_or(want, |left| left.clamp(1, want))
    }

    /// Counts what was taken, or says that it was too much.
    fn count(self, taken: usize) -> Result<(), Cut> {
        if taken as u64 > self.most.saturating_sub(self.passed.total()) {
            return Err(Cut::Cap);
        }
        self.mine.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// One way. A buffer or a pipe is held only while there is something in it that the other side has not taken yet.
/// Pieces of `bulk` and more go on inside the kernel.
async fn pump(from: ReadHalf<'_>, mut to: WriteHalf<'_>, meter: Meter<'_>, bulk: usize) -> Result<(), Cut> {
    let mut last = 0;
    loop {
        from.readable().await.map_err(|_| Cut::Lost)?;
        // Both sockets may be ready for as long as the peers are fast: others of this thread get their turn.
        tokio::task::consume_budget().await;
        let moved = match splice(&from, &to, meter, last >= bulk).await {
            Some(moved) => moved,
            None => shovel(&from, &mut to, meter).await,
        };
        match moved? {
            Some(0) => {
                let _ = to.shutdown().await;
                return Ok(());
            }
            Some(count) => last = count,
            None => {}
        }
    }
}

/// Moves a piece inside the kernel. `None`: not this one, or not on this kernel.
#[cfg(target_os = "linux")]
async fn splice(
    from: &ReadHalf<'_>,
    to: &WriteHalf<'_>,
    meter: Meter<'_>,
    in_bulk: bool,
) -> Option<Result<Option<usize>, Cut>> {
    // The byte that would be too many is looked for by the other way: it must not go on.
    if !in_bulk || meter.passed.total() >= meter.most {
        return None;
    }
    let mut pipe = pipe::take()?;
    let count = match pipe.fill(from.as_ref(), meter.room(pipe::SIZE)) {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            pipe::give_back(pipe);
            return Some(Ok(None));
        }
        Err(error) if pipe::is_refused(&error) => return None,
        Err(_) => return Some(Err(Cut::Lost)),
    };
    let moved = async {
        meter.count(count)?;
        pipe.empty_into(to.as_ref()).await.map_err(|_| Cut::Lost)?;
        pipe::give_back(pipe);
        Ok(Some(count))
    };
    Some(moved.await)
}

#[cfg(not(target_os = "linux"))]
async fn splice(
    _: &ReadHalf<'_>,
    _: &WriteHalf<'_>,
    _: Meter<'_>,
    _: bool,
) -> Option<Result<Option<usize>, Cut>> {
    None
}

/// Moves a piece through the thread's buffer: how much, or `None` where there was nothing after all.
async fn shovel(from: &ReadHalf<'_>, to: &mut WriteHalf<'_>, meter: Meter<'_>) -> Result<Option<usize>, Cut> {
    let (count, rest) = match SCRATCH.with_borrow_mut(|piece| at_once(from, to, piece, meter)) {
        Ok(moved) => moved?,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(_) => return Err(Cut::Lost),
    };
    if !rest.is_empty() {
        to.write_all(&rest).await.map_err(|_| Cut::Lost)?;
    }
    Ok(Some(count))
}

/// Reads what is there and writes what goes at once; what doesn't comes back.
fn at_once(
    from: &ReadHalf<'_>,
    to: &WriteHalf<'_>,
    piece: &mut [u8],
    meter: Meter<'_>,
) -> io::Result<Result<(usize, Vec<u8>), Cut>> {
    let room = meter.room(piece.len());
    let count = from.try_read(&mut piece[..room])?;
    if let Err(cut) = meter.count(count) {
        return Ok(Err(cut));
    }
    let sent = match to.try_write(&piece[..count]) {
        Ok(sent) => sent,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
        Err(error) => return Err(error),
    };
    Ok(Ok((count, piece[sent..count].to_vec())))
}

/// One way of a tunnel through a proxy that speaks TLS itself: rare, so with a buffer of its own.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    meter: Meter<'_>,
) -> Result<(), Cut> {
    let mut piece = vec![0; PIECE / 4];
    loop {
        let room = meter.room(piece.len());
        let count = from.read(&mut piece[..room]).await.map_err(|_| Cut::Lost)?;
        if count == 0 {
            let _ = to.shutdown().await;
            return Ok(());
        }
        meter.count(count)?;
        to.write_all(&piece[..count]).await.map_err(|_| Cut::Lost)?;
        to.flush().await.map_err(|_| Cut::Lost)?;
    }
}

/// Resolves once nothing has passed for `limit`.
pub async fn idle(limit: Duration, passed: &Passed) {
    let mut before = passed.total();
    let mut since = Instant::now();
    // Looked at four times in a limit: no clock is read for each piece.
    let mut tick = tokio::time::interval(limit / 4);
    loop {
        tick.tick().await;
        let now = passed.total();
        if now != before {
            (before, since) = (now, Instant::now());
        } else if since.elapsed() >= limit {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
