//! A plan for a person at a terminal.

use bellwether_core::Condition;
use bellwether_core::api::{HookTime, PlanDocument, PlanGroup, PlanWave};
use owo_colors::OwoColorize as _;

use super::tried::{self, Weight};
use super::{AGAINST, base, counted, diff, headline, hooks, named, number, restarts};
use crate::failure::condition_text;
use crate::output::{Style, short_commit, visible_line};

/// Clusters that are named in a line; `-o json` has all of them.
const NAMED_MAX: usize = 10;

pub(super) fn draw(plan: &PlanDocument, style: Style) -> String {
    let head = &plan.head;
    let (commit, subject) = (short_commit(&head.commit), &head.subject);
    let mut lines = vec![
        visible_line(&format!("{}: {} {} at {commit} \"{subject}\"", plan.target, head.repo, head.reference)),
        format!("{AGAINST}: {}", base(plan)),
    ];
    let left_out: Vec<_> = plan.left_out_hooks.iter().map(ToString::to_string).collect();
    let lists = [
        ("the spec changes", plan.spec_changes.join(", ")),
        ("newly selected", named(&plan.selected, NAMED_MAX, str::to_owned)),
        ("no longer selected, and goes on with what it has", named(&plan.unselected, NAMED_MAX, str::to_owned)),
        ("hooks that no cluster gets", left_out.join(", ")),
        ("note", plan.notes.join("; ")),
    ];
    let lists = lists.into_iter().filter(|(_, text)| !text.is_empty());
    lines.extend(lists.map(|(title, text)| visible_line(&format!("{title}: {text}"))));
    for condition in &plan.holds {
        draw_condition("would not roll out", condition, style, &mut lines);
    }
    for one in &plan.unplanned {
        let clusters = named(&one.clusters, NAMED_MAX, str::to_owned);
        draw_condition(&format!("not known for {clusters}"), &one.condition, style, &mut lines);
    }
    lines.extend(tried::silent(plan, NAMED_MAX, str::to_owned).iter().map(|line| visible_line(line)));
    for group in &plan.groups {
        lines.push(String::new());
        draw_group(group, style, &mut lines);
    }
    if plan.more_groups > 0 {
        lines.push(format!("\nand {} further kinds of change, which are not shown", plan.more_groups));
    }
    if !plan.waves.is_empty() {
        lines.push("\nwaves:".to_owned());
        lines.extend(plan.waves.iter().map(|wave| visible_line(&format!("  {}", wave_line(wave)))));
    }
    lines.join("\n")
}

fn draw_condition(title: &str, condition: &Condition, style: Style, lines: &mut Vec<String>) {
    let said = format!("{title}: {} ({})", condition_text(condition), condition.code);
    lines.push(toned(&said, style, Tone::Bad));
    lines.extend(condition.hint.iter().map(|hint| visible_line(&format!("  hint: {hint}"))));
}

fn draw_group(group: &PlanGroup, style: Style, lines: &mut Vec<String>) {
    let title = format!("{}: {}", headline(group), named(&group.clusters, NAMED_MAX, str::to_owned));
    lines.push(toned(&title, style, Tone::Title));
    let counts = counted(&group.counts);
    if !counts.is_empty() {
        lines.push(format!("  {counts}"));
    }
    for object in restarts(group) {
        lines.push(visible_line(&format!("  pods are made anew: {}", object.key)));
    }
    for object in hooks(group) {
        let when = if object.hook == Some(HookTime::Before) { "before the rest" } else { "once the rest is healthy" };
        lines.push(visible_line(&format!("  runs {when}: {}", object.key)));
    }
    for object in &group.objects {
        lines.extend(diff::lines(object).iter().map(|line| {
            let tone = match line.as_bytes().first() {
                Some(b'+') => Tone::Added,
                Some(b'-') => Tone::Removed,
                Some(b'@') => Tone::Place,
                _ => Tone::Plain,
            };
            format!("  {}", toned(line, style, tone))
        }));
    }
    if group.more_objects > 0 {
        lines.push(format!("  and {}, which are not shown", number(group.more_objects, "further object")));
    }
    let said = group.dry_run.iter().flat_map(|said| tried::lines(said, group.clusters.len()));
    lines.extend(said.map(|(line, weight)| {
        let tone = if weight == Weight::Bad { Tone::Bad } else { Tone::Plain };
        format!("  {}", toned(&line, style, tone))
    }));
}

pub(super) fn wave_line(wave: &PlanWave) -> String {
    if wave.clusters.is_empty() {
        return format!("{}: selects no cluster, and holds the rollout", wave.name);
    }
    let soak = if wave.soak_seconds > 0 { format!(", soaks {}s", wave.soak_seconds) } else { String::new() };
    let (clusters, most) = (named(&wave.clusters, NAMED_MAX, str::to_owned), wave.concurrent_max);
    format!("{}: {clusters} ({most} at once, {} healthy to pass{soak})", wave.name, wave.healthy_min)
}

#[derive(Clone, Copy)]
enum Tone {
    Plain,
    Title,
    Bad,
    Added,
    Removed,
    Place,
}

fn toned(text: &str, style: Style, tone: Tone) -> String {
    let text = visible_line(text);
    if !style.color {
        return text;
    }
    match tone {
        Tone::Plain => text,
        Tone::Title => text.bold().to_string(),
        Tone::Bad | Tone::Removed => text.red().to_string(),
        Tone::Added => text.green().to_string(),
        Tone::Place => text.cyan().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn a_plan_is_told_by_its_groups_with_what_differs_and_its_waves() {
        insta::assert_snapshot!(draw(&plan(), Style::default()), @r#"
        shop: apps refs/heads/feature at fedcba98 "Make it `better` @all"
        against what the clusters are assigned, not against what they hold: 01234567 in 2 clusters, nothing in 1 cluster
        the spec changes: rollout
        no longer selected, and goes on with what it has: d
        would not roll out: commit fedcba98 is not signed (revision_unsigned)
          hint: sign it
        not known for e: `x` is not set (shop/a.yaml:3) (variable_unset)

        the same change in 2 clusters: a, b
          1 created, 2 changed, 1 pruned, 9 unchanged
          pods are made anew: Deployment shop/web
          runs before the rest: Job shop/migrate
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

        nothing changes in 1 cluster: c
          12 unchanged

        waves:
          canary: a (1 at once, 1 healthy to pass, soaks 30s)
          rest: b (1 at once, 1 healthy to pass)
        "#);
    }
}
