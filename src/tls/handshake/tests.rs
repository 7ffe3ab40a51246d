use rustls::pki_types::ServerName;
use rustls::version;
use tokio::io::{AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;

use super::super::Offer;
use super::super::testing::{BOTH, ONLY_12, ONLY_13, client, self_signed, shortly, soon};
use super::super::{system_clock, testing};
use super::*;
use crate::config::LegOptions;
use crate::engine::facts::TlsVersion;
use crate::engine::hello::build::Draft;

fn mint() -> Mint {
    Mint::in_memory(system_clock()).unwrap()
}

/// A client's handshake for `asked`, ours as `host`; both outcomes.
async fn meet(
    mint: &Mint,
    config: rustls::ClientConfig,
    asked: &str,
    host: &str,
) -> (io::Result<Vec<u8>>, Result<TlsFacts, String>) {
    let (near, mut far) = duplex(1 << 16);
    let name = ServerName::try_from(asked.to_owned()).unwrap();
    let client = async move {
        let mut tls = TlsConnector::from(std::sync::Arc::new(config)).connect(name, near).await?;
        tls.write_all(b"ping").await?;
        let mut answer = vec![0; 4];
        tls.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let server = async {
        let (bytes, hello) = read_hello(&mut far, Vec::new(), soon()).await.map_err(|e| e.to_string())?;
        let host = Host::parse(host).unwrap();
        assert_eq!(hello.sni.as_ref().is_some(), matches!(host, Host::Name(_)));
        let (mut tls, facts) = accept(Rewind::new(far, bytes), mint, &host, Offer::Http1, soon())
            .await
            .map_err(|e| format!("{e:?}"))?;
        let mut question = [0; 4];
        tls.read_exact(&mut question).await.map_err(|e| e.to_string())?;
        tls.write_all(&question).await.map_err(|e| e.to_string())?;
        tls.flush().await.map_err(|e| e.to_string())?;
        Ok(facts)
    };
    tokio::join!(client, server)
}

#[tokio::test]
async fn clients_that_trust_the_ca_shake_hands_at_1_3_and_1_2() {
    let mint = mint();
    for (versions, want) in
        [(BOTH, TlsVersion::Tls13), (ONLY_13, TlsVersion::Tls13), (ONLY_12, TlsVersion::Tls12)]
    {
        let (answer, facts) =
            meet(&mint, client(mint.ca_pem(), versions), "api.example.com", "api.example.com").await;
        assert_eq!(answer.unwrap(), b"ping");
        let facts = facts.unwrap();
        assert_eq!((facts.version, facts.sni.as_deref()), (want, Some("api.example.com")));
        if want == TlsVersion::Tls13 {
            assert_eq!(facts.group, Some("X25519MLKEM768"));
            assert_eq!(facts.cipher, "TLS13_AES_256_GCM_SHA384");
        }
    }
}

#[tokio::test]
async fn the_clients_leg_can_be_narrowed() {
    use crate::config::LegOptions;
    let with = |options: LegOptions| mint().with_options(&options).unwrap();
    let only_13 = with(LegOptions { only_tls13: true, ..LegOptions::default() });
    let host = "api.example.com";
    let (_, refused) = meet(&only_13, client(only_13.ca_pem(), ONLY_12), host, host).await;
    assert_eq!(refused.unwrap_err(), "BelowFloor");
    meet(&only_13, client(only_13.ca_pem(), BOTH), host, host).await.0.unwrap();
    let narrow =
        with(LegOptions { ciphers: Some(vec![0x1301]), groups: Some(vec![0x0017]), ..LegOptions::default() });
    let (_, facts) = meet(&narrow, client(narrow.ca_pem(), BOTH), host, host).await;
    let facts = facts.unwrap();
    assert_eq!((facts.cipher, facts.group), ("TLS13_AES_128_GCM_SHA256", Some("secp256r1")));
}

#[tokio::test]
async fn an_address_without_a_name_in_the_hello_gets_its_leaf() {
    let mint = mint();
    let (answer, _) = meet(&mint, client(mint.ca_pem(), BOTH), "198.51.100.7", "198.51.100.7").await;
    assert_eq!(answer.unwrap(), b"ping");
}

#[tokio::test]
async fn a_ca_that_has_ended_is_named_and_the_client_gets_an_alert() {
    let now = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(super::super::now().0));
    let read = now.clone();
    let clock = move || crate::engine::facts::Timestamp(read.load(std::sync::atomic::Ordering::Relaxed));
    let mint = Mint::for_a_day(std::sync::Arc::new(clock)).unwrap();
    let ask = || meet(&mint, client(mint.ca_pem(), BOTH), "a.test", "a.test");
    assert!(ask().await.1.is_ok());
    now.fetch_add(86_400, std::sync::atomic::Ordering::Relaxed);
    let (answer, outcome) = ask().await;
    assert!(answer.unwrap_err().to_string().contains("InternalError"));
    assert_eq!(outcome, Err("Mint(Ended)".to_owned()));
    let error = HandshakeError::Mint(MintError::Ended);
    assert_eq!(error.reason(), Reason::TlsHandshake);
    assert!(error.to_string().contains("start exeat anew"), "{error}");
}

#[tokio::test]
async fn a_client_that_lacks_our_ca_is_named_by_its_alert() {
    let mint = mint();
    let stranger = self_signed(testing::ca("stranger"));
    for versions in [ONLY_13, ONLY_12] {
        let (answer, facts) = meet(&mint, client(&stranger.pem, versions), "a.test", "a.test").await;
        assert!(answer.is_err());
        assert_eq!(facts.unwrap_err(), "ClientDistrusts(\"unknown_ca\")");
    }
}

#[tokio::test]
async fn http_1_1_is_what_alpn_settles_on() {
    let mint = mint();
    let mut config = client(mint.ca_pem(), BOTH);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (_, facts) = meet(&mint, config.clone(), "a.test", "a.test").await;
    assert_eq!(facts.unwrap().alpn.as_deref(), Some("http/1.1"));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (answer, facts) = meet(&mint, config, "a.test", "a.test").await;
    assert!(answer.is_err());
    assert_eq!(facts.unwrap_err(), "Other(\"no_application_protocol\")");
}

#[tokio::test]
async fn a_second_connection_resumes_and_early_data_is_never_taken() {
    let mint = mint();
    two_in_a_row(&mint, ONLY_13, rustls::HandshakeKind::Resumed).await;
    two_in_a_row(&mint, ONLY_12, rustls::HandshakeKind::Resumed).await;
}

#[tokio::test]
async fn resumption_can_be_switched_off() {
    let options = LegOptions { resumption: false, ..LegOptions::default() };
    let mint = mint().with_options(&options).unwrap();
    two_in_a_row(&mint, ONLY_13, rustls::HandshakeKind::Full).await;
    two_in_a_row(&mint, ONLY_12, rustls::HandshakeKind::Full).await;
}

/// Two handshakes of one client that keeps its sessions; what the second is.
async fn two_in_a_row(
    mint: &Mint,
    versions: &'static [&'static rustls::SupportedProtocolVersion],
    second: rustls::HandshakeKind,
) {
    let mut config = client(mint.ca_pem(), versions);
    config.enable_early_data = true;
    for want in [rustls::HandshakeKind::Full, second] {
        let (near, far) = duplex(1 << 16);
        let config = std::sync::Arc::new(config.clone());
        let name = ServerName::try_from("a.test").unwrap();
        let client = async move {
            let mut tls = TlsConnector::from(config).connect(name, near).await.unwrap();
            tls.write_all(b"x").await.unwrap();
            tls.flush().await.unwrap();
            let mut answer = [0];
            tls.read_exact(&mut answer).await.unwrap();
            assert!(!tls.get_ref().1.is_early_data_accepted());
            // What the ticket would let the client send early: nothing.
            assert!(tls.get_mut().1.early_data().is_none());
            tls.get_ref().1.handshake_kind().unwrap()
        };
        let server = async {
            let host = Host::parse("a.test").unwrap();
            let (mut tls, _) = accept(far, mint, &host, Offer::Http1, soon()).await.unwrap();
            let mut byte = [0];
            tls.read_exact(&mut byte).await.unwrap();
            tls.write_all(&byte).await.unwrap();
            tls.flush().await.unwrap();
        };
        let (kind, ()) = tokio::join!(client, server);
        assert_eq!(kind, want);
    }
}

#[tokio::test]
async fn the_hello_is_read_across_segments_and_given_back_whole() {
    let wire = Draft::new(0x0303).versions(&[0x0304]).sni("a.test").wire(100);
    let (mut near, mut far) = duplex(16);
    let sent = wire.clone();
    let writer = tokio::spawn(async move {
        for byte in sent {
            near.write_all(&[byte]).await.unwrap();
        }
        near.write_all(b"rest").await.unwrap();
        near
    });
    let (bytes, hello) = read_hello(&mut far, wire[..0].to_vec(), soon()).await.unwrap();
    assert_eq!(hello.sni, Some(Host::parse("a.test").unwrap()));
    let mut again = Rewind::new(far, bytes);
    let mut all = vec![0; wire.len() + 4];
    again.read_exact(&mut all).await.unwrap();
    assert_eq!(all, [&wire[..], b"rest"].concat());
    assert_eq!(again.into_parts().1, b"");
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn bytes_that_came_early_count() {
    let wire = Draft::new(0x0303).sni("a.test").wire(16_384);
    let (_near, mut far) = duplex(16);
    let (bytes, _) = read_hello(&mut far, wire.clone(), soon()).await.unwrap();
    assert_eq!(bytes, wire);
    let mut rewind = Rewind::new(far, bytes);
    let mut some = [0; 3];
    rewind.read_exact(&mut some).await.unwrap();
    assert_eq!(rewind.into_parts().1, wire[3..]);
}

#[tokio::test]
async fn a_client_below_the_floor_is_told_apart_with_what_it_offered() {
    let rows: &[(&str, Vec<u8>, &str)] = &[
        ("tls 1.0", Draft::new(0x0301).sni("a.test").wire(16_384), "TLSv1.0"),
        ("tls 1.1", Draft::new(0x0302).sni("a.test").wire(16_384), "TLSv1.1"),
        ("ssl 2", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10], "SSLv2"),
    ];
    for (name, wire, want) in rows {
        let (_near, mut far) = duplex(16);
        match read_hello(&mut far, wire.clone(), soon()).await {
            Err(error @ HelloError::BelowFloor { offered }) => {
                assert_eq!(offered, *want, "{name}");
                assert_eq!(error.reason(), Some(Reason::TlsBelowFloor));
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    // The nearest that may pass.
    let (_near, mut far) = duplex(16);
    read_hello(&mut far, Draft::new(0x0303).sni("a.test").wire(16_384), soon()).await.unwrap();
}

#[tokio::test]
async fn the_alert_is_read_as_protocol_version_by_a_client() {
    let (near, mut far) = duplex(1 << 16);
    let mint = mint();
    let connector = TlsConnector::from(std::sync::Arc::new(client(mint.ca_pem(), &[&version::TLS12])));
    let told = async {
        read_hello(&mut far, Vec::new(), soon()).await.unwrap();
        far.write_all(&protocol_version_alert()).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(connector.connect(ServerName::try_from("a.test").unwrap(), near), told);
    let error = outcome.unwrap_err();
    let alert = Rustls::AlertReceived(AlertDescription::ProtocolVersion);
    assert_eq!(super::super::rustls_error(&error), Some(&alert));
}

#[tokio::test]
async fn what_is_no_hello_has_its_own_reason() {
    let rows: &[(&[u8], Option<Reason>)] = &[
        (b"GET / HTTP/1.1\r\n\r\n", Some(Reason::TlsPlaintext)),
        (b"SSH-2.0-OpenSSH\r\n", Some(Reason::TlsNotTls)),
        (b"\x00\x00", Some(Reason::TlsNotTls)),
        (b"\x16\x03\x01\x00\x00", Some(Reason::TlsHandshake)),
        (b"\x16\x03\x01", Some(Reason::RequestAborted)),
        (b"", None),
    ];
    for (bytes, want) in rows {
        let (mut near, mut far) = duplex(64);
        near.write_all(bytes).await.unwrap();
        drop(near);
        let error = read_hello(&mut far, Vec::new(), soon()).await.unwrap_err();
        assert_eq!(error.reason(), *want, "{bytes:?}: {error}");
    }
}

#[tokio::test]
async fn silence_and_slowness_end_at_the_deadline() {
    let (_near, mut far) = duplex(64);
    let error = read_hello(&mut far, vec![0x16], shortly()).await.unwrap_err();
    assert!(matches!(error, HelloError::Timeout));
    let (_near, far) = duplex(64);
    let outcome = accept(far, &mint(), &Host::parse("a.test").unwrap(), Offer::Http1, shortly()).await;
    assert!(matches!(outcome, Err(HandshakeError::Timeout)));
}
