use std::path::{Path, PathBuf};

use super::*;
use crate::engine::atlas::Atlas;
use crate::engine::policy::Policy;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares a committed file with what it is written from; EXEAT_BLESS=1 writes it.
fn stands(path: &str, text: &str) {
    if std::env::var_os("EXEAT_BLESS").is_some() {
        std::fs::write(here(path), text).unwrap();
    }
    let stands = std::fs::read_to_string(here(path)).unwrap_or_default();
    assert!(stands == text, "{path} is out of date: run this test with EXEAT_BLESS=1");
}

/// What of a value the schema does not take. Knows the keywords that we write, patterns aside: those are for editors.
fn refused(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Value::Object(keywords) = schema else {
        if *schema == json!(false) {
            found.push(format!("{at}: nothing may stand here"));
        }
        return;
    };
    let fits = |schema: &Value| {
        let mut inner = Vec::new();
        refused(schema, value, at, &mut inner);
        inner.is_empty()
    };
    let any = |list: &Value| list.as_array().unwrap().iter().filter(|schema| fits(schema)).count();
    for (keyword, wanted) in keywords {
        let good = match keyword.as_str() {
            "type" => match wanted.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_i64(),
                other => panic!("type {other}"),
            },
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "required" => {
                let has = |name: &Value| value.get(name.as_str().unwrap()).is_some();
                !value.is_object() || wanted.as_array().unwrap().iter().all(has)
            }
            "anyOf" => any(wanted) > 0,
            "oneOf" => any(wanted) == 1,
            "not" => !fits(wanted),
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    refused(wanted, item, &format!("{at}[{n}]"), found);
                }
                true
            }
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= wanted.as_u64().unwrap()),
            "minimum" => value.as_i64().is_none_or(|number| number >= wanted.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|number| number <= wanted.as_i64().unwrap()),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= wanted.as_u64().unwrap()),
            "additionalProperties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    let known = keywords.get("properties").is_some_and(|known| known.get(name).is_some());
                    let header = keywords.contains_key("patternProperties") && name.starts_with("header.");
                    if !known && !header {
                        refused(wanted, inner, &format!("{at}.{name}"), found);
                    }
                }
                true
            }
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    if let Some(inner) = value.get(name) {
                        refused(schema, inner, &format!("{at}.{name}"), found);
                    }
                }
                true
            }
            "patternProperties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    if name.starts_with("header.") {
                        refused(&wanted["^header\\..+$"], inner, &format!("{at}.{name}"), found);
                    }
                }
                true
            }
            "pattern" | "propertyNames" | "description" | "title" | "$schema" => true,
            other => panic!("keyword {other}"),
        };
        if !good {
            found.push(format!("{at}: {keyword}"));
        }
    }
}

fn problems(text: &str) -> Vec<String> {
    let value: Value = serde_yaml::from_str(text).unwrap();
    let mut found = Vec::new();
    refused(&json_schema(), &value, "policy", &mut found);
    found
}

/// Every policy that is committed.
fn examples() -> Vec<PathBuf> {
    let cases = std::fs::read_dir(here("tests/cases/policy")).unwrap();
    let cases = cases.map(|entry| entry.unwrap().path().join("policy.yaml"));
    cases.chain([here("tests/clients/policy.yaml"), here("config/policy.example.yaml")]).collect()
}

#[test]
fn the_committed_schema_is_the_one_that_the_program_prints() {
    let text = format!("{}\n", serde_json::to_string_pretty(&json_schema()).unwrap());
    stands("config/policy.schema.json", &text);
}

#[test]
fn every_example_is_read_and_fits_the_schema() {
    for path in examples() {
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let read = Policy::read("example", &text, Atlas::built_in());
        assert!(read.is_ok(), "{}: {read:?}", path.display());
        assert_eq!(problems(&text), Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let rows = [
        "version: 2\nstatements: []\n",
        "version: 1\n",
        "version: 1\nstatements: []\ndefaults: deny\n",
        "version: 1\nstatements: [{id: a, effect: permit, action: s3:GetObject, resource: '*'}]\n",
        "version: 1\nstatements: [{id: a, effect: allow, action: s3:GetObject}]\n",
        "version: 1\nstatements: [{id: a, effect: allow, action: [], resource: '*'}]\n",
        "version: 1\nstatements: [{id: a, effect: allow, http: {host: a.test}, resource: '*'}]\n",
        "version: 1\nstatements: [{id: a, effect: allow, http: {host: a.test}, action: s3:GetObject, resource: '*'}]\n",
        "version: 1\nstatements: [{id: a, effect: allow, http: {path: /}}]\n",
        "version: 1\nstatements: [{id: a, effect: deny, tunnel: {host: a.test, port: 443}}]\n",
        "version: 1\nstatements: [{id: a, effect: allow, tunnel: {host: a.test, port: 65536}}]\n",
        "version: 1\nstatements: [{id: a, effect: allow, tunnel: {host: a.test}, http: {host: a.test}}]\n",
        "version: 1\nstatements: [{effect: allow, http: {host: a.test}}]\n",
        "version: 1\nstatements: [{id: a, effect: allow, http: {host: a.test}, when: {signer.acount: self}}]\n",
        "version: 1\nstatements: [{id: a, effect: allow, http: {host: a.test}, when: {auth: {nt: none}}}]\n",
        "version: 1\nstatements: [{id: a, effect: allow, http: {host: a.test}, upstream: {tls: '>=1.1'}}]\n",
    ];
    for text in rows {
        assert!(Policy::read("bad", text, Atlas::built_in()).is_err(), "{text}");
        assert!(!problems(text).is_empty(), "{text}");
    }
}

#[test]
fn the_tables_of_docs_policy_md_are_these() {
    const PATH: &str = "docs/policy.md";
    let mut text = std::fs::read_to_string(here(PATH)).unwrap();
    for (name, table) in tables() {
        let begin = format!("<!-- table: {name} -->\n");
        let from =
            text.find(&begin).unwrap_or_else(|| panic!("{PATH} has no place for {name}")) + begin.len();
        let to = from + text[from..].find("<!-- end -->").unwrap();
        text.replace_range(from..to, &table);
    }
    stands(PATH, &text);
}

#[test]
fn every_example_in_docs_policy_md_is_read() {
    let text = std::fs::read_to_string(here("docs/policy.md")).unwrap();
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 4, "only {} examples were found", blocks.len());
    for block in blocks {
        // A piece is statements alone.
        let whole = if block.contains("version: 1") {
            block.to_owned()
        } else {
            format!("version: 1\nstatements:\n{block}")
        };
        let read = Policy::read("docs", &whole, Atlas::built_in());
        assert!(read.as_ref().is_ok_and(|(_, warnings)| warnings.is_empty()), "{whole}\n{read:?}");
        assert_eq!(problems(&whole), Vec::<String>::new(), "{whole}");
    }
}
