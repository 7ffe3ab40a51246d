//! `exeat explain sqs:SendMessage ARN --policy FILE`: would it be allowed? The policy that the proxy asks answers.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use serde_json::json;

use crate::app;
use crate::cli::{Error, Output};
use crate::config::PolicySource;
use crate::engine::atlas::{Atlas, HostKind, ListedAction};
use crate::engine::facts::{
    AccountId, Action, Arrival, Ask, Auth, Door, Identity, Operation, PayloadState, Protocol, Resource,
    SignatureState, Signer, TlsFacts, TlsVersion,
};
use crate::engine::policy::{Decision, Mode, Request, Wants};
use crate::engine::reason::Reason;
use crate::engine::request::RequestHead;
use crate::engine::signature::{KnownKeys, account_of};
use crate::engine::suggest::{self, Call};
use crate::engine::target::Authority;
use crate::engine::words::nearest;
use crate::keys::Keyring;

/// What is asked beside the call itself.
pub(super) struct Circumstances<'a> {
    pub policy: Option<&'a Path>,
    /// A key id, an account, or `none`.
    pub signer: Option<&'a str>,
    /// Accounts that `self` stands for, beside those of the keys.
    pub ours: &'a [String],
    pub credentials: Option<&'a Path>,
    pub headers: &'a [String],
}

/// Prints the answer; `true` where it would be allowed. `what` is an action or an HTTP method.
pub(super) fn ask(
    what: &str,
    on: Option<&str>,
    given: &Circumstances<'_>,
    output: Output,
    out: &mut dyn Write,
) -> Result<bool, Error> {
    let source = given.policy.map_or(PolicySource::BuiltIn, |file| PolicySource::File(file.into()));
    let policy = app::read_policy(&source, Mode::Run)?;
    let call = Asked::read(what, on, given)?;
    let ours = Ours::read(given)?;
    let identity = identity(&call, given, &ours)?;
    let signed = |name: &str| call.signs(name) && identity.auth == Auth::SigV4;
    let arrival = arrival(&call.head);
    let wants = Wants::default();
    let decision = policy.decide(&Request {
        wants: &wants,
        head: &call.head,
        arrival: &arrival,
        host: call.head.authority(),
        operation: call.operation.as_ref(),
        identity: &identity,
        signed_header: &signed,
        own_accounts: &ours.accounts,
        now: crate::tls::now(),
    });
    let told = call.told(&identity);
    let (allowed, reason, said, statement, would, add) = match decision {
        _ if call.unknown_aws => {
            let said = "it looks like AWS and is no endpoint the atlas knows".to_owned();
            (false, Some(Reason::TargetUnknownAws), said, None, Vec::new(), None)
        }
        Decision::Allow(permit) => {
            let said = match (permit.statement(), permit.observed()) {
                (Some(placed), _) => format!("`{}` allows it", placed.id),
                (None, _) => "no statement allows it; `default: report` lets it pass".to_owned(),
            };
            (true, None, said, permit.statement().cloned(), permit.would().to_vec(), None)
        }
        Decision::Deny(denied) => {
            let add = suggest::to_allow(&told, denied.reason).map(|add| add.block());
            (false, Some(denied.reason), denied.said, denied.statement, denied.would, add)
        }
    };
    let place = statement.as_ref().map(|placed| format!("{}:{}:{}", placed.file, placed.line, placed.column));
    let id = statement.as_ref().map(|placed| &*placed.id);
    let by = by(&identity);
    if output == Output::Json {
        let would: Vec<&str> = would.iter().map(|id| &**id).collect();
        let answer = json!({
            "decision": if allowed { "allow" } else { "deny" }, "reason": reason.map(Reason::as_str),
            "asked": told.subject(), "by": by, "said": said, "statement": id, "place": place, "would": would,
            "policy": policy.hash(), "to_allow": add,
        });
        crate::cli::json(out, &answer)?;
        return Ok(allowed);
    }
    let code = reason.map(|reason| format!("  [{reason}]")).unwrap_or_default();
    writeln!(out, "{}  {}{code}", if allowed { "ALLOW" } else { "DENY" }, told.subject())?;
    writeln!(out, "  by        {by}")?;
    writeln!(out, "  why       {said}")?;
    if let Some((id, place)) = id.zip(place) {
        writeln!(out, "  statement {id} ({place})")?;
    }
    for id in would {
        writeln!(out, "  report    `{id}` would have decided otherwise")?;
    }
    if ours.accounts.is_empty() && !allowed && call.operation.is_some() {
        writeln!(out, "  self      nobody: say `--self ACCOUNT` where the policy says `self`")?;
    }
    if let Some(add) = add {
        writeln!(out, "\nTo allow exactly this call, add to the policy's statements:\n{add}")?;
    }
    Ok(allowed)
}

/// A call as it is put to the policy.
struct Asked {
    head: RequestHead,
    operation: Option<Operation>,
    /// No policy can name it.
    unknown_aws: bool,
}

impl Asked {
    fn read(what: &str, on: Option<&str>, given: &Circumstances<'_>) -> Result<Self, Error> {
        match what.split_once(':') {
            Some((service, name)) if !service.is_empty() && !name.is_empty() && !name.contains(':') => {
                Self::of_aws(what, service, name, on, given)
            }
            _ => Self::of_http(what, on, given),
        }
    }

    fn of_aws(
        action: &str,
        service: &str,
        name: &str,
        on: Option<&str>,
        given: &Circumstances<'_>,
    ) -> Result<Self, Error> {
        let usage = |text: String| Error::Usage(text);
        if !action.bytes().all(|b| b.is_ascii_alphanumeric() || b == b':' || b == b'-') {
            return Err(usage(format!(
                "`{action}` is no action: one such as sqs:SendMessage, without wildcards"
            )));
        }
        let action = known(service, name)?;
        let (resource, arn_region) = match on {
            None => (Resource::None, None),
            Some(arn) => {
                let parts: Vec<&str> = arn.splitn(6, ':').collect();
                let [prefix, _, _, region, account, _] = parts[..] else {
                    return Err(usage(format!(
                        "`{arn}` is no ARN; want arn:aws:SERVICE:REGION:ACCOUNT:NAME"
                    )));
                };
                let numbered = AccountId::parse(account);
                if prefix != "arn" || (numbered.is_none() && !["", "aws"].contains(&account)) {
                    return Err(usage(format!(
                        "`{arn}` is no ARN of one account; `self` and `*` are for policies"
                    )));
                }
                (
                    Resource::Arn { arn: arn.to_owned(), account: numbered },
                    Some(region).filter(|r| !r.is_empty()),
                )
            }
        };
        let region = arn_region.unwrap_or("us-east-1");
        let ask = Ask { action: Action::Known(action.as_str().into()), resource };
        let operation = Operation {
            service: service.into(),
            name: Some(name.into()),
            region: region.into(),
            protocol: Protocol::Http,
            asks: vec![ask],
        };
        let head =
            head("POST", &format!("{}.{region}.amazonaws.com", service.to_ascii_lowercase()), "/", given)?;
        Ok(Self { head, operation: Some(operation), unknown_aws: false })
    }

    fn of_http(method: &str, url: Option<&str>, given: &Circumstances<'_>) -> Result<Self, Error> {
        let want = || {
            let what =
                "ask about an action (sqs:SendMessage ARN) or a URL (GET https://api.example.com/path)";
            Error::Usage(format!("`{method}` is neither; {what}"))
        };
        let rest = url.and_then(|url| url.strip_prefix("https://")).ok_or_else(want)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let head = head(&method.to_ascii_uppercase(), authority, path, given)?;
        match Atlas::built_in().host(&head.authority().host) {
            HostKind::Outside | HostKind::Rented(_) => Ok(Self { head, operation: None, unknown_aws: false }),
            HostKind::UnknownAws => Ok(Self { head, operation: None, unknown_aws: true }),
            HostKind::Service(_) => Err(Error::Usage(format!(
                "`{authority}` is an endpoint of AWS: `http:` statements never name it; ask about an action"
            ))),
        }
    }

    fn signs(&self, name: &str) -> bool {
        self.head.has(name)
    }

    fn told(&self, identity: &Identity) -> Call {
        let account = identity.signer.as_ref().and_then(|signer| signer.account);
        Call::new(&self.head, self.operation.as_ref(), account)
    }
}

/// The action in IAM's spelling. A typing slip would be answered too, by statements with wildcards: so it is refused.
fn known(service: &str, name: &str) -> Result<String, Error> {
    let atlas = Atlas::built_in();
    let service = service.to_ascii_lowercase();
    let (what, meant) = match atlas.actions(&service) {
        None => (format!("service `{service}`"), nearest(&service, atlas.prefixes()).map(str::to_owned)),
        Some(actions) => {
            if let Some(action) = ListedAction::find(actions, name) {
                return Ok(format!("{service}:{}", action.name));
            }
            let meant = nearest(name, actions.iter().map(|action| action.name));
            (format!("action `{service}:{name}`"), meant.map(|meant| format!("{service}:{meant}")))
        }
    };
    let hint = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
    Err(Error::Usage(format!("the atlas knows no {what}{hint}")))
}

fn head(method: &str, host: &str, path: &str, given: &Circumstances<'_>) -> Result<RequestHead, Error> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for header in given.headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    Authority::parse(host, Some(443)).map_err(|error| Error::Usage(format!("`{host}`: {error}")))?;
    RequestHead::parse(Bytes::from(text)).map_err(|error| Error::Usage(format!("no such request: {error}")))
}

/// Whose keys are ours, as far as the question tells.
struct Ours {
    keys: KnownKeys,
    accounts: Vec<AccountId>,
}

impl Ours {
    fn read(given: &Circumstances<'_>) -> Result<Self, Error> {
        let keys = match given.credentials {
            Some(file) => Keyring::new(Some(file.into()), Vec::new())
                .known(&|_| None, &|path| std::fs::read_to_string(path))
                .map_err(app::Error::from)?,
            None => KnownKeys::default(),
        };
        let mut accounts = keys.own_accounts().to_vec();
        for text in given.ours {
            let account = AccountId::parse(text);
            accounts.push(account.ok_or_else(|| Error::Usage(format!("--self {text}: want twelve digits")))?);
        }
        Ok(Self { keys, accounts })
    }
}

/// One of our keys unless another is named. Ours are verified; of others the proxy holds no secret, so it knows what
/// their id tells and no more.
fn identity(call: &Asked, given: &Circumstances<'_>, ours: &Ours) -> Result<Identity, Error> {
    let signer = match given.signer {
        None if call.operation.is_none() => return Ok(Identity::NONE),
        Some("none") => return Ok(Identity::NONE),
        None => Signer {
            key_id: "one of our keys".into(),
            account: ours.accounts.first().copied(),
            role: None,
            own: true,
            untold: false,
            parents: None,
        },
        Some(text) => {
            let known = ours.keys.get(text).map(|key| Signer {
                key_id: key.id.clone(),
                account: key.account,
                role: key.role.clone(),
                own: key.own,
                untold: false,
                parents: key.parents.clone(),
            });
            let (account, key_id) = match AccountId::parse(text) {
                Some(account) => (Some(account), "a key"),
                None => (account_of(text), text),
            };
            if known.is_none() && account.is_none() {
                let want = "want twelve digits, none, or a key id that tells its account";
                return Err(Error::Usage(format!("--signer {text}: {want}")));
            }
            let own = account.is_some_and(|account| ours.accounts.contains(&account));
            known.unwrap_or(Signer {
                key_id: key_id.into(),
                account,
                role: None,
                own,
                untold: false,
                parents: None,
            })
        }
    };
    let signature = if signer.own { SignatureState::Verified } else { SignatureState::UnknownKey };
    Ok(Identity { auth: Auth::SigV4, signature, payload: PayloadState::Signed, signer: Some(signer) })
}

fn by(identity: &Identity) -> String {
    let Some(signer) = &identity.signer else { return "nobody (unsigned)".to_owned() };
    let account = signer.account.map(|account| format!(" of account {account}")).unwrap_or_default();
    let whose = if signer.own { "ours" } else { "not ours" };
    format!("{}{account}, {whose}, signature {}", signer.key_id, identity.signature)
}

fn arrival(head: &RequestHead) -> Arrival {
    let tls = TlsFacts {
        version: TlsVersion::Tls13,
        cipher: "TLS13_AES_256_GCM_SHA384",
        group: None,
        alpn: None,
        sni: head.authority().host.as_name().map(Into::into),
        chain: std::sync::Arc::default(),
    };
    let peer = ([127, 0, 0, 1], 0).into();
    Arrival::new(Door::Forward, head.authority().clone(), peer, Some(tls), Atlas::built_in())
}
