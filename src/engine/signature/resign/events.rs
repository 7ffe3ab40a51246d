//! A signed event stream in another name: the same messages, dates included, each with the signature of a new chain.
//!
//! A message keeps its length; its CRC, which covers the signature, is computed anew. Keeps one message, since its
//! signature stands before what it is of.

use super::super::canonical::sha256;
use super::super::chain::Chain;
use super::super::chunked::MAX_SIGNED_CHUNK;
use super::super::events::{CRC, FRONT, Headers, PRELUDE, crc};
use super::super::keys::Maker;
use super::rechain::NotAsVerified;

#[derive(Debug)]
pub(super) struct Events {
    chain: Chain<Maker>,
    /// The present message, as far as it is here.
    held: Vec<u8>,
    /// The empty message has gone.
    ended: bool,
}

impl Events {
    pub(super) fn new(chain: Chain<Maker>) -> Self {
        Self { chain, held: Vec::new(), ended: false }
    }

    pub(super) fn take(&mut self, mut data: &[u8], out: &mut Vec<u8>) -> Result<(), NotAsVerified> {
        while !data.is_empty() {
            if self.ended {
                return Err(NotAsVerified);
            }
            let wanted = self.wanted()?;
            let (now, rest) = data.split_at(wanted.min(data.len()));
            self.held.extend_from_slice(now);
            data = rest;
            if now.len() == wanted && self.held.len() > PRELUDE {
                self.message(out)?;
            }
        }
        Ok(())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.capacity()
    }

    /// Bytes that the prelude lacks, then the message.
    fn wanted(&self) -> Result<usize, NotAsVerified> {
        let Some(length) = self.held.get(..PRELUDE).and_then(|prelude| prelude.first_chunk()) else {
            return Ok(PRELUDE - self.held.len());
        };
        let length = u32::from_be_bytes(*length) as usize;
        let most = FRONT + MAX_SIGNED_CHUNK as usize + CRC;
        if !(FRONT + CRC..=most).contains(&length) {
            return Err(NotAsVerified);
        }
        Ok(length - self.held.len())
    }

    /// The message is whole.
    fn message(&mut self, out: &mut Vec<u8>) -> Result<(), NotAsVerified> {
        let (front, rest) = self.held.split_at(FRONT);
        let payload = &rest[..rest.len() - CRC];
        let headers = Headers::read(&front[PRELUDE..]).map_err(|_| NotAsVerified)?;
        let signature = self.chain.event(headers.at, headers.date, &sha256(payload)).ok_or(NotAsVerified)?;
        let (place, ended) = (PRELUDE + headers.place, payload.is_empty());
        self.held[place..place + signature.len()].copy_from_slice(&signature);
        let end = self.held.len() - CRC;
        let mut sum = crc();
        sum.update(&self.held[..end]);
        self.held[end..].copy_from_slice(&(sum.finalize() as u32).to_be_bytes());
        out.append(&mut self.held);
        self.ended = ended;
        Ok(())
    }
}
