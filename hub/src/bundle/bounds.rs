//! What renders may cost: hubs that die of one, and bytes that one target stores.

use std::time::Duration;

use bellwether_core::{Condition, TargetId};
use jiff::{SignedDuration, Timestamp};

use super::error::{BROKE_DOWN, BundleError, SHARE_SPENT, TOLD_TOO_OFTEN};
use crate::Hub;
use crate::process::clock;
use crate::store::revisions::Revision;
use crate::store::targets::Target;
use crate::store::{self, StoreError};
use crate::work::change::Change;

/// Compressed, of objects and manifests that were not there before: a thousand clusters with a MiB of their own each, some
/// dozen times.
/// Content is kept for a week, so a target takes no more than seven times that.
pub(super) const STORED_BYTES_MAX: i64 = 4 << 30;

const STORED_WITHIN: SignedDuration = SignedDuration::from_hours(24);

/// Most of what it renders is there by then, and costs no more than being rendered.
const SHARE_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// By then there is room for dozens again.
const TOLD_PAUSE: SignedDuration = SignedDuration::from_mins(30);

/// Somebody installs it, or the machine had a bad moment; what dies each time costs a second each time.
const ENGINE_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// Of one target's renders of one revision: a thousand sets of values that take a third of a second each.
pub(super) const TOGETHER: Duration = Duration::from_mins(5);

/// One hub's bad moment is none of the render's fault, nor are two.
const DEATHS_MAX: i64 = 3;

/// What was begun before says nothing any more: hubs have been given more memory, or were updated.
const DEATHS_COUNT: SignedDuration = SignedDuration::from_hours(1);

/// What may end by itself, and would not be heard of.
pub(super) fn tried_again_after(condition: &Condition) -> Option<SignedDuration> {
    match condition.code.as_str() {
        SHARE_SPENT => Some(SHARE_PAUSE),
        TOLD_TOO_OFTEN => Some(TOLD_PAUSE),
        BROKE_DOWN => Some(DEATHS_COUNT),
        "engine_missing" | "engine_not_started" | "engine_unconfined" | "engine_died" | "engine_protocol"
        | "engine_panicked" | "engine_failed" | "bad_request" => Some(ENGINE_PAUSE),
        // Whoever adds the repo says so; but it may have come while this was looked for.
        code if code.starts_with("source_") => Some(ENGINE_PAUSE),
        _ => None,
    }
}

/// A row that outlives this process, should it be killed for what it is about to do: its work is still there then, and would
/// kill the next one too.
pub(super) async fn begin_try(hub: &Hub, target: &Target, revision: &Revision) -> Result<(), BundleError> {
    let now = clock::now();
    let of = (revision.id, target.version);
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    if store::renders::count_deaths(&mut db, target.id, hub.id, of, now - DEATHS_COUNT).await? >= DEATHS_MAX {
        return Err(BundleError::BrokeDown);
    }
    Ok(store::renders::begin_try(&mut db, target.id, hub.id, of, now).await?)
}

/// Nothing broke down. If this cannot be written either, it counts once this hub is gone.
pub(super) async fn leave_try(hub: &Hub, target: TargetId) {
    let left = async {
        let mut db = hub.pool.acquire().await?;
        store::renders::leave_try(&mut db, target, hub.id).await
    };
    if let Err(error) = left.await {
        tracing::debug!(target.id = %target, error = %crate::chain(&error), "cannot write that a render was left");
    }
}

/// Of what a target may store within a day.
pub(super) async fn spend(
    change: &mut Change<'_>,
    target: TargetId,
    bytes: usize,
    now: Timestamp,
) -> Result<(), BundleError> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    if bytes > 0
        && store::renders::add_stored(change, target, bytes, now - STORED_WITHIN, now).await? > STORED_BYTES_MAX
    {
        return Err(BundleError::ShareSpent);
    }
    Ok(())
}
