//! Whose an object is that was found under a name of ours. Decides; asks nobody.
//!
//! A name tells nothing, and a label can be copied. What is certain is the uid of an object that we applied, as we
//! recorded it, and our entry among its managers, which only an apply of ours makes.

use std::collections::BTreeMap;

use bellwether_core::ObjectKey;
use bellwether_core::bundle::Entry;
use bellwether_core::object::{Identity, is_built_in_group};
use uuid::Uuid;

use super::judge::is_ours;
use crate::executor::kubernetes::client::{FIELD_MANAGER, Metadata};

/// What an object is to this target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Us,
    /// The one that we applied; somebody took our label off it or gave it another value.
    UsUnlabelled,
    /// Ours in another life: it came back under our label and our name, from a backup as a rule.
    UsReplaced,
    Stranger,
}

impl Owner {
    /// `applied`: the uid of what we applied last under that name, when it is known.
    pub(super) fn of(there: &Metadata, label: &str, applied: Option<Uuid>) -> Self {
        match (is_ours(there, label), applied) {
            (true, Some(uid)) if uid != there.uid => Self::UsReplaced,
            (true, _) => Self::Us,
            (false, Some(uid)) if uid == there.uid => Self::UsUnlabelled,
            (false, _) => Self::Stranger,
        }
    }

    /// It may be applied and put right.
    pub(super) fn may_write(self) -> bool {
        self != Self::Stranger
    }
}

/// Whether a target may delete it: it carries the label, and was applied by us. Who copies an object of ours copies the
/// label too, and neither the uid nor our entry.
pub(super) fn may_delete(there: &Metadata, label: &str, applied: Option<Uuid>) -> bool {
    let is_manager = |entry: &crate::executor::kubernetes::client::ManagedFields| {
        entry.manager == FIELD_MANAGER && entry.operation == "Apply" && entry.subresource.is_empty()
    };
    is_ours(there, label) && (applied == Some(there.uid) || there.managed_fields.iter().any(is_manager))
}

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
    use bellwether_core::Digest;
    use bellwether_core::object::TARGET_LABEL;

    use super::*;
    use crate::executor::kubernetes::client::ManagedFields;

    fn there(label: &str, uid: u128, manager: &str) -> Metadata {
        let (manager, operation) = (manager.to_owned(), "Apply".to_owned());
        Metadata {
            uid: Uuid::from_u128(uid),
            labels: BTreeMap::from([(TARGET_LABEL.to_owned(), label.to_owned())]),
            managed_fields: vec![ManagedFields { manager, operation, ..ManagedFields::default() }],
            ..Metadata::default()
        }
    }

    #[test]
    fn a_name_that_was_ours_is_not_an_object_that_is_ours() {
        let owner = |label: &str, uid, applied: Option<u128>| {
            Owner::of(&there(label, uid, "x"), "ours", applied.map(Uuid::from_u128))
        };

        assert_eq!(owner("ours", 1, Some(1)), Owner::Us);
        assert_eq!(owner("ours", 1, None), Owner::Us);
        assert_eq!(owner("ours", 2, Some(1)), Owner::UsReplaced);
        assert_eq!(owner("theirs", 1, Some(1)), Owner::UsUnlabelled);
        assert_eq!([owner("theirs", 2, Some(1)), owner("theirs", 1, None)], [Owner::Stranger; 2]);
    }

    #[test]
    fn only_what_we_applied_may_be_deleted() {
        let may =
            |label: &str, uid, manager: &str| may_delete(&there(label, uid, manager), "ours", Some(Uuid::from_u128(1)));

        assert!(may("ours", 1, "somebody"), "we recorded it");
        assert!(may("ours", 2, FIELD_MANAGER), "we made it again and did not come to record it");
        assert!(!may("ours", 2, "somebody"), "a copy");
        assert!(!may("theirs", 1, FIELD_MANAGER), "somebody took it away from us");
    }

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
