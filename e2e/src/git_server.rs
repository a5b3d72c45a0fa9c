//! A Git server for tests and the demo: real `git` behind HTTP or HTTPS, on loopback.
//!
//! It notes when each ref was updated, from Git's own `reference-transaction` hook: that moment is where the clock of a
//! push starts. It is no part of the product and trusts whoever can reach it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use base64::Engine;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Where stamps go, one line per ref update: `<unix ns> <old> <new> <ref>`.
const STAMPS: &str = "stamps";

const BRANCH: &str = "main";

#[derive(Debug, Clone, Default)]
pub struct GitServerOptions {
    pub tls: Option<GitServerTls>,
    /// Asked for as the password of every request, whatever the user name.
    pub token: Option<String>,
    /// Run by `sh` after each push, in the repo's folder; `{name}` in it becomes the repo's name.
    pub on_push: Option<String>,
}

#[derive(Debug, Clone)]
pub struct GitServerTls {
    pub certificate_pem: String,
    pub key_pem: String,
    /// What a client has to trust.
    pub ca_pem: String,
}

impl GitServerTls {
    /// For loopback, from an authority that signs nothing else.
    pub fn issue() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate()?;
        let certificate_pem = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?.pem();
        Ok(Self { certificate_pem, key_pem: key.serialize_pem(), ca_pem })
    }
}

/// Serves while it lives.
#[derive(Debug)]
pub struct GitServer {
    /// Without a slash at its end: `http://127.0.0.1:4711`.
    pub url: String,
    pub addr: SocketAddr,
    root: PathBuf,
    options: GitServerOptions,
    _connections: JoinSet<()>,
}

impl GitServer {
    /// Serves the repos below `root`, which it makes.
    pub async fn start(root: PathBuf, options: GitServerOptions) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&root)?;
        let root = root.canonicalize()?;
        let acceptor = options.tls.as_ref().map(acceptor).transpose()?;
        if let Some(tls) = &options.tls {
            std::fs::write(root.join("ca.pem"), &tls.ca_pem)?;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let backend = Backend { root: root.clone(), token: options.token.clone() };
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, acceptor, Arc::new(backend)));
        Ok(Self { url: format!("{scheme}://{addr}"), addr, root, options, _connections: connections })
    }

    /// A bare repo `NAME.git`, empty, with the hooks that stamp and that run `on_push`.
    pub async fn create_repo(&self, name: &str) -> anyhow::Result<GitRepo> {
        let folder = self.root.join(format!("{name}.git"));
        let repo = GitRepo { url: format!("{}/{name}.git", self.url), folder };
        std::fs::create_dir(&repo.folder)?;
        let git = Git { folder: repo.folder.clone(), environment: Vec::new() };
        git.run(["init", "--quiet", "--bare", "--initial-branch", BRANCH, "."]).await?;
        let settings = [
            "http.receivepack",
            "uploadpack.allowAnySHA1InWant",
            "uploadpack.allowReachableSHA1InWant",
            "uploadpack.allowFilter",
            "uploadpack.allowRefInWant",
        ];
        for setting in settings {
            git.run(["config", setting, "true"]).await?;
        }
        let stamps = quote(&repo.folder.join(STAMPS))?;
        // `date` once for all refs, as a process costs more than the update. HEAD is told of beside the branch it is on.
        let stamp = format!(
            r#"[ "$1" = committed ] || exit 0
now=$(date +%s%N)
while read -r change; do
    case $change in *' refs/'*) echo "$now $change" ;; esac
done >>{stamps}
"#
        );
        write_hook(&repo.folder, "reference-transaction", &stamp)?;
        if let Some(command) = &self.options.on_push {
            write_hook(
                &repo.folder,
                "post-receive",
                &format!("cat >/dev/null\n{}\n", command.replace("{name}", name)),
            )?;
        }
        Ok(repo)
    }

    /// Clones a repo into a new folder.
    pub async fn work_tree(&self, repo: &GitRepo, folder: PathBuf) -> anyhow::Result<WorkTree> {
        let mut environment = Vec::new();
        if let Some(token) = &self.options.token {
            environment.push(("GIT_CONFIG_COUNT", "1".to_owned()));
            environment.push(("GIT_CONFIG_KEY_0", "http.extraHeader".to_owned()));
            environment.push(("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {}", encode(token))));
        }
        if self.options.tls.is_some() {
            environment.push(("GIT_SSL_CAINFO", self.root.join("ca.pem").display().to_string()));
        }
        std::fs::create_dir_all(&folder)?;
        let git = Git { folder, environment };
        git.run(["clone", "--quiet", &repo.url, "."]).await?;
        // An empty repo's branch is the host's idea otherwise.
        git.run(["symbolic-ref", "HEAD", &format!("refs/heads/{BRANCH}")]).await?;
        Ok(WorkTree { git, repo: repo.clone() })
    }
}

/// A repo of the server.
#[derive(Debug, Clone)]
pub struct GitRepo {
    pub url: String,
    pub folder: PathBuf,
}

impl GitRepo {
    /// Every ref update so far, the earliest first.
    pub fn stamps(&self) -> anyhow::Result<Vec<RefStamp>> {
        match std::fs::read_to_string(self.folder.join(STAMPS)) {
            Ok(text) => text.lines().map(RefStamp::parse).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// When a ref moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefStamp {
    pub unix_ns: u128,
    pub old: String,
    pub new: String,
    pub reference: String,
}

impl RefStamp {
    fn parse(line: &str) -> anyhow::Result<Self> {
        let mut parts = line.split(' ');
        let mut next = || parts.next().with_context(|| format!("a short stamp: `{line}`"));
        let unix_ns = next()?.parse()?;
        Ok(Self { unix_ns, old: next()?.to_owned(), new: next()?.to_owned(), reference: next()?.to_owned() })
    }
}

/// What a push did, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    pub commit: String,
    /// The ref update in the server: where the clock starts.
    pub updated_unix_ns: u128,
    /// Around the push as a command, for comparison.
    pub started_unix_ns: u128,
    pub returned_unix_ns: u128,
}

/// A clone that somebody works in.
#[derive(Debug)]
pub struct WorkTree {
    git: Git,
    repo: GitRepo,
}

impl WorkTree {
    pub fn folder(&self) -> &Path {
        &self.git.folder
    }

    pub fn write(&self, path: &str, content: &str) -> anyhow::Result<()> {
        let file = self.git.folder.join(path);
        std::fs::create_dir_all(file.parent().context("a file has a folder")?)?;
        Ok(std::fs::write(file, content)?)
    }

    pub fn remove(&self, path: &str) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.git.folder.join(path))?)
    }

    /// Everything as it stands, on the branch that is checked out.
    pub async fn commit(&self, message: &str) -> anyhow::Result<String> {
        self.git.run(["add", "--all"]).await?;
        self.git.run(["commit", "--quiet", "--allow-empty", "--message", message]).await?;
        self.git.run(["rev-parse", "HEAD"]).await
    }

    pub async fn push(&self) -> anyhow::Result<Push> {
        self.push_to(&format!("refs/heads/{BRANCH}")).await
    }

    /// HEAD becomes that ref, whatever the ref was.
    pub async fn push_to(&self, reference: &str) -> anyhow::Result<Push> {
        let commit = self.git.run(["rev-parse", "HEAD"]).await?;
        let started_unix_ns = unix_ns()?;
        self.git.run(["push", "--quiet", "--force", "origin", &format!("HEAD:{reference}")]).await?;
        let returned_unix_ns = unix_ns()?;
        let stamps = self.repo.stamps()?;
        let stamp = stamps.iter().rfind(|stamp| stamp.new == commit && stamp.reference == reference);
        let updated_unix_ns = stamp.with_context(|| format!("{reference} was not updated"))?.unix_ns;
        Ok(Push { commit, updated_unix_ns, started_unix_ns, returned_unix_ns })
    }

    /// Any other command: `git(["reset", "--hard", "HEAD~1"])`.
    pub async fn git<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
        self.git.run(arguments).await
    }
}

/// The `git` command in a folder, without anything of the host's configuration.
#[derive(Debug)]
struct Git {
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Git {
    async fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
        let mut command = isolated("git", &self.folder);
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "ada@example.com")]);
        command.envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "ada@example.com")]);
        let output = command.stdin(Stdio::null()).output().await.context("git does not start")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{:?}: {}", command.as_std().get_args(), errors.trim());
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

fn isolated(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().kill_on_drop(true);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_TERMINAL_PROMPT", "0")]);
    command
}

fn unix_ns() -> anyhow::Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}

fn encode(token: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"))
}

fn quote(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().context("a path that is no text")?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

fn write_hook(repo: &Path, name: &str, script: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let hook = repo.join("hooks").join(name);
    std::fs::create_dir_all(repo.join("hooks"))?;
    std::fs::write(&hook, format!("#!/bin/sh\n{script}"))?;
    Ok(std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755))?)
}

pub(crate) fn acceptor(tls: &GitServerTls) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_slice_iter(tls.certificate_pem.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, backend: Arc<Backend>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, acceptor.clone(), Arc::clone(&backend)));
                }
                // Out of descriptors, most likely; they come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, backend: Arc<Backend>) {
    let service = service_fn(move |request| {
        let backend = Arc::clone(&backend);
        async move { Ok::<_, std::convert::Infallible>(backend.answer(request).await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let _ = stream.set_nodelay(true);
    // A client that goes away in the middle is its own affair.
    let _ = match acceptor {
        None => server.serve_connection(TokioIo::new(stream), service).await,
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => return,
        },
    };
}

/// Turns requests into processes of `git`.
#[derive(Debug)]
struct Backend {
    root: PathBuf,
    token: Option<String>,
}

impl Backend {
    async fn answer(&self, request: Request<Incoming>) -> Response<Outgoing> {
        if !self.may_pass(&request) {
            let mut response = plain(StatusCode::UNAUTHORIZED, "a token is needed");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"git\""));
            return response;
        }
        match self.run(request).await {
            Ok(response) => response,
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}")),
        }
    }

    fn may_pass(&self, request: &Request<Incoming>) -> bool {
        let Some(token) = &self.token else { return true };
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
        let pair =
            given.and_then(|text| decode(text.strip_prefix("Basic ")?)).and_then(|pair| String::from_utf8(pair).ok());
        pair.is_some_and(|pair| pair.split_once(':').is_some_and(|(_, password)| password == token))
    }

    async fn run(&self, request: Request<Incoming>) -> anyhow::Result<Response<Outgoing>> {
        let (parts, body) = request.into_parts();
        let direct = self.upload_pack(&parts);
        let is_direct = direct.is_some();
        let mut command = direct.unwrap_or_else(|| self.http_backend(&parts));
        // What `git` complains about reaches the client as well.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("git does not start")?;
        let input = child.stdin.take().context("it is piped")?;
        let mut output = BufReader::new(child.stdout.take().context("it is piped")?);
        let mut tasks = JoinSet::new();
        tasks.spawn(feed(input, body));
        let mut response = Response::builder();
        if is_direct {
            response = response.header(header::CONTENT_TYPE, "application/x-git-upload-pack-result");
        } else {
            for (name, value) in read_headers(&mut output).await? {
                response = match name.as_str() {
                    "status" => response.status(value.get(..3).context("a short status")?),
                    _ => response.header(name, value),
                };
            }
        }
        let (sender, chunks) = mpsc::channel(16);
        tasks.spawn(async move {
            pump(output, sender).await;
            let _ = child.wait().await;
        });
        Ok(response.body(Outgoing { chunks, _tasks: tasks })?)
    }

    /// What a fetch asks twice per push goes to `git upload-pack` itself, as in GitLab and Gitea: the CGI program in
    /// between would cost as much again.
    fn upload_pack(&self, parts: &Parts) -> Option<Command> {
        let name = parts.uri.path().strip_suffix("/git-upload-pack")?.strip_prefix('/')?;
        let is_plain = parts.method == Method::POST && !parts.headers.contains_key(header::CONTENT_ENCODING);
        let folder = self.root.join(name);
        let is_repo = !name.contains(['/', '\\']) && !name.starts_with('.') && folder.is_dir();
        (is_plain && is_repo).then(|| {
            let mut command = isolated("git", &folder);
            command.args(["upload-pack", "--stateless-rpc", "."]).env("GIT_PROTOCOL", text(parts, "git-protocol"));
            command
        })
    }

    fn http_backend(&self, parts: &Parts) -> Command {
        let mut command = isolated("git", &self.root);
        command.arg("http-backend").env("GIT_PROJECT_ROOT", &self.root).env("GIT_HTTP_EXPORT_ALL", "1");
        command.env("REQUEST_METHOD", parts.method.as_str()).env("PATH_INFO", parts.uri.path());
        command.env("QUERY_STRING", parts.uri.query().unwrap_or_default());
        command.env("REMOTE_USER", "ada").env("REMOTE_ADDR", "127.0.0.1");
        let headers = [
            ("CONTENT_TYPE", "content-type"),
            ("CONTENT_LENGTH", "content-length"),
            ("HTTP_CONTENT_ENCODING", "content-encoding"),
            ("GIT_PROTOCOL", "git-protocol"),
        ];
        // Of a body in chunks the length is unknown; the program then reads to the end.
        let given = headers.into_iter().filter(|(_, header)| parts.headers.contains_key(*header));
        command.envs(given.map(|(name, header)| (name, text(parts, header).to_owned())));
        command
    }
}

fn text<'a>(parts: &'a Parts, header: &str) -> &'a str {
    parts.headers.get(header).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn read_headers(output: &mut (impl AsyncBufReadExt + Unpin)) -> anyhow::Result<HashMap<String, String>> {
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        ensure!(output.read_line(&mut line).await? > 0, "git ended before its headers");
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(headers) };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

async fn feed(mut input: ChildStdin, body: Incoming) {
    let mut body = pin!(body);
    while let Some(Ok(frame)) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        if let Ok(bytes) = frame.into_data()
            && input.write_all(&bytes).await.is_err()
        {
            return;
        }
    }
}

/// Sixteen chunks of 64 KiB are in flight at most, whatever the client does.
async fn pump(mut output: impl AsyncReadExt + Unpin, chunks: mpsc::Sender<std::io::Result<Bytes>>) {
    loop {
        let mut buffer = vec![0; 64 << 10];
        let chunk = match output.read(&mut buffer).await {
            Ok(0) => return,
            Ok(length) => {
                buffer.truncate(length);
                Ok(buffer.into())
            }
            Err(error) => Err(error),
        };
        if chunks.send(chunk).await.is_err() {
            return;
        }
    }
}

/// What a process writes. It ends with the request: a client that goes away takes the process with it.
struct Outgoing {
    chunks: mpsc::Receiver<std::io::Result<Bytes>>,
    _tasks: JoinSet<()>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.chunks.poll_recv(context).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

fn plain(status: StatusCode, message: &str) -> Response<Outgoing> {
    let (sender, chunks) = mpsc::channel(1);
    // The channel has room for the one chunk.
    let _ = sender.try_send(Ok(Bytes::copy_from_slice(message.as_bytes())));
    let mut response = Response::new(Outgoing { chunks, _tasks: JoinSet::new() });
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    async fn start(options: GitServerOptions) -> (TempDir, GitServer) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = GitServer::start(folder.path().join("it's repos"), options).await.expect("it starts");
        (folder, server)
    }

    #[tokio::test]
    async fn a_push_is_served_and_its_ref_update_is_stamped() {
        let (folder, server) = start(GitServerOptions::default()).await;
        let repo = server.create_repo("shop").await.expect("a repo");
        let tree = server.work_tree(&repo, folder.path().join("ada")).await.expect("a clone");
        tree.write("shop/app.yaml", "a: 1\n").expect("it can be written");
        let commit = tree.commit("One").await.expect("a commit");

        let push = tree.push().await.expect("a push");

        assert_eq!(push.commit, commit);
        assert!(push.started_unix_ns <= push.updated_unix_ns && push.updated_unix_ns <= push.returned_unix_ns);
        let stamps = repo.stamps().expect("stamps");
        assert_eq!(stamps.len(), 1);
        assert_eq!(
            (stamps[0].old.as_str(), stamps[0].reference.as_str()),
            ("0".repeat(40).as_str(), "refs/heads/main")
        );
        let again = server.work_tree(&repo, folder.path().join("bob")).await.expect("a clone");
        again.git(["checkout", "--quiet", "--force", "origin/main"]).await.expect("it is there");
        assert_eq!(std::fs::read_to_string(again.folder().join("shop/app.yaml")).expect("a file"), "a: 1\n");
    }

    #[tokio::test]
    async fn a_branch_can_be_rewritten_and_other_branches_pushed() {
        let (folder, server) = start(GitServerOptions::default()).await;
        let repo = server.create_repo("shop").await.expect("a repo");
        let tree = server.work_tree(&repo, folder.path().join("ada")).await.expect("a clone");
        for content in ["a: 1", "a: 2"] {
            tree.write("a.yaml", content).expect("it can be written");
            tree.commit(content).await.expect("a commit");
            tree.push().await.expect("a push");
        }

        tree.git(["reset", "--quiet", "--hard", "HEAD~1"]).await.expect("there is one before");
        let back = tree.push().await.expect("a push");
        tree.remove("a.yaml").expect("it is there");
        let empty = tree.commit("Empty").await.expect("a commit");
        let other = tree.push_to("refs/heads/release").await.expect("a push");

        assert_eq!(other.commit, empty);
        assert_eq!(repo.stamps().expect("stamps").len(), 4);
        assert!(back.updated_unix_ns < other.updated_unix_ns);
    }

    #[tokio::test]
    async fn with_a_token_and_tls_only_who_knows_it_gets_in() {
        let options = GitServerOptions {
            tls: Some(GitServerTls::issue().expect("a certificate")),
            token: Some("secret".to_owned()),
            on_push: None,
        };
        let (folder, server) = start(options).await;
        let repo = server.create_repo("shop").await.expect("a repo");
        let tree = server.work_tree(&repo, folder.path().join("ada")).await.expect("a clone");
        // More than the command sends in one piece, so that it asks first and then sends chunks.
        let noise: Vec<String> =
            (0..200_000u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string()).collect();
        tree.write("noise.txt", &noise.concat()).expect("it can be written");
        tree.commit("Noise").await.expect("a commit");
        tree.push().await.expect("a push");

        let stranger = Git { folder: folder.path().to_owned(), environment: tree.git.environment[3..].to_vec() };
        let refused = stranger.run(["ls-remote", &repo.url]).await.expect_err("no token");
        let known = tree.git(["ls-remote", &repo.url]).await.expect("a token");

        assert!(server.url.starts_with("https://127.0.0.1:"));
        assert!(known.contains("refs/heads/main"));
        assert!(refused.to_string().contains("could not read Username"), "{refused}");
    }

    #[tokio::test]
    async fn a_push_runs_the_command_with_the_repos_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let told = folder.path().join("told");
        let options =
            GitServerOptions { on_push: Some(format!("echo {{name}} >>{}", told.display())), ..Default::default() };
        let server = GitServer::start(folder.path().join("repos"), options).await.expect("it starts");
        let repo = server.create_repo("shop").await.expect("a repo");
        let tree = server.work_tree(&repo, folder.path().join("ada")).await.expect("a clone");
        tree.commit("One").await.expect("a commit");

        tree.push().await.expect("a push");

        assert_eq!(std::fs::read_to_string(told).expect("it ran"), "shop\n");
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found() {
        let (_folder, server) = start(GitServerOptions::default()).await;
        let status = |path: &str| {
            let url = format!("{}/{path}", server.url);
            async move {
                reqwest::Client::builder()
                    .no_proxy()
                    .build()
                    .expect("a client")
                    .get(url)
                    .send()
                    .await
                    .expect("an answer")
                    .status()
            }
        };

        assert_eq!(status("nothing.git/info/refs?service=git-upload-pack").await, StatusCode::NOT_FOUND);
        assert_eq!(status("../../etc/passwd").await, StatusCode::NOT_FOUND);
    }
}
