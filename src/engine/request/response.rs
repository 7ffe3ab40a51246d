//! The head of a response, by the reader of `engine/request.rs`.

use std::mem::MaybeUninit;

use bytes::Bytes;

use super::fields::{Fields, Kind, lines, mark_connection_fields, read_fields, travelling};
use super::{Framing, HeadError, MAX_FIELDS, Version};

/// Head of a response, read as strictly.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    raw: Bytes,
    status: u16,
    version: Version,
    fields: Fields,
    framing: Framing,
    close: bool,
    websocket: bool,
}

impl ResponseHead {
    /// Reads a whole head; `method` is the request's, since an answer to HEAD has no body (RFC 9112 6.3).
    pub fn parse(raw: Bytes, method: &str) -> Result<Self, HeadError> {
        // Blank lines are skipped before requests alone.
        if !raw.starts_with(b"HTTP/") {
            return Err(HeadError::StatusLine);
        }
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        match httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            &raw,
            &mut slots,
        ) {
            Ok(httparse::Status::Complete(end)) if end == raw.len() => {}
            Ok(httparse::Status::Complete(_)) => return Err(HeadError::LineEnd),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
            Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => return Err(HeadError::Field),
            Err(httparse::Error::Version) => return Err(HeadError::Version),
            Ok(httparse::Status::Partial) | Err(_) => return Err(HeadError::StatusLine),
        }
        let status = parsed.code.unwrap_or_default();
        if !(100..=599).contains(&status) {
            return Err(HeadError::StatusLine);
        }
        let version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let (fields, marks) = read_fields(&raw, parsed.headers, version)?;
        let bodiless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        let framing = match (marks.chunked, marks.length) {
            (true, Some(_)) => return Err(HeadError::Framing),
            _ if bodiless => Framing::None,
            (true, None) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        };
        let surplus = status == 204 && marks.length.is_some_and(|length| length > 0);
        let close = marks.close || (version == Version::Http10 && !marks.keep_alive) || surplus;
        let names_fields = marks.names_fields;
        let websocket = status == 101
            && marks.connection_upgrade
            && marks.upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
        let mut head = Self { status, version, framing, close, websocket, fields, raw };
        if names_fields {
            // An origin may name what it likes; the fields named stay behind.
            let _ = mark_connection_fields(&head.raw, &mut head.fields);
        }
        Ok(head)
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    /// `200 OK`, as received.
    pub fn status_and_reason(&self) -> &[u8] {
        const START: usize = "HTTP/1.1 ".len();
        let end = memchr::memchr(b'\r', &self.raw).unwrap_or(self.raw.len());
        self.raw.get(START..end).unwrap_or_default()
    }

    /// The whole head as received.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The origin ends the connection after this answer.
    pub fn close(&self) -> bool {
        self.close
    }

    /// A 101 that goes on in WebSocket.
    pub fn switches_to_websocket(&self) -> bool {
        self.websocket
    }

    /// First value of that name.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.fields.named(&self.raw, name).next().map(|f| f.value.of(&self.raw))
    }

    /// `Content-Length` of an answer to HEAD or a 304, which tells of a body that isn't here.
    pub fn told_length(&self) -> Option<&[u8]> {
        if self.framing == Framing::None && (self.status >= 200 && self.status != 204) {
            self.first("content-length")
        } else {
            None
        }
    }

    /// Fields that travel on, as their whole lines, CR LF included. `Alt-Svc`, a way round us, does not.
    pub fn forwarded_lines(&self) -> impl Iterator<Item = &[u8]> {
        lines(&self.raw, &self.fields)
    }

    /// Names, as sent, of the fields that don't.
    pub fn staying_names(&self) -> impl Iterator<Item = &str> {
        let stay = self.fields.list.iter().filter(|field| field.kind != Kind::EndToEnd);
        stay.map(|field| std::str::from_utf8(field.name.of(&self.raw)).unwrap_or_default())
    }

    /// The same fields as [`Self::forwarded_lines`], one by one: name as sent, and value.
    pub fn forwarded_fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        travelling(&self.raw, &self.fields)
    }
}
