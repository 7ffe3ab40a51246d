//! Why a signature is bad: tries the requests that the client may have signed before a hop rewrote one thing.
//!
//! Pure, and off the path of anything that is allowed: a hundred hashes or so, for the operator alone. A variant that
//! verifies names what was changed; it is never forwarded.

mod variants;

use super::canonical::Parts;
use super::{Algorithm, Claim, KnownKeys, PathForm, Reading, read};
use crate::engine::request::RequestHead;

/// More is not tried, whatever the request looks like: under a millisecond of hashes, or some milliseconds of ECDSA.
const MAX_VARIANTS: usize = 256;
const MAX_VARIANTS_ECDSA: usize = 64;

/// One clause for the operator: the variant under which the signature holds. `None` where none does, the key is not
/// known, or there is no signature. `body` is the whole body where it was read.
pub fn explain(head: &RequestHead, body: Option<&[u8]>, keys: &KnownKeys) -> Option<String> {
    let Ok(Reading::Signed(claim)) = read(head) else { return None };
    let checker = keys.get(claim.key_id)?.checker(claim.algorithm, &claim.scope)?;
    let draft = Draft::of(&claim, body);
    let most = match claim.algorithm {
        Algorithm::Hmac => MAX_VARIANTS,
        Algorithm::Ecdsa => MAX_VARIANTS_ECDSA,
    };
    let found = variants::of(&draft, head, body).into_iter().take(most).find(|variant| {
        let canonical = draft.text(&variant.change);
        checker.confirms(&claim.string_to_sign(&canonical), &claim.signature)
    });
    found.map(|variant| format!("it holds if {}", variant.said))
}

/// A canonical request in its parts.
struct Draft<'a> {
    method: &'a str,
    path: Vec<u8>,
    query: Vec<u8>,
    /// Name and canonical value.
    fields: Vec<(&'a str, Vec<u8>)>,
    payload: String,
    is_s3: bool,
    parts: &'a Parts<'a>,
}

/// One difference from the draft.
enum Change {
    Method(&'static str),
    Path(Vec<u8>),
    Query(Vec<u8>),
    /// The field at this place has this value.
    Field(usize, Vec<u8>),
    /// Host and path at once: an S3 bucket moved from one to the other.
    Bucket {
        host: Vec<u8>,
        path: Vec<u8>,
    },
    Payload(String),
}

struct Variant {
    change: Change,
    /// Completes "it holds if ".
    said: String,
}

impl<'a> Draft<'a> {
    fn of(claim: &'a Claim<'_>, body: Option<&[u8]>) -> Self {
        let parts = &claim.parts;
        let is_s3 = claim.scope.is_s3();
        let form = if is_s3 { PathForm::AsSent } else { PathForm::EncodedAgain };
        let (mut path, mut query) = (Vec::new(), Vec::new());
        form.write(parts.path, &mut path);
        parts.query.write(&mut query);
        // Where the body is not here, nothing but another payload can be told.
        let payload = claim.payload.line(body.or(claim.is_empty.then_some(&[])));
        let payload = payload.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
        Self {
            method: parts.method,
            path,
            query,
            fields: parts.fields.canonical().collect(),
            payload: payload.unwrap_or_default(),
            is_s3,
            parts,
        }
    }

    fn text(&self, change: &Change) -> Vec<u8> {
        let method = if let Change::Method(method) = change { method } else { self.method };
        let path = match change {
            Change::Path(path) | Change::Bucket { path, .. } => path,
            _ => &self.path,
        };
        let query = if let Change::Query(query) = change { query } else { &self.query };
        let payload = if let Change::Payload(payload) = change { payload } else { &self.payload };
        let mut out = Vec::with_capacity(1024);
        for part in [method.as_bytes(), path, query] {
            out.extend_from_slice(part);
            out.push(b'\n');
        }
        for (at, (name, value)) in self.fields.iter().enumerate() {
            let value = match change {
                Change::Field(place, value) if *place == at => value,
                Change::Bucket { host, .. } if *name == "host" => host,
                _ => value,
            };
            for part in [name.as_bytes(), b":", value, b"\n"] {
                out.extend_from_slice(part);
            }
        }
        out.push(b'\n');
        out.extend_from_slice(self.parts.fields.names().as_bytes());
        out.push(b'\n');
        out.extend_from_slice(payload.as_bytes());
        out
    }
}
