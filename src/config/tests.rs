use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::engine::data::DataLevel;

fn from(flags: &[(Key, &str)], variables: &[(&str, &str)], yaml: Option<&str>) -> Result<Loaded, Problems> {
    let mut layer = Layer::default();
    for (key, text) in flags {
        layer.push(*key, *text, Origin::Flag("--flag"));
    }
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let folder = tempdir();
    if let Some(yaml) = yaml {
        let path = folder.join("exeat.yaml");
        std::fs::write(&path, yaml).unwrap();
        layer.push(Key::Config, path.to_str().unwrap(), Origin::Flag("--config"));
    }
    let loaded = load(layer, variables.keys().cloned(), |name| variables.get(name).cloned());
    std::fs::remove_dir_all(folder).unwrap();
    loaded.map_err(|problems| {
        Problems(
            problems
                .0
                .iter()
                .map(|p| p.split_once("exeat.yaml").map_or(p.clone(), |(_, rest)| rest.into()))
                .collect(),
        )
    })
}

fn tempdir() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("exeat-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn nothing_given_is_a_loopback_proxy_with_the_built_in_policy() {
    let config = from(&[], &[], None).unwrap().config;
    assert_eq!(config.listen.to_string(), "127.0.0.1:3128");
    assert_eq!(
        (config.policy, config.audit, config.ca),
        (PolicySource::BuiltIn, AuditSink::Stdout, CaSource::InMemory)
    );
    assert_eq!(
        (config.admin, config.upstream_roots, config.limits),
        (None, UpstreamRoots::Webpki, Limits::default())
    );
    assert!(config.workers.get() <= 4);
}

#[test]
fn a_flag_beats_a_variable_beats_the_file() {
    let yaml = "listen: 127.0.0.1:1\nworkers: 1\naudit: /file\n";
    let variables = [("EXEAT_LISTEN", "127.0.0.1:2"), ("EXEAT_WORKERS", "2")];
    let config = from(&[(Key::Listen, "127.0.0.1:3")], &variables, Some(yaml)).unwrap().config;
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.workers.get(), 2);
    assert_eq!(config.audit, AuditSink::File("/file".into()));
}

#[test]
fn a_list_of_a_stronger_layer_replaces_the_weaker_one() {
    let yaml = "upstream_ca: [a.pem, b.pem]\nconnect_to: [\"*:443=127.0.0.1:9\"]\n";
    let config = from(&[], &[("EXEAT_UPSTREAM_CA", "x.pem:y.pem")], Some(yaml)).unwrap().config;
    assert_eq!(config.upstream_ca, [PathBuf::from("x.pem"), PathBuf::from("y.pem")]);
    let target = crate::engine::target::Authority::parse("a.test:443", None).unwrap();
    assert_eq!(config.connect_to.lookup(&target).unwrap().port(), 9);
}

#[test]
fn every_key_of_the_file_is_understood() {
    let yaml = "
listen: '[::1]:0'
policy: env:POLICY
audit: '-'
ca_out: /run/ca.pem
ca_cert: ca.pem
ca_key: ca.key
upstream_roots: none
upstream_ca: [corp.pem]
connect_to: ['a.test:443=127.0.0.1:1']
credentials: /run/credentials
admin: 127.0.0.1:9901
workers: 3
limits:
  handshake: 5s
  head: 500ms
  body_idle: 2m
  held_body: 30s
  response_head: 1h
  turn: 2s
  drain: 20s
  connections: 100
  connections_per_client: 50
  connections_per_origin: 10
  dials: 5
  tunnels: 7
  lookups: 6
  inspection: 48MiB
";
    let config = from(&[], &[], Some(yaml)).unwrap().config;
    assert_eq!(config.policy, PolicySource::Env("POLICY".into()));
    assert_eq!(config.ca, CaSource::Files { cert: "ca.pem".into(), key: "ca.key".into() });
    assert_eq!(config.upstream_roots, UpstreamRoots::None);
    let limits = Limits {
        handshake: Duration::from_secs(5),
        head: Duration::from_millis(500),
        body_idle: Duration::from_secs(120),
        held_body: Duration::from_secs(30),
        response_head: Duration::from_secs(3600),
        turn: Duration::from_secs(2),
        drain: Duration::from_secs(20),
        connections: NonZeroUsize::new(100).unwrap(),
        connections_per_client: NonZeroUsize::new(50),
        connections_per_origin: NonZeroUsize::new(10).unwrap(),
        dials: NonZeroUsize::new(5).unwrap(),
        tunnels: NonZeroUsize::new(7).unwrap(),
        lookups: NonZeroUsize::new(6).unwrap(),
        inspection: NonZeroUsize::new(48 << 20),
    };
    assert_eq!(config.limits, limits);
}

#[test]
fn the_example_file_is_understood_and_shows_every_setting() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/exeat.example.yaml"))
            .unwrap();
    from(&[], &[], Some(&text)).unwrap();
    // Its commented settings too: they are what people uncomment.
    let all: String = text
        .lines()
        .filter(|line| !line.starts_with("# ") || line.starts_with("#  "))
        .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line)))
        .collect();
    // A CA is kept, or one of one's own: not both.
    from(&[], &[], Some(&all.replace("ca_dir: ", "#"))).unwrap();
    let (layer, ..) = file::parse(Path::new("example"), &all);
    let missing: Vec<&Key> =
        Key::ALL.iter().filter(|key| **key != Key::Config && layer.last(**key).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn records_are_kept_and_told_as_the_file_says() {
    let yaml = "
audit: unix:/run/fluent.sock
records:
  rotate_size: 64MiB
  rotate_age: 36h
  keep: 3
  on_failure: deny
  process: true
  level: fatal
  include_data: true
  data:
    dynamodb:PutItem: [requestParameters.TableName, responseElements.Attributes]
  hide_paths: [email]
  hide_patterns: ['*@*']
";
    let config = from(&[], &[("EXEAT_RECORDS_LEVEL", "error")], Some(yaml)).unwrap().config;
    assert_eq!(config.audit, AuditSink::Socket("/run/fluent.sock".into()));
    let records = config.records;
    assert_eq!((records.rotate_size, records.keep), (Some(64 << 20), 3));
    assert_eq!(records.rotate_age, Some(Duration::from_secs(36 * 3600)));
    assert_eq!((records.level, records.include_data), (DataLevel::Error, true), "the variable is stronger");
    let told: Vec<String> = records.data.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["dynamodb:PutItem requestParameters.TableName", "dynamodb:PutItem responseElements.Attributes"]
    );
    assert!(records.rules().is_some());
    assert_eq!(records.process, Some(true));
    assert!(!from(&[], &[], None).unwrap().config.tells_process(), "`run` looks at nobody");
    assert_eq!(from(&[], &[], None).unwrap().config.records.rules(), None, "off unless asked for");
    for wrong in [
        "records: {level: some}",
        "records: {on_failure: count}",
        "records: {rotate_size: 1KiB}",
        "records: {rotate_age: 745h}",
        "records: {keep: 0}",
        "records: {include_data: maybe}",
        "records: {process: maybe}",
        "records: {data: {'s3:PutObject': [Key]}}",
        "records: {data: {'s3:*': [requestParameters.Key]}}",
        "records: {data: [s3:PutObject]}",
        "records: {levle: all}",
        "audit: 'unix:'",
    ] {
        assert!(from(&[], &[], Some(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn all_problems_are_told_together_with_their_places() {
    let yaml =
        "lisen: 127.0.0.1:1\nworkers: many\nlimits:\n  drian: 3s\n  head: 0s\nconnect_to:\n  - nonsense\n";
    let problems = from(&[(Key::Admin, "9901")], &[], Some(yaml)).unwrap_err().0;
    assert_eq!(
        problems,
        [
            ":1:1: unknown key `lisen`; did you mean `listen`?",
            ":4:3: unknown key `limits.drian`; did you mean `limits.drain`?",
            ":7:5: connect_to: got \"nonsense\", want PATTERN:PORT=ADDR:PORT, such as *.example.com:443=127.0.0.1:8443",
            "--flag: got \"9901\", want ADDR:PORT",
            ":2:10: workers: got \"many\", want a number from 1 to 256",
            ":5:9: limits.head: got \"0s\", want a time above zero such as 500ms, 10s or 15m",
        ]
    );
}

#[test]
fn a_skew_can_be_made_smaller_than_awss_and_no_larger() {
    for (text, seconds) in [("1s", 1), ("5m", 300), ("15m", 900)] {
        assert_eq!(from(&[(Key::MaxSkew, text)], &[], None).unwrap().config.max_skew, seconds);
    }
    for text in ["16m", "900001ms", "999ms", "0s", "-5m", "300"] {
        let problems = from(&[(Key::MaxSkew, text)], &[], None).unwrap_err().0;
        assert_eq!(problems.len(), 1, "{text}");
    }
    let problems = from(&[(Key::Repeats, "drop")], &[], None).unwrap_err().0;
    assert_eq!(problems, ["--flag: got \"drop\", want record or refuse"]);
}

#[test]
fn refuses_files_that_are_not_a_mapping_of_settings() {
    for (name, yaml) in [
        ("a list", "- listen\n"),
        ("a key twice", "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n"),
        ("a list for one value", "listen: [127.0.0.1:1]\n"),
        ("one value for a list", "upstream_ca: a.pem\n"),
        ("an empty value", "policy: ''\n"),
        ("a missing value", "policy:\n"),
        ("a config inside the config", "config: other.yaml\n"),
        ("two documents", "listen: 127.0.0.1:1\n---\nlisten: 127.0.0.1:2\n"),
        ("broken YAML", "listen: [\n"),
    ] {
        assert!(from(&[], &[], Some(yaml)).is_err(), "{name}");
    }
    assert!(from(&[(Key::Config, "/nowhere/exeat.yaml")], &[], None).is_err());
    assert!(from(&[], &[], Some("# nothing set\n")).is_ok());
}

#[test]
fn a_ca_certificate_needs_its_key() {
    assert!(from(&[(Key::CaCert, "ca.pem")], &[], None).is_err());
    assert!(from(&[(Key::CaKey, "ca.key")], &[], None).is_err());
    assert!(from(&[(Key::CaCert, "ca.pem")], &[("EXEAT_CA_KEY", "ca.key")], None).is_ok());
}

#[test]
fn unread_variables_are_warned_of_with_what_was_meant() {
    let loaded = from(
        &[],
        &[
            ("EXEAT_LISEN", "x"),
            ("EXEAT_COLOUR", "x"),
            ("EXEAT_CONNECT_TO", "*:443=127.0.0.1:1"),
            ("EXEAT_POLICY", "env:EXEAT_POLICY_TEXT"),
            ("EXEAT_POLICY_TEXT", "version: 1"),
            ("EXEAT_ADMIN", ""),
            ("EXEAT_LOG", "debug"),
            ("HOME", "/root"),
        ],
        None,
    )
    .unwrap();
    assert_eq!(
        loaded.warnings,
        [
            "`EXEAT_COLOUR` is not read by anything",
            "`EXEAT_CONNECT_TO` is not read: connect_to is a flag or a key of the file only",
            "`EXEAT_LISEN` is not read by anything; did you mean `EXEAT_LISTEN`?",
        ]
    );
    assert_eq!(loaded.config.connect_to, ConnectTo::default());
    assert_eq!(loaded.config.admin, None);
}
