//! The program itself, as a user starts it: a child process with its files in a folder of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::program::Program;
use super::tls::{self, ClientTls};

pub struct Proxy {
    program: Program,
    pub address: SocketAddr,
    admin: SocketAddr,
    pub dir: PathBuf,
}

/// What a test's proxy is started with.
pub struct Setup<'a> {
    pub policy: &'a str,
    /// `(pattern:port, address)`
    pub connect_to: Vec<(String, SocketAddr)>,
    pub upstream_ca: String,
    pub credentials: &'a str,
    /// More of the configuration file.
    pub config: &'a str,
    /// Somewhere else than a file of the test's folder.
    pub audit: Option<&'a str>,
}

/// A folder that is this test's alone.
pub fn folder(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// An answer's head, byte for byte, so that nothing behind it is taken; less where the connection ends.
pub async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

impl Proxy {
    pub fn start(setup: &Setup<'_>) -> Self {
        Self::start_in(setup, &[])
    }

    /// With these variables. No file of keys is named where the setup has none.
    pub fn start_in(setup: &Setup<'_>, variables: &[(&str, String)]) -> Self {
        Self::start_by(setup, Command::new(env!("CARGO_BIN_EXE_exeat")), variables)
    }

    /// Where no more than so many files may be open.
    pub fn start_with_descriptors(setup: &Setup<'_>, most: usize) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(format!("ulimit -n {most} && exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_exeat"));
        Self::start_by(setup, shell, &[])
    }

    fn start_by(setup: &Setup<'_>, mut command: Command, variables: &[(&str, String)]) -> Self {
        let dir = folder("proxy");
        let file = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        command.env_clear().arg("run").args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.arg("--policy").arg(file("policy.yaml", setup.policy));
        command.envs(variables.iter().map(|(name, value)| (*name, value)));
        if !setup.credentials.is_empty() {
            command.arg("--credentials").arg(file("credentials", setup.credentials));
        }
        command.arg("--upstream-ca").arg(file("upstream.pem", &setup.upstream_ca));
        command.arg("--config").arg(file("exeat.yaml", setup.config));
        command.arg("--audit").arg(setup.audit.map_or_else(|| dir.join("audit.jsonl"), PathBuf::from));
        command.arg("--ca-out").arg(dir.join("ca.pem"));
        for (pattern, address) in &setup.connect_to {
            command.arg("--connect-to").arg(format!("{pattern}={address}"));
        }
        let (program, [address, admin]) = Program::start(&mut command, ["listening on ", "admin door on "]);
        Self { program, address: address.parse().unwrap(), admin: admin.parse().unwrap(), dir }
    }

    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// The value of one line of `/metrics`, by its name and labels.
    pub async fn metric(&self, line: &str) -> u64 {
        let text = self.metrics().await;
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{line} is not in\n{text}")).parse().unwrap()
    }

    /// All that `/metrics` tells.
    pub async fn metrics(&self) -> String {
        let mut socket = TcpStream::connect(self.admin).await.unwrap();
        socket
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Waits until that line says so.
    pub async fn until_metric(&self, line: &str, wanted: u64) {
        for _ in 0..500 {
            if self.metric(line).await == wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("{line} is {} and never became {wanted}", self.metric(line).await);
    }

    /// Descriptors that the program has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Memory that it has in use.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn ca_pem(&self) -> String {
        std::fs::read_to_string(self.dir.join("ca.pem")).unwrap()
    }

    /// A client's socket after CONNECT was answered 200; or the status line of a refusal.
    pub async fn connect(&self, target: &str) -> Result<TcpStream, String> {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let answer = read_head(&mut socket).await;
        if answer.starts_with("HTTP/1.1 200 ") { Ok(socket) } else { Err(answer) }
    }

    /// An intercepted connection to `host:443`.
    pub async fn intercepted(&self, host: &str) -> ClientTls {
        let socket = self.connect(&format!("{host}:443")).await.unwrap();
        tls::connect(socket, host, &self.ca_pem()).await.unwrap()
    }

    pub fn audit_path(&self) -> PathBuf {
        self.dir.join("audit.jsonl")
    }

    /// Intents and events so far, without the lines that begin a lane.
    pub fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.audit_path()).unwrap_or_default();
        // The last one may be under way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["exeat"] != "lane").collect()
    }

    /// Events (not intents) so far.
    pub fn events(&self) -> Vec<Value> {
        self.audit().into_iter().filter(|line| line["eventVersion"].is_string()).collect()
    }

    pub fn signal(&self, signal: &str) {
        self.program.signal(signal);
    }

    /// Waits for its own end; gives its exit code, what it said, and its audit file.
    pub fn wait(mut self) -> (Option<i32>, String, String) {
        let (code, said) = self.program.wait();
        (code, said, std::fs::read_to_string(self.dir.join("audit.jsonl")).unwrap_or_default())
    }

    /// How many files it may have open from now on.
    pub fn allow_descriptors(&self, most: usize) {
        let limit = format!("--nofile={most}:");
        let status = Command::new("prlimit").args(["--pid", &self.id().to_string(), &limit]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.program.kill();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
