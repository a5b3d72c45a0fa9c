//! Files of parameters: which there are for a cluster, and what they say.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::parameters::{ParameterSet, Parameters, Values};
use bellwether_core::render::RepoFile;
use serde_json::Value;

use super::chart::{Filling, collect_names};
use super::fill::Fills;
use crate::error::RenderError;
use crate::yaml;

const FILES: &str = "render.parameterFiles";

/// What their paths refer to.
pub(crate) fn variables_of(files: &[RepoFile]) -> Result<BTreeSet<String>, RenderError> {
    let mut variables = BTreeSet::new();
    for (index, file) in files.iter().enumerate() {
        collect_names(&Value::from(file.path()), &format!("{FILES}[{index}]"), Fills::All, &mut variables)?;
    }
    Ok(variables)
}

pub(crate) fn paths(files: &[RepoFile], values: &Values) -> Result<Vec<String>, RenderError> {
    let mut filling = Filling::new(values);
    let paths = files.iter().enumerate().map(|(index, file)| filling.file(file, &format!("{FILES}[{index}]")));
    paths.collect()
}

/// A map of names to strings, numbers and booleans.
pub(crate) fn read(path: &str, bytes: &[u8]) -> Result<BTreeMap<String, Value>, RenderError> {
    let documents = yaml::read_within(path, bytes, &mut yaml::Budget::default())?;
    let mut read = BTreeMap::new();
    for document in documents {
        let Value::Object(values) = document.root.to_json() else {
            let reason = format!("it is {}, not a map of parameters", document.root.kind());
            return Err(RenderError::ParameterFile { file: path.to_owned(), reason });
        };
        read.extend(values);
    }
    let set = ParameterSet { clusters: None, values: read };
    match Parameters::check(std::slice::from_ref(&set)) {
        Ok(()) => Ok(set.values),
        Err(invalid) => Err(RenderError::ParameterFile { file: path.to_owned(), reason: invalid.to_string() }),
    }
}
