//! JSON, which kubectl reads with Go's own decoder if a file's first character is `{`: tabs may indent, `\/` and
//! surrogate pairs are escapes, values may follow each other without a separator.

use super::decode::Budget;
use super::scalar::{Scalar, to_number};
use super::{
    Content, DEPTH_MAX, Document, Entry, FILE_DOCUMENTS_MAX, Failure, Node, Position, Problem, Text, TextStyle, map_of,
};

pub(super) struct Stream<'t> {
    pub(super) documents: Vec<Document>,
    /// What is to be read as YAML instead.
    pub(super) rest: Option<Rest<'t>>,
}

pub(super) struct Rest<'t> {
    pub(super) text: &'t str,
    pub(super) line: usize,
    /// Why it is not JSON.
    pub(super) failure: Failure,
    pub(super) looks_like_json: bool,
}

/// Reads values until one is no JSON. After two values the file is held to be JSON to its end; before, kubectl goes on
/// with YAML.
pub(super) fn read_stream<'t>(text: &'t str, budget: &mut Budget) -> Result<Stream<'t>, Failure> {
    let mut reader = Reader { text, offset: 0, line: 1, line_start: 0, budget };
    let mut documents = Vec::new();
    loop {
        let (start, start_line) = (reader.offset, reader.line);
        reader.skip_space();
        if reader.peek().is_none() {
            return Ok(Stream { documents, rest: None });
        }
        match reader.value(0) {
            Ok(Node { content: Content::Null, .. }) => {}
            Ok(_) if documents.len() == FILE_DOCUMENTS_MAX => return Err(reader.failure(Problem::TooManyDocuments)),
            Ok(root) => documents.push(Document { line: root.line(), root }),
            Err(failure) => {
                if documents.len() > 1 || !matches!(failure.problem, Problem::Syntax(_)) {
                    return Err(failure);
                }
                let (text, line) = after_line_end(&text[start..], start_line);
                // JSON has no plain words: a `"` right after the first brace is JSON with a slip in it.
                let looks_like_json =
                    text.trim_start().strip_prefix('{').is_some_and(|inner| inner.trim_start().starts_with(['"', '}']));
                return Ok(Stream { documents, rest: Some(Rest { text, line, failure, looks_like_json }) });
            }
        }
    }
}

/// kubectl passes over white space up to and with the first line end before it turns to YAML.
fn after_line_end(text: &str, line: usize) -> (&str, usize) {
    let space = text.len() - text.trim_start().len();
    match text[..space].find('\n') {
        Some(end) => (&text[end + 1..], line + 1),
        None => (&text[space..], line),
    }
}

struct Reader<'t, 'b> {
    text: &'t str,
    offset: usize,
    line: usize,
    line_start: usize,
    budget: &'b mut Budget,
}

impl Reader<'_, '_> {
    fn value(&mut self, depth: usize) -> Result<Node, Failure> {
        if depth > DEPTH_MAX {
            return Err(self.failure(Problem::TooDeep));
        }
        self.budget.take_node().map_err(|problem| self.failure(problem))?;
        let line = self.line;
        let content = match self.peek() {
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Content::Text(Text { value: self.string()?.into(), style: TextStyle::Quoted }),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node::new(line, content))
    }

    fn map(&mut self, depth: usize) -> Result<Content, Failure> {
        let mut entries = Vec::new();
        self.offset += 1;
        self.skip_space();
        if self.eat(b'}') {
            return Ok(Content::Map(entries));
        }
        loop {
            self.skip_space();
            let line = u32::try_from(self.line).unwrap_or(u32::MAX);
            if self.peek() != Some(b'"') {
                return Err(self.syntax("expected a key in double quotes"));
            }
            self.budget.take_node().map_err(|problem| self.failure(problem))?;
            let key = self.string()?.into();
            self.skip_space();
            if !self.eat(b':') {
                return Err(self.syntax("expected `:` after a key"));
            }
            self.skip_space();
            entries.push(Entry::new(key, line, self.value(depth + 1)?));
            self.skip_space();
            if self.eat(b'}') {
                return Ok(map_of(entries));
            }
            if !self.eat(b',') {
                return Err(self.syntax("expected `,` or `}`"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Content, Failure> {
        let mut items = Vec::new();
        self.offset += 1;
        self.skip_space();
        if self.eat(b']') {
            return Ok(Content::List(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(Content::List(items));
            }
            if !self.eat(b',') {
                return Err(self.syntax("expected `,` or `]`"));
            }
        }
    }

    fn string(&mut self) -> Result<String, Failure> {
        self.offset += 1;
        let mut text = String::new();
        loop {
            let rest = &self.text[self.offset..];
            let Some(plain) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') else {
                return Err(self.syntax("a string does not end"));
            };
            text.push_str(&rest[..plain]);
            self.offset += plain;
            match self.peek() {
                Some(b'"') => {
                    self.offset += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                _ => return Err(self.syntax("a control character in a string must be escaped")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Failure> {
        self.offset += 1;
        let letter = self.peek();
        self.offset += 1;
        let escaped = match letter {
            Some(letter @ (b'"' | b'\\' | b'/')) => char::from(letter),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => {
                self.offset -= 1;
                return Err(self.syntax("unknown escape"));
            }
        };
        Ok(escaped)
    }

    /// Half a surrogate pair is U+FFFD, as in Go.
    fn unicode_escape(&mut self) -> Result<char, Failure> {
        let Some(high) = self.hex_digits() else {
            return Err(self.syntax("`\\u` needs four hexadecimal digits"));
        };
        if let Some(character) = char::from_u32(high) {
            return Ok(character);
        }
        let mark = self.offset;
        if (0xD800..0xDC00).contains(&high)
            && self.text[self.offset..].starts_with("\\u")
            && let Some(low) = {
                self.offset += 2;
                self.hex_digits()
            }
            && (0xDC00..0xE000).contains(&low)
            && let Some(character) = char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))
        {
            return Ok(character);
        }
        self.offset = mark;
        Ok('\u{FFFD}')
    }

    fn hex_digits(&mut self) -> Option<u32> {
        let digits = self.text.get(self.offset..self.offset + 4)?;
        let number = digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16))?;
        self.offset += 4;
        number.ok()
    }

    fn number(&mut self) -> Result<Content, Failure> {
        let rest = &self.text[self.offset..];
        let end = number_end(rest).ok_or_else(|| self.syntax("a number is not written as JSON has it"))?;
        let digits = &rest[..end];
        let scalar = match digits.parse::<i64>() {
            Ok(number) => Scalar::Int(number),
            Err(_) => Scalar::Float(digits.parse().unwrap_or(f64::INFINITY)),
        };
        let number = to_number(&scalar).map_err(|problem| self.failure(problem))?;
        self.offset += end;
        Ok(Content::Number(number))
    }

    fn word(&mut self) -> Result<Content, Failure> {
        for (word, content) in [("true", Content::Bool(true)), ("false", Content::Bool(false)), ("null", Content::Null)]
        {
            if self.text[self.offset..].starts_with(word) {
                self.offset += word.len();
                return Ok(content);
            }
        }
        Err(self.syntax("expected a value"))
    }

    fn skip_space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.offset += 1;
            if byte == b'\n' {
                self.line += 1;
                self.line_start = self.offset;
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.offset += usize::from(is_next);
        is_next
    }

    fn syntax(&self, message: &str) -> Failure {
        Failure::syntax(self.position(), message)
    }

    fn failure(&self, problem: Problem) -> Failure {
        Failure { at: self.position(), problem }
    }

    fn position(&self) -> Position {
        let before = self.text.get(self.line_start..self.offset).unwrap_or_default();
        Position { line: self.line, column: 1 + before.chars().count() }
    }
}

/// The length of the JSON number at the start of a text.
fn number_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let digits_from = |start: usize| bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = usize::from(text.starts_with('-'));
    let whole = digits_from(end);
    if whole == 0 || (whole > 1 && bytes[end] == b'0') {
        return None;
    }
    end += whole;
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits_from(end + 1);
        end += 1 + fraction;
        (fraction > 0).then_some(())?;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        end += 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits_from(end.min(bytes.len()));
        (exponent > 0).then_some(())?;
        end += exponent;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use crate::yaml::read;

    fn json(text: &str) -> String {
        let documents = read("a.json", text.as_bytes()).expect("can be read");
        documents.iter().map(|document| document.to_json().to_string()).collect()
    }

    #[test]
    fn escapes_are_those_of_json() {
        assert_eq!(json(r#"{"a":"\ud83d\ude00\/\u0041\ud800\u0041"}"#), "{\"a\":\"😀/A\u{FFFD}A\"}");
    }

    #[test]
    fn a_slip_in_json_is_told_in_terms_of_json() {
        let error = read("a.json", b"{\n  \"a\": 1\n  \"b\": 2\n}").expect_err("a comma is missing");

        assert_eq!(error.to_string(), "a.json:3:3: expected `,` or `}`");
    }

    #[test]
    fn lines_are_counted_through_a_stream() {
        let documents = read("a.json", b"{}\n\n{\n\"a\": 1}\n").expect("can be read");

        assert_eq!(documents.iter().map(|document| document.line).collect::<Vec<_>>(), [1, 3]);
    }
}
