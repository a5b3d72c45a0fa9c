//! An agent as a process, joined as anybody would join it: the cluster is registered, the printed manifest is applied by
//! the cluster's administrator, and the agent gets what that manifest made: its join token, and its own ServiceAccount's
//! token for the API server. It never runs as the administrator: a test with such an agent would show nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::api::Api;
use crate::kubectl::Kubectl;
use crate::pki::{kubeconfig_with_token, write_private};
use crate::process::{Launch, Tier};

const SERVICE_ACCOUNT: &str = "bellwether-agent";
const JOIN_SECRET: &str = "bellwether-agent-join";

/// What registering a cluster answers.
#[derive(Debug, Clone)]
pub struct Registered {
    pub manifest: String,
    /// Where agents find the hub, as host:port.
    pub hub: String,
}

pub async fn register(api: &Api, cluster: &str, labels: &Value, namespace: &str) -> Result<Registered> {
    let body = json!({"name": cluster, "labels": labels, "namespace": namespace});
    let answer = api.post("/api/v1/clusters", &body).await?;
    let text =
        |field: &str| answer[field].as_str().map(str::to_owned).with_context(|| format!("no `{field}` in {answer}"));
    Ok(Registered { manifest: text("manifest")?, hub: text("hub")? })
}

/// Where an agent is to run, and with which program.
#[derive(Debug)]
pub struct AgentPlace<'a> {
    /// Of its process and its log.
    pub name: &'a str,
    /// Where its files and its log go.
    pub state: &'a Path,
    pub programs: &'a Path,
    pub kubectl: &'a Kubectl,
    pub namespace: &'a str,
    /// The cluster has no image of it to run, and nothing that only plays pods.
    pub without_pods: bool,
}

/// Applies the manifest, and answers how to start the agent that it installs.
pub async fn install(place: &AgentPlace<'_>, registered: &Registered) -> Result<Launch> {
    let AgentPlace { kubectl, without_pods, .. } = place;
    let manifest = if *without_pods { manifest_without_pods(registered)? } else { registered.manifest.clone() };
    kubectl.run_with_input(&["apply", "-f", "-"], &manifest).await?;
    launch(place, &registered.hub).await
}

/// How to start an agent that is installed, however that was done.
pub async fn launch(place: &AgentPlace<'_>, hub: &str) -> Result<Launch> {
    let AgentPlace { name, state, programs, kubectl, namespace, .. } = place;
    let secret: Value =
        serde_json::from_str(&kubectl.run(&["get", "secret", JOIN_SECRET, "-n", namespace, "-o", "json"]).await?)?;
    let token = kubectl.run(&["create", "token", SERVICE_ACCOUNT, "-n", namespace, "--duration", "24h"]).await?;

    let files = state.join(name);
    fs::create_dir_all(&files)?;
    write_private(&files.join("token"), &decoded(&secret, "token")?)?;
    let admin = fs::read_to_string(&kubectl.kubeconfig)?;
    write_private(&files.join("kubeconfig"), &kubeconfig_with_token(&admin, token.trim())?)?;
    let file = |name: &str| files.join(name).display().to_string();
    Ok(Launch::new(name, agent_program(programs), Tier::Agents, state)
        .args(["--hub", hub, "--ca-fingerprint", &decoded(&secret, "ca-fingerprint")?])
        .args(["--namespace", namespace, "--kubeconfig", &file("kubeconfig"), "--token-file", &file("token")])
        .args(["--log", "pretty"])
        // A proxy of the machine is not for a hub on it.
        .env("NO_PROXY", "127.0.0.1"))
}

fn manifest_without_pods(registered: &Registered) -> Result<String> {
    let (before, after) =
        registered.manifest.split_once("\n  replicas: 1\n").context("the manifest has no replicas")?;
    Ok(format!("{before}\n  replicas: 0\n{after}"))
}

fn agent_program(programs: &Path) -> PathBuf {
    programs.join("bellwether-agent")
}

fn decoded(secret: &Value, key: &str) -> Result<String> {
    let text = secret["data"][key].as_str().with_context(|| format!("the join Secret has no `{key}`"))?;
    Ok(String::from_utf8(BASE64_STANDARD.decode(text)?)?)
}
