//! How changes are made and told: one transaction, signals in this process, signals between hubs.

pub(crate) mod actors;
pub(crate) mod change;
pub(crate) mod notify;
pub(crate) mod signals;
pub(crate) mod subjects;
