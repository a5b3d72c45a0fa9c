//! What others apply of what is ours becomes ours: what Git takes out goes, though somebody applied the same file with
//! kubectl; and what a target adopts is no other tool's any more.
//!
//! Server-side apply removes a field only when its last owner gives it up. Who runs `kubectl apply` with the file that is
//! in Git changes nothing and becomes an owner beside us; from then on what leaves Git stays, and nobody is told. So what
//! such a tool holds of what we applied and no longer want is made ours, and the next apply removes it. What it holds
//! beyond that was never ours, and stays. The same goes for what we made ourselves by a request that is no apply.

use serde_json::{Map, Value, json};

use crate::apply::APPLY_ANNOTATION;

/// Tools by which people apply what they keep in files. Others, such as `kubectl-edit`, change what is there: that is drift.
const PERSONS_TOOLS: [&str; 4] = ["kubectl", "kubectl-client-side-apply", "kubectl-last-applied", "before-first-apply"];

/// Managers that Helm, Flux and Argo CD apply by, and people who made it once.
const TOOLS: [&str; 7] = [
    "argocd-application-controller",
    "argocd-controller",
    "helm",
    "helm-controller",
    "kubectl-create",
    "kubectl-replace",
    "kustomize-controller",
];

/// Whether a manager of fields is a tool by which people apply what they keep in files.
pub(crate) fn is_persons(manager: &str) -> bool {
    PERSONS_TOOLS.contains(&manager)
}

/// `managedFields` in which what only such tools hold of `former`, and `wanted` does not have, is `manager`'s. `None` when
/// there is nothing like that. `former` and `wanted` are the object as `manager` applied it before, and as it does now.
pub fn taken_over(managed_fields: &Value, manager: &str, former: &Value, wanted: &Value) -> Option<Value> {
    let mut entries = managed_fields.as_array()?.clone();
    let mut taken = Map::new();
    for entry in entries.iter_mut().filter(|entry| is_tools(entry)) {
        let (mut left, mut more) = split(&entry["fieldsV1"], Some(former), Some(wanted));
        // Whoever gives the replicas to an autoscaler takes them out of Git: without any holder there would be one.
        unite(&mut left, spare(&mut more, &[REPLICAS]));
        unite(&mut taken, more);
        entry["fieldsV1"] = Value::Object(left);
    }
    if taken.is_empty() {
        return None;
    }
    entries.retain(|entry| entry["fieldsV1"].as_object().is_none_or(|fields| !fields.is_empty()));
    let ours = entries.iter_mut().find(|entry| is_applied_by(entry, manager))?;
    unite(ours["fieldsV1"].as_object_mut()?, taken);
    Some(Value::Array(entries))
}

/// `managedFields` of what `manager` made by a request that is no apply, since it asks to be applied once, as if that had been
/// an apply: a later one then takes away what it no longer says. `None` when nobody made it so, or that was done.
pub fn as_applied(managed_fields: &Value, manager: &str) -> Option<Value> {
    let mut entries = managed_fields.as_array()?.clone();
    let mut made = entries.remove(entries.iter().position(|entry| is_made_once_by(entry, manager))?);
    match entries.iter_mut().find(|entry| is_applied_by(entry, manager)) {
        Some(applied) if applied["apiVersion"] == made["apiVersion"] => {
            let Value::Object(fields) = made["fieldsV1"].take() else { return None };
            unite(applied["fieldsV1"].as_object_mut()?, fields);
        }
        Some(_) => return None,
        None => {
            made["operation"] = Value::from("Apply");
            entries.push(made);
        }
    }
    Some(Value::Array(entries))
}

/// Of a request that wrote the annotation: a label alone is written when an object is given to another target.
fn is_made_once_by(entry: &Value, manager: &str) -> bool {
    let asks = &entry["fieldsV1"]["f:metadata"]["f:annotations"][format!("f:{APPLY_ANNOTATION}")];
    entry["manager"] == manager && entry["operation"] == "Update" && is_of_the_object(entry) && !asks.is_null()
}

fn is_applied_by(entry: &Value, manager: &str) -> bool {
    entry["manager"] == manager && entry["operation"] == "Apply" && is_of_the_object(entry)
}

fn is_tools(entry: &Value) -> bool {
    is_of_the_object(entry) && entry["manager"].as_str().is_some_and(is_persons)
}

/// What is never taken, whoever holds it: controllers' words about an object, what keeps it from going or ties it to others,
/// and how much of it there is, which would fall back to a default where Git does not say it.
const SPARED: [&[&str]; 6] = [
    &["status"],
    &["operation"],
    &["metadata", "finalizers"],
    &["metadata", "ownerReferences"],
    REPLICAS,
    &["spec", "resources", "requests", "storage"],
];
const REPLICAS: &[&str] = &["spec", "replicas"];

/// Annotations and labels that a tool sets on what it applies, under whatever name it does.
const MARKS: [(&str, &str); 5] = [
    ("f:annotations", "f:kubectl.kubernetes.io/last-applied-configuration"),
    ("f:annotations", "f:meta.helm.sh/release-name"),
    ("f:annotations", "f:argocd.argoproj.io/tracking-id"),
    ("f:labels", "f:kustomize.toolkit.fluxcd.io/name"),
    ("f:labels", "f:helm.toolkit.fluxcd.io/name"),
];

/// `managedFields` in which what tools that apply files hold is what `manager` has applied, so that its next apply removes
/// what that does not say, the tools' marks among it. `None` when there is nothing to take. Of entries about another version
/// of the kind than `api_version` nothing is known.
pub fn adopted(managed_fields: &Value, manager: &str, api_version: &str) -> Option<Value> {
    let mut entries = managed_fields.as_array()?.clone();
    let mut taken = Map::new();
    for entry in entries.iter_mut().filter(|entry| entry["apiVersion"] == api_version && is_taken(entry, manager)) {
        let Value::Object(mut all) = entry["fieldsV1"].take() else { continue };
        entry["fieldsV1"] = Value::Object(spare(&mut all, &SPARED));
        unite(&mut taken, all);
    }
    if taken.is_empty() {
        return None;
    }
    entries.retain(|entry| entry["fieldsV1"].as_object().is_none_or(|fields| !fields.is_empty()));
    match entries.iter_mut().find(|entry| is_applied_by(entry, manager)) {
        Some(ours) if ours["apiVersion"] == api_version => unite(ours["fieldsV1"].as_object_mut()?, taken),
        // Our next apply says it anew in this version, and leaves no more than one entry.
        Some(_) => return None,
        None => entries.push(json!({"manager": manager, "operation": "Apply", "apiVersion": api_version,
            "fieldsType": "FieldsV1", "fieldsV1": taken})),
    }
    Some(Value::Array(entries))
}

/// What such a tool holds; and what was written under our own name, but by no apply.
fn is_taken(entry: &Value, manager: &str) -> bool {
    let Some(name) = entry["manager"].as_str().filter(|_| is_of_the_object(entry)) else { return false };
    let is_tools = is_persons(name) || TOOLS.contains(&name) || MARKS.iter().any(|mark| is_marked(entry, mark));
    let is_written = name == manager && entry["operation"] != "Apply";
    (is_tools && !is_controllers_own(entry, name)) || is_written
}

fn is_marked(entry: &Value, (of, mark): &(&str, &str)) -> bool {
    entry["fieldsV1"]["f:metadata"][of].get(mark).is_some()
}

/// Under these names their controllers write objects of their own kinds, too.
fn is_controllers_own(entry: &Value, manager: &str) -> bool {
    let version = entry["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let is_own = if manager.starts_with("argocd-") {
        group == "argoproj.io"
    } else {
        manager.ends_with("-controller") && group.ends_with(".toolkit.fluxcd.io")
    };
    is_own && entry["operation"] != "Apply"
}

/// Takes fields out of a set: the set that has them alone.
fn spare(fields: &mut Map<String, Value>, paths: &[&[&str]]) -> Map<String, Value> {
    let mut spared = Map::new();
    for field in paths.iter().filter_map(|path| take_out(fields, path)) {
        unite(&mut spared, field);
    }
    spared
}

fn take_out(fields: &mut Map<String, Value>, path: &[&str]) -> Option<Map<String, Value>> {
    let (name, below) = path.split_first()?;
    let key = format!("f:{name}");
    if below.is_empty() {
        return fields.remove(&key).map(|field| Map::from_iter([(key, field)]));
    }
    let inner = fields.get_mut(&key)?.as_object_mut()?;
    let taken = take_out(inner, below)?;
    if inner.is_empty() {
        fields.remove(&key);
    }
    Some(Map::from_iter([(key, Value::Object(taken))]))
}

fn is_of_the_object(entry: &Value) -> bool {
    entry.get("subresource").is_none_or(|subresource| subresource == "")
}

/// What of a field set stays, and what is taken: what `former` has and `wanted` has not.
fn split(fields: &Value, former: Option<&Value>, wanted: Option<&Value>) -> (Map<String, Value>, Map<String, Value>) {
    let is_taken = former.is_some() && wanted.is_none();
    let (mut left, mut taken) = (Map::new(), Map::new());
    for (key, below) in fields.as_object().into_iter().flatten() {
        if key == "." {
            let side = if is_taken { &mut taken } else { &mut left };
            side.insert(key.clone(), below.clone());
            continue;
        }
        let (former, wanted) = (former.and_then(|it| find(it, key)), wanted.and_then(|it| find(it, key)));
        if below.as_object().is_some_and(Map::is_empty) {
            let side = if former.is_some() && wanted.is_none() { &mut taken } else { &mut left };
            side.insert(key.clone(), below.clone());
            continue;
        }
        let (left_below, taken_below) = split(below, former, wanted);
        for (side, below) in [(&mut left, left_below), (&mut taken, taken_below)] {
            if !below.is_empty() {
                side.insert(key.clone(), Value::Object(below));
            }
        }
    }
    (left, taken)
}

/// What an object has at one step of a field set: `f:name`, `k:{"name":"web"}`, `v:"x"` or `i:0`.
fn find<'a>(object: &'a Value, step: &str) -> Option<&'a Value> {
    let (how, what) = step.split_once(':')?;
    match (how, object) {
        ("f", Value::Object(fields)) => fields.get(what),
        ("i", Value::Array(items)) => items.get(what.parse::<usize>().ok()?),
        ("v", Value::Array(items)) => {
            let value: Value = serde_json::from_str(what).ok()?;
            items.iter().find(|item| **item == value)
        }
        ("k", Value::Array(items)) => {
            let keys: Map<String, Value> = serde_json::from_str(what).ok()?;
            // A key that the item leaves out has some default, so it fits.
            let fits = |item: &&Value| keys.iter().all(|(key, value)| item.get(key).is_none_or(|of| of == value));
            items.iter().find(fits)
        }
        _ => None,
    }
}

/// Adds the fields of one set to another. `{}` is the field itself; beside what is below it, that is written as `.`.
fn unite(fields: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, more) in more {
        let Value::Object(mut more) = more else { continue };
        let Some(below) = fields.get_mut(&key).and_then(Value::as_object_mut) else {
            fields.insert(key, Value::Object(more));
            continue;
        };
        if below.is_empty() == more.is_empty() {
            unite(below, more);
            continue;
        }
        let itself = if below.is_empty() { &mut *below } else { &mut more };
        itself.insert(".".to_owned(), Value::Object(Map::new()));
        unite(below, more);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn web(containers: &Value) -> Value {
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}})
    }

    #[test]
    fn what_a_tool_holds_of_what_we_no_longer_want_becomes_ours() {
        let helper = json!({".": {}, "f:name": {}, "f:image": {}});
        let of_web = json!({".": {}, "f:name": {}, "f:env": {"k:{\"name\":\"DEBUG\"}": {".": {}, "f:name": {}}}});
        let theirs = json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:containers": {
            "k:{\"name\":\"web\"}": of_web, "k:{\"name\":\"helper\"}": helper, "k:{\"name\":\"added\"}": {".": {}, "f:name": {}}}}});
        let ours = json!({"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:name": {}}}}});
        let former = web(&json!([{"name": "web", "env": [{"name": "DEBUG"}]}, {"name": "helper", "image": "x"}]));
        let wanted = web(&json!([{"name": "web"}]));
        let fields = json!([entry("kubectl", "Apply", &theirs), entry("bellwether", "Apply", &ours)]);

        let taken = taken_over(&fields, "bellwether", &former, &wanted).expect("there is something");

        let debug = json!({"k:{\"name\":\"DEBUG\"}": {".": {}, "f:name": {}}});
        assert_eq!(
            taken[1]["fieldsV1"]["f:spec"]["f:containers"],
            json!({"k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:env": debug}, "k:{\"name\":\"helper\"}": helper})
        );
        assert_eq!(
            taken[0]["fieldsV1"],
            json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:containers": {
                "k:{\"name\":\"web\"}": {".": {}, "f:name": {}}, "k:{\"name\":\"added\"}": {".": {}, "f:name": {}}}}})
        );
    }

    #[test]
    fn what_was_made_once_is_managed_as_if_it_had_been_applied_and_nothing_else_is() {
        let made = |more: Value| {
            let mut fields = json!({"f:metadata": {"f:annotations": {".": {}, "f:bellwether.dev/apply": {}}}});
            fields.as_object_mut().expect("a set").extend(more.as_object().expect("a set").clone());
            fields
        };
        let (once, data) = (made(json!({"f:data": {"f:a": {}}})), json!({"f:data": {"f:b": {}}}));
        let other = entry("kubectl", "Update", &data);
        let as_applied = |entries: &[Value]| as_applied(&json!(entries), "bellwether");

        let done = as_applied(&[entry("bellwether", "Update", &once), other.clone()]).expect("there is something");
        assert_eq!(done, json!([other, entry("bellwether", "Apply", &once)]));
        assert_eq!(as_applied(done.as_array().expect("a list")), None, "it is done");
        let both = as_applied(&[entry("bellwether", "Update", &once), entry("bellwether", "Apply", &data)]);
        let united = made(json!({"f:data": {"f:a": {}, "f:b": {}}}));
        assert_eq!(both, Some(json!([entry("bellwether", "Apply", &united)])));

        let given = json!({"f:metadata": {"f:labels": {"f:bellwether.dev/target": {}}}});
        let mut status = entry("bellwether", "Update", &once);
        status["subresource"] = json!("status");
        for other in [entry("bellwether", "Update", &given), entry("kubectl", "Update", &once), status] {
            assert_eq!(as_applied(std::slice::from_ref(&other)), None, "{other}");
        }
    }

    #[test]
    fn an_entry_of_which_nothing_is_left_goes() {
        let (former, wanted) = (json!({"data": {"a": "1", "b": "2"}}), json!({"data": {"a": "1"}}));
        let theirs = || json!({"f:data": {"f:b": {}}});
        let fields = json!([
            entry("kubectl-client-side-apply", "Update", &theirs()),
            entry("bellwether", "Apply", &json!({"f:data": {"f:a": {}}})),
        ]);

        let taken = taken_over(&fields, "bellwether", &former, &wanted);

        assert_eq!(taken, Some(json!([entry("bellwether", "Apply", &json!({"f:data": {"f:a": {}, "f:b": {}}}))])));
    }

    #[test]
    fn controllers_editors_and_what_was_never_ours_are_left_alone() {
        let (former, wanted) = (json!({"data": {"a": "1", "b": "2"}}), json!({"data": {"a": "1"}}));
        let ours = entry("bellwether", "Apply", &json!({"f:data": {"f:a": {}}}));
        let all = json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}});
        let mut scaled = entry("kubectl", "Update", &all);
        scaled["subresource"] = json!("scale");
        let never_ours = entry("kubectl", "Apply", &json!({"f:data": {"f:a": {}, "f:c": {}}}));
        for other in [entry("controller", "Update", &all), entry("kubectl-edit", "Update", &all), scaled, never_ours] {
            let fields = json!([other, ours]);

            assert_eq!(taken_over(&fields, "bellwether", &former, &wanted), None, "{other}");
        }
    }

    #[test]
    fn what_is_adopted_is_as_if_we_had_applied_it_but_for_what_is_spared() {
        let helms = json!({"f:metadata": {"f:annotations": {".": {}, "f:meta.helm.sh/release-name": {}}}});
        let kubectls = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
        let mut status = entry("kubectl", "Update", &json!({"f:status": {}}));
        status["subresource"] = json!("status");
        let older = json!({"manager": "kubectl", "operation": "Apply", "apiVersion": "v1beta1", "fieldsV1": kubectls});
        let others =
            [entry("controller", "Update", &kubectls), entry("kubectl-rollout", "Update", &kubectls), status, older];
        let theirs =
            [entry("Go-http-client", "Update", &helms), entry("kubectl-client-side-apply", "Update", &kubectls)];
        let fields = json!([others.as_slice(), theirs.as_slice()].concat());

        let all = adopted(&fields, "bellwether", "v1").expect("there is something");

        let mut ours = helms.clone();
        ours["f:spec"] = json!({"f:paused": {}});
        let left = entry("kubectl-client-side-apply", "Update", &json!({"f:spec": {"f:replicas": {}}}));
        let all = all.as_array().expect("a list");
        assert_eq!((&all[..4], &all[4..]), (others.as_slice(), &[left, entry("bellwether", "Apply", &ours)][..]));
        assert_eq!(adopted(&json!(others), "bellwether", "v1"), None);
    }

    #[test]
    fn what_controllers_write_on_objects_of_their_own_kinds_is_not_taken() {
        let of = |manager: &str, api_version: &str, fields: &Value| {
            let mut entry = entry(manager, "Update", fields);
            entry["apiVersion"] = json!(api_version);
            adopted(&json!([entry]), "bellwether", api_version)
        };
        let finalizer = json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"finalizers.fluxcd.io\"": {}}}});
        let status = json!({"f:status": {"f:history": {}}, "f:operation": {}});

        assert_eq!(of("argocd-application-controller", "argoproj.io/v1alpha1", &status), None);
        assert_eq!(of("helm-controller", "helm.toolkit.fluxcd.io/v2", &finalizer), None);
        assert_eq!(of("kubectl-create", "argoproj.io/v1alpha1", &status), None, "nor are they, whoever wrote them");
        assert_eq!(of("kubectl-create", "v1", &finalizer), None);
        assert!(of("argocd-controller", "apps/v1", &json!({"f:spec": {"f:paused": {}}})).is_some());
    }

    #[test]
    fn replicas_that_leave_git_stay_with_whoever_holds_them_too() {
        let (former, wanted) = (json!({"spec": {"replicas": 9, "paused": true}}), json!({"spec": {}}));
        let ours = entry("bellwether", "Apply", &json!({"f:spec": {}}));
        let fields = json!([entry("kubectl", "Apply", &json!({"f:spec": {"f:replicas": {}, "f:paused": {}}})), ours]);

        let taken = taken_over(&fields, "bellwether", &former, &wanted).expect("there is something");

        assert_eq!(taken[0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
        assert_eq!(taken[1]["fieldsV1"], json!({"f:spec": {".": {}, "f:paused": {}}}));
    }

    #[test]
    fn what_was_written_under_our_name_is_united_with_what_we_applied() {
        let (a, b) = (json!({"f:data": {"f:a": {}}}), json!({"f:data": {"f:b": {}}}));
        let fields = json!([entry("bellwether", "Update", &a), entry("bellwether", "Apply", &b)]);

        let ours = adopted(&fields, "bellwether", "v1");

        assert_eq!(ours, Some(json!([entry("bellwether", "Apply", &json!({"f:data": {"f:a": {}, "f:b": {}}}))])));
    }

    #[test]
    fn a_field_and_what_is_below_it_are_united_in_both_orders() {
        let sets = [json!({"f:a": {}}), json!({"f:a": {"f:b": {}}})];
        let united = json!({"f:a": {".": {}, "f:b": {}}});
        for (one, other) in [(&sets[0], &sets[1]), (&sets[1], &sets[0])] {
            let (mut one, other) = (one.as_object().expect("a set").clone(), other.as_object().expect("a set").clone());

            unite(&mut one, other);

            assert_eq!(Value::Object(one), united);
        }
    }
}
