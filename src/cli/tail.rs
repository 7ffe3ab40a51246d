//! `exeat tail [FILTER...]`: calls as they end, one line each; of a running proxy, or of its audit file.

mod filter;
mod follow;
mod line;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

use super::answer::Answer;
use super::lines::{Event, Line, naming, open, read_line};
use super::{Error, Output, OutputArgs, run};
use crate::config::{Key, Layer, Origin};
use crate::record::verify::each_line;
use filter::Filter;
use follow::Follow;

/// How often a file is looked at, and whether anybody still reads what we write.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(
    after_help = "Fields: verdict (allow deny report failed) service operation resource host reason account key\n  \
                        signature statement origin (client exeat). All filters must hold; `,` is or, `*` any run of characters.\nExamples:\n  \
                        exeat tail verdict:deny service:s3,sqs\n  \
                        exeat tail 'reason:tls.*,upstream.*' 'host:*.example.com' --audit audit.jsonl --last 20\n  \
                        exeat tail --audit audit.jsonl --no-follow -o json | jq .eventName"
)]
pub(super) struct TailArgs {
    /// FIELD:VALUE[,VALUE...]
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Ask the proxy that runs [env: EXEAT_ADMIN_SOCKET]
    #[arg(long, value_name = "FILE")]
    admin_socket: Option<String>,
    /// Follow this audit file, over rotation [env: EXEAT_AUDIT]
    #[arg(long, value_name = "FILE", conflicts_with = "admin_socket")]
    audit: Option<PathBuf>,
    /// Begin with this many calls that the file has already
    #[arg(short = 'n', long, value_name = "COUNT")]
    last: Option<usize>,
    /// End at the end of the file; without --last all calls are shown
    #[arg(long)]
    no_follow: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is shown, and how.
struct Show<'a, W> {
    filter: Filter,
    json: bool,
    colour: bool,
    out: &'a mut Answer<W>,
    failed: Option<io::Error>,
}

impl<W: Write> Show<'_, W> {
    fn of(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let Some(Line::Event(event)) = read_line(bytes) else { return None };
        self.filter.holds(&event).then(|| self.written(&event, bytes))
    }

    fn written(&self, event: &Event, bytes: &[u8]) -> Vec<u8> {
        let mut text = if self.json { bytes.to_vec() } else { line::line(event, self.colour).into_bytes() };
        text.push(b'\n');
        text
    }

    fn take(&mut self, bytes: &[u8]) {
        if let Some(text) = self.of(bytes) {
            self.write(&text);
        }
    }

    /// At once: a line that waits for a full buffer is no live view.
    fn write(&mut self, text: &[u8]) {
        if let Err(error) = self.out.write_all(text).and_then(|()| self.out.flush()) {
            self.failed = Some(error);
        }
    }

    /// Nobody reads any more: written to in vain, or closed while there was nothing to write.
    fn is_over(&self) -> bool {
        self.failed.is_some() || self.out.is_unread() || is_hung_up()
    }
}

/// Ends well on SIGINT and SIGTERM, when its reader goes away, and with the proxy that it watches.
pub(super) fn tail<W: Write>(args: &TailArgs, out: &mut Answer<W>) -> Result<bool, Error> {
    let filter = Filter::parse(&args.filters).map_err(Error::Usage)?;
    let json = args.output.output == Output::Json;
    let mut show = Show { filter, json, colour: !json && has_colour(), out, failed: None };
    let source = source(args)?;
    if let (Source::Socket(_), true) = (&source, args.no_follow || args.last.is_some()) {
        let why =
            "--last and --no-follow are about a file: give --audit FILE. A running proxy tells what comes";
        return Err(Error::Usage(why.to_owned()));
    }
    if let (Source::File(file), true) = (&source, args.no_follow) {
        past(file, args.last, &mut show).map_err(|error| naming(file, &error))?;
        return show.failed.map_or(Ok(true), |error| Err(error.into()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupts.recv() => Ok(()),
            _ = terminations.recv() => Ok(()),
            ended = async {
                match &source {
                    Source::Socket(socket) => watch(socket, &mut show).await,
                    Source::File(file) => grow(file, args.last, &mut show).await,
                }
            } => ended,
        }
    })?;
    show.failed.map_or(Ok(true), |error| Err(error.into()))
}

enum Source {
    Socket(PathBuf),
    File(PathBuf),
}

/// What is named, else the proxy that runs, else the audit file of the settings.
fn source(args: &TailArgs) -> Result<Source, Error> {
    if let Some(file) = &args.audit {
        return Ok(Source::File(file.clone()));
    }
    let mut layer = Layer::default();
    let given = args.admin_socket.clone();
    given.into_iter().for_each(|text| layer.push(Key::AdminSocket, text, Origin::Flag("--admin-socket")));
    let sources = run::sources(layer);
    if let Some(socket) = sources.path(Key::AdminSocket)? {
        return Ok(Source::Socket(socket));
    }
    match sources.path(Key::Audit)?.filter(|path| path.as_os_str() != "-") {
        Some(file) => Ok(Source::File(file)),
        None => Err(Error::Usage(
            "whose calls? Give --audit FILE, or --admin-socket FILE of a proxy that was started with \
             `exeat run --admin-socket FILE` (EXEAT_ADMIN_SOCKET for both)"
                .to_owned(),
        )),
    }
}

/// What is in the file already: all of it, or its last matches. It may be gzipped.
fn past<W: Write>(file: &Path, last: Option<usize>, show: &mut Show<'_, W>) -> io::Result<()> {
    let mut kept = VecDeque::new();
    each_line(&mut *open(file)?, |bytes, _| {
        let Some(text) = show.of(bytes) else { return };
        match last {
            None if !show.is_over() => show.write(&text),
            None => {}
            Some(most) => {
                kept.push_back(text);
                while kept.len() > most {
                    kept.pop_front();
                }
            }
        }
    })?;
    kept.iter().for_each(|text| show.write(text));
    Ok(())
}

async fn grow<W: Write>(file: &Path, last: Option<usize>, show: &mut Show<'_, W>) -> Result<(), Error> {
    let named = |error: io::Error| naming(file, &error);
    let mut follow = match last {
        None | Some(0) => Follow::from_end(file).map_err(named)?,
        Some(most) => {
            // Read once, so that no line falls between what was there and what comes.
            let mut follow = Follow::from_start(file).map_err(named)?;
            let mut kept = VecDeque::new();
            let keep = &mut |bytes: &[u8]| {
                kept.extend(show.of(bytes));
                while kept.len() > most {
                    kept.pop_front();
                }
            };
            follow.poll(keep).map_err(named)?;
            kept.iter().for_each(|text| show.write(text));
            follow
        }
    };
    let mut ticks = tokio::time::interval(TICK);
    while !show.is_over() {
        ticks.tick().await;
        follow.poll(&mut |bytes| show.take(bytes)).map_err(named)?;
    }
    Ok(())
}

async fn watch<W: Write>(socket: &Path, show: &mut Show<'_, W>) -> Result<(), Error> {
    let gone =
        |error: io::Error| Error::Unreachable(format!("no exeat answers at {}: {error}", socket.display()));
    let mut stream = UnixStream::connect(socket).await.map_err(gone)?;
    // HTTP/1.0: the answer is the lines, without chunks' framing.
    stream.write_all(b"GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n").await.map_err(gone)?;
    let mut lines = BufReader::new(stream).split(b'\n');
    let status = lines.next_segment().await.map_err(gone)?.unwrap_or_default();
    if !status.starts_with(b"HTTP/1.0 200 ") && !status.starts_with(b"HTTP/1.1 200 ") {
        let why = match status.get(9..12) {
            Some(b"503") => "as many watch already as may",
            Some(b"404") => "it is older than `exeat tail`",
            _ => "what answers is no exeat",
        };
        return Err(Error::Unreachable(format!("{}: {why}", socket.display())));
    }
    while lines.next_segment().await.map_err(gone)?.is_some_and(|line| line.trim_ascii_end() != b"") {}
    let mut ticks = tokio::time::interval(TICK);
    while !show.is_over() {
        tokio::select! {
            _ = ticks.tick() => {}
            line = lines.next_segment() => match line {
                Ok(Some(line)) if line.starts_with(b"{\"exeat\":\"missed\"") => {
                    eprintln!("exeat: some calls came faster than they were read: {}", String::from_utf8_lossy(&line));
                }
                Ok(Some(line)) => show.take(&line),
                Ok(None) | Err(_) => {
                    eprintln!("exeat: the proxy has ended");
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn has_colour() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let plain = set("NO_COLOR").is_some() || set("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !plain
}

/// A pipe without a reader, of standard output. Where it can't be told, the next line will.
fn is_hung_up() -> bool {
    let stdout = io::stdout();
    let mut asked = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut asked, Some(&at_once)).is_ok_and(|ready| ready > 0)
        && asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}
