//! Set up, `cli::run`, error chain, exit code; nothing else.

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

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

/// Answers go to stdout, everything else here, without colours. `EXEAT_LOG` takes tracing's filter syntax.
fn log_to_stderr() {
    // What a client does to its connection is on record; h2's warnings would let it write to our log.
    let filter = EnvFilter::try_from_env("EXEAT_LOG").unwrap_or_else(|_| EnvFilter::new("info,h2=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
