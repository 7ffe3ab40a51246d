//! One call on one line, for people.

use std::fmt::Write;

use crate::cli::lines::{Event, clean};

/// Longest resource that is written out: what is longer fills the screen and tells no more.
const MOST: usize = 100;

pub(super) fn line(event: &Event, colour: bool) -> String {
    let ours = event.ours();
    let verdict = event.verdict();
    let time = event.event_time.get(11..19).unwrap_or(&event.event_time);
    let (on, off) = match verdict {
        _ if !colour => ("", ""),
        "allow" => ("\x1b[32m", "\x1b[0m"),
        "report" => ("\x1b[33m", "\x1b[0m"),
        _ => ("\x1b[31m", "\x1b[0m"),
    };
    let mut line = format!("{} {on}{:<6}{off} {}", clean(time), verdict.to_uppercase(), clean(&event.call()));
    let mut add = |text: &str| {
        if !text.is_empty() {
            line.push_str("  ");
            line.push_str(&clean(text));
        }
    };
    if event.is_aws() {
        match event.resources.split_first() {
            Some((first, [])) => add(&shortened(&first.arn)),
            Some((first, more)) => add(&format!("{} +{}", shortened(&first.arn), more.len())),
            None => {}
        }
    }
    add(&match (event.is_own(), event.key()) {
        (true, Some(key)) => format!("by exeat itself with {key}"),
        (true, None) => "by exeat itself".to_owned(),
        (false, key) => key.map(|key| format!("by {key}")).unwrap_or_default(),
    });
    match &ours.reason {
        Some(reason) => add(reason),
        None if ours.end == "tunnelled" => add(&format!("tunnel of {}", duration(ours.duration_us))),
        None => add(&format!("{} in {}", ours.status, duration(ours.duration_us))),
    }
    if let Some(id) = &ours.statement {
        // What no statement decided names the nearest.
        let near = if matches!(ours.reason.as_deref(), None | Some("policy.denied")) { "" } else { "near " };
        let mut text = String::new();
        let place = ours.place.as_deref().unwrap_or_default();
        let _ = write!(text, "{near}{id}");
        if !place.is_empty() {
            let _ = write!(text, " ({place})");
        }
        add(&text);
    }
    add(&ours.flow);
    line
}

fn shortened(arn: &str) -> String {
    if arn.chars().count() <= MOST {
        return arn.to_owned();
    }
    arn.chars().take(MOST - 1).chain(['\u{2026}']).collect()
}

fn duration(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{}.{} s", micros / 1_000_000, micros / 100_000 % 10),
    }
}
