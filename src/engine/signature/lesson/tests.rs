use super::*;
use crate::engine::facts::Protocol;

const NOW: Timestamp = Timestamp(1_767_323_045);
const END: Timestamp = Timestamp(1_767_326_645);

fn operation(service: &str, name: &str) -> Operation {
    Operation {
        service: service.into(),
        name: Some(name.into()),
        region: "us-east-1".into(),
        protocol: Protocol::Query,
        asks: Vec::new(),
    }
}

fn caller() -> Signer {
    Signer {
        key_id: "AKIARZPUZDIKAAAAAAAA".into(),
        account: AccountId::parse("123456789012"),
        role: Some("app".into()),
        own: true,
        untold: false,
        parents: None,
    }
}

fn learn(service: &str, name: &str, signer: Option<&Signer>, answer: &str) -> Option<KnownKey> {
    Lesson::of(Some(&operation(service, name)), signer)?.read(answer.as_bytes(), NOW)
}

const ASSUMED: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
    <Credentials>
      <AccessKeyId>ASIAY34FZKBOKMUTVV7A</AccessKeyId>
      <SecretAccessKey>s/e+c=</SecretAccessKey>
      <SessionToken>tok
      </SessionToken>
      <Expiration>2026-01-02T04:04:05Z</Expiration>
    </Credentials>
    <AssumedRoleUser>
      <AssumedRoleId>AROA:me</AssumedRoleId>
      <Arn>arn:aws:sts::609629065308:assumed-role/deploy/me</Arn>
    </AssumedRoleUser>
    <PackedPolicySize>6</PackedPolicySize>
    <SourceIdentity/>
  </AssumeRoleResult>
  <ResponseMetadata><RequestId>c6104cbe</RequestId></ResponseMetadata>
</AssumeRoleResponse>
"#;

#[test]
fn an_assumed_role_is_known_with_its_end_its_role_and_who_took_it() {
    let key = learn("sts", "AssumeRole", Some(&caller()), ASSUMED).unwrap();
    assert_eq!((&*key.id, key.secret.expose()), ("ASIAY34FZKBOKMUTVV7A", &b"s/e+c="[..]));
    assert_eq!(key.token.as_ref().unwrap().expose(), b"tok");
    assert_eq!((key.account, key.role.as_deref()), (AccountId::parse("609629065308"), Some("deploy")));
    assert_eq!((key.expires, key.own), (Some(END), false));
    let parents = key.parents.unwrap();
    assert_eq!(parents.len(), 1);
    assert_eq!(
        (parents[0].by, parents[0].key_id.as_deref()),
        ("sts:AssumeRole", Some("AKIARZPUZDIKAAAAAAAA"))
    );

    // A chain grows by one, and not without end.
    let mut signer = Signer { parents: Some(parents), ..caller() };
    for length in 2..8 {
        let key = learn("sts", "AssumeRole", Some(&signer), ASSUMED).unwrap();
        signer.parents = key.parents;
        assert_eq!(signer.parents.as_ref().unwrap().len(), length.min(MAX_PARENTS));
    }
}

#[test]
fn a_key_whose_id_and_arn_disagree_is_nobodys() {
    let other = ASSUMED.replace("609629065308", "999999999999");
    assert!(learn("sts", "AssumeRole", Some(&caller()), &other).is_none());
    // The older kind of id tells no account: the answer does.
    let old = ASSUMED.replace("ASIAY34FZKBOKMUTVV7A", "ASIAIOSFODNN7EXAMPLE");
    let key = learn("sts", "AssumeRole", Some(&caller()), &old).unwrap();
    assert_eq!(key.account, AccountId::parse("609629065308"));
}

#[test]
fn anything_but_a_whole_answer_teaches_nothing() {
    for end in 0..ASSUMED.trim_end().len() {
        let part = &ASSUMED[..end];
        assert!(learn("sts", "AssumeRole", None, part).is_none(), "{part}");
    }
    for (name, from, to) in [
        ("no end", "Expiration>", "Expiry>"),
        ("no date", "2026-01-02T04:04:05Z", "tomorrow"),
        ("deeper", "<Credentials>", "<X><Credentials>"),
        ("elsewhere", "Credentials>", "Other>"),
        ("twice", "<SecretAccessKey>", "<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>"),
        ("comment", "<Credentials>", "<!-- --><Credentials>"),
        ("CDATA", "s/e+c=", "<![CDATA[s]]>"),
        ("entity", "s/e+c=", "s&amp;"),
        ("empty", "s/e+c=", ""),
        ("no ARN", "arn:aws:sts::609629065308:assumed-role/deploy/me", "deploy"),
        ("other service's ARN", "arn:aws:sts:", "arn:aws:s3:"),
        ("an error", "AssumeRoleResult", "Error"),
        ("more behind it", "</AssumeRoleResponse>", "</AssumeRoleResponse><x/>"),
    ] {
        let changed = ASSUMED.replace(from, to);
        assert_ne!(changed, ASSUMED, "{name}");
        // The element above is not asked for its name: the operation has told what the answer is.
        let is_none = learn("sts", "AssumeRole", None, &changed).is_none();
        assert_eq!(is_none, name != "an error", "{name}");
    }
    let mut bytes = ASSUMED.as_bytes().to_vec();
    bytes[200] = 0xff;
    let lesson = Lesson::of(Some(&operation("sts", "AssumeRole")), None).unwrap();
    assert!(lesson.read(&bytes, NOW).is_none());
}

#[test]
fn a_session_of_the_caller_has_its_account_and_role() {
    let session = "<CreateSessionResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Credentials>\
        <SessionToken>t</SessionToken><SecretAccessKey>s</SecretAccessKey><AccessKeyId>ARI1344EXAMPLE</AccessKeyId>\
        <Expiration>2026-01-02T04:04:05.000Z</Expiration></Credentials></CreateSessionResult>";
    let key = learn("s3", "CreateSession", Some(&caller()), session).unwrap();
    assert_eq!((key.account, key.role.as_deref()), (caller().account, Some("app")));
    assert!(!key.own);
    let nobody = learn("s3", "CreateSession", None, session).unwrap();
    assert_eq!((nobody.account, nobody.role), (None, None));
    // An assumed role is somebody else.
    let unnamed =
        ASSUMED.replace("AssumedRoleUser", "Other").replace("ASIAY34FZKBOKMUTVV7A", "ASIAIOSFODNN7EXAMPLE");
    let key = learn("sts", "AssumeRole", Some(&caller()), &unnamed).unwrap();
    assert_eq!((key.account, key.role), (None, None));
}

#[test]
fn json_answers_are_read_in_their_own_spelling_and_unit() {
    let plain = r#""accessKeyId":"ASIAY34FZKBOKMUTVV7A","secretAccessKey":"s\/","sessionToken":"t""#;
    for (service, name, answer) in [
        ("awsssoportal", "GetRoleCredentials", format!(r#"{{"roleCredentials":{{{plain},"expiration":1767326645000}}}}"#)),
        (
            "cognito-identity",
            "GetCredentialsForIdentity",
            r#"{"Credentials":{"AccessKeyId":"ASIAY34FZKBOKMUTVV7A","Expiration":1.767326645E9,"SecretKey":"s/","SessionToken":"t"},"IdentityId":"x"}"#.to_owned(),
        ),
        (
            "eks-auth",
            "AssumeRoleForPodIdentity",
            format!(r#"{{"assumedRoleUser":{{"arn":"arn:aws:sts::609629065308:assumed-role/pod/x","assumeRoleId":"A"}},"credentials":{{{plain},"expiration":1767326645}}}}"#),
        ),
        ("signin", "CreateOAuth2Token", format!(r#"{{"accessToken":{{{plain}}},"tokenType":"aws_sigv4","expiresIn":3600}}"#)),
    ] {
        let key = learn(service, name, None, &answer).unwrap_or_else(|| panic!("{name}: {answer}"));
        assert_eq!((key.secret.expose(), key.token.as_ref().unwrap().expose()), (&b"s/"[..], &b"t"[..]), "{name}");
        assert_eq!((key.expires, key.account), (Some(END), AccountId::parse("609629065308")), "{name}");
        let parents = key.parents.unwrap();
        assert_eq!((parents.len(), parents[0].key_id.as_deref()), (1, None), "{name}");
        for end in 0..answer.len() {
            assert!(learn(service, name, None, &answer[..end]).is_none(), "{name}");
        }
    }
    let endless = format!(r#"{{"accessToken":{{{plain}}}}}"#);
    assert!(learn("signin", "CreateOAuth2Token", None, &endless).is_none());
}

#[test]
fn only_those_operations_of_those_services_teach() {
    for (service, name) in [
        ("sts", "GetCallerIdentity"),
        ("s3", "AssumeRole"),
        ("dynamodb", "AssumeRole"),
        ("iam", "CreateAccessKey"),
        ("sso", "GetRoleCredentials"),
    ] {
        assert!(Lesson::of(Some(&operation(service, name)), None).is_none(), "{service} {name}");
    }
    assert!(Lesson::of(None, Some(&caller())).is_none());
    let unnamed = Operation { name: None, ..operation("sts", "") };
    assert!(Lesson::of(Some(&unnamed), None).is_none());
}

#[test]
fn each_is_what_the_atlas_calls_the_request_and_only_at_its_host() {
    use crate::engine::atlas::{Atlas, BodySeen, HostKind, Recognition};
    use crate::engine::request::RequestHead;
    let sts = |action: &str| format!("POST / Action={action}&Version=2011-06-15");
    let asked: Vec<(&str, String)> = SOURCES
        .iter()
        .map(|source| match source.operation {
            "CreateSession" => {
                ("b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", "GET /?session ".into())
            }
            "GetRoleCredentials" => (
                "portal.sso.us-east-1.amazonaws.com",
                "GET /federation/credentials?account_id=1&role_name=r ".into(),
            ),
            "GetCredentialsForIdentity" => ("cognito-identity.us-east-1.amazonaws.com", "POST / {}".into()),
            "AssumeRoleForPodIdentity" => (
                "eks-auth.us-east-1.amazonaws.com",
                "POST /clusters/c/assume-role-for-pod-identity {}".into(),
            ),
            "CreateOAuth2Token" => ("us-east-1.signin.aws.amazon.com", "POST /v1/token {}".into()),
            action => ("sts.us-east-1.amazonaws.com", sts(action)),
        })
        .collect();
    for (source, (host, text)) in SOURCES.iter().zip(asked) {
        for (host, ours) in [(host, true), ("sqs.us-east-1.amazonaws.com", false)] {
            let mut words = text.splitn(3, ' ');
            let (method, path, body) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let target = if source.service == "cognito-identity" {
                "X-Amz-Target: AWSCognitoIdentityService.GetCredentialsForIdentity\r\n"
            } else {
                ""
            };
            let kind = if source.service == "sts" {
                "Content-Type: application/x-www-form-urlencoded\r\n"
            } else {
                ""
            };
            let head = format!(
                "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{target}{kind}Content-Length: {}\r\n\r\n",
                body.len()
            );
            let head = RequestHead::parse(head.into()).unwrap();
            let atlas = Atlas::built_in();
            let HostKind::Service(endpoint) = atlas.host(&head.authority().host) else { panic!("{host}") };
            let known = atlas.recognise(&endpoint, None, None, &head, BodySeen::Whole(body.as_bytes()), None);
            let lesson = match &known {
                Recognition::Operation(operation) => Lesson::of(Some(operation), None),
                _ => None,
            };
            let by = lesson.map(|lesson| lesson.source.by);
            assert_eq!(by, ours.then_some(source.by), "{host}: {known:?}");
        }
    }
}
