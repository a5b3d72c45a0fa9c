//! One test, with everything that it runs on.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::FutureExt as _;
use futures_util::future::{join_all, try_join_all};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::RwLock;
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use super::cli::CliOutput;
use super::env::Env;
use super::hmac_sha256;
use super::hub::Hub;
use super::wait::{PATIENCE, eventually};
use crate::agent::{self, AgentPlace, Registered};
use crate::api::{Api, Reply};
use crate::api_server_proxy::ApiServerProxy;
use crate::git_server::{GitRepo, GitServer, GitServerOptions, WorkTree};
use crate::held::Held;
use crate::hub::{self, HubOptions, Ports};
use crate::kubectl::Kubectl;
use crate::options::Durability;
use crate::pki::write_private;
use crate::postgres::{self, Locks, Postgres};
use crate::postgres_proxy::{Moment, PostgresProxy};
use crate::process::{Child, Launch, ProcessTable};
use crate::stack::is_connected;
use crate::{install_crypto, ports};

const CLI_DEADLINE: Duration = Duration::from_secs(90);
/// The repo of a scene, by this name in Git and in the hub.
pub const REPO: &str = "apps";
/// An agent that is gone is missed within seconds, and one on a busy machine is not.
pub const HEARTBEAT_FLAGS: [&str; 4] =
    ["--heartbeat-ms=1000", "--deadline-ms=5000", "--offline-after-ms=5000", "--grace-ms=5000"];
/// The same for tests in which agents go and are missed: a second or two, so that they wait for nothing else.
pub const FAST_HEARTBEAT_FLAGS: [&str; 4] =
    ["--heartbeat-ms=500", "--deadline-ms=1500", "--offline-after-ms=2000", "--grace-ms=0"];
/// Whoever uses the third cluster reads; whoever stops a part of it writes.
static THIRD: RwLock<()> = RwLock::const_new(());

/// How a scene differs from most.
#[derive(Debug, Clone)]
pub struct SceneOptions {
    /// Of the hub.
    pub flags: Vec<&'static str>,
    pub git: GitServerOptions,
    /// With a Postgres server that no other test uses.
    pub has_own_postgres: bool,
    /// Whose hub has a proxy before its database, for both of its roles; a second hub has none.
    pub has_proxy: bool,
    /// What agents log, when it is other than what they log by themselves.
    pub agent_log: Option<&'static str>,
}

impl Default for SceneOptions {
    fn default() -> Self {
        Self {
            flags: HEARTBEAT_FLAGS.to_vec(),
            git: GitServerOptions::default(),
            has_own_postgres: false,
            has_proxy: false,
            agent_log: None,
        }
    }
}

/// One test's world.
#[derive(Debug)]
pub struct Scene {
    pub env: Env,
    /// The hub's.
    pub database: Url,
    /// When the scene has its own.
    pub postgres: Option<Postgres>,
    /// Between the hub and its database, when the scene has one.
    pub proxy: Option<PostgresProxy>,
    pub hub: Hub,
    /// A second one on the same database.
    pub other_hub: Option<Hub>,
    /// Of the hub that people and webhooks speak to.
    pub api: Api,
    pub git: GitServer,
    pub repo: GitRepo,
    pub tree: WorkTree,
    /// By the number of their cluster; in the hub it is called `c1`.
    pub agents: BTreeMap<usize, Child>,
    /// Made in every cluster of the scene, for the test's objects.
    pub namespace: String,
    /// Where the agents are installed.
    pub install_namespace: String,
    /// Part of every name that others could see.
    id: String,
    /// Its files; programs run there.
    pub folder: TempDir,
    webhook_secret: Option<String>,
    agent_log: Option<&'static str>,
}

impl Scene {
    /// Runs a test in a scene with agents joined in these clusters, and takes the scene down, however the test ends.
    pub async fn run(clusters: &[usize], test: impl AsyncFnOnce(&mut Self) -> Result<()>) -> Result<()> {
        Self::run_with(clusters, SceneOptions::default(), test).await
    }

    /// The same, in another scene than most.
    pub async fn run_with(
        clusters: &[usize],
        options: SceneOptions,
        test: impl AsyncFnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let _third = if clusters.contains(&3) { Some(THIRD.read().await) } else { None };
        Self::run_held(clusters, options, test).await
    }

    /// The same, on the third cluster and others, while no other test uses the third.
    pub async fn run_alone_on_third(clusters: &[usize], test: impl AsyncFnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let _third = THIRD.write().await;
        Self::run_held(clusters, SceneOptions::default(), test).await
    }

    async fn run_held(
        clusters: &[usize],
        options: SceneOptions,
        test: impl AsyncFnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        install_crypto();
        let env = Env::from_environment();
        let id = Uuid::new_v4().simple().to_string()[..8].to_owned();
        let ended = match Self::start(&env, &id, clusters, options).await {
            Ok(mut scene) => {
                let ended = AssertUnwindSafe(test(&mut scene)).catch_unwind().await;
                if !matches!(ended, Ok(Ok(()))) {
                    scene.tell_logs();
                }
                scene.end_processes().await;
                ended
            }
            Err(error) => Ok(Err(error.context("the scene cannot be set"))),
        };
        clean(&env, &id).await?;
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    pub(super) async fn start(env: &Env, id: &str, clusters: &[usize], given: SceneOptions) -> Result<Self> {
        for &cluster in clusters {
            env.kubeconfig(cluster)?;
        }
        let folder = tempfile::Builder::new().prefix(&format!("bw-{id}-")).tempdir()?;
        let git = GitServer::start(folder.path().join("git"), given.git).await?;
        let repo = git.create_repo(REPO).await?;
        let tree = git.work_tree(&repo, folder.path().join("tree")).await?;
        let postgres = if given.has_own_postgres { Some(start_postgres(env, id, folder.path()).await?) } else { None };
        let server = postgres.as_ref().map_or(&env.database_url, |postgres| &postgres.url);
        let database = postgres::create_database(server, &database_name(id)).await?;
        let runner = postgres::as_runner(&database)?;
        let proxy = if given.has_proxy { Some(PostgresProxy::start(server).await?) } else { None };
        let through = |url: &Url| proxy.as_ref().map_or_else(|| Ok(url.clone()), |proxy| proxy.url(url));
        let options = HubOptions {
            state: folder.path().to_owned(),
            programs: env.programs.clone(),
            data: folder.path().join("hub"),
            database: Some(hub::Database { url: through(&runner)?, owner_url: through(&database)? }),
            ports: Ports { api: ports::free()?, agents: ports::free()? },
            flags: given.flags.into_iter().map(str::to_owned).collect(),
        };
        let data = options.data.clone();
        let (hub, endpoints) = Hub::start(options).await?;
        let api = Api::of_hub(endpoints.api, &data)?;
        let mut scene = Self {
            env: env.clone(),
            database,
            postgres,
            proxy,
            hub,
            other_hub: None,
            api,
            git,
            repo,
            tree,
            agents: BTreeMap::new(),
            namespace: format!("app-{id}"),
            install_namespace: format!("bw-{id}"),
            id: id.to_owned(),
            folder,
            webhook_secret: None,
            agent_log: given.agent_log,
        };
        scene.join(clusters).await?;
        Ok(scene)
    }

    /// Starts a second hub on the scene's database.
    pub async fn start_other_hub(&mut self) -> Result<hub::Endpoints> {
        let database = hub::Database { url: postgres::as_runner(&self.database)?, owner_url: self.database.clone() };
        let (other, endpoints) = self.hub.start_beside(self.folder.path().join("other"), database).await?;
        self.other_hub = Some(other);
        Ok(endpoints)
    }

    /// Joins a cluster whose agent finds its hub at another address than the hub's own.
    pub async fn join_through(&mut self, cluster: usize, address: &str) -> Result<()> {
        self.create_namespace(cluster, &self.namespace).await?;
        let registered = Registered { hub: address.to_owned(), ..self.register(cluster).await? };
        let agent = self.start_agent(cluster, &registered).await?;
        self.agents.insert(cluster, agent);
        self.wait_until_connected(cluster).await
    }

    /// Registers these clusters, installs their agents, and waits until they are connected.
    pub async fn join(&mut self, clusters: &[usize]) -> Result<()> {
        let joined = try_join_all(clusters.iter().map(|&cluster| self.start_agent_of(cluster))).await?;
        self.agents.extend(clusters.iter().copied().zip(joined));
        try_join_all(clusters.iter().map(|&cluster| self.wait_until_connected(cluster))).await?;
        Ok(())
    }

    /// Joins a cluster whose agent has a proxy before its API server.
    pub async fn join_behind(&mut self, cluster: usize) -> Result<ApiServerProxy> {
        self.create_namespace(cluster, &self.namespace).await?;
        let proxy = ApiServerProxy::start(self.env.kubeconfig(cluster)?).await?;
        let launch = self.install_agent(cluster, &self.register(cluster).await?).await?;
        let kubeconfig = self.folder.path().join(format!("agent-{cluster}/kubeconfig"));
        write_private(&kubeconfig, &proxy.kubeconfig(&fs::read_to_string(&kubeconfig)?)?)?;
        self.agents.insert(cluster, launch.start_child()?);
        self.wait_until_connected(cluster).await?;
        Ok(proxy)
    }

    async fn start_agent_of(&self, cluster: usize) -> Result<Child> {
        self.create_namespace(cluster, &self.namespace).await?;
        let registered = self.register(cluster).await?;
        self.start_agent(cluster, &registered).await
    }

    /// As `c1`, with the labels `cluster` (its name) and `ring` (`canary` for the first, else `stable`).
    pub async fn register(&self, cluster: usize) -> Result<Registered> {
        let name = format!("c{cluster}");
        let ring = if cluster == 1 { "canary" } else { "stable" };
        agent::register(&self.api, &name, &json!({"cluster": name, "ring": ring}), &self.install_namespace).await
    }

    /// Installs an agent with this manifest, whichever cluster it was made for.
    pub async fn start_agent(&self, cluster: usize, registered: &Registered) -> Result<Child> {
        self.install_agent(cluster, registered).await?.start_child()
    }

    async fn install_agent(&self, cluster: usize, registered: &Registered) -> Result<Launch> {
        let (name, kubectl) = (format!("agent-{cluster}"), self.kubectl_of(cluster)?);
        let launch = agent::install(&self.place(&name, &kubectl), registered).await?;
        let log = self.agent_log.map(|filter| ("RUST_LOG".to_owned(), filter.to_owned()));
        Ok(Launch { env: launch.env.into_iter().chain(log).collect(), ..launch })
    }

    /// Starts the agent that the test itself has installed in a cluster.
    pub async fn start_installed_agent(&mut self, cluster: usize, hub: &str) -> Result<()> {
        let (name, kubectl) = (format!("agent-{cluster}"), self.kubectl_of(cluster)?);
        let launch = agent::launch(&self.place(&name, &kubectl), hub).await?;
        self.agents.insert(cluster, launch.start_child()?);
        self.wait_until_connected(cluster).await
    }

    fn place<'a>(&'a self, name: &'a str, kubectl: &'a Kubectl) -> AgentPlace<'a> {
        AgentPlace {
            name,
            state: self.folder.path(),
            programs: &self.env.programs,
            kubectl,
            namespace: &self.install_namespace,
            without_pods: false,
        }
    }

    pub async fn wait_until_connected(&self, cluster: usize) -> Result<()> {
        let name = format!("c{cluster}");
        eventually(PATIENCE, &format!("{name} is connected"), async || {
            ensure!(is_connected(&self.api, &name).await?, "it is not");
            Ok(())
        })
        .await
    }

    /// The agent of a cluster that has one.
    pub fn agent(&mut self, cluster: usize) -> Result<&mut Child> {
        self.agents.get_mut(&cluster).with_context(|| format!("cluster {cluster} has no agent"))
    }

    /// Runs `bellwether` against this scene's hub.
    pub async fn cli(&self, args: &[&str]) -> Result<CliOutput> {
        let mut command = Command::new(self.env.programs.join("bellwether"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("BELLWETHER_URL", self.api.url.as_str())
            .env("BELLWETHER_TOKEN", &self.api.token)
            .env("BELLWETHER_CA", &self.api.ca)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let shown = format!("bellwether {}", args.join(" "));
        let output = timeout(CLI_DEADLINE, command.output())
            .await
            .with_context(|| format!("{shown} did not end within {CLI_DEADLINE:?}"))?
            .with_context(|| format!("{shown} does not start"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().with_context(|| format!("{shown} was killed"))?;
        Ok(CliOutput { command: shown, code, stdout: text(output.stdout), stderr: text(output.stderr) })
    }

    /// `bellwether apply -f` of a file with this text.
    pub async fn apply(&self, file: &str, text: &str) -> Result<CliOutput> {
        fs::write(self.folder.path().join(file), text)?;
        self.cli(&["apply", "-f", file]).await
    }

    /// A target of the scene's repo, folder and namespace: in all its clusters at once, or as `more` says otherwise.
    pub async fn apply_target(&self, name: &str, more: &str) -> Result<CliOutput> {
        self.apply(&format!("{name}.yaml"), &self.target(name, more)).await
    }

    /// `more` is the rest of the spec, with two spaces before each line.
    pub fn target(&self, name: &str, more: &str) -> String {
        let namespace = &self.namespace;
        let rollout = if more.contains("rollout:") { "" } else { "  rollout: {waves: [{name: all}]}\n" };
        format!(
            "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {{name: {name}}}\nspec:\n  repo: {REPO}\n  path: {name}\n  \
             namespace: {namespace}\n{rollout}{more}"
        )
    }

    /// Runs a statement in the hub's database, behind its back; answers how many rows it changed.
    pub async fn sql(&self, statement: &str) -> Result<u64> {
        postgres::run(&self.database, statement).await
    }

    /// Runs a statement there in a transaction that stays open: what it locks is locked until the answer is dropped.
    pub async fn lock(&self, statement: &str) -> Result<Locks> {
        Locks::hold(&self.database, statement).await
    }

    /// An empty database in the place of the hub's, which has to be ended before.
    pub async fn empty_database(&self) -> Result<()> {
        let name = database_name(&self.id);
        let server = self.postgres.as_ref().map_or(&self.env.database_url, |postgres| &postgres.url);
        postgres::drop_database(server, &name).await?;
        postgres::create_database(server, &name).await.map(|_| ())
    }

    /// Speaks to the hub as it says now where it is and whom to trust.
    pub fn meet_hub(&mut self) -> Result<()> {
        let data = self.folder.path().join("hub");
        let endpoints = hub::find_endpoints(&data).context("the hub serves nothing")?;
        self.api = Api::of_hub(endpoints.api, &data)?;
        Ok(())
    }

    /// All rows of the hub's database, as `pg_dump` writes them.
    pub async fn dump(&self) -> Result<String> {
        postgres::dump(&self.database).await
    }

    /// What tells when the hub's database is at this moment of a statement: see [`PostgresProxy::hold`].
    pub fn hold(&self, moment: Moment, words: &str) -> Result<impl Future<Output = Result<Held>> + use<>> {
        let caught = self.proxy.as_ref().context("the scene has no proxy")?.hold(moment, words);
        let what = format!("{moment:?} of `{words}` comes");
        Ok(async move { Ok(timeout(PATIENCE, caught).await.context(what)??) })
    }

    /// Lets the hub watch the scene's repo. Push something first: it waits until the hub has seen it.
    pub async fn add_repo(&mut self) -> Result<()> {
        // Hours between two polls: what is seen was told by a webhook.
        self.add_repo_polled(7200).await
    }

    /// The same, with a poll every so many seconds.
    pub async fn add_repo_polled(&mut self, seconds: u32) -> Result<()> {
        let seconds = seconds.to_string();
        self.add_repo_with(&["--poll-seconds", &seconds]).await
    }

    /// The same, with other flags of `bellwether repo add`.
    pub async fn add_repo_with(&mut self, flags: &[&str]) -> Result<()> {
        let args = [&["repo", "add", REPO, self.repo.url.as_str(), "-o", "json"], flags].concat();
        let created = self.cli(&args).await?.ended_with(0)?.json()?;
        let secret = created["webhookSecret"].as_str().with_context(|| format!("no webhook secret in {created}"))?;
        self.webhook_secret = Some(secret.to_owned());
        Ok(())
    }

    /// Writes files, commits and pushes them to `main`; the hub is told by a webhook when it knows the repo.
    pub async fn push(&self, files: &[(&str, &str)]) -> Result<String> {
        let commit = self.push_quietly(files).await?;
        if self.webhook_secret.is_some() {
            let reply = self.send_webhook().await?;
            ensure!(reply.status == 202, "the webhook was answered with {reply:?}");
        }
        Ok(commit)
    }

    /// The same, without a webhook.
    pub async fn push_quietly(&self, files: &[(&str, &str)]) -> Result<String> {
        for (path, content) in files {
            self.tree.write(path, content)?;
        }
        self.tree.commit("a change").await?;
        Ok(self.tree.push().await?.commit)
    }

    pub async fn send_webhook(&self) -> Result<Reply> {
        let body = "{}";
        let secret = self.webhook_secret.as_deref().context("the repo is not added yet")?;
        let signature = hex::encode(hmac_sha256(secret.as_bytes(), body.as_bytes()));
        self.send_webhook_signed(&format!("sha256={signature}")).await
    }

    pub async fn send_webhook_signed(&self, signature: &str) -> Result<Reply> {
        self.api.send_webhook(&format!("/hooks/v1/{REPO}"), "{}", signature).await
    }

    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply> {
        self.api.send(method, path, body).await
    }

    pub async fn kubectl(&self, cluster: usize, args: &[&str]) -> Result<String> {
        self.kubectl_of(cluster)?.run(args).await
    }

    fn kubectl_of(&self, cluster: usize) -> Result<Kubectl> {
        kubectl_of(&self.env, cluster, &self.folder.path().join("kubectl-cache"))
    }

    pub async fn create_namespace(&self, cluster: usize, name: &str) -> Result<()> {
        self.kubectl(cluster, &["create", "namespace", name]).await.map(|_| ())
    }

    /// A name for something that no other test has, and that is removed with the scene when it is a namespace.
    pub fn own(&self, name: &str) -> String {
        format!("{name}-{}", self.id)
    }

    /// A value of a ConfigMap in the scene's namespace.
    pub async fn value(&self, cluster: usize, config_map: &str, key: &str) -> Result<String> {
        let path = format!("jsonpath={{.data.{key}}}");
        self.kubectl(cluster, &["get", "configmap", config_map, "-n", &self.namespace, "-o", &path]).await
    }

    pub async fn wait_for_value(&self, cluster: usize, config_map: &str, key: &str, wanted: &str) -> Result<()> {
        eventually(PATIENCE, &format!("{config_map} of c{cluster} has {key}={wanted}"), async || {
            let value = self.value(cluster, config_map, key).await?;
            ensure!(value == wanted, "it has {key}={value}");
            Ok(())
        })
        .await
    }

    /// Waits until `bellwether status` ends with 0, at this commit wherever something runs.
    pub async fn wait_until_healthy(&self, commit: &str) -> Result<Value> {
        eventually(PATIENCE, &format!("all is healthy at {commit}"), async || {
            let status = self.cli(&["status", "-o", "json"]).await?.ended_with(0)?.json()?;
            let rows = status["rows"].as_array().filter(|rows| !rows.is_empty()).context("nothing runs")?;
            ensure!(rows.iter().all(|row| row["commit"] == commit), "{status:#}");
            Ok(status)
        })
        .await
    }

    /// Waits until the agent of a cluster says this of an object, and answers its line.
    pub async fn wait_for_outcome(&self, cluster: usize, object: &str, outcome: &str) -> Result<Value> {
        eventually(PATIENCE, &format!("{object} of c{cluster} is {outcome}"), async || {
            let document = self.api.fetch(&format!("/api/v1/clusters/c{cluster}")).await?;
            let targets = document["status"]["targets"].as_array().cloned().unwrap_or_default();
            let lines = targets.iter().filter_map(|target| target["lines"].as_array()).flatten();
            let line = lines.into_iter().find(|line| line["name"] == object && line["outcome"] == outcome);
            line.cloned().with_context(|| format!("{document:#}"))
        })
        .await
    }

    /// The audit log that these filters leave, the earliest first.
    pub async fn audit(&self, filters: &[&str]) -> Result<Vec<Value>> {
        let args = [&["audit", "list", "--limit", "1000", "-o", "json"], filters].concat();
        let listed = self.cli(&args).await?.ended_with(0)?.json()?;
        let mut entries = listed["items"].as_array().cloned().context("no items")?;
        entries.sort_by_key(|entry| entry["seq"].as_i64());
        Ok(entries)
    }

    /// Waits until the audit log has this action, and answers the last such entry.
    pub async fn wait_for_audit(&self, action: &str) -> Result<Value> {
        eventually(PATIENCE, &format!("the audit log has {action}"), async || {
            self.audit(&["--action", action]).await?.pop().context("it has not")
        })
        .await
    }

    /// A target's newest rollout, with its members.
    pub async fn rollout(&self, target: &str) -> Result<Value> {
        self.cli(&["rollout", "show", target, "-o", "json"]).await?.ended_with(0)?.json()
    }

    /// Waits until a target's newest rollout goes to this commit and has this in these places, such as
    /// `("/waves/0/state", "soaking")`.
    pub async fn wait_for_rollout(&self, target: &str, commit: &str, places: &[(&str, &str)]) -> Result<Value> {
        eventually(PATIENCE, &format!("the rollout of {target} to {commit} has {places:?}"), async || {
            let rollout = self.rollout(target).await?;
            let is_so = |(place, word): &(&str, &str)| rollout.pointer(place).is_some_and(|found| found == word);
            ensure!(rollout["toCommit"] == commit && places.iter().all(is_so), "{rollout:#}");
            Ok(rollout)
        })
        .await
    }

    /// The time of all clusters: their etcd is one, and each write there has the next number.
    pub async fn revision(&self, cluster: usize, kind: &str, name: &str) -> Result<u64> {
        let path = "jsonpath={.metadata.resourceVersion}";
        Ok(self.kubectl(cluster, &["get", kind, name, "-n", &self.namespace, "-o", path]).await?.trim().parse()?)
    }

    /// What an object is known by for as long as it is not deleted.
    pub async fn uid(&self, cluster: usize, kind: &str, name: &str) -> Result<String> {
        self.kubectl(cluster, &["get", kind, name, "-n", &self.namespace, "-o", "jsonpath={.metadata.uid}"]).await
    }

    /// What is written from now on is later than this.
    pub async fn now(&self) -> Result<u64> {
        let name = format!("now-{}", Uuid::new_v4().simple());
        let path = "jsonpath={.metadata.resourceVersion}";
        let args = ["create", "configmap", &name, "-n", &self.namespace, "-o", path];
        Ok(self.kubectl(1, &args).await?.trim().parse()?)
    }

    fn tell_logs(&self) {
        let agents = self.agents.iter().map(|(cluster, agent)| (format!("the agent of c{cluster}"), agent.log()));
        let hub = ("the hub".to_owned(), self.hub.log());
        let other = self.other_hub.iter().map(|other| ("the other hub".to_owned(), other.log()));
        for (who, log) in std::iter::once(hub).chain(other).chain(agents) {
            // Through the test harness' own capture, so that it stands with this test's failure.
            #[expect(clippy::print_stderr, reason = "what a failed test says of itself")]
            {
                eprintln!("--- {who} wrote last:\n{log}");
            }
        }
    }

    /// Agents first: a hub that is gone is nothing that they should tell of in the clusters.
    async fn end_processes(mut self) {
        for agent in self.agents.values_mut() {
            // An agent that is gone already is what a test may leave.
            let _ = agent.kill9().await;
        }
        let _ = self.hub.kill9().await;
        if let Some(other) = &mut self.other_hub {
            let _ = other.kill9().await;
        }
        if let Some(postgres) = &self.postgres {
            let _ = postgres.stop_immediately().await;
        }
    }
}

/// In the run's process table, so that whoever ends the run ends it too.
async fn start_postgres(env: &Env, id: &str, folder: &Path) -> Result<Postgres> {
    // Root's Postgres runs as another user, who has to enter.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?;
    let table = ProcessTable::open(&env.state)?;
    Postgres::start_named(&format!("postgres-{id}"), folder, &table, Durability::ForTests).await
}

fn kubectl_of(env: &Env, cluster: usize, cache: &Path) -> Result<Kubectl> {
    Ok(Kubectl {
        program: env.state.join("bin/kubectl"),
        kubeconfig: env.kubeconfig(cluster)?.to_owned(),
        cache: cache.to_owned(),
    })
}

fn database_name(id: &str) -> String {
    format!("bw_{id}")
}

/// Drops what a scene made in what is shared. Namespaces go by themselves then, in a while.
async fn clean(env: &Env, id: &str) -> Result<()> {
    let cache = tempfile::tempdir()?;
    let clusters =
        join_all((1..=env.kubeconfigs.len()).map(|cluster| clean_cluster(env, cluster, id, cache.path()))).await;
    postgres::drop_database(&env.database_url, &database_name(id)).await?;
    clusters.into_iter().collect()
}

async fn clean_cluster(env: &Env, cluster: usize, id: &str, cache: &Path) -> Result<()> {
    let kubectl = kubectl_of(env, cluster, cache)?;
    let listed = kubectl.run(&["get", "namespaces,clusterroles,clusterrolebindings", "-o", "name"]).await;
    // A test on the third cluster may have stopped it for good; then there is nothing that could be in anybody's way.
    let Ok(names) = listed else { return Ok(()) };
    let suffix = format!("-{id}");
    let ours: Vec<&str> = names.lines().filter(|name| name.ends_with(&suffix)).collect();
    if ours.is_empty() {
        return Ok(());
    }
    kubectl.run(&[&["delete", "--wait=false", "--ignore-not-found"], ours.as_slice()].concat()).await?;
    Ok(())
}
