//! What concerns the process itself: settings, clock, logs, metrics, files and limits. Nothing here knows a hub.

pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod files;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod rate;
pub(crate) mod rate_limiter;
pub(crate) mod rlimit;
pub(crate) mod together;
pub(crate) mod turns;
