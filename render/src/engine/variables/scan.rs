//! The forms of a reference, from text to pieces.
//!
//! It knows no values. Neighbours: `functions` says what the forms make of one.

use bellwether_core::parameters::{is_clusters_own, is_parameter_name};

use super::functions::{Casing, Replaced, Side};
use super::{Function, Malformed, Piece, Reference, Template, push_text};
use crate::engine::fill::Fills;

/// How deep a default or an argument may hold another reference; Flux's users go to two.
const DEPTH_MAX: usize = 8;

/// Where an argument ends, and how it says that it does not.
#[derive(Clone, Copy)]
struct Argument {
    ends: &'static [char],
    /// `\/`, `\\` and `$$` are one character each.
    has_escapes: bool,
}

/// Of no reference: it ends with the text.
const WHOLE: Argument = Argument { ends: &[], has_escapes: false };
const WORD: Argument = Argument { ends: &['}'], has_escapes: false };
const OFFSET: Argument = Argument { ends: &[':', '}'], has_escapes: false };
const REPLACED: Argument = Argument { ends: &['/'], has_escapes: true };
const REPLACEMENT: Argument = Argument { ends: &['}'], has_escapes: true };

/// The longer before what it begins with.
const OPERATORS: [&str; 17] =
    [":-", ":=", ":?", ":+", ":", "=", "^^", "^", ",,", ",", "##", "#", "%%", "%", "//", "/#", "/%"];

pub(super) struct Scanner<'t> {
    text: &'t str,
    offset: usize,
    fills: Fills,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str, fills: Fills) -> Self {
        Self { text, offset: 0, fills }
    }

    pub(super) fn whole(mut self) -> Result<Template<'t>, Malformed<'t>> {
        self.template(WHOLE, None, 0)
    }

    fn rest(&self) -> &'t str {
        &self.text[self.offset..]
    }

    /// Up to the end of the text, or inside a reference up to the end of the argument.
    fn template(
        &mut self,
        argument: Argument,
        of: Option<Malformed<'t>>,
        depth: usize,
    ) -> Result<Template<'t>, Malformed<'t>> {
        let mut pieces = Vec::new();
        // Of what is escaped in an argument: each has an end of its own, which is not the argument's.
        let mut escaped = 0_usize;
        loop {
            let rest = self.rest();
            let is_stop = |c: char| c == '$' || (c == '\\' && argument.has_escapes) || argument.ends.contains(&c);
            let plain = rest.find(is_stop).unwrap_or(rest.len());
            push_text(&mut pieces, &rest[..plain]);
            self.offset += plain;
            let rest = &rest[plain..];
            if argument.has_escapes && [r"\/", r"\\", "$$"].iter().any(|escape| rest.starts_with(escape)) {
                push_text(&mut pieces, &rest[1..2]);
                self.offset += 2;
            } else if rest.starts_with("$${") && self.may_take(&rest[1..], depth) {
                push_text(&mut pieces, "${");
                self.offset += "$${".len();
                escaped += usize::from(of.is_some());
            } else if escaped > 0 && rest.starts_with('}') {
                push_text(&mut pieces, "}");
                self.offset += 1;
                escaped -= 1;
            } else if let Some(head) = head(rest).filter(|_| self.may_take(rest, depth)) {
                pieces.push(Piece::Reference(self.reference(head, depth)?));
            } else if let Some(malformed) = of.filter(|_| rest.starts_with("${")) {
                // Whose `}` ends what, nobody could tell.
                return Err(malformed);
            } else if rest.starts_with(['$', '\\']) {
                push_text(&mut pieces, &rest[..1]);
                self.offset += 1;
            } else {
                return Ok(Template { pieces });
            }
        }
    }

    /// What is not the cluster's own may be text. In an argument it is not: where that ends, its references tell.
    fn may_take(&self, rest: &str, depth: usize) -> bool {
        self.fills == Fills::All || depth > 0 || is_of_the_cluster(rest)
    }

    fn reference(&mut self, head: Head<'t>, depth: usize) -> Result<Reference<'t>, Malformed<'t>> {
        let Head { name, is_length } = head;
        let offset = self.offset;
        let malformed = Malformed { name, offset };
        self.offset += "${".len() + usize::from(is_length) + name.len();
        let function = if is_length { Function::Length } else { self.function(malformed, depth)? };
        if !self.rest().starts_with('}') {
            return Err(malformed);
        }
        self.offset += 1;
        Ok(Reference { name, function, offset })
    }

    fn function(&mut self, malformed: Malformed<'t>, depth: usize) -> Result<Function<'t>, Malformed<'t>> {
        let rest = self.rest();
        if depth == DEPTH_MAX || rest.starts_with('}') {
            return Ok(Function::None);
        }
        let known = OPERATORS.iter().copied().chain(["/"]).find(|operator| rest.starts_with(operator));
        let operator = known.ok_or(malformed)?;
        self.offset += operator.len();
        let case = |is_upper, is_whole| Ok(Function::Case(Casing { is_upper, is_whole }));
        match operator {
            ":-" | ":=" | "=" => self.template(WORD, Some(malformed), depth + 1).map(Function::Default),
            ":?" => self.template(WORD, Some(malformed), depth + 1).map(|_| Function::Required),
            // Flux takes it for a default, and a shell for the opposite.
            ":+" => Err(malformed),
            ":" => self.part(malformed, depth),
            "^^" => case(true, true),
            "^" => case(true, false),
            ",," => case(false, true),
            "," => case(false, false),
            "##" | "#" | "%%" | "%" => {
                let side = if operator.starts_with('#') { Side::Start } else { Side::End };
                let pattern = self.argument(WORD, malformed, depth)?;
                Ok(Function::Without { pattern, side, most: operator.len() == 2 })
            }
            "//" => self.replaced(Replaced::Every, malformed, depth),
            "/#" => self.replaced(Replaced::At(Side::Start), malformed, depth),
            "/%" => self.replaced(Replaced::At(Side::End), malformed, depth),
            _ => self.replaced(Replaced::First, malformed, depth),
        }
    }

    fn part(&mut self, malformed: Malformed<'t>, depth: usize) -> Result<Function<'t>, Malformed<'t>> {
        let offset = self.number(OFFSET, malformed, depth)?;
        if !self.rest().starts_with(':') {
            return Ok(Function::Part { offset, length: None });
        }
        self.offset += 1;
        let length = Some(self.number(WORD, malformed, depth)?);
        Ok(Function::Part { offset, length })
    }

    /// Flux gives back the whole value if it is none, so that nobody sees the mistake: `${env:NAME}` is somebody else's.
    fn number(&mut self, how: Argument, malformed: Malformed<'t>, depth: usize) -> Result<Template<'t>, Malformed<'t>> {
        let argument = self.argument(how, malformed, depth)?;
        match argument.pieces.as_slice() {
            [Piece::Text(text)] if text.parse::<i64>().is_err() => Err(malformed),
            _ => Ok(argument),
        }
    }

    fn replaced(
        &mut self,
        which: Replaced,
        malformed: Malformed<'t>,
        depth: usize,
    ) -> Result<Function<'t>, Malformed<'t>> {
        let pattern = self.argument(REPLACED, malformed, depth)?;
        let rest = self.rest();
        let by = rest.trim_start_matches('/');
        if by.len() == rest.len() {
            return Err(malformed);
        }
        self.offset += rest.len() - by.len();
        let by = if by.starts_with('}') { None } else { Some(self.argument(REPLACEMENT, malformed, depth)?) };
        Ok(Function::Replaced { pattern, by, which })
    }

    /// One that is written; it may come to nothing.
    fn argument(
        &mut self,
        argument: Argument,
        malformed: Malformed<'t>,
        depth: usize,
    ) -> Result<Template<'t>, Malformed<'t>> {
        let template = self.template(argument, Some(malformed), depth + 1)?;
        if template.pieces.is_empty() { Err(malformed) } else { Ok(template) }
    }
}

/// What a reference begins with.
#[derive(Clone, Copy)]
struct Head<'t> {
    name: &'t str,
    is_length: bool,
}

/// `None` if there is no reference at the start of a text, and then the `$` is only a `$`.
fn head(text: &str) -> Option<Head<'_>> {
    let inner = text.strip_prefix("${")?;
    let (inner, is_length) = inner.strip_prefix('#').map_or((inner, false), |inner| (inner, true));
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && !"_.-/".contains(c)).unwrap_or(inner.len());
    let run = &inner[..end];
    let first = run.split('/').next().unwrap_or_default();
    // A key of a label or annotation may have one `/`, before a letter or digit; any other is a function's.
    let after =
        run[first.len()..].strip_prefix('/').filter(|after| after.starts_with(|c: char| c.is_ascii_alphanumeric()));
    let key = after.map_or(first, |after| &run[..=first.len() + after.split('/').next().unwrap_or_default().len()]);
    let name = [key, first].into_iter().find(|name| is_parameter_name(name))?;
    Some(Head { name, is_length })
}

pub(super) fn is_of_the_cluster(text: &str) -> bool {
    head(text).is_some_and(|head| is_clusters_own(head.name))
}
