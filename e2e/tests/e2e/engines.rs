//! Kustomize and Helm: from a push to a cluster, and the same without a hub.

use anyhow::{Context as _, Result, ensure};
use bellwether_e2e::harness::{PATIENCE, Scene, eventually};
use serde_json::Value;

use crate::config_map;

const CHART: &str = "apiVersion: v2\nname: chart\nversion: 1.0.0\n";
const TEMPLATE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\n\
                        data: {size: {{ .Values.size | quote }}, cluster: {{ .Values.cluster | quote }}}\n";
const CHART_SPEC: &str = "  render: {helm: {valuesFiles: [envs/small.yaml], values: {cluster: '${cluster.name}'}}}\n";

const DEFINITION: &str = r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "as.a.example.org"}, "spec": {"group": "a.example.org", "scope": "Namespaced",
    "names": {"plural": "as", "singular": "a", "kind": "A"}, "versions": [{"name": "v1", "served": true, "storage": true,
    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties":
    {"size": {"type": "integer", "description": "Of it."}}}}}}}]}}"#;

fn files() -> Vec<(&'static str, String)> {
    vec![
        ("base/kustomization.yaml", "resources: [greeting.yaml]\n".to_owned()),
        ("base/greeting.yaml", config_map("greeting", "text", "hello ${cluster.name}")),
        ("shop/kustomization.yaml", "resources: [../base]\nnameSuffix: -eu\n".to_owned()),
        ("plain/greeting.yaml", config_map("plain", "text", "hello")),
        ("chart/Chart.yaml", CHART.to_owned()),
        ("chart/templates/a.yaml", TEMPLATE.to_owned()),
        ("envs/small.yaml", "size: small\n".to_owned()),
        ("seen/Chart.yaml", CHART.to_owned()),
        ("seen/templates/a.yaml", SEEING.to_owned()),
    ]
}

async fn push_all(scene: &Scene) -> Result<String> {
    let files = files();
    scene.push(&files.iter().map(|(path, text)| (*path, text.as_str())).collect::<Vec<_>>()).await
}

#[tokio::test]
async fn an_overlay_with_a_base_and_a_chart_of_the_repo_come_to_a_cluster_and_follow_what_they_read() -> Result<()> {
    Scene::run(&[1], async |scene| {
        push_all(scene).await?;
        scene.add_repo().await?;
        scene.apply_target("shop", "").await?.ended_with(0)?;
        scene.apply_target("chart", CHART_SPEC).await?.ended_with(0)?;
        scene.wait_for_value(1, "greeting-eu", "text", "hello c1").await?;
        scene.wait_for_value(1, "chart", "size", "small").await?;
        scene.wait_for_value(1, "chart", "cluster", "c1").await?;

        let again = config_map("greeting", "text", "hello again");
        scene.push(&[("base/greeting.yaml", &again), ("envs/small.yaml", "size: tiny\n")]).await?;
        scene.wait_for_value(1, "greeting-eu", "text", "hello again").await?;
        scene.wait_for_value(1, "chart", "size", "tiny").await?;

        scene.push(&[("shop/kustomization.yaml", "resources:\n- ../bsae\n")]).await?;
        let told = eventually(PATIENCE, "the hub tells what is wrong", async || {
            let shown = scene.cli(&["target", "show", "shop", "-o", "json"]).await?.json()?;
            let condition = shown["status"]["condition"].clone();
            ensure!(!condition.is_null(), "{shown:#}");
            Ok(condition)
        })
        .await?;
        ensure!((&told["file"], &told["line"]) == (&"shop/kustomization.yaml".into(), &2.into()), "{told:#}");
        scene.wait_for_value(1, "greeting-eu", "text", "hello again").await
    })
    .await
}

#[tokio::test]
async fn what_is_rendered_without_a_hub_is_what_a_hub_stores() -> Result<()> {
    Scene::run(&[1], async |scene| {
        push_all(scene).await?;
        scene.add_repo().await?;
        let root = scene.folder.path().join("no-repo");
        for (path, text) in files() {
            let file = root.join(path);
            std::fs::create_dir_all(file.parent().context("it lies in a folder")?)?;
            std::fs::write(file, text)?;
        }
        for (target, object, spec) in
            [("shop", "greeting-eu", ""), ("chart", "chart", CHART_SPEC), ("plain", "plain", ""), ("seen", "seen", "")]
        {
            scene.apply_target(target, spec).await?.ended_with(0)?;
            if target == "seen" {
                // What its agent has not said yet, a hub does not know either.
                scene.wait_for_value(1, "seen", "scale", "true").await?;
            }
            let shown = eventually(PATIENCE, "it is rendered and applied", async || {
                scene.kubectl(1, &["get", "configmap", object, "-n", &scene.namespace]).await?;
                scene.cli(&["target", "show", target, "-o", "json"]).await?.json()
            })
            .await?;
            let of_spec = scene.folder.path().join(format!("{target}.yaml"));
            let owner = owner_of(scene, object).await?;
            let id = shown["metadata"]["id"].as_str().context("a target has an id")?;
            let marks = ["--target-id", id, "--owner", &owner];
            let (of_spec, root) = (of_spec.display().to_string(), root.display().to_string());
            let where_ = ["render", "--target", &of_spec, "--root", &root, "--cluster", "c1", "-o", "json"];

            let served = scene.cli(&["cluster", "apis", "c1"]).await?.ended_with(0)?.stdout;
            let apis = scene.folder.path().join("apis");
            std::fs::write(&apis, served)?;
            let apis = apis.display().to_string();
            let version = scene.cli(&["cluster", "show", "c1", "-o", "json"]).await?.ended_with(0)?.json()?;
            let version = version["status"]["facts"]["kubernetes.version"].as_str().context("its agent says it")?;
            let version = format!("kubernetes.version={version}");

            let digest = shown["status"]["digest"].as_str().context("all clusters have one bundle")?;
            // Who looks at nothing of the cluster is the same without any of it.
            let ways: &[&[&str]] = match target {
                "seen" => &[&["--ask-hub"], &["--cluster-apis", &apis, "--cluster-facts", &version]],
                _ => &[&[], &["--ask-hub"]],
            };
            for way in ways {
                let rendered = scene.cli(&[&where_[..], &marks, way].concat()).await?.ended_with(0)?;
                ensure!(rendered.stderr.contains(digest), "{rendered:?} is not {digest}");
                ensure!(rendered.json()?["items"][0]["metadata"]["name"] == object, "{rendered:?}");
            }
        }
        Ok(())
    })
    .await
}

/// What templates and manifests read of the cluster that they are for.
const SEEING: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\n\
                      data: {minor: '{{ .Capabilities.KubeVersion.Major }}.{{ .Capabilities.KubeVersion.Minor }}', \
                      scale: '{{ .Capabilities.APIVersions.Has \"apps/v1/Scale\" }}'}\n";

#[tokio::test]
async fn what_a_cluster_is_comes_into_what_it_gets_and_is_shown_exactly() -> Result<()> {
    Scene::run(&[1], async |scene| {
        let plain = config_map("plain", "text", "${cluster.facts.kubernetes.minor} of ${cluster.annotations.contact}");
        let files = [("seen/Chart.yaml", CHART), ("seen/templates/a.yaml", SEEING), ("plain/a.yaml", &plain)];
        scene.push(&files).await?;
        scene.add_repo().await?;
        scene.cli(&["cluster", "annotate", "c1", "contact=Ann"]).await?.ended_with(0)?;
        scene.apply_target("seen", "").await?.ended_with(0)?;
        scene.apply_target("plain", "").await?.ended_with(0)?;

        let shown = scene.cli(&["cluster", "show", "c1", "-o", "json"]).await?.ended_with(0)?.json()?;
        let minor = shown["status"]["facts"]["kubernetes.minor"].as_str().context("its agent says it")?.to_owned();
        scene.wait_for_value(1, "plain", "text", &format!("{minor} of Ann")).await?;
        scene.wait_for_value(1, "seen", "minor", &minor).await?;
        // Helm itself knows no kinds.
        scene.wait_for_value(1, "seen", "scale", "true").await?;

        for (target, object) in [("seen", "seen"), ("plain", "plain")] {
            let rendered =
                scene.cli(&["render", target, "--hub", "--cluster", "c1", "-o", "json"]).await?.ended_with(0)?;
            rendered.tells(&["c1 is assigned it"])?;
            let live: Value = serde_json::from_str(
                &scene.kubectl(1, &["get", "configmap", object, "-n", &scene.namespace, "-o", "json"]).await?,
            )?;
            ensure!(rendered.json()?["items"][0]["data"] == live["data"], "{rendered:?} is not {live:#}");
        }
        let folder = scene.folder.path().join("checked");
        std::fs::create_dir_all(&folder)?;
        let checked = folder.display().to_string();
        std::fs::write(folder.join("a.yaml"), config_map("a", "text", "b"))?;
        scene.cli(&["validate", &checked, "--cluster", "c1"]).await?.ended_with(0)?;
        std::fs::write(
            folder.join("b.yaml"),
            "{apiVersion: a.example.org/v1, kind: A, metadata: {name: a, namespace: default}, spec: {size: large}}",
        )?;
        let refused = scene.cli(&["validate", &checked, "--clusters"]).await?.ended_with(1)?;
        ensure!(refused.stdout.contains("a.example.org/v1 A is not served by c1"), "{refused:?}");
        // Once it is defined there, by what that says.
        let definition = scene.folder.path().join("definition.json");
        std::fs::write(&definition, DEFINITION)?;
        let definition = definition.display().to_string();
        scene.kubectl(1, &["apply", "-f", &definition]).await?;
        eventually(PATIENCE, "the hub knows the definition", async || {
            let said = scene.cli(&["validate", &checked, "--cluster", "c1"]).await?;
            for words in ["spec.size", ", as c1 defines it", "A is held against what it is in c1 (told "] {
                ensure!(said.stdout.contains(words), "{words}: {said:?}");
            }
            Ok(())
        })
        .await?;
        scene.kubectl(1, &["delete", "-f", &definition]).await?;
        let why = ["render", "plain", "--hub", "--cluster", "c1", "--explain", "cluster.annotations.contact"];
        let why = scene.cli(&why).await?.ended_with(0)?;
        ensure!(why.stdout.trim() == "\"Ann\"\tthe cluster itself", "{why:?}");
        let wrong = scene.cli(&["render", "plain", "--hub", "--cluster", "c1", "--set", "a=b"]).await?.ended_with(2)?;
        wrong.tells(&["--set is not for a target of the hub"])
    })
    .await
}

/// As its annotation says.
async fn owner_of(scene: &Scene, object: &str) -> Result<String> {
    let args = ["get", "configmap", object, "-n", &scene.namespace, "-o", "json"];
    let object: Value = serde_json::from_str(&scene.kubectl(1, &args).await?)?;
    let owner = object["metadata"]["annotations"]["bellwether.dev/owner"].as_str();
    owner.map(ToOwned::to_owned).context("every object names its owner")
}

#[tokio::test]
async fn what_is_wrong_is_told_without_a_hub_as_a_hub_tells_it() -> Result<()> {
    Scene::run(&[], async |scene| {
        let root = scene.folder.path().join("bad");
        std::fs::create_dir_all(root.join("eu"))?;
        std::fs::write(root.join("eu/kustomization.yaml"), "resources:\n- ../bsae\n")?;
        std::os::unix::fs::symlink("/etc/passwd", root.join("eu/link.yaml"))?;
        let path = root.join("eu").display().to_string();
        let at = root.display().to_string();

        let missing = scene.cli(&["render", &path, "--root", &at]).await?.ended_with(1)?;
        missing.tells(&["bsae", "eu/kustomization.yaml:2"])?;
        std::fs::write(root.join("eu/kustomization.yaml"), "resources: [link.yaml]\n")?;
        let link = scene.cli(&["render", &path, "--root", &at]).await?.ended_with(1)?;
        link.tells(&["`eu/link.yaml` is a symbolic link", "hint:"])?;
        let plain = scene.cli(&["render", &path, "--root", &at, "--kind", "plain"]).await?.ended_with(1)?;
        plain.tells(&["`eu/link.yaml` is a symbolic link"])
    })
    .await
}
