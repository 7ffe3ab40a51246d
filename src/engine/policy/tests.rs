//! Reading: every bad policy gives all of its problems with their places; every good one none.

use super::*;

/// `LINE:COLUMN severity code: message; help` of everything that is wrong or odd.
fn told(text: &str) -> Vec<String> {
    let now = Timestamp(1_767_323_045); // 2026-01-02
    let problems = match Policy::read("p", text, Atlas::built_in()) {
        Ok((policy, mut warnings)) => {
            warnings.extend(policy.findings(Atlas::built_in(), now));
            warnings.sort_by_key(|problem| problem.at);
            warnings
        }
        Err(problems) => problems,
    };
    let line = |problem: &Problem| {
        let place = problem.to_string();
        let place = place.strip_prefix("p:").unwrap();
        let (at, said) = place.split_once(": ").unwrap();
        format!("{at} {} {}: {said}", problem.severity, problem.code)
    };
    problems.iter().map(line).collect()
}

/// A policy of these statements, the first of which stands in line 3.
fn of(statements: &[&str]) -> String {
    format!(
        "version: 1\nstatements:\n{}",
        statements.iter().map(|line| format!("  - {{{line}}}\n")).collect::<String>()
    )
}

#[test]
fn the_built_in_policy_is_read_and_nothing_is_odd_about_it() {
    assert_eq!(told(built_in::BUILT_IN), Vec::<String>::new());
    assert_eq!(told(built_in::SIGN_IN), Vec::<String>::new());
    assert_eq!(Policy::built_in(Mode::Run).statements.len(), 3);
}

#[test]
fn what_is_no_policy_is_told_by_its_place() {
    let rows: &[(&str, &str, &[&str])] = &[
        (
            "empty",
            "",
            &[
                "1:1 error value: want a mapping with version, default, perimeter, orgs, addresses, statements",
            ],
        ),
        (
            "a list",
            "- 1\n",
            &[
                "1:1 error value: want a mapping with version, default, perimeter, orgs, addresses, statements",
            ],
        ),
        (
            "nothing in it",
            "default: deny\n",
            &[
                "1:1 error missing: the policy has no `version`, want 1",
                "1:1 error missing: the policy has no `statements`, want a list of statements",
            ],
        ),
        (
            "another version",
            "version: 2\nstatements: []\n",
            &["1:10 error value: version: got \"2\", want 1"],
        ),
        (
            "statements that are no list",
            "version: 1\nstatements: {id: a}\n",
            &["2:13 error value: statements: want a list (an empty one, [], denies everything)"],
        ),
        (
            "a statement that is no mapping",
            "version: 1\nstatements: [allow]\n",
            &[
                "2:14 error value: want a mapping with id, effect, action, resource, http, tunnel, when, mode, expires, upstream, alpn",
                "2:14 error missing: this statement has neither `action` nor `http` nor `tunnel`",
            ],
        ),
        (
            "unknown words",
            "version: 1\ndefault: reprot\nperimter: {}\nstatements: []\n",
            &[
                "2:10 error value: default: got \"reprot\", want deny or report; did you mean `report`?",
                "3:1 error unknown_key: unknown key `perimter`; did you mean `perimeter`?",
            ],
        ),
    ];
    for (name, text, want) in rows {
        assert_eq!(told(text), *want, "{name}");
    }
    for text in ["version: 1\nversion: 1\nstatements: []\n", "a:\n\t- b\n", "version: [1\n", "a: {b: c\n"] {
        let problems = told(text);
        assert!(problems.len() == 1 && problems[0].contains(" error syntax: "), "{text}: {problems:?}");
    }
    let problems = told(&format!("version: 1\nstatements: []\n#{}", "x".repeat(1 << 20)));
    assert_eq!(problems, ["1:1 error syntax: larger than 1 MiB"]);
}

#[test]
fn every_problem_of_a_statement_is_told_at_once() {
    let rows: &[(&str, &[&str], &[&str])] = &[
        (
            "an empty one",
            &["id: a"],
            &[
                "3:5 error missing: statement `a` has no `effect`, want allow or deny",
                "3:5 error missing: statement `a` has neither `action` nor `http` nor `tunnel`",
            ],
        ),
        (
            "names",
            &[
                "id: \"a b\", effect: permit, http: {host: a.test}",
                "id: x, effect: deny, http: {host: b.test}",
                "id: x, effect: deny, http: {host: c.test}",
            ],
            &[
                "3:10 error value: id: want at most 64 letters, digits, `-`, `_` and `.`",
                "3:25 error value: effect: got \"permit\", want allow or deny",
                "5:5 error conflict: id `x` stands at line 4 already",
            ],
        ),
        (
            "keys",
            &[
                "id: a, efect: allow, action: s3:GetObject, resorce: \"*\", tunnel: {host: x}, inject: {}, alpn: h3",
            ],
            &[
                "3:5 error missing: statement `a` has no `effect`, want allow or deny",
                "3:5 error missing: statement `a` has `action` and no `resource` (`\"*\"` is every resource)",
                "3:13 error unknown_key: unknown key `efect`; did you mean `effect`?",
                "3:49 error unknown_key: unknown key `resorce`; did you mean `resource`?",
                "3:71 error conflict: `tunnel` stands alone: nothing in it is read, so no action or path can be asked; write two",
                "3:82 error unsupported: `inject` is not supported by this version",
                "3:100 error conflict: `alpn` belongs to an allow with `http`: of AWS's endpoints it is known",
                "3:100 error value: alpn: got \"h3\", want h2",
            ],
        ),
        (
            "both kinds",
            &[
                "id: a, effect: allow, action: s3:GetObjct, resource: \"*\", http: {hst: a.test}",
                "id: b, effect: deny, http: {host: a.test}, resource: \"*\"",
            ],
            &[
                "3:36 error unknown_action: unknown action `s3:GetObjct`; did you mean `s3:GetObject`?",
                "3:70 error conflict: `action` and `http` in one statement: an AWS call is never matched by `http`; write two",
                "3:70 error missing: http has no `host`, want a host, or a list",
                "3:71 error unknown_key: unknown key `hst`; did you mean `host`?",
                "4:59 error conflict: `resource` belongs to `action`; an `http` statement has `path`",
            ],
        ),
        (
            "actions",
            &[
                "id: a, effect: deny, resource: \"*\", action: [s3, \"s3:\", \"*:Get\", dynmodb:GetItem, s3:ListObjectsV2, \"s3:@raed\", \"s4:@read\", \"s3:a b\", lambda:Invoke]",
            ],
            &[
                "3:51 error value: `s3` is no action; want `service:Name` such as s3:GetObject, a set such as s3:@read, or `*`",
                "3:55 error value: `s3:` is no action; want `service:Name` such as s3:GetObject, a set such as s3:@read, or `*`",
                "3:62 error value: `*:Get` is no action; want `service:Name` such as s3:GetObject, a set such as s3:@read, or `*`",
                "3:71 error unknown_action: unknown service `dynmodb`; did you mean `dynamodb`?",
                "3:88 error unknown_action: unknown action `s3:ListObjectsV2`; did you mean `s3:ListBucket`?",
                "3:106 error unknown_action: unknown set `@raed`, want one of @list, @read, @write, @tagging, @permissions",
                "3:118 error unknown_action: unknown service `s4`",
                "3:130 error value: `s3:a b` is no action; want `service:Name` such as s3:GetObject, a set such as s3:@read, or `*`",
                "3:140 error unknown_action: unknown action `lambda:Invoke`; did you mean `lambda:InvokeFunction`?",
            ],
        ),
        (
            "resources",
            &[
                "id: a, effect: deny, action: \"*\", resource: [ours, \"s3://ours/x\", \"arn:aws:s3::self:x\", \"arn:aws:sqs:us-east-1:12345:q\", \"arn:*:self:q\", []]",
            ],
            &[
                "3:51 error value: `ours` is neither `*` nor an ARN (arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE)",
                "3:57 error value: `s3://ours/x` is neither `*` nor an ARN (arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE); did you mean `arn:aws:s3:::ours/x`?",
                "3:72 error value: `arn:aws:s3::self:x`: a bucket's ARN has no account, so `self` can't be told by it; name the bucket (arn:aws:s3:::NAME/*), and set `perimeter.resources`",
                "3:94 error value: `arn:aws:sqs:us-east-1:12345:q`: an account id has twelve digits, this has 5",
                "3:127 error value: `arn:*:self:q`: `self` is the fifth field, where an ARN has its account; write all six fields",
                "3:143 error value: want an ARN or \"*\", or a list",
            ],
        ),
        (
            "http",
            &[
                "id: a, effect: deny, http: {host: [\"a*.test\", 10.0.0.1, \"a.test:0\"], method: [get, TRACE], path: [v1, \"/a?b=c\"], originate_tls: true}",
            ],
            &[
                "3:41 error value: `a*.test`: `*` stands for one whole label, `**.` at the front for one or more",
                "3:52 error value: `10.0.0.1` is an address, not a name",
                "3:62 error value: `0` is no port",
                "3:84 error value: got \"get\", want a method in capitals, not TRACE or CONNECT",
                "3:89 error value: got \"TRACE\", want a method in capitals, not TRACE or CONNECT",
                "3:104 error value: `v1`: a path begins with `/`",
                "3:108 error value: `/a?b=c`: a path has no query; `?` is any one character",
                "3:119 error unsupported: `originate_tls` is not supported by this version",
            ],
        ),
        (
            "conditions",
            &[
                "id: a, effect: deny, action: \"*\", resource: \"*\", when: {signer.acount: self, tls.version: \">=1.1\", header.x: {nt: 1}, host: \"a.test:443\", time.hour: 1, auth: sigv5, payload: [], source.address: here, signature: bad}",
            ],
            &[
                "3:62 error unknown_key: when: `signer.acount` can't be asked; did you mean `signer.account`?",
                "3:96 error value: got \">=1.1\", want \"1.2\", \"1.3\", \">=1.2\" or \">=1.3\"",
                "3:115 error value: want a value, a list of values, or {not: …}",
                "3:130 error value: `a.test:443`: want a host without a port",
                "3:144 error unknown_key: when: `time.hour` can't be asked by this version",
                "3:164 error value: got \"sigv5\", want one of sigv4, sigv4a, presigned, post_form, bearer, basic, token, none",
                "3:180 error value: want a mapping of keys to values",
                "3:200 error value: got \"here\", want an address or a range like 10.0.0.0/8",
                "3:217 error value: got \"bad\", want one of verified, unknown_key, unsigned",
            ],
        ),
        (
            "ends and obligations",
            &[
                "id: a, effect: deny, action: \"*\", resource: \"*\", mode: enforce, expires: 2026-13-01, upstream: {tls: 1.1, x: 1}",
            ],
            &[
                "3:61 error value: mode: got \"enforce\", want report",
                "3:79 error conflict: `expires` stands on allows only: a deny that ends would open what it shut",
                "3:79 error value: expires: got \"2026-13-01\", want a date like 2026-12-31",
                "3:101 error conflict: `upstream` stands on allows only: a deny connects to nothing",
                "3:107 error value: tls: got \"1.1\", want \">=1.2\" or \">=1.3\"",
                "3:112 error unknown_key: unknown key `x`",
            ],
        ),
    ];
    for (name, statements, want) in rows {
        assert_eq!(told(&of(statements)), *want, "{name}");
    }
}

#[test]
fn account_ids_that_yaml_misreads_are_named_with_the_fix() {
    let perimeter =
        |accounts: &str| told(&format!("version: 1\nperimeter: {{signers: [{accounts}]}}\nstatements: []\n"));
    const WANT: &str = "want account ids (twelve digits, quoted), self or organisation ids";
    let rows: &[(&str, &[&str])] = &[
        ("\"012345671234\", '111122223333', self", &[]),
        (
            "012345671234",
            &[
                "2:23 warning account_id: account id without quotes: other YAML tools read 012345671234 as the octal number 1402434204; write \"012345671234\", in quotes",
            ],
        ),
        (
            "111122223333",
            &[
                "2:23 warning account_id: account id without quotes: other YAML tools read 111122223333 as a number; write \"111122223333\", in quotes",
            ],
        ),
        (
            "12345671234",
            &[&format!(
                "2:23 error account_id: got \"12345671234\", {WANT}: this has 11 digits; if zeros in front were lost, write \"012345671234\""
            )],
        ),
        (
            "0o123456",
            &[&format!(
                "2:23 error account_id: got \"0o123456\", {WANT}: this is the octal number 42798; did you mean \"000000042798\"?"
            )],
        ),
        (
            "1234-5678-9012, 1_234_5678_9012",
            &[
                &format!(
                    "2:23 error account_id: got \"1234-5678-9012\", {WANT}; did you mean \"123456789012\"?"
                ),
                &format!(
                    "2:39 error account_id: got \"1_234_5678_9012\", {WANT}; did you mean \"123456789012\"?"
                ),
            ],
        ),
        ("1.11122223333e+11", &[&format!("2:23 error account_id: got \"1.11122223333e+11\", {WANT}")]),
        ("slf", &[&format!("2:23 error account_id: got \"slf\", {WANT}; did you mean \"self\"?")]),
        ("o-abc", &["2:23 error value: organisation `o-abc` is not in `orgs`"]),
        // An alias is what it repeats.
        ("&ours \"111122223333\", *ours", &[]),
        (
            "&ours 0o17, *ours",
            &[
                &format!(
                    "2:29 error account_id: got \"0o17\", {WANT}: this is the octal number 15; did you mean \"000000000015\"?"
                ),
                &format!(
                    "2:35 error account_id: got \"0o17\", {WANT}: this is the octal number 15; did you mean \"000000000015\"?"
                ),
            ],
        ),
        // Errors don't hide warnings.
        (
            "111122223333, x",
            &[
                "2:23 warning account_id: account id without quotes: other YAML tools read 111122223333 as a number; write \"111122223333\", in quotes",
                &format!("2:37 error account_id: got \"x\", {WANT}"),
            ],
        ),
    ];
    for (accounts, want) in rows {
        assert_eq!(perimeter(accounts), *want, "{accounts}");
    }
    let when = |value: &str| {
        told(&of(&[&format!(
            "id: a, effect: deny, action: \"*\", resource: \"*\", when: {{signer.account: {value}}}"
        )]))
    };
    assert_eq!(when("\"111122223333\""), Vec::<String>::new());
    assert!(
        when("011122223333")[0].contains("3:78 warning account_id: account id without quotes"),
        "{:?}",
        when("011122223333")
    );
    assert!(when("11122223333")[0].contains("write \"011122223333\""));
}

#[test]
fn what_is_odd_is_told_and_its_plain_neighbour_is_not() {
    let rows: &[(&str, &[&str], &[&str])] = &[
        (
            "an allow that is denied whole",
            &[
                "id: reports, effect: allow, action: [s3:GetObject, \"s3:@list\"], resource: \"arn:aws:s3:::a/*\"",
                "id: no-s3, effect: deny, action: \"s3:*\", resource: \"arn:aws:s3:::*\"",
            ],
            &[
                "3:5 warning never_matches: `reports` can never allow anything: `no-s3` (line 4) denies all of it",
            ],
        ),
        (
            "an allow of everybody's",
            &["id: a, effect: allow, action: s3:GetObject, resource: \"arn:aws:s3:::*\""],
            &["3:60 warning wide: `arn:aws:s3:::*` is every resource of the service, those of strangers too"],
        ),
        (
            "one that is denied in part, or sometimes, or only on trial",
            &[
                "id: a, effect: allow, action: s3:GetObject, resource: \"arn:aws:s3:::a/*\"",
                "id: b, effect: deny, action: s3:GetObject, resource: \"arn:aws:s3:::a/secret/*\"",
                "id: c, effect: deny, action: s3:GetObject, resource: \"arn:aws:s3:::a/*\", when: {auth: presigned}",
                "id: d, effect: deny, mode: report, action: s3:GetObject, resource: \"arn:aws:s3:::a/*\"",
            ],
            &[],
        ),
        (
            "an allow within another",
            &[
                "id: wide, effect: allow, action: \"sqs:Send*\", resource: \"arn:aws:sqs:*:*:*\"",
                "id: narrow, effect: allow, action: sqs:SendMessage, resource: \"arn:aws:sqs:us-east-1:self:q\", when: {region: us-east-1}",
            ],
            &["4:5 warning shadowed: `narrow` adds nothing: `wide` (line 3) allows all of it"],
        ),
        (
            "one that lasts longer, obliges, or passes other signers",
            &[
                "id: wide, effect: allow, action: \"sqs:*\", resource: \"*\", expires: 2099-01-01",
                "id: longer, effect: allow, action: sqs:SendMessage, resource: \"arn:aws:sqs:us-east-1:self:a\"",
                "id: obliged, effect: allow, action: sqs:SendMessage, resource: \"arn:aws:sqs:us-east-1:self:b\", upstream: {tls: \">=1.3\"}",
                "id: unknown, effect: allow, action: sqs:SendMessage, resource: \"arn:aws:sqs:us-east-1:self:c\", expires: 2098-01-01, when: {signature: unknown_key}",
                "id: bearer, effect: allow, action: sqs:SendMessage, resource: \"arn:aws:sqs:us-east-1:self:d\", expires: 2098-01-01, when: {auth: bearer}",
            ],
            &[],
        ),
        (
            "of two alike the later",
            &[
                "id: b, effect: deny, http: {host: \"**.test\"}",
                "id: a, effect: deny, http: {host: \"**.test\"}",
                "id: c, effect: deny, http: {host: a.test, path: /x}",
            ],
            &[
                "4:5 warning shadowed: `a` adds nothing: `b` (line 3) denies all of it",
                "5:5 warning shadowed: `c` adds nothing: `a` (line 4) denies all of it",
            ],
        ),
        (
            "an allow whose last day is past",
            &[
                "id: a, effect: allow, http: {host: a.test}, expires: 2026-01-01",
                "id: b, effect: allow, http: {host: b.test}, expires: 2026-01-02",
            ],
            &["3:5 warning expired: `a` has expired: it allows nothing any more"],
        ),
        (
            "conditions that no call meets",
            &[
                "id: a, effect: allow, action: \"sts:*\", resource: \"*\", when: {signature: unsigned}",
                "id: b, effect: allow, action: \"sqs:*\", resource: \"*\", when: {auth: bearer, signature: verified}",
                "id: c, effect: allow, action: \"sns:*\", resource: \"*\", when: {auth: none, signature: unsigned}",
                "id: d, effect: allow, http: {host: a.test}, when: {header.x: y}",
                "id: e, effect: allow, http: {host: a.test}, when: {source.address: 10.0.0.0/8}",
            ],
            &[
                "3:5 warning never_matches: `a` can never match: no call has that `auth` with that `signature`; what is not signed is allowed by naming its `auth` (none, bearer, …)",
                "4:5 warning never_matches: `b` can never match: no call has that `auth` with that `signature`; what is not signed is allowed by naming its `auth` (none, bearer, …)",
                "6:5 warning never_matches: `d` can never match: only signed headers of AWS calls can be asked, and only those have a region and a resource",
            ],
        ),
        (
            "actions and resources that never meet",
            &[
                "id: a, effect: allow, action: [\"s3:Gett*\", s3:ListAllMyBuckets], resource: \"arn:aws:s3:::a/*\"",
                "id: b, effect: allow, action: sqs:SendMessage, resource: \"arn:aws:sns:us-east-1:self:q\"",
                "id: c, effect: allow, action: sts:AssumeRole, resource: \"arn:aws:iam::self:role/x\"",
                "id: d, effect: allow, action: [sns:ListTopics, \"sns:Get*\"], resource: \"*\"",
            ],
            &[
                "3:37 warning matches_nothing: `s3:Gett*` matches no action that is known",
                "3:49 warning no_resource: `s3:ListAllMyBuckets` takes no resource: only `resource: \"*\"` names it; give it a statement of its own",
                "4:63 warning never_matches: `arn:aws:sns:us-east-1:self:q` is of another service than every action here",
            ],
        ),
        (
            "a set with actions that take no resource",
            &["id: a, effect: allow, action: \"sqs:@read\", resource: \"arn:aws:sqs:us-east-1:self:q\""],
            &[
                "3:5 note no_resource: `a` does not allow ListQueues of `sqs:@read`: they take no resource, only `resource: \"*\"` names them",
            ],
        ),
        (
            "a third party's rule on a host of AWS",
            &[
                "id: a, effect: allow, http: {host: [s3.us-east-1.amazonaws.com, novelty.us-east-1.amazonaws.com, a.test]}",
            ],
            &[
                "3:42 warning never_matches: `http` never matches `s3.us-east-1.amazonaws.com`, which is AWS's: its calls are judged by `action`",
                "3:70 warning never_matches: `http` never matches `novelty.us-east-1.amazonaws.com`, which is AWS's: its calls are judged by `action`",
            ],
        ),
    ];
    for (name, statements, want) in rows {
        assert_eq!(told(&of(statements)), *want, "{name}");
    }
    // Where resources have a perimeter, a literal name is a consent that no pattern gives.
    let text = "version: 1\nperimeter: {resources: [self]}\nstatements:\n  \
                - {id: a, effect: allow, action: [s3:GetObject, s3:PutObject], resource: \"arn:aws:s3:::a*\"}\n  \
                - {id: b, effect: allow, action: s3:GetObject, resource: \"arn:aws:s3:::acme/*\"}\n";
    assert_eq!(told(text), Vec::<String>::new());
    assert_eq!(told(&text.replace("perimeter: {resources: [self]}", "perimeter: {}")).len(), 1);
}
