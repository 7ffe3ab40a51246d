//! Pure: bytes, keys, policy and `now` in; judgement out. Nothing here opens a socket or reads a clock.
//!
//! [`judge`] is the one judge: every door, `explain` and the tests call it, with the same steps in the same order:
//! recognise the endpoint, read the claim, verify, recognise the operation, decide.

pub mod atlas;
pub mod data;
pub mod facts;
pub mod form;
pub mod hex;
pub mod hello;
mod pieces;
pub mod policy;
pub mod reason;
mod rented;
pub mod request;
pub mod signature;
pub mod suggest;
pub mod target;
pub mod words;
pub mod yaml;

use self::atlas::{Atlas, BodySeen, Endpoint, HostKind, Recognition};
use self::facts::{AccountId, Arrival, Auth, Identity, Operation, SignatureState, Timestamp};
use self::form::Form;
use self::policy::{Admission, Decision, Denied, Destination, Permit, Policy, TunnelPermit, Wants};
use self::reason::Reason;
use self::request::RequestHead;
use self::signature::{Algorithm, Claim, Clock, KnownKeys, PayloadClaim, PostClaim, Reading, Scope};
use self::target::Authority;

/// A request as it is put before the judge. Values only.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub head: &'a RequestHead,
    pub body: BodySeen<'a>,
    pub arrival: &'a Arrival,
    pub keys: &'a KnownKeys,
    pub atlas: &'static Atlas,
    pub now: Timestamp,
    /// Seconds that a signature's date may be off, either way.
    pub max_skew: i64,
    /// Whose a key is can be asked for: then it is not guessed.
    pub asks: bool,
    /// Called once all is verified, before it is decided: the judge has no clock, who asks may have one.
    pub verified: &'a (dyn Fn() + Sync),
}

impl Question<'_> {
    fn clock(&self) -> Clock {
        Clock { now: self.now, max_skew: self.max_skew }
    }
}

/// What was found out about a request, whatever the decision: for the record and the refusal's shape.
#[derive(Debug, Clone)]
pub struct Facts {
    /// `None`: not an AWS call, or not recognised before it was refused.
    pub operation: Option<Operation>,
    pub identity: Identity,
}

/// The judge's answer.
pub enum Judgement {
    Allow(Allowed),
    Deny(Denial),
    /// Ask again with the body: operation, resource or digest is inside.
    NeedBody,
    /// Ask again once [`KnownKeys`] tells whose the signer's key is: a statement turns on it. Where that can't be had
    /// the request is refused. Only where the question says that it `asks`.
    NeedSigner(Facts),
}

/// The right to forward, and what the body must still prove.
pub struct Allowed {
    pub permit: Permit,
    pub due: PayloadClaim,
    pub facts: Facts,
    /// Tells the signature from others; 0 where there is none, or one that may be used again.
    pub mark: u64,
}

/// A refusal; `said` is for the operator.
pub struct Denial {
    pub reason: Reason,
    pub said: String,
    pub facts: Facts,
    /// The policy's answer, where it was asked.
    pub denied: Option<Denied>,
}

impl Denial {
    fn new(reason: Reason, said: impl Into<String>, facts: Facts) -> Self {
        Self { reason, said: said.into(), facts, denied: None }
    }
}

/// Answers one request. Total: every path ends in one of the three.
pub fn judge(policy: &Policy, question: &Question<'_>) -> Judgement {
    let asked = question.head.authority();
    let nothing = Facts { operation: None, identity: Identity::NONE };
    if *asked != question.arrival.target {
        let said = format!("CONNECT names `{}`, Host names `{asked}`", question.arrival.target);
        return Judgement::Deny(Denial::new(Reason::TargetMismatch, said, nothing));
    }
    match &question.arrival.kind {
        HostKind::Service(endpoint) => judge_aws(policy, question, endpoint),
        HostKind::UnknownAws => {
            let said = format!("`{asked}` looks like AWS and is no endpoint the atlas knows");
            Judgement::Deny(Denial::new(Reason::TargetUnknownAws, said, nothing))
        }
        HostKind::Rented(rented) => rented::judge(policy, question, rented),
        HostKind::Outside => judge_other(policy, question),
    }
}

/// Could anything be allowed at a destination? Before any request, so it opens nothing: see `engine/policy/admit.rs`.
pub fn admit(policy: &Policy, atlas: &'static Atlas, target: &Authority, now: Timestamp) -> Admission {
    match place(atlas, target, now, |destination| policy.admit(destination)) {
        Some(admission) => admission,
        None => Admission::Deny {
            reason: Reason::TargetUnknownAws,
            statement: None,
            said: format!("`{target}` looks like AWS and is no endpoint the atlas knows"),
        },
    }
}

/// What becomes of a connection.
#[derive(Debug)]
pub enum Course {
    /// TLS ends here, and each request is judged.
    Intercept,
    /// Bytes pass unread.
    Tunnel(TunnelPermit),
    /// A tunnel that a deny shuts.
    Refuse { reason: Reason, said: String },
}

/// Tunnelled where a statement names the destination, intercepted else.
pub fn course(policy: &Policy, atlas: &'static Atlas, target: &Authority, now: Timestamp) -> Course {
    if !policy.tunnelled().any(|(_, named)| named == target) {
        return Course::Intercept;
    }
    match place(atlas, target, now, |destination| policy.tunnel(destination)).flatten() {
        None | Some(Err(Admission::Allow(_))) => Course::Intercept,
        Some(Ok(permit)) => Course::Tunnel(permit),
        Some(Err(Admission::Deny { reason, said, .. })) => Course::Refuse { reason, said },
    }
}

/// Asks about a destination as the atlas knows it; `None`: it looks like AWS and isn't known.
fn place<T>(
    atlas: &'static Atlas,
    target: &Authority,
    now: Timestamp,
    ask: impl FnOnce(&Destination<'_>) -> T,
) -> Option<T> {
    match atlas.host(&target.host) {
        HostKind::Service(endpoint) => {
            let (services, region) =
                (atlas.prefixes_of(&endpoint), endpoint.region().map(|region| &**region));
            Some(ask(&Destination { target, services: Some(&services), third_party: false, region, now }))
        }
        HostKind::UnknownAws => None,
        HostKind::Rented(rented) => {
            let services: Option<[&str; 1]> = rented.signs_as().map(|service| [service]);
            let services = services.as_ref().map(<[&str; 1]>::as_slice);
            let region = rented.region().map(|region| &**region);
            Some(ask(&Destination { target, services, third_party: true, region, now }))
        }
        HostKind::Outside => {
            Some(ask(&Destination { target, services: None, third_party: true, region: None, now }))
        }
    }
}

/// What was changed on the way to us, where a denial says that the signature does not match. A search of a hundred
/// hashes or so, for the operator alone: callers limit how often.
pub fn explain_signature(question: &Question<'_>) -> Option<String> {
    let body = if let BodySeen::Whole(body) = question.body { Some(body) } else { None };
    signature::explain(question.head, body, question.keys)
}

fn judge_aws(policy: &Policy, question: &Question<'_>, endpoint: &Endpoint) -> Judgement {
    let head = question.head;
    let mut facts = Facts { operation: None, identity: Identity::NONE };
    let shape = |facts: &mut Facts, scope: Option<(&str, &str)>, account: Option<AccountId>| {
        shape(question, endpoint, facts, scope, account)
    };
    let claim = match signature::read(head) {
        Ok(Reading::Signed(claim)) => claim,
        Ok(Reading::Unsigned(auth)) => {
            facts.identity.auth = auth;
            if let Some(early) = shape(&mut facts, None, None) {
                return early;
            }
            return decide(policy, question, facts, PayloadClaim::Nothing, None);
        }
        Ok(Reading::Form) => return judge_form(policy, question, endpoint),
        Err(refusal) => {
            if let Some(Judgement::NeedBody) = shape(&mut facts, None, None) {
                facts.operation = None;
            }
            return Judgement::Deny(Denial::new(refusal.reason, refusal.said, facts));
        }
    };
    let scope = claim.scope();
    let region = region_at(&claim, endpoint);
    let named = Some((scope.service, region.unwrap_or(scope.region)));
    let unproven = |facts: &mut Facts| {
        facts.identity = claim.unproven();
        signature::account_of(claim.key_id())
    };
    if region.is_none() {
        let said = format!(
            "scope {}/{} does not belong to `{}`",
            scope.region,
            scope.service,
            head.authority().host
        );
        let account = unproven(&mut facts);
        let _ = shape(&mut facts, None, account);
        return Judgement::Deny(Denial::new(Reason::SigV4ScopeHost, said, facts));
    }
    let body = match question.body {
        BodySeen::Whole(body) => Some(body),
        BodySeen::Unread if claim.needs_body() => return Judgement::NeedBody,
        BodySeen::TooLarge if claim.needs_body() => {
            let said = "the signature covers a body too large to be read before it is judged";
            let account = unproven(&mut facts);
            let _ = shape(&mut facts, named, account);
            return Judgement::Deny(Denial::new(Reason::LimitInspect, said, facts));
        }
        BodySeen::Unread | BodySeen::TooLarge => None,
    };
    let verdict = match claim.verify(body, question.keys, question.clock()) {
        Ok(verdict) => verdict,
        Err(refusal) => {
            let account = unproven(&mut facts);
            facts.identity.signature = SignatureState::Bad;
            let _ = shape(&mut facts, named, account);
            return Judgement::Deny(Denial::new(refusal.reason, refusal.said, facts));
        }
    };
    let account = verdict.identity.signer.as_ref().and_then(|signer| signer.account);
    facts.identity = verdict.identity;
    if let Some(early) = shape(&mut facts, named, account) {
        return early;
    }
    let mut judgement = decide(policy, question, facts, verdict.due, Some(&claim));
    if let Judgement::Allow(allowed) = &mut judgement {
        allowed.mark = verdict.mark;
    }
    judgement
}

/// Recognises the operation into `facts`: the refusal's shape follows the request, even where the signature is what is
/// wrong with it. `Some`: there is an answer already.
fn shape(
    question: &Question<'_>,
    endpoint: &Endpoint,
    facts: &mut Facts,
    scope: Option<(&str, &str)>,
    account: Option<AccountId>,
) -> Option<Judgement> {
    let (service, region) = scope.unzip();
    match question.atlas.recognise(endpoint, service, region, question.head, question.body, account) {
        Recognition::Operation(operation) => {
            facts.operation = Some(operation);
            None
        }
        Recognition::NeedBody => Some(Judgement::NeedBody),
        Recognition::Refused(reason, said) => Some(Judgement::Deny(Denial::new(reason, said, facts.clone()))),
    }
}

/// A form upload to S3: who signed stands in the body, and what it writes too.
fn judge_form(policy: &Policy, question: &Question<'_>, endpoint: &Endpoint) -> Judgement {
    let head = question.head;
    let mut facts = Facts { operation: None, identity: Identity::NONE };
    if let Some(early) = shape(question, endpoint, &mut facts, None, None) {
        return early;
    }
    // Everything else S3 does, or refuses, for nobody in particular: what the form signs is not looked at.
    if facts.operation.as_ref().and_then(|operation| operation.name.as_deref()) != Some("PostObject") {
        let said = "a form that is sent to where no upload goes";
        return Judgement::Deny(Denial::new(Reason::RequestAmbiguous, said, facts));
    }
    let body = match question.body {
        BodySeen::Unread => return Judgement::NeedBody,
        BodySeen::Whole(body) => body,
        BodySeen::TooLarge => {
            let said = "a form upload too large to be read before it is judged";
            return Judgement::Deny(Denial::new(Reason::LimitInspect, said, facts));
        }
    };
    let form = match Form::parse(head.only("content-type").unwrap_or_default(), body) {
        Ok(form) => form,
        Err(error) => {
            return Judgement::Deny(Denial::new(Reason::RequestAmbiguous, error.to_string(), facts));
        }
    };
    let claim = match PostClaim::read(&form) {
        Ok(Some(claim)) => claim,
        Ok(None) => return decide(policy, question, facts, PayloadClaim::Nothing, None),
        Err(refusal) => {
            facts.identity.auth = Auth::PostForm;
            return Judgement::Deny(Denial::new(refusal.reason, refusal.said, facts));
        }
    };
    facts.identity = claim.unproven();
    let scope = claim.scope();
    if !endpoint.allows_scope(scope.service, scope.region) {
        let (region, service) = (scope.region, scope.service);
        let said = format!("scope {region}/{service} does not belong to `{}`", head.authority().host);
        return Judgement::Deny(Denial::new(Reason::SigV4ScopeHost, said, facts));
    }
    let path = head.path().trim_matches('/');
    let verdict = match claim.verify(endpoint.bucket().unwrap_or(path), question.keys, question.clock()) {
        Ok(verdict) => verdict,
        Err(refusal) => {
            facts.identity.signature = SignatureState::Bad;
            return Judgement::Deny(Denial::new(refusal.reason, refusal.said, facts));
        }
    };
    let account = verdict.identity.signer.as_ref().and_then(|signer| signer.account);
    facts.identity = verdict.identity;
    let named = Some((scope.service, scope.region));
    if let Some(early) = shape(question, endpoint, &mut facts, named, account) {
        return early;
    }
    decide(policy, question, facts, verdict.due, None)
}

/// The one of the signature's regions that belongs to this endpoint: `None` where none does, or the service doesn't.
fn region_at<'a>(claim: &Claim<'a>, endpoint: &'a Endpoint) -> Option<&'a str> {
    let Scope { service, region, .. } = *claim.scope();
    if claim.algorithm() == Algorithm::Hmac {
        return endpoint.allows_scope(service, region).then_some(region);
    }
    claim.regions().find_map(|region| {
        if endpoint.allows_scope(service, region) {
            return Some(region);
        }
        // A pattern of version 4A covers the region that the host names.
        let start = region.strip_suffix('*')?;
        let own = endpoint.region().filter(|own| own.starts_with(start))?;
        endpoint.allows_scope(service, own).then_some(&**own)
    })
}

/// A host that is no AWS endpoint: `http:` statements judge it.
fn judge_other(policy: &Policy, question: &Question<'_>) -> Judgement {
    let mut facts = Facts { operation: None, identity: Identity::NONE };
    match signature::read(question.head) {
        Ok(Reading::Unsigned(auth)) => facts.identity.auth = auth,
        // Only an endpoint of AWS reads such a form.
        Ok(Reading::Form) => {}
        Ok(Reading::Signed(claim)) => facts.identity = claim.unproven(),
        // Somebody else's scheme that reads like ours: only an endpoint of AWS would care.
        Err(_) => facts.identity.auth = Auth::Token,
    }
    decide(policy, question, facts, PayloadClaim::Nothing, None)
}

fn decide(
    policy: &Policy,
    question: &Question<'_>,
    facts: Facts,
    due: PayloadClaim,
    claim: Option<&Claim<'_>>,
) -> Judgement {
    let signed = |name: &str| claim.is_some_and(|claim| claim.signs(name));
    let wants = Wants::default();
    (question.verified)();
    let decision = policy.decide(&policy::Request {
        head: question.head,
        arrival: question.arrival,
        host: question.head.authority(),
        operation: facts.operation.as_ref(),
        identity: &facts.identity,
        signed_header: &signed,
        own_accounts: question.keys.own_accounts(),
        now: question.now,
        wants: &wants,
    });
    if question.asks && wants.could_change(&decision) {
        return Judgement::NeedSigner(facts);
    }
    match decision {
        Decision::Allow(permit) => Judgement::Allow(Allowed { permit, due, facts, mark: 0 }),
        Decision::Deny(denied) => {
            let (reason, said) = (denied.reason, denied.said.clone());
            Judgement::Deny(Denial { reason, said, facts, denied: Some(denied) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_set_counts_for_the_region_that_the_host_names() {
        for (host, service, regions, want) in [
            ("sts.us-west-2.amazonaws.com", "sts", "us-west-2", Some("us-west-2")),
            ("sts.us-west-2.amazonaws.com", "sts", "us-east-1,us-west-2", Some("us-west-2")),
            ("sts.us-west-2.amazonaws.com", "sts", "us-*", Some("us-west-2")),
            ("sts.us-west-2.amazonaws.com", "sts", "*", Some("us-west-2")),
            ("sts.us-west-2.amazonaws.com", "sts", "us-east-1", None),
            ("sts.us-west-2.amazonaws.com", "sts", "eu-*", None),
            ("sts.us-west-2.amazonaws.com", "s3", "*", None),
            ("m.mrap.accesspoint.s3-global.amazonaws.com", "s3", "*", Some("*")),
        ] {
            let head = format!(
                "GET / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Date: 20260102T030405Z\r\nX-Amz-Region-Set: {regions}\r\n\
                 X-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\n\
                 Authorization: AWS4-ECDSA-P256-SHA256 Credential=AKID/20260102/{service}/aws4_request, \
                 SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-region-set, Signature={}\r\n\r\n",
                "0".repeat(140)
            );
            let head = RequestHead::parse(head.into()).unwrap();
            let Reading::Signed(claim) = signature::read(&head).unwrap() else { panic!("{host}") };
            let HostKind::Service(endpoint) = Atlas::built_in().host(&head.authority().host) else {
                panic!("{host}")
            };
            assert_eq!(region_at(&claim, &endpoint), want, "{host} {service} {regions}");
        }
    }
}
