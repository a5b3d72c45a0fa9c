//! Each big dependency has one place: this test reads the sources and holds that.

mod migrations;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A crate's name in code, and the only folders or files that may speak it.
const FENCES: &[(&str, &[&str])] = &[
    ("sqlx", &["hub/src/store"]),
    ("gix", &["hub/src/source"]),
    ("russh", &["hub/src/source/git/ssh", "hub/src/source/git/verify/ssh.rs", "hub/src/source/git/tests/opened.rs"]),
    ("pgp", &["hub/src/source/git/verify/openpgp.rs"]),
    ("age", &["agent/sops"]),
    ("aes_gcm", &["agent/sops"]),
    ("axum", &["hub/src/http"]),
    ("tonic", &["hub/src/link", "agent/src/link", "proto"]),
    ("kube", &["agent/src/executor/kubernetes/client"]),
    ("rcgen", &["hub/src/pki/ca.rs", "agent/src/identity"]),
    ("reqwest", &["hub/src/egress", "hub/src/source", "hub/src/commit_status", "cli/src/client.rs"]),
    ("reqwest::Client::builder", &["hub/src/egress", "cli/src/client.rs"]),
    ("TcpStream::connect", &["hub/src/egress", "agent/src/link"]),
    ("clap", &["hub/src/main.rs", "hub/src/process/config.rs", "agent/src/main.rs", "agent/src/config.rs", "cli"]),
];

const CRATES: &[&str] = &[
    "core/src",
    "proto/src",
    "render/src",
    "import/src",
    "validate/src",
    "hub/src",
    "agent/src",
    "agent/sops/src",
    "cli/src",
];

#[test]
fn each_big_dependency_is_spoken_in_one_place_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let mut breaches = Vec::new();
    for file in CRATES.iter().flat_map(|folder| sources(&root.join(folder))) {
        let text = std::fs::read_to_string(&file).expect("a source can be read");
        let place = file.strip_prefix(root).expect("it lies in the workspace").to_string_lossy().into_owned();
        for (name, allowed) in FENCES {
            let may = allowed.iter().any(|fence| place.starts_with(fence));
            if !may && product(&text).lines().any(|line| speaks(line, name)) {
                breaches.push(format!("{place} speaks {name}, which has its place in {allowed:?}"));
            }
        }
    }

    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// What asks the machine for the time or for chance, and the only files that may: a decision that is repeated, and a test
/// that sets the clock, see no other.
const CLOCKS: &[&str] = &["hub/src/process/clock.rs", "agent/src/clock.rs", "cli"];

#[test]
fn time_and_ids_come_from_the_clock_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let asks = ["Timestamp::now(", "SystemTime::now(", "Uuid::now_v7(", "Uuid::new_v4("];
    let mut breaches = Vec::new();
    for file in CRATES.iter().flat_map(|folder| sources(&root.join(folder))) {
        let text = std::fs::read_to_string(&file).expect("a source can be read");
        let place = file.strip_prefix(root).expect("it lies in the workspace").to_string_lossy().into_owned();
        let code = product(&text).lines().map(|line| line.split("//").next().unwrap_or(line));
        let breach = code.into_iter().find(|line| asks.iter().any(|ask| line.contains(ask)));
        if let Some(line) = breach.filter(|_| !CLOCKS.iter().any(|clock| place.starts_with(clock))) {
            breaches.push(format!("{place}: {}", line.trim()));
        }
    }

    assert!(breaches.is_empty(), "these have their place in {CLOCKS:?}:\n{}", breaches.join("\n"));
}

/// Fields and variants may speak for themselves, which is why this is not the compiler's `missing_docs`.
#[test]
fn every_public_item_of_the_domain_says_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let mut silent = Vec::new();
    for file in sources(&root.join("core/src")) {
        let text = std::fs::read_to_string(&file).expect("a source can be read");
        let mut is_told = false;
        for line in product(&text).lines().map(str::trim).filter(|line| !line.starts_with("#[")) {
            if is_public_item(line) && !is_told {
                silent.push(format!("{}: {line}", file.display()));
            }
            // What a macro makes is told by who calls it.
            is_told = line.starts_with("///") || line.starts_with("$(#[");
        }
    }

    assert!(silent.is_empty(), "these have no doc comment:\n{}", silent.join("\n"));
}

/// But a module, which says it at the top of its file.
fn is_public_item(line: &str) -> bool {
    let kinds = ["fn", "struct", "enum", "trait", "const", "static", "type", "macro", "async"];
    line.strip_prefix("pub ").and_then(|item| item.split(' ').next()).is_some_and(|kind| kinds.contains(&kind))
}

#[test]
fn the_domain_knows_nothing_of_the_documents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    for file in sources(&root.join("core/src")) {
        let text = std::fs::read_to_string(&file).expect("a source can be read");
        let place = file.strip_prefix(root).expect("it lies in the workspace").to_string_lossy().into_owned();
        let is_named = product(&text).lines().any(|line| speaks(line, "api") || line.contains("crate::api::"));
        assert!(
            place.starts_with("core/src/api") || !is_named,
            "{place}: documents convert to nouns, never the reverse"
        );
    }
}

/// What decides, and what is stored, holds nouns. Pages are read as what people are shown, and so are entries of the log.
const WITHOUT_DOCUMENTS: &[&str] =
    &["source", "bundle", "rollout", "link", "record", "worker", "work", "access", "store"];
const OF_DOCUMENTS: &[&str] = &["store/views", "store/audit.rs"];

#[test]
fn what_the_hub_decides_and_stores_knows_nothing_of_the_documents() {
    let hub = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut breaches = Vec::new();
    for file in WITHOUT_DOCUMENTS.iter().flat_map(|room| sources(&hub.join(room))) {
        let text = std::fs::read_to_string(&file).expect("a source can be read");
        let place = file.strip_prefix(&hub).expect("it lies in the hub");
        let is_spoken = product(&text).lines().any(|line| speaks(line, "bellwether_core::api"));
        if is_spoken && !OF_DOCUMENTS.iter().any(|of| place.starts_with(of)) {
            breaches.push(place.display().to_string());
        }
    }

    assert!(breaches.is_empty(), "these speak of documents: {breaches:?}");
}

#[test]
fn what_to_do_about_an_error_is_said_in_one_form() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let mut others = Vec::new();
    for file in CRATES.iter().flat_map(|folder| sources(&root.join(folder))) {
        let text = std::fs::read_to_string(&file).expect("a source can be read");
        let hints = text.lines().filter(|line| line.contains("fn hint(&self)"));
        others.extend(
            hints
                .filter(|line| !line.contains("-> Option<Cow<'static, str>> {"))
                .map(|line| format!("{}: {}", file.display(), line.trim())),
        );
    }

    assert!(others.is_empty(), "{}", others.join("\n"));
}

/// What would make an answer of the domain depend on more than its arguments.
const OUTSIDE: &[&str] = &[
    "async fn",
    "tokio",
    "kube::",
    "k8s_openapi",
    "Timestamp::now",
    "Zoned::now",
    "SystemTime",
    "Instant",
    "now_v7",
    "new_v4",
    "std::net",
    "std::fs",
    "std::env::",
];

#[test]
fn no_decision_knows_a_client_a_task_or_a_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let mut breaches = Vec::new();
    for file in sources(&root.join("core/src")) {
        let text = std::fs::read_to_string(&file).expect("a source can be read");
        // What is compiled for tests only: scenarios read their folder.
        if ["scenarios.rs", "simulator.rs", "properties.rs"].iter().any(|name| file.ends_with(name)) {
            continue;
        }
        for line in product(&text).lines().map(|line| line.split("//").next().unwrap_or(line)) {
            let words = OUTSIDE.iter().filter(|word| line.contains(**word));
            breaches.extend(words.map(|word| format!("{} says {word}: {}", file.display(), line.trim())));
        }
    }

    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// What serves any executor. The agent's own Secrets are kept with the client of the cluster that it runs in.
#[test]
fn the_generic_agent_knows_no_decider_of_a_kind_of_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    for folder in ["agent/src/link", "agent/src/journal"] {
        for file in sources(&root.join(folder)) {
            let text = std::fs::read_to_string(&file).expect("a source can be read");
            let speaks = ["bellwether_core::reconcile", "kubernetes::reconcile", "kubernetes::carry_out"];
            assert!(!speaks.iter().any(|path| product(&text).contains(path)), "{} knows a decider", file.display());
        }
    }
}

#[test]
fn only_what_runs_as_a_test_shows_that_something_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = "#[test]\nfn shown() {}\n\n#[store::database_test(migrations = \"m\")]\n// Why.\nasync fn in_rows() {}\n\n\
                  fn helper() {}\n\n#[test]\n#[ignore]\nfn ignored() {}\n\npub(crate) fn product() {}\n";
    std::fs::write(folder.path().join("a.rs"), source).expect("a file");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");

    let mut accepted = Vec::new();
    for name in ["shown", "in_rows", "helper", "ignored", "product", "nowhere"] {
        std::fs::write(folder.path().join("rows.md"), format!("| A1 | what | why | `{name}` |\n")).expect("a file");
        let mut script = std::process::Command::new(root.join("e2e/check-safety"));
        let output = script.arg("rows.md").current_dir(folder.path()).output().expect("it starts");
        if output.status.success() {
            accepted.push(name);
        }
    }

    assert_eq!(accepted, ["shown", "in_rows"]);
}

/// Where the codes of refusals and conditions come from: whatever is written there as words joined by `_` is one.
const CODED: &[&str] = &[
    "core/src/domain",
    "render/src",
    "hub/src/http",
    "hub/src/source",
    "hub/src/bundle",
    "hub/src/rollout",
    "hub/src/plan",
];

#[test]
fn the_codes_of_refusals_and_conditions_are_those_that_are_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let mut codes = BTreeSet::new();
    for file in CODED.iter().flat_map(|folder| sources(&root.join(folder))) {
        let text = std::fs::read_to_string(&file).expect("a source can be read");
        codes.extend(product(&text).lines().flat_map(codes_of).map(str::to_owned));
    }

    let page = std::fs::read_to_string(root.join("docs/api.md")).expect("the page can be read");
    let is_about = |section: &&str| section.starts_with("Problems\n") || section.starts_with("Conditions\n");
    let rows = page.split("\n## ").filter(is_about).flat_map(str::lines).filter(|line| line.starts_with("| "));
    let words = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(|word| is_code(word));
    let documented: BTreeSet<_> = words.map(str::to_owned).collect();

    let lacking: Vec<_> = codes.difference(&documented).collect();
    let unsaid: Vec<_> = documented.difference(&codes).collect();
    assert!(lacking.is_empty(), "docs/api.md lacks {lacking:?}");
    assert!(unsaid.is_empty(), "docs/api.md has {unsaid:?}, which nothing says");
}

/// A code of one word is known by what it is given to.
fn codes_of(line: &str) -> impl Iterator<Item = &str> {
    let before = line.split('"').next().unwrap_or(line);
    let refuses = before.contains("StatusCode::") || before.ends_with("conflict(") || before.ends_with("invalid(");
    let texts = line.split('"').skip(1).step_by(2).enumerate().filter(|_| !line.contains("serde("));
    texts.filter(move |(at, text)| is_code(text) && (text.contains('_') || refuses && *at == 0)).map(|(_, text)| text)
}

fn is_code(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'));
    text.split('_').all(is_part)
}

#[test]
fn the_domain_depends_on_what_was_agreed_and_no_more() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/Cargo.toml");
    let text = std::fs::read_to_string(manifest).expect("the manifest can be read");
    let dependencies = text.split("[dependencies]").nth(1).and_then(|rest| rest.split('[').next()).expect("has some");
    let names: Vec<_> =
        dependencies.lines().filter_map(|line| line.split(['.', ' ']).next()).filter(|name| !name.is_empty()).collect();

    assert_eq!(names, ["serde", "serde_json", "sha2", "uuid", "jiff", "semver", "strsim", "thiserror"]);
}

/// Stages, and the only other stage's room that each may speak of: what passes in memory, and which keys a repo has.
const STAGES: &[(&str, &str)] = &[
    ("source", ""),
    ("bundle", "source"),
    ("rollout", "source"),
    ("link", "record"),
    ("record", ""),
    ("commit_status", "source"),
];

#[test]
fn no_stage_speaks_to_another_but_where_something_passes_in_memory() {
    let hub = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut breaches = Vec::new();
    for (stage, may) in STAGES {
        for file in sources(&hub.join(stage)) {
            let text = std::fs::read_to_string(&file).expect("a source can be read");
            let others = STAGES.iter().map(|(other, _)| other).filter(|other| *other != stage && *other != may);
            let spoken = others.filter(|other| product(&text).contains(&format!("crate::{other}::")));
            breaches.extend(spoken.map(|other| format!("{} speaks of the stage {other}", file.display())));
        }
    }

    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// The rooms of the hub, the lowest first: none imports from one above it, so none can be read only together with all others.
const ROOMS: &[&str] = &[
    "process",
    "egress",
    "store",
    "postgres",
    "ports",
    "pki",
    "work",
    "worker",
    "source",
    "access",
    "record",
    "link",
    "bundle",
    "rollout",
    "commit_status",
    "plan",
    "http",
    "context",
    "boot",
];

/// A file, and the room above that it may import from all the same.
const UPWARDS: &[(&str, &str)] = &[
    // Settings are read into what a room checks them by.
    ("process/config.rs", "source"),
    // Figures are named by stages and pools.
    ("process/metrics.rs", "store"),
    // A connection is let in by what the authority says of its certificate.
    ("ports/accept.rs", "pki"),
];

#[test]
fn no_room_of_the_hub_imports_from_one_above_it() {
    let hub = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut breaches, mut exceptions) = (BTreeSet::new(), BTreeSet::new());
    for (at, room) in ROOMS.iter().enumerate() {
        let files =
            if hub.join(room).is_dir() { sources(&hub.join(room)) } else { vec![hub.join(room).with_extension("rs")] };
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a source can be read");
            let place = file.strip_prefix(&hub).expect("it lies in the hub").to_string_lossy().into_owned();
            let imported = product(&text).lines().flat_map(rooms_of);
            for above in imported.filter(|name| ROOMS[at + 1..].contains(name)) {
                let breach = (place.clone(), above.to_owned());
                let may = UPWARDS.contains(&(place.as_str(), above));
                if may {
                    exceptions.insert(breach)
                } else {
                    breaches.insert(breach)
                };
            }
        }
    }

    assert!(breaches.is_empty(), "{breaches:?}");
    assert_eq!(exceptions.len(), UPWARDS.len(), "an exception is not needed any more: {exceptions:?} are");
    let folders = std::fs::read_dir(&hub).expect("the rooms can be listed").map(|entry| entry.expect("one").path());
    let folders = folders.filter(|path| path.is_dir()).filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let unlisted: Vec<_> = folders
        .filter(|name| !ROOMS.contains(&name.as_str()) && !["tests", "testing"].contains(&name.as_str()))
        .collect();
    assert!(unlisted.is_empty(), "say where these rooms stand: {unlisted:?}");
}

/// The rooms that a line of code names: `crate::store::…`, `crate::{link, store::…}`.
fn rooms_of(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or(line);
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    code.split("crate::").skip(1).flat_map(move |rest| {
        let group = rest.strip_prefix('{').map_or(rest, |group| group.split('}').next().unwrap_or(group));
        let names = if rest.starts_with('{') { group.split(", ").collect() } else { vec![rest] };
        names.into_iter().filter_map(move |name: &str| name.split(|character| !is_name(character)).next())
    })
}

/// Otherwise every file would need every other.
#[test]
fn what_a_hub_is_made_of_knows_no_hub() {
    let hub = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let context = std::fs::read_to_string(hub.join("context.rs")).expect("the context can be read");
    let rooms: Vec<_> = context.lines().filter_map(|line| line.strip_prefix("use crate::")).collect();
    assert!(rooms.len() > 10, "the context is not what this test takes it for: {rooms:?}");
    for room in rooms {
        let names: Vec<_> = room.trim_end_matches(';').split("::").collect();
        let module = hub.join(names[..names.len() - 1].join("/"));
        let file = [module.with_extension("rs"), module.join("mod.rs")].into_iter().find(|file| file.exists());
        let text = std::fs::read_to_string(file.expect("each is a file")).expect("it can be read");
        assert!(!product(&text).contains("crate::Hub"), "{room} knows the hub, which is made of it");
    }
}

/// What is compiled into the product: tests may make certificates and servers of their own.
fn product(text: &str) -> &str {
    let ends = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub(crate) mod tests {"];
    ends.iter().filter_map(|end| text.find(end)).min().map_or(text, |end| &text[..end])
}

/// Whether a line of code, not a comment, names the crate in a path.
fn speaks(line: &str, name: &str) -> bool {
    let code = line.split("//").next().unwrap_or(line);
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || character == '_' || character == ':')
    })
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be listed").path();
        // Tests may make certificates, servers and settings of their own.
        if ["tests", "tests.rs", "testing"].iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
