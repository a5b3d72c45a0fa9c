//! Figures for Prometheus. Names are documented in docs/metrics.md and do not change.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) sessions: Gauge,
    pub(crate) reports_refused: Counter,
    pub(crate) signals_heard: Counter,
    pub(crate) unsealed: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("bellwether");
        let sessions = Gauge::default();
        registry.register("sessions", "Agents connected to this hub", sessions.clone());
        let reports_refused = Counter::default();
        registry.register("reports_refused", "Reports about foreign targets, dropped", reports_refused.clone());
        let signals_heard = Counter::default();
        registry.register("signals_heard", "Signals of other hubs that there is work", signals_heard.clone());
        let unsealed = Gauge::default();
        registry.register("audit_unsealed", "Audit entries on their way to a number", unsealed.clone());
        Self { registry, sessions, reports_refused, signals_heard, unsealed }
    }
}

impl Metrics {
    /// OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
