//! From the tree as written to values: aliases expanded, merges done, scalars resolved. go-yaml's second step.

use granit_parser::ScalarStyle;

use super::scalar::{Scalar, float_key, resolve_plain, resolve_tagged, to_number};
use super::tree::{NodeId, RawContent, RawNode, RawScalar, Tree};
use super::{
    ALIAS_BYTES_MAX, Content, DEPTH_MAX, Entry, FILE_ALIAS_BYTES_MAX, FILE_NODES_MAX, Failure, NODES_MAX, Node,
    Problem, Text, TextStyle, map_of,
};

const MERGE_TAG: &str = "tag:yaml.org,2002:merge";

/// What was used of the bounds: those of one file, and those of all files that are read together.
#[derive(Debug, Default)]
pub struct Budget {
    file: Used,
    together: Used,
}

#[derive(Debug, Default)]
struct Used {
    nodes: usize,
    alias_bytes: usize,
}

impl Budget {
    pub(super) fn begin_file(&mut self) {
        self.file = Used::default();
    }

    pub(super) fn take_node(&mut self) -> Result<(), Problem> {
        self.file.nodes += 1;
        self.together.nodes += 1;
        if self.file.nodes > FILE_NODES_MAX {
            return Err(Problem::TooManyNodes);
        }
        if self.together.nodes > NODES_MAX { Err(Problem::TooManyNodesTogether) } else { Ok(()) }
    }

    fn take_alias_bytes(&mut self, bytes: usize) -> Result<(), Problem> {
        self.file.alias_bytes += bytes;
        self.together.alias_bytes += bytes;
        if self.file.alias_bytes > FILE_ALIAS_BYTES_MAX {
            return Err(Problem::TooManyAliases);
        }
        if self.together.alias_bytes > ALIAS_BYTES_MAX { Err(Problem::TooManyAliasesTogether) } else { Ok(()) }
    }
}

/// The document's value; `None` if it is null or there is none.
pub(super) fn decode(tree: &Tree<'_>, budget: &mut Budget) -> Result<Option<Node>, Failure> {
    let Some(root) = tree.root() else {
        return Ok(None);
    };
    let raw = tree.node(root);
    if let RawContent::Scalar(scalar) = &raw.content
        && matches!(scalar.style, ScalarStyle::Literal | ScalarStyle::Folded)
    {
        // YAML 1.1 and 1.2 differ in how far such a text goes, and no object is one.
        return Err(Failure::syntax(raw.at, "a document is a block of text"));
    }
    let mut decoder = Decoder { tree, budget, steps: 0, alias_steps: 0, alias_depth: 0 };
    let node = decoder.decode(root, 0)?;
    Ok((node.content != Content::Null).then_some(node))
}

struct Decoder<'d, 't> {
    tree: &'d Tree<'t>,
    budget: &'d mut Budget,
    /// go-yaml's own counters against alias bombs, so that it and we refuse the same documents.
    steps: usize,
    alias_steps: usize,
    alias_depth: usize,
}

impl<'d, 't> Decoder<'d, 't> {
    fn decode(&mut self, id: NodeId, depth: usize) -> Result<Node, Failure> {
        let raw = self.node(id);
        let here = |problem| Failure { at: raw.at, problem };
        self.count().map_err(here)?;
        if depth > DEPTH_MAX {
            return Err(here(Problem::TooDeep));
        }
        let content = match &raw.content {
            RawContent::Alias(target) => return self.decode_alias(*target, depth),
            RawContent::Scalar(scalar) => {
                if self.alias_depth > 0 {
                    self.count_alias_bytes(scalar.text.len()).map_err(here)?;
                }
                resolve(scalar).map_err(here)?
            }
            RawContent::List(items) => {
                let items = items.iter().map(|&item| self.decode(item, depth + 1));
                Content::List(items.collect::<Result<_, _>>()?)
            }
            RawContent::Map(pairs) => {
                let mut entries = Vec::with_capacity(pairs.len());
                self.decode_map(pairs, depth, &mut entries)?;
                map_of(entries)
            }
        };
        Ok(Node::new(content_line(raw), content))
    }

    fn decode_alias(&mut self, target: NodeId, depth: usize) -> Result<Node, Failure> {
        self.alias_depth += 1;
        let node = self.decode(target, depth);
        self.alias_depth -= 1;
        node
    }

    /// In order of writing: a `<<` overrides the keys above it, as in kubectl.
    fn decode_map(
        &mut self,
        pairs: &[(NodeId, NodeId)],
        depth: usize,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Failure> {
        for &(key, value) in pairs {
            if is_merge(self.node(key)) {
                self.merge(value, depth, entries)?;
                continue;
            }
            let raw = self.node(key);
            let key = self.decode_key(key, depth)?;
            let value = self.decode(value, depth + 1)?;
            entries.push(Entry::new(key, u32::try_from(raw.at.line).unwrap_or(u32::MAX), value));
        }
        Ok(())
    }

    fn merge(&mut self, value: NodeId, depth: usize, entries: &mut Vec<Entry>) -> Result<(), Failure> {
        if let RawContent::List(items) = &self.node(value).content {
            // Backwards, as earlier maps take precedence.
            return items.iter().rev().try_for_each(|&item| self.merge_map(item, depth, entries));
        }
        self.merge_map(value, depth, entries)
    }

    fn merge_map(&mut self, id: NodeId, depth: usize, entries: &mut Vec<Entry>) -> Result<(), Failure> {
        let raw = self.node(id);
        let target = if let RawContent::Alias(target) = raw.content { target } else { id };
        if !matches!(self.node(target).content, RawContent::Map(_)) {
            return Err(Failure { at: raw.at, problem: Problem::MergeOfNoMap });
        }
        if let Content::Map(merged) = self.decode(id, depth)?.content {
            entries.extend(merged.into_iter().map(|entry| Entry { merged: true, ..entry }));
        }
        Ok(())
    }

    fn decode_key(&mut self, id: NodeId, depth: usize) -> Result<Box<str>, Failure> {
        let raw = self.node(id);
        let here = |problem| Failure { at: raw.at, problem };
        let target = if let RawContent::Alias(target) = raw.content { self.node(target) } else { raw };
        let RawContent::Scalar(scalar) = &target.content else {
            return Err(here(Problem::CollectionKey));
        };
        if let Scalar::Float(number) = resolve_scalar(scalar).map_err(here)? {
            self.count().map_err(here)?;
            return Ok(float_key(number).into());
        }
        match self.decode(id, depth + 1)?.content {
            Content::Text(text) => Ok(text.value),
            Content::Bool(flag) => Ok(flag.to_string().into()),
            Content::Number(number) if number.is_i64() => Ok(number.to_string().into()),
            Content::Number(_) => Err(here(Problem::KeyTooLarge)),
            Content::Null => Err(here(Problem::NullKey)),
            Content::List(_) | Content::Map(_) => Err(here(Problem::CollectionKey)),
        }
    }

    fn node(&self, id: NodeId) -> &'d RawNode<'t> {
        self.tree.node(id)
    }

    fn count(&mut self) -> Result<(), Problem> {
        self.budget.take_node()?;
        self.steps += 1;
        if self.alias_depth > 0 {
            self.alias_steps += 1;
        }
        if self.alias_steps > 100 && self.steps > 1000 && has_too_many_aliases(self.steps, self.alias_steps) {
            return Err(Problem::TooManyAliases);
        }
        Ok(())
    }

    fn count_alias_bytes(&mut self, bytes: usize) -> Result<(), Problem> {
        self.budget.take_alias_bytes(bytes)
    }
}

/// go-yaml's rule below 400,000 steps: at most 99 of 100 may come from aliases. Beyond, [`FILE_NODES_MAX`] is stricter.
fn has_too_many_aliases(steps: usize, alias_steps: usize) -> bool {
    alias_steps.saturating_mul(100) > steps.saturating_mul(99)
}

fn is_merge(raw: &RawNode<'_>) -> bool {
    let RawContent::Scalar(scalar) = &raw.content else {
        return false;
    };
    let may_merge = match scalar.tag.as_deref() {
        None => scalar.style == ScalarStyle::Plain,
        // A lone `!` makes any scalar implicit to go-yaml, which asks for no more.
        Some(tag) => tag == MERGE_TAG || tag == "!",
    };
    may_merge && scalar.text == "<<"
}

/// The line of the value itself. The parser puts a `|` block where its text starts, after empty lines that belong to it.
fn content_line(raw: &RawNode<'_>) -> usize {
    match &raw.content {
        RawContent::Scalar(scalar) if scalar.style == ScalarStyle::Literal => {
            let empty_lines = scalar.text.bytes().take_while(|&byte| byte == b'\n').count();
            raw.at.line.saturating_sub(empty_lines).max(1)
        }
        _ => raw.at.line,
    }
}

fn resolve_scalar(scalar: &RawScalar<'_>) -> Result<Scalar, Problem> {
    match &scalar.tag {
        Some(tag) => resolve_tagged(tag, &scalar.text),
        None if scalar.style == ScalarStyle::Plain => Ok(resolve_plain(&scalar.text)),
        None => Ok(Scalar::Text),
    }
}

fn resolve(scalar: &RawScalar<'_>) -> Result<Content, Problem> {
    let style = match scalar.style {
        ScalarStyle::Plain if scalar.tag.is_none() => TextStyle::Plain,
        ScalarStyle::Literal => TextStyle::Literal,
        _ => TextStyle::Quoted,
    };
    content_of(&resolve_scalar(scalar)?, &scalar.text, style)
}

fn content_of(scalar: &Scalar, text: &str, style: TextStyle) -> Result<Content, Problem> {
    Ok(match scalar {
        Scalar::Null => Content::Null,
        Scalar::Bool(flag) => Content::Bool(*flag),
        Scalar::Text => Content::Text(Text { value: text.into(), style }),
        Scalar::Decoded(text) => Content::Text(Text { value: text.as_str().into(), style: TextStyle::Quoted }),
        Scalar::Int(_) | Scalar::Uint(_) | Scalar::Float(_) => Content::Number(to_number(scalar)?),
    })
}
