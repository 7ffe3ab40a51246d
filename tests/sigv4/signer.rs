//! Signs a message with the `aws-sigv4` crate: AWS's own signer, which shares no code with the verifier.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use exeat::engine::facts::Timestamp;

use super::message::Message;

#[derive(Debug, Clone)]
pub struct Signer {
    pub id: &'static str,
    pub secret: &'static str,
    pub token: Option<&'static str>,
    pub region: &'static str,
    pub service: &'static str,
    pub at: Timestamp,
    /// The query form, good for so many seconds.
    pub presign: Option<u64>,
    /// Stands where the body's digest would.
    pub payload: Option<&'static str>,
}

impl Default for Signer {
    fn default() -> Self {
        Self {
            id: "AKIDEXAMPLE",
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            token: None,
            region: "us-east-1",
            service: "sts",
            at: Timestamp(1_767_323_045),
            presign: None,
            payload: None,
        }
    }
}

impl Signer {
    pub fn s3() -> Self {
        Self { service: "s3", ..Self::default() }
    }

    /// Signs every field that the message has, and adds its own.
    pub fn sign(&self, mut message: Message) -> Message {
        let s3 = matches!(self.service, "s3" | "s3express" | "s3-outposts" | "s3-object-lambda");
        let token = self.token.map(str::to_owned);
        let identity = Credentials::new(self.id, self.secret, token, None, "test").into();
        let mut settings = SigningSettings::default();
        settings.excluded_headers = None;
        if s3 {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        if (s3 || self.payload.is_some()) && self.presign.is_none() {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        if let Some(seconds) = self.presign {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(Duration::from_secs(seconds));
        }
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(UNIX_EPOCH + Duration::from_secs(self.at.0.unsigned_abs()))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let body = match self.payload {
            Some(word) => SignableBody::Precomputed(word.into()),
            None if s3 && self.presign.is_some() => SignableBody::UnsignedPayload,
            None => SignableBody::Bytes(&message.body),
        };
        let host = message.value("host").unwrap();
        let uri = format!("https://{host}{}", std::str::from_utf8(&message.target).unwrap());
        let fields = message.fields.iter().map(|(n, v)| (&**n, std::str::from_utf8(v).unwrap()));
        let request = SignableRequest::new(&message.method, uri, fields, body).unwrap();
        let (instructions, _) = sign(request, &parameters).unwrap().into_parts();
        let added: Vec<_> = instructions.headers().map(|(n, v)| (n.to_owned(), v.into())).collect();
        for (name, value) in instructions.params() {
            message.target.push(if message.target.contains(&b'?') { b'&' } else { b'?' });
            message.target.extend(name.bytes().chain([b'=']));
            message.target.extend(escaped(value.as_bytes()).bytes());
        }
        message.fields.extend(added);
        message
    }
}

/// Every byte but the unreserved ones as an escape.
pub fn escaped(bytes: &[u8]) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    bytes.iter().map(|&b| if plain(b) { char::from(b).into() } else { format!("%{b:02X}") }).collect()
}
