//! The body of S3's DeleteObjects, read as strictly as it is written by SDKs.
//!
//! Anything else than elements and text (comments, CDATA, processing instructions, entities of its own, prefixes) is
//! not read: two readers could differ on it.

/// One object to delete.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Deleted {
    pub key: String,
    pub version: bool,
}

/// S3 takes 1,000 keys a call.
const MAX_OBJECTS: usize = 1000;

/// `<Delete><Object><Key>…</Key>[<VersionId>…]</Object>…[<Quiet>…]</Delete>`; `None` for anything else.
pub(super) fn deleted_objects(body: &[u8]) -> Option<Vec<Deleted>> {
    let mut rest = std::str::from_utf8(body).ok()?.trim_start();
    if let Some(declared) = rest.strip_prefix("<?xml ") {
        let (declaration, after) = declared.split_once("?>")?;
        if declaration.contains(['<', '>', '&'])
            || declaration.contains("encoding") && !declaration.to_ascii_lowercase().contains("utf-8")
        {
            return None;
        }
        rest = after.trim_start();
    }
    let mut reader = Reader { rest };
    reader.open("Delete")?;
    let mut objects = Vec::new();
    let mut quiet = false;
    loop {
        match reader.tag()? {
            "/Delete" => break,
            "Object" if objects.len() < MAX_OBJECTS => objects.push(reader.object()?),
            "Quiet" if !quiet => {
                quiet = true;
                reader.text("Quiet")?;
            }
            _ => return None,
        }
    }
    (reader.rest.trim().is_empty() && !objects.is_empty()).then_some(objects)
}

struct Reader<'b> {
    rest: &'b str,
}

impl<'b> Reader<'b> {
    /// Name of the next tag, blanks before it skipped; no attributes, no empty elements.
    fn tag(&mut self) -> Option<&'b str> {
        let (name, rest) = self.rest.trim_start().strip_prefix('<')?.split_once('>')?;
        let plain = name.strip_prefix('/').unwrap_or(name);
        self.rest = rest;
        (!plain.is_empty() && plain.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(name)
    }

    /// The root, whose namespace may be declared.
    fn open(&mut self, root: &str) -> Option<()> {
        let (tag, rest) = self.rest.strip_prefix('<')?.split_once('>')?;
        let attributes = tag.strip_prefix(root)?;
        self.rest = rest;
        let namespace = attributes.trim().strip_prefix("xmlns=");
        let quoted = |value: &str| {
            let quote = value.chars().next().filter(|q| ['"', '\''].contains(q));
            quote.is_some_and(|q| {
                value.len() > 1 && value.find(q) == Some(0) && value[1..].find(q) == Some(value.len() - 2)
            })
        };
        let fine =
            attributes.is_empty() || (attributes.starts_with([' ', '\n']) && namespace.is_some_and(quoted));
        fine.then_some(())
    }

    /// Text up to the element's end tag, entities resolved.
    fn text(&mut self, name: &str) -> Option<String> {
        let (text, rest) = self.rest.split_once('<')?;
        self.rest = rest.strip_prefix('/')?.strip_prefix(name)?.strip_prefix('>')?;
        unescaped(text)
    }

    fn object(&mut self) -> Option<Deleted> {
        let (mut key, mut version) = (None, false);
        loop {
            match self.tag()? {
                "/Object" => break,
                "Key" if key.is_none() => key = Some(self.text("Key")?),
                "VersionId" if !version => {
                    version = true;
                    self.text("VersionId")?;
                }
                name @ ("ETag" | "LastModifiedTime" | "Size") => {
                    self.text(name)?;
                }
                _ => return None,
            }
        }
        key.filter(|k| !k.is_empty()).map(|key| Deleted { key, version })
    }
}

fn unescaped(text: &str) -> Option<String> {
    let Some((first, rest)) = text.split_once('&') else {
        return (!text.contains(['>', '\r'])).then(|| text.to_owned());
    };
    let mut out = first.to_owned();
    for piece in rest.split('&') {
        let (entity, after) = piece.split_once(';')?;
        out.push(character(entity)?);
        out.push_str(after);
    }
    (!first.contains('>')).then_some(out)
}

/// What stands between `&` and `;`: one of the five named entities, or a character reference.
pub fn character(entity: &str) -> Option<char> {
    Some(match entity {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => return reference(entity),
    })
}

fn reference(entity: &str) -> Option<char> {
    let number = entity.strip_prefix('#')?;
    let digits = |text: &str, radix| {
        text.bytes().all(|b| (b as char).is_digit(radix)).then(|| u32::from_str_radix(text, radix).ok())?
    };
    let code = match number.strip_prefix('x') {
        Some(hex) => digits(hex, 16)?,
        None => digits(number, 10)?,
    };
    char::from_u32(code).filter(|&c| c != '\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<(String, bool)>> {
        Some(deleted_objects(text.as_bytes())?.into_iter().map(|d| (d.key, d.version)).collect())
    }

    #[test]
    fn reads_keys_and_whether_a_version_is_named() {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                    <Quiet>true</Quiet> <Object><Key>a&amp;b&#x2F;c&#100;</Key></Object>\n<Object><VersionId>1</VersionId><Key>é</Key></Object></Delete>";
        assert_eq!(read(body), Some(vec![("a&b/cd".into(), false), ("é".into(), true)]));
    }

    #[test]
    fn whatever_two_readers_could_read_differently_is_not_read() {
        for body in [
            "",
            "<Delete></Delete>",
            "<Delete><Object><Key></Key></Object></Delete>",
            "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
            "<Delete><Object><Key>a<!-- x --></Key></Object></Delete>",
            "<Delete><!-- x --><Object><Key>a</Key></Object></Delete>",
            "<Delete><Object><Key><![CDATA[a]]></Key></Object></Delete>",
            "<!DOCTYPE x [<!ENTITY e \"b\">]><Delete><Object><Key>&e;</Key></Object></Delete>",
            "<Delete><Object><Key>&e;</Key></Object></Delete>",
            "<Delete><Object><Key x=\"1\">a</Key></Object></Delete>",
            "<Delete><s:Object><Key>a</Key></s:Object></Delete>",
            "<Delete x=\"1\"><Object><Key>a</Key></Object></Delete>",
            "<Delete><Object><Key>a</Key></Object></Delete><Delete/>",
            "<Delete><Object><Key>a</Key></Object>",
            "<Delete><Object><Key>&#0;</Key></Object></Delete>",
            "<Delete><Object><Key>&#+65;</Key></Object></Delete>",
            "<?xml version='1.0' encoding='UTF-7'?><Delete><Object><Key>a</Key></Object></Delete>",
        ] {
            assert_eq!(read(body), None, "{body}");
        }
    }

    #[test]
    fn more_keys_than_s3_takes_are_not_read() {
        let object = "<Object><Key>a</Key></Object>";
        let body = |n: usize| format!("<Delete>{}</Delete>", object.repeat(n));
        assert_eq!(read(&body(1000)).map(|keys| keys.len()), Some(1000));
        assert_eq!(read(&body(1001)), None);
    }
}
