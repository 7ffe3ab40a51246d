//! Two access keys made for one run, and requests signed with them by AWS's own signer, as an SDK would.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use base64::Engine;
use zeroize::Zeroizing;

use super::Error;
use crate::engine::facts::Secret;
use crate::engine::signature::{KnownKey, KnownKeys};

/// The account is part of a key id: 111122223333 and 999988887777.
const OURS: &str = "AKIARTX3GSDSQEXAMPLE";
const FOREIGN: &str = "AKIA6RU73QDQQEXAMPLE";
/// As long as AWS makes them: 40 characters.
const SECRET_BYTES: usize = 30;
/// How long presigned requests live.
const PRESIGNED_FOR: Duration = Duration::from_secs(300);

/// An access key that AWS issued.
pub struct AccessKey {
    id: &'static str,
    secret: Zeroizing<String>,
}

pub struct Keys {
    /// The workload's: exeat is given it.
    pub ours: AccessKey,
    /// Somebody else's: AWS takes it, exeat has never seen it.
    pub foreign: AccessKey,
}

/// How a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signing {
    pub service: &'static str,
    /// In the query, as a link that anybody may follow; else in its headers.
    pub presigned: bool,
}

impl Keys {
    pub fn random() -> Result<Self, Error> {
        Ok(Self { ours: AccessKey::random(OURS)?, foreign: AccessKey::random(FOREIGN)? })
    }

    /// AWS knows every key.
    pub fn known_to_aws(&self) -> KnownKeys {
        KnownKeys::new([&self.ours, &self.foreign].map(AccessKey::known))
    }
}

impl AccessKey {
    fn random(id: &'static str) -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        super::random(&mut bytes[..])?;
        Ok(Self { id, secret: Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(&bytes[..])) })
    }

    fn known(&self) -> KnownKey {
        KnownKey::new(self.id, Secret::new(self.secret.as_bytes()), None)
    }

    /// AWS shared-credentials format.
    pub fn profile(&self, name: &str) -> Zeroizing<String> {
        let (id, secret) = (self.id, &*self.secret);
        Zeroizing::new(format!("[{name}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"))
    }

    /// Adds the signature to a request.
    pub fn sign(&self, request: &mut http::Request<Vec<u8>>, signing: Signing) -> Result<(), Error> {
        let identity = Credentials::new(self.id, &*self.secret, None, None, "demo").into();
        let s3 = signing.service == "s3";
        let mut settings = SigningSettings::default();
        if s3 {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        if signing.presigned {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(PRESIGNED_FOR);
        }
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(super::REGION)
            .name(signing.service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(Error::signing)?
            .into();
        let body = match (s3, signing.presigned) {
            (true, true) => SignableBody::UnsignedPayload,
            _ => SignableBody::Bytes(request.body()),
        };
        let headers = request.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable =
            SignableRequest::new(request.method().as_str(), request.uri().to_string(), headers, body)
                .map_err(Error::signing)?;
        let (instructions, _) = sign(signable, &params).map_err(Error::signing)?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}
