//! How many clients may be connected: in all, and from one address. Asked once for each accept, told once at its end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Limits;

/// Counts the connections of all workers.
#[derive(Debug)]
pub struct Gate {
    most: usize,
    most_of_one: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    // By address, which a stranger may choose: hashed with a key.
    of: HashMap<IpAddr, usize>,
}

/// A connection that was let in; gives its place back when dropped.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    client: IpAddr,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("{0} connections are open")]
    All(usize),
    #[error("{0} connections of this address are open")]
    OfOne(usize),
}

impl Gate {
    pub fn new(limits: &Limits) -> Arc<Self> {
        let (most, most_of_one) = (limits.connections.get(), limits.per_client());
        Arc::new(Self { most, most_of_one, inside: Mutex::default() })
    }

    pub fn enter(self: &Arc<Self>, peer: SocketAddr) -> Result<Place, Full> {
        let client = client(peer.ip());
        let mut inside = self.inside();
        if inside.all >= self.most {
            return Err(Full::All(inside.all));
        }
        let count = inside.of.entry(client).or_default();
        if *count >= self.most_of_one {
            return Err(Full::OfOne(*count));
        }
        *count += 1;
        inside.all += 1;
        Ok(Place { gate: Arc::clone(self), client })
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.inside().all
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.gate.inside();
        inside.all -= 1;
        if let Entry::Occupied(mut count) = inside.of.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// One client is one address; of IPv6 a /64, in which a machine picks addresses as it likes (RFC 4862).
pub(super) fn client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn gate(all: usize, of_one: usize) -> Arc<Gate> {
        let connections = NonZeroUsize::new(all).unwrap();
        let connections_per_client = NonZeroUsize::new(of_one);
        Gate::new(&Limits { connections, connections_per_client, ..Limits::default() })
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_gets_its_share_and_all_together_the_whole() {
        let gate = gate(3, 2);
        let first = gate.enter(at("10.0.0.1:1")).unwrap();
        let _second = gate.enter(at("10.0.0.1:2")).unwrap();
        assert_eq!(gate.enter(at("10.0.0.1:3")).unwrap_err(), Full::OfOne(2));
        let _other = gate.enter(at("10.0.0.2:1")).unwrap();
        assert_eq!(gate.enter(at("10.0.0.3:1")).unwrap_err(), Full::All(3));
        drop(first);
        let _again = gate.enter(at("10.0.0.1:3")).unwrap();
        assert_eq!(gate.open(), 3);
    }

    #[test]
    fn an_address_is_one_client_in_either_family_and_a_64_is_one() {
        let gate = gate(8, 1);
        let _v4 = gate.enter(at("10.0.0.1:1")).unwrap();
        assert!(gate.enter(at("[::ffff:10.0.0.1]:1")).is_err());
        let _v6 = gate.enter(at("[2600::1]:1")).unwrap();
        assert!(gate.enter(at("[2600::ffff:1]:1")).is_err());
        assert!(gate.enter(at("[2600:0:0:1::1]:1")).is_ok());
    }

    #[test]
    fn nothing_is_kept_of_a_client_that_left() {
        let gate = gate(8, 1);
        drop(gate.enter(at("10.0.0.1:1")).unwrap());
        assert!(gate.inside().of.is_empty() && gate.open() == 0);
    }
}
