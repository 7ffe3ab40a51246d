//! `exeat check --policy FILE`: everything that is wrong with a policy, and what is only odd.

use std::io::{self, Write};
use std::path::Path;

use crate::engine::policy::{Policy, Problem};

/// Prints problems and warnings, one a line with their places; `false` (exit 1) where the policy can't be used.
pub fn check(path: &Path, out: &mut dyn Write, json: bool) -> io::Result<bool> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read policy `{name}`: {error}")))?;
    let (good, problems, warnings) = match Policy::read(&name, &text) {
        Ok((_, warnings)) => (true, Vec::new(), warnings),
        Err(problems) => (false, problems, Vec::new()),
    };
    if json {
        let each = |kind: &str, problems: &[Problem]| -> Vec<serde_json::Value> {
            let one = |problem: &Problem| {
                serde_json::json!({
                    "kind": kind,
                    "file": problem.file,
                    "line": problem.at.line,
                    "column": problem.at.column,
                    "message": problem.message,
                })
            };
            problems.iter().map(one).collect()
        };
        let all = [each("error", &problems), each("warning", &warnings)].concat();
        serde_json::to_writer_pretty(&mut *out, &serde_json::json!({"usable": good, "findings": all}))?;
        writeln!(out)?;
        return Ok(good);
    }
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    for warning in &warnings {
        writeln!(out, "{warning} (warning)")?;
    }
    if good {
        writeln!(out, "{name}: usable")?;
    }
    Ok(good)
}
