//! What stands without being written: the policy where none was named, and the calls by which SDKs get their keys.

use super::{Policy, file, node};
use crate::engine::atlas::Atlas;

/// What the program was started as. A person at a terminal signs in from there; a sidecar's workload has its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Run,
    Exec,
}

/// How far a statement of the set reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignIn {
    /// The role's account must be one whose keys may sign.
    Inside,
    Any,
}

/// AWS when verified, or by a key of our accounts; nothing else.
pub(super) const BUILT_IN: &str = r#"version: 1
statements:
  - {id: built-in-verified, effect: allow, action: "*", resource: "*"}
  - {id: built-in-account, effect: allow, action: "*", resource: "*", when: {signature: unknown_key, signer.account: self}}
"#;

/// The set `sdk-sign-in`: these calls can carry no signature, since they are how keys are had.
pub(super) const SIGN_IN: &str = r#"version: 1
statements:
  - {id: sdk-sign-in-role, effect: allow, action: ["sts:AssumeRoleWithWebIdentity", "sts:AssumeRoleWithSAML"], resource: "*", when: {auth: none}}
  - {id: sdk-sign-in-oidc, effect: allow, action: ["sso-oauth:RegisterClient", "sso-oauth:StartDeviceAuthorization", "sso-oauth:CreateToken"], resource: "*", when: {auth: none}}
  - {id: sdk-sign-in-sso, effect: allow, action: ["sso:GetRoleCredentials", "sso:ListAccounts", "sso:ListAccountRoles", "sso:Logout"], resource: "*", when: {auth: token}}
  - {id: sdk-sign-in-login, effect: allow, action: "signin:CreateOAuth2Token", resource: "*", when: {auth: none}}
"#;

impl Policy {
    /// What stands where no policy was named. In `exec` third parties are observed: nobody has listed them yet.
    pub fn built_in(mode: Mode) -> Self {
        let policy = Self::read("built-in", BUILT_IN, Atlas::built_in()).expect("a test reads it").0;
        Self { report_http: mode == Mode::Exec, ..policy }.with_sign_in(mode)
    }

    /// Adds the set `sdk-sign-in`: whole in `exec`; in `run` only STS, for roles inside the perimeter. A statement
    /// that denies one of these calls still wins.
    pub fn with_sign_in(mut self, mode: Mode) -> Self {
        let tree = node::parse("built-in", SIGN_IN).expect("a test reads it");
        let mut set = file::read("built-in", &tree, Atlas::built_in()).expect("a test reads it").statements;
        let reach = if mode == Mode::Run { SignIn::Inside } else { SignIn::Any };
        if mode == Mode::Run {
            set.truncate(1);
        }
        set.iter_mut().for_each(|statement| statement.sign_in = Some(reach));
        self.statements.extend(set);
        self.file();
        self
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::atlas::BodySeen;
    use crate::engine::facts::{AccountId, Arrival, Door, Secret, Timestamp};
    use crate::engine::request::RequestHead;
    use crate::engine::signature::{KnownKey, KnownKeys};
    use crate::engine::target::Authority;
    use crate::engine::{Judgement, Question, judge};

    /// `statement` of an allow, `report`, or the reason of a refusal.
    fn judged(policy: &Policy, host: &str, line: &str, fields: &str, body: &str) -> String {
        let own = AccountId::parse("123456789012").unwrap();
        let keys =
            KnownKeys::new([KnownKey::new("AKIAOLD", Secret::new(b"s"), None)]).with_own_accounts([own]);
        let length = body.len();
        let text = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}Content-Length: {length}\r\n\r\n");
        let head = RequestHead::parse(Bytes::from(text)).unwrap();
        let target = Authority::parse(host, Some(443)).unwrap();
        let arrival =
            Arrival::new(Door::Forward, target, ([127, 0, 0, 1], 1).into(), None, Atlas::built_in());
        let body = BodySeen::Whole(body.as_bytes());
        let now = Timestamp(1_440_938_160);
        let question = Question {
            head: &head,
            body,
            arrival: &arrival,
            keys: &keys,
            atlas: Atlas::built_in(),
            now,
            max_skew: 900,
            asks: false,
            verified: &|| {},
        };
        match judge(policy, &question) {
            Judgement::Allow(allowed) if allowed.permit.observed() => "report".to_owned(),
            Judgement::Allow(allowed) => allowed.permit.statement().unwrap().id.to_string(),
            Judgement::Deny(denial) => denial.reason.to_string(),
            Judgement::NeedBody => "need body".to_owned(),
            Judgement::NeedSigner(_) => "need signer".to_owned(),
        }
    }

    fn web_identity(policy: &Policy, account: &str, more: &str) -> String {
        let body = format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A{account}%3Arole%2Fpod&WebIdentityToken=x{more}"
        );
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        judged(policy, "sts.eu-west-1.amazonaws.com", "POST /", form, &body)
    }

    #[test]
    fn web_identity_is_for_roles_inside_the_perimeter_in_run_and_for_any_in_exec() {
        let (run, exec) = (Policy::built_in(Mode::Run), Policy::built_in(Mode::Exec));
        assert_eq!(web_identity(&run, "123456789012", ""), "sdk-sign-in-role");
        assert_eq!(web_identity(&run, "210987654321", ""), "policy.perimeter");
        let twice = "&RoleArn=arn%3Aaws%3Aiam%3A%3A210987654321%3Arole%2Fx";
        assert_eq!(web_identity(&run, "123456789012", twice), "policy.perimeter");
        assert_eq!(web_identity(&exec, "210987654321", ""), "sdk-sign-in-role");
    }

    #[test]
    fn the_set_stands_beside_a_written_policy_and_a_deny_wins_over_it() {
        let read = |text: &str| Policy::read("p", text, Atlas::built_in()).unwrap().0.with_sign_in(Mode::Run);
        let named = read("version: 1\nperimeter: {signers: ['210987654321']}\nstatements: []\n");
        assert_eq!(web_identity(&named, "210987654321", ""), "sdk-sign-in-role");
        assert_eq!(web_identity(&named, "123456789012", ""), "policy.perimeter");
        let denied =
            read("version: 1\nstatements: [{id: no, effect: deny, action: 'sts:*', resource: '*'}]\n");
        assert_eq!(web_identity(&denied, "123456789012", ""), "policy.denied");
    }

    #[test]
    fn sso_and_login_work_in_exec_only() {
        let json = "Content-Type: application/json\r\n";
        let bearer = "x-amz-sso_bearer_token: t\r\n";
        for (host, line, fields, statement) in [
            ("oidc.eu-west-1.amazonaws.com", "POST /client/register", json, "sdk-sign-in-oidc"),
            ("oidc.eu-west-1.amazonaws.com", "POST /device_authorization", json, "sdk-sign-in-oidc"),
            ("oidc.eu-west-1.amazonaws.com", "POST /token", json, "sdk-sign-in-oidc"),
            (
                "portal.sso.eu-west-1.amazonaws.com",
                "GET /federation/credentials?role_name=r&account_id=1",
                bearer,
                "sdk-sign-in-sso",
            ),
            ("portal.sso.eu-west-1.amazonaws.com", "GET /assignment/accounts", bearer, "sdk-sign-in-sso"),
            ("eu-west-1.signin.aws.amazon.com", "POST /v1/token", json, "sdk-sign-in-login"),
        ] {
            let body = if line.starts_with("POST") { "{}" } else { "" };
            assert_eq!(judged(&Policy::built_in(Mode::Exec), host, line, fields, body), statement, "{line}");
            let refused = judged(&Policy::built_in(Mode::Run), host, line, fields, body);
            assert!(refused == "sigv4.unsigned" || refused == "policy.no_match", "{line}: {refused}");
        }
        // Near, and none of them: signed by nobody, or another operation of the same host.
        for (host, line, fields) in [
            ("portal.sso.eu-west-1.amazonaws.com", "GET /assignment/accounts", ""),
            ("oidc.eu-west-1.amazonaws.com", "POST /token?aws_iam=t", json),
            ("sts.eu-west-1.amazonaws.com", "POST /?Action=GetCallerIdentity&Version=2011-06-15", ""),
            ("s3.eu-west-1.amazonaws.com", "GET /bucket/key", ""),
        ] {
            assert_eq!(
                judged(&Policy::built_in(Mode::Exec), host, line, fields, ""),
                "sigv4.unsigned",
                "{line}"
            );
        }
    }

    #[test]
    fn a_perimeter_of_resources_keeps_sign_in_working_and_roles_inside() {
        let text = "version: 1\nperimeter: {signers: [self], resources: [self]}\nstatements: []\n";
        let policy = Policy::read("p", text, Atlas::built_in()).unwrap().0.with_sign_in(Mode::Exec);
        let bearer = "x-amz-sso_bearer_token: t\r\n";
        let portal = "portal.sso.eu-west-1.amazonaws.com";
        assert_eq!(judged(&policy, portal, "GET /assignment/accounts", bearer, ""), "sdk-sign-in-sso");
        assert_eq!(web_identity(&policy, "123456789012", ""), "sdk-sign-in-role");
        assert_eq!(web_identity(&policy, "210987654321", ""), "policy.perimeter");
    }

    #[test]
    fn third_parties_are_observed_in_exec_and_refused_in_run() {
        let asked = |mode, host| judged(&Policy::built_in(mode), host, "GET /", "", "");
        assert_eq!(asked(Mode::Exec, "api.example.com"), "report");
        assert_eq!(asked(Mode::Run, "api.example.com"), "policy.no_match");
        // AWS is no third party, and what looks like it isn't either.
        assert_eq!(asked(Mode::Exec, "sqs.eu-west-1.amazonaws.com"), "sigv4.unsigned");
        assert_eq!(asked(Mode::Exec, "nothing.known.amazonaws.com"), "target.unknown_aws");
        let written = Policy::read("p", "version: 1\nstatements: []\n", Atlas::built_in())
            .unwrap()
            .0
            .with_sign_in(Mode::Exec);
        assert_eq!(judged(&written, "api.example.com", "GET /", "", ""), "policy.no_match");
    }

    #[test]
    fn a_key_we_hold_no_secret_of_passes_by_its_account_alone() {
        let signed = |id: &str| {
            let fields = format!(
                "X-Amz-Date: 20150830T123600Z\r\nX-Amz-Target: DynamoDB_20120810.ListTables\r\nContent-Type: application/x-amz-json-1.0\r\n\
                 Authorization: AWS4-HMAC-SHA256 Credential={id}/20150830/eu-west-1/dynamodb/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={}\r\n",
                "0".repeat(64)
            );
            let host = "dynamodb.eu-west-1.amazonaws.com";
            judged(&Policy::built_in(Mode::Exec), host, "POST /", &fields, "{}")
        };
        assert_eq!(signed("ASIARZPUZDIKAAAAAAAA"), "built-in-account");
        assert_eq!(signed("ASIAY34FZKBOKMUTVV7A"), "sigv4.unknown_key", "another account's");
        assert_eq!(signed("ASIAIOSFODNN7EXAMPLE"), "sigv4.unknown_key", "tells no account");
    }
}
