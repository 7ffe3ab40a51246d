//! The intent line: that a request is about to leave, in whose name, and on what.
//!
//! Written before its first byte goes upstream, so it is short (400 bytes at most) and knows no outcome. An intent
//! without an event is an interrupted call.

use crate::engine::facts::Resource;

use super::attempt::Request;
use super::json::Json;
use super::lane::Stamp;

/// Longest intent line, LF included (design.md 9).
pub const MAX_INTENT: usize = 400;
/// What the lane adds besides its name: `,"lane":"` `","seq":` 20 digits `,"chain":"` 64 digits `"}` LF.
const TAIL: usize = 9 + 8 + 20 + 10 + 64 + 3;
/// The longest service name of AWS, and as much of an operation name as leaves room for a resource.
const MAX_SERVICE: usize = 24;
const MAX_OPERATION: usize = 40;

/// Members that are known at the decision, each with its leading comma.
pub fn members(json: &mut Json<'_>, request: &Request<'_>) {
    json.raw(",\"operation\":\"");
    if let Some(operation) = request.operation {
        json.part(operation.service.as_bytes(), MAX_SERVICE);
        json.raw(":");
        json.part(operation.name.as_deref().unwrap_or("?"), MAX_OPERATION);
        json.raw("\"");
        if operation.asks.len() > 1 {
            json.count(",\"asks\":", operation.asks.len() as u64);
        }
    } else {
        json.raw("http:");
        json.part(request.method, MAX_SERVICE);
        json.raw("\"");
    }
    if let Some(signer) = &request.identity.signer {
        json.field(",\"key\":", signer.key_id.as_bytes(), 24);
    }
    json.raw(",\"verdict\":\"");
    json.raw(request.identity.signature.as_str());
    json.raw("\"");
}

/// Appends the resource as it is: it is escaped and cut when the line is written and the room for it known.
pub fn resource(buffer: &mut Vec<u8>, request: &Request<'_>, path: Option<&[u8]>) {
    match request.operation {
        Some(operation) => {
            // The first of several; the event names more, and `asks` how many there are.
            if let Some(Resource::Arn { arn, .. }) = operation.asks.first().map(|ask| &ask.resource) {
                buffer.extend_from_slice(&arn.as_bytes()[..arn.len().min(MAX_INTENT)]);
            }
        }
        None => {
            buffer.extend_from_slice(request.host.to_string().as_bytes());
            let path = path.unwrap_or_default();
            buffer.extend_from_slice(&path[..path.len().min(MAX_INTENT)]);
        }
    }
}

/// The whole line but its end, see [`super::lane::Lane::append`].
pub fn write(json: &mut Json<'_>, stamp: &Stamp<'_>, flow: u64, (members, resource): (&[u8], &[u8])) {
    // The lane's buffer holds the chain before the line.
    let start = json.0.len();
    json.raw("{\"exeat\":\"intent\",\"time\":\"");
    json.raw(stamp.time);
    json.raw("\",\"flow\":\"");
    stamp.flow(json, flow);
    json.raw("\"");
    json.0.extend_from_slice(members);
    if !resource.is_empty() {
        json.raw(",\"resource\":");
        let used = json.0.len() - start + 2 + stamp.lane.len() + TAIL;
        json.text(resource, MAX_INTENT.saturating_sub(used));
    }
}
