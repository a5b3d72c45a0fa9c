//! The API server's paths. What comes from a manifest is encoded, so that no name can reach another path.

use std::fmt::Write as _;

use bellwether_core::ObjectKey;

use super::ClusterError;
use super::discovery::Resource;

/// Of one object.
pub(super) fn object(key: &ObjectKey, resource: &Resource) -> Result<String, ClusterError> {
    let mut path = collection(key, resource)?;
    path.push('/');
    push_segment(&mut path, &key.name)?;
    Ok(path)
}

/// Of all objects that are where this one is.
pub(super) fn collection(key: &ObjectKey, resource: &Resource) -> Result<String, ClusterError> {
    let mut path = version(&resource.api_version);
    if resource.namespaced {
        let namespace = key.namespace.as_deref().ok_or_else(|| {
            let message = format!("{} is namespaced, and this one names no namespace", key.kind);
            ClusterError::rejected("NamespaceRequired", message)
        })?;
        path.push_str("/namespaces/");
        push_segment(&mut path, namespace)?;
    }
    path.push('/');
    path.push_str(&resource.plural);
    Ok(path)
}

/// Of one Secret, or of a namespace's Secrets.
pub(super) fn secret(namespace: &str, name: Option<&str>) -> String {
    let collection = format!("/api/v1/namespaces/{namespace}/secrets");
    name.map_or_else(|| collection.clone(), |name| format!("{collection}/{name}"))
}

/// Of a few Pods of the Job with that uid.
pub(super) fn pods_of_job(namespace: &str, uid: &str) -> Result<String, ClusterError> {
    let mut path = String::from("/api/v1/namespaces/");
    push_segment(&mut path, namespace)?;
    path.push_str("/pods?limit=100&labelSelector=batch.kubernetes.io%2Fcontroller-uid%3D");
    push_segment(&mut path, uid)?;
    Ok(path)
}

fn version(api_version: &str) -> String {
    let prefix = if api_version.contains('/') { "/apis" } else { "/api" };
    format!("{prefix}/{api_version}")
}

fn push_segment(path: &mut String, segment: &str) -> Result<(), ClusterError> {
    // The same that the API server allows in a name; RBAC names may hold a colon.
    if matches!(segment, "" | "." | "..") || segment.contains(['/', '%']) {
        let message = format!("`{segment}` cannot be a name or a namespace");
        return Err(ClusterError::rejected("InvalidName", message));
    }
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(api_version: &str, namespace: Option<&str>, name: &str) -> ObjectKey {
        ObjectKey {
            api_version: api_version.to_owned(),
            kind: "Kind".to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    fn path(key: &ObjectKey, namespaced: bool) -> Result<String, ClusterError> {
        let api_version = key.api_version.clone();
        object(
            key,
            &Resource { api_version, plural: "kinds".to_owned(), namespaced, can_watch: true, has_status: false },
        )
    }

    #[test]
    fn the_scope_decides_the_path_and_not_the_manifest() {
        let cases = [
            (key("v1", Some("shop"), "a"), true, "/api/v1/namespaces/shop/kinds/a"),
            (key("apps/v1", Some("shop"), "a"), true, "/apis/apps/v1/namespaces/shop/kinds/a"),
            (key("apps/v1", Some("shop"), "a"), false, "/apis/apps/v1/kinds/a"),
            (key("g/v1", None, "system:a b"), false, "/apis/g/v1/kinds/system:a%20b"),
        ];
        for (key, namespaced, expected) in cases {
            assert_eq!(path(&key, namespaced).ok().as_deref(), Some(expected));
        }
    }

    #[test]
    fn no_name_reaches_another_path() {
        for name in ["", ".", "..", "a/b", "%2e%2e", "../secrets/x"] {
            assert!(path(&key("v1", Some("shop"), name), true).is_err(), "{name}");
            assert!(path(&key("v1", Some(name), "a"), true).is_err(), "{name}");
        }
        assert_eq!(path(&key("v1", None, "a?b#c"), false).ok().as_deref(), Some("/api/v1/kinds/a%3Fb%23c"));
    }

    #[test]
    fn a_namespaced_object_without_a_namespace_is_rejected_and_not_put_into_default() {
        assert!(matches!(path(&key("v1", None, "a"), true), Err(ClusterError::Rejected { .. })));
    }
}
