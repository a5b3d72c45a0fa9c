//! Labels of clusters, and the selectors that choose by them: Kubernetes' own rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What people say of a cluster, by Kubernetes' rules for labels: see [`check_labels`].
pub type Labels = BTreeMap<String, String>;

/// A Kubernetes LabelSelector. An empty one selects everything; all conditions must hold. So a condition that is not known
/// must not be ignored, not even in a row: it would select clusters that nobody meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LabelSelector {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: Labels,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// One entry of `matchExpressions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// At least one for `In` and `NotIn`, none for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// As Kubernetes has them: `NotIn` also selects who lacks the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// What the Kubernetes API would refuse.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidLabel {
    #[error(
        "label key `{0}` is not of the form [prefix/]name, with at most 63 letters, digits, `-`, `_` and `.` in the name"
    )]
    Key(String),
    #[error(
        "label value `{value}` of `{key}` has other characters than letters, digits, `-`, `_` and `.`, or more than 63"
    )]
    Value { key: String, value: String },
    #[error("operator {operator:?} on `{key}` {problem}")]
    Operator { key: String, operator: Operator, problem: &'static str },
}

impl LabelSelector {
    /// Whether all of it holds. Meant for selectors that passed [`LabelSelector::check`].
    pub fn selects(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }

    /// Refuses what the Kubernetes API would refuse.
    pub fn check(&self) -> Result<(), InvalidLabel> {
        check_labels(&self.match_labels)?;
        self.match_expressions.iter().try_for_each(Requirement::check)
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }

    fn check(&self) -> Result<(), InvalidLabel> {
        check_key(&self.key)?;
        let wants_values = matches!(self.operator, Operator::In | Operator::NotIn);
        if wants_values == self.values.is_empty() {
            let problem = if wants_values { "needs at least one value" } else { "takes no values" };
            return Err(InvalidLabel::Operator { key: self.key.clone(), operator: self.operator, problem });
        }
        self.values.iter().try_for_each(|value| check_value(&self.key, value))
    }
}

/// What people write at a cluster that nothing is chosen by: it only goes into what is rendered for it.
pub type Annotations = BTreeMap<String, String>;

/// Of all annotations of a cluster, with their keys: they are read for whole fleets, and are settings, not files.
pub const ANNOTATIONS_BYTES_MAX: usize = 16 * 1024;

/// Why annotations are refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidAnnotation {
    #[error(
        "annotation key `{0}` is not of the form [prefix/]name, with at most 63 letters, digits, `-`, `_` and `.` in the name"
    )]
    Key(String),
    #[error("the value of annotation `{0}` has characters that a terminal obeys")]
    Value(String),
    #[error("the annotations have {bytes} bytes together, more than {ANNOTATIONS_BYTES_MAX}")]
    TooMuch { bytes: usize },
}

/// Refuses what no Kubernetes object could carry, and what nobody could show.
pub fn check_annotations(annotations: &Annotations) -> Result<(), InvalidAnnotation> {
    let bytes = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        return Err(InvalidAnnotation::TooMuch { bytes });
    }
    let is_obeyed = |character: char| character.is_control() && !"\n\t".contains(character);
    annotations.iter().try_for_each(|(key, value)| match check_key(key) {
        Err(_) => Err(InvalidAnnotation::Key(key.chars().take(80).collect())),
        Ok(()) if value.contains(is_obeyed) => Err(InvalidAnnotation::Value(key.clone())),
        Ok(()) => Ok(()),
    })
}

/// Refuses keys and values that no Kubernetes object could carry.
pub fn check_labels(labels: &Labels) -> Result<(), InvalidLabel> {
    labels.iter().try_for_each(|(key, value)| {
        check_key(key)?;
        check_value(key, value)
    })
}

fn check_key(key: &str) -> Result<(), InvalidLabel> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_is_host = prefix.is_none_or(|prefix| {
        (1..=253).contains(&prefix.len()) && prefix.split('.').all(|part| part.parse::<crate::Name>().is_ok())
    });
    if prefix_is_host && !name.is_empty() && is_word(name) {
        Ok(())
    } else {
        Err(InvalidLabel::Key(key.chars().take(80).collect()))
    }
}

fn check_value(key: &str, value: &str) -> Result<(), InvalidLabel> {
    if value.is_empty() || is_word(value) {
        return Ok(());
    }
    Err(InvalidLabel::Value { key: key.to_owned(), value: value.chars().take(80).collect() })
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn requirement(operator: Operator, values: &[&str]) -> LabelSelector {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        let requirement = Requirement { key: "ring".to_owned(), operator, values };
        LabelSelector { match_expressions: vec![requirement], ..LabelSelector::default() }
    }

    #[test]
    fn an_empty_selector_selects_every_cluster() {
        assert!(LabelSelector::default().selects(&labels(&[])));
    }

    #[test]
    fn annotations_hold_any_text_that_can_be_shown_and_no_more_of_it_than_a_setting_is() {
        let check = |key: &str, value: &str| check_annotations(&[(key.to_owned(), value.to_owned())].into());

        assert_eq!(check("example.org/contact", "Ann Ö. <ann@example.org>,\n\tBob"), Ok(()));
        assert!(matches!(check("a b", "x"), Err(InvalidAnnotation::Key(_))));
        assert!(matches!(check("a", "\u{1b}[2J"), Err(InvalidAnnotation::Value(_))));
        let long = "x".repeat(ANNOTATIONS_BYTES_MAX);
        assert!(matches!(check("a", &long), Err(InvalidAnnotation::TooMuch { .. })));
    }

    #[test]
    fn expressions_follow_kubernetes() {
        let (eu, none) = (labels(&[("ring", "eu")]), labels(&[]));

        assert!(requirement(Operator::In, &["eu", "us"]).selects(&eu));
        assert!(!requirement(Operator::In, &["us"]).selects(&eu));
        assert!(requirement(Operator::NotIn, &["us"]).selects(&eu));
        assert!(requirement(Operator::NotIn, &["us"]).selects(&none), "a label that is not there is not in the list");
        assert!(!requirement(Operator::Exists, &[]).selects(&none));
        assert!(requirement(Operator::DoesNotExist, &[]).selects(&none));
    }

    #[test]
    fn what_the_kubernetes_api_refuses_is_refused() {
        assert!(requirement(Operator::In, &[]).check().is_err());
        assert!(requirement(Operator::Exists, &["x"]).check().is_err());
        assert!(check_labels(&labels(&[("a b", "c")])).is_err());
        assert!(check_labels(&labels(&[("a", "${x}")])).is_err());
        assert!(check_labels(&labels(&[("example.org/ring", "canary_1.x")])).is_ok());
    }
}
