//! Why a cluster has a value, for people: files of parameters are read as the target was rendered.

use std::sync::Arc;

use bellwether_core::parameters::Values;
use bellwether_core::{Condition, RenderId};
use bellwether_render::values_in_files;
use serde_json::Value;

use super::error::BundleError;
use super::job::blocking;
use super::sources::{RepoFiles, Sources};
use crate::Hub;
use crate::process::clock;
use crate::source::git::ReadError;
use crate::store::renders::Render;
use crate::store::revisions::Revision;
use crate::store::targets::Target;

/// Which files of parameters give this one a value, the weakest first. None of them is asked when there are none.
pub(crate) async fn values_in_files_of(
    hub: &Hub,
    target: &Target,
    (render, revision): (&Render, &Revision),
    values: Values,
    parameter: String,
) -> Result<Vec<(String, Value)>, (RenderId, Condition)> {
    let parameter_files = target.spec.render.parameter_files.clone();
    if parameter_files.is_empty() {
        return Ok(Vec::new());
    }
    let (mirrors, repo, commit) = (hub.mirrors.clone(), target.repo, revision.commit.clone());
    let sources = Arc::new(Sources::pinned(&render.sources));
    let read = blocking(move || {
        let own = mirrors.of(repo).reader().map_err(ReadError::from)?.files(&commit);
        let files = RepoFiles::new(mirrors, own, sources, Arc::default());
        Ok(values_in_files(files, &parameter_files, &values, &parameter)?)
    });
    read.await.map_err(|error: BundleError| (render.id, error.condition(clock::now())))
}
