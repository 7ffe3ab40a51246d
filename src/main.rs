//! Set up, `cli::run`, error chain, exit code; nothing else.

use std::process::ExitCode;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    log_to_stderr();
    match exeat::cli::run() {
        Ok(code) => code,
        Err(error) => {
            let code = error.exit_code();
            eprintln!("exeat: {:#}", anyhow::Error::from(error));
            code
        }
    }
}

/// Answers go to stdout, everything else here, without colours. `EXEAT_LOG` is a level, or `target=level` after commas.
fn log_to_stderr() {
    // What a client does to its connection is on record; h2's warnings would let it write to our log.
    const USUAL: &str = "info,h2=error";
    let said = std::env::var("EXEAT_LOG").ok();
    let read = said.as_deref().map(str::parse::<Targets>);
    let filter = match &read {
        Some(Ok(filter)) => filter.clone(),
        _ => USUAL.parse().expect("a filter"),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(filter).init();
    if let Some(Err(error)) = read {
        tracing::warn!("EXEAT_LOG is not a filter ({error}); it is `{USUAL}` now");
    }
}
