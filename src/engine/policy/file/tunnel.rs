//! A statement's `tunnel:`.

use std::time::Duration;

use super::Reader;
use super::shape::{self, Shape};
use crate::engine::policy::node::{Code, Node};
use crate::engine::policy::statement::{Effect, Rule};
use crate::engine::policy::tunnel::{TunnelLimits, TunnelRule};
use crate::engine::target::{Authority, Host};

impl Reader<'_> {
    pub(super) fn tunnel_rule(&mut self, node: &Node, effect: Effect, when: Option<&Node>) -> Option<Rule> {
        if effect == Effect::Deny {
            let message = "`tunnel` stands on allows only: what no statement tunnels is intercepted anyway";
            self.problem(node.at, Code::Conflict, message);
        }
        if let Some(when) = when {
            let message = "`when` asks requests, and a tunnel shows none";
            self.problem(when.at, Code::Conflict, message);
        }
        let [host, port, idle, life, bytes, ech] = self.fields(node, "tunnel", &shape::TUNNEL);
        let host = host.and_then(|node| {
            let text = self.text(node, Shape::Host)?;
            let Ok(host @ Host::Name(_)) = Host::parse(text) else {
                self.problem(node.at, Code::Value, format!("tunnel: `{text}`: want {}", Shape::Host.want()));
                return None;
            };
            Some(host)
        });
        let port = port.map_or(Some(443), |node| {
            let parse = |text: &str| Authority::parse(&format!("x:{text}"), None).ok();
            self.value("port", node, Shape::Port, parse).map(|authority| authority.port)
        });
        let defaults = TunnelLimits::default();
        let limits = TunnelLimits {
            idle: idle
                .map_or(Some(defaults.idle), |node| self.value("idle", node, Shape::Duration, duration))?,
            life: life
                .map_or(Some(defaults.life), |node| self.value("life", node, Shape::Duration, duration))?,
            bytes: match bytes {
                Some(node) => Some(self.value("bytes", node, Shape::Size, size)?),
                None => defaults.bytes,
            },
        };
        let ech =
            ech.is_some_and(|node| self.word("ech", node, Shape::Ech, &[("refuse", false), ("pass", true)]));
        Some(Rule::Tunnel(TunnelRule { target: Authority { host: host?, port: port? }, limits, ech }))
    }

    pub(super) fn value<T>(
        &mut self,
        name: &str,
        node: &Node,
        shape: Shape,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(node, shape)?;
        let value = parse(text);
        if value.is_none() {
            self.problem(node.at, Code::Value, format!("{name}: got {text:?}, want {}", shape.want()));
        }
        value
    }
}

/// A whole number with its unit; more than nothing.
fn number<'t>(text: &'t str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, unit): (&'t str, &'t str) =
        text.split_at(text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor).filter(|&total| total > 0)
}

pub(super) fn duration(text: &str) -> Option<Duration> {
    const WEEK: u64 = 7 * 24 * 3600;
    let seconds = number(text, &[("s", 1), ("m", 60), ("h", 3600)])?;
    (seconds <= WEEK).then(|| Duration::from_secs(seconds))
}

fn size(text: &str) -> Option<u64> {
    number(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)])
}
