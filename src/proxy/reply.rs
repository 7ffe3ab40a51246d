//! Refusals, in the wire protocol of the request: what an SDK raises as its own error, after one attempt.
//!
//! Each shape was tried with botocore. Whole answers, head and body, ready to be written.

mod grpc;

use std::fmt::Write;

use crate::engine::facts::Protocol;
use crate::engine::reason::Reason;
use crate::engine::request::{RequestHead, Version};

/// A refusal to be put on the wire.
pub struct Refusal<'a> {
    pub reason: Reason,
    /// What was asked, on what: `s3:PutObject on arn:aws:s3:::b/k`, or a host.
    pub subject: &'a str,
    pub protocol: Protocol,
    /// Flow id: the request's name in audit lines.
    pub flow: &'a str,
    /// Statement, place and fix. For the person at the terminal of `exec`; a workload under `run` is told nothing.
    pub detail: Option<&'a str>,
}

/// The answer to a request whose head was read, and its status.
pub fn to_request(refusal: &Refusal<'_>, head: &RequestHead) -> (u16, Vec<u8>) {
    if refusal.protocol == Protocol::Grpc {
        return (200, grpc::render(refusal));
    }
    let status = match refusal.reason {
        // A client that shares connections among names tries this one on a connection of its own (RFC 9110 15.5.20).
        Reason::TargetMismatch if head.version() == Version::Http2 => 421,
        reason => reason.status(),
    };
    let bodiless = head.method() == "HEAD";
    let query_mode = head.only("x-amzn-query-mode").is_some_and(|v| v.eq_ignore_ascii_case(b"true"));
    // git shows its user what a server says of a failure where that is plain text, and nothing of it otherwise.
    let plain = head.only("user-agent").is_some_and(|agent| agent.starts_with(b"git/"));
    (status, render(refusal, status, Style { bodiless, query_mode, plain }))
}

/// The answer where no head could be read, or none belongs to it.
pub fn to_nobody(reason: Reason, subject: &str, flow: &str) -> Vec<u8> {
    let refusal = Refusal { reason, subject, protocol: Protocol::Http, flow, detail: None };
    render(&refusal, reason.status(), Style::default())
}

/// The 407, with what it asks for.
pub fn challenge(reason: Reason, flow: &str) -> Vec<u8> {
    let answer = to_nobody(reason, "this", flow);
    let end = answer.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let (status, rest) = answer.split_at(end);
    [status, b"Proxy-Authenticate: Basic realm=\"exeat\"\r\n", rest].concat()
}

/// The sentence the workload is shown.
pub fn sentence(refusal: &Refusal<'_>) -> String {
    let Refusal { reason, flow, detail, .. } = refusal;
    // Where it only says the reason again, once is enough.
    let detail = detail.filter(|detail| !reason.why().contains(detail));
    let detail = detail.map_or(String::new(), |detail| format!("; {}", clean(detail, 900)));
    format!("{}{detail} (exeat explain {flow})", short(refusal))
}

/// Who says no to what, and why.
fn short(refusal: &Refusal<'_>) -> String {
    let Refusal { reason, subject, .. } = refusal;
    let verb = if reason.status() == 403 { "denies" } else { "refuses" };
    format!("exeat {verb} {}: {} [{reason}]", clean(subject, 300), reason.why())
}

/// What of an answer its request decides.
#[derive(Debug, Clone, Copy, Default)]
struct Style {
    bodiless: bool,
    query_mode: bool,
    plain: bool,
}

fn render(refusal: &Refusal<'_>, status: u16, style: Style) -> Vec<u8> {
    let Refusal { reason, protocol, flow, .. } = refusal;
    let Style { bodiless, query_mode, plain } = style;
    let message = sentence(refusal);
    let code = code(*protocol, *reason);
    let (media_type, body) = match protocol {
        Protocol::Http if plain => ("text/plain", format!("{message}\n").into_bytes()),
        protocol => body(*protocol, status, code, &message, reason.as_str(), flow),
    };
    // Clients without a protocol of their own make their errors of the status line, and never show a body: Python's
    // raise_for_status, Go's Status, whatever fails at CONNECT. RFC 9112 4: the phrase is any text.
    let phrase = match protocol {
        Protocol::Http if status != 407 => short(refusal),
        _ => phrase(status).to_owned(),
    };
    let mut head =
        format!("HTTP/1.1 {status} {phrase}\r\nDate: {}\r\n", httpdate(std::time::SystemTime::now()));
    let mut field = |name: &str, value: &str| {
        let _ = write!(head, "{name}: {value}\r\n");
    };
    match protocol {
        Protocol::S3 => {
            field("x-amz-request-id", flow);
            field("x-amz-id-2", flow);
        }
        Protocol::Http | Protocol::Grpc => {}
        _ => field("x-amzn-requestid", flow),
    }
    match protocol {
        Protocol::Json10 | Protocol::Json11 | Protocol::RestJson => field("x-amzn-errortype", code),
        Protocol::Cbor => field("smithy-protocol", "rpc-v2-cbor"),
        _ => {}
    }
    if query_mode {
        // Services that moved from query to json: SDKs show this code.
        let fault = if status >= 500 { "Receiver" } else { "Sender" };
        field("x-amzn-query-error", &format!("{};{fault}", self::code(Protocol::Query, *reason)));
    }
    field("exeat-verdict", &format!("deny; reason={reason}; flow={flow}"));
    field("Content-Type", media_type);
    field("Content-Length", &body.len().to_string());
    field("Connection", "close");
    let mut answer = head.into_bytes();
    answer.extend_from_slice(b"\r\n");
    if !bodiless {
        answer.extend_from_slice(&body);
    }
    answer
}

/// The AccessDenied family, as each protocol spells it; network failures by the names SDKs retry on. A clock that is
/// wrong has the one name by which every SDK corrects its own, from our `Date`, and tries again.
fn code(protocol: Protocol, reason: Reason) -> &'static str {
    match (reason.status(), protocol) {
        _ if reason == Reason::SigV4Skew => "RequestTimeTooSkewed",
        (503, _) => "ServiceUnavailable",
        (502, _) => "BadGateway",
        (504, _) => "GatewayTimeout",
        (500, _) => "InternalError",
        (403, Protocol::Json10 | Protocol::Json11 | Protocol::RestJson | Protocol::Cbor) => {
            "AccessDeniedException"
        }
        (403, Protocol::Ec2) => "UnauthorizedOperation",
        (403, _) => "AccessDenied",
        _ => "InvalidRequest",
    }
}

fn body(
    protocol: Protocol,
    status: u16,
    code: &str,
    message: &str,
    reason: &str,
    flow: &str,
) -> (&'static str, Vec<u8>) {
    let fault = if status >= 500 { "Receiver" } else { "Sender" };
    let json = |text: &str| serde_json::Value::from(text).to_string();
    match protocol {
        Protocol::Json10 | Protocol::Json11 => {
            let media_type = match protocol {
                Protocol::Json10 => "application/x-amz-json-1.0",
                _ => "application/x-amz-json-1.1",
            };
            let message = json(message);
            let body = format!(
                r#"{{"__type":"com.amazon.coral.service#{code}","message":{message},"Message":{message}}}"#
            );
            (media_type, body.into_bytes())
        }
        Protocol::RestJson => {
            let message = json(message);
            ("application/json", format!(r#"{{"message":{message},"Message":{message}}}"#).into_bytes())
        }
        Protocol::Cbor => ("application/cbor", cbor(code, message)),
        Protocol::Query | Protocol::RestXml => {
            let body = format!(
                "<ErrorResponse><Error><Type>{fault}</Type><Code>{code}</Code><Message>{}</Message></Error><RequestId>{flow}</RequestId></ErrorResponse>",
                xml(message)
            );
            ("text/xml", body.into_bytes())
        }
        Protocol::Ec2 => {
            let body = format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{}</Message></Error></Errors><RequestID>{flow}</RequestID></Response>",
                xml(message)
            );
            ("text/xml", body.into_bytes())
        }
        Protocol::S3 => {
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{}</Message><RequestId>{flow}</RequestId><HostId>{flow}</HostId></Error>",
                xml(message)
            );
            ("application/xml", body.into_bytes())
        }
        // gRPC has a shape of its own, in `grpc.rs`.
        Protocol::Http | Protocol::Grpc => {
            let body = format!(
                r#"{{"type":"urn:exeat:{reason}","title":{},"status":{status},"flow":"{flow}"}}"#,
                json(message)
            );
            ("application/problem+json", body.into_bytes())
        }
    }
}

/// `{"__type": code, "message": message}` (RFC 8949: a map of two text pairs).
fn cbor(code: &str, message: &str) -> Vec<u8> {
    let mut out = vec![0xa2];
    for text in ["__type", code, "message", message] {
        match text.len() {
            len @ 0..24 => out.push(0x60 | len as u8),
            len @ 24..256 => out.extend_from_slice(&[0x78, len as u8]),
            len => {
                out.push(0x79);
                out.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
            }
        }
        out.extend_from_slice(&text.as_bytes()[..text.len().min(usize::from(u16::MAX))]);
    }
    out
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Foreign text in our sentence: printable ASCII, and not too much of it.
fn clean(text: &str, most: usize) -> String {
    let mut out: String =
        text.chars().take(most).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
    if text.chars().nth(most).is_some() {
        out.push_str("...");
    }
    out
}

fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Refused")
}

/// IMF-fixdate (RFC 9110 5.6.7): SDKs set their clock by it.
fn httpdate(now: std::time::SystemTime) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    time::OffsetDateTime::from(now).format(FORMAT).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(protocol: Protocol) -> Refusal<'static> {
        Refusal {
            reason: Reason::PolicyNoMatch,
            subject: "s3:Put<Object> on \u{1b}[2J\"x\"",
            protocol,
            flow: "f-1",
            detail: None,
        }
    }

    fn head(method: &str, field: &str) -> RequestHead {
        let text = format!("{method} / HTTP/1.1\r\nHost: a.test\r\n{field}\r\n");
        RequestHead::parse(bytes::Bytes::from(text)).unwrap()
    }

    #[test]
    fn every_protocol_gets_a_403_with_its_length_and_our_sentence() {
        for &protocol in Protocol::ALL.iter().filter(|&&protocol| protocol != Protocol::Grpc) {
            let (_, answer) = to_request(&refusal(protocol), &head("GET", ""));
            let text = String::from_utf8_lossy(&answer).into_owned();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let phrase = match protocol {
                Protocol::Http => {
                    "exeat denies s3:Put<Object> on ?[2J\"x\": no statement allows it [policy.no_match]"
                }
                _ => "Forbidden",
            };
            assert!(head.starts_with(&format!("HTTP/1.1 403 {phrase}\r\nDate: ")), "{protocol}: {head}");
            assert!(head.contains("exeat-verdict: deny; reason=policy.no_match; flow=f-1"), "{protocol}");
            assert!(
                body.contains("[policy.no_match]") && body.contains("exeat explain f-1"),
                "{protocol}: {body}"
            );
            assert!(!text.contains('\u{1b}'), "{protocol}");
            let sent = answer.len() - head.len() - 4;
            assert!(head.contains(&format!("Content-Length: {sent}\r\n")), "{protocol}");
            if matches!(protocol, Protocol::S3 | Protocol::Query | Protocol::RestXml | Protocol::Ec2) {
                assert!(!body.contains("Put<Object>") && body.contains("Put&lt;Object&gt;"), "{protocol}");
            }
        }
    }

    #[test]
    fn head_gets_no_body_but_its_length() {
        let (_, answer) = to_request(&refusal(Protocol::S3), &head("HEAD", ""));
        assert!(answer.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn git_is_told_in_plain_text_and_others_are_not() {
        let told = |protocol, agent: &str| {
            let (_, answer) =
                to_request(&refusal(protocol), &head("GET", &format!("User-Agent: {agent}\r\n")));
            String::from_utf8_lossy(&answer).into_owned()
        };
        let git = told(Protocol::Http, "git/2.39.5");
        let (_, body) = git.split_once("\r\n\r\n").unwrap();
        assert!(body.starts_with("exeat denies ") && body.ends_with("(exeat explain f-1)\n"), "{body}");
        assert!(git.contains("Content-Type: text/plain\r\n"), "{git}");
        assert!(told(Protocol::Http, "gitlab").contains("Content-Type: application/problem+json\r\n"));
        assert!(told(Protocol::S3, "git/2.39.5").contains("Content-Type: application/xml\r\n"));
    }

    #[test]
    fn query_mode_names_the_older_code_too() {
        let (_, answer) =
            to_request(&refusal(Protocol::Json10), &head("POST", "x-amzn-query-mode: true\r\n"));
        assert!(String::from_utf8_lossy(&answer).contains("x-amzn-query-error: AccessDenied;Sender\r\n"));
        let (_, answer) = to_request(&refusal(Protocol::Json10), &head("POST", ""));
        assert!(!String::from_utf8_lossy(&answer).contains("x-amzn-query-error"));
    }

    #[test]
    fn only_a_wrong_clock_has_the_code_by_which_sdks_set_theirs() {
        for &protocol in Protocol::ALL {
            for &reason in Reason::ALL {
                let (_, answer) = to_request(&Refusal { reason, ..refusal(protocol) }, &head("GET", ""));
                let text = String::from_utf8_lossy(&answer);
                let told = text.contains("RequestTimeTooSkewed");
                // The shapes of third parties have no code.
                let has_code = !matches!(protocol, Protocol::Http | Protocol::Grpc);
                assert_eq!(told, reason == Reason::SigV4Skew && has_code, "{protocol} {reason}");
            }
        }
    }

    #[test]
    fn the_date_is_an_imf_fixdate() {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        assert_eq!(httpdate(at), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
