//! Which process of this machine asked, where records are to tell.

use crate::support::aws::{self, S3};
use crate::support::proxy::{Proxy, Setup};
use crate::support::sign::{Body, CREDENTIALS, OURS, s3_head_as};
use crate::support::tls::Ca;

const POLICY: &str = "version: 1
statements:
  - {id: ours, effect: allow, action: s3:*, resource: 'arn:aws:s3:::ours/*'}
";

#[tokio::test]
async fn every_request_of_a_connection_names_the_process_that_holds_it_where_that_is_asked_for() {
    for (config, told) in [("records: {process: true}\n", true), ("{}\n", false)] {
        let ca = Ca::new();
        let (_origin, address) = aws::origin_saying(&ca, |_| aws::ok("ok")).await;
        let proxy = Proxy::start(&Setup {
            policy: POLICY,
            connect_to: vec![("*:443".into(), address)],
            upstream_ca: ca.pem(),
            credentials: CREDENTIALS,
            config,
            audit: None,
        });
        let mut client = proxy.intercepted(S3).await;
        for path in ["/ours/a", "/ours/b", "/theirs/c"] {
            let head = s3_head_as(&OURS, "GET", S3, path, &[], &Body::Bytes(b""), None);
            aws::ask(&mut client, head.as_bytes()).await;
        }
        let events = proxy.events();
        assert_eq!(events.len(), 3, "{events:?}");
        for event in events {
            let ours = &event["additionalEventData"]["exeat"];
            let (pid, name) = (ours.get("pid"), ours.get("process"));
            assert_eq!((pid.is_some(), name.is_some()), (told, told), "{event}");
            if told {
                assert_eq!(ours["pid"], std::process::id(), "{event}");
                let own = std::env::current_exe().unwrap();
                let own = own.file_name().unwrap().to_string_lossy();
                assert!(own.starts_with(ours["process"].as_str().unwrap()), "{event}");
            }
        }
    }
}
