//! `--kubeconform-compat`: kubeconform's arguments, and its answers.
//!
//! Files are read as they are: nothing is rendered, and nothing but the schema of each object is asked. Schemas come from
//! this program, or from folders that are laid out as kubeconform's are; none is fetched.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use bellwether_render::objects_of;
use bellwether_render::yaml::{self, Node};
use bellwether_validate::{Problem, Schemas, Structural, Version, read_file, read_within};
use regex::Regex;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, unless_unread};
use crate::output::{print, visible_line};

const DEFAULT: &str = "default";
const LAYOUT: &str =
    "/{{ .NormalizedKubernetesVersion }}-standalone{{ .StrictSuffix }}/{{ .ResourceKind }}{{ .KindSuffix }}.json";

/// `{{ .ResourceKind }}`.
static FIELD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{\{\s*\.(\w+)\s*\}\}").expect("the pattern is a constant"));

/// What it was given: its flags, and files.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of kubeconform")]
struct KubeconformArgs {
    files: Vec<String>,
    ignored: Vec<Regex>,
    ignore_missing_schemas: bool,
    version: String,
    output: String,
    reject: Vec<String>,
    skip: Vec<String>,
    locations: Vec<String>,
    strict: bool,
    summary: bool,
    verbose: bool,
    exit_on_error: bool,
}

pub(super) fn run(arguments: &[String]) -> anyhow::Result<Exit> {
    let began_at = Instant::now();
    // It has one exit code for all that goes wrong.
    let wrong = |failure: Failure| failure.ending(Exit::Failed);
    if let Some(text) = asked_for_text(arguments) {
        print(&text)?;
        return Ok(Exit::Done);
    }
    let asked = KubeconformArgs::parse(arguments).map_err(wrong)?;
    let judge = Judge::new(&asked).map_err(wrong)?;
    let mut results = Vec::new();
    let is_stdin = asked.files.is_empty() || asked.files == ["-"];
    if is_stdin {
        let bytes = read_within(std::io::stdin())?;
        judge.file("stdin", &bytes, &mut results);
    } else {
        for file in listed(&asked)? {
            match read_file(Path::new(&file)) {
                Ok(bytes) => judge.file(&file, &bytes, &mut results),
                Err(error) => results.push(Outcome::error(&file, format!("open {file}: {error}"))),
            }
            if asked.exit_on_error && results.iter().any(Outcome::has_failed) {
                break;
            }
        }
    }
    let report = Report { asked: &asked, results: &results, is_stdin };
    unless_unread(print(&report.text(began_at)))?;
    Ok(if results.iter().any(Outcome::has_failed) { Exit::Failed } else { Exit::Done })
}

/// What is printed instead of an answer.
fn asked_for_text(arguments: &[String]) -> Option<String> {
    let is_one_of = |flags: &[&str]| {
        let is_flag = |argument: &&String| argument.starts_with('-') && *argument != "--";
        let mut flags_given = arguments.iter().take_while(is_flag);
        flags_given.any(|argument| flags.contains(&argument.trim_start_matches('-')))
    };
    if is_one_of(&["h", "help"]) {
        return Some("Usage: bellwether validate --kubeconform-compat [OPTION]... [FILE OR FOLDER]...".to_owned());
    }
    is_one_of(&["v"]).then(|| format!("bellwether {}", env!("CARGO_PKG_VERSION")))
}

impl KubeconformArgs {
    fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut asked = Self {
            files: Vec::new(),
            ignored: Vec::new(),
            ignore_missing_schemas: false,
            version: "master".to_owned(),
            output: "text".to_owned(),
            reject: Vec::new(),
            skip: Vec::new(),
            locations: Vec::new(),
            strict: false,
            summary: false,
            verbose: false,
            exit_on_error: false,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let flag =
                argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')).filter(|flag| !flag.is_empty());
            let Some(flag) = flag else {
                // As in Go, what follows the first argument that is no flag are arguments.
                if argument != "--" {
                    asked.files.push(argument.clone());
                }
                asked.files.extend(rest.cloned());
                break;
            };
            let (name, value) =
                flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
            if !asked.set_switch(name, value.as_deref())? {
                let value = value.or_else(|| rest.next().cloned());
                let value = value.ok_or_else(|| Failure::usage(format!("flag needs an argument: -{name}")))?;
                asked.set(name, value)?;
            }
        }
        Ok(asked)
    }

    /// Whether the flag is one that takes no value.
    fn set_switch(&mut self, name: &str, value: Option<&str>) -> Result<bool, Failure> {
        let mut ignored = false;
        let switch = match name {
            "strict" => &mut self.strict,
            "summary" => &mut self.summary,
            "verbose" => &mut self.verbose,
            "exit-on-error" => &mut self.exit_on_error,
            "ignore-missing-schemas" => &mut self.ignore_missing_schemas,
            "debug" | "insecure-skip-tls-verify" => &mut ignored,
            _ => return Ok(false),
        };
        *switch = match value {
            None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
            Some(other) => return Err(Failure::usage(format!("invalid boolean value \"{other}\" for -{name}"))),
        };
        Ok(true)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), Failure> {
        let kinds =
            |value: &str| value.split(',').map(str::trim).filter(|kind| !kind.is_empty()).map(str::to_owned).collect();
        match name {
            "kubernetes-version" => {
                let is_version = value == "master"
                    || (value.split('.').count() == 3 && value.split('.').all(|part| part.parse::<u32>().is_ok()));
                if !is_version {
                    return Err(Failure::usage(format!("{value} is not a valid version"))
                        .hint("write `master` or a full version such as `1.33.0`"));
                }
                self.version = value;
            }
            "output" if ["json", "junit", "pretty", "tap", "text"].contains(&value.as_str()) => self.output = value,
            "output" => {
                return Err(Failure::usage(format!("unknown output format `{value}`"))
                    .hint("it is `json`, `junit`, `pretty`, `tap` or `text`"));
            }
            "schema-location" => self.locations.push(value),
            "skip" => self.skip = kinds(&value),
            "reject" => self.reject = kinds(&value),
            "ignore-filename-pattern" => {
                let pattern = Regex::new(&value).map_err(|error| Failure::usage(error.to_string()))?;
                self.ignored.push(pattern);
            }
            // How many at once, and where what is fetched is kept: nothing here depends on it.
            "n" | "cache" => {}
            other => return Err(Failure::usage(format!("flag provided but not defined: -{other}"))),
        }
        Ok(())
    }
}

/// Files as they are named, and those of folders.
fn listed(asked: &KubeconformArgs) -> Result<Vec<String>, Failure> {
    let mut files = Vec::new();
    for path in &asked.files {
        if Path::new(path).is_dir() {
            list(Path::new(path), &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    files.retain(|file| !asked.ignored.iter().any(|ignored| ignored.is_match(file)));
    Ok(files)
}

fn list(folder: &Path, files: &mut Vec<String>) -> Result<(), Failure> {
    let unread = |error: std::io::Error| Failure::new(format!("cannot read `{}`: {error}", folder.display()));
    let mut entries = std::fs::read_dir(folder).map_err(unread)?.collect::<Result<Vec<_>, _>>().map_err(unread)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().map_err(unread)?.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json") {
            files.push(path.display().to_string());
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Valid,
    Invalid,
    Error,
    Skipped,
    /// Of a file without a document: it is counted as a file.
    Empty,
}

#[derive(Debug)]
struct Outcome {
    file: String,
    kind: String,
    version: String,
    namespace: String,
    name: String,
    status: Status,
    message: String,
    problems: Vec<Problem>,
}

impl Outcome {
    fn error(file: &str, message: String) -> Self {
        Self {
            file: file.to_owned(),
            kind: String::new(),
            version: String::new(),
            namespace: String::new(),
            name: String::new(),
            status: Status::Error,
            message,
            problems: Vec::new(),
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.status, Status::Invalid | Status::Error)
    }

    fn qualified_name(&self) -> String {
        format!("{}/{}/{}/{}", self.version, self.kind, self.namespace, self.name)
    }
}

/// Where schemas come from, in the order in which they are asked.
enum Location {
    Carried(Option<Box<Schemas>>),
    /// With `{{ .ResourceKind }}` and the like.
    Files(String),
}

struct Judge<'a> {
    asked: &'a KubeconformArgs,
    locations: Vec<Location>,
    structural: Structural,
}

impl<'a> Judge<'a> {
    fn new(asked: &'a KubeconformArgs) -> Result<Self, Failure> {
        let carried = || {
            let version = if asked.version == "master" { Some(Version::newest()) } else { asked.version.parse().ok() };
            Location::Carried(version.map(|version| Box::new(Schemas::load(version))))
        };
        let mut locations = Vec::new();
        for location in &asked.locations {
            locations.push(match location.as_str() {
                DEFAULT => carried(),
                url if url.starts_with("http://") || url.starts_with("https://") => {
                    return Err(Failure::usage(format!("`{url}` would be fetched, and nothing is"))
                        .hint("name a folder with the schemas, or `default` for those that this program carries"));
                }
                file if file.ends_with("json") => Location::Files(file.to_owned()),
                folder => Location::Files(format!("{folder}{LAYOUT}")),
            });
        }
        if locations.is_empty() {
            locations.push(carried());
        }
        Ok(Self { asked, locations, structural: Structural::json_schema() })
    }

    fn file(&self, file: &str, bytes: &[u8], results: &mut Vec<Outcome>) {
        let documents = match yaml::read(file, bytes) {
            Ok(documents) => documents,
            Err(error) => {
                results.push(Outcome::error(file, format!("error unmarshalling resource: {error}")));
                return;
            }
        };
        if documents.is_empty() {
            results.push(Outcome { status: Status::Empty, ..Outcome::error(file, String::new()) });
        }
        // Lists of one kind are a resource of their own to it.
        let is_list = |root: &Node| root.field("kind").and_then(Node::text) == Some("List");
        let each = documents.into_iter().map(|document| document.root);
        for root in each.flat_map(|root| if is_list(&root) { objects_of(root) } else { vec![root] }) {
            results.push(self.object(file, &root));
        }
    }

    fn object(&self, file: &str, root: &Node) -> Outcome {
        let text = |path: &[&str]| path.iter().try_fold(root, |node, field| node.field(field))?.text();
        let owned = |path: &[&str]| text(path).unwrap_or_default().to_owned();
        let name = match text(&["metadata", "generateName"]) {
            Some(prefix) => format!("{prefix}{{{{ generateName }}}}"),
            None => owned(&["metadata", "name"]),
        };
        let outcome = |status, message: &str, problems| Outcome {
            file: file.to_owned(),
            kind: owned(&["kind"]),
            version: owned(&["apiVersion"]),
            namespace: owned(&["metadata", "namespace"]),
            name: name.clone(),
            status,
            message: message.to_owned(),
            problems,
        };
        let Some(kind) = text(&["kind"]) else {
            return outcome(Status::Error, "error while parsing: missing 'kind' key", Vec::new());
        };
        let Some(version) = text(&["apiVersion"]) else {
            return outcome(Status::Error, "error while parsing: missing 'apiVersion' key", Vec::new());
        };
        let whole = format!("{version}/{kind}");
        let is_one_of = |kinds: &[String]| kinds.iter().any(|one| one == kind || *one == whole);
        if is_one_of(&self.asked.skip) {
            return outcome(Status::Skipped, "", Vec::new());
        }
        if is_one_of(&self.asked.reject) {
            return outcome(Status::Error, &format!("prohibited resource kind {kind}"), Vec::new());
        }
        let problems = match self.problems(root, version, kind) {
            Ok(problems) => problems,
            Err(message) => return outcome(Status::Error, &message, Vec::new()),
        };
        match problems {
            None if self.asked.ignore_missing_schemas => outcome(Status::Skipped, "", Vec::new()),
            None => outcome(Status::Error, &format!("could not find schema for {kind}"), Vec::new()),
            Some(problems) if problems.is_empty() => outcome(Status::Valid, "", problems),
            Some(problems) => {
                let each = problems.iter().map(|problem| format!("at '{}': {}", problem.pointer(), problem.message));
                let message = format!(
                    "problem validating schema. Check JSON formatting: {}",
                    each.collect::<Vec<_>>().join(" - ")
                );
                outcome(Status::Invalid, &message, problems)
            }
        }
    }

    /// `None` without a schema; an error of one that cannot be used, which is not as good as none.
    fn problems(&self, root: &Node, version: &str, kind: &str) -> Result<Option<Vec<Problem>>, String> {
        for location in &self.locations {
            match location {
                Location::Carried(schemas) => {
                    let Some(mut problems) = schemas.as_ref().and_then(|of| of.check(root, version, kind)) else {
                        continue;
                    };
                    // Kubeconform's schemas of Kubernetes know unknown fields with `-strict` alone, and never twins.
                    let is_told = |problem: &Problem| match problem.code {
                        "field_unknown" => self.asked.strict,
                        code => !["value_twice", "label_invalid", "annotation_invalid"].contains(&code),
                    };
                    problems.retain(is_told);
                    return Ok(Some(problems));
                }
                Location::Files(template) => {
                    let path = self.path(template, version, kind);
                    if !Path::new(&path).exists() {
                        continue;
                    }
                    let unusable = |error: String| format!("cannot use schema {path}: {error}");
                    let bytes = read_file(Path::new(&path)).map_err(|error| unusable(error.to_string()))?;
                    let schema: Value = serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
                    if let Some(keyword) = Structural::unknown_keyword(&schema) {
                        return Err(unusable(format!("it has `{keyword}`, which is not known here")));
                    }
                    return Ok(Some(self.structural.check(root, &schema)));
                }
            }
        }
        Ok(None)
    }

    fn path(&self, template: &str, api_version: &str, kind: &str) -> String {
        let (group, version) =
            api_version.split_once('/').map_or(("", api_version), |(group, version)| (group, version));
        let first = api_version.split('/').next().unwrap_or_default();
        let mut suffix = format!("-{}", first.split('.').next().unwrap_or_default().to_lowercase());
        if !group.is_empty() {
            let _ = write!(suffix, "-{}", version.to_lowercase());
        }
        let normalized = match self.asked.version.as_str() {
            "master" => "master".to_owned(),
            version => format!("v{version}"),
        };
        let strict = if self.asked.strict { "-strict" } else { "" };
        let kind = kind.to_lowercase();
        let values = BTreeMap::from([
            ("NormalizedKubernetesVersion", normalized.as_str()),
            ("StrictSuffix", strict),
            ("ResourceKind", kind.as_str()),
            ("ResourceAPIVersion", version),
            ("Group", first),
            ("KindSuffix", suffix.as_str()),
        ]);
        let filled = FIELD.replace_all(template, |found: &regex::Captures<'_>| {
            values.get(&found[1]).map_or_else(String::new, |value| (*value).to_owned())
        });
        filled.into_owned()
    }
}

struct Report<'a> {
    asked: &'a KubeconformArgs,
    results: &'a [Outcome],
    is_stdin: bool,
}

impl Report<'_> {
    fn text(&self, began_at: Instant) -> String {
        match self.asked.output.as_str() {
            "json" => self.json(),
            "junit" => self.junit(began_at),
            "tap" => self.tap(),
            _ => self.lines(),
        }
    }

    fn count(&self, status: Status) -> usize {
        self.results.iter().filter(|result| result.status == status).count()
    }

    fn lines(&self) -> String {
        let mut text = String::new();
        for Outcome { file, kind, name, status, message, .. } in self.results {
            let [file, kind, name, message] = [file, kind, name, message].map(|text| visible_line(text));
            let _ = match status {
                Status::Valid if self.asked.verbose => writeln!(text, "{file} - {kind} {name} is valid"),
                Status::Invalid => writeln!(text, "{file} - {kind} {name} is invalid: {message}"),
                Status::Error if !kind.is_empty() && !name.is_empty() => {
                    writeln!(text, "{file} - {kind} {name} failed validation: {message}")
                }
                Status::Error => writeln!(text, "{file} - failed validation: {message}"),
                Status::Skipped if self.asked.verbose => writeln!(text, "{file} - {name} {kind} skipped"),
                _ => Ok(()),
            };
        }
        if self.asked.summary {
            text.push_str(&self.summary());
        }
        text
    }

    fn summary(&self) -> String {
        let mut files: Vec<_> = self.results.iter().map(|result| &result.file).collect();
        files.sort();
        files.dedup();
        let all = self.results.len() - self.count(Status::Empty);
        let plural = |count: usize| if count > 1 { "s" } else { "" };
        let place = if self.is_stdin {
            "parsing stdin".to_owned()
        } else {
            format!("in {} file{}", files.len(), plural(files.len()))
        };
        format!(
            "Summary: {all} resource{} found {place} - Valid: {}, Invalid: {}, Errors: {}, Skipped: {}\n",
            plural(all),
            self.count(Status::Valid),
            self.count(Status::Invalid),
            self.count(Status::Error),
            self.count(Status::Skipped),
        )
    }

    fn json(&self) -> String {
        let shown = self
            .results
            .iter()
            .filter(|result| result.has_failed() || (self.asked.verbose && result.status != Status::Empty));
        let resources: Vec<_> = shown.map(json_of).collect();
        let mut document = json!({"resources": resources});
        if self.asked.summary {
            document["summary"] = json!({
                "valid": self.count(Status::Valid),
                "invalid": self.count(Status::Invalid),
                "errors": self.count(Status::Error),
                "skipped": self.count(Status::Skipped),
            });
        }
        serde_json::to_string_pretty(&document).unwrap_or_default()
    }

    fn tap(&self) -> String {
        let mut text = String::new();
        for (index, result) in self.results.iter().enumerate() {
            let number = index + 1;
            let [file, name, message] =
                [&result.file, &result.qualified_name(), &result.message].map(|text| visible_line(text));
            if index == 0 {
                text.push_str("TAP version 13\n");
            }
            let _ = match result.status {
                Status::Valid => writeln!(text, "ok {number} - {file} ({name})"),
                Status::Invalid => writeln!(text, "not ok {number} - {file} ({name}): {message}"),
                Status::Empty => writeln!(text, "ok {number} - {file} (empty)"),
                Status::Error => writeln!(text, "not ok {number} - {file}: {message}"),
                Status::Skipped => writeln!(text, "ok {number} - {file} ({name}) # skip"),
            };
        }
        let _ = writeln!(text, "1..{}", self.results.len());
        text
    }

    fn junit(&self, began_at: Instant) -> String {
        let mut suites: Vec<(&str, Vec<&Outcome>)> = Vec::new();
        for result in self.results {
            match suites.iter_mut().find(|(file, _)| *file == result.file) {
                Some((_, cases)) => cases.push(result),
                None => suites.push((&result.file, vec![result])),
            }
        }
        let (invalid, errors, skipped) =
            (self.count(Status::Invalid), self.count(Status::Error), self.count(Status::Skipped));
        let mut text = format!(
            "<testsuites name=\"kubeconform\" time=\"{:.6}\" tests=\"{}\" failures=\"{invalid}\" disabled=\"{skipped}\" errors=\"{errors}\">\n",
            began_at.elapsed().as_secs_f64(),
            self.count(Status::Valid) + invalid + errors + skipped,
        );
        for (index, (file, cases)) in suites.iter().enumerate() {
            let cases: Vec<_> = cases.iter().filter(|case| case.status != Status::Empty).collect();
            let count = |status| cases.iter().filter(|case| case.status == status).count();
            let _ = writeln!(
                text,
                "  <testsuite name=\"{}\" id=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" disabled=\"0\" skipped=\"{}\">",
                escaped(file),
                index + 1,
                cases.len(),
                count(Status::Invalid),
                count(Status::Error),
                count(Status::Skipped),
            );
            for case in cases {
                write_case(&mut text, case);
            }
            text.push_str("  </testsuite>\n");
        }
        text.push_str("</testsuites>\n");
        text
    }
}

fn json_of(result: &Outcome) -> Value {
    let status = match result.status {
        Status::Valid => "statusValid",
        Status::Invalid => "statusInvalid",
        Status::Error => "statusError",
        Status::Skipped => "statusSkipped",
        Status::Empty => "",
    };
    let mut resource = json!({
        "filename": result.file,
        "kind": result.kind,
        "name": result.name,
        "version": result.version,
        "status": status,
        "msg": result.message,
    });
    if !result.problems.is_empty() {
        let each = result.problems.iter().map(|problem| json!({"path": problem.pointer(), "msg": problem.message}));
        resource["validationErrors"] = each.collect();
    }
    resource
}

fn write_case(text: &mut String, case: &Outcome) {
    let name = if case.namespace.is_empty() { case.name.clone() } else { format!("{}/{}", case.namespace, case.name) };
    let class = format!("{}@{}", case.kind, case.version);
    let _ = write!(text, "    <testcase name=\"{}\" classname=\"{}\" time=\"0\"", escaped(&name), escaped(&class));
    let message = escaped(&case.message);
    let _ = match case.status {
        Status::Invalid => {
            writeln!(text, ">\n      <failure message=\"{message}\" type=\"\"></failure>\n    </testcase>")
        }
        Status::Error => writeln!(text, ">\n      <error message=\"{message}\" type=\"\"></error>\n    </testcase>"),
        Status::Skipped => writeln!(text, ">\n      <skipped message=\"\"></skipped>\n    </testcase>"),
        _ => writeln!(text, "></testcase>"),
    };
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}
