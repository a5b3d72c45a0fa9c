//! What runs beside the stages or runs them: the loop of a stage, heartbeats, the sweep, the sealer.

pub(crate) mod heartbeat;
pub(crate) mod sealer;
pub(crate) mod stage;
pub(crate) mod sweep;
