//! The join: what went out through us, beside what CloudTrail saw.
//!
//! AWS's request id joins first, and any number of records with it: one DeleteObjects is many of CloudTrail's. What has
//! none (a call cut off before its answer) joins by key, operation and time, one record with one call. A record that
//! names another request id than a call does is another call, however alike they look.

use std::collections::{HashMap, HashSet};

use crate::cli::lines::{Counts, Event, Intent, Line, seconds};
use crate::engine::facts::words;

use super::absent::{self, Why};
use super::trail::{Record, operation};

/// CloudTrail's own word: events come within 15 minutes.
const DELIVERY: i64 = 15 * 60;
/// A refusal this long before a bypass is worth telling beside it.
const RELATED: i64 = 3600;

words! {
    /// Why a record that no call of ours matches is no bypass.
    pub(super) enum LeftOut {
        /// Sign-in, events of a service.
        NotACall = "not_an_api_call",
        /// `invokedBy`: an AWS service made it, with credentials of its own.
        AwsService = "aws_service",
        /// Signed by nobody, or CloudTrail does not say by which key.
        NoKey = "no_key",
        NeverHeld = "key_never_held",
        OutsideTime = "outside_time",
    }
}

/// A call that went out.
struct Call {
    flow: String,
    key: Option<String>,
    operation: String,
    service: String,
    name: String,
    region: Option<String>,
    request_ids: Vec<String>,
    /// When it began and ended; of an interrupted one both are when it began.
    from: i64,
    to: i64,
    actions: Vec<String>,
    resources: Vec<String>,
    interrupted: bool,
    matched: bool,
}

/// What was refused: it must not be in CloudTrail, and who meets it there wants to know.
struct Refused {
    flow: String,
    at: i64,
    reason: String,
}

/// The audit side, filled line by line.
#[derive(Default)]
pub(super) struct Audit {
    pub counts: Counts,
    calls: Vec<Call>,
    begun: HashMap<String, Intent>,
    refused: HashMap<(String, String), Vec<Refused>>,
    pub refusals: u64,
    /// Third-party calls and tunnels, which CloudTrail never has.
    pub not_aws: u64,
    /// Keys whose secret we held.
    pub held: HashSet<String>,
    roles: HashSet<String>,
    tunnels: HashSet<String>,
    pub first: Option<i64>,
    pub last: Option<i64>,
}

impl Audit {
    pub fn take(&mut self, line: Line) {
        let time = match &line {
            Line::Event(event) => &event.event_time,
            Line::Intent(intent) => &intent.time,
            Line::Lane(time) => time,
        };
        let Some(at) = seconds(time) else { return };
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        match line {
            Line::Lane(_) => {}
            Line::Intent(intent) => drop(self.begun.insert(intent.flow.clone(), intent)),
            Line::Event(event) => self.event(&event, at),
        }
    }

    fn event(&mut self, event: &Event, at: i64) {
        let ours = event.ours();
        let began = self.begun.remove(&ours.flow).is_some();
        if let Some(key) = event.key()
            && (ours.own_key || ours.signature.as_deref() == Some("verified"))
        {
            self.held.insert(key.to_owned());
            self.roles.extend(event.role().map(str::to_owned));
        }
        // Its intent may stand in another file; a handshake alone is no call.
        let shaken = ours.upstream.as_ref().is_some_and(|up| up.tls.is_some());
        let left = began || shaken || ours.end == "answered";
        if !event.is_aws() {
            if ours.end == "tunnelled" {
                self.tunnels.extend(event.host().map(str::to_owned));
            }
            self.not_aws += u64::from(left || ours.end == "tunnelled");
            self.refusals += u64::from(!left && ours.reason.is_some());
            return;
        }
        let operation = operation(event.service(), &event.event_name);
        if !left {
            self.refusals += 1;
            if let Some(key) = event.key() {
                let reason = ours.reason.clone().unwrap_or_default();
                let refused = Refused { flow: ours.flow.clone(), at, reason };
                self.refused.entry((key.to_owned(), operation)).or_default().push(refused);
            }
            return;
        }
        let extended = ours.upstream.as_ref().and_then(|up| up.extended_request_id.clone());
        self.calls.push(Call {
            flow: ours.flow.clone(),
            key: event.key().map(str::to_owned),
            service: event.service().to_owned(),
            name: event.event_name.clone(),
            operation,
            region: event.aws_region.clone(),
            request_ids: event.request_id.iter().cloned().chain(extended).collect(),
            // Times are whole seconds, so it may have begun one earlier.
            from: at - i64::try_from(ours.duration_us / 1_000_000).unwrap_or(i64::MAX).min(at) - 1,
            to: at,
            actions: ours.actions.clone(),
            resources: event.resources.iter().map(|named| named.arn.clone()).collect(),
            interrupted: ours.end == "aborted" && event.request_id.is_none(),
            matched: false,
        });
    }

    /// Intents that no event followed: the process died, and the call may have arrived.
    fn interrupted(&mut self) {
        for (flow, intent) in self.begun.drain() {
            let Some((service, name)) = intent.operation.split_once(':').filter(|(of, _)| *of != "http")
            else {
                self.not_aws += 1;
                continue;
            };
            let at = seconds(&intent.time).unwrap_or_default();
            self.calls.push(Call {
                flow,
                key: intent.key,
                operation: operation(service, name),
                service: service.to_owned(),
                name: name.to_owned(),
                region: None,
                request_ids: Vec::new(),
                from: at,
                to: at,
                actions: Vec::new(),
                resources: intent.resource.into_iter().collect(),
                interrupted: true,
                matched: false,
            });
        }
    }
}

pub(super) struct Asked<'a> {
    pub window: i64,
    pub since: Option<i64>,
    pub until: Option<i64>,
    /// Principals whose every call must have come through, whatever key signed it.
    pub principals: &'a [String],
}

/// A record of a key of ours that nothing in the audit files accounts for.
pub(super) struct Bypass<'a> {
    pub record: &'a Record,
    /// Records of one request.
    pub records: u64,
    pub notes: Vec<String>,
    /// The flow in which we had refused the same.
    pub refused_flow: Option<String>,
}

pub(super) struct AuditOnly {
    pub flow: String,
    pub at: i64,
    pub call: String,
    pub why: Why,
}

#[derive(Default)]
pub(super) struct Joined<'a> {
    pub by_request_id: u64,
    pub by_time: u64,
    pub bypasses: Vec<Bypass<'a>>,
    pub audit_only: Vec<AuditOnly>,
    left_out: HashMap<LeftOut, u64>,
    /// Of keys never held, those of a role that signs here too.
    pub of_roles_seen: u64,
    /// Calls that went out and are in the audit files.
    pub calls: u64,
    pub matched_calls: u64,
}

impl Joined<'_> {
    pub fn left_out(&self, why: LeftOut) -> u64 {
        self.left_out.get(&why).copied().unwrap_or_default()
    }
}

pub(super) fn join<'a>(audit: &mut Audit, records: &'a [Record], asked: &Asked<'_>) -> Joined<'a> {
    audit.interrupted();
    let mut joined = Joined { calls: audit.calls.len() as u64, ..Joined::default() };
    let mut rest = by_request_id(&mut audit.calls, records, &mut joined);
    rest.sort_by_key(|record| record.time);
    let rest = by_time(&mut audit.calls, rest, asked.window, &mut joined);
    let mut requests: HashMap<&str, usize> = HashMap::new();
    for record in rest {
        if let Some(why) = left_out(audit, record, asked) {
            *joined.left_out.entry(why).or_default() += 1;
            let seen =
                why == LeftOut::NeverHeld && record.principals.iter().any(|name| audit.roles.contains(name));
            joined.of_roles_seen += u64::from(seen);
            continue;
        }
        if let Some(&at) = record.request_id.as_deref().and_then(|id| requests.get(id)) {
            joined.bypasses[at].records += 1;
            continue;
        }
        requests.extend(record.request_id.as_deref().map(|id| (id, joined.bypasses.len())));
        joined.bypasses.push(bypass(audit, record));
    }
    joined.matched_calls = audit.calls.iter().filter(|call| call.matched).count() as u64;
    let export = Export::of(records);
    let missing = audit.calls.iter().filter(|call| !call.matched);
    joined.audit_only = missing
        .map(|call| AuditOnly {
            flow: call.flow.clone(),
            at: call.to,
            call: call.operation.clone(),
            why: export.why_not(call),
        })
        .collect();
    joined.audit_only.sort_by(|a, b| (a.at, &a.flow).cmp(&(b.at, &b.flow)));
    joined
}

/// Answers the records that are left.
fn by_request_id<'a>(calls: &mut [Call], records: &'a [Record], joined: &mut Joined<'_>) -> Vec<&'a Record> {
    let mut ids: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut matched = HashSet::new();
    for (at, call) in calls.iter().enumerate() {
        call.request_ids.iter().for_each(|id| ids.entry(id).or_default().push(at));
    }
    let mut rest = Vec::new();
    for record in records {
        let mut named =
            record.request_id.iter().chain(&record.extended_id).filter_map(|id| ids.get(id.as_str()));
        // Ids are AWS's and unique within a service.
        let found = named.find_map(|found| found.iter().find(|&&at| calls[at].service == record.service));
        match found {
            Some(&at) => {
                matched.insert(at);
                joined.by_request_id += 1;
            }
            None => rest.push(record),
        }
    }
    matched.into_iter().for_each(|at| calls[at].matched = true);
    rest
}

/// Points in order of time, each into the interval that ends first: no other choice pairs more of them.
fn by_time<'a>(
    calls: &mut [Call],
    records: Vec<&'a Record>,
    window: i64,
    joined: &mut Joined<'_>,
) -> Vec<&'a Record> {
    let mut alike: HashMap<(String, String), Vec<usize>> = HashMap::new();
    let some_lack_ids = records.iter().any(|record| record.request_id.is_none());
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| !call.matched) {
        if let Some(key) = call.key.as_ref().filter(|_| some_lack_ids || call.request_ids.is_empty()) {
            alike.entry((key.clone(), call.operation.clone())).or_default().push(at);
        }
    }
    let mut rest = Vec::new();
    for record in records {
        let candidates =
            record.key.as_ref().and_then(|key| alike.get_mut(&(key.clone(), record.operation())));
        let found = candidates.and_then(|all| {
            let fits = |call: &Call| {
                let within = (call.from - window..=call.to + window).contains(&record.time);
                within && (call.request_ids.is_empty() || record.request_id.is_none())
            };
            let open = all.iter().enumerate().filter(|&(_, &at)| fits(&calls[at]));
            let place = open.min_by_key(|&(_, &at)| calls[at].to).map(|(place, _)| place);
            place.map(|place| all.swap_remove(place))
        });
        match found {
            Some(at) => {
                calls[at].matched = true;
                joined.by_time += 1;
            }
            None => rest.push(record),
        }
    }
    rest
}

fn left_out(audit: &Audit, record: &Record, asked: &Asked<'_>) -> Option<LeftOut> {
    let outside = asked.since.is_some_and(|since| record.time < since)
        || asked.until.is_some_and(|until| record.time >= until);
    let named = record.principals.iter().any(|name| asked.principals.contains(name));
    // A call that a VPC endpoint refused is one that went round us, too.
    match &record.key {
        _ if !matches!(record.kind.as_str(), "AwsApiCall" | "AwsVpceEvent") => Some(LeftOut::NotACall),
        _ if record.by_service => Some(LeftOut::AwsService),
        _ if outside => Some(LeftOut::OutsideTime),
        _ if named => None,
        None => Some(LeftOut::NoKey),
        Some(key) if !audit.held.contains(key) => Some(LeftOut::NeverHeld),
        Some(_) => None,
    }
}

fn bypass<'a>(audit: &Audit, record: &'a Record) -> Bypass<'a> {
    let mut notes = Vec::new();
    let same = record.key.as_ref().and_then(|key| audit.refused.get(&(key.clone(), record.operation())));
    let before = |refused: &&Refused| (record.time - RELATED..=record.time + 1).contains(&refused.at);
    let refused = same.and_then(|all| all.iter().filter(before).max_by_key(|refused| refused.at));
    if let Some(refused) = refused {
        let ago = (record.time - refused.at).max(0);
        notes.push(format!("refused here {ago} s before [{}], flow {}", refused.reason, refused.flow));
    }
    if audit.first.is_some_and(|first| record.time < first) {
        notes.push("before the first line of these audit files: are there older ones?".to_owned());
    }
    if audit.last.is_some_and(|last| record.time > last) {
        notes.push("after the last line of these audit files: are there newer ones?".to_owned());
    }
    if let Some(host) = record.host.as_ref().filter(|host| audit.tunnels.contains(*host)) {
        notes.push(format!("`{host}` is tunnelled by the policy: what is inside leaves no line of its own"));
    }
    Bypass { record, records: 1, notes, refused_flow: refused.map(|refused| refused.flow.clone()) }
}

/// What the export holds at all.
struct Export<'a> {
    newest: i64,
    regions: HashSet<&'a str>,
    data_services: HashSet<&'a str>,
    reads: bool,
}

impl<'a> Export<'a> {
    fn of(records: &'a [Record]) -> Self {
        let data = records.iter().filter(|record| record.data_event);
        Self {
            newest: records.iter().map(|record| record.time).max().unwrap_or_default(),
            regions: records.iter().map(|record| record.region.as_str()).collect(),
            data_services: data.map(|record| record.service.as_str()).collect(),
            reads: records.iter().any(|record| record.read_only),
        }
    }

    fn why_not(&self, call: &Call) -> Why {
        if call.interrupted {
            return Why::Interrupted;
        }
        if absent::is_data_event(&call.service, &call.name, &call.resources)
            && !self.data_services.contains(&*call.service)
        {
            return Why::DataEvent;
        }
        if call.name == "?" {
            return Why::UnknownOperation;
        }
        if call.to > self.newest - DELIVERY {
            return Why::NotYet;
        }
        if call.region.as_deref().is_some_and(|region| !self.regions.contains(region)) {
            return Why::Region;
        }
        if !self.reads && absent::only_reads(&call.actions) {
            return Why::ReadEvent;
        }
        Why::Unexplained
    }
}
