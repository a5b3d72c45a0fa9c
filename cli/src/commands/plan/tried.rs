//! What API servers said of a head, as lines below the group of clusters that they are of.

use bellwether_core::api::{ChangedValue, Fate, PlanDocument, PlanDryRun, PlanTried};

use super::{named, number};
use crate::output::visible_line;

/// What the lines are to catch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Plain,
    Bad,
}

pub(super) type Line = (String, Weight);

/// Of one group.
pub(super) fn lines(said: &PlanDryRun, clusters: usize) -> Vec<Line> {
    let counts: Vec<_> = said.counts.iter().map(|(fate, count)| format!("{count} {}", word(*fate))).collect();
    let who = match (said.answered, clusters) {
        (answered, all) if answered == all && all == 1 => "its API server".to_owned(),
        (answered, all) if answered == all => "their API servers".to_owned(),
        (1, _) => "the API server of 1 of them".to_owned(),
        (answered, _) => format!("the API servers of {answered} of them"),
    };
    let mut lines = vec![(format!("asked now, {who} would have: {}", counts.join(", ")), Weight::Plain)];
    for object in &said.objects {
        let weight = if object.fate.is_refusal() { Weight::Bad } else { Weight::Plain };
        lines.push((visible_line(&title(object)), weight));
        lines.extend(object.fields.iter().map(|field| (visible_line(&format!("  {}", changed(field))), Weight::Plain)));
        if object.more_fields {
            lines.push(("  and what is not told".to_owned(), Weight::Plain));
        }
        lines.extend(
            object.admitted.iter().map(|field| (visible_line(&format!("  {}", admitted(field))), Weight::Plain)),
        );
    }
    if said.more_objects > 0 {
        lines
            .push((format!("and {}, which are not shown", number(said.more_objects, "further object")), Weight::Plain));
    }
    lines
}

/// Of the whole plan: who was not asked, or said nothing.
pub(super) fn silent(plan: &PlanDocument, most: usize, told: impl Fn(&str) -> String + Copy) -> Vec<String> {
    let Some(dry_run) = &plan.dry_run else { return Vec::new() };
    let skipped = dry_run.skipped.iter().map(|reason| format!("no API server is asked: {reason}"));
    let unanswered = dry_run.unanswered.iter().map(|one| {
        let clusters = named(&one.clusters, most, told);
        format!("not asked, or without an answer: {clusters}: {}", one.reason)
    });
    skipped.chain(unanswered).collect()
}

const fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Unchanged => "unchanged",
        Fate::Created => "created",
        Fate::Changed => "changed",
        Fate::Replaced => "made anew",
        Fate::Adopted => "taken over",
        Fate::Exists => "left to others",
        Fate::Refused => "refused",
        Fate::KindMissing => "of a kind that is not served",
        Fate::NamespaceMissing => "without their namespace",
        Fate::Unknown => "not known",
    }
}

fn title(object: &PlanTried) -> String {
    let what = match object.fate {
        Fate::Unchanged | Fate::Created => "comes out otherwise".to_owned(),
        Fate::Changed if object.drifted => "stands otherwise than it was applied".to_owned(),
        Fate::Exists => "is somebody else's".to_owned(),
        fate => word(fate).to_owned(),
    };
    let message = if object.message.is_empty() { String::new() } else { format!(": {}", object.message) };
    format!("{} {what}{message}", object.key)
}

fn changed(field: &ChangedValue) -> String {
    let (before, after) = (value(field.found.as_deref()), value(field.wanted.as_deref()));
    format!("{}: {before} → {after}", field.path)
}

fn admitted(field: &ChangedValue) -> String {
    let (sent, made) = (value(field.wanted.as_deref()), value(field.found.as_deref()));
    format!("{}: {sent} comes out as {made}", field.path)
}

fn value(value: Option<&str>) -> &str {
    value.unwrap_or("nothing")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::plan;
    use super::*;

    #[test]
    fn what_api_servers_said_is_told_with_who_was_not_asked() {
        let key = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "namespace": "shop", "name": name});
        let with = |mut object: serde_json::Value, more: serde_json::Value| {
            object.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
            object
        };
        let said: PlanDryRun = serde_json::from_value(json!({
            "answered": 2,
            "counts": {"refused": 1, "changed": 1, "exists": 1, "unchanged": 9},
            "objects": [
                with(key("Deployment", "web"), json!({"fate": "refused", "message": "spec.selector: field is immutable"})),
                with(key("ConfigMap", "theirs"), json!({"fate": "exists", "message": "written by kubectl; it stays"})),
                with(key("ConfigMap", "a"), json!({"fate": "changed", "drifted": true, "moreFields": true,
                    "fields": [{"path": ".data.a", "found": "\"x\"", "wanted": "\"y\""}, {"path": ".data.b", "found": "1"}],
                    "admitted": [{"path": ".spec.cpu", "found": "\"1\"", "wanted": "\"1000m\""}]})),
            ],
        }))
        .expect("a dry run");
        let mut plan = plan();
        plan.dry_run = serde_json::from_value(json!({"answered": 2, "refused": true,
            "unanswered": [{"clusters": ["c", "d"], "reason": "never connected"}]}))
        .expect("is one");

        let mut told: Vec<_> = lines(&said, 37).into_iter().map(|(line, _)| line).collect();
        told.extend(silent(&plan, 10, str::to_owned));

        insta::assert_snapshot!(told.join("\n"), @r#"
        asked now, the API servers of 2 of them would have: 9 unchanged, 1 changed, 1 left to others, 1 refused
        Deployment shop/web refused: spec.selector: field is immutable
        ConfigMap shop/theirs is somebody else's: written by kubectl; it stays
        ConfigMap shop/a stands otherwise than it was applied
          .data.a: "x" → "y"
          .data.b: 1 → nothing
          and what is not told
          .spec.cpu: "1000m" comes out as "1"
        not asked, or without an answer: c, d: never connected
        "#);
    }
}
