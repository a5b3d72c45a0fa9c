//! `plan`: what a commit or another spec would change where, as the hub has found it out.

mod diff;
mod markdown;
mod pretty;
mod tried;

use bellwether_core::Name;
use bellwether_core::api::{AskPlan, ObjectChange, PlanCounts, PlanDocument, PlanGroup, PlanObject};

use super::{Context, render};
use crate::args::{Format, PlanArgs};
use crate::client::{Answer, Route};
use crate::failure::{Exit, Failure, unless_unread};
use crate::output::progress::Waiting;
use crate::output::{print, short_commit};

pub(super) async fn run(context: &Context, arguments: &PlanArgs) -> anyhow::Result<Exit> {
    let format @ (Format::Table | Format::Markdown | Format::Json) = context.output.format().unwrap_or(Format::Table)
    else {
        return Err(Failure::usage("this command prints `pretty`, `markdown` or `json`").hint("change `-o`").into());
    };
    let name = &arguments.target;
    let spec = match &arguments.file {
        Some(file) => {
            let document = render::read_target(file)?;
            if document.metadata.name != *name {
                let said =
                    format!("`{}` is target {}, and {name} is to be planned", file.display(), document.metadata.name);
                return Err(Failure::usage(said).hint("name the target of the file").into());
            }
            Some(document.spec)
        }
        None => None,
    };
    let (reference, dry_run) = (arguments.reference(), arguments.asks());
    let body = AskPlan { reference, spec, dry_run, dry_run_clusters: arguments.dry_run_clusters };
    let route = Route::named("targets", name).then("plan");
    let asked = context.client.post::<PlanDocument>(&route, &body);
    let answer = Waiting::during(&format!("rendered for the clusters of {name}, and compared"), asked).await?;
    unless_unread(show(context, format, &answer))?;
    Ok(exit(&answer.document, arguments.exit_code))
}

fn show(context: &Context, format: Format, answer: &Answer<PlanDocument>) -> anyhow::Result<()> {
    match format {
        Format::Json => print(&serde_json::to_string_pretty(&answer.json)?),
        Format::Markdown => print(&markdown::draw(&answer.document)),
        _ => print(&pretty::draw(&answer.document, context.output.style())),
    }
}

fn exit(plan: &PlanDocument, is_verdict: bool) -> Exit {
    let is_refused = plan.dry_run.as_ref().is_some_and(|dry_run| dry_run.refused);
    if !plan.unplanned.is_empty() || is_refused {
        return Exit::Failed;
    }
    if is_verdict && plan.differs { Exit::Changes } else { Exit::Done }
}

/// `3 clusters`, `1 cluster`.
fn number(count: usize, of: &str) -> String {
    format!("{count} {of}{}", if count == 1 { "" } else { "s" })
}

/// So many of the names; the others are counted.
fn named(names: &[Name], most: usize, told: impl Fn(&str) -> String) -> String {
    let first: Vec<_> = names.iter().take(most).map(|name| told(name.as_str())).collect();
    match names.len().saturating_sub(most) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// `the same change in 37 clusters`.
fn headline(group: &PlanGroup) -> String {
    let clusters = number(group.clusters.len(), "cluster");
    match (group.counts.is_any(), group.first_install, group.clusters.len()) {
        (false, ..) => format!("nothing changes in {clusters}"),
        (true, true, 1) => format!("installed in {clusters} for the first time"),
        (true, true, _) => format!("installed in the same way in {clusters} for the first time"),
        (true, false, 1) => format!("a change in {clusters}"),
        (true, false, _) => format!("the same change in {clusters}"),
    }
}

/// `1 created, 2 changed`.
fn counted(counts: &PlanCounts) -> String {
    let all = [
        (Some(counts.created), "created"),
        (Some(counts.changed), "changed"),
        (Some(counts.moved), "moved"),
        (Some(counts.pruned), "pruned"),
        (Some(counts.left), "left as it is"),
        (counts.unchanged, "unchanged"),
    ];
    let said: Vec<_> = all
        .into_iter()
        .filter_map(|(count, word)| Some(format!("{} {word}", count.filter(|count| *count > 0)?)))
        .collect();
    said.join(", ")
}

/// From what it is compared with: `0922e9ca in 2 clusters, nothing in 1 cluster`.
fn base(plan: &PlanDocument) -> String {
    let said = plan.base.iter().map(|base| {
        let commit = base.commit.as_deref().map_or("nothing", short_commit);
        format!("{commit} in {}", number(base.clusters, "cluster"))
    });
    said.collect::<Vec<_>>().join(", ")
}

const AGAINST: &str = "against what the clusters are assigned, not against what they hold";

fn restarts(group: &PlanGroup) -> impl Iterator<Item = &PlanObject> {
    group.objects.iter().filter(|object| object.restarts)
}

fn hooks(group: &PlanGroup) -> impl Iterator<Item = &PlanObject> {
    let runs = |object: &&PlanObject| matches!(object.change, ObjectChange::Created | ObjectChange::Changed);
    group.objects.iter().filter(|object| object.hook.is_some()).filter(runs)
}

#[cfg(test)]
mod tests {
    use bellwether_core::api::PlanDryRuns;
    use serde_json::json;

    use super::*;

    pub(super) fn plan() -> PlanDocument {
        let object = |kind: &str, name: &str, change: &str, fields: serde_json::Value| json!({"apiVersion": "v1", "kind": kind, "namespace": "shop", "name": name, "change": change, "fields": fields});
        let mut web = object(
            "Deployment",
            "web",
            "changed",
            json!([
                {"pointer": "/spec/template/spec/containers/0/image", "before": "shop:1", "after": "shop:2"},
                {"pointer": "/metadata/annotations/checksum~1secret", "before": "(hidden)", "after": "(hidden)", "hidden": true},
            ]),
        );
        web["restarts"] = true.into();
        let texts = json!([{"pointer": "/data/a.conf", "before": "a\nb\nc", "after": "a\nx\nc", "line": 7}]);
        let mut migrate = object("Job", "migrate", "created", json!([{"pointer": "", "after": {"kind": "Job"}}]));
        migrate["hook"] = "before".into();
        let objects = json!([
            object("ConfigMap", "settings", "changed", texts),
            object("ConfigMap", "old", "pruned", json!([])),
            web,
            migrate,
        ]);
        let counts = json!({"created": 1, "changed": 2, "pruned": 1, "unchanged": 9});
        serde_json::from_value(json!({
            "target": "shop", "comparedWith": "assigned",
            "base": [{"commit": "0123456789abcdef", "clusters": 2}, {"commit": null, "clusters": 1}],
            "head": {"repo": "apps", "ref": "refs/heads/feature", "commit": "fedcba9876543210", "subject": "Make it `better` @all"},
            "differs": true, "specChanges": ["rollout"],
            "holds": [{"code": "revision_unsigned", "message": "commit fedcba98 is not signed", "hint": "sign it"}],
            "groups": [
                {"clusters": ["a", "b"], "counts": counts, "objects": objects},
                {"clusters": ["c"], "counts": {"unchanged": 12}, "objects": []},
            ],
            "waves": [{"name": "canary", "clusters": ["a"], "concurrentMax": 1, "healthyMin": 1, "soakSeconds": 30},
                {"name": "rest", "clusters": ["b"], "concurrentMax": 1, "healthyMin": 1, "soakSeconds": 0}],
            "unselected": ["d"],
            "unplanned": [{"clusters": ["e"], "condition": {"code": "variable_unset", "message": "`x` is not set", "file": "shop/a.yaml", "line": 3}}],
        }))
        .expect("a plan")
    }

    #[test]
    fn the_exit_code_says_whether_something_changes_where_it_is_asked_to() {
        let broken = plan();
        let whole = PlanDocument { unplanned: Vec::new(), ..plan() };
        let same = PlanDocument { differs: false, ..whole.clone() };

        assert_eq!(
            [exit(&whole, true), exit(&same, true), exit(&whole, false)],
            [Exit::Changes, Exit::Done, Exit::Done]
        );
        assert_eq!([exit(&broken, true), exit(&broken, false)], [Exit::Failed, Exit::Failed]);
        let refused = Some(PlanDryRuns { refused: true, ..PlanDryRuns::default() });
        let refused = PlanDocument { dry_run: refused, ..same };
        assert_eq!([exit(&refused, true), exit(&refused, false)], [Exit::Failed, Exit::Failed]);
    }
}
