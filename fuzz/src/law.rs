//! What must hold of any bytes: how they are cut changes nothing, what is accepted is read the same by others, and what
//! is sent on is one message with one framing.

use bytes::{Bytes, BytesMut};

use crate::engine::request::{Framing, HeadError, HeadScanner, RequestHead};
use crate::engine::signature::BodyCheck;
use crate::oracle;
use crate::proxy::http1::body::{Decoder, Encoder, FramingError, Step};
use crate::proxy::http1::head::put_request;

/// Fields of one connection: none goes on to the next.
const HOP_BY_HOP: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade"];

/// A body decoded to its end: its data, and how much of the wire was its own. `None`: it wants more.
pub fn decode(framing: Framing, wire: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, FramingError> {
    let mut decoder = Decoder::new(framing);
    let (mut buf, mut data, mut fed) = (BytesMut::new(), Vec::new(), 0);
    loop {
        match decoder.step(&mut buf, false)? {
            Step::Data { len, .. } => data.extend_from_slice(&buf.split_to(len)),
            Step::End(_) => return Ok(Some((data, fed - buf.len()))),
            Step::More if fed == wire.len() => return Ok(None),
            Step::More => {
                let next = (fed + piece).min(wire.len());
                buf.extend_from_slice(&wire[fed..next]);
                fed = next;
            }
        }
    }
}

/// Where the head ends, asked once and asked after each of a few pieces.
fn scan(bytes: &[u8]) -> Result<Option<usize>, HeadError> {
    let whole = HeadScanner::default().scan(bytes);
    let mut scanner = HeadScanner::default();
    let step = (bytes.len() / 16).max(1);
    for cut in (step..=bytes.len()).step_by(step).chain([bytes.len()]) {
        match scanner.scan(&bytes[..cut]) {
            Ok(None) => continue,
            Ok(Some(end)) => assert_eq!(whole, Ok(Some(end)), "cut at {cut}"),
            // A head in one piece has its line ends judged only when it is parsed.
            Err(_) => {
                if let Ok(Some(end)) = whole {
                    assert!(
                        RequestHead::parse(Bytes::copy_from_slice(&bytes[..end])).is_err(),
                        "cut at {cut}"
                    );
                }
                return Err(HeadError::LineEnd);
            }
        }
        return whole;
    }
    whole
}

/// A request as it comes off a connection: head, body, and what may follow. `true`: it was accepted, and hyper heard
/// what goes on of it.
pub fn request(bytes: &[u8]) -> bool {
    let Ok(Some(end)) = scan(bytes) else { return false };
    let Ok(head) = RequestHead::parse(Bytes::copy_from_slice(&bytes[..end])) else { return false };
    same_head(&head, &bytes[..end]);
    let rest = &bytes[end..];
    let body = decode(head.framing(), rest, rest.len().max(1));
    for piece in [1, 7] {
        assert_eq!(decode(head.framing(), rest, piece), body, "in pieces of {piece}");
    }
    let Ok(Some((data, used))) = body else { return false };
    // hyper may refuse what we take; what it takes it must read as we do.
    if let Some(heard) = oracle::requests(&bytes[..end + used]).first() {
        assert_eq!((heard.method.as_str(), heard.target.as_str()), (head.method(), head.target()));
        if let Some(heard) = &heard.body {
            assert_eq!(heard, &data);
        }
    }
    sent_on(&head, &data)
}

/// httparse reads the same words, and nothing is missing.
pub fn same_head(head: &RequestHead, raw: &[u8]) {
    let mut slots = [httparse::EMPTY_HEADER; 256];
    let mut parsed = httparse::Request::new(&mut slots);
    assert_eq!(parsed.parse(raw), Ok(httparse::Status::Complete(raw.len())));
    assert_eq!((parsed.method, parsed.path), (Some(head.method()), Some(head.target())));
    let fields: Vec<(&[u8], &[u8])> =
        parsed.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    assert_eq!(head.fields().collect::<Vec<_>>(), fields);
    let named =
        |name: &str| parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    assert_eq!(named("host"), 1);
    assert!(named("content-length") == 0 || named("transfer-encoding") == 0);
}

/// What goes to an origin, and a second request right behind it: a lenient server hears exactly these two.
fn sent_on(head: &RequestHead, data: &[u8]) -> bool {
    let mut encoder = Encoder::keep(head.framing());
    let mut wire = BytesMut::new();
    put_request(head, encoder, &mut wire);
    let sent_head = Bytes::copy_from_slice(&wire);
    let again = RequestHead::parse(sent_head).expect("what we write, we read");
    assert_eq!((again.method(), again.target()), (head.method(), head.target()));
    assert_eq!((again.framing(), again.authority()), (head.framing(), head.authority()));
    for name in HOP_BY_HOP {
        assert!(!again.has(name), "{name} went on");
    }
    encoder.data(data, &mut wire).expect("as long as it said");
    encoder.end(None, &mut wire).expect("whole");
    wire.extend_from_slice(b"GET /second HTTP/1.1\r\nHost: second.test\r\n\r\n");
    let heard = oracle::requests(&wire);
    // hyper knows fewer targets than we do: then it hears nothing.
    let Some(first) = heard.first() else { return false };
    assert_eq!((first.method.as_str(), first.target.as_str()), (head.method(), head.target()));
    assert_eq!(first.body.as_deref(), Some(data));
    let framings = first.fields.get_all("content-length").iter().count()
        + first.fields.get_all("transfer-encoding").iter().count();
    assert_eq!(framings, usize::from(head.framing() != Framing::None));
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(heard[1].target, "/second");
    true
}

/// Feeds a check pieces of this size: nothing that went on is called back, a failure stays one, and a body that is whole
/// has gone. Bytes that went on, and how it ended.
pub fn feed(mut check: BodyCheck, body: &[u8], size: usize) -> (usize, Option<String>) {
    let (mut fed, mut gone) = (0, 0);
    for piece in body.chunks(size.max(1)) {
        match check.update(piece) {
            Ok(withheld) => {
                fed += piece.len();
                assert!(withheld <= fed && fed - withheld >= gone, "what went can't be called back");
                gone = fed - withheld;
            }
            Err(_) => {
                assert!(check.update(b"").is_err() && check.finish().is_err(), "a failure stays one");
                return (gone, None);
            }
        }
    }
    let ended = check.finish().ok().map(|outcome| outcome.to_string());
    assert!(ended.is_none() || gone == body.len(), "a body that is whole has gone");
    (gone, ended)
}
