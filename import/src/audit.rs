//! Every field of an object, held against what is known of its kind.
//!
//! Converters read what they know; this walks what there is, so that a field that they do not know is told.

use serde_json::Value;

use crate::report::{Effect, Remark};

/// What is known of a field and of all below it. `[]` in its path is any item of a list.
pub(crate) struct Rule {
    pub(crate) path: &'static str,
    /// `None`: a converter takes it, and says what there is to say.
    pub(crate) remark: Option<(Effect, &'static str)>,
}

pub(crate) const fn taken(path: &'static str) -> Rule {
    Rule { path, remark: None }
}

pub(crate) const fn note(path: &'static str, sentence: &'static str) -> Rule {
    Rule { path, remark: Some((Effect::Note, sentence)) }
}

pub(crate) const fn todo(path: &'static str, sentence: &'static str) -> Rule {
    Rule { path, remark: Some((Effect::Todo, sentence)) }
}

pub(crate) const fn differs(path: &'static str, sentence: &'static str) -> Rule {
    Rule { path, remark: Some((Effect::Differs, sentence)) }
}

pub(crate) const fn none(path: &'static str, sentence: &'static str) -> Rule {
    Rule { path, remark: Some((Effect::None, sentence)) }
}

/// What is to be said of the fields below `spec`, in order of their names.
pub(crate) fn audit(spec: &Value, rules: &[Rule]) -> Vec<Remark> {
    let mut remarks = Vec::new();
    walk(spec, "spec", rules, &mut remarks);
    remarks
}

/// What Kubernetes and the controllers themselves write into an object's metadata.
const METADATA_KNOWN: [&str; 12] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
    "ownerReferences",
    "generateName",
];
const KEYS_OF_CONTROLLERS: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "kustomize.toolkit.fluxcd.io/name",
    "kustomize.toolkit.fluxcd.io/namespace",
    "argocd.argoproj.io/instance",
    "argocd.argoproj.io/tracking-id",
];
const WAVE: &str = "argocd.argoproj.io/sync-wave";

/// What is to be said of an object besides its spec.
pub(crate) fn audit_outside_spec(object: &Value) -> Vec<Remark> {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let fields = object.as_object().into_iter().flatten().map(|(field, _)| field);
    let unknown = fields.filter(|field| !known.contains(&field.as_str()));
    unknown.map(|field| Remark::none(field, UNKNOWN)).chain(audit_metadata(&object["metadata"], "metadata")).collect()
}

pub(crate) fn audit_metadata(metadata: &Value, path: &str) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for (field, value) in metadata.as_object().into_iter().flatten().filter(|(_, value)| !is_nothing(value)) {
        let at = format!("{path}.{field}");
        match (field.as_str(), value) {
            ("labels" | "annotations", Value::Object(texts)) => {
                let kept = |key: &&String| !KEYS_OF_CONTROLLERS.contains(&key.as_str()) && *key != WAVE;
                let keys: Vec<String> = texts.keys().filter(kept).map(|key| format!("`{key}`")).collect();
                if !keys.is_empty() {
                    remarks.push(Remark::note(
                        &at,
                        format!("a target has no {field}, and these are not kept: {}", keys.join(", ")),
                    ));
                }
                if texts.contains_key(WAVE) {
                    remarks.push(Remark::none(&format!("{at}.{WAVE}"), "no target waits for another: put what must come first into one target, in an earlier phase (`bellwether.dev/phase`), or rely on the retries until it is there"));
                }
            }
            ("finalizers", _) => remarks.push(Remark::note(
                &at,
                "nothing to do: `bellwether target delete` prunes what the target has, unless it is told `--orphan`",
            )),
            (field, _) if METADATA_KNOWN.contains(&field) => {}
            _ => remarks.push(Remark::none(&at, UNKNOWN)),
        }
    }
    remarks
}

const UNKNOWN: &str = "it is not known here, and nothing was made of it: look it up in its own docs";

fn walk(value: &Value, path: &str, rules: &[Rule], remarks: &mut Vec<Remark>) {
    if is_nothing(value) {
        return;
    }
    let below = |rule: &&Rule| rule.path.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']));
    let remark = match rules.iter().find(|rule| rule.path == path) {
        Some(rule) => rule.remark.map(|(effect, sentence)| Remark::new(effect, path, sentence)),
        None => match value {
            Value::Object(fields) if path == "spec" || rules.iter().any(|rule| below(&rule)) => {
                return fields.iter().for_each(|(key, value)| walk(value, &format!("{path}.{key}"), rules, remarks));
            }
            Value::Array(items) if rules.iter().any(|rule| below(&rule)) => {
                return items.iter().for_each(|item| walk(item, &format!("{path}[]"), rules, remarks));
            }
            _ => Some(Remark::none(path, UNKNOWN)),
        },
    };
    remarks.extend(remark.filter(|remark| !remarks.contains(remark)));
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_nobody_knows_is_told_wherever_it_stands() {
        let rules = [taken("spec.path"), taken("spec.list[].name"), none("spec.wait", "it always waits")];
        let spec =
            json!({"path": "x", "later": 1, "list": [{"name": "a", "odd": 1}, {"odd": 2}], "wait": true, "no": null});

        let remarks = audit(&spec, &rules);

        let told: Vec<_> = remarks.iter().map(|remark| remark.field.as_str()).collect();
        assert_eq!(told, ["spec.later", "spec.list[].odd", "spec.wait"]);
    }
}
