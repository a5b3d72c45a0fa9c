//! `health`: how well objects are by what they say of themselves, told without a hub and without a cluster.

use std::path::Path;

use bellwether_core::ObjectKey;
use bellwether_core::health::{assess, assess_by_kstatus};
use bellwether_core::report::Verdict;
use bellwether_render::objects_of;
use bellwether_render::yaml::{self, Budget, Node};
use bellwether_validate::{read_file, read_within};
use jiff::Timestamp;
use serde::Serialize;

use super::apply::refuse_repeated;
use crate::args::{Format, HealthArgs};
use crate::failure::{Exit, Failure, unless_unread};
use crate::output::table::{table, verdict};
use crate::output::{Output, note, print};

/// Standard input, as it is named on the command line.
const STDIN: &str = "-";

/// The verdicts, as programs read them.
#[derive(Debug, Serialize)]
struct Judged {
    /// The worst of them.
    verdict: Verdict,
    objects: Vec<JudgedObject>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JudgedObject {
    #[serde(flatten)]
    key: ObjectKey,
    verdict: Verdict,
    message: String,
    /// When it counts as failed, if it says nothing else until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    fails_at: Option<Timestamp>,
    file: String,
    line: u32,
}

pub(super) fn run(output: &Output, arguments: &HealthArgs) -> anyhow::Result<Exit> {
    let format @ (Format::Table | Format::Json) = output.format().unwrap_or(Format::Table) else {
        return Err(Failure::usage("this command prints `pretty` or `json`").hint("change `-o`").into());
    };
    let judged = judge(arguments, Timestamp::now()).map_err(|error| error.ending(Exit::Usage))?;
    unless_unread(show(output, format, &judged))?;
    Ok(match judged.verdict {
        Verdict::Healthy => Exit::Done,
        Verdict::Failed => Exit::Failed,
        Verdict::Progressing | Verdict::Unknown | Verdict::Degraded => Exit::Differs,
    })
}

fn judge(arguments: &HealthArgs, now: Timestamp) -> Result<Judged, Failure> {
    let mut budget = Budget::default();
    let mut objects = Vec::new();
    for path in &arguments.files {
        let (name, bytes) = read(path)?;
        let documents = yaml::read_within(&name, &bytes, &mut budget)
            .map_err(|error| Failure::new(error.to_string()).hint("the file must be YAML or JSON that parses"))?;
        refuse_repeated(&name, &documents)?;
        for object in documents.into_iter().flat_map(|document| objects_of(document.root)) {
            objects.push(judge_object(&name, &object, arguments.kstatus_compat, now)?);
        }
    }
    if objects.is_empty() {
        return Err(Failure::new("there is no object to judge")
            .hint("what stands before a pipe may have failed: `set -o pipefail` ends a script then"));
    }
    Ok(Judged { verdict: Verdict::worst(objects.iter().map(|object| object.verdict)), objects })
}

fn read(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let (name, read) = if path.as_os_str() == STDIN {
        ("stdin".to_owned(), read_within(std::io::stdin()))
    } else {
        (path.display().to_string(), read_file(path))
    };
    let bytes = read.map_err(|error| Failure::new(format!("cannot read `{name}`: {error}")))?;
    Ok((name, bytes))
}

fn judge_object(file: &str, object: &Node, is_by_kstatus: bool, now: Timestamp) -> Result<JudgedObject, Failure> {
    let (line, object) = (object.line(), object.to_json());
    let Some(key) = ObjectKey::of(&object) else {
        return Err(Failure::new(format!("{file}:{line}: this is no object of a cluster"))
            .hint("it needs `apiVersion`, `kind` and `metadata.name`, as `kubectl get -o yaml` prints them"));
    };
    // Whether its kind has a status, a file does not say. An agent knows, and waits where it has.
    let health = if is_by_kstatus { assess_by_kstatus(&object) } else { assess(&object, true) };
    let fails_at = health.fails_at.filter(|&at| at > now);
    Ok(JudgedObject { key, verdict: health.at(now), message: health.message, fails_at, file: file.to_owned(), line })
}

fn show(output: &Output, format: Format, judged: &Judged) -> anyhow::Result<()> {
    if format == Format::Json {
        return print(&serde_json::to_string_pretty(judged)?);
    }
    let row = |object: &JudgedObject| {
        [object.key.to_string().into(), verdict(object.verdict), object.message.as_str().into()]
    };
    print(&table(["OBJECT", "VERDICT", "MESSAGE"], judged.objects.iter().map(row), output.style()))?;
    let count = |verdict: Verdict| judged.objects.iter().filter(|object| object.verdict == verdict).count();
    let verdicts = [Verdict::Failed, Verdict::Degraded, Verdict::Unknown, Verdict::Progressing, Verdict::Healthy];
    let counts = verdicts.into_iter().map(|verdict| (count(verdict), verdict)).filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts.map(|(count, verdict)| format!("{count} {verdict}")).collect();
    note(&counts.join(", "));
    Ok(())
}
