//! `exeat run` as a process of its own, until it says where it listens. Killed when dropped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

pub struct Program {
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Program {
    /// Waits for a line of the log with each of `words`, in their order; gives what follows them.
    pub fn start<const N: usize>(command: &mut Command, words: [&str; N]) -> (Self, [String; N]) {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        let told = words.map(|word| {
            loop {
                let mut line = String::new();
                assert!(lines.read_line(&mut line).unwrap() > 0, "exeat ended before it was ready:\n{log}");
                log.push_str(&line);
                if let Some((_, rest)) = line.split_once(word) {
                    break rest.split_whitespace().next().unwrap().to_owned();
                }
            }
        });
        let log = std::thread::spawn(move || {
            while lines.read_line(&mut log).unwrap_or(0) > 0 {}
            log
        });
        (Self { child, log: Some(log) }, told)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its own end; gives its exit code and what it said.
    pub fn wait(&mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        (status.code(), self.log.take().unwrap().join().unwrap())
    }

    /// Ends it, if it has not ended by itself.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if let Some(log) = self.log.take().filter(|_| std::thread::panicking()) {
            eprintln!("exeat said:\n{}", log.join().unwrap_or_default());
        }
    }
}
