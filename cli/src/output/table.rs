//! Tables for people: aligned columns, a header, no lines; and lists of fields for one thing.

use bellwether_core::report::Verdict;
use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, TableStyle, Width};

use super::{Style, visible};

const STYLE: TableStyle = TableStyle::new();
/// Names and states are never broken in the middle; only the last column, which is text, is.
const WRAPPED_WIDTH_MIN: u16 = 20;

/// How a cell is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Busy,
    Bad,
    Faint,
}

/// A cell: its text and its tone.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    text: String,
    tone: Tone,
}

impl Field {
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: ToString> From<T> for Field {
    fn from(value: T) -> Self {
        Self { text: value.to_string(), tone: Tone::Plain }
    }
}

pub(crate) fn verdict(verdict: Verdict) -> Field {
    let tone = match verdict {
        Verdict::Healthy => Tone::Good,
        Verdict::Progressing => Tone::Busy,
        Verdict::Unknown => Tone::Faint,
        Verdict::Degraded | Verdict::Failed => Tone::Bad,
    };
    Field::toned(verdict.as_str(), tone)
}

/// Rows under a header.
pub(crate) fn table<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [Field; COLUMNS]>,
    style: Style,
) -> String {
    let mut table = blank(style);
    let title =
        |text: &&str| if style.color { Cell::new(text).add_attribute(Attribute::Bold) } else { Cell::new(text) };
    table.set_header(header.iter().map(title).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.into_iter().map(|field| cell(&field, style)).collect::<Vec<_>>());
    }
    finish(table, style)
}

/// `NAME  value` lines about one thing; empty values are left out.
pub(crate) fn fields(pairs: impl IntoIterator<Item = (&'static str, Field)>, style: Style) -> String {
    let mut table = blank(style);
    for (name, field) in pairs.into_iter().filter(|(_, field)| !field.text.is_empty()) {
        table.add_row(vec![cell(&Field::toned(name, Tone::Faint), style), cell(&field, style)]);
    }
    if table.is_empty() { String::new() } else { finish(table, style) }
}

fn blank(style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    if style.wrap {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
    }
    if style.color {
        table.enforce_styling();
    }
    table
}

fn cell(field: &Field, style: Style) -> Cell {
    let text = if field.text.is_empty() { "-".to_owned() } else { visible(&field.text).replace('\n', " ") };
    let cell = Cell::new_owned(text);
    let color = match field.tone {
        Tone::Plain => return cell,
        Tone::Good => Color::Green,
        Tone::Busy => Color::Yellow,
        Tone::Bad => Color::Red,
        Tone::Faint => Color::DarkGrey,
    };
    if style.color { cell.fg(color) } else { cell }
}

fn finish(mut table: Table, style: Style) -> String {
    let last = table.column_count().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
        if style.wrap {
            let constraint = if index == last {
                ColumnConstraint::LowerBoundary(Width::Fixed(WRAPPED_WIDTH_MIN))
            } else {
                ColumnConstraint::ContentWidth
            };
            column.set_constraint(constraint);
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_what_is_empty_shows() {
        let rows = [
            [Field::from("shop"), verdict(Verdict::Healthy), Field::from("")],
            [Field::from("a-much-longer-name"), verdict(Verdict::Failed), Field::from("no image\nfound\u{1b}[31m")],
        ];

        let text = table(["TARGET", "HEALTH", "MESSAGE"], rows, Style::default());

        insta::assert_snapshot!(text, @r"
        TARGET              HEALTH   MESSAGE
        shop                healthy  -
        a-much-longer-name  failed   no image found [31m
        ");
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let draw = |color| fields([("health", verdict(Verdict::Failed))], Style { color, wrap: false });

        assert!(!draw(false).contains('\u{1b}'));
        assert!(draw(true).contains('\u{1b}'));
    }

    #[test]
    fn fields_without_a_value_are_left_out() {
        let text = fields([("name", "shop".into()), ("path", "".into())], Style::default());

        assert_eq!(text, "name  shop");
    }
}
