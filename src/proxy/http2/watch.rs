//! Sees the requests that a client's connection opened and the library never handed over: it refuses some by itself,
//! and forgets others when the connection ends. Frame headers are read off the bytes as they pass, both ways; nothing is
//! copied, decoded or changed.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{CONTINUATION, END_HEADERS, Frame, Frames, GOAWAY, HEADERS, RST_STREAM};
use crate::proxy::http1::io::Io;

/// The client's preface (RFC 9113 3.4), which is no frame.
const PREFACE: usize = 24;
/// Frames that a connection is read for before the others of its worker have their turn; what came with the last of them
/// in one read is looked at too. Few enough for a tenth of a millisecond, more than an orderly client sends at once.
const FRAMES_A_TURN: u32 = 128;
/// A read that brought more frames than this makes the next ones small.
const DENSE: u32 = 32;
/// Such a one: no more than 113 frames.
const SMALL_READ: usize = 1024;

/// A client's stream of bytes, watched.
pub struct Watched<S> {
    io: S,
    seen: Seen,
}

/// What was seen of a connection so far. One task uses both handles.
#[derive(Clone)]
pub struct Seen(Arc<Mutex<State>>);

struct State {
    inbound: Frames,
    outbound: Frames,
    begun: bool,
    /// The newest stream that the client opened.
    newest: u32,
    /// In their order. INVARIANT: bounded by what we take up, what the library holds back and resets (`STREAMS`,
    /// `PENDING_RESETS`, `ERROR_RESETS`), and one read of its, ahead of what it looked at.
    open: VecDeque<Opened>,
    /// Streams above it are not processed in any way, as the client was told (RFC 9113 6.8).
    last: u32,
    /// Frames of this turn.
    turn: u32,
    /// The last read was full of small ones.
    dense: bool,
    /// Of the newest head more frames are to come.
    continues: bool,
    /// Heads so far.
    heads: u64,
    /// When it was last told of a stream that is over; at first, when it began.
    used: Instant,
}

/// A stream of the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opened {
    stream: u32,
    with: With,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    Library,
    /// Which refused it.
    Refused(Fate),
    Us,
    /// And the client gave it up.
    UsAlone,
}

/// A stream that was handed over, until this is dropped.
pub struct Taken {
    seen: Seen,
    stream: u32,
}

impl Taken {
    /// The client reset it, or the connection has ended: where neither is so, a reset is the library's, for what the
    /// client sent.
    pub fn is_given_up(&self) -> bool {
        let state = self.seen.state();
        state.find(self.stream).is_none_or(|at| state.open[at].with == With::UsAlone)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut state = self.seen.state();
        state.used = Instant::now();
        if let Some(at) = state.find(self.stream) {
            state.open.remove(at);
        }
    }
}

/// A request that never was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub stream: u32,
    pub fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The library reset it.
    Reset(Reason),
    /// Or answered it 431, as it does with nothing else.
    TooLarge,
    /// The connection ended before anything became of it.
    Forgotten,
}

impl<S> Watched<S> {
    pub fn new(io: S) -> (Self, Seen) {
        let seen = Seen(Arc::new(Mutex::new(State {
            inbound: Frames::after(PREFACE),
            outbound: Frames::after(0),
            begun: false,
            newest: 0,
            open: VecDeque::new(),
            last: u32::MAX,
            turn: 0,
            dense: false,
            continues: false,
            heads: 0,
            used: Instant::now(),
        })));
        (Self { io, seen: seen.clone() }, seen)
    }
}

impl Seen {
    /// The client said something.
    pub fn has_begun(&self) -> bool {
        self.state().begun
    }

    /// The connection's task is polled anew.
    pub fn begin_turn(&self) {
        self.state().turn = 0;
    }

    /// The library handed it over.
    pub fn take(&self, stream: u32) -> Taken {
        let mut state = self.state();
        if let Some(at) = state.find(stream) {
            state.open[at].with = With::Us;
        }
        Taken { seen: self.clone(), stream }
    }

    /// The library has some that it neither handed over nor refused yet.
    pub fn holds_any(&self) -> bool {
        self.state().open.iter().rev().any(|one| one.with == With::Library)
    }

    /// When a stream was last over, or the connection began.
    pub fn last_used(&self) -> Instant {
        self.state().used
    }

    /// One that the library refused; each is told of once. To be asked when nothing is to be handed over any more.
    pub fn refused(&self) -> Option<Refused> {
        let state = &mut *self.state();
        let at = state.open.iter().position(|one| matches!(one.with, With::Refused(_)))?;
        state.used = Instant::now();
        state.open.remove(at)?.refused()
    }

    /// All that the library kept, once the connection has ended.
    pub fn left(&self) -> impl Iterator<Item = Refused> + use<> {
        std::mem::take(&mut self.state().open).into_iter().filter_map(Opened::refused)
    }

    /// The head that has begun and is not whole yet, by a number of its own. No other frame may come in between
    /// (RFC 9113 6.10).
    pub fn half_head(&self) -> Option<u64> {
        let state = self.state();
        let half = state.continues || matches!(state.inbound.under_way(), Some(HEADERS | CONTINUATION));
        half.then_some(state.heads)
    }

    /// Gives up the request whose head is not whole yet, if it is one.
    pub fn give_up_head(&self) -> Option<u32> {
        let state = &mut *self.state();
        let newest = state.newest;
        let given_up = state.open.pop_back_if(|one| one.stream == newest && one.with == With::Library)?;
        Some(given_up.stream)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    fn refused(self) -> Option<Refused> {
        let fate = match self.with {
            With::Library => Fate::Forgotten,
            With::Refused(fate) => fate,
            With::Us | With::UsAlone => return None,
        };
        Some(Refused { stream: self.stream, fate })
    }
}

fn find(open: &VecDeque<Opened>, stream: u32) -> Option<usize> {
    open.binary_search_by_key(&stream, |one| one.stream).ok()
}

impl State {
    fn find(&self, stream: u32) -> Option<usize> {
        find(&self.open, stream)
    }

    fn came(&mut self, bytes: &[u8]) {
        self.begun |= !bytes.is_empty();
        let before = self.turn;
        let Self { inbound, newest, open, last, turn, continues, heads, .. } = self;
        inbound.pass(bytes, |frame| {
            *turn += 1;
            if frame.kind == RST_STREAM
                && let Some(at) = find(open, frame.stream)
                && open[at].with == With::Us
            {
                open[at].with = With::UsAlone;
            }
            if !matches!(frame.kind, HEADERS | CONTINUATION) {
                return;
            }
            // A client's streams have odd numbers, each higher than those before; another one of HEADERS is trailers.
            if frame.kind == HEADERS && frame.stream > *newest && frame.stream % 2 == 1 {
                *newest = frame.stream;
                if frame.stream <= *last {
                    open.push_back(Opened { stream: frame.stream, with: With::Library });
                }
            }
            *heads += u64::from(frame.kind == HEADERS);
            *continues = frame.flags & END_HEADERS == 0;
        });
        self.dense = self.turn - before > DENSE;
    }

    fn went(&mut self, bytes: &[u8]) {
        let Self { outbound, open, last, .. } = self;
        outbound.pass(bytes, |frame: Frame| {
            let fate = match frame.kind {
                RST_STREAM => Fate::Reset(Reason::from(frame.words[0])),
                HEADERS => Fate::TooLarge,
                GOAWAY => {
                    *last = frame.words[0] & 0x7fff_ffff;
                    open.retain(|one| one.stream <= *last || one.with != With::Library);
                    return;
                }
                _ => return,
            };
            if let Some(at) = find(open, frame.stream)
                && open[at].with == With::Library
            {
                open[at].with = With::Refused(fate);
            }
        });
    }
}

impl<S: Io> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // Most polls find nothing.
        ready!(this.io.poll_readable(cx));
        let (turn, dense) = {
            let state = this.seen.state();
            (state.turn, state.dense)
        };
        // It may come in faster than it can be looked at: then this task alone would run for as long as that lasts.
        if turn >= FRAMES_A_TURN {
            // Woken after the sockets were asked, which a task that wakes itself puts off.
            return pin!(tokio::task::yield_now()).poll(cx).map(Ok);
        }
        let before = buf.filled().len();
        if dense && buf.remaining() > SMALL_READ {
            let mut small = ReadBuf::new(buf.initialize_unfilled_to(SMALL_READ));
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut small))?;
            let read = small.filled().len();
            buf.advance(read);
        } else {
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        }
        this.seen.state().came(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: Io> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.seen.state().went(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        let (mut left, mut state) = (n, self.seen.state());
        for buf in bufs {
            let written = left.min(buf.len());
            state.went(&buf[..written]);
            left -= written;
        }
        drop(state);
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    impl Io for std::io::Cursor<Vec<u8>> {}

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn head(stream: u32) -> Vec<u8> {
        frame(HEADERS, END_HEADERS, stream, b"block")
    }

    /// A connection on which these heads came.
    fn seen(heads: &[Vec<u8>]) -> Seen {
        let (_, seen) = Watched::new(());
        seen.state().came(&[0; PREFACE]);
        seen.state().came(&heads.concat());
        seen
    }

    fn reset(stream: u32, code: Reason) -> Vec<u8> {
        frame(RST_STREAM, 0, stream, &u32::from(code).to_be_bytes())
    }

    fn left(seen: &Seen) -> Vec<(u32, Fate)> {
        seen.left().map(|one| (one.stream, one.fate)).collect()
    }

    #[test]
    fn each_stream_is_told_of_once_unless_it_was_handed_over() {
        let seen = seen(&[head(1), head(3), head(5), head(7), head(9)]);
        let taken = seen.take(3);
        seen.state().went(&reset(5, Reason::PROTOCOL_ERROR));
        seen.state().went(&frame(HEADERS, END_HEADERS, 7, b"431"));
        seen.state().went(&reset(7, Reason::PROTOCOL_ERROR));
        // An answer of ours, and a reset of a stream that is ours.
        seen.state().went(&[frame(HEADERS, END_HEADERS, 3, b"200"), reset(3, Reason::CANCEL)].concat());
        assert!(!taken.is_given_up());
        seen.state().came(&reset(3, Reason::CANCEL));
        assert!(taken.is_given_up());
        let reset = Fate::Reset(Reason::PROTOCOL_ERROR);
        assert_eq!(seen.refused(), Some(Refused { stream: 5, fate: reset }));
        assert_eq!(seen.refused(), Some(Refused { stream: 7, fate: Fate::TooLarge }));
        assert_eq!(seen.refused(), None);
        assert_eq!(left(&seen), [(1, Fate::Forgotten), (9, Fate::Forgotten)]);
        assert_eq!(left(&seen), []);
        drop(taken);
    }

    #[test]
    fn nothing_is_kept_of_a_stream_that_is_over() {
        let seen = seen(&[head(1), head(3)]);
        drop((seen.take(1), seen.take(3)));
        assert!(seen.state().open.is_empty());
    }

    #[test]
    fn trailers_and_pushed_numbers_open_no_stream() {
        let seen = seen(&[head(5), head(5), head(3), head(8), head(7)]);
        assert_eq!(left(&seen).iter().map(|(stream, _)| *stream).collect::<Vec<_>>(), [5, 7]);
    }

    #[test]
    fn what_goaway_says_is_not_processed_is_no_request_of_ours() {
        let seen = seen(&[head(1), head(3), head(5)]);
        seen.state().went(&reset(5, Reason::REFUSED_STREAM));
        let last = [1u32.to_be_bytes(), 11u32.to_be_bytes()].concat();
        seen.state().went(&frame(GOAWAY, 0, 0, &last));
        seen.state().came(&head(7));
        assert_eq!(left(&seen), [(1, Fate::Forgotten), (5, Fate::Reset(Reason::REFUSED_STREAM))]);
    }

    #[test]
    fn a_flood_is_read_for_a_turn_at_a_time() {
        const READ: usize = 16 * 1024;
        let ping = frame(6, 0, 0, &[0; 8]);
        let (mut io, seen) =
            Watched::new(std::io::Cursor::new([vec![0; PREFACE], ping.repeat(10_000)].concat()));
        let woken = std::sync::Arc::new(Woken::default());
        let waker = std::task::Waker::from(std::sync::Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let (mut turns, mut total) = (0, 0);
        loop {
            let mut room = [0; READ];
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut io).poll_read(&mut cx, &mut buf) {
                Poll::Ready(read) => {
                    read.unwrap();
                    total += buf.filled().len();
                    if buf.filled().is_empty() {
                        break;
                    }
                }
                Poll::Pending => {
                    turns += 1;
                    assert_eq!(woken.0.swap(0, Ordering::Relaxed), 1, "it goes on by itself");
                    // The first read found out what comes.
                    let most = turns * (FRAMES_A_TURN as usize * ping.len() + SMALL_READ) + READ;
                    assert!(total <= most, "{total} bytes in {turns} turns");
                    seen.begin_turn();
                }
            }
        }
        assert_eq!(total, PREFACE + 10_000 * ping.len(), "nothing is lost");
        assert!(turns > 30, "{turns} turns");
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_head_is_half_until_its_last_byte_and_the_next_is_another() {
        let seen = seen(&[]);
        assert_eq!(seen.half_head(), None);
        let bytes = [frame(HEADERS, 0, 1, b"ab"), frame(CONTINUATION, END_HEADERS, 1, b"c")].concat();
        for (at, byte) in bytes.iter().enumerate() {
            seen.state().came(&[*byte]);
            let inside = at >= 8 && at + 1 < bytes.len();
            assert_eq!(seen.half_head(), inside.then_some(1), "after {} bytes", at + 1);
        }
        seen.state().came(&frame(HEADERS, 0, 3, b"ab"));
        assert_eq!((seen.half_head(), seen.give_up_head(), seen.give_up_head()), (Some(2), Some(3), None));
        assert_eq!(left(&seen), [(1, Fate::Forgotten)]);
    }
}
