//! A board against an API server that is a map.

use super::*;
use crate::Digest;
use crate::Generation;
use crate::health::assess_by_kstatus;
use crate::report::{Counts, Verdict};
use crate::session::Action;

const HOME: &str = "bellwether-system";

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn id(number: u128) -> TargetId {
    TargetId::new(Uuid::from_u128(number))
}

fn shown(number: u128, generation: i64, verdict: Verdict) -> Shown {
    let is_well = verdict == Verdict::Healthy;
    Shown {
        target: id(number),
        name: "web".parse().expect("is a name"),
        owner: None,
        generation: Generation::new(generation),
        action: Action::Apply,
        digest: Digest::of(&generation.to_be_bytes()),
        trace: None,
        applied: is_well,
        verdict,
        may_pass: false,
        objects: Counts { total: 1, in_place: u32::from(is_well), healthy: u32::from(is_well) },
        message: String::new(),
        suspended: None,
    }
}

/// What an API server makes of writes.
#[derive(Default)]
struct Server {
    objects: BTreeMap<String, Value>,
    version: u64,
    requests: Vec<String>,
}

impl Server {
    fn carry_out(&mut self, write: &Write, board: &Board) -> Written {
        self.version += 1;
        let (name, kind) = (write.name().to_owned(), format!("{write:?}"));
        let verb = kind.split([' ', '{']).next().unwrap_or_default().to_lowercase();
        self.requests.push(format!("{verb} {name}"));
        match write {
            Write::Create { .. } if self.objects.contains_key(&name) => return Written::Taken,
            Write::Create { body, .. } => {
                let mut object = body.clone();
                object["metadata"]["uid"] = Uuid::from_u128(u128::from(self.version)).to_string().into();
                object["metadata"]["generation"] = 1.into();
                self.objects.insert(name.clone(), object);
            }
            Write::Delete { .. } => {
                self.objects.remove(&name);
                return Written::Done(None);
            }
            Write::Spec { patch, .. } | Write::Status { patch, .. } => {
                let Some(object) = self.objects.get_mut(&name) else { return Written::Done(None) };
                assert_eq!(object["metadata"]["uid"], patch["metadata"]["uid"]);
                merge(object, patch);
                if matches!(write, Write::Spec { .. }) {
                    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
                    object["metadata"]["generation"] = (generation + 1).into();
                }
            }
        }
        Written::Done(board.read(self.touch(&name)))
    }

    fn touch(&mut self, name: &str) -> &Value {
        let object = self.objects.get_mut(name).expect("is there");
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object
    }

    fn annotate(&mut self, name: &str, text: Option<&str>, board: &mut Board, now: Timestamp) {
        self.version += 1;
        let object = self.objects.get_mut(name).expect("is there");
        object["metadata"]["annotations"] = json!({SUSPEND_ANNOTATION: text});
        let seen = board.read(self.touch(name)).expect("is ours");
        board.see(seen, now);
    }

    fn list(&self, board: &mut Board, now: Timestamp) {
        board.begin_list();
        for seen in self.objects.values().filter_map(|object| board.read(object)).collect::<Vec<_>>() {
            board.see(seen, now);
        }
        board.end_list(now);
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            into.as_object_mut().expect("is one").remove(name);
        } else {
            merge(&mut into[name], value);
        }
    }
}

/// Until nothing more is to be written at that time.
fn settle(board: &mut Board, server: &mut Server, now: Timestamp) {
    while let Some(write) = board.take_write(now) {
        let written = server.carry_out(&write, board);
        board.record(&write, written, now);
    }
}

fn begun(targets: &[u128], server: &mut Server, now: Timestamp) -> Board {
    let mut board = Board::new(HOME, targets.iter().map(|&number| id(number)), now);
    server.list(&mut board, now);
    board
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let all = object["status"]["conditions"].as_array().expect("has conditions");
    all.iter().find(|condition| condition["type"] == kind).expect("has it")
}

#[test]
fn a_target_is_made_said_once_and_then_nothing_is_asked() {
    let mut server = Server::default();
    let mut board = begun(&[1], &mut server, at(0));
    board.show(shown(1, 7, Verdict::Healthy));

    settle(&mut board, &mut server, at(0));
    assert_eq!(server.requests, ["create agent", "create web"]);
    settle(&mut board, &mut server, at(1));
    assert_eq!(server.requests.len(), 2, "one write in two seconds");
    settle(&mut board, &mut server, at(2));
    assert_eq!(server.requests[2..], ["status agent", "status web"]);

    settle(&mut board, &mut server, at(60));
    assert_eq!((server.requests.len(), board.write_at(at(60))), (4, None));
    let web = &server.objects["web"];
    assert_eq!((&web["spec"]["generation"], &web["status"]["health"]), (&json!(7), &json!("healthy")));
    assert_eq!(condition(web, "Ready")["status"], "True");
}

#[test]
fn the_spec_of_a_new_revision_is_written_before_anything_is_said_of_it() {
    let mut server = Server::default();
    let mut board = begun(&[1], &mut server, at(0));
    board.show(shown(1, 7, Verdict::Healthy));
    for second in 0..20 {
        settle(&mut board, &mut server, at(second));
    }
    server.requests.clear();

    board.show(shown(1, 8, Verdict::Progressing));
    settle(&mut board, &mut server, at(30));

    assert_eq!(server.requests, ["spec web"]);
    let web = &server.objects["web"];
    let observed = condition(web, "Ready")["observedGeneration"].as_i64();
    assert!(observed < web["metadata"]["generation"].as_i64(), "the old answer is about an older generation: {web:#}");
    assert_ne!(assess_by_kstatus(web).at(at(30)), Verdict::Healthy);
    settle(&mut board, &mut server, at(32));
    assert_eq!(condition(&server.objects["web"], "Reconciling")["status"], "True");
}

#[test]
fn a_restart_that_changes_nothing_writes_nothing() {
    let mut server = Server::default();
    let mut board = begun(&[1], &mut server, at(0));
    board.show(shown(1, 7, Verdict::Healthy));
    for second in 0..20 {
        settle(&mut board, &mut server, at(second));
    }
    server.requests.clear();

    let mut board = begun(&[1], &mut server, at(100));
    for (second, verdict) in [(100, Verdict::Progressing), (101, Verdict::Unknown), (103, Verdict::Healthy)] {
        board.show(shown(1, 7, verdict));
        settle(&mut board, &mut server, at(second));
    }
    settle(&mut board, &mut server, at(200));

    assert!(server.requests.is_empty(), "{:?}", server.requests);
}

#[test]
fn what_somebody_changes_or_deletes_is_written_again() {
    let mut server = Server::default();
    let mut board = begun(&[1], &mut server, at(0));
    board.show(shown(1, 7, Verdict::Healthy));
    settle(&mut board, &mut server, at(0));
    settle(&mut board, &mut server, at(2));
    server.requests.clear();

    server.objects.get_mut("web").expect("is there")["status"]["health"] = "failed".into();
    server.annotate("web", None, &mut board, at(10));
    settle(&mut board, &mut server, at(10));
    assert_eq!(server.objects["web"]["status"]["health"], "healthy");
    server.objects.remove("web");
    board.see_gone("web", at(20));
    settle(&mut board, &mut server, at(20));

    assert_eq!(server.requests, ["status web", "create web"]);
}

#[test]
fn an_object_that_names_another_agent_is_left_alone_and_ours_has_a_longer_name() {
    let mut server = Server::default();
    let forged = json!({"metadata": {"name": "web", "uid": Uuid::from_u128(99).to_string(),
        "annotations": {SUSPEND_ANNOTATION: "true"}}, "spec": {"agent": "elsewhere", "targetId": id(1).as_uuid()}});
    server.objects.insert("web".to_owned(), forged.clone());
    let mut board = begun(&[1], &mut server, at(0));
    board.show(shown(1, 7, Verdict::Healthy));

    for second in 0..10 {
        settle(&mut board, &mut server, at(second));
    }

    assert_eq!(server.objects["web"], forged);
    assert_eq!(server.objects["web.00000001"]["status"]["health"], "healthy");
    assert_eq!(board.holds(at(10)), Some(Holds::default()), "nor does it suspend anything");
}

#[test]
fn two_targets_of_one_name_have_an_object_each() {
    let mut server = Server::default();
    let mut board = begun(&[1, 2, 3], &mut server, at(0));
    let of_project = Shown { owner: Some("inst/payments/web".to_owned()), ..shown(3, 7, Verdict::Healthy) };
    for one in [shown(1, 7, Verdict::Healthy), shown(2, 7, Verdict::Healthy), of_project] {
        board.show(one);
    }

    for second in 0..10 {
        settle(&mut board, &mut server, at(second));
    }

    let names: Vec<_> = server.objects.keys().map(String::as_str).collect();
    assert_eq!(names, ["agent", "payments.web", "web", "web.00000002"]);
}

#[test]
fn the_object_of_a_target_that_is_gone_goes_and_so_does_one_of_a_former_life() {
    let mut server = Server::default();
    let mut board = begun(&[1, 2], &mut server, at(0));
    board.show(shown(1, 7, Verdict::Healthy));
    board.show(Shown { name: "api".parse().expect("is a name"), ..shown(2, 7, Verdict::Healthy) });
    for second in 0..10 {
        settle(&mut board, &mut server, at(second));
    }

    let removed = Shown { action: Action::Delete, ..shown(1, 8, Verdict::Healthy) };
    board.show(removed);
    settle(&mut board, &mut server, at(20));
    assert!(!server.objects.contains_key("web"));
    let mut board = begun(&[], &mut server, at(30));
    settle(&mut board, &mut server, at(30));

    assert_eq!(server.objects.keys().collect::<Vec<_>>(), ["agent"]);
}

#[test]
fn a_suspension_ends_by_itself_and_a_restart_makes_it_no_longer() {
    let mut server = Server::default();
    let mut board = begun(&[1], &mut server, at(0));
    board.show(shown(1, 7, Verdict::Healthy));
    for second in 0..10 {
        settle(&mut board, &mut server, at(second));
    }

    server.annotate("web", Some("until=1m reason=INC-42"), &mut board, at(100));
    let held = board.holds(at(100)).expect("is known");
    assert_eq!(held.of(id(1)).and_then(|it| it.until), Some(at(160)));
    settle(&mut board, &mut server, at(100));
    let message = condition(&server.objects["web"], "Suspended")["message"].as_str().map(str::to_owned);
    assert_eq!(message.as_deref(), Some("suspended until 1970-01-01T00:02:40Z: INC-42"));

    let mut board = begun(&[1], &mut server, at(150));
    board.show(shown(1, 7, Verdict::Healthy));
    assert_eq!(board.holds(at(150)).and_then(|it| it.of(id(1))?.until), Some(at(160)));
    assert_eq!(board.ends_at(at(150)), Some(at(160)));
    assert_eq!(board.holds(at(160)), Some(Holds::default()));
    settle(&mut board, &mut server, at(160));
    assert_eq!(condition(&server.objects["web"], "Suspended")["status"], "False");

    // The same text stands there still, and suspends no more.
    let board = begun(&[1], &mut server, at(300));
    assert_eq!(board.holds(at(300)), Some(Holds::default()));
}

#[test]
fn who_is_suspended_is_not_known_before_all_was_listed() {
    let mut server = Server::default();
    let mut board = Board::new(HOME, [id(1)], at(0));
    assert_eq!(board.holds(at(0)), None);

    server.list(&mut board, at(1));
    assert_eq!(board.holds(at(1)), Some(Holds::default()));
    settle(&mut board, &mut server, at(1));
    server.annotate("agent", Some("true"), &mut board, at(5));

    let held = board.holds(at(5)).expect("is known");
    assert!(held.of(id(1)).is_some() && held.of(id(9)).is_some(), "everything");
}

#[test]
fn what_happens_is_said_once_and_many_of_a_kind_are_counted() {
    let mut server = Server::default();
    let mut board = begun(&[1], &mut server, at(0));
    board.show(shown(1, 7, Verdict::Healthy));
    for second in 0..10 {
        settle(&mut board, &mut server, at(second));
    }
    let mut said = Vec::new();
    let mut listen = |board: &mut Board, now| {
        said.clear();
        said.extend(std::iter::from_fn(|| board.take_note(now)).map(|note| (note.name, note.reason, note.text)));
        said.clone()
    };

    let applied = "bundle 000000000000 is in place: 1 objects".len();
    let first = listen(&mut board, at(10));
    assert!(matches!(first.as_slice(), [(_, Reason::Applied, text)] if text.len() == applied), "{first:?}");
    for name in ["a", "b", "c"] {
        board.note(id(1), Reason::DriftCorrected, format!("ConfigMap {name} was changed by kubectl-edit"));
    }
    let drifts = listen(&mut board, at(20));
    assert_eq!(drifts[0].2, "ConfigMap a was changed by kubectl-edit, and 2 more");
    board.note(id(1), Reason::DriftCorrected, "ConfigMap d".to_owned());
    assert!(listen(&mut board, at(21)).is_empty() && board.note_at(at(21)) == Some(at(22)));
    assert_eq!(listen(&mut board, at(22)).len(), 1);
    assert_eq!(board.note_at(at(100)), None, "nothing is waited for");

    // Another process has the same to say of it, and nothing new.
    let mut board = begun(&[1], &mut server, at(200));
    board.show(shown(1, 7, Verdict::Healthy));
    settle(&mut board, &mut server, at(220));
    assert!(listen(&mut board, at(220)).is_empty());
}

#[test]
fn a_suspension_with_no_end_is_said_again_each_hour() {
    let mut server = Server::default();
    let mut board = begun(&[1], &mut server, at(0));
    board.show(shown(1, 7, Verdict::Healthy));
    for second in 0..10 {
        settle(&mut board, &mut server, at(second));
    }
    while board.take_note(at(10)).is_some() {}

    server.annotate("web", Some("until=whenever"), &mut board, at(100));
    settle(&mut board, &mut server, at(100));
    let note = board.take_note(at(100)).expect("it is said");
    assert_eq!((note.reason, note.body(HOME, at(100))["type"].clone()), (Reason::Suspended, json!("Warning")));
    assert_eq!((board.take_note(at(3699)), board.note_at(at(3699))), (None, Some(at(3700))));
    assert!(board.take_note(at(3700)).is_some());
    server.annotate("web", None, &mut board, at(4000));
    settle(&mut board, &mut server, at(4000));

    assert_eq!(board.take_note(at(4000)).map(|note| note.reason), Some(Reason::Resumed));
    assert_eq!(board.note_at(at(9000)), None);
}

#[test]
fn what_turned_is_said_although_the_watch_was_faster_than_the_answer() {
    let mut server = Server::default();
    let mut board = begun(&[1], &mut server, at(0));
    board.show(shown(1, 7, Verdict::Healthy));
    for second in 0..10 {
        while let Some(write) = board.take_write(at(second)) {
            let written = server.carry_out(&write, &board);
            if let Written::Done(Some(seen)) = &written {
                board.see(seen.clone(), at(second));
            }
            board.record(&write, written, at(second));
        }
    }

    assert_eq!(board.take_note(at(10)).map(|note| note.reason), Some(Reason::Applied));
}

/// One target that has settled.
fn settled(server: &mut Server) -> Board {
    let mut board = begun(&[1], server, at(0));
    board.show(shown(1, 7, Verdict::Healthy));
    for second in 0..10 {
        settle(&mut board, server, at(second));
    }
    board
}

fn until(board: &Board, now: Timestamp) -> Option<Timestamp> {
    board.holds(now).and_then(|it| it.of(id(1))?.until)
}

#[test]
fn the_same_suspension_that_is_written_again_before_its_end_is_shown_counts_anew() {
    let mut server = Server::default();
    let mut board = settled(&mut server);
    server.annotate("web", Some("until=1m"), &mut board, at(100));
    settle(&mut board, &mut server, at(100));
    assert_eq!(until(&board, at(100)), Some(at(160)));

    // The status has it still.
    server.annotate("web", None, &mut board, at(150));
    server.annotate("web", Some("until=1m"), &mut board, at(151));

    assert_eq!(until(&board, at(151)), Some(at(211)));
}

#[test]
fn a_list_is_believed_although_its_versions_went_back() {
    let mut server = Server::default();
    let mut board = settled(&mut server);
    server.annotate("web", Some("until=1m"), &mut board, at(100));
    settle(&mut board, &mut server, at(100));

    // As after a backup was restored: the annotation was not there yet.
    server.version = 1;
    let object = server.objects.get_mut("web").expect("is there");
    object["metadata"]["annotations"] = json!({});
    server.touch("web");
    server.list(&mut board, at(110));

    assert_eq!(board.holds(at(110)), Some(Holds::default()));
    settle(&mut board, &mut server, at(110));
    assert_eq!(condition(&server.objects["web"], "Suspended")["status"], "False");
}

#[test]
fn what_a_list_does_not_name_suspends_nobody() {
    let mut server = Server::default();
    let mut board = settled(&mut server);
    server.annotate("web", Some("true"), &mut board, at(100));
    assert!(board.holds(at(100)).is_some_and(|it| it.of(id(1)).is_some()));

    server.objects.remove("web");
    server.list(&mut board, at(110));

    assert_eq!(board.holds(at(110)), Some(Holds::default()));
}

#[test]
fn an_object_that_somebody_makes_another_agents_is_gone() {
    let mut server = Server::default();
    let mut board = settled(&mut server);
    server.annotate("web", Some("true"), &mut board, at(100));

    server.objects.get_mut("web").expect("is there")["spec"] = Value::Null;
    assert!(board.read(&server.objects["web"]).is_none());
    board.see_other("web", at(110));

    assert_eq!(board.holds(at(110)), Some(Holds::default()));
    settle(&mut board, &mut server, at(110));
    settle(&mut board, &mut server, at(113));
    assert!(server.requests.last().is_some_and(|it| it.starts_with("create web.")), "{:?}", server.requests);
}

#[test]
fn what_was_seen_before_a_list_broke_off_is_known() {
    let mut server = Server::default();
    let mut board = settled(&mut server);
    server.annotate("web", Some("true"), &mut board, at(100));

    let mut board = Board::new(HOME, [id(1)], at(200));
    board.begin_list();
    let seen = board.read(&server.objects["web"]).expect("is ours");
    board.see(seen, at(200));

    assert!(board.holds(at(200)).is_none() && board.known_holds(at(200)).of(id(1)).is_some());
}

#[test]
fn what_is_suspended_does_not_claim_to_be_in_place() {
    let mut server = Server::default();
    let mut board = settled(&mut server);
    assert_eq!(server.objects["web"]["status"]["synced"], true);

    server.annotate("web", Some("true"), &mut board, at(100));
    settle(&mut board, &mut server, at(100));
    assert!(server.objects["web"]["status"].get("synced").is_none(), "{}", server.objects["web"]);
    assert_eq!(condition(&server.objects["web"], "Ready")["status"], "Unknown");
    while board.take_note(at(100)).is_some() {}
    server.annotate("web", None, &mut board, at(200));
    settle(&mut board, &mut server, at(200));

    assert_eq!(condition(&server.objects["web"], "Ready")["status"], "True");
    assert_eq!(board.take_note(at(200)).map(|note| note.reason), Some(Reason::Resumed));
    assert_eq!(board.take_note(at(203)), None, "nothing was applied");
}

#[test]
fn many_events_of_one_target_are_bounded_and_hold_up_no_other_target() {
    let mut notes = Notes::default();
    let subjects = [Subject::Target(id(1)), Subject::Target(id(2))];
    let mut said = BTreeMap::<Subject, u32>::new();
    for second in 0..3000 {
        notes.put(subjects[0], Reason::DriftCorrected, "a".to_owned());
        if second % 600 == 0 {
            notes.put(subjects[1], Reason::Applied, "b".to_owned());
        }
        if let Some((subject, ..)) = notes.take(at(second)) {
            *said.entry(subject).or_default() += 1;
        }
    }

    assert_eq!((said[&subjects[0]], said[&subjects[1]]), (60, 5));
    assert_eq!(notes.next_at(at(3000)), Some(at(3600)));
    assert!(notes.take(at(3600)).is_some_and(|(_, _, text)| text.ends_with(" more")));
}
