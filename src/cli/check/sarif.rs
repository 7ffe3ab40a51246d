//! Findings as SARIF 2.1.0 (OASIS), which code hosts and editors show.

use serde_json::{Value, json};

use crate::engine::policy::{Code, Problem, Severity};

/// One run with its rules and results.
pub(super) fn log(findings: &[Problem]) -> Value {
    let rules: Vec<Value> = Code::ALL
        .iter()
        .map(|code| json!({"id": code.as_str(), "shortDescription": {"text": code.about()}}))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "exeat",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            // Columns are characters, as the YAML reader counts them.
            "columnKind": "unicodeCodePoints",
            "results": findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn result(found: &Problem) -> Value {
    let text = match &found.help {
        Some(help) => format!("{}; {help}", found.message),
        None => found.message.clone(),
    };
    json!({
        "ruleId": found.code.as_str(),
        "ruleIndex": Code::ALL.iter().position(|code| *code == found.code),
        "level": match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        },
        "message": {"text": text},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(&found.file)},
            "region": {"startLine": found.at.line, "startColumn": found.at.column},
        }}],
    })
}

/// A path as a URI reference: what may not stand in one is escaped.
fn uri(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let escaped = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    let whole: String = path.bytes().map(escaped).collect();
    if path.starts_with('/') { format!("file://{whole}") } else { whole }
}
