//! A namespace, a hub and an agent for one test, and the API server that all tests have in common.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_agent::{Config, RunError, run};
use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::drift::Drift;
use bellwether_core::dry_run::{DryRun, DryRunAnswer};
use bellwether_core::journal::{Journal, Part};
use bellwether_core::object::{TARGET_LABEL, canonical_json};
use bellwether_core::report::Report;
use bellwether_core::session::{Action, Assignment, Profile, SyncOptions};
use bellwether_core::{Digest, Generation, ObjectKey, TargetId};
use bellwether_proto::compression;
use clap::Parser as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::gateway::Gateway;
use crate::hub::{Hub, TOKEN};

const KUBECONFIG: &str = "BELLWETHER_TEST_KUBECONFIG";

/// For anything that a test waits for; on a machine that does something else meanwhile, too.
const PATIENCE: Duration = Duration::from_mins(1);

/// Somewhat more than the pause between what an agent writes of that.
const LEARNED_IS_WRITTEN: Duration = Duration::from_secs(6);
/// For so long an agent that has written its journal, or asked whose it is, does not ask again; and a little more.
pub(crate) const FENCE_COUNTS: Duration = Duration::from_millis(1_300);

pub(crate) struct Fixture {
    pub(crate) hub: Hub,
    pub(crate) target: TargetId,
    /// What the target's objects are in.
    pub(crate) namespace: String,
    /// What the agent is installed in.
    pub(crate) home: String,
    kubeconfig: PathBuf,
    client: kube::Client,
    folder: tempfile::TempDir,
    agent: Option<JoinHandle<Result<(), RunError>>>,
    pub(crate) options: SyncOptions,
    /// Under which a person last asked for another try.
    pub(crate) retried: i64,
    /// How often the agent polls what its cluster serves.
    pub(crate) poll_seconds: &'static str,
    /// Whether it says what would become of a bundle.
    pub(crate) dry_run: bool,
    /// A policy is named to the agent.
    has_policy: bool,
}

impl Fixture {
    /// `None` without a cluster.
    pub(crate) async fn start() -> Option<Self> {
        let Some(kubeconfig) = std::env::var_os(KUBECONFIG).map(PathBuf::from) else {
            assert!(std::env::var_os("CI").is_none(), "{KUBECONFIG} has to name a cluster's kubeconfig in CI");
            #[expect(clippy::print_stderr, reason = "a skipped test has to be seen")]
            {
                eprintln!("SKIPPED: {KUBECONFIG} does not name a cluster's kubeconfig");
            }
            return None;
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let id = Uuid::now_v7();
        // The first half of a v7 id is the time, which tests that start together share.
        let suffix = id.simple().to_string()[20..].to_owned();
        let fixture = Self {
            hub: Hub::start().await,
            target: TargetId::new(id),
            namespace: format!("shop-{suffix}"),
            home: format!("agent-{suffix}"),
            client: client(&kubeconfig).await,
            kubeconfig,
            folder: tempfile::tempdir().expect("makes a folder"),
            agent: None,
            options: SyncOptions::default(),
            retried: 0,
            poll_seconds: "300",
            dry_run: true,
            has_policy: false,
        };
        fixture.create(&namespace_object(&fixture.home), "fixture").await;
        Some(fixture)
    }

    /// As the agent's manifest does. All tests of the cluster share it, and those that began before show nothing.
    pub(crate) async fn define_assignments(&self) {
        let definition = include_str!("../../../deploy/charts/bellwether-agent/crds/assignments.yaml");
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/assignments.bellwether.dev";
        let request = http::Request::patch(format!("{path}?fieldManager=fixture&force=true"))
            .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
            .body(definition.as_bytes().to_vec())
            .expect("is a request");
        self.client.request_text(request).await.expect("applies");
        self.wait_for("/apis/bellwether.dev/v1alpha1/assignments", |list| list["items"].is_array()).await;
    }

    /// What shows the test's target, once it is like this.
    pub(crate) async fn shown(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        let is_it = |one: &&Value| one["spec"]["targetId"] == self.target.as_uuid().to_string() && is_so(one);
        let find = |list: &Value| list["items"].as_array().and_then(|all| all.iter().find(is_it).cloned());
        let list = self.wait_for("/apis/bellwether.dev/v1alpha1/assignments", |list| find(list).is_some()).await;
        find(&list).expect("is there")
    }

    /// `kubectl`, if it is there.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> Option<(bool, String)> {
        let mut command = tokio::process::Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(args).stdin(Stdio::null()).kill_on_drop(true);
        match command.output().await {
            Ok(output) => {
                let text = [output.stdout, output.stderr].concat();
                Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
            }
            Err(error) => {
                #[expect(clippy::print_stderr, reason = "what is skipped has to be seen")]
                {
                    eprintln!("SKIPPED in part: kubectl does not run: {error}");
                }
                None
            }
        }
    }

    /// The agent reaches the API server through it from its next start on.
    pub(crate) async fn put_gateway_before(&mut self, plural: &'static str) -> Gateway {
        let gateway = Gateway::start(self.client.clone(), plural).await;
        self.kubeconfig = gateway.write_kubeconfig(self.folder.path());
        gateway
    }

    /// What the agent is allowed from now on, or a second later when it runs; by a file that is there whole or not at all, as a
    /// mounted one is.
    pub(crate) fn write_policy(&mut self, text: &str) {
        (self.has_policy, self.poll_seconds) = (true, "1");
        let next = self.folder.path().join("policy-next");
        std::fs::write(&next, text).expect("writes");
        std::fs::rename(next, self.policy()).expect("moves");
    }

    fn policy(&self) -> PathBuf {
        self.folder.path().join("policy.yaml")
    }

    /// From its next start on the agent is a ServiceAccount of its namespace that may do nothing but this, in the whole
    /// cluster.
    pub(crate) async fn narrow_agent(&mut self, rules: &Value) {
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let accounts = format!("/api/v1/namespaces/{}/serviceaccounts", self.home);
        self.post(&accounts, &json!({"metadata": {"name": "agent"}})).await;
        let metadata = json!({"name": self.home});
        self.post(&format!("{rbac}/clusterroles"), &json!({"metadata": metadata, "rules": rules})).await;
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": self.home});
        let subjects = json!([{"kind": "ServiceAccount", "namespace": self.home, "name": "agent"}]);
        let binding = json!({"metadata": metadata, "roleRef": role, "subjects": subjects});
        self.post(&format!("{rbac}/clusterrolebindings"), &binding).await;
        let (path, asked) = (format!("{accounts}/agent/token"), json!({"spec": {}}));
        let granted = self.send(http::Method::POST, &path, "application/json", &asked).await.expect("grants a token");
        let file = kube::config::Kubeconfig::read_from(&self.kubeconfig).expect("reads the kubeconfig");
        let mut file = serde_json::to_value(file).expect("is JSON");
        for user in file["users"].as_array_mut().expect("has users") {
            user["user"] = json!({"token": granted["status"]["token"]});
        }
        self.kubeconfig = self.folder.path().join("narrowed");
        std::fs::write(&self.kubeconfig, file.to_string()).expect("writes");
    }

    /// That ServiceAccount of the target's namespace may do this there.
    pub(crate) async fn allow_account(&self, account: &str, role: &str, rules: &Value) {
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", self.namespace);
        let metadata = json!({"name": role});
        self.post(&format!("{rbac}/roles"), &json!({"metadata": metadata, "rules": rules})).await;
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role});
        let subjects = json!([{"kind": "ServiceAccount", "namespace": self.namespace, "name": account}]);
        let binding = json!({"metadata": metadata, "roleRef": role, "subjects": subjects});
        self.post(&format!("{rbac}/rolebindings"), &binding).await;
    }

    pub(crate) fn start_agent(&mut self) {
        self.agent = Some(tokio::spawn(run(self.config(Some(TOKEN)), CancellationToken::new())));
    }

    pub(crate) fn start_agent_without_token(&mut self) {
        self.agent = Some(tokio::spawn(run(self.config(None), CancellationToken::new())));
    }

    /// As a process of its own, whose memory is its own.
    pub(crate) fn start_agent_process(&mut self) -> tokio::process::Child {
        self.start_agent_process_into(Stdio::inherit())
    }

    /// And the file that it logs to.
    pub(crate) fn start_agent_process_with_log(&mut self) -> (PathBuf, tokio::process::Child) {
        let log = self.folder.path().join("log");
        let file = std::fs::File::create(&log).expect("makes a file");
        (log, self.start_agent_process_into(file.into()))
    }

    fn start_agent_process_into(&mut self, log: Stdio) -> tokio::process::Child {
        tokio::process::Command::new(env!("CARGO_BIN_EXE_bellwether-agent"))
            .args(self.flags(Some(TOKEN)))
            .stdout(log)
            .kill_on_drop(true)
            .spawn()
            .expect("starts")
    }

    pub(crate) async fn run_agent_with_token(&self, token: &str) -> Result<(), RunError> {
        run(self.config(Some(token)), CancellationToken::new()).await
    }

    /// Without a chance to end what it has in hand.
    pub(crate) async fn kill_agent(&mut self) {
        let agent = self.agent.take().expect("an agent runs");
        agent.abort();
        assert!(agent.await.is_err_and(|ended| ended.is_cancelled()), "it ran until then");
    }

    /// It goes on, and nobody looks after it.
    pub(crate) fn take_agent(&mut self) -> JoinHandle<Result<(), RunError>> {
        self.agent.take().expect("an agent runs")
    }

    fn config(&self, token: Option<&str>) -> Config {
        let arguments = std::iter::once("bellwether-agent".to_owned()).chain(self.flags(token));
        Config::try_parse_from(arguments).expect("is a configuration")
    }

    fn flags(&self, token: Option<&str>) -> Vec<String> {
        let file = self.folder.path().join(token.map_or("none", |_| "token"));
        if let Some(token) = token {
            std::fs::write(&file, format!("{token}\n")).expect("writes");
        }
        let kubeconfig = self.kubeconfig.display().to_string();
        let (hub, file) = (self.hub.address.to_string(), file.display().to_string());
        let flags = [
            ("--hub", hub.as_str()),
            ("--ca-fingerprint", &self.hub.fingerprint),
            ("--namespace", &self.home),
            ("--kubeconfig", &kubeconfig),
            ("--token-file", &file),
            ("--poll-seconds", self.poll_seconds),
            ("--dry-run", if self.dry_run { "true" } else { "false" }),
        ];
        let policy = self.policy().display().to_string();
        let policy = self.has_policy.then_some(("--policy", policy.as_str()));
        flags.into_iter().chain(policy).flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()]).collect()
    }

    pub(crate) fn assign(&self, generation: i64, objects: &[Value]) {
        self.assign_pruning(generation, objects, &[]);
    }

    /// With a plan that allows these to be deleted.
    pub(crate) fn assign_pruning(&self, generation: i64, objects: &[Value], prunable: &[Value]) {
        let prunable = prunable.iter().map(|object| ObjectKey::of(object).expect("has a key")).collect();
        self.assign_as(Action::Apply, generation, objects, prunable);
    }

    /// Another target than the test's own, of many objects.
    pub(crate) fn assign_to(&self, target: TargetId, objects: &[Value]) {
        self.assign_full(target, Action::Apply, 1, objects, Vec::new());
    }

    pub(crate) fn assign_tombstone(&self, generation: i64, action: Action) {
        self.assign_as(action, generation, &[], Vec::new());
    }

    fn assign_as(&self, action: Action, generation: i64, objects: &[Value], prunable: Vec<ObjectKey>) {
        self.assign_full(self.target, action, generation, objects, prunable);
    }

    fn assign_full(
        &self,
        target: TargetId,
        action: Action,
        generation: i64,
        objects: &[Value],
        prunable: Vec<ObjectKey>,
    ) {
        let bodies: Vec<_> = objects.iter().map(canonical_json).collect();
        let entries = objects
            .iter()
            .zip(&bodies)
            .map(|(object, body)| Entry { key: ObjectKey::of(object).expect("has a key"), digest: Digest::of(body) });
        let assignment = Assignment {
            target,
            name: "shop".parse().expect("is a name"),
            generation: Generation::new(generation),
            action,
            manifest: Manifest::new(entries.collect()).expect("is a manifest"),
            prunable,
            namespace: Some(self.namespace.parse().expect("is a name")),
            project: Some("default".parse().expect("is a name")),
            options: self.options.clone(),
            retried: Generation::new(self.retried),
            trace: None,
        };
        self.hub.assign(assignment, &bodies);
    }

    /// What the agent says that would become of these objects.
    pub(crate) async fn dry_run(&self, objects: &[Value]) -> DryRunAnswer {
        let bodies: Vec<_> = objects.iter().map(canonical_json).collect();
        let key = |object| ObjectKey::of(object).expect("has a key");
        let entries =
            objects.iter().zip(&bodies).map(|(object, body)| Entry { key: key(object), digest: Digest::of(body) });
        let id = Uuid::now_v7();
        self.hub.ask_dry_run(DryRun {
            id,
            target: self.target,
            manifest: Manifest::new(entries.collect()).expect("is a manifest"),
            objects: bodies.iter().map(|body| compression::compress(body)).collect(),
            namespace: Some(self.namespace.parse().expect("is a name")),
            project: None,
            options: self.options.clone(),
            deadline: jiff::SignedDuration::from_secs(30),
        });
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.hub.dry_ran(id) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The newest report, once it is like this.
    pub(crate) async fn report(&self, is_so: impl FnMut(&Report) -> bool) -> Report {
        self.report_within(PATIENCE, is_so).await
    }

    pub(crate) async fn report_within(&self, patience: Duration, mut is_so: impl FnMut(&Report) -> bool) -> Report {
        let reports = self.reports_within(patience, |reports| reports.last().is_some_and(&mut is_so)).await;
        reports.last().expect("there is one").clone()
    }

    pub(crate) async fn reports(&self, are_so: impl FnMut(&[Report]) -> bool) -> Vec<Report> {
        self.reports_within(PATIENCE, are_so).await
    }

    async fn reports_within(&self, patience: Duration, mut are_so: impl FnMut(&[Report]) -> bool) -> Vec<Report> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let reports = self.hub.reports(self.target);
            if are_so(&reports) {
                return reports;
            }
            let ended = self.agent.as_ref().is_some_and(JoinHandle::is_finished);
            assert!(!ended, "the agent ended; the newest report is {:#?}", reports.last());
            let is_late = tokio::time::Instant::now() > deadline;
            assert!(!is_late, "not within {patience:?}; the newest report is {:#?}", reports.last());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until the agent has said this of its cluster.
    pub(crate) async fn profile(&self, is_so: impl Fn(&Profile) -> bool) -> Profile {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let profiles = self.hub.profiles();
            if let Some(profile) = profiles.last().filter(|profile| is_so(profile)) {
                return profile.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {:?}", profiles.last());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the hub was told of the definition with this digest.
    pub(crate) async fn told(&self, digest: Digest) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(definition) = self.hub.definition(digest) {
                return serde_json::from_str(definition.text()).expect("is JSON");
            }
            assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn object(&self, api_version: &str, kind: &str, name: &str, rest: &Value) -> Value {
        let labels = json!({TARGET_LABEL: self.target.as_uuid().simple().to_string()});
        let metadata = json!({"name": name, "namespace": self.namespace, "labels": labels});
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
        let rest = rest.as_object().expect("is an object").clone();
        object.as_object_mut().expect("is an object").extend(rest);
        object
    }

    pub(crate) fn config_map(&self, name: &str, value: &str) -> Value {
        self.object("v1", "ConfigMap", name, &json!({"data": {"key": value}}))
    }

    pub(crate) fn unlabelled_config_map(&self, name: &str, value: &str) -> Value {
        let mut object = self.config_map(name, value);
        object["metadata"].as_object_mut().expect("is an object").remove("labels");
        object
    }

    /// As part of the target. It names a namespace itself, as careless manifests do.
    pub(crate) fn namespace_object(&self) -> Value {
        self.object("v1", "Namespace", &self.namespace, &json!({}))
    }

    pub(crate) fn definition(&self, group: &str) -> Value {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"size": {"type": "integer"}}}}});
        let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
        let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget"});
        let spec = json!({"group": group, "scope": "Namespaced", "names": names, "versions": [version]});
        let mut object = self.object(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            &format!("widgets.{group}"),
            &json!({"spec": spec}),
        );
        object["metadata"].as_object_mut().expect("is an object").remove("namespace");
        object
    }

    pub(crate) async fn create_namespace(&self) {
        self.create(&namespace_object(&self.namespace), "fixture").await;
    }

    pub(crate) async fn create_as(&self, manager: &str, object: Value) {
        self.create(&object, manager).await;
    }

    /// Unless somebody else was faster.
    pub(crate) async fn try_create_as(&self, manager: &str, object: &Value) {
        let path = format!("/api/v1/namespaces/{}/configmaps?fieldManager={manager}", self.namespace);
        match self.client.request_text(json_request(http::Method::POST, &path, "json", object)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn post(&self, path: &str, object: &Value) {
        let request = json_request(http::Method::POST, path, "json", object);
        self.client.request_text(request).await.expect("creates");
    }

    /// Whether the API server has these resources in this version. Where an older one has not, what needs them is skipped,
    /// and seen to be.
    pub(crate) async fn serves(&self, version: &str, plural: &str) -> bool {
        let list: Value = serde_json::from_str(&self.get(version).await).expect("is JSON");
        let has = list["resources"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == plural));
        if !has {
            #[expect(clippy::print_stderr, reason = "what is skipped has to be seen")]
            {
                eprintln!("SKIPPED in part: this API server has no {plural} in {version}");
            }
        }
        has
    }

    pub(crate) async fn remove(&self, path: &str) {
        let request = json_request(http::Method::DELETE, path, "json", &json!({}));
        self.client.request_text(request).await.expect("deletes");
    }

    pub(crate) async fn merge(&self, path: &str, manager: &str, change: &Value) {
        self.patch(&format!("{path}?fieldManager={manager}"), "merge-patch", change).await;
    }

    /// `kubectl apply --server-side`
    pub(crate) async fn apply_as(&self, manager: &str, path: &str, object: &Value) {
        self.patch(&format!("{path}?fieldManager={manager}"), "apply-patch", object).await;
    }

    /// What is there under a path, once it is like this; null when nothing is.
    pub(crate) async fn wait_for(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let request = http::Request::get(path).body(Vec::new()).expect("is a request");
            let found = self.client.request_text(request).await.unwrap_or_default();
            let found: Value = serde_json::from_str(&found).unwrap_or_default();
            if is_so(&found) {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path}: not within {PATIENCE:?}: {found:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn create(&self, object: &Value, manager: &str) {
        let collection = match object["kind"].as_str() {
            Some("Namespace") => "/api/v1/namespaces".to_owned(),
            Some("Secret") => format!("/api/v1/namespaces/{}/secrets", self.namespace),
            _ => format!("/api/v1/namespaces/{}/configmaps", self.namespace),
        };
        let request = http::Request::post(format!("{collection}?fieldManager={manager}"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(object.to_string().into_bytes())
            .expect("is a request");
        self.client.request_text(request).await.expect("creates");
    }

    pub(crate) async fn fetch(&self, kind: &str, name: &str) -> Value {
        let plural = format!("{}s", kind.to_lowercase());
        let path = format!("/api/v1/namespaces/{}/{plural}/{name}", self.namespace);
        serde_json::from_str(&self.get(&path).await).expect("is JSON")
    }

    pub(crate) async fn wait_until(&self, name: &str, is_there: bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.is_there(name).await != is_there {
            assert!(tokio::time::Instant::now() < deadline, "{name}: not within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn delete(&self, name: &str) {
        let request = http::Request::delete(self.path(name)).body(Vec::new()).expect("is a request");
        self.client.request_text(request).await.expect("deletes");
    }

    fn path(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/configmaps/{name}", self.namespace)
    }

    /// Changes a config map as `kubectl edit` and `kubectl patch` do.
    pub(crate) async fn edit(&self, name: &str, change: &Value) {
        self.patch(&format!("{}?fieldManager=kubectl-edit", self.path(name)), "merge-patch", change).await;
    }

    /// `kubectl apply --server-side --force-conflicts`
    pub(crate) async fn force(&self, name: &str, value: &str) {
        let object = self.unlabelled_config_map(name, value);
        self.patch(&format!("{}?fieldManager=kubectl&force=true", self.path(name)), "apply-patch", &object).await;
    }

    /// `kubectl scale`
    pub(crate) async fn scale(&self, name: &str, replicas: u32) {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/{name}/scale", self.namespace);
        let scale = json!({"spec": {"replicas": replicas}});
        self.patch(&format!("{path}?fieldManager=kubectl"), "merge-patch", &scale).await;
    }

    async fn patch(&self, path: &str, kind: &str, change: &Value) {
        let format = if kind == "apply-patch" { "yaml" } else { "json" };
        let request = json_request(http::Method::PATCH, path, &format!("{kind}+{format}"), change);
        self.client.request_text(request).await.expect("patches");
    }

    pub(crate) async fn wait_for_value(&self, name: &str, value: &str) {
        self.wait_for_object("v1", "configmaps", name, |object| object["data"]["key"] == value).await;
    }

    pub(crate) async fn wait_for_object(
        &self,
        version: &str,
        plural: &str,
        name: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        let prefix = if version == "v1" { "/api" } else { "/apis" };
        let path = format!("{prefix}/{version}/namespaces/{}/{plural}/{name}", self.namespace);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let request = http::Request::get(&path).body(Vec::new()).expect("is a request");
            let object = self.client.request_text(request).await.unwrap_or_default();
            let object: Value = serde_json::from_str(&object).unwrap_or_default();
            if is_so(&object) {
                return object;
            }
            assert!(tokio::time::Instant::now() < deadline, "{name}: not within {PATIENCE:?}: {object:#}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Takes the first entry out of the journal, as somebody with access to the namespace could.
    pub(crate) async fn lose_first_entry(&self) {
        let path = format!("/api/v1/namespaces/{}/secrets/bellwether-journal-000000000001", self.home);
        let request = http::Request::delete(path).body(Vec::new()).expect("is a request");
        self.client.request_text(request).await.expect("deletes");
    }

    /// Puts a Secret with the journal's label into the agent's namespace: with the data of another one, or with nonsense.
    pub(crate) async fn forge_journal(&self, name: &str, copied: Option<&str>) {
        let secrets = format!("/api/v1/namespaces/{}/secrets", self.home);
        let data = match copied {
            Some(name) => {
                let secret: Value =
                    serde_json::from_str(&self.get(&format!("{secrets}/{name}")).await).expect("is one");
                secret["data"].clone()
            }
            None => json!({"head.json": "bm8=", "entry.zst": "bm8=", "seal": "bm8="}),
        };
        let metadata = json!({"name": name, "labels": {"bellwether.dev/journal": "v1"}});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data});
        self.send(http::Method::POST, &secrets, "application/json", &secret).await.expect("creates");
    }

    /// Until the journal in the cluster holds exactly these targets.
    pub(crate) async fn wait_for_journal(&self, targets: &[TargetId]) {
        let mut expected = targets.to_vec();
        expected.sort_unstable();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let inventory = self.journal().await.inventory();
            let held: Vec<_> = inventory.iter().map(|journalled| journalled.assignment.target).collect();
            if held == expected {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {held:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn journal(&self) -> Journal {
        let path = format!("/api/v1/namespaces/{}/secrets?labelSelector=bellwether.dev%2Fjournal", self.home);
        let list: Value = serde_json::from_str(&self.get(&path).await).expect("is a list");
        let part = |secret: &Value| {
            let data = |key: &str| STANDARD.decode(secret["data"][key].as_str().expect("has it")).expect("is Base64");
            let name = secret["metadata"]["name"].as_str().expect("has a name");
            let number = name.rsplit('-').next().and_then(|number| number.parse().ok()).expect("has a number");
            let head = serde_json::from_slice(&data("head.json")).expect("has a head");
            Part { number, head, bytes: data("entry.zst") }
        };
        let parts = list["items"].as_array().expect("is a list").iter().map(part).collect();
        Journal::load(parts, |frame| compression::inflate_stream(frame, 1 << 30)).expect("can be read")
    }

    /// All that the journal in the cluster says, as it is before it is packed.
    pub(crate) async fn journal_text(&self) -> String {
        let path = format!("/api/v1/namespaces/{}/secrets?labelSelector=bellwether.dev%2Fjournal", self.home);
        let list: Value = serde_json::from_str(&self.get(&path).await).expect("is a list");
        let text = |secret: &Value| {
            let data = |key: &str| STANDARD.decode(secret["data"][key].as_str().expect("has it")).expect("is Base64");
            let (mut text, entry) = (data("head.json"), data("entry.zst"));
            let mut entry = compression::inflate_stream(entry, 1 << 30).expect("is packed");
            std::io::Read::read_to_end(&mut entry, &mut text).expect("can be unpacked");
            String::from_utf8_lossy(&text).into_owned()
        };
        list["items"].as_array().expect("is a list").iter().map(text).collect()
    }

    /// Until an agent comes that holds exactly this.
    pub(crate) async fn wait_for_hello(&self, root: Digest) {
        let known = self.hub.roots().len();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.hub.roots()[known..].contains(&root) {
            assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until the journal knows what was applied: it holds more entries than assignments.
    pub(crate) async fn wait_for_inventory(&self, assignments: usize) {
        let path = format!("/api/v1/namespaces/{}/secrets?labelSelector=bellwether.dev%2Fjournal", self.home);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let list: Value = serde_json::from_str(&self.get(&path).await).expect("is a list");
            if list["items"].as_array().is_some_and(|entries| entries.len() > assignments) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Until all is written down that an agent has learned, which it does once in a while: of two agents who write at once
    /// the second would end.
    pub(crate) async fn wait_for_quiet_journal(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let (mut entries, mut since) = (Value::Null, tokio::time::Instant::now());
        while entries.is_null() || since.elapsed() < LEARNED_IS_WRITTEN {
            assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}");
            let path = format!("/api/v1/namespaces/{}/secrets?labelSelector=bellwether.dev%2Fjournal", self.home);
            let list: Value = serde_json::from_str(&self.get(&path).await).expect("is a list");
            let names = list["items"].as_array().expect("is a list").iter().map(|one| one["metadata"]["name"].clone());
            let names: Value = names.collect();
            if names != entries {
                (entries, since) = (names, tokio::time::Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The drifts that the hub was told, once there are so many.
    pub(crate) async fn drifts(&self, count: usize) -> Vec<Drift> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let drifts = self.hub.drifts();
            if drifts.len() >= count {
                return drifts;
            }
            assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {drifts:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Any request, for what only one test needs.
    pub(crate) async fn send(
        &self,
        method: http::Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .body(body.to_string().into_bytes())
            .expect("is a request");
        let answer = self.client.request_text(request).await?;
        Ok(serde_json::from_str(&answer).expect("is JSON"))
    }

    pub(crate) async fn wait_for_path(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let object: Value = serde_json::from_str(&self.get(path).await).expect("is JSON");
            if is_so(&object) {
                return object;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path}: not within {PATIENCE:?}: {object:#}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn is_there(&self, name: &str) -> bool {
        let request = http::Request::get(self.path(name)).body(Vec::new()).expect("is a request");
        match self.client.request_text(request).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// How many requests for this kind the API server has answered.
    pub(crate) async fn requests(&self, plural: &str) -> u64 {
        let metrics = self.get("/metrics").await;
        let label = format!("resource=\"{plural}\"");
        metrics
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{") && line.contains(&label))
            // The API server's own informers.
            .filter(|line| !line.contains("verb=\"WATCH\"") && !line.contains("verb=\"LIST\""))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum()
    }

    async fn get(&self, path: &str) -> String {
        let request = http::Request::get(path).body(Vec::new()).expect("is a request");
        self.client.request_text(request).await.expect("answers")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(agent) = &self.agent {
            agent.abort();
        }
    }
}

fn json_request(method: http::Method, path: &str, kind: &str, body: &Value) -> http::Request<Vec<u8>> {
    http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, format!("application/{kind}"))
        .body(body.to_string().into_bytes())
        .expect("is a request")
}

async fn client(kubeconfig: &Path) -> kube::Client {
    let file = kube::config::Kubeconfig::read_from(kubeconfig).expect("reads the kubeconfig");
    let options = kube::config::KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(file, &options).await.expect("is a kubeconfig");
    config.proxy_url = None;
    kube::Client::try_from(config).expect("makes a client")
}

fn namespace_object(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// The object as another target's.
pub(crate) fn labelled(mut object: Value, target: TargetId) -> Value {
    object["metadata"]["labels"][TARGET_LABEL] = json!(target.as_uuid().simple().to_string());
    object
}
