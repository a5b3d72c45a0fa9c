//! What concerns the process itself: settings, clock, logs, metrics and limits.

pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod rate_limiter;
pub(crate) mod rlimit;
