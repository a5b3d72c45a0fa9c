//! go-yaml v2's rules for what a scalar is, and Go's for how a number is then written in JSON.
//!
//! Ported from `resolve.go` of go.yaml.in/yaml/v2. The order of the attempts is part of the rules.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Number;

use super::Problem;

/// What a scalar was found to be. A text stays as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// Only what does not fit into [`Scalar::Int`].
    Uint(u64),
    Float(f64),
    Text,
    /// Of a `!!binary`.
    Decoded(String),
}

/// A scalar without quotes or tag.
pub(super) fn resolve_plain(text: &str) -> Scalar {
    if let Some(known) = lookup(text) {
        return known;
    }
    match text.as_bytes().first() {
        Some(b'.') => go_float(text).map_or(Scalar::Text, Scalar::Float),
        Some(b'+' | b'-' | b'0'..=b'9') => resolve_number(text),
        _ => Scalar::Text,
    }
}

/// A scalar with an explicit tag, quoted or not. Tags that are not YAML's own leave it a text, also the lone `!`.
pub(super) fn resolve_tagged(tag: &str, text: &str) -> Result<Scalar, Problem> {
    let wrong = |tag| Err(Problem::WrongTag { tag });
    match tag.strip_prefix("tag:yaml.org,2002:") {
        Some("binary") => decode_binary(text).map(Scalar::Decoded),
        Some("bool") => match resolve_plain(text) {
            flag @ Scalar::Bool(_) => Ok(flag),
            _ => wrong("!!bool"),
        },
        Some("int") => match resolve_plain(text) {
            number @ (Scalar::Int(_) | Scalar::Uint(_)) => Ok(number),
            _ => wrong("!!int"),
        },
        Some("float") => match resolve_plain(text) {
            number @ Scalar::Float(_) => Ok(number),
            #[expect(clippy::cast_precision_loss, reason = "a float is what was asked for")]
            Scalar::Int(number) => Ok(Scalar::Float(number as f64)),
            _ => wrong("!!float"),
        },
        Some("null") => match resolve_plain(text) {
            Scalar::Null => Ok(Scalar::Null),
            _ => wrong("!!null"),
        },
        // go-yaml checks a `!!timestamp` and then keeps its text.
        Some("timestamp") if text.len() < "2001-1-1".len() || !text.starts_with(|c: char| c.is_ascii_digit()) => {
            wrong("!!timestamp")
        }
        _ => Ok(Scalar::Text),
    }
}

fn lookup(text: &str) -> Option<Scalar> {
    Some(match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Scalar::Bool(false),
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => return None,
    })
}

/// A text that starts with a sign or a digit. Dates need no attempt of their own: they stay texts.
fn resolve_number(text: &str) -> Scalar {
    let digits = text.replace('_', "");
    if let Some(number) = go_int(&digits) {
        return number;
    }
    if is_yaml_float(&digits) {
        return go_float(&digits).map_or(Scalar::Text, Scalar::Float);
    }
    // Reached only by what is no Go literal: `0b-1` is -1 to go-yaml.
    let binary = digits.strip_prefix("0b").and_then(|digits| go_radix(digits, 2));
    binary.unwrap_or(Scalar::Text)
}

/// Go's `ParseInt(text, 0, 64)`, then `ParseUint`, on a text without underscores.
fn go_int(text: &str) -> Option<Scalar> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' | b'-' => text.split_at(1),
        _ => ("", text),
    };
    let prefix = digits.get(..2).unwrap_or_default().to_ascii_lowercase();
    let (radix, digits) = match prefix.as_str() {
        "0x" => (16, &digits[2..]),
        "0o" => (8, &digits[2..]),
        "0b" => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    match sign {
        "" => go_radix(digits, radix),
        // ParseUint takes no sign, so what is too large for ParseInt is no integer at all.
        _ => i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().map(Scalar::Int),
    }
}

fn go_radix(digits: &str, radix: u32) -> Option<Scalar> {
    let signed = i64::from_str_radix(digits, radix).ok().map(Scalar::Int);
    signed.or_else(|| {
        let unsigned = u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'));
        unsigned.map(Scalar::Uint)
    })
}

/// go-yaml's `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`.
fn is_yaml_float(text: &str) -> bool {
    let digits_end = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = digits_end(text);
    let rest = &text[whole..];
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits_end(rest)),
        None => ("", rest),
    };
    if whole == 0 && fraction.is_empty() {
        return false;
    }
    let Some(exponent) = rest.strip_prefix(['e', 'E']) else {
        return rest.is_empty();
    };
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    !exponent.is_empty() && digits_end(exponent) == exponent.len()
}

/// Go's `ParseFloat`: what overflows is an error there. Words such as `inf` never come here.
fn go_float(text: &str) -> Option<f64> {
    let digits = if text.contains('_') { without_underscores(text)? } else { text.to_owned() };
    if !is_yaml_float(&digits) {
        return None;
    }
    digits.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// Go takes an underscore between two digits only.
fn without_underscores(text: &str) -> Option<String> {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    let stands_well = |index: usize| is_digit(bytes.get(index.wrapping_sub(1))) && is_digit(bytes.get(index + 1));
    let mut underscores = text.match_indices('_');
    underscores.all(|(index, _)| stands_well(index)).then(|| text.replace('_', ""))
}

/// The number as a Go program has it after it went through JSON: an integer if it can be written as one in 64 bits with
/// a sign, else a float.
pub(super) fn to_number(scalar: &Scalar) -> Result<Number, Problem> {
    let float = match *scalar {
        Scalar::Int(number) => return Ok(Number::from(number)),
        #[expect(clippy::cast_precision_loss, reason = "as Go does with what is over 63 bits")]
        Scalar::Uint(number) => number as f64,
        Scalar::Float(number) => number,
        _ => return Err(Problem::NumberOutOfRange),
    };
    if float.fract() == 0.0
        && let Ok(whole) = format!("{float}").parse::<i64>()
    {
        // By way of its shortest decimal form, as Go's JSON writes it: 2^62 becomes 4611686018427388000.
        return Ok(Number::from(whole));
    }
    Number::from_f64(float).ok_or(Problem::NumberOutOfRange)
}

/// Go's `FormatFloat(number, 'g', -1, 32)`: how a key that is a float is written.
pub(super) fn float_key(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "sigs.k8s.io/yaml writes keys with 32 bits")]
    let number = number as f32;
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{number}")
}

/// Go's `base64.StdEncoding`: padding is needed, line ends are passed over, unused bits are not looked at.
fn decode_binary(text: &str) -> Result<String, Problem> {
    go_base64(text).map(|bytes| go_text(&bytes)).ok_or(Problem::InvalidBinary)
}

/// Whether an API server could decode it as bytes.
pub(crate) fn is_go_base64(text: &str) -> bool {
    go_base64(text).is_some()
}

fn go_base64(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
    let engine = GeneralPurpose::new(&alphabet::STANDARD, config);
    let text = text.replace(['\r', '\n'], "");
    engine.decode(text).ok()
}

/// Go's JSON writes U+FFFD for each byte that is not UTF-8.
fn go_text(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::with_capacity(bytes.len()), |mut text, chunk| {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '\u{FFFD}'));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_go_yaml() {
        use Scalar::{Bool, Float, Int, Null, Text, Uint};
        for (text, expected) in [
            ("", Null),
            ("y", Bool(true)),
            ("oFF", Text),
            ("0777", Int(511)),
            ("08", Float(8.0)),
            ("0b-101", Int(-5)),
            ("1_000", Int(1000)),
            ("9223372036854775808", Uint(9_223_372_036_854_775_808)),
            ("-9223372036854775809", Float(-9.223_372_036_854_776e18)),
            ("1e999", Text),
            (".5_0", Float(0.5)),
            ("._5", Text),
            ("5.e3", Float(5000.0)),
            ("+", Text),
            ("0x", Text),
            ("é", Text),
            ("0é", Text),
            ("<<", Text),
        ] {
            assert_eq!(resolve_plain(text), expected, "{text}");
        }
    }

    #[test]
    fn whole_floats_become_integers_the_way_go_writes_them() {
        for (float, expected) in
            [(1.0, "1"), (-0.0, "0"), (2f64.powi(62), "4611686018427388000"), (1.5, "1.5"), (1e19, "1e+19")]
        {
            let number = to_number(&Scalar::Float(float)).expect("is finite");
            assert_eq!(number.to_string(), expected);
        }
    }
}
