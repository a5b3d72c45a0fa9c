//! What keeps the render engine from rendering, told to whoever runs the hub: when it begins, and when it changes.
//!
//! Its targets each say the same in their conditions; this is for whom no target has said it yet.

use std::sync::{Mutex, PoisonError};

use bellwether_render::EngineError;

/// What was told last.
#[derive(Debug, Default)]
pub(crate) struct EngineTrouble(Mutex<Option<EngineError>>);

impl EngineTrouble {
    pub(super) fn tell(&self, found: Option<&EngineError>) {
        let Some(error) = self.news(found) else { return };
        let (code, hint) = (error.code(), error.hint().unwrap_or_default());
        tracing::warn!(
            code,
            error = %crate::chain(error),
            hint = %hint,
            "targets of Kustomize and Helm do not render"
        );
    }

    /// What was not told yet. That there is no program at all is told at the start.
    fn news<'a>(&self, found: Option<&'a EngineError>) -> Option<&'a EngineError> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = found.filter(|error| !matches!(error, EngineError::Missing { .. }));
        let is_new = told.as_ref() != found;
        *told = found.cloned();
        found.filter(|_| is_new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_an_engine_from_rendering_is_told_once_until_it_changes() {
        let trouble = EngineTrouble::default();
        let unconfined = |layer: &str| EngineError::Unconfined { layers: vec![layer.to_owned()] };
        let missing = EngineError::Missing { name: "engine".to_owned() };
        let (seccomp, landlock) = (unconfined("seccomp"), unconfined("landlock"));
        let asked = [
            (None, false),
            (Some(&missing), false),
            (Some(&seccomp), true),
            (Some(&seccomp), false),
            (Some(&landlock), true),
            (None, false),
            (Some(&landlock), true),
        ];

        for (at, (found, is_told)) in asked.into_iter().enumerate() {
            assert_eq!(trouble.news(found).is_some(), is_told, "hour {at}");
        }
    }
}
