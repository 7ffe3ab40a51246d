//! `deploy/logging` agrees with itself and with the program: drivers block, everybody means the same socket, and lines
//! arrive as they were written.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const SOCKET: &str = "/run/audit/exeat.sock";

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/logging").join(name)).unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_str(&read(name)).unwrap()
}

/// `name value` pairs of each section of a Fluent Bit file.
fn sections(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut all: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => all.push((name.to_owned(), Vec::new())),
            None => {
                let (key, value) = line.split_once(' ').unwrap();
                all.last_mut().unwrap().1.push((key.to_owned(), value.trim().to_owned()));
            }
        }
    }
    all
}

fn value<'a>(section: &'a [(String, String)], key: &str) -> &'a str {
    let mut found = section.iter().filter(|(name, _)| name == key);
    let value = &found.next().unwrap_or_else(|| panic!("{section:?} lacks {key}")).1;
    assert!(found.next().is_none(), "{key} twice");
    value
}

#[test]
fn every_driver_blocks() {
    let task = json("firelens-task.json");
    let mut drivers = vec![json("cloudwatch.json")];
    drivers.extend(
        task["containerDefinitions"].as_array().unwrap().iter().map(|c| c["logConfiguration"].clone()),
    );
    assert_eq!(drivers.len(), 4);
    for driver in drivers {
        assert_eq!(driver["options"]["mode"], "blocking", "{driver}");
        if driver["logDriver"] == "awslogs" {
            for option in ["awslogs-group", "awslogs-region", "awslogs-stream-prefix"] {
                assert!(driver["options"][option].is_string(), "{driver}");
            }
        }
    }
}

#[test]
fn everybody_means_the_same_socket_and_the_router_listens_first() {
    let task = json("firelens-task.json");
    let container = |name: &str| {
        task["containerDefinitions"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap().clone()
    };
    let (router, exeat) = (container("router"), container("exeat"));
    let audit = exeat["environment"].as_array().unwrap().iter().find(|v| v["name"] == "EXEAT_AUDIT").unwrap();
    assert_eq!(audit["value"], format!("unix:{SOCKET}"));
    let folder = Path::new(SOCKET).parent().unwrap().to_str().unwrap();
    for mounts in [&router, &exeat] {
        let mount =
            mounts["mountPoints"].as_array().unwrap().iter().find(|m| m["containerPath"] == folder).unwrap();
        assert_eq!((&mount["sourceVolume"], &mount["readOnly"]), (&"audit".into(), &Value::Null));
        assert!(
            task["volumes"].as_array().unwrap().iter().any(|volume| volume["name"] == mount["sourceVolume"])
        );
    }
    assert_eq!(exeat["dependsOn"][0], serde_json::json!({"containerName": "router", "condition": "HEALTHY"}));
    assert_eq!(router["healthCheck"]["command"][1], format!("test -S {SOCKET}"));
    assert!(router["essential"] == true && exeat["essential"] == true);
    let options = &router["firelensConfiguration"]["options"];
    assert_eq!(options["config-file-value"], "/fluent-bit/exeat/fluent-bit.conf");

    let fluent = sections(&read("fluent-bit.conf"));
    let (_, input) = fluent.iter().find(|(name, _)| name == "INPUT").unwrap();
    assert_eq!((value(input, "path"), value(input, "mode")), (SOCKET, "unix_tcp"));
    let vector: Value = serde_yaml::from_str(&read("vector.yaml")).unwrap();
    let source = &vector["sources"]["exeat"];
    assert_eq!((&source["path"], &source["mode"]), (&SOCKET.into(), &"unix_stream".into()));
    // Both let another user connect.
    assert_eq!(value(input, "unix_perm"), "0666");
    assert_eq!(source["socket_file_mode"], 0o666);
}

#[test]
fn lines_arrive_as_they_were_written_and_wait_on_disk() {
    let (fluent, parsers) = (sections(&read("fluent-bit.conf")), sections(&read("parsers.conf")));
    let of = |kind: &str| {
        fluent.iter().filter(|(name, _)| name == kind).map(|(_, section)| section).collect::<Vec<_>>()
    };
    let (service, input, output) = (of("SERVICE")[0], of("INPUT")[0], of("OUTPUT")[0]);
    assert_eq!(value(service, "parsers_file"), "/fluent-bit/exeat/parsers.conf");
    assert_eq!(value(input, "parser"), value(&parsers[0].1, "name"));
    assert_eq!((value(&parsers[0].1, "format"), value(&parsers[0].1, "regex")), ("regex", "^(?<log>.*)$"));
    assert_eq!((value(output, "match"), value(output, "log_key")), (value(input, "tag"), "log"));
    assert_eq!((value(input, "storage.type"), value(output, "retry_limit")), ("filesystem", "no_limits"));
    assert!(value(service, "storage.path").starts_with('/'));
    let vector: Value = serde_yaml::from_str(&read("vector.yaml")).unwrap();
    let (source, sink) = (&vector["sources"]["exeat"], &vector["sinks"]["cloudwatch"]);
    assert_eq!((&source["decoding"]["codec"], &sink["encoding"]["codec"]), (&"bytes".into(), &"text".into()));
    assert_eq!((&sink["inputs"][0], &sink["buffer"]["when_full"]), (&"exeat".into(), &"block".into()));
    assert_eq!(vector["acknowledgements"]["enabled"], true);
}

#[test]
fn the_program_reads_what_the_task_sets() {
    let task = json("firelens-task.json");
    let containers = task["containerDefinitions"].as_array().unwrap();
    let exeat = containers.iter().find(|container| container["name"] == "exeat").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
    command
        .args(["config", "show", "-o", "json"])
        .env_clear()
        .env("EXEAT_POLICY_TEXT", "version: 1\nstatements: []\n");
    for variable in exeat["environment"].as_array().unwrap() {
        command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
    }
    let shown: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!(shown["warnings"], Value::Array(Vec::new()));
    let settings = shown["settings"].as_array().unwrap();
    let audit = settings.iter().find(|row| row["key"] == "audit").unwrap();
    assert_eq!(
        (&audit["value"], &audit["origin"][0]),
        (&format!("unix:{SOCKET}").into(), &"EXEAT_AUDIT".into())
    );
    let deny = settings.iter().find(|row| row["key"] == "records.on_failure").unwrap();
    assert_eq!(deny["value"], "deny");
}
