//! Shows each target to the people of its cluster, and hears whom they suspend: the loop around [`Board`], which decides.
//!
//! One task of its own, with one request at a time, so that what it writes never stands between two applies; beside a watch
//! it asks nothing while nothing changes. Until it has seen what is there, the reconciler begins nothing: somebody may have
//! suspended a target while no agent ran. Without the definition of these objects, or without the right to see them, nobody
//! is suspended and nothing is shown; that is said once.

use std::time::Duration;

use bellwether_core::TargetId;
use bellwether_core::assignment::{Board, DEFINITION, Holds, Reason, Shown, Write, Written};
use bellwether_core::session::Profile;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::client::{Cluster, ClusterError, SeenAssignment, Unseen};
use crate::clock::Clock;
use crate::journal::{Fence, JournalError};

/// A watch tells faster than this loop reads only at a list.
const SEEN_MAX: usize = 16;

/// Until what was missing or forbidden is tried again: whoever installs it sees it at once by the definitions that the agent
/// watches anyway, and who may not watch those is in no hurry.
const REFUSED_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// Of a definition that is there and not served yet.
const SERVED_PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// A write that was begun when the stop came may end.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// What the reconciler has to tell; of one target, newer replaces older.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "few are on their way at once, and nearly all are of the large kind")]
pub(crate) enum Told {
    Stands(Shown),
    Ended(TargetId),
    /// Something was done to an object, which the text names.
    Happened(TargetId, Reason, String),
}

pub(crate) struct Ports {
    pub(crate) told: mpsc::Receiver<Told>,
    /// `None`: not known yet.
    pub(crate) holds: watch::Sender<Option<Holds>>,
    /// Which definitions the cluster has.
    pub(crate) profile: watch::Receiver<Profile>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ShowError {
    #[error("a request or a watch broke down")]
    Broken(#[from] JoinError),
    #[error("this agent was replaced")]
    Replaced(#[from] JournalError),
}

/// What came of a request; an error when this agent was replaced.
type Done = Result<Answer, JournalError>;

enum Answer {
    Written(Write, Result<Option<serde_json::Value>, ClusterError>),
    Noted(Result<(), ClusterError>),
}

enum Wake {
    Told(Told),
    Seen(SeenAssignment),
    Unseen(Result<Unseen, JoinError>),
    Answered(Result<Done, JoinError>),
    Profile,
    Ticked,
}

struct Shower {
    cluster: Cluster,
    fence: Fence,
    clock: Clock,
    board: Board,
    holds: watch::Sender<Option<Holds>>,
    watches: JoinSet<Unseen>,
    seen: mpsc::Sender<SeenAssignment>,
    /// One at a time.
    writes: JoinSet<Done>,
    /// When a watch that ended is begun anew.
    again_at: Option<Timestamp>,
    /// Nothing is written before: it is forbidden.
    may_write_at: Timestamp,
    /// The same of events.
    may_note_at: Timestamp,
    was_told: Option<Unseen>,
    /// It is known who is suspended, or that this will not be known soon.
    may_begin: bool,
    /// A write was refused, and that was said.
    was_refused: bool,
}

/// Until the stop.
pub(crate) async fn serve(
    (cluster, fence): (Cluster, Fence),
    board: Board,
    clock: Clock,
    ports: Ports,
    stop: CancellationToken,
) -> Result<(), ShowError> {
    let Ports { mut told, holds, mut profile } = ports;
    let (seen_sender, mut seen) = mpsc::channel(SEEN_MAX);
    let mut shower = Shower {
        cluster,
        fence,
        clock,
        board,
        holds,
        watches: JoinSet::new(),
        seen: seen_sender,
        writes: JoinSet::new(),
        again_at: None,
        may_write_at: clock.now(),
        may_note_at: clock.now(),
        was_told: None,
        may_begin: false,
        was_refused: false,
    };
    shower.watch();
    loop {
        shower.write();
        let wake_at = shower.next_wake();
        let wake = tokio::select! {
            () = stop.cancelled() => break,
            Some(message) = told.recv() => Wake::Told(message),
            Some(event) = seen.recv() => Wake::Seen(event),
            Some(ended) = shower.watches.join_next() => Wake::Unseen(ended),
            Some(answered) = shower.writes.join_next() => Wake::Answered(answered),
            Ok(()) = profile.changed(), if shower.watches.is_empty() => Wake::Profile,
            () = clock.sleep_until(wake_at) => Wake::Ticked,
        };
        shower.handle(wake, &mut profile)?;
        shower.publish();
    }
    let drained = tokio::time::timeout(DRAIN_MAX, async { while shower.writes.join_next().await.is_some() {} });
    drop(drained.await);
    Ok(())
}

impl Shower {
    fn handle(&mut self, wake: Wake, profile: &mut watch::Receiver<Profile>) -> Result<(), ShowError> {
        let now = self.clock.now();
        match wake {
            Wake::Told(Told::Stands(shown)) => self.board.show(shown),
            Wake::Told(Told::Ended(target)) => self.board.end(target),
            Wake::Told(Told::Happened(target, reason, text)) => self.board.note(target, reason, text),
            Wake::Seen(SeenAssignment::Begins) => self.board.begin_list(),
            Wake::Seen(SeenAssignment::Listed) => {
                if self.was_told.take().is_some() {
                    tracing::info!("the targets are shown in the cluster again");
                }
                self.board.end_list(now);
                self.may_begin = true;
            }
            Wake::Seen(SeenAssignment::Present(object)) => match self.board.read(&object) {
                Some(seen) => self.board.see(seen, now),
                None => self.board.see_other(object["metadata"]["name"].as_str().unwrap_or_default(), now),
            },
            Wake::Seen(SeenAssignment::Gone(name)) => self.board.see_gone(&name, now),
            Wake::Unseen(unseen) => self.lose(unseen?, &profile.borrow(), now),
            Wake::Answered(answered) => match answered?? {
                Answer::Written(write, answer) => self.record(&write, answer, now),
                Answer::Noted(answer) => self.record_note(&answer, now),
            },
            Wake::Profile => {
                if has_definition(&profile.borrow_and_update()) && self.was_told == Some(Unseen::Missing) {
                    self.watch();
                }
            }
            Wake::Ticked => {
                if self.again_at.is_some_and(|at| at <= now) && self.watches.is_empty() {
                    self.watch();
                }
            }
        }
        Ok(())
    }

    fn watch(&mut self) {
        self.again_at = None;
        self.watches.spawn(self.cluster.clone().watch_assignments(self.seen.clone()));
    }

    /// Where none can be, nobody is suspended, and an agent that never saw any works as agents did before there were. Who was
    /// suspended, while they cannot be seen any more, stays so: nobody has said otherwise.
    fn lose(&mut self, unseen: Unseen, profile: &Profile, now: Timestamp) {
        if self.was_told.replace(unseen) != Some(unseen) {
            let hint = match unseen {
                Unseen::Missing => "apply the agent's newer manifest, which has the definition of `Assignment`",
                Unseen::Unserved => "see why the API server does not serve its definition `assignments.bellwether.dev`",
                Unseen::Refused => {
                    "let the agent list, watch, create, patch and delete `assignments` of bellwether.dev"
                }
                Unseen::Failing => {
                    "see why the API server does not list `assignments.bellwether.dev`, such as a conversion webhook"
                }
                Unseen::Unheard => "",
            };
            tracing::warn!(hint, "the targets are not shown in the cluster, and nobody can suspend them there");
        }
        let is_to_come = matches!(unseen, Unseen::Unserved | Unseen::Failing)
            || unseen == Unseen::Missing && has_definition(profile);
        let pause = if is_to_come { SERVED_PAUSE } else { REFUSED_PAUSE };
        self.again_at = Some(now.saturating_add(pause).unwrap_or(Timestamp::MAX));
        if unseen == Unseen::Missing {
            self.board.forget();
        }
        self.may_begin = true;
    }

    fn publish(&self) {
        if self.may_begin {
            let now_held = self.board.known_holds(self.clock.now());
            self.holds.send_if_modified(|holds| {
                let has_changed = holds.as_ref() != Some(&now_held);
                *holds = Some(now_held);
                has_changed
            });
        }
    }

    /// Begins the next write, if none is on its way.
    fn write(&mut self) {
        let now = self.clock.now();
        if !self.writes.is_empty() {
            return;
        }
        if self.may_write_at > now {
            return self.note(now);
        }
        let Some(write) = self.board.take_write(now) else { return self.note(now) };
        let (cluster, fence) = (self.cluster.clone(), self.fence.clone());
        self.writes.spawn(async move {
            // What another agent of this identity has shown since is not to be written over.
            if let Some(error) = fence.check().await? {
                return Ok(Answer::Written(write, Err(error)));
            }
            let answer = cluster.write_assignment(&write).await;
            Ok(Answer::Written(write, answer))
        });
    }

    /// What happened is said after what is so.
    fn note(&mut self, now: Timestamp) {
        if self.may_note_at > now {
            return;
        }
        let Some(note) = self.board.take_note(now) else { return };
        let (cluster, fence) = (self.cluster.clone(), self.fence.clone());
        let event = note.body(self.board.home(), now);
        self.writes.spawn(async move {
            if let Some(error) = fence.check().await? {
                return Ok(Answer::Noted(Err(error)));
            }
            Ok(Answer::Noted(cluster.write_event(&event).await))
        });
    }

    /// An event that is lost is not written again: what is so stands in the object.
    fn record_note(&mut self, answer: &Result<(), ClusterError>, now: Timestamp) {
        match answer {
            Ok(()) => {}
            Err(error @ ClusterError::Forbidden { .. }) => {
                tracing::warn!(%error, "no events are written");
                self.may_note_at = now.saturating_add(REFUSED_PAUSE).unwrap_or(Timestamp::MAX);
            }
            Err(error) => tracing::debug!(%error, "an event is lost"),
        }
    }

    fn record(&mut self, write: &Write, answer: Result<Option<serde_json::Value>, ClusterError>, now: Timestamp) {
        let written = match answer {
            Ok(object) => Written::Done(object.and_then(|object| self.board.read(&object))),
            Err(ClusterError::Stale { .. }) if matches!(write, Write::Create { .. }) => Written::Taken,
            Err(error) => {
                if matches!(error, ClusterError::Forbidden { .. }) {
                    tracing::warn!(%error, "the targets are not shown in the cluster");
                    self.may_write_at = now.saturating_add(REFUSED_PAUSE).unwrap_or(Timestamp::MAX);
                } else if matches!(error, ClusterError::Rejected { .. })
                    && !std::mem::replace(&mut self.was_refused, true)
                {
                    let hint =
                        "apply the agent's newer manifest: the definition of `Assignment` may be older than the agent";
                    tracing::warn!(%error, hint, object = write.name(), "a target is not shown in the cluster");
                } else {
                    tracing::debug!(%error, object = write.name(), "a target is not shown in the cluster");
                }
                Written::Failed
            }
        };
        self.board.record(write, written, now);
    }

    fn next_wake(&self) -> Timestamp {
        let now = self.clock.now();
        // An answer is an event of its own.
        let write_at = self.board.write_at(now).filter(|_| self.writes.is_empty());
        let write_at = write_at.map(|at| at.max(self.may_write_at));
        let note_at = self.board.note_at(now).filter(|_| self.writes.is_empty());
        let note_at = note_at.map(|at| at.max(self.may_note_at));
        [write_at, note_at, self.board.ends_at(now), self.again_at]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Timestamp::MAX)
    }
}

fn has_definition(profile: &Profile) -> bool {
    profile.definitions.as_ref().is_some_and(|all| all.entries().any(|(name, _)| name == DEFINITION))
}
