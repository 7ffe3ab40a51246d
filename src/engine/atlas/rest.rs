//! Which operation a method, path and query name, where a service's API is REST.
//!
//! A service's templates are one tree. A literal segment is tried before a label, a label before a greedy one, and a
//! longer literal tail of a greedy one before a shorter. What else must be in the request, literal
//! query keys and S3's required members, settles the rest; two readings that contradict are refused.

use super::actions::{Condition, Row};
use super::query::{Found, Pairs};
use crate::engine::request::RequestHead;

/// Templates of one service; node 0 is `/`.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literals: Vec<(&'static str, u32)>,
    label: Option<u32>,
    greedy: Option<u32>,
    /// Operations whose template ends here, by their methods.
    rows: Vec<(&'static str, Vec<u16>)>,
}

/// What the rows of one node say to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pick {
    Row(u16),
    Nothing,
    /// Two operations, or a key that two readers read differently.
    Ambiguous,
}

impl Tree {
    pub(super) fn of(rows: &[Row]) -> Self {
        let mut tree = Self { nodes: vec![Node::default()] };
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| !row.uri.is_empty()) {
            let mut node = 0;
            for segment in segments(row.uri) {
                node = tree.child(node, segment);
            }
            let rows = &mut tree.nodes[node].rows;
            match rows.iter_mut().find(|(method, _)| *method == row.method) {
                Some((_, same)) => same.push(at as u16),
                None => rows.push((row.method, vec![at as u16])),
            }
        }
        tree
    }

    fn child(&mut self, node: usize, segment: &'static str) -> usize {
        let next = self.nodes.len() as u32;
        let parent = &mut self.nodes[node];
        let greedy = segment.ends_with("+}");
        let slot = if segment.starts_with('{') && greedy {
            &mut parent.greedy
        } else if segment.starts_with('{') {
            &mut parent.label
        } else if let Some((_, child)) = parent.literals.iter().find(|(text, _)| *text == segment) {
            return *child as usize;
        } else {
            parent.literals.push((segment, next));
            self.nodes.push(Node::default());
            return next as usize;
        };
        let child = *slot.get_or_insert(next);
        if child == next {
            self.nodes.push(Node::default());
        }
        child as usize
    }

    /// The operation of a request. `path`: raw, its segments none of them empty or dots (see [`segments`]).
    pub(super) fn find(&self, rows: &[Row], path: &str, request: &Asked<'_>) -> Pick {
        let parts: Vec<&str> = segments(path).collect();
        self.walk(0, &parts, rows, request)
    }

    fn walk(&self, node: usize, parts: &[&str], rows: &[Row], request: &Asked<'_>) -> Pick {
        let node = &self.nodes[node];
        let Some((part, rest)) = parts.split_first() else { return request.pick(rows, &node.rows) };
        if let Some((_, child)) = node.literals.iter().find(|(text, _)| text == part) {
            let pick = self.walk(*child as usize, rest, rows, request);
            if pick != Pick::Nothing {
                return pick;
            }
        }
        if let Some(child) = node.label {
            let pick = self.walk(child as usize, rest, rows, request);
            if pick != Pick::Nothing {
                return pick;
            }
        }
        let Some(child) = node.greedy else { return Pick::Nothing };
        let takes = 1..=parts.len();
        takes
            .map(|taken| self.walk(child as usize, &parts[taken..], rows, request))
            .find(|pick| *pick != Pick::Nothing)
            .unwrap_or(Pick::Nothing)
    }

    /// Rows of `/`, `/{Bucket}` and `/{Bucket}/{Key+}`: S3 reads its paths itself.
    pub(super) fn s3_rows(&self, level: S3Level) -> &[(&'static str, Vec<u16>)] {
        let bucket = self.nodes[0].label.map(|at| &self.nodes[at as usize]);
        let node = match level {
            S3Level::Service => Some(&self.nodes[0]),
            S3Level::Bucket => bucket,
            S3Level::Object => bucket.and_then(|b| b.greedy).map(|at| &self.nodes[at as usize]),
        };
        node.map_or(&[], |n| &n.rows)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum S3Level {
    Service,
    Bucket,
    Object,
}

/// Segments of a path or a template; one `/` at the end says nothing.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    inner.split('/').filter(move |_| !inner.is_empty())
}

/// The parts of a request that conditions look at.
pub(super) struct Asked<'a> {
    pub head: &'a RequestHead,
    pub query: &'a Pairs<'a>,
    /// `x-amz-*` headers may stand in the query: S3's presigned requests.
    pub headers_in_query: bool,
}

impl Asked<'_> {
    /// The row of these whose method and conditions hold. Its conditions must include those of every other that holds.
    pub(super) fn pick(&self, rows: &[Row], of: &[(&'static str, Vec<u16>)]) -> Pick {
        let method = self.head.method();
        let of = of.iter().find(|(own, _)| *own == method).map_or(&[][..], |(_, of)| of);
        let conditions = |at: u16| &rows[usize::from(at)].conditions;
        let (mut best, mut others) = (None, Vec::new());
        for &at in of {
            match (self.all_hold(&rows[usize::from(at)]), best) {
                (None, _) => return Pick::Ambiguous,
                (Some(false), _) => {}
                (Some(true), None) => best = Some(at),
                (Some(true), Some(before)) if conditions(at).len() > conditions(before).len() => {
                    others.push(before);
                    best = Some(at);
                }
                (Some(true), Some(_)) => others.push(at),
            }
        }
        let Some(best) = best else { return Pick::Nothing };
        let contradicts = |at: u16| {
            conditions(at).len() == conditions(best).len()
                || conditions(at).iter().any(|c| !conditions(best).contains(c))
        };
        if others.into_iter().any(contradicts) { Pick::Ambiguous } else { Pick::Row(best) }
    }

    /// `None` where a condition's key is repeated or oddly cased.
    fn all_hold(&self, row: &Row) -> Option<bool> {
        let mut all = true;
        for condition in &row.conditions {
            all &= self.holds(condition)?;
        }
        Some(all)
    }

    fn holds(&self, condition: &Condition) -> Option<bool> {
        match condition {
            Condition::Query(key) => match self.query.find(key) {
                Found::No => Some(false),
                Found::Once(_) => Some(true),
                Found::Unclear => None,
            },
            Condition::QueryValue(key, want) => match self.query.find(key) {
                Found::No => Some(false),
                Found::Once(value) => Some(value == *want),
                Found::Unclear => None,
            },
            Condition::Header(name) => self.header(name).map(|value| value.is_some()),
        }
    }

    /// A header's value, or of the query parameter that stands for it; the outer `None` where there are two.
    pub(super) fn header(&self, name: &'static str) -> Option<Option<&str>> {
        let in_query = self.headers_in_query && self.query.has(name);
        match (self.head.has(name), in_query) {
            (false, false) => Some(None),
            (true, false) => self.head.only_text(name).map(Some),
            (false, true) => self.query.only_any_case(name).map(Some),
            (true, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let lines = [
            "ByGreedy\t\t\tGET\t/p/{arn+}\t",
            "ByGreedyTail\t\t\tGET\t/p/{arn+}/settings\t",
            "ByLabel\t\t\tGET\t/f/{name}\t",
            "ByLiteral\t\t\tGET\t/f/all/\t",
            "Plain\t\t\tPOST\t/t\t",
            "WithKey\t\t\tPOST\t/t\tq:List",
            "WithOther\t\t\tPOST\t/t\tq:mode=x",
        ];
        lines.iter().map(|line| Row::parse("svc", line)).collect()
    }

    fn find(method: &str, target: &str) -> Result<&'static str, Pick> {
        let rows = rows();
        let head =
            RequestHead::parse(format!("{method} {target} HTTP/1.1\r\nhost: a.test\r\n\r\n").into()).unwrap();
        let query = Pairs::parse(head.query().unwrap_or_default()).unwrap();
        let asked = Asked { head: &head, query: &query, headers_in_query: false };
        match Tree::of(&rows).find(&rows, head.path(), &asked) {
            Pick::Row(at) => {
                Ok(["ByGreedy", "ByGreedyTail", "ByLabel", "ByLiteral", "Plain", "WithKey", "WithOther"]
                    [usize::from(at)])
            }
            other => Err(other),
        }
    }

    #[test]
    fn literals_come_before_labels_and_long_tails_before_short() {
        assert_eq!(find("GET", "/f/all"), Ok("ByLiteral"));
        assert_eq!(find("GET", "/f/one"), Ok("ByLabel"));
        assert_eq!(find("GET", "/p/a/b"), Ok("ByGreedy"));
        assert_eq!(find("GET", "/p/a/b/settings"), Ok("ByGreedyTail"));
        assert_eq!(find("GET", "/f/one/two"), Err(Pick::Nothing));
        assert_eq!(find("PUT", "/f/one"), Err(Pick::Nothing));
    }

    #[test]
    fn query_keys_decide_between_twins_and_contradictions_are_refused() {
        assert_eq!(find("POST", "/t"), Ok("Plain"));
        assert_eq!(find("POST", "/t?List"), Ok("WithKey"));
        assert_eq!(find("POST", "/t?mode=x&other=1"), Ok("WithOther"));
        assert_eq!(find("POST", "/t?mode=y"), Ok("Plain"));
        for target in ["/t?List&mode=x", "/t?List&List", "/t?list", "/t?mode=x&Mode=y"] {
            assert_eq!(find("POST", target), Err(Pick::Ambiguous), "{target}");
        }
    }
}
