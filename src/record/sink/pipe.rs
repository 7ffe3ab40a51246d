//! A sink that may block: pipe, terminal, socket. One thread writes; workers wait for its word, 70 ms at most. While it
//! is stuck on a line nobody waits: requests are refused at once, until it goes on.
//!
//! Lines queued while a write is under way go out together in the next (group commit). A line once queued keeps its
//! place: where the other end is gone for a while it is written late, so the chain has no gap; its request was
//! refused all the same. When the queue is full nothing is queued, and no sequence number is spent.
//!
//! A socket whose other end went away is connected anew, and the line that was cut by that is sent again from its
//! start. What the other end had taken and not read went with it: that is a gap, and shows as one.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::AuditDown;

/// Longer than a log collector's flush; short enough for the refusal to be with the client within 100 ms.
const PATIENCE: Duration = Duration::from_millis(70);
/// What may be queued: room for a burst of a thousand requests, not a buffer to rely on.
const QUEUE_BYTES: usize = 1 << 20;
/// How long after an error the thread tries again by itself; a line that comes meanwhile makes it try at once.
const RETRY: Duration = Duration::from_secs(1);
/// Between looks of a thread that waits.
const TRY: Duration = Duration::from_millis(1);
/// Between looks at a full non-blocking pipe.
const LOOK: Duration = Duration::from_millis(5);

/// Resolves when the line is written.
pub struct Acknowledgement(oneshot::Receiver<()>);

impl Acknowledgement {
    /// `Err` after [`PATIENCE`], or when writing failed. Dropping it takes the line back from nobody: it stays queued.
    pub async fn wait(self) -> Result<(), AuditDown> {
        match tokio::time::timeout(PATIENCE, self.0).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(AuditDown),
        }
    }
}

impl Acknowledgement {
    /// [`Self::wait`] on a thread that may block.
    pub fn wait_blocking(mut self) -> Result<(), AuditDown> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.0.try_recv() {
                Ok(()) => return Ok(()),
                Err(oneshot::error::TryRecvError::Empty) if Instant::now() < end => std::thread::sleep(TRY),
                Err(_) => return Err(AuditDown),
            }
        }
    }
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    waiting: Vec<oneshot::Sender<()>>,
    /// Bytes the thread has taken and not yet written.
    in_hand: usize,
    closed: bool,
}

struct Shared {
    /// Since when the thread is at a write that made no progress, in milliseconds of `born`; 0: it isn't.
    writing: AtomicU64,
    born: Instant,
    queue: Mutex<Queue>,
    /// Something was queued, or the sink was dropped.
    filled: Condvar,
    /// Nothing is queued or in hand.
    emptied: Condvar,
    /// Counts connections after the first.
    reconnected: AtomicU64,
}

impl Shared {
    fn new() -> Self {
        Self {
            writing: AtomicU64::new(0),
            born: Instant::now(),
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            reconnected: AtomicU64::new(0),
        }
    }

    /// Never 0.
    fn now(&self) -> u64 {
        1 + u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn writes(&self, on: bool) {
        self.writing.store(if on { self.now() } else { 0 }, Ordering::Relaxed);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct PipeSink(Arc<Shared>);

impl PipeSink {
    /// `socket`: where to connect anew when `file` is a socket whose other end went away.
    pub(super) fn start(file: File, socket: Option<PathBuf>) -> io::Result<Self> {
        let shared = Arc::new(Shared::new());
        let writer = Arc::clone(&shared);
        let run = move || write_on(&writer, file, socket.as_deref());
        std::thread::Builder::new().name("audit".into()).spawn(run)?;
        Ok(Self(shared))
    }

    /// Counts connections, from 1: a lane begins anew in each, as in each file.
    pub fn number(&self) -> u64 {
        1 + self.0.reconnected.load(Ordering::Relaxed)
    }

    /// The thread is at one write for longer than anybody waits.
    pub fn is_stuck(&self) -> bool {
        let since = self.0.writing.load(Ordering::Relaxed);
        since != 0 && self.0.now().saturating_sub(since) > PATIENCE.as_millis() as u64
    }

    /// Queues the line; the caller may wait for the acknowledgement, or drop it.
    pub fn hand(&self, line: &[u8]) -> Result<Acknowledgement, AuditDown> {
        let (told, waits) = oneshot::channel();
        let mut queue = self.0.queue();
        if queue.lines.len() + queue.in_hand + line.len() > QUEUE_BYTES {
            return Err(AuditDown);
        }
        queue.lines.extend_from_slice(line);
        queue.waiting.push(told);
        drop(queue);
        self.0.filled.notify_one();
        Ok(Acknowledgement(waits))
    }

    pub(super) fn flush(&self, limit: Duration) -> bool {
        let queue = self.0.queue();
        let left = |queue: &mut Queue| !queue.lines.is_empty() || queue.in_hand > 0;
        let (mut queue, _) =
            self.0.emptied.wait_timeout_while(queue, limit, left).unwrap_or_else(PoisonError::into_inner);
        !left(&mut queue)
    }
}

impl Drop for PipeSink {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.filled.notify_one();
    }
}

/// The thread: takes what is queued, writes it, tells who waits. Ends when the sink is dropped and the queue empty,
/// or dropped and not writable.
fn write_on(shared: &Shared, mut file: File, socket: Option<&Path>) {
    let mut batch = Vec::new();
    let mut waiting = Vec::new();
    // How much of the batch's first line is out.
    let mut begun = 0;
    let mut is_new = false;
    loop {
        let mut queue = shared.queue();
        while queue.lines.is_empty() && batch.is_empty() {
            if queue.closed {
                return;
            }
            queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if batch.is_empty() {
            std::mem::swap(&mut batch, &mut queue.lines);
        } else {
            batch.append(&mut queue.lines);
        }
        waiting.append(&mut queue.waiting);
        queue.in_hand = batch.len();
        let closed = queue.closed;
        drop(queue);

        let (written, result) = write_all(shared, &file, &batch[begun..]);
        let out = begun + written;
        let whole = batch[..out].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        batch.drain(..whole);
        begun = out - whole;
        // One that took nothing at all is not worth another try at once.
        if let (Err(error), Some(path)) = (&result, socket)
            && error.kind() != io::ErrorKind::WouldBlock
            && (written > 0 || !is_new)
            && let Ok(anew) = super::connect(path)
        {
            file = anew;
            (begun, is_new) = (0, true);
            shared.reconnected.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        is_new = false;
        let mut queue = shared.queue();
        queue.in_hand = batch.len();
        if batch.is_empty() {
            for told in waiting.drain(..) {
                // Who gave up waiting needs no word.
                let _ = told.send(());
            }
            if queue.lines.is_empty() {
                shared.emptied.notify_all();
            }
        } else if result.is_err() {
            // Who waits is refused now; the lines keep their place.
            waiting.clear();
            if closed {
                return;
            }
            if queue.lines.is_empty() {
                let _ = shared.filled.wait_timeout(queue, RETRY);
            }
        }
    }
}

/// How much went out, and why no more did. A full non-blocking pipe is waited for as long as a worker would; it stays
/// stuck until it takes something.
fn write_all(shared: &Shared, file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    if shared.writing.load(Ordering::Relaxed) == 0 {
        shared.writes(true);
    }
    let (at, result) = write_on_and_on(shared, file, bytes);
    if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
        shared.writes(false);
    }
    (at, result)
}

fn write_on_and_on(shared: &Shared, mut file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut at = 0;
    let mut full_since: Option<Instant> = None;
    while at < bytes.len() {
        match file.write(&bytes[at..]) {
            Ok(0) => return (at, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => {
                at += n;
                full_since = None;
                shared.writes(true);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if full_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return (at, Err(error));
                }
                std::thread::sleep(LOOK);
            }
            Err(error) => return (at, Err(error)),
        }
    }
    (at, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn piped() -> (io::PipeReader, PipeSink) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, PipeSink::start(File::from(std::os::fd::OwnedFd::from(writer)), None).unwrap())
    }

    fn wait(acknowledgement: Acknowledgement) -> Result<(), AuditDown> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        // Set at the same moment, so however busy the machine is: which of the two ends first stays.
        runtime.block_on(async {
            tokio::select! {
                biased;
                told = acknowledgement.wait() => told,
                () = tokio::time::sleep(10 * PATIENCE) => panic!("waited on and on"),
            }
        })
    }

    #[test]
    fn acknowledges_a_line_once_it_is_in_the_pipe() {
        let (mut reader, sink) = piped();
        wait(sink.hand(b"one\n").unwrap()).unwrap();
        wait(sink.hand(b"two\n").unwrap()).unwrap();
        assert!(sink.flush(Duration::ZERO));
        drop(sink);
        let mut got = String::new();
        reader.read_to_string(&mut got).unwrap();
        assert_eq!(got, "one\ntwo\n");
    }

    #[test]
    fn a_stalled_reader_is_refused_within_the_patience_and_its_lines_keep_their_place() {
        let (mut reader, sink) = piped();
        let line = [vec![b'x'; 65_535], b"\n".to_vec()].concat();
        wait(sink.hand(&line).unwrap()).unwrap();
        let start = Instant::now();
        assert_eq!(wait(sink.hand(b"late\n").unwrap()), Err(AuditDown));
        assert!(start.elapsed() >= PATIENCE, "{:?}", start.elapsed());
        assert!(!sink.flush(Duration::ZERO));
        let mut got = vec![0; 65_536 + 5];
        reader.read_exact(&mut got).unwrap();
        assert!(got.ends_with(b"x\nlate\n"));
        wait(sink.hand(b"again\n").unwrap()).unwrap();
    }

    #[test]
    fn is_stuck_while_it_is_at_one_write_and_not_once_that_is_done() {
        let (mut reader, sink) = piped();
        assert!(!sink.is_stuck());
        let line = [vec![b'x'; 65_535], b"\n".to_vec()].concat();
        drop(sink.hand(&line).unwrap());
        assert!(sink.flush(Duration::from_secs(10)));
        assert!(!sink.is_stuck(), "the pipe is full, and nobody waits for it");
        assert_eq!(wait(sink.hand(b"late\n").unwrap()), Err(AuditDown));
        while !sink.is_stuck() {
            std::thread::yield_now();
        }
        reader.read_exact(&mut vec![0; 65_536 + 5]).unwrap();
        assert!(sink.flush(Duration::from_secs(10)));
        while sink.is_stuck() {
            std::thread::yield_now();
        }
        drop(sink.hand(b"again\n").unwrap());
        assert!(sink.flush(Duration::from_secs(10)));
    }

    #[test]
    fn a_full_queue_takes_nothing() {
        let (_reader, sink) = piped();
        let line = vec![b'x'; 65_536];
        let mut taken = 0;
        while sink.hand(&line).is_ok() {
            taken += 1;
            assert!(taken < 100, "the queue has no bound");
        }
        assert!(sink.hand(&line).is_err());
    }

    #[test]
    fn a_reader_that_went_away_is_an_error() {
        let (reader, sink) = piped();
        drop(reader);
        assert_eq!(wait(sink.hand(b"lost\n").unwrap()), Err(AuditDown));
        assert!(!sink.flush(Duration::from_millis(1)));
    }
}
