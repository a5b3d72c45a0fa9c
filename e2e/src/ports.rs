//! Free ports on loopback.
//!
//! A port is only known to be free for a moment: whoever starts a server on one tries another when it is taken.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};
use uuid::Uuid;

/// Below those that the kernel gives to outgoing connections (32768 and up): there, any connection of the clusters
/// could take the port of a server between its stop and its next start.
const RANGE: std::ops::Range<u16> = 20_000..30_000;
const TRIES: usize = 1_000;
/// How often a server is started anew, on another port, because something else took its port first.
pub const STARTS: usize = 5;

pub fn free() -> Result<u16> {
    for _ in 0..TRIES {
        let random = Uuid::new_v4().as_u128() % u128::from(RANGE.end - RANGE.start);
        let port = RANGE.start + u16::try_from(random)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port between {} and {} is free", RANGE.start, RANGE.end)
}

/// As Go's, Rust's and Postgres' errors say it.
pub fn was_taken(message: &str) -> bool {
    message.to_lowercase().contains("address already in use")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_free_can_be_listened_on() -> Result<()> {
        // A test beside this one that forks holds the first listener's descriptor until it execs.
        for _ in 0..STARTS {
            let port = free()?;
            assert!(RANGE.contains(&port));
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(());
            }
        }
        bail!("none of {STARTS} could be listened on")
    }
}
