//! An event stream on its way: each message goes upstream once its signature holds, and not before.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use exeat::engine::facts::Secret;
use exeat::engine::signature::{
    Algorithm, Parts, PathForm, Query, Scope, SignedFields, SigningKey, string_to_sign,
};
use tokio::io::AsyncWriteExt;

use crate::support::aws::{self, BEDROCK};
use crate::support::cases;
use crate::support::sign;

const POLICY: &str = "version: 1
statements:
  - {id: streams, effect: allow, action: 'bedrock:*', resource: '*'}
";
const PATH: &str = "/model/m/invoke-with-bidirectional-stream";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(data: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, data).as_ref())
}

/// Signs a stream's head and its messages.
struct Signer {
    date: String,
    at: i64,
    previous: String,
}

impl Signer {
    fn start() -> (Self, String) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
        let date = time::OffsetDateTime::from_unix_timestamp(at).unwrap().format(format).unwrap();
        let mut signer = Self { date: date.clone(), at, previous: String::new() };
        let word = "STREAMING-AWS4-HMAC-SHA256-EVENTS";
        let fields = [("host", BEDROCK), ("x-amz-content-sha256", word), ("x-amz-date", &*date)];
        let names = "host;x-amz-content-sha256;x-amz-date";
        let signed: Vec<(&str, &[u8])> = fields.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        let signed = SignedFields::gather(
            names.into(),
            signed.iter().map(|(name, value)| (name.as_bytes(), *value)),
            |_, _| Ok(()),
        )
        .unwrap();
        let parts = Parts { method: "POST", path: PATH.as_bytes(), query: Query::default(), fields: signed };
        let canonical = parts.text(PathForm::EncodedAgain, word.as_bytes());
        signer.previous = signer.sign(&string_to_sign(Algorithm::Hmac, &date, &signer.scope(), &canonical));
        let mut head = format!("POST {PATH} HTTP/1.1\r\n");
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!(
            "authorization: AWS4-HMAC-SHA256 Credential={}/{}/us-east-1/bedrock/aws4_request, SignedHeaders={names}, \
             Signature={}\r\ntransfer-encoding: chunked\r\n\r\n",
            sign::KEY_ID,
            &date[..8],
            signer.previous
        );
        (signer, head)
    }

    fn scope(&self) -> Scope<'_> {
        Scope { date: &self.date[..8], region: "us-east-1", service: "bedrock" }
    }

    fn sign(&self, text: &[u8]) -> String {
        hex(&SigningKey::derive(&Secret::new(sign::SECRET.as_bytes()), &self.scope()).sign(text))
    }

    /// The next message, in an HTTP chunk of its own.
    fn message(&mut self, payload: &[u8]) -> Vec<u8> {
        let date = [b"\x05:date\x08", &(self.at * 1000).to_be_bytes()[..]].concat();
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}/us-east-1/bedrock/aws4_request\n{}\n{}\n{}",
            self.date,
            &self.date[..8],
            self.previous,
            sha256(&date),
            sha256(payload)
        );
        self.previous = self.sign(text.as_bytes());
        let signature: Vec<u8> =
            (0..64).step_by(2).map(|n| u8::from_str_radix(&self.previous[n..n + 2], 16).unwrap()).collect();
        let headers = [&b"\x10:chunk-signature\x06\x00\x20"[..], &signature, &date].concat();
        let crc = |bytes: &[u8]| {
            (crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes) as u32).to_be_bytes()
        };
        let total = (headers.len() + payload.len() + 16) as u32;
        let mut frame = [total.to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
        frame.extend(crc(&frame));
        frame.extend([&headers[..], payload].concat());
        frame.extend(crc(&frame));
        [format!("{:x}\r\n", frame.len()).as_bytes(), &frame, b"\r\n"].concat()
    }
}

#[tokio::test]
async fn each_event_goes_on_at_once_and_a_forged_one_ends_the_stream() {
    for forged in [false, true] {
        let (proxy, origin) = aws::start_with(POLICY, None).await;
        let (mut signer, head) = Signer::start();
        let mut client = proxy.intercepted(BEDROCK).await;
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&signer.message(b"first!")).await.unwrap();
        client.flush().await.unwrap();
        aws::until("the first event", || origin.saw(b"first!").then_some(())).await;
        let mut second = signer.message(b"second");
        if forged {
            let at = second.windows(6).position(|window| window == b"second").unwrap();
            second[at] ^= 1;
        }
        client.write_all(&second).await.unwrap();
        client.write_all(&signer.message(b"")).await.unwrap();
        client.write_all(b"0\r\n\r\n").await.unwrap();
        client.flush().await.unwrap();
        let done = |bytes: &[u8]| bytes.ends_with(b"ok");
        let (answer, _) = cases::listen(&mut client, Duration::from_secs(10), done).await;
        let answer = String::from_utf8_lossy(&answer);
        let (status, requests) = if forged { ("403", 0) } else { ("200", 1) };
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.contains("reason=sigv4.payload;"), forged, "{answer}");
        assert_eq!((origin.saw(b"econd"), origin.requests().len()), (!forged, requests));
    }
}
