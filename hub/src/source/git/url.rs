//! Which URLs a repo may have. Decided once, before anything is contacted or started.

use std::borrow::Cow;
use std::fmt;

use bellwether_core::render::file_name;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::egress::is_public;
use crate::source::oci::{self, Place};

/// Longer ones are no addresses but attempts.
const LENGTH_MAX: usize = 2048;

/// Whom servers of repos have, if a URL does not say.
const SSH_USER: &str = "git";
pub(super) const SSH_PORT: u16 = 22;

/// What a hub allows beyond public hosts that are reached in secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UrlPolicy {
    /// `http` and `file` too; for tests and demos.
    pub(crate) insecure: bool,
    /// Hosts inside the hub's network too.
    pub(crate) private: bool,
}

/// Where a repo is fetched from: checked, and without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RepoUrl {
    Plain(Url),
    Ssh(SshPlace),
}

/// `ssh://user@host:port/path`, or `user@host:path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshPlace {
    /// As it was written.
    text: String,
    pub(super) user: String,
    pub(super) host: Host,
    pub(super) port: u16,
    /// As the server's shell gets it, between quotes. Without a slash at its start it begins in the user's home.
    pub(super) path: String,
}

/// Nothing is repeated of a text that is no URL: what people take for one has a password in it now and then, anywhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUrl {
    #[error("it is not a URL")]
    NotAUrl,
    #[error("the URL is longer than {LENGTH_MAX} characters")]
    TooLong,
    #[error("the URL holds a control character or a space")]
    ControlCharacter,
    #[error("`{scheme}://` sends everything in clear text")]
    Insecure { scheme: String },
    #[error("`{host}` is inside a private network")]
    Private { host: String },
    #[error("repos cannot be fetched by what its scheme says")]
    UnsupportedScheme,
    #[error("the URL holds credentials")]
    HoldsCredentials,
    #[error("the URL has no valid host")]
    InvalidHost,
    #[error("the URL's user has characters that no user of a Git server has")]
    InvalidUser,
    #[error("the URL names no repository on its host")]
    NoPath,
    #[error("the URL's path could be taken for an option, or is no text")]
    InvalidPath,
    #[error("the URL has a query or a fragment")]
    HoldsQuery,
    #[error("`{name}` is no name of an artifact")]
    InvalidArtifact { name: String },
    #[error("the URL holds the tag or the digest `{text}`")]
    HoldsTag { text: String },
}

impl InvalidUrl {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::UnsupportedScheme => "repo_url_unsupported",
            Self::Insecure { .. } => "repo_url_insecure",
            Self::HoldsCredentials => "repo_url_holds_credentials",
            Self::Private { .. } => "repo_url_private",
            _ => "repo_url_invalid",
        }
    }

    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Insecure { .. } => "use https or ssh; for tests and demos, start the hub with `--insecure-git`",
            Self::Private { .. } => "if that is meant, start the hub with `--git-allow-private`",
            Self::InvalidArtifact { .. } => {
                "give it as `oci://HOST/PATH`, in lower-case letters, digits and, between them, `.`, `_`, `-` and `/`"
            }
            Self::HoldsTag { .. } => {
                "leave it out of the URL, and give it to the targets: `ref: {tag: …}` or `ref: {digest: …}`"
            }
            Self::NoPath => {
                "give it as `https://HOST/PATH`, `ssh://git@HOST/PATH`, `git@HOST:PATH` or `oci://HOST/PATH`; of a Helm \
                 repository name a chart too: `chart`, or `--chart`"
            }
            Self::HoldsCredentials => "leave them out of the URL and store a token or a key with the repo",
            _ => "give it as `https://HOST/PATH`, `ssh://git@HOST/PATH`, `git@HOST:PATH` or `oci://HOST/PATH`",
        }))
    }
}

impl RepoUrl {
    /// Addresses that a name leads to are checked when it is connected to.
    pub(crate) fn parse(text: &str, policy: UrlPolicy) -> Result<Self, InvalidUrl> {
        if text.len() > LENGTH_MAX {
            return Err(InvalidUrl::TooLong);
        }
        // The parser would drop tabs and line breaks silently; what is stored must be what was checked.
        if text.chars().any(|character| character.is_control() || character.is_whitespace()) {
            return Err(InvalidUrl::ControlCharacter);
        }
        let url = if let Some(place) = SshPlace::find(text) {
            Self::Ssh(place?)
        } else {
            let url = Url::parse(text).map_err(|_| InvalidUrl::NotAUrl)?;
            check_scheme(&url, policy.insecure)?;
            let url = if oci::is_registry(&url) { oci::read_url(text)? } else { url };
            check_parts(&url)?;
            Self::Plain(url)
        };
        if !policy.private {
            check_reach(url.parsed_host())?;
        }
        Ok(url)
    }

    /// Whom a credential may be given to: scheme, host and port.
    pub(crate) fn origin_of(text: &str) -> String {
        if let Some(Ok(SshPlace { host, port, .. })) = SshPlace::find(text) {
            return format!("ssh://{host}:{port}");
        }
        let Ok(url) = Url::parse(text) else { return text.to_owned() };
        let url = if oci::is_registry(&url) { oci::read_url(text).unwrap_or(url) } else { url };
        let port = url.port_or_known_default().or_else(|| oci::default_port(&url)).unwrap_or_default();
        format!("{}://{}:{port}", url.scheme(), url.host_str().unwrap_or_default())
    }

    /// As it is the same for all who write it.
    pub(crate) fn normal(text: &str) -> String {
        let read = Self::parse(text, UrlPolicy { insecure: true, private: true });
        read.map_or_else(|_| text.trim_end_matches('/').to_owned(), |url| url.as_str().to_owned())
    }

    /// Host and path, by which people mean the same repository, whoever they are to its server and however it is asked.
    pub(crate) fn place_of(text: &str) -> String {
        let text = text.trim_end_matches('/');
        let text = text.strip_suffix(".git").unwrap_or(text);
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (host, path) =
            if scheme.is_empty() { rest.split_once(':') } else { rest.split_once('/') }.unwrap_or((rest, ""));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host).to_lowercase();
        let own_port = match scheme.to_ascii_lowercase().as_str() {
            "https" => ":443",
            "http" => ":80",
            _ => ":22",
        };
        format!("{}/{}", host.strip_suffix(own_port).unwrap_or(&host), path.trim_start_matches('/'))
    }

    pub(crate) fn is_of_artifact(text: &str) -> bool {
        Url::parse(text).is_ok_and(|url| oci::is_registry(&url))
    }

    pub(crate) fn is_https(&self) -> bool {
        matches!(self, Self::Plain(url) if matches!(url.scheme(), "https" | oci::SCHEME))
    }

    /// Of a registry's artifact: where it is.
    pub(in crate::source) fn artifact(&self) -> Option<Place> {
        match self {
            Self::Plain(url) => Place::of(url),
            Self::Ssh(_) => None,
        }
    }

    pub(crate) fn is_registry(&self) -> bool {
        self.artifact().is_some()
    }

    /// It is of a Helm repository, or of none.
    pub(crate) fn names_a_host_alone(&self) -> bool {
        matches!(self, Self::Plain(url) if is_whole_host(url))
    }

    pub(crate) fn may_have_charts(&self) -> bool {
        self.https_place().is_some()
    }

    /// Of a Helm repository: its server.
    pub(in crate::source) fn https_place(&self) -> Option<Place> {
        match self {
            Self::Plain(url) => Place::of_server(url),
            Self::Ssh(_) => None,
        }
    }

    /// Where a single file is, if that is what is at it.
    pub(in crate::source) fn file(&self) -> Option<&Url> {
        match self {
            Self::Plain(url) => file_name(url.as_str()).map(|_| url),
            Self::Ssh(_) => None,
        }
    }

    pub(crate) fn is_file(&self) -> bool {
        self.file().is_some()
    }

    pub(crate) const fn ssh(&self) -> Option<&SshPlace> {
        match self {
            Self::Ssh(place) => Some(place),
            Self::Plain(_) => None,
        }
    }

    /// For messages: `git.example.com`, and the empty text for a local folder.
    pub(crate) fn host(&self) -> String {
        self.parsed_host().map(|host| host.to_string()).unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Plain(url) => url.as_str().trim_end_matches('/'),
            Self::Ssh(place) => place.text.trim_end_matches('/'),
        }
    }

    fn parsed_host(&self) -> Option<Host> {
        match self {
            Self::Plain(url) => oci::host_of(url),
            Self::Ssh(place) => Some(place.host.clone()),
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        match self.parsed_host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    pub(super) fn local_folder(&self) -> Option<String> {
        let Self::Plain(url) = self else { return None };
        let folder = if url.scheme() == "file" { url.to_file_path().ok()? } else { return None };
        folder.into_os_string().into_string().ok()
    }
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl SshPlace {
    /// Nothing, when it is another kind of URL.
    fn find(text: &str) -> Option<Result<Self, InvalidUrl>> {
        if let Some((user_and_host, path)) = split_scp_like(text) {
            let (user, host) = user_and_host.split_once('@')?;
            return Some(Self::of(text, user, host, SSH_PORT, path));
        }
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "ssh")?;
        Some(Self::of_url(text, &url))
    }

    fn of_url(text: &str, url: &Url) -> Result<Self, InvalidUrl> {
        if url.password().is_some() {
            return Err(InvalidUrl::HoldsCredentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidUrl::HoldsQuery);
        }
        let user = if url.username().is_empty() { SSH_USER } else { url.username() };
        let path = percent_decode_str(url.path()).decode_utf8().map_err(|_| InvalidUrl::InvalidPath)?;
        // As Git reads it: a home is below no folder.
        let path = if path.starts_with("/~") { &path[1..] } else { &*path };
        Self::of(text, user, url.host_str().unwrap_or_default(), url.port().unwrap_or(SSH_PORT), path)
    }

    fn of(text: &str, user: &str, host: &str, port: u16, path: &str) -> Result<Self, InvalidUrl> {
        let is_of_user = |character: char| character.is_ascii_alphanumeric() || "._-+".contains(character);
        if user.is_empty() || user.starts_with('-') || !user.chars().all(is_of_user) {
            return Err(InvalidUrl::InvalidUser);
        }
        // Names and addresses are read as in any other URL, so that no spelling of an address passes for a name.
        let plain = Url::parse(&format!("https://{host}/")).map_err(|_| InvalidUrl::InvalidHost)?;
        let is_host_only = plain.username().is_empty() && plain.port().is_none() && plain.path() == "/";
        let host = plain.host().filter(|_| is_host_only && is_plain_host(host)).ok_or(InvalidUrl::InvalidHost)?;
        if path.trim_matches('/').is_empty() {
            return Err(InvalidUrl::NoPath);
        }
        if path.starts_with('-') || path.chars().any(char::is_control) {
            return Err(InvalidUrl::InvalidPath);
        }
        let (text, user, path) = (text.to_owned(), user.to_owned(), path.to_owned());
        Ok(Self { text, user, host: host.to_owned(), port, path })
    }
}

/// A host like an option is never one, whatever is given the URL later.
fn is_plain_host(host: &str) -> bool {
    !host.is_empty()
        && !host.starts_with('-')
        && host.chars().all(|character| character.is_alphanumeric() || "._-[]:".contains(character))
}

/// `git@host:path`, but no transport of the form `ext::command`.
fn split_scp_like(text: &str) -> Option<(&str, &str)> {
    let (before, path) = match text.rsplit_once("]:") {
        // An address with colons stands in brackets.
        Some((before, path)) if before.contains("@[") => (&text[..=before.len()], path),
        _ => text.split_once(':')?,
    };
    let is_scp_like =
        !before.contains('/') && before.contains('@') && !path.starts_with("//") && !path.starts_with(':');
    is_scp_like.then_some((before, path))
}

fn check_scheme(url: &Url, insecure_git: bool) -> Result<(), InvalidUrl> {
    let scheme = url.scheme().to_owned();
    match scheme.as_str() {
        "https" | oci::SCHEME => Ok(()),
        "http" | "file" | oci::INSECURE_SCHEME if insecure_git => Ok(()),
        "http" | oci::INSECURE_SCHEME => Err(InvalidUrl::Insecure { scheme }),
        _ => Err(InvalidUrl::UnsupportedScheme),
    }
}

fn check_reach(host: Option<Host>) -> Result<(), InvalidUrl> {
    // A local folder is no host.
    let Some(host) = host else { return Ok(()) };
    let is_inside = match &host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(address) => !is_public((*address).into()),
        Host::Ipv6(address) => !is_public((*address).into()),
    };
    if is_inside { Err(InvalidUrl::Private { host: host.to_string() }) } else { Ok(()) }
}

fn check_parts(url: &Url) -> Result<(), InvalidUrl> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidUrl::HoldsCredentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidUrl::HoldsQuery);
    }
    match (url.scheme(), url.host_str()) {
        ("file", None | Some("")) => {}
        ("file", Some(_)) | (_, None) => return Err(InvalidUrl::InvalidHost),
        // As in `is_plain_host`.
        (_, Some(host)) if host.is_empty() || host.starts_with('-') => return Err(InvalidUrl::InvalidHost),
        _ => {}
    }
    if is_whole_host(url) && !may_be_whole_host(url) {
        return Err(InvalidUrl::NoPath);
    }
    Ok(())
}

fn is_whole_host(url: &Url) -> bool {
    url.path().trim_matches('/').is_empty()
}

/// Many Helm repositories are.
fn may_be_whole_host(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "http")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: UrlPolicy = UrlPolicy { insecure: false, private: false };
    const INSIDE: UrlPolicy = UrlPolicy { insecure: false, private: true };
    const OPEN: UrlPolicy = UrlPolicy { insecure: true, private: true };

    #[test]
    fn hosts_inside_the_network_are_refused_unless_they_are_allowed() {
        let inside = [
            "https://localhost/a",
            "https://LOCALHOST./a",
            "https://git.localhost/a",
            "https://127.0.0.1/a",
            "https://2130706433/a",
            "https://0x7f.1/a",
            "https://10.0.0.7:8443/a/b",
            "https://[::1]/a",
            "https://[::ffff:10.0.0.1]/a",
            "https://169.254.169.254/latest",
            "ssh://git@localhost/a",
            "git@127.0.0.1:a",
            "ssh://git@2130706433/a",
            "git@0x7f.1:a",
            "ssh://git@[::ffff:10.0.0.1]/a",
            "git@[::1]:a",
            "oci://127.0.0.1:5000/a",
            "oci://2130706433/a",
            "oci://0x7f.1/a",
            "oci://LocalHost/a",
            "oci://[::ffff:10.0.0.1]/a",
        ];
        for text in inside {
            assert_eq!(RepoUrl::parse(text, STRICT).expect_err(text).code(), "repo_url_private", "{text}");
            assert!(RepoUrl::parse(text, INSIDE).is_ok(), "{text}");
        }
        for text in ["https://git.example.com/a", "https://140.82.121.3/a", "git@140.82.121.3:a"] {
            assert!(RepoUrl::parse(text, STRICT).is_ok(), "{text}");
        }
    }

    #[test]
    fn https_is_always_allowed_and_clear_text_only_on_demand() {
        for text in ["https://git.example.com/shop.git", "https://10.0.0.7:8443/a/b", "https://[::1]/a"] {
            assert!(RepoUrl::parse(text, INSIDE).is_ok(), "{text}");
        }
        for text in ["http://git.example.com/shop.git", "file:///srv/git/shop.git"] {
            let code = RepoUrl::parse(text, INSIDE).expect_err(text).code();
            assert!(code == "repo_url_insecure" || code == "repo_url_unsupported", "{text}: {code}");
            assert!(RepoUrl::parse(text, OPEN).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_could_reach_a_shell_or_hide_a_secret_is_refused() {
        let cases = [
            ("ssh://-oProxyCommand=x/", "repo_url_invalid"),
            ("ssh://-oProxyCommand=x/a", "repo_url_invalid"),
            ("ssh://git@-oProxyCommand=x/a", "repo_url_invalid"),
            ("ssh://-oX@host/a", "repo_url_invalid"),
            ("ssh://%2DoX@host/a", "repo_url_invalid"),
            ("ssh://git@host/%0Aa", "repo_url_invalid"),
            ("ssh://git:secret@host/a", "repo_url_holds_credentials"),
            ("ssh://git@host/", "repo_url_invalid"),
            ("ssh://git@host", "repo_url_invalid"),
            ("ssh:///a", "repo_url_invalid"),
            ("ssh://git@host/a?x", "repo_url_invalid"),
            ("ssh://git@host%20-oX/a", "repo_url_invalid"),
            ("git+ssh://git@host/a", "repo_url_unsupported"),
            ("-oX@host:a", "repo_url_invalid"),
            ("git@-oX:a", "repo_url_invalid"),
            ("git@host:-oX", "repo_url_invalid"),
            ("git@host:--upload-pack=touch", "repo_url_invalid"),
            ("git@host:", "repo_url_invalid"),
            ("git@host:a\nb", "repo_url_invalid"),
            ("git@ho$(x)st:a", "repo_url_invalid"),
            ("gi`t`@host:a", "repo_url_invalid"),
            ("ext::sh -c x", "repo_url_invalid"),
            ("ext::sh", "repo_url_unsupported"),
            ("git://host/a", "repo_url_unsupported"),
            ("file://host/a", "repo_url_invalid"),
            ("--upload-pack=touch", "repo_url_invalid"),
            ("https://-oX/a", "repo_url_invalid"),
            ("https://user:secret@host/a", "repo_url_holds_credentials"),
            ("https://token@host/a", "repo_url_holds_credentials"),
            ("https://host/a\nb", "repo_url_invalid"),
            ("https://host/a b", "repo_url_invalid"),
            ("https://host/a?x=1", "repo_url_invalid"),
            ("https://host/a#x", "repo_url_invalid"),
            ("oci://user:secret@host/a", "repo_url_holds_credentials"),
            ("oci://token@host/a", "repo_url_holds_credentials"),
            ("oci://host/", "repo_url_invalid"),
            ("oci:///a", "repo_url_invalid"),
            ("oci:host/a", "repo_url_invalid"),
            ("oci://-oX/a", "repo_url_invalid"),
            ("oci://host/a?x=1", "repo_url_invalid"),
            ("oci://host/a/../../v2", "repo_url_invalid"),
            ("oci://host/a/%2e%2e/b", "repo_url_invalid"),
            ("oci://host/A", "repo_url_invalid"),
            ("oci://host/a//b", "repo_url_invalid"),
            ("oci://host/a:1.2.3", "repo_url_invalid"),
            ("oci://host/a@sha256:00", "repo_url_invalid"),
            ("/srv/git", "repo_url_invalid"),
            ("", "repo_url_invalid"),
        ];

        for (text, code) in cases {
            match RepoUrl::parse(text, OPEN) {
                Err(error) => assert_eq!(error.code(), code, "{text}: {error}"),
                Ok(url) => panic!("{text} was read as {url}"),
            }
        }
    }

    #[test]
    fn no_refusal_of_a_url_says_what_may_be_a_secret_in_it() {
        let urls = [
            "https://ada:hunter2@git.example.com:port/a",
            "https://ada:hunter2@[::1/a",
            "https://ada:hunter2@/a",
            "https://ada:hunter2@git.example.com/a",
            "https://ada%3Ahunter2@git.example.com/a",
            "https://ada:hunter2%40x@git.example.com/a",
            "https://hunter2@git.example.com/a",
            "https://git.example.com/a?access_token=hunter2",
            "https://git.example.com:x/a?access_token=hunter2",
            "https://git.example.com/a#hunter2",
            "ssh://git:hunter2@git.example.com/a",
            "ssh://git:hunter2@git.example.com:x/a",
            "ssh://git%3Ahunter2@git.example.com/a",
            "ssh://hunter2%0A@git.example.com/a",
            "git:hunter2@git.example.com:a",
            "git@hunter2@git.example.com:a",
            "hunter2:x-oauth-basic@git.example.com/a",
            "hunter2://git.example.com/a",
            "//ada:hunter2@git.example.com/a",
            "oci://ada:hunter2@git.example.com/a:1.2.3",
            "oci://ada:hunter2@git.example.com/A",
            "oci://git.example.com/a?hunter2",
            "oci://git.example.com/A?hunter2",
            "oci://git.example.com/a:1.2.3?token=hunter2",
        ];

        for text in urls {
            let error = RepoUrl::parse(text, OPEN).expect_err(text);
            let said = format!("{error} {error:?} {}", error.hint().unwrap_or_default());
            assert!(!said.to_lowercase().contains("hunter2"), "{text}: {said}");
        }
    }

    #[test]
    fn a_registry_is_spoken_to_in_clear_text_only_on_demand_and_named_in_one_way() {
        assert_eq!(RepoUrl::parse("oci+http://host/a", INSIDE).expect_err("clear text").code(), "repo_url_insecure");
        assert!(RepoUrl::parse("oci+http://host/a", OPEN).is_ok_and(|url| !url.is_https()));
        let url = RepoUrl::parse("oci://GHCR.example.com:443/team/shop", STRICT).expect("valid");
        assert!(url.is_https());
        assert_eq!(url.as_str(), "oci://ghcr.example.com/team/shop");
        let origins = ["oci://ghcr.example.com/a", "oci://GHCR.example.com:443/b"].map(RepoUrl::origin_of);
        assert_eq!(origins, ["oci://ghcr.example.com:443"; 2]);
        let hint = RepoUrl::parse("oci://host/a:1.2.3", STRICT).expect_err("a tag").hint();
        assert!(hint.is_some_and(|hint| hint.contains("ref: {tag")));
    }

    #[test]
    fn ssh_is_read_as_git_reads_it() {
        let cases = [
            ("ssh://git@git.example.com/apps.git", ("git", "git.example.com", 22, "/apps.git")),
            ("ssh://git.example.com:2222/team/apps", ("git", "git.example.com", 2222, "/team/apps")),
            ("ssh://ada@GIT.example.com/~ada/apps", ("ada", "git.example.com", 22, "~ada/apps")),
            ("ssh://git@host/a%20b's", ("git", "host", 22, "/a b's")),
            ("git@github.com:team/apps.git", ("git", "github.com", 22, "team/apps.git")),
            (
                "git@ssh.dev.azure.com:v3/team/My%20Shop/apps",
                ("git", "ssh.dev.azure.com", 22, "v3/team/My%20Shop/apps"),
            ),
            ("git@[2606:50c0::1]:apps", ("git", "[2606:50c0::1]", 22, "apps")),
            ("ssh://git@[2606:50c0::1]:2222/apps", ("git", "[2606:50c0::1]", 2222, "/apps")),
        ];

        for (text, expected) in cases {
            let url = RepoUrl::parse(text, STRICT).unwrap_or_else(|error| panic!("{text}: {error}"));
            let place = url.ssh().expect("ssh");
            let host = place.host.to_string();
            assert_eq!((&*place.user, &*host, place.port, &*place.path), expected, "{text}");
            assert_eq!(url.as_str(), text);
        }
    }

    #[test]
    fn a_credential_belongs_to_the_host_and_port_of_an_ssh_url_however_that_is_written() {
        assert_eq!(RepoUrl::origin_of("git@git.example.com:apps"), "ssh://git.example.com:22");
        assert_eq!(RepoUrl::origin_of("ssh://ada@GIT.example.com/apps"), "ssh://git.example.com:22");
        assert_eq!(RepoUrl::origin_of("ssh://git@git.example.com:2222/apps"), "ssh://git.example.com:2222");
        assert_eq!(RepoUrl::origin_of("https://git.example.com/apps"), "https://git.example.com:443");
    }
}
