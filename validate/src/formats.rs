//! Texts that have a form: what an API server reads out of them.

use std::net::Ipv6Addr;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use regex::Regex;

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

/// RFC 3339, as Go reads it: without a zone's name, which others allow behind it.
pub(crate) fn is_time(text: &str) -> bool {
    static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
        let shape = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$";
        Regex::new(shape).expect("the pattern is a constant")
    });
    SHAPE.is_match(text) && text.parse::<Timestamp>().is_ok()
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

/// A number and a unit, anywhere: what an API server takes besides Go's.
fn is_duration(text: &str) -> bool {
    static PARTS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[0-9]+\s*([A-Za-zµ]+)").expect("the pattern is a constant"));
    const UNITS: [&str; 11] = ["ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk"];
    const BEGINNINGS: [&str; 8] = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    let is_unit = |unit: &str| {
        UNITS.iter().any(|known| unit.eq_ignore_ascii_case(known))
            || BEGINNINGS.iter().any(|known| unit.to_lowercase().starts_with(known))
    };
    is_go_duration(text) || PARTS.captures_iter(text).any(|part| is_unit(&part[1]))
}

fn is_ipv4(text: &str) -> bool {
    // An API server still takes leading zeros.
    let is_part = |part: &str| {
        let number = part.trim_start_matches('0');
        let is_small = number.is_empty() || number.parse::<u8>().is_ok();
        is_small && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.split('.').count() == 4 && text.split('.').all(is_part)
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = if is_ipv4(address) { 32 } else { 128 };
    let is_length = length.bytes().all(|byte| byte.is_ascii_digit()) && length.parse::<u8>().is_ok_and(|of| of <= most);
    is_length && (is_ipv4(address) || is_ipv6(address))
}

/// As Go's `ParseRequestURI`, as far as it is about a scheme: a path from the root on, or a whole URI.
fn is_uri(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let has_scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(is_inner)
            && !rest.is_empty()
    });
    !text.chars().any(|character| character.is_ascii_control() || character == ' ')
        && (text.starts_with('/') || has_scheme)
}

/// The least that every address has: `Somebody <a@b.example>` is one.
fn is_email(text: &str) -> bool {
    let address = text.rsplit_once('<').and_then(|(_, rest)| rest.trim().strip_suffix('>')).unwrap_or(text);
    let parts = address.rsplit_once('@');
    parts.is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains([' ', '<', '>', ',']))
}

fn is_mac(text: &str) -> bool {
    let Some(separator) = text.chars().find(|character| !character.is_ascii_hexdigit()) else { return false };
    let groups: Vec<_> = text.split(separator).collect();
    let (digits, numbers) = match separator {
        ':' | '-' => (2, [6, 8, 20]),
        '.' => (4, [3, 4, 10]),
        _ => return false,
    };
    let is_group = |group: &&str| group.len() == digits && group.bytes().all(|byte| byte.is_ascii_hexdigit());
    numbers.contains(&groups.len()) && groups.iter().all(is_group)
}

/// Of the version that is asked for; dashes may be left out, and capitals are as good.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
        let shape = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?([0-9a-f])[0-9a-f]{3}-?([0-9a-f])[0-9a-f]{3}-?[0-9a-f]{12}$";
        Regex::new(shape).expect("the pattern is a constant")
    });
    let Some(found) = SHAPE.captures(text) else { return false };
    let Some(version) = version else { return true };
    let has_variant = version == '3' || found[2].to_lowercase().starts_with(['8', '9', 'a', 'b']);
    found[1].starts_with(version) && has_variant
}

fn is_hostname(text: &str) -> bool {
    let is_inner = |character: char| character.is_alphanumeric() || character == '-';
    let is_part = |part: &str| {
        let is_edge = |end: Option<char>| end.is_some_and(char::is_alphanumeric);
        part.len() <= 63
            && is_edge(part.chars().next())
            && is_edge(part.chars().next_back())
            && part.chars().all(is_inner)
    };
    text.len() <= 255 && text.split('.').all(is_part)
}

/// What an API server checks of a text's `format:` in a CustomResourceDefinition: dashes of its name do not count. Formats
/// that it does not know are passed over, and so are a few of people and books that nobody deploys.
pub(crate) fn has_format(text: &str, format: &str) -> bool {
    match format.replace('-', "").as_str() {
        "datetime" => is_time(&text.to_uppercase()),
        "byte" => is_base64(text),
        "duration" => is_duration(text),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "ipv4" => is_ipv4(text),
        "ipv6" => is_ipv6(text),
        "cidr" => is_cidr(text),
        "uri" => is_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            [3, 6].contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
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

    #[test]
    fn a_time_has_no_name_of_a_zone() {
        assert!(!is_time("2026-11-28T10:00:00+01:00[Europe/Paris]") && !is_time("2026-13-28T10:00:00Z"));
    }

    #[test]
    fn formats_are_those_of_an_api_server() {
        for (format, good, bad) in [
            ("duration", &["1h30m", "1d", "1 day", "2 weeks", "22 ns"][..], &["soon", "1", "1 fortnight"][..]),
            ("date-time", &["2026-11-28T10:00:00Z", "2026-11-28t10:00:00z"], &["2026-11-28", "now"]),
            ("date", &["2026-11-28"], &["28.11.2026"]),
            ("byte", &["aGk="], &["aGk"]),
            ("ipv4", &["10.0.0.1", "010.0.0.1"], &["10.0.0", "10.0.0.256", "::1"]),
            ("ipv6", &["::1", "2001:db8::1"], &["10.0.0.1", "::g"]),
            ("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "a/8"]),
            ("uri", &["https://a.example/b", "/path", "mailto:a@b.example"], &["nonsense", "a b", ""]),
            ("email", &["a@b.example", "Somebody <a@b.example>"], &["nonsense", "@b.example", "a@"]),
            ("hostname", &["a.example", "1a-b"], &["-a", "a_b", "a..b"]),
            ("mac", &["01:23:45:67:89:ab", "0123.4567.89ab"], &["01:23", "0123456789ab", "zz:23:45:67:89:ab"]),
            (
                "uuid",
                &["3d8b5c0e-6f5e-4b7e-9a51-1b2c3d4e5f60", "3D8B5C0E6F5E4B7E9A511B2C3D4E5F60"],
                &["nonsense", "3d8b"],
            ),
            ("uuid4", &["3d8b5c0e-6f5e-4b7e-9a51-1b2c3d4e5f60"], &["3d8b5c0e-6f5e-1b7e-9a51-1b2c3d4e5f60"]),
            ("hexcolor", &["#fff", "00ff00"], &["#ggg", "#ffff"]),
            ("password", &["anything"], &[]),
            ("somebody's own", &["anything"], &[]),
        ] {
            for text in good {
                assert!(has_format(text, format), "{format}: {text}");
            }
            for text in bad {
                assert!(!has_format(text, format), "{format}: {text}");
            }
        }
    }
}
