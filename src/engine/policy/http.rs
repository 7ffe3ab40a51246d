//! `http:` hosts, methods and paths of what is no AWS service.

use std::borrow::Cow;

use super::Request;
use super::pattern::{Glob, HostPattern};
use super::statement::Fit;
use crate::engine::request::RequestHead;
use crate::engine::signature::percent::{Plus, decode};

/// How often a path is decoded to find what a deny names. Each time shortens it by little: without a bound a long path
/// would cost the square of its length.
const MAX_DECODINGS: usize = 8;

#[derive(Debug)]
pub struct HttpRule {
    pub hosts: Vec<HostPattern>,
    /// Empty: any.
    pub methods: Vec<Box<str>>,
    /// Empty: any, as `/*` is.
    pub paths: Vec<Glob>,
}

impl HttpRule {
    pub fn any_path(&self) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|path| path.as_str() == "/*")
    }

    fn names_host(&self, request: &Request<'_>) -> bool {
        self.hosts.iter().any(|host| host.matches(request.host))
    }

    /// For an allow: what two readers read in two ways is not surely named.
    pub fn fit(&self, request: &Request<'_>) -> Fit {
        let method = request.head.method();
        let named = self.methods.is_empty()
            || (self.methods.iter().any(|named| **named == *method) && !overrides_method(request.head));
        if !self.names_host(request) || !named {
            return Fit::Elsewhere;
        }
        let path = request.head.path();
        let named =
            self.any_path() || (!is_ambiguous(path) && self.paths.iter().any(|glob| glob.matches(path)));
        if named { Fit::Whole } else { Fit::Path }
    }

    /// For a deny: also what some server could take for it.
    pub fn could_match(&self, request: &Request<'_>) -> bool {
        let method = request.head.method();
        self.names_host(request)
            && (self.methods.is_empty()
                || self.methods.iter().any(|named| named.eq_ignore_ascii_case(method))
                || overrides_method(request.head))
            && (self.any_path() || self.could_be_at(request.head.path()))
    }

    fn could_be_at(&self, path: &str) -> bool {
        if is_ambiguous(path) {
            return true;
        }
        // A letter may hide behind an escape, and an escape behind another one.
        let mut read = Cow::Borrowed(path.as_bytes());
        for _ in 0..=MAX_DECODINGS {
            let text = String::from_utf8_lossy(&read);
            if self.paths.iter().any(|glob| glob.matches(&text)) {
                return true;
            }
            match decode(&read, Plus::Literal).map(Cow::into_owned) {
                Some(next) if next != *read => read = Cow::Owned(next),
                // An escape that is none: who knows what a server makes of it.
                None => return true,
                Some(_) => return false,
            }
        }
        true
    }

    /// Whatever `other` names, this names too.
    pub fn covers(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty()
                && other.methods.iter().all(|method| self.methods.contains(method)));
        let path = |theirs: &Glob| self.paths.iter().any(|ours| ours.covers(theirs));
        methods
            && other.hosts.iter().all(|theirs| self.hosts.iter().any(|ours| ours.covers(theirs)))
            && (self.any_path() || (!other.any_path() && other.paths.iter().all(path)))
    }
}

pub fn overrides_method(head: &RequestHead) -> bool {
    ["x-http-method-override", "x-http-method", "x-method-override"].iter().any(|name| head.has(name))
}

/// Dot segments, empty segments, `\`, `;`, and their escapes: servers disagree on what these mean.
pub fn is_ambiguous(path: &str) -> bool {
    path.contains("//")
        || path.contains(['\\', ';'])
        || path.split('/').any(|segment| segment == "." || segment == "..")
        || path.split('%').skip(1).any(hides)
}

/// What follows a `%` is a dot or a slash, or an escape of one: some server decodes twice.
fn hides(mut escape: &str) -> bool {
    while let Some(again) = escape.strip_prefix("25") {
        escape = again;
    }
    escape.get(..2).is_some_and(|code| ["2e", "2f", "5c"].iter().any(|bad| code.eq_ignore_ascii_case(bad)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_slashes_are_found_behind_escapes_of_escapes() {
        for path in
            ["/a/%2e%2e/b", "/a/%2E/b", "/a%2Fb", "/a%5cb", "/a/%252e%252e/b", "/a%252Fb", "/a%25255Cb"]
        {
            assert!(is_ambiguous(path), "{path}");
        }
        for path in ["/a/b", "/a%20b", "/100%25", "/a%2525", "/a%25b", "/a.b", "/%c3%a9", "/a%252db"] {
            assert!(!is_ambiguous(path), "{path}");
        }
    }

    #[test]
    fn an_escape_that_hides_too_deep_could_be_anything() {
        let rule = |path: &str| HttpRule {
            hosts: vec![HostPattern::parse("a.test").unwrap()],
            methods: Vec::new(),
            paths: vec![Glob::new(path)],
        };
        let deep = |times: usize| format!("/%{}61dmin", "25".repeat(times));
        for times in [0, 1, 2] {
            assert!(rule("/admin").could_be_at(&deep(times)), "{times}");
            assert!(!rule("/other").could_be_at(&deep(times)), "{times}");
        }
        // As deep as a head is long: nobody reads on for the square of that.
        for times in [9, 32_000] {
            assert!(rule("/other").could_be_at(&deep(times)), "{times}");
        }
    }
}
