//! Which addresses a repo may be at. Whoever may add a repo must not learn through the hub what is inside its network,
//! such as a cloud's metadata service.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses that anybody on the internet can reach, as far as their form tells.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    let is_benchmark = first == 198 && (second == 18 || second == 19);
    let is_of_protocols = (first, second, third) == (192, 0, 0);
    !(first == 0
        || first >= 224
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || is_shared
        || is_benchmark
        || is_of_protocols)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let low = |high: u16, low: u16| {
        let ([first, second], [third, fourth]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(first, second, third, fourth)
    };
    match parts {
        // An IPv4 address in other clothes: mapped, translated, 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, below] | [0x64, 0xff9b, 0, 0, 0, 0, high, below] => {
            is_public_v4(low(high, below))
        }
        [0x2002, high, below, ..] => is_public_v4(low(high, below)),
        // Teredo, ORCHID and their like; documentation.
        [0x2001, second, ..] if second < 0x0200 || second == 0x0db8 => false,
        // All that is given out for the internet.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves a repo's host to its public addresses only. Asked for each new connection, so a name that leads inside
/// later is refused then. Other names are proxies', which the hub's administrator chose.
#[derive(Debug)]
pub(super) struct PublicOnly {
    pub(super) host: String,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, is_of_repo) = (name.as_str().to_owned(), name.as_str().eq_ignore_ascii_case(&self.host));
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((&*host, 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.iter().copied().filter(|at| !is_of_repo || is_public(at.ip())).collect();
            match (&allowed[..], found.first()) {
                ([], Some(refused)) => Err(PrivateAddress { host, address: refused.ip() }.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[derive(Debug, Clone)]
pub(super) struct PrivateAddress {
    pub(super) host: String,
    pub(super) address: IpAddr,
}

impl fmt::Display for PrivateAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is at {}", self.host, self.address)
    }
}

impl std::error::Error for PrivateAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        let public = ["140.82.121.3", "8.8.8.8", "2606:50c0:8000::153", "::ffff:8.8.8.8", "64:ff9b::808:808"];
        for address in public {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
        let inside = [
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.7",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "::7f00:1",
        ];
        for address in inside {
            assert!(!is_public(address.parse().expect("an address")), "{address}");
        }
    }
}
