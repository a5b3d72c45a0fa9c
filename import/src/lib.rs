//! Moving in: from what Flux and Argo CD keep in a repository, or in a cluster, to Bellwether's files.
//!
//! What is written deploys the same objects; what has no counterpart, or another meaning here, is reported with what to do
//! about it, field by field. A field that nobody thought of is reported too: nothing is left out silently. Nothing is
//! written, fetched or run here: files are given by [`Files`](bellwether_render::Files), and documents are answered.
//!
//! `gather` reads objects, `flux` and `argocd` know what theirs mean, `audit` walks their fields, `draft` keeps what becomes
//! a target, and `check` renders both ways and compares. Overlays of Kustomize take what a target cannot say.

mod argocd;
mod audit;
mod check;
mod draft;
mod flux;
mod gather;
mod globs;
mod kustomization;
mod made;
mod paths;
mod report;
mod repos;
mod text;
mod values;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::Labels;
use bellwether_render::{Engines, Files};

pub use argocd::import as argocd;
pub use check::{Checked, Difference, check};
pub use draft::{Import, OverlayFile, Written};
pub use flux::import as flux;
pub use gather::{Gathered, Object, gather, gather_text};
pub use report::{Became, Effect, Entry, Remark, Unread};

/// Where files are, and who renders them.
pub struct Workspace<F> {
    /// Of the repository that is read, from its root on.
    pub files: Arc<F>,
    /// Checkouts of other repositories, by the names that they have as Repos.
    pub others: BTreeMap<String, Arc<F>>,
    pub engines: Engines,
}

/// What the files do not say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The clusters that what is read is for. What they are labelled with is guessed when there is none.
    pub cluster_labels: Option<Labels>,
    /// By the name or the server of an Argo CD destination.
    pub destinations: BTreeMap<String, Labels>,
    /// Before the name of every target.
    pub prefix: Option<String>,
    /// Of the repository that is read.
    pub url: Option<String>,
    /// The branch that it is on; `main` when it is not known.
    pub branch: Option<String>,
    /// The folder of a repository into which overlays are to be committed, from its root on.
    pub overlays: String,
}

impl<F: Files> Workspace<F> {
    fn checkout(&self, repo: &str, own: Option<&str>) -> Option<Arc<F>> {
        if own == Some(repo) { Some(self.files.clone()) } else { self.others.get(repo).cloned() }
    }
}
