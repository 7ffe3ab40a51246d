//! `exeat schema KIND`: JSON Schemas for editors.

use std::io::{self, Write};

use clap::ValueEnum;

use crate::engine::policy;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A policy file
    Policy,
}

/// Prints the schema, as `config/policy.schema.json` has it.
pub fn print(kind: Kind, out: &mut dyn Write) -> io::Result<()> {
    let schema = match kind {
        Kind::Policy => policy::schema::json_schema(),
    };
    serde_json::to_writer_pretty(&mut *out, &schema)?;
    writeln!(out)
}
