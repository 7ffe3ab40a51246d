//! A refusal in gRPC's own words: HTTP 200, and head and trailers in one (`Trailers-Only` of the gRPC protocol).

use std::fmt::Write;

use super::{Refusal, httpdate, sentence};

/// The code that a client's library raises for an HTTP status (grpc/doc/http-grpc-status-mapping.md).
fn code(status: u16) -> u8 {
    match status {
        // INTERNAL, DEADLINE_EXCEEDED, UNAVAILABLE, PERMISSION_DENIED.
        400 | 417 | 431 | 500 => 13,
        408 => 4,
        502..=504 => 14,
        _ => 7,
    }
}

pub fn render(refusal: &Refusal<'_>) -> Vec<u8> {
    let Refusal { reason, flow, .. } = refusal;
    let mut head = format!("HTTP/1.1 200 OK\r\nDate: {}\r\n", httpdate(std::time::SystemTime::now()));
    let _ = write!(
        head,
        "Content-Type: application/grpc\r\ngrpc-status: {}\r\ngrpc-message: {}\r\n\
         exeat-verdict: deny; reason={reason}; flow={flow}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        code(reason.status()),
        encoded(&sentence(refusal))
    );
    head.into_bytes()
}

/// `Percent-Encoded` of the gRPC protocol: printable ASCII but for `%`.
fn encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        if byte != b'%' && (b' '..=b'~').contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::facts::Protocol;
    use crate::engine::reason::Reason;

    #[test]
    fn a_denial_is_permission_denied_and_a_lost_origin_unavailable() {
        for (reason, want) in [
            (Reason::PolicyNoMatch, 7),
            (Reason::TargetMismatch, 7),
            (Reason::UpstreamConnect, 14),
            (Reason::LimitAudit, 14),
            (Reason::RequestMalformed, 13),
        ] {
            let refusal = Refusal {
                reason,
                subject: "POST on 100%\r\nx: y",
                protocol: Protocol::Grpc,
                flow: "f-1",
                detail: None,
            };
            let text = String::from_utf8(render(&refusal)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{text}");
            assert!(head.contains(&format!("\r\ngrpc-status: {want}\r\ngrpc-message: exeat ")), "{text}");
            assert!(head.contains("POST on 100%25??x: y") && head.contains(&format!("[{reason}]")), "{text}");
        }
    }
}
