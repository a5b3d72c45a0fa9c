//! What a render came to, written down in one transaction with the work that it makes.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::audit::{Action, Event, Outcome};
use bellwether_core::render::LEFT_OUT_MAX;
use bellwether_core::rollout::Wanted;
use bellwether_core::session::SyncOptions;
use bellwether_core::target::TargetSpec;
use bellwether_core::{Condition, Digest, RenderId, TargetId};
use bellwether_proto::compression;
use jiff::{SignedDuration, Timestamp};

use super::error::{BROKE_DOWN, BundleError, TOLD_TOO_OFTEN};
use super::job::Rendered;
use super::variants::Made;
use super::{Said, bounds};
use crate::Hub;
use crate::process::clock;
use crate::store::bundles::Blob;
use crate::store::renders::Render;
use crate::store::revisions::Revision;
use crate::store::sources::ReadSource;
use crate::store::targets::Target;
use crate::store::work::{self, QueueItem, Stage};
use crate::store::{self, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;
use crate::worker::stage::Progress;

pub(super) async fn finish(hub: &Hub, item: &QueueItem, said: Option<Said>) -> Result<Progress, StoreError> {
    let now = clock::now();
    let mut change = Change::begin_deferred(&hub.pool, &hub.signals).await?;
    if !work::lock_subject(&mut change, Stage::Bundle, item.key).await? {
        return Ok(Progress::Done);
    }
    // Another hub has taken them, and what it wrote may be of a newer revision than what is known here.
    if !work::take_seen(&mut change, item).await? {
        return Ok(Progress::Done);
    }
    let trace_id = item.trace_id.clone().unwrap_or_else(clock::new_trace);
    let Some(said) = said else {
        // Whom it selects counts all the same.
        change.tell(Stage::Rollout, &[item.key], now, Some(&trace_id)).await?;
        change.commit().await?;
        return Ok(Progress::Done);
    };
    match said.result {
        Ok(mut rendered) => {
            let unwritten = std::mem::take(&mut rendered.unwritten);
            match store_bundles(hub, &mut change, said.target.id, unwritten).await {
                Ok(()) => {}
                Err(BundleError::Store(error)) => return Err(error),
                Err(error) => {
                    change.abandon().await?;
                    let said = Said { result: Err(error.condition(now)), ..said };
                    return Box::pin(finish(hub, item, Some(said))).await;
                }
            }
            let revision = said.revision.expect("only a revision renders");
            let (read, minded) = said.read.unwrap_or_default();
            look_again(&mut change, &said.target, &revision, &read, now).await?;
            store::sources::mark(&mut change, said.target.id, &minded).await?;
            let (bundles, again) = (rendered.variants.len(), rendered.again.into_iter().chain(said.again).min());
            record(&mut change, &said.target, &revision, rendered, now).await?;
            change.tell(Stage::Rollout, &[item.key], now, Some(&trace_id)).await?;
            go_on(&mut change, item, again, now).await?;
            change.commit().await?;
            tracing::info!(
                target.name = %said.target.name,
                revision = revision.commit,
                bundles,
                trace.id = trace_id,
                "rendered"
            );
        }
        Err(condition) => {
            let (read, minded) = said.read.unzip();
            if let Some(revision) = &said.revision {
                look_again(&mut change, &said.target, revision, &read.unwrap_or_default(), now).await?;
            }
            if let Some(minded) = minded {
                store::sources::mark(&mut change, said.target.id, &minded).await?;
            }
            record_failure(&mut change, &said.target, said.revision.as_ref(), &condition, now).await?;
            // Whoever joined or was relabelled gets what the others run. With a trace: a label has none, and whom it takes out
            // is to stand in the log all the same.
            change.tell(Stage::Rollout, &[item.key], now, Some(&trace_id)).await?;
            let again = bounds::tried_again_after(&condition).into_iter().chain(said.again).min();
            go_on(&mut change, item, again, now).await?;
            change.commit().await?;
        }
    }
    Ok(Progress::Done)
}

/// What time lacked for comes with another turn, at once. What has to wait has one timer: whatever else is told meanwhile finds
/// out anew whether it has to.
async fn go_on(
    change: &mut Change<'_>,
    item: &QueueItem,
    again: Option<SignedDuration>,
    now: Timestamp,
) -> Result<(), StoreError> {
    match again {
        Some(SignedDuration::ZERO) => change.tell(Stage::Bundle, &[item.key], now, None).await,
        Some(again) => work::replace_timer(change, Stage::Bundle, item.key, now + again).await,
        None => Ok(()),
    }
}

/// What was pushed while this was rendered was compared to what the render before had read, and that may be less.
async fn look_again(
    change: &mut Change<'_>,
    target: &Target,
    rendered: &Revision,
    read: &[ReadSource],
    now: Timestamp,
) -> Result<(), StoreError> {
    // Until the end, so that whoever records the next commit sees what is written here. Always in the same order, so that no
    // two targets wait for each other.
    let repos: BTreeSet<_> = read.iter().map(|source| source.repo).chain([target.repo]).collect();
    for repo in repos {
        work::await_subject(change, Stage::Source, repo.as_uuid()).await?;
    }
    for source in read {
        let (head, _) = store::revisions::find_head(change, source.repo, &source.reference).await?;
        if let Some(head) = head.filter(|head| head.commit != source.commit) {
            change.tell(Stage::Bundle, &[target.id.as_uuid()], now, Some(&head.trace_id)).await?;
        }
    }
    let (head, _) = store::revisions::find_head(change, target.repo, &target.reference).await?;
    if let Some(head) = head.filter(|head| head.id != rendered.id) {
        change.tell(Stage::Bundle, &[target.id.as_uuid()], now, Some(&head.trace_id)).await?;
    }
    Ok(())
}

async fn record(
    change: &mut Change<'_>,
    target: &Target,
    revision: &Revision,
    rendered: Rendered,
    now: Timestamp,
) -> Result<(), StoreError> {
    if !rendered.is_reused {
        store::renders::end_tries(change, target.id).await?;
    }
    let (inputs, inputs_digest) = rendered.inputs;
    let (variables, variants) = (rendered.variables, rendered.variants);
    let left_out_hooks = rendered.left_out_hooks.into_iter().take(LEFT_OUT_MAX).collect();
    let render_id = match rendered.existing {
        Some(existing) => existing,
        None => RenderId::new(clock::new_id_after(store::renders::find_newest(change, target.id).await?)),
    };
    let origin = Origin { engine: rendered.engine.clone(), sources: rendered.sources.clone() };
    let is_more_of_the_same = rendered.existing.is_some();
    let before = given_before(change, target, (!is_more_of_the_same).then_some(&variants)).await?;
    if is_more_of_the_same {
        let found = (&*rendered.sources, &left_out_hooks);
        let engine = rendered.engine.as_deref();
        store::renders::mark_inputs(change, render_id, (&inputs, &inputs_digest), found, engine).await?;
        store::renders::insert_variants(change, render_id, &variants).await?;
    } else {
        let render = Render {
            id: render_id,
            target: target.id,
            revision: revision.id,
            target_version: target.version,
            inputs,
            inputs_digest,
            variables: variables.iter().cloned().collect(),
            variants: variants.clone(),
            engine: rendered.engine,
            sources: rendered.sources,
            left_out_hooks,
        };
        store::renders::insert(change, &render, now).await?;
    }
    mark_wanted(change, target, revision, before, (render_id, &origin), (&variables, &variants)).await?;
    // After it was compared: what nobody needs still says that the content is the same.
    store::renders::delete_variants(change, render_id, &rendered.spare).await?;
    match rendered.lacking {
        Some(condition) => record_failure(change, target, Some(revision), &condition, now).await,
        None => store::renders::mark_condition(change, target.id, None, None).await,
    }
}

/// What makes something of a spec and of a cluster.
struct Origin {
    engine: Option<String>,
    sources: Vec<ReadSource>,
}

impl Origin {
    /// Whatever it is found to read of clusters, it gives each what it gave before.
    fn is_of(&self, before: &Render, revision: &Revision) -> bool {
        let sources = before.sources.iter().zip(&self.sources);
        before.revision == revision.id
            && before.engine == self.engine
            && before.sources.len() == self.sources.len()
            && sources.into_iter().all(|(before, now)| before.has_same_files(now))
    }
}

/// What was wanted, with all that was given since that content began, if it says nothing of some variant of another render: who
/// had something before the last render failed for it is no newcomer. Read before the new ones are written.
async fn given_before(
    change: &mut Change<'_>,
    target: &Target,
    of_another: Option<&BTreeMap<Digest, Digest>>,
) -> Result<Option<store::wanted::Wanted>, StoreError> {
    let Some(mut before) = store::wanted::find(change, target.id).await? else { return Ok(None) };
    let is_unknown = |parameters: &Digest| !before.render.variants.contains_key(parameters);
    if of_another.is_some_and(|variants| variants.keys().any(is_unknown)) {
        before.render.variants = store::renders::list_given_since(change, target.id, before.since).await?;
    }
    Ok(Some(before))
}

/// The target is to run this from now on: the same as before, as far as rollouts go, when neither the spec nor what it
/// gives any cluster is another.
async fn mark_wanted(
    change: &mut Change<'_>,
    target: &Target,
    revision: &Revision,
    before: Option<store::wanted::Wanted>,
    (render, origin): (RenderId, &Origin),
    (variables, variants): (&BTreeSet<String>, &BTreeMap<Digest, Digest>),
) -> Result<(), StoreError> {
    let recipe = TargetSpec { sync: SyncOptions::default(), ..target.spec.clone() };
    let recipe = serde_json::to_vec(&recipe).expect("a spec is JSON");
    let recipe = Digest::of(&recipe).as_bytes().to_vec();
    let variables: Vec<_> = variables.iter().cloned().collect();
    let after = Wanted { spec: &target.spec, variables: &variables, variants };
    let same = before.filter(|before| {
        // An earlier version wrote no spec.
        let is_known = before.target_version == target.version || before.recipe == recipe;
        let spec = before.spec.as_ref().or(is_known.then_some(&target.spec));
        spec.is_some_and(|spec| {
            let (variables, variants) = (&before.render.variables, &before.render.variants);
            let before_it = Wanted { spec, variables, variants };
            let is_found_to_read_more =
                after.variables != before_it.variables && origin.is_of(&before.render, revision);
            after.is_same(&before_it) || (is_found_to_read_more && after.is_same_recipe(&before_it))
        })
    });
    let since = same.map_or(render, |before| before.since);
    store::wanted::mark(change, target, revision.id, (render, &recipe, since)).await
}

/// More variants of a render that is there. It stays what is wanted.
pub(super) async fn add_variants(
    hub: &Hub,
    target: TargetId,
    render: RenderId,
    rendered: Rendered,
) -> Result<(), BundleError> {
    let mut change = Change::begin_deferred(&hub.pool, &hub.signals).await?;
    store_bundles(hub, &mut change, target, rendered.unwritten).await?;
    let (inputs, digest) = &rendered.inputs;
    let engine = rendered.engine.as_deref();
    let left_out_hooks = rendered.left_out_hooks.into_iter().take(LEFT_OUT_MAX).collect();
    let found = (&*rendered.sources, &left_out_hooks);
    store::renders::mark_inputs(&mut change, render, (inputs, digest), found, engine).await?;
    store::renders::insert_variants(&mut change, render, &rendered.variants).await?;
    store::renders::delete_variants(&mut change, render, &rendered.spare).await?;
    // Here and not only at the end of the reconcile, which is nobody's once another hub has taken its rows.
    change.tell(Stage::Rollout, &[target.as_uuid()], clock::now(), None).await?;
    Ok(change.commit().await?)
}

pub(super) async fn write_bundles(hub: &Hub, target: TargetId, bundles: Vec<Made>) -> Result<(), BundleError> {
    let mut change = Change::begin_deferred(&hub.pool, &hub.signals).await?;
    store_bundles(hub, &mut change, target, bundles).await?;
    Ok(change.commit().await?)
}

/// On an error nothing of it is to be kept.
async fn store_bundles(
    hub: &Hub,
    change: &mut Change<'_>,
    target: TargetId,
    bundles: Vec<Made>,
) -> Result<(), BundleError> {
    let (now, mut bytes) = (clock::now(), 0);
    for made in bundles {
        bytes += store_bundle(hub, change, made, now).await?;
    }
    bounds::spend(change, target, bytes, now).await
}

/// What was just made is what fleets are about to ask for. Says how many bytes were not there yet.
async fn store_bundle(
    hub: &Hub,
    change: &mut Change<'_>,
    Made { manifest, objects }: Made,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let digests: Vec<_> = objects.iter().map(|object| object.digest).collect();
    let missing: BTreeSet<_> = store::bundles::list_missing_objects(change, &digests, now).await?.into_iter().collect();
    let blobs: Vec<_> = objects
        .into_iter()
        .filter(|object| missing.contains(&object.digest))
        .map(|object| Blob { digest: object.digest, frame: compression::compress(&object.body) })
        .collect();
    hub.content.keep_objects(&blobs);
    let mut bytes = blobs.iter().map(|blob| blob.frame.len()).sum();
    store::bundles::insert_objects(change, blobs, now).await?;
    let blob = Blob { digest: manifest.digest(), frame: compression::compress(&manifest.encode()) };
    if store::bundles::insert_bundle(change, &blob, manifest.entries().len(), now).await? {
        bytes += blob.frame.len();
    }
    hub.content.keep_manifest(manifest);
    Ok(bytes)
}

/// Written down and audited once, not at every reconcile.
pub(super) async fn record_failure(
    change: &mut Change<'_>,
    target: &Target,
    revision: Option<&Revision>,
    condition: &Condition,
    now: Timestamp,
) -> Result<(), StoreError> {
    // Neither was rendered: what hubs died of is still there.
    if ![BROKE_DOWN, TOLD_TOO_OFTEN].contains(&&*condition.code) {
        store::renders::end_tries(change, target.id).await?;
    }
    let before = store::renders::find_condition(change, target.id).await?;
    let is_known = before.is_some_and(|before| before.says_the_same(condition));
    store::renders::mark_condition(change, target.id, revision.map(|revision| revision.id), Some(condition)).await?;
    if is_known {
        return Ok(());
    }
    let subject = subjects::target(&target.project, &target.name);
    let mut event = Event::new(clock::new_id(), now, actors::hub(), Action::RenderFailed, subject);
    event.outcome = Outcome::Failed;
    event.commit = revision.map(|revision| revision.commit.clone());
    event.trace_id = revision.map(|revision| revision.trace_id.clone());
    event.reason.clone_from(&condition.message);
    event.detail = serde_json::json!({"code": condition.code, "file": condition.file, "line": condition.line});
    tracing::warn!(target.name = %target.name, error = condition.message, "a target does not render");
    change.audit(&event).await
}
