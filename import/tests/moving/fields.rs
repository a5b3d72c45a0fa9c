//! Every field that the definitions of these kinds have: it changes what is written, or something is said of it.
//!
//! `fields/KIND.txt` has a line for each: its path, its type, and the values that it may have. They are from the
//! definitions of Flux 2.7 and Argo CD 3.3.

use bellwether_import::{Import, Options, argocd, flux, gather_text};
use serde_json::{Map, Value, json};

use super::{CHART, CONFIG, Tool, URL, moved, production};

struct Field {
    path: &'static str,
    values: Vec<Value>,
}

fn fields(list: &'static str) -> impl Iterator<Item = Field> {
    list.lines().map(|line| {
        let mut words = line.split(' ');
        let (path, kind) = (words.next().expect("a path"), words.next().expect("a type"));
        let values = match (words.next(), kind) {
            (Some(values), _) => values.split(',').map(Value::from).collect(),
            (None, "boolean") => vec![json!(true), json!(false)],
            (None, "integer") => vec![json!(7)],
            (None, "integer-or-string") => vec![json!("7")],
            (None, "array") => vec![json!(["other"])],
            (None, "string") => vec![json!("other")],
            (None, _) => vec![json!({"other": "other"})],
        };
        Field { path, values }
    })
}

/// Of a list it is the first.
fn set(object: &mut Value, path: &str, value: &Value) {
    let Some((step, rest)) = path.split_once('.').map(|(step, rest)| (step, Some(rest))).or(Some((path, None))) else {
        return;
    };
    let (name, is_list) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let mut place = &mut object[name];
    if is_list {
        if place.as_array().is_none_or(Vec::is_empty) {
            *place = json!([{}]);
        }
        place = &mut place[0];
    }
    match rest {
        Some(rest) => set(place, rest, value),
        None => *place = value.clone(),
    }
}

/// Some value of the field makes a difference, or it is spoken of.
fn is_heeded(field: &Field, base: &Value, import: &dyn Fn(&Value) -> Import) -> bool {
    let before = import(base);
    field.values.iter().any(|value| {
        let mut changed = base.clone();
        set(&mut changed, field.path, value);
        let after = import(&changed);
        let says = after.report.iter().flat_map(|entry| &entry.remarks).any(|remark| {
            let told = remark.field.replace("[0]", "[]").replace("spec.template.spec", "spec");
            field.path.strip_prefix(&told).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        says || after.documents != before.documents
            || after.overlays != before.overlays
            || after.report != before.report
    })
}

fn assert_all_heeded(tool: Tool, list: &'static str, base: impl Fn(&str) -> Value, beside: &[Value]) {
    let mut files = vec![("apps/config.yaml", CONFIG), ("overlay/kustomization.yaml", "resources: [config.yaml]\n")];
    files.extend([("overlay/config.yaml", CONFIG), ("plain/config.yaml", CONFIG)]);
    files.extend(CHART);
    let workspace = moved(tool, &files, production()).workspace;
    let import = |object: &Value| {
        let items = [std::slice::from_ref(object), beside].concat();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let options = Options { url: Some(URL.to_owned()), overlays: "bellwether/overlays".to_owned(), ..production() };
        let gathered = gather_text(list.to_string().as_bytes());
        match tool {
            Tool::Flux => flux(&workspace, gathered, &options),
            Tool::Argo => argocd(&workspace, gathered, &options),
        }
    };

    let silent: Vec<&str> =
        fields(list).filter(|field| !is_heeded(field, &base(field.path), &import)).map(|field| field.path).collect();

    assert!(silent.is_empty(), "nothing is made of these, and nothing is said: {silent:#?}");
}

fn flux_object(group: &str, kind: &str, name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": "flux-system"});
    json!({"apiVersion": format!("{group}.toolkit.fluxcd.io/v1"), "kind": kind, "metadata": metadata, "spec": spec})
}

fn git() -> Value {
    flux_object("source", "GitRepository", "fleet", &json!({"interval": "10m", "url": URL, "ref": {"branch": "main"}}))
}

fn kustomization() -> Value {
    let source = json!({"kind": "GitRepository", "name": "fleet"});
    let spec = json!({"interval": "10m", "path": "./apps", "prune": true, "sourceRef": source, "targetNamespace": "a"});
    flux_object("kustomize", "Kustomization", "apps", &spec)
}

#[test]
fn no_field_of_a_kustomization_is_left_out_silently() {
    assert_all_heeded(Tool::Flux, include_str!("fields/Kustomization.txt"), |_| kustomization(), &[git()]);
}

#[test]
fn no_field_of_a_release_is_left_out_silently() {
    let values = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "values", "namespace": "flux-system"}, "data": {"size": "5"}});
    let source = json!({"kind": "GitRepository", "name": "fleet"});
    let spec = json!({
        "interval": "10m",
        "chart": {"spec": {"chart": "./charts/shop", "sourceRef": source}},
        "valuesFrom": [{"kind": "ConfigMap", "name": "values", "valuesKey": "size", "targetPath": "size"}],
    });
    let release = flux_object("helm", "HelmRelease", "shop", &spec);

    assert_all_heeded(Tool::Flux, include_str!("fields/HelmRelease.txt"), |_| release.clone(), &[git(), values]);
}

#[test]
fn no_field_of_a_source_is_left_out_silently() {
    let of = |kind: &str, name: &str| {
        let mut kustomization = kustomization();
        kustomization["spec"]["sourceRef"] = json!({"kind": kind, "name": name});
        kustomization
    };
    assert_all_heeded(Tool::Flux, include_str!("fields/GitRepository.txt"), |_| git(), &[of("GitRepository", "fleet")]);
    let url = "oci://registry.example.org/fleet";
    let oci = flux_object("source", "OCIRepository", "fleet", &json!({"interval": "10m", "url": url}));
    let beside = [of("OCIRepository", "fleet")];
    assert_all_heeded(Tool::Flux, include_str!("fields/OCIRepository.txt"), |_| oci.clone(), &beside);
    let charts = json!({"interval": "10m", "url": "https://charts.example.org"});
    let charts = flux_object("source", "HelmRepository", "charts", &charts);
    let source = json!({"kind": "HelmRepository", "name": "charts"});
    let chart = json!({"chart": {"spec": {"chart": "shop", "sourceRef": source}}});
    let beside = [flux_object("helm", "HelmRelease", "shop", &chart)];
    assert_all_heeded(Tool::Flux, include_str!("fields/HelmRepository.txt"), |_| charts.clone(), &beside);
}

fn argo_object(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": {"name": "shop", "namespace": "argocd"}, "spec": spec})
}

fn application(source: Value) -> Value {
    let mut source = source;
    source["repoURL"] = json!(URL);
    source["targetRevision"] = json!("main");
    let destination = json!({"server": "https://10.0.0.1", "namespace": "shop"});
    let automated = json!({"automated": {"prune": true, "selfHeal": true}});
    argo_object(
        "Application",
        &json!({"project": "default", "source": source, "destination": destination, "syncPolicy": automated}),
    )
}

#[test]
fn no_field_of_an_application_is_left_out_silently() {
    let base = |path: &str| {
        if path.starts_with("spec.source.helm") {
            application(
                json!({"path": "charts/shop", "helm": {"releaseName": "shop", "valueFiles": ["none.yaml"], "parameters": [{"name": "size", "value": "5"}]}}),
            )
        } else if path.starts_with("spec.source.kustomize") {
            application(
                json!({"path": "overlay", "kustomize": {"commonLabels": {"a": "b"}, "labelWithoutSelector": true}}),
            )
        } else {
            application(json!({"path": "plain"}))
        }
    };

    assert_all_heeded(Tool::Argo, include_str!("fields/Application.txt"), base, &[]);
}

#[test]
fn no_field_of_a_set_or_a_project_is_left_out_silently() {
    let mut template = application(json!({"path": "plain"}));
    template["metadata"] = json!({"name": "{{cluster}}"});
    let generators = json!([{"list": {"elements": [{"cluster": "eu"}]}}]);
    let set = argo_object(
        "ApplicationSet",
        &json!({"generators": generators, "template": {"metadata": template["metadata"], "spec": template["spec"]}}),
    );
    assert_all_heeded(Tool::Argo, include_str!("fields/ApplicationSet.txt"), |_| set.clone(), &[]);
    let project = argo_object("AppProject", &json!({}));
    assert_all_heeded(Tool::Argo, include_str!("fields/AppProject.txt"), |_| project.clone(), &[]);
}
