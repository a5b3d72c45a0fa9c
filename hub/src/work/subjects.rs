//! What audit entries are about, and in which project that is.

use bellwether_core::audit::About;
use bellwether_core::{Name, RolloutId, TargetId};

use crate::store::installation::PROJECT;

pub(crate) fn cluster(name: &Name) -> About {
    About { cluster: Some(name.to_string()), ..in_project("cluster", name) }
}

/// A cluster that nobody registered, or none of ours: in no project.
pub(crate) fn unknown_cluster() -> About {
    About::new("cluster", "unknown")
}

pub(crate) fn repo(name: &Name) -> About {
    in_project("repo", name)
}

/// Of a repo.
pub(crate) fn webhook(repo: &Name) -> About {
    in_project("webhook", repo)
}

pub(crate) fn target(name: &Name) -> About {
    About { target: Some(name.to_string()), ..in_project("target", name) }
}

pub(crate) fn rollout(id: RolloutId, target: &Name) -> About {
    About { target: Some(target.to_string()), rollout: Some(id), ..in_project("rollout", &id) }
}

/// What an agent told of a target, which may be gone.
pub(crate) fn told(kind: &str, target: TargetId) -> About {
    in_project(kind, &target)
}

/// Good for the whole installation.
pub(crate) fn token(name: &Name) -> About {
    About::new("token", name)
}

/// There is one project: when there are more, each of these takes that of its row.
fn in_project(kind: &str, name: &impl ToString) -> About {
    About { project: PROJECT.parse().ok(), ..About::new(kind, name) }
}
