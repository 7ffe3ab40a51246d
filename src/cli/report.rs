//! `exeat report`: what audit files tell when their calls are added up.

mod tls;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Error, Output, OutputArgs};

#[derive(Debug, Subcommand)]
pub(super) enum ReportVerb {
    /// Which destination negotiated which TLS, whether a quantum computer could read it, and what let it pass
    #[command(after_help = "Examples:\n  exeat report tls audit.jsonl audit.jsonl.1.gz\n  \
                            exeat report tls audit.jsonl -o json | jq '.destinations[] | select(.post_quantum == \"none\") | .host'")]
    Tls(TlsArgs),
}

#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// Audit files, in any order; gzipped ones too
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn report(verb: &ReportVerb, out: &mut dyn Write) -> Result<bool, Error> {
    let ReportVerb::Tls(args) = verb;
    tls::tls(&args.files, args.output.output == Output::Json, out)?;
    Ok(true)
}
