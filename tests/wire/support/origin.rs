//! An origin that reads HTTP/1.1 strictly and keeps what it saw, apart from the reader under test.

/// A message off the wire, by this file's own strict reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub start: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }
}

/// Whole messages at the front of `bytes`, and what is left. `Err` names what no strict server would take.
/// `bodiless(start, n)`: the n-th message has no body whatever its fields say.
pub fn messages(
    bytes: &[u8],
    ended: bool,
    bodiless: impl Fn(&str, usize) -> bool,
) -> Result<(Vec<Message>, Vec<u8>), String> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while let Some(end) = find(rest, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(format!("no colon in {line:?}"))?;
            if name.is_empty() || name.contains([' ', '\t']) || line.contains(['\r', '\n']) {
                return Err(format!("field {line:?}"));
            }
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut message = Message { start, fields, body: Vec::new() };
        let after = &rest[end + 4..];
        let lengths = message.values("content-length");
        let codings = message.values("transfer-encoding");
        if lengths.len() + codings.len() > 1 {
            return Err(format!("{} lengths, {} codings", lengths.len(), codings.len()));
        }
        let used = if bodiless(&message.start, all.len()) {
            0
        } else if let Some(length) = lengths.first() {
            let length: usize = length.parse().map_err(|_| format!("length {length:?}"))?;
            if after.len() < length {
                return Ok((all, rest.to_vec()));
            }
            message.body = after[..length].to_vec();
            length
        } else if let Some(coding) = codings.first() {
            if *coding != "chunked" {
                return Err(format!("coding {coding:?}"));
            }
            match chunked(after)? {
                Some((body, used)) => {
                    message.body = body;
                    used
                }
                None => return Ok((all, rest.to_vec())),
            }
        } else if message.start.starts_with("HTTP/") {
            if !ended {
                return Ok((all, rest.to_vec()));
            }
            message.body = after.to_vec();
            after.len()
        } else {
            0
        };
        all.push(message);
        rest = &after[used..];
    }
    Ok((all, rest.to_vec()))
}

fn chunked(mut rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let total = rest.len();
    let mut body = Vec::new();
    loop {
        let Some(end) = find(rest, b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| "chunk line".to_owned())?;
        let size = usize::from_str_radix(line, 16).map_err(|_| format!("chunk line {line:?}"))?;
        rest = &rest[end + 2..];
        if size == 0 {
            loop {
                let Some(end) = find(rest, b"\r\n") else { return Ok(None) };
                rest = &rest[end + 2..];
                if end == 0 {
                    return Ok(Some((body, total - rest.len())));
                }
            }
        }
        if rest.len() < size + 2 {
            return Ok(None);
        }
        body.extend_from_slice(&rest[..size]);
        if &rest[size..size + 2] != b"\r\n" {
            return Err("no line end after a chunk".to_owned());
        }
        rest = &rest[size + 2..];
    }
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
