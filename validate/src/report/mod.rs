//! What was found, and the formats in which other programs read it.

mod json;
mod junit;
mod sarif;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use crate::told::ToldSchema;

pub use json::json;
pub use junit::junit;
pub use sarif::sarif;

/// Errors first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    /// Nothing fails by it today.
    Warning,
}

/// An object, as it says what it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    pub api_version: String,
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
}

/// `Deployment shop/web`.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &str| if text.is_empty() { "?".to_owned() } else { text.to_owned() };
        write!(f, "{} ", or_none(&self.kind))?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&or_none(&self.name))
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub severity: Severity,
    /// Stable, for machines.
    pub code: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub file: String,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// From 1, of those in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Of Kubernetes; empty for all that were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// The name of what was rendered.
    pub target: String,
}

impl Finding {
    /// Field and message, as one sentence.
    pub fn sentence(&self) -> String {
        let versions = match self.versions.as_slice() {
            [] => String::new(),
            versions => format!(" (Kubernetes {})", versions.join(", ")),
        };
        match &self.field {
            Some(field) => format!("{field} {}{versions}", self.message),
            None => format!("{}{versions}", self.message),
        }
    }
}

/// What was not looked at, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Named>,
    pub reason: String,
}

/// What was rendered, or read together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetReport {
    /// The folder, or the name of a Target.
    pub name: String,
    /// `plain`, `kustomize`, `helm`, `target` or `bellwether`.
    pub kind: &'static str,
    /// File and object.
    #[serde(skip)]
    pub cases: Vec<(String, Named)>,
}

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Of Kubernetes.
    pub versions: Vec<String>,
    pub targets: Vec<TargetReport>,
    pub findings: Vec<Finding>,
    pub skipped: Vec<Skipped>,
    /// Of clusters, as far as something was held against them.
    pub told: Vec<ToldSchema>,
}

impl Report {
    pub fn objects(&self) -> usize {
        self.targets.iter().map(|target| target.cases.len()).sum()
    }

    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Within a target as people read its files.
    pub(crate) fn sort(&mut self) {
        self.findings.sort_by(|a, b| {
            let key = |of: &Finding| (of.file.clone(), of.document, of.line, of.severity, of.field.clone());
            key(a).cmp(&key(b))
        });
        self.findings.dedup();
        self.skipped.sort();
        self.skipped.dedup();
        self.told.sort();
        self.told.dedup();
    }
}
