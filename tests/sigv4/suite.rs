//! AWS's signing test suites, version 4 and 4A: each folder in header and query form.

use std::borrow::Cow;

use exeat::engine::facts::{Secret, SignatureState, Timestamp};
use exeat::engine::reason::Reason;
use exeat::engine::request::HeadError;
use exeat::engine::signature::{Algorithm, Parts, PathForm, Query, Scope, SignedFields, SigningKey};
use exeat::engine::signature::{PublicKey, string_to_sign};

use super::message::{Message, hex, keys, signed, text};

/// 2015-08-30T12:36:00Z, the suite's clock.
const NOW: Timestamp = Timestamp(1_440_938_160);

/// Who refuses a case that AWS's suite signs, before its signature is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
enum RefusedBy {
    Reader(HeadError),
    /// Header form, query form.
    Verifier(Reason, Reason),
}

use RefusedBy::{Reader, Verifier};
const DOTS: RefusedBy = Verifier(Reason::SigV4Path, Reason::SigV4Path);
const REFUSED: &[(&str, RefusedBy)] = &[
    // Obsolete line folding (RFC 9112 5.2).
    ("get-header-value-multiline", Reader(HeadError::Field)),
    // Raw space, raw UTF-8 in the request target.
    ("get-space-normalized", Reader(HeadError::Version)),
    ("get-space-unnormalized", Reader(HeadError::Version)),
    ("get-utf8", Reader(HeadError::Target)),
    ("get-vanilla-utf8-query", Reader(HeadError::Target)),
    // Dot segments and empty segments outside S3.
    ("get-relative-normalized", DOTS),
    ("get-relative-relative-normalized", DOTS),
    ("get-relative-relative-unnormalized", DOTS),
    ("get-relative-unnormalized", DOTS),
    ("get-slash-dot-slash-normalized", DOTS),
    ("get-slash-dot-slash-unnormalized", DOTS),
    ("get-slash-normalized", DOTS),
    ("get-slash-pointless-dot-normalized", DOTS),
    ("get-slash-pointless-dot-unnormalized", DOTS),
    ("get-slash-unnormalized", DOTS),
    ("get-slashes-normalized", DOTS),
    ("get-slashes-unnormalized", DOTS),
    // The session token travels unsigned.
    ("post-sts-header-after", Verifier(Reason::SigV4UnsignedHeader, Reason::SigV4Signature)),
];

struct Case {
    /// `v4` or `v4a`.
    suite: &'static str,
    folder: String,
    form: &'static str,
    request: Message,
    context: serde_json::Value,
}

impl Case {
    fn load(suite: &'static str, folder: &str, form: &'static str) -> Self {
        let request = Message::parse(&text(&format!("{suite}/{folder}/{form}-signed-request.txt")));
        let context = serde_json::from_str(&text(&format!("{suite}/{folder}/context.json"))).unwrap();
        Self { suite, folder: folder.into(), form, request, context }
    }

    fn algorithm(&self) -> Algorithm {
        if self.suite == "v4" { Algorithm::Hmac } else { Algorithm::Ecdsa }
    }

    fn file(&self, what: &str) -> String {
        text(&format!("{}/{}/{}-{what}.txt", self.suite, self.folder, self.form))
    }

    fn credential(&self, name: &str) -> Option<&str> {
        self.context["credentials"][name].as_str()
    }

    fn name(&self) -> String {
        format!("{}/{} ({})", self.suite, self.folder, self.form)
    }

    fn scope(&self) -> Scope<'_> {
        let part = |name: &str| self.context[name].as_str().unwrap();
        Scope { date: "20150830", region: part("region"), service: part("service") }
    }

    /// Canonical request and string to sign are the suite's, and the string to sign gives its signature.
    fn compare(&self, canonical: &[u8], to_sign: &[u8]) {
        let name = self.name();
        assert_eq!(String::from_utf8_lossy(canonical), self.file("canonical-request"), "{name}");
        assert_eq!(String::from_utf8_lossy(to_sign), self.file("string-to-sign"), "{name}");
        let secret = Secret::new(self.credential("secret_access_key").unwrap().as_bytes());
        let signature = self.file("signature");
        match self.algorithm() {
            Algorithm::Hmac => {
                assert_eq!(
                    hex(&SigningKey::derive(&secret, &self.scope()).sign(to_sign)),
                    signature,
                    "{name}"
                );
            }
            // Another one than the request's: each has its own random number.
            Algorithm::Ecdsa => {
                let key = PublicKey::derive(self.credential("access_key_id").unwrap(), &secret).unwrap();
                assert!(key.holds(to_sign, &signature), "{name}");
                assert!(!key.holds(&to_sign[1..], &signature), "{name}");
            }
        }
    }

    /// The whole way, as a request arrives.
    fn verifies(&self) {
        let name = self.name();
        let token = self.credential("token");
        let keys = keys(
            self.credential("access_key_id").unwrap(),
            self.credential("secret_access_key").unwrap(),
            token,
        );
        let head = self.request.head().unwrap_or_else(|e| panic!("{name}: {e}"));
        let claim = signed(&head).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let canonical = claim.canonical_request(PathForm::EncodedAgain, Some(&self.request.body)).unwrap();
        self.compare(&canonical, &claim.string_to_sign(&canonical));
        let verdict = self.request.verify(&keys, NOW).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(verdict.identity.signature, SignatureState::Verified, "{name}");
    }

    /// Below the strict reader and the verifier's judgement: the canonicaliser alone still agrees with AWS.
    fn canonicalises(&self) {
        let fields = self.request.fields.iter().map(|(name, value)| (name.as_bytes(), &**value));
        let expected = self.file("canonical-request");
        let names = expected.lines().rev().nth(1).unwrap();
        let fields = SignedFields::gather(Cow::Borrowed(names), fields, |_, _| Ok(())).unwrap();
        let mut query = self.request.query().to_vec();
        if self.context["omit_session_token"] == true {
            let kept = query.split(|&b| b == b'&').filter(|p| !p.starts_with(b"X-Amz-Security-Token="));
            query = kept.collect::<Vec<_>>().join(&b'&');
        }
        // Normalising is what is refused, not what is done: those cases take the path as AWS normalises it.
        let normalised = expected.lines().nth(1).unwrap();
        let is_dotted = self.folder.ends_with("-normalized") && !self.folder.starts_with("get-space");
        let path = if is_dotted { normalised.as_bytes() } else { self.request.path() };
        let query = Query::parse(&query, &["X-Amz-Signature"]).unwrap();
        let parts = Parts { method: &self.request.method, path, query, fields };
        let payload = expected.lines().last().unwrap();
        let canonical = parts.text(PathForm::EncodedAgain, payload.as_bytes());
        self.compare(
            &canonical,
            &string_to_sign(self.algorithm(), "20150830T123600Z", &self.scope(), &canonical),
        );
    }

    /// The request a client sends that has normalised its path before.
    fn normalised(mut self) -> Self {
        let expected = self.file("canonical-request");
        let path = expected.lines().nth(1).unwrap();
        self.request.target = [path.as_bytes(), b"?", self.request.query()].concat();
        self
    }
}

fn folders() -> Vec<String> {
    let entries = std::fs::read_dir(super::message::vectors("v4")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn refused_by(folder: &str) -> Option<RefusedBy> {
    REFUSED.iter().find(|(name, _)| *name == folder).map(|(_, by)| *by)
}

const SUITES: [(&str, &str); 4] = [("v4", "header"), ("v4", "query"), ("v4a", "header"), ("v4a", "query")];

#[test]
fn verifies_every_case_that_the_strict_rules_admit() {
    let admitted: Vec<_> = folders().into_iter().filter(|f| refused_by(f).is_none()).collect();
    assert_eq!(admitted.len(), 38 - REFUSED.len());
    for (suite, form) in SUITES {
        for folder in &admitted {
            Case::load(suite, folder, form).verifies();
        }
    }
}

#[test]
fn refuses_each_other_case_for_its_own_reason_and_still_canonicalises_it() {
    for (suite, form) in SUITES {
        for (folder, by) in REFUSED {
            let case = Case::load(suite, folder, form);
            let name = case.name();
            case.canonicalises();
            let (id, secret) =
                (case.credential("access_key_id").unwrap(), case.credential("secret_access_key").unwrap());
            match *by {
                Reader(error) => {
                    // As it was written: the folded lines stay lines.
                    let written = text(&format!("{suite}/{folder}/{form}-signed-request.txt"));
                    let wire = format!("{}\r\n\r\n", written.trim_end().replace('\n', "\r\n"));
                    let refused = exeat::engine::request::RequestHead::parse(wire.into()).unwrap_err();
                    assert_eq!(refused, error, "{name}");
                }
                Verifier(header, query) => {
                    let keys = keys(id, secret, case.credential("token"));
                    let refused = case.request.verify(&keys, NOW).unwrap_err();
                    assert_eq!(refused.reason, if form == "header" { header } else { query }, "{name}");
                }
            }
        }
    }
}

#[test]
fn verifies_a_dotted_case_once_the_client_has_normalised_it() {
    for (suite, form) in SUITES {
        for (folder, by) in REFUSED {
            if *by == DOTS && folder.ends_with("-normalized") {
                Case::load(suite, folder, form).normalised().verifies();
            }
        }
    }
}

#[test]
fn escapes_in_a_path_are_escaped_again() {
    // The folder's signed request is of another day than its canonical request, which alone is compared.
    let folder = "v4-extra/double-encode-path";
    let mut request = Message::parse(&text(&format!("{folder}/header-signed-request.txt")));
    request.set("X-Amz-Date", "20210511T154045Z");
    let authorization = request.value("authorization").unwrap().replace("20150830", "20210511");
    request.set("Authorization", &authorization);
    let head = request.head().unwrap();
    let canonical = signed(&head).unwrap().canonical_request(PathForm::EncodedAgain, Some(b"")).unwrap();
    let expected = text(&format!("{folder}/header-canonical-request.txt"));
    assert_eq!(String::from_utf8_lossy(&canonical), expected, "{folder}");

    let folder = "v4-extra/double-url-encode";
    let request = Message::parse(&text(&format!("{folder}/header-signed-request.txt")));
    let head = request.head().unwrap();
    let claim = signed(&head).unwrap();
    let canonical = claim.canonical_request(PathForm::EncodedAgain, Some(b"")).unwrap();
    let expected = text(&format!("{folder}/header-canonical-request.txt"));
    assert_eq!(String::from_utf8_lossy(&canonical), expected, "{folder}");
    let to_sign = claim.string_to_sign(&canonical);
    assert_eq!(String::from_utf8_lossy(&to_sign), text(&format!("{folder}/header-string-to-sign.txt")));
    let keys = keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None);
    let verdict = request.verify(&keys, Timestamp(1_620_747_645)).expect(folder);
    assert_eq!(verdict.identity.signature, SignatureState::Verified);
}
