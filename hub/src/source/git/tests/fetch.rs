use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use bellwether_core::Digest;
use bellwether_core::source::GitRef;

use super::upstream::{Local, Upstream, branch, pairs, tag};
use crate::source::git::budget::FetchBounds;
use crate::source::git::disk::measure;
use crate::source::git::{Mirror, ReadError, RefError};

#[test]
fn the_first_fetch_brings_a_branch_and_its_files() {
    let upstream = Upstream::new();
    let id = upstream.push("main", "Open the shop", &[("shop/app.yaml", "a: 1"), ("README.md", "read")]);
    let mut local = Local::new();

    let commit = local.fetch_main(&upstream.remote());

    assert_eq!(commit.id, id);
    assert_eq!((commit.author.as_str(), commit.subject.as_str()), ("Ada <ada@example.com>", "Open the shop"));
    assert_eq!(commit.committed_at.as_second(), 1_750_000_000);
    assert_eq!(local.files(&id, ""), pairs(&[("shop/app.yaml", "a: 1")]));
    assert_eq!(local.mirror.reader().tree_of(&id, "").expect("the root"), commit.tree);
}

#[test]
fn a_fetch_of_an_unchanged_branch_stores_nothing() {
    let upstream = Upstream::new();
    upstream.push("main", "One", &[("a.yaml", "a: 1")]);
    let mut local = Local::new();
    let first = local.fetch_main(&upstream.remote());
    let stored = local.stored();

    let second = local.fetch_main(&upstream.remote());

    assert_eq!((first, stored), (second, local.stored()));
}

#[test]
fn a_push_brings_only_what_is_new_and_earlier_commits_stay_readable() {
    let upstream = Upstream::new();
    let long = "line: of a file that is worth a delta\n".repeat(200);
    let first = upstream.push("main", "One", &[("shop/a.yaml", &long), ("other/b.yaml", "b: 1")]);
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    let (single, _) = local.stored();
    upstream.push("main", "Between", &[("shop/a.yaml", "never fetched")]);
    let longer = format!("{long}one: more");
    let second = upstream.push("main", "Two", &[("shop/a.yaml", &longer)]);

    local.fetch_main(&upstream.remote());

    // A commit, two trees and a file; neither the commit between nor the other folder.
    assert_eq!(local.stored(), (single + 4, 0));
    assert_eq!(local.files(&second, "shop"), pairs(&[("a.yaml", &longer)]));
    assert_eq!(local.files(&first, "shop"), pairs(&[("a.yaml", &long)]));
    let tree = |commit, path| local.mirror.reader().tree_of(commit, path).expect("a folder");
    assert_eq!(tree(&first, "other"), tree(&second, "other"));
    assert_ne!(tree(&first, "shop"), tree(&second, "shop"));
}

#[test]
fn a_restarted_hub_still_fetches_only_what_is_new() {
    let upstream = Upstream::new();
    upstream.push("main", "One", &[("shop/a.yaml", "a: 1"), ("other/b.yaml", "b: 1")]);
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    let (single, _) = local.stored();
    upstream.push("main", "Two", &[("shop/a.yaml", "a: 2")]);

    let mut local = local.reopen();
    local.fetch_main(&upstream.remote());

    assert_eq!(local.stored(), (single + 4, 0));
}

#[test]
fn big_pushes_become_packs_and_any_number_of_them_can_be_read() {
    let upstream = Upstream::new();
    let mut local = Local::new();
    let mut commits = Vec::new();
    // More than the 32 packs that an opened store has room for by itself.
    for round in 0..34 {
        let files: Vec<(String, String)> =
            (0..101).map(|file| (format!("shop/{file}.yaml"), format!("a: {round}-{file}"))).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
        commits.push(upstream.push("main", "Many", &files));
        local.fetch_main(&upstream.remote());
    }

    assert_eq!(local.stored(), (0, 34));
    for (round, commit) in commits.iter().enumerate() {
        let files = local.files(commit, "shop");
        assert_eq!((files.len(), files[0].1.clone()), (101, format!("a: {round}-0")));
    }
}

#[test]
fn a_mirror_of_many_packs_becomes_one_pack_when_nothing_is_new() {
    let upstream = Upstream::new();
    let mut local = Local::new();
    let mut last = String::new();
    for round in 0..22 {
        let files: Vec<(String, String)> =
            (0..101).map(|file| (format!("shop/{file}.yaml"), format!("a: {round}-{file}"))).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
        last = upstream.push("main", "Many", &files);
        local.fetch_main(&upstream.remote());
    }
    assert_eq!(local.stored(), (0, 22));
    let reader = local.mirror.reader();

    local.fetch_main(&upstream.remote());

    assert_eq!(local.stored(), (0, 1));
    assert_eq!(fs::read_dir(local.folder.path()).expect("a folder").count(), 1, "nothing is left over");
    assert_eq!(reader.read_folder(&last, "shop", &|_, _| false).expect("a reader goes on").files.len(), 101);
    assert_eq!(local.files(&last, "shop").len(), 101);
    let next = upstream.push("main", "Next", &[("shop/0.yaml", "a: next")]);
    assert_eq!(local.fetch_main(&upstream.remote()).id, next);
    assert_eq!(local.stored().1, 1, "what is here was not sent again");
}

#[test]
fn a_mirror_that_gets_something_new_with_every_fetch_is_made_anew_all_the_same() {
    let upstream = Upstream::new();
    let mut local = Local::new();
    let (mut last, mut most) = (String::new(), 0);
    for round in 0..60 {
        let files: Vec<(String, String)> =
            (0..101).map(|file| (format!("shop/{file}.yaml"), format!("a: {round}-{file}"))).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
        last = upstream.push("main", "Many", &files);
        local.fetch_main(&upstream.remote());
        most = most.max(local.stored().1);
    }

    assert!(most < 50, "{most} packs");
    assert_eq!(local.files(&last, "shop").len(), 101);
}

#[test]
fn a_mirror_of_many_bytes_becomes_a_small_one_when_nothing_is_new() {
    let upstream = Upstream::new();
    let mut local = Local::new();
    local.mirror = local.mirror.with_bounds(FetchBounds { pack_bytes_max: 100_000, ..FetchBounds::default() });
    let size = |local: &Local| measure(&local.path().join("objects")).expect("a mirror").bytes;
    let mut last = String::new();
    for round in 0..5_u32 {
        let text: String =
            (0..1_600_u32).map(|line| Digest::of(&[round, line].map(u32::to_be_bytes).concat()).to_string()).collect();
        last = upstream.push("main", "Large", &[("shop/a.yaml", &text)]);
        local.fetch_main(&upstream.remote());
    }
    let before = size(&local);

    local.fetch_main(&upstream.remote());

    assert_eq!(local.files(&last, "shop").len(), 1);
    assert!(before > 2 * size(&local), "{before} and {}", size(&local));
}

#[test]
fn a_mirror_is_not_made_anew_without_the_commit_that_counts_while_a_rewritten_one_waits() {
    for has_it_still in [true, false] {
        let upstream = Upstream::new();
        let first = upstream.push("main", "One", &[("a.yaml", "a: 1")]);
        let mut local = Local::new();
        local.fetch_main(&upstream.remote());
        let rewritten = upstream.push("other", "A history of its own", &[("a.yaml", "a: 2")]);
        upstream.git(["update-ref", "refs/heads/main", &rewritten], b"");
        if !has_it_still {
            upstream.git(["gc", "--quiet", "--prune=now"], b"");
        }

        local.mirror.ask_whether(&[("refs/heads/main".to_owned(), first.clone())].into(), &BTreeMap::new());
        local.mirror.renew_soon(true);
        local.fetch_main(&upstream.remote());

        assert_eq!(local.files(&first, ""), pairs(&[("a.yaml", "a: 1")]), "{has_it_still}");
        assert_eq!(local.files(&rewritten, ""), pairs(&[("a.yaml", "a: 2")]), "{has_it_still}");
    }
}

#[test]
fn an_index_of_a_pack_that_is_damaged_anywhere_costs_a_fetch_and_nothing_else() {
    let files: Vec<(String, String)> =
        (0..101).map(|file| (format!("shop/{file}.yaml"), format!("a: {file}"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
    let upstream = Upstream::new();
    let id = upstream.push("main", "Many", &files);
    // Its head, how many names begin with each byte, the names, and its end.
    for damage in [0..8, 8..1_032, 1_032..1_400, 3_000..3_100] {
        let mut local = Local::new();
        local.fetch_main(&upstream.remote());
        let packs = fs::read_dir(local.path().join("objects/pack")).expect("a folder");
        let index = packs
            .map(|file| file.expect("an entry").path())
            .find(|file| file.extension().is_some_and(|end| end == "idx"));
        let index = index.expect("a pack has one");
        let mut bytes = fs::read(&index).expect("it is there");
        for byte in bytes.iter_mut().skip(damage.start).take(damage.len()) {
            *byte ^= 0xff;
        }
        fs::set_permissions(&index, fs::Permissions::from_mode(0o600)).expect("it is ours");
        fs::write(&index, bytes).expect("it is written");

        let mut local = local.reopen();
        // What is damaged in the middle is found when it is read.
        let _ = local.fetch(&upstream.remote(), &[branch("main")]);
        let _ = local.mirror.reader().read_folder(&id, "shop", &|_, _| false);
        local.fetch_main(&upstream.remote());

        assert_eq!(local.files(&id, "shop").len(), 101, "{damage:?}");
    }
}

#[test]
fn a_missing_branch_fails_alone_and_the_nearest_name_is_suggested() {
    let upstream = Upstream::new();
    for name in ["main", "release", "staging"] {
        upstream.push(name, "One", &[("a.yaml", "a: 1")]);
    }
    let mut local = Local::new();
    let wanted = [branch("relase"), branch("main"), branch("rel"), tag("v1"), branch("--output=x")];

    let heads = local.fetch(&upstream.remote(), &wanted).expect("the server answers");

    let missing = |branch: &str, nearest: Option<&str>| RefError::NoSuchBranch {
        branch: branch.to_owned(),
        nearest: nearest.map(str::to_owned),
    };
    assert_eq!(heads[0].outcome, Err(missing("relase", Some("release"))));
    assert!(heads[1].outcome.is_ok());
    // It is the beginning of a branch's name, which the server therefore lists.
    assert_eq!(heads[2].outcome, Err(missing("rel", None)));
    assert_eq!(heads[3].outcome, Err(RefError::NoSuchTag { tag: "v1".to_owned(), nearest: None }));
    assert_eq!(heads[4].outcome.as_ref().map_err(RefError::code), Err("ref_invalid"));
}

#[test]
fn an_empty_repo_answers_and_has_no_branch() {
    let upstream = Upstream::new();
    let mut local = Local::new();

    assert_eq!(local.fetch(&upstream.remote(), &[]).expect("the server answers"), []);
    let outcome = local.fetch_one(&upstream.remote(), branch("main"));
    assert_eq!(outcome.expect_err("it is empty").code(), "branch_not_found");
}

#[test]
fn tags_lead_to_commits_with_and_without_an_object_of_their_own() {
    let upstream = Upstream::new();
    let id = upstream.push("main", "One", &[("a.yaml", "a: 1")]);
    upstream.git(["tag", "light", &id], b"");
    upstream.git(["tag", "-a", "-m", "A release", "heavy", &id], b"");
    upstream.git(["tag", "tree", &format!("{id}^{{tree}}")], b"");
    let mut local = Local::new();

    let heads = local.fetch(&upstream.remote(), &[tag("light"), tag("heavy"), tag("tree")]).expect("an answer");

    assert_eq!(heads[0].outcome.as_ref().map(|commit| commit.id.clone()), Ok(id.clone()));
    assert_eq!(heads[1].outcome.as_ref().map(|commit| commit.id.clone()), Ok(id));
    assert_eq!(heads[2].outcome.as_ref().map_err(RefError::code), Err("ref_not_a_commit"));
}

#[test]
fn a_name_leads_to_a_tag_before_a_branch_and_head_to_the_default_branch() {
    let upstream = Upstream::new();
    let first = upstream.push("main", "One", &[("a.yaml", "a: 1")]);
    let trunk = upstream.push("trunk", "Two", &[("a.yaml", "a: 2")]);
    upstream.git(["symbolic-ref", "HEAD", "refs/heads/trunk"], b"");
    upstream.git(["tag", "-a", "-m", "A release", "v1", &first], b"");
    upstream.git(["update-ref", "refs/pull/1/head", &first], b"");
    let named = |name: &str| GitRef::Named(name.to_owned());
    let wanted = ["HEAD", "v1", "trunk", "refs/pull/1/head", "trunc"].map(named);
    let mut local = Local::new();

    let heads = local.fetch(&upstream.remote(), &wanted).expect("an answer");

    let found = |at: usize| (heads[at].tag.as_deref(), heads[at].outcome.as_ref().map(|commit| commit.id.as_str()));
    assert_eq!(found(0), (None, Ok(&*trunk)));
    assert_eq!(found(1), (Some("v1"), Ok(&*first)));
    assert_eq!(found(2), (None, Ok(&*trunk)));
    assert_eq!(found(3), (None, Ok(&*first)));
    let missing = RefError::NoSuchName { name: "trunc".to_owned(), nearest: Some("trunk".to_owned()) };
    assert_eq!(heads[4].outcome, Err(missing));
    upstream.git(["tag", "trunk", &first], b"");
    let head = local.fetch(&upstream.remote(), &[named("trunk")]).expect("an answer").remove(0);
    assert_eq!((head.tag.as_deref(), head.outcome.expect("a commit").id), (Some("trunk"), first));

    upstream.git(["symbolic-ref", "HEAD", "refs/heads/gone"], b"");
    assert_eq!(local.fetch_one(&upstream.remote(), named("HEAD")), Err(RefError::NoDefaultBranch));
}

#[test]
fn a_commit_is_fetched_by_its_id_and_an_unknown_one_fails_alone() {
    let upstream = Upstream::new();
    let first = upstream.push("main", "One", &[("a.yaml", "a: 1")]);
    upstream.push("main", "Two", &[("a.yaml", "a: 2")]);
    let unknown = "ab".repeat(20);
    let mut local = Local::new();
    let wanted = [GitRef::Commit(unknown.clone()), GitRef::Commit(first.clone()), branch("main")];

    let heads = local.fetch(&upstream.remote(), &wanted).expect("an answer");

    assert_eq!(heads[0].outcome, Err(RefError::NoSuchCommit { commit: unknown }));
    assert_eq!(local.files(&first, ""), pairs(&[("a.yaml", "a: 1")]));
    assert_eq!(heads[2].outcome.as_ref().map(|commit| commit.subject.as_str()), Ok("Two"));
}

#[test]
fn a_rewritten_branch_is_fetched_and_the_old_commit_stays() {
    let upstream = Upstream::new();
    let old = upstream.push("main", "Old", &[("a.yaml", "a: 1"), ("b.yaml", "b: 1")]);
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    upstream.git(["update-ref", "-d", "refs/heads/main"], b"");
    upstream.git(["reflog", "expire", "--expire=now", "--all"], b"");
    upstream.git(["gc", "--quiet", "--prune=now"], b"");
    let new = upstream.push("main", "New", &[("a.yaml", "a: 2")]);

    let commit = local.fetch_main(&upstream.remote());

    assert_eq!(commit.id, new);
    assert_eq!(local.files(&new, ""), pairs(&[("a.yaml", "a: 2")]));
    assert_eq!(local.files(&old, ""), pairs(&[("a.yaml", "a: 1"), ("b.yaml", "b: 1")]));
}

#[test]
fn what_people_write_is_one_short_line_without_control_characters() {
    let upstream = Upstream::new();
    let message = format!("\u{1b}[31mRed\u{7} {}\n\nbody", "x".repeat(1000));
    upstream.push("main", &message, &[("a.yaml", "a: 1")]);

    let commit = Local::new().fetch_main(&upstream.remote());

    assert!(commit.subject.starts_with("[31mRed x"), "{}", commit.subject);
    assert_eq!(commit.subject.chars().count(), 200);
}

#[test]
fn a_torn_mirror_is_made_anew() {
    let upstream = Upstream::new();
    let files: Vec<String> = (0..101).map(|file| format!("{file}.yaml")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|path| (path.as_str(), path.as_str())).collect();
    let id = upstream.push("main", "Many", &files);
    let tears: [fn(&Local); 4] = [
        |local| fs::remove_file(local.path().join("HEAD")).expect("it is there"),
        |local| fs::write(local.path().join("config"), "[[[").expect("it can be written"),
        |local| cut_pack(local),
        |local| {
            fs::remove_dir_all(local.path()).expect("it is there");
            fs::write(local.path(), "not even a folder").expect("it can be written");
        },
    ];
    for tear in tears {
        let mut local = Local::new();
        local.fetch_main(&upstream.remote());
        tear(&local);

        let mut local = local.reopen();

        local.fetch_main(&upstream.remote());
        assert_eq!(local.files(&id, "").len(), 101);
    }
}

fn cut_pack(local: &Local) {
    let packs = fs::read_dir(local.path().join("objects/pack")).expect("a folder");
    let pack = packs
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|end| end == "pack"));
    let pack = pack.expect("a pack");
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let file = fs::File::options().write(true).open(&pack).expect("it can be written");
    file.set_len(file.metadata().expect("a size").len() / 2).expect("it can be cut");
}

#[test]
fn a_damaged_object_is_never_read_and_the_next_fetch_repairs_it() {
    let upstream = Upstream::new();
    let id = upstream.push("main", "One", &[("a.yaml", "a: 1")]);
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    // Whole by itself, but another file.
    let (wanted, other) = (upstream.blob(b"a: 1"), upstream.blob(b"a: 666"));
    let place = local.path().join(loose(&wanted));
    fs::remove_file(&place).expect("it is there");
    fs::copy(upstream.folder().join(loose(&other)), &place).expect("it can be written");

    let damage = local.mirror.reader().read_folder(&id, "", &|_, _| false).expect_err("it is damaged");
    local.fetch_main(&upstream.remote());

    assert!(matches!(damage, ReadError::Damaged { .. }), "{damage:?}");
    assert_eq!(local.files(&id, ""), pairs(&[("a.yaml", "a: 1")]));
}

fn loose(id: &str) -> String {
    format!("objects/{}/{}", &id[..2], &id[2..])
}

#[test]
fn a_commit_that_is_damaged_is_fetched_again() {
    let upstream = Upstream::new();
    let id = upstream.push("main", "One", &[("a.yaml", "a: 1")]);
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    let place = local.path().join(loose(&id));
    fs::remove_file(&place).expect("it is there");
    fs::write(&place, "no object").expect("it can be written");

    assert_eq!(local.fetch_main(&upstream.remote()).subject, "One");
    assert_eq!(local.files(&id, ""), pairs(&[("a.yaml", "a: 1")]));
}

#[test]
fn a_push_on_top_of_an_object_that_was_lost_is_fetched_whole() {
    let upstream = Upstream::new();
    let long = "line: of a file that is worth a delta\n".repeat(200);
    upstream.push("main", "One", &[("a.yaml", &long)]);
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    fs::remove_file(local.path().join(loose(&upstream.blob(long.as_bytes())))).expect("it is there");
    let longer = format!("{long}one: more");
    let id = upstream.push("main", "Two", &[("a.yaml", &longer)]);

    local.fetch_main(&upstream.remote());

    assert_eq!(local.files(&id, ""), pairs(&[("a.yaml", &longer)]));
}

#[test]
fn a_mirror_takes_no_configuration_of_the_host_and_has_no_work_tree() {
    let folder = tempfile::tempdir().expect("a temporary folder");

    Mirror::open_or_create(&folder.path().join("deep/mirror")).expect("a new mirror");

    let config = fs::read_to_string(folder.path().join("deep/mirror/config")).expect("a config");
    assert!(config.contains("bare = true"), "{config}");
    assert!(!folder.path().join("deep/mirror/.git").exists());
}

#[test]
fn a_mirror_can_be_shared_by_threads() {
    fn check<T: Send + Sync>() {}

    check::<Mirror>();
}

fn range(text: &str) -> GitRef {
    GitRef::Semver(text.to_owned())
}

#[test]
fn a_range_of_versions_leads_to_the_newest_tag_in_it() {
    let upstream = Upstream::new();
    let mut local = Local::new();
    let release = |tag: &str, options: &[&str]| {
        let commit = upstream.push("main", tag, &[("a.yaml", tag)]);
        upstream.git(["tag"].into_iter().chain(options.iter().copied()).chain([tag, "main"]), b"");
        commit
    };
    release("v1.2.0", &[]);
    let patched = release("v1.2.10", &["-a", "-m", "Patched"]);
    release("v1.10.0-rc.1", &[]);
    let next = release("2.0.0", &[]);
    upstream.push("main", "Not released", &[("a.yaml", "later")]);

    let wanted = [range(">=1.2 <2"), range("*"), range("~1.2.11"), range("1.10.0-rc.1"), branch("main")];
    let heads = local.fetch(&upstream.remote(), &wanted).expect("the server answers");

    let found = |at: usize| {
        let head = &heads[at];
        (head.tag.as_deref(), head.outcome.as_ref().map(|commit| commit.id.as_str()).ok())
    };
    assert_eq!(found(0), (Some("v1.2.10"), Some(&*patched)));
    assert_eq!(found(1), (Some("2.0.0"), Some(&*next)));
    assert_eq!(found(3).0, Some("v1.10.0-rc.1"));
    assert!(heads[4].outcome.is_ok() && heads[4].tag.is_none());
    let error = heads[2].outcome.as_ref().expect_err("there is none");
    assert_eq!((error.code(), error.to_string().as_str()), ("version_not_found", "no tag is a version in `~1.2.11`"));
    let hint = error.hint().expect("a hint");
    assert!(hint.starts_with("the nearest are v1.2.10, v1.10.0-rc.1;"), "{hint}");

    let newer = release("v1.3.0", &[]);
    let heads = local.fetch(&upstream.remote(), &wanted).expect("the server answers");
    assert_eq!(
        (heads[0].tag.as_deref(), heads[0].outcome.as_ref().expect("a tag").id.as_str()),
        (Some("v1.3.0"), &*newer)
    );
    assert_eq!(local.files(&newer, ""), pairs(&[("a.yaml", "v1.3.0")]));
}

#[test]
fn a_tag_of_no_commit_and_a_range_in_a_repo_without_versions_are_told() {
    let upstream = Upstream::new();
    upstream.push("main", "One", &[("a.yaml", "a: 1")]);
    let mut local = Local::new();
    let outcome = |local: &mut Local| local.fetch_one(&upstream.remote(), range("1")).expect_err("there is none");

    let error = outcome(&mut local);
    assert!(error.hint().expect("a hint").contains("no tag of the repo is a version"), "{error}");
    let blob = upstream.blob(b"a: 1");
    upstream.git(["tag", "v1.0.0", &blob], b"");
    assert_eq!(outcome(&mut local), RefError::NotACommit { reference: "refs/tags/v1.0.0".to_owned() });
}

#[test]
fn whether_a_commit_builds_on_another_is_found_out_without_keeping_its_history() {
    for has_filter in [true, false] {
        let upstream = Upstream::new();
        upstream.git(["config", "uploadpack.allowFilter", if has_filter { "true" } else { "false" }], b"");
        let first = upstream.push("main", "One", &[("a.yaml", "a: 1")]);
        let mut local = Local::new();
        local.fetch_main(&upstream.remote());
        let mut builds_on = |base: &str| {
            local.mirror.ask_whether(&[("refs/heads/main".to_owned(), base.to_owned())].into(), &BTreeMap::new());
            let heads = local.fetch(&upstream.remote(), &[branch("main")]).expect("the server answers");
            heads[0].builds_on.as_deref() == Some(base)
        };

        assert!(builds_on(&first));
        for number in 0..150 {
            upstream.push("main", "Between", &[("a.yaml", &format!("a: {number}"))]);
        }
        let old = upstream.push("main", "Two", &[("a.yaml", "a: 2")]);
        assert!(builds_on(&first), "far back");
        assert!(!builds_on(&"1".repeat(40)), "what the server does not know");

        upstream.git(["update-ref", "refs/heads/main", &first], b"");
        assert!(!builds_on(&old), "back");
        let tree = upstream.git(["rev-parse", "main^{tree}"], b"");
        upstream.push_tree("main", &tree);
        assert!(!builds_on(&old) && !builds_on(&first), "a history of its own");
        let merged = upstream.git(["commit-tree", &tree, "-p", "main", "-p", &old, "-m", "Both"], b"");
        upstream.git(["update-ref", "refs/heads/main", &merged], b"");
        assert!(builds_on(&old) && builds_on(&first), "by a merge");
        assert!(
            !local.path().with_extension("history").exists() && !local.folder.path().join("mirror.history").exists()
        );
        local.fetch_main(&upstream.remote());
        assert_eq!(local.files(&merged, ""), pairs(&[("a.yaml", "a: 1")]));
    }
}

#[test]
fn a_commit_that_nobody_would_write_concerns_its_ref_alone() {
    let (upstream, mut local) = (Upstream::new(), Local::new());
    let before = upstream.push("main", "A push", &[("shop/a.yaml", "a")]);
    local.fetch_main(&upstream.remote());
    let head = upstream.push("main", "Another push", &[("shop/a.yaml", "b")]);
    let tree = upstream.git(["rev-parse", "main^{tree}"], b"");
    let large = upstream.git(["commit-tree", &tree, "-F", "-"], "x".repeat(1200 << 10).as_bytes());
    upstream.git(["update-ref", "refs/heads/large", &large], b"");
    let strange = format!("tree {tree}\nauthored by nobody\n\nA push\n");
    let strange = upstream.git(["hash-object", "-t", "commit", "--literally", "-w", "--stdin"], strange.as_bytes());
    std::fs::write(upstream.folder().join("refs/heads/strange"), format!("{strange}\n")).expect("a ref");

    for _ in 0..2 {
        let wanted = [branch("main"), branch("large"), branch("strange")];
        let heads = local.fetch(&upstream.remote(), &wanted).expect("nothing is damaged");

        assert_eq!(heads[0].outcome.as_ref().expect("it is there").id, head);
        let refused = |place: usize| heads[place].outcome.as_ref().expect_err("it is refused");
        assert_eq!(refused(1).code(), "commit_too_large");
        assert_eq!(refused(1).to_string(), format!("commit {large} is larger than 1024 KiB, without its files"));
        assert_eq!(refused(2).code(), "commit_unreadable");
        let kept = [("a.yaml".to_owned(), "a".to_owned())];
        assert_eq!(local.files(&before, "shop"), kept, "the mirror is the earlier one");
    }
}
