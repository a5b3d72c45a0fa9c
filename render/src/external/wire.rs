//! What is said between this program and an engine: JSON in frames, each after its length in four bytes.
//!
//! An engine says hello, is asked to render, asks for files until it is done or has failed, and is asked again.

use std::fmt;
use std::io::{self, BufRead, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_core::render::{Lookup, Source, without_secrets};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::{Before, EngineError};
use crate::error::Place;
use crate::files::{Listing, Read as Found};

/// Of a frame: as much as a bundle may have.
pub(crate) const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The engine that this program is made with: what another makes of the same may be something else, and what it is told may
/// mean something else to it.
pub(crate) const ENGINE: &str = "0.8.0";

/// Of three versions, each of some ten.
const VERSIONS_CHARACTERS_MAX: usize = 200;

/// Of a file that people are shown.
const NAME_CHARACTERS_MAX: usize = 1_000;

/// What an engine says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Said {
    Hello(Hello),
    Read(String),
    List(String),
    Source(SourceAsked),
    Done(Done),
    Failed(Complaint),
}

/// What it asks while it renders.
#[derive(Debug)]
pub(crate) enum Question {
    Read(String),
    List(String),
    Source(SourceAsked),
}

/// Something that is not in the repo, and where it is named.
#[derive(Debug, Deserialize)]
pub(crate) struct SourceAsked {
    file: String,
    line: u32,
    chart: Option<ChartAsked>,
    git: Option<GitAsked>,
    remote: Option<FileAsked>,
}

#[derive(Debug, Deserialize)]
struct FileAsked {
    url: String,
}

#[derive(Debug, Deserialize)]
struct GitAsked {
    url: String,
    reference: String,
}

#[derive(Debug, Deserialize)]
struct ChartAsked {
    repository: String,
    name: String,
    versions: String,
}

impl SourceAsked {
    pub(crate) fn place(&self) -> Place {
        Place::Line {
            file: self.file.chars().take(NAME_CHARACTERS_MAX).collect::<String>().into(),
            line: self.line.max(1),
        }
    }

    /// `None`: it can be none.
    pub(crate) fn source(self) -> Option<Source> {
        // Rows and messages hold it.
        let chart = self.chart.map(|ChartAsked { repository, name, versions }| {
            let repository = without_secrets(&repository);
            Source::Chart { repository, name, versions }
        });
        let git = self.git.map(|GitAsked { url, reference }| Source::Git { url: without_secrets(&url), reference });
        let file = self.remote.map(|FileAsked { url }| Source::File { url: without_secrets(&url) });
        chart.or(git).or(file).filter(Source::is_valid)
    }
}

/// Which engine it is, and how it has shut itself in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Hello {
    pub(crate) engine: String,
    helm: String,
    kustomize: String,
    pub(crate) missing: Vec<String>,
}

impl Hello {
    /// What has other versions may make something else of the same.
    pub(crate) fn versions(&self) -> String {
        let Self { engine, helm, kustomize, .. } = self;
        let versions = format!("engine {engine}, helm {helm}, kustomize {kustomize}");
        versions.chars().filter(|character| !character.is_control()).take(VERSIONS_CHARACTERS_MAX).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Done {
    /// A stream of YAML.
    pub(crate) documents: String,
    /// Functions of a chart that were called and may give something else next time.
    #[serde(default)]
    pub(crate) volatile: Vec<String>,
    /// What of its cluster a chart has looked at.
    #[serde(default)]
    pub(crate) looked_at: Vec<String>,
}

/// Why it made nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Complaint {
    code: String,
    message: String,
    file: Option<String>,
    line: Option<u32>,
    hint: Option<String>,
    /// Before: for another cluster it may not complain.
    looked_at: Vec<String>,
    /// What was frozen before, as a chart has it.
    secrets: Vec<String>,
}

impl From<Complaint> for EngineError {
    fn from(Complaint { code, message, file, line, hint, looked_at, secrets }: Complaint) -> Self {
        // Whole, until what is secret in it is hidden.
        let (code, line) = (known_code(&code), line.filter(|line| *line > 0));
        Self::Failed { code, message, hint, file, line, before: Box::new(Before { looked_at, secrets }) }
    }
}

/// Those that are documented.
fn known_code(code: &str) -> &'static str {
    let known = [
        "bad_request",
        "engine_panicked",
        "over_limit",
        "file_refused",
        "outside_repository",
        "kustomize_failed",
        "kustomize_unsupported",
        "helm_failed",
        "helm_schema",
        "helm_lookup",
        "helm_dependency",
        "helm_volatile",
    ];
    known.into_iter().find(|known| *known == code).unwrap_or("engine_failed")
}

/// What an engine is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Tell<'a> {
    Render(&'a Request),
}

/// What is to be rendered.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    pub(crate) kind: &'static str,
    pub(crate) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) helm: Option<HelmRequest>,
    /// The folder of a kustomization over what Helm gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kustomize: Option<String>,
    /// The folder of the repo that this is in, if that is not the chart's own: it leads to nothing outside of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kustomize_source: Option<String>,
    /// The same as before, to see whether it stays the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) again: bool,
}

impl Request {
    /// Builds a kustomization; what `helm` says is for the charts in it.
    pub(crate) fn kustomize(folder: &str, helm: Option<HelmRequest>) -> Self {
        let path = folder.to_owned();
        Self { kind: "kustomize", path, helm, kustomize: None, kustomize_source: None, again: false }
    }
}

/// What is set over the values of a chart, as `helm --set` and `--set-string` do it: texts over the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    pub set: Vec<String>,
    pub set_string: Vec<String>,
}

impl Settings {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.set_string.is_empty()
    }
}

/// Of a seed that all follows from which a chart would leave to chance.
pub const SEED_BYTES: usize = 32;

/// What a chart makes by itself follows from this, where a target freezes it: the same of the same, and for as long as nobody
/// knows the seed nobody knows what is made.
#[derive(Clone, Serialize)]
pub struct Frozen {
    seed: String,
    at: String,
}

impl Frozen {
    /// The time, as RFC 3339 writes it, is what such a chart takes for the present.
    pub fn new(seed: &[u8; SEED_BYTES], at: &str) -> Self {
        Self { seed: STANDARD.encode(seed), at: at.to_owned() }
    }
}

/// Without the seed.
impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("at", &self.at).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HelmRequest {
    pub(crate) release: String,
    pub(crate) namespace: String,
    pub(crate) values: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) set: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) set_string: Vec<String>,
    #[serde(skip_serializing_if = "Settings::is_empty")]
    pub(crate) over: Settings,
    pub(crate) values_files: Vec<String>,
    pub(crate) include_crds: bool,
    /// What each object of `crds/` gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mark_crds: Option<CrdMark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kube_version: Option<String>,
    pub(crate) api_versions: Vec<String>,
    /// All that the cluster serves, if that is known and the target does not say it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cluster_api_versions: Vec<String>,
    #[serde(skip_serializing_if = "Lookup::is_refused")]
    pub(crate) lookup: Lookup,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frozen: Option<Frozen>,
    /// What no error may say.
    #[serde(skip)]
    pub(crate) hidden: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct CrdMark {
    pub(crate) annotation: &'static str,
    pub(crate) value: &'static str,
}

/// What an engine is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    File(String),
    Directory(bool),
    Entries(Vec<Line>),
    NotDirectory(bool),
    Absent(bool),
    Refused(String),
    /// The folder of a source.
    Source(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    name: String,
    kind: &'static str,
}

impl From<Found> for Answer {
    fn from(found: Found) -> Self {
        match found {
            Found::File(bytes) => Self::File(STANDARD.encode(bytes)),
            Found::Folder => Self::Directory(true),
            Found::Absent => Self::Absent(true),
        }
    }
}

impl From<&Listing> for Answer {
    fn from(listing: &Listing) -> Self {
        let line =
            |name: &String, is_folder| Line { name: name.clone(), kind: if is_folder { "directory" } else { "file" } };
        match listing {
            Listing::Folder(entries) => {
                Self::Entries(entries.iter().map(|entry| line(&entry.name, entry.is_folder)).collect())
            }
            Listing::NotAFolder => Self::NotDirectory(true),
            Listing::Absent => Self::Absent(true),
        }
    }
}

/// Why there is no next message.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The other end is gone.
    Ended,
    TooMuch,
    NotUnderstood(String),
}

pub(crate) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&json)?;
    to.flush()
}

/// The room for a frame grows as it comes: a length alone takes none.
pub(crate) fn read(from: &mut impl BufRead) -> Result<Said, Unread> {
    let mut length = [0; 4];
    from.read_exact(&mut length).map_err(|_| Unread::Ended)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(Unread::TooMuch);
    }
    let mut json = Vec::new();
    from.take(length as u64).read_to_end(&mut json).map_err(|_| Unread::Ended)?;
    if json.len() < length {
        return Err(Unread::Ended);
    }
    serde_json::from_slice(&json).map_err(|error| Unread::NotUnderstood(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::files::Listed;

    fn frame(json: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, json).expect("it is written");
        bytes
    }

    #[test]
    fn answers_are_as_an_engine_expects_them() {
        let folder = Listing::Folder(vec![
            Listed { name: "a.yaml".to_owned(), is_folder: false },
            Listed { name: "base".to_owned(), is_folder: true },
        ]);
        for (answer, expected) in [
            (Answer::from(Found::File((*b"a: 1").into())), json!({"file": "YTogMQ=="})),
            (Answer::from(Found::Folder), json!({"directory": true})),
            (Answer::from(Found::Absent), json!({"absent": true})),
            (
                Answer::from(&folder),
                json!({"entries": [{"name": "a.yaml", "kind": "file"}, {"name": "base", "kind": "directory"}]}),
            ),
            (Answer::from(&Listing::NotAFolder), json!({"notDirectory": true})),
            (Answer::Refused("a link".to_owned()), json!({"refused": "a link"})),
        ] {
            assert_eq!(serde_json::to_value(answer).expect("JSON"), expected);
        }
    }

    #[test]
    fn a_frame_that_is_too_long_cut_off_or_no_message_is_not_read() {
        let good = frame(&json!({"read": "a"}));
        assert!(matches!(read(&mut &good[..]), Ok(Said::Read(path)) if path == "a"));

        assert!(matches!(read(&mut &u32::MAX.to_be_bytes()[..]), Err(Unread::TooMuch)));
        for end in [0, 2, 4, good.len() - 1] {
            assert!(matches!(read(&mut &good[..end]), Err(Unread::Ended)), "{end} bytes");
        }
        for message in [json!({"write": "a"}), json!([]), json!({"read": 1}), json!({"done": {}})] {
            assert!(matches!(read(&mut &frame(&message)[..]), Err(Unread::NotUnderstood(_))), "{message}");
        }
    }

    #[test]
    fn of_what_an_engine_says_only_known_codes_and_bounded_texts_are_passed_on() {
        let complaint =
            json!({"code": "helm_failed", "message": "x".repeat(10_000), "line": 3, "file": "a", "more": 1});
        let complaint: Complaint = serde_json::from_value(complaint).expect("a complaint");
        let error = EngineError::from(complaint);
        assert_eq!((error.code(), error.file(), error.line()), ("helm_failed", Some("a"), Some(3)));
        assert_eq!(error.hiding(&[]).to_string().len(), 4_000);

        let odd: Complaint = serde_json::from_value(json!({"code": "<script>", "message": "m"})).expect("a complaint");
        assert_eq!(EngineError::from(odd).code(), "engine_failed");
    }
}
