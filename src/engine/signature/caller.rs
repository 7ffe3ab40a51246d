//! GetCallerIdentity, asked with a key of which its source does not tell whose it is: the call, and what it answers.
//!
//! `proxy/caller.rs` sends it. Signed by the `aws-sigv4` crate, and then read and verified by our own reader: the record
//! says `verified` of it because it was.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;

use super::keys::{KnownKey, Told};
use super::lesson::principal;
use super::{KnownKeys, Reading, read};
use crate::engine::facts::{Action, Ask, Identity, Operation, Protocol, Resource, Timestamp};
use crate::engine::request::RequestHead;
use crate::engine::target::Authority;

/// All that is asked.
const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
/// Its answer has half a kilobyte.
pub const MOST_ANSWER: usize = 16 * 1024;

/// The call, signed.
#[derive(Debug)]
pub struct Call {
    pub head: RequestHead,
    pub body: Bytes,
    pub operation: Operation,
    pub identity: Identity,
}

impl Call {
    /// `None` where the key's own parts are no text that can be signed with.
    pub fn sign(key: &KnownKey, sts: &Authority, region: &str, at: Timestamp) -> Option<Self> {
        let token = key.token.as_ref().map(|token| std::str::from_utf8(token.expose())).transpose().ok()?;
        let secret = std::str::from_utf8(key.secret.expose()).ok()?;
        let identity = Credentials::new(&*key.id, secret, token.map(str::to_owned), None, "exeat").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("sts")
            .time(UNIX_EPOCH + Duration::from_secs(at.0.unsigned_abs()))
            .settings(SigningSettings::default())
            .build()
            .ok()?
            .into();
        let host = sts.host.to_string();
        let fields = [("host", &*host), ("content-type", "application/x-www-form-urlencoded")];
        let uri = format!("https://{host}/");
        let body = SignableBody::Bytes(BODY.as_bytes());
        let request = SignableRequest::new("POST", uri, fields.iter().copied(), body).ok()?;
        let (signed, _) = sign(request, &parameters).ok()?.into_parts();
        let mut head = "POST / HTTP/1.1\r\n".to_owned();
        for (field, value) in fields.into_iter().chain(signed.headers()) {
            for part in [field, ": ", value, "\r\n"] {
                head.push_str(part);
            }
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", BODY.len()));
        let head = RequestHead::parse(head.into()).ok()?;
        let Ok(Reading::Signed(claim)) = read(&head) else { return None };
        let identity = claim.verify(Some(BODY.as_bytes()), &KnownKeys::new([key.alone()]), at).ok()?.identity;
        let operation = Operation {
            service: "sts".into(),
            name: Some("GetCallerIdentity".into()),
            region: region.into(),
            protocol: Protocol::Query,
            asks: vec![Ask {
                action: Action::Known("sts:GetCallerIdentity".into()),
                resource: Resource::None,
            }],
        };
        Some(Self { head, body: Bytes::from_static(BODY.as_bytes()), operation, identity })
    }
}

/// Whose key it is. `None` for what STS does not write.
pub fn answered(text: &str) -> Option<Told> {
    let (account, role) = principal(only(text, "Arn")?)?;
    let account = account.filter(|account| only(text, "Account") == Some(&account.to_string()))?;
    Some(Told { account, role })
}

/// The plain text of the one element of this name.
fn only<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let (_, rest) = text.split_once(&open)?;
    let (value, after) = rest.split_once(&close)?;
    let plain = !value.is_empty() && !value.contains(['<', '&']);
    (plain && !after.contains(&open)).then_some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::facts::{AccountId, Secret, SignatureState};

    fn answer(arn: &str, account: &str) -> String {
        format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>{arn}</Arn><UserId>AIDA</UserId><Account>{account}</Account></GetCallerIdentityResult>\
             </GetCallerIdentityResponse>"
        )
    }

    #[test]
    fn an_answer_tells_account_and_role() {
        let account = AccountId::parse("210987654321").unwrap();
        for (arn, role) in [
            ("arn:aws:sts::210987654321:assumed-role/app/session", Some("app")),
            ("arn:aws-cn:sts::210987654321:assumed-role/app/session", Some("app")),
            ("arn:aws:iam::210987654321:user/path/ann", None),
            ("arn:aws:iam::210987654321:root", None),
            ("arn:aws:sts::210987654321:federated-user/ann", None),
        ] {
            let told = answered(&answer(arn, "210987654321")).unwrap();
            assert_eq!((told.account, told.role.as_deref()), (account, role), "{arn}");
        }
    }

    #[test]
    fn an_answer_that_says_two_things_or_none_tells_nothing() {
        let arn = "arn:aws:sts::210987654321:assumed-role/app/session";
        for text in [
            answer(arn, "123456789012"),
            answer(arn, ""),
            answer("arn:aws:s3:::x", "210987654321"),
            answer("", "210987654321"),
            answer(&format!("{arn}</Arn><Arn>{arn}"), "210987654321"),
            answer("arn:aws:sts::210987654321:assumed-role/a&amp;b/s", "210987654321"),
            "<ErrorResponse/>".to_owned(),
            String::new(),
        ] {
            assert_eq!(answered(&text), None, "{text}");
        }
    }

    #[test]
    fn the_call_is_verified_by_our_own_reader() {
        let token = Some(Secret::new(b"tok/en+=="));
        let key = KnownKey::new("AKIAIOSFODNN7EXAMPLE", Secret::new(b"se/cret+"), token);
        let sts = Authority::parse("sts.eu-west-1.amazonaws.com", Some(443)).unwrap();
        let call = Call::sign(&key, &sts, "eu-west-1", Timestamp(1_767_323_045)).unwrap();
        assert_eq!(call.identity.signature, SignatureState::Verified);
        assert_eq!(call.head.authority(), &sts);
        assert_eq!(call.head.only("x-amz-security-token"), Some(&b"tok/en+=="[..]));
        let odd = KnownKey::new("AKIAIOSFODNN7EXAMPLE", Secret::new(b"\xff"), None);
        assert!(Call::sign(&odd, &sts, "eu-west-1", Timestamp(1_767_323_045)).is_none());
    }
}
