//! What is printed, and where.
//!
//! Standard output is data: a table, or the hub's document as JSON or YAML. Everything else is a note on standard error.
//! Every write is checked, so a reader that goes away ends the command instead of crashing it. Text from elsewhere
//! (commit subjects, API servers' messages) never reaches a terminal with its control characters.

pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod yaml;

use std::io::{self, IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};
use serde_json::Value;

use crate::args::Format;
use crate::client::Answer;
use crate::failure::Failure;

pub(crate) use crate::text::{age, revision, short_commit, short_duration, time, visible, visible_line, word};

/// Clears a terminal, for a table that is shown again and again.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";

/// Standard output, and how to write to it.
#[derive(Debug)]
pub(crate) struct Output {
    format: Option<Format>,
    is_terminal: bool,
}

/// How tables are drawn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    pub(crate) color: bool,
    /// Wrap to the terminal's width; what is piped is never wrapped.
    pub(crate) wrap: bool,
}

impl Output {
    pub(crate) fn new(format: Option<Format>) -> Self {
        Self { format, is_terminal: io::stdout().is_terminal() }
    }

    /// For commands that print documents; the formats of `cluster register` are not for them.
    pub(crate) fn document_format(&self) -> Result<Format, Failure> {
        match self.format {
            None => Ok(Format::Table),
            Some(format @ (Format::Table | Format::Json | Format::Yaml)) => Ok(format),
            Some(
                Format::Manifest
                | Format::Token
                | Format::Helm
                | Format::Markdown
                | Format::Objects
                | Format::Junit
                | Format::Sarif,
            ) => {
                Err(Failure::usage("this command prints `table`, `json` or `yaml`")
                    .hint("leave `-o` out, or change it"))
            }
        }
    }

    /// For commands that print what they found.
    pub(crate) fn report_format(&self) -> Result<Format, Failure> {
        match self.format.unwrap_or(Format::Table) {
            format @ (Format::Table | Format::Json | Format::Junit | Format::Sarif) => Ok(format),
            Format::Yaml | Format::Manifest | Format::Token | Format::Helm | Format::Markdown | Format::Objects => {
                Err(Failure::usage("this command prints `pretty`, `json`, `junit` or `sarif`")
                    .hint("leave `-o` out, or change it"))
            }
        }
    }

    pub(crate) fn format(&self) -> Option<Format> {
        self.format
    }

    pub(crate) fn style(&self) -> Style {
        Style { color: AutoStream::choice(&io::stdout()) != ColorChoice::Never, wrap: self.is_terminal }
    }

    /// An answer: as it came, or as the table that `draw` makes of it.
    pub(crate) fn answer<T>(&self, answer: &Answer<T>, draw: impl FnOnce(&T, Style) -> String) -> anyhow::Result<()> {
        match self.document_format()? {
            Format::Json => print(&pretty(&answer.json)),
            Format::Yaml => print(&yaml::text(&answer.json)?),
            _ => print(&draw(&answer.document, self.style())),
        }
    }

    /// What was done, for people as a sentence on standard error, for programs as the document.
    pub(crate) fn done<T>(&self, answer: &Answer<T>, sentence: &str) -> anyhow::Result<()> {
        if self.document_format()? == Format::Table {
            note(sentence);
            return Ok(());
        }
        self.answer(answer, |_, _| String::new())
    }

    /// The same place again: on a terminal what was there is cleared.
    pub(crate) fn print_again(&self, text: &str) -> anyhow::Result<()> {
        if self.is_terminal {
            // Not through the stream that strips colours: NO_COLOR does not mean that the screen must scroll.
            io::stdout().lock().write_all(CLEAR.as_bytes())?;
        }
        print(text)
    }
}

/// Text to standard output, with one line end. An empty text is nothing.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Ok(())
}

/// A sentence for the person at the terminal, on standard error.
pub(crate) fn note(text: &str) {
    // Nothing can be done when standard error is gone.
    let _ = writeln!(anstream::stderr().lock(), "{}", visible(text));
}

fn pretty(json: &Value) -> String {
    serde_json::to_string_pretty(json).expect("a JSON value is always writable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_other_commands_are_refused() {
        let output = Output::new(Some(Format::Manifest));

        assert!(output.document_format().is_err());
    }
}
