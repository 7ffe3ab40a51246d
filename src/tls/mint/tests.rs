use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::super::testing::{self, Folder, ca, self_signed, settable, valid};
use super::*;

const NOW: u64 = 1_800_000_000;

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

fn parsed(der: &[u8]) -> X509Certificate<'_> {
    X509Certificate::from_der(der).unwrap().1
}

#[test]
fn the_leaf_says_exactly_what_it_must() {
    let mint = Mint::in_memory(settable(NOW).1).unwrap();
    let leaf = mint.leaf_for(&host("API.Example.com.")).unwrap();
    assert_eq!(leaf.cert.len(), 1, "clients hold the root already");
    let (leaf, ca) = (parsed(&leaf.cert[0]), parsed(mint.ca_der()));
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names[..], [GeneralName::DNSName("api.example.com")]);
    let (from, to) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    assert_eq!(from, NOW as i64 - 3600);
    assert_eq!(to - from, 7 * 86_400);
    assert!(!leaf.is_ca() && leaf.basic_constraints().unwrap().is_some());
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth && !extended.any);
    assert_eq!(leaf.raw_serial().len(), 16);
    assert_eq!(leaf.issuer(), ca.subject());
    assert_ne!(leaf.public_key().raw, ca.public_key().raw, "the CA's key signs nothing but leaves");
    let key_id = |cert: &X509Certificate<'_>, authority: bool| {
        cert.extensions().iter().find_map(|e| match e.parsed_extension() {
            x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) if authority => {
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) if !authority => {
                Some(id.0.to_vec())
            }
            _ => None,
        })
    };
    assert!(key_id(&leaf, true).is_some());
    assert_eq!(key_id(&leaf, true), key_id(&ca, false));
}

#[test]
fn the_ca_may_sign_leaves_only_and_its_name_is_its_own() {
    let mint = Mint::in_memory(settable(NOW).1).unwrap();
    let ca = parsed(mint.ca_der());
    let constraints = ca.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    assert!(ca.key_usage().unwrap().unwrap().value.key_cert_sign());
    assert!(ca.validity().not_after.timestamp() - NOW as i64 > 9 * 365 * 86_400);
    let other = Mint::in_memory(settable(NOW).1).unwrap();
    assert_ne!(parsed(other.ca_der()).subject().to_string(), ca.subject().to_string());
    assert!(!mint.ca_pem().contains("PRIVATE"));
}

#[test]
fn an_address_gets_an_address_name_and_a_long_name_still_fits() {
    let mint = Mint::in_memory(settable(NOW).1).unwrap();
    let leaf = mint.leaf_for(&host("[2001:db8::1]")).unwrap();
    let leaf = parsed(&leaf.cert[0]);
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert!(matches!(names[..], [GeneralName::IPAddress(ip)] if ip.len() == 16));
    let long = format!("{}.example.com", ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join("."));
    mint.leaf_for(&host(&long)).unwrap();
}

#[test]
fn a_leaf_is_kept_until_it_is_due_and_then_made_anew() {
    let (clock, read) = settable(NOW);
    let mint = Mint::in_memory(read).unwrap();
    let name = host("a.test");
    let first = mint.leaf_for(&name).unwrap();
    clock.store(NOW + 6 * 86_400, Ordering::Relaxed);
    assert!(Arc::ptr_eq(&first, &mint.leaf_for(&name).unwrap()));
    assert!(!Arc::ptr_eq(&first, &mint.leaf_for(&host("b.test")).unwrap()));
    clock.store(NOW + 6 * 86_400 + 12 * 3600, Ordering::Relaxed);
    let second = mint.leaf_for(&name).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_ne!(parsed(&first.cert[0]).raw_serial(), parsed(&second.cert[0]).raw_serial());
}

#[test]
fn a_stampede_on_one_name_mints_once() {
    let mint = Mint::in_memory(settable(NOW).1).unwrap();
    let leaves: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| mint.leaf_for(&host("a.test")).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(leaves.iter().all(|leaf| Arc::ptr_eq(leaf, &leaves[0])));
}

#[test]
fn the_leaves_are_bounded() {
    let mint = Mint::in_memory(settable(NOW).1).unwrap();
    assert!(mint.leaves.cache.capacity() <= LEAVES as u64 + 64);
}

fn given(params: testing::Params) -> (Folder, PathBuf, PathBuf, testing::Signed) {
    let folder = Folder::new();
    let ca = self_signed(params);
    let (cert, key) = (folder.file("ca.pem", &ca.pem), folder.file("ca.key", &ca.key.serialize_pem()));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    (folder, cert, key, ca)
}

fn clock() -> Clock {
    super::super::system_clock()
}

#[test]
fn a_ca_from_files_signs_and_no_leaf_outlives_it() {
    let (_folder, cert, key, ca) = given(valid(ca("given"), -1, 3));
    let mint = Mint::from_files(&cert, &key, clock()).unwrap();
    assert_eq!(mint.ca_der(), &ca.der);
    let leaf = mint.leaf_for(&host("a.test")).unwrap();
    let end = parsed(&ca.der).validity().not_after.timestamp();
    assert_eq!(parsed(&leaf.cert[0]).validity().not_after.timestamp(), end);
}

#[test]
fn an_intermediate_ca_is_sent_along() {
    let root = self_signed(ca("root"));
    let middle = root.sign(ca("middle"));
    let folder = Folder::new();
    let cert = folder.file("ca.pem", &format!("{}{}", middle.pem, root.pem));
    let key = folder.file("ca.key", &middle.key.serialize_pem());
    let mint = Mint::from_files(&cert, &key, clock()).unwrap();
    assert_eq!(mint.leaf_for(&host("a.test")).unwrap().cert.len(), 3);
    assert_eq!(mint.ca_pem().matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn refuses_a_ca_that_cannot_sign_or_has_ended() {
    let mut no_sign = ca("no keyCertSign");
    no_sign.key_usages = vec![KeyUsagePurpose::CrlSign];
    let rows = [
        ("expired", valid(ca("x"), -9, -1)),
        ("not yet", valid(ca("x"), 1, 9)),
        ("a leaf", testing::name("a.test")),
        ("no keyCertSign", no_sign),
    ];
    for (what, params) in rows {
        let (_folder, cert, key, _) = given(params);
        let outcome = Mint::from_files(&cert, &key, clock());
        assert!(matches!(outcome, Err(MintError::UnfitCa(_))), "{what}");
    }
    let (_one, cert, _, _) = given(ca("one"));
    let (_two, other_cert, key, _) = given(ca("two"));
    assert!(matches!(Mint::from_files(&cert, &key, clock()), Err(MintError::UnfitCa(_))), "another's key");
    assert!(
        matches!(Mint::from_files(&key, &key, clock()), Err(MintError::NotPem { .. })),
        "a key for certificate"
    );
    assert!(matches!(Mint::from_files(&other_cert, &other_cert, clock()), Err(MintError::NotPem { .. })));
    assert!(matches!(
        Mint::from_files(&cert, &cert.with_file_name("no"), clock()),
        Err(MintError::Read { .. })
    ));
}

#[test]
fn a_key_that_others_may_read_is_made_private() {
    let (_folder, cert, key, _) = given(ca("open"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    Mint::from_files(&cert, &key, clock()).unwrap();
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_certificate_is_published_whole_over_a_stale_one_and_readable_by_all() {
    let folder = Folder::new();
    let mint = Mint::in_memory(clock()).unwrap();
    let out = folder.0.join("ca-out.pem");
    let target = folder.file("elsewhere", "untouched");
    std::os::unix::fs::symlink(&target, &out).unwrap();
    mint.publish_ca(&out).unwrap();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), mint.ca_pem());
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "untouched", "a link is replaced, not followed");
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o644);
    mint.publish_ca(&out).unwrap();
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 2, "nothing is left behind");
    assert!(mint.publish_ca(&folder.0.join("no/such/folder.pem")).is_err());
}

#[test]
fn debug_output_shows_nothing() {
    let mint = Mint::in_memory(clock()).unwrap();
    assert_eq!(format!("{mint:?} {:?}", mint.leaves), "Mint Leaves");
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_kept_ca_is_the_same_after_a_restart_and_private() {
    let folder = Folder::new();
    let dir = folder.0.join("ca");
    let first = Mint::from_dir(&dir, &settable(NOW).1).unwrap();
    let again = Mint::from_dir(&dir, &settable(NOW + 86_400).1).unwrap();
    assert_eq!(first.ca_der(), again.ca_der());
    assert_eq!((mode(&dir), mode(&dir.join("ca.key"))), (0o700, 0o600));
    assert_eq!(std::fs::read_to_string(dir.join("ca.pem")).unwrap(), first.ca_pem());
    assert!(!first.ca_pem().contains("PRIVATE"));
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2, "nothing is left lying about");
}

#[test]
fn a_kept_ca_near_its_end_is_renewed_under_its_own_key_and_name() {
    let folder = Folder::new();
    let dir = folder.0.join("ca");
    let (clock, read) = settable(NOW);
    let first = Mint::from_dir(&dir, &read).unwrap();
    let day = |days: u64| NOW + days * 86_400;
    clock.store(day(334), Ordering::Relaxed);
    assert_eq!(Mint::from_dir(&dir, &read).unwrap().ca_der(), first.ca_der());
    clock.store(day(336), Ordering::Relaxed);
    let second = Mint::from_dir(&dir, &read).unwrap();
    assert_ne!(second.ca_der(), first.ca_der());
    let (old, new) = (parsed(first.ca_der()), parsed(second.ca_der()));
    assert_eq!((old.subject(), old.public_key().raw), (new.subject(), new.public_key().raw));
    assert_eq!(new.validity().not_after.timestamp(), day(336 + 365) as i64);
    // Who trusts the old one takes leaves of the new one while the old one lasts.
    let leaf = second.leaf_for(&host("a.test")).unwrap();
    parsed(&leaf.cert[0]).verify_signature(Some(old.public_key())).unwrap();
    // One that runs past its certificate's end goes on with leaves of full length.
    assert!(first.renew().unwrap() && !first.renew().unwrap());
    clock.store(day(400), Ordering::Relaxed);
    first.leaf_for(&host("b.test")).unwrap();
}

#[test]
fn a_kept_ca_that_others_could_read_is_refused() {
    let folder = Folder::new();
    let dir = folder.0.join("ca");
    Mint::from_dir(&dir, &settable(NOW).1).unwrap();
    let chmod = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(&dir, 0o755);
    Mint::from_dir(&dir, &settable(NOW).1).unwrap();
    assert_eq!(mode(&dir), 0o700);
    chmod(&dir.join("ca.key"), 0o640);
    assert!(matches!(Mint::from_dir(&dir, &settable(NOW).1), Err(MintError::KeyExposed { .. })));
    let link = folder.0.join("link");
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    assert!(matches!(Mint::from_dir(&link, &settable(NOW).1), Err(MintError::Folder { .. })));
}

#[test]
fn init_makes_a_ca_once_and_a_constrained_one_speaks_for_its_domains_alone() {
    let folder = Folder::new();
    let clock = settable(NOW).1;
    let dir = folder.0.join("ca");
    let path = init(&dir, &[host("amazonaws.com")], &clock).unwrap();
    assert!(matches!(init(&dir, &[], &clock), Err(MintError::Folder { .. })));
    let text = std::fs::read_to_string(dir.join("ca.key")).unwrap();
    assert_eq!(text.matches("PRIVATE KEY-----").count(), 2, "one key: the root's is gone");
    let mint = Mint::from_dir(&dir, &clock).unwrap();
    use rustls::pki_types::pem::PemObject;
    let trusted: Vec<_> = CertificateDer::pem_file_iter(path).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(trusted.len(), 1);
    let mut anchors = crate::tls::origin::Anchors::none();
    anchors.add(&trusted[0]).unwrap();
    let verifier = anchors.into_verifier().unwrap();
    for (name, good) in [("sqs.us-east-1.amazonaws.com", true), ("amazonaws.com", true), ("evil.test", false)]
    {
        let leaf = mint.leaf_for(&host(name)).unwrap();
        assert_eq!(leaf.cert.len(), 3);
        let asked = rustls::pki_types::ServerName::try_from(name).unwrap();
        let now = rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW));
        let judged = verifier.verify_server_cert(&leaf.cert[0], &leaf.cert[1..], &asked, &[], now);
        assert_eq!(judged.is_ok(), good, "{name}: {judged:?}");
    }
    let (_, late) = settable(NOW + 340 * 86_400);
    let mint = Mint::from_dir(&dir, &late).unwrap();
    assert!(!mint.renew().unwrap(), "there is no key to renew it with");
}

#[test]
fn a_stale_certificate_is_taken_away() {
    let folder = Folder::new();
    let file = folder.file("ca.pem", "old");
    Mint::retract_ca(&file).unwrap();
    assert!(!file.exists());
    Mint::retract_ca(&file).unwrap();
    assert!(Mint::retract_ca(&folder.0).is_err());
}

#[test]
fn the_ca_of_one_child_lasts_a_day_and_then_makes_nothing() {
    let (clock, read) = settable(NOW);
    let mint = Mint::for_a_day(read).unwrap();
    let host = Host::parse("a.test").unwrap();
    clock.store(NOW + 86_399, std::sync::atomic::Ordering::Relaxed);
    assert!(mint.leaf_for(&host).is_ok());
    clock.store(NOW + 86_400, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(mint.leaf_for(&host), Err(MintError::Ended)));
}
