//! The steps of the demo, each seen to hold or not.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::evidence::{self, Edit, Pushed, Run, Waves, Window, read_api_audit};
use crate::figures::{Audit, BadChange, Figures, Spread, ms_between, whole};
use crate::ground::{AGENT_USER, Ground, PATIENCE, cluster_name, now_unix_ns, timestamp};
use crate::sample::{self, NOTES, NOTES_TEXT, Nodes, PRUNED, PULSE, SHOP};
use crate::show::Show;
use bellwether_e2e::controlplane;
use bellwether_e2e::git_server::Push;
use bellwether_e2e::harness::eventually;
use bellwether_e2e::options::programs_folder;

/// Pushes and edits that are measured.
const SAMPLES: usize = 20;
const REFRESHES: usize = 10;
/// What an agent still has to ask or to write down because of the last change, it has by then: it writes what it learned
/// at most once in five seconds.
const QUIET: Duration = Duration::from_secs(6);
/// After a hub is back: whatever an agent asks its API server for because of that, it has asked by then.
const SETTLE: Duration = Duration::from_secs(3);

/// For people who stay.
const TO_TRY: &str = "
  bellwether status
  bellwether rollout list
  bellwether audit list --since 10m
  git clone \"$GIT_URL\" apps      # edit shop/app.yaml, commit, push …
  bellwether rollout watch shop   # … and see it cross the fleet
  kubectl --kubeconfig \"$KUBECONFIG_1\" -n shop get all
";

/// A demo that goes on.
#[derive(Debug)]
pub struct Demo<'a> {
    ground: &'a mut Ground,
    show: &'a mut Show,
    run: Run,
    pub figures: Figures,
    /// What did not hold.
    pub failures: Vec<String>,
}

impl<'a> Demo<'a> {
    pub fn new(ground: &'a mut Ground, show: &'a mut Show) -> Self {
        let clusters = ground.clusters.len();
        let run = Run { clusters, ..Run::default() };
        Self { ground, show, run, figures: Figures { clusters, ..Figures::default() }, failures: Vec::new() }
    }

    /// All steps; what a failing step leaves unmeasured stays null.
    pub async fn run(&mut self) {
        if let Err(error) = self.go().await {
            self.failures.push(format!("{error:#}"));
        }
        let peaks = self.ground.memory.peaks();
        self.figures.rss_mb = Some(peaks.rss());
        let (rss, postgres) = (peaks.rss(), peaks.postgres_mb());
        self.show.done(format_args!(
            "memory at its peak (PSS): hub {} MB, its Postgres {postgres} MB, the largest agent {} MB",
            rss.hub, rss.agent_max
        ));
    }

    pub async fn write_evidence(&self, folder: &Path) -> Result<()> {
        evidence::write(folder, self.ground, &self.run, &self.figures).await
    }

    async fn go(&mut self) -> Result<()> {
        self.join().await?;
        self.install().await?;
        self.measure_pushes().await?;
        self.roll_out_in_waves().await?;
        self.break_it().await?;
        self.drift().await?;
        self.heal_without_hub().await?;
        self.prune().await?;
        self.reconcile_without_change().await?;
        self.verify_audit().await
    }

    fn clusters(&self) -> usize {
        self.ground.clusters.len()
    }

    fn check(&mut self, holds: bool, what: &str) {
        if !holds {
            self.show.done(format_args!("FAILED: {what}"));
            self.failures.push(what.to_owned());
        }
    }

    async fn join(&mut self) -> Result<()> {
        self.show.step("clusters join, each with a single-use token", self.clusters());
        self.figures.join_ms = self.ground.join_all(self.show).await?;
        self.show.done(format_args!("{} clusters joined, in ms: {:?}", self.clusters(), self.figures.join_ms));
        Ok(())
    }

    async fn install(&mut self) -> Result<()> {
        self.show.step("the sample applications are pushed, and roll out for the first time", 2);
        let [spring, summer] = PRUNED;
        let files = [
            ("shop/app.yaml", sample::shop(&self.ground.sample, "shop-1", Nodes::Any)),
            ("shop/notes.yaml", NOTES.map(|name| sample::text(name, NOTES_TEXT)).concat()),
            (&format!("shop/{spring}.yaml"), sample::text(spring, spring)),
            (&format!("shop/{summer}.yaml"), sample::text(summer, summer)),
            ("pulse/app.yaml", sample::pulse(&self.ground.sample, "pulse-0")),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let push = self.ground.push("Add the shop and the pulse", &files).await?;
        self.ground.apply(SHOP, sample::SHOP_TARGET).await?;
        self.ground.apply(PULSE, sample::PULSE_TARGET).await?;
        for target in [SHOP, PULSE] {
            self.ground.wait_for_rollout(target, &push.commit, &["done"]).await?;
            self.show.advance();
        }
        self.ground.stamps.wait_for("shop-1", self.clusters(), 0, PATIENCE).await?;
        self.show.done("the sample applications run everywhere, and are healthy");
        Ok(())
    }

    async fn beat(&self, value: &str) -> Result<Push> {
        self.ground.push("Beat", &[("pulse/app.yaml", &sample::pulse(&self.ground.sample, value))]).await
    }

    async fn push_shop(&self, what: &str, version: &str, nodes: Nodes) -> Result<Push> {
        let text = sample::shop(&self.ground.sample, version, nodes);
        self.ground.push(&format!("shop: {what}"), &[("shop/app.yaml", &text)]).await
    }

    async fn measure_pushes(&mut self) -> Result<()> {
        self.show.step("pushes, one wave, told by webhook", SAMPLES);
        let mut pushes = Vec::new();
        let mut applied = Vec::new();
        for number in 1..=SAMPLES {
            let value = format!("pulse-{number}");
            let push = self.beat(&value).await?;
            let seen = self.ground.stamps.wait_for(&value, self.clusters(), 0, PATIENCE).await?;
            applied.push(slowest(&push, &seen));
            let rollout = self.ground.wait_for_rollout(PULSE, &push.commit, &["done"]).await?;
            self.run.pushes.push(Pushed { commit: push.commit.clone(), value });
            pushes.push((push, rollout["id"].as_str().unwrap_or_default().to_owned()));
            self.show.advance();
        }
        let healthy = healthy_ms(self.ground, PULSE, &pushes).await?;
        self.figures.push_to_applied_ms = Spread::of(&applied);
        self.figures.push_to_healthy_ms = Spread::of(&healthy);
        let around: Vec<f64> =
            pushes.iter().map(|(push, _)| ms_between(push.started_unix_ns, push.returned_unix_ns)).collect();
        let before: Vec<f64> =
            pushes.iter().map(|(push, _)| ms_between(push.started_unix_ns, push.updated_unix_ns)).collect();
        for (what, samples) in [
            ("ref update → new value in the slowest cluster", &applied),
            ("ref update → healthy everywhere", &healthy),
            ("for comparison: `git push` from start to return", &around),
            ("for comparison: `git push` from start to ref update", &before),
        ] {
            let Some(Spread { n, p50, p99 }) = Spread::of(samples) else { continue };
            self.show.done(format_args!("{what}: p50 {p50} ms, p99 {p99} ms ({n} pushes)"));
        }
        Ok(())
    }

    async fn roll_out_in_waves(&mut self) -> Result<()> {
        let value = "shop-2";
        self.show.step("a new version crosses the fleet in waves", self.clusters());
        let push = self.push_shop("Version 2", value, Nodes::Any).await?;
        let seen = self.ground.stamps.wait_for(value, self.clusters(), 0, PATIENCE).await?;
        let rollout = self.ground.wait_for_rollout(SHOP, &push.commit, &["done"]).await?;
        let canary = cluster_name(1);
        let id = rollout["id"].as_str().context("a rollout without id")?.to_owned();
        let passed = canary_passed(&self.ground.audit("&action=rollout.wave.passed").await?, &id)?;
        let first = *seen.get(&canary).context("the canary never showed it")?;
        let others: Vec<u128> = seen.iter().filter(|(name, _)| **name != canary).map(|(_, at)| *at).collect();
        let held = others.iter().all(|&at| at > first && at > passed);
        self.figures.wave_order_held = Some(held);
        self.run.waves = Some(Waves { value: value.to_owned(), canary, rollout: id });
        let wait = others.iter().min().map_or(0, |&at| whole(ms_between(first, at)));
        self.show.done(format_args!("the canary went first, the rest {wait} ms later, when it was healthy"));
        self.check(held, "the rest began before the canary had passed");
        Ok(())
    }

    async fn break_it(&mut self) -> Result<()> {
        let value = "shop-bad";
        self.show.step("a change that never becomes healthy is pushed", 1);
        let from = self.ground.stamps.seen.len();
        let push = self.push_shop("Ask for tapes", value, Nodes::None).await?;
        let rollout = self.ground.wait_for_rollout(SHOP, &push.commit, &["failed", "paused", "done"]).await?;
        let back = self.ground.stamps.find_within("shop-2", 1, from, PATIENCE).await?;
        let touched = self.ground.stamps.first(value, from).len();
        let waves = rollout["waves"].as_array().cloned().unwrap_or_default();
        let failed = waves.iter().position(|wave| wave["state"] == "failed").map_or(0, |place| place + 1);
        let members = rollout["members"].as_array().cloned().unwrap_or_default();
        let rolled_back = back.is_some() && members.iter().any(|member| member["state"] == "rolled_back");
        let seen = BadChange { stopped_in_wave: failed, clusters_touched: touched, rolled_back };
        self.figures.bad_change = Some(seen);
        self.show.done(format_args!("it was stopped in wave {failed}, {touched} cluster touched: {}", rollout["why"]));
        let right = BadChange { stopped_in_wave: 1, clusters_touched: 1, rolled_back: true };
        self.check(seen == right, "the bad change was not stopped in wave 1 and rolled back");
        let push = self.push_shop("Fix it", "shop-3", Nodes::Any).await?;
        self.ground.wait_for_rollout(SHOP, &push.commit, &["done"]).await?;
        self.show.done("fixed by the next commit");
        Ok(())
    }

    async fn drift(&mut self) -> Result<()> {
        self.show.step("somebody edits what is managed", SAMPLES);
        for number in 0..SAMPLES {
            let (cluster, note) = (number % self.clusters() + 1, NOTES[number / self.clusters() % NOTES.len()]);
            let value = format!("edit-{number}");
            let asked_unix_ns = now_unix_ns()?;
            let from = self.edit(cluster, note, &value).await?;
            self.restored(cluster, from).await.with_context(|| format!("{value} was not corrected"))?;
            let (cluster, note) = (cluster_name(cluster), note.to_owned());
            self.run.edits.push(Edit { cluster, note, value, asked_unix_ns });
            self.show.advance();
        }
        self.figures.drift_ms = Spread::of(&self.drift_samples()?);
        if let Some(Spread { n, p50, p99 }) = self.figures.drift_ms {
            self.show.done(format_args!("drift corrected: p50 {p50} ms, p99 {p99} ms ({n} edits)"));
        }
        Ok(())
    }

    /// Writes a value as somebody else, and waits until it is seen; answers the place of its stamp.
    async fn edit(&mut self, number: usize, note: &str, value: &str) -> Result<usize> {
        let maps = self.maps(number).await?;
        self.ground.stamps.read()?;
        let from = self.ground.stamps.seen.len();
        maps.patch(note, &PatchParams::default(), &Patch::Merge(json!({"data": {"text": value}}))).await?;
        self.place_of(number, value, from).await
    }

    /// Deletes a note as somebody else, and waits until that is seen; answers the place of its stamp.
    async fn delete(&mut self, number: usize, note: &str) -> Result<usize> {
        let maps = self.maps(number).await?;
        self.ground.stamps.read()?;
        let from = self.ground.stamps.seen.len();
        maps.delete(note, &DeleteParams::default()).await?;
        self.place_of(number, &format!("deleted:{SHOP}/{note}"), from).await
    }

    async fn maps(&self, number: usize) -> Result<kube::Api<ConfigMap>> {
        let mut clusters = self.ground.clusters.iter();
        let cluster = clusters.find(|cluster| cluster.number == number).context("no such cluster")?;
        Ok(kube::Api::namespaced(controlplane::client(&cluster.kubeconfig).await?, SHOP))
    }

    async fn place_of(&mut self, number: usize, value: &str, from: usize) -> Result<usize> {
        self.ground.stamps.wait_for(value, 1, from, PATIENCE).await?;
        let name = cluster_name(number);
        let is_it = |stamp: &crate::stamps::Stamp| stamp.cluster == name && stamp.value == value;
        Ok(self.ground.stamps.seen.iter().rposition(is_it).unwrap_or(from))
    }

    /// When a cluster showed Git's value again.
    async fn restored(&mut self, cluster: usize, from: usize) -> Result<u128> {
        let seen = self.ground.stamps.wait_for(NOTES_TEXT, 1, from, PATIENCE).await?;
        seen.get(&cluster_name(cluster)).copied().context("another cluster showed it")
    }

    /// From each edit to the stamp of what Git says.
    fn drift_samples(&self) -> Result<Vec<f64>> {
        let mut samples = Vec::new();
        for edit in &self.run.edits {
            let at = |value: &str, after: u128| {
                let mut seen = self.ground.stamps.seen.iter();
                let found = seen.find(|one| one.cluster == edit.cluster && one.value == value && one.unix_ns > after);
                found.map(|stamp| stamp.unix_ns).with_context(|| format!("no stamp of {value}"))
            };
            let shown = at(&edit.value, 0)?;
            samples.push(ms_between(self.edited(edit, shown)?, at(NOTES_TEXT, shown)?));
        }
        Ok(samples)
    }

    /// When the API server got an edit that was shown then; of a borrowed one, when we began to ask for it.
    fn edited(&self, edit: &Edit, shown: u128) -> Result<u128> {
        let cluster = self.ground.clusters.iter().find(|cluster| cluster_name(cluster.number) == edit.cluster);
        let Some(log) = &cluster.context("no such cluster")?.audit_log else { return Ok(edit.asked_unix_ns) };
        let log = read_api_audit(log)?;
        let mut edits = log.iter().filter(|one| one.user == "admin" && one.verb == "patch" && one.name == edit.note);
        let edited = edits.rfind(|one| one.received_unix_ns < shown).context("the edit is not in the audit log")?;
        Ok(edited.received_unix_ns)
    }

    async fn heal_without_hub(&mut self) -> Result<()> {
        self.show.step("the hub is stopped, and somebody edits and deletes what is managed", 2);
        self.ground.stop_hub().await?;
        let [edited, deleted, ..] = NOTES;
        let edited = self.edit(1, edited, "edit-without-hub").await?;
        let after_edit = self.healed_ms(edited).await?;
        let deleted = self.delete(1, deleted).await?;
        let after_delete = self.healed_ms(deleted).await?;
        self.ground.start_hub().await?;
        self.figures.hub_down_heal_ms = Some(whole(after_edit.max(after_delete)));
        self.show.done(format_args!(
            "healed without the hub: the edit in {after_edit:.0} ms, the delete in {after_delete:.0} ms"
        ));
        Ok(())
    }

    /// From a stamp of the first cluster to Git's value.
    async fn healed_ms(&mut self, from: usize) -> Result<f64> {
        let healed = self.restored(1, from).await?;
        let harmed = self.ground.stamps.seen.get(from).context("the harm has no stamp")?.unix_ns;
        self.show.advance();
        Ok(ms_between(harmed, healed))
    }

    async fn prune(&mut self) -> Result<()> {
        self.show.step("objects are removed from Git", PRUNED.len());
        for name in PRUNED {
            self.ground.tree.remove(&format!("shop/{name}.yaml"))?;
        }
        let push = self.ground.push("shop: End the coupons", &[]).await?;
        self.ground.wait_for_rollout(SHOP, &push.commit, &["done"]).await?;
        for name in PRUNED {
            self.ground.stamps.wait_for(&format!("deleted:{SHOP}/{name}"), self.clusters(), 0, PATIENCE).await?;
            self.show.advance();
        }
        let pruned = PRUNED.len();
        self.figures.pruned = Some(pruned);
        self.show.done(format_args!("{pruned} objects that left Git are gone from every cluster"));
        Ok(())
    }

    async fn reconcile_without_change(&mut self) -> Result<()> {
        if !self.ground.is_audited() {
            self.show
                .done("what agents ask while nothing changes is not counted: your API servers' audit logs are yours");
            return Ok(());
        }
        self.show.step("reconciles without a change, and a hub that restarts", REFRESHES + 1);
        self.wait_for_quiet().await?;
        let from_unix_ns = now_unix_ns()?;
        for _ in 0..REFRESHES {
            self.ground.cli().run(&["target", "refresh", SHOP]).await?.ended_with(0)?;
            self.show.advance();
        }
        self.ground.stop_hub().await?;
        self.ground.start_hub().await?;
        sleep(SETTLE).await;
        let window = Window { from_unix_ns, to_unix_ns: now_unix_ns()? };
        self.run.noop = Some(window);
        let push = self.beat("pulse-after").await?;
        self.ground.stamps.wait_for("pulse-after", self.clusters(), 0, PATIENCE).await?;
        self.ground.wait_for_rollout(PULSE, &push.commit, &["done"]).await?;
        let mut kinds = BTreeMap::new();
        let mut after = 0;
        for log in self.ground.api_audits()? {
            for request in log.iter().filter(|one| one.user == AGENT_USER && one.verb != "watch") {
                if request.received_unix_ns > window.to_unix_ns {
                    after += 1;
                } else if request.received_unix_ns >= window.from_unix_ns {
                    *kinds.entry(format!("{} {}", request.verb, request.resource)).or_insert(0) += 1;
                }
            }
        }
        let requests: usize = kinds.values().sum();
        self.figures.noop_requests = Some(requests);
        self.show.done(format_args!(
            "{requests} requests of the agents while nothing changed; {after} for the push after it"
        ));
        self.check(requests == 0, &format!("agents asked while nothing changed: {kinds:?}"));
        self.check(after > 0, "the change after the window was not seen in the API servers' audit logs");
        Ok(())
    }

    /// Until no agent has asked its API server for anything for a while.
    async fn wait_for_quiet(&self) -> Result<()> {
        eventually(PATIENCE, "the agents are quiet", async || {
            let now = now_unix_ns()?;
            for log in self.ground.api_audits()? {
                let mut recent = log.iter().filter(|one| now < one.received_unix_ns + QUIET.as_nanos());
                let asked = recent.find(|one| one.user == AGENT_USER && one.verb != "watch");
                ensure!(asked.is_none(), "{asked:?}");
            }
            Ok(())
        })
        .await
    }

    async fn verify_audit(&mut self) -> Result<()> {
        let found = eventually(PATIENCE, "the audit log is verified", async || {
            self.ground.cli().run(&["audit", "verify", "-o", "json"]).await?.ended_with(0)?.json()
        })
        .await?;
        let entries = found["entries"].as_u64().context("no number of entries")?;
        let verified = found["verified"] == true;
        self.figures.audit = Some(Audit { entries, verified });
        self.show.done(format_args!("the audit log verifies: {entries} entries"));
        self.check(verified && entries > 0, "the audit log does not verify");
        Ok(())
    }
}

/// From the ref update to the last cluster.
pub fn slowest(push: &Push, seen: &BTreeMap<String, u128>) -> f64 {
    seen.values().max().map_or(f64::INFINITY, |&at| ms_between(push.updated_unix_ns, at))
}

/// From each ref update to the audit entry that says that its rollout is done.
pub async fn healthy_ms(ground: &Ground, target: &str, pushes: &[(Push, String)]) -> Result<Vec<f64>> {
    let path = format!("&action=rollout.done&target={target}");
    eventually(PATIENCE, "the rollouts' ends are sealed", async || {
        let entries = ground.audit(&path).await?;
        let sample = |(push, rollout): &(Push, String)| {
            let done = entries.iter().find(|entry| entry["rollout"] == **rollout);
            let entry = done.with_context(|| format!("no end of rollout {rollout}"))?;
            Ok(ms_between(push.updated_unix_ns, timestamp(&entry["at"])?))
        };
        pushes.iter().map(sample).collect()
    })
    .await
}

/// When the hub says that the canaries' wave had passed.
pub fn canary_passed(entries: &[Value], rollout: &str) -> Result<u128> {
    let is_it = |entry: &&Value| entry["rollout"] == rollout && entry["detail"]["place"] == 1;
    timestamp(&entries.iter().find(is_it).context("the canary's wave did not pass")?["at"])
}

/// Where to look and what to try, for whoever stays.
pub fn invitation(ground: &Ground) -> String {
    let mut exports = vec![
        ("BELLWETHER_URL".to_owned(), ground.api.url.to_string()),
        ("BELLWETHER_TOKEN".to_owned(), ground.api.token.clone()),
        ("BELLWETHER_CA".to_owned(), ground.api.ca.display().to_string()),
        ("GIT_URL".to_owned(), ground.repo.url.clone()),
    ];
    for cluster in &ground.clusters {
        exports.push((format!("KUBECONFIG_{}", cluster.number), cluster.kubeconfig.display().to_string()));
    }
    let mut lines: Vec<String> = exports.iter().map(|(name, value)| format!("  export {name}='{value}'")).collect();
    let programs = programs_folder().unwrap_or_default();
    lines.push(format!("  export PATH='{}:{}':\"$PATH\"", ground.state.join("bin").display(), programs.display()));
    lines.push(TO_TRY.to_owned());
    lines.join("\n")
}
