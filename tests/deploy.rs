//! What `deploy/` says is what the program reads: its flags and variables start a proxy, its health command finds it, and
//! what a container must not have it has not.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml knows by their attribute only

#[path = "support/program.rs"]
#[allow(dead_code)] // the rest of it serves tests/cli.rs
mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use program::Program;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// How a container starts exeat, whoever starts it.
#[derive(Debug)]
struct Sidecar {
    command: Vec<String>,
    variables: BTreeMap<String, String>,
    health: Vec<String>,
    user: String,
    /// Seconds between SIGTERM and SIGKILL.
    grace: u64,
    /// Folders that somebody else sees too.
    shared: Vec<String>,
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn compose() -> (Value, Sidecar) {
    let file: Value = serde_yaml::from_str(&read("deploy/compose.yaml")).unwrap();
    let exeat = &file["services"]["exeat"];
    let variables = exeat["environment"].as_object().unwrap().iter();
    let grace = exeat["stop_grace_period"].as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap();
    let of = |service: &str| {
        let mounts = texts(&file["services"][service]["volumes"]).into_iter();
        mounts.map(|mount| mount.split(':').take(2).collect::<Vec<_>>().join(":")).collect::<Vec<_>>()
    };
    let shared = of("exeat").into_iter().filter(|mount| of("app").contains(mount));
    let sidecar = Sidecar {
        command: texts(&exeat["command"]),
        // Without a value: taken from the shell that starts it.
        variables: variables
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        health: texts(&exeat["healthcheck"]["test"]),
        user: exeat["user"].as_str().unwrap().to_owned(),
        grace,
        shared: shared.map(|mount| mount.split(':').nth(1).unwrap().to_owned()).collect(),
    };
    (file, sidecar)
}

fn ecs() -> (Value, Sidecar) {
    let file: Value = serde_json::from_str(&read("deploy/ecs-task.json")).unwrap();
    let exeat = &file["containerDefinitions"][0];
    let mut variables: BTreeMap<_, _> = exeat["environment"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| (pair["name"].as_str().unwrap().to_owned(), pair["value"].as_str().unwrap().to_owned()))
        .collect();
    // ECS puts the secret's text into the variable.
    for secret in exeat["secrets"].as_array().unwrap() {
        variables.insert(secret["name"].as_str().unwrap().to_owned(), read("config/policy.example.yaml"));
    }
    let sidecar = Sidecar {
        command: texts(&exeat["command"]),
        variables,
        health: texts(&exeat["healthCheck"]["command"]),
        user: exeat["user"].as_str().unwrap().to_owned(),
        grace: exeat["stopTimeout"].as_u64().unwrap(),
        shared: vec![exeat["mountPoints"][0]["containerPath"].as_str().unwrap().to_owned()],
    };
    (file, sidecar)
}

/// A container's paths, in a folder of this test; its ports, as the system gives them.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("exeat-deploy-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for folder in ["run/exeat", "etc/exeat"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("etc/exeat/policy.yaml"), read("config/policy.example.yaml")).unwrap();
        Self(root)
    }

    fn place(&self, text: &str) -> String {
        let at = self.0.display();
        text.replace("/run/exeat", &format!("{at}/run/exeat"))
            .replace("/etc/exeat", &format!("{at}/etc/exeat"))
            .replace("/var/lib/exeat", &format!("{at}/state"))
            .replace("0.0.0.0:3128", "0.0.0.0:0")
            .replace("127.0.0.1:3128", "127.0.0.1:0")
            .replace("127.0.0.1:9901", "127.0.0.1:0")
    }

    fn exeat(&self, sidecar: &Sidecar, args: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
        command.env_clear().args(args.iter().map(|arg| self.place(arg)));
        command.envs(sidecar.variables.iter().map(|(name, value)| (name, self.place(value))));
        command
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn starts_and_is_found_healthy(name: &str, sidecar: &Sidecar) {
    let root = Root::new(name);
    let mut run = root.exeat(sidecar, &sidecar.command);
    let (mut running, [_, admin]) = Program::start(&mut run, ["listening on ", "admin door on "]);
    // Before it listens: an application that waits for health finds the certificate.
    let certificate = std::fs::read_to_string(root.0.join("run/exeat/ca.pem")).unwrap();
    assert!(certificate.contains("BEGIN CERTIFICATE"), "{name}");
    assert_eq!(
        (&*sidecar.health[0], &*sidecar.health[1]),
        ("CMD", "/exeat"),
        "{name}: no shell stands between"
    );
    let health = || root.exeat(sidecar, &sidecar.health[2..]).env("EXEAT_ADMIN", &admin).output().unwrap();
    let said = health();
    assert_eq!(
        (said.status.code(), &*said.stdout, &*said.stderr),
        (Some(0), &b"ready\n"[..], &b""[..]),
        "{name}"
    );
    running.signal("-TERM");
    assert_eq!(running.wait().0, Some(0), "{name}");
    assert_eq!(health().status.code(), Some(69), "{name}: gone, and it is said so");
}

fn keeps_its_promises(name: &str, sidecar: &Sidecar) {
    let root = Root::new(&format!("{name}-settings"));
    let mut args = vec!["config".to_owned(), "show".to_owned(), "-o".to_owned(), "json".to_owned()];
    args.extend(sidecar.command[1..].iter().cloned());
    let shown = root.exeat(sidecar, &args).output().unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["warnings"], serde_json::json!([]), "{name}: a variable that nobody reads");
    let of = |key: &str| {
        let rows = shown["settings"].as_array().unwrap();
        rows.iter().find(|row| row["key"] == key).unwrap()["value"].as_str().unwrap_or_default().to_owned()
    };
    let drain: u64 = of("limits.drain").strip_suffix('s').unwrap().parse().unwrap();
    assert!(sidecar.grace > drain, "{name}: killed after {} s, drains for {drain} s", sidecar.grace);
    assert!(sidecar.user.parse::<u32>().is_err(), "{name}: a group too");
    assert!(sidecar.user.split(':').all(|id| id.parse::<u32>().unwrap() > 0), "{name}: {}", sidecar.user);
    // The certificate is shared, and no folder that holds a key is.
    let shared: Vec<_> = sidecar.shared.iter().map(|path| root.place(path)).collect();
    let within = |key: &str| shared.iter().any(|folder| of(key).starts_with(folder));
    assert!(within("ca_out"), "{name}: {shared:?}");
    assert!(!within("ca_dir") && !within("ca_key") && !within("credentials"), "{name}: {shared:?}");
}

#[test]
fn the_compose_file_starts_a_proxy_that_is_the_only_way_out() {
    let (file, sidecar) = compose();
    let services = &file["services"];
    let (exeat, app) = (&services["exeat"], &services["app"]);
    assert_eq!(app["networks"], serde_json::json!(["inside"]));
    assert_eq!(file["networks"]["inside"]["internal"], true);
    assert_eq!(exeat["networks"], serde_json::json!(["inside", "outside"]));
    assert_eq!((&exeat["read_only"], &exeat["cap_drop"]), (&true.into(), &serde_json::json!(["ALL"])));
    assert_eq!(app["depends_on"]["exeat"]["condition"], "service_healthy");
    for mount in texts(&app["volumes"]) {
        assert!(mount.ends_with(":ro"), "{mount}: the workload could put a CA of its own there");
    }
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/../config/policy.example.yaml");
    assert!(policy.exists() && texts(&exeat["volumes"])[0].starts_with("../config/policy.example.yaml:"));
    keeps_its_promises("compose", &sidecar);
    starts_and_is_found_healthy("compose", &sidecar);
}

#[test]
fn the_ecs_task_starts_a_proxy_before_its_application_and_ends_it_after() {
    let (file, sidecar) = ecs();
    let (exeat, app) = (&file["containerDefinitions"][0], &file["containerDefinitions"][1]);
    assert_eq!(app["dependsOn"], serde_json::json!([{"containerName": "exeat", "condition": "HEALTHY"}]));
    assert_eq!((&exeat["essential"], &exeat["readonlyRootFilesystem"]), (&true.into(), &true.into()));
    assert_eq!(exeat["linuxParameters"]["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert_eq!(exeat["logConfiguration"]["options"]["mode"], "blocking", "a record that is dropped is none");
    assert_eq!(app["mountPoints"][0]["readOnly"], true);
    keeps_its_promises("ecs", &sidecar);
    starts_and_is_found_healthy("ecs", &sidecar);
}

/// The application's variables, against what `exeat env` would print for it.
#[test]
fn applications_are_given_what_env_prints() {
    let root = Root::new("env");
    let certificate = root.0.join("run/exeat/ca.pem");
    std::fs::write(&certificate, "").unwrap();
    let printed = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .env_clear()
        .args(["env", "-o", "json", "--ca-out", certificate.to_str().unwrap()])
        .output()
        .unwrap();
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let (compose, _) = compose();
    let (ecs, _) = ecs();
    let ecs: BTreeMap<_, _> = ecs["containerDefinitions"][1]["environment"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| (pair["name"].as_str().unwrap(), pair["value"].as_str().unwrap()))
        .collect();
    let compose: BTreeMap<_, _> = compose["services"]["app"]["environment"]
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
        .collect();
    for (place, given) in [("compose", compose), ("ecs", ecs)] {
        for (name, value) in given {
            let printed =
                printed[name].as_str().unwrap_or_else(|| panic!("{place}: {name} is no variable of ours"));
            if name.eq_ignore_ascii_case("no_proxy") {
                let printed: Vec<_> = printed.split(',').collect();
                assert!(
                    value.split(',').all(|host| printed.contains(&host)),
                    "{place}: {name} lets {value} past"
                );
            } else {
                let want = root.place(value).replace("exeat:3128", "127.0.0.1:3128");
                let want = want.replace("127.0.0.1:0", "127.0.0.1:3128");
                assert_eq!(printed, want, "{place}: {name}");
            }
        }
    }
}

#[test]
fn the_image_holds_one_program_and_is_nobody_in_particular() {
    let file = read("deploy/Containerfile");
    let (_, last) = file.split_once("\nFROM scratch\n").unwrap();
    let lines: Vec<_> = last.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(!lines.iter().any(|line| line.starts_with("RUN ") || line.starts_with("FROM ")), "{lines:?}");
    let of = |word: &str| lines.iter().find_map(|line| line.strip_prefix(word)).unwrap().trim();
    let user = of("USER ");
    assert_eq!((user, user), (&*compose().1.user, &*ecs().1.user));
    assert_eq!((of("ENTRYPOINT "), of("CMD ")), ("[\"/exeat\"]", "[\"run\"]"));
    assert!(of("HEALTHCHECK ").ends_with("CMD [\"/exeat\", \"healthcheck\"]"));
    for folder in compose().1.shared.iter().chain(&ecs().1.shared) {
        assert!(
            of("VOLUME ").contains(&format!("\"{folder}\"")),
            "{folder}: an empty volume would be root's"
        );
    }
    let variables = of("ENV ").split(' ').map(|pair| pair.split_once('=').unwrap());
    for (name, value) in variables {
        assert_eq!(compose().1.variables.get(name).map(String::as_str), Some(value));
    }
}
