//! A browser's form upload (`multipart/form-data`, RFC 7578) as S3 reads it: fields, then one file.
//!
//! Bytes in, spans out. Stricter than RFC 2046 wherever two readers could see two forms: no preamble, no epilogue, no
//! transfer encoding, each name once in any case, nothing after the file (S3 API reference, "POST Object").

use memchr::memmem;

/// Fields of one form. S3 takes 20 kB of them.
const MAX_FIELDS: usize = 128;
const MAX_PART_HEAD: usize = 4096;
/// RFC 2046 5.1.1.
const MAX_BOUNDARY: usize = 70;

/// A form's fields in arrival order, and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form<'b> {
    fields: Vec<(&'b str, &'b [u8])>,
    file: &'b [u8],
    file_name: Option<&'b str>,
}

/// Why a body is no form that everybody reads alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("form upload: {0}")]
pub struct FormError(&'static str);

/// The media type is a form's, whatever its parameters.
pub fn is_form(content_type: &[u8]) -> bool {
    content_type.get(..19).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/form-data"))
}

impl<'b> Form<'b> {
    pub fn parse(content_type: &[u8], body: &'b [u8]) -> Result<Self, FormError> {
        let boundary =
            boundary(content_type).ok_or(FormError("its boundary is missing or no plain token"))?;
        let opening = [b"--", boundary, b"\r\n"].concat();
        let delimiter = [b"\r\n--", boundary].concat();
        let mut rest =
            body.strip_prefix(&*opening).ok_or(FormError("it does not begin with its boundary"))?;
        let mut fields: Vec<(&str, &[u8])> = Vec::new();
        loop {
            let window = &rest[..rest.len().min(MAX_PART_HEAD)];
            let end =
                memmem::find(window, b"\r\n\r\n").ok_or(FormError("a part has no head of 4 KiB at most"))?;
            let part = Part::parse(&rest[..end]).ok_or(FormError("a part's head is malformed"))?;
            rest = &rest[end + 4..];
            let end = memmem::find(rest, &delimiter).ok_or(FormError("a part does not end"))?;
            let (value, after) = (&rest[..end], &rest[end + delimiter.len()..]);
            if part.name.eq_ignore_ascii_case("file") {
                return match after {
                    b"--" | b"--\r\n" => Ok(Self { fields, file: value, file_name: part.file_name }),
                    _ => Err(FormError("something stands after its file")),
                };
            }
            if part.file_name.is_some() {
                return Err(FormError("a file under another name than `file`"));
            }
            if fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(part.name)) {
                return Err(FormError("a field stands there twice"));
            }
            if fields.len() == MAX_FIELDS {
                return Err(FormError("more than 128 fields"));
            }
            fields.push((part.name, value));
            rest = after.strip_prefix(b"\r\n").ok_or(FormError("it has no file, or a boundary goes on"))?;
        }
    }

    /// Names as sent, without the file.
    pub fn fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.fields.iter().copied()
    }

    /// `name` in any case.
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        self.fields().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// [`Self::field`] as text; `None` also where it is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&'b str> {
        self.field(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    pub fn file(&self) -> &'b [u8] {
        self.file
    }

    /// The object's key: `key`, with the file's name where it says `${filename}`. `None` where there is none, it is no
    /// text, or the file's name is one that two readers would cut differently.
    pub fn key(&self) -> Option<String> {
        let key = self.text("key").filter(|key| !key.is_empty())?;
        if !key.contains("${filename}") {
            return Some(key.to_owned());
        }
        let plain = |name: &&str| !name.is_empty() && !name.contains(['/', '\\', '%', '"', '$']);
        Some(key.replace("${filename}", self.file_name.filter(plain)?))
    }
}

/// A part's head.
struct Part<'b> {
    name: &'b str,
    file_name: Option<&'b str>,
}

impl<'b> Part<'b> {
    fn parse(head: &'b [u8]) -> Option<Self> {
        let mut found = None;
        for line in std::str::from_utf8(head).ok()?.split("\r\n") {
            let (name, value) = line.split_once(':')?;
            if line.contains(['\r', '\n', '\0']) {
                return None;
            }
            if name.eq_ignore_ascii_case("content-disposition") {
                let parameters = value.trim().strip_prefix("form-data;")?;
                if found.replace(parameters).is_some() {
                    return None;
                }
            } else if !name.eq_ignore_ascii_case("content-type") {
                return None;
            }
        }
        let (mut name, mut file_name) = (None, None);
        let mut rest = found?.trim_start();
        while !rest.is_empty() {
            let (parameter, after) = rest.split_once("=\"")?;
            let (value, after) = after.split_once('"')?;
            let slot = match parameter {
                "name" => &mut name,
                "filename" => &mut file_name,
                _ => return None,
            };
            if slot.replace(value).is_some() {
                return None;
            }
            rest = match after.strip_prefix(';') {
                Some(next) => next.trim_start(),
                None if after.is_empty() => after,
                None => return None,
            };
        }
        // A backslash may or may not escape what follows it.
        let name: &str = name.filter(|n: &&str| !n.is_empty() && !n.contains(['\\', '%']))?;
        Some(Self { name, file_name })
    }
}

/// `multipart/form-data; boundary=…` with that one parameter, quoted or not.
fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    let text = std::str::from_utf8(content_type).ok()?;
    let (_, parameter) = text.split_once(';')?;
    let (name, value) = parameter.trim().split_once('=')?;
    let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&b);
    let fits = (1..=MAX_BOUNDARY).contains(&value.len()) && value.bytes().all(plain);
    (name.eq_ignore_ascii_case("boundary") && fits).then_some(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &[u8] = b"multipart/form-data; boundary=xYz";
    const GOOD: &str = "--xYz\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nuploads/${filename}\r\n\
         --xYz\r\nContent-Disposition: form-data; name=\"acl\"\r\n\r\nprivate\r\n\
         --xYz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\n\
         he\r\n--xY\r\nllo\r\n--xYz--\r\n";

    #[test]
    fn reads_fields_file_and_key() {
        let form = Form::parse(TYPE, GOOD.as_bytes()).unwrap();
        assert_eq!(form.fields().map(|(name, _)| name).collect::<Vec<_>>(), ["key", "acl"]);
        assert_eq!(form.field("ACL"), Some(&b"private"[..]));
        assert_eq!(form.file(), b"he\r\n--xY\r\nllo");
        assert_eq!(form.key().as_deref(), Some("uploads/a.txt"));
        for kind in [&b"Multipart/Form-Data;boundary=\"xYz\""[..], b"multipart/form-data;  Boundary=xYz"] {
            assert!(Form::parse(kind, GOOD.as_bytes()).is_ok());
        }
        assert!(Form::parse(TYPE, GOOD.trim_end().as_bytes()).is_ok());
    }

    #[test]
    fn a_file_name_that_two_readers_cut_differently_gives_no_key() {
        for name in ["", "a/b", "a\\b", "%2e", "${filename}"] {
            let wire = GOOD.replace("a.txt", name);
            assert_eq!(Form::parse(TYPE, wire.as_bytes()).unwrap().key(), None, "{name}");
        }
        let plain = GOOD.replace("${filename}", "a").replace("a.txt", "a/b");
        assert_eq!(Form::parse(TYPE, plain.as_bytes()).unwrap().key().as_deref(), Some("uploads/a"));
    }

    #[test]
    fn refuses_every_form_that_could_be_read_in_two_ways() {
        for (name, wire) in [
            ("preamble", format!("x\r\n{GOOD}")),
            ("epilogue", format!("{GOOD}x")),
            ("another boundary", GOOD.replace("xYz", "xYy")),
            ("a field twice", GOOD.replace("\"acl\"", "\"Key\"")),
            (
                "a field after the file",
                GOOD.replace(
                    "--xYz--",
                    "--xYz\r\nContent-Disposition: form-data; name=\"acl\"\r\n\r\na\r\n--xYz--",
                ),
            ),
            ("no file", GOOD.replace("\"file\"; filename=\"a.txt\"", "\"other\"")),
            ("a file of another name", GOOD.replace("\"file\"", "\"other\"")),
            ("bare LF in a head", GOOD.replacen("\r\n\r\nuploads", "\n\nuploads", 1)),
            (
                "transfer encoding",
                GOOD.replace("Content-Type: text/plain", "Content-Transfer-Encoding: base64"),
            ),
            (
                "two dispositions",
                GOOD.replace("Content-Type: text/plain", "Content-Disposition: form-data; name=\"key\""),
            ),
            ("two names", GOOD.replace("name=\"acl\"", "name=\"acl\"; name=\"key\"")),
            (
                "an extended name",
                GOOD.replace("filename=\"a.txt\"", "filename=\"a.txt\"; filename*=utf-8''b"),
            ),
            ("unquoted", GOOD.replace("\"acl\"", "acl")),
            ("an escape", GOOD.replace("\"acl\"", "\"a\\cl\"")),
            ("no name", GOOD.replace("\"acl\"", "\"\"")),
            ("the boundary goes on", GOOD.replacen("\r\n--xYz\r\n", "\r\n--xYzz\r\n", 1)),
        ] {
            assert_ne!(wire, GOOD, "{name}");
            assert!(Form::parse(TYPE, wire.as_bytes()).is_err(), "{name}");
        }
        for kind in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=x Yz",
            "multipart/form-data; boundary=xYz; boundary=b",
            "multipart/form-data; charset=utf-8; boundary=xYz",
        ] {
            assert!(Form::parse(kind.as_bytes(), GOOD.as_bytes()).is_err(), "{kind}");
        }
        for end in 0..GOOD.len() - 2 {
            assert!(Form::parse(TYPE, &GOOD.as_bytes()[..end]).is_err(), "{end}");
        }
    }
}
