//! What an API server knows of its own kinds beyond their schema, as far as it is what people get wrong: a workload that
//! selects other pods than it makes, a mount of no volume, a list that must not be empty.

use bellwether_render::yaml::{Content, Node};

use crate::names::{LABEL, is_dns_label};
use crate::path::{Trail, has_variable};

/// Of an object of a built-in group.
pub(crate) fn check(trail: &mut Trail, root: &Node, api_version: &str, kind: &str) {
    let Some(spec) = root.field("spec") else {
        check_without_spec(trail, root, kind);
        return;
    };
    trail.within("spec", |trail| match (api_version, kind) {
        ("apps/v1", "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet") => {
            check_selector(trail, spec);
            check_template(trail, spec, &claims(spec), None);
        }
        ("v1", "ReplicationController") => check_template(trail, spec, &[], None),
        ("batch/v1", "Job") => check_template(trail, spec, &[], Some(&["Never", "OnFailure"])),
        ("batch/v1", "CronJob") => {
            if let Some(job) = spec.field("jobTemplate").and_then(|template| template.field("spec")) {
                trail.within("jobTemplate", |trail| {
                    trail.within("spec", |trail| {
                        check_template(trail, job, &[], Some(&["Never", "OnFailure"]));
                    });
                });
            }
        }
        ("v1", "Pod") => check_pod(trail, spec, &[]),
        ("v1", "Service") => check_service(trail, spec),
        ("v1", "PersistentVolumeClaim") => {
            not_empty(trail, spec, "accessModes");
            let storage = ["resources", "requests", "storage"].iter().try_fold(spec, |node, field| node.field(field));
            if storage.is_none() {
                let path = ["resources", "requests", "storage"];
                missing(trail, spec, &path);
            }
        }
        _ => {}
    });
}

fn check_without_spec(trail: &mut Trail, root: &Node, kind: &str) {
    if kind == "StorageClass" {
        not_empty(trail, root, "provisioner");
    }
    if matches!(kind, "RoleBinding" | "ClusterRoleBinding") {
        let roles: &[&str] = if kind == "RoleBinding" { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
        if let Some(role) = root.field("roleRef") {
            trail.within("roleRef", |trail| one_of(trail, role, "kind", roles));
        }
        each(trail, root, "subjects", |trail, subject| {
            one_of(trail, subject, "kind", &["ServiceAccount", "User", "Group"]);
            // A RoleBinding's own namespace is its subjects', where they name none.
            let is_account = subject.field("kind").and_then(Node::text) == Some("ServiceAccount");
            if is_account && kind == "ClusterRoleBinding" {
                not_empty(trail, subject, "namespace");
            }
        });
    }
    if matches!(kind, "Role" | "ClusterRole") {
        each(trail, root, "rules", |trail, rule| {
            not_empty(trail, rule, "verbs");
            if rule.field("nonResourceURLs").is_none() {
                not_empty(trail, rule, "apiGroups");
                not_empty(trail, rule, "resources");
            }
        });
    }
}

/// The labels of its pods have to be among those that it selects.
fn check_selector(trail: &mut Trail, spec: &Node) {
    let Some(selector) = spec.field("selector").filter(|selector| selector.entries().is_some()) else { return };
    let is_empty = |field: &str| match selector.field(field).map(|node| &node.content) {
        Some(Content::Map(entries)) => entries.is_empty(),
        Some(Content::List(items)) => items.is_empty(),
        _ => true,
    };
    if is_empty("matchLabels") && is_empty("matchExpressions") {
        trail.within("selector", |trail| trail.problem("selector_invalid", selector.line(), "selects everything"));
        return;
    }
    let Some(template) = spec.field("template").filter(|template| template.entries().is_some()) else { return };
    let labels = template.field("metadata").and_then(|metadata| metadata.field("labels"));
    let wanted = selector.field("matchLabels").and_then(Node::entries).unwrap_or_default();
    for entry in wanted {
        let Some(value) = entry.value.text().filter(|value| !has_variable(value)) else { continue };
        let found = labels.and_then(|labels| labels.field(&entry.key));
        let found_text = found.and_then(Node::text);
        if found_text != Some(value) && !found_text.is_some_and(has_variable) {
            let message = format!("selects `{}: {value}`, which the template's labels do not have", entry.key);
            trail.within("selector", |trail| trail.problem("selector_invalid", entry.line(), message));
        }
    }
}

/// A StatefulSet's claims are volumes of its pods.
fn claims(spec: &Node) -> Vec<&str> {
    let claims = list(spec, "volumeClaimTemplates").iter();
    claims.filter_map(|claim| claim.field("metadata")?.field("name")?.text()).collect()
}

fn check_template(trail: &mut Trail, spec: &Node, claims: &[&str], restart: Option<&[&str]>) {
    let Some(pod) = spec.field("template").and_then(|template| template.field("spec")) else { return };
    trail.within("template", |trail| {
        trail.within("spec", |trail| {
            check_pod(trail, pod, claims);
            let policy = pod.field("restartPolicy").and_then(Node::text).unwrap_or_default();
            if let Some(allowed) = restart.filter(|allowed| !allowed.contains(&policy) && !has_variable(policy)) {
                let line = pod.field("restartPolicy").map_or(pod.line(), Node::line);
                let message = format!("has to be `{}` for a job", allowed.join("` or `"));
                trail.within("restartPolicy", |trail| trail.problem("value_unknown", line, message));
            }
        });
    });
}

fn check_pod(trail: &mut Trail, pod: &Node, claims: &[&str]) {
    if pod.entries().is_none() {
        return;
    }
    if pod.field("containers").is_some() {
        not_empty(trail, pod, "containers");
    }
    let volumes = list(pod, "volumes").iter().filter_map(|volume| volume.field("name")?.text());
    let volumes: Vec<&str> = volumes.chain(claims.iter().copied()).collect();
    // Two of one list are told by its schema.
    let mut names: Vec<&str> = Vec::new();
    for field in ["initContainers", "containers"] {
        let containers = list(pod, field);
        for (index, container) in containers.iter().enumerate() {
            trail.within(field, |trail| {
                trail.within_item(index, |trail| check_container(trail, container, &volumes, &names));
            });
        }
        names.extend(containers.iter().filter_map(|container| container.field("name")?.text()));
    }
}

fn check_container(trail: &mut Trail, container: &Node, volumes: &[&str], names: &[&str]) {
    if container.entries().is_none() {
        return;
    }
    not_empty(trail, container, "image");
    if let Some(name) = container.field("name").and_then(Node::text).filter(|name| !has_variable(name)) {
        if names.contains(&name) {
            trail.within("name", |trail| trail.problem("value_twice", container.line(), "is another container's too"));
        }
        if !is_dns_label(name) {
            trail.within("name", |trail| trail.problem("object_name_invalid", container.line(), LABEL));
        }
    }
    each(trail, container, "ports", |trail, port| check_port(trail, port, "containerPort"));
    each(trail, container, "volumeMounts", |trail, mount| {
        let Some(name) = mount.field("name").filter(|name| !is_variable(name)) else { return };
        if name.text().is_some_and(|text| !volumes.contains(&text)) {
            trail.within("name", |trail| trail.problem("value_unknown", name.line(), "is no volume of the pod"));
        }
    });
}

fn check_service(trail: &mut Trail, spec: &Node) {
    let text = |field: &str| spec.field(field).and_then(Node::text).unwrap_or_default();
    if text("type") != "ExternalName" && text("clusterIP") != "None" && !has_variable(text("type")) {
        not_empty(trail, spec, "ports");
    }
    each(trail, spec, "ports", |trail, port| check_port(trail, port, "port"));
}

fn check_port(trail: &mut Trail, port: &Node, field: &str) {
    let Some(Content::Number(number)) = port.field(field).map(|port| &port.content) else { return };
    if !number.as_i64().is_some_and(|number| (1..=65535).contains(&number)) {
        let line = port.line();
        trail.within(field, |trail| trail.problem("value_out_of_range", line, "is no port from 1 to 65535"));
    }
}

/// Left out, its schema says that it is missing.
fn one_of(trail: &mut Trail, node: &Node, field: &str, known: &[&str]) {
    let Some(value) = node.field(field).filter(|value| !is_variable(value)) else { return };
    if value.text().is_some_and(|text| !known.contains(&text)) {
        let message = format!("is none of `{}`", known.join("`, `"));
        trail.within(field, |trail| trail.problem("value_unknown", value.line(), message));
    }
}

fn is_variable(node: &Node) -> bool {
    node.text().is_some_and(has_variable)
}

fn list<'n>(node: &'n Node, field: &str) -> &'n [Node] {
    match node.field(field).map(|node| &node.content) {
        Some(Content::List(items)) => items,
        _ => &[],
    }
}

fn each(trail: &mut Trail, node: &Node, field: &str, mut check: impl FnMut(&mut Trail, &Node)) {
    for (index, item) in list(node, field).iter().enumerate() {
        trail.within(field, |trail| trail.within_item(index, |trail| check(trail, item)));
    }
}

/// A field that is there and says nothing is as good as left out; what its schema requires is told already.
fn not_empty(trail: &mut Trail, node: &Node, field: &'static str) {
    let is_empty = match node.field(field).map(|node| &node.content) {
        None | Some(Content::Null) => true,
        Some(Content::List(items)) => items.is_empty(),
        Some(Content::Text(text)) => text.value.is_empty(),
        Some(_) => false,
    };
    if is_empty {
        missing(trail, node, &[field]);
    }
}

fn missing(trail: &mut Trail, node: &Node, path: &[&str]) {
    match path {
        [] => trail.problem("field_missing", node.line(), "is required, and missing or empty"),
        [first, rest @ ..] => trail.within(first, |trail| missing(trail, node, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str) -> Vec<String> {
        let documents = bellwether_render::yaml::read("a.yaml", text.as_bytes()).expect("it is read");
        let root = &documents[0].root;
        let text = |field: &str| root.field(field).and_then(Node::text).expect("a text");
        let mut trail = Trail::default();
        check(&mut trail, root, text("apiVersion"), text("kind"));
        trail.into_problems().into_iter().map(|problem| format!("{} {}", problem.path, problem.message)).collect()
    }

    fn workload(kind: &str, spec: &str, pod: &str) -> String {
        let template = format!("template: {{metadata: {{labels: {{app: web}}}}, spec: {pod}}}");
        format!("apiVersion: apps/v1\nkind: {kind}\nspec: {{{spec}, {template}}}\n")
    }

    #[test]
    fn a_workload_selects_its_own_pods() {
        let pod = "{containers: [{name: a, image: b}]}";
        let selects =
            |labels: &str| check_text(&workload("Deployment", &format!("selector: {{matchLabels: {labels}}}"), pod));

        assert_eq!(selects("{app: web}"), [""; 0]);
        assert_eq!(selects("{app: '${app}'}"), [""; 0]);
        assert_eq!(
            selects("{app: wep}"),
            ["spec.selector selects `app: wep`, which the template's labels do not have"]
        );
        assert_eq!(selects("{}"), ["spec.selector selects everything"]);
    }

    #[test]
    fn a_mount_names_a_volume_or_a_claim() {
        let pod = |mount: &str| {
            format!(
                "{{volumes: [{{name: v}}], containers: [{{name: a, image: b, volumeMounts: [{{name: {mount}}}]}}]}}"
            )
        };
        let set = "selector: {matchLabels: {app: web}}, volumeClaimTemplates: [{metadata: {name: claim}}]";

        for known in ["v", "claim"] {
            assert_eq!(check_text(&workload("StatefulSet", set, &pod(known))), [""; 0]);
        }
        let path = "spec.template.spec.containers[0].volumeMounts[0].name";
        assert_eq!(check_text(&workload("StatefulSet", set, &pod("w"))), [format!("{path} is no volume of the pod")]);
    }

    #[test]
    fn what_must_not_be_empty_is_told() {
        for (text, expected) in [
            ("{apiVersion: v1, kind: Pod, spec: {containers: []}}", "spec.containers"),
            ("{apiVersion: v1, kind: Pod, spec: {containers: [{name: a}]}}", "spec.containers[0].image"),
            ("{apiVersion: v1, kind: Service, spec: {selector: {a: b}}}", "spec.ports"),
            (
                "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, rules: [{resources: [a], apiGroups: ['']}]}",
                "rules[0].verbs",
            ),
            (
                "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, subjects: [{kind: ServiceAccount, name: a}]}",
                "subjects[0].namespace",
            ),
            (
                "{apiVersion: v1, kind: PersistentVolumeClaim, spec: {accessModes: [a]}}",
                "spec.resources.requests.storage",
            ),
        ] {
            assert_eq!(check_text(text), [format!("{expected} is required, and missing or empty")], "{text}");
        }
        for text in [
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, subjects: [{kind: ServiceAccount, name: a}]}",
            "{apiVersion: v1, kind: Service, spec: {clusterIP: None}}",
            "{apiVersion: v1, kind: Service, spec: {type: ExternalName, externalName: a.b}}",
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, rules: [{nonResourceURLs: [/a], verbs: [get]}]}",
        ] {
            assert_eq!(check_text(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_binding_binds_a_role_to_a_subject() {
        let binding = |kind: &str, role: &str| {
            check_text(&format!(
                "{{apiVersion: rbac.authorization.k8s.io/v1, kind: {kind}, roleRef: {{kind: {role}}}, subjects: [{{kind: User}}]}}"
            ))
        };

        assert_eq!(binding("RoleBinding", "Role"), [""; 0]);
        assert_eq!(binding("RoleBinding", "Rule"), ["roleRef.kind is none of `Role`, `ClusterRole`"]);
        assert_eq!(binding("ClusterRoleBinding", "Role"), ["roleRef.kind is none of `ClusterRole`"]);
    }

    #[test]
    fn a_job_ends_and_a_port_is_one() {
        let job = "{apiVersion: batch/v1, kind: Job, spec: {template: {spec: {containers: [{name: a, image: b, ports: [{containerPort: 0}]}]}}}}";

        assert_eq!(
            check_text(job),
            [
                "spec.template.spec.containers[0].ports[0].containerPort is no port from 1 to 65535",
                "spec.template.spec.restartPolicy has to be `Never` or `OnFailure` for a job",
            ]
        );
    }

    #[test]
    fn containers_have_names_of_their_own() {
        let pod = |init: &str, name: &str| {
            check_text(&format!(
                "{{apiVersion: v1, kind: Pod, spec: {{initContainers: [{{name: {init}, image: a}}], containers: [{{name: {name}, image: a}}]}}}}"
            ))
        };

        assert_eq!(pod("a", "b"), [""; 0]);
        assert_eq!(pod("a", "a"), ["spec.containers[0].name is another container's too"]);
        assert_eq!(pod("a", "my_app"), [format!("spec.containers[0].name {LABEL}")]);
    }
}
