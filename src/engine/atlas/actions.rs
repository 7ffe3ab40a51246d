//! One operation's row: its name, its IAM actions, and how a REST request for it looks.
//!
//! An action has its operation's name unless the file says otherwise (`tools/atlas/exceptions.toml`). What a request
//! adds to that (a version, a copy's source, an ACL) is read in `s3.rs` and `resource.rs`.

use std::sync::Arc;

use super::data::list;
use crate::engine::facts::{Action, Ask, Name, Resource};

/// An operation as the file has it: `name actions flags [method uri conditions [optional query keys]]`.
#[derive(Debug)]
pub(super) struct Row {
    pub name: Name,
    /// `prefix:Action` each; at least one.
    pub actions: Vec<Name>,
    /// No resource can be named for it: the action list says so.
    pub no_resource: bool,
    pub method: &'static str,
    /// `/{Bucket}/{Key+}`; empty for RPC protocols.
    pub uri: &'static str,
    pub conditions: Vec<Condition>,
    /// Query keys it may carry; S3 alone.
    pub optional: Vec<&'static str>,
}

/// What must stand in a REST request beside method and path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Query(&'static str),
    QueryValue(&'static str, &'static str),
    Header(&'static str),
}

impl Row {
    /// `iam`: prefix of actions that name none.
    pub(super) fn parse(iam: &str, line: &'static str) -> Self {
        let mut fields = line.split('\t');
        let mut field = || fields.next().unwrap_or_default();
        let name = field();
        let mut actions: Vec<Name> = list(field()).map(|action| spelled(iam, action)).collect();
        if actions.is_empty() {
            actions.push(spelled(iam, name));
        }
        let flags = field();
        Self {
            name: name.into(),
            actions,
            no_resource: flags.contains('n'),
            method: field(),
            uri: field(),
            conditions: list(field()).filter_map(Condition::parse).collect(),
            optional: list(field()).collect(),
        }
    }

    /// Its actions, all on one resource.
    pub(super) fn on(&self, resource: &Resource) -> Vec<Ask> {
        let ask = |action| Ask { action: Action::Known(Arc::clone(action)), resource: resource.clone() };
        self.actions.iter().map(ask).collect()
    }
}

fn spelled(iam: &str, action: &str) -> Name {
    if action.contains(':') { action.into() } else { format!("{iam}:{action}").into() }
}

impl Condition {
    fn parse(text: &'static str) -> Option<Self> {
        match (text.split_at_checked(2)?, text.split_once('=')) {
            (("q:", _), Some((key, value))) => Some(Self::QueryValue(&key[2..], value)),
            (("q:", key), None) => Some(Self::Query(key)),
            (("h:", name), _) => Some(Self::Header(name)),
            _ => None,
        }
    }

    pub(super) fn query_key(&self) -> Option<&'static str> {
        match self {
            Self::Query(key) | Self::QueryValue(key, _) => Some(key),
            Self::Header(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_takes_the_service_prefix_unless_it_brings_its_own() {
        let row = Row::parse(
            "s3",
            "ListDirectoryBuckets\ts3express:ListAllMyDirectoryBuckets\tn\tGET\t/\t\tprefix",
        );
        assert_eq!(&*row.actions[0], "s3express:ListAllMyDirectoryBuckets");
        assert!(row.no_resource);
        assert_eq!(row.optional, ["prefix"]);
        let row = Row::parse("dynamodb", "GetItem\t\t");
        assert_eq!(&*row.actions[0], "dynamodb:GetItem");
        assert!(!row.no_resource);
    }

    #[test]
    fn conditions_are_read_with_and_without_a_value() {
        let row = Row::parse("s3", "X\t\t\tPUT\t/{Bucket}\tq:list-type=2,q:acl,h:x-amz-copy-source");
        let want = [
            Condition::QueryValue("list-type", "2"),
            Condition::Query("acl"),
            Condition::Header("x-amz-copy-source"),
        ];
        assert_eq!(row.conditions, want);
    }
}
