//! Which service a host name belongs to: parsed from the right, by the file's rows.
//!
//! Comes first: a host that looks like AWS and is no row is unknown, and a name that anybody can rent is not AWS.
//! A row's key is the name before its partition's suffix, the region written `R`, S3 Express's zone `ZONE`; what may
//! stand before the key (bucket, account, access point) is the row's `left`.

use std::sync::Arc;

use super::data::{Atlas, AtlasError, Otherwise, Partition, Suffix, list};
use super::rented::Rented;
use crate::engine::facts::{AccountId, Name};
use crate::engine::target::{Authority, Host};

/// More labels than a name of AWS has; a bucket has at most 32.
const MAX_LABELS: usize = 48;

/// Services whose endpoints speak HTTP/2: those that botocore's models say so of (`protocolSettings`), and the
/// streaming ones of Transcribe and CloudWatch Logs.
const HTTP2: [&str; 9] = [
    "bedrock-runtime",
    "healthlake",
    "kinesis",
    "polly",
    "qbusiness",
    "runtime-v2-lex",
    "streaming-logs",
    "training-session-runtime",
    "transcribestreaming",
];

/// What a host is.
#[derive(Debug, Clone)]
pub enum HostKind {
    /// An AWS service's API.
    Service(Endpoint),
    /// A name under AWS's domains that anybody can rent from that service: EC2, ELB, API Gateway, CloudFront, …
    /// Not AWS's voice: judged as a third party, but for what is signed for it.
    Rented(Rented),
    /// Under AWS's domains, and nothing is known of it: to be denied.
    UnknownAws,
    Outside,
}

/// A host that belongs to a service. Cheap to clone: a connection may keep it.
#[derive(Clone)]
pub struct Endpoint {
    pub(super) entry: &'static HostEntry,
    pub(super) style: Style,
    host: Name,
    /// `host[..left]` stands before the key.
    left: u8,
    pub(super) partition: &'static Partition,
    /// The region in its name.
    region: Option<Name>,
    /// Account id in its name.
    account: Option<AccountId>,
}

/// A row of the file.
#[derive(Debug)]
pub(super) struct HostEntry {
    pub key: &'static str,
    left: Left,
    /// What stands before the key is rented from this service.
    rented: Option<&'static str>,
    /// Indexes of services, the one of that name first.
    pub services: Vec<u16>,
    /// Services a credential scope may name.
    scopes: Vec<&'static str>,
    /// Its own region is in the set.
    own_region: bool,
    any_region: bool,
    regions: Vec<&'static str>,
}

/// What may stand before a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Twelve digits.
    Account,
    /// One or two labels of any kind.
    Label,
    S3(Style),
}

/// How a host addresses what is in S3. [`Style::Plain`] for every other service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Nothing before the key: S3 buckets are in the path.
    Plain,
    Bucket,
    AccessPoint,
    MultiRegion,
    ObjectLambda,
    Outpost,
    /// A directory bucket, at its zone's endpoint.
    Express,
    /// Control of directory buckets; bucket in the path.
    ExpressControl,
}

impl HostEntry {
    /// `key left rented services scopes regions`.
    pub(super) fn parse(fields: [&'static str; 6], services: usize) -> Result<Self, AtlasError> {
        let [key, left, rented, ids, scopes, regions] = fields;
        let left = match left {
            "-" => Left::Nothing,
            "account" => Left::Account,
            "label" => Left::Label,
            "bucket" => Left::S3(Style::Bucket),
            "access-point" => Left::S3(Style::AccessPoint),
            "multi-region" => Left::S3(Style::MultiRegion),
            "object-lambda" => Left::S3(Style::ObjectLambda),
            "outpost" => Left::S3(Style::Outpost),
            "express" => Left::S3(Style::Express),
            "express-control" => Left::S3(Style::ExpressControl),
            _ => return Err(AtlasError::Damaged("unknown kind of host")),
        };
        let ids = list(ids).map(str::parse).collect::<Result<Vec<u16>, _>>();
        let ids = ids.ok().filter(|ids| ids.iter().all(|&id| usize::from(id) < services));
        Ok(Self {
            key,
            left,
            rented: Some(rented).filter(|&r| r != "-"),
            services: ids.ok_or(AtlasError::Damaged("host of no service"))?,
            scopes: list(scopes).collect(),
            own_region: list(regions).any(|r| r == "="),
            any_region: list(regions).any(|r| r == "*"),
            regions: list(regions).filter(|r| !["=", "*"].contains(r)).collect(),
        })
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({} by {})", self.host, self.entry.key)
    }
}

impl Endpoint {
    /// The credential scope's service and region are in the set that this host takes. For SigV4A give each region of
    /// the signed region set; `*` fits where the host is of many regions.
    pub fn allows_scope(&self, service: &str, region: &str) -> bool {
        let entry = self.entry;
        let region_fits = (entry.own_region && self.region.as_deref() == Some(region))
            || (entry.regions.contains(&region) && self.partition.has_region(region))
            || (entry.any_region && (region == "*" || self.partition.has_region(region)));
        region_fits && entry.scopes.contains(&service)
    }

    /// It speaks HTTP/2 beside HTTP/1.1.
    pub fn speaks_http2(&self) -> bool {
        let service = self.entry.key.split('.').next().unwrap_or_default();
        HTTP2.contains(&service.strip_suffix("-fips").unwrap_or(service))
    }

    /// `aws`, `aws-cn`, `aws-us-gov`, … as ARNs write it.
    pub fn partition(&self) -> &'static str {
        self.partition.name
    }

    /// Region in the name; `None` for global and multi-region hosts.
    pub fn region(&self) -> Option<&Name> {
        self.region.as_ref()
    }

    /// S3 bucket in the name.
    pub fn bucket(&self) -> Option<&str> {
        matches!(self.style, Style::Bucket | Style::Express).then(|| self.left())
    }

    /// Account id in the name: of DynamoDB, Kinesis and S3 Control endpoints, and of access points.
    pub fn account(&self) -> Option<AccountId> {
        self.account
    }

    /// What stands before the service's part: bucket, access point and account, stream id.
    pub(super) fn left(&self) -> &str {
        &self.host[..usize::from(self.left)]
    }

    /// The region that asks are made in: of the scope where it is signed, else the host's own, else where the
    /// partition's global services are.
    pub(super) fn region_of(&self, scope_region: Option<&str>) -> Name {
        match (scope_region, &self.region) {
            (Some(scope), Some(own)) if scope != &**own => scope.into(),
            (_, Some(own)) => Arc::clone(own),
            (Some(scope), None) => self.partition.region(scope),
            (None, None) => {
                let listed = self.entry.regions.iter().find(|r| self.partition.has_region(r));
                self.partition.region(listed.copied().unwrap_or(self.partition.implicit_region))
            }
        }
    }
}

/// A name before its suffix, cut into labels and written as keys are.
struct Shape<'h> {
    key: String,
    /// Where each label begins: in `key`, and in the host.
    labels: Vec<(u8, u8)>,
    region: Option<(&'h str, &'static Partition)>,
}

impl Atlas {
    /// What a host is. Pure lookups: cheap enough for every request, cheaper kept for a connection.
    pub fn host(&'static self, host: &Host) -> HostKind {
        let Host::Name(name) = host else { return HostKind::Outside };
        let Some(suffix) = self.suffix_of(name) else { return HostKind::Outside };
        let found = self.look_up(name, suffix);
        match found {
            Some(kind) => kind,
            None if suffix.otherwise == Otherwise::Outside => HostKind::Outside,
            None => HostKind::UnknownAws,
        }
    }

    /// The STS endpoint, and its region, beside another endpoint: in the region that was asked for, else where the
    /// partition's global services are.
    pub fn sts_of(&'static self, beside: &HostKind, region: &str) -> Option<(Authority, Name)> {
        let partition = match beside {
            HostKind::Service(endpoint) => endpoint.partition,
            HostKind::Rented(rented) => rented.partition?,
            HostKind::UnknownAws | HostKind::Outside => return None,
        };
        let region = if partition.has_region(region) { region } else { partition.implicit_region };
        let suffixes = self.suffixes.iter().filter(|suffix| suffix.otherwise == Otherwise::Partition);
        let mut hosts = suffixes.map(|suffix| format!("sts.{region}.{}:443", suffix.text));
        let sts = hosts.find_map(|host| {
            let target = Authority::parse(&host, None).ok()?;
            let HostKind::Service(sts) = self.host(&target.host) else { return None };
            let here = sts.partition() == partition.name && sts.allows_scope("sts", region);
            here.then_some(target)
        });
        Some((sts?, partition.region(region)))
    }

    fn suffix_of(&self, name: &str) -> Option<&Suffix> {
        let ends = |s: &&Suffix| {
            name.strip_suffix(s.text).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        self.suffixes.iter().filter(ends).max_by_key(|s| s.text.len())
    }

    fn look_up(&'static self, name: &Name, suffix: &Suffix) -> Option<HostKind> {
        let body = match suffix.otherwise {
            Otherwise::Partition => name.strip_suffix(suffix.text)?.strip_suffix('.')?,
            Otherwise::Unknown | Otherwise::Outside => &**name,
        };
        if let Some(inner) = body.strip_suffix(".vpce") {
            return self.look_up_vpce(name, inner, suffix);
        }
        let shape = self.shape(body, suffix)?;
        let at = (0..shape.labels.len())
            .find_map(|at| Some((at, self.entry(&shape.key[usize::from(shape.labels[at].0)..])?)));
        let (skipped, entry) = at?;
        let left = usize::from(shape.labels[skipped].1).saturating_sub(1);
        self.endpoint(name, &shape, entry, left, suffix)
    }

    fn entry(&'static self, key: &str) -> Option<&'static HostEntry> {
        self.hosts.binary_search_by(|entry| entry.key.cmp(key)).ok().map(|at| &self.hosts[at])
    }

    /// `body` with its rightmost region as `R`; also S3's old `s3-REGION`, and zones.
    fn shape<'h>(&'static self, body: &'h str, suffix: &Suffix) -> Option<Shape<'h>> {
        let texts: Vec<&str> = body.split('.').collect();
        if texts.len() > MAX_LABELS {
            return None;
        }
        let found = texts.iter().enumerate().rev();
        let mut found =
            found.filter_map(|(at, text)| Some((at, self.region_partition(text, &suffix.partitions)?)));
        let region_at = found.next();
        let mut shape = Shape {
            key: String::with_capacity(body.len() + 4),
            labels: Vec::with_capacity(texts.len()),
            region: region_at.map(|(at, partition)| (texts[at], partition)),
        };
        let mut start = 0;
        for (at, text) in texts.iter().enumerate() {
            if at > 0 {
                shape.key.push('.');
            }
            // A name is at most 253 long.
            shape.labels.push((shape.key.len() as u8, start as u8));
            start += text.len() + 1;
            if region_at.is_some_and(|(region, _)| region == at) {
                shape.key.push('R');
            } else if let Some((head, region)) = self.dashed_region(text).filter(|_| at + 1 == texts.len()) {
                let partition = self.region_partition(region, &suffix.partitions)?;
                shape.region = Some((region, partition));
                shape.key.push_str(head);
            } else if text.starts_with("s3express-") && !text.starts_with("s3express-control") {
                shape.key.push_str("s3express-ZONE");
            } else {
                shape.key.push_str(text);
            }
        }
        Some(shape)
    }

    /// `s3-eu-west-1` and its like: the key's words and the region.
    fn dashed_region<'t>(&self, label: &'t str) -> Option<(&'static str, &'t str)> {
        let forms = [("s3-website-", "s3-website-R"), ("s3-fips-", "s3-fips.R"), ("s3-", "s3.R")];
        let all: Vec<u8> = (0..self.partitions.len() as u8).collect();
        if !label.starts_with("s3-") {
            return None;
        }
        forms.iter().find_map(|(head, key)| {
            let region = label.strip_prefix(head)?;
            self.region_partition(region, &all).map(|_| (*key, region))
        })
    }

    fn endpoint(
        &'static self,
        name: &Name,
        shape: &Shape<'_>,
        entry: &'static HostEntry,
        left: usize,
        suffix: &Suffix,
    ) -> Option<HostKind> {
        let before = &name[..left];
        if !before.is_empty()
            && let Some(service) = entry.rented
            && entry.left == Left::Nothing
        {
            return Some(HostKind::Rented(Rented::named(service, before, shape.region)));
        }
        if entry.services.is_empty() {
            return None;
        }
        let mut account = None;
        let style = match entry.left {
            Left::S3(Style::ExpressControl) if before.is_empty() => Style::ExpressControl,
            // Access points, outposts and zones have no service of their own at the bare name.
            Left::S3(Style::Bucket) | Left::Nothing | Left::Account | Left::Label if before.is_empty() => {
                Style::Plain
            }
            Left::S3(Style::Outpost) if before.is_empty() => Style::Plain,
            Left::Account => {
                account = Some(AccountId::parse(before)?);
                Style::Plain
            }
            Left::Label if before.split('.').count() <= 2 => {
                account = AccountId::parse(before);
                Style::Plain
            }
            Left::S3(style) => {
                account = s3_account(style, before)?;
                style
            }
            Left::Nothing | Left::Label => return None,
        };
        let partition = match shape.region {
            Some((_, partition)) if entry.key.contains('R') => partition,
            _ => self.partition_of(entry, suffix)?,
        };
        let region = shape.region.filter(|_| entry.key.contains('R')).map(|(r, p)| p.region(r));
        let left = left as u8;
        Some(HostKind::Service(Endpoint {
            entry,
            style,
            host: Arc::clone(name),
            left,
            partition,
            region,
            account,
        }))
    }

    /// Partition of a name without a region: the one its regions are in, else the suffix's first.
    fn partition_of(&'static self, entry: &HostEntry, suffix: &Suffix) -> Option<&'static Partition> {
        let of_suffix = || suffix.partitions.iter().map(|&at| &self.partitions[usize::from(at)]);
        let listed = of_suffix().find(|p| entry.regions.iter().any(|r| p.has_region(r)));
        // A global name of another partition's regions only is nobody's here.
        listed.or_else(|| {
            of_suffix().next().filter(|_| entry.regions.is_empty() || entry.any_region || entry.own_region)
        })
    }

    /// `vpce-ID.SERVICE.R.vpce`: an interface endpoint of a service; S3's have `bucket`, `accesspoint` or `control`
    /// and what is before it in front.
    fn look_up_vpce(&'static self, name: &Name, body: &str, suffix: &Suffix) -> Option<HostKind> {
        let shape = self.shape(body, suffix)?;
        let labels = || body.split('.');
        let id = labels().position(|l| l.starts_with("vpce-") && !l.starts_with("vpce-svc-"))?;
        if labels().nth(id + 1)?.starts_with("vpce-svc-") {
            return Some(HostKind::Rented(Rented::named("vpce", "", None)));
        }
        let key = &shape.key[usize::from(shape.labels.get(id + 1)?.0)..];
        let entry = self.entry(key)?;
        if entry.services.is_empty() {
            // Which one it is, is said elsewhere in the request.
            return entry.rented.map(|service| HostKind::Rented(Rented::named(service, "", shape.region)));
        }
        let before = &body[..usize::from(shape.labels[id].1).saturating_sub(1)];
        if entry.left != Left::S3(Style::Bucket) {
            return if before.is_empty() { self.endpoint(name, &shape, entry, 0, suffix) } else { None };
        }
        let (inner, kind) = before.rsplit_once('.').unwrap_or(("", before));
        let (key, left) = match kind {
            "bucket" => ("s3.R", inner),
            "accesspoint" if !inner.is_empty() => ("s3-accesspoint.R", inner),
            "control" => ("s3-control.R", inner),
            _ => return None,
        };
        self.endpoint(name, &shape, self.entry(key)?, left.len(), suffix)
    }
}

/// Checks what stands before an S3 key; the outer `None` refuses it.
fn s3_account(style: Style, before: &str) -> Option<Option<AccountId>> {
    match style {
        Style::Bucket => is_bucket(before).then_some(None),
        Style::Express => {
            (is_bucket(before) && before.ends_with("--x-s3") && !before.contains('.')).then_some(None)
        }
        Style::AccessPoint => Some(Some(point_account(before).filter(|_| !before.contains('.'))?)),
        Style::MultiRegion => {
            let plain = before.ends_with(".mrap") && before.split('.').count() == 2;
            plain.then_some(None)
        }
        // An access point, or the route of WriteGetObjectResponse.
        Style::ObjectLambda => (!before.is_empty() && !before.contains('.')).then(|| point_account(before)),
        Style::Outpost => {
            let (point, _) = before.split_once('.').filter(|(_, outpost)| !outpost.contains('.'))?;
            Some(point_account(point))
        }
        Style::Plain | Style::ExpressControl => None,
    }
}

/// `NAME-123456789012`.
fn point_account(label: &str) -> Option<AccountId> {
    let (name, account) = label.rsplit_once('-')?;
    AccountId::parse(account).filter(|_| !name.is_empty())
}

/// A bucket's name as a host can carry it (S3 user guide, bucket naming rules).
pub(super) fn is_bucket(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(b))
        && edge(bytes.first())
        && edge(bytes.last())
}

#[cfg(test)]
mod tests;
