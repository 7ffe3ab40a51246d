//! What `audit verify` finds, and what it accepts.

use super::*;

/// Text of a file to which three lanes wrote 1,000 lines each, in turns.
fn three_lanes(name: &str) -> String {
    let path = folder(name).join("audit.jsonl");
    let records = records(to_file(&path));
    let lanes = [records.recorder(), records.recorder(), records.recorder()];
    wait(async {
        for _ in 0..333 {
            for lane in &lanes {
                pass(lane).await.unwrap();
                refuse(lane).await;
            }
        }
    });
    std::fs::read_to_string(path).unwrap()
}

fn first_fault(report: &Report) -> (u64, Fault) {
    let mut bad: Vec<_> = report.lanes.iter().filter_map(|lane| lane.bad.clone()).collect();
    bad.sort_by_key(|bad| bad.place.line);
    (bad[0].place.line, bad[0].fault)
}

/// The lines of one lane only, as `(line number from 1, text)`.
fn of_lane<'a>(lines: &[&'a str], lane: u16) -> Vec<(usize, &'a str)> {
    let name = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let ours = value.pointer("/additionalEventData/exeat").unwrap_or(&value);
        ours["lane"].as_str().unwrap().to_owned()
    };
    let wanted = format!("-{lane}");
    let numbered = lines.iter().enumerate().map(|(at, line)| (at + 1, *line));
    numbered.filter(|(_, line)| name(line).ends_with(&wanted)).collect()
}

#[test]
fn an_untouched_file_of_three_lanes_is_whole() {
    let text = three_lanes("whole");
    let report = verify(&text);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.lines, report.lanes.len(), report.torn, report.interrupted()), (3000, 3, 0, 0));
    for lane in &report.lanes {
        assert_eq!((lane.lines, lane.first_seq, lane.last_seq), (1000, 0, Some(999)));
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let text = three_lanes("flip");
    let bytes = text.as_bytes();
    let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at).collect();
    // The lanes' first lines, an intent, an event and a refusal amid the file, cut so that both have lines after them.
    let bytes = &bytes[..=ends[60]];
    let mut checked = 0;
    for at in (0..=ends[2]).chain(ends[30] + 1..=ends[38]) {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 7);
        assert!(!verify(&changed).is_whole(), "byte {at}");
        checked += 1;
    }
    assert!(checked > 3_000, "{checked}");
    let mut edited = text.clone();
    let at = text.find("\"status\":200").unwrap();
    let line = text[..at].matches('\n').count() as u64 + 1;
    edited.replace_range(at..at + 12, "\"status\":201");
    assert_eq!(first_fault(&verify(&edited)), (line, Fault::Edited));
}

#[test]
fn every_byte_of_a_last_line_is_guarded() {
    let text = three_lanes("flip-last");
    let lines: Vec<&str> = text.lines().collect();
    let kept = of_lane(&lines[..30], 1).iter().map(|(_, line)| format!("{line}\n")).collect::<String>();
    assert!(verify(&kept).is_whole());
    let start = kept[..kept.len() - 1].rfind('\n').unwrap() + 1;
    for at in start..kept.len() {
        for bit in 0..8 {
            let mut changed = kept.clone().into_bytes();
            changed[at] ^= 1 << bit;
            assert!(!verify(&changed).is_whole(), "byte {} bit {bit}: {:?}", at - start, changed[at] as char);
        }
    }
}

#[test]
fn a_removed_a_repeated_and_two_swapped_lines_are_found_and_named() {
    let text = three_lanes("moved");
    let lines: Vec<&str> = text.lines().collect();
    let lane = of_lane(&lines, 1);
    let (at, next) = (lane[500].0 - 1, lane[501].0 - 1);
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();

    let mut removed = lines.clone();
    removed.remove(at);
    let report = verify(joined(&removed));
    assert_eq!(first_fault(&report), (next as u64, Fault::Gap { expected: 500, found: 501 }));
    assert_eq!(report.lanes.iter().filter(|lane| lane.bad.is_some()).count(), 1, "the others stay whole");

    let mut repeated = lines.clone();
    repeated.insert(at + 1, lines[at]);
    assert_eq!(
        first_fault(&verify(joined(&repeated))),
        (at as u64 + 2, Fault::Repeated { expected: 501, found: 500 })
    );

    let mut swapped = lines.clone();
    swapped.swap(at, next);
    assert_eq!(
        first_fault(&verify(joined(&swapped))),
        (at as u64 + 1, Fault::Swapped { expected: 500, found: 501 })
    );

    let headless = joined(&lines[3..]);
    assert_eq!(verify(&headless).lanes[0].bad.as_ref().unwrap().fault, Fault::Headless);
}

#[test]
fn a_torn_last_line_is_counted_and_accepted_and_the_next_start_goes_on() {
    let path = folder("torn").join("audit.jsonl");
    let first = records(to_file(&path));
    let recorder = first.recorder();
    for _ in 0..3 {
        wait(pass(&recorder)).unwrap();
    }
    let text = std::fs::read(&path).unwrap();
    let last = text[..text.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    for cut in last + 1..text.len() - 1 {
        let report = verify(&text[..cut]);
        assert!(report.is_whole(), "cut at {cut}: {report:?}");
        assert_eq!((report.torn, report.interrupted()), (1, 1));
    }
    assert_eq!(verify(&text[..text.len() - 1]).torn, 0, "only its line end is missing");

    std::fs::write(&path, &text[..last + 100]).unwrap();
    wait(pass(&records(to_file(&path)).recorder())).unwrap();
    let report = verify(std::fs::read(&path).unwrap());
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.torn, report.lanes.len(), report.interrupted()), (1, 2, 1));

    // The nearest thing that must not pass: half a line with a line end, in the middle of a file.
    let mut cut = text.clone();
    cut.drain(last - 20..last - 1);
    assert!(!verify(&cut).is_whole());
}

#[test]
fn what_was_cut_off_an_earlier_start_is_missed_by_the_next_one() {
    let path = folder("cut").join("audit.jsonl");
    for _ in 0..2 {
        let records = records(to_file(&path));
        let lanes = [records.recorder(), records.recorder()];
        for lane in &lanes {
            wait(pass(lane)).unwrap();
        }
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(verify(&text).is_whole());
    let lines: Vec<&str> = text.lines().collect();
    let second = lines.iter().position(|line| line.contains("\"after\":")).unwrap();
    assert_eq!((second, lines.iter().filter(|line| line.contains("\"after\":")).count()), (6, 2));
    for gone in 1..=second {
        let kept = [&lines[..second - gone], &lines[second..]].concat().join("\n");
        // Both what stood there and the lanes that it was of.
        let (line, fault) = first_fault(&verify(kept));
        assert_eq!(line, (second - gone + 1) as u64, "{gone}");
        assert!(matches!(fault, Fault::Cut | Fault::Shortened { .. }), "{gone}: {fault:?}");
    }
}

/// Two lanes, the first of which wrote last; killed. Then a second start.
fn killed_and_started_again(name: &str) -> (Vec<String>, usize) {
    let path = folder(name).join("audit.jsonl");
    for _ in 0..2 {
        let records = records(to_file(&path));
        let lanes = [records.recorder(), records.recorder(), records.recorder()];
        for at in [0, 1, 0, 1, 0, 0] {
            wait(pass(&lanes[at])).unwrap();
        }
    }
    let lines: Vec<String> = std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    let second = lines.iter().position(|line| line.contains("\"after\":")).unwrap();
    (lines, second)
}

#[test]
fn what_was_taken_off_a_killed_lane_amid_others_is_missed_by_the_next_start() {
    let (lines, second) = killed_and_started_again("killed");
    let whole = lines.join("\n");
    assert!(verify(&whole).is_whole());
    let opening: Value = serde_json::from_str(&lines[second]).unwrap();
    // Lane 2 never wrote, and lane 1 not for a while: each that did is named with its last line.
    let named: Vec<(&str, u64)> = opening["heads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|head| {
            (head["lane"].as_str().unwrap().split_once('-').unwrap().1, head["seq"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(named, [("0", 8), ("1", 4)]);
    let texts: Vec<&str> = lines[..second].iter().map(String::as_str).collect();
    let lane = of_lane(&texts, 1);
    for gone in 1..=lane.len() {
        let mut kept = lines.clone();
        for (at, _) in lane.iter().rev().take(gone) {
            kept.remove(at - 1);
        }
        let place = (second - gone + 1) as u64;
        let fault = if gone < lane.len() { Fault::Shortened { last: 4 } } else { Fault::Cut };
        assert_eq!(first_fault(&verify(kept.join("\n"))), (place, fault), "{gone} lines of lane 1");
    }
    // The nearest that must pass: the same before anybody started again, since nobody can tell.
    let mut kept = lines[..second].to_vec();
    kept.remove(lane.last().unwrap().0 - 1);
    assert!(verify(kept.join("\n")).is_whole());
}

/// A third start names the second's lanes, and what the second named still holds.
#[test]
fn each_start_vouches_for_the_one_before_it_and_torn_or_foreign_lines_are_no_ends() {
    let path = folder("starts").join("audit.jsonl");
    let start = || {
        let records = records(to_file(&path));
        let lanes = [records.recorder(), records.recorder()];
        for lane in &lanes {
            wait(pass(lane)).unwrap();
        }
    };
    start();
    let append = |text: &str| {
        let text = [std::fs::read_to_string(&path).unwrap().as_str(), text].concat();
        std::fs::write(&path, text).unwrap();
    };
    append("{\"level\":\"info\",\"lane\":\"none\"}\n");
    start();
    append("{\"exeat\":\"intent\",\"ti");
    start();
    let text = std::fs::read_to_string(&path).unwrap();
    let report = verify(&text);
    assert!(report.is_whole() && report.torn == 1 && report.lanes.len() == 6, "{report:?}");
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("\"heads\":")) {
        let heads: Value = serde_json::from_str(line.rsplit(" torn").next().unwrap()).unwrap();
        assert_eq!(heads["heads"].as_array().unwrap().len(), 2, "line {at}");
    }
    // Of the first start's first lane, which the second vouches for: the third alone would not know.
    let gone: Vec<&str> =
        lines.iter().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| *line).collect();
    let bad: Vec<_> = verify(gone.join("\n")).lanes.into_iter().filter_map(|lane| lane.bad).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert_eq!(bad[0].fault, Fault::Shortened { last: 2 });
}

#[test]
fn a_lane_closed_in_order_is_complete_and_one_that_was_cut_is_not() {
    let folder = folder("complete");
    let path = folder.join("audit.jsonl");
    let records = records(to_file(&path));
    let mut lanes = vec![records.recorder(), records.recorder(), records.recorder()];
    wait(pass(&lanes[0])).unwrap();
    wait(pass(&lanes[2])).unwrap();
    // Its worker has ended by the time the program does.
    lanes.truncate(2);
    let asked = |text: &str, extent| {
        std::fs::write(folder.join("asked"), text).unwrap();
        let mut out = Vec::new();
        let whole = audit::verify(&[folder.join("asked")], extent, &mut out, false).unwrap();
        (whole, String::from_utf8(out).unwrap())
    };
    let open = std::fs::read_to_string(&path).unwrap();
    assert!(asked(&open, audit::Extent::Whole).0);
    let (complete, said) = asked(&open, audit::Extent::Complete);
    assert!(!complete && said.ends_with("whole, but NOT complete\n"), "{said}");
    records.end();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("{\"exeat\":\"end\"").count(), 2, "a lane that never began has no end");
    assert!(asked(&text, audit::Extent::Complete).0);
    let lines: Vec<&str> = text.lines().collect();
    for gone in 1..lines.len() {
        let kept: String = lines[..lines.len() - gone].iter().map(|line| format!("{line}\n")).collect();
        assert!(!asked(&kept, audit::Extent::Complete).0, "{gone} lines cut off the end");
    }
}

#[test]
fn an_intent_without_event_is_an_interrupted_call_and_no_fault() {
    let path = folder("interrupted").join("audit.jsonl");
    let recorder = records(to_file(&path)).recorder();
    let (operation, identity, arrival) = (operation(), identity(), arrival());
    let mut entry = recorder.open(&Recorder::prelude(&arrival));
    entry.judged(&request(Some(&operation), &identity, &arrival.target));
    wait(entry.intend()).unwrap();
    let report = verify(std::fs::read(&path).unwrap());
    assert!(report.is_whole());
    assert_eq!((report.lines, report.interrupted()), (2, 1));
    wait(entry.close(answered(None)));
    assert_eq!(verify(std::fs::read(&path).unwrap()).interrupted(), 0);
}

#[test]
fn rotated_files_verify_together_in_any_order_and_a_missing_one_is_a_gap() {
    let folder = folder("rotation");
    let path = folder.join("audit.jsonl");
    let rotation = Some(Rotation { bytes: Some(8_192), age: None, keep: 9 });
    let records = records(Sink::open(&Target::File { path: path.clone(), rotation }).unwrap());
    let lanes = [records.recorder(), records.recorder()];
    for _ in 0..10 {
        for lane in &lanes {
            wait(pass(lane)).unwrap();
        }
    }
    if path.metadata().unwrap().len() == 0 {
        wait(pass(&lanes[0])).unwrap();
    }
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    let said = |files: &[PathBuf], json| {
        let mut out = Vec::new();
        let whole = audit::verify(files, audit::Extent::Whole, &mut out, json).unwrap();
        (whole, String::from_utf8(out).unwrap())
    };
    let (whole, text) = said(&files, false);
    assert!(whole && text.ends_with(": whole\n"), "{text}");
    files.reverse();
    let (whole, text) = said(&files, true);
    assert!(whole, "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["whole"], true);
    // Numbers count from the newest: `.2` lies between others, and without the oldest the rest stands by itself.
    let (whole, text) = said(&[path.clone(), folder.join("audit.jsonl.2")], false);
    assert!(!whole && text.contains("gap") && text.ends_with("NOT whole\n"), "{text}");
    let (whole, text) = said(&[path.clone(), folder.join("audit.jsonl.1")], false);
    assert!(whole && text.contains("earlier files not given"), "{text}");
}

#[test]
fn other_programs_lines_are_counted_but_are_no_trail_by_themselves() {
    let path = folder("foreign").join("audit.jsonl");
    wait(pass(&records(to_file(&path)).recorder())).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let mixed = format!("{{\"level\":\"info\"}}\n{text}{{\"level\":\"info\"}}\n");
    assert!(verify(&mixed).is_whole());
    assert_eq!(verify(&mixed).foreign, 2);
    assert!(!verify("{\"level\":\"info\"}\n").is_whole());
    assert!(!verify(format!("{text}not json\n")).is_whole());
}
