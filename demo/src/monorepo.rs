//! The benchmark `monorepo`: what one commit costs in a repo of 50,000 files that 2,000 targets are read from.
//!
//! The cluster is simulated, so that nothing is measured but the hub. What it decides by a fetch is the time of its source
//! stage without the fetch itself; what it renders for that, it counts.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::bench::{Milliseconds, Outcome, build};
use crate::ground::{Ground, Place};
use crate::sample::Sample;
use crate::show::Show;
use bellwether_e2e::harness::eventually;

/// Targets with a folder of their own, and files in it that are read and that are not.
const APPS: usize = 1_960;
const MANIFESTS: usize = 5;
const SOURCES: usize = 20;
/// Targets that share a base.
const OVERLAYS: usize = 40;
const TARGETS: usize = APPS + OVERLAYS;
/// The rest are pages that nobody reads.
const FILES: usize = 50_000;

const COMMITS: usize = 20;
const COMMITS_OF_THE_BASE: usize = 5;
const WARM_UP: usize = 3;
/// In one `bellwether apply`.
const APPLIED_AT_ONCE: usize = 200;
/// A debug build renders a target in a few hundredths of a second.
const PATIENCE: Duration = Duration::from_mins(15);

/// What the hub has counted.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    fetches: f64,
    fetched_ms: f64,
    source_ms: f64,
    bundle_ms: f64,
    made: f64,
    reused: f64,
}

impl Figures {
    async fn read(ground: &Ground) -> Result<Self> {
        let text = ground.api.metrics().await?;
        let ms = |name: &str| Ok::<_, anyhow::Error>(figure(&text, name)? * 1e3);
        Ok(Self {
            fetches: figure(&text, "bellwether_fetch_seconds_count")?,
            fetched_ms: ms("bellwether_fetch_seconds_sum")?,
            source_ms: ms("bellwether_stage_duration_seconds_sum{stage=\"source\"}")?,
            bundle_ms: ms("bellwether_stage_duration_seconds_sum{stage=\"bundle\"}")?,
            made: figure(&text, "bellwether_renders_total{result=\"made\"}")?,
            reused: figure(&text, "bellwether_renders_total{result=\"reused\"}")?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            fetches: self.fetches - before.fetches,
            fetched_ms: self.fetched_ms - before.fetched_ms,
            source_ms: self.source_ms - before.source_ms,
            bundle_ms: self.bundle_ms - before.bundle_ms,
            made: self.made - before.made,
            reused: self.reused - before.reused,
        }
    }

    fn decided_ms(self) -> f64 {
        self.source_ms - self.fetched_ms
    }
}

/// One that is not there has not been counted yet.
pub(crate) fn figure(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(Ok(0.0), |value| value.trim().parse().context("a figure is a number"))
}

/// Measures on a state folder of its own.
pub async fn monorepo(state: &Path) -> Result<Outcome> {
    let mut show = Show::begin();
    let ground = Ground::start(state, &Place::Own(0), Sample::played(), &[], &mut show).await?;
    ground.simulate_cluster().await?;
    for (path, content) in files() {
        ground.tree.write(&path, &content)?;
    }
    ground.tree.commit("Begin").await?;
    ground.tree.push().await?;
    show.done(format_args!("{FILES} files are pushed"));
    ground.apply_all(&targets(), APPLIED_AT_ONCE, &mut show).await?;
    eventually(PATIENCE, "all are rendered", async || {
        let made = Figures::read(&ground).await?.made;
        ensure!(made >= count(TARGETS), "{made} are");
        Ok(())
    })
    .await?;
    ground.wait_for_rest(PATIENCE).await?;
    show.done(format_args!("{TARGETS} targets are rendered and rolled out"));

    let mut of_one = Vec::new();
    show.step("commits of one file that one target reads", COMMITS + WARM_UP);
    for number in 0..COMMITS + WARM_UP {
        let path = format!("apps/{}/deploy/part-1.yaml", app(1 + number * 7));
        let change = commit(&ground, &path, &config_map("part-1", &format!("changed-{number}")), 1).await?;
        show.advance();
        if number >= WARM_UP {
            of_one.push(change);
        }
    }
    show.done(format_args!("{COMMITS} commits of one file that one target reads"));
    let mut unread = Vec::new();
    for number in 0..COMMITS_OF_THE_BASE {
        unread.push(commit(&ground, &format!("apps/{}/src/file-1.txt", app(1)), &format!("{number}\n"), 0).await?);
    }
    let mut of_base = Vec::new();
    for number in 0..COMMITS_OF_THE_BASE {
        let text = config_map("shared", &format!("changed-{number}"));
        of_base.push(commit(&ground, "base/shared.yaml", &text, OVERLAYS).await?);
    }
    show.done(format_args!("{COMMITS_OF_THE_BASE} commits that nobody reads, and as many of what {OVERLAYS} share"));
    outcome(&ground, &of_one, &unread, &of_base)
}

/// Pushes one changed file, and waits until the hub has dealt with it.
async fn commit(ground: &Ground, path: &str, content: &str, renders: usize) -> Result<Figures> {
    let before = Figures::read(ground).await?;
    ground.push("Change one file", &[(path, content)]).await?;
    eventually(PATIENCE, "the commit is dealt with", async || {
        let change = Figures::read(ground).await?.since(before);
        ensure!(change.fetches >= 1.0 && change.made >= count(renders), "{change:?}");
        Ok(())
    })
    .await?;
    ground.wait_for_rest(PATIENCE).await?;
    Ok(Figures::read(ground).await?.since(before))
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

fn app(number: usize) -> String {
    format!("app-{number:04}")
}

fn overlay(number: usize) -> String {
    format!("site-{number:02}")
}

fn config_map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: {value}}}\n")
}

fn files() -> Vec<(String, String)> {
    let mut files = Vec::with_capacity(FILES);
    for number in 1..=APPS {
        let folder = format!("apps/{}", app(number));
        files.extend((1..=MANIFESTS).map(|part| {
            (format!("{folder}/deploy/part-{part}.yaml"), config_map(&format!("part-{part}"), &app(number)))
        }));
        files.extend((1..=SOURCES).map(|file| (format!("{folder}/src/file-{file}.txt"), format!("{number} {file}\n"))));
    }
    files.push(("base/kustomization.yaml".to_owned(), "resources: [shared.yaml]\n".to_owned()));
    files.push(("base/shared.yaml".to_owned(), config_map("shared", "first")));
    for number in 1..=OVERLAYS {
        let text = format!("resources: [../../base]\nnamePrefix: {}-\n", overlay(number));
        files.push((format!("overlays/{}/kustomization.yaml", overlay(number)), text));
    }
    let pages = FILES - files.len();
    files.extend((0..pages).map(|page| (format!("docs/chapter-{:02}/page-{page}.md", page % 50), format!("{page}\n"))));
    files
}

fn targets() -> Vec<String> {
    let target = |name: String, path: String| {
        format!(
            "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {{name: {name}}}\n\
             spec: {{repo: apps, path: {path}, namespace: {name}, rollout: {{waves: [{{name: all}}]}}}}\n"
        )
    };
    let apps = (1..=APPS).map(|number| target(app(number), format!("apps/{}/deploy", app(number))));
    let overlays = (1..=OVERLAYS).map(|number| target(overlay(number), format!("overlays/{}", overlay(number))));
    apps.chain(overlays).collect()
}

fn outcome(ground: &Ground, of_one: &[Figures], unread: &[Figures], of_base: &[Figures]) -> Result<Outcome> {
    let steps = [
        ("one file of one target", of_one),
        ("one file that nobody reads", unread),
        ("what 40 overlays share", of_base),
    ];
    let mut table = format!(
        "{:28} {:>14} {:>14} {:>14} {:>10} {:>10}\n",
        "a commit of", "decide ms p50", "p99", "render ms p50", "rendered", "looked at"
    );
    let mut metrics = serde_json::Map::new();
    for (name, changes) in steps {
        let of = |value: fn(&Figures) -> f64| changes.iter().map(value).collect::<Vec<_>>();
        let (decided, bundled) =
            (Milliseconds::of(&of(|it| it.decided_ms()))?, Milliseconds::of(&of(|it| it.bundle_ms))?);
        let most = |values: Vec<f64>| values.into_iter().fold(0.0, f64::max);
        let (made, seen) = (most(of(|it| it.made)), most(of(|it| it.made + it.reused)));
        writeln!(
            table,
            "{name:28} {:>14.1} {:>14.1} {:>14.1} {made:>10} {seen:>10}",
            decided.p50, decided.p99, bundled.p50
        )?;
        let document =
            json!({"decide_ms": decided, "bundle_ms": bundled, "rendered_most": made, "looked_at_most": seen});
        metrics.insert(name.replace(' ', "_"), document);
    }
    let memory = ground.memory.peaks().rss().hub;
    writeln!(table, "hub, at most: {memory} MB")?;
    metrics.insert("hub_mb".to_owned(), json!(memory));
    let conditions = json!({
        "build": build(), "files": FILES, "targets": TARGETS, "overlays_of_one_base": OVERLAYS, "clusters": "1, simulated",
        "commits": COMMITS, "cores": std::thread::available_parallelism().map_or(0, usize::from), "percentiles": "nearest rank",
    });
    Ok(Outcome { table, document: json!({"bench": "monorepo", "conditions": conditions, "metrics": metrics}) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repo_has_the_files_and_the_targets_that_are_told() {
        let (files, targets) = (files(), targets());

        assert_eq!((files.len(), targets.len()), (50_000, 2_000));
        let paths: std::collections::BTreeSet<_> = files.iter().map(|(path, _)| path).collect();
        assert_eq!(paths.len(), files.len(), "each once");
    }
}
