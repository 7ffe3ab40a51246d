//! Requests signed by AWS's own signer.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;

pub const KEY_ID: &str = "AKIARZPUZDIKEXAMPLE2";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// A credentials file that knows the key.
pub const CREDENTIALS: &str = "[default]\naws_access_key_id = AKIARZPUZDIKEXAMPLE2\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n";

/// Whose key signs, and when: now, unless it says so.
pub struct As<'a> {
    pub id: &'a str,
    pub secret: &'a str,
    pub token: Option<&'a str>,
    pub at: Option<SystemTime>,
}

pub const OURS: As<'static> = As { id: KEY_ID, secret: SECRET, token: None, at: None };

/// What of the body is signed.
pub enum Body<'a> {
    Bytes(&'a [u8]),
    Unsigned,
    /// The word that stands for it.
    Word(&'a str),
}

/// Head of a signed S3 request, blank line included; `fields` are signed too.
pub fn s3_head(
    method: &str,
    host: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &Body<'_>,
    length: Option<usize>,
) -> String {
    s3_head_as(&OURS, method, host, path, fields, body, length)
}

/// A whole call of STS, by its form.
pub fn sts_call(signer: &As<'_>, form: &str) -> String {
    let fields = [("content-type", "application/x-www-form-urlencoded")];
    let host = "sts.us-east-1.amazonaws.com";
    head_for("sts", signer, "POST", host, "/", &fields, &Body::Bytes(form.as_bytes()), Some(form.len()))
        + form
}

/// Head of a GET to S3 Express, where a token is the session's.
pub fn express_head(signer: &As<'_>, host: &str, path: &str, fields: &[(&str, &str)]) -> String {
    head_for("s3express", signer, "GET", host, path, fields, &Body::Bytes(b""), None)
}

pub fn s3_head_as(
    signer: &As<'_>,
    method: &str,
    host: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &Body<'_>,
    length: Option<usize>,
) -> String {
    head_for("s3", signer, method, host, path, fields, body, length)
}

#[allow(clippy::too_many_arguments)] // the parts of a request
fn head_for(
    service: &str,
    signer: &As<'_>,
    method: &str,
    host: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &Body<'_>,
    length: Option<usize>,
) -> String {
    let (mut head, fields) = signed((signer, service), method, host, path, fields, body);
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str("\r\n");
    head
}

/// Request line, and the fields of a signed request by that key to that service, `host` the first.
pub fn signed(
    (signer, service): (&As<'_>, &str),
    method: &str,
    host: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &Body<'_>,
) -> (String, Vec<(String, String)>) {
    let token = signer.token.map(str::to_owned);
    let identity = Credentials::new(signer.id, signer.secret, token, None, "test").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    if service == "s3express" {
        settings.session_token_name_override = Some("x-amz-s3session-token");
    }
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name(service)
        .time(signer.at.unwrap_or_else(SystemTime::now))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let body = match body {
        Body::Bytes(bytes) => SignableBody::Bytes(bytes),
        Body::Unsigned => SignableBody::UnsignedPayload,
        Body::Word(word) => SignableBody::Precomputed((*word).into()),
    };
    let mut headers = vec![("host", host)];
    headers.extend_from_slice(fields);
    let uri = format!("https://{host}{path}");
    let request = SignableRequest::new(method, uri, headers.iter().copied(), body).unwrap();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    let all = headers.into_iter().chain(instructions.headers());
    let all = all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (format!("{method} {path} HTTP/1.1\r\n"), all)
}
