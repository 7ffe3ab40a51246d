//! IAM's own list of actions, with the access level of each: what `service:@read` names, and what `check` knows.
//!
//! By IAM's prefixes, not by botocore's services; an action needs no operation (`s3:GetObjectVersion` has none). A
//! prefix's list is inflated when a policy or a check first asks for it, so a decision never does.

use std::ops::Range;
use std::sync::OnceLock;

use super::data::{Atlas, AtlasError, list};
use super::hosts::Endpoint;
use crate::engine::facts::{Name, words};

words! {
    /// What an action is for. Each action has one: what manages permissions or tags is not also a write.
    pub enum AccessLevel {
        List = "list",
        Read = "read",
        Write = "write",
        Tagging = "tagging",
        Permissions = "permissions",
    }
}

/// An action as IAM lists it.
#[derive(Debug, PartialEq, Eq)]
pub struct ListedAction {
    /// Without the prefix.
    pub name: &'static str,
    pub level: AccessLevel,
    /// It takes no resource: only `resource: "*"` names it.
    pub no_resource: bool,
}

/// The actions of one prefix.
#[derive(Debug)]
pub(super) struct ActionList {
    pub prefix: &'static str,
    pub chunk: Range<usize>,
    pub chunk_length: usize,
    pub actions: OnceLock<Vec<ListedAction>>,
}

impl Atlas {
    /// Every prefix that IAM has actions of, sorted.
    pub fn prefixes(&self) -> impl Iterator<Item = &'static str> {
        self.action_lists.iter().map(|list| list.prefix)
    }

    /// Actions of a prefix, sorted by name without regard to case. A damaged chunk has none.
    pub fn actions(&self, prefix: &str) -> Option<&[ListedAction]> {
        let at = self.action_lists.binary_search_by(|list| list.prefix.cmp(prefix)).ok()?;
        let found = &self.action_lists[at];
        Some(found.actions.get_or_init(|| {
            let text = self.chunk(&found.chunk, found.chunk_length).unwrap_or_default();
            ListedAction::read_all(text).unwrap_or_default()
        }))
    }
}

impl Atlas {
    /// Some service's operations ask for actions of this prefix.
    pub fn has_prefix(&self, prefix: &str) -> bool {
        self.services.iter().any(|service| &*service.iam == prefix)
    }

    /// What the operations of this name ask for, of the services that have this prefix: operations and actions often
    /// share a name, and people take the one for the other.
    pub fn actions_of_operation(&self, prefix: &str, operation: &str) -> Vec<Name> {
        let services = self.services.iter().filter(|service| &*service.iam == prefix);
        let rows = services.flat_map(|service| &self.operations(service).rows);
        let named = rows.filter(|row| row.name.eq_ignore_ascii_case(operation));
        named.flat_map(|row| row.actions.iter().cloned()).collect()
    }

    /// Prefixes of all actions that a call of this host could ask for.
    pub fn prefixes_of(&self, endpoint: &Endpoint) -> Vec<&str> {
        let mut prefixes = Vec::new();
        for service in endpoint.entry.services.iter().map(|&at| &self.services[usize::from(at)]) {
            prefixes.push(&*service.iam);
            prefixes.extend(match &*service.name {
                // The same API serves directory buckets, Outposts and Object Lambda under prefixes of their own.
                "s3" => &["s3express", "s3-object-lambda", "s3-outposts"][..],
                _ => &[],
            });
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes
    }
}

impl ListedAction {
    fn read_all(text: &'static str) -> Result<Vec<Self>, AtlasError> {
        let mut actions = Vec::new();
        for line in text.lines() {
            let mut fields = line.split('\t');
            let mut field = || fields.next().ok_or(AtlasError::Damaged("a line is short of fields"));
            let level = field()?.parse().map_err(|()| AtlasError::Damaged("unknown access level"))?;
            let no_resource = field()?.contains('n');
            actions.extend(list(field()?).map(|name| Self { name, level, no_resource }));
        }
        actions.sort_unstable_by(|a, b| order(a.name, b.name));
        Ok(actions)
    }

    /// The action of this name, in any case.
    pub fn find<'a>(actions: &'a [Self], name: &str) -> Option<&'a Self> {
        actions.binary_search_by(|action| order(action.name, name)).ok().map(|at| &actions[at])
    }
}

fn order(a: &str, b: &str) -> std::cmp::Ordering {
    a.bytes().map(|b| b.to_ascii_lowercase()).cmp(b.bytes().map(|b| b.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_the_built_in_file_has_actions_and_each_is_found() {
        let atlas = Atlas::built_in();
        assert_eq!(atlas.prefixes().count(), 456);
        let mut all = 0;
        for prefix in atlas.prefixes() {
            let actions = atlas.actions(prefix).unwrap();
            assert!(!actions.is_empty(), "{prefix}");
            for action in actions {
                assert_eq!(
                    ListedAction::find(actions, &action.name.to_ascii_uppercase()),
                    Some(action),
                    "{prefix}"
                );
            }
            all += actions.len();
        }
        assert_eq!(all, 22_091);
        assert!(atlas.actions("s4").is_none() && atlas.actions("").is_none());
    }

    #[test]
    fn levels_are_iams_and_exclude_each_other() {
        let s3 = Atlas::built_in().actions("s3").unwrap();
        let level = |name| ListedAction::find(s3, name).map(|action| action.level);
        assert_eq!(level("GetObjectVersion"), Some(AccessLevel::Read));
        assert_eq!(level("ListBucket"), Some(AccessLevel::List));
        assert_eq!(level("PutObject"), Some(AccessLevel::Write));
        assert_eq!(level("PutObjectTagging"), Some(AccessLevel::Tagging));
        assert_eq!(level("PutBucketPolicy"), Some(AccessLevel::Permissions));
        assert_eq!(level("PutObjectQuietly"), None);
        let none = |name| ListedAction::find(s3, name).map(|action| action.no_resource);
        assert_eq!((none("ListAllMyBuckets"), none("GetObject")), (Some(true), Some(false)));
    }

    #[test]
    fn every_action_that_an_operation_asks_for_can_be_named_in_a_policy() {
        let atlas = Atlas::built_in();
        let mut unlisted = 0;
        for service in &atlas.services {
            for action in atlas.operations(service).rows.iter().flat_map(|row| &row.actions) {
                let (prefix, name) = action.split_once(':').unwrap();
                let listed = atlas.actions(prefix).is_some_and(|all| ListedAction::find(all, name).is_some());
                unlisted += usize::from(!listed);
                let known = listed || atlas.actions_of_operation(prefix, name).contains(action);
                assert!(known && (listed || atlas.has_prefix(prefix)), "{action}");
            }
        }
        assert!(unlisted < 1_000, "{unlisted} operations ask for what IAM's list does not have");
    }

    #[test]
    fn a_damaged_list_is_refused() {
        assert!(ListedAction::read_all("read\t\tB,a\n").is_ok_and(|all| all[0].name == "a"));
        assert!(ListedAction::read_all("read\tA").is_err());
        assert!(ListedAction::read_all("reed\t\tA").is_err());
    }
}
