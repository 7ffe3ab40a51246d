//! The calls that are made, in their order, and what must come of each.

use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{CONTENT_LENGTH, HOST, HeaderValue};

use super::client::{Answer, Client};
use super::keys::{Keys, Signing};
use super::{Error, random};
use crate::engine::facts::SignatureState;
use crate::engine::reason::Reason;

pub const BUCKET: &str = "acme-reports.s3.us-east-1.amazonaws.com";
pub const OTHER_BUCKET: &str = "drop-zone.s3.us-east-1.amazonaws.com";
pub const DYNAMODB: &str = "dynamodb.us-east-1.amazonaws.com";
pub const PARTNER: &str = "api.partner.example";
pub const OLD: &str = "tls11.partner.example";
pub const EXPIRED: &str = "expired.partner.example";
pub const MOVED: &str = "moved.partner.example";
pub const ELSEWHERE: &str = "api.elsewhere.example";

const S3: Signing = Signing { service: "s3", presigned: false };
const LINK: Signing = Signing { service: "s3", presigned: true };
const ORDERS: Signing = Signing { service: "dynamodb", presigned: false };

pub struct Call {
    /// At most 33 characters: a column of the table.
    pub title: &'static str,
    how: How,
    pub expected: Expected,
}

/// What must come of a call. `None`: there is no such word for it.
pub struct Expected {
    /// `None`: allowed, and answered by the origin with 200.
    pub reason: Option<Reason>,
    pub signature: Option<SignatureState>,
    /// A word of the record that tells this refusal from others of its reason.
    pub saying: &'static str,
}

enum How {
    Https(Request),
    /// To the proxy itself, as `http://`.
    Plaintext(Request),
    /// A hello of TLS 1.1 for this host.
    OldHello(&'static str),
}

#[derive(Clone, Copy)]
struct Request {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    operation: Option<&'static str>,
    body: &'static str,
    signed: Option<(Who, Signing)>,
    /// Sent in place of the body that was signed.
    sent: Option<&'static str>,
}

#[derive(Clone, Copy)]
enum Who {
    Ours,
    Foreign,
}

/// All of them.
pub fn script() -> Vec<Call> {
    use SignatureState::{Bad, Unsigned, Verified};
    let item = r#"{"TableName":"orders","Key":{"id":{"S":"o-1"}}}"#;
    let order = r#"{"TableName":"orders","Item":{"id":{"S":"o-1"},"total":{"N":"42"}}}"#;
    let forged = r#"{"TableName":"orders","Item":{"id":{"S":"o-1"},"total":{"N":"99"}}}"#;
    let get = |host, path| Request { method: "GET", host, path, ..EMPTY };
    let put = |host, path| Request { method: "PUT", host, path, body: "quarter,revenue\n", ..EMPTY };
    let orders = |operation, body| {
        Request { method: "POST", host: DYNAMODB, path: "/", operation: Some(operation), body, ..EMPTY }
            .signed(Who::Ours, ORDERS)
    };
    let rates = |host| get(host, "/v1/rates");
    let foreign = SignatureState::UnknownKey;
    vec![
        https("own key reads a report", get(BUCKET, "/q3.csv").signed(Who::Ours, S3)).allowed(Verified),
        https("own key writes a report", put(BUCKET, "/q4.csv").signed(Who::Ours, S3)).allowed(Verified),
        https("own key reads an order", orders("GetItem", item)).allowed(Verified),
        https("partner API that is named", rates(PARTNER)).allowed(Unsigned),
        https("stranger's key, our bucket", put(BUCKET, "/q4.csv").signed(Who::Foreign, S3))
            .refused(Reason::SigV4UnknownKey, foreign),
        https("stranger's presigned upload link", put(OTHER_BUCKET, "/in").signed(Who::Foreign, LINK))
            .refused(Reason::SigV4UnknownKey, foreign),
        https("own key, stranger's bucket", put(OTHER_BUCKET, "/in").signed(Who::Ours, S3))
            .refused(Reason::PolicyNoMatch, Verified),
        https("own key, denied by a statement", get(BUCKET, "/payroll/may.csv").signed(Who::Ours, S3))
            .refused(Reason::PolicyDenied, Verified),
        https("body changed once signed", Request { sent: Some(forged), ..orders("PutItem", order) })
            .refused(Reason::SigV4Signature, Bad),
        https("AWS call without a signature", get(BUCKET, "/q3.csv"))
            .refused(Reason::SigV4Unsigned, Unsigned),
        https("third party that is not named", rates(ELSEWHERE)).refused(Reason::PolicyNoMatch, Unsigned),
        call("http:// in the clear", How::Plaintext(rates(PARTNER))).cut(Reason::TlsPlaintext, PARTNER),
        call("client speaks TLS 1.1 at best", How::OldHello(PARTNER)).cut(Reason::TlsBelowFloor, "TLSv1.1"),
        https("origin speaks TLS 1.1 at best", rates(OLD))
            .refused(Reason::UpstreamBelowFloor, Unsigned)
            .saying("TLSv1.1"),
        https("origin's certificate has expired", rates(EXPIRED))
            .refused(Reason::UpstreamCertificate, Unsigned)
            .saying("expired"),
        https("origin's certificate, wrong name", rates(MOVED))
            .refused(Reason::UpstreamCertificate, Unsigned)
            .saying("name_mismatch"),
    ]
}

const EMPTY: Request =
    Request { method: "", host: "", path: "/", operation: None, body: "", signed: None, sent: None };

fn call(title: &'static str, how: How) -> Call {
    Call { title, how, expected: Expected { reason: None, signature: None, saying: "" } }
}

fn https(title: &'static str, request: Request) -> Call {
    call(title, How::Https(request))
}

impl Call {
    fn allowed(mut self, signature: SignatureState) -> Self {
        self.expected.signature = Some(signature);
        self
    }

    fn refused(mut self, reason: Reason, signature: SignatureState) -> Self {
        self.expected = Expected { reason: Some(reason), signature: Some(signature), saying: "" };
        self
    }

    /// Refused before there was a request to judge.
    fn cut(mut self, reason: Reason, saying: &'static str) -> Self {
        self.expected = Expected { reason: Some(reason), signature: None, saying };
        self
    }

    fn saying(mut self, word: &'static str) -> Self {
        self.expected.saying = word;
        self
    }

    /// Makes the call. `trace` is the id by which its records are found again.
    pub async fn make(&self, client: &Client, keys: &Keys, trace: &str) -> Result<Answer, Error> {
        match &self.how {
            How::Https(request) => client.https(request.host, &request.bytes("", keys, trace)?).await,
            How::Plaintext(request) => {
                let scheme = format!("http://{}", request.host);
                client.plaintext(&request.bytes(&scheme, keys, trace)?).await
            }
            How::OldHello(host) => client.old_hello(host).await,
        }
    }
}

impl Request {
    fn signed(self, who: Who, signing: Signing) -> Self {
        Self { signed: Some((who, signing)), ..self }
    }

    /// As it goes on the wire; `before_path` makes its target absolute.
    fn bytes(&self, before_path: &str, keys: &Keys, trace: &str) -> Result<Vec<u8>, Error> {
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(format!("https://{}{}", self.host, self.path))
            .header(HOST, self.host);
        if let Some(operation) = self.operation {
            request = request
                .header("content-type", "application/x-amz-json-1.0")
                .header("x-amz-target", format!("DynamoDB_20120810.{operation}"));
        }
        let mut request = request.body(self.body.as_bytes().to_vec())?;
        match self.signed {
            Some((Who::Ours, signing)) => keys.ours.sign(&mut request, signing)?,
            Some((Who::Foreign, signing)) => keys.foreign.sign(&mut request, signing)?,
            None => {}
        }
        if let Some(other) = self.sent {
            *request.body_mut() = other.as_bytes().to_vec();
        }
        let length = request.body().len();
        if length > 0 {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        request.headers_mut().insert("x-amzn-trace-id", HeaderValue::from_str(trace)?);
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let mut bytes = format!("{} {before_path}{target} HTTP/1.1\r\n", self.method).into_bytes();
        for (name, value) in request.headers() {
            bytes.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(request.body());
        Ok(bytes)
    }
}

/// An X-Ray trace id, as Lambda and Step Functions hand them down: exeat records it.
pub fn trace_id() -> Result<String, Error> {
    let mut bytes = [0; 12];
    random(&mut bytes)?;
    let hex = crate::engine::hex::text(&bytes);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(format!("Root=1-{seconds:08x}-{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::origin;
    use crate::engine::request::RequestHead;

    #[test]
    fn the_demos_aws_takes_every_key_that_it_issued_and_nothing_else() {
        let keys = Keys::random().unwrap();
        let (known, mut taken) = (keys.known_to_aws(), Vec::new());
        for call in script() {
            let How::Https(request) = &call.how else { continue };
            let bytes = request.bytes("", &keys, &trace_id().unwrap()).unwrap();
            let end = memchr::memmem::find(&bytes, b"\r\n\r\n").unwrap() + 4;
            let head = RequestHead::parse(bytes[..end].to_vec().into()).unwrap();
            if origin::is_signed(&head, &bytes[end..], &known) {
                taken.push(call.title);
            }
            let others = Keys::random().unwrap().known_to_aws();
            assert!(
                !origin::is_signed(&head, &bytes[end..], &others),
                "{}: signed by other keys",
                call.title
            );
        }
        let signed = |call: &Call| matches!(&call.how, How::Https(request) if request.signed.is_some() && request.sent.is_none());
        assert_eq!(
            taken,
            script().iter().filter(|call| signed(call)).map(|call| call.title).collect::<Vec<_>>()
        );
        assert_eq!(taken.len(), 7);
    }

    #[test]
    fn titles_fit_their_column() {
        assert!(script().iter().all(|call| call.title.len() <= 33));
    }
}
