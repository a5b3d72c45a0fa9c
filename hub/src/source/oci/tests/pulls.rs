//! From what is pushed to files.

use std::collections::BTreeMap;
use std::ops::Bound;

use axum::response::IntoResponse as _;
use serde_json::json;

use super::artifact::{Artifact, gzip, tar, zstd};
use super::docker::DockerRegistry;
use super::fake::{Fake, RecordedRequest, serve};
use super::{Local, blocking, digest, pairs, remote, tag};
use crate::source::git::{FetchError, RefError};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

#[tokio::test]
async fn what_each_tool_pushes_becomes_its_files() {
    let registry = DockerRegistry::start().await;
    let files = [("a.yaml", "a: 1"), ("shop/b.yaml", "b: 1"), ("shop.yaml", "c: 1")];
    let title = |title: &str| json!({"org.opencontainers.image.title": title});
    let folder = json!({"org.opencontainers.image.title": "apps", "io.deis.oras.content.unpack": "true"});
    let below: Vec<(String, &str)> = files.iter().map(|(path, content)| (format!("./apps/{path}"), *content)).collect();
    let below: Vec<(&str, &str)> = below.iter().map(|(path, content)| (path.as_str(), *content)).collect();
    let chart = [("shop/Chart.yaml", "name: shop"), ("shop/templates/a.yaml", "a: 1")];
    let pushed = [
        ("flux", Artifact::flux(&files)),
        ("oras-files", Artifact::new(&[(LAYER, b"a: 1", title("a.yaml")), (LAYER, b"b: 1", title("x/b.yaml"))])),
        ("oras-folder", Artifact::new(&[(&format!("{LAYER}+gzip"), &gzip(&tar(&below)), folder)])),
        ("tar", Artifact::new(&[(LAYER, &tar(&files), json!(null))])),
        ("chart", Artifact::new(&[(CHART, &gzip(&tar(&chart)), json!(null))])),
    ];
    for (name, artifact) in &pushed {
        registry.push("team/shop", name, artifact).await;
    }
    let remote = remote(&registry.repo_url("team/shop"));

    let found = blocking(move || {
        let mut local = Local::new();
        let tags = ["flux", "oras-files", "oras-folder", "tar", "chart"].map(tag);
        let heads = local.fetch(&remote, &tags).expect("the registry answers");
        let commits: Vec<_> = heads.into_iter().map(|head| head.outcome.expect("a commit")).collect();
        let files: Vec<_> = commits.iter().map(|commit| local.files(commit)).collect();
        (commits, files)
    })
    .await;

    let (commits, found) = found;
    let as_pushed = pairs(&[("a.yaml", "a: 1"), ("shop.yaml", "c: 1"), ("shop/b.yaml", "b: 1")]);
    assert_eq!(found[0], as_pushed);
    assert_eq!(found[1], pairs(&[("a.yaml", "a: 1"), ("x/b.yaml", "b: 1")]));
    assert_eq!(found[2], pairs(&[("apps/a.yaml", "a: 1"), ("apps/shop.yaml", "c: 1"), ("apps/shop/b.yaml", "b: 1")]));
    assert_eq!(found[3], as_pushed);
    assert_eq!(found[4], pairs(&[("Chart.yaml", "name: shop"), ("templates/a.yaml", "a: 1")]));
    assert_eq!(commits[0].tree, commits[3].tree, "the same files");
    assert_ne!(commits[0].id, commits[3].id, "of other artifacts");
    assert_eq!(commits[0].subject, format!("main@sha1:0123 ({})", pushed[0].1.digest()));
    assert_eq!(
        (commits[0].author.as_str(), commits[0].committed_at.to_string().as_str()),
        ("an artifact", "2026-03-01T10:00:00Z")
    );
}

#[tokio::test]
async fn layers_of_zstd_become_their_files_also_in_several_frames_and_with_what_chunked_tools_put_between() {
    let registry = DockerRegistry::start().await;
    let (files, null) = (tar(&[("a.yaml", "a: 1"), ("x/b.yaml", "b: 1")]), json!(null));
    let (one, other) = files.split_at(700);
    // A frame that says something to some readers and nothing to others, as zstd:chunked has at its end.
    let skipped = [&0x184d_2a50_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"toc"].concat();
    let chunked = [zstd(one), skipped.clone(), zstd(other), skipped].concat();
    let flux = "application/vnd.cncf.flux.content.v1.tar+zstd";
    let docker = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    registry.push("team/shop", "plain", &Artifact::new(&[(LAYER, &files, null.clone())])).await;
    registry.push("team/shop", "flux", &Artifact::new(&[(flux, &zstd(&files), null.clone())])).await;
    registry.push("team/shop", "docker", &Artifact::new(&[(docker, &zstd(&files), null.clone())])).await;
    registry.push("team/shop", "chunked", &Artifact::new(&[(&format!("{LAYER}+zstd"), &chunked, null)])).await;
    let at = remote(&registry.repo_url("team/shop"));

    let trees: Vec<_> = blocking(move || {
        let heads = Local::new().fetch(&at, &["plain", "flux", "docker", "chunked"].map(tag)).expect("it answers");
        heads.into_iter().map(|head| head.outcome.expect("a commit").tree).collect()
    })
    .await;

    assert!(trees.iter().all(|tree| *tree == trees[0]), "{trees:?}");
}

#[tokio::test]
async fn every_hub_makes_the_same_commit_and_a_tag_that_moves_another() {
    let registry = DockerRegistry::start().await;
    let (one, two) = (Artifact::flux(&[("a.yaml", "a: 1")]), Artifact::flux(&[("a.yaml", "a: 2")]));
    let first = registry.push("team/shop", "latest", &one).await;
    let at = remote(&registry.repo_url("team/shop"));

    let (local, here, there) = blocking({
        let (at, first) = (at.clone(), first.clone());
        move || {
            let mut local = Local::new();
            let here = local.fetch_one(&at, tag("latest")).expect("a commit");
            (local, here, Local::new().fetch_one(&at, digest(&first)).expect("a commit"))
        }
    })
    .await;
    assert_eq!(here, there);

    registry.push("team/shop", "latest", &two).await;
    let (moved, kept, before) = blocking(move || {
        let mut local = local.reopen();
        let moved = local.fetch_one(&at, tag("latest")).expect("a commit");
        let kept = local.fetch_one(&at, digest(&first)).expect("a commit");
        let before = local.files(&here);
        (moved, kept, before)
    })
    .await;
    assert_ne!(moved.id, there.id);
    assert_eq!(kept, there);
    assert_eq!(before, pairs(&[("a.yaml", "a: 1")]), "the last one can still be read");
}

#[tokio::test]
async fn what_is_not_in_the_registry_is_told_with_what_was_probably_meant() {
    let registry = DockerRegistry::start().await;
    registry.push("team/shop", "1.2.3", &Artifact::flux(&[("a.yaml", "a: 1")])).await;
    registry.push("team/shop", "stable", &Artifact::flux(&[("a.yaml", "a: 1")])).await;
    let (here, nowhere) = (remote(&registry.repo_url("team/shop")), remote(&registry.repo_url("team/nothing")));

    let (heads, missing, unasked) = blocking(move || {
        let mut local = Local::new();
        let nothing = format!("sha256:{}", "0".repeat(64));
        let branch = bellwether_core::source::GitRef::Branch("main".to_owned());
        let wanted = [tag("stabel"), digest(&nothing), branch, tag("a/b"), tag("1.2.3")];
        let heads = local.fetch(&here, &wanted).expect("the registry answers");
        let missing = Local::new().fetch(&nowhere, &[tag("1.2.3")]).expect_err("no such repo");
        (heads, missing, Local::new().fetch(&nowhere, &[]).expect_err("no such repo"))
    })
    .await;

    let codes: Vec<_> = heads.iter().map(|head| head.outcome.as_ref().map(drop).map_err(RefError::code)).collect();
    assert_eq!(
        codes,
        [Err("tag_not_found"), Err("digest_not_found"), Err("ref_of_other_source"), Err("ref_invalid"), Ok(())]
    );
    let hint = heads[0].outcome.as_ref().expect_err("missing").hint();
    assert_eq!(hint.as_deref(), Some("did you mean `stable`?"));
    assert!(matches!(missing, FetchError::NoSuchRepo { .. }), "{missing:?}");
    assert!(matches!(unasked, FetchError::NoSuchRepo { .. }), "{unasked:?}");
}

#[tokio::test]
async fn a_private_registry_is_read_with_the_user_and_password_that_were_given() {
    let registry = DockerRegistry::start_private().await;
    registry.push("team/shop", "1.2.3", &Artifact::flux(&[("a.yaml", "a: 1")])).await;
    let mut at = remote(&registry.repo_url("team/shop"));

    at.ca_pem.clone_from(&registry.ca_pem);
    let with = |token: Option<&str>| {
        let mut at = at.clone();
        at.credential = token.map(Into::into);
        blocking(move || Local::new().fetch(&at, &[tag("1.2.3")]))
    };

    let found = with(Some("pull:secret")).await.expect("it is let in").remove(0).outcome;
    assert!(found.is_ok(), "{found:?}");
    let refused = with(Some("pull:wrong")).await.expect_err("refused");
    assert!(matches!(refused, FetchError::Unauthorized { with_token: true, .. }), "{refused:?}");
    let refused = with(None).await.expect_err("refused");
    assert!(matches!(refused, FetchError::Unauthorized { with_token: false, .. }), "{refused:?}");
    at.ca_pem = None;
    let refused = blocking(move || Local::new().fetch(&at, &[tag("1.2.3")])).await.expect_err("refused");
    assert!(matches!(refused, FetchError::Untrusted { .. }), "{refused:?}");
}

#[tokio::test]
async fn what_has_not_moved_costs_one_request_and_what_is_told_of_none_more() {
    let (one, two) = (Artifact::flux(&[("a.yaml", "a: 1")]), Artifact::flux(&[("a.yaml", "a: 2")]));
    let blobs = [one.layer(), two.layer()].map(|layer| format!("GET /v2/team/shop/blobs/{layer}"));
    let now = std::sync::Arc::new(std::sync::Mutex::new(one));
    let server = Fake::start({
        let now = now.clone();
        move |asked| serve(asked, &BTreeMap::from([("latest", now.lock().expect("not poisoned").clone())]))
    })
    .await;
    let at = remote(&server.url());
    let fetch = |mut local: Local, expects_news: bool| {
        let at = at.clone();
        blocking(move || {
            local.mirror.expect_news(expects_news);
            local.fetch_one(&at, tag("latest")).expect("a commit");
            local
        })
    };
    let (head, get) = ("HEAD /v2/team/shop/manifests/latest", "GET /v2/team/shop/manifests/latest");

    let local = fetch(Local::new(), false).await;
    assert_eq!(server.lines(), [get, &blobs[0]]);
    let local = fetch(local, false).await;
    assert_eq!(server.lines(), [head]);
    let local = fetch(local.reopen(), false).await;
    assert_eq!(server.lines(), [head], "it is remembered");
    *now.lock().expect("not poisoned") = two;
    fetch(local, true).await;
    assert_eq!(server.lines(), [get, &blobs[1]]);
}

#[tokio::test]
async fn a_range_of_versions_is_followed_over_the_tags_of_a_registry_page_by_page() {
    let artifacts: BTreeMap<&str, Artifact> = ["1.0.0", "1.2.0", "1.10.0_build.5", "2.0.0-rc.1", "latest", "1.2.x"]
        .map(|tag| (tag, Artifact::flux(&[("a.yaml", tag)])))
        .into();
    let server = Fake::start({
        let artifacts = artifacts.clone();
        let page_of = {
            let artifacts = artifacts.clone();
            move |asked: &RecordedRequest| {
                let (_, query) = asked.line.split_once("/tags/list")?;
                let last = query.split_once("last=").map_or("", |(_, last)| last);
                let (tag, _) = artifacts.range::<str, _>((Bound::Excluded(last), Bound::Unbounded)).next()?;
                let page = axum::Json(json!({"name": "team/shop", "tags": [tag]}));
                let next = format!("</v2/team/shop/tags/list?n=1&last={tag}>; rel=\"next\"");
                let is_last = artifacts.keys().next_back() == Some(tag);
                Some(if is_last { page.into_response() } else { ([("link", next)], page).into_response() })
            }
        };
        move |asked| page_of(asked).or_else(|| serve(asked, &artifacts))
    })
    .await;
    let at = remote(&server.url());
    let heads = blocking(move || {
        let within = |range: &str| bellwether_core::source::GitRef::Semver(range.to_owned());
        Local::new().fetch(&at, &[within("1.x"), within(">=2"), within("~1.2.0")]).expect("the registry answers")
    })
    .await;

    let of = |at: usize| (heads[at].tag.as_deref(), heads[at].outcome.as_ref().map(drop).map_err(RefError::code));
    assert_eq!(of(0), (Some("1.10.0_build.5"), Ok(())));
    assert_eq!(of(1), (None, Err("version_not_found")));
    assert_eq!(of(2), (Some("1.2.0"), Ok(())));
}

#[tokio::test]
async fn of_a_list_of_tags_that_is_cut_off_nothing_is_the_newest() {
    let ends = [
        "<http://elsewhere.test/v2/team/shop/tags/list?last=1.0.0>; rel=\"next\"",
        "</v2/team/shop/tags/list>; rel=\"next\"",
    ];
    for next in ends {
        let artifacts = BTreeMap::from([("1.0.0", Artifact::flux(&[("a.yaml", "a: 1")]))]);
        let server = Fake::start(move |asked| {
            let page = axum::Json(json!({"name": "team/shop", "tags": ["1.0.0"]}));
            let is_list = asked.line.contains("/tags/list");
            if is_list { Some(([("link", next)], page).into_response()) } else { serve(asked, &artifacts) }
        })
        .await;
        let at = remote(&server.url());

        let fetched = blocking(move || {
            let wanted = bellwether_core::source::GitRef::Semver(">=1".to_owned());
            Local::new().fetch(&at, &[wanted]).map(drop)
        })
        .await;

        assert_eq!(fetched.expect_err(next).code(), "git_too_large");
    }
}
