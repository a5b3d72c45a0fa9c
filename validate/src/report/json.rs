//! One document: counts first, then each finding with its place.

use serde_json::{Value, json as object};

use super::{Report, Severity};

pub fn json(report: &Report) -> Value {
    let targets = report
        .targets
        .iter()
        .map(|target| object!({"name": target.name, "kind": target.kind, "objects": target.cases.len()}));
    object!({
        "kubernetesVersions": report.versions,
        "summary": {
            "targets": report.targets.len(),
            "objects": report.objects(),
            "errors": report.count(Severity::Error),
            "warnings": report.count(Severity::Warning),
            "skipped": report.skipped.len(),
        },
        "targets": targets.collect::<Vec<_>>(),
        "findings": report.findings,
        "skipped": report.skipped,
        "schemasOfClusters": report.told,
    })
}
