//! The event line: one attempt and how it ended, in the shape of a CloudTrail record.
//!
//! What is known is written down when it is known: [`Facts::open`] at arrival, [`Facts::judge`] after the decision,
//! [`write()`] at the end. So nothing of the request has to be kept alive but text that is already escaped and cut.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use crate::engine::atlas::Atlas;
use crate::engine::facts::{
    AccountId, Action, Arrival, Auth, Door, Identity, Operation, Parent, Resource, SignatureState,
};
use crate::engine::target::{Authority, Host};

use super::attempt::{Decision, End, Labels, Outcome, Request, Retried, Source, Spent, Upstream};
use super::data::Data;
use super::json::Json;
use super::lane::Stamp;
use super::leg::{Chain, LegText};

/// Asks that are written out; `askCount` tells how many there were. That many S3 keys of 1,024 bytes fit a line.
const MAX_ASKS: usize = 6;
const MAX_ARN: usize = 1_152;
const MAX_NAME: usize = 128;
const MAX_HOST: usize = 270;
const MAX_TEXT: usize = 512;

/// What all attempts of one connection say alike, written down once: where it came from, and how.
pub struct Prelude {
    /// `address | arrival`, see [`Facts`].
    text: Vec<u8>,
    address: u32,
    /// What the client was shown, and where in the text it belongs.
    chain: Option<(Chain, usize)>,
    door: Option<Door>,
    tells_process: bool,
}

impl Prelude {
    pub fn of(source: Source<'_>) -> Self {
        let mut text = Vec::with_capacity(512);
        let mut json = Json(&mut text);
        json.raw(",\"sourceIPAddress\":\"");
        match source {
            Source::Arrival(&Arrival { peer, .. }) | Source::Peer { peer, .. } => ip(&mut json, peer.ip()),
            Source::Own => json.raw("exeat"),
        }
        json.raw("\"");
        let address = mark(json.0);
        let mut chain = None;
        let door = match source {
            Source::Arrival(arrival) => {
                json.word(",\"door\":\"", arrival.door.as_str());
                json.raw(",\"target\":\"");
                authority(&mut json, &arrival.target);
                json.raw("\"");
                if let Some(facts) = &arrival.tls {
                    json.raw(",\"clientTls\":");
                    let leg = LegText::of(facts);
                    json.0.extend_from_slice(leg.json());
                    chain = Some((leg.into_chain(), json.0.len()));
                    json.raw("}");
                }
                Some(arrival.door)
            }
            Source::Peer { door, asked, .. } => {
                json.word(",\"door\":\"", door.as_str());
                json.maybe(",\"target\":", asked, MAX_HOST);
                Some(door)
            }
            Source::Own => {
                json.raw(",\"origin\":\"exeat\"");
                None
            }
        };
        json.raw(atlas());
        Self { text, address, chain, door, tells_process: false }
    }

    /// The process at the connection's other end.
    pub fn of_process(mut self, id: u32, name: &str) -> Self {
        process(&mut Json(&mut self.text), id, name);
        Self { tells_process: true, ..self }
    }
}

/// Which atlas told what a request was, as every line says it.
fn atlas() -> &'static str {
    static ATLAS: LazyLock<String> =
        LazyLock::new(|| format!(",\"atlas\":\"{}\"", &Atlas::built_in().hash()[..12]));
    &ATLAS
}

/// Pieces of lines, written as soon as their facts are known, in one buffer:
/// `address | arrival | top | ours | intent | resource`. Each piece but the last is JSON members with leading commas.
pub struct Facts {
    buffer: Vec<u8>,
    /// Ends of the pieces. After [`Self::open`] all but the first two are equal.
    ends: [u32; 5],
    /// The host, escaped, inside `ours`.
    host: (u32, u32),
    pub labels: Labels,
    /// Parameters and results, where they are wanted.
    pub data: Option<Box<Data>>,
    /// The client's process and its name, where it was looked for and found. The prelude may have told them.
    pub process: Option<Box<(u32, String)>>,
    process_is_told: bool,
    pub retried: Option<Retried>,
    /// This is the event that tells the chain of the leg to the origin.
    pub tells_chain: bool,
}

impl Facts {
    /// `buffer` is one to reuse.
    pub fn open(mut buffer: Vec<u8>, prelude: &Prelude) -> Self {
        buffer.clear();
        match &prelude.chain {
            Some((chain, at)) if chain.is_due() => {
                let (before, after) = prelude.text.split_at(*at);
                buffer.extend_from_slice(before);
                chain.write(&mut Json(&mut buffer));
                buffer.extend_from_slice(after);
            }
            _ => buffer.extend_from_slice(&prelude.text),
        }
        let labels = Labels {
            door: prelude.door,
            decision: Decision::None,
            protocol: None,
            signed: None,
            spent: Spent::default(),
        };
        let (address, arrival) = (prelude.address, mark(&buffer));
        Self {
            buffer,
            ends: [address, arrival, arrival, arrival, arrival],
            host: (0, 0),
            labels,
            data: None,
            process: None,
            process_is_told: prelude.tells_process,
            retried: None,
            tells_chain: false,
        }
    }

    /// Writes down what a request is. The last word counts, where it is judged anew with its body.
    pub fn judge(&mut self, request: &Request<'_>, tells_path: bool) {
        self.labels = Labels {
            door: self.labels.door,
            decision: request.decision,
            protocol: request.operation.map(|operation| operation.protocol),
            signed: (request.operation.is_some() || request.identity.auth != Auth::None)
                .then_some((request.identity.auth, request.identity.signature)),
            spent: request.spent,
        };
        self.buffer.truncate(self.ends[1] as usize);
        let mut json = Json(&mut self.buffer);
        top(&mut json, request);
        let top = mark(json.0);

        // Our own calls for keys are before any policy.
        if !request.policy.is_empty() {
            json.field(",\"policy\":", request.policy, MAX_NAME);
        }
        if let Some(placed) = request.statement {
            json.field(",\"statement\":", placed.id.as_bytes(), MAX_NAME);
            json.raw(",\"place\":\"");
            json.part(placed.file.as_bytes(), MAX_NAME);
            json.count(":", placed.line);
            json.count(":", placed.column);
            json.raw("\"");
        }
        list(&mut json, ",\"would\":[", request.would.iter(), |json, id| json.text(id.as_bytes(), MAX_NAME));
        json.word(",\"auth\":\"", request.identity.auth.as_str());
        json.word(",\"signature\":\"", request.identity.signature.as_str());
        json.word(",\"payload\":\"", request.identity.payload.as_str());
        if let Some(signer) = &request.identity.signer {
            if signer.own {
                json.raw(",\"ownKey\":true");
            }
            if let Some(parents) = &signer.parents {
                list(&mut json, ",\"parents\":[", parents.iter(), descent);
            }
        }
        if request.repeats {
            json.raw(",\"repeats\":true");
        }
        json.field(",\"method\":", request.method, 32);
        json.raw(",\"host\":\"");
        let host = mark(json.0);
        authority(&mut json, request.host);
        self.host = (host, mark(json.0));
        json.raw("\"");
        let mut path = None;
        if let Some(operation) = request.operation {
            json.word(",\"protocol\":\"", operation.protocol.as_str());
            list(&mut json, ",\"actions\":[", operation.asks.iter().take(MAX_ASKS), |json, ask| {
                match &ask.action {
                    Action::Known(name) => json.text(name.as_bytes(), MAX_NAME),
                    unknown @ Action::Unknown(_) => {
                        json.text(unknown.to_string(), MAX_NAME);
                    }
                }
            });
            if operation.asks.len() > MAX_ASKS {
                json.count(",\"askCount\":", operation.asks.len() as u64);
            }
        } else if tells_path {
            path = request.path.split(|&b| b == b'?').next();
            json.maybe(",\"path\":", path, 2 * MAX_TEXT);
        }
        json.maybe(",\"trace\":", request.trace, MAX_NAME);
        json.maybe(",\"traceparent\":", request.traceparent, MAX_NAME);
        let ours = mark(json.0);

        super::intent::members(&mut json, request);
        let intent = mark(json.0);
        super::intent::resource(json.0, request, path);
        self.ends[2..].copy_from_slice(&[top, ours, intent]);
    }

    fn piece(&self, from: usize) -> &[u8] {
        let start = if from == 0 { 0 } else { self.ends[from - 1] as usize };
        let end = self.ends.get(from).map_or(self.buffer.len(), |&end| end as usize);
        &self.buffer[start..end]
    }

    /// Members of the intent line, then the resource as it is (not yet escaped).
    pub fn intent(&self) -> (&[u8], &[u8]) {
        (self.piece(4), self.piece(5))
    }

    pub fn is_judged(&self) -> bool {
        self.ends[2] > self.ends[1]
    }

    /// For the next attempt.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }
}

/// Ends an event line: closes `exeat`, `additionalEventData` and the line.
pub const CLOSERS: &str = "}}}";

/// The whole line but its end, see [`super::lane::Lane::append`].
pub fn write(
    json: &mut Json<'_>,
    stamp: &Stamp<'_>,
    flow: u64,
    facts: &Facts,
    outcome: &Outcome<'_>,
    took: Duration,
) {
    json.raw("{\"eventVersion\":\"1.11\",\"eventTime\":\"");
    json.raw(stamp.time);
    json.raw("\"");
    if let Some(data) = facts.data.as_ref().filter(|_| facts.is_judged()) {
        let top = facts.piece(2);
        json.0.extend_from_slice(top.strip_suffix(NO_DATA.as_bytes()).unwrap_or(top));
        for (name, side) in
            [(",\"requestParameters\":", &data.parameters), (",\"responseElements\":", &data.results)]
        {
            json.raw(name);
            json.0.extend_from_slice(if side.is_empty() { b"null" } else { side });
        }
    } else if facts.is_judged() {
        json.0.extend_from_slice(facts.piece(2));
    } else {
        json.raw(",\"eventSource\":\"exeat\",\"eventName\":\"Connect\",\"eventType\":\"Connection\"");
    }
    json.0.extend_from_slice(facts.piece(0));
    json.maybe(",\"requestID\":", outcome.upstream.and_then(|up| up.request_id), MAX_NAME);
    if let End::Refused { message, .. } = outcome.end {
        json.word(",\"errorCode\":\"", outcome.error_code());
        json.field(",\"errorMessage\":", message, MAX_TEXT);
    } else if let Some(error) = outcome.upstream.and_then(|up| up.error_type) {
        // `Name`, `Name:URL` or `shape#Name`, as the protocols of AWS have it.
        let name = error
            .split(|&byte| byte == b':')
            .next()
            .and_then(|name| name.rsplit(|&byte| byte == b'#').next());
        json.maybe(",\"errorCode\":", name, MAX_NAME);
    }
    if let Some(details) = outcome.upstream.map(|up| up.leg.details()).filter(|text| !text.is_empty()) {
        json.raw(",\"tlsDetails\":");
        json.0.extend_from_slice(details);
        let (host, end) = facts.host;
        if end > host {
            json.raw(",\"clientProvidedHostHeader\":\"");
            json.0.extend_from_slice(&facts.buffer[host as usize..end as usize]);
            json.raw("\"");
        }
        json.raw("}");
    }
    json.raw(",\"eventID\":\"");
    stamp.flow(json, flow);
    json.raw("\",\"additionalEventData\":{\"exeat\":{\"flow\":\"");
    stamp.flow(json, flow);
    json.raw("\",\"decision\":\"");
    json.raw(facts.labels.decision.as_str());
    json.raw("\",\"end\":\"");
    json.raw(outcome.end_word());
    json.raw("\"");
    if let Some(reason) = outcome.reason() {
        json.word(",\"reason\":\"", reason.as_str());
    }
    json.0.extend_from_slice(facts.piece(1));
    if let Some(of) = facts.process.as_ref().filter(|_| !facts.process_is_told) {
        process(json, of.0, &of.1);
    }
    json.0.extend_from_slice(facts.piece(3));
    json.word(",\"payloadOutcome\":\"", outcome.payload.as_str());
    json.count(",\"status\":", outcome.status.into());
    json.count(",\"bytesIn\":", outcome.bytes_in);
    json.count(",\"bytesOut\":", outcome.bytes_out);
    json.count(",\"durationUs\":", micros(took));
    json.count(",\"decisionUs\":", micros(facts.labels.spent.all));
    if let Some(why) = facts.retried {
        json.word(",\"retried\":\"", why.as_str());
    }
    if let Some(up) = &outcome.upstream {
        upstream(json, up, facts.tells_chain);
    }
}

fn process(json: &mut Json<'_>, id: u32, name: &str) {
    json.count(",\"pid\":", id.into());
    json.field(",\"process\":", name, MAX_NAME);
}

fn upstream(json: &mut Json<'_>, up: &Upstream<'_>, tells_chain: bool) {
    json.raw(",\"upstream\":{");
    json.0.extend_from_slice(up.leg.dialled());
    let tls = up.leg.json();
    if !tls.is_empty() {
        json.raw(up.leg.member());
        json.0.extend_from_slice(tls);
        if tells_chain {
            up.leg.chain().write(json);
        }
        json.raw("},");
    }
    json.raw(if up.reused { "\"reused\":true" } else { "\"reused\":false" });
    json.count(",\"waitedUs\":", micros(up.waited.unwrap_or_default()));
    json.maybe(",\"extendedRequestId\":", up.extended_request_id, MAX_NAME);
    json.raw("}");
}

/// CloudTrail's own members of a judged request.
fn top(json: &mut Json<'_>, request: &Request<'_>) {
    if let Some(operation) = request.operation {
        json.raw(",\"eventSource\":\"");
        json.part(operation.service.as_bytes(), MAX_NAME);
        json.field(".amazonaws.com\",\"eventName\":", operation.name.as_deref().unwrap_or("?"), MAX_NAME);
        json.field(",\"awsRegion\":", operation.region.as_bytes(), MAX_NAME);
        json.raw(",\"eventType\":\"AwsApiCall\"");
        let arns = operation.asks.iter().take(MAX_ASKS).filter_map(|ask| match &ask.resource {
            Resource::Arn { arn, account } => Some((arn, account)),
            Resource::None | Resource::Unknown => None,
        });
        list(json, ",\"resources\":[", arns, |json, (arn, account)| {
            json.field("{\"ARN\":", arn, MAX_ARN);
            if let Some(account) = account {
                json.raw(",\"accountId\":\"");
                json.account(*account);
                json.raw("\"");
            }
            json.raw("}");
        });
    } else {
        json.raw(",\"eventSource\":\"");
        authority(json, request.host);
        json.field("\",\"eventName\":", request.method, 32);
        json.raw(",\"eventType\":\"HttpCall\"");
    }
    json.maybe(",\"userAgent\":", request.user_agent, MAX_TEXT);
    user_identity(json, request.identity);
    if let Some(account) = request.operation.and_then(|operation| recipient(operation, request.identity)) {
        json.raw(",\"recipientAccountId\":\"");
        json.account(account);
        json.raw("\"");
    }
    json.raw(NO_DATA);
}

/// Stands at the end of what [`top`] writes.
const NO_DATA: &str = ",\"requestParameters\":null,\"responseElements\":null";

/// Whose trail has the call: the resource's account, where its ARN tells one, else that of a signer that was checked.
fn recipient(operation: &Operation, identity: &Identity) -> Option<AccountId> {
    let named = operation.asks.first().and_then(|ask| match ask.resource {
        Resource::Arn { account, .. } => account,
        Resource::None | Resource::Unknown => None,
    });
    let checked = || identity.signer.as_ref().filter(|_| identity.signature == SignatureState::Verified);
    named.or_else(|| checked()?.account)
}

/// A claim that we could not check stays `Unknown`: readers of CloudTrail take the type for a fact.
fn user_identity(json: &mut Json<'_>, identity: &Identity) {
    json.raw(",\"userIdentity\":{\"type\":\"");
    let Some(signer) = &identity.signer else {
        return json.raw("Unknown\"}");
    };
    json.raw(match (identity.signature, signer.key_id.get(..4)) {
        (SignatureState::Verified, Some("ASIA")) => "AssumedRole",
        (SignatureState::Verified, Some("AKIA")) => "IAMUser",
        (SignatureState::UnknownKey, _) if signer.account.is_some() => "AWSAccount",
        _ => "Unknown",
    });
    json.field("\",\"accessKeyId\":", signer.key_id.as_bytes(), MAX_NAME);
    if let Some(account) = signer.account {
        json.raw(",\"accountId\":\"");
        json.account(account);
        json.raw("\"");
    }
    if let Some(role) = &signer.role {
        if role.starts_with("arn:") {
            json.field(",\"arn\":", role.as_bytes(), MAX_TEXT);
        } else {
            json.field(
                ",\"sessionContext\":{\"sessionIssuer\":{\"type\":\"Role\",\"userName\":",
                role.as_bytes(),
                MAX_NAME,
            );
            json.raw("}}");
        }
    }
    json.raw("}");
}

/// One step of a learned key's descent.
fn descent(json: &mut Json<'_>, parent: &Parent) {
    json.word("{\"by\":\"", parent.by);
    if let Some(key_id) = &parent.key_id {
        json.field(",\"key\":", key_id.as_bytes(), 24);
    }
    if let Some(account) = parent.account {
        json.raw(",\"account\":\"");
        json.account(account);
        json.raw("\"");
    }
    if let Some(role) = &parent.role {
        json.field(",\"role\":", role.as_bytes(), 64);
    }
    json.raw("}");
}

/// `prefix` opens the list; an empty one is left out.
fn list<T>(
    json: &mut Json<'_>,
    prefix: &str,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Json<'_>, T),
) {
    let mut any = false;
    for item in items.take(MAX_ASKS) {
        json.raw(if any { "," } else { prefix });
        any = true;
        write(json, item);
    }
    if any {
        json.raw("]");
    }
}

/// Without quotes: a host in normal form needs no escape. The port stands where it isn't 443.
fn authority(json: &mut Json<'_>, authority: &Authority) {
    match &authority.host {
        Host::Name(name) => json.raw(name),
        Host::Literal(IpAddr::V6(_)) => json.raw(&authority.host.to_string()),
        Host::Literal(literal) => ip(json, *literal),
    }
    if authority.port != 443 {
        json.count(":", authority.port.into());
    }
}

/// Without quotes and brackets.
pub(super) fn ip(json: &mut Json<'_>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                json.count(if at == 0 { "" } else { "." }, octet.into());
            }
        }
        v6 @ IpAddr::V6(_) => json.raw(&v6.to_string()),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn mark(buffer: &[u8]) -> u32 {
    u32::try_from(buffer.len()).expect("each piece is cut at a stated length")
}
