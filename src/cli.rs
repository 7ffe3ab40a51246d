//! The command line: arguments, one `match` over the verbs, exit codes.
//!
//! Answers on stdout, logs on stderr. Exit codes: 0 yes, 1 the answer is no, 2 usage, 69 admin unreachable, 78 bad
//! config at `run`.

mod answer;
pub mod audit;
mod ca;
mod check;
mod completions;
mod config;
pub mod demo;
mod door;
mod env;
mod exec;
pub mod explain;
mod healthcheck;
mod lines;
mod reconcile;
mod report;
mod run;
mod schema;
mod tail;
mod version;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::app;
use answer::Answer;

/// sysexits(3): EX_CONFIG.
const BAD_CONFIG: u8 = 78;
/// sysexits(3): EX_UNAVAILABLE.
const UNREACHABLE: u8 = 69;
const USAGE: u8 = 2;
const NO: u8 = 1;

/// TLS-enforcing egress proxy for AWS workloads: verifies whose account signed, lets out what a policy names
#[derive(Debug, Parser)]
#[command(name = "exeat", version, disable_help_subcommand = true, after_help = "First look: exeat demo")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the proxy until a signal ends it
    #[command(
        after_help = "Examples:\n  exeat run --policy policy.yaml --ca-out ca.pem --audit audit.jsonl\n  \
                            exeat run --config exeat.yaml --admin 127.0.0.1:9901"
    )]
    Run(Box<run::RunArgs>),
    /// Run a program behind a proxy of its own: `exeat exec -- CMD`
    #[command(after_help = "Examples:\n  exeat exec -- aws s3 ls\n  \
                            exeat exec --policy policy.yaml --audit audit.jsonl -- python3 app.py")]
    Exec(Box<exec::ExecArgs>),
    /// Print the variables that lead a shell's programs through a running `run`
    #[command(after_help = "Example:\n  eval \"$(exeat env --config exeat.yaml)\"")]
    Env(env::EnvArgs),
    /// Show exeat at work: calls over real sockets, all on loopback; needs no network and no account
    #[command(
        after_help = "Examples:\n  exeat demo\n  exeat demo -o json | jq '.calls[] | {call, verdict, reason}'"
    )]
    Demo(OutputArgs),
    /// Say all that is wrong or odd about a policy or settings; exit 1 where they cannot be used
    #[command(after_help = "Example: exeat check --policy policy.yaml -o json | jq '.findings[]'")]
    Check(check::CheckArgs),
    /// Explain a reason code, a flow, or whether a call would be allowed
    Explain(Box<explain::ExplainArgs>),
    /// Ask about audit files
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Show calls as they end, one line each
    Tail(tail::TailArgs),
    /// Add up what audit files tell
    #[command(subcommand)]
    Report(report::ReportVerb),
    /// Which calls of our keys does CloudTrail know that never came through here? Exit 1 where there are some
    Reconcile(reconcile::ReconcileArgs),
    /// Is the running proxy ready? Needs no curl
    Healthcheck(healthcheck::HealthcheckArgs),
    /// The certificate that clients must trust
    #[command(subcommand)]
    Ca(ca::CaVerb),
    /// Print the settings and where they come from
    #[command(subcommand)]
    Config(config::ConfigVerb),
    /// Print a JSON Schema of our files
    Schema(schema::SchemaArgs),
    /// Print a shell's completion script
    Completions(completions::CompletionsArgs),
    /// Print the version, and what it was built out of
    #[command(after_help = "Example:\n  exeat version -o json | jq -r .atlas.source")]
    Version(OutputArgs),
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Are the lines all there, in order, as they were written? Exit 1 where they are not
    #[command(after_help = "Example:\n  exeat audit verify audit.jsonl audit.jsonl.1")]
    Verify {
        /// Files of one or more lanes, in any order
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Exit 1 also where a lane lacks its beginning or its end: killed, still written to, or cut
        #[arg(long)]
        complete: bool,
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
    Config(#[from] crate::config::Problems),
    #[error(transparent)]
    App(#[from] app::Error),
    #[error(transparent)]
    Mint(#[from] crate::tls::mint::MintError),
    #[error("the demo could not be given")]
    Demo(#[from] demo::Error),
    #[error("{0}")]
    Usage(String),
    /// The answer is no, and this is all there is to say.
    #[error("{0}")]
    No(String),
    #[error("{0}")]
    Unreachable(String),
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
            Self::Unreachable(_) => UNREACHABLE,
            Self::Exec(_) => exec::FAILED,
            // As a shell tells of a signal.
            Self::Demo(demo::Error::Interrupted(signal)) => 128 + signal,
            Self::Demo(_) | Self::Mint(_) | Self::Io(_) | Self::No(_) => NO,
        })
    }
}

/// Reads the process's arguments and does what they say. Wrong usage and `--help` end the process here, as clap does.
pub fn run() -> Result<ExitCode, Error> {
    let mut out = Answer::new(io::stdout().lock());
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
        Verb::Explain(args) => Ok(yes_or_no(explain::explain(&args, &mut out)?)),
        Verb::Audit(AuditVerb::Verify { files, complete, output }) => {
            let extent = if complete { audit::Extent::Complete } else { audit::Extent::Whole };
            let whole = audit::verify(&files, extent, &mut out, output.output == Output::Json)?;
            Ok(ExitCode::from(if whole { 0 } else { NO }))
        }
        Verb::Tail(args) => Ok(yes_or_no(tail::tail(&args, &mut out)?)),
        Verb::Report(verb) => Ok(yes_or_no(report::report(&verb, &mut out)?)),
        Verb::Reconcile(args) => Ok(yes_or_no(reconcile::reconcile(&args, &mut out)?)),
        Verb::Healthcheck(args) => Ok(yes_or_no(healthcheck::healthcheck(args, &mut out)?)),
        Verb::Ca(verb) => Ok(yes_or_no(ca::ca(verb, &mut out)?)),
        Verb::Config(config::ConfigVerb::Show(args)) => Ok(yes_or_no(config::show(*args, &mut out)?)),
        Verb::Schema(args) => Ok(yes_or_no(schema::schema(&args, &mut out)?)),
        Verb::Completions(args) => Ok(yes_or_no(completions::completions(&args, Cli::command(), &mut out)?)),
        Verb::Version(output) => Ok(yes_or_no(version::version(&output, &mut out)?)),
    }
}

fn yes_or_no(yes: bool) -> ExitCode {
    ExitCode::from(if yes { 0 } else { NO })
}

/// An answer in JSON, for people too: on lines of its own.
fn json(out: &mut dyn Write, answer: &impl Serialize) -> Result<(), Error> {
    serde_json::to_writer_pretty(&mut *out, answer).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    /// A screen is 24 lines. Longer are the list of the verbs, those that take all settings, and `check`, which lists
    /// forms of output.
    #[test]
    fn every_help_fits_a_screen_and_has_examples() {
        fn look(command: &clap::Command, path: &str) {
            let line = path.split(' ').chain(["--help"]);
            let help = Cli::try_parse_from(line).unwrap_err().render().to_string();
            let most = match path {
                "exeat run" | "exeat config show" => 36,
                "exeat" | "exeat check" | "exeat explain" => 29,
                _ => 24,
            };
            let lines = help.trim_end().lines().count();
            assert!(lines <= most, "{path}: {lines} lines\n{help}");
            let verbs = command.get_subcommands().count();
            assert!(verbs > 0 || help.contains("Example"), "{path} has no example\n{help}");
            command.get_subcommands().for_each(|verb| look(verb, &format!("{path} {}", verb.get_name())));
        }
        let mut command = Cli::command();
        command.build();
        look(&command, "exeat");
    }

    #[test]
    fn every_flag_that_the_benches_rely_on_is_taken() {
        let line = "exeat run --listen 127.0.0.1:0 --policy p --audit a --ca-out o --ca-cert c --ca-key k \
                    --upstream-ca x --upstream-ca y --connect-to *:443=127.0.0.1:1 --connect-to *:8443=127.0.0.1:2 \
                    --credentials f --admin 127.0.0.1:1 --admin-socket s --config g";
        let Verb::Run(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().verb else {
            panic!("not run")
        };
        let layer = args.into_layer();
        let listed: Vec<_> = layer.iter().map(|given| (given.key.as_str(), given.text.as_str())).collect();
        assert_eq!(listed.len(), 14);
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
