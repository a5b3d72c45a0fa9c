//! The applications that are rolled out: `shop`, in waves, and `pulse`, at once everywhere, for measuring pushes.

use bellwether_e2e::borrowed::{Footprint, LABEL, NAMESPACE};

/// The names of the two targets, which are folders of the repo and namespaces too.
pub const SHOP: &str = "shop";
pub const PULSE: &str = "pulse";
/// The edits of the demo go to these ConfigMaps of the shop, in turn: an object that is edited again and again within
/// minutes is put right less and less often. In Git they say this.
pub const NOTES: [&str; 5] = ["notes-1", "notes-2", "notes-3", "notes-4", "notes-5"];
pub const NOTES_TEXT: &str = "as-in-git";
/// ConfigMaps of the shop that are removed from Git.
pub const PRUNED: [&str; 2] = ["coupon-spring", "coupon-summer"];
/// What has to be watched for the shop and the pulse, as `bellwether-watch` takes it.
pub const WATCHED: [&str; 10] = [
    "configmap:shop/web:version",
    "deployment:shop/web:demo.bellwether.dev/version",
    "configmap:shop/notes-1:text",
    "configmap:shop/notes-2:text",
    "configmap:shop/notes-3:text",
    "configmap:shop/notes-4:text",
    "configmap:shop/notes-5:text",
    "configmap:shop/coupon-spring:text",
    "configmap:shop/coupon-summer:text",
    "configmap:pulse/beat:value",
];

/// What is the same in all objects of a run.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The value of the label by which a borrowed cluster's namespaces are known for ours.
    pub run: String,
    pub image: String,
    /// Until a Deployment says that it is stuck.
    pub deadline_seconds: u32,
}

impl Sample {
    /// For clusters whose pods are only played: nothing is pulled.
    pub fn played() -> Self {
        let image = "registry.example.org/shop/web:1.0".to_owned();
        Self { run: "own".to_owned(), image, deadline_seconds: 5 }
    }

    /// For clusters that run what they are given, and may have to pull it first.
    pub fn real(run: String, image: String) -> Self {
        Self { run, image, deadline_seconds: 30 }
    }

    fn namespace(&self, name: &str) -> String {
        let run = &self.run;
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{LABEL}: {run}}}}}\n---\n")
    }
}

/// What a node has to have for the shop's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    Any,
    /// Valid, and nowhere there: the pods stay Pending.
    None,
}

/// One file with all of the shop but its coupons.
pub fn shop(sample: &Sample, version: &str, nodes: Nodes) -> String {
    let selector = if nodes == Nodes::None { "\n      nodeSelector: {disk: tape}" } else { "" };
    let Sample { image, deadline_seconds, .. } = sample;
    let namespace = sample.namespace(SHOP);
    format!(
        "{namespace}apiVersion: v1
kind: ConfigMap
metadata: {{name: web}}
data:
  version: {version}
  greeting: hello from ${{cluster.name}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80}}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  annotations: {{demo.bellwether.dev/version: deployment-{version}}}
spec:
  replicas: 2
  progressDeadlineSeconds: {deadline_seconds}
  selector:
    matchLabels: {{app: web}}
  template:
    metadata:
      labels: {{app: web}}
      annotations: {{demo.bellwether.dev/version: {version}}}
    spec:{selector}
      containers:
        - name: web
          image: {image}
"
    )
}

/// A ConfigMap with a text.
pub fn text(name: &str, text: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{text: {text}}}\n")
}

/// Canary first, then all others; what fails goes back by itself.
pub const SHOP_TARGET: &str = "apiVersion: bellwether.dev/v1
kind: Target
metadata: {name: shop}
spec:
  repo: apps
  path: shop
  namespace: shop
  rollout:
    waves:
      - name: canary
        clusters: {matchLabels: {ring: canary}}
        soak: 1s
      - name: rest
    onFailure: rollback
";

/// All of the pulse; each push changes its value.
pub fn pulse(sample: &Sample, value: &str) -> String {
    let namespace = sample.namespace(PULSE);
    format!(
        "{namespace}apiVersion: v1
kind: ConfigMap
metadata: {{name: beat}}
data: {{value: {value}}}
---
apiVersion: v1
kind: Service
metadata: {{name: heart}}
spec:
  selector: {{app: heart}}
  ports: [{{port: 80}}]
"
    )
}

/// One wave, no soak.
pub const PULSE_TARGET: &str = "apiVersion: bellwether.dev/v1
kind: Target
metadata: {name: pulse}
spec:
  repo: apps
  path: pulse
  namespace: pulse
  rollout:
    waves: [{name: all}]
";

/// What the demo makes in a cluster, and a borrowed one is given back without.
pub fn footprint(run: &str) -> Footprint {
    let namespaces = [NAMESPACE, SHOP, PULSE].map(str::to_owned).to_vec();
    let agent = format!("bellwether-agent-{NAMESPACE}");
    Footprint { run: run.to_owned(), namespaces, cluster_roles: vec![WATCHER.to_owned(), agent] }
}

/// The namespace, and in it a service account that reads ConfigMaps, Deployments and Services, and nothing else.
pub fn watcher(sample: &Sample) -> String {
    sample.namespace(NAMESPACE) + WATCHER_ACCOUNT
}

/// The name of the watcher's service account and role.
pub const WATCHER: &str = "bellwether-demo-watcher";
const WATCHER_ACCOUNT: &str = "apiVersion: v1
kind: ServiceAccount
metadata: {name: bellwether-demo-watcher, namespace: bellwether-demo}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: bellwether-demo-watcher}
rules:
  - apiGroups: ['']
    resources: [configmaps, services]
    verbs: [get, list, watch]
  - apiGroups: [apps]
    resources: [deployments]
    verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bellwether-demo-watcher}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bellwether-demo-watcher}
subjects: [{kind: ServiceAccount, name: bellwether-demo-watcher, namespace: bellwether-demo}]
";
