//! A folder a case: `tests/cases/policy/NAME/{policy,requests}.yaml`. Adding a case is adding a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use exeat::engine::atlas::Atlas;
use exeat::engine::facts::{Timestamp, TlsVersion};
use exeat::engine::policy::{Admission, Policy};
use exeat::engine::target::Authority;
use exeat::engine::{Judgement, admit};
use serde::Deserialize;

use super::message::Message;
use super::world::{NOW, Who, arrival, judged, keys};

/// One request, and what must become of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What is shown by it.
    name: String,
    /// `METHOD URL`; or `host:443` alone, for admission.
    #[serde(default)]
    request: String,
    #[serde(default)]
    admit: String,
    #[serde(default)]
    signer: Who,
    /// Signed, where it is signed at all.
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
    /// Added after signing.
    #[serde(default)]
    unsigned_header: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    body_too_large: bool,
    #[serde(default)]
    presigned: bool,
    /// Of the credential scope, where it is not the host's first label.
    service: Option<String>,
    #[serde(default = "region")]
    region: String,
    peer: Option<String>,
    #[serde(default)]
    tls12: bool,
    /// Seconds after the world's now.
    #[serde(default)]
    later: i64,
    expect: Expect,
    /// Statement that decides; of a refusal for want of one, the nearest.
    by: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    would: Vec<String>,
    /// The permit asks for TLS 1.3 upstream.
    #[serde(default)]
    tls13: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expect {
    Allow,
    /// Passes, though nothing allows it.
    Report,
    Deny,
    /// No request that is read at all.
    Unread,
}

fn region() -> String {
    "us-east-1".to_owned()
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    expect: Expect,
    by: Option<String>,
    reason: Option<String>,
    would: Vec<String>,
    tls13: bool,
}

impl Case {
    fn message(&self) -> Message {
        let (method, url) = self.request.split_once(' ').expect("METHOD URL");
        let rest = url.strip_prefix("https://").expect("an https URL");
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut message = Message {
            method: method.to_owned(),
            target: if path.is_empty() { b"/".to_vec() } else { path.into() },
            fields: vec![("host".to_owned(), host.into())],
            body: self.body.clone().into(),
        };
        for (name, values) in &self.header {
            let values = match values {
                OneOrMany::One(value) => std::slice::from_ref(value),
                OneOrMany::Many(values) => values,
            };
            message.fields.extend(values.iter().map(|value| (name.clone(), value.clone().into())));
        }
        if self.signer != Who::Nobody {
            let service = self.service.clone().unwrap_or_else(|| host.split('.').next().unwrap().to_owned());
            let expires = self.presigned.then_some(3600);
            message = self.signer.signer(service, self.region.clone(), expires).sign(message);
        }
        let unsigned = self.unsigned_header.iter().map(|(name, value)| (name.clone(), value.clone().into()));
        message.fields.extend(unsigned);
        if !self.body.is_empty() {
            message.set("content-length", &self.body.len().to_string());
        }
        message
    }

    fn want(&self) -> Seen {
        Seen {
            expect: self.expect,
            by: self.by.clone(),
            reason: self.reason.clone(),
            would: self.would.clone(),
            tls13: self.tls13,
        }
    }

    fn seen(&self, policy: &Policy) -> (Seen, String) {
        let nothing =
            Seen { expect: Expect::Unread, by: None, reason: None, would: Vec::new(), tls13: false };
        if !self.admit.is_empty() {
            return self.admitted(policy, nothing);
        }
        let message = self.message();
        let head = match message.head() {
            Ok(head) => head,
            Err(error) => return (nothing, error.to_string()),
        };
        let tls = if self.tls12 { TlsVersion::Tls12 } else { TlsVersion::Tls13 };
        let arrival = arrival(&head, self.peer.as_deref(), tls);
        let body = (!self.body_too_large).then_some(&*message.body);
        let now = Timestamp(NOW.0 + self.later);
        match judged(policy, &head, body, &arrival, &keys(), now) {
            Judgement::Allow(allowed) => {
                let permit = &allowed.permit;
                let seen = Seen {
                    expect: if permit.observed() { Expect::Report } else { Expect::Allow },
                    by: permit.statement().map(|placed| placed.id.to_string()),
                    would: permit.would().iter().map(ToString::to_string).collect(),
                    tls13: permit.min_tls13(),
                    ..nothing
                };
                (seen, String::new())
            }
            Judgement::Deny(denial) => {
                let denied = denial.denied.as_ref();
                let seen = Seen {
                    expect: Expect::Deny,
                    by: denied
                        .and_then(|denied| denied.statement.as_ref())
                        .map(|placed| placed.id.to_string()),
                    reason: Some(denial.reason.as_str().to_owned()),
                    would: denied.map_or(Vec::new(), |d| d.would.iter().map(ToString::to_string).collect()),
                    ..nothing
                };
                (seen, denial.said)
            }
            Judgement::NeedBody | Judgement::NeedSigner(_) => panic!("{}: can't be judged", self.name),
        }
    }

    fn admitted(&self, policy: &Policy, nothing: Seen) -> (Seen, String) {
        let target = Authority::parse(&self.admit, None).unwrap();
        match admit(policy, Atlas::built_in(), &target, Timestamp(NOW.0 + self.later)) {
            Admission::Allow(statement) => {
                let expect = if statement.is_some() { Expect::Allow } else { Expect::Report };
                (Seen { expect, by: statement.map(|placed| placed.id.to_string()), ..nothing }, String::new())
            }
            Admission::Deny { reason, statement, said } => {
                let by = statement.map(|placed| placed.id.to_string());
                let reason = Some(reason.as_str().to_owned());
                (Seen { expect: Expect::Deny, by, reason, ..nothing }, said)
            }
        }
    }
}

/// Statements that name nothing of any case, so many that the others are looked up and not looked at.
fn fillers() -> String {
    let mut text = String::new();
    for n in 0..40 {
        for (service, action) in [
            ("s3", "PutBucketWebsite"),
            ("sqs", "AddPermission"),
            ("lambda", "DeleteAlias"),
            ("dynamodb", "DeleteBackup"),
        ] {
            text.push_str(&format!(
                "  - {{id: zz-{service}-{n}, effect: allow, action: \"{service}:{action}\", resource: \"arn:aws:{service}:::filler-{n}/*\"}}\n"
            ));
        }
    }
    text
}

fn listed(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The worked policies that users copy: each says whom it is for, is beyond reproach, and answers the questions beside it.
#[test]
fn every_worked_policy_answers_the_questions_beside_it() {
    let mut wrong = Vec::new();
    let is_questions = |path: &Path| path.to_str().unwrap().ends_with(".questions.yaml");
    let (questions, policies): (Vec<_>, Vec<_>) =
        listed("config/policies").into_iter().partition(|path| is_questions(path));
    assert_eq!(questions.len(), policies.len(), "a policy without questions, or the reverse");
    assert!(policies.len() >= 6, "{policies:?}");
    for path in policies {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("\n# For ") {
            wrong.push(format!("{name}: does not say whom it is for"));
        }
        let (policy, remarks) = Policy::read("policy.yaml", &text, Atlas::built_in())
            .unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
        if !remarks.is_empty() {
            wrong.push(format!("{name}: {remarks:#?}"));
        }
        let questions = std::fs::read_to_string(path.with_extension("questions.yaml")).unwrap();
        let cases: Vec<Case> =
            serde_yaml::from_str(&questions).unwrap_or_else(|error| panic!("{name}: {error}"));
        for refused in [true, false] {
            let some = cases.iter().any(|case| (case.expect == Expect::Deny) == refused);
            assert!(some, "{name}: a question whose answer is yes, and one whose answer is no");
        }
        for case in cases {
            let (seen, said) = case.seen(&policy);
            if seen != case.want() {
                let want = case.want();
                wrong.push(format!("{name}: {}\n  want {want:?}\n  got  {seen:?}\n  said {said}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_case_is_decided_as_it_says() {
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for folder in listed("tests/cases/policy") {
        let folder_name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let policy_of = |text: &str| match Policy::read("policy.yaml", text, Atlas::built_in()) {
            Ok((policy, _)) => policy,
            Err(problems) => panic!("{folder_name}: {problems:#?}"),
        };
        let policy = policy_of(&read("policy.yaml"));
        let long = policy_of(&(read("policy.yaml") + &fillers()));
        let requests: Vec<Case> = serde_yaml::from_str(&read("requests.yaml"))
            .unwrap_or_else(|error| panic!("{folder_name}/requests.yaml: {error}"));
        let decisions: Vec<_> = requests.iter().map(|case| case.expect).collect();
        if !decisions.iter().any(|e| matches!(e, Expect::Deny | Expect::Unread)) {
            wrong.push(format!("{folder_name}: nothing is refused; what is the nearest that must be?"));
        }
        for case in requests {
            cases += 1;
            // Admission is named by any allow of the service, and the fillers are some.
            let long = case.admit.is_empty().then_some(("in a long policy", &long));
            for (which, policy) in [("as it is", &policy)].into_iter().chain(long) {
                let (seen, said) = case.seen(policy);
                if seen != case.want() {
                    let (name, want) = (&case.name, case.want());
                    wrong.push(format!(
                        "{folder_name}, {which}: {name}\n  want {want:?}\n  got  {seen:?}\n  said {said}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(cases > 150, "only {cases} cases were read");
}
