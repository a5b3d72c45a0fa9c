//! Clusters: registering them, and what they are and run.

use bellwether_core::api::{
    ClusterApis, ClusterDocument, ClusterPhase, ClusterRights, ClusterTarget, List, RegisterCluster, RegisteredCluster,
};
use bellwether_core::labels::Annotations;
use bellwether_core::{Labels, Name, policy};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ALL, Context, as_list, delete_named, helm, note_if_empty};
use crate::args::{ClusterCommand, Format, Label, LabelChange, RbacArgs, RegisterArgs};
use crate::client::{Answer, Route};
use crate::failure::{Exit, Failure};
use crate::output::table::{Field, Tone, fields, table, verdict};
use crate::output::{Style, age, note, print, time, visible_line, word, yaml};

pub(super) async fn run(context: &Context, command: ClusterCommand) -> anyhow::Result<Exit> {
    match command {
        ClusterCommand::Register(arguments) => register(context, arguments).await,
        ClusterCommand::List { labels } => list(context, &labels).await,
        ClusterCommand::Show { name } => show(context, &name).await,
        ClusterCommand::Apis { name } => apis(context, &name).await,
        ClusterCommand::Rbac(arguments) => rbac(context, &arguments).await,
        ClusterCommand::Label { name, changes } => label(context, &name, &changes).await,
        ClusterCommand::Annotate { name, changes } => annotate(context, &name, &changes).await,
        ClusterCommand::Revoke { name } => revoke(context, &name).await,
        ClusterCommand::Reenroll { name, chart } => reenroll(context, &name, &chart).await,
        ClusterCommand::Delete { name } => delete(context, &name).await,
    }
}

async fn register(context: &Context, arguments: RegisterArgs) -> anyhow::Result<Exit> {
    let seconds = arguments.ttl.map(|ttl| ttl.duration().as_secs());
    let body = RegisterCluster {
        name: arguments.name,
        labels: arguments.labels.into_iter().map(|label| (label.key, label.value)).collect(),
        annotations: arguments.annotations.into_iter().map(|one| (one.key, one.value)).collect(),
        namespace: arguments.namespace,
        ttl_seconds: seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)),
    };
    let answer = context.client.post(&Route::new(["clusters"]), &body).await?;
    let how_to_apply =
        "install its agent by piping this manifest into `kubectl apply -f -` with that cluster's context";
    print_registered(context, &answer, &arguments.chart, how_to_apply)
}

async fn reenroll(context: &Context, name: &Name, chart: &str) -> anyhow::Result<Exit> {
    let answer = context.client.post(&Route::named("clusters", name).then("reenroll"), &json!({})).await?;
    let how_to_apply = "pipe this manifest into `kubectl apply -f -` with that cluster's context, and restart its agent: \
                        `kubectl rollout restart`; what it may do is left as it is";
    print_registered(context, &answer, chart, how_to_apply)
}

/// Standard output is only what a program reads: it is piped into kubectl, or a shell.
fn print_registered(
    context: &Context,
    answer: &Answer<RegisteredCluster>,
    chart: &str,
    how_to_apply: &str,
) -> anyhow::Result<Exit> {
    let registered = &answer.document;
    match context.output.format() {
        None | Some(Format::Manifest) => print(&registered.manifest)?,
        Some(Format::Helm) => print(&helm::script(registered, chart)?)?,
        Some(Format::Token) => print(&registered.token)?,
        Some(Format::Table | Format::Markdown | Format::Junit | Format::Sarif) => {
            print(&draw_registered(registered, context.output.style()))?;
        }
        Some(Format::Json | Format::Yaml | Format::Objects) => context.output.answer(answer, |_, _| String::new())?,
    }
    let name = &registered.cluster.metadata.name;
    note(&format!("cluster {name} is registered; its join token works once, until {}", time(registered.expires_at)));
    if context.output.format().is_none() {
        note(how_to_apply);
    }
    Ok(Exit::Done)
}

fn draw_registered(registered: &RegisteredCluster, style: Style) -> String {
    let pairs = [
        ("cluster", Field::from(&registered.cluster.metadata.name)),
        ("token", registered.token.as_str().into()),
        ("expires", time(registered.expires_at).into()),
        ("hub", registered.hub.as_str().into()),
        ("ca fingerprint", registered.ca_fingerprint.as_str().into()),
    ];
    fields(pairs, style)
}

pub(super) async fn list(context: &Context, labels: &[Label]) -> anyhow::Result<Exit> {
    let selector: Vec<_> = labels.iter().map(|label| format!("{}={}", label.key, label.value)).collect();
    let route = Route::new(["clusters"]).maybe_with("label", (!selector.is_empty()).then(|| selector.join(",")));
    let answer: Answer<List<ClusterDocument>> = context.client.fetch_list(&route, ALL).await?;
    context.output.answer(&answer, |list, style| draw_list(&list.items, style))?;
    let empty = if labels.is_empty() {
        "no cluster is there; `bellwether cluster register NAME` adds one"
    } else {
        "no cluster has these labels; `bellwether cluster list` shows all"
    };
    note_if_empty(&answer.document.items, empty);
    Ok(Exit::Done)
}

pub(super) async fn one(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let answer = context.client.fetch::<ClusterDocument>(&Route::named("clusters", name)).await?;
    context.output.answer(&as_list(&answer), |items, style| draw_list(items, style))?;
    Ok(Exit::Done)
}

fn draw_list(clusters: &[ClusterDocument], style: Style) -> String {
    if clusters.is_empty() {
        return String::new();
    }
    let now = Timestamp::now();
    let row = |cluster: &ClusterDocument| {
        [
            Field::from(&cluster.metadata.name),
            phase(cluster.status.phase),
            cluster.status.since.map_or_else(String::new, |since| age(since, now)).into(),
            cluster.status.agent_version.clone().unwrap_or_default().into(),
            label_text(&cluster.labels).into(),
        ]
    };
    table(["NAME", "STATE", "SINCE", "AGENT", "LABELS"], clusters.iter().map(row), style)
}

fn phase(phase: ClusterPhase) -> Field {
    let tone = match phase {
        ClusterPhase::Connected => Tone::Good,
        ClusterPhase::Registered => Tone::Busy,
        ClusterPhase::Disconnected => Tone::Faint,
        ClusterPhase::Revoked => Tone::Bad,
    };
    Field::toned(word(&phase), tone)
}

fn label_text(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

pub(super) async fn show(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let route = Route::named("clusters", name);
    let mut answer = context.client.fetch::<ClusterDocument>(&route).await?;
    if let Some(cursor) = answer.document.status.targets_next.take() {
        let rest: Answer<List<ClusterTarget>> =
            context.client.fetch_list_from(&route.then("targets"), Some(cursor), ALL).await?;
        answer.append("/status/targets", &rest.json, "/items");
        answer.document.status.targets.extend(rest.document.items);
        answer.json["status"]["targetsNext"] = Value::Null;
    }
    context.output.answer(&answer, draw)?;
    Ok(Exit::Done)
}

async fn apis(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let answer: Answer<ClusterApis> = context.client.fetch(&Route::named("clusters", name).then("apis")).await?;
    if answer.document.apis.is_none() {
        return Err(Failure::new(format!("what {name} serves is not known yet")).into());
    }
    context.output.answer(&answer, |served, _| served.apis.as_deref().unwrap_or_default().join("\n"))?;
    Ok(Exit::Done)
}

/// What `kubectl apply` never deletes: the roles of namespaces in which no target has anything any more.
const LEFT: &str = "Those of namespaces that its targets have left stay until they are deleted. All that there are: \
                    kubectl get role,rolebinding -A -l app.kubernetes.io/name=bellwether-agent,app.kubernetes.io/component=targets";

/// Who is given the roles: a chart's values may have called the agent's account by another name.
fn subject(objects: &[Value]) -> Option<String> {
    let subject = objects.iter().find_map(|object| object.pointer("/subjects/0"))?;
    let (name, namespace) = (subject["name"].as_str()?, subject["namespace"].as_str()?);
    Some(format!(
        "They are given to the ServiceAccount {name} in the namespace {namespace}: see `--service-account` where the agent \
         runs as another one."
    ))
}

fn give_to(account: &Name, objects: &mut [Value]) {
    let agent = objects.iter().find_map(|object| object.pointer("/subjects/0")).cloned();
    let subjects = objects.iter_mut().filter_map(|object| object.pointer_mut("/subjects/0"));
    // Others are ServiceAccounts that the agent acts as.
    for subject in subjects.filter(|subject| Some(&**subject) == agent.as_ref()) {
        subject["name"] = account.as_str().into();
    }
}

/// Roles for kubectl, as nothing else is of use.
async fn rbac(context: &Context, arguments: &RbacArgs) -> anyhow::Result<Exit> {
    let answer: Answer<ClusterRights> =
        context.client.fetch(&Route::named("clusters", &arguments.name).then("rbac")).await?;
    let ClusterRights { cluster, mut objects, notes } = answer.document;
    if let Some(account) = &arguments.service_account {
        give_to(account, &mut objects);
    }
    let notes = subject(&objects).into_iter().chain([LEFT.to_owned()]).chain(notes);
    let notes: Vec<_> = notes.map(|note| visible_line(&note)).collect();
    if context.output.format() == Some(Format::Json) {
        for line in &notes {
            note(line);
        }
        print(&serde_json::to_string_pretty(&json!({"apiVersion": "v1", "kind": "List", "items": objects}))?)?;
        return Ok(Exit::Done);
    }
    let head = format!(
        "What the agent of {cluster} needs by what its targets hold, in the place of what it was installed with."
    );
    let comments: Vec<_> = std::iter::once(head).chain(notes).map(|line| format!("# {line}\n")).collect();
    let comments = comments.concat();
    let documents = objects.iter().map(yaml::text).collect::<Result<Vec<_>, _>>()?;
    print(&format!("{comments}{}", documents.join("---\n")))?;
    Ok(Exit::Done)
}

fn draw(cluster: &ClusterDocument, style: Style) -> String {
    let status = &cluster.status;
    let (policy, facts): (Vec<_>, Vec<_>) = status.facts.iter().partition(|(key, _)| key.as_str() == policy::FACT);
    let facts = facts.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    let local_policy = policy.first().map(|(_, said)| said.as_str()).unwrap_or_default();
    let pairs = [
        ("name", Field::from(&cluster.metadata.name)),
        ("state", phase(status.phase)),
        ("since", status.since.map(time).unwrap_or_default().into()),
        ("agent", status.agent_version.clone().unwrap_or_default().into()),
        ("certificate until", status.certificate_expires_at.map(time).unwrap_or_default().into()),
        ("labels", label_text(&cluster.labels).into()),
        ("annotations", annotation_lines(&cluster.annotations).replace('\n', " ").into()),
        ("facts", facts.into()),
        ("local policy", local_policy.into()),
        ("facts told", status.facts_told_at.map(time).unwrap_or_default().into()),
        ("apis told", status.apis_told_at.map(time).unwrap_or_default().into()),
    ];
    let mut parts = vec![fields(pairs, style)];
    for condition in &status.conditions {
        let hint = condition.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        parts.push(format!("{}{hint}", condition.message));
    }
    if !status.targets.is_empty() {
        parts.push(draw_targets(&status.targets, style));
    }
    let objects = draw_objects(&status.targets, style);
    if !objects.is_empty() {
        parts.push(objects);
    }
    parts.join("\n\n")
}

fn draw_targets(targets: &[ClusterTarget], style: Style) -> String {
    let now = Timestamp::now();
    let row = |target: &ClusterTarget| {
        [
            Field::from(&target.target),
            target.digest.short().into(),
            yes_no(target.applied),
            match &target.suspended {
                Some(suspended) => suspended.to_string().into(),
                None => verdict(target.verdict),
            },
            format!("{}/{}", target.objects.healthy, target.objects.total).into(),
            target.reported_at.map_or_else(String::new, |at| age(at, now)).into(),
        ]
    };
    table(["TARGET", "BUNDLE", "APPLIED", "HEALTH", "OBJECTS", "AGE"], targets.iter().map(row), style)
}

/// Objects that are not well, of all targets.
fn draw_objects(targets: &[ClusterTarget], style: Style) -> String {
    let rows: Vec<_> = targets
        .iter()
        .flat_map(|target| target.lines.iter().map(move |line| (target, line)))
        .map(|(target, line)| {
            let message =
                if line.hint.is_empty() { line.message.clone() } else { format!("{}; {}", line.message, line.hint) };
            [
                Field::from(&target.target),
                line.key.to_string().into(),
                line.outcome.as_str().into(),
                verdict(line.verdict),
                message.into(),
            ]
        })
        .collect();
    if rows.is_empty() {
        String::new()
    } else {
        table(["TARGET", "OBJECT", "OUTCOME", "HEALTH", "MESSAGE"], rows, style)
    }
}

pub(super) fn yes_no(yes: bool) -> Field {
    if yes { Field::toned("yes", Tone::Good) } else { Field::toned("no", Tone::Busy) }
}

/// The hub takes the whole set of labels, so the changes are made to what is there now.
async fn label(context: &Context, name: &Name, changes: &[LabelChange]) -> anyhow::Result<Exit> {
    let route = Route::named("clusters", name);
    let before = context.client.fetch::<ClusterDocument>(&route).await?;
    let version = before.document.metadata.version.map(|version| version.get().to_string());
    let labels = changed(before.document.labels, changes);
    let route = route.then("labels").maybe_with("version", version);
    let answer: Answer<ClusterDocument> = context.client.put(&route, &labels).await?;
    let sentence = format!("cluster {name} has the labels {}", label_text(&answer.document.labels));
    context.output.done(&answer, &sentence)?;
    Ok(Exit::Done)
}

/// As with labels.
async fn annotate(context: &Context, name: &Name, changes: &[LabelChange]) -> anyhow::Result<Exit> {
    let route = Route::named("clusters", name);
    let before = context.client.fetch::<ClusterDocument>(&route).await?;
    let version = before.document.metadata.version.map(|version| version.get().to_string());
    let annotations = changed(before.document.annotations, changes);
    let route = route.then("annotations").maybe_with("version", version);
    let answer: Answer<ClusterDocument> = context.client.put(&route, &annotations).await?;
    let sentence = match annotation_lines(&answer.document.annotations) {
        lines if lines.is_empty() => format!("cluster {name} has no annotations"),
        lines => format!("cluster {name} has the annotations\n{lines}"),
    };
    context.output.done(&answer, &sentence)?;
    Ok(Exit::Done)
}

/// One a line, each value as JSON writes it: it may be several lines itself.
fn annotation_lines(annotations: &Annotations) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={}", Value::from(value.as_str()));
    annotations.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn changed(mut labels: Labels, changes: &[LabelChange]) -> Labels {
    for change in changes {
        match change {
            LabelChange::Set(label) => labels.insert(label.key.clone(), label.value.clone()),
            LabelChange::Remove(key) => labels.remove(key),
        };
    }
    labels
}

async fn revoke(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let route = Route::named("clusters", name).then("revoke");
    let answer: Answer<Value> = context.client.post(&route, &json!({})).await?;
    let sentence = format!("cluster {name} is revoked; `bellwether cluster reenroll {name}` lets it join again");
    context.output.done(&answer, &sentence)?;
    Ok(Exit::Done)
}

pub(super) async fn delete(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let sentence = format!("cluster {name} is deleted; what runs in it was left as it is");
    delete_named(context, &Route::named("clusters", name), &sentence).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_removed_in_the_order_given() {
        let before = Labels::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let set = |key: &str, value: &str| LabelChange::Set(Label { key: key.to_owned(), value: value.to_owned() });
        let changes =
            [set("a", "3"), LabelChange::Remove("b".to_owned()), LabelChange::Remove("none".to_owned()), set("c", "")];

        assert_eq!(label_text(&changed(before, &changes)), "a=3,c=");
    }

    #[test]
    fn roles_are_given_to_the_account_that_is_named_and_it_is_said() {
        let binding = json!({"kind": "RoleBinding", "subjects": [{"name": "agent", "namespace": "agents"}]});
        let mut objects = [json!({"kind": "Role"}), binding];

        let before = subject(&objects).expect("there is one");
        give_to(&"other".parse().expect("a name"), &mut objects);

        let after = subject(&objects).expect("there is one");
        assert!(before.contains("ServiceAccount agent in the namespace agents:"), "{before}");
        assert!(after.contains("ServiceAccount other in the namespace agents:"), "{after}");
        assert_eq!((&objects[0], subject(&[])), (&json!({"kind": "Role"}), None));
    }
}
