//! What API servers, webhooks and controllers say, without the values that they quote.
//!
//! Kubernetes quotes the whole of what it refuses: a changed pod template with its environment and arguments, the text of a
//! field. What a person needs is the field and the reason; the value stands in Git, or is nothing to be shown to anybody.

use serde_json::Value;

/// How a value is printed that some words announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Printed {
    /// And then the reason is told.
    Refused,
    /// A whole object, up to this bracket.
    Dump(char),
    /// A list of texts.
    List,
    /// In quotes.
    Text,
}

/// Before values. A quote at the end is already the value's.
const WORDS: [(&str, Printed); 12] = [
    ("Invalid value: ", Printed::Refused),
    ("Duplicate value: ", Printed::Refused),
    ("Unsupported value: ", Printed::Refused),
    ("Not found: ", Printed::Refused),
    ("{", Printed::Dump('}')),
    ("map[", Printed::Dump(']')),
    ("[\"", Printed::List),
    ("[=\"", Printed::List),
    // Go's readers of numbers, addresses and times.
    ("parsing \"", Printed::Text),
    ("parse \"", Printed::Text),
    ("duration \"", Printed::Text),
    ("value \"", Printed::Text),
];

/// What the JSON of an error holds: of others that are printed nothing is told.
const OF_ERRORS: [&str; 12] = [
    "apiVersion",
    "code",
    "details",
    "error",
    "innererror",
    "kind",
    "message",
    "metadata",
    "reason",
    "requestId",
    "status",
    "target",
];

/// The text without the values in it: of `spec.x: Invalid value: {…}: is immutable` only the three dots are left of what was
/// in the braces. Where a value does not end, neither does what is left out. Once more changes nothing.
pub fn without_values(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, words, printed)) = next_value(rest) {
        if let Some((error, end)) = told_by_json(&rest[at..]) {
            kept.push_str(&rest[..at]);
            kept.push_str(&without_values(&error));
            rest = &rest[at + end..];
            continue;
        }
        let (before, value) = rest.split_at(at + words.trim_end_matches('"').len());
        kept.push_str(before);
        kept.push('…');
        let Some(end) = printed.end(value) else { return kept };
        rest = &value[end..];
    }
    kept.push_str(rest);
    kept
}

/// Where the next value is announced, and by what. In one pass: whoever writes a condition may write a million of them.
fn next_value(text: &str) -> Option<(usize, &'static str, Printed)> {
    let mut before = None;
    text.char_indices().find_map(|(at, character)| {
        let rest = &text[at..];
        let after = rest[character.len_utf8()..].chars().next();
        // A brace by itself, as of what somebody else reads.
        let is_named = before == Some('\\') || before == after && matches!(before, Some('"' | '\'' | '`'));
        before = Some(character);
        let mut words = WORDS.into_iter().filter(|(words, _)| rest.starts_with(words));
        words.find(|(words, _)| *words != "{" || !is_named).map(|(words, printed)| (at, words, printed))
    })
}

/// Many who ask another service tell its answer as it came: what the error there says, and where it ends.
fn told_by_json(text: &str) -> Option<(String, usize)> {
    if !text.starts_with("{\"") {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let is_error = value.as_object()?.keys().all(|key| OF_ERRORS.contains(&key.as_str()));
    let error = value.get("error").unwrap_or(&value);
    let message = error["message"].as_str().filter(|_| is_error)?;
    let reason = ["code", "reason"].iter().find_map(|key| match &error[*key] {
        Value::String(reason) => Some(reason.clone()),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    });
    Some((format!("{}: {message}", reason?), values.byte_offset()))
}

impl Printed {
    /// Where it ends in a text that begins with it.
    fn end(self, text: &str) -> Option<usize> {
        match self {
            Self::Refused => refused_end(text),
            Self::Dump(bracket) => {
                let is_end = |at: &usize| text[*at..].starts_with(bracket);
                let done = text.strip_prefix('…').map(|rest| text.len() - rest.len()).filter(is_end);
                let quoted = closing_bracket(text).filter(|at| text.starts_with('"') && is_end(at));
                // Without quotes nobody knows which bracket is a value's.
                done.or(quoted).or_else(|| text.rfind(bracket))
            }
            Self::List => closing_bracket(text),
            Self::Text => {
                let mut nesting = Nesting::default();
                text.char_indices().find_map(|(at, character)| {
                    nesting.enter(character);
                    nesting.is_outside().then_some(at + 1)
                })
            }
        }
    }
}

/// The end of a value that is followed by the reason, by the next error of a list, or by nothing.
fn refused_end(text: &str) -> Option<usize> {
    let is_plain = !text.starts_with(|first: char| "\"{[(&-…".contains(first) || first.is_ascii_digit())
        && !["true", "false", "null"].iter().any(|word| text.starts_with(word));
    let mut nesting = Nesting::default();
    let mut has_closed = false;
    for (at, character) in text.char_indices() {
        let ends_with = |words: &str| text[at..].starts_with(words);
        if nesting.is_outside() && is_plain && !has_closed {
            // Of one that is printed by words of its own, nobody knows which of them is the last.
            if ends_with(": ") {
                return text.rfind(": ");
            }
        } else if nesting.is_outside() && [": ", ", ", "]"].into_iter().any(ends_with) {
            return Some(at);
        }
        nesting.enter(character)?;
        has_closed |= nesting.is_outside() && "}])".contains(character);
    }
    nesting.is_outside().then_some(text.len())
}

/// Of what was opened before.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut nesting = Nesting { depth: 1, ..Nesting::default() };
    text.char_indices().find_map(|(at, character)| {
        nesting.enter(character);
        nesting.is_outside().then_some(at)
    })
}

/// Where one is in what Go or JSON prints.
#[derive(Default)]
struct Nesting {
    depth: usize,
    is_quoted: bool,
    is_escaped: bool,
}

impl Nesting {
    fn is_outside(&self) -> bool {
        self.depth == 0 && !self.is_quoted
    }

    /// `None`: more is closed than was opened.
    fn enter(&mut self, character: char) -> Option<()> {
        match character {
            _ if self.is_escaped => self.is_escaped = false,
            '\\' if self.is_quoted => self.is_escaped = true,
            '"' => self.is_quoted = !self.is_quoted,
            _ if self.is_quoted => {}
            '{' | '[' | '(' => self.depth += 1,
            '}' | ']' | ')' => self.depth = self.depth.checked_sub(1)?,
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::without_values;

    #[test]
    fn of_what_is_refused_the_field_and_the_reason_are_left() {
        let template = r#"{"metadata":{"labels":{"job-name":"j"}},"Spec":{"Containers":[{"Name":"a","Args":["--password=swordfish77: x"],"Env":[{"Name":"PW","Value":"sword\"}]fish"}]}]}}"#;
        let go = r#"core.PodTemplateSpec{ObjectMeta:v1.ObjectMeta{Name:"", Labels:map[string]string{"a":"swordfish"}}, Spec:core.PodSpec{Volumes:[]core.Volume(nil)}}"#;
        for (text, expected) in [
            (
                format!("spec.template: Invalid value: {template}: field is immutable"),
                "spec.template: Invalid value: …: field is immutable",
            ),
            (
                format!("spec.template: Invalid value: {go}: field is immutable"),
                "spec.template: Invalid value: …: field is immutable",
            ),
            (
                format!("spec.template: Invalid value: &{go}: field is immutable"),
                "spec.template: Invalid value: …: field is immutable",
            ),
            (
                r#"metadata.name: Invalid value: "Sword_\": fish": a lowercase RFC 1123 subdomain must consist of: x"#
                    .to_owned(),
                "metadata.name: Invalid value: …: a lowercase RFC 1123 subdomain must consist of: x",
            ),
            (
                r#"[spec.a: Invalid value: -77: must be greater than 0, spec.b: Required value, spec.c: Duplicate value: "swordfish", spec.d: Duplicate value: {"name":"swordfish"}, spec.e: Unsupported value: "swordfish": supported values: "Always", "Never"]"#
                    .to_owned(),
                r#"[spec.a: Invalid value: …: must be greater than 0, spec.b: Required value, spec.c: Duplicate value: …, spec.d: Duplicate value: …, spec.e: Unsupported value: …: supported values: "Always", "Never"]"#,
            ),
            ("spec.x: Invalid value: sword, fish: no".to_owned(), "spec.x: Invalid value: …: no"),
            (
                r#"admission webhook "a" denied the request: env [{"name":"PW","value":"swordfish"}] is not allowed"#
                    .to_owned(),
                r#"admission webhook "a" denied the request: env [{…}] is not allowed"#,
            ),
            ("it got map[PW:swordfish n:map[]], which is not right".to_owned(), "it got map[…], which is not right"),
            ("spec: Invalid value: {\"a\": \"swordfish".to_owned(), "spec: Invalid value: …"),
            ("it got {swordfish".to_owned(), "it got {…"),
        ] {
            assert_eq!(without_values(&text), expected);
            assert_eq!(without_values(expected), expected);
        }
    }

    #[test]
    fn what_is_printed_without_quotes_ends_where_its_text_cannot_go_on() {
        for (text, expected) in [
            ("got map[PW:p]swordfish n:1], which is not right", "got map[…], which is not right"),
            ("got &{p}swordfish x}: no", "got &{…}: no"),
            ("spec.x: Invalid value: sword: fish: no", "spec.x: Invalid value: …: no"),
            ("strconv.ParseInt: parsing \"swordfish\": invalid syntax", "strconv.ParseInt: parsing …: invalid syntax"),
            ("parse \"https://u:swordfish@h\": no host", "parse …: no host"),
            ("time: invalid duration \"sword\\\"fish\"", "time: invalid duration …"),
            ("invalid value \"swordfish\" for x", "invalid value … for x"),
            ("args [\"--password=swordfish\", \"a\"] are wrong", "args […] are wrong"),
            (".spec.x: duplicate entries for key [\"swordfish\"]", ".spec.x: duplicate entries for key […]"),
            (".spec.x: duplicate entries for key [=\"swordfish\"]", ".spec.x: duplicate entries for key [=…]"),
            (
                "spec.a: Duplicate value: map[string]interface {}{\"a\":\"swordfish\"}, spec.b: Required value",
                "spec.a: Duplicate value: …, spec.b: Required value",
            ),
        ] {
            assert_eq!(without_values(text), expected);
            assert_eq!(without_values(expected), expected);
        }
    }

    #[test]
    fn a_reason_that_is_json_is_told() {
        let error = r#"Error 403: {"error":{"code":"AuthorizationFailed","message":"The client 'x' may not {\"a\":1}","details":["swordfish"]}}, again"#;

        let told = without_values(error);

        assert_eq!(told, "Error 403: AuthorizationFailed: The client 'x' may not {…}, again");
        assert_eq!(without_values(&told), told);
        let no_error = r#"it got {"name":"PW","message":"swordfish"}"#;
        assert_eq!(without_values(no_error), "it got {…}");
    }

    #[test]
    fn what_quotes_no_value_is_left_as_it_is() {
        for text in [
            "Replicas: 0/3",
            r#"ReplicaSet "web-6d4b" has timed out progressing."#,
            r#"pods "web-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"#,
            r#"field .spec.containers[name="a"].image is managed by kubectl"#,
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden",
            "ü: …",
            r#"nginx: [emerg] unexpected "{" in /etc/nginx.conf:123"#,
            r"error parsing regexp: missing argument to repetition operator: `\{2`",
            "containers with unready status: [web sidecar]",
            r#".spec.ports[port=80,protocol="TCP"].name: field not declared in schema"#,
        ] {
            assert_eq!(without_values(text), text);
        }
    }

    #[test]
    fn another_bracket_ends_no_value() {
        for (text, expected) in [(r#"map[""}"#, "map[…"), (r#"{"a"] b} c"#, "{…} c"), (r#"{"a"}b}"#, "{…}b}")] {
            let once = without_values(text);
            assert_eq!((once.as_str(), without_values(&once).as_str()), (expected, expected));
        }
    }

    proptest! {
        #[test]
        fn what_has_no_values_any_more_loses_nothing(text in "([ a\"\\\\{}\\[\\]:,é]|Invalid value: |map\\[|…){0,20}") {
            let once = without_values(&text);
            prop_assert_eq!(without_values(&once), once);
        }

        #[test]
        fn no_text_of_a_value_is_left_that_is_printed_without_quotes(value in any::<String>(), more in any::<String>()) {
            let value = format!("p{value}swordfish{more}");
            let quoted = serde_json::Value::String(value.clone()).to_string();
            for text in [
                format!("got map[PW:{value} n:1], which is not right"),
                format!("got &{{{value} x}}: no"),
                format!("env [{{PW {value} nil}}] is not allowed"),
                format!("parsing {quoted}: invalid syntax"),
                format!("args [{quoted}] are wrong"),
            ] {
                let left = without_values(&text);
                prop_assert!(!left.contains("swordfish"), "{left}");
            }
        }

        #[test]
        fn no_text_of_a_value_is_left_whatever_it_holds(value in any::<String>(), name in any::<String>()) {
            let value = format!("swordfish{value}swordfish");
            let json = serde_json::json!({"env": [{"name": name, "value": value}]}).to_string();
            let quoted = serde_json::Value::String(value).to_string();
            for quoted in [json, quoted] {
                let left = without_values(&format!("spec.x: Invalid value: {quoted}: field is immutable"));
                prop_assert_eq!(left, "spec.x: Invalid value: …: field is immutable");
            }
        }
    }
}
