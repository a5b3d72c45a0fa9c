//! What can stand in the log: the closed catalogue of actions.
//!
//! Their spellings are hashed, searched for and documented: once released, none is changed or used again for something
//! else. What goes into the log is one of these; what comes out of it may be of a later version, and is text.

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $spelling:literal,)*) => {
        /// What was done. Whatever is added here is documented too: a test compares it with `docs/api.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $($(#[$doc])* $action,)*
        }

        impl Action {
            /// All of them, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$action,)*];

            /// Its spelling: words of `a-z` and `_`, joined by dots, the widest first, so that a prefix by words finds many.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$action => $spelling,)*
                }
            }
        }
    };
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

actions! {
    TokenCreated = "token.created",
    TokenRevoked = "token.revoked",

    ClusterRegistered = "cluster.registered",
    /// An agent has its first certificate.
    ClusterEnrolled = "cluster.enrolled",
    ClusterEnrollRefused = "cluster.enroll.refused",
    /// Its first stream.
    ClusterJoined = "cluster.joined",
    /// Two agents use its identity.
    ClusterContested = "cluster.contested",
    ClusterRenewed = "cluster.renewed",
    ClusterLabelled = "cluster.labelled",
    ClusterAnnotated = "cluster.annotated",
    ClusterRevoked = "cluster.revoked",
    ClusterReenrolled = "cluster.reenrolled",
    ClusterDeleted = "cluster.deleted",

    RepoAdded = "repo.added",
    RepoChanged = "repo.changed",
    RepoCredentialChanged = "repo.credential.changed",
    /// A new secret for its webhook.
    RepoWebhookChanged = "repo.webhook.changed",
    RepoRefreshAsked = "repo.refresh.asked",
    /// A commit that does not build on the one before may be rolled out.
    RepoHeadAccepted = "repo.head.accepted",
    RepoFailed = "repo.failed",
    RepoDeleted = "repo.deleted",
    RevisionSeen = "revision.seen",
    /// It was seen before, and is found signed by one of the repo's keys.
    RevisionVerified = "revision.verified",
    WebhookRefused = "webhook.refused",

    TargetAdded = "target.added",
    TargetChanged = "target.changed",
    TargetRefreshAsked = "target.refresh.asked",
    /// Somebody saw what a commit or another spec would change.
    TargetPlanned = "target.planned",
    /// And had clusters asked what would become of it.
    TargetDryRun = "target.dry_run",
    /// Somebody saw what its Secrets hold.
    TargetSecretsShown = "target.secrets.shown",
    TargetRollbackAsked = "target.rollback.asked",
    TargetRolledBack = "target.rolled_back",
    TargetReleaseAsked = "target.release.asked",
    TargetReleased = "target.released",
    /// How it is kept was given to clusters.
    TargetOptionsAssigned = "target.options.assigned",
    TargetClusterSelected = "target.cluster.selected",
    TargetClusterUnselected = "target.cluster.unselected",
    /// Asked for.
    TargetDeleted = "target.deleted",
    TargetGone = "target.gone",
    RenderFailed = "render.failed",

    RolloutPlanned = "rollout.planned",
    RolloutStarted = "rollout.started",
    RolloutPaused = "rollout.paused",
    RolloutResumed = "rollout.resumed",
    RolloutRollingBack = "rollout.rolling_back",
    RolloutDone = "rollout.done",
    RolloutFailed = "rollout.failed",
    RolloutSuperseded = "rollout.superseded",
    RolloutCancelled = "rollout.cancelled",
    RolloutWaveOpened = "rollout.wave.opened",
    RolloutWavePassed = "rollout.wave.passed",
    RolloutWaveFailed = "rollout.wave.failed",
    RolloutPauseAsked = "rollout.pause.asked",
    RolloutResumeAsked = "rollout.resume.asked",
    RolloutPromoteAsked = "rollout.promote.asked",
    RolloutAbortAsked = "rollout.abort.asked",
    RolloutSkipAsked = "rollout.skip.asked",
    RolloutRetryAsked = "rollout.retry.asked",
    RolloutIntentRefused = "rollout.intent.refused",

    ReportFailed = "report.failed",
    ReportDegraded = "report.degraded",
    ReportRefused = "report.refused",
    /// Somebody of the cluster has stopped what its agent does with a target.
    ReportSuspended = "report.suspended",
    ReportResumed = "report.resumed",
    /// It could not be stored.
    ReportDropped = "report.dropped",
    DriftFound = "drift.found",
    DriftCorrected = "drift.corrected",
    DriftDropped = "drift.dropped",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Action;

    /// The catalogue as people have it: `docs/api.md`, "Audit actions".
    fn documented() -> BTreeSet<&'static str> {
        let text = include_str!("../../../docs/api.md");
        let section = text.split("## Audit actions").nth(1).and_then(|rest| rest.split("\n## ").next());
        let rows = section.expect("there is a catalogue").lines().filter(|line| line.starts_with("| "));
        rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect()
    }

    #[test]
    fn the_catalogue_is_what_is_documented_word_for_word() {
        let actions: BTreeSet<_> = Action::ALL.iter().map(|action| action.as_str()).collect();

        assert_eq!(actions, documented());
        assert_eq!(actions.len(), Action::ALL.len(), "no spelling is used twice");
    }

    #[test]
    fn actions_are_words_that_a_prefix_finds() {
        for action in Action::ALL {
            let words: Vec<_> = action.as_str().split('.').collect();
            let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(words.len() >= 2 && words.iter().all(is_word), "{}", action.as_str());
        }
    }
}
