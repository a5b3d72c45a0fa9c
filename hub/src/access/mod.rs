//! Who may do what at the API: callers, and the tokens that they show.

pub(crate) mod caller;
pub(crate) mod token;
