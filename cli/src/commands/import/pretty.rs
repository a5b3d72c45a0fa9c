//! The report for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bellwether_import::{Checked, Effect, Entry, Import};
use owo_colors::OwoColorize as _;

use crate::output::{Style, visible_line};

pub(super) fn report(import: &Import, checked: &[Checked], style: Style) -> String {
    let mut text = String::new();
    for entry in &import.report {
        add_entry(&mut text, entry, style);
    }
    add_notes(&mut text, import, style);
    for unread in &import.unread {
        let _ = writeln!(text, "not read: {}: {}", visible_line(&unread.file), visible_line(&unread.why));
    }
    for one in checked {
        add_checked(&mut text, one);
    }
    text
}

fn add_entry(text: &mut String, entry: &Entry, style: Style) {
    let name =
        entry.namespace.as_ref().map_or_else(|| entry.name.clone(), |namespace| format!("{namespace}/{}", entry.name));
    let became: Vec<String> = entry.became.iter().map(|one| format!("{} {}", one.kind, one.name)).collect();
    let became = if became.is_empty() { "nothing".to_owned() } else { became.join(", ") };
    let name = visible_line(&name);
    let _ = writeln!(
        text,
        "{} {name} ({}:{}) -> {became}",
        visible_line(&entry.kind),
        visible_line(&entry.file),
        entry.line
    );
    for remark in entry.remarks.iter().filter(|remark| remark.effect != Effect::Note) {
        let field = if remark.field.is_empty() { String::new() } else { format!("{}: ", visible_line(&remark.field)) };
        let _ = writeln!(text, "  {}  {field}{}", effect(remark.effect, style), visible_line(&remark.sentence));
    }
}

/// Once each: most are true of every object of a kind.
fn add_notes(text: &mut String, import: &Import, style: Style) {
    let mut notes: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for entry in &import.report {
        for remark in entry.remarks.iter().filter(|remark| remark.effect == Effect::Note) {
            *notes.entry((entry.kind.as_str(), remark.field.as_str(), remark.sentence.as_str())).or_default() += 1;
        }
    }
    for ((kind, field, sentence), count) in notes {
        let of = if field.is_empty() { String::new() } else { format!(" {}", visible_line(field)) };
        let _ = writeln!(
            text,
            "{} {}{of} ({count}): {}",
            effect(Effect::Note, style).trim_end(),
            visible_line(kind),
            visible_line(sentence)
        );
    }
}

fn effect(effect: Effect, style: Style) -> String {
    let word = format!("{:14}", effect.as_str());
    match effect {
        Effect::None if style.color => word.red().to_string(),
        Effect::Differs | Effect::Todo if style.color => word.yellow().to_string(),
        _ => word,
    }
}

fn add_checked(text: &mut String, one: &Checked) {
    let target = &one.target;
    let _ = match (&one.unchecked, &one.failure) {
        (Some(why), _) => writeln!(text, "not compared: target {target}: {}", visible_line(why)),
        (_, Some(why)) => writeln!(text, "fails: target {target}: {}", visible_line(why)),
        _ if one.differences.is_empty() => writeln!(text, "same: target {target}: {} objects", one.objects),
        _ => writeln!(text, "differs: target {target}:"),
    };
    for difference in &one.differences {
        let field = if difference.field.is_empty() { String::new() } else { format!(" {}", difference.field) };
        let place = format!("{}{field}", difference.object);
        let _ = writeln!(text, "  {}: {}", visible_line(&place), difference.what);
    }
}

pub(super) fn summary(import: &Import, checked: &[Checked]) -> String {
    let count = |effect: Effect| {
        import.report.iter().flat_map(|entry| &entry.remarks).filter(|remark| remark.effect == effect).count()
    };
    let documents = |kind: &str| import.documents.iter().filter(|document| document.kind == kind).count();
    let mut text = format!(
        "{} objects became {} repos, {} targets and {} overlays; {} fields have no counterpart, {} mean something else, {} things are to be done",
        import.report.len(),
        documents("Repo"),
        documents("Target"),
        import.overlays.len(),
        count(Effect::None),
        count(Effect::Differs),
        count(Effect::Todo),
    );
    if !checked.is_empty() {
        let compared = checked.iter().filter(|one| one.unchecked.is_none()).count();
        let differ = checked.iter().filter(|one| one.differs()).count();
        let _ = write!(text, "; {compared} targets were compared, {differ} differ or fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use bellwether_import::Difference;

    use super::*;

    #[test]
    fn text_of_a_file_begins_no_line_of_the_report() {
        let text = "a\n::error::\u{1b}[31m".to_owned();
        let mut checked = Checked {
            target: "web".to_owned(),
            objects: 1,
            unchecked: None,
            failure: Some(text.clone()),
            differences: vec![Difference { object: text.clone(), field: text.clone(), what: "it differs".to_owned() }],
        };
        let mut told = String::new();
        add_checked(&mut told, &checked);
        checked.failure = None;
        checked.unchecked = Some(text);
        add_checked(&mut told, &checked);

        assert_eq!(told.lines().count(), 4, "{told}");
        assert!(!told.contains('\u{1b}') && !told.lines().any(|line| line.starts_with("::")), "{told}");
    }
}
