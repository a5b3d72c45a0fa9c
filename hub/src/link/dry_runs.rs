//! Dry runs on their way through rows: whoever plans asks by a row, and the hub that has the cluster's stream takes it there, and
//! writes the answer beside it. So it is nothing else where that is another hub.

use bellwether_core::ClusterId;
use bellwether_core::dry_run::{DryRun, DryRunAnswer, Unanswered};
use bellwether_proto::{compression, dry_run_from_bytes, dry_run_to_bytes};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::Hub;
use crate::process::clock;
use crate::store::dry_runs::Taken;
use crate::store::{self, Connection, StoreError};

/// As a row holds it: the objects may be Secrets.
pub(crate) fn seal(hub: &Hub, asked: DryRun) -> Vec<u8> {
    let purpose = purpose(asked.id);
    hub.seal.seal(&purpose, &dry_run_to_bytes(asked))
}

/// Hands the streams of these clusters what they are to be asked, in a transaction of its own: what is assigned waits for none of
/// it. Where there is no stream by now, that is the answer.
pub(super) async fn hand_out(hub: &Hub, clusters: &[ClusterId]) -> Result<(), StoreError> {
    let mut db = hub.vital.acquire().await?;
    let asked = take(hub, &mut db, clusters).await?;
    drop(db);
    for (cluster, asked) in asked {
        let id = asked.id;
        if !hub.sessions.ask(cluster, asked) {
            lose(hub, cluster, [id]).await?;
        }
    }
    Ok(())
}

/// Answers for an agent that does not any more.
pub(super) async fn lose(hub: &Hub, cluster: ClusterId, ids: impl IntoIterator<Item = Uuid>) -> Result<(), StoreError> {
    for id in ids {
        keep(hub, cluster, id, &refused(Unanswered::Lost)).await?;
    }
    Ok(())
}

/// What these clusters are to be asked. One that this hub cannot read is not asked, and whoever waits for it is not answered.
async fn take(hub: &Hub, db: &mut Connection, clusters: &[ClusterId]) -> Result<Vec<(ClusterId, DryRun)>, StoreError> {
    let now = clock::now();
    let taken = store::dry_runs::take(db, clusters, now).await?;
    Ok(taken.into_iter().filter_map(|taken| open(hub, &taken, now)).collect())
}

fn open(hub: &Hub, taken: &Taken, now: Timestamp) -> Option<(ClusterId, DryRun)> {
    let opened = hub.seal.open(&purpose(taken.id), &taken.asked).ok();
    let read = opened.and_then(|bytes| dry_run_from_bytes(bytes.expose_secret()).ok());
    let Some(read) = read else {
        tracing::warn!(cluster.id = %taken.cluster, dry_run.id = %taken.id, "cannot read what a cluster is to be asked");
        return None;
    };
    Some((taken.cluster, DryRun { deadline: taken.expires_at.duration_since(now), ..read }))
}

pub(super) async fn keep(hub: &Hub, cluster: ClusterId, id: Uuid, answer: &[u8]) -> Result<(), StoreError> {
    let _turn = store::take_turn(&hub.stream_turns).await;
    let mut db = hub.vital.acquire().await?;
    store::dry_runs::answer(&mut db, id, cluster, answer).await
}

/// The hub's own answer.
pub(super) fn refused(why: Unanswered) -> Vec<u8> {
    DryRunAnswer::Unanswered(why).encode(compression::compress)
}

fn purpose(id: Uuid) -> String {
    format!("dry-run/{id}")
}
