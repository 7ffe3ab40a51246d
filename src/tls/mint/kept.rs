//! A CA that is kept in a folder over restarts: made once, renewed under its own key, refused where others could read it.
//!
//! `ca.key` holds key and certificates together, so that they can't come apart; `ca.pem` is what clients trust.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rcgen::{CertificateParams, GeneralSubtree, Issuer, KeyPair, NameConstraints};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::files::{publish, to_pem};
use super::{Clock, DAY, Mint, MintError, ca_name, ca_params, random_serial};
use crate::engine::target::Host;

/// Longer than clients keep a copy of the certificate without looking; short enough that a lost key is no heirloom.
const KEPT_LIFE: i64 = 365 * DAY;
/// A kept CA with less than this left is renewed.
const RENEW_BEFORE: i64 = 30 * DAY;
const KEY_FILE: &str = "ca.key";
const CERT_FILE: &str = "ca.pem";

impl Mint {
    /// Where clients find the certificate of a kept CA.
    pub fn kept_certificate(dir: &Path) -> PathBuf {
        dir.join(CERT_FILE)
    }

    /// The CA of a folder (0700, ours); made where there is none, renewed where its end is near.
    pub fn from_dir(dir: &Path, clock: &Clock) -> Result<Self, MintError> {
        own_folder(dir)?;
        let file = dir.join(KEY_FILE);
        if !file.try_exists().map_err(|source| MintError::Read { path: file.clone(), source })? {
            // Of two that start at once, one makes it and the other finds it.
            make(dir, &root(clock().0)?)?;
        }
        private_file(&file)?;
        let read = || {
            let mint = Self::from_files(&file, &file, clock.clone())?;
            Ok::<_, MintError>(Self { kept: Some(Arc::from(dir)), ..mint })
        };
        let mint = read()?;
        if mint.renew()? {
            return read();
        }
        // What a killed process may have left out.
        let top = mint.leaves.ca.sent.last().unwrap_or(&mint.leaves.ca.der);
        publish_in(dir, &to_pem(std::slice::from_ref(top)))?;
        Ok(mint)
    }

    /// Gives a kept CA a new certificate over the same key and name, where its end is near: who trusts the old one
    /// trusts the new one's leaves too. `false`: nothing was due, or the CA isn't ours to renew.
    pub fn renew(&self) -> Result<bool, MintError> {
        let Some(dir) = &self.kept else { return Ok(false) };
        let now = (self.leaves.clock)().0;
        if self.leaves.ends.load(Ordering::Relaxed) - now > RENEW_BEFORE {
            return Ok(false);
        }
        if !self.leaves.ca.sent.is_empty() {
            tracing::warn!(
                "the constrained CA ends soon, and the key above it is gone: run `exeat ca init` anew"
            );
            return Ok(false);
        }
        let old = &self.leaves.ca.der;
        let (_, old) =
            X509Certificate::from_der(old).map_err(|_| MintError::UnfitCa("not an X.509 certificate"))?;
        let name = old.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let key = KeyPair::try_from(self.leaves.issuer.key().serialized_der())?;
        let made = root_of(&key, name.unwrap_or("exeat local CA"), now)?;
        write_private(dir, &made.text)?;
        publish_in(dir, &made.trusted)?;
        self.leaves.ends.store(now + KEPT_LIFE, Ordering::Relaxed);
        tracing::info!(dir = %dir.display(), "the kept CA was renewed under its own key");
        Ok(true)
    }
}

/// Makes a CA in a folder, and refuses where there is one. With `names`, an intermediate that can make leaves for
/// these domains and those below them alone, under a root whose key is dropped at once.
pub fn init(dir: &Path, names: &[Host], clock: &Clock) -> Result<PathBuf, MintError> {
    own_folder(dir)?;
    let now = clock().0;
    if !make(dir, &if names.is_empty() { root(now)? } else { constrained(names, now)? })? {
        return Err(MintError::Folder { path: dir.into(), what: "holds a CA already" });
    }
    // Read as `run` will read it.
    Mint::from_dir(dir, clock)?;
    Ok(dir.join(CERT_FILE))
}

/// A CA before it is written.
struct Made {
    /// Key and certificates.
    text: Zeroizing<String>,
    /// What clients trust.
    trusted: String,
}

fn root(now: i64) -> Result<Made, MintError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let serial = random_serial()?;
    root_of(&key, &ca_name(&serial), now)
}

fn root_of(key: &KeyPair, name: &str, now: i64) -> Result<Made, MintError> {
    let params = params(name, 0, now)?;
    let certificate = params.self_signed(key)?;
    let text = Zeroizing::new(format!("{}{}", key.serialize_pem(), certificate.pem()));
    Ok(Made { text, trusted: certificate.pem() })
}

fn constrained(names: &[Host], now: i64) -> Result<Made, MintError> {
    let name = ca_name(&random_serial()?);
    let root_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let root_params = params(&format!("{name} root"), 1, now)?;
    let root = root_params.self_signed(&root_key)?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut below = params(&name, 0, now)?;
    let permitted_subtrees = names.iter().map(|name| GeneralSubtree::DnsName(name.to_string())).collect();
    below.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    below.use_authority_key_identifier_extension = true;
    let below = below.signed_by(&key, &Issuer::new(root_params, root_key))?;
    let text = Zeroizing::new(format!("{}{}{}", key.serialize_pem(), below.pem(), root.pem()));
    Ok(Made { text, trusted: root.pem() })
}

fn params(name: &str, path_length: u8, now: i64) -> Result<CertificateParams, MintError> {
    ca_params(name, path_length, &random_serial()?, (now - DAY, now + KEPT_LIFE))
}

/// Makes the folder where it is missing; refuses one that others could change or read.
fn own_folder(dir: &Path) -> Result<(), MintError> {
    let write = |source| MintError::Write { path: dir.into(), source };
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(source) => return Err(write(source)),
    }
    let meta = fs::symlink_metadata(dir).map_err(write)?;
    if !meta.is_dir() {
        return Err(MintError::Folder { path: dir.into(), what: "is no folder" });
    }
    if meta.uid() != us(dir)? {
        return Err(MintError::Folder { path: dir.into(), what: "belongs to another user" });
    }
    if meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    // A fresh volume comes as 0755. Like ssh, but repairs what it can and says so.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(|_| MintError::Folder {
        path: dir.into(),
        what: "is open to others and could not be made 0700",
    })?;
    tracing::warn!(path = %dir.display(), "the CA's folder was open to others; made 0700");
    Ok(())
}

/// Whose files we make: nothing of std tells it otherwise.
fn us(dir: &Path) -> Result<u32, MintError> {
    let probe = dir.join(format!(".exeat.{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe);
    let owner = made.and_then(|file| file.metadata()).map(|meta| meta.uid());
    let _ = fs::remove_file(&probe);
    owner.map_err(|source| MintError::Write { path: dir.into(), source })
}

/// The key of a kept CA is 0600: this folder is ours alone, so that it isn't is no accident of a mount.
fn private_file(path: &Path) -> Result<(), MintError> {
    let meta = fs::symlink_metadata(path).map_err(|source| MintError::Read { path: path.into(), source })?;
    if meta.is_file() && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(MintError::KeyExposed { path: path.into() })
}

/// Only where there is no CA yet. `false`: there is one.
fn make(dir: &Path, made: &Made) -> Result<bool, MintError> {
    let (file, temporary) = (dir.join(KEY_FILE), temporary(dir));
    let write = |source| MintError::Write { path: file.clone(), source };
    create(&temporary, &made.text).map_err(write)?;
    let linked = fs::hard_link(&temporary, &file);
    let _ = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        linked => linked.map_err(write)?,
    }
    publish_in(dir, &made.trusted)?;
    Ok(true)
}

fn publish_in(dir: &Path, pem: &str) -> Result<(), MintError> {
    let path = dir.join(CERT_FILE);
    publish(&path, pem.as_bytes()).map_err(|source| MintError::Write { path, source })
}

/// Nobody else's: the name of a process is in it, and what a killed one of that name left goes first.
fn temporary(dir: &Path) -> PathBuf {
    let path = dir.join(format!(".{KEY_FILE}.{}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

fn write_private(dir: &Path, text: &str) -> Result<(), MintError> {
    let (file, temporary) = (dir.join(KEY_FILE), temporary(dir));
    create(&temporary, text)
        .and_then(|()| fs::rename(&temporary, &file))
        .map_err(|source| MintError::Write { path: file.clone(), source })
}

fn create(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
