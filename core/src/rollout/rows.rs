//! What a rollout is, as its rows say: the state that [`decide`](super::decide) and [`settle`](super::settle) see.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Offline, OnFailure};
use crate::{ClusterId, Digest, Generation, RolloutId};

/// `planned → rolling ⇄ paused → (rolling_back →) done | failed | superseded | cancelled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Written; nothing is assigned yet.
    Planned,
    /// Waves open, soak and pass.
    Rolling,
    /// Nothing more is assigned until a person lets it go on. Newer content takes its place.
    Paused,
    /// Clusters that it changed are given back what they ran.
    RollingBack,
    /// Every wave has passed. Who was away catches up, and a person may have failed ones tried again.
    Done,
    /// It was over its budget, and every cluster that it could give something back has been given it.
    Failed,
    /// Something newer took its place, or all of its clusters.
    Superseded,
    /// A person stopped it for good, and clusters keep what they run; or the target is being deleted.
    Cancelled,
}

/// `waiting → open → soaking → passed | failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveState {
    /// Its turn has not come.
    Waiting,
    /// Its members are assigned, as many at once as may be.
    Open,
    /// Nobody is waited for and enough are healthy; they have to stay so for a while.
    Soaking,
    /// The next may open. Its members still catch up.
    Passed,
    /// The first that had not passed when the rollout rolled back, or ended early.
    Failed,
}

/// `waiting → assigned → applied → healthy | failed | offline | skipped | rolled_back`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Its turn has not come.
    Waiting,
    /// Its assignment is written.
    Assigned,
    /// Its agent says that every object of this generation is in place.
    Applied,
    /// Its agent says so, of exactly what it was assigned.
    Healthy,
    /// Its agent says so and it lasts or is final, or its deadline passed; or it is away, where the strategy counts
    /// that.
    Failed,
    /// Disconnected for longer than the limit while it was to be decided about. Neither healthy nor failed.
    Offline,
    /// A person took it out.
    Skipped,
    /// Got back what it ran before.
    RolledBack,
}

impl MemberState {
    /// For whoever asks rows by state.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Assigned,
        Self::Applied,
        Self::Healthy,
        Self::Failed,
        Self::Offline,
        Self::Skipped,
        Self::RolledBack,
    ];

    /// Something is yet to be decided about it: what its cluster says, and that it comes or goes, wakes the rollout.
    pub const fn is_unsettled(self) -> bool {
        match self {
            Self::Waiting | Self::Assigned | Self::Applied | Self::Offline => true,
            Self::Healthy | Self::Failed | Self::Skipped | Self::RolledBack => false,
        }
    }

    /// When a rollout ends that [leaves out](RolloutState::leaves_out): whether its cluster does not get by itself what
    /// was to be given. Who has been healthy with it may have it again.
    pub const fn is_left_out(self) -> bool {
        !matches!(self, Self::Healthy)
    }
}

/// Why a cluster does not get by itself what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// A person took it out.
    Skipped,
    /// It had it and failed.
    Failed,
    /// The rollout that would have given it ended before, or took it back.
    Ended,
}

impl Aside {
    /// As rows and documents hold it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Ended => "ended",
        }
    }
}

/// What somebody becomes in a rollout that is not settled when a later rollout takes it over.
pub const OVERTAKEN: (MemberState, &str) = (MemberState::Skipped, "a later rollout goes on with it");

/// One cluster of a rollout. Its wave and digest are frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub cluster: ClusterId,
    /// From 0.
    pub wave: u32,
    pub digest: Digest,
    /// What it ran before; `None`: nothing of this target.
    pub digest_before: Option<Digest>,
    pub state: MemberState,
    /// Of the assignment that it is judged by; `None`: none yet, or it waits for another try.
    pub generation: Option<Generation>,
    /// When this rollout last wrote an assignment for it; `None`: never, so it runs what it ran before.
    pub assigned_at: Option<Timestamp>,
    /// The newest assignment is `digest_before`: it is being given back what it ran. Of one that waits for another try: the
    /// one that is tried again.
    pub returning: bool,
    /// Its deadline counts from here: its assignment, its return after an absence, or the moment it stopped being
    /// healthy. `None`: the deadline's clock stands.
    pub judged_from: Option<Timestamp>,
    /// Since when it says that it failed, in a way that may pass.
    pub failing_since: Option<Timestamp>,
    /// A later rollout of the target has this cluster: nothing is decided about it here.
    pub overtaken: bool,
    /// Why it is in its state, for people; empty when there is nothing to say.
    pub reason: String,
}

impl Member {
    /// A cluster whose turn has not come.
    pub fn waiting(cluster: ClusterId, wave: u32, digest: Digest, digest_before: Option<Digest>) -> Self {
        Self {
            cluster,
            wave,
            digest,
            digest_before,
            state: MemberState::Waiting,
            generation: None,
            assigned_at: None,
            returning: false,
            judged_from: None,
            failing_since: None,
            overtaken: false,
            reason: String::new(),
        }
    }

    /// It had its turn, and a person asked for another.
    pub const fn is_retried(&self) -> bool {
        self.generation.is_none() && self.assigned_at.is_some()
    }

    /// Why it does not get this bundle by itself any more; `None`: nothing says so.
    pub const fn aside(&self) -> Option<Aside> {
        match self.state {
            MemberState::Skipped => Some(Aside::Skipped),
            MemberState::Failed => Some(Aside::Failed),
            _ => None,
        }
    }

    /// A later rollout of the target has this cluster from now on.
    #[must_use]
    pub fn overtaken(self) -> Self {
        let (state, reason) =
            if self.state.is_unsettled() { (OVERTAKEN.0, OVERTAKEN.1.to_owned()) } else { (self.state, self.reason) };
        Self { state, reason, overtaken: true, ..self }
    }

    /// What its newest assignment says; `None` when there is none to judge by.
    pub fn wanted(&self) -> Option<(Generation, Digest)> {
        let digest = if self.returning { self.digest_before? } else { self.digest };
        Some((self.generation?, digest))
    }

    /// It was assigned by this rollout, ran something before, and has not been given that back.
    pub const fn is_returnable(&self) -> bool {
        let is_given_back = self.returning && !self.is_retried();
        self.assigned_at.is_some() && self.digest_before.is_some() && !is_given_back && !self.overtaken
    }

    /// It was assigned by this rollout and ran nothing of the target before.
    pub const fn is_first_install(&self) -> bool {
        self.assigned_at.is_some() && self.digest_before.is_none() && !self.overtaken
    }
}

/// Whether a cluster's agent is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has a live session, and what it kept to itself while it was away has arrived: until its first heartbeat or
    /// report after the welcome, it counts as disconnected.
    Connected { since: Timestamp },
    /// No live session since then.
    Disconnected { since: Timestamp },
}

impl Presence {
    /// Heard, and not only holding a stream.
    pub const fn is_connected(self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// A wave, with the counts of its members by state. They are of rows: those from `waiting` to `rolled_back` add up to
/// `members`. Whom a later rollout has taken over is counted as that, and as nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    pub name: String,
    pub state: WaveState,
    /// Members that may be assigned and not settled at once; at least 1.
    pub concurrent_max: u32,
    /// Members that must be healthy for it to pass; at least 1.
    pub healthy_min: u32,
    /// How long its members have to stay healthy before it passes.
    pub soak: SignedDuration,
    pub opened_at: Option<Timestamp>,
    /// Since when the soak's clock runs, while it does.
    pub soak_from: Option<Timestamp>,
    /// When the soak ends, while soaking and its clock runs.
    pub soak_until: Option<Timestamp>,
    /// What is left of the soak, while soaking and its clock stands because a healthy member is silent.
    pub soak_left: Option<SignedDuration>,
    pub members: u32,
    /// In none of the other counts, and not in `members`.
    pub overtaken: u32,
    pub waiting: u32,
    /// Assigned and applied: in flight.
    pub in_flight: u32,
    pub healthy: u32,
    pub failed: u32,
    pub offline: u32,
    pub skipped: u32,
    pub rolled_back: u32,
    /// Of the healthy: those whose agent is not connected now. They stop the soak's clock, and no wave passes on them.
    /// Needed for the open wave only.
    pub silent: u32,
    /// How long, since its soak's clock runs, all of the healthy are known to have been heard before one of them went
    /// away; `None`: none of them did. Needed for the open wave only.
    pub heard_for: Option<SignedDuration>,
    /// Members for which [`Member::is_returnable`] holds.
    pub returnable: u32,
    /// Members for which [`Member::is_first_install`] holds.
    pub first_installs: u32,
    /// One member to name to people, with its reason: the first that failed, or else the first in flight.
    pub notable: Option<Notable>,
}

/// A member that explains its wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notable {
    pub cluster_name: String,
    pub state: MemberState,
    pub reason: String,
}

impl Wave {
    /// It has opened, and has neither passed nor failed.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, WaveState::Open | WaveState::Soaking)
    }
}

/// What a person asked of a rollout and nothing has acted on yet, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub enum Intent {
    /// Assigns nothing more, until it is resumed. What is assigned goes on.
    Pause,
    /// Lets a paused one go on. Clusters that failed stay failed.
    Resume,
    /// Stops for good; clusters keep what they run.
    Abort,
    /// Takes a cluster out: it blocks nothing and counts as neither healthy nor failed.
    Skip { cluster: ClusterId },
    /// Gives a failed cluster its assignment again, under a new generation.
    Retry { cluster: ClusterId },
    /// Ends a soak now, or passes a wave that holds although too few of it are healthy. Needs a reason.
    Promote,
}

/// An intent, with who asked and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingIntent {
    pub intent: Intent,
    /// The name of the token that asked.
    pub by: String,
    /// In the person's words; may be empty.
    pub reason: String,
    /// The member that the intent names; `None` when it names none, or one that is not in this rollout.
    pub member: Option<Member>,
}

/// One rollout as its rows say, with the few members that a decision may need.
///
/// Decided about are the newest rollout over a whole target and the changes of single clusters after it; an older one
/// must not let its clusters catch up.
/// Members with a new report, a changed presence or a due deadline are settled, and the counts are taken, before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    pub id: RolloutId,
    pub state: RolloutState,
    /// When it came into its state.
    pub since: Timestamp,
    /// Why it is in its state, for people; kept with the row. Empty while rolling.
    pub reason: String,
    /// Failed clusters, of the whole rollout, that it stands; it stops at more.
    pub failures_max: u32,
    pub on_failure: OnFailure,
    pub offline: Offline,
    pub waves: Vec<Wave>,
    /// Waiting members of the open wave, the connected ones first, in the order in which they were planned; as many as
    /// there are free slots. While rolling back: returnable members of any wave; not none as long as there is one.
    pub next: Vec<(Member, Presence)>,
    /// Waiting members of passed waves that are connected: they were offline, joined late or are tried again. As many
    /// as their waves have free slots.
    pub catch_up: Vec<(Member, Presence)>,
    /// The earliest time at which a member that is not settled must be settled again, as
    /// [`settle`](super::settle) said.
    pub next_at: Option<Timestamp>,
    /// Not answered yet, oldest first.
    pub intents: Vec<PendingIntent>,
}

impl RolloutState {
    /// Nothing is assigned any more, but for clusters that catch up with one that is done.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Superseded | Self::Cancelled)
    }

    /// Whoever has not got what a rollout gives when it ends so does not get it by itself any more.
    pub const fn leaves_out(self) -> bool {
        matches!(self, Self::Failed | Self::Cancelled)
    }

    /// Whether a rollout in this state can answer to it with anything but that it is over.
    pub const fn takes(self, intent: &Intent) -> bool {
        !self.is_over() || (matches!(self, Self::Done) && matches!(intent, Intent::Retry { .. }))
    }
}

impl Rollout {
    /// Later rollouts go on with all of its clusters.
    pub fn is_overtaken(&self) -> bool {
        !self.state.is_over() && self.sum(|wave| wave.members) == 0 && self.sum(|wave| wave.overtaken) > 0
    }

    /// The wave that is open or soaking, with its place; there is never more than one.
    pub fn open_wave(&self) -> Option<(u32, &Wave)> {
        (0..).zip(&self.waves).find(|(_, wave)| wave.is_open())
    }

    /// Members that failed, in all waves.
    pub fn failures(&self) -> u32 {
        self.waves.iter().map(|wave| wave.failed).sum()
    }

    /// More failed than it stands, and its strategy does not say to go on all the same.
    pub fn is_over_budget(&self) -> bool {
        self.on_failure != OnFailure::Continue && self.failures() > self.failures_max
    }

    pub(super) fn sum(&self, count: impl Fn(&Wave) -> u32) -> u32 {
        self.waves.iter().map(count).sum()
    }
}
