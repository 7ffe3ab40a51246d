//! What a line of the records costs, from a judged request to write(2)'s return: `cargo bench --bench record`.
//!
//! An allowed DynamoDB call on a kept connection: its intent and its event, as a worker writes them to a file, and the
//! same to /dev/null, where the kernel takes a line for nothing. The least of many rounds, so that what else the machine
//! does is left out. The promise is 5 µs a line.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exeat::engine::atlas::Atlas;
use exeat::engine::facts::{
    AccountId, Action, Arrival, Ask, Auth, Door, Identity, Operation, PayloadOutcome, PayloadState, Protocol,
    Resource, SignatureState, Signer, TlsFacts, TlsVersion,
};
use exeat::engine::policy::Placed;
use exeat::engine::target::Authority;
use exeat::record::{
    BootId, Decision, End, LegText, Metrics, Outcome, Prelude, Recorder, Records, Request, Settings, Sink,
    Target, Upstream,
};

const ROUNDS: usize = 400;
const EACH: u32 = 200;

fn main() {
    let folder = std::env::temp_dir().join(format!("exeat-bench-record-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("audit.jsonl");
    for (name, path) in [("a file", file.clone()), ("/dev/null", PathBuf::from("/dev/null"))] {
        let least = least(path);
        println!("{name}: {:.2} µs a line, intent and event", least.as_secs_f64() * 1e6 / 2.0);
    }
    let lines = std::fs::read_to_string(&file).expect("the lines");
    let bytes = lines.len() / lines.lines().count();
    println!("{bytes} bytes a line on average");
    std::fs::remove_dir_all(&folder).expect("our own folder");
}

/// Of one call, with its two lines.
fn least(path: PathBuf) -> Duration {
    let sink = Sink::open(&Target::File { path, rotation: None }).expect("a sink");
    let boot = BootId::random().expect("randomness");
    let records = Records::new(sink, Metrics::new("bench"), Settings::default(), boot);
    let recorder = records.recorder();
    let target = Authority::parse("dynamodb.us-east-1.amazonaws.com:443", None).expect("a target");
    let peer = "10.0.0.7:50000".parse().expect("an address");
    let arrival = Arrival::new(Door::Forward, target, peer, Some(tls()), Atlas::built_in());
    let prelude = Recorder::prelude(&arrival);
    let leg = LegText::dialled_at("52.94.0.1:443".parse().expect("an address"), Some(&tls()));
    let call = Call { operation: operation(), identity: identity(), placed: placed(), arrival, leg };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut least = Duration::MAX;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for _ in 0..EACH {
                record(&recorder, &prelude, &call).await;
            }
            least = least.min(start.elapsed() / EACH);
        }
        least
    })
}

struct Call {
    operation: Operation,
    identity: Identity,
    placed: Placed,
    arrival: Arrival,
    leg: LegText,
}

async fn record(recorder: &Recorder, prelude: &Prelude, call: &Call) {
    let mut entry = recorder.open(prelude);
    entry.judged(&Request {
        decision: Decision::Allow,
        statement: Some(&call.placed),
        policy: "9f31c2a07be4",
        operation: Some(&call.operation),
        identity: &call.identity,
        user_agent: Some(b"Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.13"),
        ..Request::unjudged("POST", &call.arrival.target, b"/")
    });
    entry.intend().await.expect("it takes lines");
    let upstream = Upstream {
        leg: &call.leg,
        reused: true,
        request_id: Some(b"Q9S8PQ4ORNLE1O4DQ5ISSL7QVJVV4KQNSO5AEMVJF66Q9ASUAAJG"),
        extended_request_id: None,
        error_type: None,
        waited: Some(Duration::from_millis(3)),
    };
    let outcome = Outcome {
        payload: PayloadOutcome::Matched,
        bytes_in: 512,
        bytes_out: 2,
        upstream: Some(upstream),
        ..Outcome::new(End::Answered, 200)
    };
    entry.close(outcome).await;
}

fn tls() -> TlsFacts {
    TlsFacts {
        version: TlsVersion::Tls13,
        cipher: "TLS13_AES_128_GCM_SHA256",
        group: Some("X25519MLKEM768"),
        alpn: Some("http/1.1".into()),
        sni: Some("dynamodb.us-east-1.amazonaws.com".into()),
        chain: Arc::default(),
    }
}

fn operation() -> Operation {
    let arn = "arn:aws:dynamodb:us-east-1:111122223333:table/orders".into();
    let resource = Resource::Arn { arn, account: AccountId::parse("111122223333") };
    Operation {
        service: "dynamodb".into(),
        name: Some("PutItem".into()),
        region: "us-east-1".into(),
        protocol: Protocol::Json10,
        asks: vec![Ask { action: Action::Known("dynamodb:PutItem".into()), resource }],
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
            parents: None,
        }),
    }
}

fn placed() -> Placed {
    Placed { id: "orders-write".into(), file: "policy.yaml".into(), line: 12, column: 5 }
}
