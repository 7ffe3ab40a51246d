//! The script of docs/audit.md finds what `audit verify` finds, and accepts what it accepts.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// Runs the script once for each line of its input: the names of files. Says 0 or 1 for each.
const DRIVER: &str = "
import contextlib, io, sys
code = compile(sys.argv[1], 'docs/audit.md', 'exec')
for names in sys.stdin:
    sys.argv, status = ['script', *names.split()], None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, {})
    except SystemExit as end:
        status = end.code
    print(status)
";

fn script() -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md")).unwrap();
    page.split("```python\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

/// What the script says of each text: whether it is whole.
fn judged(folder: &Path, texts: &[Vec<u8>]) -> Vec<bool> {
    let mut child = Command::new("python3")
        .args(["-c", DRIVER, &script()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut names = child.stdin.take().unwrap();
    let folder = folder.to_owned();
    let texts = texts.to_vec();
    let feeding = std::thread::spawn(move || {
        for (number, text) in texts.iter().enumerate() {
            let path = folder.join(number.to_string());
            std::fs::write(&path, text).unwrap();
            writeln!(names, "{}", path.display()).unwrap();
        }
    });
    let said = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    said.lines().map(|line| line == "0").collect()
}

/// Two starts on one file, the first killed, each with two lanes.
fn two_starts(name: &str) -> Vec<u8> {
    let path = folder(name).join("audit.jsonl");
    for closes in [false, true] {
        let records = records(to_file(&path));
        let lanes = [records.recorder(), records.recorder()];
        for _ in 0..2 {
            for lane in &lanes {
                wait(pass(lane)).unwrap();
            }
            wait(refuse(&lanes[0]));
        }
        if closes {
            records.end();
        }
    }
    std::fs::read(path).unwrap()
}

#[test]
fn the_documented_script_finds_what_audit_verify_finds() {
    let text = two_starts("script");
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let first_start =
        lines.iter().position(|line| memchr::memmem::find(line, b"\"after\":").is_some()).unwrap();
    let joined = |lines: &[&[u8]]| lines.concat();
    let lane = |line: &[u8]| {
        let at = memchr::memmem::rfind(line, b"\"lane\":\"").unwrap();
        line[at + 8..at + 22].to_vec()
    };
    let mut tampered: Vec<(String, Vec<u8>)> = Vec::new();
    for at in (0..text.len()).step_by(13) {
        let mut flipped = text.clone();
        flipped[at] ^= 1 << (at % 8);
        tampered.push((format!("byte {at} flipped"), flipped));
    }
    for (at, line) in lines.iter().enumerate() {
        let mut removed = lines.clone();
        removed.remove(at);
        // A lane's last line is missed by the next start, or by `--complete`.
        let goes_on = lines[at + 1..].iter().any(|later| lane(later) == lane(line));
        if goes_on || at < first_start {
            tampered.push((format!("line {at} removed"), joined(&removed)));
        }
        let mut repeated = lines.clone();
        repeated.insert(at, line);
        tampered.push((format!("line {at} repeated"), joined(&repeated)));
        for other in at + 1..lines.len() {
            if lane(line) == lane(lines[other]) {
                let mut swapped = lines.clone();
                swapped.swap(at, other);
                tampered.push((format!("lines {at} and {other} swapped"), joined(&swapped)));
            }
        }
        if goes_on {
            let mut cut = lines.clone();
            cut[at] = &line[..line.len() / 2];
            tampered.push((format!("line {at} cut in half"), joined(&cut)));
        }
    }
    for gone in 1..first_start {
        let kept = [&lines[..first_start - gone], &lines[first_start..]].concat();
        tampered.push((format!("{gone} lines cut off the first start's end"), joined(&kept)));
    }
    let texts: Vec<Vec<u8>> = tampered.iter().map(|(_, text)| text.clone()).collect();
    let said = judged(&folder("script-tampered"), &texts);
    assert_eq!(said.len(), texts.len());
    for ((what, text), script) in tampered.iter().zip(said) {
        assert!(!verify(text).is_whole(), "audit verify: {what}");
        assert!(!script, "the script: {what}");
    }
}

#[test]
fn the_documented_script_accepts_what_audit_verify_accepts() {
    let text = two_starts("script-whole");
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut accepted = vec![("as it was written".to_owned(), text.clone())];
    for cut in text.len() - lines[lines.len() - 1].len() + 1..text.len() {
        accepted.push((format!("torn at {cut}"), text[..cut].to_vec()));
    }
    let other = b"{\"level\":\"info\"}\n".to_vec();
    accepted.push(("other programs' lines".to_owned(), [other.clone(), text.clone(), other].concat()));
    let marked = [&text[..100], b" torn\n", &text].concat();
    accepted.push(("a marked fragment".to_owned(), marked));
    accepted.push(("a fragment with a line behind it".to_owned(), [&text[..100], &text].concat()));
    let texts: Vec<Vec<u8>> = accepted.iter().map(|(_, text)| text.clone()).collect();
    let said = judged(&folder("script-accepted"), &texts);
    for ((what, text), script) in accepted.iter().zip(said) {
        let report = verify(text);
        assert!(report.is_whole(), "audit verify: {what}: {report:?}");
        assert!(script, "the script: {what}");
    }
}
