//! Files of fetched commits that the server left out, and that a target turned out to need.
//!
//! A reader notes them, and the next fetch asks for them by their ids.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use gix::ObjectId;

/// As many as one folder may have.
const FILES_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Wanted,
    TooLarge,
}

#[derive(Debug, Default)]
pub(super) struct Lacking(Mutex<BTreeMap<ObjectId, State>>);

impl Lacking {
    pub(super) fn want(&self, id: ObjectId) {
        let mut files = self.lock();
        if files.len() < FILES_MAX {
            files.entry(id).or_insert(State::Wanted);
        }
    }

    pub(super) fn is_too_large(&self, id: ObjectId) -> bool {
        self.lock().get(&id) == Some(&State::TooLarge)
    }

    pub(super) fn list_wanted(&self) -> Vec<ObjectId> {
        self.lock().iter().filter(|(_, state)| **state == State::Wanted).map(|(id, _)| *id).collect()
    }

    pub(super) fn mark_here(&self, ids: &[ObjectId]) {
        let mut files = self.lock();
        for id in ids {
            files.remove(id);
        }
    }

    /// It is not asked for again while the hub runs.
    pub(super) fn mark_too_large(&self, id: ObjectId) {
        self.lock().insert(id, State::TooLarge);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectId, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
