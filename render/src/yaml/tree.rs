//! From the parser's events to a tree in which aliases, merges and scalars are still as written: go-yaml's first step.
//!
//! The parser is young and has one author, so this is the only file that knows it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span, StructureStyle, Tag};

use super::split::Part;
use super::{FILE_NODES_MAX, Failure, Position, Problem};

/// The nodes of one document. Children stand before their parents.
#[derive(Debug, Default)]
pub(super) struct Tree<'t> {
    nodes: Vec<RawNode<'t>>,
    root: Option<NodeId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(usize);

#[derive(Debug)]
pub(super) struct RawNode<'t> {
    pub(super) at: Position,
    pub(super) content: RawContent<'t>,
}

#[derive(Debug)]
pub(super) enum RawContent<'t> {
    Scalar(RawScalar<'t>),
    List(Vec<NodeId>),
    Map(Vec<(NodeId, NodeId)>),
    Alias(NodeId),
}

#[derive(Debug)]
pub(super) struct RawScalar<'t> {
    pub(super) text: Cow<'t, str>,
    pub(super) style: ScalarStyle,
    /// In full, such as `tag:yaml.org,2002:str`.
    pub(super) tag: Option<String>,
}

impl<'t> Tree<'t> {
    pub(super) fn root(&self) -> Option<NodeId> {
        self.root
    }

    pub(super) fn node(&self, id: NodeId) -> &RawNode<'t> {
        &self.nodes[id.0]
    }

    fn add(&mut self, at: Position, content: RawContent<'t>) -> NodeId {
        self.nodes.push(RawNode { at, content });
        NodeId(self.nodes.len() - 1)
    }
}

/// A list or map whose end has not been seen.
struct Open {
    at: Position,
    anchor: usize,
    style: StructureStyle,
    is_map: bool,
    children: Vec<NodeId>,
}

/// Reads the first document of a part; kubectl does not look at what follows a `...` line.
pub(super) fn parse<'t>(part: &Part<'t>) -> Result<Tree<'t>, Failure> {
    check_characters(part)?;
    let mut separators = Separators::of(part.text);
    let options = granit_parser::options! { emit_comments: false };
    let parser = Parser::new_from_str_with_options(part.text, options);
    let mut builder = Builder { text: part.text, first_line: part.line, ..Builder::default() };
    for next in parser {
        let (event, span) = next.map_err(|error| builder.failure(&error))?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        if let Event::Scalar(_, style, ..) = &event {
            separators.pass(part.text, *style, span);
        }
        builder.take(event, span)?;
    }
    if separators.left > 0 { Err(separator_failure(part)) } else { Ok(builder.tree) }
}

/// Where a text is written that has a line of its own or stands within one, and how.
#[derive(Debug)]
pub(super) struct ScalarPlace {
    /// Of the part, with its quotes.
    pub(super) bytes: Range<usize>,
    pub(super) style: ScalarStyle,
}

/// Of a part that can be read, all of its first document; of blocks (`|`, `>`) none.
pub(super) fn scalar_places(part: &Part<'_>) -> HashMap<Position, ScalarPlace> {
    let options = granit_parser::options! { emit_comments: false };
    let events = Parser::new_from_str_with_options(part.text, options).map_while(Result::ok);
    let builder = Builder { first_line: part.line, ..Builder::default() };
    let scalars = events.take_while(|(event, _)| !matches!(event, Event::DocumentEnd)).filter_map(|(event, span)| {
        let Event::Scalar(_, style, ..) = event else { return None };
        let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let bytes = span.start.byte_offset()?..span.end.byte_offset()?;
        (!is_block).then(|| (builder.position(span.start), ScalarPlace { bytes, style }))
    });
    scalars.collect()
}

#[derive(Default)]
struct Builder<'t> {
    text: &'t str,
    first_line: usize,
    tree: Tree<'t>,
    open: Vec<Open>,
    anchors: HashMap<usize, NodeId>,
}

impl<'t> Builder<'t> {
    fn take(&mut self, event: Event<'t>, span: Span) -> Result<(), Failure> {
        let at = self.position(span.start);
        if self.tree.nodes.len() > FILE_NODES_MAX {
            return Err(Failure { at, problem: Problem::TooManyNodes });
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if style == ScalarStyle::Plain && self.is_in_flow() {
                    self.check_flow_scalar(&text, span)?;
                }
                let tag = tag.as_deref().map(full_tag);
                // The parser writes a value that is not there as `~`; nothing but null either way.
                let id = self.tree.add(at, RawContent::Scalar(RawScalar { text, style, tag }));
                self.place(id, anchor);
            }
            Event::SequenceStart(style, anchor, _) => {
                self.open.push(Open { at, anchor, style, is_map: false, children: Vec::new() });
            }
            Event::MappingStart(style, anchor, _) => {
                self.open.push(Open { at, anchor, style, is_map: true, children: Vec::new() });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Err(Failure::syntax(at, "a list or map ends that did not start"));
                };
                let content = if open.is_map { pairs(&open.children) } else { RawContent::List(open.children) };
                let id = self.tree.add(open.at, content);
                self.place(id, open.anchor);
            }
            Event::Alias(anchor) => {
                // The parser knows the anchor; only one that is still open has no node yet.
                let Some(&target) = self.anchors.get(&anchor) else {
                    return Err(Failure { at, problem: Problem::AliasOfItself });
                };
                let id = self.tree.add(at, RawContent::Alias(target));
                self.place(id, 0);
            }
            _ => {}
        }
        Ok(())
    }

    fn is_in_flow(&self) -> bool {
        self.open.last().is_some_and(|open| open.style == StructureStyle::Flow)
    }

    /// Refuses what YAML 1.1 and 1.2 read differently between brackets: `{?a: 1}`, where the `?` is part of the key or
    /// not, and `{a:}`, where the `:` is.
    fn check_flow_scalar(&self, text: &str, span: Span) -> Result<(), Failure> {
        let at = self.position(span.start);
        if text.starts_with('?') {
            return Err(Failure::syntax(at, "a text between brackets that starts with `?` must be quoted"));
        }
        let rest = span.end.byte_offset().and_then(|end| self.text.get(end..)).unwrap_or_default();
        let after_colon = rest.trim_start().strip_prefix(':');
        if after_colon.is_some_and(|after| after.starts_with([',', '[', ']', '{', '}'])) {
            return Err(Failure::syntax(at, "a `:` between brackets must be followed by a space"));
        }
        Ok(())
    }

    fn place(&mut self, id: NodeId, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(id),
            None => self.tree.root = Some(id),
        }
    }

    fn position(&self, mark: Marker) -> Position {
        Position { line: self.first_line + mark.line().saturating_sub(1), column: mark.col() + 1 }
    }

    fn failure(&self, error: &ScanError) -> Failure {
        let at = self.position(*error.marker());
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => Failure { at, problem: Problem::TooDeep },
            _ => Failure::syntax(at, &error.info()),
        }
    }
}

/// Refuses what go-yaml refuses, in comments too, and line ends that only one of YAML 1.1 and 1.2 knows: what is the
/// rest of a comment to one of them is content to the other.
fn check_characters(part: &Part<'_>) -> Result<(), Failure> {
    let content = part.text.strip_prefix('\u{FEFF}').unwrap_or(part.text);
    let Some((offset, character)) = content.char_indices().find(|&(_, character)| !may_stand(character)) else {
        return Ok(());
    };
    let before = &content[..offset];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let at =
        Position { line: part.line + before.matches('\n').count(), column: 1 + before[line_start..].chars().count() };
    let code = u32::from(character);
    Err(Failure::syntax(at, &format!("character U+{code:04X} must be written as an escape in double quotes")))
}

/// U+2028 and U+2029 end a line in YAML 1.1, where the next one's start is content, and are text in YAML 1.2. Between
/// quotes and without white space beside them both read the same; everywhere else they are refused, above all in comments.
struct Separators {
    left: usize,
}

impl Separators {
    fn of(text: &str) -> Self {
        Self { left: text.matches(is_separator).count() }
    }

    fn pass(&mut self, text: &str, style: ScalarStyle, span: Span) {
        if self.left == 0 || !matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted) {
            return;
        }
        let written =
            span.start.byte_offset().zip(span.end.byte_offset()).and_then(|(start, end)| text.get(start..end));
        let written = written.unwrap_or_default();
        let stands_alone = |&(offset, separator): &(usize, &str)| {
            let (before, after) = (&written[..offset], &written[offset + separator.len()..]);
            !before.ends_with(is_blank) && !after.starts_with(is_blank)
        };
        self.left -= written.match_indices(is_separator).filter(stands_alone).count().min(self.left);
    }
}

fn separator_failure(part: &Part<'_>) -> Failure {
    let rows = part.text.split('\n').enumerate();
    let mut places = rows.map(|(row, text)| Some((row, text[..text.find(is_separator)?].chars().count())));
    let first = places.find_map(|place| place);
    let (row, column) = first.unwrap_or_default();
    let at = Position { line: part.line + row, column: column + 1 };
    Failure::syntax(at, "U+2028 and U+2029 may stand between quotes, without white space beside them, or as escapes")
}

fn is_separator(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}')
}

/// What is folded at a line end, the `\\` that stops it included.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\\') || is_separator(character)
}

fn may_stand(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' | ' '..='~' => true,
        '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}' => false,
        other => other >= '\u{A0}',
    }
}

fn pairs<'t>(children: &[NodeId]) -> RawContent<'t> {
    RawContent::Map(children.as_chunks().0.iter().map(|&[key, value]| (key, value)).collect())
}

fn full_tag(tag: &Tag) -> String {
    let (handle, suffix) = tag.parts();
    format!("{handle}{suffix}")
}
