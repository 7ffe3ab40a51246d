//! Signs bodies chunk by chunk with the `aws-sigv4` crate.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{SigningParams, sign_chunk, sign_trailer};
use bytes::Bytes;

/// Whose chunks, and when.
#[derive(Debug, Clone, Copy)]
pub struct ChunkSigner<'a> {
    pub id: &'a str,
    pub secret: &'a str,
    pub region: &'a str,
    pub at: SystemTime,
}

impl ChunkSigner<'_> {
    /// The body as it goes on the wire, a piece for each chunk and one for the end. `seed`: the head's signature.
    /// `trailer`: a name and a value.
    pub fn sign(&self, seed: &str, data: &[&[u8]], trailer: Option<(&'static str, &str)>) -> Vec<Vec<u8>> {
        let identity = Credentials::new(self.id, self.secret, None, None, "test").into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name("s3")
            .time(self.at)
            .settings(())
            .build()
            .unwrap();
        let mut running = seed.to_owned();
        let mut wire = Vec::new();
        for &chunk in data.iter().chain([&&b""[..]]) {
            running =
                sign_chunk(&Bytes::copy_from_slice(chunk), &running, &parameters).unwrap().into_parts().1;
            let mut piece = format!("{:x};chunk-signature={running}\r\n", chunk.len()).into_bytes();
            piece.extend_from_slice(chunk);
            if !chunk.is_empty() {
                piece.extend_from_slice(b"\r\n");
            }
            wire.push(piece);
        }
        let end = wire.last_mut().unwrap();
        if let Some((name, value)) = trailer {
            let mut headers = aws_smithy_runtime_api::http::Headers::new();
            headers.insert(name, value.to_owned());
            let signature = sign_trailer(&headers, &running, &parameters).unwrap().into_parts().1;
            end.extend_from_slice(
                format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n").as_bytes(),
            );
        }
        end.extend_from_slice(b"\r\n");
        wire
    }
}

/// The signature in a head's `authorization`.
pub fn seed_of(authorization: &str) -> &str {
    authorization.rsplit_once("Signature=").unwrap().1
}
