//! `exeat completions SHELL`.

use std::io::Write;

use clap::{Args, Command};
use clap_complete::Shell;

use super::Error;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  source <(exeat completions bash)\n  \
                        exeat completions zsh > \"${fpath[1]}/_exeat\"\n  \
                        exeat completions fish > ~/.config/fish/completions/exeat.fish")]
pub(super) struct CompletionsArgs {
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(
    args: &CompletionsArgs,
    mut command: Command,
    out: &mut dyn Write,
) -> Result<bool, Error> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "exeat", &mut script);
    out.write_all(&script)?;
    Ok(true)
}
