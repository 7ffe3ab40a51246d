//! What the person at the terminal of `exec` is told beside the sentence: which statement, where, and what would help.
//!
//! Never under `run`: there a refusal must not teach the policy to the workload.

use crate::engine::Denial;
use crate::engine::facts::AccountId;
use crate::engine::reason::Reason;
use crate::engine::request::RequestHead;
use crate::engine::suggest::{self, Call};

/// The operator's clause and a fix, for a refusal by the judge.
pub fn of(denial: &Denial, head: &RequestHead, own: &[AccountId]) -> String {
    let mut text = denial.said.clone();
    let placed = denial.denied.as_ref().and_then(|denied| denied.statement.as_ref());
    if let Some(placed) = placed.filter(|_| denial.reason == Reason::PolicyDenied) {
        text.push_str(&format!(" ({}:{}:{})", placed.file, placed.line, placed.column));
    }
    if let Some(fix) = fix(denial, head, own) {
        text.push_str("; ");
        text.push_str(&fix);
    }
    text
}

fn fix(denial: &Denial, head: &RequestHead, own: &[AccountId]) -> Option<String> {
    match denial.reason {
        Reason::PolicyNoMatch => {
            let call = Call::new(head, denial.facts.operation.as_ref(), None);
            // Of a third party the whole host: a program seldom stays on one path.
            let add = suggest::to_allow(&Call { path: None, ..call }, denial.reason)?;
            Some(format!("to allow it: {}", add.line()))
        }
        Reason::SigV4UnknownKey | Reason::SigV4Perimeter => {
            let ours = match own {
                [] => "no account is known as ours".to_owned(),
                own => {
                    format!("ours is {}", own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                }
            };
            let signer = denial.facts.identity.signer.as_ref()?;
            Some(match signer.account {
                Some(account) if own.contains(&account) => {
                    "the key is of your account, but its secret is not known here: a statement with \
                     `when: {signature: unknown_key, signer.account: self}` takes the account's word for it"
                        .to_owned()
                }
                Some(account) => format!(
                    "the key is of account {account}, {ours}: set AWS_PROFILE outside, or use `exeat exec --account {account}`"
                ),
                None => format!(
                    "the key's id tells no account, {ours}: give exec the same profile or variables as the program has"
                ),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Facts;
    use crate::engine::facts::{Action, Ask, Identity, Operation, Protocol, Resource, Signer};

    fn head() -> RequestHead {
        RequestHead::parse(bytes::Bytes::from_static(b"PUT /x HTTP/1.1\r\nHost: a.test\r\n\r\n")).unwrap()
    }

    fn denial(reason: Reason, facts: Facts) -> Denial {
        Denial { reason, said: "said".to_owned(), facts, denied: None }
    }

    #[test]
    fn names_the_statement_that_would_allow_the_call() {
        let arn = "arn:aws:s3:::b/k".to_owned();
        let ask = Ask {
            action: Action::Known("s3:PutObject".into()),
            resource: Resource::Arn { arn, account: None },
        };
        let operation = Operation {
            service: "s3".into(),
            name: None,
            region: "us-east-1".into(),
            protocol: Protocol::S3,
            asks: vec![ask],
        };
        let facts = Facts { operation: Some(operation), identity: Identity::NONE };
        let told = of(&denial(Reason::PolicyNoMatch, facts), &head(), &[]);
        assert_eq!(
            told,
            "said; to allow it: {id: allow-s3-PutObject, effect: allow, action: s3:PutObject, resource: arn:aws:s3:::b/k}"
        );
        let facts = Facts { operation: None, identity: Identity::NONE };
        let told = of(&denial(Reason::PolicyNoMatch, facts.clone()), &head(), &[]);
        assert!(told.ends_with("http: {host: a.test, method: PUT, path: \"/*\"}}"), "{told}");
        assert_eq!(of(&denial(Reason::TargetUnknownAws, facts), &head(), &[]), "said");
    }

    #[test]
    fn names_both_accounts_where_the_key_is_anothers() {
        let account = AccountId::parse("210987654321");
        let signer = Some(Signer {
            key_id: "AKIA".into(),
            account,
            role: None,
            own: false,
            untold: false,
            parents: None,
        });
        let facts = Facts { operation: None, identity: Identity { signer, ..Identity::NONE } };
        let own = [AccountId::parse("123456789012").unwrap()];
        let told = of(&denial(Reason::SigV4Perimeter, facts), &head(), &own);
        assert!(told.contains("210987654321") && told.contains("123456789012"), "{told}");
    }
}
