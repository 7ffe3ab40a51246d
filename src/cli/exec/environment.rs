//! The variables that lead a program's clients through the proxy and have them believe its CA.
//!
//! What a variable held before is merged, never dropped: bundles into ours, options before ours, the outer proxy as the
//! way upstream.

use std::net::SocketAddr;
use std::path::Path;

use super::bundle;
use super::files::{Files, HOOK_NAME};

/// Set for children; how a nested `exec` knows the outer one.
pub const MARK: &str = "EXEAT_EXEC";
/// This machine, and what clouds serve keys and metadata from: never to be asked through a proxy.
const NEVER: [&str; 8] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
];
/// Endpoints of the platform, where an environment has others.
const ENDPOINTS: [&str; 5] = [
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_LAMBDA_RUNTIME_API",
    "ECS_CONTAINER_METADATA_URI",
    "ECS_CONTAINER_METADATA_URI_V4",
];

/// Where clients are led.
#[derive(Debug, Clone, Copy)]
pub struct Proxy<'a> {
    pub address: SocketAddr,
    /// `None` for a `run`, which asks for none.
    pub password: Option<&'a str>,
    /// Where a JVM goes, whose clients can't bring a password. `None`: to `address`.
    pub jvm: Option<SocketAddr>,
}

impl Proxy<'_> {
    pub fn url(&self) -> String {
        match self.password {
            Some(password) => format!("http://exeat:{password}@{}", self.address),
            None => format!("http://{}", self.address),
        }
    }
}

/// Looks a variable up; `None` where it isn't set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Proxy variables alone, and the bundle: what needs no more files.
pub fn basic(proxy: &Proxy<'_>, bundle: &Path, outer: Lookup<'_>) -> Vec<(&'static str, String)> {
    let url = proxy.url();
    let mut variables: Vec<(&'static str, String)> = Vec::new();
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
        variables.push((name, url.clone()));
    }
    // Asked where none of the above fits the scheme: what it names may not be a way around.
    for name in ["ALL_PROXY", "all_proxy"] {
        if outer(name).is_some() {
            variables.push((name, url.clone()));
        }
    }
    let direct = never(outer).join(",");
    variables.push(("NO_PROXY", direct.clone()));
    variables.push(("no_proxy", direct));
    let bundle = bundle.display().to_string();
    variables.extend(bundle::VARIABLES.map(|name| (name, bundle.clone())));
    variables
}

/// All of it: also for Node and the JVM.
pub fn whole(proxy: &Proxy<'_>, files: &Files, outer: Lookup<'_>) -> Vec<(&'static str, String)> {
    let mut variables = basic(proxy, &files.bundle, outer);
    variables.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    variables.push(("NODE_OPTIONS", node_options(&files.hook, outer)));
    variables.push(("JAVA_TOOL_OPTIONS", java_options(proxy, &files.trust_store, outer)));
    variables
}

/// Hosts that are asked directly.
fn never(outer: Lookup<'_>) -> Vec<String> {
    let mut hosts: Vec<String> = NEVER.map(str::to_owned).into();
    for name in ENDPOINTS {
        let Some(url) = outer(name) else { continue };
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = match authority.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        if !host.is_empty() && !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
    hosts
}

/// Ours comes first, so that what the user's own hooks open goes through it; an outer run's is ours already.
fn node_options(hook: &Path, outer: Lookup<'_>) -> String {
    let hook = hook.display().to_string();
    let quoted = match hook.contains([' ', '"', '\\']) {
        true => format!("\"{}\"", hook.replace('\\', "\\\\").replace('"', "\\\"")),
        false => hook,
    };
    let theirs = outer("NODE_OPTIONS").unwrap_or_default();
    let theirs = theirs.split(' ').filter(|word| !word.is_empty() && !word.contains(HOOK_NAME));
    std::iter::once(format!("--require={quoted}"))
        .chain(theirs.map(str::to_owned))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Ours come last: of two settings of one property the JVM takes the later.
fn java_options(proxy: &Proxy<'_>, trust_store: &Path, outer: Lookup<'_>) -> String {
    let address = proxy.jvm.unwrap_or(proxy.address);
    let mut options: Vec<String> =
        outer("JAVA_TOOL_OPTIONS").into_iter().filter(|own| !own.is_empty()).collect();
    for scheme in ["https", "http"] {
        options.push(format!("-D{scheme}.proxyHost={}", address.ip()));
        options.push(format!("-D{scheme}.proxyPort={}", address.port()));
    }
    // Java's list has its own form; the quotes are for the JVM, which splits at blanks and keeps `|`.
    let direct = never(outer)
        .iter()
        .map(|host| if host.contains(':') { format!("[{host}]") } else { host.clone() })
        .collect::<Vec<_>>();
    options.push(format!("-Dhttp.nonProxyHosts={}", direct.join("|")));
    let store = trust_store.display().to_string();
    let store = if store.contains(' ') { format!("\"{store}\"") } else { store };
    options.push(format!("-Djavax.net.ssl.trustStore={store}"));
    options.push("-Djavax.net.ssl.trustStoreType=PKCS12".to_owned());
    options.join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn made(outer: &[(&str, &str)]) -> HashMap<&'static str, String> {
        let outer: HashMap<_, _> = outer.iter().copied().collect();
        let files = Files {
            bundle: "/t/ca-bundle.pem".into(),
            hook: format!("/t/{HOOK_NAME}").into(),
            trust_store: "/t/truststore.p12".into(),
        };
        let proxy = Proxy {
            address: ([127, 0, 0, 1], 4321).into(),
            password: Some("hush"),
            jvm: Some(([127, 0, 0, 1], 4322).into()),
        };
        whole(&proxy, &files, &|name| outer.get(name).map(|&value| value.to_owned())).into_iter().collect()
    }

    #[test]
    fn leads_every_kind_of_client_through_the_proxy() {
        let made = made(&[]);
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
            assert_eq!(made[name], "http://exeat:hush@127.0.0.1:4321");
        }
        for name in bundle::VARIABLES {
            assert_eq!(made[name], "/t/ca-bundle.pem");
        }
        assert_eq!(made["NODE_OPTIONS"], format!("--require=/t/{HOOK_NAME}"));
        assert!(made["JAVA_TOOL_OPTIONS"].contains("-Dhttps.proxyPort=4322"));
        assert!(!made["JAVA_TOOL_OPTIONS"].contains("hush"));
        assert!(!made.contains_key("ALL_PROXY"));
    }

    #[test]
    fn keys_and_metadata_are_asked_directly_and_nothing_else_is() {
        let made = made(&[
            ("NO_PROXY", ".amazonaws.com"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://[::2]:80/creds"),
            ("AWS_LAMBDA_RUNTIME_API", "127.0.0.7:9001"),
            ("ALL_PROXY", "socks5://elsewhere"),
        ]);
        let direct: Vec<&str> = made["NO_PROXY"].split(',').collect();
        for host in ["localhost", "169.254.169.254", "169.254.170.2", "::2", "127.0.0.7"] {
            assert!(direct.contains(&host), "{host}: {direct:?}");
        }
        // The user's own list says what goes past the *outer* proxy; here it would be a way around us.
        assert!(!made["NO_PROXY"].contains("amazonaws") && made["NO_PROXY"] == made["no_proxy"]);
        assert_eq!(made["ALL_PROXY"], made["HTTPS_PROXY"]);
    }

    #[test]
    fn what_options_said_before_stays_and_an_outer_hook_is_not_loaded_twice() {
        let made = made(&[
            ("NODE_OPTIONS", "--require=/outer/exeat-node-hook.cjs --max-old-space-size=4096"),
            ("JAVA_TOOL_OPTIONS", "-Xmx1g"),
        ]);
        assert_eq!(made["NODE_OPTIONS"], format!("--require=/t/{HOOK_NAME} --max-old-space-size=4096"));
        assert!(made["JAVA_TOOL_OPTIONS"].starts_with("-Xmx1g -D"));
    }
}
