//! What people read, byte for byte: `tests/golden/*.txt`. `EXEAT_BLESS=1` writes them anew; what is another at each run
//! (flows, ports, times, versions) stands there in capitals.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::tls::Ca;
use crate::{Run, World, curl, run};

/// An id of account 123456789012.
const KEY: &str = "AKIARZPUZDIKAEXAMPLE";

fn golden(name: &str, said: &str) {
    let said = normal(said);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("txt");
    if std::env::var_os("EXEAT_BLESS").is_some() {
        return std::fs::write(path, said).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(said, committed, "{name}: not what people read so far; EXEAT_BLESS=1 if it is to be so");
}

fn normal(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-.:/_".contains(c);
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let (between, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        out.push_str(between);
        out.push_str(match word {
            _ if is_flow(word) => "FLOW",
            _ if word.len() >= 20 && word.contains('T') && word.ends_with('Z') => "TIME",
            _ if word.trim_end_matches(':') == env!("CARGO_PKG_VERSION") => "VERSION:",
            _ if word.starts_with("curl/") => "curl",
            _ if word.starts_with("127.0.0.1:") => "127.0.0.1:PORT",
            word => word,
        });
        rest = after;
    }
    out + rest
}

/// `c87carbptcvs-1-17`
fn is_flow(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.len() == 3 && parts[0].len() == 12 && parts[1..].iter().all(number)
}

/// Both streams, as a terminal shows them, with what was typed.
fn terminal(typed: &str, run: &Run) -> String {
    let code = run.code.unwrap_or(-1);
    let out =
        if run.out.is_empty() || run.out.ends_with('\n') { run.out.clone() } else { run.out.clone() + "\n" };
    format!("$ {typed}\n-- standard output\n{out}-- standard error\n{}-- exit {code}\n", run.said)
}

async fn verb(world: &World, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
    let output = command.env_clear().current_dir(&world.home).args(arguments).output().await.unwrap();
    Run {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        said: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn a_run_with_refusals_and_each_of_them_explained() {
    let world = World::new().await;
    let script = format!(
        "curl -sS https://app.test/x; echo; curl -sS https://other.test/x; echo; \
         curl -sS https://ours.s3.us-east-1.amazonaws.com/k; echo; \
         curl -sS --aws-sigv4 aws:amz:us-east-1:dynamodb --user {KEY}:another -d '{{\"TableName\": \"t\"}}' \
         -H 'Content-Type: application/x-amz-json-1.0' -H 'X-Amz-Target: DynamoDB_20120810.DeleteTable' \
         https://dynamodb.us-east-1.amazonaws.com/"
    );
    let mut exec = world.exec();
    exec.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", "one");
    exec.args(["--policy", "policy.yaml", "--audit", "audit.jsonl"]);
    let seen = run(&mut exec, &["sh", "-c", &script]).await;
    let typed =
        "exeat exec --policy policy.yaml --audit audit.jsonl -- sh -c 'curl …; curl …; curl …; curl …'";
    golden("exec-refused", &terminal(typed, &seen));
    let mut told = String::new();
    let mut flows: Vec<&str> =
        seen.out.split("(exeat explain ").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    // A JSON answer says it twice.
    flows.dedup();
    for flow in flows {
        let explained = verb(&world, &["explain", flow, "--audit", "audit.jsonl"]).await;
        told += &terminal(&format!("exeat explain {flow} --audit audit.jsonl"), &explained);
    }
    assert_eq!(told.matches("-- exit 1").count(), 3, "{told}");
    golden("explain-flow", &told);
}

#[tokio::test]
async fn nothing_seen_under_the_built_in_policy() {
    let world = World::new().await;
    let seen = run(&mut world.exec(), &["true"]).await;
    let docker = world.home.join("docker");
    std::os::unix::fs::symlink("/bin/true", &docker).unwrap();
    let elsewhere = run(&mut world.exec(), &[docker.to_str().unwrap()]).await;
    golden(
        "exec-nothing-seen",
        &(terminal("exeat exec -- true", &seen) + &terminal("exeat exec -- docker", &elsewhere)),
    );
}

#[tokio::test]
async fn a_client_that_distrusts_us_in_the_summary() {
    let world = World::new().await;
    std::fs::write(world.home.join("other.pem"), Ca::new().pem()).unwrap();
    let seen = run(&mut world.exec(), &curl(&["--cacert", "other.pem", "https://app.test/"])).await;
    // What curl says is curl's; and the log names its process or, where that was gone, its user agent.
    let (_, summary) = seen.said.split_once("exeat: 1 call").unwrap();
    golden("exec-distrust", &format!("exeat: 1 call{summary}"));
}

#[tokio::test]
async fn an_origin_below_the_floor() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let old = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 4096]).await;
            // protocol_version(70), as a server says that speaks TLS 1.1 at most.
            let _ = socket.write_all(&[0x15, 0x03, 0x02, 0x00, 0x02, 0x02, 70]).await;
        }
    });
    let mut exec = world.bare();
    exec.args(["--connect-to", &format!("legacy.test:443={old}")]);
    let seen = run(&mut exec, &["curl", "-sS", "https://legacy.test/export"]).await;
    golden("exec-old-origin", &terminal("exeat exec -- curl -sS https://legacy.test/export", &seen));
}

#[tokio::test]
async fn reports_of_check() {
    let world = World::new().await;
    let errors = "version: 1
perimeter: {signers: [self, 012345678901]}
statements:
  - id: reports
    effect: allow
    action: [s3:GetObjct, s3:PutObject]
    resource: arn:aws:s3:::acme-reports/*
  - {id: typo, efect: allow, action: \"sqs:*\", resource: \"*\"}
";
    let warnings = "version: 1
statements:
  - {id: no-s3, effect: deny, action: \"s3:*\", resource: \"*\"}
  - {id: reports-all, effect: allow, action: s3:GetObject, resource: \"*\"}
";
    let mut told = String::new();
    for (name, text) in
        [("errors.yaml", errors), ("warnings.yaml", warnings), ("tab.yaml", "version: 1\n\tx: 1\n")]
    {
        std::fs::write(world.home.join(name), text).unwrap();
        let said = verb(&world, &["check", "--policy", name]).await;
        told += &terminal(&format!("exeat check --policy {name}"), &said);
    }
    golden("check", &told);
}
