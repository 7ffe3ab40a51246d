//! The command line: arguments, one `match` over the verbs, exit codes.
//!
//! Answers on stdout, logs on stderr. Exit codes: 0 yes, 1 the answer is no, 2 usage, 69 admin unreachable, 78 bad
//! config at `run`.

pub mod audit;
mod ca;
pub mod check;
pub mod demo;
mod env;
mod exec;
pub mod explain;
mod run;
pub mod schema;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{app, config};

/// sysexits(3): EX_CONFIG.
const BAD_CONFIG: u8 = 78;
const USAGE: u8 = 2;
const NO: u8 = 1;

/// A TLS-enforcing egress proxy for AWS workloads: it verifies whose account signed each request, and lets out what a
/// policy names.
#[derive(Debug, Parser)]
#[command(name = "exeat", version, disable_help_subcommand = true, after_help = "First look:\n  exeat demo")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the proxy until a signal ends it
    Run(Box<run::RunArgs>),
    /// Run a program behind a proxy of its own: `exeat exec -- CMD`
    Exec(Box<exec::ExecArgs>),
    /// Print the variables that lead a shell's programs through a running `run`
    Env(env::EnvArgs),
    /// Show exeat at work: calls over real sockets, all on loopback; needs no network and no account
    #[command(
        after_help = "Examples:\n  exeat demo\n  exeat demo -o json | jq '.calls[] | {call, verdict, reason}'"
    )]
    Demo(OutputArgs),
    /// Say all that is wrong or odd about a policy or settings; exit 1 where they cannot be used
    Check(check::CheckArgs),
    /// Print a JSON Schema for editors
    Schema { kind: schema::Kind },
    /// Print the page of a reason code, or list the codes
    Explain(ExplainArgs),
    /// The local CA
    #[command(subcommand)]
    Ca(ca::CaVerb),
    /// Ask about audit files
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
struct ExplainArgs {
    /// A code such as `policy.no_match`
    code: Option<String>,
    #[command(subcommand)]
    what: Option<ExplainVerb>,
}

#[derive(Debug, Subcommand)]
enum ExplainVerb {
    /// Say what would become of a destination, over answers that you give; exit 1 where it is refused
    Target(explain::target::TargetArgs),
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Are the lines all there, in order, as they were written? Exit 1 where they are not
    Verify {
        /// Files of one or more lanes, in any order
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Problems),
    #[error(transparent)]
    App(#[from] app::Error),
    #[error(transparent)]
    Mint(#[from] crate::tls::mint::MintError),
    #[error("the demo could not be given")]
    Demo(#[from] demo::Error),
    #[error("{0}")]
    Usage(String),
    /// `exec` failed by itself, not its child.
    #[error(transparent)]
    Exec(Box<Error>),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::App(_) => BAD_CONFIG,
            Self::Usage(_) => USAGE,
            Self::Exec(_) => exec::FAILED,
            // As a shell tells of a signal.
            Self::Demo(demo::Error::Interrupted(signal)) => 128 + signal,
            Self::Demo(_) | Self::Mint(_) | Self::Io(_) => NO,
        })
    }
}

/// Reads the process's arguments and does what they say. Wrong usage and `--help` end the process here, as clap does.
pub fn run() -> Result<ExitCode, Error> {
    let mut out = io::stdout().lock();
    match Cli::parse().verb {
        Verb::Run(args) => {
            // The lock must not outlive this: `run` writes its audit lines to stdout.
            drop(out);
            run::run(*args)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Exec(args) => {
            // The child's too.
            drop(out);
            exec::run(&args).map_err(|error| Error::Exec(Box::new(error)))
        }
        Verb::Env(args) => {
            env::env(&args, &mut out, args.output.output == Output::Json)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Demo(args) => {
            let look = if args.output == Output::Json { demo::Look::Json } else { demo::Look::of_stdout() };
            let good = demo::demo(demo::POLICY, look, &mut out)?;
            Ok(ExitCode::from(if good { 0 } else { NO }))
        }
        Verb::Check(args) => {
            let good = check::check(&args, &mut out)?;
            Ok(ExitCode::from(if good { 0 } else { NO }))
        }
        Verb::Schema { kind } => {
            schema::print(kind, &mut out)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Explain(ExplainArgs { what: Some(ExplainVerb::Target(args)), .. }) => {
            let good = explain::target::target(&args, &mut out)?;
            Ok(ExitCode::from(if good { 0 } else { NO }))
        }
        Verb::Explain(ExplainArgs { code, what: None }) => {
            explain::explain(code.as_deref(), &mut out)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Ca(verb) => {
            ca::ca(&verb, &mut out)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Audit(AuditVerb::Verify { files, output }) => {
            let whole = audit::verify(&files, &mut out, output.output == Output::Json)?;
            Ok(ExitCode::from(if whole { 0 } else { NO }))
        }
        Verb::Version => {
            writeln!(out, "exeat {}", env!("CARGO_PKG_VERSION"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_that_the_benches_rely_on_is_taken() {
        let line = "exeat run --listen 127.0.0.1:0 --policy p --audit a --ca-out o --ca-cert c --ca-key k \
                    --upstream-ca x --upstream-ca y --connect-to *:443=127.0.0.1:1 --connect-to *:8443=127.0.0.1:2 \
                    --credentials f --admin 127.0.0.1:1 --config g";
        let Verb::Run(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().verb else {
            panic!("not run")
        };
        let layer = args.into_layer();
        let listed: Vec<_> = layer.iter().map(|given| (given.key.as_str(), given.text.as_str())).collect();
        assert_eq!(listed.len(), 13);
        assert!(
            listed.contains(&("upstream_ca", "y")) && listed.contains(&("connect_to", "*:8443=127.0.0.1:2"))
        );
        for line in [
            "exeat",
            "exeat run --lisen x",
            "exeat audit verify",
            "exeat check",
            "exeat run --listen a --listen b",
        ] {
            let error = Cli::try_parse_from(line.split_whitespace()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
