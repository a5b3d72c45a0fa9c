//! Writes down what the hub assigned, in the cluster, before anything acts on it; and reads it back at a start.
//!
//! It stands between the link and the reconciler. What is written is decided by `core::journal`. The next number is the
//! lock: if somebody else has taken it, another agent acts in this cluster, and this one ends. Whoever writes anything
//! else in the cluster asks first, by way of the [`Fence`]. While one entry is being written, what comes is gathered for
//! the next, so that neither the hub nor the cluster is waited for twice.

mod fence;
mod seal;
mod store;
mod unwritten;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

pub(crate) use bellwether_core::journal::InventoryUpdate;
use bellwether_core::journal::{Backlog, Entry, Journal};
use bellwether_core::session::agent::Change;
use bellwether_core::{Generation, TargetId};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::executor::kubernetes::client::ClusterError;
use crate::executor::{Outbound, Written};
pub(crate) use fence::Fence;
pub(crate) use seal::Seal;
pub(crate) use store::Store;
use unwritten::Unwritten;

/// What the reconciler learned and is not taken in yet waits there, so one is enough.
pub(crate) const INVENTORY_UPDATES_MAX: usize = 1;

/// Between two writes of nothing but inventory updates. Losing them costs requests and a reported conflict after the
/// next start, never an object. What is learned of a Job is written at once: losing that would run it twice.
const UPDATES_PAUSE: Duration = Duration::from_secs(5);

/// The ways to and from the link and the reconciler.
pub(crate) struct Ports {
    pub(crate) changes: mpsc::Receiver<Change>,
    pub(crate) written: mpsc::Sender<Written>,
    pub(crate) updates: mpsc::Receiver<InventoryUpdate>,
    /// What cannot be written down is told there.
    pub(crate) to_hub: mpsc::Sender<Outbound>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("another agent writes the journal of this cluster: Secret {namespace}/{name} is not ours")]
    Contested { namespace: String, name: String },
    #[error("Secret {namespace}/{name} cannot be read")]
    Unreadable { namespace: String, name: String, problem: String },
    #[error("the journal cannot be kept in namespace {namespace}")]
    Storage { namespace: String, source: ClusterError },
    #[error("writing the journal broke down")]
    Broken(#[from] JoinError),
}

impl JournalError {
    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Contested { .. } => {
                "let only one agent run in a cluster; this one starts anew from the journal".into()
            }
            Self::Unreadable { namespace, name, .. } => format!(
                "delete Secret {namespace}/{name}: the hub assigns everything anew, and what left a bundle meanwhile stays"
            )
            .into(),
            Self::Storage { .. } => {
                "check that the agent's Role may list, create and delete Secrets in its namespace".into()
            }
            Self::Broken(_) => return None,
        })
    }
}

struct JournalWriter {
    store: Store,
    fence: Fence,
    journal: Journal,
    /// Accepted and not being written yet.
    waiting: Backlog,
    /// Let go, and not written yet.
    ended: BTreeSet<TargetId>,
    /// One at a time.
    writes: JoinSet<Result<(), JournalError>>,
    writing: Option<Writing>,
    /// Written, and not handed on yet.
    outbox: BTreeSet<TargetId>,
    /// The same of what was learned: up to which update.
    learned: BTreeMap<TargetId, u64>,
    unwritten: Unwritten,
    /// From when on inventory updates are written without an assignment.
    updates_at: Instant,
}

struct Writing {
    entry: Entry,
    numbers: RangeInclusive<u64>,
    targets: BTreeSet<TargetId>,
    accepted: Vec<(TargetId, Generation)>,
}

enum Event<'a> {
    Changed(Change),
    Learned(InventoryUpdate),
    Ticked,
    Written(Result<Result<(), JournalError>, JoinError>),
    Writable(mpsc::Permit<'a, Written>),
    Troubled(String),
    LinkWritable(mpsc::Permit<'a, Outbound>),
}

/// Runs until the stop. A write that is cut off then was not acted on.
pub(crate) async fn serve(
    (store, fence): (Store, Fence),
    journal: Journal,
    ports: Ports,
    stop: CancellationToken,
) -> Result<(), JournalError> {
    let Ports { mut changes, written, mut updates, to_hub } = ports;
    let mut trouble = store.trouble();
    let mut writer = JournalWriter {
        store,
        fence,
        journal,
        waiting: Backlog::default(),
        ended: BTreeSet::new(),
        writes: JoinSet::new(),
        writing: None,
        outbox: BTreeSet::new(),
        learned: BTreeMap::new(),
        unwritten: Unwritten::default(),
        updates_at: Instant::now(),
    };
    loop {
        writer.schedule();
        let event = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(change) = changes.recv() => Event::Changed(change),
            Some(update) = updates.recv() => Event::Learned(update),
            () = tokio::time::sleep_until(writer.updates_at), if writer.waits_to_write_updates() => Event::Ticked,
            Some(ended) = writer.writes.join_next() => Event::Written(ended),
            Ok(slot) = written.reserve(), if writer.has_written() => Event::Writable(slot),
            Ok(()) = trouble.changed() => Event::Troubled(trouble.borrow_and_update().clone()),
            Ok(slot) = to_hub.reserve(), if writer.unwritten.has_reports() => Event::LinkWritable(slot),
        };
        writer.handle(event)?;
    }
}

impl JournalWriter {
    fn handle(&mut self, event: Event<'_>) -> Result<(), JournalError> {
        match event {
            Event::Changed(Change::Accepted(accepted)) => {
                self.unwritten.take_in(&accepted.assignment);
                self.waiting.take_in(accepted);
            }
            Event::Changed(Change::Ended(target)) => {
                self.journal.end(target);
                self.ended.insert(target);
            }
            Event::Learned(update) => {
                if update.is_urgent() {
                    self.updates_at = Instant::now();
                }
                self.journal.learn(update);
            }
            Event::Ticked => {}
            Event::Troubled(why) => {
                if let Some(writing) = &self.writing {
                    self.unwritten.note_trouble(self.store.key(*writing.numbers.start()), why);
                }
            }
            Event::LinkWritable(slot) => {
                if let Some(report) = self.unwritten.take_report() {
                    slot.send(Outbound::Report(report));
                }
            }
            Event::Written(written) => {
                written??;
                self.note_written();
            }
            Event::Writable(slot) => {
                if let Some(target) = self.outbox.pop_first() {
                    slot.send(self.journal.find(target).map_or(Written::Ended(target), Written::Assigned));
                } else if let Some((target, number)) = self.learned.pop_first() {
                    slot.send(Written::Learned(target, number));
                }
            }
        }
        Ok(())
    }

    fn has_written(&self) -> bool {
        !self.outbox.is_empty() || !self.learned.is_empty()
    }

    fn waits_to_write_updates(&self) -> bool {
        self.journal.has_learned() && self.writes.is_empty() && Instant::now() < self.updates_at
    }

    /// What is handed on is what was written last, so nothing new is taken in while something written waits.
    fn schedule(&mut self) {
        let updates_are_due = self.journal.has_learned() && Instant::now() >= self.updates_at;
        let has_something = !self.waiting.is_empty() || !self.ended.is_empty() || updates_are_due;
        if !self.writes.is_empty() || !has_something || !self.outbox.is_empty() {
            return;
        }
        self.updates_at = Instant::now() + UPDATES_PAUSE;
        let accepted = self.waiting.take();
        let mut targets = std::mem::take(&mut self.ended);
        targets.extend(accepted.iter().map(|accepted| accepted.assignment.target));
        let generations = accepted.iter().map(|it| (it.assignment.target, it.assignment.generation)).collect();
        let entry = self.journal.plan(accepted);
        let parts = Store::split(&entry);
        let numbers = self.journal.next_numbers(parts.len() as u64);
        self.writes.spawn(self.store.clone().write(parts, *numbers.start(), self.journal.last()));
        self.writing = Some(Writing { entry, numbers, targets, accepted: generations });
    }

    fn note_written(&mut self) {
        // A cleaning has ended.
        let Some(Writing { entry, numbers, targets, accepted }) = self.writing.take() else { return };
        self.unwritten.note_written(&accepted);
        self.learned.extend(self.journal.note_written(&entry, &numbers));
        self.fence.note_written(&self.journal);
        self.outbox.extend(targets);
        let dead = self.journal.take_dead();
        if !dead.is_empty() {
            self.writes.spawn(self.store.clone().clean(dead));
        }
    }
}
