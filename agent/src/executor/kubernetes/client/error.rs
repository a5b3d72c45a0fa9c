//! Reads what went wrong with a request from what the API server answered: into reports, audit entries and logs go the field
//! and the reason, and no value of an object.

use std::time::Duration;

use bellwether_core::quoting::without_values;
use bellwether_core::reconcile::{ClusterError, Contested, UNFIT_REASON};
use bellwether_core::replace;
use http::StatusCode;
use serde::Deserialize;

/// The part of a `metav1.Status` that is used.
#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    reason: String,
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(default)]
    name: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    causes: Vec<Cause>,
    retry_after_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Cause {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    field: String,
}

/// How the API server begins when an applied object does not fit its kind's schema (an unknown field, a wrong type, a
/// duplicate list entry). It answers that with 500 and no reason, as if it were its own fault.
const UNFIT: &str = "failed to create typed patch object";

/// Before the words of a webhook or of a policy, or of what answers for them.
const DENIED: [&str; 3] = ["denied the request: ", "denied request: ", "an error on the server ("];

/// A request, as far as its answer depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Whoever refuses it in words of their own may quote its values in any way.
    Secrets,
    Others,
}

/// Reads an answer that is not a success. `retry_after` is the header of that name.
pub(super) fn judge(code: StatusCode, retry_after: Option<Duration>, about: About, body: &[u8]) -> ClusterError {
    // Overload and proxies answer in plain text; their first words are then the message.
    let status = serde_json::from_slice::<Status>(body).unwrap_or_default();
    let details = status.details.unwrap_or_default();
    let is_unfit = status.reason.is_empty() && status.message.starts_with(UNFIT);
    let message = match status.message.as_str() {
        "" if about == About::Secrets => format!("the API server answered {code}"),
        "" => plain(code, body),
        message if is_unfit => unfit(message),
        message => invalid(message, &details.causes).unwrap_or_else(|| without_values(message)),
    };
    let message = if about == About::Secrets { without_words_of_others(message) } else { message };
    let after = retry_after.or(details.retry_after_seconds.map(Duration::from_secs));
    match code {
        StatusCode::CONFLICT => conflict(&details.causes, message),
        StatusCode::NOT_FOUND => not_found(&details),
        StatusCode::FORBIDDEN if details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating") => {
            ClusterError::Retry { after, message }
        }
        StatusCode::FORBIDDEN => ClusterError::Forbidden { message },
        // 401: the token is being replaced, or the API server cannot reach what checks it.
        StatusCode::UNAUTHORIZED | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            ClusterError::Retry { after, message }
        }
        StatusCode::INTERNAL_SERVER_ERROR if is_unfit => ClusterError::rejected(UNFIT_REASON, message),
        // We said which object we mean, and another has its name now.
        StatusCode::UNPROCESSABLE_ENTITY if details.causes.iter().any(|cause| cause.field == "metadata.uid") => {
            ClusterError::Stale { message }
        }
        code if code.is_server_error() => ClusterError::Retry { after, message },
        _ => {
            let reason = Some(status.reason).filter(|reason| !reason.is_empty());
            let reason = reason.unwrap_or_else(|| reason_of(code).to_owned());
            let (fields, is_of_a_change) =
                (fields_at_fault(&details.causes), is_of_a_change(&message, &details.causes));
            ClusterError::Rejected { reason, message, fields, is_of_a_change }
        }
    }
}

/// As an API server calls it, of an answer that is not its own, or has no reason.
fn reason_of(code: StatusCode) -> &'static str {
    match code {
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
        _ => "",
    }
}

fn conflict(causes: &[Cause], message: String) -> ClusterError {
    let contested = |cause: &Cause| {
        // `conflict with "kubectl-edit" using v1`
        let manager = cause.message.split('"').nth(1).unwrap_or("somebody else");
        Contested { field: cause.field.clone(), manager: manager.to_owned() }
    };
    let fields: Vec<_> = causes.iter().filter(|cause| cause.reason == "FieldManagerConflict").map(contested).collect();
    if fields.is_empty() { ClusterError::Stale { message } } else { ClusterError::Conflict(fields) }
}

fn not_found(details: &Details) -> ClusterError {
    match details.kind.as_str() {
        "namespaces" => ClusterError::NamespaceMissing { namespace: details.name.clone(), not_made: None },
        // The path itself: discovery knew the kind, and it is gone since. Which kind that is, knows who asked.
        "" => ClusterError::KindMissing { api_version: String::new(), kind: String::new() },
        _ => ClusterError::NotFound,
    }
}

fn plain(code: StatusCode, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    if text.trim().is_empty() { format!("the API server answered {code}") } else { without_values(text.trim()) }
}

/// `Job.batch "j" is invalid: spec.template: Invalid value: …: field is immutable`: each field by its cause, which says where
/// a value ends and the next field begins.
fn invalid(message: &str, causes: &[Cause]) -> Option<String> {
    let (what, _) = message.split_once(" is invalid: ")?;
    let mut told: Vec<_> = at_fault(causes)
        // What goes on in another line is a comparison of the two objects.
        .map(|cause| format!("{}: {}", cause.field, first_line(&without_values(&cause.message))))
        .collect();
    told.dedup();
    (!told.is_empty()).then(|| format!("{} is invalid: {}", without_values(what), told.join(", ")))
}

/// What Kubernetes' validation found: each with its field and the kind of fault. What a policy says has neither.
fn at_fault(causes: &[Cause]) -> impl Iterator<Item = &Cause> {
    causes.iter().filter(|cause| cause.reason.starts_with("FieldValue") && !cause.field.is_empty())
}

fn fields_at_fault(causes: &[Cause]) -> Vec<String> {
    at_fault(causes).map(|cause| cause.field.clone()).collect()
}

/// Whether Kubernetes' validation finds nothing else than that fields cannot change. What a webhook says is no such word.
fn is_of_a_change(message: &str, causes: &[Cause]) -> bool {
    let mut faults = at_fault(causes).map(|cause| replace::is_of_a_change(&without_values(&cause.message))).peekable();
    let are_all_known = at_fault(causes).count() == causes.len() && !message.starts_with("admission webhook ");
    faults.peek().is_some() && are_all_known && faults.all(|is_so| is_so)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// `.data.a: expected string, got &value.valueUnstructured{Value:1}`, alone or a line each, after the object's name.
fn unfit(message: &str) -> String {
    let fields = message.split_once("): ").map_or("", |(_, fields)| fields);
    // Every other line is of a value that has several.
    let lines = fields.lines().map(str::trim).filter(|line| line.starts_with('.'));
    let told: Vec<_> = lines.map(unfit_field).collect();
    let told = if told.is_empty() { "a field of it has another type".to_owned() } else { told.join("; ") };
    format!("it does not fit the schema of its kind: {told}")
}

fn unfit_field(line: &str) -> String {
    let Some((field, value)) = line.split_once(", got ") else { return without_values(line) };
    let value = value.split_once("{Value:").map_or(value.trim_start_matches("&{"), |(_, value)| value);
    let kind = match value {
        value if value.starts_with('"') => "a string",
        value if value.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => "a number",
        value if value.starts_with("true") || value.starts_with("false") => "a boolean",
        value if value.starts_with("map[") => "a map",
        value if value.starts_with('[') => "a list",
        value if value.starts_with("interface {}(nil)") || value.starts_with("<nil>") => "null",
        _ => "another type",
    };
    format!("{}, got {kind}", without_values(field))
}

fn without_words_of_others(message: String) -> String {
    let Some(end) = DENIED.iter().filter_map(|words| Some(message.find(words)? + words.len())).min() else {
        return message;
    };
    format!("{}its words may hold values of the Secret, and are left out", &message[..end])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(code: u16, body: &serde_json::Value) -> ClusterError {
        judged_about(About::Others, code, body)
    }

    fn judged_about(about: About, code: u16, body: &serde_json::Value) -> ClusterError {
        judge(StatusCode::from_u16(code).expect("is a code"), None, about, body.to_string().as_bytes())
    }

    #[test]
    fn a_conflict_names_the_field_and_its_manager() {
        let cause = |field| json!({"reason": "FieldManagerConflict", "message": "conflict with \"kubectl\" using v1", "field": field});
        let body = json!({"message": "…", "details": {"causes": [cause(".data.a"), cause(".data.b")]}});

        let error = judged(409, &body);

        let contested = |field: &str| Contested { field: field.to_owned(), manager: "kubectl".to_owned() };
        assert_eq!(error, ClusterError::Conflict(vec![contested(".data.a"), contested(".data.b")]));
        assert_eq!(error.to_string(), "field .data.a is managed by kubectl, and 1 more fields are in conflict");
    }

    #[test]
    fn a_missing_namespace_is_told_from_a_missing_object() {
        let not_found = |kind: &str| judged(404, &json!({"message": "m", "details": {"kind": kind, "name": "shop"}}));

        assert_eq!(
            not_found("namespaces"),
            ClusterError::NamespaceMissing { namespace: "shop".to_owned(), not_made: None }
        );
        assert_eq!(not_found("configmaps"), ClusterError::NotFound);
    }

    #[test]
    fn a_path_that_is_not_served_is_a_missing_kind() {
        let plain = judge(StatusCode::NOT_FOUND, None, About::Others, b"404 page not found\n");

        assert!(matches!(plain, ClusterError::KindMissing { .. }));
    }

    #[test]
    fn an_object_that_is_another_one_by_now_is_not_what_is_invalid() {
        let cause = json!({"reason": "FieldValueInvalid", "message": "field is immutable", "field": "metadata.uid"});

        let other = judged(422, &json!({"reason": "Invalid", "message": "m", "details": {"causes": [cause]}}));

        assert_eq!(other, ClusterError::Stale { message: "m".to_owned() });
    }

    #[test]
    fn overload_is_retried_after_what_the_server_says() {
        let after = Some(Duration::from_secs(3));

        let plain =
            judge(StatusCode::TOO_MANY_REQUESTS, after, About::Others, b"Too many requests, please try again later.\n");
        let in_body = judged(503, &json!({"message": "m", "details": {"retryAfterSeconds": 3}}));

        let message = "Too many requests, please try again later.".to_owned();
        assert_eq!(plain, ClusterError::Retry { after, message });
        assert_eq!(in_body, ClusterError::Retry { after, message: "m".to_owned() });
    }

    #[test]
    fn a_namespace_that_is_going_away_is_waited_for_and_a_missing_right_is_not() {
        let causes = json!([{"reason": "NamespaceTerminating"}]);

        let terminating = judged(403, &json!({"message": "m", "details": {"causes": causes}}));
        let forbidden = judged(403, &json!({"message": "m"}));

        assert!(matches!(terminating, ClusterError::Retry { .. }));
        assert!(matches!(forbidden, ClusterError::Forbidden { .. }));
    }

    #[test]
    fn what_does_not_fit_the_schema_is_invalid_though_the_server_calls_it_internal() {
        let message = "failed to create typed patch object (shop/a; /v1, Kind=ConfigMap): .dataa: field not declared";

        let unfit = judged(500, &json!({"message": message}));
        let broken = judged(500, &json!({"message": "etcd is away", "reason": "InternalError"}));

        assert!(matches!(unfit, ClusterError::Rejected { .. }));
        assert!(matches!(broken, ClusterError::Retry { .. }));
    }

    #[test]
    fn what_is_invalid_stays_invalid() {
        let rejected = judged(422, &json!({"reason": "Invalid", "message": "spec.x: Required value"}));

        assert_eq!(rejected, ClusterError::rejected("Invalid", "spec.x: Required value"));
    }

    /// As an API server answers to a Job with another template, shortened in the middle of the template only.
    fn changed_job() -> serde_json::Value {
        let template = r#"{"labels":{"batch.kubernetes.io/job-name":"j"},"Spec":{"Volumes":null,"Containers":[{"Name":"a","Image":"a:2","Command":null,"Args":["--password=swordfish77"],"Env":[{"Name":"PW","Value":"swordfish77","ValueFrom":null}]}],"RestartPolicy":"Never"}}"#;
        let quoted = format!("Invalid value: {template}: field is immutable");
        let cause = json!({"reason": "FieldValueInvalid", "message": quoted, "field": "spec.template"});
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Invalid", "code": 422,
            "message": format!("Job.batch \"j\" is invalid: spec.template: {quoted}"),
            "details": {"name": "j", "group": "batch", "kind": "Job", "causes": [cause]},
        })
    }

    #[test]
    fn of_a_field_that_cannot_change_the_reason_is_told_and_no_value() {
        let told = judged(422, &changed_job()).to_string();

        assert_eq!(told, "Job.batch \"j\" is invalid: spec.template: Invalid value: …: field is immutable");
        let fields = |error| if let ClusterError::Rejected { fields, .. } = error { fields } else { Vec::new() };
        assert_eq!(fields(judged(422, &changed_job())), ["spec.template"]);
        let mut without_causes = changed_job();
        without_causes["details"] = json!(null);
        assert_eq!(judged(422, &without_causes).to_string(), told);
    }

    #[test]
    fn every_invalid_field_is_told_by_its_cause() {
        let cause =
            |reason: &str, field: &str, message: &str| json!({"reason": reason, "field": field, "message": message});
        let causes = [
            cause("FieldValueInvalid", "spec.a", "Invalid value: \"a, spec.x: swordfish\": must be less"),
            cause("FieldValueRequired", "spec.b", "Required value"),
            cause(
                "FieldValueForbidden",
                "spec",
                "Forbidden: pod updates may not change fields\n core.PodSpec{\n-\tImage: \"swordfish\"",
            ),
        ];
        let body =
            json!({"reason": "Invalid", "message": "Kind \"n\" is invalid: [swordfish", "details": {"causes": causes}});

        let told = judged(422, &body).to_string();
        let of_a_policy = json!({"reason": "Invalid", "message": "m", "details": {"causes": [{"message": "no"}]}});

        assert_eq!(judged(422, &of_a_policy), ClusterError::rejected("Invalid", "m"));
        let expected = "Kind \"n\" is invalid: spec.a: Invalid value: …: must be less, spec.b: Required value, spec: Forbidden: pod updates may not change fields";
        assert_eq!(told, expected);
    }

    #[test]
    fn of_what_does_not_fit_the_schema_the_types_are_told_and_no_value() {
        let told = |fields: &str| {
            let message = format!("failed to create typed patch object (n21/bad; /v1, Kind=ConfigMap): {fields}");
            judged(500, &json!({"message": message})).to_string()
        };

        assert_eq!(
            told(
                "errors:\n  .data.a: expected string, got &value.valueUnstructured{Value:1}\n  .data.true: expected string, got &value.valueUnstructured{Value:true}"
            ),
            "it does not fit the schema of its kind: .data.a: expected string, got a number; .data.true: expected string, got a boolean"
        );
        assert_eq!(
            told(".spec.ports: expected list, got &{sword\nfish}"),
            "it does not fit the schema of its kind: .spec.ports: expected list, got another type"
        );
        assert_eq!(
            told(".spec.colour: field not declared in schema"),
            "it does not fit the schema of its kind: .spec.colour: field not declared in schema"
        );
    }

    #[test]
    fn what_a_webhook_says_is_told_but_of_secrets() {
        let body = json!({"message": "admission webhook \"a.example.org\" denied the request: swordfish is too short"});
        let policy = json!({"message": "secrets \"s\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: swordfish"});

        let of_another = judged_about(About::Others, 400, &body).to_string();
        let of_secrets =
            [(400, &body), (422, &policy)].map(|(code, body)| judged_about(About::Secrets, code, body).to_string());

        assert_eq!(of_another, "admission webhook \"a.example.org\" denied the request: swordfish is too short");
        assert!(
            of_secrets[0].starts_with("admission webhook \"a.example.org\" denied the request: its words"),
            "{of_secrets:?}"
        );
        assert!(of_secrets.iter().all(|told| !told.contains("swordfish")), "{of_secrets:?}");
    }

    #[test]
    fn of_secrets_nobodys_words_are_told_but_an_api_servers_own() {
        let broken = json!({"reason": "InternalError", "message": "Internal error occurred: failed calling webhook \"a.example.org\": failed to call webhook: an error on the server (\"KeyError: swordfish\") has prevented the request from succeeding"});
        let plain = judge(StatusCode::BAD_GATEWAY, None, About::Secrets, b"the firewall dislikes password=swordfish");

        let told = judged_about(About::Secrets, 500, &broken).to_string();

        assert!(told.contains("failed calling webhook \"a.example.org\"") && !told.contains("swordfish"), "{told}");
        assert_eq!(plain.to_string(), "the API server answered 502 Bad Gateway");
    }

    #[test]
    fn of_a_taken_item_of_a_list_the_field_is_told_and_no_value() {
        let cause = |field| json!({"reason": "FieldManagerConflict", "message": "conflict with \"kubectl\" using v1", "field": field});
        let causes = [cause(".spec.words[=\"swordfish\"]")];

        let told = judged(409, &json!({"message": "…", "details": {"causes": causes}})).to_string();

        assert_eq!(told, "field .spec.words[=…] is managed by kubectl");
    }

    #[test]
    fn what_a_proxy_takes_for_no_reason_of_its_own_has_the_reason_of_its_code() {
        let reason = |code: u16| {
            let code = StatusCode::from_u16(code).expect("is a code");
            let error = judge(code, None, About::Others, b"<html>");
            if let ClusterError::Rejected { reason, .. } = error { reason } else { error.to_string() }
        };

        assert_eq!([405, 413, 415].map(reason), ["MethodNotAllowed", "RequestEntityTooLarge", "UnsupportedMediaType"]);
        assert_eq!(reason(418), "");
    }

    #[test]
    fn what_is_no_answer_of_an_api_server_is_told_without_values() {
        let plain = judge(StatusCode::BAD_GATEWAY, None, About::Others, br#"cannot forward {"env": "swordfish"}"#);

        assert_eq!(plain.to_string(), "cannot forward {…}");
    }
}
