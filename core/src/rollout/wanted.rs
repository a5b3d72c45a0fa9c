//! Whether what a target is to run is the same as before: then nothing begins, and who was set aside stays so.
//!
//! Specs are compared as the nouns that they are. Hubs of two versions work side by side, and one that knows a field more
//! must find that a spec without it is the spec with the field's default.

use std::collections::BTreeMap;

use crate::Digest;
use crate::session::SyncOptions;
use crate::target::TargetSpec;

/// What a target is to run, as far as rollouts go.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// That was rendered.
    pub spec: &'a TargetSpec,
    /// Names of the values that it uses, sorted.
    pub variables: &'a [String],
    /// Digest of the used parameters → bundle.
    pub variants: &'a BTreeMap<Digest, Digest>,
}

impl Wanted<'_> {
    /// Neither the spec, but for how the target is kept, nor what it gives any cluster is another.
    pub fn is_same(&self, before: &Self) -> bool {
        self.is_same_recipe(before)
            && self.variables == before.variables
            && is_same_content(before.variants, self.variants)
    }

    /// The spec, but for how the target is kept, is no other.
    pub fn is_same_recipe(&self, before: &Self) -> bool {
        let recipe = |spec: &TargetSpec| TargetSpec { sync: SyncOptions::default(), ..spec.clone() };
        recipe(self.spec) == recipe(before.spec)
    }
}

/// Whether two renders of a recipe give the same, as far as both were made: a commit elsewhere in the repo changes nothing
/// here, and must not try again what has failed.
fn is_same_content(before: &BTreeMap<Digest, Digest>, after: &BTreeMap<Digest, Digest>) -> bool {
    let mut shared = before.iter().filter_map(|(parameters, digest)| Some((digest, after.get(parameters)?))).peekable();
    let is_any_shared = shared.peek().is_some();
    (is_any_shared || (before.is_empty() && after.is_empty())) && shared.all(|(before, after)| before == after)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn more_variants_of_the_same_are_the_same_content() {
        let of = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(used, gives)| (Digest::of(used.as_bytes()), Digest::of(gives.as_bytes()))).collect()
        };

        assert!(is_same_content(&of(&[("x", "1")]), &of(&[("x", "1"), ("y", "2")])));
        assert!(!is_same_content(&of(&[("x", "1")]), &of(&[("x", "2")])));
        assert!(!is_same_content(&of(&[("x", "1")]), &of(&[("y", "1")])));
    }

    #[test]
    fn a_spec_of_another_version_is_the_same_by_what_it_means() {
        let stored = |spec: serde_json::Value| serde_json::from_value::<TargetSpec>(spec).expect("it is read");
        let is_same = |one: &TargetSpec, other: &TargetSpec| {
            let variants = BTreeMap::new();
            Wanted { spec: one, variables: &[], variants: &variants }.is_same(&Wanted {
                spec: other,
                variables: &[],
                variants: &variants,
            })
        };
        let short = stored(json!({"repo": "apps", "path": "shop", "rollout": {"waves": [{"name": "all"}]}}));
        let written = stored(serde_json::to_value(&short).expect("a spec is JSON"));
        let later = stored(json!({
            "repo": "apps", "path": "shop", "later": {"a": 1}, "sync": {"drift": "ignore"},
            "rollout": {"later": 1, "waves": [{"name": "all", "soak": "0s", "later": true}]},
        }));
        let other =
            stored(json!({"repo": "apps", "path": "shop", "rollout": {"waves": [{"name": "all", "soak": "1s"}]}}));

        assert!(is_same(&short, &written) && is_same(&short, &later), "a default, written or not, is the same");
        assert!(!is_same(&short, &other));
    }
}
