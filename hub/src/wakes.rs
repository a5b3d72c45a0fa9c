//! Signals between the parts of one process: they say "look", and nothing else.
//!
//! A lost one costs a second: every stage looks by itself that often.

use tokio::sync::Notify;

use crate::store::work::Stage;

#[derive(Debug, Default)]
pub(crate) struct Wakes {
    source: Notify,
    bundle: Notify,
    rollout: Notify,
    link: Notify,
    sealer: Notify,
}

impl Wakes {
    /// A permit is kept when nobody waits yet, so no signal is lost between a look and the wait after it.
    pub(crate) fn wake(&self, stage: Stage) {
        self.of(stage).notify_one();
    }

    pub(crate) fn wake_sealer(&self) {
        self.sealer.notify_one();
    }

    pub(crate) async fn woken(&self, stage: Stage) {
        self.of(stage).notified().await;
    }

    pub(crate) async fn sealer_woken(&self) {
        self.sealer.notified().await;
    }

    fn of(&self, stage: Stage) -> &Notify {
        match stage {
            Stage::Source => &self.source,
            Stage::Bundle => &self.bundle,
            Stage::Rollout => &self.rollout,
            Stage::Link => &self.link,
        }
    }
}
