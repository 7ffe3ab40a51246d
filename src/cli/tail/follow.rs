//! Reads a file as it grows, and goes on in its successors: rotated by us or by `logrotate`, replaced or cut to nothing.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// More files than any rotation keeps.
const MOST_FILES: u32 = 1000;
/// What is longer is no line of ours; so a file without line ends fills no memory.
const MOST: usize = 64 * 1024;

pub(super) struct Follow {
    path: PathBuf,
    from: BufReader<File>,
    at: u64,
    partial: Vec<u8>,
    /// Another file stands at the path: this one is read once more, since a line may have been under way to it.
    turned: bool,
}

impl Follow {
    pub fn from_start(path: &Path) -> io::Result<Self> {
        let from = BufReader::with_capacity(1 << 16, File::open(path)?);
        Ok(Self { path: path.to_owned(), from, at: 0, partial: Vec::new(), turned: false })
    }

    /// What is in the file already is passed over, but for a line under way.
    pub fn from_end(path: &Path) -> io::Result<Self> {
        let mut follow = Self::from_start(path)?;
        follow.read(&mut |_| ())?;
        Ok(follow)
    }

    /// Hands on each line, without LF, that was written since.
    pub fn poll(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if self.from.get_ref().metadata()?.len() < self.at {
            self.from.seek(SeekFrom::Start(0))?;
            (self.at, self.partial) = (0, Vec::new());
        }
        self.read(take)?;
        let ours = self.from.get_ref().metadata()?;
        // Between two names there may be none.
        let Ok(there) = std::fs::metadata(&self.path) else { return Ok(()) };
        if is_same(&ours, &there) {
            self.turned = false;
        } else if std::mem::replace(&mut self.turned, true) {
            for path in self.after(&ours) {
                if let Ok(next) = Self::from_start(&path) {
                    *self = Self { path: std::mem::take(&mut self.path), ..next };
                    self.read(take)?;
                }
            }
        }
        Ok(())
    }

    /// What was written after the file with this identity: `PATH.2`, `PATH.1`, `PATH`, where it is `PATH.3` by now.
    fn after(&self, ours: &Metadata) -> Vec<PathBuf> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let is_ours =
            |number: &u32| std::fs::metadata(numbered(*number)).is_ok_and(|there| is_same(ours, &there));
        let place = (1..=MOST_FILES).find(is_ours).unwrap_or(1);
        (1..place).rev().map(numbered).chain([self.path.clone()]).collect()
    }

    fn read(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        loop {
            let read = self.from.read_until(b'\n', &mut self.partial)?;
            if read == 0 {
                return Ok(());
            }
            self.at += read as u64;
            if self.partial.pop_if(|byte| *byte == b'\n').is_some() {
                take(&self.partial);
                self.partial.clear();
            } else if self.partial.len() > MOST {
                self.partial.clear();
            }
        }
    }
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn goes_on_over_rotation_truncation_and_half_lines() {
        let folder = std::env::temp_dir().join(format!("exeat-follow-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("audit.jsonl");
        let named = |number: u32| folder.join(format!("audit.jsonl.{number}"));
        let append = |path: &Path, text: &str| {
            let mut file = File::options().append(true).create(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append(&path, "old\nhal");
        let mut follow = Follow::from_end(&path).unwrap();
        let polled = |follow: &mut Follow| {
            let mut lines = Vec::new();
            follow.poll(&mut |line| lines.push(String::from_utf8(line.to_vec()).unwrap())).unwrap();
            lines
        };
        assert_eq!(polled(&mut follow), [""; 0]);
        append(&path, "f\nfull\n");
        assert_eq!(polled(&mut follow), ["half", "full"]);
        // Renamed, and nothing there yet; a line still comes to the old file.
        std::fs::rename(&path, named(1)).unwrap();
        append(&named(1), "late\n");
        assert_eq!(polled(&mut follow), ["late"]);
        append(&path, "new\n");
        append(&named(1), "later\n");
        assert_eq!(polled(&mut follow), ["later"]);
        assert_eq!(polled(&mut follow), ["new"]);
        // Three turns between two looks.
        append(&path, "a\n");
        std::fs::rename(&path, named(3)).unwrap();
        append(&named(2), "b\n");
        std::fs::write(named(1), "c\n").unwrap();
        append(&path, "d, a longer line\n");
        assert_eq!(polled(&mut follow), ["a"]);
        assert_eq!(polled(&mut follow), ["b", "c", "d, a longer line"]);
        // Cut to nothing and written anew (`copytruncate`).
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        append(&path, "e\n");
        assert_eq!(polled(&mut follow), ["e"]);
        let _ = std::fs::remove_dir_all(&folder);
    }
}
