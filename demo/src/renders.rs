//! The benchmark `render`: what a render of a chart takes, in the engine and in a hub, and what the commands take for it.
//!
//! First one engine that is warm: the same chart with other values each time, and what is done with what comes out, as for a
//! target. Beside it `helm template`, `kubectl kustomize` and `bellwether render`, which starts an engine of its own: a process
//! for each render. Then a hub of its own with a thousand
//! targets of one chart, each with other values, from the commit that brings the chart until all are rendered. The cluster is
//! simulated, so that nothing is measured but the hub.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bellwether_core::Name;
use bellwether_core::parameters::{ClusterFacts, Parameters};
use bellwether_core::render::Source;
use bellwether_render::{
    Confinement, Engines, Files, Found, LeaveOut, Listed, Listing, Manifests, Plan, Recipe, SourceFile,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::bench::{Milliseconds, Outcome, build};
use crate::ground::{Ground, Place};
use crate::monorepo::figure;
use crate::sample::Sample;
use crate::show::Show;
use bellwether_e2e::harness::eventually;
use bellwether_e2e::hub::RENDER_ENGINE;
use bellwether_e2e::options::programs_folder;

const RENDERS: usize = 200;
const WARM_UP: usize = 5;
const COMMANDS: usize = 20;
const TARGETS: usize = 1_000;
const APPLIED_AT_ONCE: usize = 200;
const PATIENCE: Duration = Duration::from_mins(15);
/// The command of Helm, as `./dev` has built it.
const HELM: &str = "BELLWETHER_HELM";
const CHART: &str = "charts/shop";
const OVERLAY: &str = "overlays/shop";

/// All samples, in milliseconds.
#[derive(Debug, Default)]
struct Samples {
    helm: Vec<f64>,
    kustomize: Vec<f64>,
    helm_command: Vec<f64>,
    kustomize_command: Vec<f64>,
    helm_cold: Vec<f64>,
    kustomize_cold: Vec<f64>,
}

/// Measures on a state folder of its own.
pub async fn renders(state: &Path) -> Result<Outcome> {
    let mut show = Show::begin();
    let ground = Ground::start(state, &Place::Own(0), Sample::played(), &[], &mut show).await?;
    let folder = ground.state.join("sources");
    for (path, content) in sources() {
        let file = folder.join(path);
        std::fs::create_dir_all(file.parent().context("a file has a folder")?)?;
        std::fs::write(file, content)?;
    }
    let mut samples = Samples::default();
    (samples.helm, samples.kustomize) = tokio::task::spawn_blocking(in_engine).await??;
    show.done(format_args!("{RENDERS} renders of each kind in a warm engine"));
    let helm =
        PathBuf::from(std::env::var_os(HELM).with_context(|| format!("{HELM} has to name the command of Helm"))?);
    let (kubectl, bellwether) = (ground.state.join("bin/kubectl"), programs_folder()?.join("bellwether"));
    let (chart, overlay) = (folder.join(CHART).display().to_string(), folder.join(OVERLAY).display().to_string());
    let root = folder.display().to_string();
    for number in 0..COMMANDS + WARM_UP {
        let value = format!("host=site-{number}.example.org");
        let by_helm = run(&helm, &["template", "shop", &chart, "--set", &value]).await?;
        let by_kubectl = run(&kubectl, &["kustomize", &overlay]).await?;
        let by_us = async |what: &[&str]| {
            run(&bellwether, &[&["render"], what, &["--root", &root, "--namespace", "shop"]].concat()).await
        };
        let chart_by_us = by_us(&[&chart, "--helm-set", &value]).await?;
        let overlay_by_us = by_us(&[&overlay]).await?;
        if number >= WARM_UP {
            samples.helm_command.push(by_helm);
            samples.kustomize_command.push(by_kubectl);
            samples.helm_cold.push(chart_by_us);
            samples.kustomize_cold.push(overlay_by_us);
        }
    }
    show.done(format_args!("{COMMANDS} times `helm template`, `kubectl kustomize` and `bellwether render`"));
    let seconds = in_hub(&ground, &mut show).await?;
    outcome(&samples, seconds, ground.memory.peaks().rss().hub)
}

/// Milliseconds of renders of the chart, and of the overlay; nothing of an earlier one is used again but the engine.
fn in_engine() -> Result<(Vec<f64>, Vec<f64>)> {
    let program = std::env::var_os(RENDER_ENGINE).map(PathBuf::from);
    let engines = Engines::new(program.as_deref(), Confinement::AsThereIs);
    let recipe = Recipe { marks: None, namespace: Some("shop".to_owned()), agents: BTreeSet::new() };
    let files =
        || Memory { files: sources().into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect() };
    let plan = |folder: &str, options: Value| {
        anyhow::Ok(Plan {
            folder: folder.to_owned(),
            options: serde_json::from_value(options)?,
            name: "shop".to_owned(),
            namespace: Some("shop".to_owned()),
            has_parameters: true,
            project: "bench".to_owned(),
        })
    };
    let of_chart = json!({"helm": {"values": {"host": "${cluster.name}.example.org"}}});
    let chart =
        Manifests::open(engines.clone(), files(), plan(CHART, of_chart)?).map_err(|error| anyhow!("{error:?}"))?;
    let (mut helm, mut kustomize) = (Vec::new(), Vec::new());
    for number in 0..RENDERS + WARM_UP {
        let cluster: Name = format!("site-{number}").parse()?;
        let labels = BTreeMap::new();
        let values = Parameters::resolve(&[], ClusterFacts::new(&cluster, &labels)).restricted_to(&chart.variables());
        let began = Instant::now();
        let objects = chart.render(&recipe, &values).map_err(|error| anyhow!("{error:?}"))?;
        let helm_took = began.elapsed().as_secs_f64() * 1e3;
        let text =
            objects.iter().any(|object| String::from_utf8_lossy(&object.body).contains(&*format!("site-{number}.")));
        ensure!(text, "another chart was rendered");
        let began = Instant::now();
        let overlay = Manifests::open(engines.clone(), files(), plan(OVERLAY, json!({}))?);
        let overlay = overlay.map_err(|error| anyhow!("{error:?}"))?;
        overlay.render(&recipe, &values).map_err(|error| anyhow!("{error:?}"))?;
        if number >= WARM_UP {
            helm.push(helm_took);
            kustomize.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok((helm, kustomize))
}

/// Seconds from the update of the ref, which brings the chart, until all targets are rendered.
async fn in_hub(ground: &Ground, show: &mut Show) -> Result<f64> {
    ground.simulate_cluster().await?;
    ground.apply_all(&targets(), APPLIED_AT_ONCE, show).await?;
    ground.wait_for_rest(PATIENCE).await?;
    show.done(format_args!("{TARGETS} targets wait for their chart"));
    let files: Vec<_> = sources().into_iter().collect();
    let push = ground.push("Bring the chart", &files).await?;
    let last = eventually(PATIENCE, "all are rendered", async || {
        let made = figure(&ground.api.metrics().await?, "bellwether_renders_total{result=\"made\"}")?;
        ensure!(made >= f64::from(u32::try_from(TARGETS)?), "{made} are");
        crate::ground::now_unix_ns()
    })
    .await?;
    show.done(format_args!("all are rendered"));
    Ok(crate::figures::ms_between(push.updated_unix_ns, last) / 1e3)
}

fn targets() -> Vec<String> {
    let target = |number: usize| {
        format!(
            "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {{name: shop-{number:04}}}\n\
             spec: {{repo: apps, path: {CHART}, namespace: shop-{number:04}, rollout: {{waves: [{{name: all}}]}},\n\
             \x20 render: {{helm: {{values: {{host: site-{number}.example.org, replicas: {}}}}}}}}}\n",
            number % 7 + 1
        )
    };
    (1..=TARGETS).map(target).collect()
}

/// Milliseconds of one run of a command.
async fn run(program: &Path, args: &[&str]) -> Result<f64> {
    let began = Instant::now();
    let output = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    if !output.status.success() || output.stdout.is_empty() {
        bail!("{} {}: {}", program.display(), args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(took)
}

fn outcome(samples: &Samples, seconds: f64, hub_mb: u64) -> Result<Outcome> {
    let rows = [
        ("helm_ms", "a chart, in a warm engine", &samples.helm),
        ("helm_template_ms", "the same by `helm template`", &samples.helm_command),
        ("helm_cold_ms", "the same by `bellwether render`", &samples.helm_cold),
        ("kustomize_ms", "an overlay, in a warm engine", &samples.kustomize),
        ("kubectl_kustomize_ms", "the same by `kubectl kustomize`", &samples.kustomize_command),
        ("kustomize_cold_ms", "the same by `bellwether render`", &samples.kustomize_cold),
    ];
    let mut table = format!("{:40} {:>8} {:>8}\n", "ms", "p50", "p99");
    let mut metrics = serde_json::Map::new();
    for (name, what, samples) in rows {
        let ms = Milliseconds::of(samples)?;
        writeln!(table, "{what:40} {:>8.1} {:>8.1}", ms.p50, ms.p99)?;
        metrics.insert(name.to_owned(), json!(ms));
    }
    let seconds = (seconds * 100.0).round() / 100.0;
    writeln!(table, "{TARGETS} targets of one chart, other values each: {seconds} s")?;
    writeln!(table, "the hub with its engines meanwhile, at most: {hub_mb} MB")?;
    metrics.insert("targets_s".to_owned(), json!(seconds));
    metrics.insert("hub_mb".to_owned(), json!(hub_mb));
    let conditions = json!({
        "build": build(), "renders": RENDERS, "commands": COMMANDS, "targets": TARGETS, "clusters": "1, simulated",
        "cores": std::thread::available_parallelism().map_or(0, usize::from), "percentiles": "nearest rank",
    });
    Ok(Outcome { table, document: json!({"bench": "render", "conditions": conditions, "metrics": metrics}) })
}

/// Of a repo that is nowhere.
struct Memory {
    files: BTreeMap<String, String>,
}

impl Memory {
    fn below<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let below = move |path: &'a String| path.strip_prefix(prefix.as_str());
        self.files.keys().filter_map(move |path| Some((path.as_str(), below(path)?)))
    }
}

impl Files for Memory {
    type Error = Infallible;

    fn read(&self, path: &str, _: usize) -> Result<Found, Infallible> {
        let file = self.files.get(path).map(|text| Found::File(text.clone().into_bytes()));
        let is_folder = self.below(path).next().is_some();
        Ok(file.unwrap_or(if is_folder { Found::Folder } else { Found::Absent }))
    }

    fn list(&self, path: &str) -> Result<Listing, Infallible> {
        let entries: BTreeMap<_, _> = self
            .below(path)
            .map(|(_, rest)| rest.split_once('/').map_or((rest, false), |(folder, _)| (folder, true)))
            .collect();
        let listed = entries.into_iter().map(|(name, is_folder)| Listed { name: name.to_owned(), is_folder });
        Ok(if self.below(path).next().is_some() { Listing::Folder(listed.collect()) } else { Listing::Absent })
    }

    fn manifests(&self, _: &str, _: &LeaveOut<'_>) -> Result<Vec<SourceFile>, Infallible> {
        // Neither a chart nor an overlay is read like that.
        Ok(Vec::new())
    }

    fn find_source(&self, _: &Source) -> Result<(), Infallible> {
        // Neither names another repo.
        Ok(())
    }
}

/// A chart as people have them, and an overlay.
#[expect(clippy::too_many_lines, reason = "it is a folder of files")]
fn sources() -> [(&'static str, &'static str); 13] {
    [
        ("charts/shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.2.3\nappVersion: \"4.5\"\n"),
        (
            "charts/shop/values.yaml",
            "host: example.org
replicas: 2
image: {repository: registry.example.org/shop, tag: \"\", pullPolicy: IfNotPresent}
service: {type: ClusterIP, port: 80}
ingress: {enabled: true, className: nginx, annotations: {}}
autoscaling: {enabled: true, min: 2, max: 8, cpu: 80}
resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 128Mi}}
config: {LOG_LEVEL: info, GREETING: hello, CURRENCY: EUR, TIMEOUT: 5s}
",
        ),
        (
            "charts/shop/templates/_helpers.tpl",
            r#"{{- define "shop.name" -}}{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}{{- end }}
{{- define "shop.fullname" -}}{{ printf "%s-%s" .Release.Name (include "shop.name" .) | trunc 63 | trimSuffix "-" }}{{- end }}
{{- define "shop.selector" -}}
app.kubernetes.io/name: {{ include "shop.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "shop.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "shop.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
"#,
        ),
        (
            "charts/shop/templates/deployment.yaml",
            r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "shop.fullname" . }}
  labels: {{- include "shop.labels" . | nindent 4 }}
spec:
  {{- if not .Values.autoscaling.enabled }}
  replicas: {{ .Values.replicas }}
  {{- end }}
  selector:
    matchLabels: {{- include "shop.selector" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "shop.labels" . | nindent 8 }}
      annotations:
        checksum/config: {{ include (print $.Template.BasePath "/config.yaml") . | sha256sum }}
    spec:
      serviceAccountName: {{ include "shop.fullname" . }}
      containers:
        - name: {{ .Chart.Name }}
          image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          env:
            - {name: HOST, value: {{ .Values.host | quote }}}
          envFrom:
            - configMapRef: {name: {{ include "shop.fullname" . }}}
          ports:
            - {name: http, containerPort: 8080}
          readinessProbe: {httpGet: {path: /ready, port: http}}
          resources: {{- toYaml .Values.resources | nindent 12 }}
"#,
        ),
        (
            "charts/shop/templates/service.yaml",
            r#"apiVersion: v1
kind: Service
metadata:
  name: {{ include "shop.fullname" . }}
  labels: {{- include "shop.labels" . | nindent 4 }}
spec:
  type: {{ .Values.service.type }}
  selector: {{- include "shop.selector" . | nindent 4 }}
  ports:
    - {name: http, port: {{ .Values.service.port }}, targetPort: http}
"#,
        ),
        (
            "charts/shop/templates/config.yaml",
            r#"apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "shop.fullname" . }}
  labels: {{- include "shop.labels" . | nindent 4 }}
data:
  {{- range $key, $value := .Values.config }}
  {{ $key }}: {{ $value | quote }}
  {{- end }}
"#,
        ),
        (
            "charts/shop/templates/account.yaml",
            r#"apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "shop.fullname" . }}
  labels: {{- include "shop.labels" . | nindent 4 }}
"#,
        ),
        (
            "charts/shop/templates/ingress.yaml",
            r#"{{- if .Values.ingress.enabled }}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ include "shop.fullname" . }}
  labels: {{- include "shop.labels" . | nindent 4 }}
spec:
  ingressClassName: {{ .Values.ingress.className }}
  rules:
    - host: {{ .Values.host | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: {{ include "shop.fullname" . }}, port: {name: http}}}
{{- end }}
"#,
        ),
        (
            "charts/shop/templates/autoscaler.yaml",
            r#"{{- with .Values.autoscaling }}
{{- if .enabled }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "shop.fullname" $ }}
  labels: {{- include "shop.labels" $ | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "shop.fullname" $ }}}
  minReplicas: {{ .min }}
  maxReplicas: {{ .max }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ .cpu }}}}
{{- end }}
{{- end }}
"#,
        ),
        ("base/shop/kustomization.yaml", "resources: [deployment.yaml, service.yaml]\n"),
        (
            "base/shop/deployment.yaml",
            "apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: shop, image: registry.example.org/shop}]}
",
        ),
        (
            "base/shop/service.yaml",
            "apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80}]}
",
        ),
        (
            "overlays/shop/kustomization.yaml",
            "resources: [../../base/shop]
namePrefix: site-
labels: [{pairs: {site: one}, includeSelectors: true}]
images: [{name: registry.example.org/shop, newTag: \"4.5\"}]
configMapGenerator: [{name: settings, literals: [a=1, b=2]}]
patches:
  - patch: |-
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: shop}
      spec: {replicas: 3}
",
        ),
    ]
}
