use super::*;

const BAD: &str = "version: 1
statements:
  - id: a
    effect: allow
    action: [s3:GetObjct, s3:PutObject]
    resource: \"*\"
";
const ODD: &str = "version: 1
perimeter: {signers: [self, 012345671234]}
statements:
  - {id: old, effect: allow, http: {host: a.test}, expires: 2020-01-01}
";
const FINE: &str = "version: 1
statements:
  - {id: tables, effect: allow, action: \"dynamodb:@read\", resource: \"arn:aws:dynamodb:us-east-1:self:table/orders\"}
";

fn argued(output: Output, deny_warnings: bool, policy: Option<&Path>, config: Option<&Path>) -> CheckArgs {
    CheckArgs { policy: policy.map(Into::into), config: config.map(Into::into), deny_warnings, output }
}

/// What is printed for a policy, and whether it is fine.
fn checked(name: &str, text: &str, output: Output, deny_warnings: bool) -> (bool, String) {
    let folder = std::env::temp_dir().join(format!("exeat-check-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("policy.yaml");
    std::fs::write(&path, text).unwrap();
    let mut out = Vec::new();
    let good = check(&argued(output, deny_warnings, Some(&path), None), &mut out).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let printed = String::from_utf8(out).unwrap();
    (good, printed.replace(&format!("{}/", folder.display()), "").replace("file://", ""))
}

#[test]
fn an_error_shows_its_line_a_mark_and_what_to_write() {
    let (good, said) = checked("text", BAD, Output::Text, false);
    assert!(!good);
    let want = "\
error[unknown_action]: unknown action `s3:GetObjct`
  --> policy.yaml:5:14
  |
5 |     action: [s3:GetObjct, s3:PutObject]
  |              ^^^^^^^^^^^
  = help: did you mean `s3:GetObject`?

policy.yaml: cannot be used, 1 error
";
    assert_eq!(said, want);
}

#[test]
fn warnings_fail_only_where_they_are_denied_and_notes_never() {
    for (text, plain, strict) in [(FINE, true, true), (ODD, true, false), (BAD, false, false)] {
        assert_eq!(checked("codes", text, Output::Text, false).0, plain, "{text}");
        assert_eq!(checked("codes", text, Output::Text, true).0, strict, "{text}");
    }
    let said = checked("notes", FINE, Output::Text, true).1;
    assert!(said.contains("note[no_resource]") && said.ends_with("policy.yaml: usable, 1 note\n"), "{said}");
    assert!(checked("odd", ODD, Output::Text, false).1.ends_with("policy.yaml: usable, 2 warnings\n"));
}

#[test]
fn json_has_every_finding_with_its_place() {
    let (_, said) = checked("json", ODD, Output::Json, false);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["schema"], &said["usable"]), (&json!("exeat.check/1"), &json!(true)));
    assert_eq!(
        said["findings"][0],
        json!({
            "severity": "warning", "code": "account_id", "file": "policy.yaml", "line": 2, "column": 29,
            "message": "account id without quotes: other YAML tools read 012345671234 as the octal number 1402434204",
            "help": "write \"012345671234\", in quotes",
        })
    );
    assert_eq!(said["findings"][1]["code"], "expired");
    assert_eq!(said["findings"].as_array().map(Vec::len), Some(2));
}

#[test]
fn github_is_told_by_escaped_commands() {
    let (_, said) = checked("github", BAD, Output::Github, false);
    assert_eq!(
        said,
        "::error file=policy.yaml,line=5,col=14,title=unknown_action::unknown action `s3:GetObjct`; did you mean `s3:GetObject`?\n"
    );
    let found = Problem {
        file: "a,b:c%.yaml".to_owned(),
        at: At { line: 1, column: 2 },
        severity: Severity::Note,
        code: Code::Wide,
        message: "100%\nof it".to_owned(),
        help: None,
    };
    let want = "::notice file=a%2Cb%3Ac%25.yaml,line=1,col=2,title=wide::100%25%0Aof it";
    assert_eq!(workflow_command(&found), want);
}

/// What SARIF 2.1.0 requires of the objects that we write (OASIS, 3.13 to 3.30).
#[test]
fn sarif_has_the_shape_that_version_2_1_0_requires() {
    let mut all = Vec::new();
    for text in [BAD, ODD, FINE] {
        let (_, said) = checked("sarif", text, Output::Sarif, false);
        let log: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(log["version"], "2.1.0");
        let [run] = log["runs"].as_array().unwrap().as_slice() else { panic!("not one run: {log}") };
        let driver = &run["tool"]["driver"];
        assert_eq!(driver["name"], "exeat");
        let rules: Vec<&str> =
            driver["rules"].as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap()).collect();
        for rule in driver["rules"].as_array().unwrap() {
            assert!(rule["shortDescription"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{rule}");
        }
        assert_eq!(rules.len(), Code::ALL.len());
        for result in run["results"].as_array().unwrap() {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index], result["ruleId"]);
            assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
            assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()));
            let [location] = result["locations"].as_array().unwrap().as_slice() else { panic!("{result}") };
            let place = &location["physicalLocation"];
            assert_eq!(place["artifactLocation"]["uri"], "policy.yaml");
            assert!(place["region"]["startLine"].as_u64().is_some_and(|line| line >= 1));
            assert!(place["region"]["startColumn"].as_u64().is_some_and(|column| column >= 1));
            all.push(format!("{} {}", result["level"].as_str().unwrap(), result["ruleId"].as_str().unwrap()));
        }
    }
    assert_eq!(all, ["error unknown_action", "warning account_id", "warning expired", "note no_resource"]);
}

#[test]
fn settings_are_checked_with_their_places() {
    let folder = std::env::temp_dir().join(format!("exeat-check-{}-config", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("exeat.yaml");
    let run = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let mut out = Vec::new();
        let good = check(&argued(Output::Json, false, None, Some(&path)), &mut out).unwrap();
        (good, serde_json::from_slice::<Value>(&out).unwrap())
    };
    let (good, said) = run("listen: 127.0.0.1:3128\nlisten_on: x\nlimits: {head: soon}\n");
    assert!(!good);
    let places: Vec<_> = said["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["line"].as_u64(), f["code"].clone()))
        .collect();
    assert_eq!(places, [(Some(2), json!("setting")), (Some(3), json!("setting"))]);
    let (good, said) = run("listen: 127.0.0.1:3128\n");
    assert!(good && said["findings"] == json!([]), "{said}");
    std::fs::remove_dir_all(&folder).unwrap();
}
