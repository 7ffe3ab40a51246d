//! The page of each reason: what happened, and what to do. `docs/reasons.md` is written from this table.

use crate::engine::reason::Reason;

/// What a code means to the person who met it.
pub struct Page {
    /// What was seen, and why it is refused.
    pub happened: &'static str,
    /// What to do, most likely cause first.
    pub remedy: &'static str,
}

/// The one table. A reason without a page does not compile.
pub fn page(reason: Reason) -> Page {
    let (happened, remedy) = match reason {
        Reason::TlsPlaintext => (
            "The client sent a request in clear: an `http://` URL through the proxy, or plain HTTP where a TLS handshake was due. Nothing leaves in clear.",
            "use `https://` and CONNECT (every SDK does with HTTPS_PROXY set). Look for an endpoint override that says `http://`.",
        ),
        Reason::TlsNotTls => (
            "After CONNECT the first bytes were neither a TLS ClientHello nor HTTP. The proxy only carries what it can hold to the TLS floor.",
            "take other protocols (SSH, databases without TLS) out of the proxy's way, or wrap them in TLS.",
        ),
        Reason::TlsBelowFloor => (
            "The client offers TLS 1.1 or older at best. The floor of TLS 1.2 holds on both legs and cannot be lowered by any setting; the record names what was offered.",
            "update the client's TLS library, or enable TLS 1.2 in it (old JVMs: `https.protocols`; old OpenSSL: 1.0.1 or later).",
        ),
        Reason::TlsNoSni => (
            "The ClientHello names no host, so nothing ties the connection to the destination that CONNECT asked for.",
            "have the client send the server name; it must connect by name, not by address, and not with `-noservername`.",
        ),
        Reason::TlsHandshake => (
            "The client's handshake failed: a malformed or oversized ClientHello, nothing in common, or no progress within the time limit. The record has the detail.",
            "read the record's detail; offer AEAD cipher suites with ECDHE and `http/1.1` in ALPN; raise `limits.handshake` only for truly slow clients. A client that went away without an alert may not trust the CA: see `tls.client_distrusts`.",
        ),
        Reason::TlsClientDistrusts => (
            "The client rejected our certificate: its alert says that it does not trust the local CA. It is the commonest failure behind any intercepting proxy. The record names the program where it can be told, and what to set for it.",
            "give the client the certificate that `--ca-out` wrote: AWS_CA_BUNDLE for SDKs and the CLI, SSL_CERT_FILE, REQUESTS_CA_BUNDLE, NODE_EXTRA_CA_CERTS, CURL_CA_BUNDLE, or a JVM trust store. After a restart without `--ca-cert` the certificate is a new one.",
        ),
        Reason::TlsEch => (
            "The client's hello carries an encrypted ClientHello (ECH), so the name that is seen need not be the one that is asked for, and a tunnel is not opened inside. What browsers send in its place when they have none (GREASE) looks the same from outside.",
            "turn ECH off in the client; or, where its hello is known to be GREASE only, say `ech: pass` in the tunnel's statement. Intercepted hosts are not affected.",
        ),
        Reason::SigV4Unsigned => (
            "The request goes to an AWS service and carries no signature that says whose it is. The default is that AWS calls are verified.",
            "let an SDK sign it; for a call that is anonymous on purpose (a public bucket) a statement must say `when: {auth: none, signature: unsigned}`.",
        ),
        Reason::SigV4Malformed => (
            "There is a signature, but its fields are missing, doubled, out of order or unreadable. What can be read in two ways is refused.",
            "sign with a current SDK. If a proxy or middleware rewrites Authorization or X-Amz-* parameters, stop it.",
        ),
        Reason::SigV4TwoForms => (
            "The request is signed twice: in the Authorization header and in the query, or in several headers. AWS would pick one, and it need not be the one we checked.",
            "send one form. A presigned URL must be fetched without credentials on the client.",
        ),
        Reason::SigV4Version2 => (
            "The request is signed with Signature Version 2, which authenticates too little to be judged.",
            "update the SDK or set `signature_version` to `s3v4`/`v4`.",
        ),
        Reason::SigV4Unsupported => (
            "The signature has a form that is not verified here: an unknown payload word, chunks or events at a service that does not read them, or a signed chunk or event over 16 MiB. Unknown is denied.",
            "use what an SDK sends (docs/signatures.md lists the forms), and chunks of 64 KiB to 1 MiB; the record names what was met.",
        ),
        Reason::SigV4Scope => (
            "The credential scope (date/region/service/aws4_request) is malformed or disagrees with the request's own date.",
            "check the client's clock handling and any hand-written signer.",
        ),
        Reason::SigV4ScopeHost => (
            "The scope names a region or service that the host does not serve, so the signature was made for some other endpoint.",
            "make the client's region and endpoint agree: AWS_REGION, `region_name`, and any endpoint override.",
        ),
        Reason::SigV4UnsignedHeader => (
            "A header that changes what the call means (`host`, or an `x-amz-*` header) is not among the signed headers, or a field of a form upload is in no condition of its policy: anybody could have added it.",
            "sign it. If something between client and proxy adds the header, stop it.",
        ),
        Reason::SigV4Path => (
            "The path has dot segments, empty segments or encodings that the service and the signature would read differently.",
            "send the path in its normal form; for S3 keys with such names use a current SDK, which signs them as sent.",
        ),
        Reason::SigV4Skew => (
            "The signature's time lies more than `max_skew` (fifteen minutes) from ours, either way. The client is told `RequestTimeTooSkewed` and our time, by which SDKs set their clocks. The signature itself holds, or its key is not known.",
            "set the clock: the client's if only it is refused, this machine's if all are.",
        ),
        Reason::SigV4Expired => (
            "A presigned URL or the policy of a form upload is past its expiry.",
            "presign again with a current time; seven days are the most.",
        ),
        Reason::SigV4UnknownKey => (
            "The access key is none we were given or have seen issued, so its signature cannot be checked.",
            "give the proxy the same credentials source as the workload, or list the key with `--credentials`. If the call is a partner's, a statement must allow `signature: unknown_key` with the partner's account inside the perimeter.",
        ),
        Reason::SigV4Token => (
            "The session token is not the one that was issued with the access key.",
            "refresh the client's credentials as a whole; do not mix variables of two sets.",
        ),
        Reason::SigV4Signature => (
            "The key is known, and the signature does not verify over the bytes that arrived: something changed the request after signing, or the secret is another.",
            "look for middleware that alters headers, path or query after signing. The operator's record says which variant would verify, where one does.",
        ),
        Reason::SigV4Payload => (
            "The body is not the one whose digest, chunk signatures, checksum or form policy the request promised. The bytes in question were withheld, so the origin never saw the whole.",
            "retry once; if it repeats, something between client and proxy changes bodies.",
        ),
        Reason::SigV4Perimeter => (
            "The signer's account lies outside `perimeter.signers`. A valid signature is not enough: credentials from elsewhere must not carry data out.",
            "if the account is yours, add it to `perimeter.signers`; if not, find out how foreign credentials came into the workload.",
        ),
        Reason::SigV4Repeated => (
            "The same signed request, byte for byte, came before, and `repeats: refuse` is set. A captured request sent again looks like that; so does the retry of an SDK within the second of its first try.",
            "sign again. If SDKs' own retries are refused, set `repeats: record`.",
        ),
        Reason::TargetMalformed => (
            "The destination is not a host name and a port in plain form: userinfo, brackets around a name, control characters, numbers that pass for addresses, or a bad port.",
            "send `CONNECT name:443`. Names with umlauts go as their `xn--` form.",
        ),
        Reason::TargetMismatch => (
            "CONNECT, the server name in the TLS hello and the Host of the request do not all name one destination. Domain fronting looks like this.",
            "make them equal. The record shows each of them; a client that pools connections across names must not do so through a proxy.",
        ),
        Reason::TargetLiteral => (
            "The destination is an IP address. No name stands behind it that a policy or a certificate could be held to.",
            "use the host's name, or name the address in a statement.",
        ),
        Reason::TargetAddress => (
            "The name resolves only to special addresses: loopback, private, link-local, metadata. Otherwise a DNS answer could lead the proxy to its own machine.",
            "for a VPC endpoint list its range under `addresses:` for that host. Metadata, loopback and link-local stay shut whatever a range says.",
        ),
        Reason::TargetPort => (
            "The port is not 443 and no statement names it.",
            "name it in the statement's host (`host: api.example.com:8443`).",
        ),
        Reason::TargetUnknownAws => (
            "The host looks like AWS and the atlas does not know it. Anybody can rent names under `amazonaws.com`, so the suffix alone proves nothing.",
            "check the spelling and region; a newer atlas may know a new service. For a rented name (API Gateway, a load balancer) write a statement with that exact host.",
        ),
        Reason::PolicyNoMatch => (
            "No statement allows the request. The default is deny.",
            "the record names the nearest statement and the field that differed; widen that one, or write a new one.",
        ),
        Reason::PolicyDenied => (
            "A statement denies the request, and a deny wins over every allow.",
            "the record names the statement and its place in the file.",
        ),
        Reason::PolicyPerimeter => (
            "The resource belongs to an account outside `perimeter.resources`, or its account cannot be told.",
            "add the account if it is yours; for a bucket name the bucket literally in a statement, or sign `x-amz-expected-bucket-owner`.",
        ),
        Reason::RequestMalformed => (
            "The request's head breaks HTTP's grammar: bare LF, folded lines, control characters, a bad request line or header name.",
            "use a current HTTP client; look for header values with line breaks in them.",
        ),
        Reason::RequestFraming => (
            "The body's length is missing or said in two ways (Content-Length with Transfer-Encoding, two lengths, an odd coding). Two readers would cut it differently.",
            "send exactly one of Content-Length and `Transfer-Encoding: chunked`.",
        ),
        Reason::RequestTooLarge => (
            "The request's head exceeds the limit in bytes or in the number of fields.",
            "send fewer or shorter headers; oversized cookies and tokens are the usual cause.",
        ),
        Reason::RequestExpectation => {
            ("The Expect header asks for something other than `100-continue`.", "leave the header out.")
        }
        Reason::RequestUpgrade => (
            "The request asks to change protocol in a way that is not carried here: h2c, an unknown Upgrade, or a WebSocket that is not asked for by a GET over HTTP/1.1 with `Connection: Upgrade`.",
            "speak HTTP/1.1 over TLS; h2c is plaintext and never forwarded.",
        ),
        Reason::RequestMethod => (
            "The method is not forwarded here: TRACE, a CONNECT inside the tunnel, or one that no statement names while overriding headers are present.",
            "use an ordinary method, and drop `X-HTTP-Method-Override`.",
        ),
        Reason::RequestPath => (
            "A statement restricts the path, and this one has dot segments, doubled slashes, backslashes or encoded separators that the origin may read as another path.",
            "send the path in its plain form.",
        ),
        Reason::RequestAmbiguous => (
            "The request can be read as two different operations, and only one of them would be judged.",
            "remove the doubled signal (two targets, an action in query and body).",
        ),
        Reason::RequestProxyPassword => (
            "The proxy of an `exec` serves the program that `exec` started, and that program brings the password in its proxy variables. This request brought none, or another one. Clients that only answer to a challenge are seen with this once, and then try again.",
            "take the whole proxy URL from HTTPS_PROXY, user and password included; a program that drops them (or was not started by this `exec`) cannot use this proxy.",
        ),
        Reason::RequestTimeout => (
            "The request's head or body did not arrive within its time limit.",
            "look at the client's network and at stalled uploads; `limits.head` and `limits.body_idle` set the times.",
        ),
        Reason::RequestAborted => (
            "The client went away before the exchange was over. Nothing was refused; the record says how far it came.",
            "look at the client's own timeouts if it happens often.",
        ),
        Reason::LimitAudit => (
            "The audit record could not be written in time, so nothing was let out unrecorded.",
            "make room on the disk, or look at the reader of the pipe or socket. The proxy recovers by itself.",
        ),
        Reason::LimitInspect => (
            "Too many bodies were being read for judgement at once; this one waited and found no room.",
            "retry, as SDKs do by themselves; give the proxy more memory if it lasts.",
        ),
        Reason::LimitConnections => (
            "The proxy's cap on connections is reached: on those of this client's address, or on all of them.",
            "look for clients that leak connections; where the load is real raise `limits.connections` and the file-descriptor limit, of which clients get two thirds.",
        ),
        Reason::LimitOrigin => (
            "All connections that one origin may have are in use, and none came free within `limits.turn`.",
            "look for calls that hang and for retry loops; where the load is real raise `limits.connections_per_origin`.",
        ),
        Reason::LimitDials => (
            "As many connections to origins are being made as may be at once, and no turn came within `limits.turn`.",
            "look for an origin that does not answer its handshakes; where the load is real raise `limits.dials`.",
        ),
        Reason::LimitStreams => (
            "An HTTP/2 client opened more streams on one connection than it was told it may (100). The stream was reset with REFUSED_STREAM: nothing of the request was taken up.",
            "nothing, if it comes once at a connection's start: the client did not know the number yet, and sends the request again. A client that keeps at it ignores SETTINGS_MAX_CONCURRENT_STREAMS.",
        ),
        Reason::LimitTunnels => (
            "As many tunnels are open as may be at once.",
            "look for clients that leave connections open; `idle` in a statement's `tunnel` ends those sooner; where the load is real raise `limits.tunnels`.",
        ),
        Reason::LimitLookups => (
            "A client asked for more different names within a minute than it may. Each name was allowed, by a pattern; but a name can carry what its sender likes to whoever answers for the domain, so their number is bounded.",
            "see in the record which names they were. Names that a program makes up are a way out; where the program rightly talks to that many hosts raise `limits.lookups`.",
        ),
        Reason::LimitDraining => {
            ("The proxy is shutting down and takes nothing new.", "retry; the next instance answers.")
        }
        Reason::LimitStream => (
            "An answer or a WebSocket was silent for longer, or lasted longer, than the statement that allows it says (`upstream.idle`, `upstream.life`), or than a WebSocket may: 10 minutes of silence, a day of life. It was cut there.",
            "raise the limit in the statement if the stream is meant to last; let the client connect again, or send pings.",
        ),
        Reason::LimitFlood => (
            "Over HTTP/2, a client opened and reset streams, or sent frames that carry nothing, faster than any work could be done for them. Its connection was ended with GOAWAY `ENHANCE_YOUR_CALM`, and nothing more of it was taken up.",
            "look at the client: no library does so by itself. Requests under way on that connection were aborted, and may be sent again.",
        ),
        Reason::LimitTunnel => (
            "A tunnel was idle for too long, lived too long, or carried as many bytes as its statement lets it. The record says which, and how much went each way.",
            "`idle`, `life` and `bytes` in the statement's `tunnel` set the limits; clients that keep connections for hours should reconnect.",
        ),
        Reason::UpstreamResolve => (
            "The destination's name did not resolve.",
            "check the spelling, the resolver in `/etc/resolv.conf`, and whether the VPC has DNS enabled. Names are resolved absolute, without a search list.",
        ),
        Reason::UpstreamConnect => (
            "No connection to the origin could be made: refused or unreachable at every address that may be dialled.",
            "check security groups, routes, NAT and VPC endpoints from this machine.",
        ),
        Reason::UpstreamTimeout => (
            "The origin did not connect, shake hands or answer within the time limit.",
            "check the path to it; for calls that legitimately take long, `limits.response_head` (15 minutes) is the one that counts.",
        ),
        Reason::UpstreamBelowFloor => (
            "The origin speaks nothing at or above TLS 1.2, or less than the statement demands. The floor cannot be lowered.",
            "have the origin enable TLS 1.2 or 1.3; the record names what it chose.",
        ),
        Reason::UpstreamCertificate => (
            "The origin's certificate was refused: expired, not yet valid, for another name (the record lists those it is for), self-signed, from an issuer we do not trust or one that may not sign, under a root that has expired, revoked, pinned otherwise, or weak. The record says which.",
            "for a private CA give its root with `--upstream-ca`; check this machine's clock; if the names differ, something stands between you and the origin.",
        ),
        Reason::UpstreamClientCertificate => (
            "The origin asked for a client certificate, was given none, and ended the handshake or the connection.",
            "give the certificate and key that it knows under `tls:` for that host; one that is given and refused shows as the origin's alert.",
        ),
        Reason::UpstreamNotTls => (
            "The origin answered our TLS hello with something else. Nothing of the request was sent.",
            "check the port and any `connect_to` rule; a plain HTTP server on 443 answers like this.",
        ),
        Reason::UpstreamTls => (
            "The TLS handshake with the origin failed, most often by an alert of its own. Nothing of the request was sent.",
            "read the alert's name in the record; `handshake_failure` usually means nothing in common, `certificate_required` a client certificate.",
        ),
        Reason::UpstreamProxy => (
            "A proxy is set before this one (`--upstream-proxy`, or HTTPS_PROXY in the environment of `exec`) and it opened no way to the origin: it is down, it refused the host, or it wants other credentials; the record says which. The request did not go around it.",
            "look at the record's message; for a 407 put the user and password into the proxy's URL; for hosts that need no proxy set NO_PROXY (`--upstream-no-proxy` in `run`).",
        ),
        Reason::UpstreamProtocol => (
            "The origin's answer breaks HTTP's grammar or framing, so it was not passed on.",
            "look at the origin or at what stands before it.",
        ),
        Reason::UpstreamClosed => (
            "The origin closed the connection before its answer was whole.",
            "retry if the call is safe to repeat; look at the origin's idle timeout if it happens on kept connections.",
        ),
        Reason::UpstreamReset => (
            "Over HTTP/2, the origin reset the request's stream, or refused to take it; the connection goes on. The record names its error code. A request that was refused unprocessed and has no body was sent once more before this.",
            "`REFUSED_STREAM` and `ENHANCE_YOUR_CALM` mean that the origin is short of something: retry later. Other codes are the origin's to explain.",
        ),
        Reason::UpstreamIdentity => (
            "A statement turns on the account or the role behind the access key (`signer.role`, an account in an ARN, `perimeter`). The key's source does not tell it, and the one GetCallerIdentity that the proxy sends with that key gave no usable answer. Nothing passes on a guess; the call is not repeated within 5 seconds. The record names what failed, and the call has a record of its own (`origin: exeat`).",
            "let the proxy reach `sts.REGION.amazonaws.com` (a VPC endpoint, `addresses:`), or say whose the key is where it comes from: `AWS_ACCOUNT_ID`, `aws_account_id` or `role_arn` of the profile.",
        ),
        Reason::Internal => (
            "Something inside the proxy failed that should not. The request was refused, as everything unknown is.",
            "please report it with the flow id and the log lines around it.",
        ),
    };
    Page { happened, remedy }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// All pages as Markdown.
    fn markdown() -> String {
        let mut text = String::from(
            "# Reasons\n\nEvery refusal carries one of these codes: in its message, its audit line, the metrics and the `exeat-verdict`\n\
             header. `exeat explain CODE` prints the same page. Written from `src/cli/explain/pages.rs`; a test compares.\n",
        );
        let mut family = "";
        for reason in Reason::ALL {
            let code = reason.as_str();
            let this = code.split('.').next().unwrap_or(code);
            if this != family {
                text.push_str(&format!("\n## {this}\n"));
                family = this;
            }
            let page = page(*reason);
            text.push_str(&format!(
                "\n### `{code}`\n\n{}\n\n**What to do:** {}\n",
                page.happened, page.remedy
            ));
        }
        text
    }

    #[test]
    fn docs_reasons_md_is_the_same_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reasons.md");
        if std::env::var_os("EXEAT_BLESS").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        let stands = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(stands == markdown(), "docs/reasons.md is out of date: run this test with EXEAT_BLESS=1");
    }
}
