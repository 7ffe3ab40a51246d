//! Canonical requests: what AWS's own signer signs verifies here, whatever stands in path, query and header fields; and
//! a request changed afterwards verifies exactly where that signer gives it the same signature. In the signer's domain:
//! it reads text, and `+` as a blank.
#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use exeat_fuzz::engine::facts::{Secret, SignatureState, Timestamp};
use exeat_fuzz::engine::reason::Reason;
use exeat_fuzz::engine::request::RequestHead;
use exeat_fuzz::engine::signature::{KnownKey, KnownKeys, Reading, read};
use libfuzzer_sys::fuzz_target;

const AT: i64 = 1_767_323_045;
const HOST: &str = "service.us-east-1.amazonaws.com";

/// What varies of a request, a line each.
#[derive(Clone, Copy)]
struct Words<'t> {
    path: &'t str,
    query: &'t str,
    value: &'t str,
}

/// The same as a client sends it.
struct Sent {
    target: String,
    value: String,
}

impl Sent {
    fn of(words: Words<'_>) -> Self {
        let plain = |segment: &&str| !segment.is_empty() && *segment != "." && *segment != "..";
        let path: Vec<_> = words.path.split('/').filter(plain).map(escaped).collect();
        let pairs = words.query.split('&').filter(|piece| !piece.is_empty()).map(|piece| {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            format!("{}={}", escaped(name), escaped(value))
        });
        let query = pairs.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        // A value with inner blanks and marks.
        let value: String = words.value.chars().filter(|c| (' '..='~').contains(c)).collect();
        Self { target: format!("/{}{mark}{query}", path.join("/")), value: value.trim().to_owned() }
    }

    fn fields(&self) -> [(&str, &str); 2] {
        [("host", HOST), ("x-amz-meta-note", &self.value)]
    }

    /// The fields that AWS's signer adds, its signature among them.
    fn signed(&self, service: &'static str) -> Option<Vec<(String, String)>> {
        let identity = Credentials::new("AKIDEXAMPLE", "secret", None, None, "fuzz").into();
        let mut settings = SigningSettings::default();
        settings.excluded_headers = None;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        if service == "s3" {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name(service)
            .time(UNIX_EPOCH + Duration::from_secs(AT.unsigned_abs()))
            .settings(settings)
            .build()
            .expect("complete")
            .into();
        let uri = format!("https://{HOST}{}", self.target);
        let request =
            SignableRequest::new("GET", uri, self.fields().into_iter(), SignableBody::UnsignedPayload)
                .ok()?;
        let (instructions, _) = sign(request, &parameters).ok()?.into_parts();
        Some(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// What we say of it with the fields that a signer gave. `None`: no head that we read.
    fn judged(&self, signed: &[(String, String)]) -> Option<Result<(), Reason>> {
        let mut head = format!("GET {} HTTP/1.1\r\n", self.target);
        let signed = signed.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in self.fields().into_iter().chain(signed) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let parsed = RequestHead::parse(head.into()).ok()?;
        let claim = match read(&parsed) {
            Ok(Reading::Signed(claim)) => claim,
            Ok(_) => panic!("it is signed"),
            Err(refusal) => return Some(Err(refusal.reason)),
        };
        let known = KnownKeys::new([KnownKey::new("AKIDEXAMPLE", Secret::new(b"secret"), None)]);
        let verdict = claim.verify(None, &known, Timestamp(AT)).map_err(|refusal| refusal.reason);
        Some(verdict.map(|verdict| assert_eq!(verdict.identity.signature, SignatureState::Verified)))
    }
}

/// Every byte but the unreserved ones as an escape.
fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).into() } else { format!("%{b:02X}") }).collect()
}

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let service = if line().starts_with('s') { "s3" } else { "sts" };
    let words = Words { path: line(), query: line(), value: line() };
    // One of them is another afterwards.
    let (which, other) = (line(), line());
    let changed = match which.len() % 3 {
        0 => Words { path: other, ..words },
        1 => Words { query: other, ..words },
        _ => Words { value: other, ..words },
    };
    let (sent, changed) = (Sent::of(words), Sent::of(changed));
    let (Some(signature), Some(theirs)) = (sent.signed(service), changed.signed(service)) else { return };
    match sent.judged(&signature) {
        None | Some(Ok(())) => {}
        // Parameters that claim to be signatures themselves are refused before any is checked.
        Some(Err(Reason::SigV4TwoForms | Reason::SigV4Malformed | Reason::SigV4Version2)) => {}
        Some(Err(reason)) => panic!("{reason}: {} {:?}", sent.target, sent.value),
    }
    match changed.judged(&signature) {
        None | Some(Err(Reason::SigV4TwoForms | Reason::SigV4Malformed | Reason::SigV4Version2)) => {}
        Some(ours) => assert_eq!(
            ours,
            if theirs == signature { Ok(()) } else { Err(Reason::SigV4Signature) },
            "{} {:?}",
            changed.target,
            changed.value
        ),
    }
});
