//! Figures for Prometheus. Names are documented in docs/metrics.md and do not change.
//!
//! What is counted where it happens is a figure of this hub; what is read from the rows, at each scrape, is the same from
//! every hub ([`Rows`]).

use std::time::Duration;

use jiff::SignedDuration;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::store::figures::Rows;
use crate::store::work::Stage;

/// One label, with a value that the code knows: what comes from outside is never a label.
type Label = [(&'static str, String); 1];

/// From a reconcile that found nothing to do to a fetch over a slow line.
const STAGE_BUCKETS: [f64; 12] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];
/// From a ConfigMap to a rollout that soaks over a day.
const CHANGE_BUCKETS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0];

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) sessions: Gauge,
    pub(crate) reports_refused: Counter,
    pub(crate) signals_heard: Counter,
    pub(crate) assignments: Counter,
    pub(crate) variants: Counter,
    pub(crate) mirrors: Gauge,
    reports: Family<Label, Counter>,
    renders: Family<Label, Counter>,
    fetches: Histogram,
    stage_durations: Family<Label, Histogram, fn() -> Histogram>,
    settled: Family<Label, Histogram, fn() -> Histogram>,
    ended: Family<Label, Histogram, fn() -> Histogram>,
    unsealed: Gauge,
    clusters: Gauge,
    work_due: Family<Label, Gauge>,
    rollouts: Family<Label, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let in_stages: fn() -> Histogram = || Histogram::new(STAGE_BUCKETS);
        let in_changes: fn() -> Histogram = || Histogram::new(CHANGE_BUCKETS);
        let mut metrics = Self {
            registry: Registry::with_prefix("bellwether"),
            sessions: Gauge::default(),
            reports_refused: Counter::default(),
            signals_heard: Counter::default(),
            assignments: Counter::default(),
            variants: Counter::default(),
            mirrors: Gauge::default(),
            reports: Family::default(),
            renders: Family::default(),
            fetches: Histogram::new(STAGE_BUCKETS),
            stage_durations: Family::new_with_constructor(in_stages),
            settled: Family::new_with_constructor(in_changes),
            ended: Family::new_with_constructor(in_changes),
            unsealed: Gauge::default(),
            clusters: Gauge::default(),
            work_due: Family::default(),
            rollouts: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("sessions", "Agents connected to this hub", self.sessions.clone());
        registry.register("reports", "Reports recorded, by verdict", self.reports.clone());
        registry.register("reports_refused", "Reports about foreign targets, dropped", self.reports_refused.clone());
        registry.register("assignments", "Assignments written by rollouts", self.assignments.clone());
        registry.register("signals_heard", "Signals of other hubs that there is work", self.signals_heard.clone());
        registry.register(
            "renders",
            "Targets that were rendered, or not because nothing that they read moved",
            self.renders.clone(),
        );
        registry.register(
            "variants",
            "Renders of a target for clusters that have the same values of what it reads",
            self.variants.clone(),
        );
        registry.register(
            "mirrors_bytes",
            "What the mirrors of all repos have on this hub's disk",
            self.mirrors.clone(),
        );
        registry.register("fetch_seconds", "How long Git hosts and registries took for a fetch", self.fetches.clone());
        registry.register(
            "stage_duration_seconds",
            "How long stages took to reconcile something that was due",
            self.stage_durations.clone(),
        );
        registry.register(
            "cluster_settled_seconds",
            "From a cluster's assignment until its rollout knew how it ended",
            self.settled.clone(),
        );
        registry.register("rollout_seconds", "From the plan of a rollout to its end", self.ended.clone());
        registry.register("audit_unsealed", "Audit entries on their way to a number", self.unsealed.clone());
        registry.register("clusters", "Registered clusters that are not revoked", self.clusters.clone());
        registry.register("work_due", "Work rows that are due, by stage", self.work_due.clone());
        registry.register("rollouts", "Rollouts that have not ended, by state", self.rollouts.clone());
    }

    pub(crate) fn note_report(&self, verdict: &str) {
        self.reports.get_or_create(&[("verdict", verdict.to_owned())]).inc();
    }

    pub(crate) fn note_render(&self, is_reused: bool) {
        let result = if is_reused { "reused" } else { "made" };
        self.renders.get_or_create(&[("result", result.to_owned())]).inc();
    }

    pub(crate) fn note_fetch(&self, took: Duration) {
        self.fetches.observe(took.as_secs_f64());
    }

    pub(crate) fn note_reconcile(&self, stage: Stage, took: Duration) {
        self.stage_durations.get_or_create(&[("stage", stage.as_str().to_owned())]).observe(took.as_secs_f64());
    }

    pub(crate) fn note_settled(&self, state: String, took: SignedDuration) {
        self.settled.get_or_create(&[("state", state)]).observe(took.as_secs_f64());
    }

    pub(crate) fn note_ended(&self, state: String, took: SignedDuration) {
        self.ended.get_or_create(&[("state", state)]).observe(took.as_secs_f64());
    }

    /// What has become 0 since the last scrape is told as 0.
    pub(crate) fn note_rows(&self, rows: Rows) {
        self.unsealed.set(rows.unsealed);
        self.clusters.set(rows.clusters);
        for (stage, count) in rows.work_due {
            self.work_due.get_or_create(&[("stage", stage)]).set(count);
        }
        for (state, count) in rows.rollouts {
            self.rollouts.get_or_create(&[("state", state)]).set(count);
        }
    }

    /// OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
