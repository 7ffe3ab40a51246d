//! Why a request or a connection was refused: one closed set of codes.
//!
//! A code is public: it stands in messages, audit lines, metrics and the `exeat-verdict` header, and `explain CODE`
//! prints its page. Families: `tls sigv4 target policy request limit upstream`.

use super::facts::words;

words! {
    pub enum Reason {
        TlsPlaintext = "tls.plaintext",
        TlsNotTls = "tls.not_tls",
        TlsBelowFloor = "tls.below_floor",
        TlsNoSni = "tls.no_sni",
        TlsHandshake = "tls.handshake",
        TlsClientDistrusts = "tls.client_distrusts",
        TlsEch = "tls.ech",
        SigV4Unsigned = "sigv4.unsigned",
        SigV4Malformed = "sigv4.malformed",
        SigV4TwoForms = "sigv4.two_forms",
        SigV4Version2 = "sigv4.version_2",
        SigV4Unsupported = "sigv4.unsupported",
        SigV4Scope = "sigv4.scope",
        SigV4ScopeHost = "sigv4.scope_host",
        SigV4UnsignedHeader = "sigv4.unsigned_header",
        SigV4Path = "sigv4.path",
        SigV4Skew = "sigv4.skew",
        SigV4Expired = "sigv4.expired",
        SigV4UnknownKey = "sigv4.unknown_key",
        SigV4Token = "sigv4.token",
        SigV4Signature = "sigv4.signature",
        SigV4Payload = "sigv4.payload",
        SigV4Perimeter = "sigv4.perimeter",
        SigV4Repeated = "sigv4.repeated",
        TargetMalformed = "target.malformed",
        TargetMismatch = "target.mismatch",
        TargetLiteral = "target.literal",
        TargetAddress = "target.address",
        TargetPort = "target.port",
        TargetUnknownAws = "target.unknown_aws",
        PolicyNoMatch = "policy.no_match",
        PolicyDenied = "policy.denied",
        PolicyPerimeter = "policy.perimeter",
        RequestMalformed = "request.malformed",
        RequestFraming = "request.framing",
        RequestTooLarge = "request.too_large",
        RequestExpectation = "request.expectation",
        RequestUpgrade = "request.upgrade",
        RequestMethod = "request.method",
        RequestPath = "request.path",
        RequestAmbiguous = "request.ambiguous",
        RequestProxyPassword = "request.proxy_password",
        RequestTimeout = "request.timeout",
        RequestAborted = "request.aborted",
        LimitAudit = "limit.audit",
        LimitInspect = "limit.inspect",
        LimitConnections = "limit.connections",
        LimitOrigin = "limit.origin",
        LimitDials = "limit.dials",
        LimitDraining = "limit.draining",
        LimitTunnel = "limit.tunnel",
        LimitStream = "limit.stream",
        LimitStreams = "limit.streams",
        LimitTunnels = "limit.tunnels",
        LimitLookups = "limit.lookups",
        LimitFlood = "limit.flood",
        UpstreamResolve = "upstream.resolve",
        UpstreamConnect = "upstream.connect",
        UpstreamTimeout = "upstream.timeout",
        UpstreamBelowFloor = "upstream.below_floor",
        UpstreamCertificate = "upstream.certificate",
        UpstreamClientCertificate = "upstream.client_certificate",
        UpstreamNotTls = "upstream.not_tls",
        UpstreamTls = "upstream.tls",
        UpstreamProxy = "upstream.proxy",
        UpstreamProtocol = "upstream.protocol",
        UpstreamClosed = "upstream.closed",
        UpstreamReset = "upstream.reset",
        UpstreamIdentity = "upstream.identity",
        Internal = "internal.error",
    }
}

impl Reason {
    /// HTTP status of the refusal: 403 for what we refuse, an origin below the floor, without TLS or with a bad certificate
    /// too; 400 only for what doesn't parse, 503 for our own shortage, 502 and 504 only when the network or the origin
    /// failed (SDKs retry on those three).
    pub const fn status(self) -> u16 {
        match self {
            Self::RequestMalformed | Self::RequestFraming | Self::RequestUpgrade | Self::TargetMalformed => {
                400
            }
            Self::RequestProxyPassword => 407,
            Self::RequestTimeout => 408,
            Self::RequestExpectation => 417,
            Self::RequestTooLarge => 431,
            Self::LimitAudit
            | Self::LimitInspect
            | Self::LimitConnections
            | Self::LimitOrigin
            | Self::LimitDials
            | Self::LimitStreams
            | Self::LimitTunnels
            | Self::LimitLookups
            | Self::LimitDraining => 503,
            Self::UpstreamResolve
            | Self::UpstreamConnect
            | Self::UpstreamClientCertificate
            | Self::UpstreamTls
            | Self::UpstreamProxy
            | Self::UpstreamProtocol
            | Self::UpstreamClosed
            | Self::UpstreamReset
            | Self::UpstreamIdentity => 502,
            Self::UpstreamTimeout => 504,
            Self::Internal | Self::RequestAborted => 500,
            _ => 403,
        }
    }

    /// Why, in words that teach neither the policy nor the signature: what the workload is told.
    pub const fn why(self) -> &'static str {
        match self {
            Self::TlsPlaintext => "plaintext never leaves; use https and CONNECT",
            Self::TlsNotTls => "what followed CONNECT was not TLS",
            Self::TlsBelowFloor => "the client offered less than TLS 1.2",
            Self::TlsNoSni => "the client named no host in its TLS hello",
            Self::TlsHandshake => "the TLS handshake failed",
            Self::TlsClientDistrusts => "the client does not trust this proxy's CA",
            Self::TlsEch => "an encrypted ClientHello hides where a tunnel leads",
            Self::SigV4Unsigned => "an AWS call must be signed with Signature Version 4",
            Self::SigV4Malformed => "the signature's fields are malformed",
            Self::SigV4TwoForms => "the request is signed twice",
            Self::SigV4Version2 => "Signature Version 2 is not accepted",
            Self::SigV4Unsupported => "this form of signature is not supported",
            Self::SigV4Scope => "the credential scope is malformed",
            Self::SigV4ScopeHost => "the credential scope does not belong to this endpoint",
            Self::SigV4UnsignedHeader => "a header that must be signed is not",
            Self::SigV4Path => "the path can be read in two ways",
            Self::SigV4Skew => "the signature's time is too far from the present",
            Self::SigV4Expired => "the signature has expired",
            Self::SigV4UnknownKey => "the access key is not known here",
            Self::SigV4Token => "the session token does not belong to the access key",
            Self::SigV4Signature => "the signature does not match the request",
            Self::SigV4Payload => "the body does not match what was signed or announced",
            Self::SigV4Perimeter => "the access key's account is outside the perimeter",
            Self::SigV4Repeated => "the same signed request came before",
            Self::TargetMalformed => "the destination is malformed",
            Self::TargetMismatch => "CONNECT, SNI and Host name different destinations",
            Self::TargetLiteral => "IP addresses are not destinations",
            Self::TargetAddress => "the destination has no address that may be dialled",
            Self::TargetPort => "no statement names this port",
            Self::TargetUnknownAws => "this AWS host name is not known",
            Self::PolicyNoMatch => "no statement allows it",
            Self::PolicyDenied => "a statement denies it",
            Self::PolicyPerimeter => "the resource's account is outside the perimeter",
            Self::RequestMalformed => "the request is malformed",
            Self::RequestFraming => "the body's length is ambiguous",
            Self::RequestTooLarge => "the request's head is too large",
            Self::RequestExpectation => "only 100-continue may be expected",
            Self::RequestUpgrade => "no upgrade but to WebSocket is supported",
            Self::RequestMethod => "this method is not forwarded",
            Self::RequestPath => "the path can be read in two ways",
            Self::RequestAmbiguous => "the operation is ambiguous",
            Self::RequestProxyPassword => "this proxy serves the child of one `exec`, which has its password",
            Self::RequestTimeout => "the request did not arrive in time",
            Self::RequestAborted => "the request broke off",
            Self::LimitAudit => "the audit record could not be written",
            Self::LimitInspect => "too many bodies are being inspected",
            Self::LimitConnections => "too many connections",
            Self::LimitOrigin => "all connections to this origin are in use",
            Self::LimitDials => "too many connections to origins are being made",
            Self::LimitDraining => "the proxy is shutting down",
            Self::LimitStream => "the stream reached one of its limits",
            Self::LimitFlood => "the connection sent too much that asks for nothing",
            Self::LimitTunnel => "the tunnel reached one of its limits",
            Self::LimitStreams => "too many requests at once on one connection",
            Self::LimitTunnels => "too many tunnels are open",
            Self::LimitLookups => "too many different names were looked up for this client",
            Self::UpstreamResolve => "the name did not resolve",
            Self::UpstreamConnect => "the connection to the origin failed",
            Self::UpstreamTimeout => "the origin did not answer in time",
            Self::UpstreamBelowFloor => "the origin speaks less than TLS 1.2",
            Self::UpstreamCertificate => "the origin's certificate was not accepted",
            Self::UpstreamClientCertificate => "the origin wants a client certificate",
            Self::UpstreamNotTls => "the origin does not speak TLS",
            Self::UpstreamTls => "the TLS handshake with the origin failed",
            Self::UpstreamProxy => "the proxy before this one opened no way to the origin",
            Self::UpstreamProtocol => "the origin's answer was malformed",
            Self::UpstreamClosed => "the origin closed the connection",
            Self::UpstreamReset => "the origin broke off this request",
            Self::UpstreamIdentity => "AWS did not tell whose the access key is",
            Self::Internal => "an internal error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_that_we_refuse_is_403_and_one_that_fails_is_502_or_504() {
        for &reason in Reason::ALL.iter().filter(|reason| reason.as_str().starts_with("upstream.")) {
            let want = match reason {
                Reason::UpstreamBelowFloor | Reason::UpstreamCertificate | Reason::UpstreamNotTls => 403,
                Reason::UpstreamTimeout => 504,
                _ => 502,
            };
            assert_eq!(reason.status(), want, "{reason}");
        }
    }
}
