//! An object against the schema of a built-in kind: as strict as an API server that is asked for
//! `fieldValidation=Strict`, as far as the schema goes.

use std::collections::BTreeSet;

use bellwether_core::labels::{Labels, check_labels};
use bellwether_core::nearest;
use bellwether_render::yaml::{Content, Node};

use crate::formats::{is_base64, is_quantity, is_time};
use crate::lists;
use crate::path::{Trail, has_variable};
use crate::schema::{Fields, Form, Scalar, Schemas};

pub(crate) struct Checker<'s> {
    schemas: &'s Schemas,
    /// Below `status`: the server sets it aside, so that nothing of it is missing.
    is_status: bool,
    /// What people wrote and variables are filled into, later.
    may_have_variables: bool,
    /// What is one of an object, or of its template.
    of_metadata: Option<&'s Form>,
}

impl<'s> Checker<'s> {
    pub(crate) fn new(schemas: &'s Schemas, may_have_variables: bool) -> Self {
        Self { schemas, is_status: false, may_have_variables, of_metadata: schemas.metadata() }
    }

    pub(crate) fn may_have_variables(&self) -> bool {
        self.may_have_variables
    }

    /// A whole object.
    pub(crate) fn object(&mut self, trail: &mut Trail, root: &Node, fields: &Fields) {
        self.map(trail, root, fields, true);
    }

    /// What every object has, of whatever kind.
    pub(crate) fn metadata(&mut self, trail: &mut Trail, root: &Node) {
        if let (Some(form), Some(metadata)) = (self.schemas.metadata(), root.field("metadata")) {
            trail.within("metadata", |trail| self.form(trail, metadata, form));
        }
    }

    pub(crate) fn form(&mut self, trail: &mut Trail, node: &Node, form: &Form) {
        // What is null was not written, to an API server.
        if node.content == Content::Null || self.is_unknown(node, form) {
            return;
        }
        match form {
            Form::Type(number) => {
                let schemas = self.schemas;
                self.map(trail, node, schemas.fields(*number), false);
                if self.of_metadata == Some(form) {
                    self.check_words(trail, node);
                }
            }
            Form::Scalar(scalar) => check_scalar(trail, node, *scalar),
            Form::Enum { texts } => check_enum(trail, node, texts),
            Form::List([item]) => match &node.content {
                Content::List(items) => {
                    for (index, node) in items.iter().enumerate() {
                        trail.within_item(index, |trail| self.form(trail, node, item));
                    }
                }
                _ => trail.wrong_type(node, "a list"),
            },
            Form::Map { values } => match node.entries() {
                Some(entries) => {
                    for entry in entries {
                        trail.within(&entry.key, |trail| self.form(trail, &entry.value, values));
                    }
                }
                None => trail.wrong_type(node, "a map"),
            },
        }
    }

    /// Labels and the keys of annotations, of the object itself and of what it is a template for.
    fn check_words(&self, trail: &mut Trail, metadata: &Node) {
        for field in ["labels", "annotations"] {
            for entry in metadata.field(field).and_then(Node::entries).unwrap_or_default() {
                let Some(value) = entry.value.text() else { continue };
                let is_unknown = self.may_have_variables && (has_variable(value) || has_variable(&entry.key));
                let (key, value) =
                    if field == "labels" { (entry.key.to_string(), value) } else { (entry.key.to_lowercase(), "") };
                let label: Labels = [(key, value.to_owned())].into_iter().collect();
                if let Err(error) = check_labels(&label)
                    && !is_unknown
                {
                    let code = if field == "labels" { "label_invalid" } else { "annotation_invalid" };
                    trail.within(field, |trail| trail.problem(code, entry.line(), error.to_string()));
                }
            }
        }
    }

    fn map(&mut self, trail: &mut Trail, node: &Node, fields: &Fields, is_top: bool) {
        let Some(entries) = node.entries() else {
            trail.wrong_type(node, "a map");
            return;
        };
        let mut seen = BTreeSet::new();
        for entry in entries {
            let Some(form) = fields.known.get(&*entry.key) else {
                unknown(trail, &entry.key, entry.line(), fields.known.keys().map(String::as_str));
                continue;
            };
            if entry.value.content != Content::Null {
                seen.insert(&*entry.key);
            }
            self.is_status |= is_top && &*entry.key == "status";
            trail.within(&entry.key, |trail| {
                self.form(trail, &entry.value, form);
                let keys = fields.keys.get(&*entry.key).filter(|_| !self.is_status);
                if let (Some(keys), Content::List(items)) = (keys, &entry.value.content) {
                    check_twins(trail, items, keys);
                }
            });
            self.is_status &= !is_top;
        }
        let missing = fields.required.iter().filter(|name| !seen.contains(name.as_str()));
        for name in missing.filter(|_| !self.is_status) {
            trail.within(name, |trail| trail.problem("field_missing", node.line(), "is required, and missing"));
        }
    }

    fn is_unknown(&self, node: &Node, form: &Form) -> bool {
        let is_text = matches!(form, Form::Scalar(Scalar::Text | Scalar::Any));
        self.may_have_variables && !is_text && node.text().is_some_and(has_variable)
    }
}

/// Without keys it is a set. Of the fields that tell items apart, one has a default.
fn check_twins(trail: &mut Trail, items: &[Node], keys: &[String]) {
    if keys.is_empty() {
        lists::check_set(trail, items);
    } else {
        lists::check_keys(trail, items, keys, |key| (key == "protocol").then(|| "TCP".into()));
    }
}

/// A field that the schema does not have.
pub(crate) fn unknown<'a>(trail: &mut Trail, key: &str, line: u32, known: impl Iterator<Item = &'a str>) {
    let hint = nearest(key, known).map(|nearest| format!("did you mean `{nearest}`?"));
    trail.within(key, |trail| trail.problem_with_hint("field_unknown", line, "is no known field", hint));
}

fn check_enum(trail: &mut Trail, node: &Node, texts: &[String]) {
    let Some(text) = node.text() else {
        trail.wrong_type(node, "a string");
        return;
    };
    // Empty is as good as left out.
    if text.is_empty() || texts.iter().any(|known| known == text) {
        return;
    }
    let hint = nearest(text, texts.iter().map(String::as_str)).map(|nearest| format!("did you mean `{nearest}`?"));
    let known = texts.iter().filter(|text| !text.is_empty()).map(|text| format!("`{text}`")).collect::<Vec<_>>();
    let message = format!("is none of {}", known.join(", "));
    trail.problem_with_hint("value_unknown", node.line(), message, hint);
}

fn check_scalar(trail: &mut Trail, node: &Node, scalar: Scalar) {
    match (scalar, &node.content) {
        (Scalar::Any, _)
        | (Scalar::AnyMap, Content::Map(_))
        | (Scalar::Bool, Content::Bool(_))
        | (Scalar::Float | Scalar::Quantity, Content::Number(_))
        | (Scalar::Text | Scalar::IntOrText, Content::Text(_)) => {}
        (Scalar::Int32 | Scalar::IntOrText, Content::Number(number)) => {
            let fits = number.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
            if !fits {
                trail.problem("field_type_wrong", node.line(), "is no whole number of 32 bits");
            }
        }
        (Scalar::Int64, Content::Number(number)) => {
            if number.as_i64().is_none() {
                trail.problem("field_type_wrong", node.line(), "is no whole number of 64 bits");
            }
        }
        (Scalar::Quantity, Content::Text(text)) => {
            if !is_quantity(&text.value) {
                trail.problem("value_malformed", node.line(), "is no quantity such as `500m` or `1.5Gi`");
            }
        }
        (Scalar::Time, Content::Text(text)) => {
            if !is_time(&text.value) {
                trail.problem("value_malformed", node.line(), "is no time such as `2026-01-31T10:00:00Z`");
            }
        }
        (Scalar::Bytes, Content::Text(text)) => {
            if !is_base64(&text.value) {
                trail.problem("value_malformed", node.line(), "is not base64");
            }
        }
        (scalar, content) => {
            let hint = match (scalar, content) {
                (Scalar::Text | Scalar::Bytes, Content::Number(_) | Content::Bool(_)) => Some("put it in quotes"),
                (Scalar::Int32 | Scalar::Int64 | Scalar::Bool | Scalar::Float, Content::Text(_)) => {
                    Some("write it without quotes")
                }
                _ => None,
            };
            let message = format!("is {}, not {}", node.kind(), called(scalar));
            trail.problem_with_hint("field_type_wrong", node.line(), message, hint.map(ToOwned::to_owned));
        }
    }
}

fn called(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Text | Scalar::Bytes | Scalar::Time => "a string",
        Scalar::Bool => "a boolean",
        Scalar::Int32 | Scalar::Int64 | Scalar::Float => "a number",
        Scalar::Quantity | Scalar::IntOrText => "a string or a number",
        Scalar::AnyMap => "a map",
        Scalar::Any => "anything",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Version;

    fn check(text: &str) -> Vec<String> {
        let schemas = Schemas::load(Version::newest());
        let documents = bellwether_render::yaml::read("a.yaml", text.as_bytes()).expect("it is read");
        let root = &documents[0].root;
        let text = |field| root.field(field).and_then(Node::text).expect("a text");
        let kind = schemas.kind(text("apiVersion"), text("kind")).expect("it is known");
        let mut trail = Trail::default();
        Checker::new(&schemas, true).object(&mut trail, root, schemas.fields(kind.fields));
        let problems = trail.into_problems().into_iter();
        problems.map(|problem| format!("{}: {} {}", problem.line, problem.path, problem.message)).collect()
    }

    fn deployment(container: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  selector: {{matchLabels: {{a: b}}}}\n  \
             template:\n    metadata: {{labels: {{a: b}}}}\n    spec:\n      containers:\n      - {container}\n"
        )
    }

    #[test]
    fn an_object_that_is_right_has_no_problem() {
        let container = "{name: a, image: b, imagePullPolicy: Always, ports: [{containerPort: 80}], \
                         resources: {limits: {cpu: 1, memory: 1Gi}}, livenessProbe: {httpGet: {port: http}}}";
        assert_eq!(check(&deployment(container)), [""; 0]);
    }

    #[test]
    fn each_slip_is_told_with_its_path_and_line() {
        for (container, expected) in [
            ("{name: a, imag: b}", "10: spec.template.spec.containers[0].imag is no known field"),
            ("{image: b}", "10: spec.template.spec.containers[0].name is required, and missing"),
            ("{name: 1}", "10: spec.template.spec.containers[0].name is a number, not a string"),
            ("{name: a, tty: 'yes'}", "10: spec.template.spec.containers[0].tty is a string, not a boolean"),
            (
                "{name: a, ports: [{containerPort: 4294967296}]}",
                "10: spec.template.spec.containers[0].ports[0].containerPort is no whole number of 32 bits",
            ),
            (
                "{name: a, imagePullPolicy: always}",
                "10: spec.template.spec.containers[0].imagePullPolicy is none of `Always`, `IfNotPresent`, `Never`",
            ),
            (
                "{name: a, resources: {limits: {memory: 1GB}}}",
                "10: spec.template.spec.containers[0].resources.limits.memory is no quantity such as `500m` or `1.5Gi`",
            ),
            (
                "{name: a, livenessProbe: {httpGet: {port: [1]}}}",
                "10: spec.template.spec.containers[0].livenessProbe.httpGet.port is a list, not a string or a number",
            ),
            ("[a]", "10: spec.template.spec.containers[0] is a list, not a map"),
            ("null", "10: spec.template.spec.containers[0] is null, and has no field that tells it apart"),
            (
                "{name: a, env: [{name: A, value: one}, {name: A, value: two}]}",
                "10: spec.template.spec.containers[0].env[1] stands twice in the list: name \"A\"",
            ),
            (
                "{name: a, ports: [{containerPort: 80}, {containerPort: 80, protocol: TCP}]}",
                "10: spec.template.spec.containers[0].ports[1] stands twice in the list: containerPort 80, protocol \"TCP\"",
            ),
        ] {
            assert_eq!(check(&deployment(container)), [expected], "{container}");
        }
    }

    #[test]
    fn what_is_null_is_left_out_and_a_variable_may_be_anything() {
        assert_eq!(check(&deployment("{name: a, image: null, tty: null}")), [""; 0]);
        assert_eq!(check(&deployment("{name: a, tty: '${tty}', ports: ['${port}']}")), [""; 0]);
        assert_eq!(check(&deployment("{name: null}")).len(), 1);
        assert_eq!(check(&deployment("{name: a, env: [{name: '${a}'}, {name: '${a}'}]}")), [""; 0]);
    }

    #[test]
    fn nothing_of_a_status_is_missing() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nstatus: {conditions: [{type: a}, {type: a}], replica: 1}\n";

        assert_eq!(check(text), ["4: status.replica is no known field", "1: spec is required, and missing"]);
    }

    #[test]
    fn labels_and_annotations_are_words_wherever_they_stand() {
        let with = |metadata: &str| deployment("{name: a}").replace("{labels: {a: b}}", metadata);

        assert_eq!(check(&with("{labels: {a: b}, annotations: {Example.ORG/a: 'any text, and more'}}")), [""; 0]);
        for metadata in
            ["{labels: {a: b, 'bad key!': x}}", "{labels: {a: 'bad value!'}}", "{annotations: {'bad key!': x}}"]
        {
            let found = check(&with(metadata));
            assert!(found.len() == 1 && found[0].contains("spec.template.metadata."), "{metadata}: {found:?}");
        }
    }
}
