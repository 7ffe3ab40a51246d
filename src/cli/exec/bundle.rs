//! The certificates that a child is to believe: our CA, every bundle that its environment names, the system's store.
//!
//! Most of these variables replace a program's roots, so what they named would be lost if ours took their place alone.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Variables that name a bundle. All of them are given ours.
pub const VARIABLES: [&str; 14] = [
    "AWS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
    "DENO_CERT",
    "NIX_SSL_CERT_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    // npm's own setting would come before NODE_EXTRA_CA_CERTS.
    "npm_config_cafile",
];

/// Certificates (DER), each once.
#[derive(Debug, Default)]
pub struct Bundle {
    /// From the files that variables name: somebody chose to believe these.
    named: Vec<Vec<u8>>,
    system: Vec<Vec<u8>>,
}

impl Bundle {
    /// Reads what the environment names and what the system has. A file that can't be read is told, and left out.
    pub fn gather(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut seen = HashSet::new();
        let mut bundle = Self::default();
        let variables = VARIABLES.iter().filter_map(|name| Some((*name, env(name)?.into())));
        let profile = crate::keys::ca_bundle(env, &|path| std::fs::read_to_string(path));
        let places = variables.chain(profile.map(|path| ("ca_bundle of the AWS profile", path)));
        for (who, path) in places.filter(|(_, path): &(_, PathBuf)| !path.as_os_str().is_empty()) {
            match read(&path) {
                Ok(found) => bundle.named.extend(found.into_iter().filter(|der| seen.insert(der.clone()))),
                Err(error) => {
                    tracing::warn!("{who} names `{}`, which is left out: {error}", path.display());
                }
            }
        }
        // It honours SSL_CERT_FILE and SSL_CERT_DIR itself.
        let system = rustls_native_certs::load_native_certs().certs;
        bundle.system =
            system.into_iter().map(|der| der.to_vec()).filter(|der| seen.insert(der.clone())).collect();
        bundle
    }

    /// Everything but our own.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.named.iter().chain(&self.system).map(Vec::as_slice)
    }

    /// As one PEM file, ours first.
    pub fn pem(&self, ca_pem: &str) -> String {
        let mut out = ca_pem.trim_end().to_owned() + "\n";
        for der in self.all() {
            out.push_str("-----BEGIN CERTIFICATE-----\n");
            for line in STANDARD.encode(der).as_bytes().chunks(64) {
                out.extend(line.iter().map(|&byte| char::from(byte)));
                out.push('\n');
            }
            out.push_str("-----END CERTIFICATE-----\n");
        }
        out
    }
}

/// The certificates of a PEM file, or of the files in a directory.
fn read(path: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    if path.is_dir() {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path)? {
            // A directory of hashes has links to files that went away.
            if let Ok(pem) = std::fs::read(entry?.path()) {
                found.extend(certificates(&pem));
            }
        }
        return Ok(found);
    }
    Ok(certificates(&std::fs::read(path)?))
}

/// What parses; a bundle with a damaged block still has its others.
fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).map(|der| der.to_vec()).collect()
}
