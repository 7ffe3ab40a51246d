//! How long each phase may take and how much of each resource may be in use, every default beside its reason.
//!
//! What is met is a typed refusal: `request.timeout`, `upstream.timeout`, or the `limit.*` that says which.

use std::num::NonZeroUsize;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longer than a slow ClientHello over satellite; short enough to free the slot. Both legs.
    pub handshake: Duration,
    /// A request's head, from its first byte.
    pub head: Duration,
    /// Between two reads of a body, and of an idle kept-alive connection. There is no least rate: a stream of events may
    /// be slow for hours, and what a slow peer holds is bounded by its connection.
    pub body_idle: Duration,
    /// A body that is read before it is judged, from first to last: it holds a share of `inspection` all the while, so
    /// here slowness has a price. 32 MiB, the longest, at half a MiB a second.
    pub held_body: Duration,
    /// Lambda Invoke and GetActivityTask answer after minutes; nothing of ours may be shorter.
    pub response_head: Duration,
    /// For a turn to dial, for one of an origin's connections, and for room to inspect. SDKs try again after a 503: a
    /// no that comes early is worth more than one that comes late.
    pub turn: Duration,
    /// Below the 30 s that ECS leaves between SIGTERM and SIGKILL.
    pub drain: Duration,
    /// Of clients, together. Idle, each holds less than 20 KiB: 320 MiB when all do. Fewer where descriptors are fewer,
    /// see [`Limits::within`].
    pub connections: NonZeroUsize,
    /// Of one client address. Unless given, seven eighths: one that leaks leaves room for the others.
    pub connections_per_client: Option<NonZeroUsize>,
    /// To one origin, shared out evenly among the workers. Ten times the largest pool that an SDK opens unasked; a
    /// runaway retry loop ends here, and not at the origin.
    pub connections_per_origin: NonZeroUsize,
    /// Connections to origins in the making. A handshake takes 0.2 ms of a core: more at once make each of them slower.
    pub dials: NonZeroUsize,
    /// Tunnels that are open. Each holds two sockets and no buffer while it is idle.
    pub tunnels: NonZeroUsize,
    /// Different names looked up for one client address in a minute: a name can carry what its sender likes, and a
    /// program that works asks for the same few.
    pub lookups: NonZeroUsize,
    /// Bytes of bodies that are read before they are judged. Unless given, a quarter of the memory that we may use.
    pub inspection: Option<NonZeroUsize>,
}

/// Descriptors of the program's own: listeners, audit, policy, admin door.
const OWN_DESCRIPTORS: u64 = 64;

impl Default for Limits {
    fn default() -> Self {
        let count = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            body_idle: Duration::from_secs(60),
            held_body: Duration::from_secs(60),
            response_head: Duration::from_secs(15 * 60),
            turn: Duration::from_secs(5),
            drain: Duration::from_secs(25),
            connections: count(16 * 1024),
            connections_per_client: None,
            connections_per_origin: count(1024),
            dials: count(256),
            tunnels: count(4096),
            lookups: count(256),
            inspection: None,
        }
    }
}

impl Limits {
    /// The same under `descriptors` that the process may open: clients get two thirds, so that a full house can still
    /// dial and record.
    pub fn within(self, descriptors: u64) -> Self {
        let most = usize::try_from(descriptors.saturating_sub(OWN_DESCRIPTORS) / 3 * 2).unwrap_or(usize::MAX);
        let most = NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
        Self { connections: self.connections.min(most), ..self }
    }

    pub fn per_client(&self) -> usize {
        let all = self.connections.get();
        self.connections_per_client.map_or(all - all / 8, NonZeroUsize::get).min(all)
    }
}

/// A whole number and `ms`, `s`, `m` or `h`; more than zero, at most a day.
pub(super) fn duration(text: &str) -> Option<Duration> {
    duration_up_to(text, Duration::from_hours(24))
}

pub(super) fn duration_up_to(text: &str, most: Duration) -> Option<Duration> {
    let (number, unit) = number(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let total = number.checked_mul(millis)?;
    Some(Duration::from_millis(total)).filter(|time| !time.is_zero() && *time <= most)
}

/// A whole number and `KiB`, `MiB` or `GiB`; more than zero.
pub(super) fn size(text: &str) -> Option<NonZeroUsize> {
    let (number, unit) = number(text)?;
    let factor = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    NonZeroUsize::new(usize::try_from(number.checked_mul(factor)?).ok()?)
}

fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_is_above_zero() {
        for (text, want) in
            [("10s", Some(10_000)), ("500ms", Some(500)), ("15m", Some(900_000)), ("24h", Some(86_400_000))]
        {
            assert_eq!(duration(text).map(|d| d.as_millis()), want, "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "25h",
            "10 s",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_has_a_unit_and_is_above_zero() {
        assert_eq!(size("64MiB").map(NonZeroUsize::get), Some(64 << 20));
        for text in ["", "64", "MiB", "0MiB", "64MB", "-1KiB", "1.5GiB", "18446744073709551615GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn descriptors_bound_the_connections_and_one_client_never_gets_them_all() {
        let limits = Limits::default();
        assert_eq!(limits.within(1 << 20), limits);
        let lambda = limits.within(1024);
        assert_eq!((lambda.connections.get(), lambda.per_client()), (640, 560));
        assert_eq!(limits.within(0).connections.get(), 1);
        let given = Limits { connections_per_client: NonZeroUsize::new(9000), ..limits };
        assert_eq!((given.per_client(), given.within(1024).per_client()), (9000, 640));
    }

    #[test]
    fn no_answer_is_waited_for_less_than_a_lambda_invocation_takes() {
        let Limits { response_head, .. } = Limits::default();
        assert!(response_head >= Duration::from_secs(15 * 60));
    }
}
