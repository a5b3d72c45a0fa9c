//! How agents are installed: by the printed manifest or by Helm, with all rights or with those that are enough.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, eventually};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::config_map;

/// Helm needs a second or two; beside eight tests on two cores, many.
const DEADLINE: Duration = Duration::from_mins(2);

/// The real Helm, which `./dev` builds.
fn helm() -> Result<PathBuf> {
    let program = std::env::var_os("BELLWETHER_HELM").context("BELLWETHER_HELM is not set: run `./dev test e2e`")?;
    Ok(program.into())
}

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/charts/bellwether-agent")
}

/// What a program printed, in the scene's folder and on its first cluster.
async fn run(scene: &Scene, program: &Path, args: &[&str]) -> Result<String> {
    let helm = helm()?;
    let tools = [helm.parent().context("it lies in a folder")?, &scene.env.state.join("bin")];
    let path = std::env::join_paths(tools.into_iter().map(Path::to_owned).chain(["/usr/bin".into(), "/bin".into()]))?;
    let mut command = Command::new(program);
    command.args(args).current_dir(scene.folder.path()).env("PATH", path).env("HOME", scene.folder.path());
    command.env("KUBECONFIG", scene.env.kubeconfigs.first().context("there is a cluster")?);
    let output = timeout(DEADLINE, command.stdin(Stdio::null()).kill_on_drop(true).output()).await??;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{} {args:?}: {}\n{stdout}{stderr}", program.display(), output.status);
    Ok(stdout)
}

/// What a cluster would have of these, as its API server says, sorted; `kubectl` notes in each what it was given.
async fn as_applied(scene: &Scene, manifests: &str) -> Result<Vec<Value>> {
    let file = scene.folder.path().join("objects.yaml");
    std::fs::write(&file, manifests)?;
    let file = file.display().to_string();
    let applied = scene.kubectl(1, &["apply", "--dry-run=server", "-o", "json", "-f", &file]).await?;
    let applied: Value = serde_json::from_str(&applied)?;
    // One alone is no list.
    let mut objects = applied["items"].as_array().cloned().unwrap_or_else(|| vec![applied]);
    for metadata in objects.iter_mut().filter_map(|object| object["metadata"].as_object_mut()) {
        // Each dry run has its own.
        for field in ["uid", "creationTimestamp", "resourceVersion"] {
            metadata.remove(field);
        }
    }
    objects.sort_by_key(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
    Ok(objects)
}

/// What the script that installs by Helm gives to kubectl, and to Helm.
fn given(script: &str) -> Result<(String, String)> {
    const END: &str = "END_OF_INPUT\n";
    let marker = format!("<<'{}'\n", END.trim_end());
    let mut parts =
        script.split(&marker).skip(1).filter_map(|part| part.split_once(END)).map(|(given, _)| given.to_owned());
    let mut next = || parts.next();
    Ok((next().context("kubectl is given objects")?, next().context("Helm is given values")?))
}

#[tokio::test]
async fn a_chart_installs_object_by_object_what_the_manifest_installs() -> Result<()> {
    Scene::run(&[], async |scene| {
        let namespace = scene.install_namespace.clone();
        scene.create_namespace(1, &namespace).await?;
        let registered =
            scene.cli(&["cluster", "register", "c1", "-n", &namespace, "-o", "json"]).await?.ended_with(0)?.json()?;
        let text = |field: &str| registered[field].as_str().with_context(|| format!("no {field}"));
        let (manifest, token) = (text("manifest")?, text("token")?);
        let script = scene.cli(&["cluster", "reenroll", "c1", "-o", "helm"]).await?.ended_with(0)?.stdout;
        let (before, values) = given(&script)?;
        let another = before.split_whitespace().find(|word| word.starts_with("bwj_")).context("it has a token")?;
        let (helm, chart) = (helm()?, chart());
        let folder = scene.folder.path();
        run(scene, "cp".as_ref(), &["-r", &chart.display().to_string(), "chart"]).await?;
        std::fs::write(folder.join("values.yaml"), &values)?;
        let by_token =
            json!({"cluster": "c1", "hub": text("hub")?, "token": token, "caFingerprint": text("caFingerprint")?});
        std::fs::write(folder.join("token.yaml"), by_token.to_string())?;
        let template =
            ["template", "bellwether-agent", "chart", "--include-crds", "--namespace", &namespace, "--values"];

        let about = std::fs::read_to_string(chart.join("Chart.yaml"))?;
        let released = env!("CARGO_PKG_VERSION");
        ensure!(about.contains(&format!("\nversion: {released}\nappVersion: {released}\n")), "{about}");
        run(scene, &helm, &["lint", "--strict", "chart"]).await?;
        run(scene, &helm, &["lint", "--strict", "chart", "--values", "values.yaml"]).await?;
        let made = run(scene, &helm, &[&template[..], &["values.yaml"]].concat()).await?;
        let made_with_token = run(scene, &helm, &[&template[..], &["token.yaml"]].concat()).await?;
        let render = ["render", "chart", "--root", ".", "--release", "bellwether-agent", "--namespace", &namespace];
        // No target may hold what agents are installed with.
        let refused = scene.cli(&[&render[..], &["--values", "values.yaml"]].concat()).await?.ended_with(1)?.stderr;
        ensure!(refused.contains("belongs to the cluster's agent"), "{refused}");

        let expected = as_applied(scene, manifest).await?;
        let by_script = format!("{}---\n{made}", before.replace(another, token));
        ensure!(as_applied(scene, &by_script).await? == expected, "{by_script}\nis not\n{manifest}");
        let without_namespace: Vec<_> = expected.into_iter().filter(|object| object["kind"] != "Namespace").collect();
        ensure!(
            as_applied(scene, &made_with_token).await? == without_namespace,
            "{made_with_token}\nis not\n{manifest}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_agent_that_helm_installed_joins_by_a_token_that_no_release_keeps_and_helm_takes_all_away() -> Result<()> {
    Scene::run(&[], async |scene| {
        let namespace = scene.install_namespace.clone();
        let chart = chart().display().to_string();
        let asked = ["cluster", "register", "c1", "-n", &namespace, "-o", "helm", "--chart", &chart];
        let script = scene.cli(&asked).await?.ended_with(0)?.stdout;
        std::fs::write(scene.folder.path().join("install.sh"), &script)?;
        let hub = script.lines().find_map(|line| line.strip_prefix("hub: ")).context("it names the hub")?;
        let hub = hub.trim_matches(['"', '\'']).to_owned();

        run(scene, "sh".as_ref(), &["install.sh"]).await?;
        scene.create_namespace(1, &scene.namespace).await?;
        scene.start_installed_agent(1, &hub).await?;
        let helm = helm()?;
        let upgrade = ["upgrade", "bellwether-agent", &chart, "--namespace", &namespace];
        let narrowed = ["--reset-then-reuse-values", "--set", "rbac.create=false"];
        run(scene, &helm, &[&upgrade[..], &narrowed[..]].concat()).await?;
        // As for a cluster whose agent lost its key: what is there stays, and what was said of it.
        run(scene, "sh".as_ref(), &["install.sh"]).await?;

        let role = format!("bellwether-agent-{namespace}");
        let given = scene.kubectl(1, &["get", "clusterrole", &role, "--ignore-not-found", "-o", "name"]).await?;
        ensure!(given.is_empty(), "all rights are back: {given}");
        let restarted = "jsonpath={.spec.template.metadata.annotations}";
        let pod = ["get", "deployment", "bellwether-agent", "-n", &namespace, "-o", restarted];
        let pod = scene.kubectl(1, &pod).await?;
        ensure!(pod.contains("restartedAt"), "no agent would read the token: {pod}");
        let kept = run(scene, &helm, &["get", "all", "bellwether-agent", "--namespace", &namespace]).await?;
        ensure!(kept.contains(&hub) && !kept.contains("bwj_"), "{kept}");
        run(scene, &helm, &["uninstall", "bellwether-agent", "--namespace", &namespace]).await?;
        let left = scene
            .kubectl(1, &["get", "clusterrole,clusterrolebinding", &role, "--ignore-not-found", "-o", "name"])
            .await?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn whatever_is_said_of_a_chart_its_pod_is_restricted_and_its_policy_is_taken() -> Result<()> {
    Scene::run(&[], async |scene| {
        let namespace = scene.install_namespace.clone();
        scene.create_namespace(1, &namespace).await?;
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        scene.kubectl(1, &["label", "namespace", &namespace, restricted]).await?;
        scene.kubectl(1, &["create", "serviceaccount", "agents", "-n", &namespace]).await?;
        let values = json!({
            "cluster": "c1", "hub": "[::1]:8444", "caFingerprint": "ab".repeat(32), "existingSecret": "join",
            "image": {"repository": "localhost:5000/agent", "digest": format!("sha256:{}", "ab".repeat(32)), "pullPolicy": "Always"},
            "imagePullSecrets": [{"name": "pull"}], "serviceAccount": {"create": false, "name": "agents"},
            "rbac": {"create": false}, "proxy": {"https": "http://proxy.example.org:3128", "noProxy": "10.0.0.0/8"},
            "log": {"format": "pretty", "filter": "debug"}, "extraEnv": [{"name": "A", "value": "1"}],
            "networkPolicy": {"enabled": true, "hubCidrs": ["203.0.113.7/32"], "extraEgress": [{"ports": [{"port": 9}]}]},
            "commonLabels": {"team": "platform"}, "podLabels": {"a": "b"}, "podAnnotations": {"c": "d"},
            "priorityClassName": "system-cluster-critical", "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"operator": "Exists"}], "affinity": {"nodeAffinity": {}},
        });
        std::fs::write(scene.folder.path().join("values.yaml"), values.to_string())?;
        let (helm, chart) = (helm()?, chart().display().to_string());
        let template = ["template", "agent", &chart, "--namespace", &namespace, "--values", "values.yaml"];

        let made = run(scene, &helm, &template).await?;

        let objects = as_applied(scene, &made).await?;
        let kinds: Vec<_> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        ensure!(kinds == ["Deployment", "NetworkPolicy", "Role", "RoleBinding"], "{kinds:?}");
        let egress = &objects[1]["spec"]["egress"];
        let hub = json!({"ports": [{"port": 3128, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}]});
        ensure!(egress[1] == hub && egress.as_array().is_some_and(|rules| rules.len() == 4), "{egress:#}");
        let mut pod = objects[0]["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!("agent");
        pod["metadata"]["namespace"] = json!(namespace);
        let pods = json!({"apiVersion": "v1", "kind": "List", "items": [pod]});
        ensure!(as_applied(scene, &pods.to_string()).await?.len() == 1, "it is refused");
        let mistake = run(scene, &helm, &[&template[..], &["--set", "toleration=a"]].concat()).await;
        ensure!(format!("{mistake:?}").contains("additional properties 'toleration' not allowed"), "{mistake:?}");
        Ok(())
    })
    .await
}

/// A role that the agent may not give away but by name, what hands it out, and what runs.
fn files(greeting: &str, verbs: &str) -> Vec<(&'static str, String)> {
    let rbac = "apiVersion: rbac.authorization.k8s.io/v1\n";
    vec![
        ("shop/greeting.yaml", config_map("greeting", "text", greeting)),
        ("shop/role.yaml", format!("{rbac}kind: Role\nmetadata: {{name: reader}}\nrules: [{{apiGroups: [''], resources: [pods], verbs: [{verbs}]}}]\n")),
        ("shop/own.yaml", format!("{rbac}kind: RoleBinding\nmetadata: {{name: own}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}}\n")),
        ("shop/view.yaml", format!("{rbac}kind: RoleBinding\nmetadata: {{name: view}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}\n")),
        ("shop/web.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  selector: {matchLabels: {app: web}}\n  \
                           template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: registry.example.org/web:1}]}\n".to_owned()),
    ]
}

/// Kills the agent of the first cluster, gives its ServiceAccount what `cluster rbac` prints and nothing else, and starts it again.
async fn narrow(scene: &mut Scene, hub: &str) -> Result<()> {
    scene.agent(1)?.kill9().await?;
    let roles = scene.cli(&["cluster", "rbac", "c1"]).await?.ended_with(0)?.stdout;
    ensure!(roles.contains("`escalate`, `bind`"), "it is not said:\n{roles}");
    let file = scene.folder.path().join("rbac.yaml");
    std::fs::write(&file, &roles)?;
    scene.kubectl(1, &["apply", "-f", &file.display().to_string()]).await?;
    scene.start_installed_agent(1, hub).await
}

#[tokio::test]
async fn an_agent_with_the_rights_that_its_targets_need_and_no_others_applies_prunes_and_heals_them() -> Result<()> {
    Scene::run(&[], async |scene| {
        scene.create_namespace(1, &scene.namespace).await?;
        let registered = scene.register(1).await?;
        let agent = scene.start_agent(1, &registered).await?;
        scene.agents.insert(1, agent);
        scene.wait_until_connected(1).await?;
        let pushed = async |scene: &Scene, files: &[(&str, String)]| {
            let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
            scene.push(&files).await
        };
        let extra = ("shop/extra.yaml", config_map("extra", "text", "soon gone"));
        let commit = pushed(scene, &[files("hello", "get"), vec![extra]].concat()).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.wait_until_healthy(&commit).await?;

        narrow(scene, &registered.hub).await?;

        let who = format!("--as=system:serviceaccount:{}:bellwether-agent", scene.install_namespace);
        for (verb, what, namespace) in [
            ("create", "configmaps", "default"),
            ("get", "secrets", "kube-system"),
            ("create", "secrets", &scene.namespace),
            ("escalate", "roles", &scene.namespace),
            ("escalate", "clusterroles", "default"),
            ("bind", "clusterroles/cluster-admin", &scene.namespace),
            ("create", "namespaces", "default"),
        ] {
            let asked = scene.kubectl(1, &["auth", "can-i", verb, what, "-n", namespace, &who]).await;
            ensure!(asked.is_err(), "it may {verb} {what} in {namespace}: {asked:?}");
        }
        scene.tree.remove("shop/extra.yaml")?;
        let commit = pushed(scene, &files("good morning", "get, list")).await?;
        scene.wait_until_healthy(&commit).await?;
        scene.wait_for_value(1, "greeting", "text", "good morning").await?;
        eventually(PATIENCE, "what left Git is gone", async || {
            let left =
                scene.kubectl(1, &["get", "configmap", "extra", "-n", &scene.namespace, "--ignore-not-found"]).await?;
            ensure!(left.is_empty(), "{left}");
            Ok(())
        })
        .await?;
        scene.kubectl(1, &["delete", "configmap", "greeting", "-n", &scene.namespace]).await?;
        scene.kubectl(1, &["scale", "deployment", "web", "--replicas=3", "-n", &scene.namespace]).await?;
        scene.wait_for_value(1, "greeting", "text", "good morning").await?;
        eventually(PATIENCE, "one is enough again", async || {
            let path = "jsonpath={.spec.replicas}";
            let replicas = scene.kubectl(1, &["get", "deployment", "web", "-n", &scene.namespace, "-o", path]).await?;
            ensure!(replicas == "1", "{replicas}");
            Ok(())
        })
        .await?;
        let log = scene.agent(1)?.log();
        ensure!(!log.to_lowercase().contains("forbidden"), "it lacks a right:\n{log}");
        Ok(())
    })
    .await
}
