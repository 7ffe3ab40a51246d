//! The files that a child's variables point to, in a folder that only its owner can enter and that goes with the run.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::bundle::Bundle;
use super::truststore;

const HOOK: &str = include_str!("node-hook.cjs");
/// Also how an outer run's hook is told from the user's own.
pub const HOOK_NAME: &str = "exeat-node-hook.cjs";

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Files {
    pub bundle: PathBuf,
    pub hook: PathBuf,
    pub trust_store: PathBuf,
}

impl Files {
    /// Writes all of them; files of an earlier run are replaced.
    pub fn write(dir: &Path, bundle: &Bundle, ca_pem: &str) -> io::Result<Self> {
        let put = |name: &str, content: &[u8]| {
            let path = dir.join(name);
            let new = dir.join(format!(".{name}.{}.new", std::process::id()));
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
            file.write_all(content)?;
            std::fs::rename(&new, &path)?;
            Ok::<_, io::Error>(path)
        };
        let own: Vec<_> = CertificateDer::pem_slice_iter(ca_pem.as_bytes()).filter_map(Result::ok).collect();
        let trusted = own.iter().map(AsRef::as_ref).chain(bundle.all());
        Ok(Self {
            bundle: put("ca-bundle.pem", bundle.pem(ca_pem).as_bytes())?,
            hook: put(HOOK_NAME, HOOK.as_bytes())?,
            trust_store: put("truststore.p12", &truststore::pkcs12(trusted))?,
        })
    }
}

/// A new folder of mode 0700, removed when dropped.
#[derive(Debug)]
pub struct PrivateFolder(PathBuf);

impl PrivateFolder {
    pub fn new(mark: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("exeat-{mark}"));
        // Fails where the name exists: nobody can have prepared it for us.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "could not be removed");
        }
    }
}
