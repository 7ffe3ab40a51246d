//! What of a call's parameters and results may be recorded: nothing but members that a list allows, less what is hidden.
//!
//! Pure: bytes of a request or an answer in, a small JSON value out. `proxy` keeps the bytes, `record` writes the value
//! down. A member is shown where the list of its operation names it and no rule hides it; names and forms that are
//! secrets by custom are hidden whatever the lists say.

mod decode;
mod hidden;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::facts::{Operation, Protocol, words};
use super::policy::pattern::Glob;
use super::request::RequestHead;
pub use hidden::Hidden;

/// What is kept of a body to be decoded. A longer one is not read at all: half a JSON text says nothing.
pub const MOST_READ: usize = 64 * 1024;
/// CloudTrail's word where it withholds a value.
pub const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";
/// The one member of a value that was too long to be read.
pub const CUT: &str = "\u{2026}";
/// Deeper than this is nobody's parameter.
const MAX_DEPTH: usize = 32;

words! {
    /// Of which calls data is recorded, as Step Functions' logging has it.
    pub enum DataLevel {
        All = "all",
        /// Refusals, calls that broke off, and answers of status 400 and above.
        Error = "error",
        /// Calls that could not be made or answered: refused or broken off with a status of 500 and above, or without.
        Fatal = "fatal",
        Off = "off",
    }
}

words! {
    /// CloudTrail's two members, and the roots of paths.
    pub enum Side {
        Parameters = "requestParameters",
        Results = "responseElements",
    }
}

/// One member that may be shown: `dynamodb:PutItem requestParameters.TableName`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedMember {
    text: String,
    call: String,
    side: Side,
    path: Path,
}

/// Steps from a root to a member; a list is no step. `*` in a step stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Path(Vec<Glob>);

impl Path {
    fn parse(text: &str) -> Option<Self> {
        let step = |step: &str| (!step.is_empty()).then(|| Glob::new(step));
        text.split('.').map(step).collect::<Option<_>>().map(Self)
    }
}

impl AllowedMember {
    /// The call as its intent line names it (`eventSource` less its suffix, `:`, `eventName`), a blank, and the path.
    pub fn parse(text: &str) -> Option<Self> {
        let (call, path) = text.split_once(' ')?;
        let (service, name) = call.split_once(':')?;
        let (side, path) = path.split_once('.')?;
        let named = !service.is_empty() && !name.is_empty() && !call.contains('*');
        let path = Path::parse(path).filter(|_| named)?;
        Some(Self { text: text.to_owned(), call: call.to_owned(), side: side.parse().ok()?, path })
    }
}

impl std::fmt::Display for AllowedMember {
    /// As it was written.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is allowed of one operation.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wish {
    parameters: Vec<Path>,
    results: Vec<Path>,
}

/// The rules as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct DataRules {
    pub level: DataLevel,
    /// Values too; otherwise the names of members alone.
    pub include_data: bool,
    allowed: HashMap<String, Arc<Wish>>,
    hidden: Hidden,
}

impl DataRules {
    pub fn new(
        level: DataLevel,
        include_data: bool,
        members: impl IntoIterator<Item = AllowedMember>,
        hidden: Hidden,
    ) -> Self {
        let mut wishes: HashMap<String, Wish> = HashMap::new();
        for AllowedMember { call, side, path, .. } in members {
            let wish = wishes.entry(call).or_default();
            match side {
                Side::Parameters => wish.parameters.push(path),
                Side::Results => wish.results.push(path),
            }
        }
        let allowed = wishes.into_iter().map(|(call, wish)| (call, Arc::new(wish))).collect();
        Self { level, include_data, allowed, hidden }
    }

    /// What may be recorded of this call, if anything.
    pub fn wish(&self, operation: Option<&Operation>, head: &RequestHead) -> Option<Arc<Wish>> {
        if self.level == DataLevel::Off || self.allowed.is_empty() {
            return None;
        }
        let call = match operation {
            Some(operation) => format!("{}:{}", operation.service, operation.name.as_deref()?),
            None => format!("{}:{}", head.authority().host, head.method()),
        };
        self.allowed.get(&call).map(Arc::clone)
    }

    /// `body` as it came, at most [`MOST_READ`] bytes and one; `query` is the request's.
    pub fn parameters(&self, wish: &Wish, protocol: Protocol, query: &str, body: &[u8]) -> Option<Value> {
        let read = if body.len() > MOST_READ { b"" } else { body };
        self.pick(&wish.parameters, Side::Parameters, || decode::request(protocol, query, read), body.len())
    }

    /// As [`Self::parameters`], of an answer.
    pub fn results(&self, wish: &Wish, protocol: Protocol, body: &[u8]) -> Option<Value> {
        let read = || {
            if body.len() > MOST_READ {
                Some(Value::Object(Map::new()))
            } else {
                decode::answer(protocol, body)
            }
        };
        self.pick(&wish.results, Side::Results, read, body.len())
    }

    /// A third party's path, without its query, may be told. It may be a secret (web hooks, bot tokens).
    pub fn tells_path(&self, path: &[u8]) -> bool {
        let path = path.split(|&byte| byte == b'?').next().unwrap_or_default();
        self.include_data
            && self.level == DataLevel::All
            && std::str::from_utf8(path).is_ok_and(|path| !self.hidden.value(path))
    }

    fn pick(
        &self,
        paths: &[Path],
        side: Side,
        decoded: impl FnOnce() -> Option<Value>,
        length: usize,
    ) -> Option<Value> {
        if paths.is_empty() {
            return None;
        }
        let paths: Vec<&[Glob]> = paths.iter().map(|path| &*path.0).collect();
        let mut names = vec![side.as_str().to_owned()];
        let Value::Object(members) = decoded()? else { return None };
        let picked = self.picked(&Value::Object(members), &paths, &mut names);
        let mut picked = if let Some(Value::Object(picked)) = picked { picked } else { Map::new() };
        if length > MOST_READ {
            picked.insert(CUT.to_owned(), "longer than is read".into());
        }
        (!picked.is_empty()).then_some(Value::Object(picked))
    }

    /// The part of `value` that `paths` allow. `names` lead here, for the rules that hide.
    fn picked(&self, value: &Value, paths: &[&[Glob]], names: &mut Vec<String>) -> Option<Value> {
        if names.len() > MAX_DEPTH {
            return None;
        }
        let all = paths.iter().any(|path| path.is_empty());
        match value {
            Value::Object(members) => {
                let mut out = Map::new();
                for (name, member) in members {
                    let next: Vec<&[Glob]> = paths
                        .iter()
                        .filter_map(|path| match path.split_first() {
                            None => Some(&path[..]),
                            Some((step, rest)) => step.matches(name).then_some(rest),
                        })
                        .collect();
                    if next.is_empty() {
                        continue;
                    }
                    names.push(name.clone());
                    let kept = self.picked(member, &next, names);
                    names.pop();
                    if let Some(kept) = kept {
                        out.insert(name.clone(), kept);
                    }
                }
                (all || !out.is_empty()).then_some(Value::Object(out))
            }
            Value::Array(items) => {
                let items: Vec<Value> =
                    items.iter().filter_map(|item| self.picked(item, paths, names)).collect();
                (all || !items.is_empty()).then_some(Value::Array(items))
            }
            leaf if all => {
                let text = leaf.as_str();
                let hide = !self.include_data
                    || self.hidden.member(names)
                    || text.is_some_and(|text| self.hidden.value(text));
                Some(if hide { HIDDEN.into() } else { leaf.clone() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules(include_data: bool, members: &[&str], paths: &[&str], patterns: &[&str]) -> DataRules {
        let members = members.iter().map(|text| AllowedMember::parse(text).unwrap());
        let mut hidden = Hidden::default();
        paths.iter().for_each(|text| assert!(hidden.add_path(text)));
        patterns.iter().for_each(|text| assert!(hidden.add_pattern(text)));
        DataRules::new(DataLevel::All, include_data, members, hidden)
    }

    fn told(rules: &DataRules, protocol: Protocol, query: &str, body: &[u8]) -> Value {
        let wish = rules.allowed.values().next().unwrap();
        rules.parameters(wish, protocol, query, body).unwrap_or_default()
    }

    const PUT: &str = r#"{"TableName":"orders","Item":{"id":{"S":"7"},"password":{"S":"hunter2"}},"Tags":[{"Key":"a","Value":"v"}]}"#;

    #[test]
    fn shows_what_is_allowed_and_nothing_else() {
        for (members, want) in [
            (&["d:P requestParameters.TableName"][..], json!({"TableName": "orders"})),
            (&["d:P requestParameters.Item.id.S"], json!({"Item": {"id": {"S": "7"}}})),
            (
                &["d:P requestParameters.Item.*.S"],
                json!({"Item": {"id": {"S": "7"}, "password": {"S": HIDDEN}}}),
            ),
            (&["d:P requestParameters.Tags.Key"], json!({"Tags": [{"Key": "a"}]})),
            (&["d:P requestParameters.Tags"], json!({"Tags": [{"Key": "a", "Value": "v"}]})),
            (&["d:P requestParameters.Absent"], Value::Null),
            (&["d:P responseElements.TableName"], Value::Null),
        ] {
            let got = told(&rules(true, members, &[], &[]), Protocol::Json10, "", PUT.as_bytes());
            assert_eq!(got, want, "{members:?}");
        }
    }

    #[test]
    fn without_data_it_tells_names_alone() {
        let got =
            told(&rules(false, &["d:P requestParameters.*"], &[], &[]), Protocol::Json10, "", PUT.as_bytes());
        let text = got.to_string();
        assert!(
            text.contains("TableName") && !text.contains("orders") && !text.contains("hunter2"),
            "{text}"
        );
    }

    #[test]
    fn rules_hide_by_path_and_by_pattern() {
        let all = &["d:P requestParameters.*"];
        let got = |paths: &[&str], patterns: &[&str]| {
            told(&rules(true, all, paths, patterns), Protocol::Json10, "", PUT.as_bytes()).to_string()
        };
        assert!(got(&[], &[]).contains(r#""TableName":"orders""#));
        for hides in ["TableName", "tablename", "requestParameters.TableName", "requestParameters.Table*"] {
            assert!(!got(&[hides], &[]).contains("orders"), "{hides}");
        }
        assert!(
            got(&["responseElements.TableName", "requestParameters.Item.TableName"], &[]).contains("orders")
        );
        assert!(!got(&[], &["ord*"]).contains("orders"));
        assert!(got(&[], &["rd*"]).contains("orders"), "a pattern is held against the whole value");
    }

    #[test]
    fn reads_forms_queries_xml_and_cbor_alike() {
        let xml = b"<?xml version=\"1.0\"?><R xmlns=\"u\"><A>x &amp; y</A><L><m>1</m><m>2</m></L><E/></R>";
        let rules = rules(true, &["d:P requestParameters.*"], &[], &[]);
        for (protocol, query, body, want) in [
            (
                Protocol::Query,
                "",
                &b"Action=P&Version=1&A.1.B=x+y&A.2.B=z"[..],
                json!({"Action": "P", "Version": "1", "A": {"1": {"B": "x y"}, "2": {"B": "z"}}}),
            ),
            (Protocol::RestJson, "q=1", br#"{"a":true}"#, json!({"q": "1", "a": true})),
            (Protocol::S3, "partNumber=2&uploadId=u", b"", json!({"partNumber": "2", "uploadId": "u"})),
            (Protocol::RestXml, "", xml, json!({"A": "x & y", "L": {"m": ["1", "2"]}, "E": ""})),
            (
                Protocol::Cbor,
                "",
                b"\xa2\x61a\x18\x2a\x61b\x9f\x61x\xf5\xff",
                json!({"a": 42, "b": ["x", true]}),
            ),
        ] {
            assert_eq!(told(&rules, protocol, query, body), want, "{protocol}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_not_told() {
        let rules = rules(true, &["d:P requestParameters.*"], &[], &[]);
        let deep = "[".repeat(100_000);
        for (protocol, body) in [
            (Protocol::Json10, &b"{\"a\":"[..]),
            (Protocol::Json10, deep.as_bytes().get(..60_000).unwrap()),
            (Protocol::Json10, b"\x1f\x8b\x08"),
            (Protocol::Cbor, b"\xa1\x61"),
            (Protocol::Cbor, b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff"),
            (Protocol::RestXml, b"<a><b></a></b>"),
            (Protocol::RestXml, b"<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>"),
            (Protocol::Query, b"a=%zz"),
        ] {
            assert_eq!(told(&rules, protocol, "", body), Value::Null, "{protocol}");
        }
        let long = vec![b' '; MOST_READ + 1];
        assert_eq!(told(&rules, Protocol::Json10, "", &long), json!({CUT: "longer than is read"}));
    }

    #[test]
    fn members_name_a_call_a_side_and_a_path() {
        for bad in [
            "",
            "d:P",
            "d:P TableName",
            "d:P other.TableName",
            "d P requestParameters.A",
            "*:P requestParameters.A",
            "d:P requestParameters.",
            "d:P requestParameters.a..b",
        ] {
            assert_eq!(AllowedMember::parse(bad), None, "{bad}");
        }
    }
}
