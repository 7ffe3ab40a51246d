//! What hops are known to rewrite: methods, paths, queries, header values, payload words.

use super::super::canonical::{halves, recoded, sha256};
use super::super::percent::{self, Plus};
use super::{Change, Draft, Variant};
use crate::engine::hex;
use crate::engine::request::RequestHead;

/// Values that clients sign and hops exchange for their own, by field.
const USUAL: &[(&str, &[&str])] = &[
    (
        "accept-encoding",
        &[
            "identity",
            "gzip",
            "gzip, deflate",
            "gzip,deflate",
            "deflate, gzip",
            "gzip, deflate, br",
            "gzip, deflate, br, zstd",
            "br,gzip,deflate",
            "gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
            "*",
        ],
    ),
    ("accept", &["*/*", "application/json", "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"]),
    (
        "content-type",
        &[
            "application/x-amz-json-1.0",
            "application/x-amz-json-1.1",
            "application/json",
            "application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded; charset=utf-8",
            "application/x-www-form-urlencoded; charset=UTF-8",
            "application/octet-stream",
            "binary/octet-stream",
        ],
    ),
    ("content-length", &["0"]),
    ("cache-control", &["no-cache", "max-age=0", "no-store"]),
    ("pragma", &["no-cache"]),
    ("expect", &["100-continue"]),
    ("accept-language", &["*", "en-us", "en"]),
];

const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"];
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Bodies that are rewritten as a whole and hashed again: whoever sends a bad signature chooses how long they are.
const MAX_BODY: usize = 64 * 1024;

pub(super) fn of(draft: &Draft<'_>, head: &RequestHead, body: Option<&[u8]>) -> Vec<Variant> {
    let mut all = Vec::with_capacity(128);
    fields(draft, head, &mut all);
    paths(draft, &mut all);
    queries(draft, head.query().unwrap_or_default().as_bytes(), &mut all);
    payloads(draft, body, &mut all);
    for method in METHODS.into_iter().filter(|method| *method != draft.method) {
        all.push(Variant { change: Change::Method(method), said: format!("the method is {method}") });
    }
    buckets(draft, &mut all);
    all
}

fn fields(draft: &Draft<'_>, head: &RequestHead, all: &mut Vec<Variant>) {
    for (at, (name, value)) in draft.fields.iter().enumerate() {
        let mut add = |other: Vec<u8>, said: String| {
            if other != *value {
                all.push(Variant { change: Change::Field(at, other), said });
            }
        };
        for usual in USUAL.iter().filter(|(known, _)| known == name).flat_map(|(_, values)| *values) {
            add(usual.as_bytes().into(), format!("`{name}` is `{usual}`"));
        }
        let sent: Vec<&[u8]> = head.all(name).collect();
        add(Vec::new(), format!("`{name}` is empty"));
        add(sent.join(&b','), format!("the blanks of `{name}` are not folded"));
        if sent.len() > 1 {
            add(sent.join(&b", "[..]), format!("the values of `{name}` are joined with `, `"));
            let reversed: Vec<_> = sent.iter().rev().copied().collect();
            add(reversed.join(&b','), format!("the values of `{name}` stand in another order"));
            add(sent[0].into(), format!("`{name}` has its first value alone"));
            add(sent[sent.len() - 1].into(), format!("`{name}` has its last value alone"));
        }
        if let Some(comma) = memchr::memchr(b',', value) {
            add(value[..comma].into(), format!("`{name}` ends before its first comma"));
            let close = String::from_utf8_lossy(value);
            add(close.replace(", ", ",").into(), format!("`{name}` has no blank after a comma"));
            add(
                close.replace(", ", ",").replace(',', ", ").into(),
                format!("`{name}` has a blank after each comma"),
            );
        }
        add(value.to_ascii_lowercase(), format!("`{name}` is in lower case"));
        match *name {
            "host" => hosts(value, &mut add),
            "content-type" => {
                let bare = value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
                add(bare.into(), "`content-type` has no parameter".into());
                for charset in ["; charset=utf-8", "; charset=UTF-8", ";charset=utf-8", ";charset=UTF-8"] {
                    add([bare, charset.as_bytes()].concat(), format!("`content-type` ends in `{charset}`"));
                }
            }
            _ => {}
        }
    }
}

fn hosts(value: &[u8], add: &mut impl FnMut(Vec<u8>, String)) {
    let bare = value.split(|&b| b == b':').next().unwrap_or_default();
    add(bare.into(), "`host` has no port".into());
    add([bare, b":443"].concat(), "`host` has port 443".into());
    add([bare, b":80"].concat(), "`host` has port 80".into());
    add([bare, b"."].concat(), "`host` ends in a dot".into());
}

fn paths(draft: &Draft<'_>, all: &mut Vec<Variant>) {
    let raw = draft.parts.path;
    let mut add = |path: Vec<u8>, said: &str| {
        if path != draft.path && path.first() == Some(&b'/') {
            all.push(Variant { change: Change::Path(path), said: said.to_owned() });
        }
    };
    let canonical = |path: &[u8]| {
        if draft.is_s3 {
            return path.to_vec();
        }
        let mut out = Vec::with_capacity(path.len() + 16);
        percent::encode(&mut out, path, true);
        out
    };
    let encoded = |path: &[u8]| {
        let mut out = Vec::with_capacity(path.len() + 16);
        percent::encode(&mut out, path, true);
        out
    };
    let decoded = percent::decode(raw, Plus::Literal).unwrap_or_default();
    add(canonical(&decoded), "the path has no escapes");
    add(recoded(raw).into_owned(), "the path is encoded once, as S3 has it");
    add(encoded(&recoded(raw)), "the path's escapes are encoded again, from their canonical form");
    add(encoded(raw), "the path's escapes are encoded again, as services other than S3 have it");
    add(decoded.to_vec(), "the path has no escapes and is not encoded");
    add(raw.to_vec(), "the path stands as it was sent");
    add(lower_escapes(&canonical(raw)), "the path's escapes are in lower case");
    let text = String::from_utf8_lossy(raw);
    let plus = text.replace('+', "%20");
    add(canonical(plus.as_bytes()), "each `+` of the path is `%20`");
    add(canonical(text.replace("%20", "+").as_bytes()), "each `%20` of the path is `+`");
    add(canonical(text.replace("%2B", "+").as_bytes()), "each `%2B` of the path is `+`");
    add(canonical(text.replace("%2F", "/").as_bytes()), "each `%2F` of the path is `/`");
    add(canonical(text.replace("%7E", "~").as_bytes()), "each `%7E` of the path is `~`");
    add(canonical(text.replace('~', "%7E").as_bytes()), "each `~` of the path is `%7E`");
    match raw.strip_suffix(b"/") {
        Some(bare) => add(canonical(bare), "the path has no `/` at its end"),
        None => add(canonical(&[raw, b"/"].concat()), "the path has a `/` at its end"),
    }
    add(canonical(&[b"/", raw].concat()), "the path begins with two `/`");
    add(b"/".to_vec(), "the path is `/`");
    if let Some(next) = memchr::memchr(b'/', raw.get(1..).unwrap_or_default()) {
        add(canonical(&raw[next + 1..]), "the path lacks its first segment");
    }
    let mut joined = text.into_owned();
    while joined.contains("//") {
        joined = joined.replace("//", "/");
    }
    add(canonical(joined.as_bytes()), "each `//` of the path is `/`");
}

fn queries(draft: &Draft<'_>, raw: &[u8], all: &mut Vec<Variant>) {
    let mut add = |query: Vec<u8>, said: String| {
        if query != draft.query {
            all.push(Variant { change: Change::Query(query), said });
        }
    };
    if draft.query.is_empty() {
        return;
    }
    let sorted: Vec<&[u8]> = draft.query.split(|&b| b == b'&').collect();
    add(Vec::new(), "there is no query".into());
    for (at, piece) in sorted.iter().enumerate().take(24) {
        let rest: Vec<_> = sorted.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, p)| *p).collect();
        let name = String::from_utf8_lossy(halves(piece).0).into_owned();
        add(rest.join(&b'&'), format!("`{name}` is not in the query"));
        let empty = [halves(piece).0, b"="].concat();
        let emptied: Vec<_> =
            sorted.iter().enumerate().map(|(n, p)| if n == at { &*empty } else { *p }).collect();
        add(emptied.join(&b'&'), format!("`{name}` of the query is empty"));
    }
    let sent: Vec<&[u8]> = raw.split(|&b| b == b'&').filter(|piece| !piece.is_empty()).collect();
    let recode = |piece: &[u8], plus: Plus| {
        let part = |part| percent::canonical(part, false, plus).unwrap_or_default().into_owned();
        let (name, value) = halves(piece);
        [part(name), b"=".to_vec(), part(value)].concat()
    };
    let join = |pieces: Vec<Vec<u8>>| pieces.join(&b'&');
    let signature = |piece: &&&[u8]| !piece.starts_with(b"X-Amz-Signature=");
    let each = |plus| sent.iter().filter(signature).map(move |piece| recode(piece, plus));
    add(join(each(Plus::Space).collect()), "the query is not sorted".into());
    let mut by_name: Vec<_> = each(Plus::Space).collect();
    by_name.sort_by(|a, b| halves(a).0.cmp(halves(b).0));
    add(join(by_name), "the query is sorted by name alone".into());
    let mut literal: Vec<_> = each(Plus::Literal).collect();
    literal.sort();
    add(join(literal), "each `+` of the query is a plus".into());
    let text = String::from_utf8_lossy(&draft.query).into_owned();
    add(text.replace("%20", "+").into(), "each blank of the query is `+`".into());
    add(lower_escapes(&draft.query), "the query's escapes are in lower case".into());
    add(text.replace('%', "%25").into(), "the query's escapes are encoded again".into());
    let mut plain: Vec<_> = sent.iter().filter(signature).map(|piece| piece.to_vec()).collect();
    plain.sort();
    add(join(plain), "the query stands as it was sent, sorted".into());
    let bare: Vec<_> = sorted.iter().map(|piece| piece.strip_suffix(b"=").unwrap_or(piece)).collect();
    add(bare.join(&b'&'), "names without a value have no `=` in the query".into());
}

fn payloads(draft: &Draft<'_>, body: Option<&[u8]>, all: &mut Vec<Variant>) {
    let mut add = |payload: String, said: &str| {
        if payload != draft.payload {
            all.push(Variant { change: Change::Payload(payload), said: said.to_owned() });
        }
    };
    let digest = |body: &[u8]| String::from_utf8_lossy(&hex::write(&sha256(body))).into_owned();
    add("UNSIGNED-PAYLOAD".into(), "the payload is unsigned");
    add(EMPTY.into(), "the body is empty");
    let Some(body) = body.filter(|body| body.len() <= MAX_BODY) else { return };
    add(digest(body), "the digest of the body is signed");
    add(digest(body.trim_ascii_end()), "the body has no blanks at its end");
    add(digest(&[body, b"\n"].concat()), "the body has a line end at its end");
    if let Ok(text) = std::str::from_utf8(body) {
        add(digest(text.replace("\r\n", "\n").as_bytes()), "the body's line ends are LF");
        add(
            digest(text.replace("\r\n", "\n").replace('\n', "\r\n").as_bytes()),
            "the body's line ends are CR LF",
        );
        add(
            digest(text.strip_prefix('\u{feff}').unwrap_or(text).as_bytes()),
            "the body has no byte-order mark",
        );
        if let Some(json) =
            serde_json::from_str::<serde_json::Value>(text).ok().filter(serde_json::Value::is_object)
        {
            add(
                digest(json.to_string().as_bytes()),
                "the body's JSON is written without blanks, keys in order",
            );
        }
    }
}

/// `bucket.s3.…/key` and `s3.…/bucket/key` name one object.
fn buckets(draft: &Draft<'_>, all: &mut Vec<Variant>) {
    let host = draft.fields.iter().find(|(name, _)| *name == "host").map(|(_, value)| value.as_slice());
    let Some(host) = host.filter(|_| draft.is_s3) else { return };
    if let Some(dot) = memchr::memmem::find(host, b".s3") {
        let path = [b"/", &host[..dot], draft.parts.path].concat();
        let change = Change::Bucket { host: host[dot + 1..].to_vec(), path };
        all.push(Variant { change, said: "the bucket stands in the path instead of the host".into() });
    }
    let path = draft.parts.path.get(1..).unwrap_or_default();
    let end = memchr::memchr(b'/', path).unwrap_or(path.len());
    let host = [&path[..end], b".", host].concat();
    let path = if end == path.len() { b"/".to_vec() } else { path[end..].to_vec() };
    let said = "the bucket stands in the host instead of the path".into();
    all.push(Variant { change: Change::Bucket { host, path }, said });
}

/// Escapes with digits in lower case; everything else as it is.
fn lower_escapes(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'%', &out[at..]) {
        let end = (at + found + 3).min(out.len());
        out[at + found..end].make_ascii_lowercase();
        at = end;
    }
    out
}
