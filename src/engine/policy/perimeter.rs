//! `perimeter:` whose keys may sign, and whose resources may be called: asked with every AWS statement, whatever it says.

use super::Request;
use super::pattern::{ArnPattern, Own, is_bucket};
use super::statement::Effect;
use crate::engine::facts::{AccountId, Action, Ask, Resource};

/// Accounts: ours, and some by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    pub ours: bool,
    pub named: Vec<AccountId>,
}

impl Accounts {
    pub const OURS: Self = Self { ours: true, named: Vec::new() };

    fn holds(&self, account: Option<AccountId>, own: Own<'_>) -> bool {
        account.is_some_and(|account| {
            self.named.contains(&account) || (self.ours && own.accounts.contains(&account))
        })
    }

    /// The same, and what is held in case the account of the signer's key is another than those known.
    fn holds_or_wants(&self, account: Option<AccountId>, request: &Request<'_>) -> bool {
        let held = self.holds(account, request.own());
        if !held && request.account_is_untold() {
            // An account that is known becomes ours if the signer is; one that isn't may be any of these.
            if account.is_none() || (self.ours && request.own().signer) {
                request.want_signer(Effect::Allow);
            }
        }
        held
    }
}

#[derive(Debug)]
pub struct Perimeter {
    pub signers: Accounts,
    /// `None`: resources are not asked.
    pub resources: Option<Accounts>,
}

impl Default for Perimeter {
    fn default() -> Self {
        Self { signers: Accounts::OURS, resources: None }
    }
}

impl Perimeter {
    /// Whose keys may sign: the keys we were given where our accounts may, and the accounts that are named.
    pub fn holds_signer(&self, request: &Request<'_>) -> bool {
        request.identity.signer.as_ref().is_some_and(|signer| {
            (self.signers.ours && signer.own) || self.signers.holds_or_wants(signer.account, request)
        })
    }

    /// The resource belongs to an account whose keys may sign.
    pub fn holds_account(&self, resource: &Resource, own: Own<'_>) -> bool {
        matches!(resource, Resource::Arn { account: account @ Some(_), .. } if self.signers.holds(*account, own))
    }

    /// `by`: the pattern that named the resource. Where the resource has no account, its literal name is the consent;
    /// for a bucket also a signed owner inside, whom S3 then holds the bucket to.
    pub fn holds_resource(&self, request: &Request<'_>, ask: &Ask, by: &ArnPattern) -> bool {
        let Some(inside) = &self.resources else { return true };
        match &ask.resource {
            Resource::None => true,
            Resource::Unknown => false,
            Resource::Arn { account: Some(account), .. } => inside.holds_or_wants(Some(*account), request),
            Resource::Arn { account: None, .. } if by.names_literally() => true,
            Resource::Arn { account: None, arn } if is_bucket(arn) => {
                let name = owner_header(request, &ask.action);
                let owner = request.head.only_text(name).filter(|_| (request.signed_header)(name));
                let owner = owner.and_then(AccountId::parse);
                owner.is_some() && inside.holds_or_wants(owner, request)
            }
            // The signer's account, which is ours and whose number we don't know.
            Resource::Arn { account: None, .. } => {
                (inside.ours && by.is_self()) || inside.holds_or_wants(None, request)
            }
        }
    }
}

/// Which header names the owner: a copy's source has its own.
fn owner_header(request: &Request<'_>, action: &Action) -> &'static str {
    let reads = matches!(action, Action::Known(name) if name.starts_with("s3:Get"));
    // Copies are PUTs; where nothing is copied S3 looks at neither field of a source.
    if reads && request.head.method() == "PUT" && request.head.has("x-amz-copy-source") {
        "x-amz-source-expected-bucket-owner"
    } else {
        "x-amz-expected-bucket-owner"
    }
}
