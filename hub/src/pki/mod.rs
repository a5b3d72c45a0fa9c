//! Keys, certificates and whom they are trusted by; secrets at rest.

pub(crate) mod app_key;
pub(crate) mod ca;
pub(crate) mod pem;
pub(crate) mod revocations;
pub(crate) mod seal;
pub(crate) mod tls;
pub(crate) mod trust;
