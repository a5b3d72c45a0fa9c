//! Bellwether's own documents: strict, as a hub is, and by the same rules. What a repo's URL allows only a hub knows.

use bellwether_core::api::{API_VERSION, RepoDocument, TargetDocument};
use bellwether_core::nearest;
use bellwether_core::repo::RepoSpec;
use bellwether_core::target::TargetSpec;
use bellwether_render::yaml::Node;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::path::{Problem, push_index, push_key};

const KINDS: [&str; 2] = ["Repo", "Target"];

/// A Repo's, which the command line replaces by what they name before a hub sees the document.
const READ_BY_THE_CLIENT: [&str; 4] = ["caFile", "knownHostsFile", "sshKeyFile", "tokenFile"];

/// Of which a Repo has one at most.
const RIVALS: [[&str; 2]; 3] = [["ca", "caFile"], ["knownHosts", "knownHostsFile"], ["tokenFile", "sshKeyFile"]];

/// A document that a hub would take.
#[derive(Debug)]
pub enum OwnDocument {
    Repo { name: String, url: String },
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
    if let Some(twice) = root.repeated() {
        // `bellwether apply` refuses it, too: one of the two would be lost.
        return Err(Problem {
            path: twice.key.to_string(),
            code: "document_invalid",
            message: "stands twice".to_owned(),
            hint: Some("keep one of the two".to_owned()),
            line: twice.line(),
        });
    }
    let text = |field: &str| root.field(field).and_then(Node::text).unwrap_or_default();
    if text("apiVersion") != API_VERSION {
        let hint = Some(format!("write `apiVersion: {API_VERSION}`"));
        return Err(problem(root, "apiVersion", "api_unknown", format!("is not `{API_VERSION}`"), hint));
    }
    match text("kind") {
        "Repo" => read_repo(root),
        "Target" => read_target(root),
        other => {
            let hint = nearest(other, KINDS).map(|kind| format!("did you mean `{kind}`?"));
            let hint = hint.unwrap_or_else(|| format!("these are known: {}", KINDS.join(", ")));
            Err(problem(root, "kind", "api_unknown", "is no kind of Bellwether's".to_owned(), Some(hint)))
        }
    }
}

fn read_repo(root: &Node) -> Result<OwnDocument, Problem> {
    let refused = |field: &str, code: &'static str, message: String, hint: Option<&str>| {
        problem(root, &format!("spec.{field}"), code, message, hint.map(ToOwned::to_owned))
    };
    let mut document = root.to_json();
    if let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) {
        if let Some([one, other]) = RIVALS.into_iter().find(|pair| pair.iter().all(|field| spec.contains_key(*field))) {
            let message = format!("is given as well as `{one}`");
            return Err(refused(other, "document_invalid", message, Some("keep one of them")));
        }
        for field in READ_BY_THE_CLIENT {
            if spec.remove(field).is_some_and(|path| !path.is_string()) {
                return Err(refused(field, "document_invalid", "is no path of a file".to_owned(), None));
            }
        }
    }
    let document: RepoDocument = read(root, document)?;
    let spec = RepoSpec::from(document.spec);
    spec.check().map_err(|error| refused(error.field(), error.code(), error.to_string(), error.hint().as_deref()))?;
    Ok(OwnDocument::Repo { name: document.metadata.name.to_string(), url: spec.url })
}

fn read_target(root: &Node) -> Result<OwnDocument, Problem> {
    let document: TargetDocument = read(root, root.to_json())?;
    let spec = TargetSpec::from(document.spec);
    spec.check().map_err(|error| {
        let hint = error.hint().map(std::borrow::Cow::into_owned);
        problem(root, &format!("spec.{}", error.field()), error.code(), bellwether_core::chain(&error), hint)
    })?;
    Ok(OwnDocument::Target { name: document.metadata.name.to_string(), spec: Box::new(spec) })
}

fn read<T: DeserializeOwned>(root: &Node, document: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(document).map_err(|error| {
        let mut path = String::new();
        for segment in error.path() {
            match segment {
                serde_path_to_error::Segment::Map { key } => push_key(&mut path, key),
                serde_path_to_error::Segment::Seq { index } => push_index(&mut path, *index),
                serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => {}
            }
        }
        unreadable(root, path, &error.into_inner().to_string())
    })
}

/// In the words that are used of other objects, as far as serde's say which these are.
fn unreadable(root: &Node, mut path: String, message: &str) -> Problem {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (message, hint) = if message.starts_with("unknown field") {
        let unknown = quoted.next().unwrap_or_default();
        let hint = nearest(unknown, quoted).map(|nearest| format!("did you mean `{nearest}`?"));
        ("is no known field".to_owned(), hint)
    } else if message.starts_with("missing field") {
        push_key(&mut path, quoted.next().unwrap_or_default());
        ("is required, and missing".to_owned(), None)
    } else {
        (message.to_owned(), None)
    };
    problem(root, &path, "document_invalid", message, hint)
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
        let is_repo = |read| matches!(read, Ok(OwnDocument::Repo { name, url }) if name == "apps" && url == "https://a.example/b");
        assert!(is_repo(read(&format!("{repo}  tokenFile: t\n"))));

        for (text, line, path) in [
            (format!("{target}  pth: shop\n"), 6, "spec.pth"),
            (format!("{target}  path: ../etc\n"), 6, "spec.path"),
            (format!("{target}  path: 5\n"), 6, "spec.path"),
            (format!("{target}  ref:\n    semver: not a range\n"), 6, "spec.ref"),
            (format!("{target}  rollout:\n    waves: [{{name: a}}, {{name: a}}]\n"), 6, "spec.rollout"),
            (
                format!("{target}  clusters:\n    matchLabels:\n      a: b\n      path: 5\n"),
                9,
                "spec.clusters.matchLabels.path",
            ),
            (
                format!("{target}  parameters:\n  - values: {{a: 1}}\n  - valus: {{a: 1}}\n"),
                8,
                "spec.parameters[1].valus",
            ),
            (target.replace("repo: apps", "path: apps"), 4, "spec.repo"),
            (format!("{repo}  pollSeconds: 1\n"), 6, "spec.pollSeconds"),
            (format!("{repo}  tokenFile: [t]\n"), 6, "spec.tokenFile"),
            (format!("{repo}  tokenFile: t\n  sshKeyFile: k\n"), 7, "spec.sshKeyFile"),
            (format!("{repo}  ca: none\n"), 6, "spec.ca"),
            (format!("{target}  parameters:\n  - values: {{cluster.name: x}}\n"), 6, "spec.parameters"),
            (format!("{target}  path: a\n  path: b\n"), 7, "path"),
            (repo.replace("v1", "v2"), 1, "apiVersion"),
            (repo.replace("Repo", "Rpo"), 2, "kind"),
            (repo.replace("url", "uri"), 5, "spec.uri"),
        ] {
            let problem = read(&text).expect_err("it is refused");
            assert_eq!((problem.line, problem.path.as_str()), (line, path), "{text}: {}", problem.message);
        }
    }

    #[test]
    fn an_unknown_field_is_told_with_the_one_that_was_meant() {
        let text = "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {name: a}\nspec: {repo: a, pth: b}\n";

        let problem = read(text).expect_err("it is refused");

        assert_eq!(problem.message, "is no known field");
        assert_eq!(problem.hint.as_deref(), Some("did you mean `path`?"));
    }
}
