//! What was accepted while nothing could be written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::session::Assignment;
use crate::session::agent::Accepted;
use crate::{Digest, TargetId};

/// The newest of each target, and the bodies that these need: a cluster that cannot be written to for a day takes no more
/// memory than what it is assigned. What a newer assignment replaces here was never acted on, and the hub names all that
/// may have to go with each newer one.
#[derive(Debug, Default)]
pub struct Backlog {
    newest: BTreeMap<TargetId, Assignment>,
    bodies: BTreeMap<Digest, Arc<[u8]>>,
}

impl Backlog {
    /// Puts it in the place of what the target was given before.
    pub fn take_in(&mut self, Accepted { assignment, objects }: Accepted) {
        self.bodies.extend(objects);
        if self.newest.insert(assignment.target, assignment).is_some() {
            // The body of a replaced one may be what another's assignment came without.
            let needed: BTreeSet<_> = self.newest.values().flat_map(Assignment::objects).collect();
            self.bodies.retain(|digest, _| needed.contains(digest));
        }
    }

    /// Whether all of it is written.
    pub fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// All of it, to be written.
    pub fn take(&mut self) -> Vec<Accepted> {
        let bodies = std::mem::take(&mut self.bodies);
        let of = |assignment: &Assignment| {
            assignment.objects().filter_map(|digest| Some((digest, Arc::clone(bodies.get(&digest)?)))).collect()
        };
        let newest = std::mem::take(&mut self.newest).into_values();
        newest.map(|assignment| Accepted { objects: of(&assignment), assignment }).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::journal::tests::accepted;

    /// The same for another target, without the bodies that the agent has.
    fn of_another(mut accepted: Accepted, has: &[&str]) -> Accepted {
        accepted.assignment.target = TargetId::new(Uuid::from_u128(8));
        for body in has {
            accepted.objects.remove(&Digest::of(body.as_bytes()));
        }
        accepted
    }

    #[test]
    fn of_each_target_the_newest_waits() {
        let mut backlog = Backlog::default();
        for generation in 1..=100 {
            backlog.take_in(accepted(generation, &format!("a@x b@{generation}")));
        }

        assert_eq!(backlog.bodies.len(), 2);
        assert_eq!(backlog.take(), [accepted(100, "a@x b@100")]);
        assert!(backlog.is_empty() && backlog.take().is_empty());
    }

    #[test]
    fn a_body_stays_that_another_target_came_without() {
        let mut backlog = Backlog::default();
        backlog.take_in(accepted(1, "a@x"));
        backlog.take_in(of_another(accepted(1, "c@x"), &["x"]));
        backlog.take_in(accepted(2, "a@y"));

        let taken = backlog.take();

        assert_eq!(taken[1].objects.keys().collect::<Vec<_>>(), [&Digest::of(b"x")]);
    }
}
