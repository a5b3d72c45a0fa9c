//! What runs where: one row for each target in each cluster, and what is wrong below.

use std::time::Duration;

use bellwether_core::api::{StatusDocument, StatusRow, TargetDocument};
use bellwether_core::report::Verdict;
use bellwether_core::{Condition, Name};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::sleep;

use super::Context;
use super::cluster::yes_no;
use crate::args::Format;
use crate::client::{Answer, Client, PAGES_MAX, RequestError, Route, endless};
use crate::failure::{Exit, condition_text, unless_unread};
use crate::output::table::{Field, Tone, table, verdict};
use crate::output::{Style, age, note, revision, short_commit, visible};

/// Between two polls; a table that changes more often cannot be read.
const POLL_PAUSE: Duration = Duration::from_secs(1);
/// Clusters' rows asked for at once: as many as the hub gives.
const PAGE: u32 = 1_000;

pub(super) async fn run(context: &Context, target: Option<&Name>, watches: bool) -> anyhow::Result<Exit> {
    if watches {
        return watch(context, target).await;
    }
    let answer = fetch(&context.client, target).await?;
    let now = Timestamp::now();
    unless_unread(context.output.answer(&answer, |status, style| draw(status, now, style)))?;
    note_if_nothing(&answer.document);
    Ok(if is_well(&answer.document) { Exit::Done } else { Exit::Differs })
}

/// All pages as one.
pub(super) async fn fetch(client: &Client, target: Option<&Name>) -> Result<Answer<StatusDocument>, RequestError> {
    let route = Route::new(["status"]).with("limit", PAGE.to_string()).maybe_with("target", target);
    let mut all: Answer<StatusDocument> = client.fetch(&route).await?;
    for _ in 0..PAGES_MAX {
        let Some(cursor) = all.document.next.take() else {
            all.json["next"] = Value::Null;
            return Ok(all);
        };
        let page: Answer<StatusDocument> = client.fetch(&route.clone().with("cursor", cursor)).await?;
        all.append("/targets", &page.json, "/targets");
        all.append("/rows", &page.json, "/rows");
        all.document.targets.extend(page.document.targets);
        all.document.rows.extend(page.document.rows);
        all.document.next = page.document.next;
    }
    Err(endless(&route))
}

fn note_if_nothing(status: &StatusDocument) {
    if status.targets.is_empty() {
        note("no target is there; `bellwether apply -f FILE` makes one from a file");
    } else if status.rows.is_empty() {
        note("no cluster has been assigned anything yet");
    }
}

/// Until Ctrl-C. A hub that is away for a moment does not end it.
async fn watch(context: &Context, target: Option<&Name>) -> anyhow::Result<Exit> {
    let is_table = context.output.document_format()? == Format::Table;
    let mut shown = String::new();
    loop {
        match fetch(&context.client, target).await {
            Ok(answer) => {
                // Ages alone are nothing new where lines pile up.
                let newest = answer.json.to_string();
                let now = Timestamp::now();
                if is_table && context.output.style().wrap {
                    context.output.print_again(&draw(&answer.document, now, context.output.style()))?;
                } else if newest != shown {
                    context.output.answer(&answer, |status, style| draw(status, now, style))?;
                }
                shown = newest;
            }
            Err(RequestError::Unavailable(failure)) => note(&format!("{failure}; trying again")),
            Err(error) => return Err(error.into()),
        }
        sleep(POLL_PAUSE).await;
    }
}

/// Everything is in place, healthy and known, no cluster is behind Git, and nothing has a condition.
fn is_well(status: &StatusDocument) -> bool {
    let row_is_well = |row: &StatusRow| row.connected && row.selected && row.applied && row.verdict == Verdict::Healthy;
    status.rows.iter().all(row_is_well)
        && behind(status).next().is_none()
        && conditions(status).next().is_none()
        && !status.targets.iter().any(is_being_deleted)
}

fn is_being_deleted(target: &TargetDocument) -> bool {
    target.status.as_ref().is_some_and(|status| status.deletion.is_some())
}

/// Targets with clusters that do not run what Git says. Of one that is held, that is meant.
fn behind(status: &StatusDocument) -> impl Iterator<Item = String> {
    status.targets.iter().filter_map(|target| {
        let (name, status) = (&target.metadata.name, target.status.as_ref()?);
        let commit =
            status.commit.as_deref().filter(|_| status.behind > 0 && !status.held && status.deletion.is_none())?;
        let clusters = if status.behind == 1 { "1 cluster is" } else { &format!("{} clusters are", status.behind) };
        let why = if status.condition.is_some() {
            // The commit may be what they run, and its condition something else.
            return Some(format!("target {name}: {clusters} not known to run what is wanted; its condition says why"));
        } else if status.set_aside.is_empty() {
            format!("`bellwether rollout why {name}` says why")
        } else {
            format!("`bellwether target show {name}` names who was left out")
        };
        Some(format!("target {name}: {clusters} not at {}; {why}", revision(commit, &status.sources)))
    })
}

fn conditions(status: &StatusDocument) -> impl Iterator<Item = (String, &Condition)> {
    let of_targets = status.targets.iter().filter_map(|target| {
        let condition = target.status.as_ref()?.condition.as_ref()?;
        Some((format!("target {}", target.metadata.name), condition))
    });
    let others = status
        .conditions
        .iter()
        .map(|named| (format!("{} {}", named.kind.to_lowercase(), named.name), &named.condition));
    of_targets.chain(others)
}

fn draw(status: &StatusDocument, now: Timestamp, style: Style) -> String {
    let mut parts = Vec::new();
    if !status.rows.is_empty() {
        let header = ["TARGET", "CLUSTER", "CONNECTED", "REVISION", "APPLIED", "HEALTH", "AGE", "MESSAGE"];
        parts.push(table(header, status.rows.iter().map(|row| draw_row(row, now)), style));
    }
    let held = status.targets.iter().filter(|target| target.status.as_ref().is_some_and(|status| status.held));
    let deleting = status.targets.iter().filter(|target| is_being_deleted(target));
    let remarks: Vec<_> = held
        .map(|target| {
            let name = &target.metadata.name;
            format!(
                "target {name} is held after a rollback; `bellwether rollout release {name}` lets it follow Git again"
            )
        })
        .chain(deleting.map(|target| format!("target {} is being deleted", target.metadata.name)))
        .chain(behind(status))
        .chain(conditions(status).map(|(subject, condition)| remark(&subject, condition)))
        .collect();
    if !remarks.is_empty() {
        parts.push(remarks.join("\n"));
    }
    parts.join("\n\n")
}

fn draw_row(row: &StatusRow, now: Timestamp) -> [Field; 8] {
    let connected = if row.connected { yes_no(true) } else { Field::toned("no", Tone::Bad) };
    let message = match row.since {
        _ if !row.selected => match row.message.as_str() {
            "" => "not selected any more".to_owned(),
            message => format!("not selected any more; {message}"),
        },
        Some(since) if !row.connected && row.message.is_empty() => format!("not connected for {}", age(since, now)),
        _ => row.message.clone(),
    };
    [
        Field::from(&row.target),
        Field::from(&row.cluster),
        connected,
        row.commit.as_deref().map_or("", short_commit).into(),
        yes_no(row.applied),
        verdict(row.verdict),
        row.reported_at.map_or_else(String::new, |at| age(at, now)).into(),
        message.into(),
    ]
}

fn remark(subject: &str, condition: &Condition) -> String {
    let text = visible(&condition_text(condition));
    match &condition.hint {
        Some(hint) => format!("{subject}: {text}\n  hint: {}", visible(hint)),
        None => format!("{subject}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(cluster: &str, connected: bool, verdict: &str, message: &str) -> Value {
        json!({
            "target": "shop", "cluster": cluster, "connected": connected, "since": "2026-11-23T19:00:00Z",
            "commit": "0123456789abcdef0123456789abcdef01234567", "digest": format!("sha256:{}", "0".repeat(64)),
            "applied": true, "verdict": verdict, "objects": {"total": 3, "inPlace": 3, "healthy": 3}, "message": message,
            "reportedAt": "2026-11-23T19:59:30Z",
        })
    }

    fn status(rows: &[Value], conditions: &Value) -> StatusDocument {
        serde_json::from_value(json!({"targets": [], "rows": rows, "conditions": conditions})).expect("a status")
    }

    #[test]
    fn the_table_says_what_runs_where_and_what_is_wrong() {
        let mut rows = [
            row("eu-1", true, "healthy", ""),
            row("eu-22", false, "unknown", ""),
            row("eu-3", true, "healthy", ""),
            row("us-1", true, "degraded", "Deployment shop/web: image not found"),
        ];
        rows[2]["selected"] = json!(false);
        let condition = json!({"kind": "Repo", "name": "apps", "code": "repo_unreachable", "message": "cannot reach git.example.org",
            "hint": "is the address right?"});

        let text = draw(
            &status(&rows, &json!([condition])),
            "2026-11-23T20:00:00Z".parse().expect("a time"),
            Style::default(),
        );

        insta::assert_snapshot!(text, @r"
        TARGET  CLUSTER  CONNECTED  REVISION  APPLIED  HEALTH    AGE  MESSAGE
        shop    eu-1     yes        01234567  yes      healthy   30s  -
        shop    eu-22    no         01234567  yes      unknown   30s  not connected for 60m
        shop    eu-3     yes        01234567  yes      healthy   30s  not selected any more
        shop    us-1     yes        01234567  yes      degraded  30s  Deployment shop/web: image not found

        repo apps: cannot reach git.example.org
          hint: is the address right?
        ");
    }

    #[test]
    fn all_is_well_only_when_everything_is_known_to_be() {
        let healthy = || row("eu-1", true, "healthy", "");
        let condition = json!([{"kind": "Repo", "name": "apps", "code": "x", "message": "y"}]);
        let mut not_applied = healthy();
        not_applied["applied"] = json!(false);
        let mut not_selected = healthy();
        not_selected["selected"] = json!(false);

        assert!(is_well(&status(&[healthy()], &json!([]))));
        assert!(!is_well(&status(&[healthy()], &condition)));
        assert!(!is_well(&status(&[healthy(), not_applied], &json!([]))));
        assert!(!is_well(&status(&[healthy(), not_selected], &json!([]))));
        for (connected, verdict) in [(true, "progressing"), (true, "degraded"), (true, "unknown"), (false, "unknown")] {
            assert!(!is_well(&status(&[row("eu-1", connected, verdict, "")], &json!([]))), "{verdict}");
        }
    }

    #[tokio::test]
    async fn all_pages_are_shown_as_one() {
        let page = |cluster: &str, next: Value| {
            let rows = [row(cluster, true, "healthy", "")];
            let page = json!({"targets": [], "rows": rows, "conditions": [], "next": next});
            (200, &*page.to_string().leak())
        };
        let (client, served) = crate::client::tests::hub(vec![page("eu-1", json!("c1")), page("eu-2", Value::Null)]);

        let all = fetch(&client, None).await.expect("two pages");

        let clusters: Vec<_> = all.document.rows.iter().map(|row| row.cluster.as_str()).collect();
        assert_eq!(clusters, ["eu-1", "eu-2"]);
        assert_eq!(all.json["rows"].as_array().map(Vec::len), Some(2), "programs see both too");
        let asked = served.join().expect("served");
        assert!(!asked[0].contains("cursor=") && asked[1].contains("cursor=c1"), "{asked:?}");
    }
}
