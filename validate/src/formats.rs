//! Texts that have a form: what an API server reads out of them.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;

/// `500m`, `1.5Gi`, `1e3`.
pub(crate) fn is_quantity(text: &str) -> bool {
    const SUFFIXES: [&str; 17] =
        ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e0"];
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let has_digit = number.bytes().any(|byte| byte.is_ascii_digit());
    let is_exponent = || {
        let exponent = suffix.strip_prefix(['e', 'E'])?;
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
    };
    has_digit && number.matches('.').count() <= 1 && (SUFFIXES.contains(&suffix) || is_exponent().is_some())
}

/// RFC 3339.
pub(crate) fn is_time(text: &str) -> bool {
    let has_both = text.as_bytes().get(10).is_some_and(|byte| *byte == b'T');
    has_both && text.parse::<Timestamp>().is_ok()
}

/// As Go decodes it: padding is needed, line ends are passed over.
pub(crate) fn is_base64(text: &str) -> bool {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    engine.decode(text.replace(['\r', '\n'], "")).is_ok()
}

/// Go's `1h30m`.
pub(crate) fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, unit) = rest.split_at(digits);
        let has_digit = number.bytes().any(|byte| byte.is_ascii_digit());
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let Some(unit_found) = units.iter().find(|name| unit.starts_with(**name)) else { return false };
        if !has_digit || number.matches('.').count() > 1 {
            return false;
        }
        rest = &unit[unit_found.len()..];
    }
    true
}

/// What an API server checks of a `format:` in a CustomResourceDefinition; formats that it does not know are passed over.
pub(crate) fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" | "datetime" => is_time(text),
        "byte" => is_base64(text),
        "duration" => is_go_duration(text),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for text in ["0", "1", "1.5", ".5", "5.", "500m", "1Ki", "1.5Gi", "+1k", "-1", "1e3", "1E-3", "12E"] {
            assert!(is_quantity(text), "{text}");
        }
        for text in ["", "m", "1 Gi", "1gi", "1GB", "1K", "0x1", "1..5", "1e", "1Gi ", "one"] {
            assert!(!is_quantity(text), "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for text in ["0", "1s", "1h30m", "-1.5h", "100ms", "1µs"] {
            assert!(is_go_duration(text), "{text}");
        }
        for text in ["", "1", "s", "1d", "1h 30m", "P1D"] {
            assert!(!is_go_duration(text), "{text}");
        }
    }

    #[test]
    fn times_have_date_and_zone() {
        assert!(is_time("2026-11-28T10:00:00Z") && is_time("2026-11-28T10:00:00.5+01:00"));
        assert!(!is_time("2026-11-28") && !is_time("2026-11-28 10:00:00Z") && !is_time("2026-11-28T10:00:00"));
    }
}
