//! `exeat ca`: the certificate that clients must trust, from its file; `ca/init.rs` makes a CA. No key is read here.

mod init;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Error, Output, OutputArgs, run};
use crate::config::{Key, Layer, Origin};

#[derive(Debug, Subcommand)]
pub(super) enum CaVerb {
    /// Make a CA in a folder, for `run --ca-dir`
    #[command(after_help = "Example:\n  exeat ca init --ca-dir /var/lib/exeat --constrain amazonaws.com")]
    Init(init::InitArgs),
    /// Print where the certificate is
    #[command(
        after_help = "Example:\n  export AWS_CA_BUNDLE=\"$(exeat ca path --ca-out /run/exeat/ca.pem)\""
    )]
    Path(FileArgs),
    /// Print the certificate, as PEM or DER
    #[command(after_help = "Examples:\n  exeat ca export --config exeat.yaml > ca.pem\n  \
                            exeat ca export --form der | keytool -importcert -noprompt -alias exeat \\\n    \
                            -keystore trust.p12 -storepass changeit")]
    Export {
        /// JVM stores (JKS, PKCS#12) are made out of either by keytool
        #[arg(long, value_enum, default_value_t = Form::Pem)]
        form: Form,
        #[command(flatten)]
        file: FileArgs,
    },
    /// Print its SHA-256 fingerprint, to compare with what a client shows
    #[command(after_help = "Examples:\n  exeat ca fingerprint --ca-out /run/exeat/ca.pem\n  \
                            exeat ca fingerprint -o json | jq -r .not_after")]
    Fingerprint {
        #[command(flatten)]
        file: FileArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Form {
    Pem,
    Der,
}

/// Which certificate: the file that `run` publishes, else the CA it was given.
#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// The file that `run --ca-out` wrote [env: EXEAT_CA_OUT]
    #[arg(long, value_name = "FILE")]
    ca_out: Option<String>,
    /// Or the CA that `run --ca-cert` was given [env: EXEAT_CA_CERT]
    #[arg(long, value_name = "FILE", conflicts_with = "ca_out")]
    ca_cert: Option<String>,
    /// Or the settings file that names one of them [env: EXEAT_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
}

pub(super) fn ca(verb: CaVerb, out: &mut dyn Write) -> Result<bool, Error> {
    match verb {
        CaVerb::Init(args) => init::init(&args, out)?,
        CaVerb::Path(file) => {
            let (path, _) = file.read()?;
            writeln!(out, "{}", path.display())?;
        }
        CaVerb::Export { form, file } => {
            let (_, der) = file.read()?;
            match form {
                Form::Pem => out.write_all(pem(&der).as_bytes())?,
                Form::Der => out.write_all(&der)?,
            }
            out.flush()?;
        }
        CaVerb::Fingerprint { file, output } => {
            let (path, der) = file.read()?;
            let sha256 = fingerprint(&der);
            match output.output {
                Output::Text => writeln!(out, "{sha256}")?,
                Output::Json => {
                    let (_, cert) = X509Certificate::from_der(&der).map_err(|_| not_pem(&path))?;
                    let not_after = cert.validity().not_after.timestamp();
                    let not_after = time::OffsetDateTime::from_unix_timestamp(not_after)
                        .ok()
                        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
                    let subject = cert.subject().to_string();
                    let path = path.display().to_string();
                    let shown =
                        json!({"path": path, "sha256": sha256, "subject": subject, "not_after": not_after});
                    super::json(out, &shown)?;
                }
            }
        }
    }
    Ok(true)
}

impl FileArgs {
    /// Where the file is, from the root; and its first certificate, which is the CA's own.
    fn read(self) -> Result<(PathBuf, CertificateDer<'static>), Error> {
        let mut layer = Layer::default();
        let given_cert = self.ca_cert.is_some();
        for (key, flag, given) in [
            (Key::CaOut, "--ca-out", self.ca_out),
            (Key::CaCert, "--ca-cert", self.ca_cert),
            (Key::Config, "--config", self.config),
        ] {
            given.into_iter().for_each(|text| layer.push(key, text, Origin::Flag(flag)));
        }
        let sources = run::sources(layer);
        let published = sources.path(Key::CaOut)?.filter(|_| !given_cert);
        let path = published.or(sources.path(Key::CaCert)?).ok_or_else(|| {
            let what = "which certificate? Give --ca-out FILE (or EXEAT_CA_OUT) as `exeat run` has it";
            Error::Usage(what.to_owned())
        })?;
        let text = std::fs::read(&path).map_err(|error| {
            std::io::Error::new(error.kind(), format!("cannot read `{}`: {error}", path.display()))
        })?;
        let der = CertificateDer::from_pem_slice(&text).map_err(|_| not_pem(&path))?;
        Ok((std::path::absolute(&path)?, der))
    }
}

fn not_pem(path: &Path) -> Error {
    Error::Io(std::io::Error::other(format!("`{}` holds no certificate in PEM form", path.display())))
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// `AA:BB:…`, as browsers, openssl and keytool show it.
fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
