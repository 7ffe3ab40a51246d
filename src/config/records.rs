//! `records:` of the settings: how audit lines are kept, and what of the calls' data may stand in them.

use std::time::Duration;

use super::limits::duration_up_to;
use super::{Key, Resolver};
use crate::engine::data::{AllowedMember, DataLevel, DataRules, Hidden};
use crate::engine::facts::words;

/// A file name's number of five digits is a mistake.
pub(super) const MOST_KEPT: u32 = 9_999;
/// A month of an hour a file, and enough of larger ones.
const DEFAULT_KEPT: u32 = 10;
const MOST_AGE: Duration = Duration::from_secs(31 * 24 * 3600);

words! {
    /// What becomes of a request whose line is not taken.
    pub enum OnFailure {
        /// 503 `limit.audit`. There is no other way: nothing leaves unrecorded.
        Deny = "deny",
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSettings {
    pub rotate_size: Option<u64>,
    pub rotate_age: Option<Duration>,
    /// How many files that were set aside are kept.
    pub keep: u32,
    pub on_failure: OnFailure,
    /// Processes of this machine are named; by default in `exec`, where they are one person's. It costs each new
    /// connection a look through /proc.
    pub process: Option<bool>,
    /// Off, because parameters are the workload's business until somebody asks for them.
    pub level: DataLevel,
    pub include_data: bool,
    pub data: Vec<AllowedMember>,
    pub hide_paths: Vec<String>,
    pub hide_patterns: Vec<String>,
}

impl Default for RecordSettings {
    fn default() -> Self {
        Self {
            rotate_size: None,
            rotate_age: None,
            keep: DEFAULT_KEPT,
            on_failure: OnFailure::Deny,
            process: None,
            level: DataLevel::Off,
            include_data: false,
            data: Vec::new(),
            hide_paths: Vec::new(),
            hide_patterns: Vec::new(),
        }
    }
}

impl RecordSettings {
    /// The rules about data; `None` where none is recorded.
    pub fn rules(&self) -> Option<DataRules> {
        let mut hidden = Hidden::default();
        for path in &self.hide_paths {
            hidden.add_path(path);
        }
        for pattern in &self.hide_patterns {
            hidden.add_pattern(pattern);
        }
        let rules = || DataRules::new(self.level, self.include_data, self.data.iter().cloned(), hidden);
        (self.level != DataLevel::Off).then(rules)
    }
}

impl Resolver<'_> {
    pub(super) fn records(&mut self) -> RecordSettings {
        let default = RecordSettings::default();
        let age = |text: &str| duration_up_to(text, MOST_AGE);
        let kept = |text: &str| text.parse().ok().filter(|count| (1..=MOST_KEPT).contains(count));
        RecordSettings {
            rotate_size: self.one(Key::RecordsRotateSize, "a size such as 512KiB, 64MiB or 1GiB", size),
            rotate_age: self.one(Key::RecordsRotateAge, "a time such as 30m or 24h, 744h at most", age),
            keep: self.one(Key::RecordsKeep, "a number from 1 to 9999", kept).unwrap_or(default.keep),
            on_failure: self
                .one(Key::RecordsOnFailure, "deny", |text| text.parse().ok())
                .unwrap_or(default.on_failure),
            process: self.one(Key::RecordsProcess, "true or false", |text| text.parse().ok()),
            level: self
                .one(Key::RecordsLevel, "all, error, fatal or off", |text| text.parse().ok())
                .unwrap_or(default.level),
            include_data: self
                .one(Key::RecordsIncludeData, "true or false", |text| text.parse().ok())
                .unwrap_or(default.include_data),
            data: self.many(Key::RecordsData, |text| {
                let want = "SERVICE:OPERATION with a member such as requestParameters.TableName";
                AllowedMember::parse(text).ok_or_else(|| want.into())
            }),
            hide_paths: self.many(Key::RecordsHidePaths, |text| {
                let known = Hidden::default().add_path(text).then(|| text.to_owned());
                known.ok_or("a member's name, or a path such as requestParameters.Item".into())
            }),
            hide_patterns: self.many(Key::RecordsHidePatterns, |text| {
                (!text.is_empty()).then(|| text.to_owned()).ok_or("a pattern".into())
            }),
        }
    }
}

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A whole number and a unit; at least a line's length.
fn size(text: &str) -> Option<u64> {
    let (unit, bytes) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    let number = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    number.parse::<u64>().ok()?.checked_mul(*bytes).filter(|&bytes| bytes >= 16 << 10)
}

/// In the largest unit that holds it whole.
pub(super) fn spelled_size(bytes: u64) -> String {
    let whole = UNITS.iter().find(|(_, unit)| bytes.is_multiple_of(*unit));
    whole.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_and_room_for_a_line() {
        for (text, want) in [("16KiB", Some(16 << 10)), ("64MiB", Some(64 << 20)), ("2GiB", Some(2 << 30))] {
            assert_eq!(size(text), want, "{text}");
        }
        for text in ["", "64", "64MB", "0MiB", "15KiB", "-1MiB", "1.5GiB", "MiB", "99999999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
        assert_eq!(spelled_size(64 << 20), "64MiB");
    }
}
