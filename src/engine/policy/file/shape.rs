//! What keys a policy has, in one table: the reader goes by it, and the JSON Schema and `docs/policy.md` are written
//! from it.

/// A mapping's keys, in the order in which the reader takes them.
pub type Fields<const N: usize> = [Field; N];

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub required: bool,
    /// One sentence for who writes it.
    pub about: &'static str,
}

/// What stands at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Version,
    Default,
    Perimeter,
    Accounts,
    Orgs,
    Addresses,
    Statements,
    Id,
    Effect,
    Actions,
    Resources,
    Http,
    When,
    Mode,
    Date,
    Tunnel,
    Host,
    Port,
    Duration,
    Size,
    Ech,
    Upstream,
    UpstreamTls,
    Alpn,
    Hosts,
    Methods,
    Paths,
    /// Of a later version: told as such, and in no schema.
    Later,
}

const fn required(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, required: true, about }
}

const fn optional(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, required: false, about }
}

pub const POLICY: Fields<6> = [
    required("version", Shape::Version, "1."),
    optional(
        "default",
        Shape::Default,
        "What happens to a call that no statement names: `deny` refuses it; `report` lets it pass and records it.",
    ),
    optional(
        "perimeter",
        Shape::Perimeter,
        "Whose keys may sign and whose resources may be called, whatever a statement says.",
    ),
    optional(
        "orgs",
        Shape::Orgs,
        "Organisation ids, each with its account ids: names to use in `perimeter`.",
    ),
    optional(
        "addresses",
        Shape::Addresses,
        "Private ranges that a host may resolve into, such as those of VPC endpoints.",
    ),
    required("statements", Shape::Statements, "What is allowed and what is denied, in any order."),
];

pub const PERIMETER: Fields<2> = [
    optional("signers", Shape::Accounts, "Accounts whose keys may sign; without it, `self`."),
    optional("resources", Shape::Accounts, "Accounts whose resources may be called; without it, any."),
];

pub const STATEMENT: Fields<12> = [
    required(
        "id",
        Shape::Id,
        "Its name, in records and refusals: letters, digits, `-`, `_`, `.`; at most 64, and no other statement's.",
    ),
    required("effect", Shape::Effect, "`allow` or `deny`. A deny wins over every allow."),
    optional(
        "action",
        Shape::Actions,
        "IAM actions, with `*` and `?` in the name; `service:@LEVEL` for those of one access level; `\"*\"` for all of AWS.",
    ),
    optional(
        "resource",
        Shape::Resources,
        "ARNs with `*` and `?`, `self` for our accounts, or `\"*\"`. Goes with `action`.",
    ),
    optional("http", Shape::Http, "Requests to what is no AWS service. In place of `action`."),
    optional(
        "tunnel",
        Shape::Tunnel,
        "A host and port whose bytes pass unread, for clients that pin certificates; the floor is held by reading both hellos. In place of `action`.",
    ),
    optional("when", Shape::When, "Conditions; all must hold."),
    optional("mode", Shape::Mode, "`report`: recorded as what it would have done, and does nothing."),
    optional("expires", Shape::Date, "Last day on which an allow stands, UTC: `2026-12-31`."),
    optional("upstream", Shape::Upstream, "What the connection to the origin must be."),
    optional("inject", Shape::Later, "A secret that is added to the request."),
    optional(
        "alpn",
        Shape::Alpn,
        "`h2`: its clients are offered HTTP/2 at once, not only after the origin was seen to speak it. Goes with `http`.",
    ),
];

pub const HTTP: Fields<4> = [
    required(
        "host",
        Shape::Hosts,
        "Hosts; `*` is exactly one label, `**.` in front one or more; a port other than 443 is written.",
    ),
    optional("method", Shape::Methods, "Methods in capitals; without it, any."),
    optional("path", Shape::Paths, "Paths with `*` and `?`, without the query; without it, any."),
    optional("originate_tls", Shape::Later, "TLS begun by us."),
];

pub const TUNNEL: Fields<6> = [
    required("host", Shape::Host, "One host, without wildcards."),
    optional("port", Shape::Port, "Its port; without it, 443."),
    optional(
        "idle",
        Shape::Duration,
        "Ends a tunnel in which nothing went either way for so long; without it, `10m`.",
    ),
    optional("life", Shape::Duration, "Ends a tunnel that old; without it, `24h`."),
    optional(
        "bytes",
        Shape::Size,
        "Ends a tunnel that carried more than so much, both ways together; without it, no limit.",
    ),
    optional(
        "ech",
        Shape::Ech,
        "`pass` lets an encrypted ClientHello through, where the client's is known to be GREASE; without it, `refuse`.",
    ),
];

pub const UPSTREAM: Fields<3> = [
    optional(
        "tls",
        Shape::UpstreamTls,
        "`\">=1.3\"`: the origin must speak TLS 1.3. Below 1.2 nothing leaves anyway.",
    ),
    optional(
        "idle",
        Shape::Duration,
        "How long an answer, or a WebSocket, may be silent: `30s`, `10m`. Without it `limits.response_head`, 15 minutes, and of a WebSocket 10.",
    ),
    optional(
        "life",
        Shape::Duration,
        "How long an answer, or a WebSocket, may last: `1h`. Without it an answer as long as it flows, a WebSocket for a day.",
    ),
];

impl Shape {
    /// What a value must look like, after "want".
    pub const fn want(self) -> &'static str {
        match self {
            Self::Version => "1",
            Self::Default => "deny or report",
            Self::Perimeter => "a mapping with signers, resources",
            Self::Accounts => "account ids (twelve digits, quoted), self or organisation ids",
            Self::Orgs => "a mapping of organisation ids to lists of account ids",
            Self::Addresses => "a mapping of hosts to address ranges",
            Self::Statements => "a list of statements",
            Self::Id => "at most 64 letters, digits, `-`, `_` and `.`",
            Self::Effect => "allow or deny",
            Self::Actions => "an action like s3:GetObject, or a list",
            Self::Resources => "an ARN or \"*\", or a list",
            Self::Http => "a mapping with host, method, path",
            Self::When => "a mapping of keys to values",
            Self::Mode => "report",
            Self::Date => "a date like 2026-12-31",
            Self::Tunnel => "a mapping with host, port, idle, life, bytes, ech",
            Self::Host => "one host name",
            Self::Port => "a port from 1 to 65535",
            Self::Duration => "a time like 10m or 24h, a week at most",
            Self::Size => "a size like 512MiB",
            Self::Ech => "refuse or pass",
            Self::Upstream => "a mapping with tls",
            Self::UpstreamTls => "\">=1.2\" or \">=1.3\"",
            Self::Alpn => "h2",
            Self::Hosts => "a host, or a list",
            Self::Methods => "a method in capitals, or a list",
            Self::Paths => "a path, or a list",
            Self::Later => "nothing",
        }
    }
}
