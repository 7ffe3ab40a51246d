//! Which operation a request names: by target header, CBOR path, form or query action, or REST template.
//!
//! Comes after [`Atlas::host`] said whose host it is. One signal decides; two are refused, since AWS and we might each
//! follow another one. What no signal names is an unknown operation of the host's service, on an unknown resource.

use super::actions::Row;
use super::data::{Atlas, Service};
use super::hosts::{Endpoint, Style};
use super::query::{Found, Pairs, hides_plain_bytes};
use super::resource::{self, Asks};
use super::rest::{Asked, Pick};
use super::s3;
use crate::engine::facts::{AccountId, Action, Ask, Name, Operation, Protocol, Resource};
use crate::engine::pieces::pieces;
use crate::engine::reason::Reason;
use crate::engine::request::{Framing, RequestHead};

/// How much of the body is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodySeen<'a> {
    Unread,
    Whole(&'a [u8]),
    /// Longer than is read: what the head names stands, the rest is unknown.
    TooLarge,
}

/// What a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognition {
    Operation(Operation),
    /// Operation or resource stand in the body: ask again with [`BodySeen::Whole`] or [`BodySeen::TooLarge`].
    NeedBody,
    /// It could be read in two ways, or its path hides something. With a sentence that says what.
    Refused(Reason, String),
}

/// One request, as the parts of recognition see it.
pub(super) struct Call<'a> {
    pub atlas: &'a Atlas,
    pub endpoint: &'a Endpoint,
    pub head: &'a RequestHead,
    pub body: BodySeen<'a>,
    pub region: Name,
    pub signer_account: Option<AccountId>,
    pub query: Pairs<'a>,
    /// Services of the host that the scope fits.
    candidates: Vec<&'a Service>,
}

const FORM: &str = "application/x-www-form-urlencoded";

impl Atlas {
    /// Names the operation, its actions and resources. The scope is the credential's, where there is one; a scope that
    /// the host does not take is refused here too. `signer_account` stands in ARNs that the request leaves open.
    pub fn recognise(
        &self,
        endpoint: &Endpoint,
        scope_service: Option<&str>,
        scope_region: Option<&str>,
        head: &RequestHead,
        body: BodySeen<'_>,
        signer_account: Option<AccountId>,
    ) -> Recognition {
        if let (Some(service), Some(region)) = (scope_service, scope_region)
            && !pieces(region, b',').any(|region| endpoint.allows_scope(service, region))
        {
            let said = format!("`{}` takes no signature for {service} in {region}", head.authority().host);
            return Recognition::Refused(Reason::SigV4ScopeHost, said);
        }
        let Some(query) = Pairs::parse(head.query().unwrap_or_default()) else {
            return refused(Reason::RequestPath, "malformed escape in the query");
        };
        let empty = matches!(head.framing(), Framing::None | Framing::Length(0));
        let call = Call {
            atlas: self,
            endpoint,
            head,
            body: if empty { BodySeen::Whole(b"") } else { body },
            region: endpoint.region_of(scope_region),
            signer_account,
            query,
            candidates: self.candidates(endpoint, scope_service),
        };
        call.recognise()
    }

    /// Services of a host; those that sign by the scope's name, where any do.
    fn candidates(&self, endpoint: &Endpoint, scope_service: Option<&str>) -> Vec<&Service> {
        let all = || endpoint.entry.services.iter().map(|&at| &self.services[usize::from(at)]);
        let fits = |s: &&Service| scope_service.is_none_or(|scope| *s.signing == *scope);
        if all().any(|s| fits(&s)) { all().filter(fits).collect() } else { all().collect() }
    }
}

pub(super) fn refused(reason: Reason, said: &str) -> Recognition {
    Recognition::Refused(reason, said.to_owned())
}

fn ambiguous(said: &str) -> Recognition {
    refused(Reason::RequestAmbiguous, said)
}

impl<'a> Call<'a> {
    fn recognise(&self) -> Recognition {
        let target = self.head.all("x-amz-target").count();
        if target > 1 {
            return ambiguous("`x-amz-target` is repeated");
        }
        let cbor_path = self.speaks(&[Protocol::Cbor]) && self.head.path().starts_with("/service/");
        let cbor = cbor_path || (self.speaks(&[Protocol::Cbor]) && self.head.has("smithy-protocol"));
        let forms = self.speaks(&[Protocol::Query, Protocol::Ec2]);
        let form = forms && (self.query.has("Action") || self.is_form() == Some(true));
        match (target == 1, cbor, form) {
            (true, true, _) | (true, _, true) | (_, true, true) => {
                ambiguous("the operation is named in two ways")
            }
            (true, false, false) => self.by_target(),
            (false, true, false) => self.by_cbor_path(),
            (false, false, _) if self.addresses_s3() => s3::recognise(self),
            (false, false, true) => self.by_action(),
            (false, false, false) if self.speaks(&[Protocol::RestJson, Protocol::RestXml]) => {
                self.by_template()
            }
            (false, false, false) if forms => self.by_action(),
            (false, false, false) => self.unknown(None),
        }
    }

    /// The bare name of an Outposts endpoint is control's, not a bucket's.
    fn addresses_s3(&self) -> bool {
        let control = self.endpoint.style == Style::Plain && self.candidates.len() > 1;
        !control && self.candidate("s3").is_some()
    }

    fn speaks(&self, protocols: &[Protocol]) -> bool {
        self.candidates.iter().any(|s| s.protocols.iter().any(|p| protocols.contains(p)))
    }

    /// `None` without a content type.
    fn is_form(&self) -> Option<bool> {
        let given = self.head.all("content-type").next()?;
        let kind = given.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        Some(kind.eq_ignore_ascii_case(FORM.as_bytes()))
    }

    fn by_target(&self) -> Recognition {
        let named = self.head.only_text("x-amz-target").and_then(|t| t.rsplit_once('.'));
        let json = |s: &Service| {
            s.protocols.iter().copied().find(|p| matches!(p, Protocol::Json10 | Protocol::Json11))
        };
        let Some((prefix, name)) = named else { return self.unknown(None) };
        let known = self.atlas.targets.iter().any(|(target, _)| *target == prefix);
        let mine = self.candidates.iter().filter(|s| s.target == Some(prefix));
        let mine: Vec<_> = mine.filter_map(|s| Some((*s, json(s)?))).collect();
        if mine.is_empty() && (known || !self.speaks(&[Protocol::Json10, Protocol::Json11])) {
            return ambiguous("`x-amz-target` names an operation of another service than host and scope");
        }
        let direct = self.head.method() == "POST" && self.head.path() == "/";
        let found = mine.iter().find_map(|(s, p)| Some((*s, *p, self.atlas.operations(s).named(name)?)));
        match found.filter(|_| direct) {
            Some((service, protocol, row)) => self.operation(service, protocol, row),
            None => self.unknown(mine.first().map(|(s, p)| (*s, *p))),
        }
    }

    fn by_cbor_path(&self) -> Recognition {
        let spoken =
            self.head.only("smithy-protocol") == Some(b"rpc-v2-cbor") && self.head.method() == "POST";
        let named = self.head.path().strip_prefix("/service/").and_then(|p| p.split_once("/operation/"));
        let Some((shape, name)) = named.filter(|_| spoken) else { return self.unknown(None) };
        let service =
            self.candidates.iter().find(|s| s.target == Some(shape) && s.protocols.contains(&Protocol::Cbor));
        if service.is_none() && self.atlas.targets.iter().any(|(target, _)| *target == shape) {
            return ambiguous("the path names an operation of another service than host and scope");
        }
        match service.and_then(|s| Some((*s, self.atlas.operations(s).named(name)?))) {
            Some((service, row)) => self.operation(service, Protocol::Cbor, row),
            None => self.unknown(service.map(|s| (*s, Protocol::Cbor))),
        }
    }

    /// `Action` and `Version`, in the query or in a form.
    fn by_action(&self) -> Recognition {
        let method = self.head.method();
        let body = match self.body {
            BodySeen::Unread => return Recognition::NeedBody,
            BodySeen::Whole(body) => body,
            BodySeen::TooLarge => return self.unknown(None),
        };
        let readable =
            body.is_empty() || (self.is_form() != Some(false) && !self.is_encoded() && method == "POST");
        let form = std::str::from_utf8(body).ok().filter(|_| readable).and_then(Pairs::parse);
        let Some(form) = form else { return self.unknown(None) };
        let (Some(action), Some(version)) =
            (one(&self.query, &form, "Action"), one(&self.query, &form, "Version"))
        else {
            return ambiguous("`Action` or `Version` stands there twice, or in another case");
        };
        let rest = self.speaks(&[Protocol::RestJson, Protocol::RestXml]);
        if action.is_none() && rest {
            return self.by_template();
        }
        let protocol =
            |s: &Service| s.protocols.iter().copied().find(|p| matches!(p, Protocol::Query | Protocol::Ec2));
        let own = |s: &&&Service| protocol(s).is_some() && (self.head.path() == "/" || &*s.name == "sqs");
        let of_version = |s: &&&Service| Some(s.version) == version;
        let found = self.candidates.iter().filter(own).filter(of_version);
        let found =
            found.clone().find_map(|s| Some((*s, protocol(s)?, self.atlas.operations(s).named(action?)?)));
        match found.filter(|_| matches!(method, "GET" | "POST")) {
            Some((service, protocol, row)) => {
                self.with_asks(service, protocol, row, resource::of_form(self, service, row, &form))
            }
            None => self.unknown(self.candidates.iter().find_map(|s| Some((*s, protocol(s)?)))),
        }
    }

    fn by_template(&self) -> Recognition {
        let path = self.head.path();
        let inner = path.strip_prefix('/').unwrap_or(path);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if (!inner.is_empty() && inner.split('/').any(odd)) || path == "//" {
            return refused(Reason::RequestPath, "empty or dot segment in the path");
        }
        if hides_plain_bytes(path) {
            return refused(Reason::RequestPath, "escape of a character that needs none in the path");
        }
        let asked = Asked { head: self.head, query: &self.query, headers_in_query: false };
        let mut found: Vec<(&Service, &Row)> = Vec::new();
        for service in &self.candidates {
            let operations = self.atlas.operations(service);
            match operations.tree.find(&operations.rows, path, &asked) {
                Pick::Row(at) => found.push((service, &operations.rows[usize::from(at)])),
                Pick::Nothing => {}
                Pick::Ambiguous => return ambiguous("query keys name two operations"),
            }
        }
        let Some(&(service, row)) = found.first() else { return self.unknown(None) };
        let protocol = service.protocols[0];
        let mut recognition = self.operation(service, protocol, row);
        // Twins at one host (greengrass v1 and v2): whichever it is, both are asked.
        if let Recognition::Operation(operation) = &mut recognition {
            for (other, row) in &found[1..] {
                if let Recognition::Operation(twin) = self.operation(other, protocol, row) {
                    let new: Vec<Ask> =
                        twin.asks.into_iter().filter(|ask| !operation.asks.contains(ask)).collect();
                    operation.asks.extend(new);
                }
            }
        }
        recognition
    }

    fn operation(&self, service: &Service, protocol: Protocol, row: &Row) -> Recognition {
        self.with_asks(service, protocol, row, resource::of_call(self, service, protocol, row))
    }

    pub(super) fn with_asks(
        &self,
        service: &Service,
        protocol: Protocol,
        row: &Row,
        asks: Asks,
    ) -> Recognition {
        match asks {
            Asks::NeedBody => Recognition::NeedBody,
            Asks::Of(asks) => Recognition::Operation(Operation {
                service: Name::clone(&service.signing),
                name: Some(Name::clone(&row.name)),
                region: Name::clone(&self.region),
                protocol,
                asks,
            }),
        }
    }

    /// An operation that the atlas does not know, of every service it could be of.
    pub(super) fn unknown(&self, of: Option<(&Service, Protocol)>) -> Recognition {
        let (service, protocol) = of.unwrap_or_else(|| (self.candidates[0], self.candidates[0].protocols[0]));
        let mut asks = Vec::with_capacity(1);
        let services: Vec<&Service> = if of.is_some() { vec![service] } else { self.candidates.clone() };
        for service in services {
            let ask = Ask { action: Action::Unknown(Name::clone(&service.iam)), resource: Resource::Unknown };
            if !asks.contains(&ask) {
                asks.push(ask);
            }
        }
        Recognition::Operation(Operation {
            service: Name::clone(&service.signing),
            name: None,
            region: Name::clone(&self.region),
            protocol,
            asks,
        })
    }

    /// The body is compressed or chunk-signed: not what it says at face value.
    pub(super) fn is_encoded(&self) -> bool {
        let plain = |value: &[u8]| value.is_empty() || value.eq_ignore_ascii_case(b"identity");
        let streaming = |value: &[u8]| value.starts_with(b"STREAMING-");
        !self.head.all("content-encoding").all(plain) || self.head.all("x-amz-content-sha256").any(streaming)
    }

    /// Account for an ARN whose request names none.
    pub(super) fn account(&self) -> Option<AccountId> {
        self.endpoint.account().or(self.signer_account)
    }

    pub(super) fn candidate(&self, name: &str) -> Option<&'a Service> {
        self.candidates.iter().copied().find(|s| &*s.name == name)
    }
}

/// A parameter that may stand in the query or in the form, once: the outer `None` where it is not clear.
fn one<'p>(query: &'p Pairs<'_>, form: &'p Pairs<'_>, name: &str) -> Option<Option<&'p str>> {
    match (query.find(name), form.find(name)) {
        (Found::No, Found::No) => Some(None),
        (Found::Once(value), Found::No) | (Found::No, Found::Once(value)) => Some(Some(value)),
        _ => None,
    }
}
