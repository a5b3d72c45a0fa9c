//! Clusters that are the user's, by the contexts of their kubeconfig: borrowed for a show, and given back as they were.
//!
//! What is made there has names that nobody has yet, or the cluster is refused; it is written down in the state folder
//! before the first of it is made, so whoever ends the folder takes it back ([`give_back`]). A namespace is only removed
//! when it carries the label of this loan. Nothing else of the cluster is written. `kube-system` is read once, for the
//! uid that tells clusters apart.
//! Neighbours: `controlplane` (clusters of our own), `environment` (ends the folder).

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::controlplane::Cluster;
use crate::kubectl::Kubectl;
use crate::pki::write_private;
use crate::progress::Progress;

/// Where agents live in borrowed clusters: not where a real one would.
pub const NAMESPACE: &str = "bellwether-demo";
/// Every namespace that a loan makes carries it, with the loan's id.
pub const LABEL: &str = "demo.bellwether.dev/run";
const RECORD: &str = "borrowed.json";
/// Pods may take half a minute to end.
const REMOVAL_DEADLINE: Duration = Duration::from_mins(3);
const POLL_EVERY: Duration = Duration::from_millis(500);

/// Which clusters are asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub kubectl: PathBuf,
    /// Instead of where kubectl looks by itself.
    pub kubeconfig: Option<PathBuf>,
    pub contexts: Vec<String>,
}

/// What is made in each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Footprint {
    /// The value of [`LABEL`].
    pub run: String,
    pub namespaces: Vec<String>,
    /// Cluster roles, with bindings of the same names.
    pub cluster_roles: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    footprint: Footprint,
    loans: Vec<Loan>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Loan {
    number: usize,
    context: String,
    kubeconfig: PathBuf,
}

/// The user's own kubectl.
pub fn find_kubectl() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("kubectl"));
    found.find(is_program).context("there is no kubectl on the PATH, which your clusters are spoken to with")
}

/// What will be touched and how, for whoever has to agree. Asks no cluster anything.
pub fn explain(request: &Request, footprint: &Footprint) -> Result<String> {
    let mut text = "On these clusters of yours:\n".to_owned();
    for (number, context) in (1..).zip(&request.contexts) {
        let config: Value = serde_json::from_str(&view(request, context)?)?;
        let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap_or("an unknown server");
        writeln!(text, "  cluster-{number}  {context}  {server}")?;
    }
    let roles: Vec<String> = footprint.cluster_roles.iter().map(|name| format!("{name} (with its binding)")).collect();
    writeln!(text, "In each it makes, and removes when it ends:")?;
    writeln!(text, "  the namespaces     {}", footprint.namespaces.join(", "))?;
    writeln!(text, "  the cluster roles  {}", roles.join(", "))?;
    text.push_str("It touches nothing else, and refuses a cluster that has one of these already. The agents run as\n");
    text.push_str("processes here; until the end, their service accounts have the rights of an administrator there.\n");
    Ok(text)
}

/// Looks at each cluster, and writes down what will be made there. Nothing is made yet.
pub async fn take(state: &Path, request: &Request, footprint: Footprint) -> Result<Vec<Cluster>> {
    let bin = state.join("bin");
    fs::create_dir_all(&bin)?;
    symlink(&request.kubectl, bin.join("kubectl"))?;
    let mut loans = Vec::new();
    for (number, context) in (1..).zip(&request.contexts) {
        let kubeconfig = state.join(format!("cluster-{number}.kubeconfig"));
        write_private(&kubeconfig, &view(request, context)?)?;
        loans.push(Loan { number, context: context.clone(), kubeconfig });
    }
    let uids = try_join_all(loans.iter().map(|loan| loan.look(state, &footprint))).await?;
    ensure_different(&loans, &uids)?;
    let record = Record { footprint, loans };
    write_private(&state.join(RECORD), &serde_json::to_string_pretty(&record)?)?;
    let cluster = |loan: Loan| Cluster { number: loan.number, kubeconfig: loan.kubeconfig, audit_log: None };
    Ok(record.loans.into_iter().map(cluster).collect())
}

/// Removes what a loan of this folder made, if it made something; what cannot be removed is an error, and stays
/// written down.
pub async fn give_back(state: &Path) -> Result<()> {
    let Ok(text) = fs::read(state.join(RECORD)) else { return Ok(()) };
    let record: Record = serde_json::from_slice(&text).with_context(|| format!("{RECORD} is not readable"))?;
    let progress = Progress::begin();
    progress.say("removing from your clusters what was made there");
    let removals = join_all(record.loans.iter().map(|loan| loan.remove(state, &record.footprint))).await;
    let mut failed = Vec::new();
    for (loan, removed) in record.loans.iter().zip(removals) {
        match removed {
            Ok(foreign) if foreign.is_empty() => progress.say(format_args!("{} is as it was", loan.said())),
            Ok(foreign) => progress.say(format_args!(
                "{}: {} was made by somebody else meanwhile, and is left alone",
                loan.said(),
                foreign.join(", ")
            )),
            Err(error) => failed.push(format!("  {error:#}")),
        }
    }
    let names = record.footprint.namespaces.join(" ");
    ensure!(
        failed.is_empty(),
        "not everything was removed:\n{}\n`./dev down` tries again. By hand: kubectl delete namespace {names}; and for a \
         cluster that is gone, remove {}",
        failed.join("\n"),
        state.join(RECORD).display()
    );
    Ok(fs::remove_file(state.join(RECORD))?)
}

impl Loan {
    fn kubectl(&self, state: &Path) -> Kubectl {
        let (program, cache) = (state.join("bin/kubectl"), state.join("kubectl-cache"));
        Kubectl { program, kubeconfig: self.kubeconfig.clone(), cache }
    }

    fn said(&self) -> String {
        format!("context `{}`", self.context)
    }

    /// The cluster's uid, when it has nothing by the names that will be made.
    async fn look(&self, state: &Path, footprint: &Footprint) -> Result<String> {
        let kubectl = self.kubectl(state);
        let asked = ["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}", "--request-timeout=20s"];
        let uid = kubectl.run(&asked).await.with_context(|| self.said())?;
        let mut there = list(&kubectl, "namespace", &footprint.namespaces).await?;
        for kind in ["clusterrole", "clusterrolebinding"] {
            there.extend(list(&kubectl, kind, &footprint.cluster_roles).await?);
        }
        ensure!(
            there.is_empty(),
            "{} has {} already, so it is left alone: choose another cluster, or remove that first",
            self.said(),
            there.join(", ")
        );
        Ok(uid)
    }

    /// Answers the namespaces that are still there because they are not ours.
    async fn remove(&self, state: &Path, footprint: &Footprint) -> Result<Vec<String>> {
        self.remove_all(&self.kubectl(state), footprint).await.with_context(|| self.said())
    }

    async fn remove_all(&self, kubectl: &Kubectl, footprint: &Footprint) -> Result<Vec<String>> {
        let label = format!("{LABEL}={}", footprint.run);
        let ours = async || -> Result<Vec<String>> {
            let labelled = kubectl.run(&["get", "namespace", "-l", &label, "-o", "name"]).await?;
            Ok(labelled.lines().map(str::to_owned).collect())
        };
        let delete = async |names: &[String]| {
            let mut args = vec!["delete", "--ignore-not-found", "--wait=false"];
            args.extend(names.iter().map(String::as_str));
            if names.is_empty() { Ok(String::new()) } else { kubectl.run(&args).await }
        };
        delete(&ours().await?).await?;
        for kind in ["clusterrolebinding", "clusterrole"] {
            delete(&list(kubectl, kind, &footprint.cluster_roles).await?).await?;
        }
        let deadline = Instant::now() + REMOVAL_DEADLINE;
        loop {
            let left = ours().await?;
            if left.is_empty() {
                return list(kubectl, "namespace", &footprint.namespaces).await;
            }
            ensure!(Instant::now() < deadline, "{} is still being removed", left.join(", "));
            sleep(POLL_EVERY).await;
        }
    }
}

/// Those of the names that are there, as `kind/name`.
async fn list(kubectl: &Kubectl, kind: &str, names: &[String]) -> Result<Vec<String>> {
    let mut args = vec!["get", kind, "--ignore-not-found", "-o", "name"];
    args.extend(names.iter().map(String::as_str));
    let found = if names.is_empty() { String::new() } else { kubectl.run(&args).await? };
    Ok(found.lines().map(str::to_owned).collect())
}

/// Two agents of one hub in one cluster would contest every object.
fn ensure_different(loans: &[Loan], uids: &[String]) -> Result<()> {
    for (place, uid) in uids.iter().enumerate() {
        if let Some(same) = uids[..place].iter().position(|other| other == uid) {
            bail!("the contexts `{}` and `{}` are one cluster", loans[same].context, loans[place].context);
        }
    }
    Ok(())
}

/// A context alone, with everything that it names inside, as JSON.
fn view(request: &Request, context: &str) -> Result<String> {
    let mut command = Command::new(&request.kubectl);
    command.args(["config", "view", "--raw", "--minify", "--flatten", "-o", "json", "--context", context]);
    command.args(request.kubeconfig.iter().flat_map(|path| ["--kubeconfig".into(), path.clone().into_os_string()]));
    let output = command.output().with_context(|| format!("cannot run {}", request.kubectl.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "context `{context}`: {}", said.trim());
    Ok(String::from_utf8(output.stdout)?)
}
