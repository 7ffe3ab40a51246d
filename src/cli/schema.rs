//! `exeat schema KIND`: JSON Schemas, for editors and for those who read our lines.

use std::io::Write;

use clap::{Args, ValueEnum};

use super::Error;
use crate::{config, engine, record};

#[derive(Debug, Args)]
#[command(
    after_help = "The same texts stand in config/*.schema.json. A settings file names its own in its first line:\n  \
                        # yaml-language-server: $schema=exeat.schema.json\n\n\
                        Examples:\n  exeat schema config > exeat.schema.json\n  exeat schema audit | jq '.oneOf[].title'"
)]
pub(super) struct SchemaArgs {
    #[arg(value_enum)]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// The settings file
    Config,
    /// A policy file
    Policy,
    /// Audit lines
    Audit,
}

pub(super) fn schema(args: &SchemaArgs, out: &mut dyn Write) -> Result<bool, Error> {
    let schema = match args.kind {
        Kind::Config => config::schema::schema(),
        Kind::Policy => engine::policy::schema::json_schema(),
        Kind::Audit => record::schema::schema(),
    };
    super::json(out, &schema)?;
    Ok(true)
}
