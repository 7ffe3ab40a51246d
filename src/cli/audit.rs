//! `exeat audit verify FILE... [-o text|json]`: are the audit lines all there, in order, as they were written?

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::record::verify::{Report, Verifier, in_order, lane_starts};

/// Checks the files together, in whatever order they are given, and prints the answer: `true` (exit 0) where every
/// lane is whole, `false` (exit 1) where a line is missing, edited, moved or unreadable. `Err` names the file that
/// could not be read, or says that `out` could not be written.
pub fn verify(files: &[PathBuf], out: &mut dyn Write, json: bool) -> io::Result<bool> {
    let report = read(files)?;
    if json {
        serde_json::to_writer_pretty(&mut *out, &Answer { whole: report.is_whole(), report: &report })?;
        writeln!(out)?;
    } else {
        print(&report, out)?;
    }
    Ok(report.is_whole())
}

#[derive(serde::Serialize)]
struct Answer<'a> {
    whole: bool,
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

fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
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
                writeln!(out, "lane {name}: seq {first}..{last}{from}, chain ok, head {head}")?;
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
    writeln!(out, ": {}", if report.is_whole() { "whole" } else { "NOT whole" })
}
