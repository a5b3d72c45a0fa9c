use bellwether_render::{Found, Listed, Listing};

use super::upstream::{Local, Upstream, branch, pairs};
use crate::source::git::ReadError;

fn refused(upstream: &Upstream, entries: &[(&str, &[u8], &str)]) -> ReadError {
    upstream.push_tree("main", &upstream.tree(entries));
    let mut local = Local::new();
    let commit = local.fetch_main(&upstream.remote());
    local.mirror.reader().read_folder(&commit.id, "", &|_, _| false).expect_err("it must be refused")
}

#[test]
fn only_yaml_and_json_are_read() {
    let upstream = Upstream::new();
    let (blob, script) = (upstream.blob(b"a: 1"), upstream.blob(b"#!/bin/sh"));
    let folder = upstream.tree(&[("100644", b"deep.yml", &blob)]);
    let tree = upstream.tree(&[
        ("100644", b".hidden.yaml", &blob),
        ("100644", b"a.json", &blob),
        ("100644", b"b.YAML", &blob),
        ("40000", b"folder.yaml", &folder),
        ("100755", b"run.sh", &script),
        ("100644", b"yaml", &blob),
        ("100755", b"z.yaml", &blob),
    ]);
    upstream.push_tree("main", &tree);
    let mut local = Local::new();

    let commit = local.fetch_main(&upstream.remote());

    let read = [(".hidden.yaml", "a: 1"), ("a.json", "a: 1"), ("folder.yaml/deep.yml", "a: 1"), ("z.yaml", "a: 1")];
    assert_eq!(local.files(&commit.id, ""), pairs(&read));
}

#[test]
fn a_submodule_in_the_folder_is_an_error_that_names_it_and_one_elsewhere_is_not() {
    let upstream = Upstream::new();
    let (file, nowhere) = (upstream.blob(b"a: 1"), "1".repeat(40));
    let shop = upstream.tree(&[("100644", b"a.yaml", &file), ("160000", b"shared", &nowhere)]);
    let bank = upstream.tree(&[("100644", b"a.yaml", &file)]);
    let id = upstream.push_tree("main", &upstream.tree(&[("40000", b"bank", &bank), ("40000", b"shop", &shop)]));
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    let reader = local.mirror.reader();

    let error = reader.read_folder(&id, "shop", &|_, _| false).expect_err("it must be refused");
    assert_eq!((error.code(), error.to_string().as_str()), ("file_submodule", "`shop/shared` is a submodule"));
    let error = reader.read_folder(&id, "shop/shared", &|_, _| false).expect_err("it must be refused");
    assert_eq!(error.to_string(), "`shop/shared` is a submodule");
    assert_eq!(local.files(&id, "bank"), pairs(&[("a.yaml", "a: 1")]));
}

#[test]
fn a_symbolic_link_is_an_error_that_names_it() {
    let upstream = Upstream::new();
    let (link, file) = (upstream.blob(b"/etc/passwd"), upstream.blob(b"a: 1"));

    for name in ["values.yaml", "folder", "README.md"] {
        let error = refused(&upstream, &[("100644", b"a.yaml", &file), ("120000", name.as_bytes(), &link)]);
        assert_eq!(error.to_string(), format!("`{name}` is a symbolic link"));
        assert_eq!(error.code(), "file_symlink");
    }
}

#[test]
fn a_link_on_the_way_to_the_folder_is_not_followed() {
    let upstream = Upstream::new();
    let link = upstream.blob(b"../../other");
    upstream.push_tree("main", &upstream.tree(&[("120000", b"apps", &link)]));
    let mut local = Local::new();
    let commit = local.fetch_main(&upstream.remote());

    let error = local.mirror.reader().read_folder(&commit.id, "apps/shop", &|_, _| false).expect_err("a link");

    assert_eq!(error.to_string(), "`apps` is a symbolic link");
}

#[test]
fn names_that_mean_something_else_elsewhere_are_refused() {
    let upstream = Upstream::new();
    let blob = upstream.blob(b"a: 1");
    let folder = upstream.tree(&[("100644", b"config.yaml", &blob)]);
    let long = "x".repeat(5000);
    let names: [&[u8]; 12] = [
        b"..",
        b".",
        b".git",
        b".GIT",
        b"git~1",
        b"a\\b.yaml",
        b"a/b.yaml",
        b"a\x1b[2J.yaml",
        b"a\n.yaml",
        b"\xff.yaml",
        ".g\u{200c}it".as_bytes(),
        long.as_bytes(),
    ];

    for name in names {
        for (mode, id) in [("100644", &blob), ("40000", &folder)] {
            let error = refused(&upstream, &[(mode, name, id)]);
            assert!(matches!(error, ReadError::UnsafeName { .. }), "{}: {error:?}", name.escape_ascii());
            assert!(!error.to_string().chars().any(char::is_control));
            assert!(error.to_string().len() < 500);
        }
    }
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let upstream = Upstream::new();
    let (one, two) = (upstream.blob(b"a: 1"), upstream.blob(b"a: 2"));

    let error = refused(&upstream, &[("100644", b"a.yaml", &one), ("100644", b"a.yaml", &two)]);

    assert!(matches!(error, ReadError::UnsafeName { .. }), "{error:?}");
}

#[test]
fn a_path_that_is_not_there_suggests_the_nearest_and_never_leaves_the_commit() {
    let upstream = Upstream::new();
    let id = upstream.push(
        "main",
        "One",
        &[("apps/shop/a.yaml", "a: 1"), ("apps/bank/b.yaml", "b: 1"), ("infra/c.yaml", "c: 1")],
    );
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    let cases = [
        ("apps/shpo", "path_not_found", Some("did you mean `apps/shop`?")),
        ("app/shop", "path_not_found", Some("did you mean `apps`?")),
        ("Apps/shop", "path_not_found", Some("did you mean `apps`?")),
        ("nothing", "path_not_found", None),
        ("apps/shop/a.yaml", "path_not_a_folder", None),
        ("apps/shop/a.yaml/b", "path_not_a_folder", None),
        ("../other", "path_not_found", None),
        ("/etc", "path_not_found", None),
        ("apps/..", "path_not_found", None),
        ("%2e%2e", "path_not_found", None),
        ("\u{ff0e}\u{ff0e}", "path_not_found", None),
        ("apps//shop", "path_not_found", None),
    ];

    for (path, code, hint) in cases {
        let error = local.mirror.reader().read_folder(&id, path, &|_, _| false).expect_err(path);
        assert_eq!(error.code(), code, "{path}");
        assert_eq!(local.mirror.reader().tree_of(&id, path).expect_err(path).code(), code, "{path}");
        if let Some(hint) = hint {
            assert_eq!(error.hint().as_deref(), Some(hint), "{path}");
        }
    }
    let error = local.mirror.reader().read_folder(&"1".repeat(40), "", &|_, _| false).expect_err("no such commit");
    assert_eq!(error.code(), "commit_not_mirrored");
}

#[test]
fn too_deep_too_many_and_too_large_are_errors_and_not_a_full_memory() {
    let upstream = Upstream::new();
    let blob = upstream.blob(b"a: 1");
    let mut deep = upstream.tree(&[("100644", b"a.yaml", &blob)]);
    for _ in 0..65 {
        deep = upstream.tree(&[("40000", b"d", &deep)]);
    }
    let names: Vec<String> = (0..10_001).map(|file| format!("{file:05}.yaml")).collect();
    let many: Vec<(&str, &[u8], &str)> = names.iter().map(|name| ("100644", name.as_bytes(), blob.as_str())).collect();
    let many = upstream.tree(&many);
    let large = upstream.blob(&vec![b' '; (64 << 20) + 1]);
    let large = upstream.tree(&[("100644", b"a.yaml", &large)]);
    let mut local = Local::new();

    for (name, tree, code) in
        [("deep", deep, "files_too_deep"), ("many", many, "too_many_files"), ("large", large, "files_too_large")]
    {
        let id = upstream.push_tree(name, &tree);
        local.fetch_one(&upstream.remote(), branch(name)).expect("it can be fetched");
        assert_eq!(local.mirror.reader().read_folder(&id, "", &|_, _| false).expect_err(name).code(), code);
    }
}

#[test]
fn folders_that_two_commits_have_in_common_are_told_from_those_that_moved() {
    let upstream = Upstream::new();
    let files = [("a/b/x.yaml", "x: 1"), ("a/c/y.yaml", "y: 1"), ("d/z.yaml", "z: 1"), ("file", "1")];
    let old = upstream.push("main", "One", &files);
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    let new = upstream.push("main", "Two", &[("a/b/x.yaml", "x: 2"), ("new/n.yaml", "n: 1")]);
    local.fetch_main(&upstream.remote());
    let paths = ["", "a", "a/b", "a/c", "d", "new", "gone", "gone/too", "file", "d/z.yaml"].map(ToOwned::to_owned);

    let unmoved = local.mirror.reader().list_unmoved(&old, &new, &paths.into()).expect("both are here");

    assert_eq!(unmoved.into_iter().collect::<Vec<_>>(), ["a/c", "d", "d/z.yaml", "file", "gone", "gone/too"]);
}

#[test]
fn paths_count_as_the_bytes_that_they_take() {
    let upstream = Upstream::new();
    let blob = upstream.blob(b"a: 1");
    let names: Vec<String> = (0..5_000).map(|number| format!("{number:04}.yaml")).collect();
    let entries: Vec<(&str, &[u8], &str)> =
        names.iter().map(|name| ("100644", name.as_bytes(), blob.as_str())).collect();
    let mut tree = upstream.tree(&entries);
    let long = "x".repeat(250);
    for _ in 0..60 {
        tree = upstream.tree(&[("40000", long.as_bytes(), &tree)]);
    }
    let commit = upstream.push_tree("main", &tree);
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());

    let refused = local.mirror.reader().read_folder(&commit, "", &|_, _| false).expect_err("75 MB of paths");

    assert!(matches!(refused, ReadError::TooLarge { .. }), "{refused:?}");
}

#[test]
fn of_what_was_only_listed_or_looked_for_no_content_counts() {
    let upstream = Upstream::new();
    let files = [("a/x.yaml", "x: 1"), ("a/b/y.yaml", "y: 1"), ("c", "1")];
    let old = upstream.push("main", "One", &files);
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    let mut moved = |change: &[(&str, &str)]| {
        let new = upstream.push("main", "Next", change);
        local.fetch_main(&upstream.remote());
        let reader = local.mirror.reader();
        let paths = ["a/", "a/b/", "a/.", "a/x.yaml/.", "c/", "d/.", "d/", "/", "/."].map(ToOwned::to_owned);
        let unmoved = reader.list_unmoved(&old, &new, &paths.clone().into()).expect("both are here");
        for path in &paths {
            let digest = |commit: &str| reader.digest_of(commit, &[path.clone()].into()).expect("it is here");
            assert_eq!(digest(&old) == digest(&new), unmoved.contains(path), "{path}");
        }
        paths.into_iter().filter(|path| !unmoved.contains(path)).collect::<Vec<_>>()
    };

    assert!(moved(&[("a/x.yaml", "x: 2"), ("a/b/y.yaml", "y: 2"), ("c", "2")]).is_empty());
    assert_eq!(moved(&[("a/b/new.yaml", "n: 1")]), ["a/b/"]);
    assert_eq!(moved(&[("a/z.yaml", "z: 1")]), ["a/", "a/b/"]);
    assert_eq!(moved(&[("d/d.yaml", "d: 1")]), ["a/", "a/b/", "d/.", "d/", "/"]);
}

#[test]
fn a_commit_is_asked_for_one_path_after_the_other() {
    let upstream = Upstream::new();
    let commit = upstream.push("main", "One", &[("a/x.txt", "x"), ("a/b/y.yaml", "y: 1")]);
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    let files = local.mirror.reader().files(&commit);
    let read = |path: &str, bytes_max| files.read(path, bytes_max).expect("it is read");

    assert_eq!(read("a/x.txt", 1), Found::File(b"x".to_vec()));
    assert_eq!(read("a/x.txt", 0), Found::TooLarge);
    assert_eq!((read("a", 9), read("", 9)), (Found::Folder, Found::Folder));
    assert_eq!((read("a/z", 9), read("a/x.txt/z", 9)), (Found::Absent, Found::Absent));
    let entry = |name: &str, is_folder| Listed { name: name.to_owned(), is_folder };
    assert_eq!(files.list("a").expect("it is read"), Listing::Folder(vec![entry("b", true), entry("x.txt", false)]));
    assert_eq!(files.list("a/x.txt").expect("it is read"), Listing::NotAFolder);
    assert_eq!(files.list("z").expect("it is read"), Listing::Absent);
    let manifests = files.manifests("a", &|_, _| false).expect("they are read");
    assert_eq!(manifests.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a/b/y.yaml"]);
    assert_eq!(
        local.mirror.reader().files(&"1".repeat(40)).read("a", 9).expect_err("no commit").code(),
        "commit_not_mirrored"
    );
}

#[test]
fn whoever_asks_for_what_is_behind_a_link_or_a_submodule_is_told_which_it_is() {
    let upstream = Upstream::new();
    let (link, file, nowhere) = (upstream.blob(b"../../etc"), upstream.blob(b"a: 1"), "1".repeat(40));
    let folder =
        upstream.tree(&[("100644", b"a.yaml", &file), ("120000", b"link", &link), ("160000", b"sub", &nowhere)]);
    let id = upstream.push_tree("main", &upstream.tree(&[("40000", b"a", &folder)]));
    let mut local = Local::new();
    local.fetch_main(&upstream.remote());
    let files = local.mirror.reader().files(&id);

    for path in ["a/link", "a/link/passwd"] {
        let error = files.read(path, 100).expect_err("it is refused");
        assert_eq!((error.code(), error.to_string().as_str()), ("file_symlink", "`a/link` is a symbolic link"));
        assert_eq!(files.list(path).expect_err("it is refused").code(), "file_symlink");
    }
    assert_eq!(files.read("a/sub/x", 100).expect_err("it is refused").to_string(), "`a/sub` is a submodule");
    let Listing::Folder(entries) = files.list("a").expect("it is read") else { panic!("it is a folder") };
    assert_eq!(
        entries.iter().map(|entry| (entry.name.as_str(), entry.is_folder)).collect::<Vec<_>>(),
        [("a.yaml", false), ("link", false), ("sub", false),]
    );
}

#[test]
fn a_name_that_stands_twice_or_is_not_allowed_is_refused_whoever_lists_it() {
    for (one, other) in [(&b"a.yaml"[..], &b"a.yaml"[..]), (b"a.yaml", b"a\\b.yaml")] {
        let upstream = Upstream::new();
        let file = upstream.blob(b"a: 1");
        let id = upstream.push_tree("main", &upstream.tree(&[("100644", one, &file), ("100644", other, &file)]));
        let mut local = Local::new();
        local.fetch_main(&upstream.remote());

        let error = local.mirror.reader().files(&id).list("").expect_err("it is refused");

        assert_eq!(error.code(), "file_name_unsafe");
    }
}
