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
    let (mut io, seen) = Watched::new(std::io::Cursor::new([vec![0; PREFACE], ping.repeat(10_000)].concat()));
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
