//! Values into one object: from what is written to JSON.

use bellwether_core::object::OBJECT_BYTES_MAX;
use bellwether_core::parameters::Values;
use serde_json::{Map, Value};

use super::variables::{Template, nearest};
use crate::error::RenderError;
use crate::finish::Origin;
use crate::yaml::{Content, Entry, Node, Text, TextStyle, plain_content};

/// One object on its way from what is written to JSON.
pub(super) struct Filling<'s> {
    origin: Origin<'s>,
    values: &'s Values,
    is_filled: bool,
    /// Filled in so far: a short file may refer to a long value very often.
    bytes: usize,
}

impl<'s> Filling<'s> {
    pub(super) fn new(origin: Origin<'s>, values: &'s Values, is_filled: bool) -> Self {
        Self { origin, values, is_filled, bytes: 0 }
    }

    pub(super) fn value(&mut self, node: &Node) -> Result<Value, RenderError> {
        if !self.is_filled {
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
            let key = key.map_or_else(|| entry.key.to_string(), |(key, _)| key);
            if fields.insert(key, self.value(&entry.value)?).is_some() {
                let at = self.origin.place(entry.line());
                return Err(RenderError::VariableRepeatsKey { at, key: entry.key.to_string() });
            }
        }
        Ok(Value::Object(fields))
    }

    /// A plain scalar that is nothing but a reference takes the type that its value would have there.
    fn text(&mut self, text: &Text, line: u32) -> Result<Value, RenderError> {
        let Some((filled, is_one_reference)) = self.filled(&text.value, text.style, line)? else {
            return Ok(Value::from(&*text.value));
        };
        if !is_one_reference || text.style != TextStyle::Plain {
            return Ok(Value::String(filled));
        }
        match plain_content(&filled) {
            Ok(Content::Bool(flag)) => Ok(Value::Bool(flag)),
            Ok(Content::Number(number)) => Ok(Value::Number(number)),
            // Null too: an empty value is an empty text, and does not remove the field.
            Ok(_) => Ok(Value::String(filled)),
            Err(_) => {
                let (at, text) = (self.origin.place(line), text.value.to_string());
                Err(RenderError::VariableOutOfRange { at, text })
            }
        }
    }

    /// `None` if there is nothing to fill in; else also whether the text is one reference.
    fn filled(&mut self, text: &str, style: TextStyle, line: u32) -> Result<Option<(String, bool)>, RenderError> {
        let Some(template) = template(self.origin, text, style, line)? else {
            return Ok(None);
        };
        let filled = template.fill(self.values).map_err(|unset| RenderError::VariableUnset {
            at: self.origin.place(line_in(text, style, line, unset.offset)),
            name: unset.name.to_owned(),
            nearest: nearest(unset.name, self.values.names()).map(str::to_owned),
        })?;
        self.bytes += filled.len();
        if self.bytes > OBJECT_BYTES_MAX {
            return Err(RenderError::TooLarge { at: self.origin.place(line), key: "an object".to_owned() });
        }
        Ok(Some((filled, template.is_one_reference())))
    }
}

pub(super) fn template<'t>(
    origin: Origin<'_>,
    text: &'t str,
    style: TextStyle,
    line: u32,
) -> Result<Option<Template<'t>>, RenderError> {
    Template::parse(text).map_err(|malformed| RenderError::VariableMalformed {
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
