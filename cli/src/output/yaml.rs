//! YAML for `-o yaml`: what kubectl and every other reader of YAML 1.1 reads back as the same JSON.

use anyhow::Context as _;
use serde_json::Value;

/// The document as YAML.
pub(crate) fn text(json: &Value) -> anyhow::Result<String> {
    // Folding long lines would be read back unchanged, but by people as several lines.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(json, options).context("cannot write YAML")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What some reader of YAML 1.1 or 1.2 takes for something else than text.
    const SPECIALS: &[&str] = &[
        "yes",
        "No",
        "ON",
        "off",
        "y",
        "n",
        "Y",
        "true",
        "False",
        "~",
        "null",
        "Null",
        "",
        "0777",
        "0o17",
        "0x1F",
        "0b1",
        "1_000",
        "12e3",
        "1.5",
        ".5",
        "+1",
        "-0",
        ".inf",
        "-.INF",
        ".nan",
        "12:30:45",
        "2026-11-23",
        "2026-11-23T20:00:00Z",
        "<<",
        "=",
        "- a",
        "a: b",
        "a #b",
        " a",
        "a ",
        "#a",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "'a",
        "\"a",
        "{a",
        "[a",
        "?",
        "-",
        "---",
        "a\nb",
        "a\nb\n",
        "\n",
        " a\n b",
        "a\tb",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{1b}[0m",
        "ü",
        "🎉",
    ];

    #[test]
    fn what_could_be_taken_for_something_else_is_quoted() {
        for special in ["yes", "on", "0777", "1_000", "12e3", "~", "null", "2026-11-23", "y"] {
            let value = text(&json!({"key": special})).expect("YAML");
            let key = text(&json!({special: "text"})).expect("YAML");

            assert!(value.contains(&format!("\"{special}\"")) || value.contains(&format!("'{special}'")), "{value}");
            assert!(key.starts_with(['"', '\'']), "{key}");
        }
    }

    #[test]
    fn every_text_is_read_back_as_itself() {
        for special in SPECIALS {
            let document = json!({"value": special, *special: [special, {"in": {"deep": special}}], "after": 1});

            let yaml = text(&document).expect("YAML");

            let again: Value = serde_saphyr::from_str(&yaml).expect(&yaml);
            assert_eq!(again, document, "{yaml}");
        }
    }

    #[test]
    fn numbers_booleans_and_empty_things_stay_what_they_are() {
        let document =
            json!({"a": 1, "b": -1.5, "c": true, "d": null, "e": [], "f": {}, "g": [[], {}, [1]], "h": u64::MAX});

        let yaml = text(&document).expect("YAML");

        assert_eq!(serde_saphyr::from_str::<Value>(&yaml).expect(&yaml), document, "{yaml}");
    }

    #[test]
    fn a_certificate_stands_as_lines() {
        let yaml =
            text(&json!({"ca": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"})).expect("YAML");

        insta::assert_snapshot!(yaml, @r"
        ca: |
          -----BEGIN CERTIFICATE-----
          MIIB
          -----END CERTIFICATE-----
        ");
    }
}
