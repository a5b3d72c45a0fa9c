//! An object that changes, as lines of a unified diff. Hunks are named by their fields, since files have no part in it.

use bellwether_core::ObjectKey;
use bellwether_core::api::{ObjectChange, PlanField, PlanObject};
use serde_json::Value;

use crate::output::{visible_line, yaml};

pub(super) fn lines(object: &PlanObject) -> Vec<String> {
    let name = object.key.to_string();
    let (before, after) = match object.change {
        ObjectChange::Created => ("(new)".to_owned(), name),
        ObjectChange::Changed => (name.clone(), name),
        ObjectChange::Moved => {
            let namespace = object.from_namespace.clone().filter(|namespace| !namespace.is_empty());
            (ObjectKey { namespace, ..object.key.clone() }.to_string(), name)
        }
        ObjectChange::Pruned => (name, "(deleted)".to_owned()),
        ObjectChange::Left => (name.clone(), format!("{name} (stays as it is in the cluster)")),
    };
    let mut lines = vec![format!("--- {before}"), format!("+++ {after}")];
    lines.extend(object.note.iter().map(|note| format!("# {note}")));
    for field in &object.fields {
        hunk(field, &mut lines);
    }
    if object.more_fields > 0 {
        lines.push(format!("# {} more fields", object.more_fields));
    }
    lines.into_iter().map(|line| visible_line(&line)).collect()
}

fn hunk(field: &PlanField, lines: &mut Vec<String>) {
    let marks = [(field.hidden, " hidden"), (field.cut, " cut")];
    let marks: String = marks.into_iter().filter_map(|(is_so, mark)| is_so.then_some(mark)).collect();
    match field.line {
        Some(line) => lines.push(format!("@@ {} line {line} @@{marks}", field.pointer)),
        None if field.pointer.is_empty() && marks.is_empty() => {}
        None => lines.push(format!("@@ {} @@{marks}", field.pointer)),
    }
    let is_text = field.line.is_some();
    let (before, after) = (told(field.before.as_ref(), is_text), told(field.after.as_ref(), is_text));
    // Only of texts: whatever else is told differs.
    let (start, end) = if is_text { shared(&before, &after) } else { (0, 0) };
    let middle = |lines: &[String]| lines[start..lines.len() - end].to_vec();
    lines.extend(before[..start].iter().map(|line| format!(" {line}")));
    lines.extend(middle(&before).iter().map(|line| format!("-{line}")));
    lines.extend(middle(&after).iter().map(|line| format!("+{line}")));
    lines.extend(before[before.len() - end..].iter().map(|line| format!(" {line}")));
}

fn shared(one: &[String], other: &[String]) -> (usize, usize) {
    let start = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let rest = one[start..].iter().rev().zip(other[start..].iter().rev());
    (start, rest.take_while(|(one, other)| one == other).count())
}

fn told(value: Option<&Value>, is_text: bool) -> Vec<String> {
    match value {
        None => Vec::new(),
        Some(Value::String(text)) if is_text => text.split('\n').map(str::to_owned).collect(),
        Some(value @ (Value::Object(_) | Value::Array(_))) => {
            let text = yaml::text(value).unwrap_or_else(|_| value.to_string());
            text.trim_end().lines().map(str::to_owned).collect()
        }
        Some(value) => vec![value.to_string()],
    }
}
