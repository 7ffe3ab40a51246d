use proptest::prelude::*;

use super::build::{Draft, vec8, vec16};
use super::server::{self, ServerFirst};
use super::*;

fn client(bytes: &[u8]) -> ClientHello {
    match read(bytes) {
        Hello::Client(hello) => hello,
        other => panic!("{other:?}"),
    }
}

fn modern() -> Draft {
    Draft::new(0x0303)
        .with(51, &vec16(&[5; 1220]))
        .with(21, &[0; 2000])
        .versions(&[0x1a1a, 0x0304, 0x0303])
        .alpn(&["\u{1a}\u{1a}", "h2", "http/1.1"])
        .sni("API.Example.com")
}

#[test]
fn finds_the_name_past_a_post_quantum_share_and_padding() {
    let hello = client(&modern().wire(16_384));
    assert_eq!(hello.sni, Some(Host::parse("api.example.com").unwrap()));
    assert_eq!(hello.alpn, [Box::from(&b"h2"[..]), Box::from(&b"http/1.1"[..])]);
    assert_eq!((hello.legacy_version, hello.max_version, hello.ech), (0x0303, 0x0304, false));
    assert!(!hello.below_floor());
}

#[test]
fn reads_the_same_over_records_of_any_size() {
    let whole = client(&modern().wire(16_384));
    for size in [1, 2, 3, 5, 100, 1000] {
        assert_eq!(client(&modern().wire(size)), whole, "records of {size}");
    }
}

#[test]
fn each_prefix_asks_for_more_and_never_for_too_many() {
    for size in [1, 7, 16_384] {
        let wire = modern().wire(size);
        for cut in 0..wire.len() {
            match read(&wire[..cut]) {
                Hello::NeedMore { at_least } => {
                    assert!(at_least > cut && at_least <= wire.len(), "cut {cut}: {at_least}");
                }
                other => panic!("cut {cut} of records of {size}: {other:?}"),
            }
        }
    }
}

#[test]
fn one_byte_records_are_looked_at_a_few_times_only() {
    let wire = modern().wire(1);
    let (mut have, mut looks) = (0, 0);
    while let Hello::NeedMore { at_least } = read(&wire[..have]) {
        have = at_least;
        looks += 1;
    }
    assert!(looks < 120, "{looks} looks");
}

#[test]
fn what_follows_the_hello_is_left_alone() {
    let mut wire = modern().wire(16_384);
    wire.extend_from_slice(b"\x14\x03\x03\x00\x01\x01rest");
    client(&wire);
    client(&[modern().wire(16_384), modern().wire(16_384)].concat());
}

#[test]
fn the_floor_is_read_off_what_is_offered() {
    let rows: &[(&str, Draft, bool, &str)] = &[
        ("tls 1.0", Draft::new(0x0301), true, "TLSv1.0"),
        ("tls 1.1", Draft::new(0x0302).sni("a.test"), true, "TLSv1.1"),
        ("ssl 3", Draft::new(0x0300), true, "SSLv3"),
        ("tls 1.2", Draft::new(0x0303), false, "TLSv1.2"),
        ("1.3 behind an old legacy field", Draft::new(0x0301).versions(&[0x0304]), false, "TLSv1.3"),
        // RFC 8446 §4.2.1: with supported_versions there, legacy_version has no say.
        ("1.1 behind a 1.2 legacy field", Draft::new(0x0303).versions(&[0x0302]), true, "TLSv1.1"),
        ("GREASE lifts nobody", Draft::new(0x0303).versions(&[0xfafa, 0x0301]), true, "TLSv1.0"),
        ("GREASE alone", Draft::new(0x0303).versions(&[0x2a2a]), true, "unknown"),
    ];
    for (name, draft, below, offered) in rows {
        let hello = client(&draft.wire(16_384));
        assert_eq!((hello.below_floor(), hello.offered()), (*below, *offered), "{name}");
    }
}

#[test]
fn an_sslv2_style_hello_is_told_apart() {
    let v2 = [0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10];
    assert_eq!(read(&v2), Hello::Sslv2 { version: 2 });
    assert_eq!(read(&[0x80, 0x2e, 1, 3, 1]), Hello::Sslv2 { version: 0x0301 });
    assert_eq!((sslv2_name(2), sslv2_name(0x0300)), ("SSLv2", "SSLv3, in an SSLv2 hello"));
    assert_eq!(read(&v2[..4]), Hello::NeedMore { at_least: 5 });
    assert_eq!(read(&[0x80, 0x2e, 4]), Hello::NotTls(Foreign::Other));
}

#[test]
fn names_what_speaks_where_tls_is_due() {
    let rows: &[(&[u8], Foreign)] = &[
        (b"GET / HTTP/1.1\r\n", Foreign::HttpLike),
        (b"SEARCH /", Foreign::HttpLike),
        (b"SSH-2.0-x", Foreign::Ssh),
        (b"\x00\x01", Foreign::Other),
        (b"get /", Foreign::Other),
    ];
    for (bytes, kind) in rows {
        assert_eq!(read(bytes), Hello::NotTls(*kind));
    }
    assert_eq!(read(b"SS"), Hello::NeedMore { at_least: 3 });
}

#[test]
fn refuses_what_is_tls_in_its_first_byte_only() {
    let two_names = [&[0][..], &vec16(b"a.test"), &[0], &vec16(b"b.test")].concat();
    let rows: &[(&str, Vec<u8>)] = &[
        ("two names", Draft::new(0x0303).with(0, &vec16(&two_names)).wire(16_384)),
        ("no name in server_name", Draft::new(0x0303).with(0, &vec16(&[])).wire(16_384)),
        ("name with a NUL", Draft::new(0x0303).sni("a\0.test").wire(16_384)),
        ("name beyond ASCII", Draft::new(0x0303).sni("ä.test").wire(16_384)),
        ("server_name twice", Draft::new(0x0303).sni("a.test").sni("a.test").wire(16_384)),
        ("versions twice", Draft::new(0x0303).versions(&[0x0304]).versions(&[0x0301]).wire(16_384)),
        ("extension longer than the hello", Draft::new(0x0303).with(43, &[200, 3]).wire(16_384)),
        ("alpn entry cut", Draft::new(0x0303).with(16, &vec16(&vec8(b"h2")[..2])).wire(16_384)),
        ("empty record", [&[22, 3, 1, 0, 0][..], &Draft::new(0x0303).wire(16_384)].concat()),
        ("record over 2^14", vec![22, 3, 1, 0x40, 1]),
        ("record of version 2", vec![22, 2]),
        ("ServerHello", vec![22, 3, 1, 0, 4, 2]),
        ("hello over 64 KiB", vec![22, 3, 1, 0x40, 0, 1, 1, 0, 0]),
        ("another record in between", [&Draft::new(0x0303).wire(60)[..65], &[21, 3, 1, 0, 2]].concat()),
    ];
    for (name, bytes) in rows {
        assert!(matches!(read(bytes), Hello::Malformed(_)), "{name}: {:?}", read(bytes));
    }
}

#[test]
fn ech_is_noticed_in_its_outer_form() {
    assert!(client(&Draft::new(0x0303).with(EXT_ECH, &[0, 1, 2]).wire(16_384)).ech);
    assert!(!client(&Draft::new(0x0303).with(EXT_ECH, &[1]).wire(16_384)).ech);
}

#[test]
fn a_servers_first_bytes_name_its_choice() {
    let old = [22, 3, 2, 0, 80, 2, 0, 0, 76, 3, 2, 1, 2, 3];
    let rows: &[(&str, &[u8], ServerFirst)] = &[
        ("chose 1.1", &old, ServerFirst::Chose(0x0302)),
        (
            "refuses by alert 70",
            &[21, 3, 1, 0, 2, 2, 70],
            ServerFirst::Alert { record: 0x0301, description: 70 },
        ),
        ("plain text", b"HTTP/1.1 400 Bad Request\r\n", ServerFirst::NotTls),
        ("a hello of a client", &[22, 3, 1, 0, 80, 1, 0, 0, 76, 3, 3], ServerFirst::NotTls),
    ];
    for (name, bytes, want) in rows {
        assert_eq!(server::first(bytes), *want, "{name}");
    }
    for cut in 0..11 {
        assert_eq!(server::first(&old[..cut]), ServerFirst::NeedMore, "cut at {cut}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), tls in any::<bool>()) {
        let mut bytes = bytes;
        if tls {
            bytes.splice(0..0, [22, 3, 1, 0, 60, 1, 0, 0, 56]);
        }
        let _ = read(&bytes);
        let _ = server::first(&bytes);
    }

    #[test]
    fn a_flipped_byte_reads_the_same_however_it_is_cut(at in 0usize..3500, with in any::<u8>(), size in 1usize..4000) {
        let mut wire = modern().wire(size);
        let at = at % wire.len();
        wire[at] = with;
        let last = read(&wire);
        // Fed as a socket would: ask for what it says it needs, byte by byte beyond that.
        let mut have = 0;
        let early = loop {
            match read(&wire[..have]) {
                Hello::NeedMore { at_least } if at_least <= wire.len() => {
                    prop_assert!(at_least > have);
                    have = at_least;
                }
                answer => break answer,
            }
        };
        if !matches!(early, Hello::NeedMore { .. }) {
            prop_assert_eq!(early, last);
        }
    }
}
