//! JUnit's XML, as CI servers read it: a suite for each target, a case for each object.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Finding, Report, Severity};

pub fn junit(report: &Report) -> String {
    let mut suites = String::new();
    let (mut tests, mut failures) = (0, 0);
    for (name, cases) in suites_of(report) {
        let failed = cases.iter().filter(|case| case.has_failed()).count();
        let skipped = cases.iter().filter(|case| case.is_skipped).count();
        tests += cases.len();
        failures += failed;
        let _ = writeln!(
            suites,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\">",
            escaped(&name),
            cases.len()
        );
        for case in &cases {
            case.write(&mut suites);
        }
        suites.push_str("  </testsuite>\n");
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"bellwether validate\" tests=\"{tests}\" \
         failures=\"{failures}\" errors=\"0\">\n{suites}</testsuites>\n"
    )
}

struct Case<'r> {
    name: String,
    file: &'r str,
    findings: Vec<&'r Finding>,
    is_skipped: bool,
}

/// In the order of the targets; what belongs to no object is a case of its own.
fn suites_of(report: &Report) -> Vec<(String, Vec<Case<'_>>)> {
    let mut by_case: BTreeMap<(&str, &str, String), Vec<&Finding>> = BTreeMap::new();
    for finding in &report.findings {
        let name = finding.object.as_ref().map_or_else(|| finding.file.clone(), ToString::to_string);
        by_case.entry((&finding.target, &finding.file, name)).or_default().push(finding);
    }
    let mut suites: Vec<(String, Vec<Case<'_>>)> = Vec::new();
    for target in &report.targets {
        let cases = target.cases.iter().map(|(file, named)| Case {
            findings: by_case.remove(&(target.name.as_str(), file.as_str(), named.to_string())).unwrap_or_default(),
            is_skipped: report.skipped.iter().any(|one| one.file == *file && one.object.as_ref() == Some(named)),
            name: named.to_string(),
            file,
        });
        suites.push((target.name.clone(), cases.collect()));
    }
    for ((target, file, name), findings) in by_case {
        let case = Case { name, file, findings, is_skipped: false };
        match suites.iter_mut().find(|(of, _)| of == target) {
            Some((_, cases)) => cases.push(case),
            None => suites.push((target.to_owned(), vec![case])),
        }
    }
    suites
}

impl Case<'_> {
    fn has_failed(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    fn write(&self, text: &mut String) {
        let _ = write!(text, "    <testcase name=\"{}\" classname=\"{}\"", escaped(&self.name), escaped(self.file));
        if self.findings.is_empty() && !self.is_skipped {
            text.push_str("/>\n");
            return;
        }
        text.push_str(">\n");
        if self.is_skipped && !self.has_failed() {
            text.push_str("      <skipped message=\"no schema\"/>\n");
        }
        for finding in self.findings.iter().filter(|finding| finding.severity == Severity::Error) {
            let (sentence, code) = (escaped(&finding.sentence()), escaped(&finding.code));
            let _ = writeln!(
                text,
                "      <failure message=\"{sentence}\" type=\"{code}\">{}</failure>",
                escaped(&whole(finding))
            );
        }
        let warnings = self.findings.iter().filter(|finding| finding.severity == Severity::Warning);
        let warnings = warnings.map(|finding| escaped(&whole(finding))).collect::<Vec<_>>();
        if !warnings.is_empty() {
            let _ = writeln!(text, "      <system-out>{}</system-out>", warnings.join("\n"));
        }
        text.push_str("    </testcase>\n");
    }
}

fn whole(finding: &Finding) -> String {
    let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
    let hint = finding.hint.as_ref().map(|hint| format!("\n{hint}")).unwrap_or_default();
    format!("{}{line}: {}{hint}", finding.file, finding.sentence())
}

/// XML 1.0 has no way to write most control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            character if character.is_control() => escaped.push('\u{FFFD}'),
            character => escaped.push(character),
        }
    }
    escaped
}
