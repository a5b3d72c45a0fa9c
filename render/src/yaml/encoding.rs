//! What go-yaml does to a file's characters before it reads them: UTF-16 with a byte order mark, and the line end U+0085.

use std::borrow::Cow;

use super::Problem;

/// The text of a file that begins with UTF-16's byte order mark; `None` for every other file.
pub(super) fn from_utf16(bytes: &[u8]) -> Option<Result<String, Problem>> {
    let (unit, rest): (fn([u8; 2]) -> u16, _) = match bytes {
        [0xFF, 0xFE, rest @ ..] => (u16::from_le_bytes, rest),
        [0xFE, 0xFF, rest @ ..] => (u16::from_be_bytes, rest),
        _ => return None,
    };
    let (pairs, odd) = rest.as_chunks();
    let text = char::decode_utf16(pairs.iter().map(|&pair| unit(pair))).collect::<Result<String, _>>();
    Some(text.ok().filter(|_| odd.is_empty()).ok_or(Problem::IncompleteUtf16))
}

/// U+0085 ends a line in YAML 1.1 and becomes a line feed there; the parser, of YAML 1.2, takes it for text.
pub(super) fn with_plain_line_ends(text: &str) -> Cow<'_, str> {
    if text.contains('\u{85}') { Cow::Owned(text.replace('\u{85}', "\n")) } else { Cow::Borrowed(text) }
}
