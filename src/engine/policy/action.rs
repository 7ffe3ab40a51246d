//! What a statement's `action` names: `service:Name` with wildcards, an access-level set `service:@read`, or `*`.

use std::fmt;

use super::pattern::Glob;
use crate::engine::atlas::{AccessLevel, Atlas, ListedAction};
use crate::engine::facts::Action;
use crate::engine::words::nearest;

#[derive(Debug, Clone)]
pub struct ActionPattern {
    /// IAM's prefix; `None`: every service of AWS, and every name.
    service: Option<Box<str>>,
    names: Names,
}

#[derive(Debug, Clone)]
enum Names {
    Like(Glob),
    /// Those of one level, in the list that the atlas had when the policy was read.
    Level(AccessLevel, &'static [ListedAction]),
}

/// Why a text names no action.
#[derive(Debug, PartialEq, Eq)]
pub enum ActionError {
    Malformed(String),
    Service(String, Option<&'static str>),
    Set(String, Option<&'static str>),
    Name(String, Option<String>),
}

impl ActionPattern {
    pub fn parse(text: &str, atlas: &'static Atlas) -> Result<Self, ActionError> {
        if text == "*" {
            return Ok(Self { service: None, names: Names::Like(Glob::new("*")) });
        }
        let malformed = || ActionError::Malformed(text.to_owned());
        let (service, name) = text.split_once(':').ok_or_else(malformed)?;
        let service = service.to_ascii_lowercase();
        let plain = |text: &str, more: &[u8]| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        if !plain(&service, b"-") || !plain(name.strip_prefix('@').unwrap_or(name), b"-*?") {
            return Err(malformed());
        }
        // IAM's list lags behind: a service of the atlas may have no action in it yet.
        let new = || atlas.has_prefix(&service).then_some(&[][..]);
        let Some(listed) = atlas.actions(&service).or_else(new) else {
            let meant = nearest(&service, atlas.prefixes());
            return Err(ActionError::Service(service, meant));
        };
        if let Some(set) = name.strip_prefix('@') {
            let level = set.parse().map_err(|()| {
                let meant = nearest(set, AccessLevel::ALL.iter().map(|level| level.as_str()));
                ActionError::Set(set.to_owned(), meant)
            })?;
            return Ok(Self { service: Some(service.into()), names: Names::Level(level, listed) });
        }
        let names = Glob::new(name);
        if names.is_literal() && ListedAction::find(listed, name).is_none() {
            // An operation that is newer than the list asks for an action of its own name.
            let asked = atlas.actions_of_operation(&service, name);
            if asked.is_empty() {
                let meant = nearest(name, listed.iter().map(|action| action.name));
                let meant = meant.map(|meant| format!("{service}:{meant}"));
                return Err(ActionError::Name(text.to_owned(), meant));
            }
            if !asked.iter().any(|action| is(action, &service, name)) {
                return Err(ActionError::Name(text.to_owned(), Some(asked.join("` and `"))));
            }
        }
        Ok(Self { service: Some(service.into()), names: Names::Like(names) })
    }

    /// `*`: every action of every service.
    pub fn is_any(&self) -> bool {
        self.service.is_none()
    }

    pub fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// Every action of its service, those too that nobody knows yet.
    pub fn is_whole_service(&self) -> bool {
        matches!(&self.names, Names::Like(glob) if glob.is_any())
    }

    /// `allow`: what the atlas doesn't know is named only by all of its service; a deny could mean it in any case.
    pub fn matches(&self, action: &Action, allow: bool) -> bool {
        match action {
            Action::Known(whole) => {
                let (service, name) = whole.split_once(':').unwrap_or((whole, ""));
                self.is_of(service)
                    && match &self.names {
                        Names::Like(glob) => glob.is_any() || glob.matches_ignoring_case(name),
                        Names::Level(level, listed) => match ListedAction::find(listed, name) {
                            Some(action) => action.level == *level,
                            None => !allow,
                        },
                    }
            }
            Action::Unknown(service) => self.is_of(service) && (!allow || self.is_whole_service()),
        }
    }

    fn is_of(&self, service: &str) -> bool {
        self.service.as_ref().is_none_or(|own| **own == *service)
    }

    /// Whatever `other` names, this names too.
    pub fn covers(&self, other: &Self) -> bool {
        let of = match (&self.service, &other.service) {
            (None, _) => return true,
            (Some(ours), Some(theirs)) => ours == theirs,
            (Some(_), None) => false,
        };
        of && match (&self.names, &other.names) {
            (Names::Like(ours), Names::Like(theirs)) => ours.covers_ignoring_case(theirs),
            (Names::Like(ours), Names::Level(..)) => {
                ours.is_any() || other.listed().all(|action| ours.matches_ignoring_case(action.name))
            }
            (Names::Level(ours, _), Names::Level(theirs, _)) => ours == theirs,
            (Names::Level(level, listed), Names::Like(theirs)) => {
                theirs.is_literal()
                    && ListedAction::find(listed, theirs.as_str()).is_some_and(|a| a.level == *level)
            }
        }
    }

    /// The listed actions that a set names; none for a pattern.
    fn listed(&self) -> impl Iterator<Item = &'static ListedAction> {
        let (level, listed) = match &self.names {
            Names::Level(level, listed) => (Some(*level), *listed),
            Names::Like(_) => (None, &[][..]),
        };
        listed.iter().filter(move |action| Some(action.level) == level)
    }

    /// The actions of the atlas that it names, `*` aside.
    pub fn known(&self, atlas: &'static Atlas) -> Vec<&'static ListedAction> {
        let all = self.service.as_deref().and_then(|service| atlas.actions(service)).unwrap_or_default();
        match &self.names {
            Names::Like(glob) => {
                all.iter().filter(|action| glob.matches_ignoring_case(action.name)).collect()
            }
            Names::Level(..) => self.listed().collect(),
        }
    }
}

impl fmt::Display for ActionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.service, &self.names) {
            (None, _) => f.write_str("*"),
            (Some(service), Names::Like(glob)) => write!(f, "{service}:{}", glob.as_str()),
            (Some(service), Names::Level(level, _)) => write!(f, "{service}:@{level}"),
        }
    }
}

fn is(action: &str, service: &str, name: &str) -> bool {
    action.split_once(':').is_some_and(|(of, called)| of == service && called.eq_ignore_ascii_case(name))
}

impl ActionError {
    pub fn message(&self) -> String {
        match self {
            Self::Malformed(text) => {
                format!(
                    "`{text}` is no action; want `service:Name` such as s3:GetObject, a set such as s3:@read, or `*`"
                )
            }
            Self::Service(name, _) => format!("unknown service `{name}`"),
            Self::Set(name, _) => {
                let known: Vec<_> = AccessLevel::ALL.iter().map(|level| format!("@{level}")).collect();
                format!("unknown set `@{name}`, want one of {}", known.join(", "))
            }
            Self::Name(text, _) => format!("unknown action `{text}`"),
        }
    }

    pub fn help(&self) -> Option<String> {
        let meant = match self {
            Self::Malformed(_) => return None,
            Self::Service(_, meant) => (*meant)?.to_owned(),
            Self::Set(_, meant) => format!("@{}", (*meant)?),
            Self::Name(_, meant) => meant.clone()?,
        };
        Some(format!("did you mean `{meant}`?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_action_is_named_by_its_name_and_by_its_level_alone() {
        let atlas = Atlas::built_in();
        for prefix in atlas.prefixes() {
            let sets: Vec<_> = AccessLevel::ALL
                .iter()
                .map(|level| (*level, ActionPattern::parse(&format!("{prefix}:@{level}"), atlas).unwrap()))
                .collect();
            for listed in atlas.actions(prefix).unwrap() {
                let whole = format!("{prefix}:{}", listed.name);
                let action = Action::Known(whole.as_str().into());
                assert!(ActionPattern::parse(&whole, atlas).unwrap().matches(&action, true), "{whole}");
                for (level, set) in &sets {
                    assert_eq!(set.matches(&action, true), *level == listed.level, "{whole} @{level}");
                }
            }
        }
    }

    #[test]
    fn what_nobody_listed_could_be_of_every_level_and_is_of_none() {
        let atlas = Atlas::built_in();
        let parsed = |text| ActionPattern::parse(text, atlas).unwrap();
        for action in [Action::Unknown("s3".into()), Action::Known("s3:Novelty".into())] {
            for text in ["s3:@read", "s3:@permissions"] {
                assert!(
                    parsed(text).matches(&action, false) && !parsed(text).matches(&action, true),
                    "{text}"
                );
            }
            assert!(parsed("s3:*").matches(&action, true) && parsed("*").matches(&action, true));
            assert!(!parsed("sqs:*").matches(&action, false));
        }
        assert!(!parsed("s3:Get*").matches(&Action::Unknown("s3".into()), true));
        assert!(parsed("S3:getobject").matches(&Action::Known("s3:GetObject".into()), true));
    }

    #[test]
    fn a_pattern_covers_what_it_names_and_nothing_it_might_not() {
        let atlas = Atlas::built_in();
        let parsed = |text| ActionPattern::parse(text, atlas).unwrap();
        for (outer, inner, covers) in [
            ("*", "s3:*", true),
            ("s3:*", "*", false),
            ("s3:*", "s3:@read", true),
            ("s3:*", "sqs:SendMessage", false),
            ("s3:Get*", "s3:GetObject", true),
            ("s3:Get*", "s3:@read", false),
            ("s3:@read", "s3:GetObject", true),
            ("s3:@read", "s3:GetObjectVersion", true),
            ("s3:@read", "s3:PutObject", false),
            ("s3:@read", "s3:Get*", false),
            ("s3:@read", "s3:@read", true),
            ("s3:@read", "s3:@list", false),
        ] {
            assert_eq!(parsed(outer).covers(&parsed(inner)), covers, "{outer} {inner}");
        }
    }
}
