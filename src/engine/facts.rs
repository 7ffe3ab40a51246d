//! The words in which a request is judged and recorded: what it asks for, and who says so.
//!
//! Policy keys, audit fields, metric labels and the command line use the same spellings, so each closed set is
//! written once here, with its name. Filled by recognition and verification; read by `engine/policy.rs` and `record`.

mod words;

use std::fmt;
use std::sync::Arc;

pub(crate) use words::words;

/// A name out of the atlas or a policy: shared, never changed, cheap to clone.
pub type Name = Arc<str>;

words! {
    /// How the call says who it is.
    pub enum Auth {
        SigV4 = "sigv4",
        SigV4a = "sigv4a",
        Presigned = "presigned",
        PostForm = "post_form",
        Bearer = "bearer",
        Basic = "basic",
        Token = "token",
        None = "none",
    }
}

words! {
    /// What we could check of the signature.
    pub enum SignatureState {
        Verified = "verified",
        Bad = "bad",
        UnknownKey = "unknown_key",
        Unsigned = "unsigned",
    }
}

words! {
    /// What the signature says of the body.
    pub enum PayloadState {
        /// Its digest is part of what was signed.
        Signed = "signed",
        /// A checksum guards it against accident; nobody signed for it.
        Checksum = "checksum",
        Unsigned = "unsigned",
    }
}

words! {
    /// How the body compared with what was promised; `Unchecked` until its last byte.
    pub enum PayloadOutcome {
        Matched = "matched",
        Mismatched = "mismatched",
        Unchecked = "unchecked",
    }
}

words! {
    /// The request's wire protocol, and so the shape of a refusal.
    pub enum Protocol {
        Json10 = "json-1.0",
        Json11 = "json-1.1",
        Query = "query",
        Ec2 = "ec2",
        RestJson = "rest-json",
        /// S3: a bare `<Error>`.
        S3 = "s3",
        RestXml = "rest-xml",
        Cbor = "rpc-v2-cbor",
        /// Not an AWS call: status and sentence in trailers.
        Grpc = "grpc",
        /// Not an AWS call: a small JSON problem.
        Http = "http",
    }
}

/// Twelve decimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(u64);

impl AccountId {
    /// `None` at 10^12 and above.
    pub fn new(number: u64) -> Option<Self> {
        (number < 1_000_000_000_000).then_some(Self(number))
    }

    pub const fn number(self) -> u64 {
        self.0
    }

    /// Exactly twelve ASCII digits.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok().map(Self))?
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

/// Who signed, as far as the request and our keys tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    pub key_id: Name,
    /// From the key's source where we hold it, else decoded from the key id; `None` where the id doesn't decode.
    pub account: Option<AccountId>,
    /// Role name or ARN of the key's source, where it names one.
    pub role: Option<Name>,
    /// The key is one that we were given: its account counts as `self`, whether or not we know its number.
    pub own: bool,
    /// The account or the role is not known, and AWS was not asked yet.
    pub untold: bool,
    /// Of a key that AWS handed out in an answer: who asked for it, nearest first.
    pub parents: Option<Arc<[Parent]>>,
}

/// One step of a learned key's descent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The call whose answer the key stood in: `sts:AssumeRole`.
    pub by: &'static str,
    /// Who signed that call; `None` where nobody did (a web identity, SSO, sign-in).
    pub key_id: Option<Name>,
    pub account: Option<AccountId>,
    pub role: Option<Name>,
}

/// Who says so: the four closed facts of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub auth: Auth,
    pub signature: SignatureState,
    pub payload: PayloadState,
    pub signer: Option<Signer>,
}

impl Identity {
    pub const NONE: Self = Self {
        auth: Auth::None,
        signature: SignatureState::Unsigned,
        payload: PayloadState::Unsigned,
        signer: None,
    };
}

/// An IAM action. The service's prefix is always known where there is an action at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Whole: `s3:PutObject`.
    Known(Name),
    /// `service:?`: an operation the atlas doesn't know. Holds the IAM prefix alone (`s3`).
    Unknown(Name),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(name) => f.write_str(name),
            Self::Unknown(service) => write!(f, "{service}:?"),
        }
    }
}

/// On what. A name that a request carries, or what the lack of one means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// An ARN; an account we could not tell is empty (`arn:aws:sqs:us-east-1::orders`).
    Arn { arn: String, account: Option<AccountId> },
    /// The operation has no resource: only `resource: "*"` matches.
    None,
    /// It has one that we could not read: matches every deny it could match, and only the widest allow.
    Unknown,
}

/// One action on one resource. A request asks for all of its asks together, and all must be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub action: Action,
    pub resource: Resource,
}

/// What an AWS request is, as recognition reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The name it signs with (`states`, `monitoring`): CloudTrail's `eventSource` without the suffix.
    pub service: Name,
    /// Operation name (`PutItem`); `None` where the atlas doesn't know it.
    pub name: Option<Name>,
    /// Region of the endpoint or the scope; `aws-global` names are given their scope region.
    pub region: Name,
    pub protocol: Protocol,
    pub asks: Vec<Ask>,
}

words! {
    /// Which door a connection came through.
    pub enum Door {
        Forward = "forward",
    }
}

words! {
    /// What a leg speaks. There is no variant below the floor.
    pub enum TlsVersion {
        Tls12 = "TLSv1.2",
        Tls13 = "TLSv1.3",
    }
}

/// One leg's negotiated TLS, by the names rustls gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    pub version: TlsVersion,
    pub cipher: &'static str,
    /// Key exchange group; `None` on resumption without one.
    pub group: Option<&'static str>,
    pub alpn: Option<Name>,
    /// Name the client asked for, or that we asked the origin for.
    pub sni: Option<Name>,
    /// What the server showed, leaf first: we on a client's leg, the origin on its own.
    pub chain: Arc<[Certificate]>,
}

/// What an origin showed in a handshake that came to nothing, as far as it went. None of it was believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Public name of the version that it chose, or that its alert names.
    pub version: Option<&'static str>,
    pub cipher: Option<u16>,
    /// Of its key share: TLS 1.3 alone has one in the hello.
    pub group: Option<u16>,
    /// Leaf first; empty where no certificate was refused.
    pub chain: Arc<[Certificate]>,
}

/// A certificate, in the words that records have for it. Names are foreign text, as long as a certificate may have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Of its DER: what `openssl x509 -fingerprint -sha256` tells.
    pub sha256: [u8; 32],
    /// `None` where it is no X.509 certificate that can be read.
    pub named: Option<Named>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub subject: Name,
    pub issuer: Name,
    pub not_after: Timestamp,
}

/// What is known of a connection before its first request.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub door: Door,
    /// CONNECT line, in normal form.
    pub target: super::target::Authority,
    /// What the atlas says of its host: asked once a connection.
    pub kind: super::atlas::HostKind,
    pub peer: std::net::SocketAddr,
    /// The client's leg; `None` where it has no TLS (a refused plaintext request).
    pub tls: Option<TlsFacts>,
}

impl Arrival {
    pub fn new(
        door: Door,
        target: super::target::Authority,
        peer: std::net::SocketAddr,
        tls: Option<TlsFacts>,
        atlas: &'static super::atlas::Atlas,
    ) -> Self {
        let kind = atlas.host(&target.host);
        Self { door, target, kind, peer, tls }
    }
}

/// Seconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// A secret: prints as `[redacted]`, compares in constant time, wiped when dropped.
#[derive(Clone)]
pub struct Secret(zeroize::Zeroizing<Box<[u8]>>);

impl Secret {
    pub fn new(bytes: &[u8]) -> Self {
        Self(zeroize::Zeroizing::new(bytes.into()))
    }

    /// For the one computation that needs it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Eq for Secret {}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(&self.0[..], &other.0[..]).into()
    }
}
