//! The link stage: assignments → agents, one stream for each.
//!
//! The rows are the truth; what waits for an agent waits in its session's memory and is read anew after any doubt. What
//! changes for many clusters at once is read at once, and handed to their streams. A cluster's identity is the URI in its
//! verified certificate, and nothing that it says.

mod ends;
mod enroll;
mod listing;
mod service;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bellwether_core::session::Listing;
use bellwether_core::{ClusterId, SessionNumber};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Hub;
use crate::process::clock;
use crate::store::StoreError;
use crate::store::work::{self, Stage};
use crate::work::change::Change;

pub(crate) use ends::{run as write_ends, write_last as write_last_ends};
pub(crate) use service::serve;

/// The streams that this hub holds.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    streams: Mutex<BTreeMap<ClusterId, OpenStream>>,
    /// Of streams that are over here, as long as the rows do not say so. No more than there were streams when Postgres
    /// was last there, since none begins without it.
    ends: Mutex<BTreeMap<(ClusterId, SessionNumber), Timestamp>>,
    ended: Notify,
}

#[derive(Debug, Clone)]
struct OpenStream {
    number: SessionNumber,
    /// Of the certificate that it came with.
    serial: String,
    inbox: Arc<Inbox>,
    /// It is to end now.
    cut: CancellationToken,
}

/// Where a stream finds what was read for it; newer replaces older.
#[derive(Debug, Default)]
struct Inbox {
    delivery: Mutex<Option<Delivery>>,
    came: Notify,
}

/// What one cluster is to run may have changed.
#[derive(Debug)]
struct Delivery {
    /// Whatever was committed before this stands in it.
    began_at: Instant,
    listing: Listing,
}

impl Inbox {
    fn put(&self, delivery: Delivery) {
        *self.delivery.lock().expect("no holder of this lock panics") = Some(delivery);
        self.came.notify_one();
    }

    fn take(&self) -> Option<Delivery> {
        self.delivery.lock().expect("no holder of this lock panics").take()
    }
}

impl Sessions {
    /// Puts a stream in its cluster's place; the older one ends.
    fn enter(&self, cluster: ClusterId, stream: OpenStream) {
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
    fn leave(&self, cluster: ClusterId, number: SessionNumber, now: Timestamp) {
        let mut streams = self.lock();
        if streams.get(&cluster).is_some_and(|stream| stream.number == number) {
            streams.remove(&cluster);
        }
        drop(streams);
        self.ends().entry((cluster, number)).or_insert(now);
        self.ended.notify_one();
    }

    fn holds(&self, cluster: ClusterId, number: SessionNumber) -> bool {
        self.lock().get(&cluster).is_some_and(|stream| stream.number == number)
    }

    fn ends(&self) -> std::sync::MutexGuard<'_, BTreeMap<(ClusterId, SessionNumber), Timestamp>> {
        self.ends.lock().expect("no holder of this lock panics")
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

    fn hand_out(&self, began_at: Instant, listings: BTreeMap<ClusterId, Listing>) {
        let streams = self.lock();
        for (cluster, listing) in listings {
            if let Some(stream) = streams.get(&cluster) {
                stream.inbox.put(Delivery { began_at, listing });
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ClusterId, OpenStream>> {
        self.streams.lock().expect("no holder of this lock panics")
    }
}

/// Takes the stage's rows of clusters whose newest stream is here, and hands those streams what their clusters are to run.
pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match deliver(&hub).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %crate::chain(&error), "cannot read what clusters are to run"),
        }
        tokio::select! {
            () = hub.signals.woken(Stage::Link) => {}
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Of so many clusters what they are to run is read at once: a few hundred kilobytes for most fleets.
const DELIVERED_MAX: i64 = 250;

/// One transaction: a delivery that fails leaves its rows to the next. False: nothing was due.
async fn deliver(hub: &Hub) -> Result<bool, StoreError> {
    let began_at = Instant::now();
    let mut change = Change::begin(&hub.vital, &hub.signals).await?;
    let taken = work::take_due_of_streams(&mut change, hub.id, DELIVERED_MAX, clock::now()).await?;
    if taken.is_empty() {
        return Ok(false);
    }
    let clusters: Vec<_> = taken.into_iter().map(ClusterId::new).collect();
    let listings = listing::load(&mut change, &hub.content, &clusters).await?;
    change.commit_without_wait().await?;
    hub.sessions.hand_out(began_at, listings);
    Ok(true)
}
