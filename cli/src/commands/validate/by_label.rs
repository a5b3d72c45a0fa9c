//! Which labels the clusters have that a target is rendered for, as far as its paths tell: `envs/${cluster.labels.ring}.yaml` is
//! read of every `ring` that there is a file of.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bellwether_core::labels::Labels;
use bellwether_core::parameters::CLUSTER_LABELS_PREFIX;
use bellwether_core::render::RenderOptions;

/// Each is a render: more kinds of clusters than fleets have.
const KINDS_MAX: usize = 100;

/// The labels of each kind of cluster: of one that nothing is known of, when no path asks for labels, or none leads to a file.
pub(super) fn list(root: &Path, options: &RenderOptions) -> Vec<Labels> {
    let own = options.files().filter(|file| file.source().is_none());
    let paths: Vec<String> = own.map(|file| file.path().to_owned()).collect();
    let mut kinds = vec![(Labels::new(), paths)];
    let mut known = Vec::new();
    while let Some((labels, paths)) = kinds.pop() {
        let next = paths.iter().find_map(|path| Some((path, label_in(path)?)));
        let values = next.map(|(path, label)| values_of(root, path, label)).unwrap_or_default();
        let Some((_, label)) = next.filter(|_| !values.is_empty() && kinds.len() + known.len() < KINDS_MAX) else {
            known.push(labels);
            continue;
        };
        for value in values.into_iter().rev() {
            let filled = paths.iter().map(|path| path.replace(&asked_by(label), &value)).collect();
            let mut labels = labels.clone();
            labels.insert(label.to_owned(), value);
            kinds.push((labels, filled));
        }
    }
    known
}

/// The first label that a path asks for, without a default.
fn label_in(path: &str) -> Option<&str> {
    let after = path.split("${").skip(1).find_map(|after| after.strip_prefix(CLUSTER_LABELS_PREFIX))?;
    let (label, _) = after.split_once('}')?;
    (!label.contains([':', '$'])).then_some(label)
}

/// As paths ask for it.
fn asked_by(label: &str) -> String {
    format!("${{{CLUSTER_LABELS_PREFIX}{label}}}")
}

/// What stands in the place of the label in the names that there are.
fn values_of(root: &Path, path: &str, label: &str) -> BTreeSet<String> {
    let asked = asked_by(label);
    let parts: Vec<&str> = path.split('/').collect();
    let Some(place) = parts.iter().position(|part| part.contains(&asked)) else { return BTreeSet::new() };
    let Some((before, after)) = parts[place].split_once(&asked) else { return BTreeSet::new() };
    let folder = parts[..place].iter().fold(root.to_owned(), |folder, part| folder.join(part));
    // A link may lead out of the repo; who renders does not follow it either.
    let is_folder = |folder: &Path| fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir());
    if !folder.ancestors().take_while(|above| *above != root).all(is_folder) {
        return BTreeSet::new();
    }
    let below = parts[place + 1..].join("/");
    let is_there = |name: &String| below.is_empty() || below.contains("${") || folder.join(name).join(&below).exists();
    let names = fs::read_dir(&folder).into_iter().flatten();
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(is_there);
    let values = names.filter_map(|name| Some(name.strip_prefix(before)?.strip_suffix(after)?.to_owned()));
    values.filter(|value| !value.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kinds(files: &[&str], options: serde_json::Value) -> Vec<String> {
        let root = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it is made");
            fs::write(path, "").expect("it is written");
        }
        let options = serde_json::from_value(options).expect("options");
        let text =
            |labels: &Labels| labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        list(root.path(), &options).iter().map(text).collect()
    }

    #[test]
    fn there_is_a_kind_of_cluster_for_each_file_that_a_label_leads_to() {
        let files = [
            "envs/canary.yaml",
            "envs/stable.yaml",
            "envs/notes.txt",
            "eu/canary/v.yaml",
            "us/canary/v.yaml",
            "us/stable/w",
        ];
        let ring = "envs/${cluster.labels.ring}.yaml";

        assert_eq!(kinds(&files, json!({"parameterFiles": [ring]})), ["ring=canary", "ring=stable"]);
        let both = json!({"helm": {"valuesFiles": [ring, "${cluster.labels.region}/${cluster.labels.ring}/v.yaml"]}});
        assert_eq!(kinds(&files, both), ["region=eu,ring=canary", "region=us,ring=canary", "ring=stable"]);
    }

    #[test]
    fn of_what_no_path_tells_nothing_is_known() {
        let none = [""];

        assert_eq!(kinds(&[], json!({"parameterFiles": ["envs/${cluster.labels.ring}.yaml"]})), none);
        assert_eq!(
            kinds(&["envs/a.yaml"], json!({"parameterFiles": ["envs/${cluster.name}.yaml", "envs/a.yaml"]})),
            none
        );
        let with_default = json!({"parameterFiles": ["envs/${cluster.labels.ring:-a}.yaml"]});
        assert_eq!(kinds(&["envs/a.yaml"], with_default), none);
        assert_eq!(kinds(&["x/a.yaml"], json!({"parameterFiles": ["../x/${cluster.labels.ring}.yaml"]})), none);
    }
}
