//! What an engine made: one stream of YAML, read as plain files are.
//!
//! Nobody wrote its lines, so errors point to the file that an object was made from: the template that Helm names before
//! each document, else the kustomization.

use std::sync::Arc;

use bellwether_core::bundle::OBJECTS_MAX;

use super::fill::Fills;
use super::plain::{Documents, FindSealed, Made, SOURCES_BYTES_MAX, Written};
use crate::error::RenderError;
use crate::yaml;

/// Before each document of a chart.
const SOURCE: &str = "# Source: ";

/// Where a stream comes from.
pub(crate) enum Maker<'a> {
    Kustomize {
        file: &'a str,
    },
    Helm {
        folder: &'a str,
        /// Whether there is a file of this path, and it was read.
        is_read: &'a dyn Fn(&str) -> bool,
    },
    /// A kustomization over what Helm gave.
    Release {
        folder: &'a str,
    },
}

impl Documents {
    /// Kustomize's are filled in for each cluster, as plain files are, but for what a chart below gave; Helm has its values.
    pub(crate) fn made(
        stream: &str,
        maker: &Maker<'_>,
        filled: Fills,
        find_sealed: &FindSealed<'_>,
    ) -> Result<Self, RenderError> {
        if stream.len() > SOURCES_BYTES_MAX {
            return Err(RenderError::SourcesTooLarge { bytes: stream.len(), max: SOURCES_BYTES_MAX });
        }
        let mut documents = Self::default();
        let mut budget = yaml::Budget::default();
        let whole: Arc<str> = match maker {
            Maker::Kustomize { file } => Arc::from(*file),
            Maker::Helm { folder, .. } => Arc::from(below(folder, "Chart.yaml")),
            Maker::Release { folder } => Arc::from(below(folder, "kustomization.yaml")),
        };
        for (index, part) in yaml::split_made(stream).enumerate() {
            let made = |problem| RenderError::Made { file: whole.clone(), problem };
            let part = part.map_err(made)?;
            // Empty ones count, as each costs a parser.
            if index >= 2 * OBJECTS_MAX {
                return Err(RenderError::TooMany);
            }
            let file = maker.source_of(part).map_or_else(|| whole.clone(), Arc::from);
            let read = yaml::read_made(part, &mut budget);
            for document in read.map_err(|problem| RenderError::Made { file: file.clone(), problem })? {
                let filled = if matches!(maker, Maker::Helm { .. }) { Fills::Nothing } else { filled };
                let made = if matches!(maker, Maker::Release { .. }) { Made::OverAChart } else { Made::Whole };
                let find_sealed = matches!(maker, Maker::Kustomize { .. }).then_some(find_sealed);
                let written = Written { file: &file, filled, made: Some(made), find_sealed };
                documents.add(written, document.root)?;
            }
        }
        documents.settle_hooks();
        Ok(documents)
    }
}

impl Maker<'_> {
    /// The template, by its path in the repo, if it is there: of a chart below another Helm says the name, not the folder, and
    /// it may be packed.
    fn source_of(&self, part: &str) -> Option<String> {
        let Self::Helm { folder, is_read } = self else { return None };
        let source = part.lines().take(3).find_map(|line| line.strip_prefix(SOURCE))?;
        let (_, path) = source.trim().split_once('/')?;
        let path: String = path.chars().filter(|character| !character.is_control()).take(500).collect();
        Some(below(folder, &path)).filter(|path| is_read(path))
    }
}

pub(crate) fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bellwether_core::parameters::Values;
    use serde_json::json;

    use super::*;
    use crate::{Marks, Recipe};

    fn recipe() -> Recipe {
        let target = serde_json::from_value(json!("0193f0a0-0000-7000-8000-00000000000a")).expect("is an id");
        Recipe {
            marks: Some(Marks { target, owner: "a/b/c".to_owned() }),
            namespace: Some("shop".to_owned()),
            agents: BTreeSet::new(),
        }
    }

    fn helm(stream: &str) -> Result<Documents, RenderError> {
        Documents::made(
            stream,
            &Maker::Helm { folder: "charts/shop", is_read: &|path| !path.contains("packed") },
            Fills::All,
            &|_| None,
        )
    }

    #[test]
    fn an_error_of_a_chart_points_to_its_template() {
        let stream = "---\n# Source: shop/templates/a.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n\
                      ---\n# Source: shop/charts/db/templates/b.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata: {labels: {a: 1}, name: b}\n";

        let error = helm(stream).expect("it is read").render(&recipe(), &Values::default()).expect_err("is refused");

        assert_eq!((error.file(), error.line()), (Some("charts/shop/charts/db/templates/b.yaml"), None));
        assert!(error.to_string().contains("b.yaml (ConfigMap b): metadata.labels.a is a number"), "{error}");
    }

    #[test]
    fn a_template_that_is_not_in_the_repo_is_not_named() {
        let stream = "---\n# Source: shop/charts/packed/templates/a.yaml\nkind: ConfigMap\nmetadata: {name: a}\n";

        let error = helm(stream).expect("it is read").render(&recipe(), &Values::default()).expect_err("is refused");

        assert_eq!(error.file(), Some("charts/shop/Chart.yaml"));
    }

    #[test]
    fn what_a_chart_makes_is_not_filled_in_and_what_kustomize_makes_is() {
        let stream = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: '${x}'}\n";

        let helm = helm(stream).expect("it is read");
        assert!(helm.variables().is_empty());
        let objects = helm.render(&recipe(), &Values::default()).expect("it renders");
        assert!(String::from_utf8_lossy(&objects[0].body).contains("${x}"));

        let built = Documents::made(stream, &Maker::Kustomize { file: "a/kustomization.yaml" }, Fills::All, &|_| None)
            .expect("it is read");
        assert_eq!(built.variables().iter().collect::<Vec<_>>(), ["x"]);
        let error = built.render(&recipe(), &Values::default()).expect_err("it is unset");
        assert_eq!(error.to_string(), "a/kustomization.yaml (ConfigMap a): variable `x` has no value and no default");
    }

    #[test]
    fn hooks_of_other_times_are_left_out_and_named() {
        let object = |name: &str, hook: &str| {
            format!(
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, annotations: {{helm.sh/hook: '{hook}'}}}}\n"
            )
        };
        let stream = object("a", "pre-install,post-delete")
            + &object("b", "pre-delete")
            + &object("c", "test, pre-rollback")
            + &object("d", "pre-upgrade,post-upgrade");

        let documents = helm(&stream).expect("it is read");
        let objects = documents.render(&recipe(), &Values::default()).expect("it renders");

        assert_eq!(objects.iter().map(|object| object.key.name.as_str()).collect::<Vec<_>>(), ["a", "d"]);
        let left_out_hooks: Vec<_> = documents.left_out_hooks().iter().map(ToString::to_string).collect();
        let expected = ["ConfigMap b (pre-delete)", "ConfigMap c (test, pre-rollback)"];
        assert_eq!(left_out_hooks, expected, "and that is told");
        let marks = objects.iter().map(|object| String::from_utf8_lossy(&object.body).contains("bellwether.dev/hook"));
        assert_eq!(marks.collect::<Vec<_>>(), [false, true], "an agent knows which is of upgrades alone");
    }

    #[test]
    fn of_hooks_of_one_name_that_of_an_installation_is_taken() {
        let job = |hook: &str, text: &str| {
            format!(
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, annotations: {{helm.sh/hook: {hook}}}}}\ndata: {{at: {text}}}\n"
            )
        };

        for (stream, taken, left_out) in [
            (job("pre-upgrade", "upgrade") + &job("pre-install", "install"), "install", "ConfigMap a (pre-upgrade)"),
            (job("pre-upgrade", "first") + &job("post-upgrade", "last"), "first", "ConfigMap a (post-upgrade)"),
        ] {
            let documents = helm(&stream).expect("it is read");
            let objects = documents.render(&recipe(), &Values::default()).expect("it renders");

            assert_eq!(objects.len(), 1);
            let body = String::from_utf8_lossy(&objects[0].body).into_owned();
            assert!(body.contains(&format!("\"at\":\"{taken}\"")), "{body}");
            let named: Vec<_> = documents.left_out_hooks().iter().map(ToString::to_string).collect();
            assert_eq!(named, [left_out]);
        }
    }

    #[test]
    fn hooks_of_upgrades_without_names_or_of_kinds_of_two_groups_are_not_of_one_name() {
        let hook = |api_version: &str, name: &str, text: &str| {
            format!(
                "---\napiVersion: {api_version}\nkind: Task\nmetadata: {{{name}, annotations: {{helm.sh/hook: pre-upgrade}}}}\nspec: {{at: {text}}}\n"
            )
        };
        let stream = hook("a.example.org/v1", "generateName: migrate-", "one")
            + &hook("a.example.org/v1", "generateName: migrate-", "two")
            + &hook("a.example.org/v1", "name: index", "three")
            + &hook("b.example.org/v1", "name: index", "four");

        let documents = helm(&stream).expect("it is read");
        let objects = documents.render(&recipe(), &Values::default()).expect("it renders");

        assert_eq!((objects.len(), documents.left_out_hooks().len()), (4, 0));
    }

    #[test]
    fn what_is_no_yaml_is_told_without_a_line_that_nobody_wrote() {
        let error = helm("# Source: shop/templates/a.yaml\na: [b\n").err().expect("is refused");

        assert_eq!(
            (error.file(), error.line(), error.code()),
            (Some("charts/shop/templates/a.yaml"), None, "yaml_invalid")
        );
    }

    #[test]
    fn a_stream_of_endless_documents_ends() {
        let empty = "---\n# a\n".repeat(3 * OBJECTS_MAX);

        assert_eq!(helm(&empty).err(), Some(RenderError::TooMany));
    }
}
