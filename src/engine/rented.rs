//! A call to a name that anybody can rent from AWS: by its action where it is signed and AWS authorises it by that, by
//! `http:` statements where it is not.

use super::atlas::{BodySeen, Rented};
use super::facts::{Identity, SignatureState};
use super::policy::Policy;
use super::reason::Reason;
use super::signature::{self, Algorithm, Claim, PayloadClaim, Reading};
use super::{Denial, Facts, Judgement, Question, decide};

pub fn judge(policy: &Policy, question: &Question<'_>, rented: &Rented) -> Judgement {
    let mut facts = Facts { operation: None, identity: Identity::NONE };
    match signature::read(question.head) {
        Ok(Reading::Unsigned(auth)) => facts.identity.auth = auth,
        // Only an endpoint of AWS's own reads such a form.
        Ok(Reading::Form) => {}
        Ok(Reading::Signed(claim)) => return judge_signed(policy, question, rented, &claim),
        Err(refusal) => return Judgement::Deny(Denial::new(refusal.reason, refusal.said, facts)),
    }
    decide(policy, question, facts, PayloadClaim::Nothing, None)
}

fn judge_signed(policy: &Policy, question: &Question<'_>, rented: &Rented, claim: &Claim<'_>) -> Judgement {
    let mut facts = Facts { operation: None, identity: claim.unproven() };
    let mut readings = match rented.readings(question.head) {
        Ok(readings) => readings.into_iter(),
        Err((reason, said)) => return Judgement::Deny(Denial::new(reason, said, facts)),
    };
    facts.operation = readings.next();
    let (service, region) = (claim.scope().service, claim.scope().region);
    let fits = match claim.algorithm() {
        Algorithm::Hmac => !region.contains(['*', ',']) && rented.allows_scope(service, region),
        Algorithm::Ecdsa => claim.regions().any(|region| rented.allows_scope(service, region)),
    };
    if !fits {
        let said =
            format!("scope {region}/{service} does not belong to `{}`", question.head.authority().host);
        return Judgement::Deny(Denial::new(Reason::SigV4ScopeHost, said, facts));
    }
    let body = match question.body {
        BodySeen::Whole(body) => Some(body),
        BodySeen::Unread if claim.needs_body() => return Judgement::NeedBody,
        BodySeen::TooLarge if claim.needs_body() => {
            let said = "the signature covers a body too large to be read before it is judged";
            return Judgement::Deny(Denial::new(Reason::LimitInspect, said, facts));
        }
        BodySeen::Unread | BodySeen::TooLarge => None,
    };
    let verdict = match claim.verify(body, question.keys, question.clock()) {
        Ok(verdict) => verdict,
        Err(refusal) => {
            facts.identity.signature = SignatureState::Bad;
            return Judgement::Deny(Denial::new(refusal.reason, refusal.said, facts));
        }
    };
    facts.identity = verdict.identity;
    let mut judged = decide(policy, question, facts.clone(), verdict.due.clone(), Some(claim));
    for reading in readings {
        let facts = Facts { operation: Some(reading), ..facts.clone() };
        judged = either(judged, decide(policy, question, facts, verdict.due.clone(), Some(claim)));
    }
    if let Judgement::Allow(allowed) = &mut judged {
        allowed.mark = verdict.mark;
    }
    judged
}

/// Of two readings of one call: what either denies is denied, then what either allows is allowed.
fn either(first: Judgement, second: Judgement) -> Judgement {
    let rank = |judgement: &Judgement| match judgement {
        Judgement::Deny(denial) if denial.reason == Reason::PolicyDenied => 4,
        Judgement::NeedBody | Judgement::NeedSigner(_) => 3,
        Judgement::Allow(allowed) if !allowed.permit.observed() => 2,
        Judgement::Allow(_) => 1,
        Judgement::Deny(_) => 0,
    };
    if rank(&second) > rank(&first) { second } else { first }
}
