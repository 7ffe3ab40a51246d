//! Every command that README and docs show is run: each line of a `sh` block, each `$` line of a `console` block, by bash,
//! in a folder with the example files and a proxy that runs. A line ends with 0, or with what its comment says (`# exit 1`);
//! what a `console` block shows below a command is looked for in what it printed, `…` standing for anything.
//!
//! `FLOW` is the id of a call that the proxy refused. Programs of the reader's own (`aws`, `jq`, `python3 app.py`) are
//! stand-ins here: what is shown is how they are started.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

#[path = "support/program.rs"]
#[allow(dead_code)] // the rest of it serves tests/cli.rs
mod program;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use program::Program;

/// Commands that are shown and not run here, each with its reason.
const NOT_RUN: [(&str, &str); 5] = [
    ("cargo test", "it would run itself"),
    (
        "docker build -f deploy/Containerfile -t exeat .",
        "needs an engine and a registry; deploy/check, tests/deploy.rs",
    ),
    ("docker compose -f deploy/compose.yaml up --build", "needs an engine; tests/deploy.rs"),
    ("exeat tail verdict:deny service:s3,sqs", "follows until it is stopped; tests/reports.rs"),
    (
        "exeat tail --audit audit.jsonl --last 20 'reason:tls.*'",
        "follows until it is stopped; tests/reports.rs",
    ),
];

/// An export with one call of a key that was never ours.
const CLOUDTRAIL: &str = r#"{"Records": [{"eventVersion": "1.11", "eventTime": "2026-11-25T12:00:00Z",
    "eventSource": "sqs.amazonaws.com", "eventName": "CreateQueue", "awsRegion": "us-east-1", "eventType": "AwsApiCall",
    "userIdentity": {"type": "IAMUser", "accessKeyId": "AKIARZPUZDIKEXAMPLE2", "accountId": "123456789012"},
    "requestID": "r-1", "eventID": "e-1"}]}"#;

/// The reader's own programs.
const STAND_INS: [&str; 5] = ["aws", "python3", "node", "java", "jq"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> =
        ["README.md", "deploy/README.md", "certs-dev/README.md"].map(|page| root().join(page)).into();
    let listed = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(listed.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    pages.sort();
    pages
}

/// A command as a page shows it, and what the page shows of its answer.
#[derive(Debug)]
struct Shown {
    line: usize,
    text: String,
    code: i32,
    answer: Vec<String>,
}

impl Shown {
    fn new(line: usize, text: &str) -> Self {
        let (text, comment) = text.split_once(" # ").unwrap_or((text, ""));
        let code = comment.split_once("exit ").map_or(0, |(_, rest)| {
            rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
        });
        // Built by cargo or not, it is the same program.
        let text = text.trim().replace("cargo run --release -- ", "exeat ");
        Self { line, text, code, answer: Vec::new() }
    }

    fn is_run(&self) -> bool {
        self.text.starts_with("exeat run")
    }
}

/// The commands of a page; what is no place for one must hold none.
fn commands(page: &Path) -> Vec<Shown> {
    let text = std::fs::read_to_string(page).unwrap();
    let (mut shown, mut language) = (Vec::<Shown>::new(), None);
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if let Some(word) = line.trim_start().strip_prefix("```") {
            language = language.is_none().then_some(word);
            continue;
        }
        let joined = |mut line: String, lines: &mut dyn Iterator<Item = (&str, i32)>| {
            while let Some(first) = line.strip_suffix('\\') {
                line = format!("{first}{}", lines.next().unwrap().0.trim_start());
            }
            line
        };
        match language {
            Some("sh") if !line.trim().is_empty() && !line.starts_with('#') => {
                shown.push(Shown::new(number as usize, &joined(line.to_owned(), &mut lines)));
            }
            Some("console") => match line.strip_prefix("$ ") {
                Some(command) => {
                    shown.push(Shown::new(number as usize, &joined(command.to_owned(), &mut lines)));
                }
                None => shown.last_mut().expect("a command above its answer").answer.push(line.to_owned()),
            },
            Some("sh" | "yaml" | "json") => {}
            _ => {
                let code = if language.is_some() { Some(line) } else { line.strip_prefix("    ") };
                // `exeat 0.1.0: ...` is what it says when it starts.
                let command = |line: &str| {
                    let verb =
                        line.strip_prefix("exeat ").is_some_and(|rest| !rest.starts_with(char::is_numeric));
                    verb || ["cargo ", "eval ", "docker ", "$ "].iter().any(|word| line.starts_with(word))
                };
                assert!(
                    !code.is_some_and(command),
                    "{}:{number}: a command in no `sh` or `console` block",
                    page.display()
                );
            }
        }
    }
    shown
}

/// A folder as a reader would have it, and a proxy that runs in it.
struct World {
    folder: PathBuf,
    proxy: Program,
    address: String,
    admin: String,
    flow: String,
}

impl World {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("exeat-docs-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        for part in ["bin", "config/policies", "certs-dev"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        for (from, to) in [
            ("config/policy.example.yaml", "policy.yaml"),
            ("config/exeat.example.yaml", "exeat.yaml"),
            ("config/policy.example.yaml", "config/policy.example.yaml"),
            ("config/exeat.example.yaml", "config/exeat.example.yaml"),
            ("certs-dev/make", "certs-dev/make"),
        ] {
            std::fs::copy(root().join(from), folder.join(to)).unwrap();
        }
        for policy in std::fs::read_dir(root().join("config/policies")).unwrap() {
            let policy = policy.unwrap();
            std::fs::copy(policy.path(), folder.join("config/policies").join(policy.file_name())).unwrap();
        }
        let credentials =
            "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = none\n";
        std::fs::write(folder.join("credentials"), credentials).unwrap();
        std::fs::create_dir(folder.join("AWSLogs")).unwrap();
        std::fs::write(folder.join("AWSLogs/export.json"), CLOUDTRAIL).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_exeat"), folder.join("bin/exeat")).unwrap();
        for name in STAND_INS {
            let path = folder.join("bin").join(name);
            // Reads what it is given, as the last of a pipe must.
            std::fs::write(&path, "#!/bin/sh\n[ -t 0 ] || cat >/dev/null\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = command(&folder);
        command.args(["exeat", "run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--admin-socket", "admin.sock", "--ca-out", "ca.pem", "--audit", "audit.jsonl"]);
        command.args(["--credentials", "credentials", "--policy", "policy.yaml"]);
        let (proxy, [address, admin]) = Program::start(&mut command, ["listening on ", "admin door on "]);
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.write_all(b"GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let flow = answer.split_once("flow=").unwrap().1.lines().next().unwrap().to_owned();
        Self { folder, proxy, address, admin, flow }
    }

    /// The proxy of a `run` line: ports as the system gives them, a file of its own. It starts, and ends with 0.
    fn run(&self, text: &str) -> Result<(), String> {
        let text = self.place(text).replace(" audit.jsonl", " run.jsonl").replace(" admin.sock", " run.sock");
        let mut command = command(&self.folder);
        command.args(["bash", "-c", &format!("exec {text}")]).env("EXEAT_LISTEN", "127.0.0.1:0");
        let (mut program, [_]) = Program::start(&mut command, ["listening on "]);
        program.signal("-TERM");
        let (code, said) = program.wait();
        if code == Some(0) { Ok(()) } else { Err(format!("{code:?}\n{said}")) }
    }

    fn place(&self, text: &str) -> String {
        text.replace("127.0.0.1:3128", "127.0.0.1:0")
            .replace("127.0.0.1:9901", "127.0.0.1:0")
            .replace("~/.aws/credentials", "credentials")
            .replace("/run/exeat/", "")
            .replace("/var/lib/exeat", "state")
            .replace("FLOW", &self.flow)
    }

    /// Runs one line after those that set up its shell.
    fn line(&self, before: &[String], shown: &Shown) -> Result<(), String> {
        let before: String = before.iter().map(|line| format!("{line} >/dev/null 2>&1\n")).collect();
        let text = self.place(&shown.text);
        let output = command(&self.folder)
            .args(["bash", "-o", "pipefail", "-c", &format!("{before}{text}")])
            .env("EXEAT_LISTEN", &self.address)
            .env("EXEAT_ADMIN", &self.admin)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
        if output.status.code() != Some(shown.code) {
            return Err(format!("exit {:?} and not {}\n{said}", output.status.code(), shown.code));
        }
        for wanted in &shown.answer {
            if !said.lines().any(|line| is_like(line, wanted)) {
                return Err(format!("it does not print: {wanted}\n{said}"));
            }
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.proxy.kill();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// `env` finds the program by the folder's own PATH.
fn command(folder: &Path) -> Command {
    let mut command = Command::new("env");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", folder.join("bin").display());
    command.current_dir(folder).env_clear().env("PATH", path).env("HOME", folder).env("TMPDIR", folder);
    // No machine of AWS is asked for keys.
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// A line, and one that a page shows: `…` is anything.
fn is_like(line: &str, shown: &str) -> bool {
    let mut pieces = shown.trim_end().split('…');
    let Some(mut rest) = line.trim_end().strip_prefix(pieces.next().unwrap()) else { return false };
    let mut open = false;
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        (rest, open) = (after, piece.is_empty());
    }
    rest.is_empty() || open
}

#[test]
fn every_command_that_a_page_shows_runs_as_it_says() {
    let (mut wrong, mut ran, mut skipped) = (Vec::new(), 0, BTreeSet::new());
    for page in pages() {
        let shown = commands(&page);
        if shown.is_empty() {
            continue;
        }
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let world = World::new(&name.replace('/', "-"));
        let mut before = Vec::new();
        for shown in shown {
            if let Some((listed, _)) = NOT_RUN.iter().find(|(listed, _)| *listed == shown.text) {
                skipped.insert(*listed);
                continue;
            }
            ran += 1;
            let outcome = if shown.is_run() { world.run(&shown.text) } else { world.line(&before, &shown) };
            if let Err(said) = outcome {
                wrong.push(format!("{name}:{}: {}\n{said}", shown.line, shown.text));
            }
            if shown.text.starts_with("eval ") || shown.text.starts_with("export ") {
                before.push(world.place(&shown.text));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(ran > 30, "only {ran} commands were found");
    let listed: BTreeSet<_> = NOT_RUN.iter().map(|(listed, _)| *listed).collect();
    assert_eq!(skipped, listed, "listed as not run, and shown nowhere");
}

/// `exeat VERB --flag` in the middle of a sentence: the verb and its flags exist.
#[test]
fn commands_within_sentences_name_verbs_and_flags_that_there_are() {
    let help = |verb: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_exeat"))
            .env_clear()
            .args(verb.split(' '))
            .arg("--help")
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    let mut checked = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for span in text.split('`').skip(1).step_by(2).filter(|span| !span.contains('\n')) {
            let Some(command) = span.strip_prefix("exeat ") else { continue };
            let mut words = command.split_whitespace().take_while(|word| *word != "--");
            let Some(verb) = words.next().filter(|verb| verb.chars().all(char::is_lowercase)) else {
                continue;
            };
            let verb = match (verb, command.split(' ').nth(1)) {
                ("audit" | "ca" | "config", Some(second)) => format!("{verb} {second}"),
                ("explain", Some("target")) => "explain target".to_owned(),
                _ => verb.to_owned(),
            };
            let help = help(&verb).unwrap_or_else(|| panic!("{}: `{span}`: no such verb", page.display()));
            for flag in words.filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                assert!(help.contains(flag), "{}: `{span}`: no {flag}", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} were found");
}

#[test]
fn what_a_page_shows_is_told_from_what_it_does_not() {
    assert!(is_like("3 calls, 1 refused", "3 calls, 1 refused"));
    assert!(
        is_like("id 4711 done", "id … done") && is_like("id 4711", "id …") && is_like("at 1 of 2", "… of …")
    );
    assert!(
        !is_like("3 calls, 2 refused", "3 calls, 1 refused") && !is_like("id 4711 done now", "id … done")
    );
    assert!(!is_like("the id 1", "id …"));
    let shown = Shown::new(1, "exeat explain x   # denied: exit 1");
    assert_eq!((&*shown.text, shown.code), ("exeat explain x", 1));
}
