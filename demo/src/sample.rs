//! The applications that are rolled out: `shop`, in waves, and `pulse`, at once everywhere, for measuring pushes.

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

/// What a node has to have for the shop's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    Any,
    /// Valid, and nowhere there: the pods stay Pending.
    None,
}

/// One file with all of the shop but its coupons.
pub fn shop(version: &str, nodes: Nodes) -> String {
    let selector = if nodes == Nodes::None { "\n      nodeSelector: {disk: tape}" } else { "" };
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: shop}}
---
apiVersion: v1
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
  progressDeadlineSeconds: 5
  selector:
    matchLabels: {{app: web}}
  template:
    metadata:
      labels: {{app: web}}
      annotations: {{demo.bellwether.dev/version: {version}}}
    spec:{selector}
      containers:
        - name: web
          image: registry.example.org/shop/web:1.0
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
pub fn pulse(value: &str) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: pulse}}
---
apiVersion: v1
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

/// Reads ConfigMaps, Deployments and Services, and nothing else.
pub const WATCHER: &str = "apiVersion: v1
kind: ServiceAccount
metadata: {name: demo-watcher, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: demo-watcher}
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
metadata: {name: demo-watcher}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: demo-watcher}
subjects: [{kind: ServiceAccount, name: demo-watcher, namespace: kube-system}]
";
