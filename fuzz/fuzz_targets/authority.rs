//! Text of a destination: what is read is its own normal form, and nobody could read it as another host.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use exeat_fuzz::engine::target::{Authority, Host};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for default_port in [None, Some(443)] {
        let Ok(authority) = Authority::parse(text, default_port) else { continue };
        assert!(authority.port > 0);
        let normal = authority.to_string();
        assert_eq!(Authority::parse(&normal, None).as_ref(), Ok(&authority));
        assert!(
            !normal
                .bytes()
                .any(|b| b.is_ascii_uppercase() || b <= b' ' || b >= 0x7f || b"@/\\?#%".contains(&b))
        );
    }
    let Ok(host) = Host::parse(text) else { return };
    assert_eq!(Host::parse(&host.to_string()).as_ref(), Ok(&host));
    match &host {
        Host::Name(name) => {
            assert!(name.len() <= 253 && !name.ends_with('.') && !name.contains(".."));
            // getaddrinfo and URL parsers take these for addresses.
            let last = name.rsplit('.').next().unwrap_or_default();
            assert!(!last.bytes().all(|b| b.is_ascii_digit()) && name.parse::<IpAddr>().is_err(), "{name}");
            let hex = last.strip_prefix("0x");
            assert!(hex.is_none_or(|rest| !rest.bytes().all(|b| b.is_ascii_hexdigit())), "{name}");
        }
        Host::Literal(IpAddr::V4(ip)) => assert_eq!(text.parse::<Ipv4Addr>().as_ref(), Ok(ip)),
        Host::Literal(IpAddr::V6(_)) => assert!(text.starts_with('[') && text.ends_with(']')),
    }
});
