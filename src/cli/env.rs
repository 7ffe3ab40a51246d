//! `exeat env`: the variables that lead a shell's programs through a running `run`.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::door::reachable;
use super::exec::bundle::Bundle;
use super::exec::environment::{self, Proxy};
use super::exec::files::Files;
use super::{Error, OutputArgs};
use crate::config::{self, Key, Layer, Origin};

/// A loopback answers at once, if at all.
const PATIENCE: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(super) struct EnvArgs {
    /// Where `run` listens [env: EXEAT_LISTEN] [default: 127.0.0.1:3128]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The CA certificate that `run` published [env: EXEAT_CA_OUT]
    #[arg(long, value_name = "FILE")]
    ca_out: Option<String>,
    /// Settings file of the `run` [env: EXEAT_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Write a merged bundle, Node's hook and the JVM's trust store here, and name them too
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print lines that take the variables back
    #[arg(long)]
    unset: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn env(args: &EnvArgs, out: &mut dyn Write, json: bool) -> Result<(), Error> {
    let outer = |name: &str| std::env::var(name).ok();
    let mut layer = Layer::default();
    let mut push = |key, flag, text: &Option<String>| {
        text.iter().for_each(|text| layer.push(key, text.clone(), Origin::Flag(flag)));
    };
    push(Key::Listen, "--listen", &args.listen);
    push(Key::CaOut, "--ca-out", &args.ca_out);
    push(Key::Config, "--config", &args.config);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let config = config::load(layer, names, outer)?.config;
    if config.listen.port() == 0 {
        return Err(Error::Usage(
            "port 0 says nothing: give the address that `run` printed with --listen".to_owned(),
        ));
    }
    let proxy = Proxy { address: reachable(config.listen), password: None, jvm: None };
    if TcpStream::connect_timeout(&proxy.address, PATIENCE).is_err() && !args.unset {
        tracing::warn!("nothing listens on {} yet", proxy.address);
    }
    let Some(ca) = config.ca_out else {
        return Err(Error::Usage("name the CA certificate that `run` published: --ca-out FILE".to_owned()));
    };
    let ca = std::path::absolute(ca)?;
    let unreadable = |error| std::io::Error::other(format!("cannot read `{}`: {error}", ca.display()));
    let ca_pem = std::fs::read_to_string(&ca).map_err(unreadable)?;
    let variables = match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            let files = Files::write(&std::path::absolute(dir)?, &Bundle::gather(&outer), &ca_pem)?;
            environment::whole(&proxy, &files, &outer)
        }
        None => environment::basic(&proxy, &ca, &outer),
    };
    if json {
        let map: serde_json::Map<_, _> =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        writeln!(out, "{}", serde_json::Value::from(map))?;
        return Ok(());
    }
    for (name, value) in variables {
        match args.unset {
            true => writeln!(out, "unset {name}")?,
            false => writeln!(out, "export {name}='{}'", value.replace('\'', r"'\''"))?,
        }
    }
    Ok(())
}
