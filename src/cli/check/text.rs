//! Findings for a person: what, where, the line itself with a mark under the place, and what to write instead.

use std::io::{self, Write};

use super::Source;
use crate::engine::policy::{Problem, Severity};

/// All findings, then how many there were.
pub(super) fn print(out: &mut dyn Write, sources: &[Source], findings: &[Problem]) -> io::Result<()> {
    for found in findings {
        let text = sources.iter().find(|source| source.name == found.file).map(|source| source.text.as_str());
        write!(out, "{}", snippet(found, text.unwrap_or_default()))?;
    }
    for source in sources {
        let errors = findings.iter().any(|f| f.file == source.name && f.severity == Severity::Error);
        let said = if errors { "cannot be used" } else { "usable" };
        writeln!(out, "{}: {said}{}", source.name, counted(findings, &source.name))?;
    }
    Ok(())
}

fn counted(findings: &[Problem], file: &str) -> String {
    let mut said = String::new();
    for severity in Severity::ALL {
        let count = findings.iter().filter(|f| f.file == file && f.severity == *severity).count();
        if count > 0 {
            said.push_str(&format!(", {count} {severity}{}", if count == 1 { "" } else { "s" }));
        }
    }
    said
}

fn snippet(found: &Problem, text: &str) -> String {
    let (line, column) = (found.at.line, found.at.column);
    let mut said = format!(
        "{}[{}]: {}\n  --> {}:{line}:{column}\n",
        found.severity, found.code, found.message, found.file
    );
    let width = line.to_string().len();
    let shown = usize::try_from(line).ok().and_then(|line| text.lines().nth(line.checked_sub(1)?));
    if let Some(shown) = shown {
        // A tab is a space, so that the mark stands under its place.
        let shown = shown.replace('\t', " ");
        let before = usize::try_from(column).unwrap_or(1).saturating_sub(1);
        let (shown, before) = clipped(shown, before);
        let mark = " ".repeat(before) + &"^".repeat(length(&shown, before));
        said.push_str(&format!("{:width$} |\n{line} | {shown}\n{:width$} | {mark}\n", "", ""));
    }
    if let Some(help) = &found.help {
        said.push_str(&format!("{:width$} = help: {help}\n", ""));
    }
    said.push('\n');
    said
}

/// What is around a place in a line that no screen holds, and the place in it.
fn clipped(line: String, before: usize) -> (String, usize) {
    const MOST: usize = 160;
    let count = line.chars().count();
    if count <= MOST {
        return (line, before);
    }
    let start = before.saturating_sub(MOST / 2).min(count - MOST);
    let shown: String = line.chars().skip(start).take(MOST).collect();
    let (left, right) = (if start > 0 { "…" } else { "" }, if start + MOST < count { "…" } else { "" });
    (format!("{left}{shown}{right}"), before - start + left.chars().count())
}

/// Characters of the word that begins there: a quoted text, or up to what ends a plain one.
fn length(line: &str, before: usize) -> usize {
    let word: Vec<char> = line.chars().skip(before).collect();
    let end = match word.first() {
        Some(&quote @ ('"' | '\'')) => word.iter().skip(1).position(|c| *c == quote).map(|at| at + 2),
        Some('{' | '[') => Some(1),
        _ => {
            let ends = |at: usize| {
                let next = word.get(at + 1);
                ",]}".contains(word[at])
                    || (word[at] == ':' && next.is_none_or(|c| *c == ' '))
                    || (word[at] == ' ' && next.is_none_or(|c| *c == '#'))
            };
            (0..word.len()).find(|at| ends(*at))
        }
    };
    end.unwrap_or(word.len()).max(1)
}
