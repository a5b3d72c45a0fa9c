//! Which URLs a repo may have. Decided once, before anything is contacted or started.

use std::fmt;

use url::Url;

/// Longer ones are no addresses but attempts.
const LENGTH_MAX: usize = 2048;

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
            _ => "repo_url_invalid",
        }
    }

    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::SshNotYet => "ssh comes later; use the repo's https URL, with a token if it is private",
            Self::Insecure { .. } => "use https; for tests and demos, start the hub with `--insecure-git`",
            Self::HoldsCredentials => "leave them out of the URL and store a token with the repo",
            _ => "give it as `https://HOST/PATH`",
        }
    }
}

impl RepoUrl {
    /// `https` always; `http` and `file` only with `insecure_git`, which is for tests and demos.
    pub(crate) fn parse(text: &str, insecure_git: bool) -> Result<Self, InvalidUrl> {
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
        check_scheme(&url, insecure_git)?;
        check_parts(&url)?;
        Ok(Self(url))
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

    #[test]
    fn https_is_always_allowed_and_clear_text_only_on_demand() {
        for text in ["https://git.example.com/shop.git", "https://10.0.0.7:8443/a/b", "https://[::1]/a"] {
            assert!(RepoUrl::parse(text, false).is_ok(), "{text}");
        }
        for text in ["http://git.example.com/shop.git", "file:///srv/git/shop.git"] {
            let code = RepoUrl::parse(text, false).expect_err(text).code();
            assert!(code == "repo_url_insecure" || code == "repo_url_unsupported", "{text}: {code}");
            assert!(RepoUrl::parse(text, true).is_ok(), "{text}");
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
            match RepoUrl::parse(text, true) {
                Err(error) => assert_eq!(error.code(), code, "{text}: {error}"),
                Ok(url) => panic!("{text} was read as {url}"),
            }
        }
    }

    #[test]
    fn the_message_for_ssh_says_what_to_use_instead() {
        let error = RepoUrl::parse("git@github.com:a/b.git", false).expect_err("ssh");

        assert_eq!(error.to_string(), "ssh repos are not supported yet");
        assert!(error.hint().contains("https"));
    }
}
