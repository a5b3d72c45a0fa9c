//! What an engine says is wrong, and what can be wrong with an engine.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Why an engine made nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// In its words. The code is one of those that are documented.
    #[error("{message}")]
    Failed {
        code: &'static str,
        message: String,
        hint: Option<String>,
        file: Option<String>,
        line: Option<u32>,
        before: Box<Before>,
    },
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

/// What an engine did until it failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    /// What of its cluster a chart has looked at.
    pub(crate) looked_at: Vec<String>,
    /// What it has made that nobody is to be told.
    pub(crate) secrets: Vec<String>,
}

/// Shorter ones say little, and are parts of many words.
const HIDDEN_BYTES_MIN: usize = 4;

/// What a template or a library makes of a text that it tells: as it is, each of its lines, in quotes, as a part of a URL,
/// and each of these in base64.
fn forms_of(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|_| text.contains('\n'));
    let plain = [text, text.trim()].into_iter().chain(lines);
    let mut forms = Vec::new();
    for plain in plain {
        let quoted = serde_json::Value::from(plain).to_string();
        let quoted = quoted[1..quoted.len() - 1].to_owned();
        let for_html = quoted.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        let in_path = escaped(plain);
        let in_query = in_path.replace("%20", "+");
        for form in [plain.to_owned(), quoted, for_html, in_path, in_query] {
            forms.extend([STANDARD.encode(&form), form]);
        }
    }
    forms.sort();
    forms.dedup();
    forms
}

fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let part = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(part).collect()
}

/// Of each text that an engine says of an error: a template may print all of its values.
const SHOWN_CHARACTERS_MAX: usize = 4_000;

/// Where it stands by itself: a part of a word is not it.
fn without(said: &str, text: &str) -> String {
    let is_word =
        |character: Option<char>| character.is_some_and(|character| character.is_alphanumeric() || character == '_');
    let (mut kept, mut rest) = (String::new(), said);
    while let Some(at) = rest.find(text) {
        let (before, after) = (&rest[..at], &rest[at + text.len()..]);
        let is_joined =
            (is_word(before.chars().next_back().or(kept.chars().next_back().filter(|_| before.is_empty())))
                && is_word(text.chars().next()))
                || (is_word(after.chars().next()) && is_word(text.chars().next_back()));
        kept.push_str(before);
        kept.push_str(if is_joined { text } else { "…" });
        rest = after;
    }
    kept + rest
}

impl EngineError {
    /// The same without these texts, and no longer than is shown: what is said of an error is shown, logged and kept. Cut
    /// afterwards, since the beginning of a text is not found as that text.
    pub(crate) fn hiding(self, texts: &[String]) -> Self {
        let Self::Failed { code, message, hint, file, line, mut before } = self else { return self };
        let secrets = std::mem::take(&mut before.secrets);
        let mut texts: Vec<_> = texts.iter().chain(&secrets).flat_map(|text| forms_of(text)).collect();
        texts.retain(|text| text.len() >= HIDDEN_BYTES_MIN);
        // What holds another goes first.
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let shown = |said: String| said.chars().take(SHOWN_CHARACTERS_MAX).collect::<String>();
        let hide = |said: String| shown(texts.iter().fold(said, |said, text| without(&said, text)));
        let (message, hint, file) = (hide(message), hint.map(hide), file.map(shown));
        Self::Failed { code, message, hint, file, line, before }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str, hidden: &[&str]) -> String {
        let error = EngineError::Failed {
            code: "helm_failed",
            message: message.to_owned(),
            hint: None,
            file: None,
            line: None,
            before: Box::default(),
        };
        let hidden: Vec<_> = hidden.iter().map(|text| (*text).to_owned()).collect();
        error.hiding(&hidden).to_string()
    }

    #[test]
    fn what_is_longer_than_what_is_shown_is_hidden_before_it_is_cut() {
        let long = "s3cret-".repeat(1_000);

        assert_eq!(said(&format!("bad `{long}`: why"), &[&long]), "bad `…`: why");
        let lies_over_the_end =
            format!("{}{} end", "a ".repeat(SHOWN_CHARACTERS_MAX / 2 - 5), "s3cret-value-of-a-chart");
        assert!(!said(&lies_over_the_end, &["s3cret-value-of-a-chart"]).contains("s3cret"));
        assert_eq!(said(&"a".repeat(10_000), &[]).len(), SHOWN_CHARACTERS_MAX);
    }

    #[test]
    fn what_is_hidden_is_hidden_in_whatever_form_a_template_gives_it() {
        let (password, pem) = ("hunter2 & <more>", "aaaa\nbbbb\"c\n");
        for form in [
            "hunter2 & <more>",
            "aHVudGVyMiAmIDxtb3JlPg==",
            r"hunter2 \u0026 \u003cmore\u003e",
            "hunter2%20%26%20%3Cmore%3E",
            "hunter2+%26+%3Cmore%3E",
            r#"aaaa\nbbbb\"c\n"#,
            "aaaa\nbbbb\"c",
            "bbbb\"c",
            "YWFhYQpiYmJiImMK",
        ] {
            assert_eq!(said(&format!("bad ({form}), at a.yaml:5"), &[password, pem]), "bad (…), at a.yaml:5", "{form}");
        }
    }

    #[test]
    fn a_part_of_a_word_is_not_hidden() {
        let message = "template: shop/templates/a.yaml:5: no template \"leaky\" in the leak's templates";

        assert_eq!(said(message, &["leak", "plate"]), message.replace("leak's", "…'s"));
    }
}
