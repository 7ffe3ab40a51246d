//! A regular file as sink: appended to by the workers themselves, one `write(2)` a line, rotated by size or age.
//!
//! The kernel makes an append whole against other appends, so workers need no lock between them. What it does not
//! promise is a whole line when the disk is full: such a torn line is ended with a mark by whoever writes next.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};

use super::super::left::Left;
use super::{AuditDown, Rotation, SinkError, open_append};

/// Ends a line that was cut short, so that it cannot be taken for an edited one. See docs/audit.md.
pub const TORN_MARK: &[u8] = b" torn\n";

/// Where an earlier start's last lines are looked for: a lane that was idle for longer than this is not vouched for.
const TAIL: u64 = 1 << 20;

/// A file as opened once. A lane that sees a new `number` begins anew with a `lane` line, so each file stands alone.
pub struct Opened {
    file: File,
    /// Counts openings, from 1.
    pub number: u64,
    size: AtomicU64,
    torn: AtomicBool,
    /// What an earlier start left here.
    left: Left,
    /// It could not be set aside when its time came.
    stuck: AtomicBool,
    /// When it was made, as far as the file system tells.
    begun: SystemTime,
}

pub struct FileSink {
    opened: ArcSwap<Opened>,
    path: Option<PathBuf>,
    rotation: Option<Rotation>,
    turning: Mutex<()>,
}

impl FileSink {
    pub(super) fn new(file: File, meta: &Metadata, path: Option<&Path>, rotation: Option<Rotation>) -> Self {
        let opened = Opened::new(file, 1, meta);
        Self {
            opened: ArcSwap::from_pointee(opened),
            path: path.map(Path::to_path_buf),
            rotation,
            turning: Mutex::new(()),
        }
    }

    /// The file to write to now; a line is built for this very file and then written to it.
    pub fn current(&self) -> Guard<Arc<Opened>> {
        self.opened.load()
    }

    /// `line` ends with LF. On `Err` nothing of it counts, and the same sequence number may be written again.
    pub fn write(&self, opened: &Opened, line: &[u8]) -> Result<(), AuditDown> {
        let result = opened.append(line);
        if let Some(rotation) = &self.rotation
            && result.is_ok()
            && opened.is_due(rotation)
        {
            self.rotate(opened, rotation);
        }
        result
    }

    pub(super) fn reopen(&self) -> Result<(), SinkError> {
        let Some(path) = &self.path else { return Ok(()) };
        let _turn = self.turning.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.replace(open_append(path)?).map_err(|source| SinkError::Open { path: path.clone(), source })
    }

    /// One worker turns the files, the others go on writing to the file they hold.
    fn rotate(&self, full: &Opened, rotation: &Rotation) {
        let (Some(path), Ok(_turn)) = (&self.path, self.turning.try_lock()) else { return };
        if self.current().number != full.number {
            return;
        }
        let turned = set_aside(path, rotation.keep)
            .and_then(|()| open_append(path).map_err(io::Error::other))
            .and_then(|file| self.replace(file));
        // Lines go on into the full file: better too long than lost. Tried again with the next one, and said once.
        if let Err(error) = turned
            && !full.stuck.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(path = %path.display(), %error, "cannot rotate the audit file");
        }
    }

    fn replace(&self, file: File) -> io::Result<()> {
        let meta = file.metadata()?;
        let number = self.current().number + 1;
        self.opened.store(Arc::new(Opened::new(file, number, &meta)));
        Ok(())
    }
}

impl Opened {
    fn new(file: File, number: u64, meta: &Metadata) -> Self {
        let (size, mut last) = (meta.len(), [b'\n']);
        // A crash may have left half a line; where we can't read we can't tell, and `audit verify` will.
        let torn = size > 0 && file.read_exact_at(&mut last, size - 1).is_ok() && last != [b'\n'];
        let now = SystemTime::now();
        let begun = if size > 0 { meta.created().unwrap_or(now) } else { now };
        // Found once, at start: a file that is opened again later holds lines of our own.
        let left = if number == 1 { left_in(&file, size) } else { None };
        let left = left.unwrap_or_default();
        let (size, torn, stuck) = (AtomicU64::new(size), AtomicBool::new(torn), AtomicBool::new(false));
        Self { file, number, size, torn, left, stuck, begun }
    }

    /// The lanes that begin here vouch for what stood before them.
    pub fn left(&self) -> &Left {
        &self.left
    }

    fn is_due(&self, rotation: &Rotation) -> bool {
        let full = rotation.bytes.is_some_and(|bytes| self.size.load(Ordering::Relaxed) >= bytes);
        // A clock that was set back makes no file old.
        let age = || SystemTime::now().duration_since(self.begun).unwrap_or(Duration::ZERO);
        full || rotation.age.is_some_and(|most| age() >= most)
    }

    fn append(&self, line: &[u8]) -> Result<(), AuditDown> {
        let marked;
        let (bytes, mark) = if self.torn.load(Ordering::Relaxed) && self.torn.swap(false, Ordering::Relaxed) {
            marked = [TORN_MARK, line].concat();
            (&marked[..], TORN_MARK.len())
        } else {
            (line, 0)
        };
        let written = loop {
            match (&self.file).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.unwrap_or(0),
            }
        };
        self.size.fetch_add(written as u64, Ordering::Relaxed);
        if written == bytes.len() {
            return Ok(());
        }
        // A line that lacks only its LF is whole; the mark would spoil it, so it is ended at once or not at all.
        if written + 1 == bytes.len() && (&self.file).write(b"\n").is_ok_and(|n| n == 1) {
            return Ok(());
        }
        // Nothing written, nothing torn, unless a torn line still waits for its mark.
        if written > 0 || mark > 0 {
            self.torn.store(written != mark, Ordering::Relaxed);
        }
        Err(AuditDown)
    }
}

fn left_in(file: &File, size: u64) -> Option<Left> {
    let from = size.saturating_sub(TAIL);
    let mut tail = vec![0; usize::try_from(size - from).ok()?];
    file.read_exact_at(&mut tail, from).ok()?;
    Some(Left::read(&tail))
}

/// `PATH.1` becomes `PATH.2` and so on; `PATH` becomes `PATH.1`, or goes where none are kept.
fn set_aside(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |n: u32| {
        let mut name = path.as_os_str().to_os_string();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    for n in (1..keep).rev() {
        match std::fs::rename(numbered(n), numbered(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    if keep == 0 { std::fs::remove_file(path) } else { std::fs::rename(path, numbered(1)) }
}

#[cfg(test)]
mod tests {
    use super::super::{Sink, Target};
    use super::*;

    fn sink(path: &Path, rotation: Option<Rotation>) -> FileSink {
        match Sink::open(&Target::File { path: path.into(), rotation }).unwrap() {
            Sink::File(file) => file,
            Sink::Pipe(_) => panic!("a regular file"),
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("exeat-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn half_a_line_of_an_earlier_start_is_ended_with_the_mark() {
        let folder = scratch("mark");
        let path = folder.join("a");
        std::fs::write(&path, "whole\nhal").unwrap();
        let sink = sink(&path, None);
        for line in ["one\n", "two\n"] {
            sink.write(&sink.current(), line.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\nhal torn\none\ntwo\n");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn turns_at_its_size_and_keeps_as_many_as_it_should() {
        let folder = scratch("turn");
        let path = folder.join("a");
        let sink = sink(&path, Some(Rotation { bytes: Some(8), age: None, keep: 2 }));
        for line in ["one1111\n", "two2222\n", "three33\n", "four\n"] {
            sink.write(&sink.current(), line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.join(name));
        assert_eq!(read("a").unwrap(), "four\n");
        assert_eq!(read("a.1").unwrap(), "three33\n");
        assert_eq!(read("a.2").unwrap(), "two2222\n");
        assert!(read("a.3").is_err());
        assert_eq!(sink.current().number, 4);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn turns_with_the_first_line_after_its_age() {
        let folder = scratch("age");
        let path = folder.join("a");
        let hour = Duration::from_secs(3600);
        let sink = sink(&path, Some(Rotation { bytes: None, age: Some(hour), keep: 2 }));
        let write = |line: &str| sink.write(&sink.current(), line.as_bytes()).unwrap();
        write("young\n");
        let young = Opened::new(open_append(&path).unwrap(), 7, &path.metadata().unwrap());
        sink.opened.store(Arc::new(Opened { begun: SystemTime::now() - hour, ..young }));
        write("old\n");
        write("new\n");
        assert_eq!(std::fs::read_to_string(folder.join("a.1")).unwrap(), "young\nold\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn goes_on_in_the_full_file_when_it_cannot_be_turned() {
        let folder = scratch("stuck");
        let path = folder.join("a");
        let sink = sink(&path, Some(Rotation { bytes: Some(4), age: None, keep: 1 }));
        // A folder with something in it stands where the file should go.
        std::fs::create_dir_all(folder.join("a.1/x")).unwrap();
        for line in ["one1\n", "two2\n"] {
            sink.write(&sink.current(), line.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one1\ntwo2\n");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
