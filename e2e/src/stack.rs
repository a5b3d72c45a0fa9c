//! What `./dev up` adds to clusters: a Git server, a hub, and an agent joined in each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::{pending, try_join_all};
use serde_json::json;

use crate::agent::{AgentPlace, install, register};
use crate::api::Api;
use crate::controlplane::Cluster;
use crate::git_server::{GitServer, GitServerOptions};
use crate::hub::{self, HubOptions, Ports};
use crate::kubectl::Kubectl;
use crate::options::{Durability, Options, programs_folder};
use crate::pki::write_private;
use crate::ports;
use crate::process::{Launch, ProcessTable, Tier, wait_until_ready};
use crate::progress::Progress;

pub const NAMESPACE: &str = "bellwether-system";
/// The repo that is there to push to.
pub const REPO: &str = "apps";
const GIT_DEADLINE: Duration = Duration::from_secs(20);
const JOIN_DEADLINE: Duration = Duration::from_mins(1);

/// What there is to use.
#[derive(Debug)]
pub struct Stack {
    pub api: Api,
    /// To clone and to push to.
    pub git_url: String,
}

impl Stack {
    pub fn export(&self, exports: &mut BTreeMap<String, String>) {
        exports.insert("BELLWETHER_URL".to_owned(), self.api.url.to_string());
        if let Ok(engine) = std::env::var(hub::RENDER_ENGINE) {
            exports.insert(hub::RENDER_ENGINE.to_owned(), engine);
        }
        exports.insert("BELLWETHER_TOKEN".to_owned(), self.api.token.clone());
        exports.insert("BELLWETHER_CA".to_owned(), self.api.ca.display().to_string());
        exports.insert("GIT_URL".to_owned(), self.git_url.clone());
    }
}

pub async fn start(options: &Options, table: &ProcessTable, clusters: &[Cluster], progress: Progress) -> Result<Stack> {
    let git_url = start_git(&options.state, table).await?;
    progress.say(format_args!("the Git server is ready: {git_url}"));
    let api = start_hub(options, table).await?;
    progress.say(format_args!("the hub is ready: {}", api.url));
    let joins = clusters.iter().map(|cluster| join(options, table, &api, cluster));
    for name in try_join_all(joins).await? {
        progress.say(format_args!("{name} is connected"));
    }
    Ok(Stack { api, git_url })
}

/// Serves until the process is told to stop, and says where in `ROOT/url`.
pub async fn serve_git(root: &Path) -> Result<()> {
    let server = GitServer::start(root.to_owned(), GitServerOptions::default()).await?;
    let repo = server.create_repo(REPO).await?;
    let unfinished = root.join("url.new");
    write_private(&unfinished, &repo.url)?;
    fs::rename(unfinished, root.join("url"))?;
    pending().await
}

async fn start_git(state: &Path, table: &ProcessTable) -> Result<String> {
    let root = state.join("git");
    let launch = Launch::new("git-server", programs_folder()?.join("bellwether-e2e-env"), Tier::Hub, state).args([
        "serve-git".to_owned(),
        "--root".to_owned(),
        root.display().to_string(),
    ]);
    let process = table.start(&launch)?;
    wait_until_ready(&process, GIT_DEADLINE, async || fs::read_to_string(root.join("url")).ok()).await
}

pub async fn start_hub(options: &Options, table: &ProcessTable) -> Result<Api> {
    let data = options.state.join("hub");
    // Only matters to the server that the hub starts for itself.
    let flags = (options.durability == Durability::ForTests).then(|| "--unsafe-no-fsync".to_owned());
    let mut refusal = None;
    for _ in 0..ports::STARTS {
        let launch = hub::launch(&HubOptions {
            state: options.state.clone(),
            programs: programs_folder()?,
            data: data.clone(),
            database: None,
            ports: Ports { api: ports::free()?, agents: ports::free()? },
            flags: flags.iter().cloned().collect(),
        });
        let process = table.start(&launch)?;
        match wait_until_ready(&process, hub::START_DEADLINE, async || hub::find_endpoints(&data)).await {
            Ok(endpoints) => return Api::of_hub(endpoints.api, &data),
            Err(error) if ports::was_taken(&error.to_string()) => refusal = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refusal.context("a hub is started at least once")?)
}

/// Answers the cluster's name.
async fn join(options: &Options, table: &ProcessTable, api: &Api, cluster: &Cluster) -> Result<String> {
    let name = format!("cluster-{}", cluster.number);
    let kubectl = Kubectl {
        program: options.state.join("bin/kubectl"),
        kubeconfig: cluster.kubeconfig.clone(),
        cache: options.state.join("kubectl-cache"),
    };
    let ring = if cluster.number == 1 { "canary" } else { "stable" };
    let region = if cluster.number % 2 == 1 { "eu" } else { "us" };
    let registered = register(api, &name, &json!({"ring": ring, "region": region}), NAMESPACE).await?;
    let place = AgentPlace {
        name: &format!("agent-{}", cluster.number),
        state: &options.state,
        programs: &programs_folder()?,
        kubectl: &kubectl,
        namespace: NAMESPACE,
        without_pods: false,
    };
    let agent = table.start(&install(&place, &registered).await?)?;
    let connected = async || is_connected(api, &name).await.ok()?.then_some(());
    wait_until_ready(&agent, JOIN_DEADLINE, connected).await?;
    Ok(name)
}

pub async fn is_connected(api: &Api, cluster: &str) -> Result<bool> {
    let document = api.fetch(&format!("/api/v1/clusters/{cluster}")).await?;
    Ok(document["status"]["phase"] == "connected")
}
