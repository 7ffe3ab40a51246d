//! Parameters and results as they stand in an event line: ASCII, cut at stated lengths, and marked where they are.

use serde_json::Value;

use crate::engine::data::CUT;

use super::json::Json;

/// Of one side. What comes after it is left out, with a mark.
const MOST_BYTES: usize = 3 * 1024;
const MAX_TEXT: usize = 512;
const MAX_NAME: usize = 128;

/// Both sides, as JSON text; empty where there is nothing to tell.
#[derive(Default)]
pub struct Data {
    pub parameters: Vec<u8>,
    pub results: Vec<u8>,
}

impl Data {
    pub fn of(parameters: Option<&Value>, results: Option<&Value>) -> Self {
        let text = |value: Option<&Value>| value.map(text).unwrap_or_default();
        Self { parameters: text(parameters), results: text(results) }
    }

    /// For a line that has no room for them.
    pub fn cut(&self) -> Self {
        let mark =
            |side: &[u8]| if side.is_empty() { Vec::new() } else { b"{\"\\u2026\":\"no room\"}".to_vec() };
        Self { parameters: mark(&self.parameters), results: mark(&self.results) }
    }
}

fn text(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(&mut Json(&mut out), value);
    out
}

fn write(json: &mut Json<'_>, value: &Value) {
    match value {
        Value::Null => json.raw("null"),
        Value::Bool(true) => json.raw("true"),
        Value::Bool(false) => json.raw("false"),
        Value::Number(number) => json.raw(&number.to_string()),
        Value::String(text) => json.text(text, MAX_TEXT),
        Value::Array(items) => {
            json.raw("[");
            for (at, item) in items.iter().enumerate() {
                json.raw(if at > 0 { "," } else { "" });
                if json.0.len() > MOST_BYTES {
                    json.text(CUT, MAX_NAME);
                    break;
                }
                write(json, item);
            }
            json.raw("]");
        }
        Value::Object(members) => {
            json.raw("{");
            for (at, (name, member)) in members.iter().enumerate() {
                json.raw(if at > 0 { "," } else { "" });
                if json.0.len() > MOST_BYTES {
                    json.text(CUT, MAX_NAME);
                    json.raw(":\"cut\"");
                    break;
                }
                json.text(name, MAX_NAME);
                json.raw(":");
                write(json, member);
            }
            json.raw("}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_back_as_what_it_was_and_stays_ascii() {
        let value = json!({"a": [1, -2.5, true, null, {"\u{e4}\"\n": "\u{2028}"}], "b": {}, "c": []});
        let written = text(&value);
        assert!(written.iter().all(|byte| (0x20..0x7f).contains(byte)));
        assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), value);
    }

    #[test]
    fn never_grows_past_its_length_and_marks_what_is_left_out() {
        let member = json!("\u{1}".repeat(5_000));
        let deep = (0..30).fold(member.clone(), |inner, _| json!({"n": [inner, member.clone()]}));
        for value in [
            json!(vec![member.clone(); 1000]),
            json!((0..1000).map(|n| (n.to_string(), member.clone())).collect::<serde_json::Map<_, _>>()),
            deep,
        ] {
            let written = text(&value);
            assert!(written.len() < MOST_BYTES + 2 * MAX_TEXT, "{}", written.len());
            let read: Value = serde_json::from_slice(&written).unwrap();
            assert!(read.to_string().contains(CUT), "{read}");
        }
    }
}
