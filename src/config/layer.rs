//! One source's settings before they are understood: key, text, and where it stands.

use std::fmt;
use std::path::PathBuf;

use crate::engine::facts::words;

words! {
    /// Every setting, by its key in the file. The variable is `EXEAT_` and the key in capitals, `.` becoming `_`.
    pub enum Key {
        Config = "config",
        Listen = "listen",
        Policy = "policy",
        Audit = "audit",
        CaOut = "ca_out",
        CaDir = "ca_dir",
        CaCert = "ca_cert",
        CaKey = "ca_key",
        UpstreamRoots = "upstream_roots",
        UpstreamCa = "upstream_ca",
        ConnectTo = "connect_to",
        UpstreamProxy = "upstream_proxy",
        UpstreamNoProxy = "upstream_no_proxy",
        Credentials = "credentials",
        MaxSkew = "max_skew",
        Repeats = "repeats",
        Admin = "admin",
        AdminSocket = "admin_socket",
        Workers = "workers",
        RecordsRotateSize = "records.rotate_size",
        RecordsRotateAge = "records.rotate_age",
        RecordsKeep = "records.keep",
        RecordsOnFailure = "records.on_failure",
        RecordsProcess = "records.process",
        RecordsLevel = "records.level",
        RecordsIncludeData = "records.include_data",
        RecordsData = "records.data",
        RecordsHidePaths = "records.hide_paths",
        RecordsHidePatterns = "records.hide_patterns",
        LimitsHandshake = "limits.handshake",
        LimitsHead = "limits.head",
        LimitsBodyIdle = "limits.body_idle",
        LimitsHeldBody = "limits.held_body",
        LimitsResponseHead = "limits.response_head",
        LimitsTurn = "limits.turn",
        LimitsDrain = "limits.drain",
        LimitsConnections = "limits.connections",
        LimitsConnectionsPerClient = "limits.connections_per_client",
        LimitsConnectionsPerOrigin = "limits.connections_per_origin",
        LimitsDials = "limits.dials",
        LimitsTunnels = "limits.tunnels",
        LimitsLookups = "limits.lookups",
        LimitsInspection = "limits.inspection",
    }
}

impl Key {
    /// Given several times, or a list in the file.
    pub const fn takes_many(self) -> bool {
        matches!(
            self,
            Self::UpstreamCa
                | Self::ConnectTo
                | Self::RecordsData
                | Self::RecordsHidePaths
                | Self::RecordsHidePatterns
        )
    }
}

/// Where a setting stands, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Flag(&'static str),
    Variable(String),
    /// Line and column count from 1.
    File {
        path: PathBuf,
        line: u64,
        column: u64,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
        }
    }
}

/// One value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub key: Key,
    pub text: String,
    pub origin: Origin,
}

impl Given {
    /// For a value that may hold a password: it is not repeated.
    pub(super) fn secret_problem(&self, want: &str) -> String {
        let Self { key, origin, .. } = self;
        match origin {
            Origin::File { .. } => format!("{origin}: {key}: want {want}"),
            _ => format!("{origin}: want {want}"),
        }
    }

    /// `config/exeat.yaml:3:9: workers: got "many", want a number from 1 to 256`.
    pub(super) fn problem(&self, want: &str) -> String {
        let Self { key, text, origin } = self;
        match origin {
            Origin::File { .. } => format!("{origin}: {key}: got {text:?}, want {want}"),
            _ => format!("{origin}: got {text:?}, want {want}"),
        }
    }
}

/// What one source says, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer(Vec<Given>);

impl Layer {
    /// Notes one value; a key that takes several is given several times.
    pub fn push(&mut self, key: Key, text: impl Into<String>, origin: Origin) {
        self.0.push(Given { key, text: text.into(), origin });
    }

    pub fn iter(&self) -> impl Iterator<Item = &Given> {
        self.0.iter()
    }

    pub(super) fn all(&self, key: Key) -> Vec<Given> {
        self.0.iter().filter(|given| given.key == key).cloned().collect()
    }

    pub(super) fn last(&self, key: Key) -> Option<&Given> {
        self.0.iter().rev().find(|given| given.key == key)
    }
}
