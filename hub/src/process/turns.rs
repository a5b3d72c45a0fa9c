//! Who is next, when anybody may ask and few are served at once: no party is more than a few ahead of another.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// As long as one waits for a connection.
pub(crate) const TURN_DEADLINE: Duration = Duration::from_secs(5);
/// Networks remembered before those are forgotten of which nobody asks: some dozens of kilobytes.
const NETWORKS_KEPT: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Turns {
    of_all: Semaphore,
    /// Of those that have a turn or wait for one, how many are of one network.
    per_network: usize,
    /// Whoever has enough waits here first, before all others.
    of_networks: Mutex<BTreeMap<IpAddr, Arc<Semaphore>>>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _of_network: Option<OwnedSemaphorePermit>,
    _of_all: SemaphorePermit<'a>,
}

impl Turns {
    pub(crate) fn new(at_once: usize, per_network: usize) -> Self {
        Self { of_all: Semaphore::new(at_once), per_network, of_networks: Mutex::default() }
    }

    /// `None`: it did not come in time.
    pub(crate) async fn turn(&self, from: Option<IpAddr>) -> Option<Turn<'_>> {
        let turn = async {
            let of_network = match from {
                Some(from) => Some(self.of_network(from).acquire_owned().await.ok()?),
                None => None,
            };
            Some(Turn { _of_network: of_network, _of_all: self.of_all.acquire().await.ok()? })
        };
        timeout(TURN_DEADLINE, turn).await.ok().flatten()
    }

    fn of_network(&self, from: IpAddr) -> Arc<Semaphore> {
        let mut of_networks = self.of_networks.lock().unwrap_or_else(PoisonError::into_inner);
        if of_networks.len() >= NETWORKS_KEPT {
            // Whoever has one or waits for one holds it too.
            of_networks.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let turns = of_networks.entry(from).or_insert_with(|| Arc::new(Semaphore::new(self.per_network)));
        Arc::clone(turns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[tokio::test]
    async fn strangers_of_one_network_leave_turns_to_others() {
        let turns = Arc::new(Turns::new(3, 2));
        let mut waiting = tokio::task::JoinSet::new();
        let (one, two) = (turns.turn(Some(network(1))).await, turns.turn(Some(network(1))).await);
        for _ in 0..100 {
            let turns = turns.clone();
            waiting.spawn(async move { turns.turn(Some(network(1))).await.is_some() });
        }
        tokio::task::yield_now().await;

        let other = timeout(TURN_DEADLINE / 2, turns.turn(Some(network(2)))).await;

        assert!(other.is_ok_and(|turn| turn.is_some()), "it waits behind all of another network");
        drop((one, two));
        while let Some(had) = waiting.join_next().await {
            assert!(had.expect("no panic"), "nobody holds a turn");
        }
    }

    #[tokio::test]
    async fn who_waits_for_too_long_is_told_so_and_networks_are_forgotten() {
        let turns = Turns::new(1, 1);
        let held = turns.turn(Some(network(0))).await;
        assert!(turns.turn(Some(network(1))).await.is_none());
        drop(held);

        for number in 0..5_000 {
            assert!(turns.turn(Some(network(number))).await.is_some());
        }

        assert!(turns.of_networks.lock().expect("no panic").len() <= NETWORKS_KEPT);
    }
}
