//! Finds the frames in a stream of bytes that comes in any pieces (RFC 9113 4.1).

pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const END_HEADERS: u8 = 4;

const HEADER: usize = 9;
/// How much of a payload is looked at: an error code, or a stream and an error code.
const WORDS: usize = 8;

/// What a frame's header says. `words`: how its payload begins, of the kinds that are an error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub words: [u32; 2],
}

/// Remembers where in a frame the last piece ended.
#[derive(Debug)]
pub struct Frames {
    /// Header and words, as far as they came.
    front: [u8; HEADER + WORDS],
    have: usize,
    /// To go by unread.
    skip: usize,
    /// Whose bytes those are.
    skips: Option<u8>,
}

impl Frames {
    /// Behind so many bytes that are no frame.
    pub fn after(skip: usize) -> Self {
        Self { front: [0; HEADER + WORDS], have: 0, skip, skips: None }
    }

    /// The kind of the frame whose payload is not all here yet.
    pub fn under_way(&self) -> Option<u8> {
        self.skips.filter(|_| self.skip > 0)
    }

    /// Takes the next bytes, and shows each frame as soon as its front is here.
    pub fn pass(&mut self, mut bytes: &[u8], mut show: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let wanted = self.wanted();
            let taken = bytes.len().min(wanted - self.have);
            self.front[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            // A whole header may want more than itself.
            if self.have < self.wanted() {
                continue;
            }
            self.skip = HEADER + self.length() - self.have;
            self.skips = Some(self.front[3]);
            let word = |at: usize| match self.front[at..at + 4].try_into() {
                Ok(bytes) if self.have >= at + 4 => u32::from_be_bytes(bytes),
                _ => 0,
            };
            let frame = Frame {
                kind: self.front[3],
                flags: self.front[4],
                // The first bit is reserved.
                stream: word(5) & 0x7fff_ffff,
                words: [word(HEADER), word(HEADER + 4)],
            };
            self.have = 0;
            show(frame);
        }
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.front;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    fn wanted(&self) -> usize {
        match self.front[3] {
            RST_STREAM | GOAWAY if self.have >= HEADER => HEADER + self.length().min(WORDS),
            _ => HEADER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(&(stream | 1 << 31).to_be_bytes());
        out.extend_from_slice(payload);
        out
    }

    fn shown(kind: u8, flags: u8, stream: u32, words: [u32; 2]) -> Frame {
        Frame { kind, flags, stream, words }
    }

    #[test]
    fn frames_are_found_wherever_the_pieces_are_cut() {
        let all = [
            b"not a frame".to_vec(),
            frame(4, 0, 0, b""),
            frame(HEADERS, END_HEADERS, 1, &[7; 300]),
            frame(RST_STREAM, 0, 1, &8u32.to_be_bytes()),
            // What looks like a frame inside of one is none.
            frame(0, 1, 3, &frame(RST_STREAM, 0, 5, &[0; 4])),
            frame(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 11, b'w', b'h', b'y']),
            // Shorter than it must be.
            frame(RST_STREAM, 0, 7, &[1, 2]),
            frame(CONTINUATION, 0, 9, b"x"),
        ]
        .concat();
        let want = [
            shown(4, 0, 0, [0, 0]),
            shown(HEADERS, END_HEADERS, 1, [0, 0]),
            shown(RST_STREAM, 0, 1, [8, 0]),
            shown(0, 1, 3, [0, 0]),
            shown(GOAWAY, 0, 0, [3, 11]),
            shown(RST_STREAM, 0, 7, [0, 0]),
            shown(CONTINUATION, 0, 9, [0, 0]),
        ];
        for size in 1..all.len() {
            let (mut frames, mut found) = (Frames::after(11), Vec::new());
            all.chunks(size).for_each(|piece| frames.pass(piece, |frame| found.push(frame)));
            assert_eq!(found, want, "in pieces of {size}");
            assert_eq!(frames.under_way(), None);
        }
    }

    #[test]
    fn a_frame_is_under_way_until_its_last_byte() {
        let (mut frames, headers) = (Frames::after(0), frame(HEADERS, END_HEADERS, 1, b"abc"));
        for (at, byte) in headers.iter().enumerate() {
            frames.pass(&[*byte], |_| ());
            let inside = (8..11).contains(&at);
            assert_eq!(frames.under_way(), inside.then_some(HEADERS), "after {} bytes", at + 1);
        }
    }
}
