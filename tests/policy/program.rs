//! `exeat check` and `exeat schema` as a user runs them: exit codes, and what is on standard output.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn exeat(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_exeat")).args(arguments).output().unwrap()
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_exit_code_says_whether_a_policy_can_be_used() {
    let example = here("config/policy.example.yaml");
    let example = example.to_str().unwrap();
    let odd = here("tests/cases/policy/expires/policy.yaml");
    let odd = odd.to_str().unwrap();
    let bad = here("Cargo.toml");
    let bad = bad.to_str().unwrap();
    for (arguments, code) in [
        (&["check", "--policy", example][..], 0),
        (&["check", "--policy", example, "--deny-warnings"], 0),
        (&["check", "--policy", odd], 0),
        (&["check", "--policy", odd, "--deny-warnings"], 1),
        (&["check", "--policy", bad], 1),
        (&["check", "--policy", example, "--config", bad], 1),
        (&["check"], 2),
        (&["check", "--policy", example, "-o", "xml"], 2),
        (&["schema"], 2),
        (&["schema", "settings"], 2),
    ] {
        let output = exeat(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        // What is no policy says so on standard output, in whatever form was asked for; usage is on the other.
        assert_eq!(output.stdout.is_empty(), code == 2, "{arguments:?}");
    }
}

#[test]
fn every_form_of_output_tells_the_same_findings() {
    let bad = here("Cargo.toml");
    let out = |form| {
        let output = exeat(&["check", "--policy", bad.to_str().unwrap(), "-o", form]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(out("text").contains("error[syntax]: "));
    assert!(out("json").contains("\"code\": \"syntax\""));
    assert!(out("github").starts_with("::error file="));
    assert!(out("sarif").contains("\"ruleId\": \"syntax\""));
}

#[test]
fn the_schema_that_is_printed_is_the_committed_one() {
    let output = exeat(&["schema", "policy"]);
    assert_eq!(output.status.code(), Some(0));
    let committed = std::fs::read(here("config/policy.schema.json")).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&committed));
}

/// What `check` calls usable, `run` starts with; what it doesn't, `run` refuses with 78 and the same places.
#[test]
fn run_refuses_what_check_refuses() {
    let folder = std::env::temp_dir().join(format!("exeat-policy-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("policy.yaml");
    std::fs::write(
        &path,
        "version: 1\nstatements:\n  - {id: a, effect: deny, action: s3:GetObjct, resource: \"*\"}\n",
    )
    .unwrap();
    let output = exeat(&["run", "--listen", "127.0.0.1:0", "--policy", path.to_str().unwrap()]);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("policy.yaml:3:35: unknown action `s3:GetObjct`; did you mean `s3:GetObject`?"),
        "{said}"
    );
}
