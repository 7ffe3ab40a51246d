//! Lines of every kind hold to `exeat schema audit`, and the committed schemas are the program's.

use super::*;

/// As much of JSON Schema as our schemas use; says where a value does not hold to it.
fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{at}: {what}: {value}"));
    let known = [
        "$schema",
        "title",
        "description",
        "default",
        "format",
        "type",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "minItems",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "enum",
        "const",
        "oneOf",
        "pattern",
    ];
    let rules = schema.as_object().unwrap();
    assert!(
        rules.keys().all(|rule| known.contains(&&**rule)),
        "{at}: {schema} has a rule that is not checked here"
    );
    if let Some(choices) = rules.get("oneOf") {
        let tried: Vec<_> = choices.as_array().unwrap().iter().map(|one| check(one, value, at)).collect();
        let fit = tried.iter().filter(|result| result.is_ok()).count();
        return if fit == 1 { Ok(()) } else { Err(format!("{at}: fits {fit} of oneOf: {tried:?}")) };
    }
    if rules.get("const").is_some_and(|only| only != value) {
        return wrong("not the constant");
    }
    if rules.get("enum").is_some_and(|words| !words.as_array().unwrap().contains(value)) {
        return wrong("no word of the set");
    }
    if let Some(Value::Array(types)) = rules.get("type") {
        let one = |kind: &Value| check(&serde_json::json!({"type": kind}), value, at).is_ok();
        return if types.iter().any(one) { Ok(()) } else { wrong("another type") };
    }
    match rules.get("type").and_then(Value::as_str) {
        None => {}
        Some("null") if value.is_null() => {}
        Some("boolean") if value.is_boolean() => {}
        Some("integer") if value.is_u64() => {}
        Some("string") if value.is_string() => {
            let text = value.as_str().unwrap();
            if let Some(most) = rules.get("maxLength").and_then(Value::as_u64) {
                assert!(text.len() as u64 <= most, "{at}");
            }
            if let Some(pattern) = rules.get("pattern").and_then(Value::as_str)
                && !matches(pattern, text)
            {
                return wrong("not of the pattern");
            }
        }
        Some("array") if value.is_array() => {
            for item in value.as_array().unwrap() {
                check(&rules["items"], item, &format!("{at}[]"))?;
            }
        }
        Some("object") if value.is_object() => {
            let Some(properties) = rules.get("properties") else { return Ok(()) };
            for name in rules.get("required").and_then(Value::as_array).into_iter().flatten() {
                if value.get(name.as_str().unwrap()).is_none() {
                    return wrong(&format!("lacks {name}"));
                }
            }
            for (name, member) in value.as_object().unwrap() {
                let Some(property) = properties.get(name) else { return wrong(&format!("has {name}")) };
                check(property, member, &format!("{at}.{name}"))?;
            }
        }
        Some(_) => return wrong("another type"),
    }
    Ok(())
}

/// The few patterns there are: groups of one class, each with a count, and literal dashes.
fn matches(pattern: &str, text: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split('-').collect();
    let boot =
        |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    match pattern {
        "^[0-9a-f]{64}$" => text.len() == 64 && text.chars().all(hex),
        "^[0-9a-f]{12}$" => text.len() == 12 && text.chars().all(hex),
        "^[0-9a-f]{16}$" => text.len() == 16 && text.chars().all(hex),
        "^[0-9]{12}$" => text.len() == 12 && digits(text),
        "^[0-9a-z]{12}-[0-9]+$" => parts.len() == 2 && boot(parts[0]) && digits(parts[1]),
        "^[0-9a-z]{12}-[0-9]+-[0-9]+$" => {
            parts.len() == 3 && boot(parts[0]) && digits(parts[1]) && digits(parts[2])
        }
        _ => panic!("teach this test {pattern}"),
    }
}

#[test]
fn lines_of_every_kind_hold_to_the_schema() {
    let path = folder("schema").join("audit.jsonl");
    let records = records_with(to_file(&path), data_at(DataLevel::All));
    let recorder = records.recorder();
    wait(pass(&recorder)).unwrap();
    wait(refuse(&recorder));
    let (arrival, operation, identity, tls) = (arrival(), operation(), identity(), tls());
    let mut entry = recorder.open(&Recorder::prelude(&arrival));
    entry.judged(&Request { would: &["try".into()], ..request(None, &identity, &arrival.target) });
    wait(entry.intend()).unwrap();
    entry.retries(Retried::Unprocessed);
    wait(entry.close(answered(Some(Upstream {
        extended_request_id: Some(b"x"),
        ..upstream(&LegText::dialled_at("52.94.0.1:443".parse().unwrap(), Some(&tls)))
    }))));
    let ask = operation.asks[0].clone();
    let role = Some("arn:aws:iam::111122223333:role/r".into());
    let identity = Identity { signer: identity.signer.map(|signer| Signer { role, ..signer }), ..identity };
    let operation = Operation { name: None, asks: vec![ask; 9], ..operation };
    let mut entry = recorder.open(&Recorder::prelude(&arrival));
    entry.judged(&request(Some(&operation), &identity, &arrival.target));
    wait(entry.intend()).unwrap();
    wait(entry.close(Outcome::new(End::Tunnelled, 200)));
    wait(recorder.open_connection(Door::Forward, arrival.peer, Some(b"a.test:443")).close(Outcome::refused(
        Reason::TlsNoSni,
        0,
        "no name",
    )));
    let shown = Shown { version: Some("TLSv1.3"), cipher: Some(1), group: Some(2), chain: tls.chain.clone() };
    let leg = LegText::unshaken_at("52.94.0.1:443".parse().unwrap(), &shown);
    wait(recorder.open_connection(Door::Forward, arrival.peer, None).close(Outcome {
        upstream: Some(Upstream::unanswered(&leg, false)),
        ..Outcome::refused(Reason::UpstreamCertificate, 403, "expired")
    }));
    drop(recorder.open_own());
    let mut entry = recorder.open_connection(Door::Forward, arrival.peer, None);
    entry.is_of(4711, "node");
    drop(entry);
    records.end();
    // A second start on the same file.
    wait(pass(&self::records(to_file(&path)).recorder())).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let schema = exeat::record::schema::schema();
    for line in &lines {
        check(&schema, line, "line").unwrap_or_else(|wrong| panic!("{wrong}\n{line}"));
    }
    // Every member of the schema was seen, so none is there that no line has.
    let mut unseen = Vec::new();
    for kind in schema["oneOf"].as_array().unwrap() {
        let of_kind: Vec<&Value> = lines.iter().filter(|line| check(kind, line, "").is_ok()).collect();
        collect_unseen(kind, &of_kind, "", &mut unseen);
    }
    assert_eq!(unseen, Vec::<String>::new());
    // And what no line may have is refused.
    for (member, value) in [("authorization", Value::from("x")), ("seq", Value::from("1"))] {
        let mut line = lines[1].clone();
        line[member] = value;
        assert!(check(&schema, &line, "line").is_err(), "{member}");
    }
}

fn collect_unseen(schema: &Value, values: &[&Value], at: &str, unseen: &mut Vec<String>) {
    let items = schema.get("items").unwrap_or(schema);
    for (name, property) in items["properties"].as_object().into_iter().flatten() {
        let each =
            values.iter().flat_map(|value| value.as_array().map_or(vec![*value], |all| all.iter().collect()));
        let inner: Vec<&Value> = each.filter_map(|value| value.get(name)).collect();
        if inner.is_empty() {
            unseen.push(format!("{at}.{name}"));
        } else {
            collect_unseen(property, &inner, &format!("{at}.{name}"), unseen);
        }
    }
}

#[test]
fn the_committed_schemas_are_the_programs() {
    for (file, schema) in
        [("exeat", exeat::config::schema::schema()), ("audit", exeat::record::schema::schema())]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/{file}.schema.json"));
        let current = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("EXEAT_BLESS").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == current, "{file}.schema.json is out of date: run this test with EXEAT_BLESS=1");
    }
}

/// Every promise of the schema as a line of its own: a member, its type, that it is always there, each word of a set.
fn promises(schema: &Value, at: &str, out: &mut std::collections::BTreeSet<String>) {
    for rule in ["type", "const", "pattern", "format"] {
        if let Some(value) = schema.get(rule) {
            out.insert(format!("{at} {rule} {value}"));
        }
    }
    for word in schema.get("enum").and_then(Value::as_array).into_iter().flatten() {
        out.insert(format!("{at} may be {word}"));
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        out.insert(format!("{at} always has {name}"));
    }
    if let Some(items) = schema.get("items") {
        promises(items, &format!("{at}[]"), out);
    }
    for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        promises(member, &format!("{at}.{name}"), out);
    }
}

/// Version 1 is frozen: what its readers were promised stays. New optional members and new words of a set may come;
/// `EXEAT_BLESS=1` adds them to the list, and nothing takes one off it.
#[test]
fn nothing_that_version_1_promised_is_gone_or_another() {
    let mut now = std::collections::BTreeSet::new();
    for kind in exeat::record::schema::schema()["oneOf"].as_array().unwrap() {
        let name = kind["title"].as_str().unwrap().split(':').next().unwrap();
        promises(kind, name, &mut now);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit/v1.txt");
    let frozen = std::fs::read_to_string(&path).unwrap_or_default();
    let gone: Vec<&str> = frozen.lines().filter(|line| !now.contains(*line)).collect();
    assert!(gone.is_empty(), "version 1 promised: {gone:#?}");
    let current: String = now.iter().map(|line| format!("{line}\n")).collect();
    if std::env::var_os("EXEAT_BLESS").is_some() {
        std::fs::write(&path, &current).unwrap();
    } else {
        assert!(frozen == current, "members or words are new: run this test with EXEAT_BLESS=1");
    }
}
