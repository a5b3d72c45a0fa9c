//! What installs an agent by Helm: a script, made of the manifest that the hub answers, so that what is installed is said in
//! one place and by hubs of any version.
//!
//! The join token goes through standard input into a Secret of its own. It is nowhere in the arguments of a process, which
//! everybody on a machine may read, and not among the values, which Helm keeps in each revision of a release.
//! The script runs on somebody's own machine, and a hub is not to say what: of its words none stands outside of a text that is
//! quoted, but for names that are read as such.

use anyhow::{Context as _, ensure};
use bellwether_core::Name;
use bellwether_core::api::RegisteredCluster;
use serde_json::{Value, json};

use crate::output::yaml;

/// Ends what is given to a command.
const END: &str = "END_OF_INPUT";

/// For `sh`, in the context of the cluster.
pub(super) fn script(registered: &RegisteredCluster, chart: &str) -> anyhow::Result<String> {
    let objects = objects(&registered.manifest)?;
    let of_kind = |kind: &str| {
        let found = objects.iter().find(|object| object["kind"] == kind);
        found.with_context(|| format!("the hub's manifest has no {kind}"))
    };
    let (namespace, secret, deployment) = (of_kind("Namespace")?, of_kind("Secret")?, of_kind("Deployment")?);
    let name: Name = text(&namespace["metadata"]["name"])?.parse().context("the manifest's namespace")?;
    let before = given(&format!("{}---\n{}", yaml::text(namespace)?, yaml::text(secret)?))?;
    let values = given(&yaml::text(&values(registered, secret, deployment)?)?)?;
    let (cluster, chart) = (&registered.cluster.metadata.name, quoted(chart));
    Ok(format!(
        "#!/bin/sh\n\
         # Installs the agent of the cluster {cluster}, where kubectl and helm lead to now: see KUBECONFIG, and its current context.\n\
         # It holds a join token, so it is a secret itself. The token goes into a Secret by standard input: arguments can be\n\
         # read by everybody on this machine, and values are kept in each of Helm's revisions.\n\
         # What an earlier release was told beside these values stays, such as rbac.create=false.\n\
         set -eu\n\
         kubectl apply -f - {before}\
         helm upgrade --install bellwether-agent {chart} --namespace {name} --reset-then-reuse-values --values - {values}\
         # An agent that is there already reads the new token when it starts.\n\
         kubectl --namespace {name} rollout restart deployment/bellwether-agent\n"
    ))
}

fn objects(manifest: &str) -> anyhow::Result<Vec<Value>> {
    let documents = manifest.split("\n---\n");
    documents.map(|text| serde_saphyr::from_str(text).context("the hub's manifest cannot be read")).collect()
}

/// What the chart is told of what this manifest would install. The empty ones are said because an earlier release's values stay
/// else: the token and the fingerprint are those of the Secret.
fn values(registered: &RegisteredCluster, secret: &Value, deployment: &Value) -> anyhow::Result<Value> {
    let image = text(&deployment["spec"]["template"]["spec"]["containers"][0]["image"])?;
    Ok(json!({
        "cluster": registered.cluster.metadata.name,
        "hub": registered.hub,
        "existingSecret": secret["metadata"]["name"],
        "token": "",
        "caFingerprint": "",
        "image": image_values(image),
    }))
}

/// One without a tag is the latest, as Kubernetes has it; the chart would take its own version's.
fn image_values(reference: &str) -> Value {
    let (named, digest) = reference.split_once('@').unwrap_or((reference, ""));
    let tagged = named.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let untagged = if digest.is_empty() { "latest" } else { "" };
    let (repository, tag) = tagged.unwrap_or((named, untagged));
    json!({"repository": repository, "tag": tag, "digest": digest})
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().context("the hub's manifest is not as this version knows it")
}

fn given(text: &str) -> anyhow::Result<String> {
    ensure!(text.lines().all(|line| line != END), "the hub's manifest ends what it is given as");
    Ok(format!("<<'{END}'\n{text}{END}\n"))
}

fn quoted(argument: &str) -> String {
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::CHART;

    fn registered(namespace: &str, token: &str) -> RegisteredCluster {
        let manifest = format!(
            "# For kubectl.\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n---\nkind: Secret\nmetadata:\n  \
             name: join\nstringData:\n  token: {token}\n---\nkind: Deployment\nspec:\n  template:\n    spec:\n      \
             containers:\n        - image: registry.example.org:5000/agent:0.1.0\n"
        );
        let document = json!({"apiVersion": "bellwether.dev/v1", "kind": "Cluster", "metadata": {"name": "eu-1"}, "labels": {},
            "status": {"phase": "registered", "conditions": [], "targets": [], "facts": {}}});
        let answer = json!({"cluster": document, "token": "bwj_x", "expiresAt": "2026-11-23T21:54:40Z",
            "caFingerprint": "ab", "hub": "hub.example.org:8444", "manifest": manifest});
        serde_json::from_value(answer).expect("is an answer")
    }

    #[test]
    fn the_token_is_given_to_kubectl_alone_and_stands_in_nobodys_arguments() {
        let script = script(&registered("agents", "bwj_x"), "it's here").expect("is made");

        let commands: Vec<_> = script.lines().filter(|line| line.contains(&format!("<<'{END}'"))).collect();
        let helm = format!(
            r"helm upgrade --install bellwether-agent 'it'\''s here' --namespace agents --reset-then-reuse-values --values - <<'{END}'"
        );
        assert_eq!(commands, [format!("kubectl apply -f - <<'{END}'"), helm]);
        assert_eq!(script.matches("bwj_x").count(), 1, "{script}");
        let values = script.rsplit_once(&format!("<<'{END}'\n")).expect("values are last").1;
        let (values, after) = values.split_once(&format!("{END}\n")).expect("is ended");
        assert!(
            after.ends_with("\nkubectl --namespace agents rollout restart deployment/bellwether-agent\n"),
            "{after}"
        );
        let values: Value = serde_saphyr::from_str(values).expect(values);
        let image = json!({"repository": "registry.example.org:5000/agent", "tag": "0.1.0", "digest": ""});
        let expected = json!({"cluster": "eu-1", "hub": "hub.example.org:8444", "existingSecret": "join", "token": "",
            "caFingerprint": "", "image": image});
        assert_eq!(values, expected);
    }

    #[test]
    fn no_word_of_a_hub_is_run() {
        for (namespace, token) in
            [("\"a; reboot\"", "b"), ("a", "|-\n    b\n\nEND_OF_INPUT"), ("\"a\\nEND_OF_INPUT\"", "b")]
        {
            assert!(script(&registered(namespace, token), CHART).is_err(), "{namespace} {token}");
        }
        let script = script(&registered("a", "\"b\\n\\n$(reboot)\\nEND_OF_INPUT\\nreboot\""), CHART).expect("is made");
        let outside: Vec<_> = script.lines().filter(|line| *line == END || line.starts_with("reboot")).collect();
        assert_eq!(outside, [END, END], "{script}");
    }

    #[test]
    fn an_image_is_told_in_its_parts() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let table = [
            ("agent:1", ("agent", "1", "")),
            ("localhost:5000/agent", ("localhost:5000/agent", "latest", "")),
            (&format!("r.example.org/agent:1@{digest}"), ("r.example.org/agent", "1", digest.as_str())),
            (&format!("r.example.org/agent@{digest}"), ("r.example.org/agent", "", digest.as_str())),
        ];
        for (reference, (repository, tag, digest)) in table {
            let expected = json!({"repository": repository, "tag": tag, "digest": digest});
            assert_eq!(image_values(reference), expected, "{reference}");
        }
    }
}
