//! What a verification costs beside the hashes that it cannot do without: `cargo bench --bench verify`.
//!
//! A DynamoDB call with 512 bytes of body, as botocore signs it, under a key whose signing key is cached. Time, since
//! valgrind hides the processor's SHA instructions; both sides in turns, the least of many rounds, so that what else
//! the machine does is left out.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::{digest, hmac};
use exeat::engine::facts::{Secret, SignatureState, Timestamp};
use exeat::engine::request::RequestHead;
use exeat::engine::signature::{KnownKey, KnownKeys, PathForm, Reading, SigningKey, read};

const ROUNDS: usize = 400;
const EACH: u32 = 500;
const NOW: Timestamp = Timestamp(1_767_323_045);

fn main() {
    let body = [b'x'; 512];
    let secret = Secret::new(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    let keys = KnownKeys::new([KnownKey::new("AKIARZPUZDIKEXAMPLE2", secret.clone(), None)]);
    let head = |signature: &str| {
        let text = format!(
            "POST / HTTP/1.1\r\nHost: dynamodb.us-east-1.amazonaws.com\r\nAccept-Encoding: identity\r\n\
             X-Amz-Target: DynamoDB_20120810.PutItem\r\nContent-Type: application/x-amz-json-1.0\r\n\
             User-Agent: Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.13 md/pyimpl#CPython\r\n\
             X-Amz-Date: 20260102T030405Z\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential=AKIARZPUZDIKEXAMPLE2/20260102/us-east-1/dynamodb/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={signature}\r\n\
             amz-sdk-invocation-id: 6f1b9d5e-2f0b-4c55-9d6e-0f3c2a9b1d11\r\namz-sdk-request: attempt=1\r\n\
             Content-Length: 512\r\n\r\n"
        );
        RequestHead::parse(text.into()).expect("a head")
    };
    let unsigned = head(&"0".repeat(64));
    let Ok(Reading::Signed(claim)) = read(&unsigned) else { panic!("a claim") };
    let canonical = claim.canonical_request(PathForm::EncodedAgain, Some(&body)).expect("the body is there");
    let text = claim.string_to_sign(&canonical);
    let signature = SigningKey::derive(&secret, claim.scope()).sign(&text);
    let signed = head(&signature.iter().map(|byte| format!("{byte:02x}")).collect::<String>());

    let verify = || {
        let Ok(Reading::Signed(claim)) = read(black_box(&signed)) else { panic!("a claim") };
        let verdict = claim.verify(Some(black_box(&body)), &keys, NOW).expect("it holds");
        assert_eq!(verdict.identity.signature, SignatureState::Verified);
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &signature);
    let hashes = || {
        black_box(digest::digest(&digest::SHA256, black_box(&body)));
        black_box(digest::digest(&digest::SHA256, black_box(&canonical)));
        black_box(hmac::sign(&key, black_box(&text)));
    };
    verify();
    let (mut bare, mut whole) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        bare = bare.min(round(hashes));
        whole = whole.min(round(verify));
    }
    let ratio = whole.as_secs_f64() / bare.as_secs_f64();
    println!("hashes {bare:?}, verify {whole:?} a request: {ratio:.2} of the bare hashes");
    println!("(canonical request {} bytes, string to sign {})", canonical.len(), text.len());
}

fn round(one: impl Fn()) -> Duration {
    let began = Instant::now();
    for _ in 0..EACH {
        one();
    }
    began.elapsed() / EACH
}
