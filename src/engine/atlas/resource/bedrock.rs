//! On which model a call to Bedrock's runtime is: the `modelId` of its path, by ARN or by a bare id.
//!
//! ```text
//! anthropic.claude-3-haiku-20240307-v1:0       arn:aws:bedrock:REGION::foundation-model/ID
//! us.anthropic.claude-3-haiku-20240307-v1:0    arn:aws:bedrock:REGION:ACCOUNT:inference-profile/ID, and the model behind it
//! ```
//! As IAM has it, a profile that spans regions is asked for together with its model (Amazon Bedrock User Guide,
//! "Geographic cross-Region inference"; ARNs: Service Authorization Reference, "Amazon Bedrock").

use super::super::actions::Row;
use super::super::operation::Call;
use super::super::query::decoded;
use super::super::rest::segments;
use super::own_arn;
use crate::engine::facts::{AccountId, Ask, Resource};

const LABEL: &str = "{modelId}";

/// What stands before a provider's name in the id of a profile that spans regions.
const GEOGRAPHIES: &[&str] = &["apac", "au", "ca", "eu", "global", "jp", "us", "us-gov"];

/// What an account has of its own to run a model with. A prompt's model stands in the prompt, and a marketplace model is
/// an endpoint of another service: those name none.
const OF_ACCOUNTS: &[&str] = &[
    "application-inference-profile",
    "custom-model-deployment",
    "default-prompt-router",
    "imported-model",
    "prompt-router",
    "provisioned-model",
];

/// `None` where the operation has no model in its path.
pub(super) fn asks(call: &Call<'_>, row: &Row) -> Option<Vec<Ask>> {
    let at = segments(row.uri).position(|segment| segment == LABEL)?;
    let given = segments(call.head.path()).nth(at).and_then(decoded);
    let named = given.and_then(|given| named(call, &given)).unwrap_or_else(|| vec![Resource::Unknown]);
    Some(named.iter().flat_map(|resource| row.on(resource)).collect())
}

fn named(call: &Call<'_>, given: &str) -> Option<Vec<Resource>> {
    let Some(rest) = given.strip_prefix("arn:") else {
        return match kind(given)? {
            Kind::Foundation => Some(vec![foundation(call, given)]),
            Kind::Profile => profile(call, call.account(), given),
        };
    };
    let parts: Vec<&str> = rest.splitn(5, ':').collect();
    let [partition, "bedrock", region, account, what] = parts[..] else { return None };
    if partition != call.endpoint.partition() || region != &*call.region {
        return None;
    }
    let (class, id) = what.split_once('/')?;
    if class == "foundation-model" {
        let bare = account.is_empty() && kind(id)? == Kind::Foundation;
        return bare.then(|| vec![foundation(call, id)]);
    }
    let account = Some(AccountId::parse(account)?);
    if class == "inference-profile" {
        return profile(call, account, id);
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    (OF_ACCOUNTS.contains(&class) && !id.is_empty() && id.bytes().all(plain))
        .then(|| vec![own_arn(call, "bedrock", account, format_args!("{class}/{id}"))])
}

fn foundation(call: &Call<'_>, id: &str) -> Resource {
    own_arn(call, "bedrock", None, format_args!("foundation-model/{id}"))
}

/// A profile that spans regions, and the model that it is named after.
fn profile(call: &Call<'_>, account: Option<AccountId>, id: &str) -> Option<Vec<Resource>> {
    let (_, model) = id.split_once('.').filter(|_| is_plain(id))?;
    (kind(model)? == Kind::Foundation).then(|| {
        vec![
            own_arn(call, "bedrock", account, format_args!("inference-profile/{id}")),
            foundation(call, model),
        ]
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Foundation,
    Profile,
}

/// What a bare id is of. `None` where that can't be told: an id without a provider may be anybody's, and one with two
/// names before the model's may be of a geography that is newer than this list.
fn kind(id: &str) -> Option<Kind> {
    let (first, model) =
        id.split_once('.').filter(|(first, model)| is_plain(id) && !first.is_empty() && !model.is_empty())?;
    if GEOGRAPHIES.contains(&first) {
        return Some(Kind::Profile);
    }
    // A dot within a model's name stands in its version: `kimi-k2.5`.
    let in_version = |rest: &str| rest.as_bytes().first().is_some_and(u8::is_ascii_digit);
    model.split('.').skip(1).all(in_version).then_some(Kind::Foundation)
}

fn is_plain(id: &str) -> bool {
    id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_id_is_a_models_or_a_profiles_or_it_names_nothing() {
        for (id, want) in [
            ("anthropic.claude-3-haiku-20240307-v1:0", Some(Kind::Foundation)),
            ("anthropic.claude-v2:1:100k", Some(Kind::Foundation)),
            ("meta.llama3-2-1b-instruct-v1:0", Some(Kind::Foundation)),
            ("moonshotai.kimi-k2.5", Some(Kind::Foundation)),
            ("us.anthropic.claude-3-haiku-20240307-v1:0", Some(Kind::Profile)),
            ("us-gov.anthropic.claude-3-haiku-20240307-v1:0", Some(Kind::Profile)),
            ("global.amazon.nova-2-lite-v1:0", Some(Kind::Profile)),
            ("mars.anthropic.claude-3-haiku-20240307-v1:0", None),
            ("abcd1234efgh", None),
            ("Anthropic.claude-v2", None),
            ("anthropic.", None),
            (".claude", None),
            ("anthropic..claude", None),
            ("anthropic.claude/v2", None),
            ("anthropic.claude%2Fv2", None),
            ("anthropic.*", None),
            ("", None),
        ] {
            assert_eq!(kind(id), want, "{id}");
        }
    }
}
