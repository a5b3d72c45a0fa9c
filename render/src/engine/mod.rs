//! What makes objects of files. An engine reads and fills in; what holds for every object whatever made it is in `finish`.

pub(crate) mod chart;
pub(crate) mod fill;
pub(crate) mod made;
pub(crate) mod parameters;
pub(crate) mod plain;
pub(crate) mod variables;
