//! What an engine says is wrong, and what can be wrong with an engine.

use std::borrow::Cow;
use std::time::Duration;

/// Why an engine made nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// In its words. The code is one of those that are documented.
    #[error("{message}")]
    Failed { code: &'static str, message: String, hint: Option<String>, file: Option<String>, line: Option<u32> },
    #[error("there is no program `{name}`, which renders Kustomize and Helm")]
    Missing { name: String },
    #[error("the render engine does not start: {reason}")]
    NotStarted { reason: String },
    #[error("the render engine lacks {}", .layers.join(", "))]
    Unconfined { layers: Vec<String> },
    #[error("the render engine ended while it rendered: {reason}")]
    Died { reason: String },
    #[error("not rendered within {} seconds", .longest.as_secs())]
    TooLong { longest: Duration },
    #[error("the render engine wrote more than {max} bytes at once")]
    TooMuch { max: usize },
    #[error("the render engine asked for too much")]
    Stopped,
    #[error("the render engine said what could not be understood")]
    Protocol { reason: String },
}

/// Shorter ones say little, and are parts of many words.
const HIDDEN_BYTES_MIN: usize = 4;

impl EngineError {
    /// The same without these texts: what is said of an error is shown, logged and kept.
    pub(crate) fn hiding(self, mut texts: Vec<String>) -> Self {
        let Self::Failed { code, message, hint, file, line } = self else { return self };
        texts.retain(|text| text.len() >= HIDDEN_BYTES_MIN);
        // What holds another goes first.
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let hide = |said: String| texts.iter().fold(said, |said, text| said.replace(text.as_str(), "…"));
        Self::Failed { code, message: hide(message), hint: hint.map(hide), file, line }
    }

    /// Stable, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failed { code, .. } => code,
            Self::Missing { .. } => "engine_missing",
            Self::NotStarted { .. } => "engine_not_started",
            Self::Unconfined { .. } => "engine_unconfined",
            Self::Died { .. } => "engine_died",
            Self::TooLong { .. } | Self::TooMuch { .. } | Self::Stopped => "over_limit",
            Self::Protocol { .. } => "engine_protocol",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        let fixed = match self {
            Self::Failed { hint, .. } => return hint.clone().map(Cow::Owned),
            Self::Missing { .. } => {
                "it is installed beside this program, or somewhere in PATH; BELLWETHER_RENDER_ENGINE names it otherwise"
            }
            Self::NotStarted { .. } | Self::Protocol { .. } => "install the engine of the same version as this program",
            Self::Unconfined { .. } => {
                "charts are other people's programs; `--allow-unconfined-render` runs them with the layers that there are"
            }
            Self::Died { .. } => "it is killed for what it may not do, and for more memory than it may have",
            Self::TooLong { .. } | Self::TooMuch { .. } | Self::Stopped => {
                "look for a loop in a template, or split the target"
            }
        };
        Some(Cow::Borrowed(fixed))
    }

    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Failed { file, .. } => file.as_deref(),
            _ => None,
        }
    }

    pub fn line(&self) -> Option<u32> {
        match self {
            Self::Failed { line, .. } => *line,
            _ => None,
        }
    }
}
