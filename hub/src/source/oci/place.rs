//! Where an artifact is: `oci://HOST/PATH`.

use url::{Host, Url};

use crate::source::git::InvalidUrl;

pub(in crate::source) const SCHEME: &str = "oci";

/// In clear text; for tests and demos.
pub(in crate::source) const INSECURE_SCHEME: &str = "oci+http";

/// What people call Docker's registry, and where it is.
const DOCKER: &str = "docker.io";
const DOCKER_REGISTRY: &str = "registry-1.docker.io";

/// As registries have it.
const NAME_BYTES_MAX: usize = 255;

/// A registry, and the name of an artifact there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct Place {
    /// Of the registry: scheme, host and port.
    base: Url,
    /// The artifact's name there, without a tag.
    pub(super) name: String,
}

pub(in crate::source) fn is_registry(url: &Url) -> bool {
    matches!(url.scheme(), SCHEME | INSECURE_SCHEME)
}

pub(in crate::source) fn default_port(url: &Url) -> Option<u16> {
    match url.scheme() {
        SCHEME => Some(443),
        INSECURE_SCHEME => Some(80),
        _ => None,
    }
}

/// Hosts of schemes that the parser does not know are only text to it. Each spelling of an address is one address.
pub(in crate::source) fn host_of(url: &Url) -> Option<Host<String>> {
    match url.host()? {
        Host::Domain(name) if is_registry(url) => Host::parse(name).ok(),
        host => Some(host.to_owned()),
    }
}

/// The URL in its one form: what was checked is what is used.
pub(in crate::source) fn read_url(text: &str) -> Result<Url, InvalidUrl> {
    let not_a_url = || InvalidUrl::NotAUrl;
    let (scheme, rest) = text.split_once("://").ok_or_else(not_a_url)?;
    let (scheme, secure) = match scheme.to_ascii_lowercase().as_str() {
        SCHEME => (SCHEME, "https"),
        INSECURE_SCHEME => (INSECURE_SCHEME, "http"),
        _ => return Err(not_a_url()),
    };
    // `https:///a` would be read as if `a` were the host.
    if rest.starts_with('/') {
        return Err(InvalidUrl::InvalidHost);
    }
    let url = Url::parse(&format!("{secure}://{rest}")).map_err(|_| InvalidUrl::InvalidHost)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidUrl::HoldsCredentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidUrl::HoldsQuery);
    }
    // As it was written: dots that the parser would follow stand in no name.
    let path = rest.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/');
    check_name(path)?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    Url::parse(&format!("{scheme}://{host}{port}/{path}")).map_err(|_| not_a_url())
}

fn check_name(path: &str) -> Result<(), InvalidUrl> {
    if path.is_empty() {
        return Err(InvalidUrl::NoPath);
    }
    if let Some(at) = path.find(['@', ':']) {
        return Err(InvalidUrl::HoldsTag { text: path[at + 1..].to_owned() });
    }
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part_is_valid = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|byte| is_letter(*byte))
            && bytes.last().is_some_and(|byte| is_letter(*byte))
            && bytes.iter().all(|byte| is_letter(*byte) || b"._-".contains(byte))
            && !part.contains("..")
    };
    if path.len() > NAME_BYTES_MAX || !path.split('/').all(part_is_valid) {
        return Err(InvalidUrl::InvalidArtifact { name: path.to_owned() });
    }
    Ok(())
}

impl Place {
    /// Nothing, when it is no registry's URL.
    pub(in crate::source) fn of(url: &Url) -> Option<Self> {
        let scheme = match url.scheme() {
            SCHEME => "https",
            INSECURE_SCHEME => "http",
            _ => return None,
        };
        let (host, mut name) = (url.host_str()?, url.path().trim_matches('/').to_owned());
        let host = if host == DOCKER { DOCKER_REGISTRY } else { host };
        if host == DOCKER_REGISTRY && !name.contains('/') {
            name = format!("library/{name}");
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let base = Url::parse(&format!("{scheme}://{host}{port}/")).ok()?;
        Some(Self { base, name })
    }

    /// The server of a Helm repository, where nothing has a name but by its path.
    pub(in crate::source) fn of_server(url: &Url) -> Option<Self> {
        let mut base = Some(url.clone()).filter(|url| matches!(url.scheme(), "https" | "http"))?;
        base.set_path("/");
        Some(Self { base, name: String::new() })
    }

    pub(super) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    pub(super) fn is_secure(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether the credential, which was given for the registry, may go there.
    pub(super) fn is_origin_of(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    pub(super) fn manifest(&self, reference: &str) -> Url {
        self.path(&["manifests", reference])
    }

    pub(super) fn blob(&self, digest: &str) -> Url {
        self.path(&["blobs", digest])
    }

    pub(super) fn tags(&self) -> Url {
        self.path(&["tags", "list"])
    }

    fn path(&self, rest: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push("v2").extend(self.name.split('/')).extend(rest);
        }
        url
    }
}
