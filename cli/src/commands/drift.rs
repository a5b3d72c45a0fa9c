//! Drift: what others changed in the clusters, and what was done about it.

use std::fmt::Write as _;

use bellwether_core::api::{DriftAction, DriftDocument, List};

use super::{Context, accept, note_if_empty};
use crate::args::DriftCommand;
use crate::client::{Answer, Route};
use crate::failure::Exit;
use crate::output::table::{Field, Tone, fields, table};
use crate::output::{Style, time, visible};

pub(super) async fn run(context: &Context, command: DriftCommand) -> anyhow::Result<Exit> {
    match command {
        DriftCommand::List { cluster, target, limit } => {
            let route = Route::new(["drift"]).maybe_with("cluster", cluster).maybe_with("target", target);
            let answer: Answer<List<DriftDocument>> = context.client.fetch_list(&route, limit).await?;
            context.output.answer(&answer, |list, style| draw(&list.items, style))?;
            note_if_empty(&answer.document.items, "no agent told of a change by others");
        }
        DriftCommand::Accept(arguments) => return accept::run(context, arguments).await,
        DriftCommand::Show { id } => {
            let answer: Answer<DriftDocument> = context.client.fetch(&Route::new(["drift", &id.to_string()])).await?;
            context.output.answer(&answer, draw_one)?;
        }
    }
    Ok(Exit::Done)
}

fn tone(action: DriftAction) -> Tone {
    match action {
        DriftAction::Corrected => Tone::Good,
        DriftAction::Warned => Tone::Busy,
        DriftAction::Failed => Tone::Bad,
    }
}

fn draw(drifts: &[DriftDocument], style: Style) -> String {
    if drifts.is_empty() {
        return String::new();
    }
    let row = |drift: &DriftDocument| {
        [
            Field::from(time(drift.at)),
            Field::from(&drift.cluster),
            Field::from(&drift.target),
            Field::from(&drift.object),
            drift.change.as_str().into(),
            drift.manager.as_deref().unwrap_or("unknown").into(),
            Field::toned(drift.action.as_str(), tone(drift.action)),
            drift.fields.join(", ").into(),
            drift.id.to_string().into(),
        ]
    };
    let heads = ["TIME", "CLUSTER", "TARGET", "OBJECT", "CHANGE", "BY", "ACTION", "FIELDS", "ID"];
    table(heads, drifts.iter().map(row), style)
}

/// What the target wants on a line with `-`, what was found on one with `+`, as a diff of what somebody did.
fn draw_one(drift: &DriftDocument, style: Style) -> String {
    let by = [drift.manager.as_deref().unwrap_or("unknown"), drift.operation.as_deref().unwrap_or_default()];
    let pairs = [
        ("object", Field::from(&drift.object)),
        ("cluster", Field::from(&drift.cluster)),
        ("target", Field::from(&drift.target)),
        ("found", time(drift.at).into()),
        ("change", drift.change.as_str().into()),
        ("by", by.join(" ").trim_end().into()),
        ("action", Field::toned(drift.action.as_str(), tone(drift.action))),
        ("fields", drift.fields.join(", ").into()),
    ];
    let mut text = fields(pairs, style);
    for value in &drift.values {
        let lines = [("-", &value.wanted), ("+", &value.found)];
        let lines = lines.into_iter().filter_map(|(sign, text)| Some(format!("\n  {sign} {}", text.as_ref()?)));
        let lines: String = lines.collect();
        let _ = write!(text, "\n\n{}{}", visible(&value.path), visible(&lines));
    }
    if drift.are_more_values {
        text.push_str("\n\nThere are others, too many or too long to be told, or of a Secret, which are never told.");
    } else if drift.values.is_empty() && !drift.fields.is_empty() {
        text.push_str("\n\nWhat was made of the fields is not known here.");
    }
    text
}
