//! `exeat audit verify FILE... [--complete] [-o text|json]`: are the audit lines all there, in order, as they were written?

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::record::verify::{Report, Verifier, in_order, lane_starts};

/// How much is asked of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Nothing amid them is missing or changed.
    Whole,
    /// And every lane begins and ends in them.
    Complete,
}

/// Checks the files together, in whatever order they are given, and prints the answer: `true` (exit 0) where every
/// lane is whole, `false` (exit 1) where a line is missing, edited, moved or unreadable. `Err` names the file that
/// could not be read, or says that `out` could not be written.
pub fn verify(files: &[PathBuf], extent: Extent, out: &mut dyn Write, json: bool) -> io::Result<bool> {
    let report = read(files)?;
    let complete = extent == Extent::Whole || report.open().next().is_none();
    if json {
        serde_json::to_writer_pretty(
            &mut *out,
            &Answer { whole: report.is_whole(), complete: report.open().next().is_none(), report: &report },
        )?;
        writeln!(out)?;
    } else {
        print(&report, complete, out)?;
    }
    Ok(report.is_whole() && complete)
}

#[derive(serde::Serialize)]
struct Answer<'a> {
    whole: bool,
    /// Every lane begins and ends in these files.
    complete: bool,
    #[serde(flatten)]
    report: &'a Report,
}

/// The answer, not yet printed.
pub(super) fn read(files: &[PathBuf]) -> io::Result<Report> {
    let order = if files.len() > 1 {
        let starts = files.iter().map(|file| reading(file, |from| lane_starts(from)));
        in_order(&starts.collect::<io::Result<Vec<_>>>()?)
    } else {
        (0..files.len()).collect()
    };
    let mut verifier = Verifier::default();
    for at in order {
        let file = &files[at];
        reading(file, |from| verifier.read(&file.display().to_string(), from))?;
    }
    Ok(verifier.finish())
}

fn reading<T>(file: &Path, read: impl FnOnce(&mut BufReader<File>) -> io::Result<T>) -> io::Result<T> {
    File::open(file)
        .and_then(|opened| read(&mut BufReader::with_capacity(1 << 16, opened)))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read `{}`: {error}", file.display())))
}

fn print(report: &Report, complete: bool, out: &mut dyn Write) -> io::Result<()> {
    for place in &report.unreadable {
        writeln!(out, "{}:{}: unreadable: not a whole line", place.file, place.line)?;
    }
    for lane in &report.lanes {
        match &lane.bad {
            Some(bad) => {
                writeln!(out, "{}:{}: lane {}: {}", bad.place.file, bad.place.line, lane.lane, bad.fault)?;
            }
            None => {
                let last = lane.last_seq.unwrap_or(lane.first_seq);
                let from = if lane.first_seq > 0 { " (earlier files not given)" } else { "" };
                let (name, first, head) = (&lane.lane, lane.first_seq, &lane.head);
                let end = if lane.ended { "ended" } else { "not ended (running, killed or cut)" };
                writeln!(out, "lane {name}: seq {first}..{last}{from}, chain ok, {end}, head {head}")?;
            }
        }
    }
    write!(out, "{} lines in {} lanes", report.lines, report.lanes.len())?;
    for (count, what) in [
        (report.interrupted(), "interrupted calls"),
        (report.torn, "torn lines"),
        (report.foreign, "foreign lines"),
    ] {
        if count > 0 {
            write!(out, ", {count} {what}")?;
        }
    }
    writeln!(
        out,
        ": {}",
        match (report.is_whole(), complete) {
            (false, _) => "NOT whole",
            (true, false) => "whole, but NOT complete",
            (true, true) => "whole",
        }
    )
}
