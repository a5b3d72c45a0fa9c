//! Clusters of the user: looked at before anything is made, and given back as they were.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bellwether_e2e::borrowed::{self, Footprint, LABEL, Request};
use bellwether_e2e::harness::Env;
use bellwether_e2e::kubectl::Kubectl;
use serde_json::{Value, json};

/// Clusters 1 and 2 of the tests as contexts of one kubeconfig, with a second name for the first.
struct Lender {
    state: tempfile::TempDir,
    kubeconfig: PathBuf,
    clusters: Vec<Kubectl>,
}

impl Lender {
    fn new() -> Result<Self> {
        let env = Env::from_environment();
        let state = tempfile::tempdir()?;
        let (mut clusters, mut users, mut contexts) = (Vec::new(), Vec::new(), Vec::new());
        let mut kubectls = Vec::new();
        for (name, admin) in
            [("one", &env.kubeconfigs[0]), ("two", &env.kubeconfigs[1]), ("again", &env.kubeconfigs[0])]
        {
            let config: Value = serde_json::from_slice(&fs::read(admin)?)?;
            clusters.push(json!({"name": name, "cluster": config["clusters"][0]["cluster"]}));
            users.push(json!({"name": name, "user": config["users"][0]["user"]}));
            contexts.push(json!({"name": name, "context": {"cluster": name, "user": name}}));
            let (program, cache) = (env.state.join("bin/kubectl"), state.path().join("cache"));
            kubectls.push(Kubectl { program, kubeconfig: admin.clone(), cache });
        }
        let kubeconfig = state.path().join("kubeconfig");
        let config =
            json!({"apiVersion": "v1", "kind": "Config", "clusters": clusters, "users": users, "contexts": contexts});
        fs::write(&kubeconfig, config.to_string())?;
        Ok(Self { state, kubeconfig, clusters: kubectls })
    }

    fn state(&self) -> &Path {
        self.state.path()
    }

    fn request(&self, contexts: &[&str]) -> Request {
        let contexts = contexts.iter().map(|&name| name.to_owned()).collect();
        Request { kubectl: self.clusters[0].program.clone(), kubeconfig: Some(self.kubeconfig.clone()), contexts }
    }
}

/// Of names that no other test has.
fn footprint() -> Footprint {
    let run = format!("test-{}", uuid::Uuid::now_v7());
    let namespaces = ["one", "two"].map(|part| format!("{part}-{run}")).to_vec();
    Footprint { cluster_roles: vec![run.clone()], namespaces, run }
}

async fn names(kubectl: &Kubectl) -> Result<String> {
    kubectl.run(&["get", "clusterrole", "-o", "name"]).await
}

#[tokio::test]
async fn what_was_made_in_a_borrowed_cluster_is_removed_and_what_others_made_is_not() -> Result<()> {
    let (lender, footprint) = (Lender::new()?, footprint());
    let [one, ..] = &lender.clusters[..] else { unreachable!("there are three") };
    let (ours, theirs) = (footprint.namespaces[0].clone(), footprint.namespaces[1].clone());

    let clusters = borrowed::take(lender.state(), &lender.request(&["one", "two"]), footprint.clone()).await?;
    one.run(&["create", "namespace", &ours]).await?;
    one.run(&["label", "namespace", &ours, &format!("{LABEL}={}", footprint.run)]).await?;
    one.run(&["create", "configmap", "inside", "-n", &ours]).await?;
    one.run(&["create", "clusterrole", &footprint.run, "--verb=get", "--resource=pods"]).await?;
    one.run(&["create", "namespace", &theirs]).await?;
    borrowed::give_back(lender.state()).await?;

    assert!(clusters.iter().all(|cluster| cluster.is_borrowed()));
    let left = one.run(&["get", "namespace", &ours, &theirs, "--ignore-not-found", "-o", "name"]).await?;
    assert_eq!(left.trim(), format!("namespace/{theirs}"));
    assert!(!names(one).await?.contains(&footprint.run));
    one.run(&["delete", "namespace", &theirs, "--wait=false"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_has_one_of_the_names_is_refused_and_nothing_is_written_down() -> Result<()> {
    let (lender, footprint) = (Lender::new()?, footprint());
    let two = &lender.clusters[1];
    two.run(&["create", "clusterrole", &footprint.run, "--verb=get", "--resource=pods"]).await?;

    let refused = borrowed::take(lender.state(), &lender.request(&["one", "two"]), footprint.clone()).await;
    borrowed::give_back(lender.state()).await?;

    let error = format!("{:#}", refused.expect_err("the name is taken"));
    assert!(error.contains("context `two` has clusterrole") && error.contains(&footprint.run), "{error}");
    assert!(names(two).await?.contains(&footprint.run));
    two.run(&["delete", "clusterrole", &footprint.run]).await?;
    Ok(())
}

#[tokio::test]
async fn two_contexts_of_one_cluster_are_refused() -> Result<()> {
    let lender = Lender::new()?;

    let refused = borrowed::take(lender.state(), &lender.request(&["one", "two", "again"]), footprint()).await;

    let error = refused.expect_err("it is one cluster").to_string();
    assert_eq!(error, "the contexts `one` and `again` are one cluster");
    Ok(())
}

#[tokio::test]
async fn who_is_asked_reads_which_servers_and_what_is_made() -> Result<()> {
    let (lender, footprint) = (Lender::new()?, footprint());

    let text = borrowed::explain(&lender.request(&["one", "two"]), &footprint)?;
    let unknown = borrowed::explain(&lender.request(&["one", "tow"]), &footprint);

    for part in ["cluster-2  two  https://127.0.0.1:", &footprint.namespaces[1], &footprint.cluster_roles[0]] {
        assert!(text.contains(part), "{text}");
    }
    assert!(unknown.expect_err("there is no such context").to_string().contains("`tow`"));
    Ok(())
}
