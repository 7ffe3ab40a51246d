//! The requests to send: one GET as an SDK would write it, signed in us-east-1 at 64 different instants. The service is
//! the host's first label.
//!
//! Signed by the `aws-sigv4` crate before the run, so that what is counted is the proxy alone. Different instants
//! give different signatures: a proxy that remembered a request it had seen would not look cheap.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;

const VARIANTS: u64 = 64;

pub enum Request {
    /// A head, ready to be written.
    Http1(Vec<u8>),
    Http2(http::Request<()>),
}

/// `path` is already normal and has no query.
pub fn signed(
    host: &str,
    path: &str,
    key_id: &str,
    secret: &str,
    http2: bool,
) -> crate::Outcome<Vec<Request>> {
    let identity: Identity = Credentials::new(key_id, secret, None, None, "load").into();
    let now = SystemTime::now();
    (0..VARIANTS).map(|ago| one(host, path, &identity, now - Duration::from_secs(ago), http2)).collect()
}

fn one(host: &str, path: &str, identity: &Identity, at: SystemTime, http2: bool) -> crate::Outcome<Request> {
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let params = v4::SigningParams::builder()
        .identity(identity)
        .region("us-east-1")
        .name(host.split('.').next().unwrap_or_default())
        .time(at)
        .settings(settings)
        .build()?
        .into();
    let target = SignableRequest::new(
        "GET",
        format!("https://{host}{path}"),
        std::iter::empty(),
        SignableBody::Bytes(b""),
    )?;
    let (instructions, _) = sign(target, &params)?.into_parts();

    if http2 {
        let mut request = http::Request::get(format!("https://{host}{path}"))
            .header("user-agent", "load")
            .header("accept", "*/*");
        for (name, value) in instructions.headers() {
            request = request.header(name, value);
        }
        return Ok(Request::Http2(request.body(())?));
    }
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: load\r\nAccept: */*\r\n");
    for (name, value) in instructions.headers() {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    Ok(Request::Http1(head.into_bytes()))
}
