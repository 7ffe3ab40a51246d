//! Trailing checksums of S3: which there are, and one in the making.

use aws_lc_rs::digest;

use crate::engine::facts::words;

words! {
    /// `x-amz-checksum-NAME`, as SDKs send it after a body.
    pub enum Checksum {
        Crc32 = "crc32",
        Crc32c = "crc32c",
        Crc64Nvme = "crc64nvme",
        Sha1 = "sha1",
        Sha256 = "sha256",
    }
}

impl Checksum {
    /// Of a trailer's name, in any case.
    pub fn of_trailer(name: &[u8]) -> Option<Self> {
        let lower = name.trim_ascii().to_ascii_lowercase();
        std::str::from_utf8(lower.strip_prefix(b"x-amz-checksum-")?).ok()?.parse().ok()
    }
}

/// A checksum in the making.
pub enum Running {
    Crc32(crc_fast::Digest),
    Crc64(crc_fast::Digest),
    Sha(digest::Context),
}

impl Running {
    pub fn new(algorithm: Checksum) -> Self {
        use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc32IsoHdlc, Crc64Nvme};
        match algorithm {
            Checksum::Crc32 => Self::Crc32(crc_fast::Digest::new(Crc32IsoHdlc)),
            Checksum::Crc32c => Self::Crc32(crc_fast::Digest::new(Crc32Iscsi)),
            Checksum::Crc64Nvme => Self::Crc64(crc_fast::Digest::new(Crc64Nvme)),
            Checksum::Sha1 => Self::Sha(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            Checksum::Sha256 => Self::Sha(digest::Context::new(&digest::SHA256)),
        }
    }

    pub fn update(&mut self, data: &[u8]) {
        match self {
            Self::Crc32(crc) | Self::Crc64(crc) => crc.update(data),
            Self::Sha(context) => context.update(data),
        }
    }

    /// Big-endian bytes, as the trailer's base64 holds them.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc32(crc) => (crc.finalize() as u32).to_be_bytes().to_vec(),
            Self::Crc64(crc) => crc.finalize().to_be_bytes().to_vec(),
            Self::Sha(context) => context.finish().as_ref().to_vec(),
        }
    }
}
