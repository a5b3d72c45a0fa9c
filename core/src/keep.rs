//! What asks to be left in the cluster when nobody wants it any more: annotations of other tools that mean it, and ours on
//! what is only made where it is absent.
//!
//! What counts is the object as the cluster has it, whoever wrote the annotation. Who keeps a database's volume or a
//! generated key like that must not lose it because it is applied by another tool now.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::apply::{APPLY_ANNOTATION, ONCE};

/// Whether one of `metadata.annotations` or `metadata.labels` asks for it: the name of the one that does.
pub fn kept_by(annotations: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> Option<&'static str> {
    asks(|name| annotations.get(name).map(String::as_str), |name| labels.get(name).map(String::as_str))
}

/// Whether the `metadata` of an object asks for it: the name of the annotation or label that does.
pub(crate) fn kept_by_metadata(metadata: &Value) -> Option<&'static str> {
    asks(|name| metadata["annotations"][name].as_str(), |name| metadata["labels"][name].as_str())
}

/// Whether it asks for it at all.
pub(crate) fn is_asked(metadata: &Value) -> bool {
    kept_by_metadata(metadata).is_some()
}

fn asks<'a>(
    annotation: impl Fn(&str) -> Option<&'a str>,
    label: impl Fn(&str) -> Option<&'a str>,
) -> Option<&'static str> {
    let says = |value: Option<&str>, word: &str| value.is_some_and(|value| value.trim().eq_ignore_ascii_case(word));
    if says(annotation(HELM), "keep") {
        return Some(HELM);
    }
    if says(annotation(APPLY_ANNOTATION), ONCE) {
        return Some(APPLY_ANNOTATION);
    }
    if says(annotation(FLUX), "disabled") || says(label(FLUX), "disabled") {
        return Some(FLUX);
    }
    let options = annotation(ARGO).unwrap_or_default();
    options.split(',').any(|option| ARGO_OPTIONS.contains(&option.trim())).then_some(ARGO)
}

const HELM: &str = "helm.sh/resource-policy";
const FLUX: &str = "kustomize.toolkit.fluxcd.io/prune";
const ARGO: &str = "argocd.argoproj.io/sync-options";
/// Whoever wants to be asked before is not asked here, so it stays.
const ARGO_OPTIONS: [&str; 4] = ["Prune=false", "Prune=confirm", "Delete=false", "Delete=confirm"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_other_tools_are_understood_and_no_others() {
        let of = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let annotated = |name, value| kept_by(&of(name, value), &BTreeMap::new());

        assert_eq!(annotated(HELM, "keep"), Some(HELM));
        assert_eq!(annotated(APPLY_ANNOTATION, "once"), Some(APPLY_ANNOTATION));
        assert_eq!(annotated(FLUX, "disabled"), Some(FLUX));
        assert_eq!(kept_by(&BTreeMap::new(), &of(FLUX, "Disabled")), Some(FLUX));
        assert_eq!(annotated(ARGO, "ServerSideApply=true, Prune=false"), Some(ARGO));
        assert_eq!(annotated(ARGO, "Delete=false"), Some(ARGO));
        assert!(is_asked(&serde_json::json!({"annotations": {HELM: "keep"}})));
        assert!(!is_asked(&serde_json::json!({"annotations": {"keep": "keep"}})) && !is_asked(&Value::Null));
        for (name, value) in [(HELM, "delete"), (FLUX, "enabled"), (ARGO, "PruneLast=true"), ("keep", "keep")] {
            assert_eq!(annotated(name, value), None, "{name}: {value}");
        }
    }
}
