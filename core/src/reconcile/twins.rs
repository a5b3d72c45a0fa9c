//! Objects of a bundle that are one object of a cluster, spelled twice.

use std::collections::BTreeMap;

use crate::ObjectKey;
use crate::bundle::Entry;
use crate::object::{Identity, is_built_in_group};

/// Objects of a bundle that are one and the same if their kind is cluster-scoped: they differ only in a namespace. Which
/// kinds that are, is known of built-in ones when they are rendered, and of custom ones only in the cluster. Each with
/// another one like it.
pub(super) fn find_twins(entries: &[Entry]) -> BTreeMap<Identity, ObjectKey> {
    let custom = entries.iter().map(|entry| &entry.key).filter(|key| !is_built_in_group(key.group()));
    let mut alike: BTreeMap<_, Vec<&ObjectKey>> = BTreeMap::new();
    for key in custom {
        alike.entry((key.group(), &key.kind, &key.name)).or_default().push(key);
    }
    let twins = alike.into_values().filter(|keys| keys.len() > 1);
    twins
        .flat_map(|keys| {
            let others = keys.iter().cycle().skip(1).map(|key| ObjectKey::clone(key)).take(keys.len());
            keys.iter().map(|key| Identity::of(key)).zip(others).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    #[test]
    fn custom_resources_that_differ_only_in_a_namespace_may_be_one() {
        let entry = |api_version: &str, name: &str, namespace: Option<&str>| Entry {
            key: ObjectKey {
                api_version: api_version.to_owned(),
                kind: "Realm".to_owned(),
                namespace: namespace.map(str::to_owned),
                name: name.to_owned(),
            },
            digest: Digest::of(b""),
        };
        let (one, other) = (entry("g.x/v1", "blue", Some("a")), entry("g.x/v1", "blue", None));
        let alone = entry("g.x/v1", "red", Some("a"));
        let built_in = [entry("apps/v1", "blue", Some("a")), entry("apps/v1", "blue", Some("b"))];

        let twins = find_twins(&[&[one.clone(), other.clone(), alone][..], &built_in].concat());

        let expected = [(Identity::of(&one.key), other.key.clone()), (Identity::of(&other.key), one.key)];
        assert_eq!(twins, BTreeMap::from(expected));
    }
}
