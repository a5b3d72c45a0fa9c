//! What became of each object, and what a person has to know or to do about it.

use serde::Serialize;

use crate::text::shown;

/// One object that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
    /// From the root of the repository on; `-` is standard input.
    pub file: String,
    pub line: u32,
    pub became: Vec<Became>,
    pub remarks: Vec<Remark>,
}

/// A document of Bellwether.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Became {
    pub kind: &'static str,
    pub name: String,
}

/// What is to be said of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Remark {
    /// From the object's root on, such as `spec.dependsOn`; empty when it is about the whole.
    pub field: String,
    pub effect: Effect,
    /// What is so, and what to do about it.
    pub sentence: String,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// It is done another way, and nothing is lost.
    Note,
    /// A person has to do something before it works.
    Todo,
    /// It works, and means something else than before.
    Differs,
    /// There is no counterpart.
    None,
}

impl Effect {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Todo => "to do",
            Self::Differs => "differs",
            Self::None => "no counterpart",
        }
    }
}

impl Remark {
    pub(crate) fn new(effect: Effect, field: &str, sentence: impl Into<String>) -> Self {
        Self { field: shown(field), effect, sentence: shown(&sentence.into()) }
    }

    pub(crate) fn note(field: &str, sentence: impl Into<String>) -> Self {
        Self::new(Effect::Note, field, sentence)
    }

    pub(crate) fn todo(field: &str, sentence: impl Into<String>) -> Self {
        Self::new(Effect::Todo, field, sentence)
    }

    pub(crate) fn differs(field: &str, sentence: impl Into<String>) -> Self {
        Self::new(Effect::Differs, field, sentence)
    }

    pub(crate) fn none(field: &str, sentence: impl Into<String>) -> Self {
        Self::new(Effect::None, field, sentence)
    }
}

impl Entry {
    pub(crate) fn add(&mut self, remark: Remark) {
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    pub(crate) fn became(&mut self, kind: &'static str, name: &str) {
        let became = Became { kind, name: name.to_owned() };
        if !self.became.contains(&became) {
            self.became.push(became);
        }
    }
}

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unread {
    pub file: String,
    pub why: String,
}
