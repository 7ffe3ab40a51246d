//! `exeat ca init`: a CA in a folder; with `--constrain`, one that can speak for some domains alone.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::cli::Error;
use crate::engine::target::Host;
use crate::tls::{mint, system_clock};

#[derive(Debug, Args)]
pub struct InitArgs {
    /// A folder that is yours alone; made where it is missing
    #[arg(long, value_name = "DIR")]
    ca_dir: PathBuf,
    /// Only for these domains and the names below them; the key of the root above is dropped. May be given again
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', value_parser = domain)]
    constrain: Vec<Host>,
}

fn domain(text: &str) -> Result<Host, String> {
    match Host::parse(text) {
        Ok(host @ Host::Name(_)) => Ok(host),
        _ => Err("want a domain such as amazonaws.com".to_owned()),
    }
}

/// Prints where the certificate is that clients must trust.
pub fn init(args: &InitArgs, out: &mut dyn Write) -> Result<(), Error> {
    let path = mint::init(&args.ca_dir, &args.constrain, &system_clock())?;
    writeln!(out, "{}", path.display())?;
    Ok(())
}
