//! `exeat exec` with real children: sh, curl, python3. What a child is given, what it is kept from, how it ends.
#![allow(clippy::unwrap_used)]

#[path = "exec/golden.rs"]
mod golden;
#[path = "exec/identity.rs"]
mod identity;
#[path = "wire/support/mod.rs"]
#[allow(dead_code)]
mod support;
#[path = "exec/upstream.rs"]
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use support::aws::{self, Origin};
use support::proxy::{folder, read_head};
use support::tls::Ca;

const POLICY: &str = "version: 1
statements:
  - {id: app, effect: allow, http: {host: app.test, path: /*}}
  - {id: ours, effect: allow, action: s3:*, resource: ['arn:aws:s3:::ours/*']}
  - {id: secret, effect: deny, action: s3:*, resource: 'arn:aws:s3:::ours/secret/*'}
";

/// An origin, and a folder that is a user's home.
struct World {
    home: PathBuf,
    ca: Ca,
    origin: Origin,
    address: SocketAddr,
}

/// What a run of `exec` came to.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    out: String,
    said: String,
}

impl World {
    async fn new() -> Self {
        let ca = Ca::new();
        let (origin, address) = aws::origin_saying(&ca, |_| aws::ok("ok")).await;
        let home = folder("exec");
        std::fs::write(home.join("upstream.pem"), ca.pem()).unwrap();
        std::fs::write(home.join("policy.yaml"), POLICY).unwrap();
        Self { home, ca, origin, address }
    }

    /// `exeat exec`, in an environment of nothing but PATH and HOME.
    fn bare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", &self.home);
        // The machine of the test may be an instance.
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("TMPDIR", &self.home).current_dir(&self.home).kill_on_drop(true).arg("exec");
        command
    }

    /// With the origin behind every name.
    fn exec(&self) -> Command {
        let mut command = self.bare();
        command.args(["--upstream-ca", "upstream.pem", "--connect-to", &format!("*:443={}", self.address)]);
        command
    }

    fn folders(&self) -> usize {
        let names = std::fs::read_dir(&self.home).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("exeat-")).count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

async fn run(command: &mut Command, child: &[&str]) -> Run {
    let output = command.arg("--").args(child).stdin(Stdio::null()).output().await.unwrap();
    Run {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

const CURL: [&str; 6] = ["curl", "-sS", "--max-time", "20", "-w", " %{http_code}"];

fn curl<'a>(more: &[&'a str]) -> Vec<&'a str> {
    CURL.iter().chain(more).copied().collect()
}

#[tokio::test]
async fn the_childs_environment_leads_to_the_proxy_and_goes_with_the_run() {
    let world = World::new().await;
    let script = "echo $HTTPS_PROXY; echo $https_proxy; echo $NO_PROXY; ls -ld $(dirname $AWS_CA_BUNDLE); \
                  ls $SSL_CERT_FILE $(echo $NODE_OPTIONS | cut -d= -f2)";
    let run = run(&mut world.exec(), &["sh", "-c", script]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let lines: Vec<&str> = run.out.lines().collect();
    assert!(lines[0].starts_with("http://exeat:") && lines[0].contains("@127.0.0.1:"), "{run:?}");
    assert_eq!(lines[0], lines[1]);
    assert!(lines[2].contains("169.254.169.254") && lines[2].contains("127.0.0.1"), "{run:?}");
    assert!(lines[3].starts_with("drwx------"), "{run:?}");
    assert!(lines[4].ends_with("ca-bundle.pem") && lines[5].ends_with(".cjs"), "{run:?}");
    assert_eq!(world.folders(), 0, "the files went with the run");
    let second = self::run(&mut world.exec(), &["sh", "-c", "echo $HTTPS_PROXY"]).await;
    let password = |url: &str| url.split('@').next().unwrap().to_owned();
    assert_ne!(password(second.out.trim()), password(lines[0]), "each run has its own password");
}

#[tokio::test]
async fn the_code_is_the_childs_and_a_shells_where_there_is_none() {
    let world = World::new().await;
    for (child, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9),
        (&["true"], 0),
        (&["./missing"], 127),
        (&["./policy.yaml"], 126),
    ] {
        assert_eq!(run(&mut world.exec(), child).await.code, Some(code), "{child:?}");
    }
    let ours = run(world.exec().args(["--policy", "missing.yaml"]), &["true"]).await;
    assert!(ours.code == Some(125) && ours.said.contains("missing.yaml"), "{ours:?}");
    let stdout = run(world.exec().args(["--audit", "-"]), &["true"]).await;
    assert!(stdout.code == Some(125) && stdout.said.contains("child's"), "{stdout:?}");
    assert_eq!(world.folders(), 0);
}

#[tokio::test]
async fn signals_reach_the_child_and_its_answer_is_the_answer() {
    let world = World::new().await;
    for (signal, trap) in [("-TERM", "TERM"), ("-INT", "INT"), ("-HUP", "HUP"), ("-USR1", "USR1")] {
        let script = format!("trap 'exit 42' {trap}; echo ready; while :; do sleep 0.05; done");
        let mut started = world.exec();
        started.args(["--", "sh", "-c", &script]).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own: no terminal sends it anything.
        let mut started = started.process_group(0).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(started.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        assert_eq!(line, "ready\n");
        let id = started.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
        assert_eq!(started.wait().await.unwrap().code(), Some(42), "{signal}");
    }
    assert_eq!(world.folders(), 0);
}

#[tokio::test]
async fn a_terminals_interrupt_reaches_the_child_once() {
    let world = World::new().await;
    // The child takes its interrupts one by one; a second one, had exec passed its own on, would follow at once.
    let child = "import signal; s = {signal.SIGINT}; signal.pthread_sigmask(signal.SIG_BLOCK, s); print('ready', flush=True); \
                 signal.sigwait(s); print('twice' if signal.sigtimedwait(s, 0.5) else 'once', flush=True); raise SystemExit(5)";
    let terminal = format!(
        "import os, pty, sys\npid, fd = pty.fork()\nif pid == 0:\n    os.execv({:?}, ['exeat', 'exec', '--', 'python3', '-c', {child:?}])\n\
         said = b''\nsent = False\nwhile True:\n    try:\n        piece = os.read(fd, 4096)\n    except OSError:\n        break\n\
         \x20   if not piece:\n        break\n    said += piece\n    if b'ready' in said and not sent:\n        os.write(fd, b'\\x03')\n        sent = True\n\
         print(said.decode())\nsys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n",
        env!("CARGO_BIN_EXE_exeat")
    );
    let mut command = Command::new("python3");
    command.args(["-c", &terminal]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let output = command.env("TMPDIR", &world.home).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("once") && !said.contains("twice"), "{output:?}");
    assert_eq!(output.status.code(), Some(5), "{output:?}");
}

#[tokio::test]
async fn a_record_names_the_child_that_asked() {
    let world = World::new().await;
    let child = ["sh", "-c", "curl -s https://app.test/x & echo $!; wait"];
    let seen = run(world.exec().args(["--audit", "audit.jsonl"]), &child).await;
    let audit = std::fs::read_to_string(world.home.join("audit.jsonl")).unwrap();
    let event = audit.lines().rfind(|line| line.starts_with("{\"eventVersion\"")).unwrap();
    let event: Value = serde_json::from_str(event).unwrap();
    let ours = &event["additionalEventData"]["exeat"];
    assert_eq!(ours["process"], "curl", "{event}");
    assert_eq!(seen.out.lines().next(), Some(&*ours["pid"].to_string()), "{event}");
}

#[tokio::test]
async fn curl_and_python_go_through_and_the_summary_tells() {
    let world = World::new().await;
    let seen = run(&mut world.exec(), &curl(&["https://app.test/x"])).await;
    assert_eq!((seen.code, seen.out.as_str()), (Some(0), "ok 200"), "{seen:?}");
    assert!(seen.said.contains("third-party HTTPS is let through and counted (report)"), "{seen:?}");
    assert!(
        seen.said.contains("exeat: 1 call, 1 let through unnamed\n  REPORT     1  GET app.test"),
        "{seen:?}"
    );
    let script = "import urllib.request; print(urllib.request.urlopen('https://app.test/y').read().decode())";
    let policy = ["--policy", "policy.yaml", "--audit", "audit.jsonl"];
    let seen = run(world.exec().args(policy), &["python3", "-c", script]).await;
    assert_eq!((seen.code, seen.out.as_str()), (Some(0), "ok\n"), "{seen:?}");
    assert!(
        seen.said.contains("policy policy.yaml") && seen.said.contains("ALLOW      1  GET app.test"),
        "{seen:?}"
    );
    let audit = std::fs::read_to_string(world.home.join("audit.jsonl")).unwrap();
    assert!(audit.contains("\"statement\":\"app\""), "{audit}");
    assert_eq!(world.origin.requests().len(), 2);
}

#[tokio::test]
async fn a_refusal_names_statement_place_and_fix_and_may_fail_the_run() {
    let world = World::new().await;
    let policy = ["--policy", "policy.yaml", "--fail-on-deny"];
    let refused = run(world.exec().args(policy), &curl(&["https://other.test/x"])).await;
    assert!(refused.out.contains("[policy.no_match]") && refused.out.ends_with(" 403"), "{refused:?}");
    assert!(
        refused.out.contains("to allow it: {id: allow-other-test, effect: allow, http: {host: other.test"),
        "{refused:?}"
    );
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.said.contains("DENY       1  GET other.test  [policy.no_match]"), "{refused:?}");
    let failed = run(world.exec().args(policy), &["sh", "-c", "curl -s https://other.test; exit 9"]).await;
    assert_eq!(failed.code, Some(9), "the child's own failure comes first: {failed:?}");
    let fine = run(world.exec().args(policy), &curl(&["https://app.test/"])).await;
    assert_eq!(fine.code, Some(0), "{fine:?}");
    assert_eq!(world.origin.requests().len(), 1);
}

#[tokio::test]
async fn nothing_seen_says_why_and_quiet_says_nothing() {
    let world = World::new().await;
    let silent = run(&mut world.exec(), &["true"]).await;
    assert!(silent.said.contains("0 calls seen: `true` made none"), "{silent:?}");
    let quiet = run(world.exec().arg("--quiet"), &["true"]).await;
    assert_eq!(quiet.said, "", "{quiet:?}");
}

#[tokio::test]
async fn a_client_that_does_not_believe_the_ca_is_told_of() {
    let world = World::new().await;
    std::fs::write(world.home.join("other.pem"), Ca::new().pem()).unwrap();
    let loud = run(&mut world.exec(), &curl(&["--cacert", "other.pem", "https://app.test/"])).await;
    assert!(loud.said.contains("DENY       1  app.test:443  [tls.client_distrusts]"), "{loud:?}");
    // Once when it happened, once in the summary.
    let told = "; exec sets CURL_CA_BUNDLE: something took that away, or the client has a setting of its own";
    assert_eq!(loud.said.matches(told).count(), 2, "{loud:?}");
    assert!(loud.said.contains("\n  `curl"), "{loud:?}");
    // Some shake hands first and go away without a word.
    let quiet = "import base64, os, socket, ssl, urllib.parse\n\
                 url = urllib.parse.urlsplit(os.environ['HTTPS_PROXY'])\n\
                 user = base64.b64encode(f'{url.username}:{url.password}'.encode()).decode()\n\
                 stream = socket.create_connection((url.hostname, url.port))\n\
                 stream.sendall(f'CONNECT app.test:443 HTTP/1.1\\r\\nHost: app.test:443\\r\\nProxy-Authorization: Basic {user}\\r\\n\\r\\n'.encode())\n\
                 assert b' 200 ' in stream.recv(4096)\n\
                 context = ssl.create_default_context()\n\
                 context.check_hostname, context.verify_mode = False, ssl.CERT_NONE\n\
                 context.wrap_socket(stream, server_hostname='app.test').close()\n";
    let left = run(&mut world.exec(), &["python3", "-c", quiet]).await;
    assert_eq!(left.code, Some(0), "{left:?}");
    assert!(
        left.said.contains("0 calls seen: 1 connection was opened and left without a word: `"),
        "{left:?}"
    );
    if cfg!(target_os = "linux") {
        assert!(left.said.contains("`python3"), "it said nothing of itself: {left:?}");
    }
    assert_eq!(world.origin.connections(), 0);
}

/// Reads an answer's head from a proxy that is asked raw bytes.
async fn answer(address: &str, request: String) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    read_head(&mut socket).await
}

#[tokio::test]
async fn a_connect_without_the_runs_password_gets_407() {
    use base64::Engine;
    let world = World::new().await;
    let mut command = world.exec();
    command.args(["--", "sh", "-c", "echo $HTTPS_PROXY; echo $JAVA_TOOL_OPTIONS; read line"]);
    let mut started =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(started.stdout.take().unwrap()).lines();
    let url = lines.next_line().await.unwrap().unwrap();
    let java = lines.next_line().await.unwrap().unwrap();
    let (user, address) = url.trim_start_matches("http://").split_once('@').unwrap();
    let ask = |field: &str| format!("CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n{field}\r\n");
    let basic = |user: &str| {
        let code = base64::engine::general_purpose::STANDARD.encode(user);
        ask(&format!("Proxy-Authorization: Basic {code}\r\n"))
    };
    for request in [ask(""), basic("exeat:wrong"), basic("exeat:"), basic(&user[..user.len() - 1])] {
        let head = answer(address, request).await;
        assert!(head.starts_with("HTTP/1.1 407 ") && head.contains("Proxy-Authenticate: Basic"), "{head}");
    }
    assert!(answer(address, basic(user)).await.starts_with("HTTP/1.1 200 "));
    // Java's clients can bring no password: at their door the kernel says whose the connection is.
    let port = java.split("-Dhttps.proxyPort=").nth(1).unwrap().split(' ').next().unwrap();
    assert_ne!(format!("127.0.0.1:{port}"), address);
    let head = answer(&format!("127.0.0.1:{port}"), ask("")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    drop(started.stdin.take());
    let output = started.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("0 calls seen: 4 connections came without this run's password"), "{said}");
    assert_eq!(world.origin.connections(), 0);
}

#[tokio::test]
async fn env_prints_what_leads_a_shell_through_a_run() {
    let (proxy, origin) = aws::start().await;
    let ca = proxy.dir.join("ca.pem");
    let env = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_exeat"));
        command.env_clear().args(["env", "--listen", &proxy.address.to_string(), "--ca-out"]).arg(&ca);
        let output = command.args(more).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = env(&[]);
    assert!(lines.contains(&format!("export HTTPS_PROXY='http://{}'\n", proxy.address)), "{lines}");
    let script = format!("{lines}\ncurl -sS --max-time 20 https://app.test/");
    let output = Command::new("sh").args(["-c", &script]).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok", "{output:?}");
    assert_eq!(origin.requests().len(), 1);
    let json: serde_json::Value = serde_json::from_str(&env(&["-o", "json"])).unwrap();
    assert_eq!(json["AWS_CA_BUNDLE"], ca.to_str().unwrap());
    let dir = proxy.dir.join("for shells");
    let whole = env(&["--dir", dir.to_str().unwrap()]);
    assert!(whole.contains("export NODE_OPTIONS=") && whole.contains("export JAVA_TOOL_OPTIONS="), "{whole}");
    assert!(dir.join("truststore.p12").exists() && dir.join("ca-bundle.pem").exists());
    assert!(env(&["--unset"]).lines().all(|line| line.starts_with("unset ")));
    let missing = std::process::Command::new(env!("CARGO_BIN_EXE_exeat"))
        .env_clear()
        .args(["env", "--ca-out", "/nonexistent/ca.pem"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(1));
}
