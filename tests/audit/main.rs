//! Audit lines end to end: written by recorders, read back by `audit verify`, and then tampered with.

#![allow(clippy::unwrap_used)]

mod lines;
mod schema;
mod script;
mod sinks;
mod tamper;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use exeat::cli::audit;
use exeat::engine::atlas::Atlas;
use exeat::engine::data::{DataLevel, DataRules, Hidden};
use exeat::engine::facts::*;
use exeat::engine::policy::Placed;
use exeat::engine::reason::Reason;
use exeat::engine::target::Authority;
use exeat::record::verify::{Fault, Report, Verifier};
use exeat::record::*;
use serde_json::Value;

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("audit").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn records_with(sink: Sink, settings: Settings) -> Arc<Records> {
    Records::new(sink, Metrics::new("test"), settings, BootId::random().unwrap())
}

/// Settings that record data, and third parties' paths, of calls with such an end.
fn data_at(level: DataLevel) -> Settings {
    Settings { data: Some(DataRules::new(level, true, [], Hidden::default())), ..Settings::default() }
}

fn records(sink: Sink) -> Arc<Records> {
    records_with(sink, Settings::default())
}

fn to_file(path: &Path) -> Sink {
    Sink::open(&Target::File { path: path.into(), rotation: None }).unwrap()
}

fn arrival() -> Arrival {
    let target = Authority::parse("dynamodb.us-east-1.amazonaws.com:443", None).unwrap();
    Arrival::new(Door::Forward, target, "10.0.0.7:50000".parse().unwrap(), Some(tls()), Atlas::built_in())
}

fn tls() -> TlsFacts {
    TlsFacts {
        version: TlsVersion::Tls13,
        cipher: "TLS13_AES_128_GCM_SHA256",
        group: Some("X25519MLKEM768"),
        alpn: Some("http/1.1".into()),
        sni: Some("dynamodb.us-east-1.amazonaws.com".into()),
        chain: [certificate("CN=dynamodb.us-east-1.amazonaws.com"), certificate("CN=Amazon RSA 2048 M01")]
            .into(),
    }
}

fn certificate(subject: &str) -> Certificate {
    let (subject, issuer) = (subject.into(), "CN=Amazon Root CA 1,O=Amazon,C=US".into());
    Certificate {
        sha256: [0xab; 32],
        named: Some(Named { subject, issuer, not_after: Timestamp(1_795_410_000) }),
    }
}

fn operation() -> Operation {
    Operation {
        service: "dynamodb".into(),
        name: Some("PutItem".into()),
        region: "us-east-1".into(),
        protocol: Protocol::Json10,
        asks: vec![Ask {
            action: Action::Known("dynamodb:PutItem".into()),
            resource: Resource::Arn {
                arn: "arn:aws:dynamodb:us-east-1:111122223333:table/orders".into(),
                account: AccountId::parse("111122223333"),
            },
        }],
    }
}

fn identity() -> Identity {
    Identity {
        auth: Auth::SigV4,
        signature: SignatureState::Verified,
        payload: PayloadState::Signed,
        signer: Some(Signer {
            key_id: "ASIAIOSFODNN7EXAMPLE".into(),
            account: AccountId::parse("111122223333"),
            role: Some("orders-writer".into()),
            own: true,
            untold: false,
            parents: Some(
                [Parent {
                    by: "sts:AssumeRole",
                    key_id: Some("AKIAIOSFODNN7EXAMPLE".into()),
                    account: AccountId::parse("111122223333"),
                    role: Some("deploy".into()),
                }]
                .into(),
            ),
        }),
    }
}

/// A statement of the policy; kept for the process's life, as tests borrow it.
fn placed(id: &str) -> &'static Placed {
    Box::leak(Box::new(Placed { id: id.into(), file: "policy.yaml".into(), line: 12, column: 5 }))
}

fn request<'a>(operation: Option<&'a Operation>, identity: &'a Identity, host: &'a Authority) -> Request<'a> {
    Request {
        decision: Decision::Allow,
        statement: Some(placed("orders-write")),
        would: &[],
        policy: "9f31c2a07be4",
        operation,
        identity,
        method: "POST",
        host,
        path: b"/",
        user_agent: Some(b"Boto3/1.40.1 md/Botocore#1.40.1 lang/python#3.13"),
        repeats: true,
        trace: Some(b"Root=1-67891233-abcdef012345678912345678"),
        traceparent: Some(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        spent: Spent { all: Duration::from_micros(12), deciding: Duration::from_micros(2) },
    }
}

fn answered(upstream: Option<Upstream<'_>>) -> Outcome<'_> {
    Outcome {
        payload: PayloadOutcome::Matched,
        bytes_in: 512,
        bytes_out: 2,
        upstream,
        ..Outcome::new(End::Answered, 200)
    }
}

fn leg() -> LegText {
    LegText::dialled_at("52.94.0.1:443".parse().unwrap(), Some(&tls()))
}

fn upstream(leg: &LegText) -> Upstream<'_> {
    Upstream {
        leg,
        reused: true,
        request_id: Some(b"A1B2C3"),
        extended_request_id: None,
        error_type: None,
        waited: Some(Duration::from_millis(3)),
    }
}

/// One allowed request: two lines.
async fn pass(recorder: &Recorder) -> Result<FlowId, AuditDown> {
    let (operation, identity, arrival, leg) = (operation(), identity(), arrival(), leg());
    let mut entry = recorder.open(&Recorder::prelude(&arrival));
    let flow = entry.flow();
    entry.judged(&request(Some(&operation), &identity, &arrival.target));
    entry.intend().await?;
    entry.close(answered(Some(upstream(&leg)))).await;
    Ok(flow)
}

/// One denied request: one line.
async fn refuse(recorder: &Recorder) {
    let (operation, identity, arrival) = (operation(), identity(), arrival());
    let mut entry = recorder.open(&Recorder::prelude(&arrival));
    entry.judged(&Request {
        decision: Decision::Deny,
        ..request(Some(&operation), &identity, &arrival.target)
    });
    entry.close(Outcome::refused(Reason::PolicyDenied, 403, "denied by `no-orders`")).await;
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn verify(text: impl AsRef<[u8]>) -> Report {
    let mut verifier = Verifier::default();
    verifier.read("audit.jsonl", &mut text.as_ref()).unwrap();
    verifier.finish()
}
