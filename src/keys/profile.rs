//! The shared credentials and config files of AWS SDKs (SDKs and Tools Reference Guide, "Shared config and
//! credentials files"): sections of `name = value` lines, as far as static keys need them.

use std::path::Path;

use super::KeysError;

/// How a file names its sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionNames {
    /// `[name]`: the credentials file.
    Plain,
    /// `[profile name]` and `[default]`: the config file; other sections aren't profiles.
    Prefixed,
    /// Either: a file that was named to us.
    Any,
}

/// The profiles of one file. Borrows its text, so that secrets lie in one place, which the caller wipes.
#[derive(Debug)]
pub struct Profiles<'t>(Vec<Profile<'t>>);

pub struct Profile<'t> {
    name: &'t str,
    path: &'t Path,
    /// Of its heading, from 1.
    line: usize,
    values: Vec<(&'t str, &'t str)>,
}

impl<'t> Profiles<'t> {
    pub fn parse(text: &'t str, path: &'t Path, names: SectionNames) -> Result<Self, KeysError> {
        let malformed = |line, what| KeysError::Malformed { path: path.into(), line, what };
        let mut profiles: Vec<Profile<'t>> = Vec::new();
        // Section being read: none yet, one that is no profile, or a profile's index.
        let mut current: Option<Option<usize>> = None;
        // Indent of the section's last setting.
        let mut above: Option<usize> = None;
        for (line, text) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let bare = text.trim();
            if bare.is_empty() || bare.starts_with(['#', ';']) {
                continue;
            }
            if let Some(heading) = bare.strip_prefix('[') {
                let Some((heading, _)) = heading.split_once(']') else {
                    return Err(malformed(line, "section heading without `]`"));
                };
                above = None;
                current = Some(profile_name(heading.trim(), names).map(|name| {
                    profiles.iter().position(|p| p.name == name).unwrap_or_else(|| {
                        profiles.push(Profile { name, path, line, values: Vec::new() });
                        profiles.len() - 1
                    })
                }));
                continue;
            }
            let Some(current) = current else {
                return Err(malformed(line, "a setting before the first `[profile]`"));
            };
            let indent = text.len() - text.trim_start().len();
            if above.is_some_and(|above| indent > above) {
                // Settings within a setting (`s3 =`): none that we need.
                continue;
            }
            above = Some(indent);
            let Some((name, value)) = bare.split_once('=') else {
                return Err(malformed(line, "neither a `[profile]` nor `name = value`"));
            };
            if let Some(at) = current {
                profiles[at].values.push((name.trim(), without_comment(value.trim())));
            }
        }
        Ok(Self(profiles))
    }

    pub fn get(&self, name: &str) -> Option<&Profile<'t>> {
        self.0.iter().find(|profile| profile.name == name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Profile<'t>> {
        self.0.iter()
    }
}

impl Profile<'_> {
    /// The last value given for a name, in any case; an empty one counts as none.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut given = self.values.iter().rev();
        given.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value).filter(|v| !v.is_empty())
    }

    pub fn malformed(&self, what: &'static str) -> KeysError {
        KeysError::Malformed { path: self.path.into(), line: self.line, what }
    }
}

impl std::fmt::Debug for Profile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("name", &self.name).finish_non_exhaustive()
    }
}

fn profile_name(heading: &str, names: SectionNames) -> Option<&str> {
    let prefixed = heading.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t']));
    let prefixed = prefixed.map(|name| name.trim().trim_matches('"'));
    match names {
        SectionNames::Plain => Some(heading),
        SectionNames::Prefixed => prefixed.or((heading == "default").then_some(heading)),
        SectionNames::Any => prefixed.or(Some(heading)),
    }
}

/// A `#` or `;` after a blank starts a comment.
fn without_comment(value: &str) -> &str {
    let is_comment = |at: &usize| value[..*at].ends_with([' ', '\t']);
    let comment = value.match_indices(['#', ';']).map(|(at, _)| at).find(is_comment);
    comment.map_or(value, |at| value[..at].trim_end())
}
