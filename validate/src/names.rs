//! Names as API servers check them: each kind has its rule, and most have the same.

use std::net::IpAddr;

/// Whether an API server stores something under the name, or what a name has to be. Of a kind of which nothing is known
/// only what no path can hold is refused.
pub(crate) fn check_name(api_version: &str, kind: &str, name: &str, is_known: bool) -> Result<(), &'static str> {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let (is_good, message) = match (group, kind) {
        _ if !is_known => (is_path_segment(name), SEGMENT),
        ("rbac.authorization.k8s.io", _) | ("certificates.k8s.io", "ClusterTrustBundle") => {
            (is_path_segment(name), SEGMENT)
        }
        ("networking.k8s.io", "IPAddress") => {
            (name.parse::<IpAddr>().is_ok(), "is no IP address, as its name has to be")
        }
        ("", "Namespace" | "Service") => (is_dns_label(name), LABEL),
        _ => (is_dns_subdomain(name), SUBDOMAIN),
    };
    if is_good { Ok(()) } else { Err(message) }
}

const SEGMENT: &str = "is no name: it is not empty, `.` or `..`, and has neither `/` nor `%`";
pub(crate) const LABEL: &str =
    "is no name: 1 to 63 lower-case letters, digits and `-`, beginning and ending with a letter or digit";
const SUBDOMAIN: &str =
    "is no name: lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit";

fn is_path_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%'])
}

pub(crate) fn is_dns_label(name: &str) -> bool {
    let may_stand = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(may_stand) && !name.starts_with('-') && !name.ends_with('-')
}

/// Its parts may be as long as the whole.
fn is_dns_subdomain(name: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let may_stand = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let is_part = |part: &[u8]| is_edge(part.first()) && is_edge(part.last()) && part.iter().all(may_stand);
    name.len() <= 253 && name.split('.').all(|part| is_part(part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_rule() {
        for (api_version, kind, is_known, good, bad) in [
            ("v1", "ConfigMap", true, "a.b-1", "A"),
            ("v1", "Service", true, "web", "my.service"),
            ("v1", "Namespace", true, "shop", "my.shop"),
            ("rbac.authorization.k8s.io/v1", "Role", true, "system:a", "a/b"),
            ("certificates.k8s.io/v1beta1", "ClusterTrustBundle", true, "example.com:foo:v1", "a/b"),
            ("networking.k8s.io/v1", "IPAddress", true, "2001:db8::1", "web"),
            ("example.org/v1", "Widget", true, "a", "a:b"),
            ("user.openshift.io/v1", "Identity", false, "htpasswd:alice", "a/b"),
        ] {
            assert_eq!(check_name(api_version, kind, good, is_known), Ok(()), "{kind} {good}");
            assert!(check_name(api_version, kind, bad, is_known).is_err(), "{kind} {bad}");
        }
    }
}
