//! A request of HTTP/2 on its way to an origin of HTTP/1.1: typed values in, lines out. What crosses is read back as the
//! same request, by our reader, by httparse and by hyper; and what an HTTP/1.1 client couldn't say doesn't cross.
#![no_main]

use bytes::{Bytes, BytesMut};
use exeat_fuzz::engine::request::{Framing, Pseudo, RequestHead};
use exeat_fuzz::law;
use exeat_fuzz::oracle;
use exeat_fuzz::proxy::http1::body::Encoder;
use exeat_fuzz::proxy::http1::head::put_request;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

/// Parts of the input lie between these: a byte that a value may hold, but that no test needs.
const BETWEEN: u8 = 0xff;

// Bit 0: nothing follows the head. Bit 1: the last field is a trailer.
fuzz_target!(|input: &[u8]| {
    let [flags, rest @ ..] = input else { return };
    let mut parts = rest.split(|&byte| byte == BETWEEN);
    let mut part = || parts.next().unwrap_or_default();
    let [method, scheme, authority, path, data] = [part(), part(), part(), part(), part()];
    let [Ok(method), Ok(scheme), Ok(authority), Ok(path)] =
        [method, scheme, authority, path].map(std::str::from_utf8)
    else {
        return;
    };
    let texts: Vec<&[u8]> = parts.collect();
    let mut fields: Vec<(&[u8], &[u8])> =
        texts.chunks(2).map(|pair| (pair[0], pair.get(1).copied().unwrap_or_default())).collect();
    // Where it has as many as a head may have, the fields that we add are too many.
    if fields.len() > 120 {
        return;
    }
    let ended = flags & 1 != 0;
    let trailer = if flags & 2 != 0 && !ended { fields.pop() } else { None };
    let scheme = (!scheme.is_empty()).then_some(scheme);
    let pseudo = Pseudo { method, scheme, authority: Some(authority), path: Some(path) };
    let Ok(head) = RequestHead::parse_http2(pseudo, &fields, ended, None) else { return };

    // Nothing of a name or value is told from another by an end of line, a colon, a blank or a NUL.
    assert_eq!((head.method(), head.target(), scheme), (method, path, Some("https")));
    let travels =
        |name: &[u8]| name != b"host" && name != b"te" && name != b"content-length" && name != b"cookie";
    let crossed: Vec<_> = head.forwarded_fields().filter(|(name, _)| travels(name)).collect();
    let gone = ["alt-svc", "proxy-authenticate", "proxy-authorization"];
    let meant = fields.iter().filter(|(name, _)| travels(name) && gone.iter().all(|g| g.as_bytes() != *name));
    assert_eq!(crossed, meant.copied().collect::<Vec<_>>());
    for (name, value) in &crossed {
        assert!(!name.is_empty() && name.iter().all(|b| !b" \r\n\0:".contains(b) && !b.is_ascii_uppercase()));
        assert!(!value.iter().any(|b| b"\r\n\0".contains(b)));
    }
    let crumbs: Vec<&[u8]> = fields.iter().filter(|(name, _)| *name == b"cookie").map(|(_, v)| *v).collect();
    let cookies: Vec<&[u8]> = head.all("cookie").collect();
    assert_eq!(cookies.len(), usize::from(!crumbs.is_empty()));
    assert_eq!(cookies.concat(), crumbs.join(&b"; "[..]));

    // The lines that a client of HTTP/1.1 would send to say the same: refused there, refused here.
    let mut said = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
    for (name, value) in fields.iter().filter(|(name, _)| *name != b"host" && *name != b"cookie") {
        said.extend_from_slice(&[name, &b": "[..], value, b"\r\n"].concat());
    }
    said.extend_from_slice(b"\r\n");
    let first =
        RequestHead::parse(said.into()).expect("what is refused for its text in HTTP/1.1 is refused here");
    assert_eq!((first.method(), first.target(), first.authority()), (method, path, head.authority()));

    // One message with one framing, whoever reads it.
    let mut encoder = Encoder::keep(head.framing());
    let mut wire = BytesMut::new();
    put_request(&head, encoder, &mut wire);
    law::same_head(
        &RequestHead::parse(Bytes::copy_from_slice(&wire)).expect("what we write, we read"),
        &wire,
    );
    let length = match head.framing() {
        Framing::Length(length) => Some(usize::try_from(length).unwrap_or(usize::MAX)),
        _ => None,
    };
    let data = match (head.framing(), length) {
        (Framing::None, _) => &[][..],
        (_, Some(length)) if length > data.len() => return,
        (_, Some(length)) => &data[..length],
        _ => data,
    };
    encoder.data(data, &mut wire).expect("as long as it said");
    // As the library hands trailers on: it has no others.
    let trailers = trailer.and_then(|(name, value)| {
        let named = HeaderName::from_bytes(name).ok()?;
        Some(HeaderMap::from_iter([(named, HeaderValue::from_bytes(value).ok()?)]))
    });
    encoder.end(trailers.as_ref(), &mut wire).expect("whole");
    wire.extend_from_slice(b"GET /second HTTP/1.1\r\nHost: second.test\r\n\r\n");
    let end = wire.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let read = law::decode(head.framing(), &wire[end..], 7).expect("what we write, we read").expect("whole");
    assert_eq!(read.0, data);
    assert!(wire[end + read.1..].starts_with(b"GET /second "), "the trailers end where we say");
    let heard = oracle::requests(&wire);
    // hyper knows fewer targets than we do: then it hears nothing.
    let Some(first) = heard.first() else { return };
    assert_eq!((first.method.as_str(), first.target.as_str()), (method, path));
    assert_eq!(first.body.as_deref(), Some(data));
    let framings = first.fields.get_all("content-length").iter().count()
        + first.fields.get_all("transfer-encoding").iter().count();
    assert_eq!(framings, usize::from(head.framing() != Framing::None));
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(heard[1].target, "/second");
    // Nothing of the first one's trailers is a field of it.
    assert_eq!(heard[1].fields.len(), 1, "{heard:?}");
});
