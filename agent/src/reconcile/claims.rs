//! Which targets of this cluster have an object in their bundle: what one leaves and another has is not deleted.

use std::collections::HashMap;

use bellwether_core::bundle::Entry;
use bellwether_core::{ObjectKey, TargetId};

use super::owned::Identity;

#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Once for each current assignment, and for a moment twice, when a newer one is added before the older one goes.
    by_object: HashMap<Identity, Vec<TargetId>>,
}

impl Claims {
    pub(super) fn add(&mut self, target: TargetId, entries: &[Entry]) {
        for entry in entries {
            self.by_object.entry(Identity::of(&entry.key)).or_default().push(target);
        }
    }

    pub(super) fn remove(&mut self, target: TargetId, entries: &[Entry]) {
        for entry in entries {
            let identity = Identity::of(&entry.key);
            let Some(claims) = self.by_object.get_mut(&identity) else { continue };
            if let Some(index) = claims.iter().position(|claim| *claim == target) {
                claims.swap_remove(index);
            }
            if claims.is_empty() {
                self.by_object.remove(&identity);
            }
        }
    }

    pub(super) fn has_another(&self, target: TargetId, key: &ObjectKey) -> bool {
        let claims = self.by_object.get(&Identity::of(key));
        claims.is_some_and(|claims| claims.iter().any(|claim| *claim != target))
    }
}
