//! The one table of the stages that are woken by work rows: a new one is its folder and a line here.
//!
//! `Name: room` makes the variant [`Stage::Name`](crate::store::work::Stage), whose word in rows, signals, metrics and
//! logs is the room's name, and has `crate::room::run` run as a part of the hub. The table is a macro so that the word,
//! which `store` and whoever tells of work need, does not lead to the rooms that do the work.

macro_rules! stages {
    ($into:ident) => {
        $into! {
            /// Key: a repo.
            Source: source,
            /// Key: a target.
            Bundle: bundle,
            /// Key: a target.
            Rollout: rollout,
            /// Key: a cluster.
            Link: link,
            /// Key: a target.
            CommitStatus: commit_status,
        }
    };
}
