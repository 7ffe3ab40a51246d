//! Which addresses may be dialled: special ones are shut, whatever a name resolves to.
//!
//! Asked by `target/destination.rs` for every answer before a connection is tried. An IPv4 address
//! inside an IPv6 one is decoded first: what is judged is where the packets end up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::engine::facts::words;

words! {
    /// Why an address is special.
    pub enum Special {
        Loopback = "loopback",
        Unspecified = "unspecified",
        LinkLocal = "link_local",
        /// Instance metadata, container credentials, and the resolver and clock beside them.
        Metadata = "metadata",
        Multicast = "multicast",
        Broadcast = "broadcast",
        Private = "private",
        /// RFC 6598, carrier-grade NAT; EKS pods too.
        Shared = "shared",
        /// Documentation, benchmarks, protocol assignments, what nobody was given.
        Reserved = "reserved",
        /// IPv4 inside IPv6 in a form we cannot read.
        Embedded = "embedded",
    }
}

impl Special {
    /// A range of the policy may open it. The others stay shut whatever a range says.
    pub const fn openable(self) -> bool {
        matches!(self, Self::Private | Self::Shared | Self::Reserved)
    }
}

/// What may be done with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressVerdict {
    Public,
    /// Special, and inside a range that the policy opens for this host.
    Allowed,
    Special(Special),
}

impl AddressVerdict {
    pub const fn may_dial(self) -> bool {
        matches!(self, Self::Public | Self::Allowed)
    }
}

/// Judges an address that a name resolved to; `allowed` are the policy's ranges for that name.
pub fn judge_address(ip: IpAddr, allowed: &[IpNet]) -> AddressVerdict {
    let inner = match ip {
        IpAddr::V4(v4) => Inner::One(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(inner) => inner,
            None => return open(special_v6(v6), allowed, &[ip]),
        },
    };
    match inner {
        Inner::One(v4) => open(special_v4(v4), allowed, &[ip, v4.into()]),
        // Both ends must be fit: the packets go through one to the other.
        Inner::Two(a, b) => match open(special_v4(a), allowed, &[ip, a.into()]) {
            refused @ AddressVerdict::Special(_) => refused,
            first => match open(special_v4(b), allowed, &[ip, b.into()]) {
                AddressVerdict::Public => first,
                second => second,
            },
        },
        Inner::Unknown => AddressVerdict::Special(Special::Embedded),
    }
}

/// Judges an address that the operator wrote down himself (`connect_to`): that is consent to private ranges and to
/// this machine; metadata and what is no single machine stay shut.
pub fn judge_named_address(ip: IpAddr) -> AddressVerdict {
    let everything = [
        IpNet::new_assert(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        IpNet::new_assert(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    ];
    match judge_address(ip, &everything) {
        AddressVerdict::Special(Special::Loopback) => AddressVerdict::Allowed,
        verdict => verdict,
    }
}

/// What a range can't open, where that is all of it: metadata, loopback and the like stay shut whatever a policy says.
pub fn wholly_shut(range: &IpNet) -> Option<Special> {
    SHUT.iter()
        .find(|(shut, _)| shut.parse::<IpNet>().is_ok_and(|shut| shut.contains(range)))
        .map(|(_, kind)| *kind)
}

/// The blocks of [`Special::openable`]'s other kinds.
const SHUT: &[(&str, Special)] = &[
    ("0.0.0.0/8", Special::Unspecified),
    ("127.0.0.0/8", Special::Loopback),
    ("169.254.169.0/24", Special::Metadata),
    ("169.254.170.0/24", Special::Metadata),
    ("169.254.0.0/16", Special::LinkLocal),
    ("224.0.0.0/4", Special::Multicast),
    ("255.255.255.255/32", Special::Broadcast),
    ("::/128", Special::Unspecified),
    ("::1/128", Special::Loopback),
    ("fe80::/10", Special::LinkLocal),
    ("fd00:ec2::/32", Special::Metadata),
    ("ff00::/8", Special::Multicast),
];

/// `forms`: the address as given and, where one is inside, the IPv4 one: a range may name either.
fn open(special: Option<Special>, allowed: &[IpNet], forms: &[IpAddr]) -> AddressVerdict {
    match special {
        None => AddressVerdict::Public,
        Some(kind)
            if kind.openable() && allowed.iter().any(|range| forms.iter().any(|ip| range.contains(ip))) =>
        {
            AddressVerdict::Allowed
        }
        Some(kind) => AddressVerdict::Special(kind),
    }
}

/// IANA's IPv4 special-purpose registry, and AWS' link-local services by name.
fn special_v4(ip: Ipv4Addr) -> Option<Special> {
    Some(match ip.octets() {
        [0, ..] => Special::Unspecified,
        [127, ..] => Special::Loopback,
        // IMDS 169.254.169.254, resolver .253, clock .123; ECS 169.254.170.2, EKS .23.
        [169, 254, 169 | 170, _] => Special::Metadata,
        [169, 254, ..] => Special::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Special::Private,
        [100, 64..=127, ..] => Special::Shared,
        [224..=239, ..] => Special::Multicast,
        [255, 255, 255, 255] => Special::Broadcast,
        [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => Special::Reserved,
        _ => return None,
    })
}

/// IANA's IPv6 special-purpose registry; only 2000::/3 is handed out as global unicast.
fn special_v6(ip: Ipv6Addr) -> Option<Special> {
    Some(match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Special::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Special::Loopback,
        [0xfe80..=0xfebf, ..] => Special::LinkLocal,
        // fd00:ec2::254 (IMDS), ::23 (EKS), ::253 (resolver), ::123 (clock).
        [0xfd00, 0x0ec2, ..] => Special::Metadata,
        [0xfc00..=0xfdff, ..] => Special::Private,
        [0xff00..=0xffff, ..] => Special::Multicast,
        // Protocol assignments and documentation inside 2000::/3.
        [0x2000..=0x3fff, second, ..]
            if !matches!(
                (ip.segments()[0], second),
                (0x2001, 0x0000..=0x01ff | 0x0db8) | (0x3fff, 0x0000..=0x0fff)
            ) =>
        {
            return None;
        }
        _ => Special::Reserved,
    })
}

/// IPv4 inside an IPv6 address.
enum Inner {
    One(Ipv4Addr),
    /// Teredo: server and client.
    Two(Ipv4Addr, Ipv4Addr),
    Unknown,
}

/// Every published way to put an IPv4 address into an IPv6 one; `None`: there is none in it.
fn embedded(ip: Ipv6Addr) -> Option<Inner> {
    let o = ip.octets();
    let last = Ipv4Addr::new(o[12], o[13], o[14], o[15]);
    Some(match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return None,
        // Mapped (RFC 4291 §2.5.5.2), compatible (§2.5.5.1), SIIT (RFC 2765), NAT64 (RFC 6052), and local-use NAT64
        // (RFC 8215) with its /96 form: there the operator picks the length, and the zeros tell /96 and /48 apart.
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x0064, 0xff9b, 0 | 1, 0, 0, 0, _, _] => Inner::One(last),
        [0x0064, 0xff9b, 0x0001, _, _, low, 0, 0] if o[8] == 0 && low & 0x00ff == 0 => {
            Inner::One(Ipv4Addr::new(o[6], o[7], o[9], o[10]))
        }
        // 6to4 (RFC 3056).
        [0x2002, ..] => Inner::One(Ipv4Addr::new(o[2], o[3], o[4], o[5])),
        // Teredo (RFC 4380): the client's address stands inverted.
        [0x2001, 0, ..] => {
            Inner::Two(Ipv4Addr::new(o[4], o[5], o[6], o[7]), Ipv4Addr::new(!o[12], !o[13], !o[14], !o[15]))
        }
        // What else NAT64 might mean; and ISATAP (RFC 5214), which lives under any prefix.
        [0x0064, 0xff9b, ..] | [_, _, _, _, 0 | 0x0200, 0x5efe, _, _] => Inner::Unknown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(ip: &str, allowed: &[&str]) -> AddressVerdict {
        let ranges: Vec<IpNet> = allowed.iter().map(|range| range.parse().unwrap()).collect();
        judge_address(ip.parse().unwrap(), &ranges)
    }

    #[test]
    fn special_addresses_are_named_and_their_neighbours_are_public() {
        use Special::*;
        let rows: &[(&str, Option<Special>)] = &[
            ("0.0.0.0", Some(Unspecified)),
            ("0.1.2.3", Some(Unspecified)),
            ("1.0.0.0", None),
            ("9.255.255.255", None),
            ("10.0.0.1", Some(Private)),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.1", Some(Shared)),
            ("100.128.0.0", None),
            ("126.255.255.255", None),
            ("127.255.255.254", Some(Loopback)),
            ("128.0.0.0", None),
            ("169.253.255.255", None),
            ("169.254.0.1", Some(LinkLocal)),
            ("169.254.169.254", Some(Metadata)),
            ("169.254.169.253", Some(Metadata)),
            ("169.254.170.2", Some(Metadata)),
            ("169.254.170.23", Some(Metadata)),
            ("169.255.0.0", None),
            ("172.15.255.255", None),
            ("172.31.255.255", Some(Private)),
            ("172.32.0.0", None),
            ("192.0.0.1", Some(Reserved)),
            ("192.0.1.1", None),
            ("192.168.1.1", Some(Private)),
            ("198.17.255.255", None),
            ("198.19.0.1", Some(Reserved)),
            ("203.0.113.5", Some(Reserved)),
            ("224.0.0.251", Some(Multicast)),
            ("240.0.0.1", Some(Reserved)),
            ("255.255.255.255", Some(Broadcast)),
            ("8.8.8.8", None),
            ("::", Some(Unspecified)),
            ("::1", Some(Loopback)),
            ("fe80::1", Some(LinkLocal)),
            ("fec0::1", Some(Reserved)),
            ("fc00::1", Some(Private)),
            ("fd00:ec2::254", Some(Metadata)),
            ("fd00:ec2::23", Some(Metadata)),
            ("fd00:ec3::1", Some(Private)),
            ("ff02::1", Some(Multicast)),
            ("2001:db8::1", Some(Reserved)),
            ("2001:2::1", Some(Reserved)),
            ("100::1", Some(Reserved)),
            ("2600:1f18::1", None),
            ("2a05:d018::1", None),
        ];
        for (ip, want) in rows {
            let want = want.map_or(AddressVerdict::Public, AddressVerdict::Special);
            assert_eq!(verdict(ip, &[]), want, "{ip}");
        }
    }

    #[test]
    fn what_is_judged_is_the_address_inside() {
        use Special::*;
        let rows: &[(&str, Option<Special>)] = &[
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::ffff:169.254.169.254", Some(Metadata)),
            ("::ffff:8.8.8.8", None),
            ("::127.0.0.1", Some(Loopback)),
            ("::8.8.8.8", None),
            ("::ffff:0:10.0.0.1", Some(Private)),
            ("64:ff9b::127.0.0.1", Some(Loopback)),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b:1::10.0.0.1", Some(Private)),
            ("64:ff9b:1:0808:8:800::", None),
            ("64:ff9b:1:a9fe:a9:fe00::", Some(Metadata)),
            ("64:ff9b:1:1:2:3:4:5", Some(Embedded)),
            ("64:ff9b:2::1", Some(Embedded)),
            ("2002:7f00:1::1", Some(Loopback)),
            ("2002:808:808::1", None),
            ("2001:0:808:808::f7f7:f7f7", None),
            ("2001:0:808:808::80ff:fffe", Some(Loopback)),
            ("2001:0:7f00:1::f7f7:f7f7", Some(Loopback)),
            ("2600::5efe:7f00:1", Some(Embedded)),
        ];
        for (ip, want) in rows {
            let want = want.map_or(AddressVerdict::Public, AddressVerdict::Special);
            assert_eq!(verdict(ip, &[]), want, "{ip}");
        }
    }

    #[test]
    fn a_range_opens_private_addresses_and_never_the_others() {
        let wide = ["0.0.0.0/0", "::/0"];
        for ip in
            ["10.20.3.4", "100.64.0.1", "198.18.0.10", "fd12::1", "::ffff:10.20.3.4", "64:ff9b::10.20.3.4"]
        {
            assert_eq!(verdict(ip, &wide), AddressVerdict::Allowed, "{ip}");
        }
        assert_eq!(verdict("10.20.3.4", &["10.20.0.0/16"]), AddressVerdict::Allowed);
        assert_eq!(verdict("::ffff:10.20.3.4", &["10.20.0.0/16"]), AddressVerdict::Allowed);
        assert!(!verdict("10.21.3.4", &["10.20.0.0/16"]).may_dial());
        for ip in [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:2::1",
        ] {
            assert!(!verdict(ip, &wide).may_dial(), "{ip}");
        }
        assert!(verdict("8.8.8.8", &[]).may_dial());
    }

    #[test]
    fn an_address_named_by_the_operator_may_be_this_machine_but_not_its_metadata() {
        for (ip, want) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("10.0.0.1", true),
            ("8.8.8.8", true),
            ("169.254.169.254", false),
            ("fd00:ec2::254", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
        ] {
            assert_eq!(judge_named_address(ip.parse().unwrap()).may_dial(), want, "{ip}");
        }
    }

    #[test]
    fn a_range_of_nothing_but_shut_addresses_is_told_and_a_wider_one_is_not() {
        for (range, want) in [
            ("169.254.169.254/32", Some(Special::Metadata)),
            ("169.254.0.0/16", Some(Special::LinkLocal)),
            ("127.0.0.0/8", Some(Special::Loopback)),
            ("fd00:ec2::/32", Some(Special::Metadata)),
            ("10.0.0.0/8", None),
            ("0.0.0.0/0", None),
            ("fd00::/8", None),
            ("::/0", None),
        ] {
            assert_eq!(wholly_shut(&range.parse().unwrap()), want, "{range}");
        }
        for (block, kind) in SHUT {
            let block: IpNet = block.parse().unwrap();
            for ip in [block.network(), block.broadcast()] {
                let AddressVerdict::Special(found) = judge_address(ip, &[block]) else { panic!("{ip}") };
                assert!(!found.openable(), "{block} {kind}: {ip} is {found}");
            }
        }
    }
}
