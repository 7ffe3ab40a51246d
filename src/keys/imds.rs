//! The instance's own keys (EC2, IMDSv2): a session token, the role's name, its keys.
//!
//! Only where an SDK would come to it, and only on a machine that says it is an instance: elsewhere the address would
//! keep every start waiting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::container::{self, Fetched};
use super::ledger::Ledger;
use super::{KeysError, ReadFile, Variables, endpoint};

const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const IMDS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];
/// What the hypervisor tells of an instance.
const VENDOR: &str = "/sys/class/dmi/id/board_vendor";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// Whether this is an instance whose metadata may be asked.
pub fn applies(env: Variables<'_>, read: ReadFile<'_>) -> bool {
    let disabled = env("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let named = env(ENDPOINT).is_some_and(|value| !value.is_empty());
    !disabled && (named || read(Path::new(VENDOR)).is_ok_and(|vendor| vendor.trim() == "Amazon EC2"))
}

/// Asks once.
pub fn fetch(env: Variables<'_>, ledger: &dyn Ledger) -> Result<Fetched, KeysError> {
    let no = |why: &str| KeysError::Endpoint(why.to_owned());
    let (address, host) = match env(ENDPOINT).filter(|value| !value.is_empty()) {
        Some(url) => {
            let rest =
                url.strip_prefix("http://").ok_or_else(|| no("only `http://` endpoints can be asked"))?;
            let host = rest.trim_end_matches('/');
            let address: Option<SocketAddr> = host.parse().ok().or_else(|| {
                host.trim_matches(['[', ']']).parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 80))
            });
            (address.ok_or_else(|| no("its host is not an address"))?, host.to_owned())
        }
        None => (SocketAddr::new(IMDS[0], 80), IMDS[0].to_string()),
    };
    if !(address.ip().is_loopback() || IMDS.contains(&address.ip())) {
        return Err(no("its address is neither this machine's nor the platform's"));
    }
    let text = |body: &[u8]| {
        std::str::from_utf8(body).map(|text| text.trim().to_owned()).map_err(|_| no("its answer is no text"))
    };
    let life = ("X-aws-ec2-metadata-token-ttl-seconds", "60");
    let token = zeroize::Zeroizing::new(text(&endpoint::ask(
        ledger,
        address,
        &host,
        "PUT",
        "/latest/api/token",
        Some(life),
    )?)?);
    let with = Some(("X-aws-ec2-metadata-token", token.as_str()));
    let role = text(&endpoint::ask(ledger, address, &host, "GET", ROLES, with)?)?;
    let role = role.lines().next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@-_".contains(&byte);
    if role.is_empty() || !role.bytes().all(plain) {
        return Err(no("the instance has no role"));
    }
    let body = endpoint::ask(ledger, address, &host, "GET", &format!("{ROLES}{role}"), with)?;
    let mut fetched = container::parse(&body)?;
    fetched.role = Some(role.to_owned());
    Ok(fetched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::endpoint::testing::serve;
    use crate::keys::ledger::Nowhere;

    #[test]
    fn asks_for_a_token_then_the_role_then_its_keys() {
        let (address, asked) = serve(vec![
            "HTTP/1.1 200 OK\r\n\r\nhush",
            "HTTP/1.1 200 OK\r\n\r\napp-role",
            concat!(
                "HTTP/1.1 200 OK\r\n\r\n",
                r#"{"Code":"Success","AccessKeyId":"ASIARZPUZDIKAAAAAAAA","SecretAccessKey":"s","Token":"t"}"#
            ),
        ]);
        let env = |name: &str| (name == ENDPOINT).then(|| format!("http://{address}/"));
        let key = fetch(&env, &Nowhere).unwrap().key();
        assert_eq!(key.role.as_deref(), Some("app-role"));
        assert_eq!(key.account.unwrap().to_string(), "123456789012");
        let asked = asked.join().unwrap();
        assert!(asked[0].starts_with("PUT /latest/api/token ") && asked[0].contains("ttl-seconds: 60\r\n"));
        assert!(asked[2].starts_with(&format!("GET {ROLES}app-role ")));
        assert!(asked[1..].iter().all(|request| request.contains("metadata-token: hush\r\n")));
    }

    #[test]
    fn is_asked_only_on_an_instance_and_nowhere_else_than_there() {
        let vendor = |text: &'static str| {
            move |path: &Path| match path.to_str() {
                Some(VENDOR) => Ok(text.to_owned()),
                _ => Err(std::io::ErrorKind::NotFound.into()),
            }
        };
        assert!(applies(&|_| None, &vendor("Amazon EC2\n")));
        assert!(!applies(&|_| None, &vendor("Somebody")));
        let disabled = |name: &str| (name == "AWS_EC2_METADATA_DISABLED").then(|| "True".to_owned());
        assert!(!applies(&disabled, &vendor("Amazon EC2\n")));
        for url in ["http://192.0.2.1/", "https://127.0.0.1/", "http://imds.evil.test/"] {
            assert!(fetch(&|name| (name == ENDPOINT).then(|| url.to_owned()), &Nowhere).is_err(), "{url}");
        }
        let (address, _asked) = serve(vec!["HTTP/1.1 200 OK\r\n\r\nt", "HTTP/1.1 200 OK\r\n\r\n../x"]);
        assert!(fetch(&|name| (name == ENDPOINT).then(|| format!("http://{address}")), &Nowhere).is_err());
    }
}
