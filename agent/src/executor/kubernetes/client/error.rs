//! Reads what went wrong with a request from what the API server answered.

use std::time::Duration;

use bellwether_core::reconcile::{ClusterError, Contested};
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

/// Reads an answer that is not a success. `retry_after` is the header of that name.
pub(super) fn judge(code: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> ClusterError {
    // Overload and proxies answer in plain text; their first words are then the message.
    let status = serde_json::from_slice::<Status>(body).unwrap_or_default();
    let details = status.details.unwrap_or_default();
    let message = if status.message.is_empty() { plain(code, body) } else { status.message };
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
        StatusCode::INTERNAL_SERVER_ERROR if status.reason.is_empty() && message.starts_with(UNFIT) => {
            ClusterError::Rejected { reason: "Invalid".to_owned(), message }
        }
        // We said which object we mean, and another has its name now.
        StatusCode::UNPROCESSABLE_ENTITY if details.causes.iter().any(|cause| cause.field == "metadata.uid") => {
            ClusterError::Stale { message }
        }
        code if code.is_server_error() => ClusterError::Retry { after, message },
        _ => ClusterError::Rejected { reason: status.reason, message },
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
        "namespaces" => ClusterError::NamespaceMissing { namespace: details.name.clone() },
        // The path itself: discovery knew the kind, and it is gone since. Which kind that is, knows who asked.
        "" => ClusterError::KindMissing { api_version: String::new(), kind: String::new() },
        _ => ClusterError::NotFound,
    }
}

fn plain(code: StatusCode, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    if text.trim().is_empty() { format!("the API server answered {code}") } else { text.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(code: u16, body: &serde_json::Value) -> ClusterError {
        judge(StatusCode::from_u16(code).expect("is a code"), None, body.to_string().as_bytes())
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

        assert_eq!(not_found("namespaces"), ClusterError::NamespaceMissing { namespace: "shop".to_owned() });
        assert_eq!(not_found("configmaps"), ClusterError::NotFound);
    }

    #[test]
    fn a_path_that_is_not_served_is_a_missing_kind() {
        let plain = judge(StatusCode::NOT_FOUND, None, b"404 page not found\n");

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

        let plain = judge(StatusCode::TOO_MANY_REQUESTS, after, b"Too many requests, please try again later.\n");
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

        let expected = ("Invalid".to_owned(), "spec.x: Required value".to_owned());
        assert_eq!(rejected, ClusterError::Rejected { reason: expected.0, message: expected.1 });
    }
}
