//! How much was deleted within the last hour, and whether more may be.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Policy, REFUSED, Refusal, Until, project_of};
use crate::Name;

/// As many as are remembered, so no policy can ask for more to be counted.
pub(super) const COUNTED_MAX: usize = 10_000;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Deletions of the last hour, the oldest first. Times are by one clock that never goes back.
#[derive(Debug, Default)]
pub struct Deletions(VecDeque<Ticket>);

/// One deletion. Nothing is deleted twice: of one whose answer was lost, the next try is the same deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    at: Timestamp,
    project: String,
    uid: Uuid,
}

impl Deletions {
    /// Counts one more, if there is room for it within the hour. What a rule bounds is what all projects delete together that
    /// it names: the hub says their names, and may say as many as a pattern has.
    pub fn take(
        &mut self,
        policy: &Policy,
        (project, uid): (Option<&Name>, Uuid),
        now: Timestamp,
    ) -> Result<Ticket, Refusal> {
        self.forget(now);
        let is_other = |ticket: &Ticket| ticket.uid != uid;
        let project = project_of(project);
        let of_cluster = policy.prune_max_per_hour.map(|max| (max.0, "pruneMaxPerHour".to_owned()));
        let of_rule = policy.per_hour_of(project).and_then(|(index, max, field)| {
            let is_of_rule = |ticket: &Ticket| {
                policy.rule_of(&ticket.project).is_some_and(|(of, _)| of == index) && is_other(ticket)
            };
            self.wait((max, field), is_of_rule, now)
        });
        let waits = [of_rule, of_cluster.and_then(|max| self.wait(max, is_other, now))];
        if let Some(refusal) = waits.into_iter().flatten().next() {
            return Err(refusal);
        }
        self.0.retain(is_other);
        let ticket = Ticket { at: now, project: project.to_owned(), uid };
        if self.0.len() == COUNTED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(ticket.clone());
        Ok(ticket)
    }

    /// Nothing was deleted after all.
    pub fn give_back(&mut self, ticket: &Ticket) {
        if let Some(index) = self.0.iter().rposition(|counted| counted == ticket) {
            self.0.remove(index);
        }
    }

    fn forget(&mut self, now: Timestamp) {
        while self.0.front().is_some_and(|ticket| now.duration_since(ticket.at) >= HOUR) {
            self.0.pop_front();
        }
    }

    /// Until the oldest that leaves no room is an hour old.
    fn wait(&self, (max, field): (u32, String), counts: impl Fn(&Ticket) -> bool, now: Timestamp) -> Option<Refusal> {
        let counted: Vec<_> = self.0.iter().filter(|ticket| counts(ticket)).collect();
        let max_index = counted.len().checked_sub(max as usize)?;
        let room_in = HOUR - now.duration_since(counted[max_index].at);
        let minutes = room_in.as_secs().div_euclid(60) + 1;
        let message = format!(
            "{REFUSED}{field} lets {max} be deleted in an hour, and so many were: this one waits for about {minutes} min"
        );
        let after = Duration::try_from(room_in).unwrap_or_default();
        Some(Refusal { message, until: Until::After(after) })
    }
}
