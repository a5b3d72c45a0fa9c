//! What API servers, webhooks and controllers say, without the values that they quote.
//!
//! Kubernetes quotes the whole of what it refuses: a changed pod template with its environment and arguments, the text of a
//! field. What a person needs is the field and the reason; the value stands in Git, or is nothing to be shown to anybody.

/// After these a value is quoted, and then the reason told.
const QUOTING: [&str; 4] = ["Invalid value: ", "Duplicate value: ", "Unsupported value: ", "Not found: "];

/// How a whole object is printed, wherever it stands in a text.
const DUMPS: [&str; 2] = ["{", "map["];

/// The text without the values in it: of `spec.x: Invalid value: {…}: is immutable` only the three dots are left of what was
/// in the braces. Where a value does not end, neither does what is left out. Once more changes nothing.
pub fn without_values(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, words)) = next_value(rest) {
        let (before, value) = rest.split_at(at + words.len());
        kept.push_str(before);
        kept.push('…');
        let end = if DUMPS.contains(&words) { dump_end(value) } else { value_end(value) };
        let Some(end) = end else { return kept };
        rest = &value[end..];
    }
    kept.push_str(rest);
    kept
}

/// Where the next value is announced, and by what. In one pass: whoever writes a condition may write a million of them.
fn next_value(text: &str) -> Option<(usize, &'static str)> {
    let announced = |at: usize| QUOTING.into_iter().chain(DUMPS).find(|words| text[at..].starts_with(words));
    text.char_indices().find_map(|(at, _)| Some((at, announced(at)?)))
}

/// The end of a value that is followed by the reason, by the next error of a list, or by nothing.
fn value_end(text: &str) -> Option<usize> {
    // Of one that is printed by words of its own, nobody knows which comma is its own.
    let is_plain = !text.starts_with(|first: char| "\"{[&-…".contains(first) || first.is_ascii_digit())
        && !["true", "false", "null"].iter().any(|word| text.starts_with(word));
    let ends = |rest: &str| rest.starts_with(": ") || !is_plain && (rest.starts_with(", ") || rest.starts_with(']'));
    let mut nesting = Nesting::default();
    for (at, character) in text.char_indices() {
        if nesting.is_outside() && ends(&text[at..]) {
            return Some(at);
        }
        nesting.enter(character)?;
    }
    nesting.is_outside().then_some(text.len())
}

/// The closing bracket of what was opened before.
fn dump_end(text: &str) -> Option<usize> {
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
    fn what_quotes_no_value_is_left_as_it_is() {
        for text in [
            "Replicas: 0/3",
            r#"ReplicaSet "web-6d4b" has timed out progressing."#,
            r#"pods "web-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"#,
            r#"field .spec.containers[name="a"].image is managed by kubectl"#,
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden",
            "ü: …",
        ] {
            assert_eq!(without_values(text), text);
        }
    }

    proptest! {
        #[test]
        fn what_has_no_values_any_more_loses_nothing(text in "([ a\"\\\\{}\\[\\]:,é]|Invalid value: |map\\[|…){0,20}") {
            let once = without_values(&text);
            prop_assert_eq!(without_values(&once), once);
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
