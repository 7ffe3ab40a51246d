//! What a signature says of the body: the payload line of the canonical request, and what that leaves to be proven.

use super::chain::Chain;
use super::check::{OTHER_DIGEST, PayloadClaim, mismatch};
use super::checksum::Checksum;
use super::chunked::{Shape, Signed};
use super::claim::Algorithm;
use super::events::EventStream;
use super::{Refusal, canonical};
use crate::engine::facts::{PayloadOutcome, PayloadState, Timestamp};
use crate::engine::hex;
use crate::engine::reason::Reason;

/// The payload line of a canonical request (`x-amz-content-sha256`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Stated as 64 hex digits.
    Digest { value: [u8; 32], text: &'a [u8] },
    /// The digest of the body, stated nowhere.
    Body,
    /// `UNSIGNED-PAYLOAD`.
    Unsigned,
    /// `STREAMING-…-PAYLOAD` and `…-TRAILER`: aws-chunked.
    Chunks { form: &'static ChunkForm, trailer: Option<Checksum>, decoded_length: u64 },
    /// `STREAMING-AWS4-HMAC-SHA256-EVENTS`.
    Events,
}

/// A form of aws-chunked.
#[derive(Debug, PartialEq, Eq)]
pub struct ChunkForm {
    word: &'static str,
    /// Of the request's own signature; `None`: any.
    algorithm: Option<Algorithm>,
    has_trailer: bool,
}

const CHUNK_FORMS: [ChunkForm; 5] = [
    ChunkForm { word: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", algorithm: None, has_trailer: true },
    ChunkForm {
        word: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        algorithm: Some(Algorithm::Hmac),
        has_trailer: false,
    },
    ChunkForm {
        word: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        algorithm: Some(Algorithm::Hmac),
        has_trailer: true,
    },
    ChunkForm {
        word: "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        algorithm: Some(Algorithm::Ecdsa),
        has_trailer: false,
    },
    ChunkForm {
        word: "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
        algorithm: Some(Algorithm::Ecdsa),
        has_trailer: true,
    },
];

impl ChunkForm {
    /// Each chunk, and the trailer, carries a signature.
    fn is_signed(&self) -> bool {
        self.algorithm.is_some()
    }
}

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const EVENTS: &str = "STREAMING-AWS4-HMAC-SHA256-EVENTS";

/// What the request says of its body, field by field.
#[derive(Debug, Default)]
pub struct Told<'a> {
    /// `x-amz-content-sha256`.
    pub content_sha256: Option<&'a [u8]>,
    /// `x-amz-trailer`.
    pub trailer: Option<&'a [u8]>,
    /// `x-amz-decoded-content-length`.
    pub decoded_length: Option<&'a [u8]>,
    /// The framing leaves no room for a body.
    pub is_empty: bool,
}

impl<'a> Payload<'a> {
    pub fn read(told: &Told<'a>, algorithm: Algorithm, s3: bool, presigned: bool) -> Result<Self, Refusal> {
        let Some(value) = told.content_sha256 else {
            return match (s3, presigned) {
                (true, true) => Ok(Self::Unsigned),
                (true, false) => {
                    Err(Refusal::new(Reason::SigV4Malformed, "S3 needs an `x-amz-content-sha256` header"))
                }
                (false, _) => Ok(Self::Body),
            };
        };
        if let Some(digest) = hex::parse(value) {
            return Ok(Self::Digest { value: digest, text: value });
        }
        let word = std::str::from_utf8(value).unwrap_or_default();
        if word == UNSIGNED {
            return Ok(Self::Unsigned);
        }
        if let Some(form) = CHUNK_FORMS.iter().find(|form| form.word == word).filter(|_| s3) {
            if form.algorithm.is_some_and(|chunks| chunks != algorithm) {
                let said = "chunks are signed with another algorithm than the request";
                return Err(Refusal::new(Reason::SigV4Malformed, said));
            }
            return Self::chunks(form, told);
        }
        if word == EVENTS && algorithm == Algorithm::Hmac && !s3 {
            return if told.is_empty {
                Err(Refusal::new(
                    Reason::SigV4Malformed,
                    "an event stream was announced but there is no body",
                ))
            } else {
                Ok(Self::Events)
            };
        }
        Err(if word.starts_with("STREAMING-") {
            Refusal::new(Reason::SigV4Unsupported, "this service is not known to read such a body")
        } else {
            Refusal::new(Reason::SigV4Malformed, "`x-amz-content-sha256` has an unknown value")
        })
    }

    fn chunks(form: &'static ChunkForm, told: &Told<'_>) -> Result<Self, Refusal> {
        let refuse = |said: &str| Err(Refusal::new(Reason::SigV4Malformed, said));
        let trailer = match (form.has_trailer, told.trailer) {
            (true, Some(name)) => match Checksum::of_trailer(name) {
                None => return refuse("`x-amz-trailer` doesn't announce one checksum that we know"),
                known => known,
            },
            (true, None) => return refuse("`x-amz-trailer` is missing"),
            (false, Some(_)) => return refuse("`x-amz-trailer` with a payload that has no trailer"),
            (false, None) => None,
        };
        let digits = told.decoded_length.unwrap_or_default();
        let plain = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        if !plain {
            return refuse("`x-amz-decoded-content-length` is missing or no number");
        }
        if told.is_empty {
            return refuse("a chunked payload was announced but there is no body");
        }
        let decoded_length = digits.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
        Ok(Self::Chunks { form, trailer, decoded_length })
    }

    pub fn state(&self) -> PayloadState {
        match self {
            Self::Digest { .. } | Self::Body | Self::Events => PayloadState::Signed,
            Self::Chunks { form, .. } if form.is_signed() => PayloadState::Signed,
            Self::Chunks { .. } => PayloadState::Checksum,
            Self::Unsigned => PayloadState::Unsigned,
        }
    }

    /// The canonical request's last line; `None` where the body is needed for it and isn't there.
    pub fn line(&self, body: Option<&[u8]>) -> Option<Line<'a>> {
        Some(match self {
            Self::Digest { text, .. } => Line::Stated(text),
            Self::Unsigned => Line::Stated(UNSIGNED.as_bytes()),
            Self::Chunks { form, .. } => Line::Stated(form.word.as_bytes()),
            Self::Events => Line::Stated(EVENTS.as_bytes()),
            Self::Body => Line::Computed(hex::write(&canonical::sha256(body?))),
        })
    }

    /// What the body must still prove once the signature holds. A body already here is checked at once. `chain`
    /// begins the signatures of chunks; there is none under a key that we don't know.
    pub fn due(
        &self,
        body: Option<&[u8]>,
        signed_at: Timestamp,
        chain: Option<Chain>,
    ) -> Result<PayloadClaim, Refusal> {
        let claim = match *self {
            Self::Body if body.is_some() => return Ok(PayloadClaim::Met),
            // `Body` comes here only under a key we don't know: nobody can tell what digest was signed.
            Self::Unsigned | Self::Body => return Ok(PayloadClaim::Nothing),
            Self::Digest { value, .. } => match body {
                Some(body) if canonical::sha256(body) == value => return Ok(PayloadClaim::Met),
                Some(_) => return Err(mismatch(OTHER_DIGEST)),
                None => PayloadClaim::Sha256(value),
            },
            Self::Chunks { form, trailer, decoded_length } => {
                let signed = match chain {
                    _ if !form.is_signed() => Signed::No,
                    None => Signed::Unknown,
                    Some(chain) => Signed::By(chain),
                };
                PayloadClaim::Chunks(Box::new(Shape { decoded_length, trailer, signed }))
            }
            Self::Events => PayloadClaim::Events(Box::new(EventStream { signed_at, chain })),
        };
        let Some(body) = body else { return Ok(claim) };
        let mut check = claim.start();
        check.update(body)?;
        Ok(match check.finish()? {
            PayloadOutcome::Matched => PayloadClaim::Met,
            PayloadOutcome::Unchecked | PayloadOutcome::Mismatched => PayloadClaim::Nothing,
        })
    }

    /// Chunks or events follow that are signed one by one.
    pub fn is_chained(&self) -> bool {
        match self {
            Self::Chunks { form, .. } => form.is_signed(),
            Self::Events => true,
            Self::Digest { .. } | Self::Body | Self::Unsigned => false,
        }
    }
}

/// A payload line.
#[derive(Debug, Clone, Copy)]
pub enum Line<'a> {
    Stated(&'a [u8]),
    Computed([u8; 64]),
}

impl Line<'_> {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Stated(text) => text,
            Self::Computed(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HMAC: Algorithm = Algorithm::Hmac;
    const TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

    fn told(value: &str) -> Told<'_> {
        Told {
            content_sha256: Some(value.as_bytes()),
            trailer: Some(b"x-amz-checksum-crc32"),
            decoded_length: Some(b"12"),
            is_empty: false,
        }
    }

    #[test]
    fn reads_every_form_and_refuses_what_it_does_not_know() {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(matches!(Payload::read(&told(digest), HMAC, false, false), Ok(Payload::Digest { .. })));
        assert_eq!(Payload::read(&told(UNSIGNED), HMAC, false, false).unwrap(), Payload::Unsigned);
        for form in &CHUNK_FORMS {
            let trailer = form.has_trailer.then_some(Checksum::Crc32);
            let algorithm = form.algorithm.unwrap_or(Algorithm::Ecdsa);
            let announced = Told { trailer: trailer.and(Some(b"x-amz-checksum-crc32")), ..told(form.word) };
            let want = Payload::Chunks { form, trailer, decoded_length: 12 };
            assert_eq!(Payload::read(&announced, algorithm, true, false).unwrap(), want, "{form:?}");
            let is_signed = form.word.starts_with("STREAMING-AWS4-");
            let state = if is_signed { PayloadState::Signed } else { PayloadState::Checksum };
            assert_eq!((want.state(), want.is_chained()), (state, is_signed), "{form:?}");
            let other =
                Told { trailer: trailer.xor(Some(Checksum::Crc32)).and(told("").trailer), ..announced };
            assert_eq!(
                Payload::read(&other, algorithm, true, false).unwrap_err().reason,
                Reason::SigV4Malformed
            );
            let elsewhere = Payload::read(&announced, algorithm, false, false);
            assert_eq!(elsewhere.unwrap_err().reason, Reason::SigV4Unsupported);
        }
        assert_eq!(Payload::read(&told(EVENTS), HMAC, false, false).unwrap(), Payload::Events);
        for (payload, state) in [
            (Payload::Events, PayloadState::Signed),
            (Payload::Body, PayloadState::Signed),
            (Payload::Unsigned, PayloadState::Unsigned),
            (Payload::read(&told(digest), HMAC, true, false).unwrap(), PayloadState::Signed),
        ] {
            assert_eq!(payload.state(), state);
        }
        assert!(Payload::read(&told(EVENTS), Algorithm::Ecdsa, false, false).is_err());
        let empty = Told { is_empty: true, ..told(EVENTS) };
        assert_eq!(Payload::read(&empty, HMAC, false, false).unwrap_err().reason, Reason::SigV4Malformed);
        for (value, s3, reason) in [
            ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", true, Reason::SigV4Malformed),
            ("STREAMING-AWS4-HMAC-SHA512-PAYLOAD", true, Reason::SigV4Unsupported),
            (EVENTS, true, Reason::SigV4Unsupported),
            ("STREAMING-AWS4-ECDSA-P256-SHA256-EVENTS", false, Reason::SigV4Unsupported),
            (&digest.to_ascii_uppercase(), true, Reason::SigV4Malformed),
            ("unsigned-payload", true, Reason::SigV4Malformed),
            ("", true, Reason::SigV4Malformed),
        ] {
            assert_eq!(Payload::read(&told(value), HMAC, s3, false).unwrap_err().reason, reason, "{value}");
        }
    }

    #[test]
    fn a_missing_digest_means_the_body_except_for_s3() {
        let none = Told::default();
        assert_eq!(Payload::read(&none, HMAC, false, false).unwrap(), Payload::Body);
        assert_eq!(Payload::read(&none, HMAC, false, true).unwrap(), Payload::Body);
        assert_eq!(Payload::read(&none, HMAC, true, true).unwrap(), Payload::Unsigned);
        assert!(Payload::read(&none, HMAC, true, false).is_err());
    }

    #[test]
    fn a_trailer_must_be_one_announced_checksum_with_a_length_and_a_body() {
        for broken in [
            Told { trailer: None, ..told(TRAILER) },
            Told { trailer: Some(b"x-amz-meta-a"), ..told(TRAILER) },
            Told { trailer: Some(b"x-amz-checksum-crc32,x-amz-checksum-sha1"), ..told(TRAILER) },
            Told { decoded_length: None, ..told(TRAILER) },
            Told { decoded_length: Some(b"-1"), ..told(TRAILER) },
            Told { decoded_length: Some(b"1234567890123456789"), ..told(TRAILER) },
            Told { is_empty: true, ..told(TRAILER) },
        ] {
            assert!(Payload::read(&broken, HMAC, true, false).is_err(), "{broken:?}");
        }
    }
}
