//! Both sides of a move rendered and compared: what a target deploys, and what the manifest that it came from says.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::object::{Identity, OWNER_ANNOTATION, TARGET_LABEL};
use bellwether_core::render::RepoFile;
use bellwether_core::{Labels, ObjectKey};
use bellwether_render::Files;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Workspace;
use crate::draft::{Import, Sides, Theirs};
use crate::kustomization::is_removed;
use crate::made::{Given, NotMade, RenderRequest, render};
use crate::paths::join;
use crate::text::typed;
use crate::view::Changes;

/// What came of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    pub target: String,
    /// That both sides deploy.
    pub objects: usize,
    /// Why nothing could be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unchecked: Option<String>,
    /// Why one side does not render.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    pub differences: Vec<Difference>,
}

/// One object that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// `Kind namespace/name`, with its group where both sides have several that are called so.
    pub object: String,
    /// A field of it; empty when one side lacks the object.
    pub field: String,
    pub what: String,
}

impl Checked {
    pub fn differs(&self) -> bool {
        self.failure.is_some() || !self.differences.is_empty()
    }
}

/// Renders what was imported, and what it was imported from.
pub fn check<F: Files>(workspace: &Workspace<F>, import: &Import) -> Vec<Checked> {
    import.sides.iter().map(|sides| check_one(workspace, import, sides)).collect()
}

fn check_one<F: Files>(workspace: &Workspace<F>, import: &Import, sides: &Sides) -> Checked {
    let mut checked =
        Checked { target: sides.target.clone(), objects: 0, unchecked: None, failure: None, differences: Vec::new() };
    let not_here = |repo: &str| format!("repo `{repo}` is not here: `--checkout {repo}=DIR` names a checkout of it");
    if workspace.checkout(&sides.repo, import.own.as_deref()).is_none() {
        checked.unchecked = Some(not_here(&sides.repo));
        return checked;
    }
    let theirs = match &sides.theirs {
        Ok(theirs) => theirs,
        Err(why) => {
            checked.unchecked = Some(why.clone());
            return checked;
        }
    };
    let theirs = their_objects(workspace, import, theirs).map_err(|why| ("what the manifest says".to_owned(), why));
    let both = theirs.and_then(|theirs| {
        let ours = our_objects(workspace, import, sides);
        Ok((theirs, ours.map_err(|why| (format!("target `{}`", sides.target), why))?))
    });
    match both {
        Err((_, NotMade::NotHere { repo })) => checked.unchecked = Some(not_here(&repo)),
        Err((what, NotMade::Failed(why))) => checked.failure = Some(format!("{what} does not render: {why}")),
        Ok((theirs, ours)) if theirs.is_empty() && ours.is_empty() => {
            checked.failure = Some("there are no objects in it, which a target refuses".to_owned());
        }
        Ok((theirs, ours)) => {
            checked.differences = compare(&theirs, &ours);
            checked.objects = ours.len();
        }
    }
    checked
}

/// As each is shown, and what is in it.
type Objects = BTreeMap<Identity, (String, Value)>;

fn their_objects<F: Files>(workspace: &Workspace<F>, import: &Import, theirs: &Theirs) -> Result<Objects, NotMade> {
    let own = import.own.as_deref();
    let made = match &theirs.values {
        Some(values) => {
            let find = |name: &str| values.get(name).map(|value| typed(value));
            render(workspace, own, &theirs.asked, &Given::Flux(&find))?
        }
        None => render(workspace, own, &theirs.asked, &Given::Nothing)?,
    };
    let made = made.objects;
    let is_left = |object: &&Value| !theirs.without.iter().any(|what| is_removed(object, what));
    let mut objects: Vec<Value> = made.iter().filter(is_left).cloned().collect();
    for object in &mut objects {
        add_texts(object, "labels", &theirs.labels);
        add_texts(object, "annotations", &theirs.annotations);
    }
    Ok(keyed(objects)?)
}

fn our_objects<F: Files>(workspace: &Workspace<F>, import: &Import, sides: &Sides) -> Result<Objects, NotMade> {
    let target = import.documents.iter().find(|one| one.kind == "Target" && one.name == sides.target);
    let spec = target.map(|target| &target.spec).ok_or_else(|| "it is not among the documents".to_owned())?;
    let text = |field: &str| spec[field].as_str().map(str::to_owned);
    let mut changes = Changes::default();
    let over = serde_json::from_value::<RepoFile>(spec["render"]["kustomize"].clone()).ok();
    let mount = over.and_then(|over| over.source()).map(|source| source.mount());
    for overlay in &import.overlays {
        let is_own = overlay.repo == sides.repo;
        let elsewhere = mount.as_ref().filter(|_| !is_own && overlay.target == sides.target);
        let path = elsewhere.map_or_else(|| overlay.path.clone(), |mount| join(mount, &overlay.path));
        if is_own || elsewhere.is_some() {
            changes.added.insert(path, overlay.content.to_string().into_bytes());
        }
    }
    let asked = RenderRequest {
        repo: sides.repo.clone(),
        folder: text("path").unwrap_or_default(),
        render: spec["render"].clone(),
        name: sides.target.clone(),
        namespace: text("namespace"),
        changes,
    };
    let labels = serde_json::from_value::<Labels>(spec["clusters"]["matchLabels"].clone()).unwrap_or_default();
    let given = Given::Target { parameters: &spec["parameters"], labels: &labels };
    Ok(keyed(render(workspace, import.own.as_deref(), &asked, &given)?.objects)?)
}

fn keyed(objects: Vec<Value>) -> Result<Objects, String> {
    let mut keyed = Objects::new();
    for object in objects {
        let key = ObjectKey::of(&object).ok_or("it has an object without a name")?;
        keyed.insert(Identity::of(&key), (key.to_string(), without_ours(object)));
    }
    let mut called: BTreeMap<String, usize> = BTreeMap::new();
    for (shown, _) in keyed.values() {
        *called.entry(shown.clone()).or_default() += 1;
    }
    for (shown, object) in keyed.values_mut().filter(|(shown, _)| called[shown] > 1) {
        *shown = format!("{shown} ({})", group_of(object));
    }
    Ok(keyed)
}

pub(crate) fn group_of(object: &Value) -> &str {
    object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}

fn without_ours(mut object: Value) -> Value {
    for (field, key) in [("labels", TARGET_LABEL), ("annotations", OWNER_ANNOTATION)] {
        if let Some(texts) = object["metadata"].get_mut(field).and_then(Value::as_object_mut) {
            texts.remove(key);
            if texts.is_empty() {
                object["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
            }
        }
    }
    object
}

fn add_texts(object: &mut Value, field: &str, texts: &Map<String, Value>) {
    if texts.is_empty() {
        return;
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        let there = metadata.entry(field).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(there) = there {
            there.extend(texts.clone());
        }
    }
}

fn compare(theirs: &Objects, ours: &Objects) -> Vec<Difference> {
    let keys: BTreeSet<&Identity> = theirs.keys().chain(ours.keys()).collect();
    let missing = |object: &str, what: &str| Difference {
        object: object.to_owned(),
        field: String::new(),
        what: what.to_owned(),
    };
    let mut differences = Vec::new();
    for key in keys {
        match (theirs.get(key), ours.get(key)) {
            (Some((shown, theirs)), Some((_, ours))) => compare_values(shown, "", theirs, ours, &mut differences),
            (Some((shown, _)), None) => differences.push(missing(shown, "the target does not deploy it")),
            (None, Some((shown, _))) => differences.push(missing(shown, "only the target deploys it")),
            (None, None) => {}
        }
    }
    differences
}

/// No value is told: it may be a secret.
fn compare_values(object: &str, field: &str, theirs: &Value, ours: &Value, differences: &mut Vec<Difference>) {
    if theirs == ours {
        return;
    }
    let below = |key: &str| if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") };
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let (a, b) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                compare_values(object, &below(key), a, b, differences);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare_values(object, &format!("{field}[{index}]"), a, b, differences);
            }
        }
        _ => {
            let what = match (theirs, ours) {
                (Value::Null, _) => "only the target has it".to_owned(),
                (_, Value::Null) => "the target lacks it".to_owned(),
                _ if kind(theirs) != kind(ours) => {
                    format!("it is {} in the manifest and {} in the target", kind(theirs), kind(ours))
                }
                _ => "it has another value".to_owned(),
            };
            differences.push(Difference { object: object.to_owned(), field: field.to_owned(), what });
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_names_object_and_field_and_no_value() {
        let object = |value: Value| {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": value});
            keyed(vec![secret]).expect("it has a name")
        };

        let differences = compare(&object(json!({"a": "x", "b": 1})), &object(json!({"a": "y", "b": "1", "c": 2})));

        let told: Vec<_> = differences.iter().map(|one| (one.field.as_str(), one.what.as_str())).collect();
        assert_eq!(
            told,
            [
                ("data.a", "it has another value"),
                ("data.b", "it is a number in the manifest and a text in the target"),
                ("data.c", "only the target has it"),
            ]
        );
        assert_eq!(compare(&object(json!({})), &Objects::new())[0].what, "the target does not deploy it");
    }

    #[test]
    fn what_bellwether_marks_its_objects_with_is_no_difference() {
        let object = |metadata: Value| {
            keyed(vec![json!({"apiVersion": "v1", "kind": "A", "metadata": metadata})]).expect("it has a name")
        };
        let theirs = object(json!({"name": "a"}));
        let ours = object(json!({"name": "a", "labels": {TARGET_LABEL: "x"}}));

        assert!(compare(&theirs, &ours).is_empty());
    }
}
