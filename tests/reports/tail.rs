//! `tail`: calls as they end, of a file that grows and turns, and of a proxy that runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::Program;
use crate::{Folder, event, exeat, gzipped, intent, lane, own, platform, refused};

/// A `tail` that runs, and what it prints.
struct Tail {
    child: Child,
    out: Option<BufReader<ChildStdout>>,
    err: ChildStderr,
}

impl Tail {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
        command.env_clear().arg("tail").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, out: Some(BufReader::new(out)), err }
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.out.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success()
        );
    }

    /// Its exit code, and what it said. Fails where it goes on.
    fn ended(&mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "it goes on");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut said = String::new();
        self.err.read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(path: &str, text: &str) {
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn denied(flow: u32, call: &str) -> String {
    event(flow, flow, call, None, |event| refused(event, "policy.no_match"))
}

fn shown(args: &[&str]) -> String {
    let said = exeat(&[&["tail", "--no-follow"], args].concat());
    assert_eq!(said.code, 0, "{}", said.err);
    said.out
}

/// The flows that are shown, by their numbers.
fn flows(args: &[&str]) -> Vec<u32> {
    let number = |line: &str| line.rsplit('-').next().unwrap().parse().unwrap();
    shown(args).lines().map(number).collect()
}

fn many() -> String {
    [
        lane(0),
        intent(1, 1, "s3:GetObject"),
        event(1, 1, "s3:GetObject", Some("A"), |event| {
            event["resources"] = json!([{"ARN": "arn:aws:s3:::b/k"}]);
        }),
        denied(2, "sqs:SendMessage"),
        event(3, 3, "s3:PutObject", None, |event| {
            refused(event, "tls.no_sni");
            event["userIdentity"]["accountId"] = "210987654321".into();
        }),
        event(4, 4, "s3:PutObject", None, |event| {
            refused(event, "upstream.connect");
            event["additionalEventData"]["exeat"]["decision"] = "allow".into();
        }),
        "{\"somebody\":\"else's\"}\nnot even JSON\n".to_owned(),
        event(5, 5, "x:y", None, |event| {
            event["eventType"] = "HttpCall".into();
            event["eventSource"] = "api.example.com".into();
            event["eventName"] = "GET".into();
            event["userIdentity"] = Value::Null;
            let ours = &mut event["additionalEventData"]["exeat"];
            ours["host"] = "api.example.com:8443".into();
            ours["decision"] = "report".into();
            ours.as_object_mut().unwrap().remove("statement");
        }),
    ]
    .concat()
}

#[test]
fn one_readable_line_a_call_and_json_passes_the_lines_through() {
    let folder = Folder::new("tail-lines");
    let file = folder.file("audit.jsonl", many());
    let lines = shown(&["--audit", &file]);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "12:00:01 ALLOW  s3:GetObject  arn:aws:s3:::b/k  by AKIAIOSFODNN7EXAMPLE  200 in 2 ms  all (policy.yaml:3:5)  3p0k9d7m2x4c-0-1",
            "12:00:02 DENY   sqs:SendMessage  by AKIAIOSFODNN7EXAMPLE  policy.no_match  near all (policy.yaml:3:5)  3p0k9d7m2x4c-0-2",
        ]
    );
    assert!(lines[3].starts_with("12:00:04 FAILED s3:PutObject"), "{}", lines[3]);
    assert_eq!(lines[4], "12:00:05 REPORT GET api.example.com  200 in 2 ms  3p0k9d7m2x4c-0-5");
    let given = many();
    let events: Vec<&str> = given.lines().filter(|line| line.starts_with("{\"eventVersion\"")).collect();
    let json = shown(&["--audit", &file, "-o", "json"]);
    assert_eq!(json.lines().collect::<Vec<_>>(), events);
    let zipped = folder.file("audit.jsonl.1.gz", gzipped(&given));
    assert_eq!(shown(&["--audit", &zipped]).lines().count(), 5);
}

#[test]
fn filters_are_anded_and_a_comma_is_or() {
    let folder = Folder::new("tail-filters");
    let file = folder.file("audit.jsonl", many());
    for (filters, want) in [
        (&["verdict:deny"][..], &[2, 3][..]),
        (&["verdict:deny,failed"], &[2, 3, 4]),
        (&["verdict:deny", "service:s3"], &[3]),
        (&["service:s3,sqs"], &[1, 2, 3, 4]),
        (&["operation:s3:put*"], &[3, 4]),
        (&["operation:GetObject,SendMessage"], &[1, 2]),
        (&["host:api.example.com"], &[5]),
        (&["host:*.example.com:8443"], &[5]),
        (&["host:*.amazonaws.com", "verdict:allow"], &[1]),
        (&["reason:tls.*,upstream.connect"], &[3, 4]),
        (&["account:210987654321"], &[3]),
        (&["key:AKIA*", "verdict:allow"], &[1]),
        (&["resource:arn:aws:s3:::b/*"], &[1]),
        (&["statement:all", "signature:verified", "verdict:allow"], &[1]),
        (&["verdict:report"], &[5]),
        (&["service:kms"], &[]),
    ] {
        assert_eq!(flows(&[&["--audit", &file], filters].concat()), want, "{filters:?}");
    }
    assert_eq!(flows(&["--audit", &file, "--last", "2", "service:s3"]), [3, 4]);
    for (word, said) in [("verdikt:deny", "did you mean `verdict`?"), ("deny", "want FIELD:VALUE")] {
        let bad = exeat(&["tail", "--audit", &file, word]);
        assert!(bad.code == 2 && bad.err.contains(said), "{}", bad.err);
    }
}

#[test]
fn follows_a_file_over_rotation_and_ends_well_on_sigint() {
    let folder = Folder::new("tail-follow");
    let file =
        folder.file("audit.jsonl", [lane(0), denied(1, "s3:GetObject"), denied(2, "s3:GetObject")].concat());
    let mut tail = Tail::start(&["--audit", &file, "--last", "1", "verdict:deny"]);
    assert!(tail.next().ends_with("-2"));
    append(&file, &denied(3, "s3:GetObject"));
    assert!(tail.next().ends_with("-3"));
    // A line in two halves is one line.
    let line = denied(4, "s3:GetObject");
    append(&file, &line[..100]);
    append(&file, &line[100..]);
    assert!(tail.next().ends_with("-4"));
    std::fs::rename(&file, folder.path("audit.jsonl.1")).unwrap();
    append(&file, &[lane(9), event(5, 5, "s3:GetObject", None, |_| {}), denied(6, "s3:GetObject")].concat());
    assert!(tail.next().ends_with("-6"));
    tail.signal("-INT");
    assert_eq!(tail.ended(), (Some(0), String::new()));
}

#[test]
fn ends_when_nobody_reads_any_more_although_nothing_happens() {
    let folder = Folder::new("tail-unread");
    let file = folder.file("audit.jsonl", [lane(0), denied(1, "s3:GetObject")].concat());
    let mut tail = Tail::start(&["--audit", &file, "--last", "1"]);
    assert!(tail.next().ends_with("-1"));
    tail.out.take();
    assert_eq!(tail.ended(), (Some(0), String::new()));
}

/// A proxy that runs with an operator's socket.
fn running(name: &str) -> (Program, String, PathBuf) {
    // Short, as the names of sockets must be.
    let folder = std::env::temp_dir().join(format!("exeat-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
    command.env_clear().args(["run", "--listen", "127.0.0.1:0", "--audit", "/dev/null"]);
    command.args(["--ca-out", &path("ca.pem"), "--admin-socket", &path("admin.sock")]);
    let (program, [address]) = Program::start(&mut command, ["listening on "]);
    (program, address, folder)
}

/// Plaintext is refused.
fn refuse(address: &str) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(b"GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("[tls.plaintext]"), "{answer}");
}

/// A call that was refused before the watcher was there is not told; so ask until one is.
fn first_line(tail: &mut Tail, address: &str) -> String {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                refuse(address);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let line = tail.next();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        line
    })
}

fn socket(folder: &Path) -> String {
    folder.join("admin.sock").display().to_string()
}

#[test]
fn watches_a_proxy_that_runs_and_ends_with_it() {
    let (mut program, address, folder) = running("tail");
    let socket = socket(&folder);
    let mut text = Tail::start(&["--admin-socket", &socket, "reason:tls.*"]);
    let line = first_line(&mut text, &address);
    assert!(line.contains(" DENY   ") && line.contains("  tls.plaintext  "), "{line}");
    let mut json = Tail::start(&["--admin-socket", &socket, "-o", "json"]);
    let line: Value = serde_json::from_str(&first_line(&mut json, &address)).unwrap();
    assert_eq!(line["additionalEventData"]["exeat"]["reason"], "tls.plaintext");
    let mut unread = Tail::start(&["--admin-socket", &socket]);
    first_line(&mut unread, &address);
    unread.out.take();
    assert_eq!(unread.ended().0, Some(0));
    program.signal("-KILL");
    program.wait();
    for tail in [&mut text, &mut json] {
        let (code, said) = tail.ended();
        assert!(code == Some(0) && said.contains("the proxy has ended"), "{said}");
    }
    let gone = exeat(&["tail", "--admin-socket", &socket]);
    assert!(gone.code == 69 && gone.err.contains("no exeat answers"), "{}", gone.err);
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn where_there_is_nothing_to_watch_it_says_what_to_give() {
    let none = exeat(&["tail"]);
    assert!(none.code == 2 && none.err.contains("--admin-socket FILE"), "{}", none.err);
    let gone = exeat(&["tail", "--audit", "/nonexistent/audit.jsonl"]);
    assert!(gone.code == 1 && gone.err.contains("/nonexistent/audit.jsonl"), "{}", gone.err);
    let both = exeat(&["tail", "--admin-socket", "/nonexistent/s", "--last", "3"]);
    assert!(both.code == 2 && both.err.contains("give --audit FILE"), "{}", both.err);
}

#[test]
fn our_own_calls_are_marked_and_can_be_left_out_or_looked_for() {
    let folder = Folder::new("tail-own");
    let lines = [
        lane(0),
        event(1, 1, "sqs:SendMessage", Some("A"), |_| {}),
        event(2, 2, "http:GET", None, platform),
        event(3, 3, "sts:GetCallerIdentity", Some("B"), own),
    ];
    let file = folder.file("audit.jsonl", lines.concat());
    let shown = |filter: &[&str]| -> Vec<String> {
        let words = [&["tail", "--no-follow", "--audit", &file], filter].concat();
        exeat(&words).out.lines().map(str::to_owned).collect()
    };
    let all = shown(&[]);
    assert_eq!(all.len(), 3);
    assert!(!all[0].contains("exeat itself"), "{}", all[0]);
    assert!(all[1].contains("GET 169.254.170.2:80  by exeat itself  200 in"), "{}", all[1]);
    assert!(all[2].contains("sts:GetCallerIdentity  by exeat itself with AKIA"), "{}", all[2]);
    assert_eq!((shown(&["origin:exeat"]), shown(&["origin:client"])), (all[1..].to_vec(), all[..1].to_vec()));
}
