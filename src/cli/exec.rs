//! `exeat exec -- CMD`: a proxy for one child, led there by its environment and nothing else.
//!
//! Start the proxy on a port of its own, write the files that variables point to, run the child, say what was seen.
//! Nothing of the user's is edited; what was made goes with the run.

pub(super) mod bundle;
mod child;
pub(super) mod environment;
pub(super) mod files;
mod summary;
mod truststore;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::Error;
use crate::app::App;
use crate::config::{
    self, AuditSink, CaSource, Config, Exec, Key, Layer, Origin, PolicySource, UpstreamProxy, UpstreamRoots,
};
use crate::engine::facts::{AccountId, Secret};
use bundle::Bundle;
use child::Ended;
use environment::{MARK, Proxy};
use files::{Files, PrivateFolder};

/// Ours, before there is a child (as `env`, `nohup` and docker have it).
pub(super) const FAILED: u8 = 125;
/// `--fail-on-deny`.
const DENIED: u8 = 3;
/// The child is gone; what its own children still ask gets this long.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    /// Policy, or env:NAME where a variable holds its text [env: EXEAT_POLICY] [default: built in, third parties observed]
    #[arg(long, value_name = "FILE")]
    policy: Option<String>,
    /// Audit records [env: EXEAT_AUDIT] [default: none, a summary at the end]
    #[arg(long, value_name = "FILE")]
    audit: Option<String>,
    /// An account of yours, where no key tells it; may be given again
    #[arg(long, value_name = "ID", value_parser = account)]
    account: Vec<AccountId>,
    /// AWS shared-credentials file: every profile is a known key, and no other source is asked [env: EXEAT_CREDENTIALS]
    #[arg(long, value_name = "FILE")]
    credentials: Option<String>,
    /// An extra root for every host; may be given again [env: EXEAT_UPSTREAM_CA, like PATH]
    #[arg(long, value_name = "FILE")]
    upstream_ca: Vec<String>,
    /// Proxy that origins are reached through [env: EXEAT_UPSTREAM_PROXY] [default: HTTPS_PROXY, else ALL_PROXY]
    #[arg(long, value_name = "URL")]
    upstream_proxy: Option<String>,
    /// Dial another address: PATTERN:PORT=ADDR:PORT; may be given again, the first match wins
    #[arg(long, value_name = "RULE")]
    connect_to: Vec<String>,
    /// Settings file (YAML) [env: EXEAT_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Exit with 3 where the child succeeded and a call was refused
    #[arg(long)]
    fail_on_deny: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn account(text: &str) -> Result<AccountId, String> {
    AccountId::parse(text).ok_or_else(|| "want twelve digits".to_owned())
}

/// Runs the child to its end; gives its exit code.
pub(super) fn run(args: &ExecArgs) -> Result<ExitCode, Error> {
    let outer = |name: &str| std::env::var(name).ok();
    let bundle = Bundle::gather(&outer);
    let (password, mark) = (random()?, random()?);
    let config = settings(args, &outer, &bundle, &password)?;
    let unmade = |error| {
        std::io::Error::other(format!(
            "cannot make a folder in `{}`: {error}",
            std::env::temp_dir().display()
        ))
    };
    let folder = PrivateFolder::new(&mark).map_err(unmade)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = App::start(config)?;
        app.records().tally();
        let files = Files::write(folder.path(), &bundle, app.ca_pem())?;
        let proxy = Proxy { address: app.forward(), password: Some(&password), jvm: app.jvm() };
        let mut variables = environment::whole(&proxy, &files, &outer);
        variables.push((MARK, app.forward().to_string()));
        if !args.quiet {
            announce(&app, &outer);
        }
        let code = match child::run(&args.command, variables).await? {
            Ended::With(code) => code,
            Ended::NotStarted { code, said } => {
                eprintln!("exeat: {said}");
                app.drain().await;
                return Ok(ExitCode::from(code));
            }
        };
        let records = app.records().clone();
        app.drain().await;
        let seen = summary::Seen::of(records.tally());
        if !args.quiet {
            summary::lines(&seen, &args.command).iter().for_each(|line| eprintln!("{line}"));
        }
        let denied = args.fail_on_deny && code == 0 && seen.has_denied();
        Ok(ExitCode::from(if denied { DENIED } else { code }))
    })
}

/// The settings of a `run`, but for what belongs to one child.
fn settings(
    args: &ExecArgs,
    outer: &dyn Fn(&str) -> Option<String>,
    bundle: &Bundle,
    password: &str,
) -> Result<Config, Error> {
    if args.audit.as_deref() == Some("-") {
        return Err(Error::Usage("--audit -: standard output is the child's; name a file".to_owned()));
    }
    let mut layer = Layer::default();
    let mut push = |key, flag, texts: &mut dyn Iterator<Item = &String>| {
        texts.for_each(|text| layer.push(key, text.clone(), Origin::Flag(flag)));
    };
    push(Key::Policy, "--policy", &mut args.policy.iter());
    push(Key::Audit, "--audit", &mut args.audit.iter());
    push(Key::Credentials, "--credentials", &mut args.credentials.iter());
    push(Key::UpstreamCa, "--upstream-ca", &mut args.upstream_ca.iter());
    push(Key::UpstreamProxy, "--upstream-proxy", &mut args.upstream_proxy.iter());
    push(Key::ConnectTo, "--connect-to", &mut args.connect_to.iter());
    push(Key::Config, "--config", &mut args.config.iter());
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let loaded = config::load(layer, names, outer)?;
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let mut config = loaded.config;
    // Doors and files of a `run` that the same settings describe are not ours to open or overwrite.
    config.listen = ([127, 0, 0, 1], 0).into();
    (config.admin, config.ca_out) = (None, None);
    if config.audit == AuditSink::Stdout {
        config.audit = AuditSink::Nowhere;
    }
    config.limits.drain = LAST_ANSWERS;
    config.accounts = args.account.clone();
    // What the child believed before is believed for it: a company's root must still work. Unless somebody said that
    // only the files of `upstream_ca` count.
    let trusted = match config.upstream_roots {
        UpstreamRoots::None => Vec::new(),
        UpstreamRoots::Webpki | UpstreamRoots::System => bundle.all().map(<[u8]>::to_vec).collect(),
    };
    config.exec = Some(Exec { password: Secret::new(password.as_bytes()), trusted });
    // Inside another run the way is through it, whatever else is set: its policy must see what leaves.
    if config.upstream_proxy.is_none() || is_nested(outer) {
        config.upstream_proxy = upstream_proxy(outer)?;
    }
    Ok(config)
}

/// The proxy that the environment already names for HTTPS. One that we can't speak to is an error: going around it is
/// not ours to decide.
fn upstream_proxy(outer: &dyn Fn(&str) -> Option<String>) -> Result<Option<UpstreamProxy>, Error> {
    let set = |name: &&str| outer(name).filter(|value| !value.is_empty());
    let names = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let Some((name, url)) = names.iter().find_map(|name| Some((name, set(name)?))) else { return Ok(None) };
    let proxy = UpstreamProxy::parse(&url).map_err(|want| Error::Usage(format!("{name}: want {want}")))?;
    let past = ["no_proxy", "NO_PROXY"].iter().find_map(set);
    Ok(Some(proxy.past(&past.unwrap_or_default())))
}

/// The environment is one that an outer `exec` made, and its proxy still stands in it.
fn is_nested(outer: &dyn Fn(&str) -> Option<String>) -> bool {
    let proxy = upstream_proxy(outer).ok().flatten();
    proxy.is_some_and(|proxy| outer(MARK) == Some(proxy.at.to_string()))
}

/// What is enforced, said once, before anything is.
fn announce(app: &App, outer: &dyn Fn(&str) -> Option<String>) {
    let shared = app.shared();
    let keys = shared.keys.load();
    let ours = keys.own_accounts().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let policy = match &shared.config.policy {
        PolicySource::BuiltIn => "the built-in policy: AWS calls by your own keys and accounts; \
                                  third-party HTTPS is let through and counted (report), all else refused"
            .to_owned(),
        PolicySource::File(path) => format!("policy {}", path.display()),
        PolicySource::Env(name) => format!("policy env:{name}"),
    };
    eprintln!("exeat {}: {policy}", env!("CARGO_PKG_VERSION"));
    let known = match keys.len() {
        0 => "no key is known here: signatures are judged by account only".to_owned(),
        1 => "1 key is known and verified".to_owned(),
        n => format!("{n} keys are known and verified"),
    };
    if ours.is_empty() && keys.is_empty() {
        eprintln!(
            "exeat: no account is known as yours, so AWS calls will be refused: set AWS_PROFILE, or use --account"
        );
    } else if ours.is_empty() {
        eprintln!("exeat: {known}; its id tells no account (give it with --account)");
    } else {
        eprintln!("exeat: your account {ours}; {known}");
    }
    if shared.config.ca == CaSource::InMemory {
        eprintln!("exeat: its CA is for this run alone, for 24 hours at most");
    }
    if let Some(proxy) = &shared.config.upstream_proxy {
        let whose = if is_nested(outer) { "the outer exeat exec at" } else { "the upstream proxy" };
        eprintln!("exeat: origins are reached through {whose} {proxy}");
    }
    if shared.policy.load().default_report() {
        eprintln!("exeat: `default: report`: who signs and where it goes is observed, not enforced");
    }
}

/// 128 bits, hex.
fn random() -> Result<String, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| std::io::Error::other("the system gives no randomness"))?;
    Ok(crate::engine::hex::text(&bytes))
}
