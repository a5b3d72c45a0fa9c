//! How a command ends: its exit code, and what a person reads when it did not succeed.
//!
//! Everything here goes to standard error. A closed pipe is no failure: whoever reads has seen enough. Nor is it a success
//! where the exit code is a verdict.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use bellwether_core::Condition;
use owo_colors::OwoColorize as _;

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    /// The command line itself was wrong; clap gives the same code.
    Usage,
    /// It was done, and what it found differs from what is wanted or is not healthy.
    Differs,
    /// It was planned, and something would change; the code of Terraform's and Helm's plans.
    Changes,
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage | Self::Changes => 2,
            Self::Differs => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Something that a person can cause or fix.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    exit: Exit,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: Exit::Failed }
    }

    /// The command line is wrong in a way that clap cannot know.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(message) }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn maybe_hint(self, hint: Option<impl Into<String>>) -> Self {
        Self { hint: hint.map(Into::into).or(self.hint), ..self }
    }

    /// With another exit code.
    pub(crate) fn ending(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Says first where it happened.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }

    /// What the hub says is wrong with a repo or a target.
    pub(crate) fn of_condition(subject: &str, condition: &Condition) -> Self {
        Self::new(format!("{subject}: {}", condition_text(condition))).maybe_hint(condition.hint.clone())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// `message (file:line)`, as conditions are shown everywhere.
pub(crate) fn condition_text(condition: &Condition) -> String {
    match (&condition.file, condition.line) {
        (Some(file), Some(line)) => format!("{} ({file}:{line})", condition.message),
        (Some(file), None) => format!("{} ({file})", condition.message),
        (None, _) => condition.message.clone(),
    }
}

/// Tells a person what went wrong, and says how the process is to end.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    if is_closed_pipe(error) {
        return Exit::Done;
    }
    let failure = error.downcast_ref::<Failure>();
    // Nothing can be done when standard error itself is gone.
    let _ = write_report(error, failure);
    failure.map_or(Exit::Failed, |failure| failure.exit)
}

fn write_report(error: &anyhow::Error, failure: Option<&Failure>) -> io::Result<()> {
    let mut stderr = anstream::stderr().lock();
    let message = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    writeln!(stderr, "{} {}", "error:".red().bold(), crate::text::visible(&message))?;
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_deref()) {
        writeln!(stderr, "{} {}", "hint:".cyan().bold(), crate::text::visible(hint))?;
    }
    Ok(())
}

/// Of a command whose exit code is a verdict: that stands, whether somebody reads all that is printed or not.
pub(crate) fn unless_unread(printed: anyhow::Result<()>) -> anyhow::Result<()> {
    printed.or_else(|error| if is_closed_pipe(&error) { Ok(()) } else { Err(error) })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let error = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe)).context("cannot print");

        assert_eq!(report(&error), Exit::Done);
    }

    #[test]
    fn a_condition_names_its_file_and_line() {
        let condition = Condition::new("yaml_invalid", "did not parse", None, None).at(Some("shop/web.yaml"), Some(7));

        let failure = Failure::of_condition("target `shop`", &condition);

        assert_eq!(failure.to_string(), "target `shop`: did not parse (shop/web.yaml:7)");
        assert_eq!(report(&failure.into()), Exit::Failed);
    }
}
