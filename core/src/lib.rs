//! The domain: what Bellwether decides, without a clock, a socket, a table or a task.
//!
//! Everything here is a value or a pure function. Time and randomness are arguments. The crates around it (hub, agent,
//! cli) feed it with rows and messages and carry out what it answers.
//!
//! # Glossary (one word per thing, in code, SQL, API and logs)
//!
//! | noun | meaning |
//! |---|---|
//! | cluster | a registered Kubernetes cluster: name, labels, facts that its agent reports |
//! | repo | a Git repository that the hub watches |
//! | target | what to deploy where: repo, ref, path, which clusters, how changes roll out |
//! | revision | a commit seen on a repo's ref |
//! | bundle | the rendered objects of a target for one or more clusters, content-addressed |
//! | rollout | moves a target's clusters from what they run to what a render gives them, in waves |
//! | wave | a part of a rollout: the clusters that move together |
//! | member | a cluster as a rollout has it: its wave, what it is to get, what it ran before, and how far it is |
//! | set aside | a cluster that a person, a budget or a rollout's end left out: it stays as it is until the content changes |
//! | intent | what a person asks of a rollout or a target; the rollout stage carries it out or refuses it |
//! | phase | an order of applying inside a target |
//! | step | one thing to do with one object, as the decider of a cluster asks an executor for it |
//! | stage | a part of the hub: source, bundle, rollout, link, record, commit status; nothing else is called so |
//! | held | a target kept back after a rollback, while Git says something newer |
//! | assignment | what one cluster is to run for one target: bundle digest and generation |
//! | generation | the number of an assignment, from one sequence of the installation: of two, the greater is the newer |
//! | report | what an agent saw: of which generation, with which verdict |
//! | verdict | healthy, progressing, unknown, degraded or failed: how well all objects of an assignment are together |
//! | audit entry | who did or decided what, to what, when, why, with what outcome |
//! | project | the tenancy boundary: repos, targets and rights belong to one |

pub mod api;
pub mod apply;
pub mod assignment;
pub mod audit;
pub mod backoff;
mod chain;
pub mod commit_status;
pub mod domain;
pub mod drift;
pub mod dry_run;
pub mod health;
pub mod hooks;
pub mod journal;
pub mod keep;
mod likeness;
pub mod plan;
pub mod policy;
pub mod quoting;
pub mod reconcile;
pub mod replace;
pub mod reserved;
pub mod rights;
pub mod rollout;
#[cfg(test)]
mod scripts;
pub mod sealed;
pub mod session;
pub mod takeover;
pub mod yielded;

/// What stands in `apiVersion` of every document that people write; nothing else is accepted.
pub const API_VERSION: &str = "bellwether.dev/v1";

pub use chain::chain;
pub use domain::{
    access, account, apis, bundle, condition, definitions, digest, enrollment, ids, labels, names, object, parameters,
    render, repo, report, schedule, signature, source, target, version_range,
};

pub use condition::Condition;
pub use digest::Digest;
pub use ids::{
    ClusterId, EventId, Generation, HubId, ProjectId, RenderId, RepoId, ReportSequence, RevisionId, RolloutId,
    SessionNumber, TargetId, TraceId, Version,
};
pub use labels::{LabelSelector, Labels};
pub use likeness::nearest;
pub use names::Name;
pub use object::ObjectKey;
