//! What an earlier start left at the end of its file, for the next one to vouch for: who takes lines off a lane that was
//! killed leaves them missing there, also where they lay amid other lanes' lines.

use super::json::Json;
use super::lane::Chain;
use super::verify::{Last, lane_of};

/// Lanes that are named. There is one for each worker, and a lane's first line has room for so many.
const MOST: usize = 64;

/// Read once, at start.
#[derive(Debug, Default)]
pub struct Left {
    /// Chain of the last line of ours.
    pub after: Option<Chain>,
    /// Where each lane of that line's start ended, the one that wrote last first.
    heads: Vec<Last>,
}

impl Left {
    /// Out of a file's last bytes. Fragments and other programs' lines count for nothing.
    pub fn read(tail: &[u8]) -> Self {
        let Some(whole) = memchr::memrchr(b'\n', tail) else { return Self::default() };
        let mut heads: Vec<Last> = Vec::new();
        for line in tail[..whole].rsplit(|&byte| byte == b'\n') {
            if heads.len() == MOST {
                break;
            }
            let Some(lane) = lane_of(line) else { continue };
            // Lanes of starts before that one were vouched for by it; and most lines are of a lane that is known already.
            let boot = heads.first().map_or("", Last::boot);
            if lane.starts_with(boot.as_bytes()) && heads.iter().all(|head| head.lane.as_bytes() != lane) {
                heads.extend(Last::of(line));
            }
        }
        Self { after: heads.first().map(|last| last.chain), heads }
    }

    /// Members of a `lane` line.
    pub(super) fn write(&self, json: &mut Json<'_>) {
        if let Some(after) = &self.after {
            json.raw(",\"after\":\"");
            json.hex(after);
            json.raw("\"");
        }
        for (at, Last { lane, seq, chain }) in self.heads.iter().enumerate() {
            json.raw(if at == 0 { ",\"heads\":[{\"lane\":\"" } else { ",{\"lane\":\"" });
            json.raw(lane);
            json.count("\",\"seq\":", *seq);
            json.raw(",\"head\":\"");
            json.hex(chain);
            json.raw("\"}");
        }
        if !self.heads.is_empty() {
            json.raw("]");
        }
    }
}
