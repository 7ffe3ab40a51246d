//! Bytes of a body that were read and wait for their proof: of a chunk, until its signature holds.
//!
//! The engine says how many must wait (`BodyCheck::update`); here they are kept, and let go in order.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::body::{BUDGET_UNIT, BodyError, Budget};

/// Chunks as SDKs sign them (64 to 128 KiB) wait in a connection's own memory; larger ones need a share of the budget.
const OWN: usize = 256 * 1024;
/// Proven bytes go on in pieces of this size, so that the writer holds no whole chunk beside ours.
const PIECE: usize = 64 * 1024;

type Asked = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, BodyError>> + Send + Sync>>;

pub struct Waiting {
    pub bytes: BytesMut,
    /// So many of `bytes`, from the front, may go.
    proven: usize,
    budget: Budget,
    share: Option<OwnedSemaphorePermit>,
    asked: Option<Asked>,
}

impl Waiting {
    pub fn new(budget: &Budget) -> Self {
        Self { bytes: BytesMut::new(), proven: 0, budget: budget.clone(), share: None, asked: None }
    }

    /// Takes the next bytes; all but the last `withheld` of what was taken are proven now. Gives back what may go at
    /// once: nothing where older bytes go first.
    pub fn take(&mut self, mut data: Bytes, withheld: usize) -> Bytes {
        if self.bytes.is_empty() {
            // INVARIANT: older bytes have gone, so no more can be withheld than came now.
            let rest = data.split_off(data.len().saturating_sub(withheld));
            self.bytes.extend_from_slice(&rest);
            return data;
        }
        // Copied: pieces that a client drips one by one would each keep a read buffer alive.
        self.bytes.extend_from_slice(&data);
        self.proven = self.bytes.len() - withheld;
        Bytes::new()
    }

    /// Proven bytes, oldest first.
    pub fn next(&mut self) -> Option<Bytes> {
        if self.proven == 0 {
            return None;
        }
        let piece = self.bytes.split_to(self.proven.min(PIECE)).freeze();
        self.proven -= piece.len();
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.share = None;
        }
        Some(piece)
    }

    /// Takes over the share that the bytes were held under, as much of it as they still need: who waits for more while
    /// keeping what it no longer needs may wait for itself.
    pub fn adopt(&mut self, mut share: OwnedSemaphorePermit) {
        let needed = if self.bytes.len() > OWN { self.bytes.len().div_ceil(BUDGET_UNIT) } else { 0 };
        self.share = share.split(needed.min(share.num_permits())).filter(|kept| kept.num_permits() > 0);
    }

    /// Waits until there is room for `room` bytes, before more is read.
    pub fn poll_room(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let has = self.share.as_ref().map_or(OWN, |share| share.num_permits() * BUDGET_UNIT);
        if room > has && self.asked.is_none() {
            let missing = if self.share.is_some() { room - has } else { room };
            let budget = self.budget.clone();
            self.asked = Some(Box::pin(async move { budget.take(missing).await }));
        }
        if let Some(asked) = &mut self.asked {
            let more = ready!(asked.as_mut().poll(cx));
            self.asked = None;
            match &mut self.share {
                Some(share) => share.merge(more?),
                None => self.share = Some(more?),
            }
        }
        self.bytes.reserve(room.saturating_sub(self.bytes.len()));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(budget: usize) -> Waiting {
        Waiting::new(&Budget::new(budget, &crate::config::Limits::default()))
    }

    #[test]
    fn what_waits_goes_in_order_and_what_is_proven_at_once_is_not_copied() {
        let mut waiting = waiting(0);
        let data = Bytes::from_static(b"abcdef");
        let at_once = waiting.take(data.clone(), 2);
        assert_eq!((&at_once[..], at_once.as_ptr()), (&b"abcd"[..], data.as_ptr()));
        assert_eq!(waiting.next(), None);
        assert!(waiting.take(Bytes::from_static(b"gh"), 4).is_empty());
        assert_eq!(waiting.next(), None);
        assert!(waiting.take(Bytes::from_static(b"ij"), 1).is_empty());
        assert_eq!(waiting.next().as_deref(), Some(&b"efghi"[..]));
        assert_eq!(waiting.next(), None);
        assert!(waiting.take(Bytes::new(), 0).is_empty());
        assert_eq!(waiting.next().as_deref(), Some(&b"j"[..]));
        assert_eq!(waiting.take(Bytes::from_static(b"k"), 0), "k");
    }

    #[tokio::test]
    async fn of_a_share_that_is_taken_over_only_what_still_waits_is_kept() {
        const MIB: usize = 1 << 20;
        let mut waiting = waiting(4 * MIB);
        for (waits, kept) in [(MIB, MIB), (100, 0), (0, 0)] {
            let share = waiting.budget.take(3 * MIB).await.unwrap();
            let bytes = Bytes::from(vec![b'a'; 3 * MIB]);
            assert_eq!(waiting.take(bytes, waits).len(), 3 * MIB - waits);
            waiting.adopt(share);
            assert_eq!(waiting.budget.in_use(), kept, "{waits}");
            waiting.proven = waiting.bytes.len();
            while waiting.next().is_some() {}
            assert_eq!(waiting.budget.in_use(), 0, "{waits}");
        }
    }

    #[tokio::test]
    async fn a_large_chunk_takes_a_share_and_gives_it_back_when_it_has_gone() {
        let mut first = waiting(1 << 20);
        let mut second = Waiting::new(&first.budget);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(first.poll_room(OWN, &mut cx).is_ready() && first.share.is_none());
        assert!(first.poll_room(1 << 20, &mut cx).is_ready());
        assert!(second.poll_room(OWN + 1, &mut cx).is_pending(), "the budget is spent");
        let chunk = Bytes::from(vec![b'a'; 1 << 20]);
        assert!(first.take(chunk.clone(), chunk.len()).is_empty());
        assert!(first.next().is_none());
        assert!(first.take(Bytes::from_static(b"\r\n"), 0).is_empty());
        let mut gone = 0;
        while let Some(piece) = first.next() {
            assert!(piece.len() <= PIECE);
            gone += piece.len();
        }
        assert_eq!(gone, chunk.len() + 2);
        assert!(second.poll_room(OWN + 1, &mut cx).is_ready(), "the share came back");
    }
}
