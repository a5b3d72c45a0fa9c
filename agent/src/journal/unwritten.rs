//! What was accepted and is not written down yet: nothing of it is applied. When that lasts, the hub is told why.

use std::collections::BTreeMap;

use bellwether_core::report::{Counts, ObjectLine, Outcome, Report, Verdict, bounded_message};
use bellwether_core::session::Assignment;
use bellwether_core::{Digest, Generation, ObjectKey, TargetId};

const HINT: &str = "nothing new is applied before the agent can write Secrets in its own namespace: see to its rights, \
    quotas and admission policies";

#[derive(Debug, Default)]
pub(super) struct Unwritten {
    accepted: BTreeMap<TargetId, Accepted>,
    /// The Secret that cannot be written, and why.
    trouble: Option<(ObjectKey, String)>,
}

#[derive(Debug)]
struct Accepted {
    generation: Generation,
    digest: Digest,
    objects: usize,
    /// What the trouble is was said.
    is_told: bool,
}

impl Unwritten {
    pub(super) fn take_in(&mut self, assignment: &Assignment) {
        let (generation, digest) = (assignment.generation, assignment.manifest.digest());
        let objects = assignment.manifest.entries().len();
        self.accepted.insert(assignment.target, Accepted { generation, digest, objects, is_told: false });
    }

    pub(super) fn note_trouble(&mut self, secret: ObjectKey, why: String) {
        let trouble = Some((secret, why));
        if self.trouble != trouble {
            self.trouble = trouble;
            self.accepted.values_mut().for_each(|accepted| accepted.is_told = false);
        }
    }

    /// A newer assignment of the same target may have come meanwhile.
    pub(super) fn note_written(&mut self, written: &[(TargetId, Generation)]) {
        self.trouble = None;
        for (target, generation) in written {
            self.accepted.retain(|of, accepted| of != target || accepted.generation != *generation);
        }
    }

    pub(super) fn has_reports(&self) -> bool {
        self.trouble.is_some() && self.accepted.values().any(|accepted| !accepted.is_told)
    }

    pub(super) fn take_report(&mut self) -> Option<Report> {
        let (secret, why) = self.trouble.as_ref()?;
        let (target, accepted) = self.accepted.iter_mut().find(|(_, accepted)| !accepted.is_told)?;
        accepted.is_told = true;
        let line = ObjectLine {
            key: secret.clone(),
            outcome: Outcome::Retrying,
            verdict: Verdict::Degraded,
            message: bounded_message(&format!("the assignment cannot be written down: {why}")),
            hint: HINT.to_owned(),
            may_pass: true,
        };
        let total = u32::try_from(accepted.objects).unwrap_or(u32::MAX);
        Some(Report {
            target: *target,
            generation: accepted.generation,
            digest: accepted.digest,
            applied: false,
            verdict: Verdict::Degraded,
            objects: Counts { total, ..Counts::default() },
            lines: vec![line],
            suspended: None,
        })
    }
}
