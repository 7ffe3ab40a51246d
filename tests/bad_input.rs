//! What is no policy and no settings: `check` answers 1, `run` doesn't start and says 78; one clear report, and nothing
//! half started. The same for files and ports that cannot be had.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

#[path = "support/program.rs"]
#[allow(dead_code)] // the rest of it serves tests/cli.rs
mod program;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use program::Program;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("exeat-bad-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn exeat(args: &[&str]) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .env_clear()
        // What a developer has set, so that a panic would show all of itself.
        .envs([("RUST_BACKTRACE", "1"), ("AWS_EC2_METADATA_DISABLED", "true")])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut err = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    while lines.read_line(&mut err).unwrap() > 0 {
        if err.contains("listening on ") {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it runs: {args:?}\n{err}");
        }
    }
    let output = child.wait_with_output().unwrap();
    Said { code: output.status.code(), out: String::from_utf8(output.stdout).unwrap(), err }
}

/// Flags of a `run` whose traces would be seen.
fn run<'a>(traces: &'a [String; 3], more: &[&'a str]) -> Vec<&'a str> {
    let [certificate, audit, socket] = traces;
    let mut args = vec!["run", "--ca-out", certificate];
    if !more.contains(&"--listen") {
        args.extend(["--listen", "127.0.0.1:0"]);
    }
    if !more.contains(&"--audit") {
        args.extend(["--audit", audit]);
    }
    if !more.contains(&"--admin-socket") {
        args.extend(["--admin-socket", socket]);
    }
    args.extend(more);
    args
}

/// A report is some lines that a person reads: no panic, no trace, not the input again.
fn is_a_report(name: &str, text: &str, word: &str) {
    assert!(!text.contains("panicked") && !text.contains("stack backtrace"), "{name}: {text}");
    assert!(text.contains(word), "{name} lacks {word}: {}", text.chars().take(2000).collect::<String>());
    assert!(text.len() < 8192, "{name}: {} bytes are no report", text.len());
}

/// Nine levels of nine: 387 million nodes, were they made.
fn alias_bomb(last: &str) -> String {
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (level, above) in ('b'..='i').zip('a'..) {
        let row = vec![format!("*{above}"); 9].join(", ");
        text.push_str(&format!("{level}: &{level} [{row}]\n"));
    }
    text + last
}

#[test]
fn what_is_no_policy_or_settings_is_told_by_check_and_stops_run() {
    let folder = Folder::new("files");
    let traces = ["ca.pem", "audit.jsonl", "admin.sock"].map(|name| folder.path(name));
    let deep = format!("statements: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    let long = format!("version: 1\n{}", "# some pages\n".repeat(2 * 1024 * 1024 / 13));
    let bomb = alias_bomb("statements: *i\n");
    for (name, policy, settings) in [
        ("empty", &b""[..], None),
        ("a list", b"- a\n- b\n", Some(&b"- a\n- b\n"[..])),
        ("no closing bracket", b"version: 1\nstatements: [\n", Some(b"listen: [\n")),
        ("a tab", b"version: 1\nstatements:\n\t- {id: a}\n", Some(b"limits:\n\thead: 3s\n")),
        (
            "a key twice",
            b"version: 1\nversion: 1\nstatements: []\n",
            Some(b"listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n"),
        ),
        (
            "a key twice, deep",
            b"version: 1\nstatements:\n  - {id: a, id: b, effect: deny}\n",
            Some(b"limits: {head: 1s, head: 2s}\n"),
        ),
        ("another version", b"version: 2\nstatements: []\n", None),
        ("an alias of nothing", b"version: 1\nstatements: *nothing\n", Some(b"listen: *nothing\n")),
        ("an alias bomb", bomb.as_bytes(), Some(bomb.as_bytes())),
        ("five thousand brackets", deep.as_bytes(), Some(deep.as_bytes())),
        ("2 MiB", long.as_bytes(), Some(long.as_bytes())),
        ("not UTF-8", b"version: 1\nstatements: \xff\xfe\n", Some(b"listen: \xff\n")),
        ("zeros", b"\0\0\0\0\0\0\0\0", Some(b"\0\0\0\0")),
        (
            "two documents",
            b"version: 1\nstatements: []\n---\nversion: 1\n",
            Some(b"workers: 1\n---\nworkers: 2\n"),
        ),
    ] {
        for (flag, text) in [("--policy", Some(policy)), ("--config", settings)] {
            let Some(text) = text else { continue };
            let name = format!("{name}, {flag}");
            let path = folder.path("bad.yaml");
            std::fs::write(&path, text).unwrap();
            let said = exeat(&["check", flag, &path]);
            assert_eq!(said.code, Some(1), "{name}: {}{}", said.out, said.err);
            is_a_report(&name, &(said.out + &said.err), "bad.yaml");
            let said = exeat(&run(&traces, &[flag, &path]));
            assert_eq!(said.code, Some(78), "{name}: {}", said.err);
            is_a_report(&name, &said.err, "bad.yaml");
            assert_eq!(said.out, "", "{name}");
            for trace in &traces {
                assert!(!Path::new(trace).exists(), "{name}: half started, {trace} is there");
            }
        }
    }
    // The nearest that is right: one alias, 1 MiB less a little, no tab.
    let right = format!(
        "version: 1\nstatements:\n  - {{id: a, effect: deny, action: &s [s3:GetObject], resource: '*'}}\n  - {{id: b, effect: allow, action: *s, resource: '*'}}\n{}",
        "# some pages\n".repeat(1024 * 1024 / 13 - 20)
    );
    let path = folder.path("right.yaml");
    std::fs::write(&path, right).unwrap();
    let said = exeat(&["check", "--policy", &path]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
}

#[test]
fn a_device_is_no_file_of_ours_and_fills_no_memory() {
    let folder = Folder::new("device");
    let traces = ["ca.pem", "audit.jsonl", "admin.sock"].map(|name| folder.path(name));
    for flag in ["--policy", "--config"] {
        for path in ["/dev/zero", "/", "/nonexistent/exeat.yaml"] {
            let said = exeat(&["check", flag, path]);
            assert_eq!(said.code, Some(1), "{flag} {path}: {}{}", said.out, said.err);
            is_a_report(path, &(said.out + &said.err), path);
            let said = exeat(&run(&traces, &[flag, path]));
            assert_eq!(said.code, Some(78), "{flag} {path}: {}", said.err);
            is_a_report(path, &said.err, path);
        }
    }
}

#[test]
fn what_run_cannot_have_is_one_sentence_and_nothing_is_half_started() {
    let folder = Folder::new("things");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let file = folder.path("file");
    std::fs::write(&file, "no certificate").unwrap();
    let below_file = folder.path("file/below");
    let open = folder.path("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let key = folder.path("open/ca.key");
    std::fs::write(&key, "a key").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let traces = ["ca.pem", "audit.jsonl", "admin.sock"].map(|name| folder.path(name));
    for (more, word) in [
        (&["--listen", &*taken][..], &*taken),
        (&["--listen", "127.0.0.1"], "127.0.0.1"),
        (&["--admin", &taken], &taken),
        (&["--audit", &below_file], &below_file),
        (&["--audit", "/"], "/"),
        (&["--admin-socket", &below_file], &below_file),
        (&["--admin-socket", &file], &file),
        (&["--ca-dir", &open], &key),
        (&["--ca-dir", &below_file], &below_file),
        (&["--ca-cert", &file, "--ca-key", &file], &file),
        (&["--ca-cert", "/nonexistent/ca.pem", "--ca-key", &file], "/nonexistent/ca.pem"),
        (&["--ca-cert", &file], "ca_key"),
        (&["--upstream-ca", &file], &file),
        (&["--upstream-ca", "/nonexistent/root.pem"], "/nonexistent/root.pem"),
        (&["--credentials", "/nonexistent/keys"], "/nonexistent/keys"),
        (&["--policy", "env:NO_SUCH_POLICY"], "NO_SUCH_POLICY"),
    ] {
        let said = exeat(&run(&traces, more));
        let name = format!("{more:?}");
        assert_eq!(said.code, Some(78), "{name}: {}", said.err);
        is_a_report(&name, &said.err, word);
        let (told, rest): (Vec<_>, Vec<_>) = said.err.lines().partition(|line| line.starts_with("exeat: "));
        let only_warnings = rest.iter().all(|line| line.contains(" WARN "));
        assert!(told.len() == 1 && only_warnings, "{name}: {}", said.err);
        for trace in [&traces[0], &traces[2]] {
            assert!(!Path::new(trace).exists(), "{name}: half started, {trace} is there");
        }
    }
    // Who can't have the door leaves the certificate of the proxy that has it.
    let theirs = folder.path("theirs.pem");
    std::fs::write(&theirs, "a certificate").unwrap();
    let said = exeat(&["run", "--listen", &taken, "--ca-out", &theirs]);
    assert_eq!(said.code, Some(78), "{}", said.err);
    assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "a certificate");
    // Nor does it say that it runs where its certificate can't be put.
    let said = exeat(&["run", "--listen", "127.0.0.1:0", "--ca-out", &below_file]);
    assert_eq!((said.code, said.err.contains("listening")), (Some(78), false), "{}", said.err);
    is_a_report("--ca-out", &said.err, &below_file);
}

#[test]
fn a_mistyped_variable_is_warned_of_and_the_proxy_runs() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
    command.env_clear().args(["run", "--listen", "127.0.0.1:0"]);
    command.envs([("EXEAT_ADMN", "127.0.0.1:0"), ("AWS_EC2_METADATA_DISABLED", "true")]);
    let (mut running, [meant, _]) = Program::start(&mut command, ["did you mean ", "listening on "]);
    assert!(meant.starts_with("`EXEAT_ADMIN`"), "{meant}");
    running.signal("-TERM");
    assert_eq!(running.wait().0, Some(0));
}
