//! `${name}` in a parsed text: Flux's forms, strictly.
//!
//! A value is put into one text and nowhere else: it cannot add a key, a document or an object, because the YAML around
//! it has been parsed before. Neighbours: `core::parameters` says which values a cluster has; `fill` walks the objects.

use std::borrow::Cow;

use bellwether_core::parameters::{Values, is_clusters_own, is_parameter_name};
use serde_json::Value;

use super::fill::Fills;

/// How deep a default may hold another reference; Flux's users go to two.
const DEFAULT_DEPTH_MAX: usize = 8;

/// A text with references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template<'t> {
    pieces: Vec<Piece<'t>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece<'t> {
    Text(Cow<'t, str>),
    Reference(Reference<'t>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reference<'t> {
    name: &'t str,
    /// Taken if the variable is unset or empty.
    default: Option<Template<'t>>,
    /// Of the `$` in the text, in bytes.
    offset: usize,
}

/// A reference with a valid name that is none of the forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed<'t> {
    pub(crate) name: &'t str,
    pub(crate) offset: usize,
}

/// Why a text could not be filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfilled<'t> {
    /// A variable without value and default.
    Unset {
        name: &'t str,
        offset: usize,
    },
    TooLong,
}

impl<'t> Template<'t> {
    /// `None` if nothing in the text could be a reference or an escape, which is so for nearly all texts.
    pub(crate) fn parse(text: &'t str, fills: Fills) -> Result<Option<Self>, Malformed<'t>> {
        let may_have = match fills {
            Fills::Nothing => false,
            Fills::ClustersOwn => text.contains("${cluster."),
            Fills::All => text.contains("${"),
        };
        if !may_have {
            return Ok(None);
        }
        let mut scanner = Scanner { text, offset: 0, fills };
        scanner.template(0).map(Some)
    }

    /// Every name, also those in defaults.
    pub(crate) fn names(&self) -> Vec<&'t str> {
        let references = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Reference(reference) => Some(reference),
            Piece::Text(_) => None,
        });
        references
            .flat_map(|reference| {
                let inner = reference.default.as_ref().map(Template::names).unwrap_or_default();
                std::iter::once(reference.name).chain(inner)
            })
            .collect()
    }

    /// The value itself if the text is one reference and nothing else, whose type it then has. A default and a label of
    /// the cluster are only text: they are a number or boolean if they are written exactly as one is.
    pub(crate) fn value(&self, values: &Values, bytes_max: usize) -> Result<Option<Value>, Unfilled<'t>> {
        let [Piece::Reference(reference)] = self.pieces.as_slice() else {
            return Ok(None);
        };
        let typed = match (reference.find(values), &reference.default) {
            (Some(Value::String(text)), _) if !is_clusters_own(reference.name) => Value::from(text.as_str()),
            (Some(Value::String(text)), _) => typed(text),
            (Some(value), _) => value.clone(),
            (None, Some(default)) => match default.value(values, bytes_max)? {
                Some(value) => value,
                None => typed(&default.fill(values, bytes_max)?),
            },
            (None, None) => return Err(reference.unset()),
        };
        Ok(Some(typed))
    }

    /// Never longer than so many bytes: a short text may refer to a long value very often.
    pub(crate) fn fill(&self, values: &Values, bytes_max: usize) -> Result<String, Unfilled<'t>> {
        let mut text = String::new();
        self.fill_into(&mut text, values, bytes_max)?;
        Ok(text)
    }

    /// As [`Template::fill`] does it, with what each reference gives as `change` makes it.
    pub(crate) fn fill_each(
        &self,
        values: &Values,
        bytes_max: usize,
        change: impl Fn(&str) -> String,
    ) -> Result<String, Unfilled<'t>> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Reference(reference) => {
                    let mut given = String::new();
                    reference.fill_into(&mut given, values, bytes_max)?;
                    text.push_str(&change(&given));
                }
            }
            if text.len() > bytes_max {
                return Err(Unfilled::TooLong);
            }
        }
        Ok(text)
    }

    fn fill_into(&self, text: &mut String, values: &Values, bytes_max: usize) -> Result<(), Unfilled<'t>> {
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Reference(reference) => reference.fill_into(text, values, bytes_max)?,
            }
            if text.len() > bytes_max {
                return Err(Unfilled::TooLong);
            }
        }
        Ok(())
    }
}

impl<'t> Reference<'t> {
    fn fill_into(&self, text: &mut String, values: &Values, bytes_max: usize) -> Result<(), Unfilled<'t>> {
        match (self.find(values), &self.default) {
            (Some(Value::String(value)), _) => text.push_str(value),
            (Some(value), _) => text.push_str(&written(value)),
            (None, Some(default)) => default.fill_into(text, values, bytes_max)?,
            (None, None) => return Err(self.unset()),
        }
        Ok(())
    }

    /// An empty value gives way to a default.
    fn find<'v>(&self, values: &'v Values) -> Option<&'v Value> {
        values.find(self.name).filter(|value| self.default.is_none() || *value != "")
    }

    fn unset(&self) -> Unfilled<'t> {
        Unfilled::Unset { name: self.name, offset: self.offset }
    }
}

/// A number or boolean if its text is exactly this one. `01234`, `1.10`, `1e3` and `no` are what somebody calls
/// something, and would be another text if they came back.
fn typed(text: &str) -> Value {
    let value = serde_json::from_str::<Value>(text).ok().filter(|value| value.is_boolean() || value.is_number());
    value.filter(|value| *text == *value.to_string()).unwrap_or_else(|| Value::from(text))
}

/// As JSON, but a whole number has no point, however it was written: as `kubectl` has it.
pub(super) fn written(value: &Value) -> String {
    let whole = value.as_f64().filter(|number| value.is_f64() && number.fract() == 0.0 && number.abs() < 1e21);
    whole.map_or_else(|| value.to_string(), |number| format!("{number:.0}"))
}

struct Scanner<'t> {
    text: &'t str,
    offset: usize,
    fills: Fills,
}

impl<'t> Scanner<'t> {
    /// Up to the end of the text, or inside a default up to its `}`.
    fn template(&mut self, depth: usize) -> Result<Template<'t>, Malformed<'t>> {
        let mut pieces = Vec::new();
        loop {
            let rest = &self.text[self.offset..];
            let stops: &[char] = if depth > 0 { &['$', '}'] } else { &['$'] };
            let plain = rest.find(stops).unwrap_or(rest.len());
            push_text(&mut pieces, &rest[..plain]);
            self.offset += plain;
            let rest = &rest[plain..];
            if rest.starts_with("$${") && self.may_take(&rest[1..], depth) {
                push_text(&mut pieces, "${");
                self.offset += "$${".len();
            } else if let Some(name) = reference_name(rest).filter(|_| self.may_take(rest, depth)) {
                pieces.push(Piece::Reference(self.reference(name, depth)?));
            } else if rest.starts_with('$') {
                push_text(&mut pieces, "$");
                self.offset += 1;
            } else {
                return Ok(Template { pieces });
            }
        }
    }

    /// What is not the cluster's own may be text. In a default it is not: where that ends, its references tell.
    fn may_take(&self, rest: &str, depth: usize) -> bool {
        self.fills == Fills::All || depth > 0 || reference_name(rest).is_some_and(is_clusters_own)
    }

    fn reference(&mut self, name: &'t str, depth: usize) -> Result<Reference<'t>, Malformed<'t>> {
        let offset = self.offset;
        let malformed = Malformed { name, offset };
        self.offset += "${".len() + name.len();
        let has_default = [":-", ":="].iter().any(|operator| self.text[self.offset..].starts_with(operator));
        let default = if has_default && depth < DEFAULT_DEPTH_MAX {
            self.offset += ":-".len();
            Some(self.template(depth + 1)?)
        } else {
            None
        };
        if !self.text[self.offset..].starts_with('}') {
            return Err(malformed);
        }
        self.offset += 1;
        Ok(Reference { name, default, offset })
    }
}

/// The name of the reference at the start of a text; `None` if there is none, and then the `$` is only a `$`.
fn reference_name(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("${")?;
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && !"_.-/".contains(c)).unwrap_or(inner.len());
    // A `/` is part of few names; where it is not, it is what makes the reference malformed.
    let name = [&inner[..end], inner[..end].split('/').next().unwrap_or_default()];
    name.into_iter().find(|name| is_parameter_name(name))
}

/// The text that comes to this one when it is filled in: what would be taken for a reference is escaped.
pub fn literal(text: &str, fills: Fills) -> String {
    let (mut literal, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("${") {
        let is_taken = match fills {
            Fills::Nothing => false,
            Fills::ClustersOwn => reference_name(&rest[at..]).is_some_and(is_clusters_own),
            Fills::All => true,
        };
        literal.push_str(&rest[..at]);
        literal.push_str(if is_taken { "$${" } else { "${" });
        rest = &rest[at + "${".len()..];
    }
    literal + rest
}

fn push_text<'t>(pieces: &mut Vec<Piece<'t>>, text: &'t str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(before)) => before.to_mut().push_str(text),
        _ => pieces.push(Piece::Text(Cow::Borrowed(text))),
    }
}

/// The known name that is nearest to one that is not known, if it is near enough to be a slip.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let distances = known.map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate));
    let (distance, candidate) = distances.min()?;
    (distance <= name.len().max(candidate.len()) / 3).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bellwether_core::parameters::{ClusterFacts, ParameterSet, Parameters};

    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        let name = "berlin".parse().expect("is a name");
        let labels = BTreeMap::from([("region".to_owned(), "eu".to_owned()), ("a.b/c".to_owned(), "x".to_owned())]);
        let values = pairs.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
        let set = ParameterSet { clusters: None, values };
        Parameters::resolve(&[set], ClusterFacts::new(&name, &labels))
    }

    fn fill(text: &str) -> String {
        let template = Template::parse(text, Fills::All).expect("is well-formed");
        template.map_or(text.to_owned(), |template| {
            template.fill(&values(&[("a", "1"), ("b", "2"), ("empty", "")]), 100).expect("is set")
        })
    }

    #[test]
    fn references_follow_flux() {
        for (text, expected) in [
            ("${a}-${b}", "1-2"),
            ("${x:-y}", "y"),
            ("${x:=y z}", "y z"),
            ("${a:-y}", "1"),
            ("${empty:-y}", "y"),
            ("[${empty}]", "[]"),
            ("${x:-}", ""),
            ("${x:-${a}}", "1"),
            ("${x:-a${y:-b}c}d", "abcd"),
            ("$${a}", "${a}"),
            ("$$${a}", "$${a}"),
            ("${cluster.name}/${cluster.labels.region}", "berlin/eu"),
            ("${cluster.labels.a.b/c}", "x"),
        ] {
            assert_eq!(fill(text), expected, "{text}");
        }
    }

    #[test]
    fn a_literal_text_is_itself_when_it_was_filled_in() {
        for text in [
            "",
            "a",
            "$",
            "${",
            "${a}",
            "$${a}",
            "$$${a}",
            "${a${b}",
            "${a:-${b}}",
            "${1} ${} ${/x}",
            "${cluster.name}",
            "$${cluster.name} ${a}",
            "${cluster.name:-${a}} $${b}",
            "${cluster.labels.a.b/c} ${cluster.} ${cluster",
            "é${a}é$",
        ] {
            for fills in [Fills::Nothing, Fills::ClustersOwn, Fills::All] {
                let literal = literal(text, fills);
                let template = Template::parse(&literal, fills).expect("is well-formed");
                let filled = template.map(|template| template.fill(&values(&[]), 100).expect("nothing is asked for"));
                assert_eq!(filled.unwrap_or_else(|| literal.clone()), text, "{fills:?} of {literal}");
            }
        }
    }

    #[test]
    fn what_is_no_reference_is_left_alone() {
        for text in ["$a", "$(a)", "${1}", "${}", "${ a }", "${-a}", "a$", "$$", "${", "{a}", "${é}", "${/a}", "}"] {
            assert_eq!(fill(text), text);
        }
    }

    #[test]
    fn a_valid_name_in_another_form_is_malformed() {
        for text in ["${a", "${a^^}", "${a:0:3}", "${a:?b}", "${a }", "${a:-b", "${a/x/y}", "x ${a%%-*}"] {
            let malformed = Template::parse(text, Fills::All).expect_err(text);
            assert_eq!((malformed.name, malformed.offset), ("a", text.find('$').expect("has one")), "{text}");
        }
    }

    #[test]
    fn names_in_defaults_are_referenced_too() {
        let template =
            Template::parse("${x:-${y}} $${z} ${w}", Fills::All).expect("is well-formed").expect("has references");

        assert_eq!(template.names(), ["x", "y", "w"]);
    }

    #[test]
    fn of_the_cluster_only_its_own_references_are_taken_and_every_other_stays_text() {
        let own = |text: &str| {
            let template = Template::parse(text, Fills::ClustersOwn).expect("is well-formed");
            template.map_or(text.to_owned(), |template| template.fill(&values(&[("a", "1")]), 200).expect("is set"))
        };

        for (text, expected) in [
            ("${cluster.name} ${HOME} ${a}", "berlin ${HOME} ${a}"),
            ("${env:MY_POD_IP}:4317 in ${cluster.name}", "${env:MY_POD_IP}:4317 in berlin"),
            ("${a^^} ${x:-y} ${cluster.labels.region}", "${a^^} ${x:-y} eu"),
            ("$${y} $${cluster.name} ${cluster.name}", "$${y} ${cluster.name} berlin"),
            ("${cluster.labels.none:-${cluster.name}}", "berlin"),
            ("$${y} ${HOME}", "$${y} ${HOME}"),
        ] {
            assert_eq!(own(text), expected, "{text}");
        }
        assert!(Template::parse("${cluster.name^^}", Fills::ClustersOwn).is_err());
    }

    #[test]
    fn a_whole_number_is_written_without_a_point() {
        let sets = [ParameterSet {
            clusters: None,
            values: serde_json::from_str(r#"{"thousand": 1e3, "half": 1.5, "large": 1e21}"#).expect("values"),
        }];
        let name = "berlin".parse().expect("is a name");
        let values = Parameters::resolve(&sets, ClusterFacts::new(&name, &BTreeMap::new()));

        let template = Template::parse("${thousand} ${half} ${large}", Fills::All).expect("is well-formed");

        assert_eq!(template.expect("it has references").fill(&values, 100).expect("is set"), "1000 1.5 1e+21");
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let known = ["replicas", "region"];

        assert_eq!(nearest("replcas", known.into_iter()), Some("replicas"));
        assert_eq!(nearest("image", known.into_iter()), None);
    }
}
