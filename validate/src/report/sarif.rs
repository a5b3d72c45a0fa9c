//! SARIF 2.1.0, as code scanning reads it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Finding, Report, Severity};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// What paths begin at, as code scanning calls it.
const ROOT: &str = "%SRCROOT%";

pub fn sarif(report: &Report) -> Value {
    let codes: BTreeSet<_> = report.findings.iter().map(|finding| finding.code.as_str()).collect();
    let rules: Vec<_> =
        codes.iter().map(|code| json!({"id": code, "shortDescription": {"text": code.replace('_', " ")}})).collect();
    let results: Vec<_> = report
        .findings
        .iter()
        .map(|finding| result(finding, codes.iter().position(|code| *code == finding.code)))
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "bellwether validate",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repo."}}},
            "results": results,
        }],
    })
}

fn result(finding: &Finding, rule: Option<usize>) -> Value {
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let object = finding.object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default();
    let hint = finding.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    let mut physical = json!({"artifactLocation": {"uri": uri(&finding.file), "uriBaseId": ROOT}});
    // A result without a line is shown at the beginning of its file.
    physical["region"] = json!({"startLine": finding.line.unwrap_or(1)});
    let mut location = json!({"physicalLocation": physical});
    if let Some(object) = &finding.object {
        let field = finding.field.as_ref().map(|field| format!(" {field}")).unwrap_or_default();
        location["logicalLocations"] = json!([{"fullyQualifiedName": format!("{object}{field}")}]);
    }
    json!({
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": level,
        "message": {"text": format!("{object}{}{hint}", finding.sentence())},
        "locations": [location],
    })
}

/// Whoever made the report names files from the repo's root on.
fn uri(file: &str) -> String {
    let mut uri = String::with_capacity(file.len());
    for byte in file.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}
