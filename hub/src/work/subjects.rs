//! What audit entries are about, and in which project that is.

use bellwether_core::audit::About;
use bellwether_core::{Name, RolloutId, TargetId};

use crate::store::clusters::Cluster;
use crate::store::projects::Project;
use crate::store::repos::Repo;

pub(crate) fn cluster(cluster: &Cluster) -> About {
    let Cluster { project, name, .. } = cluster;
    About { cluster: Some(name.to_string()), ..within(project, "cluster", name) }
}

/// A cluster that nobody registered, or none of ours: in no project.
pub(crate) fn unknown_cluster() -> About {
    About::new("cluster", "unknown")
}

pub(crate) fn repo(repo: &Repo) -> About {
    within(&repo.project, "repo", &repo.name)
}

/// Of a repo.
pub(crate) fn webhook(repo: &Repo) -> About {
    within(&repo.project, "webhook", &repo.name)
}

pub(crate) fn target(project: &Project, name: &Name) -> About {
    About { target: Some(name.to_string()), ..within(project, "target", name) }
}

pub(crate) fn rollout(id: RolloutId, project: &Project, target: &Name) -> About {
    About { target: Some(target.to_string()), rollout: Some(id), ..within(project, "rollout", &id) }
}

/// What an agent told of a target, which may be gone: in its cluster's project, or in none if nobody knows that.
pub(crate) fn told(kind: &str, cluster: Option<&Cluster>, target: TargetId) -> About {
    match cluster {
        Some(cluster) => within(&cluster.project, kind, &target),
        None => About::new(kind, &target),
    }
}

/// Good for the whole installation.
pub(crate) fn token(name: &Name) -> About {
    About::new("token", name)
}

fn within(project: &Project, kind: &str, name: &impl ToString) -> About {
    About { project: Some(project.name.clone()), ..About::new(kind, name) }
}
