//! The proxy that stands before us: where it is, what it wants to know, and which hosts go past it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::engine::facts::Secret;
use crate::engine::target::{Authority, Host};

/// `http://[user:password@]host[:port]`, or `https://` for one that speaks TLS itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamProxy {
    pub tls: bool,
    pub at: Authority,
    /// Value of `Proxy-Authorization`. It goes to this proxy and nowhere else.
    pub authorization: Option<Secret>,
    bypass: Vec<Bypass>,
}

/// One entry of a `NO_PROXY` list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bypass {
    All,
    /// The name and everything below it.
    Name {
        name: Box<str>,
        port: Option<u16>,
    },
}

impl UpstreamProxy {
    /// Says what is wanted where the text is no such proxy. The text may hold a password, so it is never repeated.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        const WANT: &str = "http://[USER:PASSWORD@]HOST[:PORT], or https://…";
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err("an http:// or https:// proxy (SOCKS proxies are not supported)"),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let default_port = if tls { 443 } else { 80 };
        let at = Authority::parse(place, Some(default_port)).map_err(|_| WANT)?;
        let authorization = match user {
            Some(user) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                let mut plain = zeroize::Zeroizing::new(decoded(name).ok_or(WANT)?);
                plain.push(b':');
                plain.extend(decoded(password).ok_or(WANT)?);
                Some(Secret::new(format!("Basic {}", STANDARD.encode(&*plain)).as_bytes()))
            }
            None => None,
        };
        Ok(Self { tls, at, authorization, bypass: Vec::new() })
    }

    /// Hosts that go past it: names with all below them, `*` for all; as `NO_PROXY` has it. Entries that can't be a
    /// name of ours (addresses, ranges) match nothing, since destinations are names.
    pub fn past(mut self, list: &str) -> Self {
        let entries = list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty());
        self.bypass = entries
            .filter_map(|entry| {
                if entry == "*" {
                    return Some(Bypass::All);
                }
                let bare = entry.strip_prefix('*').unwrap_or(entry);
                let bare = bare.strip_prefix('.').unwrap_or(bare);
                let (name, port) = match bare.rsplit_once(':') {
                    Some((name, port)) => (name, Some(port.parse().ok()?)),
                    None => (bare, None),
                };
                let Ok(Host::Name(name)) = Host::parse(name) else { return None };
                Some(Bypass::Name { name: (*name).into(), port })
            })
            .collect();
        self
    }

    /// The destination is reached through it.
    pub fn carries(&self, target: &Authority) -> bool {
        let Some(host) = target.host.as_name() else { return true };
        !self.bypass.iter().any(|entry| match entry {
            Bypass::All => true,
            Bypass::Name { name, port } => {
                port.is_none_or(|port| port == target.port)
                    && host.strip_suffix(&**name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        })
    }
}

impl fmt::Display for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.at)
    }
}

/// Userinfo is percent-encoded (RFC 3986 3.2.1).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => u8::try_from(digit(bytes.next()?)? * 16 + digit(bytes.next()?)?).ok()?,
            byte => byte,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_that_proxy_variables_take() {
        for (text, shown, authorization) in [
            ("http://proxy.corp:3128", "http://proxy.corp:3128", None),
            ("http://proxy.corp:3128/", "http://proxy.corp:3128", None),
            ("proxy.corp:3128", "http://proxy.corp:3128", None),
            ("proxy", "http://proxy:80", None),
            ("HTTPS://Proxy.Corp", "https://proxy.corp:443", None),
            ("http://127.0.0.1:1", "http://127.0.0.1:1", None),
            ("http://[::1]:1", "http://[::1]:1", None),
            ("http://u:p%40ss%3a@proxy.corp:1", "http://proxy.corp:1", Some("Basic dTpwQHNzOg==")),
            ("http://u@proxy.corp:1", "http://proxy.corp:1", Some("Basic dTo=")),
        ] {
            let proxy = UpstreamProxy::parse(text).unwrap();
            assert_eq!(proxy.to_string(), shown, "{text}");
            let given = proxy.authorization.as_ref().map(|value| value.expose().to_vec());
            assert_eq!(given.as_deref(), authorization.map(str::as_bytes), "{text}");
            assert!(!format!("{proxy:?}").contains("dTp"));
        }
        for bad in [
            "",
            "http://",
            "socks5://proxy:1080",
            "http://a b:1",
            "http://proxy:0",
            "http://u:%4@p:1",
            "http://proxy/path",
        ] {
            assert!(UpstreamProxy::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bypass_covers_a_name_and_what_is_below_it() {
        let proxy = UpstreamProxy::parse("http://p").unwrap();
        let carries = |list: &str, target: &str| {
            proxy.clone().past(list).carries(&Authority::parse(target, Some(443)).unwrap())
        };
        for (list, target) in [
            ("corp.test", "corp.test"),
            ("corp.test", "a.b.corp.test"),
            (".corp.test", "a.corp.test"),
            ("*.corp.test", "a.corp.test"),
            ("x, Corp.Test", "a.corp.test"),
            ("corp.test:443", "corp.test"),
            ("*", "anything.test"),
        ] {
            assert!(!carries(list, target), "{list} {target}");
        }
        for (list, target) in [
            ("", "corp.test"),
            ("corp.test", "notcorp.test"),
            ("corp.test", "corp.test.evil.test"),
            ("corp.test:8443", "corp.test"),
            ("169.254.169.254,10.0.0.0/8,::1", "corp.test"),
        ] {
            assert!(carries(list, target), "{list} {target}");
        }
    }
}
