//! `apply`: repos and targets from files.
//!
//! All documents are read and judged as far as that is possible here before the first is sent. Fields are judged by the
//! hub, which knows those of its own version; what it refuses is told with the file and the line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bellwether_core::api::{API_VERSION, CreatedRepo, TargetDocument};
use bellwether_core::{Name, nearest};
use bellwether_render::yaml::{self, Document, Node};
use bellwether_validate::line_of;
use serde_json::{Map, Value, json};

use super::Context;
use super::outcome::{self, Pending};
use super::repo::{self, Credential, draw_webhook, read_text};
use crate::args::{ApplyArgs, Format, TokenFile};
use crate::client::{Answer, RequestError, Route};
use crate::failure::{Exit, Failure};
use crate::output::{note, print};

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The kinds that can be applied, in the order in which they are sent: targets name repos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Applied {
    Repo,
    Target,
}

impl Applied {
    const ALL: [Self; 2] = [Self::Repo, Self::Target];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Repo => "Repo",
            Self::Target => "Target",
        }
    }
}

/// A file as it was read.
#[derive(Debug)]
struct Source {
    /// As people named it.
    name: String,
    /// What paths in it start from, and stay within; without one it names no files.
    folder: Option<PathBuf>,
    text: String,
}

/// Where a document stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    file: String,
    line: u32,
    /// From 1, of those in the file.
    number: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} (document {})", self.file, self.line, self.number)
    }
}

/// A document that is ready to be sent.
#[derive(Debug)]
struct Sendable {
    kind: Applied,
    name: Name,
    place: Place,
    body: Value,
    credential: Option<Credential>,
    /// As it was written, to find a field in.
    root: Node,
}

pub(super) async fn run(context: &Context, arguments: &ApplyArgs) -> anyhow::Result<Exit> {
    let mut sendables = Vec::new();
    for source in read_sources(&arguments.files)? {
        sendables.extend(read_documents(&source)?);
    }
    if sendables.is_empty() {
        return Err(Failure::new("the files hold no document").hint("write a Repo or a Target into one").into());
    }
    refuse_twins(&sendables)?;
    give_tokens(&mut sendables, &arguments.token_files)?;
    // Stable: within a kind, the order of the files stays.
    sendables.sort_by_key(|sendable| sendable.kind);
    let is_table = context.output.document_format()? == Format::Table;
    let mut sent = Sent::default();
    let outcome = send_all(context, &sendables, is_table, &mut sent).await;
    if !is_table {
        // Whatever was taken is told, even when the next was not: it may hold a webhook's secret.
        let list = Answer { json: json!({"items": sent.answers, "next": null}), document: () };
        context.output.answer(&list, |(), _| String::new())?;
    }
    outcome?;
    if !arguments.no_wait {
        outcome::wait(context, sent.pending).await?;
    }
    Ok(Exit::Done)
}

/// What the hub has taken.
#[derive(Debug, Default)]
struct Sent {
    answers: Vec<Value>,
    pending: Vec<Pending>,
}

async fn send_all(context: &Context, sendables: &[Sendable], is_table: bool, sent: &mut Sent) -> Result<(), Failure> {
    for sendable in sendables {
        let outcome = match sendable.kind {
            Applied::Repo => send_repo(context, sendable, is_table, sent).await,
            Applied::Target => send_target(context, sendable, is_table, sent).await,
        };
        outcome.map_err(|error| refused(sendable, error))?;
    }
    Ok(())
}

async fn send_repo(
    context: &Context,
    sendable: &Sendable,
    is_table: bool,
    sent: &mut Sent,
) -> Result<(), RequestError> {
    let (client, name) = (&context.client, &sendable.name);
    let answer = repo::send(client, name, &sendable.body, sendable.credential.is_some()).await?;
    let created = &answer.document;
    if is_table {
        let done = match created {
            _ if repo::is_new(created) && created.webhook_secret.is_some() => "created",
            CreatedRepo { unchanged: true, .. } => "unchanged",
            _ => "configured",
        };
        note(&format!("repo {name} {done}"));
        repo::note_if_let_in_no_more(created);
        // A pipe that closed must not keep the rest from being sent.
        let _ = print(&draw_webhook(created, context.output.style()));
    }
    sent.answers.push(answer.json);
    sent.pending.push(Pending::Repo(name.clone()));
    repo::send_credential(client, name, sendable.credential.as_ref()).await
}

async fn send_target(
    context: &Context,
    sendable: &Sendable,
    is_table: bool,
    sent: &mut Sent,
) -> Result<(), RequestError> {
    let name = &sendable.name;
    let route = Route::named("targets", name);
    let before = match context.client.fetch::<TargetDocument>(&route).await {
        Ok(before) => Some(before.document.metadata.version),
        Err(RequestError::NotFound(_)) => None,
        Err(error) => return Err(error),
    };
    let answer: Answer<TargetDocument> = context.client.put(&route, &sendable.body).await?;
    if is_table {
        let done = match before {
            None => "created",
            Some(version) if version == answer.document.metadata.version => "unchanged",
            Some(_) => "configured",
        };
        note(&format!("target {name} {done}"));
    }
    sent.answers.push(answer.json);
    sent.pending.push(Pending::Target(name.clone()));
    Ok(())
}

/// What the hub refused, with the line of the field that it names.
fn refused(sendable: &Sendable, error: RequestError) -> Failure {
    let failure = error.into_failure();
    let message = failure.to_string();
    let line = quoted(&message).find_map(|word| line_of_field(&sendable.root, word)).unwrap_or(sendable.place.line);
    failure.at(Place { line, ..sendable.place.clone() })
}

/// The words between backticks: messages name fields so.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}

/// The line of a field that is named by its path, or by its last word, wherever that stands.
fn line_of_field(root: &Node, field: &str) -> Option<u32> {
    if field.contains('.') {
        return Some(line_of(root, field));
    }
    match &root.content {
        yaml::Content::List(items) => items.iter().find_map(|item| line_of_field(item, field)),
        yaml::Content::Map(entries) => entries.iter().find_map(|entry| {
            if &*entry.key == field { Some(entry.line()) } else { line_of_field(&entry.value, field) }
        }),
        _ => None,
    }
}

fn read_sources(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            sources.push(read_stdin()?);
        } else if path.is_dir() {
            for file in list_files(path)? {
                sources.push(read_source(&file)?);
            }
        } else {
            sources.push(read_source(path)?);
        }
    }
    Ok(sources)
}

fn read_stdin() -> Result<Source, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
    Ok(Source { name: "-".to_owned(), folder: None, text })
}

fn read_source(path: &Path) -> Result<Source, Failure> {
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok(Source { name: path.display().to_string(), folder: Some(folder), text: read_text(path)? })
}

/// The files of a folder by name, without those of folders in it.
fn list_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if path.is_file() && EXTENSIONS.contains(&extension) {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Failure::new(format!("{} holds no .yaml, .yml or .json file", folder.display()))
            .hint("folders inside a folder are not read; name each with -f"));
    }
    files.sort();
    Ok(files)
}

fn read_documents(source: &Source) -> Result<Vec<Sendable>, Failure> {
    let read = |(index, document): (usize, Document)| {
        let place = Place { file: source.name.clone(), line: document.line, number: index + 1 };
        read_document(source, &place, document.root).map_err(|failure| failure.at(&place))
    };
    read_yaml(&source.name, &source.text)?.into_iter().enumerate().map(read).collect()
}

/// As manifests are read, but that no key may stand twice: one of the two would be lost.
pub(super) fn read_yaml(name: &str, text: &str) -> Result<Vec<Document>, Failure> {
    let documents = yaml::read(name, text.as_bytes())
        .map_err(|error| Failure::new(error.to_string()).hint("the file must be YAML or JSON that parses"))?;
    refuse_repeated(name, &documents)?;
    Ok(documents)
}

/// A key that stands twice means two things.
pub(super) fn refuse_repeated(name: &str, documents: &[Document]) -> Result<(), Failure> {
    match documents.iter().find_map(|document| document.root.repeated()) {
        Some(twice) => {
            Err(Failure::new(format!("{name}:{}: `{}` stands twice", twice.line(), twice.key))
                .hint("keep one of the two"))
        }
        None => Ok(()),
    }
}

fn read_document(source: &Source, place: &Place, root: Node) -> Result<Sendable, Failure> {
    let mut body = root.to_json();
    let fields =
        body.as_object().ok_or_else(|| Failure::new("it is not a document with `kind`, `metadata` and `spec`"))?;
    let kind = find_kind(fields)?;
    let api_version = fields.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if api_version != API_VERSION {
        return Err(Failure::new(format!("`apiVersion` is `{api_version}`, not `{API_VERSION}`"))
            .hint(format!("write `apiVersion: {API_VERSION}`")));
    }
    let name = fields.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str);
    let name = name.ok_or_else(|| {
        Failure::new(format!("this {} has no name", kind.as_str())).hint("write `metadata: {name: …}`")
    })?;
    let name: Name = name.parse().map_err(|error: <Name as std::str::FromStr>::Err| Failure::new(error.to_string()))?;
    let spec = body.get_mut("spec").and_then(Value::as_object_mut);
    let credential = match (kind, spec) {
        (Applied::Repo, Some(spec)) => take_files(source.folder.as_deref(), spec)?,
        _ => None,
    };
    Ok(Sendable { kind, name, place: place.clone(), body, credential, root })
}

fn find_kind(fields: &Map<String, Value>) -> Result<Applied, Failure> {
    let written = fields.get("kind").and_then(Value::as_str).unwrap_or_default();
    if let Some(kind) = Applied::ALL.into_iter().find(|kind| kind.as_str() == written) {
        return Ok(kind);
    }
    let known = Applied::ALL.map(Applied::as_str);
    let failure = match written {
        "" => Failure::new("it has no `kind`"),
        written => Failure::new(format!("kind `{written}` is not known here")),
    };
    Err(match nearest(written, known) {
        Some(nearest) => failure.hint(format!("did you mean `{nearest}`?")),
        None => failure.hint(format!("these can be applied: {}", known.join(", "))),
    })
}

/// What the CLI reads for the hub: `caFile` becomes `ca` and `knownHostsFile` `knownHosts`; `tokenFile` and `sshKeyFile` go
/// a way of their own.
fn take_files(folder: Option<&Path>, spec: &mut Map<String, Value>) -> Result<Option<Credential>, Failure> {
    for (field, of_file) in [("ca", "caFile"), ("knownHosts", "knownHostsFile")] {
        let Some(path) = take_path(folder, spec, of_file)? else { continue };
        if spec.contains_key(field) {
            return Err(Failure::new(format!("`{field}` and `{of_file}` are both given")).hint("keep one of them"));
        }
        spec.insert(field.to_owned(), read_text(&path)?.into());
    }
    let token = take_path(folder, spec, "tokenFile")?;
    let key = take_path(folder, spec, "sshKeyFile")?;
    match (token, key) {
        (None, None) => Ok(None),
        (Some(path), None) => Credential::read_token(&path).map(Some),
        (None, Some(path)) => Credential::read_ssh_key(&path).map(Some),
        (Some(_), Some(_)) => {
            Err(Failure::new("`tokenFile` and `sshKeyFile` are both given").hint("keep the one that its server takes"))
        }
    }
}

fn take_path(folder: Option<&Path>, spec: &mut Map<String, Value>, field: &str) -> Result<Option<PathBuf>, Failure> {
    match (spec.remove(field), folder) {
        (None, _) => Ok(None),
        (Some(Value::String(path)), Some(folder)) => find_within(folder, &path, field).map(Some),
        (Some(Value::String(_)), None) => Err(Failure::new(format!("a document from standard input has no `{field}`"))
            .hint("apply it from a file beside the one it names; a token: --token-file NAME=FILE")),
        (Some(_), _) => {
            Err(Failure::new(format!("`{field}` is not a path"))
                .hint("write the path of a file, from this file's folder"))
        }
    }
}

/// Who wrote the document need not be who may read this machine's files, and it also says where a token is sent: so it
/// names what lies in its own folder, and no link leads out of there.
fn find_within(folder: &Path, path: &str, field: &str) -> Result<PathBuf, Failure> {
    let joined = folder.join(path);
    let real = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        path.canonicalize().map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
    };
    if Path::new(path).is_absolute() || !real(&joined)?.starts_with(real(folder)?) {
        return Err(Failure::new(format!("`{field}` names a file outside of the document's folder"))
            .hint("move it beside the document, or give it to `bellwether repo add`"));
    }
    Ok(joined)
}

/// What the command line names is of the person who applies, and may lie anywhere: it is for repos whose documents name no
/// file, such as those from standard input.
fn give_tokens(sendables: &mut [Sendable], token_files: &[TokenFile]) -> Result<(), Failure> {
    for TokenFile { repo, path } in token_files {
        let sendable = sendables.iter_mut().find(|one| one.kind == Applied::Repo && one.name == *repo);
        let sendable = sendable.ok_or_else(|| {
            Failure::new(format!("`--token-file {repo}=…` is for no Repo among the documents"))
                .hint("its name is what stands in the Repo's `metadata.name`")
        })?;
        if sendable.credential.is_some() {
            return Err(Failure::new(format!("the token of repo `{repo}` is given twice"))
                .hint("keep `tokenFile` in the document, or one `--token-file`")
                .at(&sendable.place));
        }
        sendable.credential = Some(Credential::read_token(path)?);
    }
    Ok(())
}

/// Two documents for one thing: the later would undo the earlier at once.
fn refuse_twins(sendables: &[Sendable]) -> Result<(), Failure> {
    let mut places: BTreeMap<(Applied, &Name), &Place> = BTreeMap::new();
    for sendable in sendables {
        if let Some(first) = places.insert((sendable.kind, &sendable.name), &sendable.place) {
            let message = format!("{} `{}` stands at {first} already", sendable.kind.as_str(), sendable.name);
            return Err(Failure::new(message).hint("keep one of the two").at(&sendable.place));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPO: &str = "apiVersion: bellwether.dev/v1\nkind: Repo\nmetadata: {name: apps}\nspec:\n  url: https://git.example.org/apps.git\n";
    const TARGET: &str =
        "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {name: shop}\nspec:\n  repo: apps\n  pth: shop\n";

    fn source(text: &str) -> Source {
        Source { name: "shop.yaml".to_owned(), folder: Some(PathBuf::new()), text: text.to_owned() }
    }

    fn refusal(text: &str) -> String {
        format!("{:?}", read_documents(&source(text)).expect_err("refused"))
    }

    #[test]
    fn every_document_of_a_file_is_read_with_its_line() {
        let documents = read_documents(&source(&format!("# two\n---\n{REPO}---\n{TARGET}---\n"))).expect("documents");

        let shown: Vec<_> =
            documents.iter().map(|one| format!("{} {} {}", one.place, one.kind.as_str(), one.name)).collect();
        assert_eq!(shown, ["shop.yaml:3 (document 1) Repo apps", "shop.yaml:9 (document 2) Target shop"]);
        assert_eq!(documents[1].body["spec"], json!({"repo": "apps", "pth": "shop"}), "fields are the hub's to judge");
    }

    #[test]
    fn values_are_read_as_kubectl_reads_them() {
        let text =
            format!("{TARGET}  parameters:\n  - values: {{a: yes, b: 0777, c: \"yes\", d: 1_000, e: 2026-11-23}}\n");

        let documents = read_documents(&source(&text)).expect("documents");

        let values = &documents[0].body["spec"]["parameters"][0]["values"];
        assert_eq!(*values, json!({"a": true, "b": 511, "c": "yes", "d": 1000, "e": "2026-11-23"}));
    }

    #[test]
    fn a_field_is_found_by_its_path_and_else_what_it_stands_in() {
        let text = "kind: Target\nspec:\n  path: a\n  rollout:\n    waves:\n      - name: one\n        soak: 10s\n      - name: two\n        \
                    clusters: {matchLabels: {a: b}}\n        soak: 10\n";

        let root = read_yaml("a.yaml", text).expect("it is read").remove(0).root;
        let paths =
            ["spec.rollout.waves[1].soak", "spec.rollout.waves[0].soak", "spec.rollout.waves[1].count", "path", "none"];
        assert_eq!(paths.map(|path| line_of_field(&root, path)), [Some(10), Some(7), Some(8), Some(3), None]);
    }

    #[test]
    fn what_does_not_parse_is_told_with_its_line() {
        let text = refusal(&format!("{REPO}  bad: [1, 2\n---\n"));
        assert!(text.contains("shop.yaml:6:"), "{text}");

        let text = refusal("kind: Repo\nkind: Target\n");
        assert!(text.contains("shop.yaml:2: ") && text.contains("kind"), "{text}");
    }

    #[test]
    fn a_refused_field_is_told_with_its_own_line() {
        let documents = read_documents(&source(&format!("{REPO}---\n{TARGET}"))).expect("documents");
        let problem = Failure::new("unknown field `pth`").hint("did you mean `path`?");

        let failure = refused(&documents[1], RequestError::Refused(problem));

        assert_eq!(failure.to_string(), "shop.yaml:12 (document 2): unknown field `pth`");
        let failure = refused(&documents[1], RequestError::Refused(Failure::new("no repo is called `pay`")));
        assert_eq!(failure.to_string(), "shop.yaml:7 (document 2): no repo is called `pay`");
    }

    #[test]
    fn a_misspelt_kind_is_answered_with_the_nearest() {
        let text = refusal("apiVersion: bellwether.dev/v1\nkind: Targt\nmetadata: {name: shop}\n");

        assert!(text.contains("kind `Targt` is not known here") && text.contains("did you mean `Target`?"), "{text}");
        assert!(refusal("kind: Deployment\n").contains("Repo, Target"));
    }

    #[test]
    fn what_is_no_document_of_ours_is_refused() {
        for (text, expected) in [
            ("- a\n", "not a document"),
            ("kind: Repo\nmetadata: {name: apps}\n", "`apiVersion` is ``"),
            ("apiVersion: bellwether.dev/v1\nkind: Repo\n", "has no name"),
            ("apiVersion: bellwether.dev/v1\nkind: Repo\nmetadata: {name: Apps}\n", "`Apps` is not a name"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(expected), "{refusal}");
        }
    }

    #[test]
    fn files_that_a_repo_names_are_read_beside_it_and_never_sent_as_paths() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), "PEM\n").expect("a file");
        std::fs::write(folder.path().join("token"), "secret\n").expect("a file");
        let file = folder.path().join("repo.yaml");
        std::fs::write(&file, format!("{REPO}  caFile: ca.pem\n  tokenFile: token\n")).expect("a file");

        let sources = read_sources(&[folder.path().to_owned()]).expect("sources");
        let documents = read_documents(&sources[0]).expect("documents");

        assert_eq!(sources.len(), 1, "only .yaml, .yml and .json");
        assert_eq!(documents[0].body["spec"], json!({"url": "https://git.example.org/apps.git", "ca": "PEM\n"}));
        assert_eq!(documents[0].credential, Some(Credential::Token("secret".to_owned())));
    }

    #[test]
    fn a_repo_names_no_file_outside_of_its_folder() {
        let outside = tempfile::tempdir().expect("a folder");
        let folder = outside.path().join("repos");
        std::fs::create_dir(&folder).expect("a folder");
        let secret = outside.path().join("token");
        std::fs::write(&secret, "secret\n").expect("a file");
        std::os::unix::fs::symlink(&secret, folder.join("link")).expect("a link");
        std::os::unix::fs::symlink(outside.path(), folder.join("way")).expect("a link");
        let absolute = secret.display().to_string();

        for field in ["tokenFile", "caFile"] {
            for path in [absolute.as_str(), "../token", "link", "way/token", "./../repos/../token"] {
                let file = folder.join("repo.yaml");
                std::fs::write(&file, format!("{REPO}  {field}: {path}\n")).expect("a file");
                let refused = read_documents(&read_source(&file).expect("a source")).expect_err(path);
                assert!(format!("{refused:?}").contains("outside"), "{refused:?}");
            }
        }
    }

    #[test]
    fn documents_from_standard_input_get_the_tokens_that_the_command_line_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("one"), "first\n").expect("a file");
        std::fs::write(path("two"), "second\n").expect("a file");
        let text = format!("{REPO}---\n{TARGET}---\n{}", REPO.replace("{name: apps}", "{name: infra}"));
        let stdin = Source { name: "-".to_owned(), folder: None, text };
        let give = |files: &[(&str, &str)]| {
            let mut documents = read_documents(&stdin).expect("documents");
            let files = files.iter().map(|(repo, file)| format!("{repo}={}", path(file).display()));
            let files: Vec<TokenFile> = files.map(|text| text.parse().expect("a pair")).collect();
            give_tokens(&mut documents, &files).map(|()| documents)
        };

        let given = give(&[("infra", "two"), ("apps", "one")]).expect("given");

        let credentials: Vec<_> = given.iter().map(|one| (one.name.as_str(), one.credential.as_ref())).collect();
        let [first, second] = ["first", "second"].map(|token| Credential::Token(token.to_owned()));
        assert_eq!(credentials, [("apps", Some(&first)), ("shop", None), ("infra", Some(&second))]);
        for (files, expected) in [
            (&[("shop", "one")][..], "for no Repo among"),
            (&[("apps", "one"), ("apps", "two")], "given twice"),
            (&[("apps", "three")], "cannot read"),
        ] {
            let failure = give(files).expect_err(expected).to_string();
            assert!(failure.contains(expected), "{failure}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        assert!(refusal(&format!("{REPO}  caFile: nowhere.pem\n")).contains("cannot read nowhere.pem"));
        assert!(refusal(&format!("{REPO}  caFile: 3\n")).contains("`caFile` is not a path"));
        let missing = read_sources(&[PathBuf::from("/nowhere/shop.yaml")]).expect_err("refused");
        assert!(missing.to_string().contains("cannot read /nowhere/shop.yaml"));
    }

    #[test]
    fn two_documents_for_one_thing_are_refused() {
        let documents = read_documents(&source(&format!("{REPO}---\n{REPO}"))).expect("documents");

        let refusal = refuse_twins(&documents).expect_err("refused").to_string();

        assert_eq!(refusal, "shop.yaml:7 (document 2): Repo `apps` stands at shop.yaml:1 (document 1) already");
    }
}
