//! What an executor has to tell and nobody has taken yet: the link takes nothing while the hub is away.

use std::collections::{BTreeMap, VecDeque};

use bellwether_core::TargetId;
use bellwether_core::drift::Drift;
use bellwether_core::journal::InventoryUpdate;
use bellwether_core::report::Report;

use super::Outbound;
use super::kubernetes::assignments::Told;

/// Drifts that wait. Of more, the oldest are forgotten; what they were about has been dealt with.
const DRIFTS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Newer replaces older, so there is at most one for each target.
    reports: BTreeMap<TargetId, Report>,
    drifts: VecDeque<Drift>,
    /// What the journal is to know; at most one for each target, which grows with what the target has.
    updates: BTreeMap<TargetId, InventoryUpdate>,
    /// What the people of the cluster are to see; at most one for each target.
    shown: BTreeMap<TargetId, Told>,
    happened: VecDeque<Told>,
}

impl Outbox {
    pub(super) fn report(&mut self, report: Report) {
        self.reports.insert(report.target, report);
    }

    pub(super) fn drift(&mut self, drift: Drift) {
        if self.drifts.len() == DRIFTS_MAX {
            self.drifts.pop_front();
        }
        self.drifts.push_back(drift);
    }

    pub(super) fn learn(&mut self, update: InventoryUpdate) {
        let waiting = self.updates.entry(update.target).or_insert_with(|| InventoryUpdate::about(update.target));
        waiting.add(update);
    }

    pub(super) fn has_outbound(&self) -> bool {
        !self.reports.is_empty() || !self.drifts.is_empty()
    }

    /// Reports first: a rollout may wait for one.
    pub(super) fn take_outbound(&mut self) -> Option<Outbound> {
        let report = self.reports.pop_first().map(|(_, report)| Outbound::Report(report));
        report.or_else(|| self.drifts.pop_front().map(Outbound::Drift))
    }

    pub(super) fn show(&mut self, target: TargetId, told: Told) {
        self.shown.insert(target, told);
    }

    pub(super) fn tell_of(&mut self, happened: Told) {
        if self.happened.len() == DRIFTS_MAX {
            self.happened.pop_front();
        }
        self.happened.push_back(happened);
    }

    pub(super) fn has_shown(&self) -> bool {
        !self.shown.is_empty() || !self.happened.is_empty()
    }

    pub(super) fn take_shown(&mut self) -> Option<Told> {
        self.shown.pop_first().map(|(_, told)| told).or_else(|| self.happened.pop_front())
    }

    pub(super) fn has_updates(&self) -> bool {
        !self.updates.is_empty()
    }

    pub(super) fn take_update(&mut self) -> Option<InventoryUpdate> {
        self.updates.pop_first().map(|(_, update)| update)
    }
}
