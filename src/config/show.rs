//! Each setting as the program uses it, in the spelling of the file: what `config show` prints.

use std::path::Path;
use std::time::Duration;

use super::records::spelled_size;
use super::{AuditSink, CaSource, Config, Key, PolicySource, UpstreamProxy};

impl Config {
    /// The values of one setting; none where it is off. `None` for the settings file itself, which is no setting.
    pub fn values(&self, key: Key) -> Option<Vec<String>> {
        let path = |path: &Path| path.display().to_string();
        let maybe = |given: Option<&Path>| given.map(path).into_iter().collect();
        let (dir, cert, key_file) = match &self.ca {
            CaSource::InMemory => (None, None, None),
            CaSource::Kept(dir) => (Some(&**dir), None, None),
            CaSource::Files { cert, key } => (None, Some(&**cert), Some(&**key)),
        };
        Some(match key {
            Key::Config => return None,
            Key::Listen => vec![self.listen.to_string()],
            Key::Policy => match &self.policy {
                PolicySource::BuiltIn => Vec::new(),
                PolicySource::File(file) => vec![path(file)],
                PolicySource::Env(name) => vec![format!("env:{name}")],
            },
            Key::Audit => vec![match &self.audit {
                AuditSink::Stdout => "-".to_owned(),
                AuditSink::Nowhere => "(nowhere)".to_owned(),
                AuditSink::File(file) => path(file),
                AuditSink::Socket(socket) => format!("unix:{}", socket.display()),
            }],
            Key::CaOut => maybe(self.ca_out.as_deref()),
            Key::CaDir => maybe(dir),
            Key::CaCert => maybe(cert),
            Key::CaKey => maybe(key_file),
            Key::UpstreamRoots => vec![self.upstream_roots.to_string()],
            Key::UpstreamCa => self.upstream_ca.iter().map(|file| path(file)).collect(),
            Key::ConnectTo => self.connect_to.rules().collect(),
            // Without its password.
            Key::UpstreamProxy => self.upstream_proxy.iter().map(ToString::to_string).collect(),
            Key::UpstreamNoProxy => self
                .upstream_proxy
                .iter()
                .map(UpstreamProxy::passes)
                .filter(|list| !list.is_empty())
                .collect(),
            Key::Credentials => maybe(self.credentials.as_deref()),
            Key::MaxSkew => vec![spelled(Duration::from_secs(self.max_skew.unsigned_abs()))],
            Key::Repeats => vec![self.repeats.to_string()],
            Key::Admin => self.admin.iter().map(ToString::to_string).collect(),
            Key::AdminSocket => maybe(self.admin_socket.as_deref()),
            Key::Workers => vec![self.workers.to_string()],
            Key::RecordsRotateSize => self.records.rotate_size.map(spelled_size).into_iter().collect(),
            Key::RecordsRotateAge => self.records.rotate_age.map(spelled).into_iter().collect(),
            Key::RecordsKeep => vec![self.records.keep.to_string()],
            Key::RecordsOnFailure => vec![self.records.on_failure.to_string()],
            Key::RecordsProcess => vec![self.tells_process().to_string()],
            Key::RecordsLevel => vec![self.records.level.to_string()],
            Key::RecordsIncludeData => vec![self.records.include_data.to_string()],
            Key::RecordsData => self.records.data.iter().map(ToString::to_string).collect(),
            Key::RecordsHidePaths => self.records.hide_paths.clone(),
            Key::RecordsHidePatterns => self.records.hide_patterns.clone(),
            Key::LimitsHandshake => vec![spelled(self.limits.handshake)],
            Key::LimitsHead => vec![spelled(self.limits.head)],
            Key::LimitsBodyIdle => vec![spelled(self.limits.body_idle)],
            Key::LimitsHeldBody => vec![spelled(self.limits.held_body)],
            Key::LimitsResponseHead => vec![spelled(self.limits.response_head)],
            Key::LimitsTurn => vec![spelled(self.limits.turn)],
            Key::LimitsDrain => vec![spelled(self.limits.drain)],
            Key::LimitsConnections => vec![self.limits.connections.to_string()],
            Key::LimitsConnectionsPerClient => {
                self.limits.connections_per_client.iter().map(ToString::to_string).collect()
            }
            Key::LimitsConnectionsPerOrigin => vec![self.limits.connections_per_origin.to_string()],
            Key::LimitsDials => vec![self.limits.dials.to_string()],
            Key::LimitsTunnels => vec![self.limits.tunnels.to_string()],
            Key::LimitsLookups => vec![self.limits.lookups.to_string()],
            Key::LimitsInspection => self.limits.inspection.iter().map(|bytes| sized(bytes.get())).collect(),
        })
    }
}

/// A time as it is written in settings, in the largest unit that holds it whole.
fn spelled(time: Duration) -> String {
    let millis = time.as_millis();
    match [(3_600_000, "h"), (60_000, "m"), (1000, "s")]
        .into_iter()
        .find(|(unit, _)| millis.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// A size likewise.
fn sized(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let (unit, name) = units.into_iter().find(|(unit, _)| bytes.is_multiple_of(*unit)).unwrap_or((1, ""));
    format!("{}{name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limits::duration;
    use crate::config::{Layer, Origin, load};

    #[test]
    fn what_is_shown_reads_back_as_the_same_settings() {
        let mut layer = Layer::default();
        for (key, text) in [
            (Key::Listen, "127.0.0.1:0"),
            (Key::Policy, "env:POLICY"),
            (Key::Audit, "a.jsonl"),
            (Key::CaOut, "o.pem"),
            (Key::CaCert, "c.pem"),
            (Key::CaKey, "k.pem"),
            (Key::UpstreamRoots, "none"),
            (Key::UpstreamCa, "x.pem"),
            (Key::UpstreamCa, "y.pem"),
            (Key::ConnectTo, "*.a.test:443=127.0.0.1:1"),
            (Key::ConnectTo, "*:*=[::1]:2"),
            (Key::UpstreamProxy, "http://proxy.test:3128"),
            (Key::UpstreamNoProxy, "a.test,b.test:8443"),
            (Key::Credentials, "creds"),
            (Key::MaxSkew, "5m"),
            (Key::Repeats, "refuse"),
            (Key::Admin, "127.0.0.1:1"),
            (Key::AdminSocket, "s.sock"),
            (Key::Workers, "3"),
            (Key::RecordsRotateSize, "64MiB"),
            (Key::RecordsRotateAge, "36h"),
            (Key::RecordsKeep, "3"),
            (Key::RecordsProcess, "true"),
            (Key::RecordsLevel, "error"),
            (Key::RecordsIncludeData, "true"),
            (Key::RecordsData, "dynamodb:PutItem requestParameters.TableName"),
            (Key::RecordsData, "dynamodb:PutItem responseElements.*.Units"),
            (Key::RecordsHidePaths, "email"),
            (Key::RecordsHidePatterns, "*@*"),
            (Key::LimitsHandshake, "1500ms"),
            (Key::LimitsDrain, "2h"),
            (Key::LimitsConnectionsPerClient, "9"),
            (Key::LimitsInspection, "48MiB"),
        ] {
            layer.push(key, text, Origin::Flag("--test"));
        }
        let first = load(layer, [], |_| None).unwrap().config;
        let mut again = Layer::default();
        for &key in Key::ALL {
            for text in first.values(key).unwrap_or_default() {
                again.push(key, text, Origin::Flag("--test"));
            }
        }
        assert_eq!(load(again, [], |_| None).unwrap().config, first);
    }

    #[test]
    fn a_proxys_password_is_not_shown() {
        let mut layer = Layer::default();
        layer.push(Key::UpstreamProxy, "http://user:PLANTED@proxy.test:3128", Origin::Flag("--test"));
        let config = load(layer, [], |_| None).unwrap().config;
        assert_eq!(config.values(Key::UpstreamProxy).unwrap(), ["http://proxy.test:3128"]);
    }

    #[test]
    fn times_are_spelled_in_their_largest_whole_unit() {
        for text in ["1ms", "1500ms", "1s", "90s", "15m", "24h"] {
            assert_eq!(spelled(duration(text).unwrap()), text);
        }
        assert_eq!(spelled(duration("60s").unwrap()), "1m");
    }
}
