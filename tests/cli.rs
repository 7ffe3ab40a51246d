//! The built program, verb by verb: answers on stdout in text and JSON, logs on stderr, exit codes, and bad input.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

#[path = "support/program.rs"]
mod program;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use program::Program;

const POLICY: &str = "\
version: 1
statements:
  - id: orders
    effect: allow
    action: [sqs:SendMessage, sqs:ReceiveMessage]
    resource: arn:aws:sqs:us-east-1:self:orders
  - {id: api, effect: allow, http: {host: api.example.com, method: GET, path: /v1/*}}
  - {id: no-purge, effect: deny, action: \"sqs:PurgeQueue\", resource: \"*\"}
";
const ORDERS: &str = "arn:aws:sqs:us-east-1:123456789012:orders";

/// Files of one test, in a folder of its own; gone when it has passed.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        // Short, as the names of sockets must be.
        let folder = std::env::temp_dir().join(format!("exeat-cli-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
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

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
    command.env_clear().args(args);
    command
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

fn exeat(args: &[&str]) -> Said {
    Said::of(command(args).output().unwrap())
}

/// A proxy as `run` starts it.
struct Running {
    program: Program,
    address: SocketAddr,
    admin: String,
}

impl Running {
    fn start(folder: &Folder, more: &[&str]) -> Self {
        let (audit, ca, socket) =
            (folder.path("audit.jsonl"), folder.path("ca.pem"), folder.path("admin.sock"));
        let mut command =
            command(&["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--audit", &audit]);
        command.args(["--ca-out", &ca, "--admin-socket", &socket]).args(more);
        let (program, [address, admin]) = Program::start(&mut command, ["listening on ", "admin door on "]);
        Self { program, address: address.parse().unwrap(), admin }
    }

    /// Asks in plaintext, which is refused; gives the flow.
    fn refused(&self) -> String {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.write_all(b"GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (_, rest) = answer.split_once("flow=").unwrap();
        let flow = rest.lines().next().unwrap();
        assert!(answer.contains(&format!("(exeat explain {flow})")), "{answer}");
        flow.to_owned()
    }
}

/// Waits for what another process does; fails where it never comes.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_question_is_answered_by_the_policy() {
    let folder = Folder::new("question");
    let policy = folder.file("policy.yaml", POLICY);
    let ours = ["--policy", &*policy, "--self", "123456789012"];
    for (asked, more, code, words) in [
        (
            &["sqs:SendMessage", ORDERS][..],
            &[][..],
            0,
            &["ALLOW", "`orders` allows it", "policy.yaml:3:"][..],
        ),
        (&["SQS:sendmessage", ORDERS], &[], 0, &["ALLOW  sqs:SendMessage on"]),
        (&["sqs:SendMessage", ORDERS], &["--signer", "123456789012"], 0, &["ALLOW"]),
        (&["GET", "https://api.example.com/v1/x"], &[], 0, &["ALLOW", "api"]),
        (&["sqs:DeleteMessage", ORDERS], &[], 1, &["DENY", "[policy.no_match]", "action: sqs:DeleteMessage"]),
        (&["sqs:PurgeQueue", ORDERS], &[], 1, &["DENY", "[policy.denied]", "no-purge (", "policy.yaml:8:"]),
        (
            &["sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:jobs"],
            &[],
            1,
            &["nearest is `orders`", "it names other resources"],
        ),
        (&["sqs:SendMessage", ORDERS], &["--signer", "210987654321"], 1, &["[sigv4."]),
        (&["sqs:SendMessage", ORDERS], &["--signer", "none"], 1, &["[sigv4.unsigned]", "nobody (unsigned)"]),
        (&["GET", "https://api.example.com/v2"], &[], 1, &["[policy.no_match]", "host: api.example.com"]),
        (&["POST", "https://api.example.com/v1/x"], &[], 1, &["[policy.no_match]"]),
        (&["GET", "https://nothing.amazonaws.com/"], &[], 1, &["[target.unknown_aws]"]),
    ] {
        let args = [&["explain"], asked, &ours, more].concat();
        let said = exeat(&args);
        assert_eq!(said.code, code, "{args:?}\n{}{}", said.out, said.err);
        for word in words {
            assert!(said.out.contains(word), "{args:?} lacks {word}\n{}", said.out);
        }
        let json = exeat(&[&args[..], &["-o", "json"]].concat());
        assert_eq!(json.code, code);
        assert_eq!(json.json()["decision"], if code == 0 { "allow" } else { "deny" }, "{args:?}");
    }
    // Nobody is ours where nobody was named, and the answer says so.
    let said = exeat(&["explain", "sqs:SendMessage", ORDERS, "--policy", &policy]);
    assert!(said.code == 1 && said.out.contains("--self ACCOUNT"), "{}", said.out);
}

#[test]
fn what_it_says_to_add_allows_the_call_and_no_other() {
    let folder = Folder::new("add");
    let policy = folder.file("policy.yaml", POLICY);
    let ask = |on: &[&str]| {
        exeat(&[&["explain"], on, &["--policy", &policy, "--self", "123456789012", "-o", "json"]].concat())
            .json()
    };
    for (asked, other) in [
        (
            ["sqs:DeleteMessage", "arn:aws:sqs:us-east-1:123456789012:jobs"],
            ["sqs:DeleteMessage", "arn:aws:sqs:us-east-1:123456789012:jobs2"],
        ),
        (["s3:PutObject", "arn:aws:s3:::b/a key: \"x\" #1"], ["s3:PutObject", "arn:aws:s3:::b/a key"]),
        (["POST", "https://hooks.example.com/a-b/c"], ["POST", "https://hooks.example.com/a-b/d"]),
    ] {
        let add = ask(&asked)["to_allow"].as_str().unwrap().to_owned();
        std::fs::write(&policy, format!("{POLICY}{add}\n")).unwrap();
        assert_eq!(ask(&asked)["decision"], "allow", "{asked:?}\n{add}");
        assert_eq!(ask(&other)["decision"], "deny", "{other:?}\n{add}");
        std::fs::write(&policy, POLICY).unwrap();
    }
}

#[test]
fn bad_questions_are_usage_and_a_bad_policy_is_no_answer() {
    let folder = Folder::new("bad");
    let broken = folder.file("broken.yaml", "version: 1\nstatements:\n  - {id: a, effect: alow}\n");
    for (args, code, word) in [
        (&["explain", "policy.nomatch"][..], 2, "policy.no_match"),
        (&["explain", "nonsense"], 2, "lists them"),
        (&["explain", "sqs:*", ORDERS], 2, "without wildcards"),
        (&["explain", "sqs:SendMesage", ORDERS], 2, "did you mean `sqs:SendMessage`?"),
        (&["explain", "sqss:SendMessage", ORDERS], 2, "did you mean `sqs`?"),
        (&["explain", "sqs:SendMessage", "orders"], 2, "no ARN"),
        (&["explain", "sqs:SendMessage", "arn:aws:sqs:us-east-1:self:orders"], 2, "are for policies"),
        (&["explain", "sqs:SendMessage", ORDERS, "--signer", "x"], 2, "--signer x"),
        (&["explain", "sqs:SendMessage", ORDERS, "--self", "1"], 2, "--self 1"),
        (&["explain", "GET", "http://api.example.com/"], 2, "https://"),
        (&["explain", "GET", "https://sqs.us-east-1.amazonaws.com/"], 2, "ask about an action"),
        (&["explain", "GET", "https://a.test/", "--header", "a: b\r\nHost: c"], 2, "no such request"),
        (&["explain", "0-17"], 2, "--admin-socket"),
        (&["explain", "0-17", "--audit", "/nonexistent"], 1, "/nonexistent"),
        (&["explain", "0-17", "--admin-socket", "/nonexistent"], 69, "no exeat answers"),
        (&["explain", "sqs:SendMessage", ORDERS, "--policy", "/nonexistent"], 78, "/nonexistent"),
        (&["explain", "sqs:SendMessage", ORDERS, "--policy", &broken], 78, "broken.yaml:3:"),
        (&["healthcheck"], 2, "--admin"),
        (&["healthcheck", "--admin", "nowhere"], 78, "nowhere"),
        (&["ca", "path"], 2, "--ca-out"),
        (&["ca", "fingerprint", "--ca-out", "/nonexistent"], 1, "/nonexistent"),
        (&["ca", "export", "--ca-out", &broken], 1, "no certificate in PEM form"),
        (&["config", "show", "--workers", "many"], 78, "--workers: got \"many\""),
        (&["schema", "poem"], 2, "poem"),
        (&["completions", "cmd"], 2, "cmd"),
        (&["frobnicate"], 2, "frobnicate"),
    ] {
        let said = exeat(args);
        assert_eq!(said.code, code, "{args:?}\n{}{}", said.out, said.err);
        assert_eq!(said.out, "", "{args:?}: a failure is no answer");
        assert!(said.err.contains(word), "{args:?} lacks {word}\n{}", said.err);
        assert!(!said.err.contains("panicked"), "{args:?}\n{}", said.err);
    }
}

#[test]
fn a_refused_flow_is_explained_from_its_file_and_from_the_proxy_that_runs() {
    let folder = Folder::new("flow");
    let running = Running::start(&folder, &[]);
    let flow = running.refused();
    let (audit, socket) = (folder.path("audit.jsonl"), folder.path("admin.sock"));
    let end = &flow[flow.find('-').unwrap() + 1..];
    for source in [["--audit", &*audit], ["--admin-socket", &*socket]] {
        for name in [&flow, end] {
            let said = exeat(&[&["explain", name], &source[..]].concat());
            assert_eq!(said.code, 1, "{}{}", said.out, said.err);
            for word in
                ["DENY", "[tls.plaintext]", &flow, "from 127.0.0.1", "nothing was sent", "What to do: "]
            {
                assert!(said.out.contains(word), "{source:?} lacks {word}\n{}", said.out);
            }
        }
        let said = exeat(&[&["explain", &flow, "-o", "json"], &source[..]].concat());
        let json = said.json();
        assert_eq!((said.code, &json["reason"]), (1, &"tls.plaintext".into()));
        assert_eq!((&json["flow"], &json["allowed"]), (&flow.as_str().into(), &false.into()));
        let said = exeat(&[&["explain", "zzzzzzzzzzzz-0-1"], &source[..]].concat());
        assert!(said.code == 1 && said.out.is_empty() && said.err.contains("zzzz"), "{}", said.err);
    }
    // An end that two flows have names neither.
    let event =
        |boot: &str| format!("{{\"additionalEventData\":{{\"exeat\":{{\"flow\":\"{boot}-0-7\"}}}}}}\n");
    let two = folder.file("two.jsonl", &(event("aaaaaaaaaaaa") + &event("bbbbbbbbbbbb")));
    let said = exeat(&["explain", "0-7", "--audit", &two]);
    assert!(said.code == 2 && said.err.contains("aaaaaaaaaaaa-0-7, bbbbbbbbbbbb-0-7"), "{}", said.err);
    assert_eq!(exeat(&["explain", "b-0-7", "--audit", &two]).code, 0);
    // The admin door's address tells nobody of flows: the workload could ask there.
    let mut door = TcpStream::connect(&*running.admin).unwrap();
    write!(door, "GET /flows/{flow} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    door.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn health_is_told_without_curl() {
    let folder = Folder::new("health");
    let running = Running::start(&folder, &[]);
    let config = folder.file("exeat.yaml", &format!("admin: {}\n", running.admin));
    let socket = folder.path("admin.sock");
    for from in [["--admin", &*running.admin], ["--admin-socket", &*socket], ["--config", &*config]] {
        let said = exeat(&[&["healthcheck"], &from[..]].concat());
        assert_eq!((said.code, &*said.out), (0, "ready\n"), "{from:?}: {}", said.err);
    }
    let json = exeat(&["healthcheck", "--admin", &running.admin, "-o", "json"]).json();
    assert_eq!(json["ready"], true);
    let output = command(&["healthcheck"]).env("EXEAT_ADMIN", &running.admin).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let (admin, socket_file) = (running.admin.clone(), Path::new(&socket).to_owned());
    running.program.signal("-KILL");
    drop(running);
    assert_eq!(exeat(&["healthcheck", "--admin", &admin]).code, 69);
    assert!(socket_file.exists(), "killed: it could not tidy up");
    // The next start takes the name over.
    let again = Running::start(&folder, &[]);
    assert_eq!(exeat(&["healthcheck", "--admin-socket", &socket]).code, 0);
    again.program.signal("-TERM");
    until("its socket goes with it", || !socket_file.exists());
}

#[test]
fn somebody_else_at_the_admin_address_is_not_taken_for_us() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answers = ["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "SSH-2.0-x\r\n"];
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 1024]).unwrap();
            socket.write_all(answer.as_bytes()).unwrap();
        }
    });
    for _ in answers {
        let said = exeat(&["healthcheck", "--admin", &address]);
        assert!(said.code == 69 && said.err.contains(&address), "{}", said.err);
    }
    server.join().unwrap();
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    for (first, second) in [("-TERM", "-TERM"), ("-INT", "-TERM"), ("-TERM", "-INT")] {
        let folder = Folder::new(&format!("signal{first}{second}"));
        let config = folder.file("exeat.yaml", "limits: {drain: 1h, handshake: 1h}\n");
        let mut running = Running::start(&folder, &["--config", &config]);
        // Under way: after CONNECT, before a hello.
        let mut socket = TcpStream::connect(running.address).unwrap();
        socket
            .write_all(b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n")
            .unwrap();
        assert!(socket.read(&mut [0; 100]).unwrap() > 0);
        running.program.signal(first);
        let admin = running.admin.clone();
        until("it drains", || exeat(&["healthcheck", "--admin", &admin]).code == 1);
        let said = exeat(&["healthcheck", "--admin", &admin]);
        assert_eq!(said.out, "not ready: draining\n");
        assert!(running.program.is_running(), "what is under way is waited for");
        running.program.signal(second);
        // Far below the hour that the drain may take.
        until("it ends", || !running.program.is_running());
        assert_eq!(running.program.wait().0, Some(0));
    }
}

#[test]
fn the_certificate_is_told_in_every_form() {
    let folder = Folder::new("ca");
    let running = Running::start(&folder, &[]);
    let pem = folder.path("ca.pem");
    let path = exeat(&["ca", "path", "--ca-out", &pem]);
    assert_eq!((path.code, path.out.trim_end()), (0, &*pem));
    let exported = exeat(&["ca", "export", "--ca-out", &pem]);
    assert_eq!(exported.out, std::fs::read_to_string(&pem).unwrap());
    let der = command(&["ca", "export", "--form", "der", "--ca-out", &pem]).output().unwrap().stdout;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let wanted: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let told = exeat(&["ca", "fingerprint", "--ca-out", &pem]);
    assert_eq!((told.code, told.out.trim_end()), (0, &*wanted.join(":")));
    let config = folder.file("exeat.yaml", &format!("ca_out: {pem}\n"));
    let json = exeat(&["ca", "fingerprint", "--config", &config, "-o", "json"]).json();
    assert_eq!((&json["sha256"], &json["path"]), (&wanted.join(":").into(), &pem.as_str().into()));
    assert!(json["not_after"].as_str().unwrap().starts_with("20"), "{json}");
    drop(running);
}

#[test]
fn settings_are_shown_with_where_they_come_from() {
    let folder = Folder::new("config");
    let config = folder.file("exeat.yaml", "audit: a.jsonl\nworkers: 2\nupstream_ca: [x.pem, y.pem]\n");
    let args = ["config", "show", "--origin", "--config", &config, "--listen", "127.0.0.1:5"];
    let with = |args: &[&str]| {
        Said::of(command(args).env("EXEAT_WORKERS", "3").env("EXEAT_WORKRS", "4").output().unwrap())
    };
    let said = with(&args);
    assert_eq!(said.code, 0, "{}", said.err);
    for (key, value, origin) in [
        ("listen", "127.0.0.1:5", "--listen"),
        ("workers", "3", "EXEAT_WORKERS"),
        ("audit", "a.jsonl", &*format!("{config}:1:8")),
        ("limits.drain", "25s", "default"),
        ("policy", "(built in)", "default"),
    ] {
        let line = said.out.lines().find(|line| line.split(' ').next() == Some(key)).unwrap();
        let shown = line.split_once(' ').unwrap().1.trim();
        assert!(shown.starts_with(value) && shown.ends_with(origin), "{line}");
    }
    assert!(said.err.contains("EXEAT_WORKRS") && !said.out.contains("WORKRS"), "{}", said.err);
    let json = with(&[&args[..], &["-o", "json"]].concat()).json();
    let row = |key: &str| {
        json["settings"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone()
    };
    assert_eq!(row("upstream_ca")["value"], serde_json::json!(["x.pem", "y.pem"]));
    assert_eq!((&row("admin")["value"], &row("admin")["origin"][0]), (&Value::Null, &"default".into()));
    assert!(json["warnings"][0].as_str().unwrap().contains("EXEAT_WORKERS"), "{json}");
}

#[test]
fn version_schema_completions_and_reasons() {
    let text = exeat(&["version"]);
    assert!(text.code == 0 && text.out.starts_with(concat!("exeat ", env!("CARGO_PKG_VERSION"), "\n")));
    let json = exeat(&["version", "-o", "json"]).json();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["atlas"]["sha256"].as_str().unwrap().len(), 64);
    let lock = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let rustls = json["rustls"].as_str().unwrap();
    assert!(lock.contains(&format!("name = \"rustls\"\nversion = \"{rustls}\"")), "{rustls}");
    for (kind, member) in [("config", "properties"), ("audit", "oneOf")] {
        let said = exeat(&["schema", kind]);
        assert!(said.code == 0 && !said.json()[member].is_null(), "{kind}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = exeat(&["completions", shell]);
        assert!(said.code == 0 && said.out.contains("healthcheck"), "{shell}");
    }
    let said = exeat(&["explain", "[policy.no_match]"]);
    assert!(said.code == 0 && said.out.starts_with("policy.no_match\n"), "{}", said.out);
    assert_eq!(exeat(&["explain", "tls.no_sni", "-o", "json"]).json()["status"], 403);
    let listed = exeat(&["explain", "-o", "json"]).json().as_array().unwrap().len();
    assert_eq!(exeat(&["explain"]).out.lines().count(), listed);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error_and_changes_no_answer() {
    let folder = Folder::new("pipe");
    let policy = folder.file("policy.yaml", POLICY);
    for (args, code) in [
        (&["explain"][..], 0),
        (&["completions", "bash"], 0),
        (&["schema", "audit"], 0),
        (&["demo"], 0),
        (&["explain", "sqs:PurgeQueue", ORDERS, "--policy", &policy], 1),
        (&["check", "--policy", &policy], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = command(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let said = Said::of(child.wait_with_output().unwrap());
        assert_eq!((said.code, &*said.err), (code, ""), "{args:?}");
    }
    // What could not be written is told, where that matters to somebody.
    if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
        let child = command(&["explain"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let said = Said::of(child.wait_with_output().unwrap());
        assert!(said.code == 1 && said.err.contains("No space left"), "{}", said.err);
    }
}

#[test]
fn answers_have_no_colour_codes() {
    for args in [&["explain"][..], &["version"], &["config", "show"], &["--help"], &["frobnicate"]] {
        let said = Said::of(command(args).env("NO_COLOR", "1").env("TERM", "xterm").output().unwrap());
        assert!(!said.out.contains('\u{1b}') && !said.err.contains('\u{1b}'), "{args:?}");
    }
}
