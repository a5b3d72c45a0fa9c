//! Signals between the parts of one process: they say "reconcile", and nothing else.
//!
//! A lost one costs a second: every stage reconciles by itself that often.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::store::work::Stage;

#[derive(Debug, Default)]
pub(crate) struct Signals {
    stages: [Notify; Stage::ALL.len()],
    sealer: Notify,
    answers: Notify,
    /// What other hubs have not been told yet.
    pending_notify: Mutex<BTreeSet<Stage>>,
    has_pending: Notify,
}

impl Signals {
    /// A permit is kept when nobody waits yet, so no signal is lost between a reconcile and the wait after it.
    pub(crate) fn wake(&self, stage: Stage) {
        self.of(stage).notify_one();
    }

    pub(crate) fn wake_sealer(&self) {
        self.sealer.notify_one();
    }

    /// Something that people asked has its answer.
    pub(crate) fn wake_askers(&self) {
        self.answers.notify_waiters();
    }

    /// Ends with the next answer, to anybody, after this call: to be asked for before the rows are read.
    pub(crate) fn next_answer(&self) -> Notified<'_> {
        self.answers.notified()
    }

    /// A stage has work that this hub wrote: its own stage is woken, and the other hubs are to be told.
    pub(crate) fn announce(&self, stage: Stage) {
        self.wake(stage);
        self.lock().insert(stage);
        self.has_pending.notify_one();
    }

    pub(crate) async fn pending(&self) {
        self.has_pending.notified().await;
    }

    pub(crate) fn take_pending(&self) -> BTreeSet<Stage> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Stage>> {
        self.pending_notify.lock().expect("no holder of this lock panics")
    }

    pub(crate) async fn woken(&self, stage: Stage) {
        self.of(stage).notified().await;
    }

    pub(crate) async fn sealer_woken(&self) {
        self.sealer.notified().await;
    }

    fn of(&self, stage: Stage) -> &Notify {
        &self.stages[stage as usize]
    }
}
