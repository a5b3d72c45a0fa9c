//! Clusters, with how their agents are.

use std::collections::BTreeMap;

use bellwether_core::ClusterId;
use bellwether_core::session::identity_conflict::IdentityConflict;
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use crate::store::{Connection, StoreError, from_sql, to_sql};

/// How a cluster's agent is, as the rows say.
#[derive(Debug, Clone, Default)]
pub(crate) struct AgentStatus {
    pub(crate) connected: bool,
    /// `None`: no stream yet.
    pub(crate) since: Option<Timestamp>,
    pub(crate) agent_version: Option<String>,
    pub(crate) facts: BTreeMap<String, String>,
    /// When it last said them; `None`: an earlier version did not write it down.
    pub(crate) facts_told_at: Option<Timestamp>,
    pub(crate) apis_told_at: Option<Timestamp>,
    pub(crate) certificate_expires_at: Option<Timestamp>,
    /// The agent before the newest one, and the newest one's address.
    pub(crate) conflict: Option<(IdentityConflict, String)>,
}

/// Of those that have had a stream.
pub(crate) async fn load(
    db: &mut Connection,
    clusters: &[ClusterId],
    now: Timestamp,
) -> Result<BTreeMap<ClusterId, AgentStatus>, StoreError> {
    let clusters: Vec<Uuid> = clusters.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select s.cluster_id as "cluster_id!", p.is_connected as "connected!",
               case when p.is_connected then s.since else coalesce($2::timestamptz - p.silent_for, p.since) end as "since!",
               s.agent_version as "agent_version!",
               s.facts as "facts!: Json<BTreeMap<String, String>>", s.facts_at as "facts_at?", s.apis_at as "apis_at?",
               s.address as "address!",
               s.rivalry as "conflict?: Json<IdentityConflict>",
               x.not_after as "not_after?"
          from sessions s
          join presences p using (cluster_id)
          left join certificates x on x.serial = s.certificate_serial
         where s.cluster_id = any($1)
        "#,
        &clusters,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    let statuses = rows.into_iter().map(|row| {
        let status = AgentStatus {
            connected: row.connected,
            since: Some(from_sql(row.since)),
            agent_version: Some(row.agent_version),
            facts: row.facts.0,
            facts_told_at: row.facts_at.map(from_sql),
            apis_told_at: row.apis_at.map(from_sql),
            certificate_expires_at: row.not_after.map(from_sql),
            conflict: row.conflict.map(|conflict| (conflict.0, row.address)),
        };
        (ClusterId::new(row.cluster_id), status)
    });
    Ok(statuses.collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bellwether_core::SessionNumber;

    use super::*;
    use crate::process::clock;
    use crate::store::rows::Rows;
    use crate::store::{Pool, execute_in, installation, sessions};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_cluster_is_connected_while_its_hub_lives_and_of_one_without_a_stream_nothing_is_said(pool: Pool) {
        let (mut rows, hub) = (Rows::new(&pool).await, clock::new_id());
        let (here, gone, new) = (rows.cluster("c1").await, rows.cluster("c2").await, rows.cluster("c3").await);
        for cluster in [here, gone] {
            rows.connect(cluster, hub).await;
        }
        let db = &mut rows.db;
        installation::mark_hub_heartbeat(db, hub, Duration::from_mins(10)).await.expect("a heartbeat is written");
        let (session, at) = (SessionNumber::new(1), clock::now());
        sessions::mark_caught_up(db, &[(gone, session)], at).await.expect("it is heard");
        let end = sessions::End { cluster: gone, session, at };
        sessions::mark_ended(db, &[end]).await.expect("it is written");
        let all = [here, gone, new];

        let before = load(db, &all, clock::now()).await.expect("it is read");
        execute_in(db, "update hubs set lives_until = now()").await.expect("it dies");
        let after = load(db, &all, clock::now()).await.expect("it is read");

        assert_eq!(before.keys().copied().collect::<Vec<_>>(), [here, gone]);
        assert!(before[&here].connected && !before[&gone].connected);
        assert_eq!(before[&gone].since, Some(at), "since it went");
        assert_eq!(before[&here].agent_version.as_deref(), Some("1"));
        assert_eq!(before[&here].certificate_expires_at, None, "its certificate is not known");
        assert!(!after[&here].connected && after[&here].since.is_some_and(|since| since <= clock::now()));
        assert_eq!(load(db, &[new], clock::now()).await.expect("it is read").len(), 0);
    }
}
