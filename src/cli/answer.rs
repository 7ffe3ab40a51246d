//! Standard output as answers are written to it: a reader that has seen enough (`| head -1`) is no error.

use std::io::{self, Write};

/// Once nobody reads, what is written goes nowhere, so the verb comes to its end and its exit code is the answer's.
pub struct Answer<W> {
    out: W,
    unread: bool,
}

impl<W: Write> Answer<W> {
    pub fn new(out: W) -> Self {
        Self { out, unread: false }
    }

    /// Nobody reads any more, as far as was seen in writing.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    fn or_unread<T>(&mut self, result: io::Result<T>, instead: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.unread = true;
                Ok(instead)
            }
            result => result,
        }
    }
}

impl<W: Write> Write for Answer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unread {
            return Ok(bytes.len());
        }
        let result = self.out.write(bytes);
        self.or_unread(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unread {
            return Ok(());
        }
        let result = self.out.flush();
        self.or_unread(result, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_error_and_a_full_disk_is() {
        let mut left = Answer::new(Fails(io::ErrorKind::BrokenPipe));
        assert!(writeln!(left, "one").and(writeln!(left, "two")).and(left.flush()).is_ok());
        let mut full = Answer::new(Fails(io::ErrorKind::StorageFull));
        assert!(writeln!(full, "one").is_err() && full.flush().is_err());
    }
}
