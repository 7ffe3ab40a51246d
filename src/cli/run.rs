//! `exeat run`: the flags, as one layer of the settings.

use clap::Args;

use super::Error;
use crate::config::{Key, Layer, Origin, Sources};

// What a value must look like is said in one place, `config.rs`; here they are text.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Where clients find the proxy [env: EXEAT_LISTEN] [default: 127.0.0.1:3128]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Policy, or env:NAME where a variable holds its text [env: EXEAT_POLICY] [default: built in]
    #[arg(long, value_name = "FILE")]
    policy: Option<String>,
    /// Audit records: a file, unix:SOCKET, or - for stdout [env: EXEAT_AUDIT] [default: -]
    #[arg(long, value_name = "FILE")]
    audit: Option<String>,
    /// Publish the local CA's certificate here before listening [env: EXEAT_CA_OUT]
    #[arg(long, value_name = "FILE")]
    ca_out: Option<String>,
    /// Keep the local CA here over restarts: a folder that is yours alone [env: EXEAT_CA_DIR]
    #[arg(long, value_name = "DIR")]
    ca_dir: Option<String>,
    /// A CA of your own, in place of one made at start [env: EXEAT_CA_CERT]
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<String>,
    /// Its key [env: EXEAT_CA_KEY]
    #[arg(long, value_name = "FILE")]
    ca_key: Option<String>,
    /// Roots believed upstream: webpki, system or none [env: EXEAT_UPSTREAM_ROOTS] [default: webpki]
    #[arg(long, value_name = "ROOTS")]
    upstream_roots: Option<String>,
    /// An extra root for every host; may be given again [env: EXEAT_UPSTREAM_CA, like PATH]
    #[arg(long, value_name = "FILE")]
    upstream_ca: Vec<String>,
    /// Dial another address: PATTERN:PORT=ADDR:PORT; may be given again, the first match wins
    #[arg(long, value_name = "RULE")]
    connect_to: Vec<String>,
    /// Proxy that origins are reached through: http://[USER:PASSWORD@]HOST:PORT [env: EXEAT_UPSTREAM_PROXY]
    #[arg(long, value_name = "URL")]
    upstream_proxy: Option<String>,
    /// Hosts that go past it, as in NO_PROXY [env: EXEAT_UPSTREAM_NO_PROXY]
    #[arg(long, value_name = "LIST")]
    upstream_no_proxy: Option<String>,
    /// AWS shared-credentials file: every profile is a known key [env: EXEAT_CREDENTIALS]
    #[arg(long, value_name = "FILE")]
    credentials: Option<String>,
    /// How far a signature's date may be off, either way: 15m at most [env: EXEAT_MAX_SKEW] [default: 15m]
    #[arg(long, value_name = "TIME")]
    max_skew: Option<String>,
    /// A signed request, reads aside, that came before: record or refuse [env: EXEAT_REPEATS] [default: record]
    #[arg(long, value_name = "WHAT")]
    repeats: Option<String>,
    /// Health and metrics; off unless given [env: EXEAT_ADMIN]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// The operator's socket: the same, and `explain` of refused flows [env: EXEAT_ADMIN_SOCKET]
    #[arg(long, value_name = "FILE")]
    admin_socket: Option<String>,
    /// Threads [env: EXEAT_WORKERS] [default: one a processor, four at most]
    #[arg(long, value_name = "COUNT")]
    workers: Option<String>,
    /// Settings file (YAML) [env: EXEAT_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
}

impl RunArgs {
    pub(super) fn into_layer(self) -> Layer {
        let mut layer = Layer::default();
        let mut push = |key, flag, texts: Vec<String>| {
            texts.into_iter().for_each(|text| layer.push(key, text, Origin::Flag(flag)));
        };
        push(Key::Listen, "--listen", self.listen.into_iter().collect());
        push(Key::Policy, "--policy", self.policy.into_iter().collect());
        push(Key::Audit, "--audit", self.audit.into_iter().collect());
        push(Key::CaOut, "--ca-out", self.ca_out.into_iter().collect());
        push(Key::CaDir, "--ca-dir", self.ca_dir.into_iter().collect());
        push(Key::CaCert, "--ca-cert", self.ca_cert.into_iter().collect());
        push(Key::CaKey, "--ca-key", self.ca_key.into_iter().collect());
        push(Key::UpstreamRoots, "--upstream-roots", self.upstream_roots.into_iter().collect());
        push(Key::UpstreamCa, "--upstream-ca", self.upstream_ca);
        push(Key::ConnectTo, "--connect-to", self.connect_to);
        push(Key::UpstreamProxy, "--upstream-proxy", self.upstream_proxy.into_iter().collect());
        push(Key::UpstreamNoProxy, "--upstream-no-proxy", self.upstream_no_proxy.into_iter().collect());
        push(Key::Credentials, "--credentials", self.credentials.into_iter().collect());
        push(Key::MaxSkew, "--max-skew", self.max_skew.into_iter().collect());
        push(Key::Repeats, "--repeats", self.repeats.into_iter().collect());
        push(Key::Admin, "--admin", self.admin.into_iter().collect());
        push(Key::AdminSocket, "--admin-socket", self.admin_socket.into_iter().collect());
        push(Key::Workers, "--workers", self.workers.into_iter().collect());
        push(Key::Config, "--config", self.config.into_iter().collect());
        layer
    }
}

/// What this process was given: flags, its environment, and the file that they name.
pub(super) fn sources(flags: Layer) -> Sources {
    // A variable that isn't UTF-8 is none of ours.
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    Sources::read(flags, names, |name| std::env::var(name).ok())
}

/// Puts the settings together and runs until a signal ends it.
pub(super) fn run(args: RunArgs) -> Result<(), Error> {
    let loaded = sources(args.into_layer()).load()?;
    for warning in loaded.warnings {
        tracing::warn!("{warning}");
    }
    if crate::tls::provider().fips() {
        tracing::info!("FIPS mode: cryptography is AWS-LC's FIPS module, on both legs");
    }
    Ok(crate::app::run(loaded.config)?)
}
