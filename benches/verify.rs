//! What a verification costs beside the hashes that it cannot do without: `cargo bench --bench verify`.
//!
//! A DynamoDB call with 512 bytes of body, as botocore signs it, under a key whose signing key is cached: a role's,
//! with its session token, and a user's, which has none. Time, both sides in turns, the least of many rounds, so that
//! what else the machine does is left out. `verify --count SIDE KEY N` does one side N times and no more, for
//! `benches/figures`, which counts instructions.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::{digest, hmac};
use exeat::engine::facts::{Secret, SignatureState, Timestamp};
use exeat::engine::request::RequestHead;
use exeat::engine::signature::{KnownKey, KnownKeys, PathForm, Reading, SigningKey, read};

const ROUNDS: usize = 400;
const EACH: u32 = 500;
const NOW: Timestamp = Timestamp(1_767_323_045);
const KEY: &str = "AKIARZPUZDIKEXAMPLE2";

/// A signed request, the keys that know its own, and what is hashed to verify it.
struct Call {
    head: RequestHead,
    body: [u8; 512],
    keys: KnownKeys,
    canonical: Vec<u8>,
    text: Vec<u8>,
    /// As good as the real one for its cost.
    key: hmac::Key,
}

impl Call {
    fn new(token: Option<&str>) -> Self {
        let body = [b'x'; 512];
        let secret = Secret::new(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let known = KnownKey::new(KEY, secret.clone(), token.map(|token| Secret::new(token.as_bytes())));
        let unsigned = request(token, &"0".repeat(64));
        let Ok(Reading::Signed(claim)) = read(&unsigned) else { panic!("a claim") };
        let canonical =
            claim.canonical_request(PathForm::EncodedAgain, Some(&body)).expect("the body is there");
        let text = claim.string_to_sign(&canonical);
        let signature = SigningKey::derive(&secret, claim.scope()).sign(&text);
        let head = request(token, &signature.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &signature);
        Self { head, body, keys: KnownKeys::new([known]), canonical, text, key }
    }

    fn verify(&self) {
        let Ok(Reading::Signed(claim)) = read(black_box(&self.head)) else { panic!("a claim") };
        let verdict = claim.verify(Some(black_box(&self.body)), &self.keys, NOW).expect("it holds");
        assert_eq!(verdict.identity.signature, SignatureState::Verified);
    }

    fn hashes(&self) {
        black_box(digest::digest(&digest::SHA256, black_box(&self.body)));
        black_box(digest::digest(&digest::SHA256, black_box(&self.canonical)));
        black_box(hmac::sign(&self.key, black_box(&self.text)));
    }
}

fn request(token: Option<&str>, signature: &str) -> RequestHead {
    let (line, name) = match token {
        Some(token) => (format!("X-Amz-Security-Token: {token}\r\n"), "x-amz-security-token;"),
        None => Default::default(),
    };
    let text = format!(
        "POST / HTTP/1.1\r\nHost: dynamodb.us-east-1.amazonaws.com\r\nAccept-Encoding: identity\r\n\
         X-Amz-Target: DynamoDB_20120810.PutItem\r\nContent-Type: application/x-amz-json-1.0\r\n\
         User-Agent: Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.13 md/pyimpl#CPython\r\n\
         X-Amz-Date: 20260102T030405Z\r\n{line}Authorization: AWS4-HMAC-SHA256 \
         Credential={KEY}/20260102/us-east-1/dynamodb/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;{name}x-amz-target, Signature={signature}\r\n\
         amz-sdk-invocation-id: 6f1b9d5e-2f0b-4c55-9d6e-0f3c2a9b1d11\r\namz-sdk-request: attempt=1\r\n\
         Content-Length: 512\r\n\r\n"
    );
    RequestHead::parse(text.into()).expect("a head")
}

fn main() {
    // STS says that tokens may grow; today's have 600 to 1,200 characters.
    let role = Call::new(Some(&"IQoJb3JpZ2luX2VjE".repeat(50)));
    let user = Call::new(None);
    let given: Vec<String> = std::env::args().collect();
    if let [_, count, side, key, times] = given.as_slice()
        && count == "--count"
    {
        let call = if key == "role" { &role } else { &user };
        let one = if side == "hashes" { Call::hashes } else { Call::verify };
        return (0..times.parse().expect("a number")).for_each(|_: u32| one(call));
    }
    for (name, call) in [("a role's key", &role), ("a user's key", &user)] {
        call.verify();
        let (mut bare, mut whole) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            bare = bare.min(round(|| call.hashes()));
            whole = whole.min(round(|| call.verify()));
        }
        let ratio = whole.as_secs_f64() / bare.as_secs_f64();
        println!("{name}: hashes {bare:?}, verify {whole:?} a request: {ratio:.2} of the bare hashes");
        println!("  (canonical request {} bytes, string to sign {})", call.canonical.len(), call.text.len());
    }
}

fn round(one: impl Fn()) -> Duration {
    let began = Instant::now();
    for _ in 0..EACH {
        one();
    }
    began.elapsed() / EACH
}
