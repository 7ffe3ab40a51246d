//! The local CA: makes a leaf for each intercepted name, and the server side that presents it.
//!
//! Used by `tls/handshake.rs` once the ClientHello is read and its name was found equal to the CONNECT host. The CA's
//! key stays in this file: everything else gets leaves, or the CA certificate as PEM.
//! Leaf rules: tests/vectors/tls, `l-san`.

mod files;
mod kept;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use quick_cache::sync::Cache;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use time::OffsetDateTime;

pub use self::kept::init;
use super::{Clock, Offer, chain, options};
use crate::config::LegOptions;
use crate::engine::facts::{Certificate, Timestamp};
use crate::engine::hex;
use crate::engine::target::Host;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// From its start, which lies an hour back: what clients and auditors accept as short-lived.
const LEAF_LIFE: i64 = 7 * DAY;
/// For clients whose clock runs late.
const LEAF_STARTS_BACK: i64 = HOUR;
/// A leaf is replaced this long before its end, so that no client meets one that is about to expire.
const LEAF_RENEW_BEFORE: i64 = 12 * HOUR;
/// The key dies with the process, so the certificate's end doesn't matter; it must outlast the longest process.
const CA_LIFE: i64 = 3650 * DAY;
/// Of a chain of ours, in records: the leaf, and who signed it.
const SHOWN: usize = 2;
/// Names whose leaf is kept: more than any workload talks to, about 4 MiB when full.
const LEAVES: usize = 4096;

/// The local CA and the server side of every intercepted connection. Cheap to clone, shared by all.
#[derive(Clone)]
pub struct Mint {
    leaves: Arc<Leaves>,
    server: Arc<ServerConfig>,
    /// The same, but that it offers HTTP/2 too.
    server_both: Arc<ServerConfig>,
    /// The folder that it is kept in over restarts.
    kept: Option<Arc<Path>>,
}

/// Why there is no CA, or no leaf.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write the CA certificate to `{}`", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("`{}` holds no {what} in PEM form", path.display())]
    NotPem { path: PathBuf, what: &'static str },
    #[error("`{}` is readable by others and could not be made private; run chmod 0600 on it", path.display())]
    KeyExposed { path: PathBuf },
    #[error("`{}` {what}", path.display())]
    Folder { path: PathBuf, what: &'static str },
    #[error("the CA certificate cannot be used: {0}")]
    UnfitCa(&'static str),
    #[error(
        "the CA has ended, so nobody can be shown a certificate: start exeat anew (under `exec` it lives a day)"
    )]
    Ended,
    #[error("certificate could not be made")]
    Generate(#[from] rcgen::Error),
    #[error("key could not be loaded")]
    Key(#[from] rustls::Error),
    #[error("no random bytes")]
    Random,
    #[error("this build keeps to FIPS 140-3, and the clients' leg would not")]
    NotFips,
}

/// The CA as a certificate, without its key: what clients are given and what upstream never trusts.
struct CaCertificate {
    der: CertificateDer<'static>,
    pem: String,
    /// Follows the leaf on the wire; none where the CA is its own root, which clients hold already.
    sent: Vec<CertificateDer<'static>>,
    starts: i64,
    ends: i64,
}

struct Leaves {
    issuer: Issuer<'static, KeyPair>,
    ca: CaCertificate,
    /// The CA's end; later than its certificate's once it was renewed while we ran.
    ends: AtomicI64,
    end_told: AtomicBool,
    /// One for all leaves, apart from the CA's.
    leaf_key: KeyPair,
    signer: Arc<dyn SigningKey>,
    cache: Cache<Host, Leaf>,
    clock: Clock,
}

#[derive(Clone)]
struct Leaf {
    key: Arc<CertifiedKey>,
    /// The same as records tell of it.
    told: Arc<[Certificate]>,
    /// Not served from here on.
    stale_from: Timestamp,
}

impl Mint {
    /// A new CA with its key in memory only: ECDSA P-256, path length 0, ten years.
    pub fn in_memory(clock: Clock) -> Result<Self, MintError> {
        Self::made(clock, CA_LIFE)
    }

    /// The same for one child of `exec`, whose files somebody may copy: a day.
    pub fn for_a_day(clock: Clock) -> Result<Self, MintError> {
        Self::made(clock, DAY)
    }

    fn made(clock: Clock, life: i64) -> Result<Self, MintError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let serial = random_serial()?;
        let now = clock().0;
        let (starts, ends) = (now - DAY, now + life);
        let params = ca_params(&ca_name(&serial), 0, &serial, (starts, ends))?;
        let certificate = params.self_signed(&key)?;
        let ca = CaCertificate {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            sent: Vec::new(),
            starts,
            ends,
        };
        Self::new(Issuer::new(params, key), ca, clock)
    }

    fn new(issuer: Issuer<'static, KeyPair>, ca: CaCertificate, clock: Clock) -> Result<Self, MintError> {
        let leaf_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let provider = super::provider();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let signer = provider.key_provider.load_private_key(der)?;
        let cache = Cache::new(LEAVES);
        let ends = AtomicI64::new(ca.ends);
        let leaves = Arc::new(Leaves {
            issuer,
            ca,
            ends,
            end_told: AtomicBool::new(false),
            leaf_key,
            signer,
            cache,
            clock,
        });
        let (server, server_both) = servers(&leaves, &LegOptions::default())?;
        Ok(Self { leaves, server, server_both, kept: None })
    }

    /// With what the settings let a client negotiate.
    pub fn with_options(self, options: &LegOptions) -> Result<Self, MintError> {
        let (server, server_both) = servers(&self.leaves, options)?;
        Ok(Self { server, server_both, ..self })
    }

    /// The leaf for one name: minted once for all who ask at the same time, kept until it is due for renewal.
    pub fn leaf_for(&self, host: &Host) -> Result<Arc<CertifiedKey>, MintError> {
        self.leaves.leaf_for(host).map(|leaf| leaf.key)
    }

    /// What clients of `host` are shown, for records.
    pub(super) fn shows(&self, host: &Host) -> Result<Arc<[Certificate]>, MintError> {
        self.leaves.leaf_for(host).map(|leaf| leaf.told)
    }

    /// The CA certificate, and the ones it was given with, as PEM. Never a key.
    pub fn ca_pem(&self) -> &str {
        &self.leaves.ca.pem
    }

    /// The CA certificate as DER: what the upstream side must never trust.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.leaves.ca.der
    }

    /// The server side for a connection whose destination is `host`. Shared by all names: the leaf is picked by SNI,
    /// which the caller has found equal to `host`. A literal cannot stand in an SNI, so it gets a config of its own.
    pub(super) fn server_config(&self, host: &Host, offer: Offer) -> Result<Arc<ServerConfig>, MintError> {
        let server = match offer {
            Offer::Http1 => &self.server,
            Offer::Both => &self.server_both,
        };
        match host {
            Host::Name(_) => Ok(server.clone()),
            Host::Literal(_) => {
                let mut config = ServerConfig::clone(server);
                config.cert_resolver = Arc::new(Fixed(self.leaf_for(host)?));
                Ok(Arc::new(config))
            }
        }
    }
}

/// For [`Offer::Http1`], and for [`Offer::Both`]. One ticketer: a session is resumed whatever is offered then.
fn servers(
    leaves: &Arc<Leaves>,
    options: &LegOptions,
) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>), MintError> {
    let server = server(leaves.clone(), options)?;
    let mut both = server.clone();
    both.alpn_protocols = Offer::Both.protocols();
    Ok((Arc::new(server), Arc::new(both)))
}

fn server(leaves: Arc<Leaves>, options: &LegOptions) -> Result<ServerConfig, MintError> {
    let mut server = ServerConfig::builder_with_provider(options::provider(options))
        .with_protocol_versions(options::versions(options))?
        .with_no_client_auth()
        .with_cert_resolver(leaves);
    server.alpn_protocols = Offer::Http1.protocols();
    // Tickets carry all: nothing to keep, and no lock shared by every handshake.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    if options.resumption {
        server.send_tls13_tickets = 1;
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    } else {
        server.send_tls13_tickets = 0;
    }
    server.max_early_data_size = 0;
    if super::leaves_fips(server.fips()) {
        return Err(MintError::NotFips);
    }
    Ok(server)
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mint")
    }
}

impl Leaves {
    fn leaf_for(&self, host: &Host) -> Result<Leaf, MintError> {
        let now = (self.clock)();
        if let Some(leaf) = self.cache.get(host) {
            if now < leaf.stale_from {
                return Ok(leaf);
            }
            self.cache.remove_if(host, |leaf| now >= leaf.stale_from);
        }
        self.cache.get_or_insert_with(host, || self.mint(host, now))
    }

    fn mint(&self, host: &Host, now: Timestamp) -> Result<Leaf, MintError> {
        let ca_ends = self.ends.load(Ordering::Relaxed);
        if now.0 >= ca_ends {
            // Once: every connection from now on ends so, each with a record of its own.
            if !self.end_told.swap(true, Ordering::Relaxed) {
                tracing::error!("{}", MintError::Ended);
            }
            return Err(MintError::Ended);
        }
        let starts = (now.0 - LEAF_STARTS_BACK).max(self.ca.starts);
        let ends = (starts + LEAF_LIFE).min(ca_ends);
        let mut params = CertificateParams::default();
        params.not_before = at(starts)?;
        params.not_after = at(ends)?;
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
        let text = match host {
            Host::Name(name) => {
                params.subject_alt_names = vec![SanType::DnsName(name.to_string().try_into()?)];
                name.to_string()
            }
            Host::Literal(ip) => {
                params.subject_alt_names = vec![SanType::IpAddress(*ip)];
                IpAddr::to_string(ip)
            }
        };
        // RFC 5280 bounds a common name to 64 characters; nobody reads it where a SAN stands.
        params.distinguished_name = common_name(if text.len() <= 64 { &text } else { "exeat leaf" });
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&self.leaf_key, &self.issuer)?;
        let mut chain = vec![certificate.der().clone()];
        chain.extend_from_slice(&self.ca.sent);
        let told = chain::told(&chain[..chain.len().min(SHOWN)]);
        let key = Arc::new(CertifiedKey::new(chain, self.signer.clone()));
        let stale_from = Timestamp((ends - LEAF_RENEW_BEFORE).max(now.0 + (ends - now.0) / 2));
        Ok(Leaf { key, told, stale_from })
    }
}

impl ResolvesServerCert for Leaves {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = Host::parse(hello.server_name()?).ok()?;
        self.leaf_for(&host)
            .inspect_err(|error| tracing::error!(%host, %error, "no leaf was minted"))
            .ok()
            .map(|leaf| leaf.key)
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaves")
    }
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// 127 random bits, positive and not zero.
fn random_serial() -> Result<[u8; 16], MintError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| MintError::Random)?;
    // Top bit clear: a positive INTEGER; the next one set: never zero, never shorter.
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

/// Two CAs of one name and different keys confuse clients that hold both: the name carries a random part.
fn ca_name(serial: &[u8]) -> String {
    format!("exeat local CA {}", hex::text(&serial[..4]))
}

/// What every CA certificate of ours says; the times are its first and last second.
fn ca_params(
    name: &str,
    path_length: u8,
    serial: &[u8],
    (starts, ends): (i64, i64),
) -> Result<CertificateParams, MintError> {
    let mut params = CertificateParams::default();
    params.not_before = at(starts)?;
    params.not_after = at(ends)?;
    params.distinguished_name = common_name(name);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn at(seconds: i64) -> Result<OffsetDateTime, MintError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| MintError::UnfitCa("validity out of range"))
}

#[cfg(test)]
mod tests;
