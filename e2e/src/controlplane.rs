//! Real Kubernetes control planes: etcd, API server, controller manager, scheduler, and kwok for a node and its pods.
//! Where somebody brings only the first two, `deployments` stands in for the rest.
//!
//! All clusters share one etcd, each under a prefix of its own. What runs is in the background of a state folder, so
//! it outlives the process that started it. Nothing here knows of hubs and agents.
//! Neighbours: `pki` (identities), `process` (runs and ends it), `environment` (starts it all).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use crate::options::{Durability, programs_folder};
use crate::pki::{Pki, write_private};
use crate::ports;
use crate::process::{Background, Launch, ProcessTable, Tier, wait_until_ready};
use crate::progress::Progress;

/// 3 to 6 s on an idle machine; three at once beside a build take ten times as long.
const START_DEADLINE: Duration = Duration::from_mins(2);
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
const NODE: &str = "kwok-node-0";
/// Every request with who sent it, and no bodies: what a run cost is counted from this.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
";

/// Where the programs are, as `./dev` says it.
#[derive(Debug, Clone)]
pub struct Programs {
    bin: PathBuf,
    /// Nothing, when there is an API server and no more.
    kwok: Option<Kwok>,
}

#[derive(Debug, Clone)]
struct Kwok {
    program: PathBuf,
    stages: Vec<PathBuf>,
}

impl Programs {
    pub fn from_environment() -> Result<Self> {
        let path = |name: &str| {
            let value = std::env::var_os(name).with_context(|| format!("{name} is not set; `./dev` sets it"))?;
            let path = PathBuf::from(value);
            path.exists()
                .then_some(path)
                .with_context(|| format!("{name} names nothing that is there; run `./dev deps`"))
        };
        let bin = path("BELLWETHER_CONTROLPLANE_BIN")?;
        if !bin.join("kube-controller-manager").exists() {
            return Ok(Self { bin, kwok: None });
        }
        let folder = path("BELLWETHER_KWOK_STAGES")?;
        let mut stages = Vec::new();
        for entry in fs::read_dir(&folder)? {
            stages.push(entry?.path());
        }
        stages.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        stages.sort();
        if stages.is_empty() {
            bail!("{} holds no stages; run `./dev deps`", folder.display());
        }
        Ok(Self { bin, kwok: Some(Kwok { program: path("BELLWETHER_KWOK")?, stages }) })
    }

    pub fn kubectl(&self) -> PathBuf {
        self.bin.join("kubectl")
    }
}

/// What the control planes of one environment share.
#[derive(Debug, Clone)]
pub struct ControlPlanes {
    pub state: PathBuf,
    pub table: ProcessTable,
    pub programs: Programs,
    pub progress: Progress,
    etcd: String,
}

/// A running cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub number: usize,
    /// For its administrator.
    pub kubeconfig: PathBuf,
    /// What its API server was asked, by whom. Nobody reads that of a cluster that is the user's.
    pub audit_log: Option<PathBuf>,
}

impl Cluster {
    /// Whether it is the user's.
    pub const fn is_borrowed(&self) -> bool {
        self.audit_log.is_none()
    }
}

impl ControlPlanes {
    /// Starts the etcd of all clusters.
    pub async fn start(
        state: &Path,
        table: &ProcessTable,
        programs: Programs,
        durability: Durability,
        progress: Progress,
    ) -> Result<Self> {
        let etcd = start_etcd(state, table, &programs, durability).await?;
        progress.say("etcd is ready");
        Ok(Self { state: state.to_owned(), table: table.clone(), programs, progress, etcd })
    }

    /// Starts a cluster; several may be started at once.
    pub async fn start_cluster(&self, number: usize) -> Result<Cluster> {
        let cluster_dir = ClusterDir { planes: self, number, folder: self.state.join(format!("cluster-{number}")) };
        fs::create_dir_all(&cluster_dir.folder)?;
        write_private(&cluster_dir.file("audit.yaml"), AUDIT_POLICY)?;
        let pki = Pki::write(&cluster_dir.folder)?;
        let client = cluster_dir.start_api_server(&pki).await?;
        self.progress.say(format_args!("cluster {number}: the API server is ready"));
        if let Some(kwok) = &self.programs.kwok {
            cluster_dir.start_controllers(kwok)?;
            cluster_dir.start_node(&client).await?;
            self.progress.say(format_args!("cluster {number}: its node is ready"));
        } else {
            cluster_dir.start_playing()?;
            self.progress.say(format_args!("cluster {number}: no controllers here, so Deployments are played"));
        }
        Ok(Cluster {
            number,
            kubeconfig: cluster_dir.file("admin.kubeconfig"),
            audit_log: Some(cluster_dir.file("audit.log")),
        })
    }
}

/// The name that a part of a cluster's control plane has among the background processes.
pub fn part_name(cluster: usize, part: &str) -> String {
    format!("cluster-{cluster}-{part}")
}

/// A client that asks once: who waits for something asks again by themselves.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    config.connect_timeout = Some(REQUEST_DEADLINE);
    config.read_timeout = Some(REQUEST_DEADLINE);
    Ok(Client::try_from(config)?)
}

/// A client whose answers may be silent for as long as nothing happens.
pub async fn client_of_watches(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.read_timeout = None;
    Ok(Client::try_from(config)?)
}

/// Whether an API server serves, its first objects included.
pub async fn is_ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok_and(|text| text == "ok")
}

async fn start_etcd(state: &Path, table: &ProcessTable, programs: &Programs, durability: Durability) -> Result<String> {
    let folder = state.join("etcd");
    let mut refusal = String::new();
    for _ in 0..ports::STARTS {
        fs::create_dir_all(&folder)?;
        let url = format!("http://127.0.0.1:{}", ports::free()?);
        let peers = format!("http://127.0.0.1:{}", ports::free()?);
        let launch = Launch::new("etcd", programs.bin.join("etcd"), Tier::Etcd, state)
            .args(["--name=default", "--log-level=warn"])
            .args([format!("--data-dir={}", folder.display()), format!("--initial-cluster=default={peers}")])
            .args([format!("--listen-client-urls={url}"), format!("--advertise-client-urls={url}")])
            .args([format!("--listen-peer-urls={peers}"), format!("--initial-advertise-peer-urls={peers}")])
            .args((durability == Durability::ForTests).then_some("--unsafe-no-fsync"));
        let process = table.start(&launch)?;
        let http = reqwest::Client::builder().timeout(REQUEST_DEADLINE).no_proxy().build()?;
        let ready = async || {
            let answer = http.get(format!("{url}/readyz")).send().await.ok()?;
            answer.status().is_success().then_some(())
        };
        match wait_until_ready(&process, START_DEADLINE, ready).await {
            Ok(()) => return Ok(url),
            Err(error) if ports::was_taken(&error.to_string()) => refusal = error.to_string(),
            Err(error) => return Err(error),
        }
        // It wrote its peers' port down.
        fs::remove_dir_all(&folder)?;
    }
    bail!("{refusal}")
}

/// A cluster that is being started.
struct ClusterDir<'a> {
    planes: &'a ControlPlanes,
    number: usize,
    folder: PathBuf,
}

impl ClusterDir<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn flag(&self, flag: &str, file: &str) -> String {
        format!("--{flag}={}", self.file(file).display())
    }

    fn launch(&self, program: &str, tier: Tier) -> Launch {
        let name = part_name(self.number, program);
        Launch::new(&name, self.planes.programs.bin.join(program), tier, &self.planes.state)
    }

    async fn start_api_server(&self, pki: &Pki) -> Result<Client> {
        let mut refusal = String::new();
        for _ in 0..ports::STARTS {
            let port = ports::free()?;
            pki.write_kubeconfigs(&self.folder, &format!("https://127.0.0.1:{port}"))?;
            let process = self.planes.table.start(&self.api_server(port))?;
            let client = client(&self.file("admin.kubeconfig")).await?;
            let ready = async || is_ready(&client).await.then_some(());
            match wait_until_ready(&process, START_DEADLINE, ready).await {
                Ok(()) => return Ok(client),
                Err(error) if ports::was_taken(&error.to_string()) => refusal = error.to_string(),
                Err(error) => return Err(error),
            }
        }
        bail!("{refusal}")
    }

    fn api_server(&self, port: u16) -> Launch {
        self.launch("kube-apiserver", Tier::ApiServer)
            .args([format!("--etcd-servers={}", self.planes.etcd), format!("--etcd-prefix=/c{}", self.number)])
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
            .args([format!("--secure-port={port}")])
            .args([self.flag("tls-cert-file", "server.crt"), self.flag("tls-private-key-file", "server.key")])
            .args([self.flag("client-ca-file", "ca.crt")])
            .args(["--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.0.0.0/16"])
            .args(["--service-account-issuer=https://kubernetes.default.svc"])
            .args([
                self.flag("service-account-key-file", "sa.pub"),
                self.flag("service-account-signing-key-file", "sa.key"),
            ])
            .args([self.flag("audit-policy-file", "audit.yaml"), self.flag("audit-log-path", "audit.log")])
    }

    /// They try again by themselves until the API server lets them.
    fn start_controllers(&self, kwok: &Kwok) -> Result<()> {
        // Their own limits would otherwise be what a rollout's speed is measured against.
        let rates = ["--kube-api-qps=1000", "--kube-api-burst=2000"];
        let common = ["--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0"];
        let manager = self
            .launch("kube-controller-manager", Tier::Controllers)
            .args([self.flag("kubeconfig", "kcm.kubeconfig")])
            .args(common)
            .args(rates)
            .args(["--use-service-account-credentials=true", "--concurrent-deployment-syncs=50"])
            .args([self.flag("service-account-private-key-file", "sa.key"), self.flag("root-ca-file", "ca.crt")]);
        let scheduler = self
            .launch("kube-scheduler", Tier::Controllers)
            .args([self.flag("kubeconfig", "sched.kubeconfig")])
            .args(common)
            .args(rates);
        for launch in [manager, scheduler, self.kwok(kwok)] {
            self.planes.table.start(&launch)?;
        }
        Ok(())
    }

    /// In place of the controllers.
    fn start_playing(&self) -> Result<()> {
        let program = programs_folder()?.join("bellwether-e2e-env");
        let launch =
            Launch::new(&part_name(self.number, "deployments"), program, Tier::Controllers, &self.planes.state)
                .args(["play-deployments".to_owned(), self.flag("kubeconfig", "admin.kubeconfig")]);
        self.planes.table.start(&launch)?;
        Ok(())
    }

    fn kwok(&self, kwok: &Kwok) -> Launch {
        let stages = kwok.stages.iter().map(|path| format!("--config={}", path.display()));
        Launch::new(&part_name(self.number, "kwok"), &kwok.program, Tier::Controllers, &self.planes.state)
            // It keeps its own settings in the home folder.
            .env("HOME", self.folder.display().to_string())
            .args([self.flag("kubeconfig", "admin.kubeconfig")])
            .args(["--manage-all-nodes=true", "--cidr=10.244.0.0/16", "--node-ip=127.0.0.1"])
            .args(["--node-lease-duration-seconds=40"])
            .args(stages)
    }

    /// Makes the node, and waits until pods may run on it.
    async fn start_node(&self, client: &Client) -> Result<()> {
        let nodes: Api<Node> = Api::all(client.clone());
        let node = node()?;
        nodes.create(&PostParams::default(), &node).await?;
        nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(json!({ "status": node.status }))).await?;
        let kwok = self.planes.table.find(&part_name(self.number, "kwok"))?;
        wait_until_ready(&kwok, START_DEADLINE, async || {
            let node = nodes.get(NODE).await.ok()?;
            may_run_pods(&node).then_some(())
        })
        .await
    }
}

fn node() -> Result<Node> {
    let resources = json!({"cpu": "32", "memory": "256Gi", "pods": "1000"});
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "type": "kwok",
                "kubernetes.io/hostname": NODE,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "node-role.kubernetes.io/agent": "",
            },
        },
        "status": {"allocatable": resources, "capacity": resources},
    });
    Ok(serde_json::from_value(node)?)
}

/// Ready, and without the taint that a node has until the controller manager has seen it so.
fn may_run_pods(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is_ready = conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    is_ready && taints.is_none_or(Vec::is_empty)
}

/// An API server that a test stops and starts.
pub struct ApiServer {
    table: ProcessTable,
    process: Background,
    client: Client,
}

impl ApiServer {
    pub async fn find(state: &Path, cluster: usize, kubeconfig: &Path) -> Result<Self> {
        let table = ProcessTable::open(state)?;
        let process = table.find(&part_name(cluster, "kube-apiserver"))?;
        Ok(Self { table, process, client: client(kubeconfig).await? })
    }

    pub async fn stop(&self) -> Result<()> {
        self.process.stop().await
    }

    /// Starts it again on its port, and waits until it serves. Does nothing when it runs.
    pub async fn start(&mut self) -> Result<()> {
        if !self.process.is_alive() {
            self.process = self.table.start(&self.process.launch)?;
        }
        wait_until_ready(&self.process, START_DEADLINE, async || is_ready(&self.client).await.then_some(())).await
    }
}
