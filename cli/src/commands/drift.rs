//! Drift: what others changed in the clusters, and what was done about it.

use bellwether_core::api::{DriftAction, DriftDocument, List};

use super::{Context, note_if_empty};
use crate::args::DriftCommand;
use crate::client::{Answer, Route};
use crate::failure::Exit;
use crate::output::table::{Field, Tone, table};
use crate::output::{Style, time};

pub(super) async fn run(context: &Context, command: DriftCommand) -> anyhow::Result<Exit> {
    let DriftCommand::List { cluster, target, limit } = command;
    let route = Route::new(["drift"]).maybe_with("cluster", cluster).maybe_with("target", target);
    let answer: Answer<List<DriftDocument>> = context.client.fetch_list(&route, limit).await?;
    context.output.answer(&answer, |list, style| draw(&list.items, style))?;
    note_if_empty(&answer.document.items, "no agent told of a change by others");
    Ok(Exit::Done)
}

fn draw(drifts: &[DriftDocument], style: Style) -> String {
    if drifts.is_empty() {
        return String::new();
    }
    let row = |drift: &DriftDocument| {
        let tone = match drift.action {
            DriftAction::Corrected => Tone::Good,
            DriftAction::Warned => Tone::Busy,
            DriftAction::Failed => Tone::Bad,
        };
        [
            Field::from(time(drift.at)),
            Field::from(&drift.cluster),
            Field::from(&drift.target),
            Field::from(&drift.object),
            drift.change.as_str().into(),
            drift.manager.as_deref().unwrap_or("unknown").into(),
            Field::toned(drift.action.as_str(), tone),
            drift.fields.join(", ").into(),
        ]
    };
    table(["TIME", "CLUSTER", "TARGET", "OBJECT", "CHANGE", "BY", "ACTION", "FIELDS"], drifts.iter().map(row), style)
}
