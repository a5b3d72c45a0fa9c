//! What a demo or a benchmark runs on: clusters, started for it or borrowed, a hub with its own Postgres, a Git server with a webhook, an agent
//! joined in each cluster, and the watcher. Everything is a process of the state folder, and gone with it.
//!
//! Neighbours: `environment` and `stack` start the same for `./dev up`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::evidence::{ApiRequest, read_api_audit};
use crate::memory::MemoryWatch;
use crate::monorepo::figure;
use crate::sample::{self, Sample};
use crate::show::Show;
use crate::stamps::Stamps;
use crate::webhook::Bell;
use bellwether_e2e::agent::{self, AgentPlace};
use bellwether_e2e::api::Api;
use bellwether_e2e::borrowed::{self, Request};
use bellwether_e2e::controlplane::Cluster;
use bellwether_e2e::environment;
use bellwether_e2e::git_server::{GitRepo, GitServer, GitServerOptions, Push, WorkTree};
use bellwether_e2e::harness::{CliOutput, eventually};
use bellwether_e2e::kubectl::Kubectl;
use bellwether_e2e::options::{Durability, Options, programs_folder};
use bellwether_e2e::pki::{kubeconfig_with_token, write_private};
use bellwether_e2e::process::{Launch, ProcessTable, Tier, wait_until_ready};
use bellwether_e2e::{hub, stack};

/// Somebody's cluster may have to pull an image first.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// Who the agents are to the API servers.
pub const AGENT_USER: &str = "system:serviceaccount:bellwether-system:bellwether-agent";
const CLI_DEADLINE: Duration = Duration::from_secs(90);
/// Hours between two polls: what the hub sees, a webhook told.
const POLL_SECONDS: &str = "7200";

/// Which clusters a run is on.
#[derive(Debug, Clone)]
pub enum Place {
    /// So many, started for it.
    Own(usize),
    /// The user's.
    Borrowed(Request),
}

#[derive(Debug)]
pub struct Ground {
    pub state: PathBuf,
    pub sample: Sample,
    pub table: ProcessTable,
    pub clusters: Vec<Cluster>,
    pub api: Api,
    pub repo: GitRepo,
    pub tree: WorkTree,
    pub stamps: Stamps,
    pub memory: MemoryWatch,
    _git: GitServer,
    _webhooks: JoinSet<()>,
}

impl Ground {
    /// Starts everything but the agents.
    pub async fn start(state: &Path, place: &Place, sample: Sample, watched: &[&str], show: &mut Show) -> Result<Self> {
        let clusters = if let Place::Own(number) = place { *number } else { 0 };
        let options = Options { state: state.to_owned(), clusters, durability: Durability::Synced, hub: true };
        let table = environment::make_state_folder(state)?;
        let memory = MemoryWatch::start(&table);
        let bell = Bell::hang(&state.join("pushes"))?;
        let options_of_git = GitServerOptions { on_push: Some(bell.command()), ..GitServerOptions::default() };
        let git = GitServer::start(state.join("git"), options_of_git).await?;
        let repo = git.create_repo(stack::REPO).await?;
        let tree = git.work_tree(&repo, state.join("tree")).await?;
        tree.write("README.md", "What runs in the fleet.\n")?;
        tree.commit("Begin").await?;
        tree.push().await?;
        let clusters = match place {
            Place::Own(_) => environment::start_clusters(&options, &table, show.lines()).await?,
            Place::Borrowed(request) => borrowed::take(state, request, sample::footprint(&sample.run)).await?,
        };
        let api = stack::start_hub(&options, &table).await?;
        show.done(format_args!("the hub is ready, with a Postgres of its own: {}", api.url));

        let cli = Cli { api: &api, folder: state };
        let added =
            cli.run(&["repo", "add", stack::REPO, &repo.url, "--poll-seconds", POLL_SECONDS, "-o", "json"]).await?;
        let secret = added.ended_with(0)?.json()?["webhookSecret"].as_str().context("no webhook secret")?.to_owned();
        let webhooks = bell.answer(api.clone(), stack::REPO, &secret);
        if clusters.is_empty() {
            show.done(format_args!("the Git server tells the hub of pushes"));
        } else {
            start_watcher(state, &table, &clusters, &sample, watched).await?;
            show.done(format_args!(
                "the Git server tells the hub of pushes; the watcher stamps what the clusters show"
            ));
        }
        let stamps = Stamps::of(&stamps_file(state));
        let state = state.to_owned();
        Ok(Self { state, sample, table, clusters, api, repo, tree, stamps, memory, _git: git, _webhooks: webhooks })
    }

    /// Whether everything that the clusters were asked stands in logs that can be read.
    pub fn is_audited(&self) -> bool {
        self.clusters.iter().all(|cluster| cluster.audit_log.is_some())
    }

    /// What each API server was asked.
    pub fn api_audits(&self) -> Result<Vec<Vec<ApiRequest>>> {
        self.clusters.iter().filter_map(|cluster| cluster.audit_log.as_deref()).map(read_api_audit).collect()
    }

    /// Joins every cluster, and answers from when its manifest was there until it had joined; of a borrowed one, from
    /// when `kubectl apply` of it began.
    pub async fn join_all(&self, show: &Show) -> Result<Vec<u64>> {
        let joins = self.clusters.iter().map(async |cluster| {
            let joined = self.join(cluster).await;
            show.advance();
            joined
        });
        try_join_all(joins).await
    }

    /// A cluster that applies nothing: everything of the hub's is there, and nothing that a cluster takes.
    pub async fn simulate_cluster(&self) -> Result<()> {
        let launch =
            Launch::new("agent-simulated", programs_folder()?.join("bellwether-agent"), Tier::Agents, &self.state)
                .args(["simulate", "--count", "1"])
                .env("BELLWETHER_URL", self.api.url.as_str())
                .env("BELLWETHER_TOKEN", &self.api.token)
                .env("BELLWETHER_CA", self.api.ca.display().to_string());
        let process = self.table.start(&launch)?;
        let connected = async || stack::is_connected(&self.api, "sim-0001").await.ok()?.then_some(());
        wait_until_ready(&process, PATIENCE, connected).await
    }

    async fn join(&self, cluster: &Cluster) -> Result<u64> {
        let name = cluster_name(cluster.number);
        let kubectl = kubectl(&self.state, cluster);
        let ring = if cluster.number == 1 { "canary" } else { "stable" };
        let namespace = if cluster.is_borrowed() { borrowed::NAMESPACE } else { stack::NAMESPACE };
        let registered = agent::register(&self.api, &name, &json!({ "ring": ring }), namespace).await?;
        let place = AgentPlace {
            name: &format!("agent-{}", cluster.number),
            state: &self.state,
            programs: &programs_folder()?,
            kubectl: &kubectl,
            namespace,
            without_pods: cluster.is_borrowed(),
        };
        let begun = now_unix_ns()?;
        let process = self.table.start(&agent::install(&place, &registered).await?)?;
        let connected = async || stack::is_connected(&self.api, &name).await.ok()?.then_some(());
        wait_until_ready(&process, PATIENCE, connected).await?;
        let path = format!("/api/v1/audit?action=cluster.joined&cluster={name}&limit=1");
        let joined = eventually(PATIENCE, "the join is audited", async || {
            let listed = self.api.fetch(&path).await?;
            timestamp(&listed["items"][0]["at"])
        })
        .await?;
        let applied = cluster.audit_log.as_deref().map_or(Ok(begun), manifest_applied)?;
        Ok(crate::figures::whole(crate::figures::ms_between(applied, joined)))
    }

    pub fn cli(&self) -> Cli<'_> {
        Cli { api: &self.api, folder: &self.state }
    }

    pub fn kubectl(&self, number: usize) -> Result<Kubectl> {
        let cluster = self.clusters.iter().find(|cluster| cluster.number == number);
        Ok(kubectl(&self.state, cluster.with_context(|| format!("there is no cluster {number}"))?))
    }

    /// Many targets, so many by each `bellwether apply`.
    pub async fn apply_all(&self, targets: &[String], at_once: usize, show: &mut Show) -> Result<()> {
        show.step("targets", targets.len().div_ceil(at_once));
        for some in targets.chunks(at_once) {
            let file = self.state.join("targets.yaml");
            write_private(&file, &some.join("---\n"))?;
            // What they are rendered from may come later.
            let command = ["apply", "--no-wait", "-f", &file.display().to_string()];
            self.cli().run(&command).await?.ended_with(0)?;
            show.advance();
        }
        Ok(())
    }

    /// Until no stage has anything to do.
    pub async fn wait_for_rest(&self, patience: Duration) -> Result<()> {
        eventually(patience, "nothing is left to do", async || {
            let text = self.api.metrics().await?;
            for stage in ["source", "bundle", "rollout"] {
                let due = figure(&text, &format!("bellwether_work_due{{stage=\"{stage}\"}}"))?;
                ensure!(due == 0.0, "{due} of {stage}");
            }
            Ok(())
        })
        .await
    }

    /// `bellwether apply` of a target.
    pub async fn apply(&self, name: &str, text: &str) -> Result<()> {
        let file = self.state.join(format!("{name}.yaml"));
        write_private(&file, text)?;
        self.cli().run(&["apply", "-f", &file.display().to_string()]).await?.ended_with(0)?;
        Ok(())
    }

    /// Writes files, commits and pushes; the webhook follows by itself.
    pub async fn push(&self, message: &str, files: &[(&str, &str)]) -> Result<Push> {
        for (path, content) in files {
            self.tree.write(path, content)?;
        }
        self.tree.commit(message).await?;
        self.tree.push().await
    }

    /// The rollout of a target to a commit, once it is in one of these states.
    pub async fn wait_for_rollout(&self, target: &str, commit: &str, states: &[&str]) -> Result<Value> {
        let path = format!("/api/v1/rollouts?target={target}&limit=3");
        let found = eventually(PATIENCE, &format!("the rollout of {target} is {}", states.join(" or ")), async || {
            let listed = self.api.fetch(&path).await?;
            let rollouts = listed["items"].as_array().cloned().unwrap_or_default();
            let ours = rollouts.into_iter().find(|rollout| rollout["toCommit"] == commit);
            let rollout = ours.context("it has not begun")?;
            ensure!(
                states.iter().any(|state| rollout["state"] == **state),
                "it is {}: {}",
                rollout["state"],
                rollout["why"]
            );
            Ok(rollout)
        })
        .await?;
        let id = found["id"].as_str().context("a rollout without id")?;
        self.api.fetch(&format!("/api/v1/rollouts/{id}")).await
    }

    /// All audit entries, the newest first.
    pub async fn audit(&self, filter: &str) -> Result<Vec<Value>> {
        let mut entries = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.api.fetch(&format!("/api/v1/audit?limit=1000{filter}{cursor}")).await?;
            entries.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(entries),
            }
        }
    }

    pub async fn stop_hub(&self) -> Result<()> {
        self.table.find("hub")?.stop().await
    }

    /// Starts the hub again where it was, and waits until every agent is back.
    pub async fn start_hub(&self) -> Result<()> {
        let before = self.table.find("hub")?;
        let data = self.state.join("hub");
        hub::forget_endpoints(&data)?;
        let process = self.table.start(&before.launch)?;
        wait_until_ready(&process, hub::START_DEADLINE, async || hub::find_endpoints(&data)).await?;
        for cluster in &self.clusters {
            let name = cluster_name(cluster.number);
            eventually(PATIENCE, &format!("{name} is back"), async || {
                ensure!(stack::is_connected(&self.api, &name).await?, "it is not");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

/// The `bellwether` command on the hub of the demo.
#[derive(Debug)]
pub struct Cli<'a> {
    api: &'a Api,
    folder: &'a Path,
}

impl Cli<'_> {
    pub async fn run(&self, args: &[&str]) -> Result<CliOutput> {
        let mut command = Command::new(programs_folder()?.join("bellwether"));
        command.args(args).current_dir(self.folder).env("BELLWETHER_URL", self.api.url.as_str());
        command.env("BELLWETHER_TOKEN", &self.api.token).env("BELLWETHER_CA", &self.api.ca).env("NO_COLOR", "1");
        let shown = format!("bellwether {}", args.join(" "));
        let output = timeout(CLI_DEADLINE, command.stdin(Stdio::null()).kill_on_drop(true).output())
            .await
            .with_context(|| format!("{shown} did not end within {CLI_DEADLINE:?}"))?
            .with_context(|| format!("{shown} does not start"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().with_context(|| format!("{shown} was killed"))?;
        Ok(CliOutput { command: shown, code, stdout: text(output.stdout), stderr: text(output.stderr) })
    }
}

pub fn cluster_name(number: usize) -> String {
    format!("cluster-{number}")
}

pub fn stamps_file(state: &Path) -> PathBuf {
    state.join("watch.stamps")
}

pub fn now_unix_ns() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}

/// An RFC 3339 time as nanoseconds since 1970.
pub fn timestamp(value: &Value) -> Result<u128> {
    let text = value.as_str().with_context(|| format!("{value} is no time"))?;
    Ok(u128::try_from(text.parse::<jiff::Timestamp>()?.as_nanosecond())?)
}

fn kubectl(state: &Path, cluster: &Cluster) -> Kubectl {
    Kubectl {
        program: state.join("bin/kubectl"),
        kubeconfig: cluster.kubeconfig.clone(),
        cache: state.join("kubectl-cache"),
    }
}

/// When the API server had taken the last object of the install manifest, the agent's Deployment. It is the only one
/// that is created by POST: what the agents apply, they patch.
fn manifest_applied(audit_log: &Path) -> Result<u128> {
    let log = fs::read_to_string(audit_log)?;
    let is_it = |line: &&str| line.contains(r#""verb":"create""#) && line.contains("/deployments?");
    let line = log.lines().find(is_it).context("the audit log has no creation of the agent's Deployment")?;
    timestamp(&serde_json::from_str::<Value>(line)?["stageTimestamp"])
}

async fn start_watcher(
    state: &Path,
    table: &ProcessTable,
    clusters: &[Cluster],
    sample: &Sample,
    watched: &[&str],
) -> Result<()> {
    let places = try_join_all(clusters.iter().map(|cluster| watcher_place(state, cluster, sample))).await?;
    let launch = Launch::new("watch", programs_folder()?.join("bellwether-watch"), Tier::Agents, state)
        .args(["--stamps".to_owned(), stamps_file(state).display().to_string()])
        .args(places.into_iter().flat_map(|place| ["--cluster".to_owned(), place]))
        .args(watched.iter().flat_map(|object| ["--object", object]));
    let process = table.start(&launch)?;
    if !process.is_alive() {
        bail!("the watcher ended:\n{}", process.log());
    }
    Ok(())
}

/// A kubeconfig of the watcher's own, as `NAME=FILE`.
async fn watcher_place(state: &Path, cluster: &Cluster, sample: &Sample) -> Result<String> {
    let kubectl = kubectl(state, cluster);
    // What was made by `create` keeps its labels when the agent's manifest is applied over it.
    kubectl.run_with_input(&["create", "-f", "-"], &sample::watcher(sample)).await?;
    let asked = ["create", "token", sample::WATCHER, "-n", borrowed::NAMESPACE, "--duration", "24h"];
    let token = kubectl.run(&asked).await?;
    let file = state.join(format!("watcher-{}.kubeconfig", cluster.number));
    let admin = fs::read_to_string(&cluster.kubeconfig)?;
    write_private(&file, &kubeconfig_with_token(&admin, token.trim())?)?;
    Ok(format!("{}={}", cluster_name(cluster.number), file.display()))
}
