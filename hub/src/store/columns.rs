//! How values stand in columns.

use jiff::SignedDuration;
use serde::de::DeserializeOwned;

use crate::store::StoreError;

/// States are written as serde writes them, so that rows, documents and code have one spelling.
pub(super) fn word<T: DeserializeOwned>(text: &str, table: &'static str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| StoreError::Unreadable { table, column: "state" })
}

/// The word for a state, in rows and in logs.
pub(crate) fn text<T: serde::Serialize>(state: T) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(text)) => text,
        _ => unreachable!("states are written as words"),
    }
}

pub(super) fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

pub(super) fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub(super) fn millis(number: i64) -> SignedDuration {
    SignedDuration::from_millis(number)
}

pub(super) fn in_millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
