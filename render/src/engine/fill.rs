//! Values into one object: from what is written to JSON.

use bellwether_core::object::OBJECT_BYTES_MAX;
use bellwether_core::parameters::Values;
use serde_json::{Map, Value};

use super::variables::{Budget, Template, Unfilled};
use crate::error::RenderError;
use crate::finish::Origin;
use crate::yaml::{Content, Entry, Node, Text, TextStyle};

/// Which of what looks like a variable is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fills {
    Nothing,
    /// What refers to the cluster: a target without parameters can mean no other, and scripts and settings of what is
    /// deployed have `${…}` of their own.
    ClustersOwn,
    All,
}

/// One object on its way from what is written to JSON.
pub(super) struct Filling<'s> {
    origin: Origin<'s>,
    values: &'s Values,
    fills: Fills,
    /// The bytes are for one object, the steps for all that one cluster gets.
    budget: Budget,
}

impl<'s> Filling<'s> {
    pub(super) fn new(origin: Origin<'s>, values: &'s Values, fills: Fills, steps: usize) -> Self {
        Self { origin, values, fills, budget: Budget { bytes: OBJECT_BYTES_MAX, steps } }
    }

    pub(super) fn steps_left(&self) -> usize {
        self.budget.steps
    }

    pub(super) fn value(&mut self, node: &Node) -> Result<Value, RenderError> {
        if self.fills == Fills::Nothing {
            return Ok(node.to_json());
        }
        match &node.content {
            Content::Text(text) => self.text(text, node.line()),
            Content::List(items) => {
                let items = items.iter().map(|item| self.value(item));
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            }
            Content::Map(entries) => self.map(entries),
            _ => Ok(node.to_json()),
        }
    }

    /// Keys with variables come last, so that an error names the one that repeats another.
    fn map(&mut self, entries: &[Entry]) -> Result<Value, RenderError> {
        let mut fields = Map::new();
        let (filled, plain): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.key.contains("${"));
        for entry in plain.into_iter().chain(filled) {
            let key = self.filled(&entry.key, TextStyle::Quoted, entry.line())?;
            let key = key.unwrap_or_else(|| entry.key.to_string());
            if fields.insert(key, self.value(&entry.value)?).is_some() {
                let at = self.origin.place(entry.line());
                return Err(RenderError::VariableRepeatsKey { at, key: entry.key.to_string() });
            }
        }
        Ok(Value::Object(fields))
    }

    /// A plain scalar that is nothing but a reference takes the type of its value.
    fn text(&mut self, text: &Text, line: u32) -> Result<Value, RenderError> {
        if text.style == TextStyle::Plain
            && let Some(template) = template(self.origin, &text.value, text.style, line, self.fills)?
        {
            let value = template.value(self.values, &mut self.budget);
            if let Some(value) = self.take(value, &text.value, text.style, line)? {
                return Ok(value);
            }
        }
        let filled = self.filled(&text.value, text.style, line)?;
        Ok(filled.map_or_else(|| Value::from(&*text.value), Value::String))
    }

    /// `None` if there is nothing to fill in.
    fn filled(&mut self, text: &str, style: TextStyle, line: u32) -> Result<Option<String>, RenderError> {
        let Some(template) = template(self.origin, text, style, line, self.fills)? else {
            return Ok(None);
        };
        let filled = template.fill(self.values, &mut self.budget);
        self.take(filled, text, style, line).map(Some)
    }

    fn take<T>(
        &self,
        result: Result<T, Unfilled<'_>>,
        text: &str,
        style: TextStyle,
        line: u32,
    ) -> Result<T, RenderError> {
        result.map_err(|unfilled| match unfilled {
            Unfilled::TooLong => RenderError::TooLarge { at: self.origin.place(line), key: "an object".to_owned() },
            Unfilled::Misused { name, offset, problem } => RenderError::VariableMisused {
                at: self.origin.place(line_in(text, style, line, offset)),
                name: name.to_owned(),
                problem,
            },
            Unfilled::Unset { name, offset } => {
                RenderError::unset(self.origin.place(line_in(text, style, line, offset)), name, self.values)
            }
        })
    }
}

pub(super) fn template<'t>(
    origin: Origin<'_>,
    text: &'t str,
    style: TextStyle,
    line: u32,
    fills: Fills,
) -> Result<Option<Template<'t>>, RenderError> {
    // No default and no escape makes such a text short enough for an object, and its pieces would fill the memory.
    if fills != Fills::Nothing && text.len() > OBJECT_BYTES_MAX && text.contains("${") {
        return Err(RenderError::TooLarge { at: origin.place(line), key: "a text".to_owned() });
    }
    Template::parse(text, fills).map_err(|malformed| RenderError::VariableMalformed {
        at: origin.place(line_in(text, style, line, malformed.offset)),
        name: malformed.name.to_owned(),
    })
}

/// The line of an offset. In quotes and folded blocks a line of the text is not a line of the file.
fn line_in(text: &str, style: TextStyle, line: u32, offset: usize) -> u32 {
    let before = text.get(..offset).unwrap_or_default();
    let rows = if style == TextStyle::Literal { before.matches('\n').count() } else { 0 };
    u32::try_from(rows).map_or(line, |rows| line.saturating_add(rows))
}
