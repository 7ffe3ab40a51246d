//! Names that anybody can rent from AWS, and the two whose calls AWS itself authorises by signature: API Gateway's
//! `execute-api` and Lambda's function URLs. A signed call to one of these is an IAM action.
//!
//! Whose the API is, its name does not tell: the ARN has no account.

use super::data::Partition;
use super::query::hides_plain_bytes;
use crate::engine::facts::{Action, Ask, Name, Operation, Protocol, Resource};
use crate::engine::pieces::pieces;
use crate::engine::reason::Reason;
use crate::engine::request::RequestHead;

/// A rented name. Cheap to clone: a connection may keep it.
#[derive(Clone)]
pub struct Rented {
    /// Whom it is rented from, as the atlas calls it.
    pub(super) service: &'static str,
    /// What stands before the service's part.
    pub(super) label: Name,
    pub(super) partition: Option<&'static Partition>,
    pub(super) region: Option<Name>,
}

impl std::fmt::Debug for Rented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rented({} from {})", self.label, self.service)
    }
}

/// What AWS authorises there by signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plane {
    Api,
    FunctionUrl,
}

impl Rented {
    pub(super) fn named(
        service: &'static str,
        label: &str,
        place: Option<(&str, &'static Partition)>,
    ) -> Self {
        let (region, partition) = place.unzip();
        let region = region.zip(partition).map(|(region, partition)| partition.region(region));
        Self { service, label: label.into(), partition, region }
    }

    fn plane(&self) -> Option<Plane> {
        match self.service {
            "execute-api" => Some(Plane::Api),
            "lambda" => Some(Plane::FunctionUrl),
            _ => None,
        }
        .filter(|_| self.region.is_some() && self.partition.is_some())
    }

    /// IAM's prefix of the calls that are signed for it, which is the scope's service too; `None`: AWS looks at no
    /// signature there.
    pub fn signs_as(&self) -> Option<&'static str> {
        self.plane().map(|_| self.service)
    }

    pub fn region(&self) -> Option<&Name> {
        self.region.as_ref()
    }

    /// The credential scope names this service, in the region of the name; version 4A's set may hold others too.
    pub fn allows_scope(&self, service: &str, regions: &str) -> bool {
        let own = self.region.as_deref();
        let covers = |region: &str| match region.strip_suffix('*') {
            Some(start) => own.is_some_and(|own| own.starts_with(start)),
            None => own == Some(region),
        };
        self.signs_as() == Some(service) && pieces(regions, b',').any(covers)
    }

    /// What the call may be. An API's first path segment is its stage, or there is none in the path and the stage is
    /// called `$default`: which of the two, only its owner knows.
    pub fn readings(&self, head: &RequestHead) -> Result<Vec<Operation>, (Reason, &'static str)> {
        let (Some(plane), Some(partition), Some(region)) = (self.plane(), self.partition, &self.region)
        else {
            return Err((Reason::SigV4Unsupported, "AWS looks at no signature at this name"));
        };
        let operation = |name: &str, action: &str, resource: Resource| Operation {
            service: self.service.into(),
            name: Some(name.into()),
            region: Name::clone(region),
            protocol: Protocol::RestJson,
            asks: vec![Ask { action: Action::Known(action.into()), resource }],
        };
        let path = head.path().strip_prefix('/').unwrap_or_default();
        let whole = path.strip_suffix('/').unwrap_or(path);
        if whole.split('/').any(|part| matches!(part, "." | ".."))
            || (!whole.is_empty() && whole.split('/').any(str::is_empty))
            || hides_plain_bytes(path)
        {
            return Err((Reason::RequestPath, "a segment of the path can be read in two ways"));
        }
        if plane == Plane::FunctionUrl {
            // Which function it is, the name does not tell.
            return Ok(vec![operation("InvokeFunctionUrl", "lambda:InvokeFunctionUrl", Resource::Unknown)]);
        }
        // `API-vpce-ID` is the API through an endpoint of a network.
        let api = self.label.split_once("-vpce-").map_or(&*self.label, |(api, _)| api);
        let named = !api.is_empty() && api.bytes().all(|b| b.is_ascii_alphanumeric());
        let on = |stage: &str, rest: &str| {
            let manages = rest == "@connections" || rest.starts_with("@connections/");
            let (name, action) = if manages {
                ("ManageConnections", "execute-api:ManageConnections")
            } else {
                ("Invoke", "execute-api:Invoke")
            };
            if !named {
                return operation(name, action, Resource::Unknown);
            }
            let route = if head.asks_websocket() && rest.is_empty() {
                "$connect".to_owned()
            } else {
                format!("{}/{rest}", head.method())
            };
            let arn = format!("arn:{}:execute-api:{region}::{api}/{stage}/{route}", partition.name);
            operation(name, action, Resource::Arn { arn, account: None })
        };
        let by_default = on("$default", path);
        Ok(match path.split_once('/') {
            _ if path.is_empty() => vec![by_default],
            Some((stage, rest)) => vec![on(stage, rest), by_default],
            None => vec![on(path, ""), by_default],
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::atlas::{Atlas, HostKind};
    use crate::engine::facts::Resource;
    use crate::engine::request::RequestHead;

    fn readings(host: &str, target: &str) -> Result<Vec<String>, String> {
        let head =
            RequestHead::parse(format!("POST {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into()).unwrap();
        let HostKind::Rented(rented) = Atlas::built_in().host(&head.authority().host) else {
            panic!("{host}")
        };
        let told = |operation: &super::Operation| {
            let ask = &operation.asks[0];
            match &ask.resource {
                Resource::Arn { arn, account: None } => format!("{} {arn}", ask.action),
                other => format!("{} {other:?}", ask.action),
            }
        };
        let read = rented.readings(&head).map_err(|(_, said)| said.to_owned())?;
        Ok(read.iter().map(told).collect())
    }

    #[test]
    fn an_apis_call_is_read_with_its_stage_in_the_path_and_without() {
        let host = "abc123.execute-api.eu-west-1.amazonaws.com";
        let arn = |rest: &str| format!("execute-api:Invoke arn:aws:execute-api:eu-west-1::abc123/{rest}");
        for (target, stage, by_default) in [
            ("/prod/pets/7?a=b", "prod/POST/pets/7", "$default/POST/prod/pets/7"),
            ("/prod/", "prod/POST/", "$default/POST/prod/"),
            ("/prod", "prod/POST/", "$default/POST/prod"),
        ] {
            assert_eq!(readings(host, target).unwrap(), [arn(stage), arn(by_default)], "{target}");
        }
        assert_eq!(readings(host, "/").unwrap(), [arn("$default/POST/")]);
        assert_eq!(
            readings("abc123-vpce-0a1b.execute-api.eu-west-1.amazonaws.com", "/").unwrap(),
            [arn("$default/POST/")]
        );
        let managed = readings(host, "/prod/@connections/x=").unwrap();
        assert_eq!(managed[0], arn("prod/POST/@connections/x=").replace("Invoke", "ManageConnections"));
        for target in ["/prod/../x", "/prod//x", "/prod/%61", "/./x"] {
            assert!(readings(host, target).is_err(), "{target}");
        }
    }

    #[test]
    fn what_the_name_does_not_tell_is_unknown_and_other_names_are_nothing_to_sign_for() {
        let url = readings("abc.lambda-url.us-east-1.on.aws", "/x").unwrap();
        assert_eq!(url, ["lambda:InvokeFunctionUrl Unknown"]);
        let endpoint = readings("vpce-1a-2b.execute-api.us-east-1.vpce.amazonaws.com", "/prod/x").unwrap();
        assert_eq!(endpoint[0], "execute-api:Invoke Unknown");
        for host in ["d111111abcdef8.cloudfront.net", "evil-123456.us-east-1.elb.amazonaws.com", "x.on.aws"] {
            assert!(readings(host, "/x").is_err(), "{host}");
        }
    }

    #[test]
    fn the_scope_is_of_the_service_and_region_in_the_name() {
        let host =
            crate::engine::target::Authority::parse("abc.execute-api.us-east-1.amazonaws.com", Some(443))
                .unwrap()
                .host;
        let HostKind::Rented(rented) = Atlas::built_in().host(&host) else { panic!() };
        for (service, regions, fits) in [
            ("execute-api", "us-east-1", true),
            ("execute-api", "eu-west-1,us-*", true),
            ("execute-api", "*", true),
            ("execute-api", "eu-west-1", false),
            ("lambda", "us-east-1", false),
            ("s3", "us-east-1", false),
        ] {
            assert_eq!(rented.allows_scope(service, regions), fits, "{service} {regions}");
        }
    }
}
