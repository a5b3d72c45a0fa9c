//! `${name}` in a parsed text: Flux's forms and functions, strictly.
//!
//! A value is put into one text and nowhere else: it cannot add a key, a document or an object, because the YAML around
//! it has been parsed before. Neighbours: `core::parameters` says which values a cluster has; `fill` walks the objects;
//! `scan` reads the forms.

use std::borrow::Cow;

use bellwether_core::parameters::{Values, is_clusters_own};
use serde_json::Value;

use self::functions::{Casing, Replaced, Side, cased, part, replaced, replaced_bytes, without};
use self::scan::{Scanner, is_of_the_cluster};
use super::fill::Fills;

mod functions;
mod scan;

/// What functions may do for one cluster: a step is a byte that is read, and half a second is a hundred million of them.
pub(super) const STEPS_MAX: usize = 128 * 1024 * 1024;

/// A text with references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template<'t> {
    pieces: Vec<Piece<'t>>,
}

/// Of a template, as far as others look into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'p, 't> {
    Text(&'p str),
    /// By the name of its variable.
    Reference(&'t str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece<'t> {
    Text(Cow<'t, str>),
    Reference(Reference<'t>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reference<'t> {
    name: &'t str,
    function: Function<'t>,
    /// Of the `$` in the text, in bytes.
    offset: usize,
}

/// What is made of the value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Function<'t> {
    None,
    /// Taken if the variable is unset or empty.
    Default(Template<'t>),
    /// It may not be empty.
    Required,
    Length,
    Case(Casing),
    Part {
        offset: Template<'t>,
        length: Option<Template<'t>>,
    },
    Without {
        pattern: Template<'t>,
        side: Side,
        most: bool,
    },
    Replaced {
        pattern: Template<'t>,
        by: Option<Template<'t>>,
        which: Replaced,
    },
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
    /// A function that can make nothing of these values.
    Misused {
        name: &'t str,
        offset: usize,
        problem: &'static str,
    },
    TooLong,
}

/// What may yet be filled in, over several texts: a short one may refer to a long value very often, and a function may
/// read it very often and give nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) bytes: usize,
    pub(crate) steps: usize,
}

impl Budget {
    fn use_bytes<'t>(&mut self, bytes: usize) -> Result<(), Unfilled<'t>> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Unfilled::TooLong)?;
        Ok(())
    }

    fn push<'t>(&mut self, text: &mut String, more: &str) -> Result<(), Unfilled<'t>> {
        self.use_bytes(more.len())?;
        text.push_str(more);
        Ok(())
    }
}

impl<'t> Template<'t> {
    /// `None` if nothing in the text could be a reference or an escape, which is so for nearly all texts.
    pub(crate) fn parse(text: &'t str, fills: Fills) -> Result<Option<Self>, Malformed<'t>> {
        let may_have = match fills {
            Fills::Nothing => false,
            Fills::ClustersOwn => text.contains("${cluster.") || text.contains("${#cluster."),
            Fills::All => text.contains("${"),
        };
        if !may_have {
            return Ok(None);
        }
        Scanner::new(text, fills).whole().map(Some)
    }

    /// Texts and references in their order, and not what is in these.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_, 't>> {
        self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => Part::Text(text),
            Piece::Reference(reference) => Part::Reference(reference.name),
        })
    }

    /// Every name, also those in defaults and arguments.
    pub(crate) fn names(&self) -> Vec<&'t str> {
        let references = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Reference(reference) => Some(reference),
            Piece::Text(_) => None,
        });
        let names = references.flat_map(|reference| {
            let inner = reference.function.arguments().into_iter().flat_map(Template::names);
            std::iter::once(reference.name).chain(inner).collect::<Vec<_>>()
        });
        names.collect()
    }

    /// The value itself if the text is one reference and nothing else, whose type it then has. A default, what a function
    /// makes and a label of the cluster are only text: they are a number or boolean if they are written exactly as one is.
    pub(crate) fn value(&self, values: &Values, budget: &mut Budget) -> Result<Option<Value>, Unfilled<'t>> {
        let [Piece::Reference(reference)] = self.pieces.as_slice() else {
            return Ok(None);
        };
        let found = match (reference.find(values)?, &reference.function) {
            (Some(Value::String(text)), _) => {
                budget.use_bytes(text.len())?;
                if is_clusters_own(reference.name) { typed(text) } else { Value::from(text.as_str()) }
            }
            (Some(value), _) => value.clone(),
            (None, Function::Default(default)) => match default.value(values, budget)? {
                Some(value) => value,
                None => typed(&default.fill(values, budget)?),
            },
            (None, _) => {
                let made = reference.make(values, budget)?;
                budget.use_bytes(made.len())?;
                typed(&made)
            }
        };
        Ok(Some(found))
    }

    pub(crate) fn fill(&self, values: &Values, budget: &mut Budget) -> Result<String, Unfilled<'t>> {
        let mut text = String::new();
        self.fill_into(&mut text, values, budget)?;
        Ok(text)
    }

    /// As [`Template::fill`] does it, with what each reference gives as `change` makes it.
    pub(crate) fn fill_each(
        &self,
        values: &Values,
        budget: &mut Budget,
        change: impl Fn(&str) -> String,
    ) -> Result<String, Unfilled<'t>> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => budget.push(&mut text, plain)?,
                Piece::Reference(reference) => {
                    let mut given = String::new();
                    reference.fill_into(&mut given, values, budget)?;
                    budget.push(&mut text, &change(&given))?;
                }
            }
        }
        Ok(text)
    }

    fn fill_into(&self, text: &mut String, values: &Values, budget: &mut Budget) -> Result<(), Unfilled<'t>> {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Text(plain) => budget.push(text, plain),
            Piece::Reference(reference) => reference.fill_into(text, values, budget),
        })
    }
}

impl<'t> Function<'t> {
    fn arguments(&self) -> Vec<&Template<'t>> {
        match self {
            Self::None | Self::Required | Self::Length | Self::Case(_) => Vec::new(),
            Self::Default(only) | Self::Without { pattern: only, .. } => vec![only],
            Self::Part { offset: first, length: second } | Self::Replaced { pattern: first, by: second, .. } => {
                std::iter::once(first).chain(second).collect()
            }
        }
    }
}

impl<'t> Reference<'t> {
    fn fill_into(&self, text: &mut String, values: &Values, budget: &mut Budget) -> Result<(), Unfilled<'t>> {
        match (self.find(values)?, &self.function) {
            (Some(value), _) => budget.push(text, &as_text(value)),
            (None, Function::Default(default)) => default.fill_into(text, values, budget),
            (None, _) => {
                let made = self.make(values, budget)?;
                budget.push(text, &made)
            }
        }
    }

    /// The value, if it is taken as it is. An empty one gives way to a default.
    fn find<'v>(&self, values: &'v Values) -> Result<Option<&'v Value>, Unfilled<'t>> {
        let value = values.find(self.name);
        let full = value.filter(|value| *value != "");
        match self.function {
            Function::None => value.map(Some).ok_or_else(|| self.unset()),
            Function::Required => full.map(Some).ok_or_else(|| self.unset()),
            Function::Default(_) => Ok(full),
            _ => Ok(None),
        }
    }

    /// What the function makes of the value.
    fn make(&self, values: &Values, budget: &mut Budget) -> Result<String, Unfilled<'t>> {
        let value = as_text(values.find(self.name).ok_or_else(|| self.unset())?);
        self.use_steps(value.len(), budget)?;
        Ok(match &self.function {
            Function::None | Function::Required | Function::Default(_) => value.into_owned(),
            Function::Length => value.len().to_string(),
            Function::Case(casing) => cased(&value, *casing),
            Function::Part { offset, length } => {
                let offset = self.number(offset, values, budget)?;
                let length = length.as_ref().map(|length| self.number(length, values, budget)).transpose()?;
                let part = part(&value, offset, length);
                part.ok_or_else(|| self.misused("it would cut a character apart"))?.to_owned()
            }
            Function::Without { pattern, side, most } => {
                let pattern = pattern.fill(values, budget)?;
                self.use_steps(value.len().saturating_mul(pattern.len()), budget)?;
                without(&value, &pattern, *side, *most)
            }
            Function::Replaced { pattern, by, which } => {
                let pattern = pattern.fill(values, budget)?;
                let by = by.as_ref().map(|by| by.fill(values, budget)).transpose()?;
                if replaced_bytes(&value, &pattern, by.as_deref(), *which) > budget.bytes {
                    return Err(Unfilled::TooLong);
                }
                replaced(&value, &pattern, by.as_deref(), *which)
            }
        })
    }

    fn number(&self, argument: &Template<'t>, values: &Values, budget: &mut Budget) -> Result<i64, Unfilled<'t>> {
        let text = argument.fill(values, budget)?;
        text.parse().map_err(|_| self.misused("its offset or length is no whole number"))
    }

    fn use_steps(&self, steps: usize, budget: &mut Budget) -> Result<(), Unfilled<'t>> {
        let left = budget.steps.checked_sub(steps);
        budget.steps = left.ok_or_else(|| self.misused("this and others before it take too long"))?;
        Ok(())
    }

    fn misused(&self, problem: &'static str) -> Unfilled<'t> {
        Unfilled::Misused { name: self.name, offset: self.offset, problem }
    }

    fn unset(&self) -> Unfilled<'t> {
        Unfilled::Unset { name: self.name, offset: self.offset }
    }
}

fn as_text(value: &Value) -> Cow<'_, str> {
    value.as_str().map_or_else(|| Cow::Owned(written(value)), Cow::Borrowed)
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

/// The text that comes to this one when it is filled in: what would be taken for a reference is escaped.
pub fn literal(text: &str, fills: Fills) -> String {
    let (mut literal, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("${") {
        let is_taken = match fills {
            Fills::Nothing => false,
            Fills::ClustersOwn => is_of_the_cluster(&rest[at..]),
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
mod tests;
