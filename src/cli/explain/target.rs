//! `exeat explain target HOST:PORT`: what every door would make of a destination, over answers given by hand.
//!
//! Asks `engine::target::destination::decide`, whose steps the doors take; nothing is resolved and nothing dialled.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::app;
use crate::cli::{Error, Output, OutputArgs};
use crate::config::PolicySource;
use crate::engine::atlas::Atlas;
use crate::engine::policy::{self, Policy};
use crate::engine::target::destination::{Asked, Decided, Mode, Rules, decide};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  exeat explain target api.example.com:443 --policy p.yaml --answers 192.0.2.7,10.0.0.1"
)]
pub struct TargetArgs {
    /// As a client would write it
    #[arg(value_name = "HOST:PORT")]
    target: String,
    /// Policy file [default: built in]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// What the name resolves to; empty: to nothing; not given: nobody is asked
    #[arg(long, value_name = "A,B")]
    answers: Option<String>,
    /// What it would resolve to if it were asked again
    #[arg(long, value_name = "A,B", requires = "answers")]
    second_answers: Option<String>,
    /// How the door is told: connect, absolute, transparent or gateway
    #[arg(long, value_name = "MODE", default_value = "connect", value_parser = mode)]
    mode: Mode,
    /// Server name in the TLS hello; empty: none [default: the target's]
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

fn mode(text: &str) -> Result<Mode, String> {
    text.parse().map_err(|()| {
        let all: Vec<_> = Mode::ALL.iter().map(|mode| mode.as_str()).collect();
        format!("want one of {}", all.join(", "))
    })
}

/// `false` (exit 1) where the destination is refused.
pub fn target(args: &TargetArgs, out: &mut dyn Write) -> Result<bool, Error> {
    let source = args.policy.clone().map_or(PolicySource::BuiltIn, PolicySource::File);
    let policy = app::read_policy(&source, policy::Mode::Run)?;
    let addresses = |text: &Option<String>| text.as_deref().map(answers).transpose().map_err(Error::Usage);
    let answers = [addresses(&args.answers)?, addresses(&args.second_answers)?];
    let asked = Asked { mode: args.mode, text: &args.target, sni: args.sni.as_deref() };
    let decided = ask(&policy, &asked, answers);
    if args.output.output == Output::Json {
        serde_json::to_writer(&mut *out, &as_json(&decided)).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        show(&asked, &decided, out)?;
    }
    Ok(decided.outcome.is_ok())
}

/// The same decision as the doors take. `answers`: of the first look-up and of a second, should there be one.
pub fn ask(policy: &Policy, asked: &Asked<'_>, answers: [Option<Vec<IpAddr>>; 2]) -> Decided {
    let rules = Rules { policy, atlas: Atlas::built_in(), now: crate::tls::now(), is_own: &|_| false };
    let mut answers = answers.into_iter();
    decide(asked, &rules, |_| answers.next().flatten())
}

/// `decision`, `reason` (null where it is allowed), `lookups` (was the name looked up), `dial`.
pub fn as_json(decided: &Decided) -> serde_json::Value {
    let (decision, reason, dial) = match &decided.outcome {
        Ok(dial) => ("allow", None, dial.iter().map(SocketAddr::ip).collect()),
        Err(refused) => ("deny", Some(refused.reason.as_str()), Vec::new()),
    };
    json!({"decision": decision, "reason": reason, "lookups": decided.lookups > 0, "dial": dial})
}

fn show(asked: &Asked<'_>, decided: &Decided, out: &mut dyn Write) -> std::io::Result<()> {
    let shown: String = asked.text.chars().flat_map(char::escape_default).collect();
    match &decided.outcome {
        Err(refused) => {
            writeln!(out, "{shown}: refused: {} [{}]", refused.said, refused.reason)?;
            writeln!(out, "exeat explain {} tells what to do", refused.reason)
        }
        Ok(_) if decided.lookups == 0 => {
            writeln!(out, "{shown}: allowed, as far as can be told before it is looked up (--answers)")
        }
        Ok(dial) => {
            let all: Vec<_> = dial.iter().map(ToString::to_string).collect();
            writeln!(out, "{shown}: allowed: looked up once, dials {}", all.join(" or "))
        }
    }
}

/// Addresses with commas between them; an empty text is no answer.
fn answers(text: &str) -> Result<Vec<IpAddr>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|_| format!("`{part}` is no address"))).collect()
}
