//! What rows hold as JSON, and rows of lists: one that this version cannot read fails alone.
//!
//! While hubs are upgraded one after the other, the older ones read what the newer ones write. A field that they do not
//! know is ignored ([`bellwether_core::target`]), unless the row says that it must not be: a newer hub names under `needs`
//! what whoever acts on the value has to know. `docs/decisions/0009` says what follows from that.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use sqlx::postgres::{PgTypeInfo, PgValueRef};
use sqlx::types::Json;
use sqlx::{Decode, Postgres, Type};

use super::StoreError;

/// A JSON value of a row; `None`: this version cannot read it, or must not act on it. To be asked for by its row, so that
/// the other rows of the same answer are read.
pub(crate) struct Stored<T>(Option<T>);

impl<T> Stored<T> {
    pub(crate) fn read(self, table: &'static str, column: &'static str) -> Result<T, StoreError> {
        self.0.ok_or(StoreError::Unreadable { table, column })
    }
}

/// Without the value, which may hold a secret.
impl<T> fmt::Debug for Stored<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Stored(readable)" } else { "Stored(unreadable)" })
    }
}

impl<T> Type<Postgres> for Stored<T> {
    fn type_info() -> PgTypeInfo {
        <Json<()> as Type<Postgres>>::type_info()
    }

    fn compatible(found: &PgTypeInfo) -> bool {
        <Json<()> as Type<Postgres>>::compatible(found)
    }
}

impl<'r, T: DeserializeOwned> Decode<'r, Postgres> for Stored<T> {
    fn decode(value: PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        let Json(raw) = <Json<&'r RawValue>>::decode(value)?;
        Ok(Self(read(raw.get())))
    }
}

/// What the error says is dropped: it may repeat a value, and values may be secret.
fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    if needs_more(text) { None } else { serde_json::from_str(text).ok() }
}

/// This version is the first: there is nothing yet that an older one would have to know.
fn needs_more(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Needs {
        needs: Vec<String>,
    }
    // No value of ours but those that say so holds a list of that name: labels and facts hold texts.
    serde_json::from_str::<Needs>(text).is_ok_and(|found| !found.needs.is_empty())
}

/// A row of a list, and what to call it if it cannot be read.
pub(crate) struct Entry<T> {
    /// Its name or id: where the next page begins.
    pub(crate) name: String,
    pub(crate) read: Result<T, StoreError>,
}

impl<T> Entry<T> {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a reference into a row would outlive the row, which is read here"
    )]
    pub(crate) fn of(name: impl ToString, read: Result<T, StoreError>) -> Self {
        Self { name: name.to_string(), read }
    }

    /// What it says; one that cannot be read is named in the log and left out.
    pub(crate) fn readable(self) -> Option<T> {
        let said = |error: &StoreError| {
            tracing::warn!(row = self.name, error = %crate::chain(error), "a row cannot be read, and is left out");
        };
        self.read.inspect_err(said).ok()
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::Labels;
    use bellwether_core::repo::RepoSpec;

    use super::read;

    #[test]
    fn what_is_not_known_is_ignored_unless_the_row_says_that_it_must_not_be() {
        let ignored = read::<RepoSpec>(r#"{"url": "https://a", "later": 1, "needs": []}"#);
        let needed = read::<RepoSpec>(r#"{"url": "https://a", "proxy": "https://b", "needs": ["proxy"]}"#);

        assert_eq!(ignored.map(|spec| spec.url).as_deref(), Some("https://a"));
        assert_eq!(needed, None, "fetched without its proxy it would be another repo");
        assert!(read::<Labels>(r#"{"needs": "gpu"}"#).is_some(), "a label is a label");
    }
}
