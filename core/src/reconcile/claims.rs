//! Which targets of this cluster have an object in their bundle: what one leaves and another has is not deleted.

use std::collections::HashMap;

use uuid::Uuid;

use crate::bundle::Entry;
use crate::{ObjectKey, TargetId};

/// Group, kind and name: whether a namespace belongs to it, the cluster tells.
type Named = (String, String, String);

/// That another target of the cluster has an object of this name in its bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub by: TargetId,
    /// As its bundle spells it.
    pub key: ObjectKey,
    /// Of what it applied last under that name.
    pub last_uid: Option<Uuid>,
}

#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Once for each current assignment, and for a moment twice, when a newer one is added before the older one goes.
    by_name: HashMap<Named, Vec<(ObjectKey, TargetId)>>,
}

impl Claims {
    pub(super) fn add(&mut self, target: TargetId, entries: &[Entry]) {
        for Entry { key, .. } in entries {
            self.by_name.entry(named(key)).or_default().push((key.clone(), target));
        }
    }

    pub(super) fn remove(&mut self, target: TargetId, entries: &[Entry]) {
        for Entry { key, .. } in entries {
            let name = named(key);
            let Some(claims) = self.by_name.get_mut(&name) else { continue };
            let is_it = |(claimed, by): &(ObjectKey, TargetId)| *by == target && claimed == key;
            if let Some(index) = claims.iter().position(is_it) {
                claims.swap_remove(index);
            }
            if claims.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }

    /// `live` is the object's key as far as it is known in the cluster: without a namespace it has none, and whoever
    /// writes one means the same object.
    pub(super) fn other(&self, target: TargetId, live: &ObjectKey) -> Option<TargetId> {
        self.others(target, live).find(|(key, _)| key.is_at(live)).map(|(_, by)| *by)
    }

    /// Those of that name, in whatever namespace.
    pub(super) fn others(&self, target: TargetId, key: &ObjectKey) -> impl Iterator<Item = &(ObjectKey, TargetId)> {
        let claims = self.by_name.get(&named(key)).into_iter().flatten();
        claims.filter(move |(_, by)| *by != target)
    }

    pub(super) fn has(&self, target: TargetId, live: &ObjectKey) -> bool {
        let mut claims = self.by_name.get(&named(live)).into_iter().flatten();
        claims.any(|(key, by)| *by == target && key.is_at(live))
    }
}

fn named(key: &ObjectKey) -> Named {
    (key.group().to_owned(), key.kind.clone(), key.name.clone())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::Digest;

    #[test]
    fn an_object_of_the_cluster_is_claimed_whatever_namespace_is_written() {
        let target = |number| TargetId::new(Uuid::from_u128(number));
        let key = |namespace: Option<&str>| ObjectKey {
            api_version: "g.x/v1".to_owned(),
            kind: "Realm".to_owned(),
            namespace: namespace.map(str::to_owned),
            name: "blue".to_owned(),
        };
        let entries = [Entry { key: key(Some("a")), digest: Digest::of(b"") }];
        let mut claims = Claims::default();
        claims.add(target(1), &entries);

        let other = |claims: &Claims, number, namespace| claims.other(target(number), &key(namespace));
        assert_eq!([None, Some("a")].map(|namespace| other(&claims, 2, namespace)), [Some(target(1)); 2]);
        assert_eq!([other(&claims, 2, Some("b")), other(&claims, 1, None)], [None; 2]);
        claims.remove(target(1), &entries);
        assert_eq!(other(&claims, 2, None), None);
    }
}
