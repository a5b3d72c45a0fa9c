//! Templates of an ApplicationSet: `{{name}}`, and with `goTemplate: true` the part of Go's templates that is only about
//! values. Whatever branches or loops is told, not guessed.

use serde_json::{Map, Value};

use crate::text::{has_mark, mark};

/// In place of a map of which only a cluster knows what is in it: under this key, what it is called.
pub(crate) const UNKNOWN: &str = "\u{E0B2}";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Fast,
    /// Whether a key that is missing is an error.
    Go {
        is_strict: bool,
    },
}

/// Every text of a template, and every key.
pub(crate) fn fill(template: &Value, params: &Value, language: Language) -> Result<Value, String> {
    match template {
        Value::String(text) => fill_text(text, params, language).map(Value::from),
        Value::Array(items) => {
            items.iter().map(|item| fill(item, params, language)).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields =
                fields.map(|(key, value)| Ok((fill_text(key, params, language)?, fill(value, params, language)?)));
            fields.collect::<Result<Map<_, _>, String>>().map(Value::Object)
        }
        other => Ok(other.clone()),
    }
}

pub(crate) fn fill_text(text: &str, params: &Value, language: Language) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        filled.push_str(&rest[..start]);
        let Some(end) = rest[start..].find("}}").map(|end| start + end) else {
            return Err(format!("`{rest}` has no end"));
        };
        let (mut action, mut after) = (&rest[start + 2..end], &rest[end + 2..]);
        match language {
            Language::Fast => match find_flat(params, action.trim()) {
                Some(value) => filled.push_str(&as_text(&value)),
                // As Argo CD does.
                None => filled.push_str(&rest[start..end + 2]),
            },
            Language::Go { is_strict } => {
                if let Some(trimmed) = action.strip_prefix('-') {
                    action = trimmed;
                    filled.truncate(filled.trim_end().len());
                }
                if let Some(trimmed) = action.strip_suffix('-') {
                    action = trimmed;
                    after = after.trim_start();
                }
                let value = Action::parse(action, params, is_strict)?;
                if value.is_object() || value.is_array() {
                    return Err(format!("`{{{{{action}}}}}` is not a text"));
                }
                filled.push_str(&as_text(&value));
            }
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

pub(crate) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// By a name with dots: keys may have some themselves.
pub(crate) fn find_flat(params: &Value, name: &str) -> Option<Value> {
    let fields = params.as_object()?;
    if let Some(Value::String(what)) = fields.get(UNKNOWN) {
        return Some(Value::from(mark(&format!("{what}.{name}"))));
    }
    if let Some(value) = fields.get(name) {
        return Some(value.clone());
    }
    let mut dots = name.match_indices('.');
    dots.find_map(|(dot, _)| find_flat(fields.get(&name[..dot])?, &name[dot + 1..]))
}

fn field(value: &Value, key: &str) -> Option<Value> {
    match value.get(UNKNOWN) {
        Some(Value::String(what)) => Some(Value::from(mark(&format!("{what}.{key}")))),
        _ => value.get(key).cloned(),
    }
}

/// One `{{ … }}`.
struct Action<'a> {
    rest: &'a str,
    params: &'a Value,
    is_strict: bool,
}

impl<'a> Action<'a> {
    fn parse(text: &'a str, params: &'a Value, is_strict: bool) -> Result<Value, String> {
        let first = text.split_whitespace().next().unwrap_or_default();
        if ["if", "else", "end", "range", "with", "define", "template", "block"].contains(&first) || text.contains(":=")
        {
            return Err(format!("`{{{{{text}}}}}` branches or loops, which is not worked out here"));
        }
        let mut action = Self { rest: text, params, is_strict };
        let value = action.pipeline()?;
        action.skip_space();
        if action.rest.is_empty() { Ok(value) } else { Err(format!("`{}` is not understood here", text.trim())) }
    }

    fn pipeline(&mut self) -> Result<Value, String> {
        let mut value = self.command(None)?;
        loop {
            self.skip_space();
            let Some(rest) = self.rest.strip_prefix('|') else { return Ok(value) };
            self.rest = rest;
            value = self.command(Some(value))?;
        }
    }

    fn command(&mut self, piped: Option<Value>) -> Result<Value, String> {
        self.skip_space();
        if self.rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let name = self.word();
            let mut arguments = Vec::new();
            while let Some(argument) = self.term()? {
                arguments.push(argument);
            }
            arguments.extend(piped);
            return call(&name, &arguments);
        }
        self.term()?.ok_or_else(|| "an action is empty".to_owned())
    }

    fn term(&mut self) -> Result<Option<Value>, String> {
        self.skip_space();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        match first {
            '|' | ')' => Ok(None),
            '(' => {
                self.rest = &self.rest[1..];
                let value = self.pipeline()?;
                self.skip_space();
                self.rest = self.rest.strip_prefix(')').ok_or("a `)` is missing")?;
                Ok(Some(value))
            }
            '"' | '`' => self.literal(first).map(Some),
            '.' | '$' => self.path().map(Some),
            _ => match self.word().as_str() {
                "true" => Ok(Some(Value::Bool(true))),
                "false" => Ok(Some(Value::Bool(false))),
                word => match word.parse::<i64>() {
                    Ok(number) => Ok(Some(Value::from(number))),
                    Err(_) => Err(format!("`{word}` is not understood here")),
                },
            },
        }
    }

    fn literal(&mut self, quote: char) -> Result<Value, String> {
        let mut text = String::new();
        let mut characters = self.rest[1..].char_indices();
        while let Some((index, character)) = characters.next() {
            if character == quote {
                self.rest = &self.rest[index + 2..];
                return Ok(Value::from(text));
            }
            if character == '\\' && quote == '"' {
                text.extend(characters.next().map(|(_, escaped)| escaped));
            } else {
                text.push(character);
            }
        }
        Err("a text has no end".to_owned())
    }

    fn path(&mut self) -> Result<Value, String> {
        self.rest = self.rest.strip_prefix('$').unwrap_or(self.rest);
        let mut value = self.params.clone();
        let mut path = String::new();
        while let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            let key = self.word();
            if key.is_empty() {
                break;
            }
            path = format!("{path}.{key}");
            value = match field(&value, &key) {
                Some(value) => value,
                None if self.is_strict => return Err(format!("`{path}` has no value")),
                None => Value::Null,
            };
        }
        Ok(value)
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if word.is_empty() {
            // Nothing of it is understood, so that nobody waits for its end.
            self.rest = "";
        }
        word.to_owned()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let texts: Vec<String> = arguments.iter().map(as_text).collect();
    let text = |index: usize| texts.get(index).map(String::as_str).unwrap_or_default();
    let is_empty = |value: &Value| value.is_null() || *value == "" || *value == false || *value == 0;
    match (name, arguments) {
        ("index", [value, keys @ ..]) => Ok(keys.iter().fold(value.clone(), |value, key| match key {
            Value::Number(number) => {
                let index = number.as_u64().and_then(|index| usize::try_from(index).ok());
                index.and_then(|index| value.get(index).cloned()).unwrap_or_default()
            }
            key => field(&value, &as_text(key)).unwrap_or_default(),
        })),
        ("default", [default, value]) => {
            if let Some(name) = whole_mark(value).filter(|_| !has_mark(&as_text(default))) {
                return Ok(Value::from(mark(&format!("{name}:-{}", as_text(default)))));
            }
            Ok(if is_empty(value) { default.clone() } else { value.clone() })
        }
        ("printf", [format, values @ ..]) => {
            let mut values = values.iter();
            let pieces: Vec<String> = as_text(format).split("%s").map(str::to_owned).collect();
            let filled = pieces.iter().enumerate().map(|(index, piece)| {
                let value = if index == 0 { String::new() } else { values.next().map(as_text).unwrap_or_default() };
                value + piece
            });
            Ok(Value::from(filled.collect::<String>()))
        }
        ("toString", [value]) => Ok(Value::from(as_text(value))),
        ("quote", [value]) => Ok(Value::from(format!("\"{}\"", as_text(value)))),
        ("squote", [value]) => Ok(Value::from(format!("'{}'", as_text(value)))),
        _ if texts.iter().any(|text| has_mark(text)) => {
            Err(format!("`{name}` would be of a value that only each cluster has"))
        }
        ("lower", [_]) => Ok(Value::from(text(0).to_lowercase())),
        ("upper", [_]) => Ok(Value::from(text(0).to_uppercase())),
        ("trim", [_]) => Ok(Value::from(text(0).trim())),
        ("trimPrefix", [_, _]) => Ok(Value::from(text(1).strip_prefix(text(0)).unwrap_or(text(1)))),
        ("trimSuffix", [_, _]) => Ok(Value::from(text(1).strip_suffix(text(0)).unwrap_or(text(1)))),
        ("replace", [_, _, _]) => Ok(Value::from(text(2).replace(text(0), text(1)))),
        ("trunc", [Value::Number(length), _]) => {
            let length = length.as_u64().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
            Ok(Value::from(text(1).chars().take(length).collect::<String>()))
        }
        ("normalize" | "slugify", [_]) => Ok(Value::from(crate::text::as_name(text(0)))),
        _ => Err(format!("`{name}` is not worked out here")),
    }
}

/// The name, if a value is nothing but one that a cluster has.
fn whole_mark(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let name = crate::text::fill_text(text, &|name| Some(name.to_owned()));
    (mark(&name) == text).then_some(name)
}

#[cfg(test)]
mod tests {
    use bellwether_render::Fills;
    use serde_json::json;

    use super::*;
    use crate::text::as_template;

    fn go(text: &str, params: &Value) -> Result<String, String> {
        fill_text(text, params, Language::Go { is_strict: true })
    }

    #[test]
    fn values_are_put_in_as_both_languages_do() {
        let params =
            json!({"cluster": "eu", "path": {"segments": ["a", "b"]}, "values.x": "1", "n": 3, "m": {"a.b": "c"}});

        let fast = |text: &str| fill_text(text, &params, Language::Fast).expect("it is filled");
        assert_eq!(fast("{{cluster}}-{{ values.x }}-{{no.such}}"), "eu-1-{{no.such}}");
        for (text, wanted) in [
            ("{{.cluster}}-shop", "eu-shop"),
            ("a {{- .cluster -}} b", "aeub"),
            ("{{ index .path.segments 1 }}", "b"),
            ("{{ index .m \"a.b\" | upper }}", "C"),
            ("{{ printf \"%s-%s\" .cluster .n }}", "eu-3"),
            ("{{ default \"x\" (index .m \"no\") }}", "x"),
            ("{{ .cluster | replace \"e\" \"E\" }}", "Eu"),
        ] {
            assert_eq!(go(text, &params).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_branches_or_has_no_value_is_told() {
        assert!(go("{{ .m }}", &json!({"m": {"a": 1}})).is_err());
        for text in ["{{ if .a }}x{{ end }}", "{{ .no }}", "{{ $x := 1 }}", "{{ .a", "{{ nosuch .a }}", "{{ , }}"] {
            assert!(go(text, &json!({"a": 1})).is_err(), "{text}");
        }
        assert_eq!(fill_text("a{{.no}}", &json!({}), Language::Go { is_strict: false }).as_deref(), Ok("a"));
    }

    #[test]
    fn what_only_a_cluster_knows_becomes_a_variable() {
        let params = json!({"name": mark("cluster.name"), "metadata": {"labels": {UNKNOWN: "cluster.labels"}}});

        let filled =
            go("{{.name}} {{.metadata.labels.env | default \"dev\"}} {{index .metadata.labels \"a/b\"}}", &params);
        let fast = fill_text("{{metadata.labels.a.b/c}}", &params, Language::Fast);

        let template = |text: Result<String, String>| as_template(&text.expect("it is filled"), Fills::All);
        assert_eq!(template(filled), "${cluster.name} ${cluster.labels.env:-dev} ${cluster.labels.a/b}");
        assert_eq!(template(fast), "${cluster.labels.a.b/c}");
        assert!(go("{{.name | upper}}", &params).is_err(), "nobody knows it yet");
    }
}
