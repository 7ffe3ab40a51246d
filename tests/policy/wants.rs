//! When the judge wants to know whose a key is before it decides, and when it does not.

use exeat::engine::atlas::{Atlas, BodySeen};
use std::sync::Arc;

use exeat::engine::facts::{AccountId, Parent, TlsVersion};
use exeat::engine::policy::Policy;
use exeat::engine::signature::{KnownKey, KnownKeys, Told};
use exeat::engine::{Judgement, Question, judge};

use super::message::Message;
use super::world::{NOW, Who, arrival, keys};

/// `SendMessage` to `https://sqs…/ACCOUNT/orders` where an account is given, `GetItem` of a table where not.
fn call(who: Who, account: &str) -> Message {
    let (host, service, target, body) = if account.is_empty() {
        (
            "dynamodb.us-east-1.amazonaws.com",
            "dynamodb",
            "DynamoDB_20120810.GetItem",
            r#"{"TableName":"orders"}"#.to_owned(),
        )
    } else {
        let body = format!(r#"{{"QueueUrl":"https://sqs.us-east-1.amazonaws.com/{account}/orders"}}"#);
        ("sqs.us-east-1.amazonaws.com", "sqs", "AmazonSQS.SendMessage", body)
    };
    let mut message = Message {
        method: "POST".into(),
        target: b"/".to_vec(),
        fields: vec![
            ("host".into(), host.into()),
            ("x-amz-target".into(), target.into()),
            ("content-type".into(), "application/x-amz-json-1.0".into()),
        ],
        body: body.into(),
    };
    message = who.signer(service.into(), "us-east-1".into(), None).sign(message);
    let length = message.body.len().to_string();
    message.set("content-length", &length);
    message
}

fn judged(statements: &str, perimeter: &str, message: &Message, keys: &KnownKeys) -> &'static str {
    let text = format!("version: 1\n{perimeter}statements: [{statements}]\n");
    let (policy, _) = Policy::read("p", &text, Atlas::built_in()).unwrap_or_else(|e| panic!("{e:?}"));
    let head = message.head().unwrap();
    let arrival = arrival(&head, None, TlsVersion::Tls13);
    let body = BodySeen::Whole(&message.body);
    let question = Question {
        head: &head,
        body,
        arrival: &arrival,
        keys,
        atlas: Atlas::built_in(),
        now: NOW,
        max_skew: 900,
        asks: true,
        verified: &|| {},
    };
    match judge(&policy, &question) {
        Judgement::Allow(_) => "allow",
        Judgement::Deny(denial) => denial.reason.as_str(),
        Judgement::NeedBody => "need body",
        Judgement::NeedSigner(_) => "ask",
    }
}

const TABLE: &str = "arn:aws:dynamodb:us-east-1:210987654321:table/orders";
const OTHER: &str = "arn:aws:dynamodb:us-east-1:210987654321:table/other";

#[test]
fn it_is_asked_where_a_statement_turns_on_the_account_or_role_and_nowhere_else() {
    let allow = |resource: &str, when: &str| {
        format!(
            "{{id: a, effect: allow, action: [dynamodb:*, sqs:*], resource: '{resource}', when: {{{when}}}}}"
        )
    };
    let any = allow("*", "auth: sigv4");
    let deny = |resource: &str, when: &str| {
        let deny =
            format!("effect: deny, action: [dynamodb:*, sqs:*], resource: '{resource}', when: {{{when}}}");
        format!("{any}, {{id: d, {deny}}}")
    };
    // What is asked of a key without an account, then what it comes to once it is of 210987654321 and has no role.
    for (statements, perimeter, account, before, after) in [
        (any.clone(), "", "", "allow", "allow"),
        (allow("arn:aws:dynamodb:*:self:table/orders", "auth: sigv4"), "", "", "allow", "allow"),
        (allow(TABLE, "auth: sigv4"), "", "", "ask", "allow"),
        (allow(&TABLE.replace("21098", "11098"), "auth: sigv4"), "", "", "ask", "policy.no_match"),
        (allow(OTHER, "auth: sigv4"), "", "", "policy.no_match", "policy.no_match"),
        (allow(TABLE, "auth: presigned"), "", "", "policy.no_match", "policy.no_match"),
        (allow("*", "signer.role: app"), "", "", "ask", "policy.no_match"),
        (allow("*", "signer.role: app, auth: presigned"), "", "", "policy.no_match", "policy.no_match"),
        (allow("*", "signer.account: self"), "", "", "allow", "allow"),
        (allow("*", "signer.account: '210987654321'"), "", "", "ask", "allow"),
        (allow("*", "resource.account: '210987654321'"), "", "", "ask", "allow"),
        (deny("*", "signer.role: app"), "", "", "ask", "allow"),
        (deny("*", "signer.role: {not: app}"), "", "", "ask", "policy.denied"),
        (deny("*", "signer.account: '210987654321'"), "", "", "ask", "policy.denied"),
        (deny(TABLE, "auth: sigv4"), "", "", "ask", "policy.denied"),
        (deny(OTHER, "auth: sigv4"), "", "", "allow", "allow"),
        (deny("*", "signer.role: app, auth: presigned"), "", "", "allow", "allow"),
        (any.clone(), "perimeter: {signers: ['210987654321']}\n", "", "ask", "allow"),
        (any.clone(), "perimeter: {signers: ['110987654321']}\n", "", "ask", "sigv4.perimeter"),
        (any.clone(), "perimeter: {signers: [self], resources: [self]}\n", "", "ask", "allow"),
        (any.clone(), "perimeter: {signers: [self], resources: [self]}\n", "210987654321", "ask", "allow"),
        (
            any.clone(),
            "perimeter: {signers: [self], resources: [self]}\n",
            "110987654321",
            "ask",
            "policy.perimeter",
        ),
        (allow("arn:aws:sqs:*:self:orders", "auth: sigv4"), "", "210987654321", "ask", "allow"),
        (allow("arn:aws:sqs:*:self:orders", "auth: sigv4"), "", "110987654321", "ask", "policy.no_match"),
        (
            allow("arn:aws:sqs:*:self:other", "auth: sigv4"),
            "",
            "210987654321",
            "policy.no_match",
            "policy.no_match",
        ),
    ] {
        let message = call(Who::Nameless, account);
        let known = keys();
        assert_eq!(judged(&statements, perimeter, &message, &known), before, "{statements} {perimeter}");
        let told = Told { account: AccountId::parse("210987654321").unwrap(), role: None };
        let known = known.with_told(Who::Nameless.key_id(), &told).unwrap();
        assert_eq!(judged(&statements, perimeter, &message, &known), after, "{statements} {perimeter}");
    }
}

#[test]
fn a_session_of_a_key_whose_account_is_untold_is_ours_once_it_is_told() {
    let any = "{id: a, effect: allow, action: 'dynamodb:*', resource: '*'}";
    let other = any.replace("dynamodb", "s3");
    let message = call(Who::Nameless, "");
    let (id, account) = (Who::Nameless.key_id(), AccountId::parse("210987654321").unwrap());
    let taken = |by| {
        let given = keys();
        let own = given.get(id).unwrap();
        let mut key = KnownKey::new(id, own.secret.clone(), own.token.clone());
        let parent = Parent { by, key_id: Some("AKIAIOSFODNN7PARENT1".into()), account: None, role: None };
        (key.own, key.parents) = (false, Some([parent].into()));
        let parent = KnownKey::new("AKIAIOSFODNN7PARENT1", own.secret.clone(), None);
        KnownKeys::new([parent]).with_learned(&Arc::new(key), NOW)
    };
    for (by, after) in [("sts:GetSessionToken", "allow"), ("sts:AssumeRole", "sigv4.perimeter")] {
        let known = taken(by);
        assert_eq!(judged(any, "", &message, &known), "ask", "{by}");
        assert_eq!(judged(&other, "", &message, &known), "policy.no_match", "{by}: in vain");
        let known = known.with_told(id, &Told { account, role: None }).unwrap();
        assert_eq!(judged(any, "", &message, &known), after, "{by}");
    }
}

#[test]
fn a_key_whose_account_and_role_are_known_or_that_is_not_ours_asks_nothing() {
    let by_role =
        "{id: a, effect: allow, action: 'dynamodb:*', resource: '*', when: {signer.role: orders-api}}";
    assert_eq!(judged(by_role, "", &call(Who::Role, ""), &keys()), "allow");
    assert_eq!(judged(by_role, "", &call(Who::Own, ""), &keys()), "ask", "its role is not told");
    assert_eq!(judged(by_role, "", &call(Who::Stranger, ""), &keys()), "sigv4.unknown_key");
    let report = by_role.replace("}}", "}, mode: report}");
    assert_eq!(judged(&report, "", &call(Who::Own, ""), &keys()), "policy.no_match", "it does nothing");
}

#[test]
fn what_is_told_of_a_key_never_contradicts_its_id() {
    let told = |account: &str| Told { account: AccountId::parse(account).unwrap(), role: None };
    let keys = keys();
    assert!(keys.with_told(Who::Own.key_id(), &told("210987654321")).is_none());
    assert!(keys.with_told("AKIAI44QH8DHBEXAMPLE", &told("210987654321")).is_none());
    assert!(keys.with_told(Who::Own.key_id(), &told(super::world::OURS)).is_some());
}
