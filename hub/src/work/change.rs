//! One transaction of a stage or a handler: rows, work and audit entries that commit together.
//!
//! Whoever sees a work row sees what it announces. Stages of this process are woken after the commit, never before, and
//! never when it failed.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use bellwether_core::audit::Event;
use bellwether_core::parameters::{ClusterFacts, Traits};
use bellwether_core::{Labels, ProjectId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::store::clusters::Cluster;
use crate::store::targets::Selecting;
use crate::store::work::Stage;
use crate::store::{self, Connection, Pool, StoreError, Transaction};
use crate::work::signals::Signals;

/// A cluster of which something else is known than before.
pub(crate) struct ChangedFacts {
    pub(crate) cluster: Cluster,
    pub(crate) before: Traits,
    pub(crate) after: Traits,
}

pub(crate) struct Change<'a> {
    transaction: Transaction,
    signals: &'a Signals,
    woken: BTreeSet<Stage>,
    audited: bool,
    answered: bool,
}

impl<'a> Change<'a> {
    pub(crate) async fn begin(pool: &Pool, signals: &'a Signals) -> Result<Self, StoreError> {
        Ok(Self::on(store::begin(pool).await?, signals))
    }

    /// Its commit does not wait for the disk. For what a crash that takes it back leads to again: that takes back whatever
    /// came of it too, its audit entries among that, and leaves the work row that leads here.
    pub(crate) async fn begin_deferred(pool: &Pool, signals: &'a Signals) -> Result<Self, StoreError> {
        Ok(Self::on(store::begin_deferred(pool).await?, signals))
    }

    fn on(transaction: Transaction, signals: &'a Signals) -> Self {
        Self { transaction, signals, woken: BTreeSet::new(), audited: false, answered: false }
    }

    /// Tells a stage to reconcile a subject, and nothing else: the row is a transaction by itself.
    pub(crate) async fn tell_alone(
        db: &mut Connection,
        signals: &Signals,
        (stage, key): (Stage, Uuid),
        now: Timestamp,
        trace_id: &str,
    ) -> Result<(), StoreError> {
        store::work::append(db, stage, &[key], now, Some(trace_id)).await?;
        signals.announce(stage);
        Ok(())
    }

    /// Tells a stage to reconcile these subjects, now or later.
    pub(crate) async fn tell(
        &mut self,
        stage: Stage,
        keys: &[Uuid],
        due_at: Timestamp,
        trace_id: Option<&str>,
    ) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        self.woken.insert(stage);
        store::work::append(&mut self.transaction, stage, keys, due_at, trace_id).await
    }

    /// Tells the bundle stage that a cluster has other labels, or that it came: of targets that mind, and no others.
    pub(crate) async fn tell_of_labels(
        &mut self,
        cluster: &Cluster,
        before: Option<&Labels>,
        after: Option<&Labels>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let of = |labels| ClusterFacts::new(&cluster.name, labels);
        self.tell_of_cluster(cluster.project.id, (before.map(of), after.map(of)), now).await
    }

    /// The same of whatever is another at a cluster: what both sides do not say is as it was.
    pub(crate) async fn tell_of_cluster(
        &mut self,
        project: ProjectId,
        (before, after): (Option<ClusterFacts<'_>>, Option<ClusterFacts<'_>>),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let labels = |cluster: Option<ClusterFacts<'_>>| cluster.map(|cluster| cluster.labels().clone());
        let (had, has) = (labels(before), labels(after));
        let selecting = store::targets::list_selecting(self, project, had.as_ref(), has.as_ref()).await?;
        let minds = |target: &Selecting| target.minds(before, after);
        let keys: Vec<_> = selecting.into_iter().filter(minds).map(|target| target.id.as_uuid()).collect();
        self.tell(Stage::Bundle, &keys, now, None).await
    }

    /// The same of clusters whose agents say other facts than before.
    pub(crate) async fn tell_of_facts(&mut self, changed: &[ChangedFacts], now: Timestamp) -> Result<(), StoreError> {
        let projects: BTreeSet<_> = changed.iter().map(|one| one.cluster.project.id).collect();
        let mut keys = BTreeSet::new();
        for project in projects {
            // Mostly none, and then a fleet that comes back with a newer agent costs one statement.
            let using = store::targets::list_using_facts(self, project).await?;
            for one in changed.iter().filter(|one| one.cluster.project.id == project) {
                let cluster = ClusterFacts::new(&one.cluster.name, &one.cluster.labels);
                let (before, after) = (Some(cluster.with(&one.before)), Some(cluster.with(&one.after)));
                keys.extend(using.iter().filter(|target| target.minds(before, after)).map(|one| one.id.as_uuid()));
            }
        }
        self.tell(Stage::Bundle, &keys.into_iter().collect::<Vec<_>>(), now, None).await
    }

    /// Whether anything was decided in it, as far as it has come: what changes what runs where has an entry.
    pub(crate) fn has_entries(&self) -> bool {
        self.audited
    }

    /// Tells the commit status stage of a target, or of all that follow a repo, if the repo's host is told of its commits.
    pub(crate) async fn tell_host(&mut self, of: Uuid, now: Timestamp) -> Result<(), StoreError> {
        if store::commit_statuses::announce(&mut self.transaction, of, now).await? {
            self.woken.insert(Stage::CommitStatus);
        }
        Ok(())
    }

    pub(crate) async fn audit(&mut self, event: &Event) -> Result<(), StoreError> {
        self.audit_all(std::slice::from_ref(event)).await
    }

    pub(crate) async fn audit_all(&mut self, events: &[Event]) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        self.audited = true;
        store::audit::append(&mut self.transaction, events).await
    }

    /// What came of what a person asked; they wait for it.
    pub(crate) async fn answer(&mut self, intent: Uuid, outcome: &str, now: Timestamp) -> Result<(), StoreError> {
        self.answered = true;
        store::intents::mark_done(&mut self.transaction, intent, outcome, now).await
    }

    /// Takes all of it back, and gives up its locks before it returns: dropped, it would do so some time later.
    pub(crate) async fn abandon(self) -> Result<(), StoreError> {
        Ok(self.transaction.rollback().await?)
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await?;
        for stage in self.woken {
            self.signals.announce(stage);
        }
        if self.audited {
            self.signals.wake_sealer();
        }
        if self.answered {
            self.signals.wake_askers();
        }
        Ok(())
    }
}

impl Deref for Change<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.transaction
    }
}
