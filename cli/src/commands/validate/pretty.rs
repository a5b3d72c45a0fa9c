//! What was found, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bellwether_validate::{Finding, Report, Severity};
use jiff::Timestamp;
use owo_colors::OwoColorize as _;

use crate::output::{Style, age, visible_line};

/// Of one kind of reason; the rest is counted.
const SKIPPED_MAX: usize = 10;

pub(super) fn text(report: &Report, style: Style, now: Timestamp) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        write_finding(&mut text, finding, style);
    }
    let mut reasons: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for skipped in &report.skipped {
        let what = match &skipped.object {
            Some(object) => format!("{} {}", object.api_version, object.kind),
            None => skipped.file.clone(),
        };
        *reasons.entry(&skipped.reason).or_default().entry(what).or_default() += 1;
    }
    for (reason, what) in reasons {
        let more = what.len().saturating_sub(SKIPPED_MAX);
        let shown = what.iter().take(SKIPPED_MAX);
        let shown = shown.map(|(what, count)| if *count > 1 { format!("{what} ({count})") } else { what.clone() });
        let mut list = shown.collect::<Vec<_>>().join(", ");
        if more > 0 {
            let _ = write!(list, " and {more} more");
        }
        let _ =
            writeln!(text, "{}", faint(&format!("skipped, {}: {}", visible_line(reason), visible_line(&list)), style));
    }
    write_told(&mut text, report, style, now);
    text
}

/// Where the schemas of custom resources came from that nothing here defines. What a cluster told long ago may be another
/// by now.
fn write_told(text: &mut String, report: &Report, style: Style, now: Timestamp) {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in &report.told {
        let told = format!("{} (told {} ago)", one.cluster, age(one.told_at, now));
        kinds.entry(format!("{} {}", one.api_version, one.kind)).or_default().push(told);
    }
    for (kind, told) in kinds {
        let more = told.len().saturating_sub(SKIPPED_MAX);
        let mut list = told[..told.len() - more].join(", ");
        if more > 0 {
            let _ = write!(list, " and {more} more");
        }
        let line = format!("{} is held against what it is in {}", visible_line(&kind), visible_line(&list));
        let _ = writeln!(text, "{}", faint(&line, style));
    }
}

fn write_finding(text: &mut String, finding: &Finding, style: Style) {
    let place = match (finding.line, finding.document) {
        (Some(line), _) => format!("{}:{line}", finding.file),
        (None, Some(number)) if number > 1 => format!("{} (document {number})", finding.file),
        _ => finding.file.clone(),
    };
    let object = finding.object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default();
    let word = match finding.severity {
        Severity::Error if style.color => "error".red().bold().to_string(),
        Severity::Error => "error".to_owned(),
        Severity::Warning if style.color => "warning".yellow().bold().to_string(),
        Severity::Warning => "warning".to_owned(),
    };
    let _ = writeln!(
        text,
        "{}: {word}: {}",
        visible_line(&place),
        visible_line(&format!("{object}{}", finding.sentence()))
    );
    if let Some(hint) = &finding.hint {
        let _ = writeln!(text, "  {}", faint(&format!("hint: {}", visible_line(hint)), style));
    }
}

fn faint(text: &str, style: Style) -> String {
    if style.color { text.dimmed().to_string() } else { text.to_owned() }
}

/// `2 targets, 14 objects, Kubernetes 1.37: 1 error, 0 warnings, 3 skipped`
pub(super) fn summary(report: &Report) -> String {
    let counted = |count: usize, noun: &str| if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") };
    format!(
        "{}, {}, Kubernetes {}: {}, {}, {} skipped",
        counted(report.targets.len(), "target"),
        counted(report.objects(), "object"),
        report.versions.join(", "),
        counted(report.count(Severity::Error), "error"),
        counted(report.count(Severity::Warning), "warning"),
        report.skipped.len(),
    )
}
