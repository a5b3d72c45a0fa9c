//! Whether somebody's words quote what was opened: they go into reports and logs, and whoever refuses an object may say anything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_core::reconcile::Body;
use serde_json::Value;

/// So many letters and digits in a row are a quote: of a longer text whoever quotes it may have a part, and less is found in any words.
const PART: usize = 8;

/// Shorter ones are in any words, and keep nothing secret.
const SHORTEST: usize = 3;

/// Whether the words have a value of that Secret, or a part of one, as it is or in base64.
pub(super) fn quotes(secret: &Body, words: &str) -> bool {
    let Ok(secret) = serde_json::from_slice::<Value>(secret.bytes()) else { return true };
    let kept = |field: &str| secret[field].as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str());
    let letters = letters_of(words);
    let is_quoted = |text: &str| has(words, &letters, text);
    kept("stringData").any(&is_quoted)
        || kept("data").any(|encoded| {
            let plain = STANDARD.decode(encoded.replace(['\r', '\n'], "")).unwrap_or_default();
            is_quoted(encoded) || is_quoted(&String::from_utf8_lossy(&plain))
        })
}

fn has(words: &str, letters: &[u8], text: &str) -> bool {
    let text = text.trim();
    let parts = letters_of(text);
    if parts.len() < SHORTEST {
        return text.len() >= SHORTEST && words.contains(text);
    }
    let part = parts.len().min(PART);
    // Words are few, and what is quoted may be a mebibyte.
    let quoted: std::collections::HashSet<&[u8]> = letters.windows(part).collect();
    parts.windows(part).any(|part| quoted.contains(part))
}

/// However it is quoted, escaped and broken into lines. Each other letter is one too.
fn letters_of(text: &str) -> Vec<u8> {
    text.bytes()
        .filter(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii())
        .map(|byte| byte.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bellwether_core::object::canonical_json;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_found_in_words_as_it_is_and_in_base64_in_parts_and_escaped() {
        let encoded = |text: &str| STANDARD.encode(text);
        let data = json!({"a": encoded("swordfish77"), "b": encoded("first line\nsecond \"line\""), "c": encoded("k2!"),
            "d": encoded("!?!?"), "e": encoded("ab"), "f": ""});
        let secret = canonical_json(&json!({"kind": "Secret", "metadata": {"name": "db"}, "data": data}));
        let secret = Body::from(Arc::<[u8]>::from(secret));

        let base64 = format!("not {}", encoded("swordfish77"));
        let quoting = [
            "`swordfish77` is weak",
            &base64,
            "SWORDFISH",
            "begins with swordfis…",
            "\"second \\\"line\\\"\"",
            "no k2!",
            "a!?!?b",
        ];
        for words in quoting {
            assert!(quotes(&secret, words), "{words}");
        }
        for words in ["secrets \"db\" is forbidden: exceeded quota: about", "a sword", ""] {
            assert!(!quotes(&secret, words), "{words}");
        }
    }
}
