//! The child: started with our variables, sent the signals that we get, waited for, and its end put as a shell puts it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal};
use tokio::signal::unix::{SignalKind, signal};

/// As shells have it.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// How it ended.
pub enum Ended {
    With(u8),
    NotStarted { code: u8, said: String },
}

/// Runs the program to its end; of its environment only `variables` are changed. Signals to us are the child's.
pub async fn run(command: &[OsString], variables: Vec<(&'static str, String)>) -> io::Result<Ended> {
    // Before there is a child: a signal must not end us and leave it without its proxy.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut user_1 = signal(SignalKind::user_defined1())?;
    let mut user_2 = signal(SignalKind::user_defined2())?;
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = match tokio::process::Command::new(program).args(arguments).envs(variables).spawn() {
        Ok(child) => child,
        Err(error) => {
            let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
            let said = format!("cannot start `{}`: {error}", program.display());
            return Ok(Ended::NotStarted { code, said });
        }
    };
    loop {
        let (got, from_terminal) = tokio::select! {
            ended = child.wait() => return Ok(Ended::With(code(ended?))),
            _ = terminate.recv() => (Signal::TERM, false),
            _ = hang_up.recv() => (Signal::HUP, true),
            _ = interrupt.recv() => (Signal::INT, true),
            _ = quit.recv() => (Signal::QUIT, true),
            _ = user_1.recv() => (Signal::USR1, false),
            _ = user_2.recv() => (Signal::USR2, false),
        };
        // A terminal sends these to its whole foreground group, the child included: once is enough.
        if from_terminal && in_foreground() {
            continue;
        }
        // `id` is none once the child was waited for, so the number can't be somebody else's by now.
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
            && let Err(error) = rustix::process::kill_process(pid, got)
        {
            tracing::debug!(%error, "the child did not get a signal");
        }
    }
}

fn in_foreground() -> bool {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else { return false };
    rustix::termios::tcgetpgrp(terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// The child's own code; 128 and the signal's number where one ended it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
