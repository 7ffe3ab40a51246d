use std::time::{Duration, SystemTime};

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::UnixTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsAcceptor;

use super::super::testing::{
    BOTH, Folder, ONLY_12, ONLY_13, Params, Signed, ca, name, self_signed, server, shortly, soon, valid,
};
use super::super::{mint::Mint, system_clock};
use super::failure::{name_fault, plain_name};
use super::*;
use crate::config::{LegOptions, UpstreamRoots};
use crate::engine::facts::{Shown, TlsVersion};
use crate::engine::hello::server::suite_name;
use crate::engine::reason::Reason;

fn trusting(roots: &[&Signed]) -> OriginTls {
    let mut anchors = Anchors::none();
    for root in roots {
        anchors.add(&root.der).unwrap();
    }
    OriginTls::new(anchors).unwrap()
}

async fn meet(
    tls: &OriginTls,
    config: Arc<rustls::ServerConfig>,
    at_least: AtLeast,
) -> Result<TlsFacts, Unshaken> {
    let (near, far) = duplex(1 << 16);
    let host = Host::parse("api.example.com").unwrap();
    let server = async move {
        if let Ok(mut stream) = TlsAcceptor::from(config).accept(far).await {
            let _ = stream.read(&mut [0]).await;
        }
    };
    let client = async {
        let (stream, facts) = tls.connect(near, &host, at_least, Offer::Http1, soon()).await?;
        assert_eq!(stream.get_ref().0.first_bytes().len(), 11);
        Ok(facts)
    };
    tokio::join!(client, server).0
}

fn fault(outcome: Result<TlsFacts, Unshaken>) -> CertificateFault {
    let unshaken = outcome.unwrap_err();
    assert_eq!(unshaken.reason(), Reason::UpstreamCertificate, "{unshaken:?}");
    let said = unshaken.to_string();
    let digest = crate::engine::hex::text(&unshaken.shown.chain.first().expect("one was shown").sha256[..8]);
    assert!(said.contains("; it is `") && said.ends_with(&format!(", sha256 {digest}")), "{said}");
    let OriginTlsError::Certificate(fault) = unshaken.error else { panic!("{unshaken:?}") };
    fault
}

/// Why there was no handshake.
fn error(outcome: Result<TlsFacts, Unshaken>) -> OriginTlsError {
    outcome.unwrap_err().error
}

fn good() -> Params {
    valid(name("api.example.com"), -1, 1)
}

#[tokio::test]
async fn a_good_chain_passes_at_both_versions() {
    let root = self_signed(ca("root"));
    let middle = root.sign(ca("middle"));
    let leaf = middle.sign(good());
    let tls = trusting(&[&root]);
    for (versions, want) in [(BOTH, TlsVersion::Tls13), (ONLY_12, TlsVersion::Tls12)] {
        let facts = meet(&tls, server(&[&leaf, &middle], versions), AtLeast::Tls12).await.unwrap();
        assert_eq!((facts.version, facts.sni.as_deref()), (want, Some("api.example.com")));
    }
    meet(&tls, server(&[&leaf, &middle], BOTH), AtLeast::Tls13).await.unwrap();
}

#[tokio::test]
async fn a_permit_that_demands_1_3_gets_no_1_2() {
    let root = self_signed(ca("root"));
    let leaf = root.sign(good());
    let outcome = meet(&trusting(&[&root]), server(&[&leaf], ONLY_12), AtLeast::Tls13).await;
    assert!(matches!(error(outcome), OriginTlsError::BelowFloor { .. }));
}

/// Of a handshake that was refused as much is told as of a good one: which certificates, over what.
#[tokio::test]
async fn what_a_refused_origin_showed_is_told_whole() {
    let (root, stranger) = (self_signed(ca("root")), self_signed(ca("stranger")));
    let middle = stranger.sign(ca("middle"));
    let leaf = middle.sign(good());
    let tls = trusting(&[&root]);
    for (versions, version, cipher, group) in
        [(ONLY_13, "TLSv1.3", "TLS13_", true), (ONLY_12, "TLSv1.2", "TLS_ECDHE_ECDSA_", false)]
    {
        let shown = meet(&tls, server(&[&leaf, &middle], versions), AtLeast::Tls12).await.unwrap_err().shown;
        assert_eq!(shown.version, Some(version));
        let suite = shown.cipher.and_then(suite_name).unwrap();
        assert!(suite.starts_with(cipher), "{suite}");
        assert_eq!(shown.group.is_some(), group, "TLS 1.2 has it in a later message");
        assert_eq!(shown.chain, super::super::chain::told([&leaf.der, &middle.der]));
    }
    // A hello that was judged by itself came without certificates.
    let shown = meet(&tls, server(&[&leaf], ONLY_12), AtLeast::Tls13).await.unwrap_err().shown;
    assert_eq!((shown.version, shown.chain.len()), (None, 0), "it sent an alert alone");
}

/// Whoever has a good certificate and not its key.
#[derive(Debug)]
struct Borrowed(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Borrowed {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[tokio::test]
async fn a_certificate_that_is_shown_without_its_key_is_named() {
    let root = self_signed(ca("root"));
    let (leaf, other) = (root.sign(good()), root.sign(good()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&other.private_key()).unwrap();
    let borrowed = Arc::new(rustls::sign::CertifiedKey::new(vec![leaf.der.clone()], key));
    for versions in [ONLY_13, ONLY_12] {
        let config = rustls::ServerConfig::builder_with_provider(super::super::provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Borrowed(Arc::clone(&borrowed))));
        let outcome = meet(&trusting(&[&root]), Arc::new(config), AtLeast::Tls12).await;
        assert_eq!(fault(outcome), CertificateFault::Other("bad_signature"));
    }
    meet(&trusting(&[&root]), server(&[&leaf], BOTH), AtLeast::Tls12).await.unwrap();
}

#[tokio::test]
async fn each_bad_certificate_has_its_fault() {
    let root = self_signed(ca("root"));
    let stranger = self_signed(ca("stranger"));
    let tls = trusting(&[&root]);
    let unknown = CertificateFault::UnknownIssuer;
    let mut for_clients = good();
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let mut cn_only = good();
    cn_only.subject_alt_names.clear();
    let other_name = valid(Params::new(vec!["a.test".into(), "*.b.test".into()]).unwrap(), -1, 1);
    let deep = valid(Params::new(vec!["*.com".into()]).unwrap(), -1, 1);
    let mismatch = |names: &[&str]| CertificateFault::NameMismatch {
        presented: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let leaf_issuer = root.sign(good());
    let rows = [
        ("expired", vec![root.sign(valid(good(), -9, -1))], CertificateFault::Expired),
        ("not yet valid", vec![root.sign(valid(good(), 1, 9))], CertificateFault::NotYetValid),
        ("another's name", vec![root.sign(other_name)], mismatch(&["a.test", "*.b.test"])),
        ("wildcard over two labels", vec![root.sign(deep)], mismatch(&["*.com"])),
        ("name in the CN only", vec![root.sign(cn_only)], mismatch(&[])),
        ("unknown root", vec![stranger.sign(good())], unknown),
        ("self-signed", vec![self_signed(good())], CertificateFault::SelfSigned),
        ("for clients only", vec![root.sign(for_clients)], CertificateFault::Other("wrong_purpose")),
        ("a leaf as issuer", vec![leaf_issuer.sign(good()), leaf_issuer], CertificateFault::Other("invalid")),
    ];
    for (what, chain, want) in rows {
        let chain: Vec<&Signed> = chain.iter().collect();
        let found = fault(meet(&tls, server(&chain, BOTH), AtLeast::Tls12).await);
        assert_eq!(found, want, "{what}");
    }
}

#[tokio::test]
async fn an_issuer_that_may_not_sign_certificates_is_refused() {
    let root = self_signed(ca("root"));
    let mut params = ca("crl only");
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let middle = root.sign(params);
    let leaf = middle.sign(good());
    let found = fault(meet(&trusting(&[&root]), server(&[&leaf, &middle], BOTH), AtLeast::Tls12).await);
    assert_eq!(found, CertificateFault::UnfitIssuer);
    // Sent along but not needed, it harms nothing.
    let direct = root.sign(good());
    meet(&trusting(&[&root]), server(&[&direct, &middle], BOTH), AtLeast::Tls12).await.unwrap();
}

#[tokio::test]
async fn an_ended_root_is_named_as_that() {
    let root = self_signed(valid(ca("root"), -9, -1));
    let leaf = root.sign(good());
    let found = fault(meet(&trusting(&[&root]), server(&[&leaf], BOTH), AtLeast::Tls12).await);
    assert_eq!(found, CertificateFault::ExpiredRoot);
    let stranger = self_signed(ca("stranger")).sign(good());
    let found = fault(meet(&trusting(&[&root]), server(&[&stranger], BOTH), AtLeast::Tls12).await);
    assert_eq!(found, CertificateFault::UnknownIssuer);
}

/// RSA-1024, which rcgen does not make: `openssl req -x509 -newkey rsa:1024 -subj /CN=api.example.com
/// -addext subjectAltName=DNS:api.example.com -days 36500`. The key is not kept.
const RSA_1024: &str = include_str!("rsa1024.pem");

#[test]
fn a_short_key_is_weak_even_where_the_chain_holds() {
    use rustls::pki_types::pem::PemObject;
    let der = rustls::pki_types::CertificateDer::from_pem_slice(RSA_1024.as_bytes()).unwrap();
    let mut anchors = Anchors::none();
    anchors.add(&der).unwrap();
    let verifier = anchors.into_verifier().unwrap();
    let host = ServerName::try_from("api.example.com").unwrap();
    let outcome = verifier.verify_server_cert(&der, &[], &host, &[], UnixTime::now());
    let Err(rustls::Error::InvalidCertificate(fault)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(name_fault(&fault), CertificateFault::Weak);
}

#[tokio::test]
async fn a_certificate_that_its_issuers_list_names_is_revoked() {
    let mut params = ca("root");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = self_signed(params);
    let serial = |n: u8| {
        let mut params = good();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[n]));
        root.sign(params)
    };
    let (revoked, good_one) = (serial(7), serial(8));
    let list = |until: i64| {
        let now = time::OffsetDateTime::now_utc();
        let params = rcgen::CertificateRevocationListParams {
            this_update: now - time::Duration::days(2),
            next_update: now + time::Duration::days(until),
            crl_number: rcgen::SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: rcgen::SerialNumber::from_slice(&[7]),
                revocation_time: now - time::Duration::days(1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&root.issuer()).unwrap().pem().unwrap()
    };
    let folder = Folder::new();
    let with = |file: &str, until| {
        let mut anchors = Anchors::none();
        anchors.add(&root.der).unwrap();
        anchors.add_crl_file(&folder.file(file, &list(until))).unwrap();
        OriginTls::new(anchors).unwrap()
    };
    let current = with("current.pem", 1);
    let found = fault(meet(&current, server(&[&revoked], BOTH), AtLeast::Tls12).await);
    assert_eq!(found, CertificateFault::Revoked);
    meet(&current, server(&[&good_one], BOTH), AtLeast::Tls12).await.unwrap();
    let stale = with("stale.pem", -1);
    let found = fault(meet(&stale, server(&[&good_one], BOTH), AtLeast::Tls12).await);
    assert_eq!(found, CertificateFault::Other("revocation_unknown"));
    let broken = Anchors::none().add_crl_file(&folder.file("broken.pem", "no list"));
    assert!(matches!(broken, Err(TrustError::Crl { .. })));
}

#[tokio::test]
async fn an_origin_that_wants_a_client_certificate_is_named() {
    let root = self_signed(ca("root"));
    let leaf = root.sign(good());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der.clone()).unwrap();
    let clients =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), super::super::provider());
    let clients = clients.build().unwrap();
    let config = |versions| {
        let config = rustls::ServerConfig::builder_with_provider(super::super::provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(clients.clone())
            .with_single_cert(vec![leaf.der.clone()], leaf.private_key())
            .unwrap();
        Arc::new(config)
    };
    let tls = trusting(&[&root]);
    let outcome = meet(&tls, config(ONLY_12), AtLeast::Tls12).await;
    assert!(matches!(error(outcome), OriginTlsError::WantsCertificate));
    // TLS 1.3 origins say so only after our side is done.
    let (near, far) = duplex(1 << 16);
    let acceptor = TlsAcceptor::from(config(ONLY_13));
    let peer = async { assert!(acceptor.accept(far).await.is_err()) };
    let host = Host::parse("api.example.com").unwrap();
    let client = async {
        let (mut stream, _) = tls.connect(near, &host, AtLeast::Tls12, Offer::Http1, soon()).await.unwrap();
        stream.read(&mut [0]).await.unwrap_err()
    };
    let (error, ()) = tokio::join!(client, peer);
    assert!(wants_certificate(&error), "{error}");
}

#[test]
fn a_root_that_may_not_sign_is_no_root() {
    let mut params = ca("crl only");
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    assert!(Anchors::none().add(&self_signed(params).der).is_err());
}

#[test]
fn a_root_stands_until_its_end_and_no_longer() {
    let (short, long) = (self_signed(valid(ca("short"), -9, 1)), self_signed(valid(ca("long"), -9, 9)));
    let mut anchors = Anchors::none();
    anchors.add(&short.der).unwrap();
    anchors.add(&long.der).unwrap();
    let verifier = trust::Verifier::new(anchors).unwrap();
    let host = ServerName::try_from("api.example.com").unwrap();
    let after = |days: u64| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        UnixTime::since_unix_epoch(since + Duration::from_secs(days * 86_400))
    };
    let judge = |root: &Signed, days| {
        let leaf = root.sign(valid(name("api.example.com"), -1, 99));
        verifier.verify_server_cert(&leaf.der, &[], &host, &[], after(days)).is_ok()
    };
    assert!(judge(&short, 0) && judge(&long, 0));
    assert!(!judge(&short, 2) && judge(&long, 2));
    assert!(!judge(&long, 10));
}

#[tokio::test]
async fn a_leaf_of_our_own_ca_is_refused_and_the_ca_is_no_anchor() {
    let mint = Mint::in_memory(system_clock()).unwrap();
    let leaf = mint.leaf_for(&Host::parse("api.example.com").unwrap()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(super::super::provider())
        .with_protocol_versions(BOTH)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::unwrap_or_clone(leaf))));
    let root = self_signed(ca("root"));
    let found = fault(meet(&trusting(&[&root]), Arc::new(config), AtLeast::Tls12).await);
    assert_eq!(found, CertificateFault::UnknownIssuer);

    let mut asked_for = Anchors::none();
    asked_for.add(mint.ca_der()).unwrap();
    assert!(matches!(asked_for.without(mint.ca_der()), Err(TrustError::OwnCa)));
    let mut others = Anchors::none();
    others.add(&root.der).unwrap();
    OriginTls::new(others.without(mint.ca_der()).unwrap()).unwrap();
}

#[tokio::test]
async fn an_origin_below_the_floor_is_named_by_what_it_chose() {
    let hello_1_1 = [&[22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2][..], &[7; 32], &[0, 0xc0, 0x13, 0]].concat();
    type Row = (&'static str, Vec<u8>, Reason, &'static str, Option<&'static str>);
    let rows: &[Row] = &[
        (
            "chooses 1.1",
            hello_1_1,
            Reason::UpstreamBelowFloor,
            "origin speaks TLSv1.1, below what is demanded",
            Some("TLSv1.1"),
        ),
        (
            "alert 70",
            vec![21, 3, 1, 0, 2, 2, 70],
            Reason::UpstreamBelowFloor,
            "origin speaks TLSv1.0, below what is demanded",
            Some("TLSv1.0"),
        ),
        (
            "alert 70 in a record of 1.2",
            vec![21, 3, 3, 0, 2, 2, 70],
            Reason::UpstreamBelowFloor,
            "origin speaks less than TLS 1.2 (its alert does not say what), below what is demanded",
            None,
        ),
        (
            "answers as SSLv2",
            vec![0x80, 20, 4, 0, 1, 0, 2, 0, 0, 0, 0],
            Reason::UpstreamBelowFloor,
            "origin speaks SSLv2, below what is demanded",
            Some("SSLv2"),
        ),
        (
            "alert 40",
            vec![21, 3, 1, 0, 2, 2, 40],
            Reason::UpstreamTls,
            "origin ended the handshake with alert `handshake_failure`",
            None,
        ),
        (
            "plain HTTP",
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            Reason::UpstreamNotTls,
            "origin does not speak TLS",
            None,
        ),
        (
            "hangs up",
            Vec::new(),
            Reason::UpstreamClosed,
            "origin closed the connection during the handshake",
            None,
        ),
    ];
    let tls = trusting(&[&self_signed(ca("root"))]);
    for (name, answer, reason, message, version) in rows {
        let (near, mut far) = duplex(1 << 16);
        let host = Host::parse("api.example.com").unwrap();
        let peer = async {
            let mut hello = [0; 4096];
            let count = far.read(&mut hello).await.unwrap();
            assert!(count > 0);
            far.write_all(answer).await.unwrap();
            drop(far);
        };
        let (outcome, ()) =
            tokio::join!(tls.connect(near, &host, AtLeast::Tls12, Offer::Http1, soon()), peer);
        let unshaken = outcome.map(|_| ()).unwrap_err();
        assert_eq!((unshaken.reason(), unshaken.to_string().as_str()), (*reason, *message), "{name}");
        assert_eq!(unshaken.shown.version, *version, "{name}");
    }
}

#[tokio::test]
async fn a_banner_is_named_at_its_first_bytes_though_its_sender_waits() {
    let tls = trusting(&[&self_signed(ca("root"))]);
    for banner in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"220 mail.test ESMTP\r\n", b"+OK\r\n", b"SS", b"\n"] {
        let (near, mut far) = duplex(1 << 16);
        far.write_all(banner).await.unwrap();
        let host = Host::parse("api.example.com").unwrap();
        let outcome = tls.connect(near, &host, AtLeast::Tls12, Offer::Http1, soon()).await;
        let unshaken = outcome.map(|_| ()).unwrap_err();
        assert!(matches!(unshaken.error, OriginTlsError::NotTls), "{banner:?}: {unshaken:?}");
        drop(far);
    }
}

#[tokio::test]
async fn an_origin_that_never_answers_ends_at_the_deadline() {
    let (near, _far) = duplex(1 << 16);
    let host = Host::parse("api.example.com").unwrap();
    let outcome = trusting(&[&self_signed(ca("root"))])
        .connect(near, &host, AtLeast::Tls12, Offer::Http1, shortly())
        .await;
    let unshaken = outcome.map(|_| ()).unwrap_err();
    assert!(matches!(unshaken.error, OriginTlsError::Timeout));
    assert_eq!(*unshaken.shown, Shown::default());
}

#[tokio::test]
async fn a_hello_is_told_whatever_way_it_was_cut_also_of_one_that_stops_after_it() {
    let (near, mut far) = duplex(1 << 16);
    let host = Host::parse("api.example.com").unwrap();
    let key_share = [&[0, 51, 0, 36, 0, 0x1d, 0, 32][..], &[9; 32]].concat();
    let body = [&[3, 3][..], &[7; 32], &[0, 0x13, 0x01, 0, 0, 46, 0, 43, 0, 2, 3, 4], &key_share].concat();
    let hello = [&[22, 3, 3, 0, 4 + body.len() as u8, 2, 0, 0, body.len() as u8][..], &body].concat();
    let peer = async {
        assert!(far.read(&mut [0; 4096]).await.unwrap() > 0);
        for piece in hello.chunks(7) {
            far.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        far
    };
    let tls = trusting(&[&self_signed(ca("root"))]);
    let (outcome, _far) =
        tokio::join!(tls.connect(near, &host, AtLeast::Tls12, Offer::Http1, shortly()), peer);
    let shown = outcome.map(|_| ()).unwrap_err().shown;
    let want =
        Shown { version: Some("TLSv1.3"), cipher: Some(0x1301), group: Some(0x1d), ..Shown::default() };
    assert_eq!(*shown, want);
}

#[tokio::test]
async fn resumption_can_be_switched_off() {
    let folder = Folder::new();
    let root = self_signed(ca("root"));
    let leaf = root.sign(good());
    let own = Mint::in_memory(system_clock()).unwrap();
    use rustls::HandshakeKind::{Full, Resumed};
    for versions in [ONLY_13, ONLY_12] {
        for (resumption, second) in [(true, Resumed), (false, Full)] {
            let leg = LegOptions { resumption, ..LegOptions::default() };
            let ca = vec![folder.file("root.pem", &root.pem)];
            let options = OriginOptions { leg, ca, ..OriginOptions::default() };
            let special = [(Pattern::parse("api.example.com").unwrap(), options)];
            let tls = OriginTls::with_options(Anchors::none(), &special, own.ca_der()).unwrap();
            let config = server(&[&leaf], versions);
            for want in [Full, second] {
                assert_eq!(kind(&tls, config.clone(), AtLeast::Tls12).await, want, "{resumption}");
            }
        }
    }
}

/// A handshake, and a byte after it, so that a ticket has come.
async fn kind(
    tls: &OriginTls,
    config: Arc<rustls::ServerConfig>,
    at_least: AtLeast,
) -> rustls::HandshakeKind {
    let (near, far) = duplex(1 << 16);
    let host = Host::parse("api.example.com").unwrap();
    let peer = async {
        let mut stream = TlsAcceptor::from(config).accept(far).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
    };
    let client = async {
        let (mut stream, _) = tls.connect(near, &host, at_least, Offer::Http1, soon()).await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        stream.get_ref().1.handshake_kind().unwrap()
    };
    tokio::join!(client, peer).0
}

#[tokio::test]
async fn a_second_connection_resumes_but_not_across_what_was_demanded() {
    let root = self_signed(ca("root"));
    let leaf = root.sign(good());
    let (tls, config) = (trusting(&[&root]), server(&[&leaf], ONLY_13));
    let host = Host::parse("api.example.com").unwrap();
    use rustls::HandshakeKind::{Full, Resumed};
    for (at_least, want) in [(AtLeast::Tls12, Full), (AtLeast::Tls12, Resumed), (AtLeast::Tls13, Full)] {
        assert_eq!(kind(&tls, config.clone(), at_least).await, want);
    }
    assert_ne!(tls.trust_id(&host, AtLeast::Tls12), tls.trust_id(&host, AtLeast::Tls13));
    assert_ne!(tls.trust_id(&host, AtLeast::Tls13), trusting(&[&root]).trust_id(&host, AtLeast::Tls12));
}

#[test]
fn anchors_come_from_the_settings() {
    let folder = Folder::new();
    let root = self_signed(ca("corporate"));
    let file = folder.file("root.pem", &root.pem);
    Anchors::load(UpstreamRoots::Webpki, &[]).unwrap();
    OriginTls::new(Anchors::load(UpstreamRoots::None, std::slice::from_ref(&file)).unwrap()).unwrap();
    let none = || Anchors::load(UpstreamRoots::None, &[]).unwrap();
    assert!(matches!(OriginTls::new(none()), Err(TrustError::Empty)));
    // The private CA of some host may be all that is believed.
    let own = Mint::in_memory(system_clock()).unwrap();
    let corporate = |ca: Vec<PathBuf>| {
        let options = OriginOptions { ca, ..OriginOptions::default() };
        OriginTls::with_options(none(), &[(Pattern::parse("api.corp.test").unwrap(), options)], own.ca_der())
    };
    corporate(vec![file.clone()]).unwrap();
    assert!(matches!(corporate(Vec::new()), Err(TrustError::Empty)));
    let empty = folder.file("empty.pem", "no certificate here\n");
    assert!(matches!(Anchors::load(UpstreamRoots::Webpki, &[empty]), Err(TrustError::NotPem { .. })));
    assert!(matches!(
        Anchors::load(UpstreamRoots::Webpki, &[folder.0.join("no")]),
        Err(TrustError::Read { .. })
    ));
}

/// With nothing but one host's private CA: that host is believed, and every other is of an unknown issuer.
#[tokio::test]
async fn no_roots_and_one_private_ca_believe_one_host() {
    let folder = Folder::new();
    let root = self_signed(ca("corporate"));
    let options = OriginOptions { ca: vec![folder.file("root.pem", &root.pem)], ..OriginOptions::default() };
    let own = Mint::in_memory(system_clock()).unwrap();
    for (pattern, believed) in [("api.example.com", true), ("api.corp.test", false)] {
        let special = [(Pattern::parse(pattern).unwrap(), options.clone())];
        let tls = OriginTls::with_options(Anchors::none(), &special, own.ca_der()).unwrap();
        let met = meet(&tls, server(&[&root.sign(good())], BOTH), AtLeast::Tls12).await;
        assert_eq!(met.is_ok(), believed, "{met:?}");
        if !believed {
            assert_eq!(fault(met), CertificateFault::UnknownIssuer);
        }
    }
}

#[test]
fn foreign_names_are_cut_to_what_a_name_may_hold() {
    assert_eq!(plain_name("DnsName(\"a.test\")"), "a.test");
    assert_eq!(plain_name("DnsName(\"a\u{1b}[31m`b\")"), "a[31mb");
}

/// What the settings say of api.example.com, and of nobody else.
fn special(anchors: Anchors, options: OriginOptions) -> Result<OriginTls, TrustError> {
    let folder = Folder::new();
    let mut flags = crate::config::Layer::default();
    let file = folder.file("exeat.yaml", "tls: {origins: {api.example.com: {}}}\n");
    flags.push(crate::config::Key::Config, file.to_str().unwrap(), crate::config::Origin::Flag("--config"));
    let config = crate::config::load(flags, [], |_| None).unwrap().config;
    let (pattern, _) = config.tls.origins[0].clone();
    let own = Mint::in_memory(system_clock()).unwrap();
    OriginTls::with_options(anchors, &[(pattern, options)], own.ca_der())
}

#[tokio::test]
async fn a_private_ca_stands_in_place_of_all_others_for_its_host() {
    let folder = Folder::new();
    let (public, private) = (self_signed(ca("public")), self_signed(ca("private")));
    let mut anchors = Anchors::none();
    anchors.add(&public.der).unwrap();
    let options = OriginOptions { ca: vec![folder.file("ca.pem", &private.pem)], ..OriginOptions::default() };
    let tls = special(anchors, options).unwrap();
    meet(&tls, server(&[&private.sign(good())], BOTH), AtLeast::Tls12).await.unwrap();
    let found = fault(meet(&tls, server(&[&public.sign(good())], BOTH), AtLeast::Tls12).await);
    assert_eq!(found, CertificateFault::UnknownIssuer);
    let (here, there) = (Host::parse("api.example.com").unwrap(), Host::parse("www.example.com").unwrap());
    assert_ne!(tls.trust_id(&here, AtLeast::Tls12), tls.trust_id(&there, AtLeast::Tls12));
}

#[tokio::test]
async fn a_pinned_key_is_the_only_one_whoever_vouches_for_others() {
    let root = self_signed(ca("root"));
    let (pinned, other) = (root.sign(good()), root.sign(good()));
    let spki = |signed: &Signed| {
        let (_, cert) = x509_parser::parse_x509_certificate(&signed.der).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, cert.public_key().raw);
        <[u8; 32]>::try_from(digest.as_ref()).unwrap()
    };
    let mut anchors = Anchors::none();
    anchors.add(&root.der).unwrap();
    let tls =
        special(anchors, OriginOptions { pins: vec![spki(&pinned)], ..OriginOptions::default() }).unwrap();
    meet(&tls, server(&[&pinned], BOTH), AtLeast::Tls12).await.unwrap();
    // The pinned certificate sent along does not help.
    let found = fault(meet(&tls, server(&[&other, &pinned], BOTH), AtLeast::Tls12).await);
    assert_eq!(found, CertificateFault::Pin);
}

#[tokio::test]
async fn versions_suites_and_groups_can_be_narrowed() {
    use crate::config::LegOptions;
    let root = self_signed(ca("root"));
    let leaf = root.sign(good());
    let mut anchors = Anchors::none();
    anchors.add(&root.der).unwrap();
    let with = |leg| special(anchors.clone(), OriginOptions { leg, ..OriginOptions::default() }).unwrap();
    let tls =
        with(LegOptions { ciphers: Some(vec![0x1301]), groups: Some(vec![0x0018]), ..LegOptions::default() });
    let facts = meet(&tls, server(&[&leaf], BOTH), AtLeast::Tls12).await.unwrap();
    assert_eq!(facts.cipher, "TLS13_AES_128_GCM_SHA256");
    assert_eq!(facts.group, Some("secp384r1"));
    assert!(meet(&tls, server(&[&leaf], ONLY_12), AtLeast::Tls12).await.is_err());
    let tls = with(LegOptions { only_tls13: true, ..LegOptions::default() });
    let outcome = meet(&tls, server(&[&leaf], ONLY_12), AtLeast::Tls12).await;
    assert!(matches!(error(outcome), OriginTlsError::BelowFloor { .. }));
    let tls = with(LegOptions { ciphers: Some(vec![0xc02b]), ..LegOptions::default() });
    let facts = meet(&tls, server(&[&leaf], BOTH), AtLeast::Tls12).await.unwrap();
    assert_eq!(facts.version, TlsVersion::Tls12);
    assert!(meet(&tls, server(&[&leaf], BOTH), AtLeast::Tls13).await.is_err());
}

#[tokio::test]
async fn a_host_that_wants_a_client_certificate_is_shown_the_one_of_the_settings() {
    let folder = Folder::new();
    let root = self_signed(ca("root"));
    let (leaf, client) = (root.sign(good()), root.sign(valid(name("client"), -1, 1)));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der.clone()).unwrap();
    let clients =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), super::super::provider());
    let config = rustls::ServerConfig::builder_with_provider(super::super::provider())
        .with_protocol_versions(ONLY_12)
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(vec![leaf.der.clone()], leaf.private_key())
        .unwrap();
    let mut anchors = Anchors::none();
    anchors.add(&root.der).unwrap();
    let cert = folder.file("client.pem", &client.pem);
    let files = |key: &Signed| Some((cert.clone(), folder.file("client.key", &key.key.serialize_pem())));
    let options = |client| OriginOptions { client, ..OriginOptions::default() };
    let tls = special(anchors.clone(), options(files(&client))).unwrap();
    meet(&tls, Arc::new(config), AtLeast::Tls12).await.unwrap();
    assert!(matches!(special(anchors, options(files(&leaf))), Err(TrustError::Unfit { .. })));
}
