//! What `apply`, `drift` and `idle` share: one cluster with its agent, many objects in many targets, as many of a bare client's
//! beside them, and whoever watches and counts.
//!
//! The bare client has an account that the API server's fairness treats as it does the agent's: an administrator's would not
//! wait in any queue. What either does is timed by the same watcher, which waits for the last object.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde_json::{Value, json};

use crate::bare::{AT_ONCE, BareClient, Prepared, deployment, service};
use crate::cpu::CpuTime;
use crate::figures::ms_between;
use crate::ground::{Ground, Place, now_unix_ns};
use crate::requests::{Asked, Requests};
use crate::sample::Sample;
use crate::show::Show;
use bellwether_e2e::controlplane;
use bellwether_e2e::harness::eventually;
use bellwether_e2e::pki::{kubeconfig_with_token, write_private};

/// A debug build beside other work takes a minute for a thousand objects.
pub(crate) const PATIENCE: Duration = Duration::from_mins(30);
/// In one `bellwether apply`.
const APPLIED_AT_ONCE: usize = 200;
const WATCHED: [&str; 3] = ["configmap:*:value", "deployment:*:bench/value", "service:*:bench/value"];
/// What an edit adds to a value.
const EDITED: &str = ".edited";
const ACCOUNT: &str = "bare-client";

/// How many objects there are, and in how many targets.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub targets: usize,
    pub objects: usize,
}

impl Size {
    /// Each target has as many as any other, or one less.
    pub fn new(targets: usize, objects: usize) -> Result<Self> {
        ensure!(targets > 0 && objects >= targets, "each target needs an object: {targets} targets, {objects} objects");
        Ok(Self { targets, objects })
    }

    fn items(self, owner: &'static str) -> Vec<Item> {
        (0..self.objects).map(|n| Item { owner, target: n % self.targets, place: n / self.targets }).collect()
    }
}

/// One of the objects. A target has a ConfigMap, a Deployment without pods, a Service, and from there on ConfigMaps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    owner: &'static str,
    target: usize,
    place: usize,
}

impl Item {
    fn namespace(&self) -> String {
        namespace(self.owner, self.target)
    }

    /// What it says in a round: no other object says it, nor does this one in another round.
    pub(crate) fn value(&self, round: usize) -> String {
        format!("{}.{}.{round}", self.namespace(), self.place)
    }

    pub(crate) const fn is_config_map(&self) -> bool {
        !matches!(self.place, 1 | 2)
    }

    fn object(&self, round: usize) -> Value {
        let (value, name) = (self.value(round), format!("part-{}", self.place));
        if self.is_config_map() {
            let metadata = json!({"name": name, "namespace": self.namespace()});
            return json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}});
        }
        let metadata = json!({"name": name, "namespace": self.namespace(), "annotations": {"bench/value": value}});
        if self.place == 1 { deployment(&metadata) } else { service(&metadata) }
    }

    pub(crate) fn prepared(&self, round: usize) -> Result<Prepared> {
        Prepared::of(self.object(round))
    }

    /// Somebody else makes something of it that stands in no round.
    pub(crate) async fn edit_by(&self, editor: &BareClient, round: usize) -> Result<()> {
        let value = self.value(round) + EDITED;
        let change = if self.is_config_map() {
            json!({"data": {"value": value}})
        } else {
            json!({"metadata": {"annotations": {"bench/value": value}}})
        };
        editor.edit(&self.prepared(round)?, &change).await
    }
}

fn namespace(owner: &str, target: usize) -> String {
    format!("{owner}-{target:04}")
}

/// From a moment until the watcher saw the first object, and the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lap {
    pub(crate) first_s: f64,
    pub(crate) last_s: f64,
}

/// When values were seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) first_unix_ns: u128,
    pub(crate) last_unix_ns: u128,
}

impl Seen {
    const NOTHING: Self = Self { first_unix_ns: u128::MAX, last_unix_ns: 0 };

    /// Stamps come from several watches, and need not be in order.
    fn note(&mut self, unix_ns: u128) {
        self.first_unix_ns = self.first_unix_ns.min(unix_ns);
        self.last_unix_ns = self.last_unix_ns.max(unix_ns);
    }

    pub(crate) fn since(self, begun_unix_ns: u128) -> Lap {
        let seconds = |at| ms_between(begun_unix_ns, at) / 1e3;
        Lap { first_s: seconds(self.first_unix_ns), last_s: seconds(self.last_unix_ns) }
    }
}

/// What came of a commit that changes all objects.
#[derive(Debug)]
pub(crate) struct Synced {
    /// From the ref's update on.
    pub(crate) lap: Lap,
    /// Until the last object was seen.
    pub(crate) cpu: CpuTime,
    /// Until the agent was at rest again.
    pub(crate) asked: Asked,
}

/// A cluster with its agent, and the clients beside it.
pub(crate) struct Load {
    pub(crate) ground: Ground,
    pub(crate) show: Show,
    pub(crate) size: Size,
    pub(crate) items: Vec<Item>,
    pub(crate) bare_items: Vec<Item>,
    pub(crate) bare: BareClient,
    pub(crate) requests: Requests,
}

impl Load {
    /// Without anything of the load yet.
    pub(crate) async fn start(state: &Path, size: Size) -> Result<Self> {
        let mut show = Show::begin();
        let ground = Ground::start(state, &Place::Own(1), Sample::played(), &WATCHED, &mut show).await?;
        show.step("the agent joins", 1);
        ground.join_all(&show).await?;
        show.done("the agent has joined");
        let bare = BareClient::of(&account(&ground).await?).await?;
        let log = ground.clusters[0].audit_log.clone().context("a cluster of ours has an audit log")?;
        let requests = Requests::of(&log)?;
        let (items, bare_items) = (size.items("shop"), size.items("bare"));
        Ok(Self { ground, show, size, items, bare_items, bare, requests })
    }

    /// Namespaces, and targets that wait for what they are rendered from.
    pub(crate) async fn prepare(&mut self) -> Result<()> {
        let names: Vec<String> =
            ["shop", "bare"].iter().flat_map(|owner| (0..self.size.targets).map(|n| namespace(owner, n))).collect();
        self.show.step("namespaces", names.len());
        let namespaces: Api<Namespace> = Api::all(controlplane::client(&self.ground.clusters[0].kubeconfig).await?);
        let (namespaces, show) = (&namespaces, &self.show);
        let made = stream::iter(names).map(Ok).try_for_each_concurrent(AT_ONCE, async |name| {
            let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
            namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await?;
            show.advance();
            anyhow::Ok(())
        });
        made.await?;
        self.ground.apply_all(&self.targets(), APPLIED_AT_ONCE, &mut self.show).await?;
        self.ground.wait_for_rest(PATIENCE).await?;
        self.show.done(format_args!("{} targets wait for their {} objects", self.size.targets, self.size.objects));
        Ok(())
    }

    fn targets(&self) -> Vec<String> {
        let target = |number| {
            let name = namespace("shop", number);
            format!(
                "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {{name: {name}}}\n\
                 spec: {{repo: apps, path: {name}, namespace: {name}, rollout: {{waves: [{{name: all}}]}}}}\n"
            )
        };
        (0..self.size.targets).map(target).collect()
    }

    /// JSON is YAML.
    fn files(&self, round: usize) -> Result<Vec<(String, String)>> {
        let mut files: Vec<_> =
            (0..self.size.targets).map(|n| (format!("{}/all.yaml", namespace("shop", n)), String::new())).collect();
        for item in &self.items {
            writeln!(files[item.target].1, "---\n{}", item.object(round))?;
        }
        Ok(files)
    }

    /// One commit, by which every object says what it does in this round.
    pub(crate) async fn sync(&mut self, round: usize) -> Result<Synced> {
        let files = self.files(round)?;
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let values = self.items.iter().map(|item| item.value(round)).collect();
        self.show.step("one commit, by way of the hub", self.size.objects);
        self.requests.take()?;
        let from = self.ground.stamps.count()?;
        let before = CpuTime::now(&self.ground.table)?;
        let push = self.ground.push(&format!("Round {round}"), &files).await?;
        let seen = self.wait_for(values, from).await?;
        let cpu = CpuTime::now(&self.ground.table)?.since(before);
        let lap = seen.since(push.updated_unix_ns);
        self.show.done(format_args!("{} objects by way of the hub: {:.2} s", self.size.objects, lap.last_s));
        self.wait_until_settled(&push.commit).await?;
        let asked = self.take_when_quiet().await?;
        Ok(Synced { lap, cpu, asked })
    }

    /// The same objects, applied by the bare client.
    pub(crate) async fn apply_bare(&mut self, round: usize) -> Result<Lap> {
        let objects = self.bare_items.iter().map(|item| item.prepared(round)).collect::<Result<Vec<_>>>()?;
        let values = self.bare_items.iter().map(|item| item.value(round)).collect();
        self.show.step("the same, by the bare client", objects.len());
        let bare = self.bare.clone();
        let from = self.ground.stamps.count()?;
        let begun = now_unix_ns()?;
        let ((), seen) = try_join(bare.apply_all(&objects), self.wait_for(values, from)).await?;
        let lap = seen.since(begun);
        self.show.done(format_args!("{} objects by the bare client: {:.2} s", objects.len(), lap.last_s));
        Ok(lap)
    }

    /// Until the watcher has seen each of these, from a stamp on.
    pub(crate) async fn wait_for(&mut self, mut values: HashSet<String>, from: usize) -> Result<Seen> {
        let all = values.len();
        let show = &mut self.show;
        let mut seen = Seen::NOTHING;
        let is_all = self.ground.stamps.follow(from, PATIENCE, |stamp| {
            if values.remove(&stamp.value) {
                seen.note(stamp.unix_ns);
                if all > 1 {
                    show.reach(all - values.len());
                }
            }
            values.is_empty()
        });
        ensure!(is_all.await?, "{} of {all} values were not seen, {:?} among them", values.len(), values.iter().next());
        Ok(seen)
    }

    /// Until the watcher has seen each of these edited, and then as in Git.
    pub(crate) async fn wait_for_corrections(&mut self, items: &[Item], round: usize, from: usize) -> Result<Seen> {
        let mut open: HashSet<String> = items.iter().map(|item| item.value(round)).collect();
        let mut edited = HashSet::new();
        let mut seen = Seen::NOTHING;
        let show = &mut self.show;
        let is_all = self.ground.stamps.follow(from, PATIENCE, |stamp| {
            if let Some(value) = stamp.value.strip_suffix(EDITED) {
                edited.insert(value.to_owned());
            } else if edited.remove(&stamp.value) && open.remove(&stamp.value) {
                seen.note(stamp.unix_ns);
                if items.len() > 1 {
                    show.reach(items.len() - open.len());
                }
            }
            open.is_empty()
        });
        ensure!(is_all.await?, "{} of {} edits were not corrected", open.len(), items.len());
        Ok(seen)
    }

    /// Until each target has that commit in the cluster, and is healthy.
    pub(crate) async fn wait_until_settled(&mut self, commit: &str) -> Result<()> {
        let targets = self.size.targets;
        self.show.step("targets become healthy", targets);
        let (ground, show) = (&self.ground, &mut self.show);
        eventually(PATIENCE, "all targets are settled", async || {
            let settled = count_settled(ground, commit).await?;
            show.reach(settled);
            ensure!(settled == targets, "{settled} of {targets} are");
            Ok(())
        })
        .await?;
        self.show.done("all targets are healthy");
        Ok(())
    }

    /// What the agent asked its API server for since the last time, once it asks nothing more.
    pub(crate) async fn take_when_quiet(&mut self) -> Result<Asked> {
        self.show.step("the agent comes to rest", 1);
        let asked = self.requests.take_when_quiet(PATIENCE).await?;
        self.show.done("the agent is at rest");
        Ok(asked)
    }
}

/// How many targets have that commit in their one cluster.
async fn count_settled(ground: &Ground, commit: &str) -> Result<usize> {
    let mut settled = 0;
    let mut cursor = String::new();
    loop {
        let page = ground.api.fetch(&format!("/api/v1/targets?limit=100{cursor}")).await?;
        let is_settled = |status: &Value| {
            status["commit"] == commit
                && status["pending"] != true
                && status["behind"] == 0
                && status["clusters"] == 1
                && status["healthy"] == 1
        };
        settled += page["items"].as_array().into_iter().flatten().filter(|it| is_settled(&it["status"])).count();
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(settled),
        }
    }
}

/// A kubeconfig of the bare client's own: its rights are all rights, as an agent's may be.
async fn account(ground: &Ground) -> Result<PathBuf> {
    let kubectl = ground.kubectl(1)?;
    kubectl.run(&["create", "serviceaccount", ACCOUNT, "-n", "default"]).await?;
    let subject = format!("--serviceaccount=default:{ACCOUNT}");
    kubectl.run(&["create", "clusterrolebinding", ACCOUNT, "--clusterrole=cluster-admin", &subject]).await?;
    let token = kubectl.run(&["create", "token", ACCOUNT, "-n", "default", "--duration", "24h"]).await?;
    let file = ground.state.join("bare-client.kubeconfig");
    let admin = fs::read_to_string(&kubectl.kubeconfig)?;
    write_private(&file, &kubeconfig_with_token(&admin, token.trim())?)?;
    Ok(file)
}

/// A line of a table: what it is about, how much, and the budget.
pub(crate) type Row<'a> = (&'a str, String, &'a str);

pub(crate) fn table(rows: &[Row<'_>]) -> Result<String> {
    let mut table = format!("{:58} {:>18}   {}\n", "", "", "budget");
    for (what, much, budget) in rows {
        writeln!(table, "{what:58} {much:>18}   {budget}")?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_says_what_another_says_and_each_target_has_its_share() -> Result<()> {
        let size = Size::new(7, 45)?;

        let items = [size.items("shop"), size.items("bare")].concat();

        let values: HashSet<String> =
            items.iter().flat_map(|item| [item.value(0), item.value(1), item.value(0) + EDITED]).collect();
        assert_eq!(values.len(), 2 * 45 * 3);
        for target in 0..7 {
            let objects = items.iter().filter(|item| item.owner == "shop" && item.target == target).count();
            assert!((6..=7).contains(&objects), "{objects} in {target}");
        }
        assert!(Size::new(3, 2).is_err() && Size::new(0, 0).is_err());
        Ok(())
    }
}
