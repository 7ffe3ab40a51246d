//! aws-chunked bodies: a body is judged the same however it is split, nothing is called back, and a failure stays one.
#![no_main]

use exeat_fuzz::engine::facts::Timestamp;
use exeat_fuzz::engine::request::RequestHead;
use exeat_fuzz::engine::signature::{KnownKeys, PayloadClaim, Reading, read};
use exeat_fuzz::law;
use libfuzzer_sys::fuzz_target;

/// What such a body must prove, under a key that nobody knows: its form, and its checksum.
fn claim(word: &str, trailer: Option<&str>, length: usize) -> Option<PayloadClaim> {
    let trailer = trailer.map_or(String::new(), |name| format!("x-amz-trailer: {name}\r\n"));
    let names = if trailer.is_empty() { "" } else { ";x-amz-trailer" };
    let head = format!(
        "PUT /b/k HTTP/1.1\r\nHost: s3.us-east-1.amazonaws.com\r\nTransfer-Encoding: chunked\r\n{trailer}\
         x-amz-content-sha256: {word}\r\nx-amz-date: 20260102T030405Z\r\nx-amz-decoded-content-length: {length}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=AKID/20260102/us-east-1/s3/aws4_request, SignedHeaders=\
         host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length{names}, Signature={}\r\n\r\n",
        "0".repeat(64)
    );
    let head = RequestHead::parse(head.into()).expect("a head");
    let Ok(Reading::Signed(claim)) = read(&head) else { return None };
    Some(claim.verify(None, &KnownKeys::default(), Timestamp(1_767_323_045)).expect("nothing to check").due)
}

fuzz_target!(|data: &[u8]| {
    let [form, length, size, body @ ..] = data else { return };
    let (word, trailer) = match form % 4 {
        0 => ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", None),
        1 => ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", Some("x-amz-checksum-crc32")),
        2 => ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", Some("x-amz-checksum-sha256")),
        _ => ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", Some("x-amz-checksum-crc64nvme")),
    };
    let Some(due) = claim(word, trailer, usize::from(*length)) else { return };
    let whole = law::feed(due.start(), body, body.len());
    let split = law::feed(due.start(), body, usize::from(*size));
    assert_eq!(whole.1, split.1);
    if whole.1.is_some() {
        assert_eq!(whole, split);
    }
});
