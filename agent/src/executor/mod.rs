//! What carries assignments out, a folder for each kind of place. There is one: Kubernetes.

pub(crate) mod kubernetes;
