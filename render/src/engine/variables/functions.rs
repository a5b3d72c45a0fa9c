//! What Flux's functions make of a value: pure, and of a value that is set.
//!
//! Lengths are bytes, as in Flux, but no character is cut apart: that would be no text any more. How large a result may be
//! and how long it may take is for the caller to bound. Neighbours: `scan` reads the forms.

/// Which end of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Start,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Casing {
    pub(super) is_upper: bool,
    /// Every character, and not only the first.
    pub(super) is_whole: bool,
}

/// Which of the places where a pattern stands are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaced {
    First,
    Every,
    At(Side),
}

pub(super) fn cased(value: &str, casing: Casing) -> String {
    let length = if casing.is_whole { value.len() } else { value.chars().next().map_or(0, char::len_utf8) };
    let (cased, rest) = value.split_at(length);
    cased.chars().map(|character| cased_one(character, casing.is_upper)).chain(rest.chars()).collect()
}

/// As Go has it, where a character never becomes two.
fn cased_one(character: char, is_upper: bool) -> char {
    let only = |mut of: Box<dyn Iterator<Item = char>>| of.next().filter(|_| of.next().is_none()).unwrap_or(character);
    match (character, is_upper) {
        // Two by the rules for texts, which Rust has, and one by those for characters.
        ('\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}', true) => moved(character, 8),
        ('\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}', true) => moved(character, 9),
        ('İ', false) => 'i',
        (_, true) => only(Box::new(character.to_uppercase())),
        (_, false) => only(Box::new(character.to_lowercase())),
    }
}

/// So many characters further on.
fn moved(character: char, by: u32) -> char {
    char::from_u32(u32::from(character) + by).unwrap_or(character)
}

/// From an offset on, which counts from the end if it is negative; so many bytes, or up to so many before the end. `None`
/// if that would cut a character apart.
pub(super) fn part(value: &str, offset: i64, length: Option<i64>) -> Option<&str> {
    let end = i64::try_from(value.len()).ok()?;
    let from = if offset < 0 { end.saturating_add(offset).max(0) } else { offset };
    let to = match length {
        None => end,
        Some(length) if length < 0 => end.saturating_add(length),
        Some(length) => from.saturating_add(length).min(end),
    };
    if to <= from {
        return Some("");
    }
    value.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
}

/// Without what the pattern matches at one side: the least of it, or the most.
pub(super) fn without(value: &str, pattern: &str, side: Side, most: bool) -> String {
    match side {
        Side::Start => value[matched(value, pattern, most)..].to_owned(),
        // Flux reads value and pattern backwards, so a class is none there, and the whole pattern matches nothing.
        Side::End => {
            let (value, pattern) = (reversed(value), reversed(pattern));
            reversed(&value[matched(&value, &pattern, most)..])
        }
    }
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

pub(super) fn replaced(value: &str, pattern: &str, by: Option<&str>, which: Replaced) -> String {
    let other = by.unwrap_or_default();
    match which {
        Replaced::Every => value.replace(pattern, other),
        Replaced::First => value.replacen(pattern, other, 1),
        // Where nothing is said to take its place, Flux leaves it.
        Replaced::At(_) if by.is_none() => value.to_owned(),
        Replaced::At(Side::Start) => {
            value.strip_prefix(pattern).map(|rest| format!("{other}{rest}")).unwrap_or(value.to_owned())
        }
        Replaced::At(Side::End) => {
            value.strip_suffix(pattern).map(|rest| format!("{rest}{other}")).unwrap_or(value.to_owned())
        }
    }
}

/// The most that [`replaced`] gives.
pub(super) fn replaced_bytes(value: &str, pattern: &str, by: Option<&str>, which: Replaced) -> usize {
    let times = if which == Replaced::Every { value.matches(pattern).count() } else { 1 };
    times.saturating_mul(by.map_or(0, str::len)).saturating_add(value.len())
}

enum Token {
    Anything,
    One,
    Literal(char),
    Class { is_negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::Anything | Self::One => true,
            Self::Literal(literal) => *literal == character,
            Self::Class { is_negated, ranges } => {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&character)) != *is_negated
            }
        }
    }
}

/// How many bytes at the start of a value a pattern matches, the least or the most. All lengths are tried at once, so that
/// no pattern takes longer than its length times that of the value.
fn matched(value: &str, pattern: &str, most: bool) -> usize {
    let Some(tokens) = tokens(pattern) else { return 0 };
    let mut open = vec![false; tokens.len() + 1];
    let mut next = open.clone();
    open[0] = true;
    spread(&tokens, &mut open);
    let mut matched = 0;
    for (at, character) in value.char_indices() {
        next.fill(false);
        for (index, token) in tokens.iter().enumerate().filter(|(index, token)| open[*index] && token.takes(character))
        {
            next[if matches!(token, Token::Anything) { index } else { index + 1 }] = true;
        }
        spread(&tokens, &mut next);
        std::mem::swap(&mut open, &mut next);
        if open[tokens.len()] {
            matched = at + character.len_utf8();
            if !most {
                break;
            }
        }
    }
    matched
}

/// `*` may also match nothing.
fn spread(tokens: &[Token], open: &mut [bool]) {
    for (index, token) in tokens.iter().enumerate() {
        open[index + 1] |= open[index] && matches!(token, Token::Anything);
    }
}

/// As Go's `path.Match` reads it, but that `*` and `?` also match a `/`. `None` if it is no pattern, which matches nothing.
fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut characters = pattern.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '*' => Token::Anything,
            '?' => Token::One,
            '\\' => Token::Literal(characters.next()?),
            '[' => {
                let is_negated = characters.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || characters.next_if_eq(&']').is_none() {
                    let low = bound(&mut characters)?;
                    let high = if characters.next_if_eq(&'-').is_some() { bound(&mut characters)? } else { low };
                    ranges.push((low, high));
                }
                Token::Class { is_negated, ranges }
            }
            literal => Token::Literal(literal),
        });
    }
    Some(tokens)
}

fn bound(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match characters.next()? {
        '-' | ']' => None,
        '\\' => characters.next(),
        character => Some(character),
    }
}
