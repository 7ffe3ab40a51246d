//! Event streams: judged the same however they are split, nothing is called back, and a failure stays one.
#![no_main]

use exeat_fuzz::engine::facts::Timestamp;
use exeat_fuzz::engine::request::RequestHead;
use exeat_fuzz::engine::signature::{KnownKeys, Reading, read};
use exeat_fuzz::law;
use libfuzzer_sys::fuzz_target;

const HEAD: &str = "POST /stream HTTP/1.1\r\nHost: transcribestreaming.us-east-1.amazonaws.com\r\n\
    Transfer-Encoding: chunked\r\nx-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-EVENTS\r\nx-amz-date: 20260102T030405Z\r\n\
    Authorization: AWS4-HMAC-SHA256 Credential=AKID/20260102/us-east-1/transcribe/aws4_request, \
    SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
    Signature=0000000000000000000000000000000000000000000000000000000000000000\r\n\r\n";

fuzz_target!(|data: &[u8]| {
    let [size, body @ ..] = data else { return };
    let head = RequestHead::parse(HEAD.into()).expect("a head");
    let Ok(Reading::Signed(claim)) = read(&head) else { panic!("a claim") };
    let verdict =
        claim.verify(None, &KnownKeys::default(), Timestamp(1_767_323_045)).expect("nothing to check");
    let (_, whole) = law::feed(verdict.due.start(), body, body.len());
    assert_eq!(whole, law::feed(verdict.due.start(), body, usize::from(*size)).1);
});
