//! Reads YAML and JSON exactly as kubectl does.
//!
//! kubectl splits a file at its `---` lines and hands each part to sigs.k8s.io/yaml, which is go-yaml v2 followed by a
//! conversion to JSON: YAML 1.1 booleans (also as keys), octals, the last of duplicate keys, `<<` in order of writing.
//! A reader with other rules would show one thing in a plan and let the cluster run another. The corpus beside this
//! crate holds it to the original; where the two differ, this one refuses or accepts more, and never reads another value.
//! (Of keys that become equal only as text, such as `1` and `"1"`, kubectl takes any, and this reader the last.)
//!
//! Files are hostile input: size, depth, nodes, documents and what aliases add are bounded, each with its reason.

mod decode;
mod edit;
mod encoding;
mod json;
mod scalar;
mod split;
mod tree;

use std::borrow::Cow;
use std::fmt;

use bellwether_core::sealed::Ordered;
use serde_json::{Map, Number, Value};

pub use decode::Budget;
pub use edit::{Edit, EditError, edit};
pub(crate) use scalar::is_go_base64;

/// The largest file. The largest public bundles of CustomResourceDefinitions have half of it.
pub const FILE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Nesting of lists and maps. Whoever reads the JSON later with serde_json stops at 128; the deepest public
/// CustomResourceDefinitions have half of it.
pub const DEPTH_MAX: usize = 100;
/// Keys and values of one file, aliases expanded. The largest public bundles have half of it; it holds memory at
/// ~50 MB, and go-yaml becomes stricter with aliases here.
pub const FILE_NODES_MAX: usize = 400_000;
/// Keys and values of all files that are read together: ~120 MB. A full bundle of objects of usual size has fewer.
pub const NODES_MAX: usize = 1_000_000;
/// Text that aliases may add to one file: go-yaml counts nodes only, and an alias of a long text is one node.
pub const FILE_ALIAS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// And to all files that are read together: a quarter of what they may have themselves.
pub const ALIAS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Documents of one file: as many objects as a bundle may have.
pub const FILE_DOCUMENTS_MAX: usize = bellwether_core::bundle::OBJECTS_MAX;

/// One document of a file that is neither empty nor null.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Where its content starts, from 1.
    pub line: u32,
    pub root: Node,
}

impl Document {
    /// As the API server is sent it.
    pub fn to_json(&self) -> Value {
        self.root.to_json()
    }
}

/// A value and where it stands. Aliases are expanded and merges done.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    line: u32,
    pub content: Content,
}

/// What a value is, as kubectl takes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Null,
    Bool(bool),
    /// Whole numbers of 64 bits with a sign are integers, everything else is a float, as in Go's unstructured objects.
    Number(Number),
    Text(Text),
    List(Vec<Node>),
    /// Sorted by key, each key once.
    Map(Vec<Entry>),
}

/// A string, and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub value: Box<str>,
    pub style: TextStyle,
}

/// How a text was written, as far as it matters for substitution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextStyle {
    /// Without quotes or tag: another text in its place could be a number or boolean.
    Plain,
    Quoted,
    /// A `|` block: its lines are lines of the file.
    Literal,
}

/// One key of a map. Keys that are written as booleans or numbers are text here, as in JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: Box<str>,
    line: u32,
    /// Where in the map it was written, from 0.
    order: u32,
    pub value: Node,
    /// It came by a `<<`.
    merged: bool,
    /// The key is written before, too, with a value that is lost.
    repeated: bool,
}

impl Entry {
    fn new(key: Box<str>, line: u32, value: Node) -> Self {
        Self { key, line, order: u32::MAX, value, merged: false, repeated: false }
    }

    /// Of the key, from 1.
    pub fn line(&self) -> u32 {
        self.line
    }
}

impl Node {
    fn new(line: usize, content: Content) -> Self {
        // A file is bounded far below 4 GiB, and so are its lines.
        Self { line: u32::try_from(line).unwrap_or(u32::MAX), content }
    }

    /// From 1.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Of a map, sorted by key; `None` for anything else.
    pub fn entries(&self) -> Option<&[Entry]> {
        if let Content::Map(entries) = &self.content { Some(entries) } else { None }
    }

    /// The value under a key; `None` when it lacks it, or is no map.
    pub fn field(&self, key: &str) -> Option<&Node> {
        let entries = self.entries()?;
        let index = entries.binary_search_by(|entry| (*entry.key).cmp(key)).ok()?;
        Some(&entries[index].value)
    }

    /// `None` for what is no string, also a number.
    pub fn text(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content { Some(&text.value) } else { None }
    }

    /// With another field, in the line of the whole; as it is when it is no map, or has the field.
    pub(crate) fn with_text(mut self, key: &str, value: &str) -> Self {
        let line = self.line;
        if let Content::Map(entries) = &mut self.content
            && let Err(index) = entries.binary_search_by(|entry| (*entry.key).cmp(key))
        {
            let text = Text { value: value.into(), style: TextStyle::Quoted };
            entries.insert(index, Entry::new(key.into(), line, Node { line, content: Content::Text(text) }));
        }
        self
    }

    /// A key that is written twice in one map, here or below: kubectl takes the last, and the other is lost. What a `<<` brings may
    /// be written over.
    pub fn repeated(&self) -> Option<&Entry> {
        match &self.content {
            Content::List(items) => items.iter().find_map(Self::repeated),
            Content::Map(entries) => {
                entries.iter().find_map(|entry| if entry.repeated { Some(entry) } else { entry.value.repeated() })
            }
            _ => None,
        }
    }

    /// As people call it in an error.
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::Null => "null",
            Content::Bool(_) => "a boolean",
            Content::Number(_) => "a number",
            Content::Text(_) => "a string",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }

    /// As it was written, key after key.
    pub(crate) fn to_ordered(&self) -> Ordered {
        match &self.content {
            Content::Null => Ordered::Null,
            Content::Bool(flag) => Ordered::Bool(*flag),
            Content::Number(number) => Ordered::Number(number.clone()),
            Content::Text(text) => Ordered::Text(text.value.to_string()),
            Content::List(items) => Ordered::List(items.iter().map(Node::to_ordered).collect()),
            Content::Map(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by_key(|entry| entry.order);
                let field = |entry: &Entry| (entry.key.to_string(), entry.value.to_ordered());
                Ordered::Map(entries.into_iter().map(field).collect())
            }
        }
    }

    /// Without the places, which JSON cannot hold.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(flag) => Value::Bool(*flag),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::from(&*text.value),
            Content::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Content::Map(entries) => {
                let fields = entries.iter().map(|entry| (entry.key.to_string(), entry.value.to_json()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }
}

/// Sorts, and keeps the last of equal keys.
fn map_of(mut entries: Vec<Entry>) -> Content {
    for (order, entry) in (0_u32..).zip(&mut entries) {
        entry.order = order;
    }
    // Stable, so that of equal keys the one written last stays last. Backwards, `dedup` then keeps it.
    entries.reverse();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    entries.dedup_by(|before, kept| {
        let is_same = before.key == kept.key;
        kept.repeated |= is_same && !before.merged && !kept.merged;
        is_same
    });
    entries.shrink_to_fit();
    Content::Map(entries)
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{at}: {problem}")]
pub struct YamlError {
    pub file: String,
    pub at: Position,
    pub problem: Problem,
}

/// A place in a file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// No variant holds a value of the file: it could be a secret, and errors are shown and logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    Syntax(String),
    #[error("the file is not UTF-8")]
    NotUtf8,
    #[error("the file begins as UTF-16 and is none")]
    IncompleteUtf16,
    #[error("a `---` line may be followed by a comment only")]
    SeparatorWithContent,
    #[error("the file has {bytes} bytes, more than {FILE_BYTES_MAX}")]
    FileTooLarge { bytes: usize },
    #[error("lists and maps are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("the file has more than {FILE_NODES_MAX} keys and values")]
    TooManyNodes,
    #[error("the files up to this one have more than {NODES_MAX} keys and values together")]
    TooManyNodesTogether,
    #[error("the file has more than {FILE_DOCUMENTS_MAX} documents")]
    TooManyDocuments,
    #[error("aliases expand to far more than the file itself")]
    TooManyAliases,
    #[error("the aliases of the files up to this one expand to more than {ALIAS_BYTES_MAX} bytes together")]
    TooManyAliasesTogether,
    #[error("the anchor's value contains itself")]
    AliasOfItself,
    #[error("a key is null")]
    NullKey,
    #[error("a key is a list or a map")]
    CollectionKey,
    #[error("a key is a whole number over 64 bits with a sign")]
    KeyTooLarge,
    #[error("the number cannot be written in JSON")]
    NumberOutOfRange,
    #[error("the `!!binary` value is not base64")]
    InvalidBinary,
    #[error("the value is not a {tag}")]
    WrongTag { tag: &'static str },
    #[error("`<<` takes a map or a list of maps")]
    MergeOfNoMap,
}

impl Problem {
    /// Stable, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::FileTooLarge { .. } | Self::TooManyNodes | Self::TooManyDocuments => "yaml_too_large",
            Self::TooManyNodesTogether | Self::TooManyAliasesTogether => "sources_too_large",
            Self::TooDeep => "yaml_too_deep",
            Self::TooManyAliases => "yaml_too_many_aliases",
            _ => "yaml_invalid",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Syntax(_) => "kubectl would not read this either; templates (`{{ }}`) belong into a Helm chart",
            Self::TooManyNodesTogether | Self::TooManyAliasesTogether => "split the target, or give it a narrower path",
            Self::NotUtf8 => "save the file as UTF-8, or encode binary content as base64",
            Self::SeparatorWithContent => "start the document on the next line",
            Self::FileTooLarge { .. } | Self::TooManyNodes | Self::TooManyDocuments => "split the file",
            Self::TooDeep => "flatten the value, or keep it as a text",
            Self::TooManyAliases | Self::AliasOfItself => "write the values out instead of using aliases",
            Self::IncompleteUtf16 => "save the file as UTF-8",
            Self::NullKey => "write the key, or quote it if it is `null` or `~`",
            Self::CollectionKey => "quote the key; a value such as `{{ x }}` is a template and must be quoted too",
            Self::KeyTooLarge => "quote the key",
            Self::NumberOutOfRange => "quote the value if it is meant as text",
            Self::InvalidBinary => "encode the value as base64, with its padding",
            Self::WrongTag { .. } => "remove the tag or correct the value",
            Self::MergeOfNoMap => "merge an anchor of a map, or quote the key if `<<` is meant as text",
        }))
    }
}

/// Reads the documents of one file. Empty, comment-only and null documents are left out.
pub fn read(file: &str, bytes: &[u8]) -> Result<Vec<Document>, YamlError> {
    read_within(file, bytes, &mut Budget::default())
}

/// The same of one of several files whose documents are kept together.
pub fn read_within(file: &str, bytes: &[u8], budget: &mut Budget) -> Result<Vec<Document>, YamlError> {
    budget.begin_file();
    read_bytes(bytes, budget).map_err(|failure| failure.of(file))
}

/// Of a stream that a program wrote: the documents of one part. Nobody could look up where in it a problem is.
pub(crate) fn read_made(text: &str, budget: &mut Budget) -> Result<Vec<Document>, Problem> {
    budget.begin_file();
    read_bytes(text.as_bytes(), budget).map_err(|failure| failure.problem)
}

/// The parts of such a stream, each with at most one document.
pub(crate) fn split_made(text: &str) -> impl Iterator<Item = Result<&str, Problem>> {
    split::split(text, 1).map(|part| part.map(|part| part.text).map_err(|failure| failure.problem))
}

/// A problem before the file's name is known.
#[derive(Debug)]
struct Failure {
    at: Position,
    problem: Problem,
}

impl Failure {
    fn new(line: usize, column: usize, problem: Problem) -> Self {
        Self { at: Position { line, column }, problem }
    }

    fn of(self, file: &str) -> YamlError {
        YamlError { file: file.to_owned(), at: self.at, problem: self.problem }
    }

    fn syntax(at: Position, message: &str) -> Self {
        Self { at, problem: Problem::Syntax(message.to_owned()) }
    }
}

fn read_bytes(bytes: &[u8], budget: &mut Budget) -> Result<Vec<Document>, Failure> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Failure::new(1, 1, Problem::FileTooLarge { bytes: bytes.len() }));
    }
    if let Some(decoded) = encoding::from_utf16(bytes) {
        let text = decoded.map_err(|problem| Failure::new(1, 1, problem))?;
        return read_yaml(&text, 1, Vec::new(), budget);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes[..error.valid_up_to()].split(|&byte| byte == b'\n');
        let (line, last) = before.enumerate().last().unwrap_or_default();
        let (line, column) = (line + 1, last.len() + 1);
        Failure::new(line, column, Problem::NotUtf8)
    })?;
    if !text.trim_start().starts_with('{') {
        return read_yaml(text, 1, Vec::new(), budget);
    }
    let stream = json::read_stream(text, budget)?;
    let Some(rest) = stream.rest else {
        return Ok(stream.documents);
    };
    let was_first = stream.documents.is_empty();
    // What is wrong with a file that is neither JSON nor YAML is better told by the reader it was written for.
    read_yaml(rest.text, rest.line, stream.documents, budget)
        .map_err(|failure| if was_first && rest.looks_like_json { rest.failure } else { failure })
}

fn read_yaml(
    text: &str,
    first_line: usize,
    mut documents: Vec<Document>,
    budget: &mut Budget,
) -> Result<Vec<Document>, Failure> {
    for (index, part) in split::split(text, first_line).enumerate() {
        let part = part?;
        // Empty ones count, as each costs a parser.
        if index + documents.len() >= 2 * FILE_DOCUMENTS_MAX {
            return Err(Failure::new(part.line, 1, Problem::TooManyDocuments));
        }
        let text = encoding::with_plain_line_ends(part.text);
        let tree = tree::parse(&split::Part { text: &text, ..part })?;
        let Some(root) = decode::decode(&tree, budget)? else {
            continue;
        };
        if documents.len() == FILE_DOCUMENTS_MAX {
            return Err(Failure::new(part.line, 1, Problem::TooManyDocuments));
        }
        documents.push(Document { line: root.line(), root });
    }
    Ok(documents)
}
