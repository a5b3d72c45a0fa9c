//! Engines that do what none should: they are scripts, which say what they are given and then go wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::pool::{Engines, Times};
use super::wire::{self, Answer, Request, Tell};
use super::{Confinement, EngineError};

/// A folder with frames, and an engine that can speak them.
struct Stage {
    folder: TempDir,
    /// While another test starts a program, that holds for a moment what this one writes, and a program that is being
    /// written is not started.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Stage {
    fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = Self { folder: tempfile::tempdir().expect("a folder"), _turn: turn };
        for (name, message) in [
            (
                "hello",
                json!({"hello": {"engine": wire::ENGINE, "helm": "v4", "kustomize": "v0", "layers": [], "missing": []}}),
            ),
            ("other", json!({"hello": {"engine": "9.9.9", "missing": []}})),
            ("bare", json!({"hello": {"engine": wire::ENGINE, "layers": [], "missing": ["seccomp", "landlock"]}})),
            ("done", json!({"done": {"documents": "made"}})),
            ("failed", json!({"failed": {"code": "helm_failed", "message": "no"}})),
            ("read", json!({"read": "a.yaml"})),
        ] {
            stage.frame(name, &message);
        }
        stage
    }

    fn frame(&self, name: &str, message: &Value) {
        let mut bytes = Vec::new();
        wire::write(&mut bytes, message).expect("it is written");
        fs::write(self.folder.path().join(name), bytes).expect("a file");
    }

    /// `say NAME` writes a frame, `hear` waits for a request.
    fn script(&self, lines: &str) -> PathBuf {
        let folder = self.folder.path().display();
        let mut request = Vec::new();
        wire::write(&mut request, &Tell::Render(&request_of("a"))).expect("it is written");
        let text = format!(
            "#!/bin/sh\nsay() {{ /bin/cat {folder}/$1; }}\n\
             hear() {{ [ -n \"$(/usr/bin/head -c {} | /usr/bin/tr -d '\\000')\" ] || exit 0; }}\n\
             echo $$ >>{folder}/pids\n{lines}\n",
            request.len()
        );
        let file = self.folder.path().join("engine");
        fs::write(&file, text).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it is ours");
        file
    }

    fn engines(&self, lines: &str) -> Engines {
        let times = Times { render: Duration::from_secs(20), idle: Duration::from_secs(20) };
        Engines::with(Some(self.script(lines)), Confinement::Required, 1, times)
    }

    fn pids(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("pids")).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }
}

fn request_of(path: &str) -> Request {
    Request::kustomize(path, None)
}

fn render(engines: &Engines, project: &str) -> Result<String, EngineError> {
    let made = engines.render(project, &request_of("a"), &mut |_| Some(Answer::Absent(true)));
    made.map(|made| made.done.documents)
}

#[test]
fn one_engine_serves_a_project_and_another_project_gets_a_new_one() {
    let stage = Stage::new();
    let engines = stage.engines("say hello; while :; do hear; say done; done");

    for project in ["one", "one", "two", "one"] {
        assert_eq!(render(&engines, project).as_deref(), Ok("made"));
    }

    assert_eq!(stage.pids().len(), 3);
}

#[test]
fn what_an_engine_is_is_asked_once_and_told_with_what_it_makes() {
    let stage = Stage::new();
    let engines = stage.engines("say hello; while :; do hear; say done; done");

    let versions = engines.versions().expect("it says so");

    assert_eq!(*versions, *format!("engine {}, helm v4, kustomize v0", wire::ENGINE));
    assert_eq!(engines.versions().as_ref(), Ok(&versions));
    assert_eq!(stage.pids().len(), 1);
    let made = engines.render("one", &request_of("a"), &mut |_| Some(Answer::Absent(true))).expect("it renders");
    assert_eq!(made.versions, versions);
    assert_eq!(
        Engines::new(Some("/nowhere".as_ref()), Confinement::AsThereIs).versions().expect_err("none").code(),
        "engine_not_started"
    );
}

#[test]
fn an_engine_that_says_what_is_wrong_is_asked_again() {
    let stage = Stage::new();
    let engines = stage.engines("say hello; while :; do hear; say failed; done");

    for _ in 0..2 {
        assert_eq!(render(&engines, "one").expect_err("it failed").code(), "helm_failed");
    }

    assert_eq!(stage.pids().len(), 1);
}

#[test]
fn an_engine_that_gives_up_while_it_is_told_something_has_said_why() {
    let stage = Stage::new();
    stage.frame("gave_up", &json!({"failed": {"code": "over_limit", "message": "the render took longer than 1m0s"}}));
    // It asks for two files, gives up, and takes no answer.
    let engines = stage.engines("say hello; hear; say read; say read; say gave_up; exec 0<&-; exit 3");

    // More than a pipe holds, so that this waits until the engine is gone.
    let made = engines.render("one", &request_of("a"), &mut |_| Some(Answer::File("YQ==".repeat(100_000))));

    let error = made.err().expect("it gave up");
    assert_eq!((error.code(), error.to_string().as_str()), ("over_limit", "the render took longer than 1m0s"));
    assert_eq!(stage.pids().len(), 1, "it is not started for that again");
}

#[test]
fn an_engine_that_dies_when_it_is_asked_again_is_started_anew_and_one_that_dies_at_once_is_not() {
    let stage = Stage::new();
    let engines = stage.engines("say hello; hear; say done; hear; exit 1");
    for _ in 0..3 {
        assert_eq!(render(&engines, "one").as_deref(), Ok("made"));
    }
    assert_eq!(stage.pids().len(), 3);
    drop(stage);

    let stage = Stage::new();
    let engines = stage.engines("say hello; hear; echo 'fatal error: out of memory' >&2; exit 2");
    let error = render(&engines, "one").expect_err("it dies");
    assert_eq!(error.code(), "engine_died");
    assert!(error.to_string().contains("fatal error: out of memory"), "{error}");
    assert_eq!(stage.pids().len(), 1);
}

#[test]
fn an_engine_that_hangs_is_killed_at_its_deadline_whether_it_reads_or_not() {
    for lines in [
        "say hello; hear; exec /bin/sleep 1000",
        // It closes its ends and computes on.
        "say hello; hear; exec 1>&- 0<&-; exec /bin/sleep 1000",
        // Asks for ever and takes no answer.
        "say hello; while :; do say read; done",
    ] {
        let stage = Stage::new();
        let engines = stage.engines(lines).with_longest(Duration::from_millis(700));

        let error = render(&engines, "one").expect_err("it hangs");

        assert!(matches!(error, EngineError::TooLong { .. } | EngineError::Died { .. }), "{error}");
        await_end(&stage.pids()[0]);
    }
}

#[test]
fn an_engine_that_asks_for_too_much_gets_no_answer_and_is_ended() {
    let stage = Stage::new();
    let engines = stage.engines("say hello; while :; do say read; done & exec /bin/cat >/dev/null");
    let mut asked = 0;

    let made = engines.render("one", &request_of("a"), &mut |_| {
        asked += 1;
        (asked < 50).then(|| Answer::File("YQ==".repeat(1_000)))
    });

    assert_eq!(made.err(), Some(EngineError::Stopped));
    await_end(&stage.pids()[0]);
}

#[test]
fn what_is_no_message_or_too_long_for_one_is_not_waited_for() {
    let stage = Stage::new();
    stage.frame("odd", &json!({"write": "/etc/passwd"}));
    fs::write(stage.folder.path().join("endless"), u32::MAX.to_be_bytes()).expect("a file");

    let error = |lines: &str| render(&stage.engines(lines), "one").expect_err("it is refused").code();

    assert_eq!(error("say hello; hear; say odd; exec /bin/sleep 1000"), "engine_protocol");
    assert_eq!(error("say hello; hear; say endless; exec /bin/cat /dev/zero"), "over_limit");
    assert_eq!(error("say hello; hear; say hello"), "engine_protocol");
}

#[test]
fn what_is_no_engine_is_told_and_the_next_render_tries_again() {
    let stage = Stage::new();
    let engines = stage.engines("echo 'no such library' >&2; exit 127");
    for _ in 0..2 {
        let error = render(&engines, "one").expect_err("it is none");
        assert_eq!(error.code(), "engine_not_started");
        assert!(error.to_string().contains("no such library"), "{error}");
    }

    let times = Times { render: Duration::from_secs(1), idle: Duration::from_secs(1) };
    let missing = |program| Engines::with(program, Confinement::Required, 1, times);
    assert_eq!(render(&missing(None), "one").expect_err("there is none").code(), "engine_missing");
    let nowhere = missing(Some("/nowhere/engine".into()));
    assert_eq!(render(&nowhere, "one").expect_err("there is none").code(), "engine_not_started");
}

#[test]
fn an_engine_that_lacks_a_layer_renders_only_where_that_is_allowed() {
    let stage = Stage::new();
    let engines = stage.engines("say bare; hear; say done");
    let error = render(&engines, "one").expect_err("it is refused");
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("engine_unconfined", "the render engine lacks seccomp, landlock")
    );

    let times = Times { render: Duration::from_secs(20), idle: Duration::from_secs(20) };
    let allowed = Engines::with(engines.program().map(ToOwned::to_owned), Confinement::AsThereIs, 1, times);
    assert_eq!(render(&allowed, "one").as_deref(), Ok("made"));
}

#[test]
fn an_engine_gets_nothing_of_this_programs_environment() {
    let stage = Stage::new();
    // Cargo gives it to every test.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let engines = stage.engines(
        r#"say hello; hear; [ -z "$CARGO_MANIFEST_DIR$HOME$USER" ] && [ "$PWD" = / ] && say done || say failed"#,
    );

    assert_eq!(render(&engines, "one").as_deref(), Ok("made"));
}

#[test]
fn an_engine_that_nobody_asks_ends() {
    let stage = Stage::new();
    let times = Times { render: Duration::from_secs(20), idle: Duration::from_millis(100) };
    let script = stage.script("say hello; while :; do hear; say done; done");
    let engines = Engines::with(Some(script), Confinement::Required, 1, times);

    assert_eq!(render(&engines, "one").as_deref(), Ok("made"));
    await_end(&stage.pids()[0]);

    assert_eq!(render(&engines, "one").as_deref(), Ok("made"), "a new one is started");
}

/// Until there is no such process.
fn await_end(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while PathBuf::from("/proc").join(pid).exists() {
        assert!(Instant::now() < deadline, "{pid} still runs");
        std::thread::yield_now();
    }
}

#[test]
fn an_engine_of_another_version_is_not_asked() {
    let stage = Stage::new();

    let error =
        render(&stage.engines("say other; while :; do hear; say done; done"), "one").expect_err("it is refused");

    assert_eq!(error.code(), "engine_not_started");
    assert!(error.to_string().contains("it is engine 9.9.9"), "{error}");
}

#[test]
fn the_engine_that_is_built_is_the_one_that_is_asked_for() {
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/engine/main.go")).expect("it is read");

    assert!(source.contains(&format!("const version = \"{}\"", wire::ENGINE)));
}
