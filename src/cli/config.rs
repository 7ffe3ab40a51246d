//! `exeat config show`: every setting as `run` would have it, and where it comes from. No secret is shown.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Error, Output, OutputArgs, run};
use crate::config::{Given, Key, TlsSettings};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// Print each setting with its value; exit 78 where `run` would not start with them
    #[command(after_help = "Takes the flags of `exeat run`, the environment and the settings file.\n\n\
                            Examples:\n  exeat config show --origin --config exeat.yaml\n  \
                            exeat config show -o json | jq '.settings[] | select(.origin != [\"default\"])'")]
    Show(Box<ShowArgs>),
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Say of each where it comes from
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    settings: run::RunArgs,
}

pub(super) fn show(args: ShowArgs, out: &mut dyn Write) -> Result<bool, Error> {
    let sources = run::sources(args.settings.into_layer());
    let origins: Vec<(Key, Vec<Given>)> = Key::ALL.iter().map(|&key| (key, sources.given(key))).collect();
    let loaded = sources.load()?;
    let mut rows = Vec::new();
    for (key, given) in origins {
        let Some(values) = loaded.config.values(key) else { continue };
        let mut origin: Vec<String> = given.iter().map(|given| given.origin.to_string()).collect();
        origin.dedup();
        if origin.is_empty() {
            origin.push("default".to_owned());
        }
        rows.push((key, values, origin));
    }
    // No setting, but what all of them are held to.
    let fips = crate::tls::provider().fips();
    match args.output.output {
        Output::Json => {
            let row = |(key, values, origin): (Key, Vec<String>, Vec<String>)| {
                let value = if key.takes_many() { json!(values) } else { json!(values.first()) };
                json!({"key": key.as_str(), "value": value, "origin": origin})
            };
            let settings: Vec<Value> = rows.into_iter().map(row).collect();
            super::json(
                out,
                &json!({
                    "settings": settings, "tls": loaded.config.tls.shown(), "fips": fips, "warnings": loaded.warnings,
                }),
            )?;
        }
        Output::Text => {
            for (key, values, origin) in rows {
                let shown = match (values.as_slice(), key) {
                    ([], Key::Policy) => "(built in)".to_owned(),
                    ([], _) => "(none)".to_owned(),
                    (values, _) => values.join(" "),
                };
                if args.origin {
                    writeln!(out, "{:<22} {shown:<28} {}", key.as_str(), origin.join(" "))?;
                } else {
                    writeln!(out, "{:<22} {shown}", key.as_str())?;
                }
            }
            if loaded.config.tls != TlsSettings::default() {
                // The file's alone, and a tree: one line of JSON.
                writeln!(out, "{:<22} {}", "tls", loaded.config.tls.shown())?;
            }
            if fips {
                writeln!(out, "{:<22} on (this build)", "fips")?;
            }
            for warning in loaded.warnings {
                tracing::warn!("{warning}");
            }
        }
    }
    Ok(true)
}
