//! Which URLs a repo may have. Decided once, before anything is contacted or started.

use std::borrow::Cow;
use std::fmt;

use url::Url;

use super::reach::is_public;

/// Longer ones are no addresses but attempts.
const LENGTH_MAX: usize = 2048;

/// What a hub allows beyond public `https` hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UrlPolicy {
    /// `http` and `file` too; for tests and demos.
    pub(crate) insecure: bool,
    /// Hosts inside the hub's network too.
    pub(crate) private: bool,
}

/// Where a repo is fetched from: checked, and without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepoUrl(Url);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUrl {
    #[error("`{text}` is not a URL")]
    NotAUrl { text: String },
    #[error("the URL is longer than {LENGTH_MAX} characters")]
    TooLong,
    #[error("the URL holds a control character or a space")]
    ControlCharacter,
    #[error("ssh repos are not supported yet")]
    SshNotYet,
    #[error("`{scheme}://` sends everything in clear text")]
    Insecure { scheme: String },
    #[error("`{host}` is inside a private network")]
    Private { host: String },
    #[error("repos cannot be fetched by `{scheme}`")]
    UnsupportedScheme { scheme: String },
    #[error("the URL holds credentials")]
    HoldsCredentials,
    #[error("the URL has no valid host")]
    InvalidHost,
    #[error("the URL names no repository on its host")]
    NoPath,
    #[error("the URL has a query or a fragment")]
    HoldsQuery,
}

impl InvalidUrl {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::SshNotYet | Self::UnsupportedScheme { .. } => "repo_url_unsupported",
            Self::Insecure { .. } => "repo_url_insecure",
            Self::HoldsCredentials => "repo_url_holds_credentials",
            Self::Private { .. } => "repo_url_private",
            _ => "repo_url_invalid",
        }
    }

    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::SshNotYet => "ssh comes later; use the repo's https URL, with a token if it is private",
            Self::Insecure { .. } => "use https; for tests and demos, start the hub with `--insecure-git`",
            Self::Private { .. } => "if that is meant, start the hub with `--git-allow-private`",
            Self::HoldsCredentials => "leave them out of the URL and store a token with the repo",
            _ => "give it as `https://HOST/PATH`",
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
        if is_scp_like(text) {
            return Err(InvalidUrl::SshNotYet);
        }
        let url = Url::parse(text).map_err(|_| InvalidUrl::NotAUrl { text: text.to_owned() })?;
        check_scheme(&url, policy.insecure)?;
        check_parts(&url)?;
        if !policy.private {
            check_reach(&url)?;
        }
        Ok(Self(url))
    }

    /// Whom a credential may be given to: scheme, host and port.
    pub(crate) fn origin_of(text: &str) -> String {
        let Ok(url) = Url::parse(text) else { return text.to_owned() };
        let port = url.port_or_known_default().unwrap_or_default();
        format!("{}://{}:{port}", url.scheme(), url.host_str().unwrap_or_default())
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// For messages: `git.example.com`, and the empty text for a local folder.
    pub(crate) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    pub(super) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    pub(super) fn local_folder(&self) -> Option<String> {
        let folder = if self.0.scheme() == "file" { self.0.to_file_path().ok()? } else { return None };
        folder.into_os_string().into_string().ok()
    }
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `git@host:path`, and the transports of the form `ext::command`, which must not be mistaken for it.
fn is_scp_like(text: &str) -> bool {
    match (text.find(':'), text.find('/')) {
        (Some(colon), slash) if slash.is_none_or(|slash| colon < slash) => {
            let rest = &text[colon + 1..];
            !rest.starts_with("//") && !rest.starts_with(':') && text[..colon].contains('@')
        }
        _ => false,
    }
}

fn check_scheme(url: &Url, insecure_git: bool) -> Result<(), InvalidUrl> {
    let scheme = url.scheme().to_owned();
    match scheme.as_str() {
        "https" => Ok(()),
        "http" | "file" if insecure_git => Ok(()),
        "http" => Err(InvalidUrl::Insecure { scheme }),
        "ssh" | "git+ssh" | "ssh+git" => Err(InvalidUrl::SshNotYet),
        _ => Err(InvalidUrl::UnsupportedScheme { scheme }),
    }
}

fn check_reach(url: &Url) -> Result<(), InvalidUrl> {
    let is_inside = match url.host() {
        Some(url::Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(url::Host::Ipv4(address)) => !is_public(address.into()),
        Some(url::Host::Ipv6(address)) => !is_public(address.into()),
        // A local folder is no host.
        None => false,
    };
    if is_inside { Err(InvalidUrl::Private { host: url.host_str().unwrap_or_default().to_owned() }) } else { Ok(()) }
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
        // A host like an option is never one, whatever is given the URL later.
        (_, Some(host)) if host.is_empty() || host.starts_with('-') => return Err(InvalidUrl::InvalidHost),
        _ => {}
    }
    if url.path().trim_matches('/').is_empty() {
        return Err(InvalidUrl::NoPath);
    }
    Ok(())
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
        ];
        for text in inside {
            assert_eq!(RepoUrl::parse(text, STRICT).expect_err(text).code(), "repo_url_private", "{text}");
            assert!(RepoUrl::parse(text, INSIDE).is_ok(), "{text}");
        }
        for text in ["https://git.example.com/a", "https://140.82.121.3/a"] {
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
            ("ssh://-oProxyCommand=x/", "repo_url_unsupported"),
            ("ssh://git@github.com/a/b", "repo_url_unsupported"),
            ("git@github.com:a/b.git", "repo_url_unsupported"),
            ("-oX@host:a", "repo_url_unsupported"),
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
            ("https://host/", "repo_url_invalid"),
            ("https:///a", "repo_url_invalid"),
            ("https://host/a?x=1", "repo_url_invalid"),
            ("https://host/a#x", "repo_url_invalid"),
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
    fn the_message_for_ssh_says_what_to_use_instead() {
        let error = RepoUrl::parse("git@github.com:a/b.git", STRICT).expect_err("ssh");

        assert_eq!(error.to_string(), "ssh repos are not supported yet");
        assert!(error.hint().is_some_and(|hint| hint.contains("https")));
    }
}
