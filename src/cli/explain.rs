//! `exeat explain`: the page of a reason, what became of a flow, or whether a call or a destination would be allowed.
//!
//! The pages are in `explain/pages.rs`.

mod flow;
mod pages;
mod question;
pub mod target;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::pages::{Page, page};
use super::{Error, Output, OutputArgs, run};
use crate::config::{Key, Layer, Origin};
use crate::engine::reason::Reason;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit: 0 allowed or told, 1 denied or not found, 69 no proxy answers, 78 bad policy.\nExamples:\n  \
                        exeat explain 3p0k9d7m2x4c-0-17 --audit audit.jsonl\n  \
                        exeat explain sqs:SendMessage arn:aws:sqs:us-east-1:123456789012:jobs --policy p.yaml\n  \
                        exeat explain GET https://api.example.com/v1 --policy p.yaml -o json"
)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ExplainArgs {
    #[command(subcommand)]
    of: Option<Of>,
    /// A code (policy.no_match), a flow id or its end, an action or a method; without it, all codes
    what: Option<String>,
    /// ARN that the action is on, or the URL
    on: Option<String>,
    /// Flow: look in these audit files [env: EXEAT_AUDIT]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    audit: Vec<PathBuf>,
    /// Flow: else ask the proxy that runs [env: EXEAT_ADMIN_SOCKET]
    #[arg(long, value_name = "FILE", conflicts_with = "audit")]
    admin_socket: Option<String>,
    /// Question: policy that answers [default: built in]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Question: key id or account that signs, or none [default: one of our keys]
    #[arg(long, value_name = "SIGNER")]
    signer: Option<String>,
    /// Question: account that `self` stands for; may be given again
    #[arg(long = "self", value_name = "ACCOUNT")]
    ours: Vec<String>,
    /// Question: file of our keys
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Question: a signed header, `name: value`; may be given again
    #[arg(long, value_name = "FIELD")]
    header: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Of {
    /// Say what would become of a destination, over answers that you give; exit 1 where it is refused
    Target(target::TargetArgs),
}

/// `false` (exit 1): denied, or no such flow.
pub(super) fn explain(args: &ExplainArgs, out: &mut dyn Write) -> Result<bool, Error> {
    if let Some(Of::Target(args)) = &args.of {
        return target::target(args, out);
    }
    let output = args.output.output;
    let Some(what) = args.what.as_deref() else {
        reasons(None, output, out)?;
        return Ok(true);
    };
    if args.on.is_some() || what.contains(':') {
        let given = question::Circumstances {
            policy: args.policy.as_deref(),
            signer: args.signer.as_deref(),
            ours: &args.ours,
            credentials: args.credentials.as_deref(),
            headers: &args.header,
        };
        return question::ask(what, args.on.as_deref(), &given, output, out);
    }
    if !args.audit.is_empty() || flow::looks_like_one(what) {
        return flow::show(&find(args, what)?, output, out);
    }
    reasons(Some(what), output, out)?;
    Ok(true)
}

/// The page of `code`, or every code with its first sentence.
fn reasons(code: Option<&str>, output: Output, out: &mut dyn Write) -> Result<(), Error> {
    let Some(code) = code else { return list(output, out) };
    let reason = named(code)?;
    let Page { happened, remedy } = page(reason);
    match output {
        Output::Text => Ok(writeln!(out, "{reason}\n\n{happened}\n\nWhat to do: {remedy}")?),
        Output::Json => super::json(out, &as_json(reason)),
    }
}

/// The files that are named, else the proxy that runs, else the audit file of the settings.
fn find(args: &ExplainArgs, flow: &str) -> Result<serde_json::Value, Error> {
    if !args.audit.is_empty() {
        return flow::in_files(&args.audit, flow);
    }
    let mut layer = Layer::default();
    let given = args.admin_socket.clone();
    given.into_iter().for_each(|text| layer.push(Key::AdminSocket, text, Origin::Flag("--admin-socket")));
    let sources = run::sources(layer);
    if let Some(socket) = sources.path(Key::AdminSocket)? {
        return flow::of_running(&socket, flow);
    }
    match sources.path(Key::Audit)?.filter(|path| path.as_os_str() != "-") {
        Some(file) => flow::in_files(&[file], flow),
        None => Err(Error::Usage(
            "where is its record? Give --audit FILE, or --admin-socket FILE of a proxy that was started with \
             `exeat run --admin-socket FILE` (EXEAT_ADMIN_SOCKET for both); `exec` keeps records with --audit FILE alone"
                .to_owned(),
        )),
    }
}

fn list(output: Output, out: &mut dyn Write) -> Result<(), Error> {
    if output == Output::Json {
        let all: Vec<_> = Reason::ALL.iter().map(|&reason| as_json(reason)).collect();
        return super::json(out, &all);
    }
    for &reason in Reason::ALL {
        let happened = page(reason).happened;
        let first = happened.split_inclusive(['.', ';', ':']).next().unwrap_or_default();
        writeln!(out, "{:<26} {}", reason.as_str(), first.trim_end_matches(['.', ';', ':']))?;
    }
    Ok(())
}

fn as_json(reason: Reason) -> serde_json::Value {
    let Page { happened, remedy } = page(reason);
    serde_json::json!({
        "reason": reason.as_str(), "status": reason.status(), "happened": happened, "remedy": remedy,
    })
}

/// A code as it stands in messages: with brackets, or after `reason=`. An unknown one is wrong usage.
fn named(code: &str) -> Result<Reason, Error> {
    let bare = code.trim_matches(['[', ']']).trim_start_matches("reason=");
    bare.parse::<Reason>().map_err(|()| {
        let family = bare.split('.').next().unwrap_or_default();
        let near: Vec<&str> = Reason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .filter(|code| code.split('.').next() == Some(family))
            .collect();
        let hint = if near.is_empty() {
            "`exeat explain` lists them".to_owned()
        } else {
            format!("there are {}", near.join(", "))
        };
        Error::Usage(format!("no reason is called `{bare}`; {hint}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: Option<&str>) -> Result<String, String> {
        let mut out = Vec::new();
        reasons(code, Output::Text, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_code_has_a_page_of_whole_sentences() {
        for reason in Reason::ALL {
            let text = said(Some(reason.as_str())).unwrap();
            assert!(text.starts_with(reason.as_str()) && text.contains("What to do: "), "{reason}");
            let page = page(*reason);
            assert!(page.happened.len() > 30 && page.happened.ends_with('.'), "{reason}");
            assert!(page.remedy.len() > 15 && page.remedy.ends_with('.'), "{reason}");
        }
        assert_eq!(said(None).unwrap().lines().count(), Reason::ALL.len());
    }

    #[test]
    fn a_code_is_understood_as_messages_print_it_and_a_wrong_one_is_not() {
        assert!(said(Some("[policy.no_match]")).unwrap().starts_with("policy.no_match\n"));
        assert!(said(Some("reason=tls.no_sni")).unwrap().starts_with("tls.no_sni\n"));
        assert!(said(Some("tls.no_sin")).unwrap_err().contains("tls.no_sni"));
        assert!(said(Some("nonsense")).unwrap_err().contains("`exeat explain` lists them"));
    }
}
