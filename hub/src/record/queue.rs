//! The way of what agents tell from their streams to the rows: a bounded queue.

use bellwether_core::drift::Drift;
use bellwether_core::report::Report;
use bellwether_core::{ClusterId, ReportSequence, SessionNumber};
use tokio::sync::watch;

use crate::store::reports::Received;

/// Reports of one transaction, and of the queue: a fleet of 10,000 that answers at once passes in 20 commits.
pub(crate) const BATCH_MAX: usize = 500;

/// What an agent tells.
#[derive(Debug, Clone)]
pub(crate) enum AgentEvent {
    Report(Report),
    Drift(Drift),
}

/// An event on its way from a stream to the rows.
pub(crate) struct Incoming {
    pub(crate) cluster: ClusterId,
    pub(crate) session: SessionNumber,
    pub(crate) sequence: ReportSequence,
    pub(crate) event: AgentEvent,
    /// Told the sequence once it is durable.
    pub(crate) recorded: watch::Sender<ReportSequence>,
}

impl Incoming {
    pub(super) fn received(&self) -> Option<Received> {
        let AgentEvent::Report(report) = &self.event else { return None };
        let report = report.clone();
        Some(Received { cluster: self.cluster, session: self.session, sequence: self.sequence, report })
    }
}
