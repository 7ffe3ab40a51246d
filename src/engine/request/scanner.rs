//! Where a head ends, told as its bytes come in.

use std::sync::LazyLock;

use memchr::memmem;

use super::token::is_token;
use super::{HeadError, MAX_HEAD};

/// Blank lines before a request that are skipped (RFC 9112 2.2 asks for at least one).
const MAX_LEADING_BLANKS: usize = 2;

static BLANK_LINE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\r\n\r\n"));

/// Finds a head's end, each byte looked at once over however many reads it takes.
#[derive(Debug, Default)]
pub struct HeadScanner {
    at: usize,
    line: usize,
    blanks: usize,
}

impl HeadScanner {
    /// Length of the head in `buf`, leading blank lines included; `None` when more bytes are needed. A line end that
    /// is not CR LF is refused as soon as it is met, at the latest when the head is parsed.
    /// `buf` must begin with the bytes of the last call. [`HeadError::TooLarge`] past [`MAX_HEAD`].
    pub fn scan(&mut self, buf: &[u8]) -> Result<Option<usize>, HeadError> {
        if buf.is_empty() {
            return Ok(None);
        }
        // A head that came in one piece, as most do. Its line ends are judged when it is parsed.
        if self.at == 0
            && is_token(buf[0])
            && let Some(at) = BLANK_LINE.find(buf)
        {
            let end = at + 4;
            return if end > MAX_HEAD { Err(HeadError::TooLarge) } else { Ok(Some(end)) };
        }
        while let Some(found) = memchr::memchr2(b'\r', b'\n', &buf[self.at..]) {
            let at = self.at + found;
            // INVARIANT: the LF of a valid pair is skipped with its CR, so an LF met here stands alone.
            if buf[at] == b'\n' {
                return Err(HeadError::LineEnd);
            }
            match buf.get(at + 1) {
                None => {
                    self.at = at;
                    return self.more(buf);
                }
                Some(b'\n') => {}
                Some(_) => return Err(HeadError::LineEnd),
            }
            let end = at + 2;
            let empty = at == self.line;
            self.at = end;
            if empty && self.line == 2 * self.blanks {
                self.blanks += 1;
                if self.blanks > MAX_LEADING_BLANKS {
                    return Err(HeadError::RequestLine);
                }
            } else if empty {
                return if end > MAX_HEAD { Err(HeadError::TooLarge) } else { Ok(Some(end)) };
            }
            self.line = end;
        }
        self.at = buf.len();
        self.more(buf)
    }

    fn more(&self, buf: &[u8]) -> Result<Option<usize>, HeadError> {
        if buf.len() > MAX_HEAD {
            return Err(HeadError::TooLarge);
        }
        // A first byte that begins no token is refused at once, not at the time-out.
        match buf.get(2 * self.blanks) {
            Some(&first) if !is_token(first) && first != b'\r' => Err(HeadError::RequestLine),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scanner_finds_the_same_end_however_the_bytes_arrive() {
        let text = b"\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\nrest";
        let whole = HeadScanner::default().scan(text).unwrap();
        assert_eq!(whole, Some(text.len() - 4));
        let mut scanner = HeadScanner::default();
        let ends: Vec<_> = (0..=text.len()).filter_map(|n| scanner.scan(&text[..n]).unwrap()).collect();
        assert_eq!(ends.first(), whole.as_ref());
    }
}
