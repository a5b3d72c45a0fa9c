//! A plan as a comment of a pull request. What files say stands in code only, so that it neither calls anybody nor ends the
//! place that it stands in.

use std::fmt::Write as _;

use bellwether_core::Condition;
use bellwether_core::api::{HookTime, PlanDocument, PlanGroup, PlanWave};

use super::pretty::wave_line;
use super::tried::{self, Weight};
use super::{AGAINST, base, counted, diff, headline, hooks, named, number, restarts};
use crate::failure::condition_text;
use crate::output::{short_commit, visible_line};

/// GitHub takes 65,536 characters, and counts some as several.
const BYTES_MAX: usize = 60_000;

/// Left for how a section that is cut ends, and for the last line.
const ENDING: usize = 600;

/// Of each list; a comment is no report.
const NAMED_MAX: usize = 20;
const LISTED_MAX: usize = 5;

pub(super) fn draw(plan: &PlanDocument) -> String {
    let mut text = head(plan);
    let mut left_out = plan.more_groups;
    for (place, group) in plan.groups.iter().enumerate() {
        let room = BYTES_MAX.saturating_sub(text.len() + ENDING);
        match section(group, room) {
            Some(section) => text.push_str(&section),
            None => {
                left_out += plan.groups.len() - place;
                break;
            }
        }
    }
    if left_out > 0 {
        let which = if left_out == 1 { "kind of change is" } else { "kinds of change are" };
        let _ = write!(text, "\n{left_out} further {which} left out here.\n");
    }
    text
}

/// All but the groups; its lists are short.
fn head(plan: &PlanDocument) -> String {
    let head = &plan.head;
    let what = if plan.differs { "something changes" } else { "nothing changes" };
    let mut lines = vec![
        format!("### Plan of {}: {what}", code(plan.target.as_str())),
        String::new(),
        format!(
            "{} {} at {} {}, {AGAINST} ({}).",
            code(head.repo.as_str()),
            code(&head.reference),
            code(short_commit(&head.commit)),
            code(&head.subject),
            base(plan)
        ),
        String::new(),
    ];
    let mut list = |title: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("- {title}: {text}"));
        }
    };
    list("the spec changes", plan.spec_changes.iter().map(|name| code(name)).collect::<Vec<_>>().join(", "));
    list("newly selected", named(&plan.selected, NAMED_MAX, code));
    list("no longer selected, and goes on with what it has", named(&plan.unselected, NAMED_MAX, code));
    list("note", plan.notes.iter().map(|note| code(note)).collect::<Vec<_>>().join("; "));
    let hooks = plan.left_out_hooks.iter().take(LISTED_MAX).map(|hook| code(&hook.to_string()));
    list("hooks that no cluster gets", hooks.collect::<Vec<_>>().join(", "));
    for condition in plan.holds.iter().take(LISTED_MAX) {
        list("**would not roll out**", said(condition));
    }
    for one in plan.unplanned.iter().take(LISTED_MAX) {
        list("**not known**", format!("for {}: {}", named(&one.clusters, NAMED_MAX, code), said(&one.condition)));
    }
    for line in tried::silent(plan, LISTED_MAX, str::to_owned).iter().take(LISTED_MAX) {
        list("API servers", code(line));
    }
    for wave in plan.waves.iter().take(NAMED_MAX) {
        list("wave", code(&wave_line(wave)));
    }
    let more = |all: &[PlanWave]| all.len().saturating_sub(NAMED_MAX);
    if more(&plan.waves) > 0 {
        list("wave", number(more(&plan.waves), "further one"));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn said(condition: &Condition) -> String {
    let hint = condition.hint.as_ref().map(|hint| format!("; hint: {}", code(hint))).unwrap_or_default();
    format!("{} ({}){hint}", code(&condition_text(condition)), code(&condition.code))
}

/// `None`: there is no room for anything of it.
fn section(group: &PlanGroup, room: usize) -> Option<String> {
    let title = format!("{}: {}", headline(group), counted(&group.counts));
    let mut text = format!("\n<details><summary>{title}</summary>\n\n{}\n", named(&group.clusters, NAMED_MAX, code));
    let restarts = restarts(group).map(|object| format!("- pods are made anew: {}\n", code(&object.key.to_string())));
    let hooks = hooks(group).map(|object| {
        let when = if object.hook == Some(HookTime::Before) { "before the rest" } else { "once the rest is healthy" };
        format!("- runs {when}: {}\n", code(&object.key.to_string()))
    });
    let listed: String = restarts.chain(hooks).take(NAMED_MAX).collect();
    if !listed.is_empty() {
        text.push('\n');
        text.push_str(&listed);
    }
    let said = group.dry_run.iter().flat_map(|said| tried::lines(said, group.clusters.len()));
    // First: somebody may have to do something about it.
    let said = said.map(|(line, weight)| format!("{} {line}", if weight == Weight::Bad { '!' } else { '#' }));
    let lines: Vec<_> = said.chain(group.objects.iter().flat_map(diff::lines)).collect();
    if !lines.is_empty() {
        let fence = fence(&lines);
        let _ = write!(text, "\n{fence}diff\n");
        let mut room = room.checked_sub(text.len() + fence.len())?;
        let mut shown = 0;
        for line in &lines {
            let Some(rest) = room.checked_sub(line.len() + 1) else { break };
            room = rest;
            text.push_str(line);
            text.push('\n');
            shown += 1;
        }
        let _ = writeln!(text, "{fence}");
        if shown < lines.len() {
            let _ = write!(text, "\n{} of it are left out here.\n", number(lines.len() - shown, "line"));
        }
    }
    if group.more_objects > 0 {
        let _ = write!(text, "\n{} are left out.\n", number(group.more_objects, "further object"));
    }
    text.push_str("\n</details>\n");
    (text.len() <= room + ENDING / 2).then_some(text)
}

/// Longer than whatever is like one in the lines.
fn fence(lines: &[String]) -> String {
    let run = |line: &String| line.split(|character| character != '`').map(str::len).max().unwrap_or_default();
    "`".repeat(lines.iter().map(run).max().unwrap_or_default().max(2) + 1)
}

/// In a line, as code: nobody is mentioned and nothing is marked up in it.
fn code(text: &str) -> String {
    let text = visible_line(text).replace('`', "'");
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::plan;
    use super::*;

    #[test]
    fn a_comment_has_a_fold_for_each_group() {
        insta::assert_snapshot!(draw(&plan()), @r#"
        ### Plan of `shop`: something changes

        `apps` `refs/heads/feature` at `fedcba98` `Make it 'better' @all`, against what the clusters are assigned, not against what they hold (01234567 in 2 clusters, nothing in 1 cluster).

        - the spec changes: `rollout`
        - no longer selected, and goes on with what it has: `d`
        - **would not roll out**: `commit fedcba98 is not signed` (`revision_unsigned`); hint: `sign it`
        - **not known**: for `e`: `'x' is not set (shop/a.yaml:3)` (`variable_unset`)
        - wave: `canary: a (1 at once, 1 healthy to pass, soaks 30s)`
        - wave: `rest: b (1 at once, 1 healthy to pass)`

        <details><summary>the same change in 2 clusters: 1 created, 2 changed, 1 pruned, 9 unchanged</summary>

        `a`, `b`

        - pods are made anew: `Deployment shop/web`
        - runs before the rest: `Job shop/migrate`

        ```diff
        --- ConfigMap shop/settings
        +++ ConfigMap shop/settings
        @@ /data/a.conf line 7 @@
         a
        -b
        +x
         c
        --- ConfigMap shop/old
        +++ (deleted)
        --- Deployment shop/web
        +++ Deployment shop/web
        @@ /spec/template/spec/containers/0/image @@
        -"shop:1"
        +"shop:2"
        @@ /metadata/annotations/checksum~1secret @@ hidden
        -"(hidden)"
        +"(hidden)"
        --- (new)
        +++ Job shop/migrate
        +kind: Job
        ```

        </details>

        <details><summary>nothing changes in 1 cluster: 12 unchanged</summary>

        `c`

        </details>
        "#);
    }

    #[test]
    fn what_a_file_says_ends_no_fence_and_calls_nobody() {
        let mut plan = plan();
        "x ` @everyone <img src=x>".clone_into(&mut plan.head.subject);
        let field = &mut plan.groups[0].objects[0].fields[0];
        field.after = Some(json!("a\n````\n</details>\n@everyone\n~~~\nc"));

        let text = draw(&plan);

        assert!(text.contains("\n`````diff\n"), "{text}");
        assert!(text.contains("`x ' @everyone <img src=x>`"), "{text}");
        let told = text.lines().filter(|line| line.contains("@everyone"));
        assert!(told.clone().count() == 2 && told.into_iter().all(|line| line.contains('`') || line.starts_with('+')));
    }

    #[test]
    fn a_comment_fits_whatever_is_planned_and_says_what_is_left_out() {
        let mut plan = plan();
        let group = plan.groups[0].clone();
        let lines = (0..500).map(|at| format!("line {at} {}", "x".repeat(200))).collect::<Vec<_>>().join("\n");
        for place in 0..60 {
            let mut group = group.clone();
            group.clusters = (0..500).map(|at| format!("cluster-{place}-{at}").parse().expect("a name")).collect();
            group.objects[0].fields[0].after = Some(json!(lines));
            plan.groups.push(group);
        }

        let text = draw(&plan);

        assert!(text.len() <= BYTES_MAX, "{}", text.len());
        assert!(text.contains("of it are left out here"), "{text}");
        assert!(text.trim_end().ends_with("kinds of change are left out here."), "{}", &text[text.len() - 500..]);
        assert_eq!(text.matches("<details>").count(), text.matches("\n</details>").count());
    }
}
