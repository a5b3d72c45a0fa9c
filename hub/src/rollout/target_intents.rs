//! What people ask of a target: back to an earlier bundle, and on again.

use bellwether_core::RenderId;
use bellwether_core::audit::{Action, Event, Outcome};
use bellwether_core::parameters::TraitsUsed;
use bellwether_core::rollout::{self, Kind, unrendered};
use jiff::Timestamp;

use super::plan::{self, Back, Begin};
use crate::Hub;
use crate::process::clock;
use crate::source::policy;
use crate::store::intents::{IntentRow, TargetVerb, Verb};
use crate::store::targets::{State, Target};
use crate::store::{self, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;

pub(super) async fn answer_for_target(
    hub: &Hub,
    change: &mut Change<'_>,
    target: &Target,
    open: &[IntentRow],
    now: Timestamp,
) -> Result<(), StoreError> {
    for intent in open {
        let Verb::Target(verb) = &intent.verb else { continue };
        let answer = match verb {
            TargetVerb::Release => release(change, target).await?,
            TargetVerb::RollbackTo { render, .. } => {
                roll_back(hub, change, target, intent, render.map(RenderId::new), now).await?
            }
        };
        change.answer(intent.id, answer.as_ref().err().copied().unwrap_or("done"), now).await?;
        audit(change, target, intent, answer, now).await?;
    }
    Ok(())
}

/// Refused, and why, or what the log is to say besides.
type Answer = Result<serde_json::Value, &'static str>;

async fn release(change: &mut Change<'_>, target: &Target) -> Result<Answer, StoreError> {
    let state = store::targets::find_state(change, target.id).await?;
    if let Err(refused) = rollout::release(state.held) {
        return Ok(Err(refused));
    }
    store::targets::mark_state(change, target.id, &State { held: false, ..state }).await?;
    Ok(Ok(serde_json::Value::Null))
}

const NOTHING_BEFORE: &str =
    "no earlier revision would change what its clusters run; `bellwether rollout list` shows what there was, for --to";

const NOT_STORED: &str = "what that revision rendered to is no longer stored";

pub(super) const UNVERIFIED: &str =
    "that revision is not known to be signed by one of the repo's keys, and what is not signed is not rolled out";

/// Clusters that stay as they are, as the log names them.
const STAYING_MAX: usize = 50;

/// Every cluster gets what an earlier render says, as far as it says something for that cluster: one wave, no soak,
/// nothing fetched or rendered. The target is held from then on, so that the next push does not undo it.
async fn roll_back(
    hub: &Hub,
    change: &mut Change<'_>,
    target: &Target,
    intent: &IntentRow,
    render: Option<RenderId>,
    now: Timestamp,
) -> Result<Answer, StoreError> {
    let render = match render {
        Some(id) => {
            let Some(render) = store::renders::find(change, id).await? else { return Ok(Err(NOT_STORED)) };
            if !policy::is_admitted(change, target, &render).await? {
                return Ok(Err(UNVERIFIED));
            }
            render
        }
        None => match plan::find_back(change, target).await? {
            Back::To(render) => *render,
            Back::Unverified => return Ok(Err(UNVERIFIED)),
            Back::Nothing => return Ok(Err(NOTHING_BEFORE)),
        },
    };
    let state = store::targets::find_state(change, target.id).await?;
    let candidates = plan::selected(change, target, TraitsUsed::ALL).await?;
    let all = candidates.clone();
    let runs = plan::list_runs(change, target).await?;
    let placed = plan::placed(change, target, &state, &render, &runs, candidates).await?;
    let moves = match rollout::roll_back(&placed) {
        Ok(moves) => moves,
        Err(refused) => return Ok(Err(refused)),
    };
    let moving = moves.len();
    let staying: Vec<_> = unrendered(&placed).map(|one| one.candidate.name.to_string()).collect();
    let live = store::rollouts::list_live(change, target.id).await?;
    let live: Vec<_> = live.iter().collect();
    plan::supersede(hub, change, target, &live, "rolled back by a person", now).await?;
    store::wanted::delete_aside(change, target.id).await?;
    store::targets::mark_state(change, target.id, &State { held: true, ..state }).await?;
    let begin = Begin {
        kind: Kind::Rollback,
        render: &render,
        trace_id: clock::new_trace(),
        actor: actors::token(&intent.actor),
        reason: intent.reason.clone(),
    };
    let row = plan::begin_rollout(change, target, begin, &all, (moves, &runs), now).await?;
    plan::mark_rolled(change, target, None, row.id.as_uuid()).await?;
    let named = &staying[..staying.len().min(STAYING_MAX)];
    Ok(Ok(serde_json::json!({"rollout": row.id, "moving": moving, "staying": staying.len(), "stayingNamed": named})))
}

/// Answers what nothing will act on any more, and drops it: of rollouts that are history, or all of a target that goes.
pub(super) async fn refuse(
    change: &mut Change<'_>,
    target: &Target,
    open: &mut Vec<IntentRow>,
    (is_meant, reason): (impl Fn(&IntentRow) -> bool, &'static str),
    now: Timestamp,
) -> Result<(), StoreError> {
    let (refused, kept) = std::mem::take(open).into_iter().partition(is_meant);
    *open = kept;
    let refused: Vec<IntentRow> = refused;
    for intent in refused {
        change.answer(intent.id, reason, now).await?;
        match intent.rollout {
            None => audit(change, target, &intent, Err(reason), now).await?,
            Some(rollout) => {
                let subject = subjects::rollout(rollout, &target.project, &target.name);
                let actor = actors::token(&intent.actor);
                let mut event = Event::new(clock::new_id(), now, actor, Action::RolloutIntentRefused, subject);
                event.outcome = Outcome::Denied;
                reason.clone_into(&mut event.reason);
                change.audit(&event).await?;
            }
        }
    }
    Ok(())
}

async fn audit(
    change: &mut Change<'_>,
    target: &Target,
    intent: &IntentRow,
    answer: Answer,
    now: Timestamp,
) -> Result<(), StoreError> {
    let action = match &intent.verb {
        Verb::Target(TargetVerb::Release) => Action::TargetReleased,
        _ => Action::TargetRolledBack,
    };
    let subject = subjects::target(&target.project, &target.name);
    let mut event = Event::new(clock::new_id(), now, actors::token(&intent.actor), action, subject);
    event.outcome = if answer.is_err() { Outcome::Denied } else { Outcome::Done };
    event.reason = answer.as_ref().err().map_or_else(|| intent.reason.clone(), |refused| (*refused).to_owned());
    event.detail = answer.unwrap_or_default();
    change.audit(&event).await
}
