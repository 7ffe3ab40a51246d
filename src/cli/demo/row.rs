//! One call as it went: what the client was told, what the record says, and what the origins saw, joined and compared
//! with what was due.

use serde::Serialize;
use serde_json::Value;

use super::calls::Expected;
use super::client::Answer;
use super::origin::Count;
use super::world::{is_event, is_intent};
use crate::engine::facts::SignatureState;
use crate::engine::reason::Reason;

/// All of it measured. `None` where the record has no such member.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    pub call: &'static str,
    /// `allowed`, `refused`, or `failed` where neither came about.
    pub verdict: &'static str,
    pub status: Option<u16>,
    pub alert: Option<u8>,
    pub reason: Option<String>,
    pub statement: Option<String>,
    /// Of the record: the operator's words.
    pub said: Option<String>,
    pub operation: Option<String>,
    pub resource: Option<String>,
    pub auth: Option<String>,
    pub signature: Option<String>,
    pub payload: Option<String>,
    pub account: Option<String>,
    pub client_tls: Option<String>,
    pub upstream_tls: Option<String>,
    pub flow: Option<String>,
    pub origins_saw: Count,
    pub as_expected: bool,
    /// What went otherwise than it should.
    pub unexpected: Vec<String>,
}

/// What there is to join.
pub struct Found<'a> {
    pub answer: Result<Answer, String>,
    pub trace: &'a str,
    /// Audit lines since the call began.
    pub lines: &'a [Value],
    pub saw: Count,
}

impl Row {
    pub fn of(call: &'static str, expected: &Expected, found: &Found<'_>) -> Self {
        let events: Vec<&Value> = found.lines.iter().filter(|line| is_event(line)).collect();
        let intents = found.lines.iter().filter(|line| is_intent(line)).count();
        let event = events.first().copied().unwrap_or(&Value::Null);
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let ours = |name: &str| text(&format!("/additionalEventData/exeat/{name}"));
        let answer = found.answer.as_ref().cloned().unwrap_or_default();
        let mut row = Self {
            call,
            verdict: match (&found.answer, ours("end").as_deref()) {
                (Ok(_), Some("answered")) => "allowed",
                (Ok(_), Some("refused")) => "refused",
                _ => "failed",
            },
            status: answer.status,
            alert: answer.alert,
            reason: ours("reason"),
            statement: ours("statement"),
            said: text("/errorMessage"),
            operation: operation(event),
            resource: text("/resources/0/ARN"),
            auth: ours("auth"),
            signature: ours("signature"),
            payload: ours("payload"),
            account: text("/userIdentity/accountId"),
            client_tls: ours("clientTls/version"),
            upstream_tls: ours("upstream/tls/version"),
            flow: ours("flow"),
            origins_saw: found.saw,
            ..Self::default()
        };
        let mut wrong = Vec::new();
        if let Err(error) = &found.answer {
            wrong.push(error.clone());
        }
        if events.len() != 1 {
            wrong.push(format!("{} events on record, not one", events.len()));
        }
        if row.is_somebody_elses(&answer, found.trace, ours("trace").as_deref()) {
            wrong.push("the record is not this call's".to_owned());
        }
        row.compare(expected, &answer, intents, &mut wrong);
        row.as_expected = wrong.is_empty();
        row.unexpected = wrong;
        row
    }

    /// A refusal names its flow, and what was judged carries the client's trace id.
    fn is_somebody_elses(&self, answer: &Answer, sent: &str, recorded: Option<&str>) -> bool {
        answer.flow.as_ref().is_some_and(|flow| self.flow.as_ref() != Some(flow))
            || recorded.is_some_and(|trace| trace != sent)
            || (self.verdict == "allowed" && recorded.is_none())
    }

    fn compare(&self, expected: &Expected, answer: &Answer, intents: usize, wrong: &mut Vec<String>) {
        let mut same = |what: &str, got: Option<&str>, due: Option<&str>| {
            if got != due {
                wrong.push(format!("{what}: got {}, due {}", got.unwrap_or("none"), due.unwrap_or("none")));
            }
        };
        let due = expected.reason.map(Reason::as_str);
        same("reason", self.reason.as_deref(), due);
        same("signature", self.signature.as_deref(), expected.signature.map(SignatureState::as_str));
        let Some(reason) = expected.reason else {
            same("verdict", Some(self.verdict), Some("allowed"));
            same("refusal told", answer.reason.as_deref(), None);
            if answer.status != Some(200) {
                wrong.push(format!("status: got {:?}, due 200", answer.status));
            }
            if self.origins_saw.requests != 1 || intents != 1 {
                let saw = self.origins_saw.requests;
                wrong.push(format!(
                    "origins saw {saw} requests, and {intents} intents are on record, not one each"
                ));
            }
            return;
        };
        same("verdict", Some(self.verdict), Some("refused"));
        if reason == Reason::TlsBelowFloor {
            // The whole answer: TLS has a number for it, and no room for more.
            if answer.alert != Some(70) {
                wrong.push(format!("alert: got {:?}, due 70 (protocol_version)", answer.alert));
            }
        } else {
            same("reason told", answer.reason.as_deref(), due);
            if answer.status != Some(reason.status()) {
                wrong.push(format!("status: got {:?}, due {}", answer.status, reason.status()));
            }
        }
        if !self.said.as_deref().unwrap_or_default().contains(expected.saying) && !self.names(expected.saying)
        {
            wrong.push(format!("the record does not say `{}`", expected.saying));
        }
        if self.origins_saw.bytes > 0 || intents > 0 {
            let saw = self.origins_saw.bytes;
            wrong.push(format!(
                "origins saw {saw} bytes of it, and {intents} intents are on record, not none"
            ));
        }
        let dials = reason.as_str().starts_with("upstream.");
        if !dials && self.origins_saw.connections > 0 {
            wrong.push("an origin was dialled for it".to_owned());
        }
    }

    fn names(&self, target: &str) -> bool {
        self.operation.as_deref().is_some_and(|operation| operation.contains(target))
    }
}

/// `s3:GetObject`, `GET api.partner.example`, or the destination of a connection that came to no request.
fn operation(event: &Value) -> Option<String> {
    let (source, name) = (event["eventSource"].as_str()?, event["eventName"].as_str()?);
    Some(match event["eventType"].as_str()? {
        "AwsApiCall" => format!("{}:{name}", source.trim_end_matches(".amazonaws.com")),
        "HttpCall" => format!("{name} {source}"),
        _ => event.pointer("/additionalEventData/exeat/target")?.as_str()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TRACE: &str = "Root=1-0-0";

    /// A refusal as it should be, changed by `change`, then judged.
    fn judged(change: impl Fn(&mut Answer, &mut Vec<Value>, &mut Count)) -> Row {
        let expected = Expected {
            reason: Some(Reason::PolicyNoMatch),
            signature: Some(SignatureState::Verified),
            saying: "no statement",
        };
        let mut answer = Answer {
            status: Some(403),
            alert: None,
            reason: Some("policy.no_match".into()),
            flow: Some("f-1".into()),
        };
        let ours = json!({"flow": "f-1", "end": "refused", "reason": "policy.no_match", "signature": "verified", "trace": TRACE});
        let mut lines = vec![json!({
            "eventVersion": "1.11", "eventType": "AwsApiCall", "eventSource": "s3.amazonaws.com", "eventName": "GetObject",
            "errorMessage": "no statement allows it", "additionalEventData": {"exeat": ours}
        })];
        let mut saw = Count::default();
        change(&mut answer, &mut lines, &mut saw);
        Row::of("a call", &expected, &Found { answer: Ok(answer), trace: TRACE, lines: &lines, saw })
    }

    #[test]
    fn a_row_is_good_only_where_client_record_and_origins_agree() {
        let good = judged(|_, _, _| {});
        assert!(good.as_expected, "{:?}", good.unexpected);
        assert_eq!((good.verdict, good.operation.as_deref()), ("refused", Some("s3:GetObject")));
        type Change = fn(&mut Answer, &mut Vec<Value>, &mut Count);
        let ours = |line: &mut Value, name: &str, value: &str| {
            line["additionalEventData"]["exeat"][name] = value.into();
        };
        let changes: [(&str, Change, &str); 11] = [
            ("another status", |answer, _, _| answer.status = Some(502), "status"),
            (
                "another reason told",
                |answer, _, _| answer.reason = Some("policy.denied".into()),
                "reason told",
            ),
            ("another flow told", |answer, _, _| answer.flow = Some("f-2".into()), "not this call's"),
            ("no record", |_, lines, _| lines.clear(), "0 events"),
            ("two records", |_, lines, _| lines.push(lines[0].clone()), "2 events"),
            ("an intent", |_, lines, _| lines.push(json!({"exeat": "intent"})), "1 intents"),
            ("other words", |_, lines, _| lines[0]["errorMessage"] = "because".into(), "does not say"),
            ("bytes upstream", |_, _, saw| saw.bytes = 1, "saw 1 bytes"),
            ("a dial", |_, _, saw| saw.connections = 1, "dialled"),
            (
                "an alert in its place",
                |answer, _, _| *answer = Answer { alert: Some(70), ..Answer::default() },
                "told",
            ),
            (
                "answered by the origin",
                |answer, _, saw| {
                    (answer.status, answer.reason, saw.requests) = (Some(200), None, 1);
                },
                "status",
            ),
        ];
        for (what, change, word) in changes {
            let row = judged(change);
            assert!(
                !row.as_expected && row.unexpected.join("\n").contains(word),
                "{what}: {:?}",
                row.unexpected
            );
        }
        for (name, value) in
            [("trace", "Root=1-0-1"), ("reason", "policy.denied"), ("signature", "bad"), ("end", "answered")]
        {
            let row = judged(|_, lines, _| ours(&mut lines[0], name, value));
            assert!(!row.as_expected, "{name}");
        }
    }
}
