//! `bellwether drift accept`: what somebody changed in a cluster becomes a change of the files in Git.
//!
//! In a checkout of the target's repo, the one document that is the object is looked for, and the values that were changed are
//! written into it; what somebody reviews is a patch. A file that says something else by now than the target wanted is left
//! alone, and so is what no single text of a file says, such as what a chart makes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bellwether_core::api::{ChangedValue, DriftChange, DriftDocument, TargetDocument};
use bellwether_core::{Name, ObjectKey};
use bellwether_render::yaml::{Edit, EditError, edit};
use bellwether_render::{Files as _, SourceFile};
use serde_json::Value;
use similar::TextDiff;

use super::Context;
use crate::args::DriftAcceptArgs;
use crate::client::{Answer, Route};
use crate::failure::{Exit, Failure};
use crate::folder::RepoFolders;
use crate::output::{note, print};

const BY_HAND: &str = "change it by hand: `bellwether drift show` says what was made of it";

pub(super) async fn run(context: &Context, arguments: DriftAcceptArgs) -> anyhow::Result<Exit> {
    let id = arguments.id.to_string();
    let drift: Answer<DriftDocument> = context.client.fetch(&Route::new(["drift", &id])).await?;
    let drift = drift.document;
    let target: Answer<TargetDocument> = context.client.fetch(&Route::named("targets", &drift.target)).await?;
    let spec = target.document.spec;
    let changes = changes(&drift)?;
    let namespace = spec.namespace.as_ref().map(Name::as_str);
    let folder = if arguments.anywhere { "" } else { &spec.path };
    let file = find(&arguments.dir, folder, &drift.object, namespace)?;
    let before = String::from_utf8_lossy(&file.bytes).into_owned();
    let edits: Vec<_> = changes.iter().map(|(path, from, to)| Edit { path, from, to }).collect();
    let is_meant = |document: &Value| is_of(document, &drift.object, namespace);
    let after = edit(&file.path, &before, is_meant, &edits).map_err(|error| refused(&file.path, &error))?;
    let after = after.ok_or_else(|| Failure::new(format!("`{}` was changed meanwhile", file.path)))?;
    let (old, new) = (format!("a/{}", file.path), format!("b/{}", file.path));
    let patch = TextDiff::from_lines(&before, &after).unified_diff().header(&old, &new).to_string();
    print(&patch)?;
    if arguments.write {
        let place = arguments.dir.join(&file.path);
        fs::write(&place, after)
            .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", place.display())))?;
        note(&format!("`{}` was changed; commit it, and have it reviewed", file.path));
    }
    Ok(Exit::Done)
}

/// Where, what the target wanted, and what it is to want.
fn changes(drift: &DriftDocument) -> Result<Vec<(&str, Value, Value)>, Failure> {
    if drift.change != DriftChange::Modified {
        let change = drift.change.as_str();
        return Err(Failure::new(format!("{} was {change}: there is no value to accept", drift.object)));
    }
    if drift.values.is_empty() && !drift.are_more_values {
        return Err(Failure::new(format!("what was made of {} is not known", drift.object))
            .hint("of a Secret it is never told, and agents of before did not tell it"));
    }
    if drift.are_more_values {
        return Err(Failure::new(format!("not all is known of what was made of {}", drift.object)).hint(BY_HAND));
    }
    drift.values.iter().map(change).collect()
}

fn change(value: &ChangedValue) -> Result<(&str, Value, Value), Failure> {
    let ChangedValue { path, found, wanted, is_cut } = value;
    let unknown = |why: &str| Failure::new(format!("`{path}` {why}")).hint(BY_HAND);
    if *is_cut {
        return Err(unknown("is too long to have been told whole"));
    }
    let (Some(wanted), Some(found)) = (wanted, found) else {
        return Err(unknown("was added or taken away: no text of a file stands for it"));
    };
    if found.contains("${") {
        return Err(unknown("holds `${`, which a render of the file would fill in"));
    }
    let read = |text: &str| serde_json::from_str(text).map_err(|_| unknown("was told as no JSON"));
    Ok((path, read(wanted)?, read(found)?))
}

/// The one file below a folder of the checkout that has the object.
fn find(dir: &Path, folder: &str, object: &ObjectKey, namespace: Option<&str>) -> Result<SourceFile, Failure> {
    let files = RepoFolders::new(dir.to_owned(), BTreeMap::new());
    let mut having = Vec::new();
    for file in files.manifests(folder, &|_, _| false)? {
        // What cannot be read is a template, or nobody's manifest.
        let documents = bellwether_render::yaml::read(&file.path, &file.bytes).unwrap_or_default();
        let meant = documents.iter().filter(|document| is_of(&document.to_json(), object, namespace)).count();
        having.extend((0..meant).map(|_| file.clone()));
    }
    match having.as_slice() {
        [] => Err(Failure::new(format!("no file below `{}` has {object} under its name", dir.join(folder).display()))
            .hint(format!(
                "give the checkout of the target's repo with `--dir`; of a base beside the target's folder, which others may read \
                 too, say `--anywhere`; of a chart, {BY_HAND}"
            ))),
        [file] => Ok(file.clone()),
        several => {
            let names: Vec<_> = several.iter().map(|file| file.path.as_str()).collect();
            Err(Failure::new(format!("{object} stands in several documents: {}", names.join(", "))).hint(BY_HAND))
        }
    }
}

/// A document without a namespace gets the target's, or is of none.
fn is_of(document: &Value, object: &ObjectKey, namespace: Option<&str>) -> bool {
    let metadata = &document["metadata"];
    let is_there = match metadata["namespace"].as_str() {
        Some(named) => object.namespace.as_deref() == Some(named),
        None => object.namespace.is_none() || namespace.is_none() || object.namespace.as_deref() == namespace,
    };
    document["apiVersion"] == *object.api_version
        && document["kind"] == *object.kind
        && metadata["name"] == *object.name
        && is_there
}

fn refused(file: &str, error: &EditError) -> Failure {
    let failure = Failure::new(error.to_string());
    let failure = if matches!(error, EditError::Unreadable(_)) { failure } else { failure.at(file) };
    match error {
        EditError::Other { .. } => failure.hint(
            "the file has changed since, or the value comes from a parameter or a patch: pull, or change that by hand",
        ),
        _ => failure.hint(BY_HAND),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn drift(values: &Value) -> DriftDocument {
        let document = json!({
            "id": "0193f0a0-0000-7000-8000-00000000000a", "at": "2026-01-02T03:04:05Z", "cluster": "c1", "target": "shop",
            "apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web", "change": "modified",
            "action": "corrected", "manager": "kubectl-edit", "values": values,
        });
        serde_json::from_value(document).expect("a drift")
    }

    #[test]
    fn only_a_value_that_is_known_whole_on_both_sides_can_be_accepted() {
        let whole = json!({"path": ".spec.replicas", "found": "5", "wanted": "3"});
        let error = |values: Value| changes(&drift(&values)).expect_err("it is refused").to_string();

        assert_eq!(changes(&drift(&json!([whole]))).expect("they are known"), [(".spec.replicas", json!(3), json!(5))]);
        assert!(error(json!([])).ends_with("is not known"));
        assert!(error(json!([whole, {"path": ".spec.paused", "found": "true"}])).contains("was added or taken away"));
        let cut = json!([{"path": ".data.a", "found": "\"…", "wanted": "\"b\"", "isCut": true}]);
        assert!(error(cut).contains("too long"));
        assert!(error(json!([{"path": ".data.a", "found": "\"${A}\"", "wanted": "\"b\""}])).contains("fill in"));
        let more = DriftDocument { are_more_values: true, ..drift(&json!([whole])) };
        assert!(changes(&more).expect_err("it is refused").to_string().contains("not all is known"));
        let deleted = DriftDocument { change: DriftChange::Deleted, ..drift(&json!([])) };
        assert!(changes(&deleted).expect_err("it is refused").to_string().contains("was deleted"));
    }

    #[test]
    fn only_the_one_document_of_the_targets_folder_is_meant_unless_another_place_is_asked_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("it is made");
            fs::write(path, text).expect("it is written");
        };
        let object = drift(&json!([])).object;
        let web = |namespace: &str| {
            format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: {namespace}}}\n")
        };
        let found = |folder: &str| find(dir.path(), folder, &object, Some("shop")).map(|file| file.path);
        write("apps/shop/other.yaml", &web("elsewhere"));
        write("apps/shop/chart/templates/web.yaml", "{{ if .a }}\nkind: Deployment\n");
        write("staging/web.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n");
        assert!(found("apps/shop").expect_err("there is none").to_string().contains("no file below"));
        assert_eq!(found("").expect("it is asked for"), "staging/web.yaml");

        write("apps/shop/web.yaml", &web("shop"));
        assert_eq!(found("apps/shop").expect("it is found"), "apps/shop/web.yaml");
        write("apps/shop/web.yaml", &format!("{0}---\n{0}", web("shop")));
        assert!(found("apps/shop").expect_err("which one").to_string().contains("several documents"));
    }
}
