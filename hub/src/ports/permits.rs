//! How many connections there may be, of whom: at both ports.
//!
//! Anybody can open a connection. Each takes a permit, which is counted by its address until its owner has shown a
//! certificate, and by the cluster afterwards.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellwether_core::ClusterId;

/// What one party's connections are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Address(IpAddr),
    /// A network that agents' sessions or good tokens came from.
    Known(IpAddr),
    /// All strangers of an IPv6 site together.
    Site(IpAddr),
    Cluster(ClusterId),
}

/// Whoever has one IPv6 address has all of its /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Party {
    /// Who rents a network of IPv6 is given a /48 for the asking, and has 65,536 of them.
    fn site(self) -> Option<Self> {
        let Self::Address(IpAddr::V6(v6)) = self else { return None };
        let [a, b, c, ..] = v6.segments();
        Some(Self::Site(IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))))
    }
}

/// All networks of a site have as many permits as so many networks elsewhere.
const SITE_NETWORKS: usize = 2;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of all addresses together.
    pub(crate) strangers: usize,
    pub(crate) per_address: usize,
    /// Those who are known are not counted together: each belongs to a cluster that somebody registered.
    pub(crate) per_known: usize,
}

/// The permits of one port.
#[derive(Debug)]
pub(crate) struct Permits {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    strangers: usize,
    by_party: BTreeMap<Party, usize>,
}

impl Taken {
    fn of(&self, party: Party) -> usize {
        self.by_party.get(&party).copied().unwrap_or_default()
    }
}

/// One connection's permit; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    party: Party,
    permits: Arc<Permits>,
}

impl Permits {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// `None`: the party has as many as one may have, or all strangers together have.
    pub(crate) fn take(self: &Arc<Self>, party: Party) -> Option<Permit> {
        let mut taken = self.lock();
        let is_stranger = matches!(party, Party::Address(_));
        let most = if is_stranger { self.limits.per_address } else { self.limits.per_known };
        let is_full =
            taken.of(party) >= most || party.site().is_some_and(|site| taken.of(site) >= most * SITE_NETWORKS);
        if is_full || (is_stranger && taken.strangers >= self.limits.strangers) {
            return None;
        }
        taken.strangers += usize::from(is_stranger);
        for counted in [Some(party), party.site()].into_iter().flatten() {
            *taken.by_party.entry(counted).or_default() += 1;
        }
        Some(Permit { party, permits: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.permits.lock();
        taken.strangers -= usize::from(matches!(self.party, Party::Address(_)));
        for counted in [Some(self.party), self.party.site()].into_iter().flatten() {
            let left = taken.of(counted).saturating_sub(1);
            if left == 0 {
                taken.by_party.remove(&counted);
            } else {
                taken.by_party.insert(counted, left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { strangers: 3, per_address: 2, per_known: 1 };

    fn at(address: &str) -> Party {
        Party::Address(network(address.parse().expect("an address")))
    }

    #[test]
    fn one_address_leaves_places_to_others_and_strangers_leave_them_to_clusters() {
        let permits = Permits::new(LIMITS);
        let cluster = Party::Cluster(ClusterId::new(uuid::Uuid::nil()));

        let mine: Vec<_> = (0..3).filter_map(|_| permits.take(at("192.0.2.1"))).collect();
        let other = permits.take(at("192.0.2.2"));
        let third = permits.take(at("192.0.2.3"));
        let known = permits.take(cluster);

        assert_eq!(mine.len(), 2);
        assert!(other.is_some() && third.is_none() && known.is_some());
        assert!(permits.take(cluster).is_none());
        drop(mine);
        assert!(permits.take(at("192.0.2.3")).is_some(), "a place that was left is free");
    }

    #[test]
    fn all_addresses_of_one_network_are_one_party() {
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    }

    #[test]
    fn all_networks_of_one_site_leave_places_to_others() {
        let limits = Limits { strangers: 100, per_address: 10, per_known: 10 };
        let permits = Permits::new(limits);

        let site = |number: usize| at(&format!("2001:db8:1:{number:x}::1"));
        let mine: Vec<_> = (0..200).filter_map(|number| permits.take(site(number))).collect();

        assert!(mine.len() <= 2 * limits.per_address, "{} of {}", mine.len(), limits.strangers);
        assert!(permits.take(at("2001:db8:2:1::1")).is_some());
        drop(mine);
        assert!(permits.take(site(0)).is_some(), "a place that was left is free");
    }
}
