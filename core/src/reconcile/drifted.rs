//! Which drifts are told, and what was done about each.

use jiff::Timestamp;

use super::finding::{Finding, Found};
use super::step::{Act, Step};
use super::target::Target;
use crate::drift::{Drift, Response};
use crate::object::Identity;
use crate::session::DriftMode;
use crate::{ObjectKey, TargetId};
use uuid::Uuid;

/// A drift, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drifted {
    pub target: TargetId,
    pub key: ObjectKey,
    pub found_at: Timestamp,
    pub found: Found,
    pub response: Response,
}

impl Drifted {
    /// As the hub is told.
    pub fn with_id(self, id: Uuid) -> Drift {
        let Self { target, key, found_at, found, response } = self;
        let Found { change, manager, operation, fields, values } = found;
        Drift { id, target, object: key, found_at, change, response, manager, operation, fields, values }
    }
}

impl Target {
    pub(super) fn note_drift(
        &mut self,
        step: &Step,
        identity: &Identity,
        drift: Option<Found>,
        finding: &Finding,
        now: Timestamp,
    ) {
        let Act::Correct { seen_at, .. } = step.act else { return };
        let Some(response) = response(finding, self.assignment.options.drift) else { return };
        let Some(object) = self.objects.find_mut(identity) else { return };
        let was_left = object.is_left_drifted;
        if !matches!(finding, Finding::Failed(_)) {
            object.is_left_drifted = false;
            object.uncorrected = None;
        }
        let Some(found) = drift else { return };
        object.is_left_drifted = response != Response::Corrected;
        let is_said = was_left && object.is_left_drifted && object.drift.as_ref() == Some(&found);
        object.drift = Some(found.clone());
        if is_said {
            return;
        }
        if response == Response::Corrected {
            self.rechecks.note_correction(identity, now);
        }
        self.drifts.push(Drifted { target: step.target, key: step.key.clone(), found_at: seen_at, found, response });
    }
}

fn response(finding: &Finding, mode: DriftMode) -> Option<Response> {
    match (finding, mode) {
        (Finding::Applied { .. }, _) => Some(Response::Corrected),
        (Finding::Kept { .. } | Finding::Failed(_), DriftMode::Warn) => Some(Response::Warned),
        (Finding::Exists { .. } | Finding::Failed(_), DriftMode::Correct) => Some(Response::Failed),
        _ => None,
    }
}
