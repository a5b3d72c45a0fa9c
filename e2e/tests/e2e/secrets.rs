//! What Secrets hold, after all that happens to them: who else knows it.
//!
//! It stands in Git, in the hub's `objects`, which are as plain as the repo, and in the cluster: nowhere else.

use std::fs;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bellwether_e2e::harness::{HEARTBEAT_FLAGS, PATIENCE, Scene, SceneOptions, eventually};
use bellwether_proto::compression;

/// They look like nothing else, so that they are found wherever they went.
mod canary {
    pub(super) const APPLIED: &str = "cnry-applied-8Tq2mZx1";
    pub(super) const ENCODED: &str = "cnry-encoded-4Lr7wKd3";
    pub(super) const THEIRS: &str = "cnry-theirs-9Bv5nHs6";
    pub(super) const IMMUTABLE: &str = "cnry-immutable-2Xc8pJf4";
    pub(super) const CHANGED: &str = "cnry-changed-7Gm3tQa9";
    pub(super) const MISFORMED: &str = "cnry-misformed-5Wz1kRe8";
    pub(super) const UNENCODED: &str = "cnry-unencoded-3Yh6bNu2";
    pub(super) const IN_TEMPLATE: &str = "cnry-template-6Ds4vMo7";
    pub(super) const UNCLOSED: &str = "cnry-unclosed-1Pk9cLi5";
    pub(super) const NUMBER: &str = "918273645546372819";
    pub(super) const IN_OVERLAY: &str = "cnry-overlay-8Fj2gTy3";
    pub(super) const IN_CHART: &str = "cnry-chart-4En7xWo6";
    /// Whoever may read the API sees parameters, as `docs/security.md` says: they stand in their target.
    pub(super) const PARAMETER: &str = "cnry-parameter-9Iq5zVu1";

    pub(super) const ALL: [&str; 13] = [
        APPLIED,
        ENCODED,
        THEIRS,
        IMMUTABLE,
        CHANGED,
        MISFORMED,
        UNENCODED,
        IN_TEMPLATE,
        UNCLOSED,
        NUMBER,
        IN_OVERLAY,
        IN_CHART,
        PARAMETER,
    ];
}

const CHART: &str = "apiVersion: v2\nname: chart\nversion: 1.0.0\n";
/// The table of rendered objects, which `docs/security.md` says are not sealed.
const OBJECTS: &str = "objects";
/// Which hold what people wrote of targets.
const SPECS: [&str; 2] = ["targets", "wanted_renders"];
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

fn secret(name: &str, rest: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\n{rest}\n")
}

fn job(value: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: once}}\nspec:\n  suspend: true\n  template:\n    spec:\n      \
         restartPolicy: Never\n      containers: [{{name: a, image: a, env: [{{name: PASSWORD, value: {value}}}]}}]\n"
    )
}

#[tokio::test]
async fn what_secrets_hold_stands_in_no_log_no_answer_no_audit_entry_and_in_no_row_but_the_objects() -> Result<()> {
    let flags = HEARTBEAT_FLAGS.into_iter().chain(["--log=debug"]).collect();
    let options = SceneOptions { flags, agent_log: Some("debug"), ..SceneOptions::default() };
    Scene::run_with(&[1], options, async |scene| {
        let mut told = Vec::new();
        apply_and_drift(scene).await?;
        told.extend(refuse(scene).await?);
        told.extend(fail_to_render(scene).await?);
        told.extend(use_a_parameter(scene).await?);
        let answers = answers(scene).await?;
        delete(scene).await?;

        for (path, answer) in answers {
            let is_target = path.starts_with("/api/v1/targets") || path == "/api/v1/status";
            expect_none(&path, &answer, |known| is_target && known == canary::PARAMETER)?;
        }
        for said in told {
            expect_none("the command line", &said, |_| false)?;
        }
        expect_none_in_logs(scene)?;
        expect_none_in_rows(&scene.dump().await?)
    })
    .await
}

async fn apply_and_drift(scene: &mut Scene) -> Result<()> {
    let encoded = BASE64_STANDARD.encode(canary::ENCODED);
    let text = format!("data: {{encoded: {encoded}}}\nstringData: {{applied: {}}}", canary::APPLIED);
    let commit = scene.push(&[("shop/secret.yaml", &secret("shop", &text))]).await?;
    scene.add_repo().await?;
    scene.apply_target("shop", "").await?.ended_with(0)?;
    scene.wait_until_healthy(&commit).await?;

    let patch = format!(r#"{{"stringData": {{"applied": "{}"}}}}"#, canary::THEIRS);
    scene.kubectl(1, &["patch", "secret", "shop", "-n", &scene.namespace, "--type", "merge", "-p", &patch]).await?;
    scene.wait_for_audit("drift.corrected").await?;
    let uid = scene.uid(1, "secret", "shop").await?;
    scene.kubectl(1, &["delete", "secret", "shop", "-n", &scene.namespace]).await?;
    eventually(PATIENCE, "the Secret is back", async || {
        ensure!(scene.uid(1, "secret", "shop").await? != uid, "it is the one before");
        Ok(())
    })
    .await
}

/// By the API server, each in its own words.
async fn refuse(scene: &Scene) -> Result<Vec<String>> {
    let fixed = |value: &str| secret("fixed", &format!("immutable: true\nstringData: {{value: {value}}}"));
    scene.push(&[("refused/fixed.yaml", &fixed(canary::IMMUTABLE)), ("refused/job.yaml", &job("before"))]).await?;
    scene.apply_target("refused", "").await?.ended_with(0)?;
    eventually(PATIENCE, "both are there", async || {
        scene.kubectl(1, &["get", "secret/fixed", "job/once", "-n", &scene.namespace]).await
    })
    .await?;

    let docker =
        format!("type: kubernetes.io/dockerconfigjson\nstringData: {{.dockerconfigjson: {}}}", canary::MISFORMED);
    let files = [
        ("refused/fixed.yaml", fixed(canary::CHANGED)),
        ("refused/job.yaml", job(canary::IN_TEMPLATE)),
        ("refused/docker.yaml", secret("docker", &docker)),
    ];
    scene.push(&files.each_ref().map(|(path, text)| (*path, text.as_str()))).await?;
    for name in ["fixed", "once", "docker"] {
        scene.wait_for_outcome(1, name, "rejected").await?;
    }
    let unencoded = secret("unencoded", &format!("data: {{value: {}}}", canary::UNENCODED));
    scene.push(&[("unencoded/a.yaml", &unencoded)]).await?;
    let applied = scene.apply_target("unencoded", "").await?;
    let status = scene.cli(&["status"]).await?.ended_with(3)?;
    Ok(vec![applied.stdout, applied.stderr, status.stdout, status.stderr])
}

async fn fail_to_render(scene: &Scene) -> Result<Vec<String>> {
    let template = format!("a: b\n{} {{{{ fail }}}}\n  - : {{", canary::IN_CHART);
    let files = [
        ("unclosed/a.yaml", secret("a", &format!("stringData: {{value: {}", canary::UNCLOSED))),
        ("number/a.yaml", secret("a", &format!("stringData: {{value: {}}}", canary::NUMBER))),
        ("overlay/kustomization.yaml", format!("secretGenerator: [{{name: a, literals: [{}]}}]\n", canary::IN_OVERLAY)),
        ("chart/Chart.yaml", CHART.to_owned()),
        ("chart/templates/a.yaml", template),
    ];
    scene.push(&files.each_ref().map(|(path, text)| (*path, text.as_str()))).await?;
    let mut told = Vec::new();
    for target in ["unclosed", "number", "overlay", "chart"] {
        let applied = scene.apply_target(target, "").await?.ended_with(1)?;
        let shown = scene.cli(&["target", "show", target]).await?;
        told.extend([applied.stdout, applied.stderr, shown.stdout, shown.stderr]);
    }
    Ok(told)
}

/// Once in a Secret, and once where it makes a chart's output no YAML.
async fn use_a_parameter(scene: &Scene) -> Result<Vec<String>> {
    let made = "apiVersion: v1\nkind: Secret\nmetadata: {name: made}\nstringData: {value: {{ .Values.password }}}\n";
    let wrong = "apiVersion: v1\nkind: Secret\nstringData: {value: '{{ .Values.password }}\n";
    let files = [
        ("made/Chart.yaml", CHART),
        ("made/templates/a.yaml", made),
        ("wrong/Chart.yaml", CHART),
        ("wrong/templates/a.yaml", wrong),
    ];
    scene.push(&files).await?;
    let more = format!(
        "  parameters: [{{values: {{password: {}}}}}]\n  render: {{helm: {{values: {{password: '${{password}}'}}}}}}\n",
        canary::PARAMETER
    );
    scene.apply_target("made", &more).await?.ended_with(0)?;
    eventually(PATIENCE, "the chart's Secret is there", async || {
        scene.kubectl(1, &["get", "secret/made", "-n", &scene.namespace]).await
    })
    .await?;
    let wrong = scene.apply_target("wrong", &more).await?.ended_with(1)?;
    Ok(vec![wrong.stdout, wrong.stderr])
}

/// All that the API tells to whoever may read.
async fn answers(scene: &Scene) -> Result<Vec<(String, String)>> {
    let mut paths: Vec<String> = ["status", "repos", "repos/apps", "targets", "rollouts", "drift", "clusters/c1"]
        .map(|name| format!("/api/v1/{name}"))
        .into();
    paths.push("/api/v1/audit?limit=1000".to_owned());
    for (list, key) in [("targets", "/metadata/name"), ("rollouts", "/id")] {
        let listed = scene.api.fetch(&format!("/api/v1/{list}")).await?;
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        ensure!(!items.is_empty(), "{listed:#}");
        let keys = items.iter().filter_map(|item| item.pointer(key)?.as_str());
        paths.extend(keys.map(|key| format!("/api/v1/{list}/{key}")));
    }
    let mut answers = vec![("/metrics".to_owned(), scene.api.metrics().await?)];
    for path in paths {
        let answer = scene.api.fetch(&path).await?.to_string();
        answers.push((path, answer));
    }
    Ok(answers)
}

async fn delete(scene: &Scene) -> Result<()> {
    scene.cli(&["target", "delete", "shop", "--prune"]).await?.ended_with(0)?;
    eventually(PATIENCE, "the Secret is gone", async || {
        let left = scene.kubectl(1, &["get", "secrets", "-n", &scene.namespace, "-o", "name"]).await?;
        ensure!(!left.contains("secret/shop"), "{left}");
        Ok(())
    })
    .await
}

fn expect_none_in_logs(scene: &Scene) -> Result<()> {
    for file in ["hub.log", "agent-1.log"] {
        let log = fs::read_to_string(scene.folder.path().join(file))?;
        ensure!(log.contains("DEBUG"), "{file} does not say all");
        expect_none(file, &log, |_| false)?;
    }
    Ok(())
}

/// And it would be found: the objects have it.
fn expect_none_in_rows(dump: &str) -> Result<()> {
    let mut table = "";
    let mut objects = String::new();
    for row in dump.lines() {
        if let Some(rest) = row.strip_prefix("COPY public.") {
            table = rest.split_once(' ').map_or(rest, |(name, _)| name);
        }
        let row = readable(row);
        if table == OBJECTS {
            objects += &row;
        } else {
            expect_none(table, &row, |known| SPECS.contains(&table) && known == canary::PARAMETER)?;
        }
    }
    for known in [canary::APPLIED, canary::ENCODED, canary::PARAMETER] {
        ensure!(spellings(known).iter().any(|spelling| objects.contains(spelling)), "{known} was not looked for well");
    }
    Ok(())
}

/// A row with what its bytes say, also where they are compressed.
fn readable(row: &str) -> String {
    let bytes = |cell: &str| hex::decode(cell.strip_prefix(r"\\x")?).ok();
    let said = |bytes: Vec<u8>| compression::decompress(&bytes, FRAME_BYTES_MAX).unwrap_or(bytes);
    let cells = row.split('\t').map(|cell| match bytes(cell) {
        Some(bytes) => String::from_utf8_lossy(&said(bytes)).into_owned(),
        None => cell.to_owned(),
    });
    cells.collect::<Vec<_>>().join("\t")
}

fn expect_none(place: &str, text: &str, may_stand: impl Fn(&str) -> bool) -> Result<()> {
    for known in canary::ALL.into_iter().filter(|known| !may_stand(known)) {
        for spelling in spellings(known) {
            let Some(at) = text.find(&spelling) else { continue };
            let around: String = text[..at].chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
            anyhow::bail!("{place} tells {known}, as {spelling}, after:\n{around}");
        }
    }
    Ok(())
}

/// As it is, and as base64 spells it wherever it begins in what is encoded.
fn spellings(known: &str) -> Vec<String> {
    let encoded = (0..3).map(|before| {
        let all = BASE64_STANDARD.encode([&vec![0; before], known.as_bytes()].concat());
        // Characters that hold bits of what is beside it are left out.
        all[(before * 8).div_ceil(6)..(before + known.len()) * 8 / 6].to_owned()
    });
    std::iter::once(known.to_owned()).chain(encoded).collect()
}
