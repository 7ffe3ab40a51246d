//! `/metrics`: the page about it names what is there and nothing else, and no input makes a series of its own.

use std::collections::{BTreeMap, BTreeSet};

use exeat::engine::facts::*;
use exeat::engine::reason::Reason;
use exeat::record::Decision;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::support::proxy::Proxy;
use crate::support::sign::{As, Body, s3_head, s3_head_as};
use crate::support::{aws, tls};

/// `name{labels}` of each sample.
fn series(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

fn labels(series: &str) -> Vec<(&str, &str)> {
    let Some((_, labels)) = series.split_once('{') else { return Vec::new() };
    let pairs = labels.trim_end_matches("\"}").split("\",");
    pairs.map(|pair| pair.split_once("=\"").unwrap()).collect()
}

/// Name, kind and labels (without `le`) of each metric.
fn told(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut told: BTreeMap<_, _> =
        kinds.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), BTreeSet::new()))).collect();
    for one in series(text) {
        let name = one.split('{').next().unwrap();
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = bare.filter(|bare| told.contains_key(*bare)).unwrap_or(name);
        let entry = told.get_mut(name).unwrap_or_else(|| panic!("{name} has no TYPE"));
        entry
            .1
            .extend(labels(&one).iter().map(|(label, _)| (*label).to_owned()).filter(|label| label != "le"));
    }
    told
}

/// The tables of docs/metrics.md: `| name | kind | labels | … |`.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let text = std::fs::read_to_string(page).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let [name, kind, labels, ..] = cells[..] else { panic!("{line}") };
        let labels = labels.split('`').nth(1).unwrap_or_default().split_whitespace();
        Some((name.trim_matches('`').to_owned(), (kind.to_owned(), labels.map(str::to_owned).collect())))
    };
    text.lines().filter_map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_names_every_metric_with_its_kind_and_labels_and_no_other() {
    let (proxy, _origin) = aws::start().await;
    pass(&proxy, 1).await;
    let told = told(&proxy.metrics().await);
    let documented = documented();
    for (name, what) in &told {
        assert_eq!(documented.get(name), Some(what), "{name}");
    }
    for name in documented.keys() {
        assert!(told.contains_key(name), "docs/metrics.md names `{name}`, which is not there");
    }
}

/// One call that passes.
async fn pass(proxy: &Proxy, number: usize) {
    let mut client = proxy.intercepted(aws::S3).await;
    let path = format!("/ours/odd-{number}");
    let answer =
        aws::ask(&mut client, s3_head("GET", aws::S3, &path, &[], &Body::Bytes(b""), None).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// One of each kind of oddity, each with a name, a path, a key or bytes that never came before.
async fn odd(proxy: &Proxy, number: usize) {
    pass(proxy, number).await;
    let key = format!("AKIAODD{number:013}");
    let stranger = As { id: &key, secret: "odd", token: None, at: None };
    let mut client = proxy.intercepted(aws::S3).await;
    let head =
        s3_head_as(&stranger, "GET", aws::S3, &format!("/odd-{number}/x"), &[], &Body::Bytes(b""), None);
    assert!(aws::ask(&mut client, head.as_bytes()).await.starts_with("HTTP/1.1 403 "));
    let host = format!("odd-{number}.example.com");
    let mut client = proxy.intercepted(&host).await;
    let head = format!(
        "ODD{number} /odd{number}?odd={number} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: odd{number}\r\n\r\n"
    );
    assert!(aws::ask(&mut client, head.as_bytes()).await.starts_with("HTTP/1.1 403 "));
    for first in [
        format!("GET http://odd{number}.test/odd HTTP/1.1\r\nHost: odd{number}.test\r\n\r\n"),
        format!("CONNECT 10.0.0.{}:443 HTTP/1.1\r\nHost: x\r\n\r\n", number % 250),
        format!("CONNECT odd{number}.test:99999 HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("ODD{number} \u{1b}[2J\r\n\r\n"),
    ] {
        let mut socket = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        socket.write_all(first.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
    }
    // A name in the hello that CONNECT did not ask for.
    let socket = proxy.connect(&format!("odd{number}.test:443")).await.unwrap();
    assert!(tls::connect(socket, &format!("other{number}.test"), &proxy.ca_pem()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_host_path_key_or_method_makes_a_series() {
    let (proxy, _origin) = aws::start().await;
    for number in 0..3 {
        odd(&proxy, number).await;
    }
    let first = proxy.metrics().await;
    for number in 3..40 {
        odd(&proxy, number).await;
    }
    let last = proxy.metrics().await;
    assert!(!last.to_ascii_lowercase().contains("odd"), "{last}");
    let (first, last) = (series(&first), series(&last));
    assert_eq!(first, last, "more input, more series");
    // And each value is a word of its closed set.
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    macro_rules! of {
        ($set:ty) => {
            <$set>::ALL.iter().map(|word| word.as_str().to_owned()).collect::<BTreeSet<_>>()
        };
    }
    let with_none = |mut set: BTreeSet<String>| {
        set.insert(String::new());
        set
    };
    use exeat::record::metrics::{Connection, Group, Leg, PoolState, Reload, Resource};
    let closed = BTreeMap::from([
        ("door", of!(Door)),
        ("decision", of!(Decision)),
        ("reason", with_none(of!(Reason))),
        ("protocol", with_none(of!(Protocol))),
        ("state", of!(SignatureState).union(&of!(PoolState)).cloned().collect()),
        ("outcome", of!(PayloadOutcome)),
        ("auth", of!(Auth)),
        ("version", of!(TlsVersion).union(&words(&[env!("CARGO_PKG_VERSION")])).cloned().collect()),
        ("group", of!(Group)),
        ("connection", of!(Connection)),
        ("leg", of!(Leg)),
        ("resource", of!(Resource)),
        ("result", of!(Reload)),
    ]);
    for one in &last {
        for (label, value) in labels(one) {
            let known = match label {
                "lane" | "le" => value == "+Inf" || value.parse::<f64>().is_ok(),
                label => closed
                    .get(label)
                    .unwrap_or_else(|| panic!("{one}: a label without a closed set"))
                    .contains(value),
            };
            assert!(known, "{one}");
        }
    }
}
