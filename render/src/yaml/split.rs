//! Cuts a stream at its `---` lines, before anything is parsed: kubectl's first step, so that a `---` at the start of a
//! line ends a document even inside a block of text.

use super::{Failure, Problem};

/// A part of a file that may hold one document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'t> {
    /// The line in the file of its first line, from 1.
    pub(super) line: usize,
    pub(super) text: &'t str,
}

pub(super) fn split(text: &str, first_line: usize) -> impl Iterator<Item = Result<Part<'_>, Failure>> {
    Parts { rest: Some(text), line: first_line }
}

struct Parts<'t> {
    rest: Option<&'t str>,
    line: usize,
}

impl<'t> Iterator for Parts<'t> {
    type Item = Result<Part<'t>, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.take()?;
        let line = self.line;
        let mut end = 0;
        for row in text.split_inclusive('\n') {
            if let Some(after) = row.strip_prefix("---") {
                let after = after.trim();
                if !after.is_empty() && !after.starts_with('#') {
                    return Some(Err(Failure::new(self.line, 4, Problem::SeparatorWithContent)));
                }
                // With nothing before it, the line opens a document instead, and is part of it: to the parser, a glued
                // `---#` is no marker.
                if end > 0 {
                    self.rest = Some(&text[end + row.len()..]);
                    self.line += 1;
                    break;
                }
            }
            end += row.len();
            self.line += 1;
        }
        Some(Ok(Part { line, text: &text[..end] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_know_the_line_they_start_at() {
        let parts: Vec<_> = split("# a\n---\nb: 1\n---  # c\n---\n\nd: 1", 1)
            .map(|part| part.map(|part| (part.line, part.text)).expect("is split"))
            .collect();

        assert_eq!(parts, [(1, "# a\n"), (3, "b: 1\n"), (5, "---\n\nd: 1")]);
    }
}
