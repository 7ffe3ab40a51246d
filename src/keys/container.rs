//! The container-credentials protocol (ECS, EKS Pod Identity, CloudShell, local helpers): one GET in clear, to this
//! machine or to an address that is only ever the platform's.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::ledger::Ledger;
use super::{KeysError, ReadFile, Variables, account_in, endpoint};
use crate::engine::facts::{AccountId, Secret, Timestamp};
use crate::engine::signature::KnownKey;

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
/// Where a relative URI points.
const ECS: &str = "http://169.254.170.2";
/// ECS, EKS Pod Identity, and its IPv6 form.
const PLATFORM: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];
/// A key as the endpoint gave it.
#[derive(Debug, Clone)]
pub struct Fetched {
    id: String,
    secret: Secret,
    token: Option<Secret>,
    account: Option<AccountId>,
    pub(super) role: Option<String>,
    pub(super) expires: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'t> {
    // Some servers escape `/`: then it is a copy.
    #[serde(borrow)]
    access_key_id: Cow<'t, str>,
    #[serde(borrow)]
    secret_access_key: Cow<'t, str>,
    #[serde(borrow)]
    token: Option<Cow<'t, str>>,
    #[serde(borrow)]
    role_arn: Option<Cow<'t, str>>,
    #[serde(borrow)]
    account_id: Option<Cow<'t, str>>,
    #[serde(borrow)]
    expiration: Option<Cow<'t, str>>,
}

impl Fetched {
    pub fn key(&self) -> KnownKey {
        let mut key = KnownKey::new(&self.id, self.secret.clone(), self.token.clone());
        key.account = key.account.or(self.account);
        key.role = self.role.as_deref().map(Into::into);
        key.expires = self.expires;
        key
    }
}

pub fn is_named(env: Variables<'_>) -> bool {
    [RELATIVE, FULL].iter().any(|name| env(name).is_some_and(|value| !value.is_empty()))
}

/// Asks once.
pub fn fetch(env: Variables<'_>, read: ReadFile<'_>, ledger: &dyn Ledger) -> Result<Fetched, KeysError> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let url = match (set(RELATIVE), set(FULL)) {
        (Some(path), _) => format!("{ECS}{path}"),
        (None, Some(url)) => url,
        (None, None) => return Err(KeysError::Endpoint("no variable names it".to_owned())),
    };
    let (address, host, path) = place(&url)?;
    let token =
        match (set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), set("AWS_CONTAINER_AUTHORIZATION_TOKEN")) {
            (Some(file), _) => {
                let source = |source| KeysError::Read { path: file.clone().into(), source };
                Some(Zeroizing::new(read(Path::new(&file)).map_err(source)?))
            }
            (None, token) => token.map(Zeroizing::new),
        };
    let token = token.as_ref().map(|token| token.trim_end_matches('\n'));
    let field = token.map(|token| ("Authorization", token));
    let body = endpoint::ask(ledger, address, &host, "GET", &path, field)?;
    parse(&body)
}

/// The document that both endpoints serve.
pub(super) fn parse(body: &[u8]) -> Result<Fetched, KeysError> {
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    let answer: Answer<'_> = serde_json::from_str(text).map_err(|_| malformed())?;
    let (account, role) = (answer.account_id.as_deref(), answer.role_arn.as_deref());
    let account = account.and_then(AccountId::parse).or(role.and_then(account_in));
    Ok(Fetched {
        id: answer.access_key_id.into_owned(),
        secret: Secret::new(answer.secret_access_key.as_bytes()),
        token: answer.token.map(|token| Secret::new(token.as_bytes())),
        account,
        role: role.and_then(|arn| arn.rsplit('/').next()).map(str::to_owned),
        expires: answer.expiration.as_deref().and_then(super::instant),
    })
}

fn malformed() -> KeysError {
    KeysError::Endpoint("its answer holds no keys".to_owned())
}

/// Address, `Host` and path of a URL that may be asked in clear.
fn place(url: &str) -> Result<(SocketAddr, String, String), KeysError> {
    let no = |why: &str| KeysError::Endpoint(why.to_owned());
    let rest = url.strip_prefix("http://").ok_or_else(|| no("only `http://` endpoints can be asked"))?;
    let (host, path) = rest.find(['/', '?']).map_or((rest, "/"), |at| rest.split_at(at));
    let socket = if let Some(port) = host.strip_prefix("localhost") {
        format!("127.0.0.1{port}")
    } else {
        host.to_owned()
    };
    let address: SocketAddr = socket
        .parse()
        .or_else(|_| socket.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 80)))
        .map_err(|_| no("its host is not an address of this machine or of the platform"))?;
    if !(address.ip().is_loopback() || PLATFORM.contains(&address.ip())) {
        return Err(no("its address is neither this machine's nor the platform's"));
    }
    let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(no("its path is malformed"));
    }
    Ok((address, host.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::endpoint::testing::serve;
    use crate::keys::ledger::Nowhere;

    #[test]
    fn only_this_machine_and_the_platform_are_asked() {
        for good in [
            "http://169.254.170.2/v2/credentials/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://127.0.0.1:1338/latest/meta-data/container/security-credentials",
            "http://localhost:9999",
        ] {
            assert!(place(good).is_ok(), "{good}");
        }
        for bad in [
            "https://127.0.0.1/",
            "http://169.254.169.254/",
            "http://10.0.0.1/",
            "http://localhost.evil.test/",
            "http://127.0.0.1@evil.test/",
            "http://evil.test/",
            "http://127.0.0.1:80/a b",
            "169.254.170.2/x",
        ] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn takes_key_token_role_and_account_from_the_answer() {
        let (address, asked) = serve(vec![concat!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
            r#"{"RoleArn":"arn:aws:iam::210987654321:role/app","AccessKeyId":"ASIAIOSFODNN7EXAMPLE","#,
            r#""SecretAccessKey":"s\/","Token":"t","Expiration":"2030-01-01T00:00:00Z"}"#
        )]);
        let env = |name: &str| match name {
            FULL => Some(format!("http://{address}/creds?x=1")),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" => Some("/token".to_owned()),
            _ => None,
        };
        let fetched = fetch(
            &env,
            &|path| {
                assert_eq!(path, Path::new("/token"));
                Ok("hush\n".to_owned())
            },
            &Nowhere,
        );
        let key = fetched.unwrap().key();
        // The id is of the older kind: the account is the role's.
        assert_eq!((key.account, key.role.as_deref()), (AccountId::parse("210987654321"), Some("app")));
        assert_eq!((key.secret.expose(), key.token.unwrap().expose()), (&b"s/"[..], &b"t"[..]));
        assert_eq!(key.expires, Some(Timestamp(1_893_456_000)));
        let asked = asked.join().unwrap().remove(0);
        assert!(
            asked.starts_with("GET /creds?x=1 HTTP/1.0\r\n") && asked.contains("Authorization: hush\r\n")
        );
    }

    #[test]
    fn an_answer_without_keys_is_an_error_without_secrets() {
        for answer in [
            "HTTP/1.1 403 Forbidden\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\n\r\n{\"SecretAccessKey\":\"hush\"}",
            "hush",
        ] {
            let (address, _asked) = serve(vec![answer]);
            let env = |name: &str| (name == FULL).then(|| format!("http://{address}/"));
            let error = fetch(&env, &|_| Err(std::io::ErrorKind::NotFound.into()), &Nowhere).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
        }
    }
}
