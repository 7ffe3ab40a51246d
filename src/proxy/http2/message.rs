//! Heads between HTTP/2 and the form that `engine/request.rs` reads: typed values in, typed values out.

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use http::header::CONTENT_LENGTH;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};

use crate::engine::request::{Framing, HeadError, Pseudo, RequestHead, ResponseHead};
use crate::engine::target;

/// Most heads have no more fields: room for them is made at once.
const FIELDS: usize = 12;

/// A request's head as the strict reader takes it.
pub fn request_head(
    request: &Request<RecvStream>,
    before: Option<&target::Authority>,
) -> Result<RequestHead, HeadError> {
    let uri = request.uri();
    let pseudo = Pseudo {
        method: request.method().as_str(),
        scheme: uri.scheme_str(),
        authority: uri.authority().map(Authority::as_str),
        path: uri.path_and_query().map(PathAndQuery::as_str),
    };
    let fields = request.headers().iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    RequestHead::parse_http2(pseudo, &fields.collect::<Vec<_>>(), request.body().is_end_stream(), before)
}

/// What goes to an origin: `:authority` and `:path` are the bytes that were judged. `None`: a target that HTTP/2
/// can't carry.
pub fn request(head: &RequestHead) -> Option<Request<()>> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(Authority::try_from(head.only("host")?).ok()?);
    parts.path_and_query = Some(PathAndQuery::try_from(head.target_bytes()).ok()?);
    // INVARIANT: a target that is spelled anew is another one than was signed.
    let same = parts.path_and_query.as_ref().is_some_and(|path| path.as_str() == head.target());
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(head.method().as_bytes()).ok()?;
    *request.uri_mut() = Uri::from_parts(parts).ok().filter(|_| same)?;
    *request.version_mut() = http::Version::HTTP_2;
    let fields = request.headers_mut();
    fields.reserve(FIELDS);
    for (name, value) in head.forwarded_fields().filter(|(name, _)| !name.eq_ignore_ascii_case(b"host")) {
        fields.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    if let Framing::Length(length) = head.framing() {
        fields.insert(CONTENT_LENGTH, length.into());
    }
    if head.wants_trailers() {
        fields.insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    Some(request)
}

/// An origin's answer. `ended`: no body follows. An answer without a length ends with its stream, as one of HTTP/1.1
/// ends with its connection.
pub fn response_head<T>(
    response: &Response<T>,
    ended: bool,
    method: &str,
) -> Result<ResponseHead, HeadError> {
    let status = response.status();
    let mut out = BytesMut::with_capacity(512);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    for (name, value) in response.headers() {
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    let has_body = status.as_u16() >= 200 && !matches!(status.as_u16(), 204 | 304) && method != "HEAD";
    if ended && has_body && !response.headers().contains_key(CONTENT_LENGTH) {
        out.put_slice(b"content-length: 0\r\n");
    }
    out.put_slice(b"\r\n");
    ResponseHead::parse(out.freeze(), method)
}

/// What goes to a client. `fields`: those that travel on, where [`travelling`] has them already.
pub fn response(head: &ResponseHead, fields: Option<HeaderMap>) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status()).ok()?;
    *response.version_mut() = http::Version::HTTP_2;
    *response.headers_mut() = match fields {
        Some(fields) => fields,
        None => {
            let mut fields = HeaderMap::with_capacity(FIELDS);
            for (name, value) in head.forwarded_fields() {
                fields.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
            }
            fields.extend(told_length(head).map(|length| (CONTENT_LENGTH, length)));
            fields
        }
    };
    Some(response)
}

/// Of the fields that `head` was read from, those that travel on: the very ones that [`response`] would make anew.
/// `None` where it would spell one otherwise.
pub fn travelling(mut fields: HeaderMap, head: &ResponseHead) -> Option<HeaderMap> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if fields.values().map(HeaderValue::as_bytes).any(|value| blank(value.first()) || blank(value.last())) {
        return None;
    }
    for name in head.staying_names().filter(|name| *name != CONTENT_LENGTH.as_str()) {
        fields.remove(name);
    }
    match told_length(head) {
        // Read as strictly as it would be written.
        Some(length) if !fields.contains_key(CONTENT_LENGTH) => fields.append(CONTENT_LENGTH, length),
        Some(_) => true,
        None => fields.remove(CONTENT_LENGTH).is_some(),
    };
    Some(fields)
}

fn told_length(head: &ResponseHead) -> Option<HeaderValue> {
    match head.framing() {
        Framing::Length(length) => Some(length.into()),
        _ => head.told_length().and_then(|length| HeaderValue::from_bytes(length).ok()),
    }
}

/// Trailers of an answer that may travel on: what frames, routes or authenticates a message is read before its body
/// (RFC 9110 6.5.1). Metadata of gRPC has names of its own, and travels.
pub fn answer_trailers(mut trailers: HeaderMap) -> HeaderMap {
    const HEAD_ONLY: [&str; 22] = [
        "alt-svc",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expires",
        "host",
        "keep-alive",
        "location",
        "proxy-authenticate",
        "proxy-connection",
        "retry-after",
        "set-cookie",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
    ];
    for name in HEAD_ONLY {
        trailers.remove(name);
    }
    trailers
}

/// One buffer, whole: head and body of an answer of our own.
pub fn whole_answer(answer: &[u8]) -> Option<(Response<()>, Bytes)> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")? + 4;
    let head = ResponseHead::parse(Bytes::copy_from_slice(&answer[..end]), "GET").ok()?;
    Some((response(&head, None)?, Bytes::copy_from_slice(&answer[end..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an origin's answer is to a client, by way of the fields as they came, and made anew.
    fn both_ways(
        status: u16,
        ended: bool,
        method: &str,
        fields: &[(&str, &str)],
    ) -> [Vec<(String, Vec<u8>)>; 2] {
        let mut came = Response::builder().status(status);
        for (name, value) in fields {
            came = came.header(*name, *value);
        }
        let came = came.body(()).unwrap();
        let head = response_head(&came, ended, method).unwrap();
        let kept = travelling(came.headers().clone(), &head);
        let listed = |response: Response<()>| {
            let fields = response.headers().iter();
            let mut all: Vec<_> =
                fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
            all.sort();
            all
        };
        [response(&head, kept), response(&head, None)].map(|response| listed(response.unwrap()))
    }

    #[test]
    fn fields_that_are_kept_are_those_that_would_be_made_anew() {
        const LENGTH: (&str, &str) = ("content-length", "5");
        for (what, status, ended, method, fields, left) in [
            ("a body", 200, false, "GET", &[LENGTH, ("x-a", "1"), ("x-a", "2")][..], 3),
            ("a body without a length", 200, false, "GET", &[("x-a", "1")], 1),
            ("an empty body", 200, true, "GET", &[("x-a", "1")], 2),
            ("of HEAD", 200, true, "HEAD", &[LENGTH], 1),
            ("of HEAD, without a length", 200, true, "HEAD", &[("x-a", "1")], 1),
            ("not modified", 304, true, "GET", &[LENGTH, ("etag", "\"a\"")], 2),
            ("no content, with a length", 204, true, "GET", &[("content-length", "0"), ("x-a", "1")], 1),
            ("a way round us", 200, false, "GET", &[("alt-svc", "h3"), ("alt-svc", "h2"), ("x-a", "1")], 1),
            ("of a proxy", 407, false, "GET", &[("proxy-authenticate", "Basic"), LENGTH], 1),
            ("blanks around a value", 200, false, "GET", &[("x-a", " 1\t"), LENGTH], 2),
        ] {
            let [kept, anew] = both_ways(status, ended, method, fields);
            assert_eq!(kept, anew, "{what}");
            assert_eq!(kept.len(), left, "{what}: {kept:?}");
        }
    }
}
