//! Handshake messages out of records, whatever way they were cut (RFC 8446 5.1).

use std::borrow::Cow;
use std::ops::Range;

use super::{HANDSHAKE, MAX_HELLO};

const RECORD_HEADER: usize = 5;
const MAX_RECORD: usize = 1 << 14;

/// Why there is no message.
pub(super) enum Stop {
    NeedMore(usize),
    Malformed(&'static str),
}

/// The first handshake message, header included; anything but a `kind` is malformed.
pub(super) fn message(buf: &[u8], kind: u8) -> Result<Cow<'_, [u8]>, Stop> {
    let first = record(buf, 0)?;
    let Some(total) = message_length(buf, &first, kind)? else {
        // The four bytes of the message's header are cut over records: rare enough to join first.
        return joined(buf, None, kind);
    };
    if first.len() >= total {
        if buf.len() < first.start + total {
            return Err(Stop::NeedMore(first.start + total));
        }
        return Ok(buf[first.start..first.start + total].into());
    }
    joined(buf, Some(total), kind)
}

/// Message length with its header, once four bytes of it lie in `span`.
fn message_length(buf: &[u8], span: &Range<usize>, kind: u8) -> Result<Option<usize>, Stop> {
    let bytes = &buf[span.start..span.end.min(buf.len())];
    match bytes {
        [first, ..] if *first != kind => Err(Stop::Malformed("not a hello")),
        [_, a, b, c, ..] => {
            let total = 4 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if total + RECORD_HEADER > MAX_HELLO {
                return Err(Stop::Malformed("hello over 64 KiB"));
            }
            Ok(Some(total))
        }
        _ if span.len() < 4 => Ok(None),
        _ => Err(Stop::NeedMore(span.start + 4)),
    }
}

/// The payload of the record at `at`; its end may lie beyond `buf`.
fn record(buf: &[u8], at: usize) -> Result<Range<usize>, Stop> {
    let header = &buf[at.min(buf.len())..];
    // Each byte is judged as soon as it is there, so that how the bytes were cut never changes the answer.
    if header.first().is_some_and(|kind| *kind != HANDSHAKE) {
        return Err(Stop::Malformed("not a handshake record"));
    }
    if header.get(1).is_some_and(|major| *major != 3) {
        return Err(Stop::Malformed("record version"));
    }
    let [_, _, _, high, low, ..] = header else {
        return Err(Stop::NeedMore(at + RECORD_HEADER));
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length == 0 || length > MAX_RECORD {
        // RFC 8446 §5.1: no empty handshake fragments, none over 2^14.
        return Err(Stop::Malformed("record length"));
    }
    let start = at + RECORD_HEADER;
    if start + length > MAX_HELLO + RECORD_HEADER {
        return Err(Stop::Malformed("hello over 64 KiB"));
    }
    Ok(start..start + length)
}

fn joined(buf: &[u8], mut total: Option<usize>, kind: u8) -> Result<Cow<'_, [u8]>, Stop> {
    let mut message = Vec::with_capacity(total.unwrap_or(512).min(buf.len()));
    let mut at = 0;
    loop {
        let span = record(buf, at).map_err(|stop| match stop {
            // Whatever the records' cut, the message's own missing bytes must still come: fewer looks at the same bytes.
            Stop::NeedMore(least) => {
                Stop::NeedMore(least.max(buf.len() + total.map_or(0, |total| total - message.len())))
            }
            malformed @ Stop::Malformed(_) => malformed,
        })?;
        let here = &buf[span.start.min(buf.len())..span.end.min(buf.len())];
        message.extend_from_slice(here);
        if total.is_none() {
            total = match message.as_slice() {
                [first, ..] if *first != kind => return Err(Stop::Malformed("not a hello")),
                [_, a, b, c, ..] => Some(4 + u32::from_be_bytes([0, *a, *b, *c]) as usize),
                _ => None,
            };
            if total.is_some_and(|total| total + RECORD_HEADER > MAX_HELLO) {
                return Err(Stop::Malformed("hello over 64 KiB"));
            }
        }
        if let Some(total) = total
            && message.len() >= total
        {
            message.truncate(total);
            return Ok(message.into());
        }
        if here.len() < span.len() {
            let missing = total.map_or(1, |total| total - message.len());
            return Err(Stop::NeedMore(buf.len() + missing));
        }
        at = span.end;
    }
}

/// Bytes still to be read of a message that is whole: running short is malformed.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Stop::Malformed("hello ends early"))?;
        self.0 = tail;
        Ok(head)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Stop> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn vec8(&mut self) -> Result<Self, Stop> {
        let length = self.take(1)?[0];
        self.take(length.into()).map(Reader)
    }

    pub(super) fn vec16(&mut self) -> Result<Self, Stop> {
        let length = self.u16()?;
        self.take(length.into()).map(Reader)
    }

    pub(super) fn vec24(&mut self) -> Result<Self, Stop> {
        let length = self.take(3)?;
        self.take(u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize).map(Reader)
    }
}
