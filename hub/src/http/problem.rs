//! Refusals, as RFC 9457 problems with a stable code and a hint.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bellwether_core::Condition;
use bellwether_core::api::Problem;
use bellwether_core::report::bounded_message;

use crate::store::{Cause, StoreError};

/// Of a row that this version cannot read, wherever it is told.
const ROW_UNREADABLE: &str = "row_unreadable";
const UNREADABLE_HINT: &str =
    "a newer hub may have written it: bring all hubs to one version; bellwether-hub's log names the row";

/// That it stands where a list leaves it out.
pub(super) fn unreadable(message: &str) -> Condition {
    Condition::new(ROW_UNREADABLE, message, Some(UNREADABLE_HINT), None)
}

/// A refusal on its way to whoever asked.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: bounded_message(&detail.into()), hint: None }
    }

    pub(super) fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub(super) fn not_found(kind: &str, name: impl std::fmt::Display) -> Self {
        let code = match kind {
            "cluster" => "cluster_not_found",
            "repo" => "repo_not_found",
            "target" => "target_not_found",
            "token" => "token_not_found",
            "drift" => "drift_not_found",
            _ => "rollout_not_found",
        };
        let detail = format!("there is no {kind} `{name}`");
        Self::new(StatusCode::NOT_FOUND, code, detail).hint(format!("see: bellwether {kind} list"))
    }

    pub(super) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(bounded_message(&hint.into()));
        self
    }

    pub(super) fn maybe_hint(mut self, hint: Option<impl AsRef<str>>) -> Self {
        self.hint = hint.map(|hint| bounded_message(hint.as_ref()));
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("refused").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.to_owned(),
            hint: self.hint,
        };
        let mut response = (self.status, axum::Json(problem)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// What the database could not do is logged here, and nothing of it is told.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NameTaken => Self::conflict("name_taken", "the name is taken"),
            StoreError::InUse => Self::conflict("in_use", "it is still used"),
            StoreError::Stale { .. } => Self::conflict("changed_meanwhile", "somebody else changed it meanwhile")
                .hint("read it again, and repeat the change"),
            StoreError::Unreadable { .. } => {
                tracing::warn!(error = %crate::chain(&error), "a row cannot be read");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, ROW_UNREADABLE, error.to_string()).hint(UNREADABLE_HINT)
            }
            other => match other.cause() {
                Some(Cause::NameTaken) => Self::conflict("name_taken", "the name is taken"),
                Some(Cause::InUse) => Self::conflict("in_use", "it is still used, or what it names is gone"),
                Some(Cause::Value) => Self::new(
                    StatusCode::BAD_REQUEST,
                    "text_invalid",
                    "the request holds a value that cannot be stored",
                ),
                Some(Cause::Busy) => {
                    tracing::warn!(error = %crate::chain(&other), "a request could not be served in time");
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "somebody else holds what this would change")
                        .hint("try again in a moment")
                }
                Some(Cause::Excessive) => {
                    tracing::warn!(error = %crate::chain(&other), "a request took too much");
                    let detail = "this took more time or memory than one request may";
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_much", detail).hint("ask for less at once")
                }
                None if other.is_outage() => Self::unavailable(&other),
                None => {
                    tracing::error!(error = %crate::chain(&other), "a request could not be served");
                    Self::new(StatusCode::INTERNAL_SERVER_ERROR, "database_failed", other.to_string())
                        .hint("bellwether-hub's log says what Postgres answered")
                }
            },
        }
    }
}

impl Refusal {
    fn unavailable(error: &StoreError) -> Self {
        tracing::warn!(error = %crate::chain(error), "a request could not be served");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", "the hub cannot reach its database")
            .hint("try again in a moment")
    }
}

pub(super) async fn no_such_route() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no_such_route", "there is nothing at this path")
}

pub(super) async fn wrong_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "this path has no such method")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{self, Pool};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn only_an_outage_of_the_database_is_called_one(pool: Pool) {
        let fault = store::execute_raw(&pool, "select hunter2").await.expect_err("there is no such column");
        pool.close().await;
        let outage = store::execute_raw(&pool, "select 1").await.expect_err("nobody is served");

        let (fault, outage) = (Refusal::from(fault), Refusal::from(outage));

        assert_eq!((fault.status, fault.code), (StatusCode::INTERNAL_SERVER_ERROR, "database_failed"));
        assert!(!fault.detail.contains("hunter2") && !fault.detail.contains("reach"), "{}", fault.detail);
        assert_eq!((outage.status, outage.code), (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable"));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_statement_that_took_too_long_is_in_nobodys_way(pool: Pool) {
        let mut db = store::begin(&pool).await.expect("a transaction");
        store::execute_in(&mut db, "set local statement_timeout = '50ms'").await.expect("it is set");
        let slow = store::execute_in(&mut db, "select pg_sleep(5)").await.expect_err("it takes too long");

        let refusal = Refusal::from(slow);

        assert_eq!((refusal.status, refusal.code), (StatusCode::SERVICE_UNAVAILABLE, "too_much"));
    }
}
