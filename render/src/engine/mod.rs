//! What makes objects of files. An engine reads and fills in; what holds for every object whatever made it is in `finish`.

mod fill;
pub(crate) mod plain;
mod variables;
