//! The CA's files: reading a CA that was given, and publishing the certificate that clients are to trust.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::{CaCertificate, Clock, Mint, MintError};

impl Mint {
    /// A CA from PEM files. The certificate file's first entry is the CA; further ones are its issuers and are sent
    /// along. A key file that others may read is made private first, and refused where that fails.
    pub fn from_files(cert: &Path, key: &Path, clock: Clock) -> Result<Self, MintError> {
        let read =
            |path: &Path| fs::read(path).map_err(|source| MintError::Read { path: path.into(), source });
        keep_private(key)?;
        let key_pem = Zeroizing::new(read(key)?);
        let cert_pem = read(cert)?;
        let no_key = || MintError::NotPem { path: key.into(), what: "private key" };
        let no_cert = || MintError::NotPem { path: cert.into(), what: "certificate" };
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| no_key())?;
        let key = KeyPair::try_from(&key)?;
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&cert_pem).collect::<Result<_, _>>().map_err(|_| no_cert())?;
        let ca = judge_ca(&chain, &key, clock().0)?.ok_or_else(no_cert)?;
        let issuer = Issuer::from_ca_cert_der(&ca.der, key)?;
        Self::new(issuer, ca, clock)
    }

    /// Takes away a certificate that an earlier process published: no client may trust it while this one starts.
    pub fn retract_ca(path: &Path) -> Result<(), MintError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(MintError::Write { path: path.into(), source: error })
            }
            _ => Ok(()),
        }
    }

    /// Writes the CA certificate for clients to trust: whatever stood there goes first, the new one appears whole,
    /// readable by all. Call before listening.
    pub fn publish_ca(&self, path: &Path) -> Result<(), MintError> {
        publish(path, self.ca_pem().as_bytes())
            .map_err(|source| MintError::Write { path: path.into(), source })
    }
}

/// `None`: no certificate in the list.
fn judge_ca(
    chain: &[CertificateDer<'static>],
    key: &KeyPair,
    now: i64,
) -> Result<Option<CaCertificate>, MintError> {
    let Some(der) = chain.first() else { return Ok(None) };
    let (_, cert) =
        X509Certificate::from_der(der).map_err(|_| MintError::UnfitCa("not an X.509 certificate"))?;
    let unfit = |what| Err(MintError::UnfitCa(what));
    if cert.public_key().raw != key.subject_public_key_info().as_slice() {
        return unfit("the key belongs to another certificate");
    }
    if !cert.is_ca() {
        return unfit("basicConstraints don't say CA");
    }
    match cert.key_usage() {
        Ok(usage) if usage.as_ref().is_none_or(|usage| usage.value.key_cert_sign()) => {}
        _ => return unfit("keyUsage lacks keyCertSign"),
    }
    let (starts, ends) = (cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp());
    if now >= ends {
        return unfit("expired");
    }
    if now < starts {
        return unfit("not valid yet");
    }
    // A root is with the clients already; an intermediate must travel with what stands above it.
    let own_root = cert.issuer().as_raw() == cert.subject().as_raw();
    let sent = if own_root { Vec::new() } else { chain.to_vec() };
    Ok(Some(CaCertificate { der: der.clone(), pem: to_pem(chain), sent, starts, ends }))
}

/// Certificates only: what else the file held (a key!) is not passed on.
pub(super) fn to_pem(chain: &[CertificateDer<'_>]) -> String {
    use base64::Engine;
    let mut out = String::new();
    for cert in chain {
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = base64::engine::general_purpose::STANDARD.encode(cert);
        for line in text.as_bytes().chunks(64) {
            out.extend(line.iter().map(|byte| char::from(*byte)));
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out
}

/// Others may not read the CA's key. Like ssh, but repairs what it can and says so; a file of root's that a group may
/// read is how mounted secrets come, and stands.
fn keep_private(path: &Path) -> Result<(), MintError> {
    let read = |source| MintError::Read { path: path.into(), source };
    let meta = fs::metadata(path).map_err(read)?;
    let mode = meta.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    if meta.is_file() && fs::set_permissions(path, fs::Permissions::from_mode(0o600)).is_ok() {
        tracing::warn!(path = %path.display(), mode = format!("{mode:04o}"), "the CA key was readable by others; made 0600");
        return Ok(());
    }
    if meta.uid() == 0 && mode & 0o037 == 0 {
        return Ok(());
    }
    Err(MintError::KeyExposed { path: path.into() })
}

pub(super) fn publish(path: &Path, pem: &[u8]) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?);
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = write_new(&temporary, pem).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Left by a process of the same id that was killed in between; `create_new` never follows a link.
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    // The umask may have taken bits that the workload's user needs.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.sync_all()
}
