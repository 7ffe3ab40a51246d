//! `exeat ca`: verbs about the local CA.

mod init;

use std::io::Write;

use clap::Subcommand;

use super::Error;

#[derive(Debug, Subcommand)]
pub(super) enum CaVerb {
    /// Make a CA in a folder, for `run --ca-dir`
    Init(init::InitArgs),
}

pub(super) fn ca(verb: &CaVerb, out: &mut dyn Write) -> Result<(), Error> {
    match verb {
        CaVerb::Init(args) => init::init(args, out),
    }
}
