//! Bellwether's own documents: strict, as a hub is.

use std::borrow::Cow;

use bellwether_core::api::{API_VERSION, RepoDocument, TargetDocument};
use bellwether_core::parameters::Parameters;
use bellwether_core::render::RenderOptions;
use bellwether_core::target::TargetSpec;
use bellwether_render::yaml::{Content, Node};

use crate::path::{Problem, nearest};

const KINDS: [&str; 2] = ["Repo", "Target"];

/// A Repo's, which the command line replaces by what they name before a hub sees the document.
const READ_BY_THE_CLIENT: [&str; 4] = ["caFile", "knownHostsFile", "sshKeyFile", "tokenFile"];

/// A document that a hub would take.
#[derive(Debug)]
pub enum OwnDocument {
    Repo,
    Target { name: String, spec: Box<TargetSpec> },
}

/// Whether it says that it is one.
pub fn is_own(root: &Node) -> bool {
    let (group, _) = API_VERSION.split_once('/').unwrap_or((API_VERSION, ""));
    let api_version = root.field("apiVersion").and_then(Node::text);
    api_version.is_some_and(|version| version.split('/').next() == Some(group))
}

/// The document, or what is wrong with it.
pub fn read_own(root: &Node) -> Result<OwnDocument, Problem> {
    let text = |field: &str| root.field(field).and_then(Node::text).unwrap_or_default();
    if text("apiVersion") != API_VERSION {
        let hint = Some(format!("write `apiVersion: {API_VERSION}`"));
        return Err(problem(root, "apiVersion", "api_unknown", format!("is not `{API_VERSION}`"), hint));
    }
    match text("kind") {
        "Repo" => read_repo(root),
        "Target" => read_target(root),
        other => {
            let hint = nearest(other, KINDS.into_iter()).map(|kind| format!("did you mean `{kind}`?"));
            let hint = hint.unwrap_or_else(|| format!("these are known: {}", KINDS.join(", ")));
            Err(problem(root, "kind", "api_unknown", "is no kind of Bellwether's".to_owned(), Some(hint)))
        }
    }
}

fn read_repo(root: &Node) -> Result<OwnDocument, Problem> {
    let mut document = root.to_json();
    if let Some(spec) = document.get_mut("spec").and_then(serde_json::Value::as_object_mut) {
        for field in READ_BY_THE_CLIENT {
            spec.remove(field);
        }
    }
    serde_json::from_value::<RepoDocument>(document).map_err(|error| unreadable(root, &error))?;
    Ok(OwnDocument::Repo)
}

fn read_target(root: &Node) -> Result<OwnDocument, Problem> {
    let document: TargetDocument = serde_json::from_value(root.to_json()).map_err(|error| unreadable(root, &error))?;
    let spec = TargetSpec::from(document.spec);
    let refused = |path: &str, message: String, hint: Option<Cow<'static, str>>| {
        problem(root, path, "document_invalid", message, hint.map(Cow::into_owned))
    };
    Parameters::check(&spec.parameters).map_err(|error| refused("spec.parameters", error.to_string(), error.hint()))?;
    RenderOptions::check(&spec.render).map_err(|error| refused("spec.render", error.to_string(), error.hint()))?;
    spec.clusters.check().map_err(|error| {
        refused("spec.clusters", error.to_string(), Some(Cow::Borrowed("write it as a Kubernetes LabelSelector")))
    })?;
    Ok(OwnDocument::Target { name: document.metadata.name.to_string(), spec: Box::new(spec) })
}

/// Serde names the field and not where it stands.
fn unreadable(root: &Node, error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let found = quoted.find_map(|word| path_of(root, word, ""));
    let (path, line) = found.unwrap_or_else(|| (String::new(), root.line()));
    Problem { path, code: "document_invalid", message, hint: None, line }
}

/// The first field that is called so.
fn path_of(node: &Node, name: &str, path: &str) -> Option<(String, u32)> {
    let below = |path: &str, key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match &node.content {
        Content::Map(entries) => entries.iter().find_map(|entry| {
            let path = below(path, &entry.key);
            if &*entry.key == name { Some((path, entry.line())) } else { path_of(&entry.value, name, &path) }
        }),
        Content::List(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| path_of(item, name, &format!("{path}[{index}]")))
        }
        _ => None,
    }
}

fn problem(root: &Node, path: &str, code: &'static str, message: String, hint: Option<String>) -> Problem {
    let line = crate::path::line_of(root, path);
    Problem { path: path.to_owned(), code, message, hint, line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OwnDocument, Problem> {
        let documents = bellwether_render::yaml::read("a.yaml", text.as_bytes()).expect("it is read");
        assert!(is_own(&documents[0].root));
        read_own(&documents[0].root)
    }

    #[test]
    fn documents_are_judged_as_a_hub_judges_them() {
        let target = "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {name: shop}\nspec:\n  repo: apps\n";
        assert!(matches!(read(target), Ok(OwnDocument::Target { .. })));
        let repo =
            "apiVersion: bellwether.dev/v1\nkind: Repo\nmetadata: {name: apps}\nspec:\n  url: https://a.example/b\n";
        assert!(matches!(read(&format!("{repo}  tokenFile: t\n")), Ok(OwnDocument::Repo)));

        for (text, line, path) in [
            (format!("{target}  pth: shop\n"), 6, "spec.pth"),
            (format!("{target}  parameters:\n  - values: {{cluster.name: x}}\n"), 6, "spec.parameters"),
            (repo.replace("v1", "v2"), 1, "apiVersion"),
            (repo.replace("Repo", "Rpo"), 2, "kind"),
            (repo.replace("url", "uri"), 5, "spec.uri"),
        ] {
            let problem = read(&text).expect_err("it is refused");
            assert_eq!((problem.line, problem.path.as_str()), (line, path), "{text}: {}", problem.message);
        }
    }
}
