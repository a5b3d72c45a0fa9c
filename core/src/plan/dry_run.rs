//! What API servers said of a head, told beside what changes by it: where it would be refused, what stands there that is not
//! what was applied, and what admission makes of it.

use std::collections::BTreeSet;

use super::{Hidden, PlanDryRun, PlanTried};
use crate::ObjectKey;
use crate::bundle::Manifest;
use crate::dry_run::{Fate, Tried, count};

/// What one cluster said of each object of its manifest; `changing` are those that the head makes or changes. What comes out as
/// the plan says needs no word.
pub fn dry_run(manifest: &Manifest, tried: &[Tried], changing: &BTreeSet<&ObjectKey>, hidden: &Hidden) -> PlanDryRun {
    let mut objects = Vec::new();
    for (entry, tried) in manifest.entries().iter().zip(tried) {
        let is_as_planned = matches!(tried.fate, Fate::Unchanged | Fate::Created);
        if is_as_planned && tried.admitted.values.is_empty() {
            continue;
        }
        let mut tried = tried.clone();
        tried.hide(hidden);
        objects.push(PlanTried {
            key: entry.key.clone(),
            fate: tried.fate,
            message: tried.message,
            drifted: tried.fate == Fate::Changed && !changing.contains(&entry.key),
            fields: tried.values.values,
            more_fields: tried.values.are_more,
            admitted: tried.admitted.values,
        });
    }
    // Those first that need somebody.
    objects.sort_by_key(|object| (!object.fate.is_refusal(), object.key.clone()));
    PlanDryRun { answered: 1, counts: count(tried), objects, more_objects: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use crate::bundle::Entry;

    #[test]
    fn what_is_as_planned_needs_no_word_and_a_refusal_comes_first() {
        let key = |name: &str| ObjectKey {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            namespace: None,
            name: name.to_owned(),
        };
        let names = ["a-new", "b-same", "c-drifted", "d-changed", "e-refused"];
        let entries = names.map(|name| Entry { key: key(name), digest: Digest::of(name.as_bytes()) });
        let manifest = Manifest::new(entries.to_vec()).expect("is one");
        let fates = [Fate::Created, Fate::Unchanged, Fate::Changed, Fate::Changed, Fate::Refused];
        let tried = fates.map(|fate| Tried::new(fate, "because of hunter2"));
        let (new, changed) = (key("a-new"), key("d-changed"));

        let told = dry_run(&manifest, &tried, &BTreeSet::from([&new, &changed]), &Hidden::new(["hunter2"]));

        let objects: Vec<_> = told.objects.iter().map(|one| (one.key.name.as_str(), one.drifted)).collect();
        assert_eq!(objects, [("e-refused", false), ("c-drifted", true), ("d-changed", false)]);
        assert_eq!((told.counts[&Fate::Changed], told.counts[&Fate::Unchanged]), (2, 1));
        assert!(!format!("{told:?}").contains("hunter2"));
    }
}
