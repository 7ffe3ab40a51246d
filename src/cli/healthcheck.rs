//! `exeat healthcheck`: is the proxy of this machine or container ready? For health checks where there is no curl.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::door::Door;
use super::{Error, Output, OutputArgs, run};
use crate::config::{Key, Layer, Origin};

#[derive(Debug, Args)]
#[command(after_help = "Exit: 0 ready, 1 not ready, 69 nobody answers.\n\nExamples:\n  \
                        exeat healthcheck\n  exeat healthcheck --admin 127.0.0.1:9901\n  \
                        \"healthCheck\": {\"command\": [\"CMD\", \"/exeat\", \"healthcheck\"]}   (ECS task definition)")]
pub(super) struct HealthcheckArgs {
    /// Its admin door [env: EXEAT_ADMIN]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Or its operator's socket [env: EXEAT_ADMIN_SOCKET]
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    admin_socket: Option<String>,
    /// Or the settings file that names one of them [env: EXEAT_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// `false` (exit 1): it is alive, and not ready.
pub(super) fn healthcheck(args: HealthcheckArgs, out: &mut dyn Write) -> Result<bool, Error> {
    let mut layer = Layer::default();
    for (key, flag, given) in [
        (Key::Admin, "--admin", args.admin.clone()),
        (Key::AdminSocket, "--admin-socket", args.admin_socket.clone()),
        (Key::Config, "--config", args.config),
    ] {
        given.into_iter().for_each(|text| layer.push(key, text, Origin::Flag(flag)));
    }
    let sources = run::sources(layer);
    let tcp = sources.address(Key::Admin)?.filter(|_| args.admin_socket.is_none());
    let door = match tcp {
        Some(address) => Door::Tcp(address),
        None => sources.path(Key::AdminSocket)?.map(Door::Socket).ok_or_else(|| {
            Error::Usage("which proxy? Give --admin ADDR (or EXEAT_ADMIN) as `exeat run` has it".to_owned())
        })?,
    };
    let (status, said) = door.ask("/ready")?;
    let ready = match status {
        200 => true,
        503 => false,
        _ => return Err(Error::Unreachable(format!("what answers at {door} is no exeat (status {status})"))),
    };
    let said = said.trim_end();
    match args.output.output {
        Output::Json => super::json(out, &json!({"ready": ready, "said": said, "door": door.to_string()}))?,
        Output::Text if ready => writeln!(out, "ready")?,
        Output::Text => writeln!(out, "not ready: {said}")?,
    }
    Ok(ready)
}
