//! Audit lines as the verbs that ask about calls read them: what a line says. Whether its chain holds is
//! `audit verify`'s question.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::engine::reason::Reason;
use crate::record::verify::each_line;

/// One line of ours.
pub(super) enum Line {
    Event(Box<Event>),
    Intent(Intent),
    /// Opens or ends a lane; with its time.
    Lane(String),
}

/// How many lines were what.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(super) struct Counts {
    pub lines: u64,
    pub events: u64,
    /// Cut short by a crash or a full disk, or neither ours nor JSON. `audit verify` tells which.
    pub unreadable: u64,
    /// Other programs' JSON.
    pub foreign: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    pub event_time: String,
    pub event_source: String,
    pub event_name: String,
    pub event_type: String,
    pub aws_region: Option<String>,
    pub user_identity: Option<Identity>,
    #[serde(default)]
    pub resources: Vec<Named>,
    #[serde(rename = "requestID")]
    pub request_id: Option<String>,
    #[serde(rename = "additionalEventData")]
    additional: Additional,
}

#[derive(Debug, Deserialize)]
struct Additional {
    exeat: Ours,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    #[serde(rename = "ARN")]
    pub arn: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Identity {
    pub access_key_id: Option<String>,
    pub account_id: Option<String>,
    pub arn: Option<String>,
    #[serde(default)]
    pub session_context: SessionContext,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SessionContext {
    pub session_issuer: Issuer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Issuer {
    pub user_name: Option<String>,
}

/// `additionalEventData.exeat`, as far as somebody asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ours {
    pub flow: String,
    pub decision: String,
    pub end: String,
    pub reason: Option<String>,
    /// `exeat`, of a call that we made of ourselves.
    origin: Option<String>,
    pub target: Option<String>,
    pub host: Option<String>,
    pub client_tls: Option<Leg>,
    pub statement: Option<String>,
    pub place: Option<String>,
    pub signature: Option<String>,
    #[serde(default)]
    pub own_key: bool,
    #[serde(default)]
    pub actions: Vec<String>,
    pub path: Option<String>,
    #[serde(default)]
    pub status: u16,
    #[serde(default)]
    pub duration_us: u64,
    pub upstream: Option<Upstream>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Leg {
    #[serde(flatten)]
    pub tls: Tls,
    pub leaf: Option<String>,
    /// Only in the first event of a connection.
    #[serde(default)]
    pub chain: Vec<Shown>,
}

/// What an origin showed in a handshake that came to nothing, as far as somebody asks.
#[derive(Debug, Deserialize)]
pub(super) struct Unshaken {
    pub version: Option<String>,
    pub leaf: Option<String>,
    #[serde(default)]
    pub chain: Vec<Shown>,
}

/// A certificate of a chain.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    pub sha256: String,
    pub subject: Option<String>,
    pub issuer: Option<String>,
    pub not_after: Option<String>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, text) in [("", &self.subject), ("by ", &self.issuer), ("until ", &self.not_after)] {
            if let Some(text) = text {
                write!(f, "{word}{text}, ")?;
            }
        }
        write!(f, "sha256 {}", self.sha256)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Tls {
    pub version: String,
    pub cipher: String,
    pub group: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Upstream {
    pub tls: Option<Leg>,
    pub shown: Option<Unshaken>,
    pub extended_request_id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Intent {
    pub time: String,
    pub flow: String,
    /// `dynamodb:PutItem`, `http:GET`.
    pub operation: String,
    pub key: Option<String>,
    pub resource: Option<String>,
}

#[derive(Deserialize)]
struct LaneLine {
    time: String,
}

impl Event {
    pub fn ours(&self) -> &Ours {
        &self.additional.exeat
    }

    /// `dynamodb`, of an AWS call; a third party's host.
    pub fn service(&self) -> &str {
        self.event_source.strip_suffix(".amazonaws.com").unwrap_or(&self.event_source)
    }

    /// A call that exeat made of itself: no client asked for it, and no policy.
    pub fn is_own(&self) -> bool {
        self.ours().origin.as_deref() == Some("exeat")
    }

    pub fn is_aws(&self) -> bool {
        self.event_type == "AwsApiCall"
    }

    /// `dynamodb:PutItem`; `GET api.example.com`; of what never came to a request, `connect HOST`.
    pub fn call(&self) -> String {
        match self.event_type.as_str() {
            "AwsApiCall" => format!("{}:{}", self.service(), self.event_name),
            "HttpCall" => {
                format!(
                    "{} {}{}",
                    self.event_name,
                    self.event_source,
                    self.ours().path.as_deref().unwrap_or("")
                )
            }
            _ => format!("connect {}", self.host().unwrap_or("?")),
        }
    }

    /// The host as asked; where there was no request, the destination.
    pub fn host(&self) -> Option<&str> {
        self.ours().host.as_deref().or(self.ours().target.as_deref())
    }

    pub fn key(&self) -> Option<&str> {
        self.user_identity.as_ref()?.access_key_id.as_deref()
    }

    pub fn account(&self) -> Option<&str> {
        self.user_identity.as_ref()?.account_id.as_deref()
    }

    /// Role name or ARN of the key's source.
    pub fn role(&self) -> Option<&str> {
        let identity = self.user_identity.as_ref()?;
        identity.arn.as_deref().or(identity.session_context.session_issuer.user_name.as_deref())
    }

    /// What became of it: `allow`, `report` (passed although nothing allows it), `deny`, or `failed`: it was to pass, or
    /// might have, and the network, the client or a shortage of ours ended it.
    pub fn verdict(&self) -> &'static str {
        let ours = self.ours();
        let Some(code) = &ours.reason else {
            return if ours.decision == "report" { "report" } else { "allow" };
        };
        match code.parse::<Reason>() {
            // The origin answered, and we would not have it.
            Ok(Reason::UpstreamBelowFloor | Reason::UpstreamCertificate | Reason::UpstreamNotTls) => "deny",
            Ok(reason) if matches!(reason.status(), 408 | 500..) => "failed",
            _ => "deny",
        }
    }
}

/// What one line says; `None` where it is not one of ours, or not whole.
pub(super) fn read_line(bytes: &[u8]) -> Option<Line> {
    // Texts are escaped, so a line of ours begins so and no text in it does.
    if bytes.starts_with(b"{\"eventVersion\":\"") {
        return serde_json::from_slice(bytes).ok().map(Line::Event);
    }
    if bytes.starts_with(b"{\"exeat\":\"intent\"") {
        return serde_json::from_slice(bytes).ok().map(Line::Intent);
    }
    if bytes.starts_with(b"{\"exeat\":\"lane\"") || bytes.starts_with(b"{\"exeat\":\"end\"") {
        return serde_json::from_slice::<LaneLine>(bytes).ok().map(|lane| Line::Lane(lane.time));
    }
    None
}

/// Hands on each of our lines in `file`, which may be gzipped as `logrotate` leaves it. A file without any is an error:
/// it is not an audit file, and an answer over it would say nothing.
pub(super) fn read_file(file: &Path, take: &mut dyn FnMut(Line)) -> io::Result<Counts> {
    let mut counts = Counts::default();
    let mut read = |from: &mut dyn BufRead| {
        each_line(from, |bytes, _| {
            if bytes.is_empty() {
                return;
            }
            match read_line(bytes) {
                Some(line) => {
                    counts.lines += 1;
                    counts.events += u64::from(matches!(line, Line::Event(_)));
                    take(line);
                }
                None if is_json(bytes) => counts.foreign += 1,
                None => counts.unreadable += 1,
            }
        })
    };
    open(file).and_then(|mut from| read(&mut *from)).map_err(|error| naming(file, &error))?;
    if counts.lines == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("`{}` holds no audit line of exeat", file.display()),
        ));
    }
    Ok(counts)
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.events += other.events;
        self.unreadable += other.unreadable;
        self.foreign += other.foreign;
    }
}

pub(super) fn naming(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read `{}`: {error}", file.display()))
}

/// What begins as gzip does is read as such, whatever its name.
pub(super) fn open(file: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut opened = BufReader::with_capacity(1 << 16, File::open(file)?);
    if opened.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(opened))));
    }
    Ok(Box::new(opened))
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// `2026-11-23T05:00:00Z` in seconds since 1970.
pub(super) fn seconds(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

/// Text that strangers wrote, on its way to a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// All of `from`, while it is no more than `most`.
pub(super) fn read_at_most(from: &mut dyn BufRead, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is longer than {} MiB", most >> 20)));
    }
    Ok(bytes)
}
