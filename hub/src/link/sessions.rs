//! The streams that this hub holds, one for each cluster, and where each finds what was read for it.
//!
//! In memory only: the rows say where a cluster's newest stream is. Neighbours: `ends` (writes the ends down), `session`
//! (one stream), `pki::revocations` (cuts those of revoked clusters).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bellwether_core::dry_run::DryRun;
use bellwether_core::session::Listing;
use bellwether_core::{ClusterId, SessionNumber};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The streams that this hub holds.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    streams: Mutex<BTreeMap<ClusterId, OpenStream>>,
    /// Of streams that are over here, as long as the rows do not say so. No more than there were streams when Postgres
    /// was last there, since none begins without it.
    ends: Mutex<BTreeMap<(ClusterId, SessionNumber), Timestamp>>,
    pub(super) ended: Notify,
}

#[derive(Debug, Clone)]
pub(super) struct OpenStream {
    pub(super) number: SessionNumber,
    /// Of the certificate that it came with.
    pub(super) serial: String,
    pub(super) inbox: Arc<Inbox>,
    /// It is to end now.
    pub(super) cut: CancellationToken,
}

/// Where a stream finds what was read for it; newer replaces older.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    delivery: Mutex<Option<Delivery>>,
    /// Whether its agent is there has to be heard anew.
    is_unheard: AtomicBool,
    /// What its agent is to be asked.
    dry_runs: Mutex<Vec<DryRun>>,
    pub(super) came: Notify,
}

/// What one cluster is to run may have changed.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Whatever was committed before this stands in it.
    pub(super) began_at: Instant,
    pub(super) listing: Listing,
}

impl Inbox {
    pub(super) fn put(&self, delivery: Delivery) {
        *self.delivery.lock().expect("no holder of this lock panics") = Some(delivery);
        self.came.notify_one();
    }

    fn ask(&self, asked: DryRun) {
        self.dry_runs.lock().expect("no holder of this lock panics").push(asked);
        self.came.notify_one();
    }

    pub(super) fn take_dry_runs(&self) -> Vec<DryRun> {
        std::mem::take(&mut *self.dry_runs.lock().expect("no holder of this lock panics"))
    }

    pub(super) fn take_unheard(&self) -> bool {
        self.is_unheard.swap(false, Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> Option<Delivery> {
        self.delivery.lock().expect("no holder of this lock panics").take()
    }
}

impl Sessions {
    /// Puts a stream in its cluster's place; the older one ends.
    pub(super) fn enter(&self, cluster: ClusterId, stream: OpenStream) {
        let mut streams = self.lock();
        match streams.get(&cluster) {
            Some(newer) if newer.number > stream.number => stream.cut.cancel(),
            _ => {
                if let Some(older) = streams.insert(cluster, stream) {
                    older.cut.cancel();
                }
            }
        }
    }

    /// Takes a stream out, unless a newer one has its place; its end is to be written.
    pub(super) fn leave(&self, cluster: ClusterId, number: SessionNumber, now: Timestamp) {
        let mut streams = self.lock();
        if streams.get(&cluster).is_some_and(|stream| stream.number == number) {
            streams.remove(&cluster);
        }
        drop(streams);
        self.ends().entry((cluster, number)).or_insert(now);
        self.ended.notify_one();
    }

    pub(super) fn holds(&self, cluster: ClusterId, number: SessionNumber) -> bool {
        self.lock().get(&cluster).is_some_and(|stream| stream.number == number)
    }

    pub(super) fn ends(&self) -> MutexGuard<'_, BTreeMap<(ClusterId, SessionNumber), Timestamp>> {
        self.ends.lock().expect("no holder of this lock panics")
    }

    /// For a while this hub could not say that it lives: each agent counts again from its next heartbeat on.
    pub(crate) fn hear_anew(&self) {
        for stream in self.lock().values() {
            stream.inbox.is_unheard.store(true, Ordering::Relaxed);
            stream.inbox.came.notify_one();
        }
    }

    /// The streams that are here.
    pub(super) fn list(&self) -> Vec<(ClusterId, SessionNumber)> {
        self.lock().iter().map(|(cluster, stream)| (*cluster, stream.number)).collect()
    }

    /// Ends this very stream of a cluster, if it is here still.
    pub(super) fn cut_stream(&self, cluster: ClusterId, number: SessionNumber) {
        if let Some(stream) = self.lock().get(&cluster).filter(|stream| stream.number == number) {
            stream.cut.cancel();
        }
    }

    /// Ends a cluster's stream.
    pub(crate) fn cut(&self, cluster: ClusterId) {
        if let Some(stream) = self.lock().get(&cluster) {
            stream.cut.cancel();
        }
    }

    /// Ends the streams that came with one of these certificates.
    pub(crate) fn cut_all(&self, serials: &BTreeSet<String>) {
        for stream in self.lock().values().filter(|stream| serials.contains(&stream.serial)) {
            stream.cut.cancel();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn hand_out(&self, began_at: Instant, listings: BTreeMap<ClusterId, Listing>) {
        let streams = self.lock();
        for (cluster, listing) in listings {
            if let Some(stream) = streams.get(&cluster) {
                stream.inbox.put(Delivery { began_at, listing });
            }
        }
    }

    /// Whether there is a stream that can be asked.
    pub(super) fn ask(&self, cluster: ClusterId, asked: DryRun) -> bool {
        let streams = self.lock();
        let stream = streams.get(&cluster);
        if let Some(stream) = stream {
            stream.inbox.ask(asked);
        }
        stream.is_some()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterId, OpenStream>> {
        self.streams.lock().expect("no holder of this lock panics")
    }
}
