//! Rows that the tests of these files stand on: a project with a repo, and whatever a test asks for beside it.

use std::collections::BTreeMap;

use bellwether_core::rollout::{Kind, RolloutState, Strategy};
use bellwether_core::session::{Action, SyncOptions};
use bellwether_core::target::TargetSpec;
use bellwether_core::{
    ClusterId, Digest, Generation, ProjectId, RenderId, RepoId, RevisionId, RolloutId, SessionNumber, TargetId, Version,
};
use serde_json::json;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use uuid::Uuid;

use super::assignments::Assignment;
use super::bundles::Blob;
use super::clusters::Cluster;
use super::projects::{self, Project};
use super::renders::Render;
use super::revisions::Revision;
use super::rollouts::Rollout;
use super::sessions::Opened;
use super::targets::Target;
use super::{Pool, assignments, bundles, clusters, renders, repos, revisions, rollouts, sessions, targets};
use crate::process::clock;

pub(super) const MAIN: &str = "refs/heads/main";

pub(super) struct Rows {
    pub(super) db: PoolConnection<Postgres>,
    pub(super) project: Project,
    pub(super) repo: RepoId,
}

impl Rows {
    pub(super) async fn new(pool: &Pool) -> Self {
        let mut db = pool.acquire().await.expect("a connection");
        let (id, name) = (ProjectId::new(clock::new_id()), "default".parse().expect("a name"));
        let project = projects::ensure(&mut db, id, name, clock::now()).await.expect("a project");
        let repo = crate::testing::repo(&project, "apps", "https://git.example.org/apps.git");
        repos::insert(&mut db, &repo).await.expect("a repo");
        Self { db, project, repo: repo.id }
    }

    pub(super) async fn cluster(&mut self, name: &str) -> ClusterId {
        let cluster = Cluster {
            id: ClusterId::new(clock::new_id()),
            project: self.project.clone(),
            name: name.parse().expect("a name"),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            namespace: "bellwether-system".to_owned(),
            version: Version::new(1),
            created_at: clock::now(),
            revoked_at: None,
        };
        clusters::insert(&mut self.db, &cluster).await.expect("a cluster");
        cluster.id
    }

    /// Its first stream, at this hub, which is not heard yet.
    pub(super) async fn connect(&mut self, cluster: ClusterId, hub: Uuid) {
        let opened = Opened {
            cluster,
            session: SessionNumber::new(1),
            hub,
            boot: clock::new_id(),
            address: "192.0.2.1:1",
            serial: "1",
            agent_version: "1",
            facts: &BTreeMap::new(),
            apis: None,
            definitions: None,
            is_believed: true,
        };
        sessions::mark_opened(&mut self.db, &[opened], clock::now()).await.expect("a stream");
    }

    /// Of the repo's branch `main`.
    pub(super) async fn target(&mut self, name: &str) -> Target {
        let target = Target {
            id: TargetId::new(clock::new_id()),
            project: self.project.clone(),
            name: name.parse().expect("a name"),
            repo: self.repo,
            reference: MAIN.to_owned(),
            spec: serde_json::from_value::<TargetSpec>(json!({"repo": "apps", "path": name})).expect("a spec"),
            version: Version::new(1),
            created_at: clock::now(),
            deletion: None,
        };
        targets::insert(&mut self.db, &target).await.expect("a target");
        target
    }

    pub(super) async fn revision(&mut self, reference: &str, commit: &str) -> RevisionId {
        let revision = Revision {
            id: RevisionId::new(clock::new_id()),
            reference: reference.to_owned(),
            tag: None,
            commit: commit.to_owned(),
            author: "Ann".to_owned(),
            subject: "A change".to_owned(),
            verified: None,
            seen_at: clock::now(),
            trace_id: clock::new_trace(),
        };
        revisions::insert(&mut self.db, self.repo, &revision).await.expect("a revision");
        revision.id
    }

    /// The same text is the same bundle.
    pub(super) async fn bundle(&mut self, text: &str) -> Digest {
        let manifest = Blob { digest: Digest::of(text.as_bytes()), frame: text.as_bytes().to_vec() };
        bundles::insert_bundle(&mut self.db, &manifest, 1, clock::now()).await.expect("a bundle");
        manifest.digest
    }

    /// With one variant, of no parameters.
    pub(super) async fn render(&mut self, target: &Target, revision: RevisionId, bundle: Digest) -> RenderId {
        self.render_with(target, revision, &[("", bundle)], None).await
    }

    /// With a variant for each of these parameters, by these versions.
    pub(super) async fn render_with(
        &mut self,
        target: &Target,
        revision: RevisionId,
        variants: &[(&str, Digest)],
        engine: Option<&str>,
    ) -> RenderId {
        let render = Render {
            id: RenderId::new(clock::new_id()),
            target: target.id,
            revision,
            target_version: target.version,
            inputs: Vec::new(),
            inputs_digest: String::new(),
            variables: Vec::new(),
            variants: variants.iter().map(|(name, bundle)| (Digest::of(name.as_bytes()), *bundle)).collect(),
            engine: engine.map(str::to_owned),
            sources: Vec::new(),
            left_out_hooks: Vec::new(),
        };
        renders::insert(&mut self.db, &render, clock::now()).await.expect("a render");
        render.id
    }

    /// Over the whole target, and going on.
    pub(super) async fn rollout(&mut self, target: &Target, render: RenderId) -> Rollout {
        self.rollout_of(target, render, Kind::Revision).await
    }

    pub(super) async fn rollout_of(&mut self, target: &Target, render: RenderId, kind: Kind) -> Rollout {
        let rollout = Rollout {
            id: RolloutId::new(clock::new_id()),
            target: target.id,
            render,
            from_render: None,
            kind,
            strategy: Strategy::default(),
            failures_max: 0,
            state: RolloutState::Rolling,
            state_since: clock::now(),
            reason: String::new(),
            trace_id: clock::new_trace(),
            created_at: clock::now(),
            ended_at: None,
        };
        rollouts::insert(&mut self.db, &rollout).await.expect("a rollout");
        rollout
    }

    pub(super) async fn end(&mut self, rollout: &Rollout, state: RolloutState) {
        rollouts::mark_state(&mut self.db, rollout.id, state, "", clock::now()).await.expect("it ends");
    }

    /// Answers under which generation.
    pub(super) async fn assign(&mut self, cluster: ClusterId, rollout: &Rollout, digest: Digest) -> Generation {
        let assignment = assignment(cluster, rollout, digest);
        let given = assignments::mark(&mut self.db, vec![assignment], &[].into(), clock::now()).await;
        given.expect("it is assigned").remove(0).1
    }
}

pub(super) fn assignment(cluster: ClusterId, rollout: &Rollout, digest: Digest) -> Assignment {
    Assignment {
        cluster,
        target: rollout.target,
        digest,
        // The row is given one.
        generation: Generation::default(),
        rollout: rollout.id,
        render: rollout.render,
        action: Action::Apply,
        prunable: Vec::new(),
        options: SyncOptions::default(),
    }
}
